"""The pump beam: laser, attenuator, shutter and energy meter as one thing that sets a fluence and reads it back.

Order in the beam: laser, wave plate and polariser, shutter, pick-off with the energy meter, sample. With the shutter
closed neither the sample nor the meter gets light, so the meter is zeroed with the shutter closed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from labctl.bench.attenuation import PERIOD_DEG, MalusLaw
from labctl.bench.limits import PumpLimits
from labctl.clock import Clock
from labctl.errors import InputError, InstrumentError, InstrumentTimeout
from labctl.quantities import EnergyReading, Fluence, SpotGeometry
from labctl.roles import Attenuator, EnergyMeter, Shutter

log = logging.getLogger(__name__)

_BACKLASH_APPROACH_DEG = 1.0
_RANGE_HEADROOM = 1.6
_ANGLE_TOLERANCE_STEPS = 8
_RANGE_SEARCH_FACTOR = 10.0
_RANGE_SEARCH_STEPS = 5
_SEARCH_PULSES = 10


@dataclass(frozen=True, slots=True)
class PickOff:
    """Ratio of pulse energies, sample plane over meter, with its standard error."""

    ratio: float
    error: float


@dataclass(frozen=True, slots=True)
class OpenInterval:
    """One opening of the shutter.

    :param open_s: Time from the command to open to the confirmed close, in s: an upper bound on the light.
    :param wall_s: Unix time of the close.
    """

    open_s: float
    wall_s: float


class PumpBeam:
    """Sets a fluence, reads the fluence that was reached, and keeps the light off otherwise.

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
        self._intervals: list[OpenInterval] = []

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
        scale = self.pick_off.ratio * 1e6 / self.geometry.area_cm2
        return self.malus.minimum_j * scale, min(self.malus.maximum_j * scale, self.limits.fluence_uj_cm2)

    def prepare(self) -> float:
        """Close the shutter, tell the meter the wavelength, zero it in the dark; returns the offset removed, in J.

        The range is the one for the full energy, or the largest where that is not known.
        """
        self.shutter.shut()
        self.meter.wavelength_nm = self.wavelength_nm
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
        self.shutter.shut()
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
        if target - self.attenuator.angle_deg < _BACKLASH_APPROACH_DEG:
            self.attenuator.move_to(target - _BACKLASH_APPROACH_DEG)
        reached = self.attenuator.move_to(target)
        error = (reached - target + 180.0) % 360.0 - 180.0
        if abs(error) > _ANGLE_TOLERANCE_STEPS * self.attenuator.resolution_deg:
            raise InstrumentError(
                f"the attenuator stopped at {reached:.4f} deg instead of {target:.4f} deg",
                role="attenuator",
                state="shutter closed",
                todo="home the mount; look for a blocked plate",
            )
        return reached

    @contextmanager
    def light(self) -> Iterator[None]:
        """Open the shutter for the duration of the block and close it again, whatever happens in it."""
        started = self.clock.now()
        try:
            self.shutter.open()
            yield
        finally:
            try:
                self.shutter.shut()
            finally:
                # A shutter that does not close does not make the dose unknown: this much it was at least.
                self._intervals.append(OpenInterval(self.clock.now() - started, self.clock.wall()))

    def take_intervals(self) -> list[OpenInterval]:
        """Get and forget the shutter openings since the last call, for the dose."""
        taken, self._intervals = self._intervals, []
        return taken

    def read_fluence(self, pulses: int) -> tuple[Fluence, EnergyReading]:
        """Measure the fluence at the sample over ``pulses`` pulses, shutter open.

        Its error is the random one, from the scatter of the mean; :attr:`systematic_error` is common to all points.
        Raises LimitExceeded when the reading lies beyond a limit of the bench.
        """
        reading = self.meter.measure(pulses)
        fluence = self.fluence_of(reading)
        self.limits.check_reading(fluence.uj_cm2, fluence.pulse_energy_j)
        return fluence, reading

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
            except InstrumentTimeout as error:
                log.info("no pulse triggers the meter on its range of %.3g J: %s", self._range_j, error.what)
                self._choose_range(self._range_j / _RANGE_SEARCH_FACTOR)
        reading = self.meter.measure(pulses)
        self.limits.check_energy(reading.mean_j * self.pick_off.ratio)
        return reading

    def fluence_of(self, reading: EnergyReading) -> Fluence:
        """Convert a reading at the meter to the fluence at the sample."""
        return self.geometry.fluence(reading.mean_j * self.pick_off.ratio, reading.error_j * self.pick_off.ratio)

    @property
    def systematic_error(self) -> float:
        """Get the relative error that all fluences share: that of the pick-off ratio."""
        return self.pick_off.error / self.pick_off.ratio

    def _set_range(self, energy_j: float) -> None:
        """Choose the meter's range for an expected energy, only when the present one does not fit."""
        needed = energy_j * _RANGE_HEADROOM
        if not needed <= self._range_j <= 20 * needed:
            largest_j = self.meter.largest_range_j
            # Without the headroom the largest range may still do; an energy beyond it is for the meter to refuse.
            self._choose_range(largest_j if energy_j <= largest_j < needed else needed)

    def _choose_range(self, range_j: float) -> None:
        if range_j != self._range_j:
            self.meter.range_j = range_j
            self._range_j = self.meter.range_j


def _above_the_approach(angle_deg: float) -> float:
    """Get an angle of the same transmission that can be approached from below."""
    angle = angle_deg % 360.0
    return angle if angle >= _BACKLASH_APPROACH_DEG else angle + PERIOD_DEG
