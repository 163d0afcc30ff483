"""Emulator of a Thorlabs PM100D with a pyroelectric energy head or a photodiode, over the simulated laboratory.

Where it stands follows from its role: behind the slit as ``slit_meter``, in the light of the stress lamp as
``lamp_meter``, at the pick-off else.

It speaks SCPI lines ended by LF (CR LF accepted). An unknown header gets no reply and queues -113 for `SYST:ERR?`. An
energy reading blocks until pulses above the trigger threshold have come; what arrives meanwhile interrupts it, as IEEE
488.2 wants, or waits behind it (option ``interruptible = false``).

Constructed, because no source was at hand: the ranges of the head, the threshold in percent of
the range, the duration of a zeroing, the unit of its magnitude (J), the reply of `FETC?` without a reading (-230).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drivers.energy_meter.emulators.pyro_head import PyroHead
from drivers.scpi.emulators.messages import Unit, matches, split_message
from labctl.sim.emulator import LineBuffer, Reply

_SENSORS = {
    "pyro": '"ES111C","18011501","15-JAN-2024",3,1,34',
    "photodiode": '"S120C","16060232","2-JUN-2021",1,2,33',
    "none": '"no sensor","","",0,0,0',
}
_OVER_RANGE = 9.9e37
_ERRORS = {
    -104: "Data type error",
    -113: "Undefined header",
    -222: "Data out of range",
    -230: "Data corrupt or stale",
    -241: "Hardware missing",
    -310: "System error",
    -350: "Queue overflow",
    -410: "Query INTERRUPTED",
}
_QUEUE_LENGTH = 16
_POLL_S = 0.05
_ZEROING_PULSES = 16


class PM100DEmulator:
    """A PM100D on its wire.

    Options (those of the driver are ignored):

    - ``sensor``: ``pyro``, ``photodiode`` or ``none``; a photodiode as ``lamp_meter``, pyro else.
    - ``power_noise``, ``power_floor_w``: noise of a reading of power in one sample, relative and in W.
    - ``ranges_j``: full scales of the head, ascending, J. ``trigger_percent``: threshold at power-up, % of the range.
    - ``zero_offset_j``: offset of the electronics at power-up, which zeroing removes, J.
      ``zero_drift_j``: rms of its drift within an hour, J; by default 0.2 % of the smallest range.
    - ``sample_s``: time of one averaged sample, s. ``reply_s``: time to answer, s. ``zeroing_s``: time to zero, s.
    - ``interruptible``: whether a new message ends a reading that waits for a pulse.
    - ``awkward``: start with a stale reading in the output, errors in the queue and somebody's averaging.
    """

    def __init__(self, laboratory: Any, role: str, options: Mapping[str, Any]) -> None:
        self._laboratory = laboratory
        self._watches_lamp = role == "lamp_meter"
        self._sensor = str(options.get("sensor", "photodiode" if self._watches_lamp else "pyro"))
        self._power_source = f"{role}/power"
        self._power_noise = float(options.get("power_noise", 2e-3))
        self._power_floor_w = float(options.get("power_floor_w", 1e-9))
        self._ranges_j = sorted(float(value) for value in options.get("ranges_j", (1e-7, 1e-6, 1e-5, 1e-4)))
        self._power_up_trigger = float(options.get("trigger_percent", 0.02))
        offset_j = float(options.get("zero_offset_j", 3e-8))
        drift_j = float(options.get("zero_drift_j", 2e-3 * self._ranges_j[0]))
        self._head = PyroHead(laboratory, role, offset_j, drift_j)
        self._sample_s = float(options.get("sample_s", 3e-3))
        self._reply_s = float(options.get("reply_s", 1e-3))
        self._zeroing_s = float(options.get("zeroing_s", 2.5))
        self._interruptible = bool(options.get("interruptible", True))
        self._commands = self._command_table()
        self.stuck = False
        self.power_up()
        if options.get("awkward", False):
            self._average = 300
            self._errors.extend((-113, -222))
            self._stale = [b"1.000000E-06\n"]

    def power_up(self) -> None:
        """Switch off and on: all settings, the zero and what was pending are lost."""
        self._lines = LineBuffer(b"\n\r")
        # None marks the end of a message.
        self._units: deque[Unit | None] = deque()
        self._output: list[str] = []
        self._stale: list[bytes] = []
        self._errors: deque[int] = deque()
        self._wavelength_nm = 1064.0
        self._range_j = self._ranges_j[-1]
        self._trigger_percent = self._power_up_trigger
        self._average = 1
        self._auto_range = 1
        self._power_unit = "W"
        self._energy_mode = self._sensor == "pyro"
        self._waiting = False
        self._initiated = False
        self._last_reading: float | None = None
        self._removed_j = 0.0
        self._magnitude_j = 0.0
        self._zeroing_until: float | None = None
        self._free_at = -math.inf
        self._last_contact = 0.0

    def power_cycle(self, t: float) -> None:
        """Switch off and on."""
        self.power_up()

    def refuse(self, t: float, data: bytes) -> Sequence[Reply]:
        """Queue an error for each line and answer none."""
        for _ in self._lines.feed(data):
            self._queue_error(-310)
        return ()

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        """Take bytes at ``t``; see :class:`labctl.sim.emulator.WireEmulator`."""
        replies: list[Reply] = [(t, text) for text in self._stale]
        self._stale = []
        for line in self._lines.feed(data):
            units = split_message(line.decode("latin-1"), self._commands)
            self._units.extend((*units, None))
        while self._units:
            if self._waiting and not self._finish_reading(t):
                if not (self._interruptible and self._another_message_waits()):
                    break
                self._interrupt()
            elif (unit := self._units.popleft()) is not None:
                self._free_at = max(t, self._free_at)
                self._execute(self._free_at, unit)
            elif self._output:
                self._free_at = max(t, self._free_at) + self._reply_s
                replies.append((self._free_at, ";".join(self._output).encode("latin-1") + b"\n"))
                self._output = []
        self._last_contact = t
        return replies

    def next_event(self) -> float | None:
        """Get when to look again for a pulse, while a reading waits for one."""
        return self._last_contact + _POLL_S if self._waiting else None

    def _another_message_waits(self) -> bool:
        return self._units.index(None) < len(self._units) - 1

    def _interrupt(self) -> None:
        """Give up the reading and the rest of its message."""
        while self._units.popleft() is not None:
            pass
        self._waiting = False
        self._output = []
        upcoming = self._units[0]
        if upcoming is not None and not matches("ABORt", upcoming.header):
            self._queue_error(-410)

    def _execute(self, t: float, unit: Unit) -> None:
        self._finish_zeroing(t)
        for pattern, action in self._commands.items():
            if matches(pattern, unit.header):
                action(t, unit)
                return
        self._queue_error(-113)

    def _queue_error(self, code: int) -> None:
        if len(self._errors) < _QUEUE_LENGTH:
            self._errors.append(code)
        else:
            self._errors[-1] = -350

    def _command_table(self) -> dict[str, Callable[[float, Unit], None]]:
        return {
            "*IDN": self._answer(lambda: "THORLABS,PM100D,P0012345,2.8.0"),
            "*OPC": self._answer(lambda: "1"),
            "*CLS": self._do(lambda: self._errors.clear()),
            "*RST": self._do(self._reset),
            "SYSTem:SENSor:IDN": self._answer(lambda: _SENSORS[self._sensor]),
            "SYSTem:ERRor[:NEXT]": self._answer(self._next_error),
            "SENSe:CORRection:WAVelength": self._setting("_wavelength_nm", 185.0, 2500.0),
            "SENSe:ENERgy:RANGe[:UPPer]": self._energy_range,
            "SENSe:POWer:RANGe:AUTO": self._setting("_auto_range", 0, 1),
            "SENSe:POWer:UNIT": self._choose_unit,
            "SENSe:PEAK[:THReshold]": self._setting("_trigger_percent", 0.01, 100.0),
            "SENSe:AVERage[:COUNt]": self._setting("_average", 1, 10000),
            "SENSe:CORRection:COLLect:ZERO[:INITiate]": self._start_zeroing,
            "SENSe:CORRection:COLLect:ZERO:STATe": self._answer(lambda: "0" if self._zeroing_until is None else "1"),
            "SENSe:CORRection:COLLect:ZERO:MAGNitude": self._answer(lambda: _number(self._magnitude_j)),
            "SENSe:CORRection:COLLect:ZERO:ABORt": self._do(self._abort_zeroing),
            "CONFigure[:SCALar]:ENERgy": self._do(lambda: self._configure(energy=True)),
            "CONFigure[:SCALar][:POWer]": self._do(lambda: self._configure(energy=False)),
            "MEASure[:SCALar]:ENERgy": self._measure_energy,
            "MEASure[:SCALar]:POWer": self._measure_power,
            "MEASure[:SCALar]": self._read,
            "READ": self._read,
            "INITiate[:IMMediate]": self._initiate,
            "FETCh": self._fetch,
            "ABORt": self._do(self._abort),
        }

    def _answer(self, text: Callable[[], str]) -> Callable[[float, Unit], None]:
        def action(t: float, unit: Unit) -> None:
            if unit.query:
                self._output.append(text())
            else:
                self._queue_error(-113)

        return action

    def _do(self, command: Callable[[], None]) -> Callable[[float, Unit], None]:
        def action(t: float, unit: Unit) -> None:
            if unit.query:
                self._queue_error(-113)
            else:
                command()

        return action

    def _setting(self, name: str, minimum: float, maximum: float) -> Callable[[float, Unit], None]:
        """Make a number that can be set and read; out of range it is refused with -222 and keeps its value."""

        def action(t: float, unit: Unit) -> None:
            kind = type(minimum)
            if unit.query:
                named = {"MIN": minimum, "MINIMUM": minimum, "MAX": maximum, "MAXIMUM": maximum}
                word = unit.argument.upper()
                value = named[word] if word in named else getattr(self, name)
                self._output.append(str(value) if kind is int else _number(value))
            elif (wanted := self._argument(unit)) is not None:
                if minimum <= wanted <= maximum:
                    setattr(self, name, kind(wanted))
                else:
                    self._queue_error(-222)

        return action

    def _argument(self, unit: Unit) -> float | None:
        try:
            return float(unit.argument)
        except ValueError:
            self._queue_error(-104)
            return None

    def _next_error(self) -> str:
        code = self._errors.popleft() if self._errors else 0
        return f'{code},"{_ERRORS.get(code, "No error")}"'

    def _reset(self) -> None:
        errors = self._errors
        self._wavelength_nm, self._range_j, self._average = 1064.0, self._ranges_j[-1], 1
        self._trigger_percent = self._power_up_trigger
        self._energy_mode = self._sensor == "pyro"
        self._abort()
        self._errors = errors

    def _energy_range(self, t: float, unit: Unit) -> None:
        if unit.query:
            named = {"MIN": self._ranges_j[0], "MAX": self._ranges_j[-1]}
            self._output.append(_number(named.get(unit.argument.upper()[:3], self._range_j)))
        elif (wanted := self._argument(unit)) is not None:
            fitting = [value for value in self._ranges_j if value >= wanted * (1 - 1e-6)]
            if fitting and wanted > 0:
                self._range_j = fitting[0]
            else:
                self._queue_error(-222)

    def _configure(self, energy: bool) -> None:
        if energy != (self._sensor == "pyro"):
            self._queue_error(-241)
        else:
            self._energy_mode = energy

    def _measure_energy(self, t: float, unit: Unit) -> None:
        self._configure(energy=True)
        if self._sensor == "pyro":
            self._read(t, unit)

    def _measure_power(self, t: float, unit: Unit) -> None:
        self._configure(energy=False)
        if self._sensor == "photodiode":
            self._read(t, unit)

    def _read(self, t: float, unit: Unit) -> None:
        if not unit.query:
            self._queue_error(-113)
        elif self._sensor == "none":
            self._queue_error(-241)
        elif self._energy_mode:
            self._waiting = True
        else:
            duration_s = self._average * self._sample_s
            self._free_at = t + duration_s
            reading = self._power_w(self._free_at, duration_s)
            if self.stuck and self._last_reading is not None:
                reading = self._last_reading
            self._last_reading = reading
            self._output.append(_number(reading))

    def _power_w(self, t: float, duration_s: float) -> float:
        if not self._watches_lamp:
            return self._laboratory.meter_power_w(t, duration_s)
        relative, floor = self._laboratory.noise.generator(self._power_source).standard_normal(2) / self._average**0.5
        return self._laboratory.lamp.power_w(t) * (1.0 + self._power_noise * relative) + self._power_floor_w * floor

    def _choose_unit(self, t: float, unit: Unit) -> None:
        if unit.query:
            self._output.append(self._power_unit)
        elif unit.argument.upper() in ("W", "DBM"):
            self._power_unit = unit.argument.upper()
        else:
            self._queue_error(-104)

    def _initiate(self, t: float, unit: Unit) -> None:
        self._initiated = True

    def _fetch(self, t: float, unit: Unit) -> None:
        if self._initiated:
            self._initiated = False
            self._read(t, unit)
        elif self._last_reading is not None and unit.query:
            self._output.append(_number(self._last_reading))
        else:
            self._queue_error(-230)

    def _abort(self) -> None:
        self._waiting = self._initiated = False

    def _finish_reading(self, t: float) -> bool:
        """Finish the reading that waits, if there is light at ``t``; the laboratory draws nothing in the dark."""
        start = max(t, self._free_at)
        if not self._laboratory.shutter.is_open(self._laboratory.next_pulse(start)):
            return False
        energies = self._head.energies_j(start, self._average) * self._head.response(self._wavelength_nm)
        if len(energies) < self._average or energies.min() < self._range_j * self._trigger_percent / 100:
            return False
        saturated = energies.max() > self._range_j
        reading = _OVER_RANGE if saturated else float(energies.mean()) + self._head.zero_j() - self._removed_j
        if self.stuck and self._last_reading is not None:
            reading = self._last_reading
        self._last_reading = reading
        self._output.append(_number(reading))
        period = self._laboratory.pulse_period_s
        self._free_at = start + self._average * period * max(1, math.ceil(self._sample_s / period - 1e-9))
        self._waiting = False
        return True

    def _start_zeroing(self, t: float, unit: Unit) -> None:
        self._zeroing_until = t + self._zeroing_s

    def _finish_zeroing(self, t: float) -> None:
        """End a zeroing whose time is over; light on the head is taken for offset, the meter cannot know better."""
        if self._zeroing_until is None or t < self._zeroing_until:
            return
        self._zeroing_until = None
        # The drift is taken as at the start of the run: a run that is resumed and zeroed again must give the rows that
        # it would have given uninterrupted.
        self._magnitude_j = self._head.zero_j(schedule_s=0.0)
        if self._laboratory.shutter.is_open(t):
            self._magnitude_j += float(self._head.energies_j(t, _ZEROING_PULSES).mean())
        self._removed_j = self._magnitude_j

    def _abort_zeroing(self) -> None:
        self._zeroing_until = None


def _number(value: float) -> str:
    return f"{value:.6E}"
