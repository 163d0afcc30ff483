"""The pump beam: laser, attenuator, shutter and energy meter as one thing that sets a fluence and reads it back.

Order in the beam: laser, wave plate and polariser, shutter, pick-off with the energy meter, sample. With the shutter
closed neither the sample nor the meter gets light, so the meter is zeroed with the shutter closed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from labctl.bench.attenuation import PERIOD_DEG, MalusLaw
from labctl.bench.light import ComingLight, LightOnSample, Opening, pulses_in
from labctl.bench.limits import PumpLimits
from labctl.clock import Clock
from labctl.errors import ConnectionLost, InputError, InstrumentError, NoPulse
from labctl.quantities import EnergyReading, Fluence, SpotGeometry
from labctl.roles import Attenuator, EnergyMeter, ReadingPace, Shutter

log = logging.getLogger(__name__)

_BACKLASH_APPROACH_DEG = 1.0
_RANGE_HEADROOM = 1.6
_ANGLE_TOLERANCE_STEPS = 8
_RANGE_STEP = 9.99
"""Ranges of a meter are no further apart than a decade."""
_RANGE_SEARCH_FACTOR = 10.0
_RANGE_SEARCH_STEPS = 5
_SEARCH_PULSES = 10
_FAR_OFF = 2.0
"""Factor between the fluence set and the fluence reached from which on the calibration is taken to be wrong."""
_OFF = 0.2
_BRIGHTER = 1.05
"""A fluence beyond so many times the announced one is announced anew: less is the scatter of the laser."""
_CALIBRATE_ANEW = "calibrate the attenuator anew; check what changed in the laser"


def reading_bound_s(pulses: int, repetition_rate_hz: float, pace: ReadingPace | None = None) -> float:
    """Get an upper bound of the time in s that an energy meter takes to read ``pulses`` pulses.

    A meter may be busy with a pulse for milliseconds and miss those that come meanwhile; then it waits for the next.
    """
    pace = pace or ReadingPace()
    return pace.overhead_s + pulses * (pace.pulse_s + 1 / repetition_rate_hz)


@dataclass(frozen=True, slots=True)
class PickOff:
    """Ratio of pulse energies, sample plane over meter, with its standard error."""

    ratio: float
    error: float


class PumpBeam:
    """Sets a fluence, reads the fluence that was reached, and keeps the light off otherwise.

    It counts the dose of the sample spot, whoever asks for light, and holds its limit.

    :param attenuator: Wave plate before a polariser.
    :param shutter: Beam shutter behind it.
    :param meter: Energy meter at the pick-off.
    :param malus: Calibration of the attenuator in energy at the meter; None before it is calibrated: then energies can
        be read and angles set, but no fluence.
    :param pick_off: Energy at the sample over energy at the meter.
    :param geometry: Spot on the sample and fluence convention.
    :param wavelength_nm: Wavelength of the laser.
    :param repetition_rate_hz: Repetition rate of the laser.
    :param limits: Limits of the bench.
    :param clock: Clock of the run.
    :param spot_dose_j_cm2: Dose in J/cm² that the spot has received in earlier runs.
    :param on_light: Told of each opening on the sample before its light comes, and again if it is stronger than was
        told; what it raises keeps the shutter closed.
    """

    def __init__(
        self,
        attenuator: Attenuator,
        shutter: Shutter,
        meter: EnergyMeter,
        *,
        malus: MalusLaw | None,
        pick_off: PickOff,
        geometry: SpotGeometry,
        wavelength_nm: float,
        repetition_rate_hz: float,
        limits: PumpLimits,
        clock: Clock,
        spot_dose_j_cm2: float = 0.0,
        on_light: Callable[[ComingLight], None] | None = None,
    ) -> None:
        self.attenuator = attenuator
        self.shutter = shutter
        self.meter = meter
        self._malus = malus
        self.pick_off = pick_off
        self.geometry = geometry
        self.wavelength_nm = wavelength_nm
        self.repetition_rate_hz = repetition_rate_hz
        self.limits = limits
        self.clock = clock
        self._range_j = math.nan
        self.warnings: list[str] = []
        """What the experimenter should know of the light; each once."""
        self._arrived: tuple[float, float] | None = None
        self._expected_uj_cm2: float | None = None
        self._reached_uj_cm2: float | None = None
        self._opening: Opening | None = None
        self._announced: ComingLight | None = None
        self._on_light = on_light
        self._light: list[LightOnSample] = []
        self._open_s = 0.0
        self._pulses = 0
        self._earlier_j_cm2 = spot_dose_j_cm2
        self._dose_j_cm2 = 0.0
        self._last_energy_j: float | None = None

    def replace(self, old: object, new: Any) -> None:
        """Use another object for an instrument that was connected anew."""
        for name in ("attenuator", "shutter", "meter"):
            if getattr(self, name) is old:
                setattr(self, name, new)

    @property
    def malus(self) -> MalusLaw:
        """Get the calibration of the attenuator; raises InputError if it has none."""
        if self._malus is None:
            raise InputError(
                "the attenuator is not calibrated: no angle is known for a fluence",
                where="pump beam; calibrations.attenuator of the bench file",
                todo="run attenuator-calibration and name the file it writes",
            )
        return self._malus

    @property
    def fluence_range_uj_cm2(self) -> tuple[float, float]:
        """Get the lowest and highest fluence in µJ/cm² that calibration and limits allow."""
        scale = self._uj_cm2_per_meter_j
        highest = self.limits.highest_fluence_uj_cm2(self.geometry)
        return self.malus.minimum_j * scale, min(self.malus.maximum_j * scale, highest)

    def prepare(self) -> float:
        """Close the shutter, tell the meter the wavelength, zero it in the dark; returns the offset removed, in J.

        The range is the one for the full energy, or the largest where that is not known.
        """
        self._shut()
        self.meter.wavelength_nm = self.wavelength_nm
        # The meter may have been switched off since.
        self._range_j = math.nan
        if self._malus is None:
            self._choose_range(self.meter.largest_range_j)
        else:
            self._set_range(self._malus.maximum_j)
        offset_j = self.meter.zero()
        log.info("energy meter zeroed, offset %.3g J", offset_j)
        return offset_j

    def set_fluence(self, fluence_uj_cm2: float) -> float:
        """Turn the attenuator, shutter closed, to where the calibration expects ``fluence_uj_cm2``.

        Returns the angle read back, in degrees. Raises LimitError or InputError before anything moves.
        """
        energy_sample_j = self.geometry.pulse_energy_j(fluence_uj_cm2)
        self.limits.check_set_value(fluence_uj_cm2, energy_sample_j)
        energy_meter_j = energy_sample_j / self.pick_off.ratio
        angle_deg = _above_the_approach(self.malus.angle_deg(energy_meter_j))
        self._shut()
        self._set_range(energy_meter_j)
        return self.turn_to(angle_deg)

    def turn_to(self, angle_deg: float) -> float:
        """Turn the attenuator to an angle, always arriving from below, so that backlash is the same each time.

        The shutter must be closed: on its way the plate may pass the angle of full energy. Raises InputError for an
        angle within 1 deg above zero, which no mount that counts from 0 to 360 deg can reach from below: from 359.5 deg
        it comes down all the way round.
        """
        target = angle_deg % 360.0
        if not target >= _BACKLASH_APPROACH_DEG:
            raise InputError(
                f"the attenuator cannot come to {angle_deg:g} deg from below",
                where="pump beam",
                todo=f"the same transmission lies {PERIOD_DEG:g} deg further on",
            )
        if self.shutter.is_open:
            raise InstrumentError(
                "refused to turn the attenuator with the shutter open",
                role="shutter",
                state="the attenuator was not moved",
                todo="close the shutter first",
            )
        self._expected_uj_cm2 = self._reached_uj_cm2 = None
        now_deg = self.attenuator.angle_deg
        if self._arrived != (target, now_deg):
            self._arrived = None
            if target - now_deg < _BACKLASH_APPROACH_DEG:
                self.attenuator.move_to(target - _BACKLASH_APPROACH_DEG)
            now_deg = self.attenuator.move_to(target)
        reached = now_deg
        error = (reached - target + 180.0) % 360.0 - 180.0
        if abs(error) > _ANGLE_TOLERANCE_STEPS * self.attenuator.resolution_deg:
            raise InstrumentError(
                f"the attenuator stopped at {reached:.4f} deg instead of {target:.4f} deg",
                role="attenuator",
                state="shutter closed",
                todo="home the mount; look for a blocked plate",
            )
        # A plate that stands where it arrived from below is left alone: points of one fluence follow one another.
        self._arrived = target, reached
        if self._malus is not None:
            self._expected_uj_cm2 = self._malus.energy_j(target) * self._uj_cm2_per_meter_j
        return reached

    @contextmanager
    def light(self, *, on_sample: bool = True) -> Iterator[Opening]:
        """Open the shutter for the duration of the block and close it again, whatever happens in it.

        The light counts for the dose of the spot, also when the block fails. Raises LimitExceeded before it opens when
        the spot has had its dose, InstrumentError at the end when the shutter did not stay open.

        :param on_sample: False when the sample is out of the beam, or the beam blocked: it then gives no dose.
        """
        self.account_light_left_on()
        if on_sample:
            self.require_dose()
            self._announce(self.clock.wall())
        self._opening = opening = Opening(on_sample, self.clock.now())
        try:
            self.shutter.open()
            yield opening
            self._require_open()
        finally:
            try:
                self._shut()
            except BaseException:
                # A shutter that does not close does not make the dose unknown: this much it was at least.
                self._account(opening)
                raise

    def _require_open(self) -> None:
        """Raise InstrumentError if the shutter closed while it was to be open: what was measured then lacks light."""
        if not self.shutter.is_open:
            raise InstrumentError(
                "the shutter closed by itself during the measurement",
                role="shutter",
                state="what was measured with this opening was not stored",
                todo="look at its interlock and its supply, then go on",
            )

    @property
    def dose_j_cm2(self) -> float:
        """Get the dose in J/cm² that the spot has received in this run, with the light that is on."""
        opening = self._opening
        if opening is None or not opening.on_sample:
            return self._dose_j_cm2
        return self._dose_j_cm2 + self._light_since(opening.since_s).dose_j_cm2

    @property
    def spot_dose_j_cm2(self) -> float:
        """Get the dose in J/cm² that the spot has received, in earlier runs and in this one."""
        return self._earlier_j_cm2 + self.dose_j_cm2

    @property
    def last_pulse_energy_j(self) -> float | None:
        """Get the last pulse energy that was read, at the sample, in J; None before the first reading."""
        return self._last_energy_j

    @property
    def last_fluence_uj_cm2(self) -> float | None:
        """Get the last fluence that was read in µJ/cm²; None before the first reading."""
        return None if self._last_energy_j is None else self.geometry.fluence(self._last_energy_j).uj_cm2

    @property
    def last_average_power_w(self) -> float | None:
        """Get the last pulse energy at the sample times the repetition rate in W; None before the first reading."""
        return None if self._last_energy_j is None else self._last_energy_j * self.repetition_rate_hz

    def take_light(self) -> list[LightOnSample]:
        """Get and forget the light on the sample since the last call, for the ledger."""
        taken, self._light = self._light, []
        return taken

    def account_light_left_on(self) -> None:
        """Count the light after a shutter did not close; to be called when it is known to be closed, or given up."""
        if self._opening is not None:
            self._account(self._opening)
            self._opening = None

    def _shut(self) -> None:
        self.shutter.shut()
        self.account_light_left_on()

    def _account(self, opening: Opening) -> None:
        """Count the light of an opening since it was last counted."""
        elapsed_s = self.clock.now() - opening.since_s
        if elapsed_s > 0 and opening.on_sample:
            light = self._light_since(opening.since_s)
            self._light.append(light)
            self._open_s += light.open_s
            self._pulses += light.pulses
            self._dose_j_cm2 += light.dose_j_cm2
        opening.open_s += elapsed_s
        opening.since_s += elapsed_s

    def _light_since(self, started_s: float) -> LightOnSample:
        open_s = self.clock.now() - started_s
        pulses = pulses_in(open_s, self.repetition_rate_hz)
        return LightOnSample(open_s, pulses, self._known_fluence_uj_cm2(), self.clock.wall())

    def _known_fluence_uj_cm2(self) -> float:
        """Get the fluence as it was measured at this angle, else as it was set, else the highest of all angles."""
        for known in (self._reached_uj_cm2, self._expected_uj_cm2):
            if known is not None:
                return known
        return self.malus.maximum_j * self._uj_cm2_per_meter_j

    def require_dose(self, duration_s: float = 0.0) -> None:
        """Refuse light on the sample for which the spot has no dose left; raises LimitExceeded.

        With the shutter open it asks for the light that is on, too; one that lets no light to the sample needs no dose.

        :param duration_s: Time in s for which light is still to come.
        """
        if self._opening is not None and not self._opening.on_sample:
            return
        coming_j_cm2 = pulses_in(duration_s, self.repetition_rate_hz) * self._known_fluence_uj_cm2() * 1e-6
        self.limits.check_dose(self._earlier_j_cm2 + self.dose_j_cm2, coming_j_cm2)

    def _announce(self, wall_s: float) -> None:
        fluence = self._known_fluence_uj_cm2()
        before = self._open_s, self._pulses, self._dose_j_cm2
        self._announced = ComingLight(wall_s, fluence, self.repetition_rate_hz, *before)
        if self._on_light is not None:
            self._on_light(self._announced)

    def _announce_if_brighter(self) -> None:
        """Tell of light that is stronger than was told: the calibration is off, or the laser has changed."""
        opening, told = self._opening, self._announced
        if opening is None or not opening.on_sample or told is None:
            return
        if self._known_fluence_uj_cm2() > told.fluence_uj_cm2 * _BRIGHTER:
            self._announce(told.wall_s)

    @property
    def _uj_cm2_per_meter_j(self) -> float:
        return self.pick_off.ratio * 1e6 / self.geometry.area_cm2

    def read_fluence(self, pulses: int) -> tuple[Fluence, EnergyReading]:
        """Measure the fluence at the sample over ``pulses`` pulses, shutter open.

        Its error is the random one, from the scatter of the mean; what all points share is in the bench file.
        Raises LimitExceeded when the reading, or the dose of the spot, lies beyond a limit of the bench, and
        InstrumentError when the reading is not what the calibration lets expect.
        """
        try:
            reading = self.meter.measure(pulses)
        except ConnectionLost:
            raise
        except InstrumentError as error:
            hint = f"if the light is not as strong as it was set: {_CALIBRATE_ANEW}"
            error.todo = f"{error.todo}; {hint}" if error.todo else hint
            raise
        fluence = self.fluence_of(reading)
        self._reached_uj_cm2 = fluence.uj_cm2
        self._last_energy_j = fluence.pulse_energy_j
        self._announce_if_brighter()
        self.limits.check_reading(fluence.uj_cm2, fluence.pulse_energy_j)
        self._compare_with_expected(fluence.uj_cm2)
        self.require_dose()
        return fluence, reading

    def _compare_with_expected(self, reached_uj_cm2: float) -> None:
        """Refuse to go on where the calibration is plainly wrong; note where it is doubtful."""
        expected = self._expected_uj_cm2
        if expected is None:
            return
        ratio = reached_uj_cm2 / expected
        if not 1 / _FAR_OFF <= ratio <= _FAR_OFF:
            raise InstrumentError(
                f"the fluence is {reached_uj_cm2:.4g} uJ/cm^2 where {expected:.4g} uJ/cm^2 was set: the calibration of"
                " the attenuator does not hold",
                role="attenuator",
                where="pump beam, energy meter",
                todo=_CALIBRATE_ANEW,
            )
        if abs(ratio - 1) > _OFF and not self.warnings:
            self.warnings.append(
                f"the fluence was {ratio - 1:+.0%} off what was set (first at {expected:.4g} uJ/cm^2); fluences are"
                f" measured, so the data hold, but {_CALIBRATE_ANEW}"
            )

    def read_energy(self, pulses: int) -> EnergyReading:
        """Measure an energy at the meter of which nothing is known, shutter open.

        The range is found by short readings, from the largest down: there a pulse may be too weak to trigger. For use
        with the beam blocked behind the pick-off: only the limit of the pulse energy is held, while
        :meth:`read_fluence` holds that of the fluence, too. Raises LimitExceeded.
        """
        self._choose_range(self.meter.largest_range_j)
        for _ in range(_RANGE_SEARCH_STEPS):
            try:
                self._set_range(self.meter.measure(_SEARCH_PULSES).mean_j)
                break
            except NoPulse as error:
                log.info("no pulse triggers the meter on its range of %.3g J: %s", self._range_j, error.what)
                self._choose_range(self._range_j / _RANGE_SEARCH_FACTOR)
        reading = self.meter.measure(pulses)
        self._last_energy_j = reading.mean_j * self.pick_off.ratio
        self.limits.check_energy(self._last_energy_j)
        return reading

    def fluence_of(self, reading: EnergyReading) -> Fluence:
        """Convert a reading at the meter to the fluence at the sample."""
        return self.geometry.fluence(reading.mean_j * self.pick_off.ratio, reading.error_j * self.pick_off.ratio)

    def _set_range(self, energy_j: float) -> None:
        """Choose the meter's range for an expected energy, only when the present one does not fit."""
        needed = energy_j * _RANGE_HEADROOM
        if not needed <= self._range_j <= 20 * needed:
            largest_j = self.meter.largest_range_j
            # Without the headroom the largest range may still do; an energy beyond it is for the meter to refuse.
            self._choose_range(largest_j if energy_j <= largest_j < needed else needed)

    def _choose_range(self, range_j: float) -> None:
        if range_j == self._range_j:
            return
        before_j = self._range_j
        self._tell_range(range_j)
        # It has no smaller one, or the command was lost on its way.
        if self._range_j == before_j > range_j * _RANGE_STEP:
            self._tell_range(range_j)

    def _tell_range(self, range_j: float) -> None:
        self.meter.range_j = range_j
        self._range_j = self.meter.range_j


def angles_deg(malus: MalusLaw, low_j: float, high_j: float) -> tuple[float, float]:
    """Get the lowest and highest angle in degrees that the attenuator is turned to for a range of energies.

    The way from below is included. Energies are those at the meter, in J; beyond what the attenuator can give they are
    taken at its end.
    """
    first, last = (
        malus.angle_deg(min(max(energy_j, malus.minimum_j), malus.maximum_j)) for energy_j in (high_j, low_j)
    )
    turns = first // 360.0
    if last // 360.0 > turns or first - 360.0 * turns < _BACKLASH_APPROACH_DEG:
        return 0.0, 360.0
    return first - 360.0 * turns - _BACKLASH_APPROACH_DEG, last - 360.0 * turns


def _above_the_approach(angle_deg: float) -> float:
    """Get an angle of the same transmission that can be approached from below."""
    angle = angle_deg % 360.0
    return angle if angle >= _BACKLASH_APPROACH_DEG else angle + PERIOD_DEG
