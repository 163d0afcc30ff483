"""Lake Shore temperature controllers 335 (USB: serial, 57600 baud 7O1) and 336 (TCP port 7777, or USB likewise).

One sensor input and one heater output form the loop. Outside temperatures are in °C; on the wire the set-point is in
the unit that the control input prefers (kelvin or °C), which is asked for together with every set-point, as anybody can
change it at the front panel. Every message ends with ``*ESR?``, so that a command that was not understood or not
carried out, and a controller that was switched off and on, are noticed at once. Temperatures are read in kelvin and in
°C, and must agree.

pymeasure's ``LakeShore3xx`` is not built upon: its setters read nothing back and look at no status, it knows neither
the unit of the set-point nor TLIMIT, OUTMODE, RAMP and HTRST, and it does not keep the 50 ms between two messages.

The controller has no watchdog: one whose computer has died holds its set-point. What guards the sample then is the
temperature limit of the input (TLIMIT), at which the controller itself shuts all heaters off: none is started without.

UNVERIFIED: the number of digits of replies; whether ``SETP?`` tells the moving set-point during a ramp (either will
do); that reading ``HTRST?`` clears it; what firmware says of a set-point beyond its limits; how long a line may be (the
longest here has 90 characters). Bit 7 of ``*ESR?`` (switched on) is that of IEEE 488.2.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from pymeasure.instruments import Instrument

from drivers.heating.lakeshore_line import IDENTITY, LakeShoreLine
from labctl.clock import Clock
from labctl.errors import ConnectionLost, InputError, InstrumentError
from labctl.roles import Identity, Readiness, Reading, SafeStep
from labctl.transport.adapter import WireAdapter
from labctl.transport.settings import WireSettings

log = logging.getLogger(__name__)

ZERO_C_K = 273.15
RANGES = {"low": 1, "medium": 2, "high": 3}
READING_FAULTS = {
    1: "invalid reading",
    16: "temperature under range",
    32: "temperature over range",
    64: "sensor units zero",
    128: "sensor units over range",
}
HEATER_FAULTS = {0: "", 1: "open heater load", 2: "shorted heater"}
_CLOSED_LOOP = 1
_REMOTE = 1
_SENSOR_OFF = 0
_KELVIN, _CELSIUS = 1, 2
_READINGS_AGREE_K = 0.1
_SETPOINTS_AGREE_K = 0.1
_SET_EXACTLY_K = 0.01
_RAMP_RESEAT_K = 3.0
"""A ramp begins at the set-point; one that is further from the temperature than this is brought there first."""
_TLIMIT_MARGIN_K = 5.0
"""Highest set-point below TLIMIT: overshoot must not trip it."""
_SAFE_REPLY_S = 0.25
_SAFE_TRIES = 2
_BY_HAND = "press ALL OFF on the front panel, or switch the controller off"


@dataclass(frozen=True, slots=True)
class Loop:
    """How the controller is set for the loop, as it says.

    :param mode: 0 local, 1 remote, 2 remote with the keys locked.
    :param output_mode: Mode of the output, 1 for closed loop. :param source: Number of its control input, 1 for A.
    :param powers_up: Whether the output comes on with the controller.
    :param tlimit_k: Temperature limit of the input, K; 0 for none.
    :param by_hand_percent: Manual output, which is added to the loop's, percent.
    :param ramps: Whether the set-point is ramped. :param ramp_k_min: At which rate.
    :param heater_range: 0 for off. :param sensor: Type of the sensor, 0 for off.
    :param unit: Unit that the input prefers: 1 K, 2 °C, 3 sensor units.
    """

    mode: int
    output_mode: int
    source: int
    powers_up: bool
    tlimit_k: float
    by_hand_percent: float
    ramps: bool
    ramp_k_min: float
    heater_range: int
    sensor: int
    unit: int


class LakeShoreOptions(BaseModel):
    """What the tables ``[instruments.heating_stage.options]`` of both models share.

    :param heater_range: Range in which the heater is switched on.
    :param ramp_k_min: Rate at which the set-point is ramped, 0.1 to 100 K/min; none for steps.
    :param tlimit_k: Temperature at which the controller shuts its heaters off, K; none keeps the controller's own limit
        (the driver does not start without any). The highest set-point is 5 K below.
    :param lowest_k: Lowest set-point, K.
    :param spacing_s: Time left after each message, s.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Literal["A", "B", "C", "D"] = "A"
    output: Literal[1, 2] = 1
    heater_range: Literal["low", "medium", "high"] = "medium"
    ramp_k_min: float | None = Field(default=None, ge=0.1, le=100)
    tlimit_k: float | None = Field(default=None, gt=0, le=1500)
    lowest_k: float = Field(default=1.4, ge=0, le=1500)
    spacing_s: float = Field(default=0.05, ge=0, le=10)


