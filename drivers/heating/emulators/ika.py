"""Emulator of IKA hot plates with stirrer.

It answers ``IN_``, ``STATUS_`` and ``@`` commands by ``VALUE CHANNEL`` and a blank, is silent after all others, and
ignores what it does not know. Its watchdog is foreseen in the laboratory when it is fed: the plate cools from the
moment of the fall-back on, whether or not anybody speaks to the plate again.

UNVERIFIED, or made up: all that the driver names; that a plate that has tripped still answers; that after watchdog 2
has acted set-points are not taken before ``OUT_WD2@0``; that values out of range are ignored; that ``RESET`` leaves the
watchdog alone; the fall-back of watchdog 2 after power-on; what the probe reads when it is unplugged.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from labctl.sim.emulator import LineBuffer, Reply
from labctl.sim.laboratory import Laboratory

Probe = Literal["in", "out", "unplugged"]

LONGEST_LINE = 80
_TERMINATORS = 2
_NAMES = {"RCT digital": "RCT digital", "RCT basic": "RCT basic", "RET control-visc": "IKARET", "C-MAG HS": "C-MAG HS7"}
_HIGHEST_C = {"RCT digital": 310.0, "RCT basic": 310.0, "RET control-visc": 340.0, "C-MAG HS": 310.0}
_HIGHEST_RPM = {"RCT digital": 1500.0, "RCT basic": 1500.0, "RET control-visc": 1700.0, "C-MAG HS": 1500.0}
_LOWEST_RPM = 50.0
_WATCHDOG_S = range(20, 1501)
_BACK_TO_BACK_S = 0.4
_FACTORY_FALL_BACK_C, _FACTORY_FALL_BACK_RPM = 60.0, 100.0
_SETTING = re.compile(r"OUT_SP_([0-9]+) +(-?[0-9]+(?:\.[0-9]+)?)")
_SAFETY_VALUE = re.compile(r"OUT_SP_(12|42)[@ ] *(-?[0-9]+(?:\.[0-9]+)?)")
_WATCHDOG = re.compile(r"OUT_WD([12])@ *([0-9]+)")


class IKAOptions(BaseModel):
    """Which plate it is, how it starts, and what is wrong with it; options of the driver are not looked at.

    :param model: As in the driver. :param device_name: What it calls itself; the name of the model when left out.
    :param mode: Operating mode: after power-on A has all functions off, B goes on where it was.
    :param heating: Left heating. :param front_panel_c: Set-point at the start, and of the front panel, °C.
    :param restores_front_panel: The first ``START_1`` after power-on brings back the set-point of the front panel.
    :param safety_c: Limit of the safety circuit, °C. :param clamp_k: How far the set-point must stay below it, K.
    :param step_k: The set-point is rounded to this, K.
    :param probe: ``in`` the sample, ``out`` in the air (the plate then heats without end), ``unplugged``.
    :param unplugged_c: What an unplugged probe reads, °C.
    :param noise_k: Noise of each sensor, K. :param plate_offset_k: By how much the surface is hotter, K.
    :param speed_rpm: Left stirring at this speed; 0 for not.
    :param watchdog_s: Left with watchdog ``watchdog_mode`` armed for this time, s; 0 for not.
    :param tripped: Left with the error ``Er 2`` of watchdog 1.
    :param echo_channel: The echo of a watchdog command carries a channel.
    :param drops_fast: Commands within 0.4 s after another one are dropped.
    :param reply_s: Time from the end of a command to its reply, s.
    :param awkward: Left heating, with a half command in the input and an unread answer on the line.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: Literal["RCT digital", "RCT basic", "RET control-visc", "C-MAG HS"] = "RCT digital"
    device_name: str | None = None
    mode: Literal["A", "B", "D"] = "A"
    heating: bool = False
    front_panel_c: Annotated[float, Field(ge=0, le=340)] = 0.0
    restores_front_panel: bool = False
    safety_c: Annotated[float, Field(ge=50, le=400)] = 360.0
    clamp_k: Annotated[float, Field(ge=0, le=50)] = 50.0
    step_k: Annotated[float, Field(gt=0, le=1)] = 0.1
    probe: Probe = "in"
    unplugged_c: float = 0.0
    noise_k: Annotated[float, Field(ge=0)] = 0.05
    plate_offset_k: float = 0.0
    speed_rpm: Annotated[float, Field(ge=0, le=1700)] = 0.0
    watchdog_s: Annotated[int, Field(ge=0, le=1500)] = 0
    watchdog_mode: Literal[1, 2] = 1
    tripped: bool = False
    echo_channel: bool = False
    drops_fast: bool = False
    reply_s: Annotated[float, Field(ge=0)] = 0.02
    awkward: bool = False


