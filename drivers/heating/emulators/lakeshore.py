"""Emulator of the Lake Shore temperature controllers 335 and 336.

Lines end with LF or CR LF; empty ones are ignored. ``;`` (and a ``:`` after it) separates commands, whose answers come
in one line, joined by ``;`` and ended by CR LF; a line without query is not answered. What is wrong shows in ``*ESR?``
alone. All inputs measure the laboratory's one thermal body, each with noise of its own.

UNVERIFIED: the digits of numbers; that ``SETP?`` tells the moving set-point during a ramp, and that it ramps with the
heater off too; that changing an input's units converts its set-point; that a temperature limit switches all outputs
off; when an open heater is noticed, and that it switches its output off. Constructed: how much a heater gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from drivers.heating.emulators.lakeshore_registers import Memory, UnknownKey, registers
from labctl.sim.emulator import LineBuffer, Reply

ZERO_C_K = 273.15
_QUERY_ERROR, _EXECUTION_ERROR, _COMMAND_ERROR, _SWITCHED_ON = 4, 16, 32, 128
_CLOSED_LOOP, _OPEN_LOOP = 1, 3
_HEATERS = ("1", "2")
_OPEN_LOOP_K_PERCENT = {0: 0.0, 1: 0.02, 2: 0.2, 3: 2.0}
_UNITS = {"kelvin": 1, "celsius": 2, "sensor": 3}
_ACCEPTED = ("MNMXRST", "ALMRST", "ATUNE", "SCAL", "CRVDEL", "*OPC", "DFLT")


class LakeShoreEmulatorOptions(BaseModel):
    """How the simulated controller starts and how fast it is; options of the driver are ignored.

    :param reply_s: Time from the end of a line to its answer, s.
    :param noise_k: Scatter of a reading, K.
    :param heater_on: Range in which heater 1 was left on. :param setpoint: Set-point from its last use, K.
    :param units: Units that all inputs prefer. :param sensor_status: What ``RDGST?`` says of all inputs.
    :param heater_fault: 1 for an open load, 2 for a short. :param temperature_limit_k: Limit of all inputs; 0 for none.
    :param output_mode: Mode of all outputs.
    :param awkward: Left heating in open loop, in °C, with half an answer on the line and half a command in the input.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    reply_s: Annotated[float, Field(ge=0)] = 0.005
    noise_k: Annotated[float, Field(ge=0)] = 0.002
    heater_on: Annotated[int, Field(ge=0, le=3)] = 0
    setpoint: Annotated[float, Field(ge=0, le=1500)] = 300.0
    units: Literal["kelvin", "celsius", "sensor"] = "kelvin"
    sensor_status: Annotated[int, Field(ge=0, le=255)] = 0
    heater_fault: Literal[0, 1, 2] = 0
    temperature_limit_k: Annotated[float, Field(ge=0, le=1500)] = 400.0
    output_mode: Annotated[int, Field(ge=0, le=5)] = _CLOSED_LOOP
    awkward: bool = False


@dataclass
class SetPoint:
    """A set-point in K that may be on its way: from ``start_k`` at ``start_s`` on, with ``rate_k_s`` if not 0."""

    start_k: float
    target_k: float
    start_s: float = 0.0
    rate_k_s: float = 0.0

    def at(self, t: float) -> float:
        """Get the set-point at ``t``, K."""
        way_k = self.target_k - self.start_k
        if not self.rate_k_s or abs(way_k) <= self.rate_k_s * (t - self.start_s):
            return self.target_k
        return self.start_k + (1 if way_k > 0 else -1) * self.rate_k_s * (t - self.start_s)

    def ramps(self, t: float) -> bool:
        """Whether it is on its way at ``t``."""
        return self.at(t) != self.target_k