class LakeShoreController(Instrument):
    """One loop of a Lake Shore controller: what the models share.

    :param adapter: The wire.
    :param name: Name for messages.
    :param clock: The clock on which it waits.
    :param options: See :class:`LakeShoreOptions`.
    """

    LINK = WireSettings(
        write_termination=b"\n",
        read_termination=b"\r\n",
        timeout_s=1.0,
        baud_rate=57600,
        data_bits=7,
        parity="O",
        encoding="ascii",
    )
    ROLE = "heating_stage"
    MODEL: ClassVar[str]
    READINGS: ClassVar = {
        "temperature": Reading("temperature_c", "degC", overshoot=2.0),
        "setpoint": Reading("setpoint_c", "degC"),
        "heater": Reading("is_on", words=("off", "on")),
        "heater_output": Reading("heater_percent", "percent"),
    }
    Options: ClassVar[type[LakeShoreOptions]] = LakeShoreOptions

    adapter: WireAdapter

    def __init__(self, adapter: WireAdapter, name: str = "", *, clock: Clock, **options: object) -> None:
        super().__init__(adapter, name or f"Lake Shore {self.MODEL}", includeSCPI=False)
        self.clock = clock
        chosen = self._chosen = self.Options.model_validate(options)
        self._input, self._output = chosen.input, chosen.output
        self._line = LakeShoreLine(adapter, self.name, clock, chosen.spacing_s)
        self._tlimit_k: float | None = None
        self._target_c: float | None = None
        self._controls = False

    def start_up(self) -> None:
        """Check the model, and set the loop up: remote, closed loop, temperature limit, no manual output.

        A heater that somebody left on stays on if it belongs to this loop in closed loop; in any other mode it is
        switched off. Raises InstrumentError for another model, an input that is off or shows sensor units, or without a
        temperature limit.
        """
        with self.adapter.exclusive():
            self._controls = False
            self._line.begin()
            self.identify()
            loop = self._set_up()
            if loop.heater_range:
                log.warning("%s was left heating, range %d; it still does", self.name, loop.heater_range)
            self._controls = loop.heater_range > 0

    def identify(self) -> Identity:
        """Get vendor, model, serial number and firmware; raises InstrumentError if it is another model."""
        with self.adapter.exclusive():
            (answer,) = self._line.query("*IDN?")
        found = IDENTITY.fullmatch(answer)
        if not found or found[1] != self.MODEL:
            raise self._line.error(
                f"{answer!r} is not the identity of a Lake Shore {self.MODEL}",
                todo="check `resource` and `driver` of the heating stage in the bench file",
            )
        return Identity("Lake Shore", found[1], found[2], found[3])

    def readiness(self) -> Sequence[Readiness]:
        """Measure whether sensor and heater are without fault; sets nothing."""
        reading, heater = self._line.query(f"RDGST? {self._input}", f"HTRST? {self._output}")
        sensor_fault, heater_fault = _reading_fault(self._line.whole(reading)), self._heater_fault(heater)
        return (
            Readiness("sensor", not sensor_fault, f"input {self._input}: {sensor_fault or 'no fault'}"),
            Readiness("heater", not heater_fault, f"output {self._output}: {heater_fault or 'no fault'}"),
        )

    @property
    def temperature_c(self) -> float:
        """Measure the temperature in °C.

        Raises InstrumentError when the sensor cannot be read, when kelvin and °C disagree, or when the heater has gone
        off by itself since it was switched on.
        """
        with self.adapter.exclusive():
            kelvin, celsius, status, heater_range = self._line.query(
                f"KRDG? {self._input}", f"CRDG? {self._input}", f"RDGST? {self._input}", f"RANGE? {self._output}"
            )
            if fault := _reading_fault(self._line.whole(status)):
                raise self._line.error(
                    f"the temperature cannot be read: input {self._input}: {fault}",
                    todo="look at the sensor, its cable and its curve",
                )
            temperature_c, check_c = self._line.number(kelvin) - ZERO_C_K, self._line.number(celsius)
            if abs(temperature_c - check_c) > _READINGS_AGREE_K:
                raise self._line.error(f"the readings {kelvin} K and {celsius} degC are not the same temperature")
            if self._controls and self._line.whole(heater_range) == 0:
                raise self._gone_off(temperature_c)
            return round(temperature_c, 4)

    @property
    def setpoint_c(self) -> float:
        """Measure the set-point in °C as the controller holds it; during a ramp it may be the one that moves."""
        # Asked for twice, as a digit that is changed or lost on the way would show in nothing else.
        asked = f"SETP? {self._output}"
        unit, setpoint, again = self._line.query(f"INTYPE? {self._input}", asked, asked)
        if abs(self._line.number(setpoint) - self._line.number(again)) > _SETPOINTS_AGREE_K:
            raise self._line.error(f"the set-point is {setpoint} and {again} at once")
        return self._in_celsius(self._line.number(setpoint), self._unit(unit))

    @property
    def range_c(self) -> tuple[float, float]:
        """Get the lowest and the highest set-point in °C; the highest is 5 K below the temperature limit."""
        if self._tlimit_k is None:
            (answer,) = self._line.query(f"TLIMIT? {self._input}")
            self._tlimit_k = self._line.number(answer)
        return self._chosen.lowest_k - ZERO_C_K, self._tlimit_k - _TLIMIT_MARGIN_K - ZERO_C_K

    @property
    def is_on(self) -> bool:
        """Measure whether the heater is on in any range."""
        (answer,) = self._line.query(f"RANGE? {self._output}")
        return self._line.whole(answer) > 0

    @property
    def is_ramping(self) -> bool:
        """Measure whether the set-point is still on its way."""
        (answer,) = self._line.query(f"RAMPST? {self._output}")
        return self._line.whole(answer) == 1

    @property
    def heater_percent(self) -> float:
        """Measure the output of the heater in percent of its range."""
        (answer,) = self._line.query(f"HTR? {self._output}")
        percent = self._line.number(answer)
        if not 0 <= percent <= 100:
            raise self._line.error(f"{answer!r} is no heater output; 0 to 100 percent was expected")
        return percent

    def set_temperature(self, temperature_c: float) -> float:
        """Control the set-point in °C; returns the one read back.

        With the heater on and a ramp chosen, the set-point moves: then the one asked for is returned, once the
        controller says that it ramps. Raises InputError beyond :attr:`range_c`, InstrumentError if it was clamped.
        """
        low_c, high_c = self.range_c
        if not low_c <= temperature_c <= high_c:
            raise InputError(
                f"{temperature_c:g} degC lies beyond the range of {low_c:g} to {high_c:g} degC",
                where=self.name,
                todo="choose another temperature; the options lowest_k and tlimit_k set the range",
            )
        with self.adapter.exclusive():
            if self._chosen.ramp_k_min is not None and self.is_on:
                self._reseat_ramp()
            reached_c = self._set_point(temperature_c)
            self._target_c = temperature_c
            return reached_c

    def switch_on(self) -> None:
        """Switch the heater on in the range chosen; verified by read-back of range and heater status.

        With a ramp chosen the set-point begins at the present temperature. Raises InstrumentError if the heater stays
        off (open or short load, temperature limit); it is switched off again then.
        """
        with self.adapter.exclusive():
            self._set_up()
            target_c = self.setpoint_c if self._target_c is None else self._target_c
            wanted = RANGES[self._chosen.heater_range]
            try:
                if self._chosen.ramp_k_min is not None:
                    self._reseat_ramp()
                answer, heater = self._line.query(
                    f"RANGE {self._output},{wanted}", f"RANGE? {self._output}", f"HTRST? {self._output}"
                )
                if fault := self._heater_fault(heater):
                    raise self._line.error(
                        f"the heater cannot be switched on: {fault}", todo="look at heater and cable"
                    )
                if self._line.whole(answer) != wanted:
                    raise self._line.error(
                        f"the heater is in range {answer} instead of {wanted}",
                        todo="a sensor above its temperature limit or an open heater keep it off; look at the display",
                    )
                self._set_point(target_c)
            except ConnectionLost:
                raise
            except InstrumentError as error:
                error.state = self._state_after_switching_off()
                raise
            self._controls = True

    def switch_off(self) -> None:
        """Switch the heater off; verified by read-back, with one more try."""
        with self.adapter.exclusive():
            self._controls = False
            try:
                self._heater_off()
            except ConnectionLost:
                raise
            except InstrumentError as error:
                log.warning("%s: switching off again after: %s", self.name, error)
                self._heater_off()

    def make_safe(self) -> Sequence[SafeStep]:
        """Switch the heater off and verify by ``RANGE?`` and ``MOUT?``; the second try is over a new connection."""
        action = f"switch heater {self._output} off"
        evidence: list[str] = []
        for _ in range(_SAFE_TRIES):
            try:
                with self.adapter.seize(), self.adapter.patience(_SAFE_REPLY_S):
                    self._controls = False
                    self._line.recent.clear()
                    self._heater_off()
                    evidence.extend(map(str, self._line.recent))
                    return [SafeStep(action, True, "; ".join(evidence))]
            except Exception as error:  # whatever happens here, the steps of the other instruments must still be taken
                evidence.extend(map(str, self._line.recent))
                evidence.append(str(error))
                evidence += filter(None, [self.adapter.try_to_reconnect()])
                self._line.in_step = False
        return [SafeStep(action, False, f"THE HEATER MAY BE ON, {_BY_HAND}: {'; '.join(evidence)}")]

    def close(self) -> None:
        """Release the connection; the controller goes on with what it does."""
        self.adapter.close()

    def _set_up(self) -> Loop:
        """Bring the loop to what the options say; change only what differs, and read it all back."""
        loop = self._read_loop()
        self._require_usable(loop)
        changes = self._changes(loop)
        if changes:
            log.info("%s: %s", self.name, "; ".join(changes))
            self._line.query(*changes)
            loop = self._read_loop()
            if left := self._changes(loop):
                raise self._line.error(f"the controller did not take {'; '.join(left)}: it says {loop}")
        self._tlimit_k = loop.tlimit_k
        return loop

    def _require_usable(self, loop: Loop) -> None:
        if loop.sensor == _SENSOR_OFF:
            raise self._line.error(
                f"input {self._input} is switched off", todo="set it up for its sensor, or choose another `input`"
            )
        if loop.unit not in (_KELVIN, _CELSIUS):
            raise self._line.error(
                f"input {self._input} prefers sensor units, in which no temperature can be set",
                todo=f"set the preferred units of input {self._input} to kelvin at the front panel",
            )
        if self._chosen.tlimit_k is None and loop.tlimit_k == 0:
            raise self._line.error(
                f"input {self._input} has no temperature limit: nothing would shut the heater off",
                todo="write tlimit_k into the options of the heating stage",
            )

    def _changes(self, loop: Loop) -> list[str]:
        """Get the commands that bring the loop to what the options say."""
        output, source = self._output, "ABCD".index(self._input) + 1
        commands = []
        if loop.mode < _REMOTE:
            commands.append(f"MODE {_REMOTE}")
        is_ours = (loop.output_mode, loop.source, loop.powers_up) == (_CLOSED_LOOP, source, False)
        if not is_ours:
            # A heater that is on would at once follow another sensor.
            commands += [f"RANGE {output},0", f"OUTMODE {output},{_CLOSED_LOOP},{source},0"]
        tlimit_k = self._chosen.tlimit_k
        if tlimit_k is not None and abs(loop.tlimit_k - tlimit_k) > _SET_EXACTLY_K:
            commands.append(f"TLIMIT {self._input},{tlimit_k:.3f}")
        if loop.by_hand_percent:
            commands.append(f"MOUT {output},0")
        # A heater that is off has its set-point at rest, so that it can be read back.
        ramps = self._chosen.ramp_k_min is not None and loop.heater_range > 0 and is_ours
        if loop.ramps != ramps:
            commands.append(self._ramp(ramps))
        return commands

    def _read_loop(self) -> Loop:
        mode, outmode, tlimit, by_hand, ramp, heater_range, intype = self._line.query(
            "MODE?",
            f"OUTMODE? {self._output}",
            f"TLIMIT? {self._input}",
            f"MOUT? {self._output}",
            f"RAMP? {self._output}",
            f"RANGE? {self._output}",
            f"INTYPE? {self._input}",
        )
        output_mode, source, powers_up = self._line.fields(outmode, 3)
        ramps, ramp_k_min = self._line.fields(ramp, 2)
        return Loop(
            mode=self._line.whole(mode),
            output_mode=self._line.whole(output_mode),
            source=self._line.whole(source),
            powers_up=self._line.whole(powers_up) > 0,
            tlimit_k=self._line.number(tlimit),
            by_hand_percent=self._line.number(by_hand),
            ramps=self._line.whole(ramps) > 0,
            ramp_k_min=self._line.number(ramp_k_min),
            heater_range=self._line.whole(heater_range),
            sensor=self._line.whole(self._line.fields(intype, 5)[0]),
            unit=self._line.whole(self._line.fields(intype, 5)[4]),
        )

    def _ramp(self, on: bool) -> str:
        return f"RAMP {self._output},{int(on)},{self._chosen.ramp_k_min or 1.0:.1f}"

    def _reseat_ramp(self) -> None:
        """Have the next ramp begin at the present temperature, unless the set-point is near it already."""
        kelvin, intype, setpoint, ramp = self._line.query(
            f"KRDG? {self._input}", f"INTYPE? {self._input}", f"SETP? {self._output}", f"RAMP? {self._output}"
        )
        temperature_c = self._line.number(kelvin) - ZERO_C_K
        away_k = abs(self._in_celsius(self._line.number(setpoint), self._unit(intype)) - temperature_c)
        ramps, ramp_k_min = self._line.fields(ramp, 2)
        as_chosen = self._line.whole(ramps) > 0 and self._line.number(ramp_k_min) == round(
            self._chosen.ramp_k_min or 0.0, 1
        )
        if away_k <= _RAMP_RESEAT_K and as_chosen:
            return
        self._line.query(self._ramp(False))
        if away_k > _RAMP_RESEAT_K:
            self._set_point(temperature_c)
        (ramp,) = self._line.query(self._ramp(True), f"RAMP? {self._output}")
        ramps, ramp_k_min = self._line.fields(ramp, 2)
        if self._line.whole(ramps) != 1 or self._line.number(ramp_k_min) != round(self._chosen.ramp_k_min or 0.0, 1):
            raise self._line.error(f"the controller ramps by {ramp!r} instead of {self._ramp(True)!r}")

    def _set_point(self, temperature_c: float) -> float:
        """Set the set-point in the unit of the control input and read both back."""
        (before,) = self._line.query(f"INTYPE? {self._input}")
        unit = self._unit(before)
        value = temperature_c + (ZERO_C_K if unit == _KELVIN else 0.0)
        after, setpoint, ramping = self._line.query(
            f"SETP {self._output},{value:.3f}",
            f"INTYPE? {self._input}",
            f"SETP? {self._output}",
            f"RAMPST? {self._output}",
        )
        if self._unit(after) != unit:
            raise self._line.error(
                f"the unit of input {self._input} was changed while its set-point was set",
                "the set-point may be another temperature than asked for",
                "keep hands off the front panel during a run",
            )
        if self._line.whole(ramping) == 1:
            return temperature_c
        if abs(self._line.number(setpoint) - value) > _SET_EXACTLY_K:
            raise self._line.error(
                f"the set-point is {setpoint} instead of {value:.3f}", todo="look at the setpoint limits"
            )
        return self._in_celsius(self._line.number(setpoint), unit)

    def _heater_off(self) -> None:
        """Switch off and verify; what the event register says does not matter here."""
        output = self._output
        answers = self._line.exchange(f"RANGE {output},0", f"MOUT {output},0", f"RANGE? {output}", f"MOUT? {output}")
        if self._line.whole(answers[0]) != 0 or self._line.number(answers[1]) != 0:
            raise self._line.error("the heater did not go off", "THE HEATER MAY BE ON", _BY_HAND)

    def _state_after_switching_off(self) -> str:
        try:
            self.switch_off()
        except InstrumentError as error:
            return f"THE HEATER MAY BE ON: it could not be switched off again ({error.what})"
        return "the heater is off again"

    def _gone_off(self, temperature_c: float) -> InstrumentError:
        (heater,) = self._line.query(f"HTRST? {self._output}")
        why = self._heater_fault(heater) or (
            "the controller was switched off and on, a temperature limit was passed, or somebody switched it off"
        )
        return self._line.error(
            f"heater {self._output} has gone off by itself: {why}",
            f"the heater is off at {temperature_c:.2f} degC",
            "look at the display of the controller; switch the heater on again, or resume the run",
        )

    def _heater_fault(self, answer: str) -> str:
        code = self._line.whole(answer)
        if code not in HEATER_FAULTS:
            raise self._line.error(f"{answer!r} is no heater status; 0, 1 or 2 was expected")
        return HEATER_FAULTS[code]

    def _unit(self, intype: str) -> int:
        unit = self._line.whole(self._line.fields(intype, 5)[4])
        if unit not in (_KELVIN, _CELSIUS):
            raise self._line.error(
                f"the set-point is not in kelvin or degC: INTYPE {intype!r}", todo="set its units to kelvin"
            )
        return unit

    @staticmethod
    def _in_celsius(value: float, unit: int) -> float:
        return round(value - ZERO_C_K, 4) if unit == _KELVIN else value


class LakeShore335(LakeShoreController):
    """Lake Shore 335: inputs A and B, heater outputs 1 and 2."""

    MODEL = "335"

    class Options(LakeShoreOptions):
        """As :class:`LakeShoreOptions`, with the inputs of the 335."""

        input: Literal["A", "B"] = "A"  # pyright: ignore[reportIncompatibleVariableOverride]


class LakeShore336(LakeShoreController):
    """Lake Shore 336: inputs A to D, heater outputs 1 and 2."""

    MODEL = "336"


def _reading_fault(bits: int) -> str:
    """Get in words why a reading is not valid; empty if it is."""
    known = ", ".join(text for bit, text in READING_FAULTS.items() if bits & bit)
    return known or (f"status {bits}" if bits else "")