class IKAEmulator:
    """The plate.

    Faults: call :meth:`move_probe`, :meth:`turn_down_safety`, :meth:`power_cycle`.

    :param laboratory: What it heats.
    :param role: Role on the bench.
    :param options: See :class:`IKAOptions`.
    """

    def __init__(self, laboratory: Laboratory, role: str, options: Mapping[str, object]) -> None:
        self.options = IKAOptions.model_validate(dict(options))
        self._probe: Probe = self.options.probe
        self._safety_c = self.options.safety_c
        self.tripped = self.options.tripped
        """Whether watchdog 1 has acted: ``Er 2`` until the plate is switched off and on."""
        self.fell_back = False
        """Whether watchdog 2 has acted and was not cancelled since."""
        self.mode: str = self.options.mode
        self.heats = (self.options.heating or self.options.awkward) and not self.tripped
        self.stirs = self.options.speed_rpm > 0 and not self.tripped
        self._role = role
        self._thermal = laboratory.thermal
        self._noise = laboratory.noise
        self._input = LineBuffer(b"\r\n")
        self._unsent = b""
        if self.options.awkward:
            self._input.feed(b"OUT_SP_1 3")
            self._unsent = b"0.0 4 \r\n"
        self._device_name = self.options.device_name or _NAMES[self.options.model]
        self._setpoint_c = self.options.front_panel_c
        self._speed_rpm = self.options.speed_rpm
        self._fall_back_c, self._fall_back_rpm = _FACTORY_FALL_BACK_C, _FACTORY_FALL_BACK_RPM
        self._just_powered = True
        self._taken_s = -math.inf
        self._watchdog_mode = self.options.watchdog_mode
        self._expires_s = self.options.watchdog_s or math.inf
        self._controlled: float | None = None
        self._show(0.0)

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        self._let_pass(t)
        replies = [(t, self._unsent)] if self._unsent else []
        self._unsent = b""
        for line in self._input.feed(data):
            if self.options.drops_fast and t - self._taken_s < _BACK_TO_BACK_S:
                continue
            self._taken_s = t
            answer = self._answer(t, line)
            if answer is not None:
                replies.append((t + self.options.reply_s, answer.encode("latin-1") + b" \r\n"))
        return replies

    def next_event(self) -> float | None:
        return 0.0 if self._unsent else None

    def is_heating(self, t: float) -> bool:
        """Get whether the heater has power at ``t``, s: it is on, and has something to heat up to."""
        self._let_pass(t)
        return self._wanted_c() is not None

    def move_probe(self, t: float, probe: Probe) -> None:
        """Move the probe at ``t``, s."""
        self._let_pass(t)
        self._probe = probe
        self._show(t)

    def turn_down_safety(self, t: float, safety_c: float) -> None:
        """Set the safety limit by its screw at ``t``, s; a set-point that is too high goes down with it."""
        self._let_pass(t)
        self._safety_c = safety_c
        self._set(t, 1, self._setpoint_c)

    def power_cycle(self, t: float) -> None:
        """Switch off and on at ``t``: no watchdog, no error, nothing in the input; off, but in mode B as it was."""
        self._let_pass(t)
        self.tripped = self.fell_back = False
        if self.mode != "B":
            self.heats = self.stirs = False
            self._setpoint_c = self.options.front_panel_c
        self._just_powered = True
        self._fall_back_c, self._fall_back_rpm = _FACTORY_FALL_BACK_C, _FACTORY_FALL_BACK_RPM
        self._expires_s = math.inf
        self._input, self._unsent = LineBuffer(b"\r\n"), b""
        self._show(t)

    def _let_pass(self, t: float) -> None:
        """Have the watchdog act at its moment, if that was before ``t``; the laboratory was told of it beforehand."""
        if t < self._expires_s:
            return
        self._expires_s = math.inf
        if self._watchdog_mode == 1:
            self.tripped = True
            self.heats = self.stirs = False
        else:
            self.fell_back = True
            self._setpoint_c, self._speed_rpm = self._fall_back_c, self._fall_back_rpm
        self._controlled = self._wanted_c()

    def _answer(self, t: float, raw: bytes) -> str | None:
        """Carry out a line; get the answer without its end, None for silence."""
        command = raw.decode("latin-1").rstrip(" ")
        if len(raw) + _TERMINATORS > LONGEST_LINE:
            return None
        if found := _WATCHDOG.fullmatch(command):
            return self._arm(t, int(found[1]), int(found[2]))
        if found := _SAFETY_VALUE.fullmatch(command):
            return self._set_fall_back(found[1], float(found[2]))
        if found := _SETTING.fullmatch(command):
            self._set(t, int(found[1]), float(found[2]))
            return None
        kind, _, rest = command.partition("_")
        match kind:
            case "IN":
                return self._value(t, rest)
            case "STATUS":
                return self._status(rest)
            case "START" | "STOP":
                self._switch(t, rest, kind == "START")
            case "SET" if rest in ("MODE_A", "MODE_B", "MODE_D"):
                self.mode = rest[-1]
            case "OUT" if rest.startswith("NAME "):
                self._device_name = rest[5:].strip()
            case "RESET" if not rest:
                self._switch(t, "1", False)
                self._switch(t, "4", False)
        return None

    def _value(self, t: float, what: str) -> str | None:
        values = {
            "PV_1": self._probe_c,
            "PV_2": self._plate_c,
            "PV_4": lambda _: self._speed_rpm if self.stirs else 0.0,
            "PV_7": lambda _: self._thermal.ambient_c,
            "SP_1": lambda _: self._setpoint_c,
            "SP_3": lambda _: self._safety_c,
            "SP_4": lambda _: self._speed_rpm,
        }
        if self.options.model == "RET control-visc":
            values |= {"PV_3": self._plate_c, "PV_5": lambda _: 0.0, "PV_80": lambda _: 14.0, "PV_90": lambda _: 0.0}
            if what == "TYPE":
                return self._device_name
            if what == "VERSION":
                return "110"
        if what == "NAME":
            return self._device_name
        if what not in values:
            return None
        return f"{values[what](t):.1f} {what.rpartition('_')[2]}"

    def _status(self, channel: str) -> str | None:
        running = {"1": self.heats, "4": self.stirs}
        return None if channel not in running else f"{11 if running[channel] else 12} {channel}"

    def _probe_c(self, t: float) -> float:
        if self._probe == "unplugged":
            return self.options.unplugged_c
        true_c = self._thermal.temperature_c(t) if self._probe == "in" else self._thermal.ambient_c
        return true_c + self._scatter_k("probe")

    def _plate_c(self, t: float) -> float:
        return self._thermal.temperature_c(t) + self.options.plate_offset_k + self._scatter_k("plate")

    def _scatter_k(self, sensor: str) -> float:
        return self.options.noise_k * float(self._noise.generator(f"{self._role} {sensor}").standard_normal())

    def _set(self, t: float, channel: int, value: float) -> None:
        if channel == 1 and not self.fell_back:
            highest_c = min(_HIGHEST_C[self.options.model], self._safety_c - self.options.clamp_k)
            steps = round(min(max(value, 0.0), highest_c) / self.options.step_k)
            self._setpoint_c = steps * self.options.step_k
        elif channel == 4 and (value == 0 or _LOWEST_RPM <= value <= _HIGHEST_RPM[self.options.model]):
            self._speed_rpm = float(round(value))
        self._show(t)

    def _set_fall_back(self, channel: str, value: float) -> str:
        if channel == "12":
            self._fall_back_c = value
        else:
            self._fall_back_rpm = value
        return self._echo(value, channel)

    def _switch(self, t: float, channel: str, on: bool) -> None:
        may = on and not self.tripped
        if channel == "1":
            if may and self._just_powered and self.options.restores_front_panel:
                self._setpoint_c = self.options.front_panel_c
            self._just_powered = self._just_powered and not may
            self.heats = may
        elif channel == "4":
            self.stirs = may
        self._show(t)

    def _arm(self, t: float, mode: int, time_s: int) -> str | None:
        if mode == 2 and time_s == 0:
            self.fell_back = False
            if self._watchdog_mode == 2:
                self._expires_s = math.inf
        elif time_s in _WATCHDOG_S:
            self._watchdog_mode, self._expires_s = mode, t + time_s
        else:
            return None
        self._show(t)
        return self._echo(time_s, str(mode))

    def _echo(self, value: float, channel: str) -> str:
        return f"{value:g} {channel}" if self.options.echo_channel else f"{value:g}"

    def _wanted_c(self) -> float | None:
        """Get the temperature that the plate heats up to; None if it does not heat."""
        if not self.heats or self._setpoint_c <= self._thermal.ambient_c:
            return None
        return self._setpoint_c if self._probe == "in" else self._safety_c

    def _show(self, t: float) -> None:
        """Tell the laboratory what heats from ``t`` on, and when the watchdog will end that if nobody feeds it."""
        wanted_c = self._wanted_c()
        if self._controlled is not None or wanted_c is not None:
            self._thermal.set(t, wanted_c)
            if wanted_c is not None and self._expires_s < math.inf:
                fall_back_c = self._fall_back_c if self._watchdog_mode == 2 else 0.0
                self._thermal.set(self._expires_s, fall_back_c if fall_back_c > self._thermal.ambient_c else None)
        self._controlled = wanted_c
