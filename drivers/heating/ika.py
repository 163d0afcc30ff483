"""IKA hot plates with stirrer: RCT digital and basic, RET control-visc, C-MAG HS, over their NAMUR commands.

The plate keeps no promise by itself: what is set is read back, what is switched is asked for. A set-point above what
its safety limit allows (``IN_SP_3``, set at the plate) is lowered without a word; ``START_1`` may bring back the
set-point of the front panel, so the set-point is written before and after it; firmware may drop what comes too fast.

The probe is not trusted alone: with a probe that hangs in the air, or in nothing, the plate would heat without end. It
is compared with the surface of the plate before anything is heated, at each reading, and before the watchdog is fed.

Watchdog: see docs/decisions/0020-hotplate-watchdog.md. Mode 2, the default, lowers the set-point to ``fall_back_c``
when nobody feeds it, and can be cancelled. Mode 1 switches heater and motor off for good (``Er 2``, until the plate is
switched off and on), and cannot be cancelled: a run that ended properly leaves a plate that trips later.

UNVERIFIED: the highest set-point of a C-MAG; ``STATUS_1`` and ``STATUS_4``, which the manuals do not mention, and that
they give nothing but 11 and 12; by how much the set-point must stay below the safety limit (10 to 50 K); what
``IN_PV_1`` gives without a probe; rounding of the set-point to whole degrees; whether a plate that has tripped still
answers; the range of the watchdog's fall-back temperature.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from pymeasure.instruments import Instrument

from drivers.heating.namur import NAME, NamurLine
from labctl.clock import Clock
from labctl.errors import ConnectionLost, InputError, InstrumentError
from labctl.roles import Identity, Readiness, Reading, SafeStep, Setting
from labctl.transport.adapter import WireAdapter
from labctl.transport.settings import WireSettings

log = logging.getLogger(__name__)

Model = Literal["RCT digital", "RCT basic", "RET control-visc", "C-MAG HS"]

HIGHEST_C: dict[str, float] = {"RCT digital": 310.0, "RCT basic": 310.0, "RET control-visc": 340.0, "C-MAG HS": 310.0}
"""Highest set-point in °C; that of the C-MAG is not known, and the lowest of the others is taken."""
HIGHEST_RPM: dict[str, float] = {
    "RCT digital": 1500.0,
    "RCT basic": 1500.0,
    "RET control-visc": 1700.0,
    "C-MAG HS": 1500.0,
}
LOWEST_RPM = 50.0
WATCHDOG_S = (20, 1500)
"""Shortest and longest time of the watchdog, s."""
_FAMILIES = ("RCT", "RET", "C-MAG")
_HEATER, _MOTOR = 1, 4
_POSSIBLE_C = (-40.0, 450.0)
"""What a probe in or on such a plate can have; broken wires read far beyond."""
_STEP_K = 0.1
_ROUNDED_K = 0.5
_COLD_C = 30.0
"""A set-point at which nothing heats, or hardly."""
_WARM_C = 50.0
_SAFE_REPLY_S = 0.4
_UNPLUG = "THE PLATE MAY HEAT: take it off the mains, and look"
_ER_2 = "if its display shows Er 2 the watchdog has acted: switch the plate off and on"


class IKAHotplate(Instrument):
    """A hot plate with stirrer.

    :param adapter: The wire.
    :param name: Name for messages.
    :param clock: The clock on which it waits.
    :param options: See :class:`Options`.
    """

    LINK = WireSettings(
        write_termination=b"\r\n",
        read_termination=b"\r\n",
        timeout_s=1.0,
        baud_rate=9600,
        data_bits=7,
        parity="E",
        stop_bits=1,
    )
    ROLE = "heating_stage"
    READINGS: ClassVar = {
        "temperature": Reading("temperature_c", "degC", overshoot=3.0),
        "plate": Reading("plate_temperature_c", "degC"),
        "safety_limit": Reading("safety_limit_c", "degC"),
        "heater": Reading("is_on", words=("off", "on")),
        "speed": Reading("speed_rpm", "rpm", overshoot=50.0),
    }
    SETTINGS: ClassVar = {"speed": Setting("set_speed", "rpm")}

    adapter: WireAdapter

    class Options(BaseModel):
        """The table ``[instruments.heating_stage.options]``.

        :param model: Which plate it is; decides the highest set-point and speed.
        :param sensor: ``probe``: the external probe (IN_PV_1) is the temperature of the sample, held against the
            surface; ``plate``: the surface (IN_PV_2) is, and no probe is asked.
        :param highest_c: Highest set-point in °C, where it is not that of the model.
        :param largest_difference_k: Probe and surface may differ by this much, K; beyond it the probe is not believed.
        :param watchdog: Mode of the watchdog: 2 lowers the set-point and can be cancelled; 1 trips until a power cycle.
        :param fall_back_c: Set-point in °C that is left when watchdog 2 acts.
        :param pause_s: Shortest time from one command to the next, s.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")

        model: Model = "RCT digital"
        sensor: Literal["probe", "plate"] = "probe"
        highest_c: Annotated[float, Field(gt=0, le=500)] | None = None
        largest_difference_k: Annotated[float, Field(gt=0, le=300)] = 50.0
        watchdog: Literal[1, 2] = 2
        fall_back_c: Annotated[float, Field(ge=0, le=20)] = 0.0
        pause_s: Annotated[float, Field(ge=0, le=5)] = 0.5

    def __init__(self, adapter: WireAdapter, name: str = "IKA hot plate", *, clock: Clock, **options: object) -> None:
        super().__init__(adapter, name, includeSCPI=False)
        self.clock = clock
        self._chosen = self.Options.model_validate(options)
        self._line = NamurLine(adapter, clock, name, self._chosen.pause_s)
        self._target_c: float | None = None
        self._heats = False
        self._watchdog_s = WATCHDOG_S[0]

    def start_up(self) -> None:
        """Switch the heater off if it was left on; cancel a watchdog of mode 2 and write what it falls back to.

        In its operating mode B a plate heats again as soon as it has power.
        """
        self._heats, self._target_c = False, None
        if self.is_on:
            log.warning("%s was heating when it was opened (operating mode B, or left on): switched off", self.name)
            self.switch_off()
        if self._chosen.watchdog == 2:
            self._cancel_watchdog()
            self._write_fall_back()

    def identify(self) -> Identity:
        """Get vendor and the name that the plate gives itself; it tells no serial number.

        Raises InstrumentError if that is the name of another model than the one of the options.
        """
        name = self._line.text(NAME)
        family = self._chosen.model.split()[0]
        said = [known for known in _FAMILIES if known in name.upper()]
        if said and family not in said:
            raise self._line.error(
                f"the plate calls itself {name!r}, and not {self._chosen.model}",
                todo="correct `model` in the options of the heating stage, or its `resource`",
            )
        if not said:
            log.warning("%s calls itself %r; taken for a %s", self.name, name, self._chosen.model)
        return Identity("IKA", name)

    @property
    def temperature_c(self) -> float:
        """Measure the temperature at the sample in °C, by the sensor of the options.

        Raises InstrumentError if the probe cannot be believed, or if a plate that was switched on no longer heats to
        its set-point: it was switched off and on, its watchdog has acted, or somebody has set it by hand.
        """
        found_c = self._believable_c()
        self._require_that_it_heats()
        return found_c

    @property
    def plate_temperature_c(self) -> float:
        """Measure the temperature of the surface of the plate in °C."""
        return self._line.number("IN_PV_2")

    @property
    def safety_limit_c(self) -> float:
        """Measure the limit of the safety circuit in °C, as set at the plate itself."""
        return self._line.number("IN_SP_3")

    @property
    def setpoint_c(self) -> float:
        """Measure the set-point in °C, as the plate holds it."""
        return self._line.number("IN_SP_1")

    @property
    def range_c(self) -> tuple[float, float]:
        """Get the lowest and the highest set-point in °C; the safety limit of the plate may lower the highest."""
        return 0.0, self._chosen.highest_c or HIGHEST_C[self._chosen.model]

    @property
    def is_on(self) -> bool:
        """Measure whether the heater is switched on."""
        return self._line.is_running(_HEATER)

    @property
    def speed_rpm(self) -> float:
        """Measure the speed of the stirrer in rpm."""
        return self._line.number("IN_PV_4")

    def set_temperature(self, temperature_c: float) -> float:
        """Control the set-point in °C, in steps of 0.1; returns the one read back. Switches nothing on.

        Raises InputError beyond :attr:`range_c`, before anything is sent; InstrumentError if the plate holds another
        set-point than asked, for example because its safety limit is lower.
        """
        low_c, high_c = self.range_c
        if not low_c <= temperature_c <= high_c:
            raise InputError(
                f"a set-point of {temperature_c:g} degC is beyond the {self._chosen.model}",
                where=self.name,
                state="the set-point is as before",
                todo=f"choose {low_c:g} to {high_c:g} degC",
            )
        with self.adapter.exclusive():
            self._target_c = self._write_setpoint(round(temperature_c, 1))
            return self._target_c

    def switch_on(self) -> None:
        """Begin to heat to the set-point; verified by ``STATUS_1`` and ``IN_SP_1``.

        Raises InstrumentError if the probe cannot be believed (nothing is switched on then), if the heater does not
        start, or if the plate holds another set-point afterwards (it is switched off again).
        """
        with self.adapter.exclusive():
            self._believable_c()
            target_c = self.setpoint_c if self._target_c is None else self._target_c
            try:
                self._switch(_HEATER, True)
                # On some plates START_1 brings back the set-point of the front panel.
                self._target_c = self._write_setpoint(target_c)
            except InstrumentError as error:
                error.state = self._state_after_switching_off()
                raise
            self._heats = True

    def switch_off(self) -> None:
        """End heating; verified by ``STATUS_1``. The plate stays hot for a while."""
        with self.adapter.exclusive():
            self._heats = False
            self._switch(_HEATER, False)

    def set_speed(self, speed_rpm: float) -> float:
        """Control the speed of the stirrer in rpm, 0 (off) or 50 to 1500 (RET: 1700); returns the one read back."""
        highest_rpm = HIGHEST_RPM[self._chosen.model]
        if speed_rpm != 0 and not LOWEST_RPM <= speed_rpm <= highest_rpm:
            raise InputError(
                f"the stirrer cannot turn at {speed_rpm:g} rpm",
                where=self.name,
                todo=f"choose 0, or {LOWEST_RPM:g} to {highest_rpm:g} rpm",
            )
        with self.adapter.exclusive():
            wanted_rpm = round(speed_rpm)
            reached_rpm = self._set("OUT_SP_4", f"{wanted_rpm}", "IN_SP_4", lambda found: found == wanted_rpm)
            if reached_rpm != wanted_rpm:
                raise self._line.error(f"the stirrer is set to {reached_rpm:g} rpm instead of {wanted_rpm} rpm")
            self._switch(_MOTOR, wanted_rpm > 0)
            return reached_rpm

    def arm(self, timeout_s: float) -> float:
        """Have the heater go off after ``timeout_s`` without food, 20 to 1500 s; returns the time in s as echoed."""
        shortest_s, longest_s = WATCHDOG_S
        self._watchdog_s = min(max(math.ceil(timeout_s), shortest_s), longest_s)
        if self._chosen.watchdog == 2:
            self._write_fall_back()
        self._feed_watchdog()
        return float(self._watchdog_s)

    def feed(self) -> None:
        """Begin the time of the watchdog anew.

        A plate whose temperatures cannot be read or believed gets no food: its heater goes off then. Raises
        InstrumentError for that, if the plate does not take the food, and if it does not heat though it should.
        """
        if self._heats:
            self._believable_c()
        self._feed_watchdog()
        self._require_that_it_heats()

    def disarm(self) -> None:
        """Cancel the watchdog.

        Mode 1 has no command for that: it is given its longest time, and InstrumentError raised, which says so.
        """
        if self._chosen.watchdog == 2:
            self._cancel_watchdog()
            return
        self._watchdog_s = WATCHDOG_S[1]
        self._feed_watchdog()
        raise self._line.error(
            "watchdog 1 cannot be cancelled",
            state=f"the plate trips (Er 2) in {self._watchdog_s} s, unless a run feeds it before",
            todo="switch it off and on, or give the option watchdog = 2",
        )

    def readiness(self) -> Sequence[Readiness]:
        """Measure whether it could heat: probe and safety limit; switches nothing."""
        try:
            found_c = self._believable_c()
            probe = Readiness(self._chosen.sensor, True, f"{found_c:.1f} degC")
        except InstrumentError as error:
            probe = Readiness(self._chosen.sensor, False, f"{error.what}: {error.todo}")
        limit_c = self.safety_limit_c
        text = f"the plate allows set-points well below {limit_c:g} degC (its safety limit)"
        return probe, Readiness("safety limit", True, text)

    def make_safe(self) -> Sequence[SafeStep]:
        """Switch off the heater, lower its set-point, stop the stirrer, each verified by read-back.

        The plate stays hot: the evidence says how hot.
        """
        self._heats = False
        heater = self._safe_step("switch off the heater", self._heater_off, _UNPLUG, 2)
        tries = 2 if heater.confirmed else 1
        return (
            heater,
            self._safe_step("lower the set-point", self._setpoint_low, "the set-point may be high", tries),
            self._safe_step("stop the stirrer", self._motor_off, "the stirrer may turn", tries),
        )

    def close(self) -> None:
        """Release the connection; heater, stirrer and watchdog stay as they are."""
        self.adapter.close()

    def _safe_step(self, action: str, act: Callable[[], str], danger: str, tries: int) -> SafeStep:
        failed: list[str] = []
        for _ in range(tries):
            try:
                with self.adapter.seize(), self.adapter.patience(_SAFE_REPLY_S):
                    return SafeStep(action, True, "; ".join([*failed, act()]))
            except Exception as error:  # whatever happens here, the steps of the other instruments must still be taken
                failed.append(str(error))
                if isinstance(error, ConnectionLost):
                    failed += filter(None, [self.adapter.try_to_reconnect()])
        return SafeStep(action, False, f"{danger}: {'; '.join(failed)}")

    def _heater_off(self) -> str:
        self._line.tell("STOP_1")
        if self._line.is_running(_HEATER, tries=1):
            raise self._line.error("the heater is on after STOP_1")
        said = str(self.adapter.last)
        try:
            plate_c = self._line.number("IN_PV_2", tries=1)
        except InstrumentError as error:
            return f"{said}; HOW HOT THE PLATE IS COULD NOT BE READ ({error.what})"
        return f"{said}; {'THE PLATE IS STILL HOT' if plate_c > _WARM_C else 'the plate'}: {plate_c:.0f} degC"

    def _setpoint_low(self) -> str:
        self._line.tell("OUT_SP_1 0.0")
        self._target_c = None
        if not self._line.number("IN_SP_1", tries=1) <= _COLD_C:
            raise self._line.error("the set-point stays high")
        return str(self.adapter.last)

    def _motor_off(self) -> str:
        self._line.tell("STOP_4")
        if self._line.is_running(_MOTOR, tries=1):
            raise self._line.error("the motor is on after STOP_4")
        return str(self.adapter.last)

    def _believable_c(self) -> float:
        """Measure the temperature at the sample in °C; raises InstrumentError unless it can be believed."""
        plate_c = self._possible("IN_PV_2", "the surface of the plate", "have the plate repaired")
        if self._chosen.sensor == "plate":
            return plate_c
        look = "look at the probe, its plug and where it stands"
        probe_c = self._possible("IN_PV_1", "the probe", look)
        if abs(probe_c - plate_c) > self._chosen.largest_difference_k:
            raise self._line.error(
                f"the probe (IN_PV_1) reads {probe_c:g} degC, the surface of the plate (IN_PV_2) {plate_c:g} degC",
                self._state,
                f"{look}; let the plate cool; `largest_difference_k` in the options says how far they may differ",
            )
        return probe_c

    def _possible(self, command: str, sensor: str, todo: str) -> float:
        found_c = self._line.number(command)
        if not _POSSIBLE_C[0] <= found_c <= _POSSIBLE_C[1]:
            raise self._line.error(f"{sensor} ({command}) reads {found_c:g} degC, which cannot be", self._state, todo)
        return found_c

    @property
    def _state(self) -> str:
        return "the heater is on" if self._heats else "the heater was not switched on"

    def _require_that_it_heats(self) -> None:
        """Raise InstrumentError if the plate does not do what it was last told."""
        with self.adapter.exclusive():
            if not self._heats or self._target_c is None:
                return
            if not self.is_on:
                raise self._line.error(
                    "the heater is off, though it was switched on",
                    "the plate cools down",
                    f"see whether it lost its power; {_ER_2}",
                )
            if (found_c := self.setpoint_c) != self._target_c:
                raise self._line.error(
                    f"the plate holds {found_c:g} degC, though {self._target_c:g} degC were set",
                    f"it heats to {found_c:g} degC",
                    "its watchdog has acted, it lost its power, or somebody has set it by hand; start it up again",
                )

    def _write_setpoint(self, wanted_c: float) -> float:
        """Write the set-point and read it back, rounded to whole degrees where the plate does so."""

        def fits(found_c: float) -> bool:
            rounded = found_c == round(found_c) and abs(found_c - wanted_c) <= _ROUNDED_K
            return rounded or abs(found_c - wanted_c) < _STEP_K / 2

        found_c = self._set("OUT_SP_1", f"{wanted_c:.1f}", "IN_SP_1", fits)
        if fits(found_c):
            return found_c
        self._target_c = found_c
        state, todo = f"it holds {found_c:g} degC", "start it up again: its watchdog may have acted"
        if found_c < wanted_c:
            limit = f"its safety limit (IN_SP_3) stands at {self.safety_limit_c:g} degC"
            todo = f"{limit}: raise it at the plate, or ask for less; or {todo}"
        raise self._line.error(f"the plate did not take a set-point of {wanted_c:g} degC", state, todo)

    def _set(self, command: str, value: str, query: str, fits: Callable[[float], bool]) -> float:
        """Write a number and read it back; once more if it was not taken: a command may get lost without a word."""
        self._line.tell(f"{command} {value}")
        found = self._line.number(query)
        if not fits(found):
            self._line.tell(f"{command} {value}")
            found = self._line.number(query)
        return found

    def _switch(self, channel: int, on: bool) -> None:
        """Start or stop a function and verify it; once more if it was not done."""
        command = f"{'START' if on else 'STOP'}_{channel}"
        for _ in range(2):
            self._line.tell(command)
            if self._line.is_running(channel) == on:
                return
        what, is_ = "heater" if channel == _HEATER else "motor", "off" if on else "on"
        danger = _UNPLUG if channel == _HEATER and not on else f"it is {is_}"
        raise self._line.error(f"the {what} is still {is_} after {command}", danger, _ER_2 if on else "")

    def _state_after_switching_off(self) -> str:
        try:
            self.switch_off()
        except InstrumentError as error:
            return f"{_UNPLUG} ({error.what})"
        return "the heater is off"

    def _write_fall_back(self) -> None:
        self._echo("OUT_SP_12", self._chosen.fall_back_c, "see `fall_back_c` in the options")
        self._echo("OUT_SP_42", 0, "its stirrer would go on after the watchdog has acted")

    def _feed_watchdog(self) -> None:
        self._echo(f"OUT_WD{self._chosen.watchdog}", self._watchdog_s, "the heater would stay on if the run hangs")

    def _cancel_watchdog(self) -> None:
        self._echo("OUT_WD2", 0, "the plate will lower its set-point by itself")

    def _echo(self, command: str, value: float, danger: str) -> None:
        """Send a watchdog command and compare its echo; once more if it differs."""
        for _ in range(2):
            if (echoed := self._line.echoed(command, value)) == value:
                return
        raise self._line.error(f"the plate answered {command}@{value:g} by {echoed:g}: {danger}")