class LakeShoreEmulator:
    """A controller with its heater and sensors.

    Faults: set :attr:`sensor_status`, :attr:`heater_fault`; call :meth:`power_cycle`, :meth:`refuse`.

    :param laboratory: Whose thermal body it heats.
    :param role: Role on the bench.
    :param options: See :class:`LakeShoreEmulatorOptions`.
    """

    MODEL = "336"
    INPUTS = "ABCD"
    OUTPUTS = "1234"

    def __init__(self, laboratory: Any, role: str, options: Mapping[str, object]) -> None:
        self.options = LakeShoreEmulatorOptions.model_validate(dict(options))
        self.sensor_status = self.options.sensor_status
        self.heater_fault: int = self.options.heater_fault
        self._thermal = laboratory.thermal
        self._noise = laboratory.noise
        self._role = role
        self._memory = Memory(registers(self.INPUTS, self.OUTPUTS, self.MODEL))
        self._input = LineBuffer(b"\r\n")
        self._stale = b""
        self._events = _SWITCHED_ON
        self._readings_k: dict[str, float] = {}
        self._wanted: SetPoint | float | None = None
        self.ranges = dict.fromkeys(self.OUTPUTS, 0)
        self.setpoints = {output: SetPoint(self.options.setpoint, self.options.setpoint) for output in self.OUTPUTS}
        self._leave_as(self.options)
        self._heat(0.0)

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        replies = [(t, self._stale)] if self._stale else []
        self._stale = b""
        for line in self._input.feed(data):
            self._watch_limits(t)
            self._readings_k = {}
            answers = [answer for unit in _units_of(line) if (answer := self._carry_out(t, unit)) is not None]
            if answers:
                replies.append((t + self.options.reply_s, ";".join(answers).encode("latin-1") + b"\r\n"))
        return replies

    def next_event(self) -> float | None:
        return 0.0 if self._stale else None

    def power_cycle(self, t: float) -> None:
        """Switch off and on at ``t``: heaters off unless they are to come on by themselves; registers are kept."""
        for output in self.OUTPUTS:
            if self._memory.read("OUTMODE", output)[2] == "0":
                self.ranges[output] = 0
        self._memory.write("MODE", ["0"])
        self._input = LineBuffer(b"\r\n")
        self._events = _SWITCHED_ON
        self._heat(t)

    def refuse(self, t: float, data: bytes) -> Sequence[Reply]:
        """Carry nothing out, and say so where the event register is asked for."""
        replies = []
        for line in self._input.feed(data):
            if "*ESR?" in (unit.upper() for unit in _units_of(line)):
                replies.append((t + self.options.reply_s, b"%d\r\n" % _EXECUTION_ERROR))
        return replies

    def _leave_as(self, options: LakeShoreEmulatorOptions) -> None:
        units = "celsius" if options.awkward else options.units
        mode = _OPEN_LOOP if options.awkward else options.output_mode
        for letter in self.INPUTS:
            self._memory.write("INTYPE", [letter, "", "", "", "", str(_UNITS[units])])
            self._memory.write("TLIMIT", [letter, str(options.temperature_limit_k)])
        for output in self.OUTPUTS:
            self._memory.write("OUTMODE", [output, str(mode)])
        self.ranges["1"] = options.heater_on
        if options.awkward:
            self._memory.write("MOUT", ["1", "25"])
            self.ranges["1"] = 3
            self._stale = b"95.123\r\n"
            self._input.feed(b"SETP 1,3")

    def _carry_out(self, t: float, unit: str) -> str | None:
        """Carry out a command or query; get the answer of a query that has one."""
        head, _, argument = unit.partition(" ")
        name, is_query = head.upper().rstrip("?"), head.endswith("?")
        arguments = [text.strip() for text in argument.split(",")] if argument.strip() else []
        try:
            return self._ask(t, name, arguments) if is_query else self._tell(t, name, arguments)
        except UnknownKey:
            self._events |= _QUERY_ERROR if is_query else _EXECUTION_ERROR
        except ValueError:
            self._events |= _EXECUTION_ERROR
        except LookupError:
            self._events |= _COMMAND_ERROR
        return None

    def _tell(self, t: float, name: str, arguments: list[str]) -> None:
        match name:
            case "SETP":
                output, value = arguments
                self._move_setpoint(t, self._key(output, self.OUTPUTS), float(value))
            case "RANGE":
                output, value = arguments
                self._set_range(t, self._key(output, self.OUTPUTS), int(value))
            case "RAMP":
                output = self._memory.write("RAMP", arguments)
                setpoint = self.setpoints[output]
                # Switched off on its way, the set-point is at once where it was to go.
                if self._memory.read("RAMP", output)[0] == "0":
                    self.setpoints[output] = SetPoint(setpoint.target_k, setpoint.target_k)
            case "*CLS":
                self._events = 0
            case "*RST":
                self.ranges = dict.fromkeys(self.OUTPUTS, 0)
            case _ if name in _ACCEPTED:
                pass
            case _ if name in self._memory:
                self._memory.write(name, arguments)
            case _:
                raise LookupError(name)
        self._heat(t)

    def _ask(self, t: float, name: str, arguments: list[str]) -> str:
        key = ",".join(arguments).upper()
        match name:
            case "*IDN":
                return f"LSCI,MODEL{self.MODEL},LSA1234/0000000,1.8"
            case "*ESR":
                events, self._events = self._events, 0
                return str(events)
            case "*STB":
                return str(32 if self._events & int(self._memory.read("*ESE")[0]) else 0)
            case "*OPC":
                return "1"
            case "*TST" | "OPST" | "OPSTR":
                return "0"
            case "TUNEST":
                return "0,1,0,0"
            case "NETID" if self.MODEL == "336":
                return "1,127.0.0.1,255.0.0.0,0.0.0.0,0.0.0.0,0.0.0.0,LSCI-336,,02:00:00:00:00:00"
            case "TEMP":
                return f"{self._thermal.ambient_c + ZERO_C_K:+.3f}"
            case "KRDG" | "CRDG" | "SRDG" | "RDGST" | "ALARMST" | "MDAT":
                return self._ask_input(t, name, key)
            case "SETP" | "RANGE" | "HTR" | "AOUT" | "HTRST" | "RAMPST":
                return self._ask_output(t, name, self._key(key, self.OUTPUTS))
            case "RELAYST":
                self._key(key, "12")
                return "0"
            case _ if name in self._memory:
                return ",".join(self._memory.read(name, key))
        raise LookupError(name)

    def _ask_input(self, t: float, name: str, key: str) -> str:
        if key == "0" and name in ("KRDG", "SRDG", "CRDG") and self.MODEL == "336":
            return ",".join(self._ask_input(t, name, letter) for letter in self.INPUTS)
        letter = self._key(key, self.INPUTS)
        kelvin = self._kelvin(t, letter)
        readable = not self.sensor_status and self._memory.read("INTYPE", letter)[0] != "0"
        match name:
            case "RDGST":
                return str(self.sensor_status)
            case "ALARMST":
                return "0,0"
            case "MDAT":
                return f"{kelvin:+.3f},{kelvin:+.3f}"
            case "SRDG":
                return f"{100 * (1 + 3.9083e-3 * (kelvin - ZERO_C_K)) if readable else 0.0:+.4f}"
            case "CRDG":
                return f"{kelvin - ZERO_C_K if readable else 0.0:+.3f}"
        return f"{kelvin if readable else 0.0:+.3f}"

    def _ask_output(self, t: float, name: str, output: str) -> str:
        match name:
            case "SETP":
                return f"{self._as_preferred(output, self.setpoints[output].at(t)):+.3f}"
            case "RANGE":
                return str(self.ranges[output])
            case "HTR" if output in _HEATERS:
                return f"{self._percent(t, output):+06.1f}"
            case "AOUT" if output not in _HEATERS:
                return f"{self._percent(t, output):+06.1f}"
            case "HTRST" if output in _HEATERS:
                return str(self.heater_fault)
            case "RAMPST":
                return str(int(self.setpoints[output].ramps(t)))
        raise UnknownKey(f"{name} {output}")

    @staticmethod
    def _key(text: str, allowed: str) -> str:
        if len(text) != 1 or text.upper() not in allowed:
            raise UnknownKey(text)
        return text.upper()

    def _kelvin(self, t: float, letter: str) -> float:
        """Get the reading of an input: one for each line, however often it is asked for."""
        if letter not in self._readings_k:
            scatter_k = self.options.noise_k * self._noise.generator(f"{self._role} sensor {letter}").standard_normal()
            self._readings_k[letter] = self._thermal.temperature_c(t) + ZERO_C_K + scatter_k
        return self._readings_k[letter]

    def _unit(self, output: str) -> int:
        """Get the preferred unit of the control input."""
        source = int(self._memory.read("OUTMODE", output)[1])
        return int(self._memory.read("INTYPE", self.INPUTS[source - 1])[4]) if source else _UNITS["kelvin"]

    def _as_preferred(self, output: str, kelvin: float) -> float:
        return kelvin - ZERO_C_K if self._unit(output) == _UNITS["celsius"] else kelvin

    def _move_setpoint(self, t: float, output: str, value: float) -> None:
        kelvin = value + (ZERO_C_K if self._unit(output) == _UNITS["celsius"] else 0.0)
        if not 0 <= kelvin <= 1500:
            raise ValueError(value)
        on, rate_k_min = self._memory.read("RAMP", output)
        rate_k_s = float(rate_k_min) / 60 if on == "1" else 0.0
        self.setpoints[output] = SetPoint(self.setpoints[output].at(t), kelvin, t, rate_k_s)

    def _set_range(self, t: float, output: str, value: int) -> None:
        if not 0 <= value <= (3 if output in _HEATERS else 1):
            raise ValueError(value)
        self.ranges[output] = 0 if self.heater_fault and output in _HEATERS else value

    def _watch_limits(self, t: float) -> None:
        """Switch all outputs off when an input has passed its limit."""
        kelvin = self._thermal.temperature_c(t) + ZERO_C_K
        limits = [float(self._memory.read("TLIMIT", letter)[0]) for letter in self.INPUTS]
        if any(self.ranges.values()) and any(limit and kelvin > limit for limit in limits):
            self.ranges = dict.fromkeys(self.OUTPUTS, 0)
            self._heat(t)

    def _heat(self, t: float) -> None:
        """Tell the body what the first heater that is on wants of it, if that has changed."""
        on = [output for output in _HEATERS if self.ranges[output] and self._mode(output) in (_CLOSED_LOOP, _OPEN_LOOP)]
        wanted = self._wants(on[0]) if on else None
        if wanted is self._wanted or (isinstance(wanted, float) and wanted == self._wanted):
            return
        self._wanted = wanted
        if not isinstance(wanted, SetPoint):
            self._thermal.set(t, wanted)
            return
        self._thermal.set(t, wanted.at(t) - ZERO_C_K)
        if wanted.ramps(t):
            self._thermal.set(t, wanted.target_k - ZERO_C_K, 60 * wanted.rate_k_s)

    def _wants(self, output: str) -> SetPoint | float:
        """Get the set-point of a loop, or the temperature in °C that an open loop leads to."""
        if self._mode(output) == _CLOSED_LOOP:
            return self.setpoints[output]
        percent = float(self._memory.read("MOUT", output)[0])
        return self._thermal.ambient_c + percent * _OPEN_LOOP_K_PERCENT[self.ranges[output]]

    def _mode(self, output: str) -> int:
        return int(self._memory.read("OUTMODE", output)[0])

    def _percent(self, t: float, output: str) -> float:
        if not self.ranges[output]:
            return 0.0
        if self._mode(output) != _CLOSED_LOOP:
            return float(self._memory.read("MOUT", output)[0])
        missing_k = self.setpoints[output].at(t) - ZERO_C_K - self._thermal.temperature_c(t)
        holding = 0.2 * (self._thermal.temperature_c(t) - self._thermal.ambient_c)
        return min(max(holding + 10 * missing_k, 0.0), 100.0)


class LakeShore335Emulator(LakeShoreEmulator):
    """A 335: two inputs, two outputs."""

    MODEL = "335"
    INPUTS = "AB"
    OUTPUTS = "12"


class LakeShore336Emulator(LakeShoreEmulator):
    """A 336: four inputs, two heaters and two voltage outputs."""


def _units_of(line: bytes) -> list[str]:
    return [unit for part in line.decode("latin-1").split(";") if (unit := part.strip().lstrip(":"))]
