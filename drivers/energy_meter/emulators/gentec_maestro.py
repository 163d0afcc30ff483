"""Emulator of a Gentec-EO Maestro with a pyroelectric energy head, over the simulated laboratory.

Commands begin with `*`. Those of the traditional set have parameters of fixed width and need no terminator (CR LF is
ignored); `*TLA` takes a blank, a number and Enter, and answers `ACK`. An unknown command gets no reply: the manual does
not say what happens.

Constructed, because no source was at hand: the ranges of the head; that `*CVU` ends the state `New Data Available`;
that an over-range reads 9.9E37; that a pulse below the trigger level leaves the old value; that `*SOU` takes the offset
of the electronics (with light on the head: the light too) and lasts a second; the form of the lines after `*CAU`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drivers.energy_meter.emulators.pyro_head import PyroHead
from labctl.sim.emulator import Reply

_MOST_INDEX = 41
_OVER_RANGE = "9.9E37"
_ZEROING_PULSES = 16
_DARK_POLL_S = 0.05
_BITS_PER_BYTE = 10
_PREFIXES = {-12: "p", -9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M"}
_WIDTHS = {
    **dict.fromkeys(("VER", "CVU", "CAU", "CSU", "NVU", "GWL", "GZO", "SOU", "COU", "GAS", "DVS", "GCR"), 0),
    **dict.fromkeys(("SSU", "SSD", "GUM", "GUO"), 0),
    **dict.fromkeys(("SAS", "SCA"), 1),
    **{"SCS": 2, "STL": 4, "PWC": 5, "MUL": 8, "OFF": 8},
}


class GentecMaestroEmulator:
    """A Maestro on its wire.

    Options (those of the driver are ignored):

    - ``replies``: ``manual`` (`Current Value : 0.00500095`) or ``terse`` (`0.00500095`, `Zero:0`), as one client reads.
    - ``acknowledges``: whether setting commands of the traditional set answer `ACK`, as one client expects.
    - ``ranges``: indices of the ranges of the head, ascending, 0 (1 pJ) to 41 (300 MJ).
    - ``zero_offset_j``, ``zero_drift_j``: offset of the electronics and rms of its drift within an hour, J.
    - ``trigger_percent``: trigger level at power-up, % of the range. ``baud_rate``: speed of the wire, bit/s.
    - ``reply_s``: time to answer, s. ``zeroing_s``: time of `*SOU`, s.
    - ``awkward``: start in continuous transmission, with autoscale, a multiplier and an old value of someone else's.
    """

    def __init__(self, laboratory: Any, role: str, options: Mapping[str, Any]) -> None:
        self._laboratory = laboratory
        self._ranges = sorted(int(index) for index in options.get("ranges", range(10, 17)))
        offset_j = float(options.get("zero_offset_j", 3e-8))
        drift_j = float(options.get("zero_drift_j", 2e-3 * scale_j(self._ranges[0])))
        self._head = PyroHead(laboratory, role, offset_j, drift_j)
        self._manual = options.get("replies", "manual") == "manual"
        self._acknowledges = bool(options.get("acknowledges", False))
        self._power_up_trigger = float(options.get("trigger_percent", 2.0))
        self._byte_s = _BITS_PER_BYTE / float(options.get("baud_rate", 115200))
        self._reply_s = float(options.get("reply_s", 1e-3))
        self._zeroing_s = float(options.get("zeroing_s", 1.0))
        self._actions = self._action_table()
        self.unknown: list[str] = []
        self.power_up()
        if options.get("awkward", False):
            self._autoscale, self._multiplier = True, 2.0
            self._last_j, self._pending = 1.234e-5, True
            self._streaming = True

    def power_up(self) -> None:
        """Switch off and on: all settings, the zero and the last value are lost."""
        self._buffer = ""
        self._wavelength_nm = 1064
        self._index = self._ranges[-1]
        self._autoscale = False
        self._trigger_percent = self._power_up_trigger
        self._multiplier, self._offset_j = 1.0, 0.0
        self._streaming = False
        self._last_j: float | None = None
        self._over_range = False
        self._pending = False
        self._seen_s = -math.inf
        self._removed_j = 0.0
        self._zero_on = False
        self._zeroing_until: float | None = None
        self._free_at = 0.0
        self._next_line_s = 0.0

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        """Take bytes at ``t``; see :class:`labctl.sim.emulator.WireEmulator`."""
        replies = self._stream(t) if self._streaming else []
        self._buffer += data.decode("latin-1")
        self._free_at = max(t, self._free_at) + len(data) * self._byte_s
        for mnemonic, parameter in iter(self._next_command, None):
            self._finish_zeroing(self._free_at)
            for line in self._actions[mnemonic](self._free_at, parameter):
                self._free_at += self._reply_s + (len(line) + 2) * self._byte_s
                replies.append((self._free_at, line.encode("latin-1") + b"\r\n"))
            self._next_line_s = self._free_at
        return replies

    def next_event(self) -> float | None:
        """Get when the next value of a continuous transmission is due."""
        return self._next_line_s if self._streaming else None

    def _next_command(self) -> tuple[str, str] | None:
        """Take a command and its parameter from what has arrived; what is no command is dropped."""
        while "*" in self._buffer:
            self._buffer = self._buffer[self._buffer.index("*") :]
            mnemonic = self._buffer[1:4].upper()
            if len(mnemonic) < 3:
                return None
            line = re.match(r"\*([^*\r\n]*)(?=[*\r\n])", self._buffer)
            if mnemonic == "TLA":
                if not line:
                    return None
                self._buffer = self._buffer[line.end() :]
                return mnemonic, line[1][3:]
            if mnemonic not in _WIDTHS:
                if not line:
                    return None
                self.unknown.append(line[1])
                self._buffer = self._buffer[line.end() :]
                continue
            end = 4 + _WIDTHS[mnemonic]
            if len(self._buffer) < end and not line:
                return None
            end = min(end, line.end()) if line else end
            parameter, self._buffer = self._buffer[4:end], self._buffer[end:]
            if len(parameter) == _WIDTHS[mnemonic]:
                return mnemonic, parameter
        self._buffer = ""
        return None

    def _action_table(self) -> dict[str, Callable[[float, str], Sequence[str]]]:
        return {
            "VER": lambda t, text: ["MAESTRO Version 1.00.18"],
            "CVU": lambda t, text: [self._labelled("Current Value", self._take_value(t))],
            "NVU": lambda t, text: [f"New Data {'' if self._is_new(t) else 'Not '}Available"],
            "CAU": lambda t, text: self._transmit(True),
            "CSU": lambda t, text: self._transmit(False),
            "PWC": self._setting(self._set_wavelength),
            "GWL": lambda t, text: [f"PWC : {self._wavelength_nm}" if self._manual else f"PWC:{self._wavelength_nm}"],
            "STL": self._setting(self._set_trigger),
            "TLA": self._set_trigger_acknowledged,
            "SCA": self._setting(lambda text: None),
            "SAS": self._setting(self._set_autoscale),
            "SCS": self._setting(lambda text: self._set_range(int(text))),
            "SSU": self._setting(lambda text: self._step_range(1)),
            "SSD": self._setting(lambda text: self._step_range(-1)),
            "MUL": self._setting(self._set_multiplier),
            "OFF": self._setting(self._set_offset),
            "GAS": lambda t, text: [self._named("AutoScale", f"{self._autoscale:d}")],
            "GCR": lambda t, text: [self._named("Range", f"{self._index}")],
            "GUM": lambda t, text: [self._named("User Multiplier", f"{self._multiplier:g}")],
            "GUO": lambda t, text: [self._named("User Offset", f"{self._offset_j:g}")],
            "GZO": lambda t, text: [self._named("Zero", f"{self._zero_on:d}")],
            "DVS": lambda t, text: [f"[{index}] : {range_label(index)}" for index in self._ranges],
            "SOU": self._start_zeroing,
            "COU": self._clear_zero,
        }

    def _named(self, name: str, value: str) -> str:
        return f"{name} : {value} " if self._manual else f"{name}:{value}"

    def _labelled(self, name: str, value: str) -> str:
        return f"{name} : {value}" if self._manual else value

    def _setting(self, change: Callable[[str], None]) -> Callable[[float, str], Sequence[str]]:
        """Make a command that sets something; a parameter that is no number is ignored."""

        def action(t: float, text: str) -> Sequence[str]:
            try:
                change(text)
            except ValueError:
                return []
            return ["ACK"] if self._acknowledges else []

        return action

    def _set_wavelength(self, text: str) -> None:
        self._wavelength_nm = min(max(int(text), 193), 20000)

    def _set_trigger(self, text: str) -> None:
        self._trigger_percent = min(max(float(text), 0.1), 99.9)

    def _set_trigger_acknowledged(self, t: float, text: str) -> Sequence[str]:
        try:
            self._trigger_percent = min(max(float(text.strip().rstrip("%")), 1.0), 100.0)
        except ValueError:
            return []
        return ["ACK"]

    def _set_autoscale(self, text: str) -> None:
        self._autoscale = text == "1"

    def _set_range(self, index: int) -> None:
        if index in self._ranges:
            self._index = index

    def _step_range(self, step: int) -> None:
        place = self._ranges.index(self._index) + step
        self._index = self._ranges[min(max(place, 0), len(self._ranges) - 1)]

    def _set_multiplier(self, text: str) -> None:
        self._multiplier = float(text)

    def _set_offset(self, text: str) -> None:
        self._offset_j = float(text)

    def _transmit(self, on: bool) -> Sequence[str]:
        self._streaming = on
        return []

    def _stream(self, t: float) -> list[Reply]:
        """Say the values that are due until ``t``, as fast as the wire carries them."""
        lines: list[Reply] = []
        while self._next_line_s <= t:
            moment = self._next_line_s
            if not self._is_new(moment):
                self._next_line_s = moment + max(_DARK_POLL_S, self._laboratory.pulse_period_s)
                continue
            line = self._labelled("Current Value", self._take_value(moment)).encode("latin-1") + b"\r\n"
            on_the_wire_s = len(line) * self._byte_s
            lines.append((moment + on_the_wire_s, line))
            self._next_line_s = moment + max(on_the_wire_s, self._laboratory.pulse_period_s)
        return lines

    def _is_new(self, t: float) -> bool:
        return self._pending or self._new_pulse(t) is not None

    def _new_pulse(self, t: float) -> float | None:
        """Get the last pulse since the value was read that was strong enough to trigger."""
        pulse = self._head.last_pulse(self._seen_s, t)
        if pulse is None or self._head.mean_j(pulse, self._wavelength_nm) < self._threshold_j():
            return None
        return pulse

    def _threshold_j(self) -> float:
        return scale_j(self._index) * self._trigger_percent / 100

    def _take_value(self, t: float) -> str:
        """Get the displayed value; an old one remains until a new pulse has come."""
        pulse = self._new_pulse(t)
        if pulse is not None:
            energy_j = float(self._head.pulses_j(pulse, 1, self._wavelength_nm)[0])
            if self._autoscale:
                self._index = next((i for i in self._ranges if scale_j(i) >= energy_j), self._ranges[-1])
            self._over_range = energy_j > scale_j(self._index)
            self._last_j, self._seen_s = energy_j, pulse
        self._pending = False
        if self._over_range:
            return _OVER_RANGE
        shown_j = self._head.zero_j() if self._last_j is None else self._last_j
        return f"{(shown_j - self._removed_j) * self._multiplier + self._offset_j:.6g}"

    def _start_zeroing(self, t: float, text: str) -> Sequence[str]:
        self._zeroing_until = t + self._zeroing_s
        return ["ACK"] if self._acknowledges else []

    def _clear_zero(self, t: float, text: str) -> Sequence[str]:
        self._removed_j, self._zero_on, self._zeroing_until = 0.0, False, None
        return ["ACK"] if self._acknowledges else []

    def _finish_zeroing(self, t: float) -> None:
        if self._zeroing_until is None or t < self._zeroing_until:
            return
        self._zeroing_until = None
        # The drift is taken as at the start of the run, so that zeroing again in a resumed run gives the same rows.
        self._removed_j = self._head.zero_j(schedule_s=0.0)
        if self._laboratory.shutter.is_open(t):
            self._removed_j += float(self._head.energies_j(t, _ZEROING_PULSES).mean())
        self._zero_on = True


def scale_j(index: int) -> float:
    """Get the full scale of a range: 1 pJ for index 0, then 3 pJ, 10 pJ, ... 300 MJ for index 41."""
    if not 0 <= index <= _MOST_INDEX:
        raise ValueError(f"{index} is no index of a range")
    return (3.0 if index % 2 else 1.0) * 10.0 ** (index // 2 - 12)


def range_label(index: int) -> str:
    """Get a range as the meter writes it: `100.0 m`, `300 m`, `1.000`, `3.00`, `10.00`, `30.0`."""
    power = index // 2 - 12
    engineering = 3 * (power // 3)
    number = (3 if index % 2 else 1) * 10 ** (power - engineering)
    digits = 3 - len(str(number)) if index % 2 else 4 - len(str(number))
    return f"{number:.{digits}f} {_PREFIXES[engineering]}".rstrip()
