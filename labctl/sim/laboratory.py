"""The simulated laboratory: one beam, one sample, one time for all emulators.

The beam goes laser, wave plate, shutter, pick-off with energy meter, sample; a closed shutter leaves the meter dark
too. Emulators tell the laboratory what they did and when, and ask what they would have seen. Times are laboratory
seconds; an emulator's own times must not fall, those of different emulators may be slightly out of order.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel
from scipy import ndimage

from labctl.errors import InputError
from labctl.sim.accumulated import Accumulated
from labctl.sim.beam import PumpBeam
from labctl.sim.camera import Camera
from labctl.sim.carriage import Carriage, StageTruth
from labctl.sim.cavity import CavitySample, CavityTruth
from labctl.sim.conditions import Conditions
from labctl.sim.degradation import SampleState
from labctl.sim.emission import Emission, ReferenceEmission, SampleEmission
from labctl.sim.filters import Filters
from labctl.sim.history import History
from labctl.sim.incidents import Outage
from labctl.sim.lamp import UVLamp
from labctl.sim.noise import KeyedNoise
from labctl.sim.optics import Spectrograph
from labctl.sim.places import DARK, REFERENCE, Places, PlacesTruth
from labctl.sim.sample import EnsembleSample, Sample
from labctl.sim.slit import Slit, Stripe
from labctl.sim.thermal import ThermalBody
from labctl.sim.truth import LaboratoryTruth, LaserTruth, SampleTruth
from labctl.sim.truth_table import Table, read_table
from labctl.sim.vacuum import Vacuum

# More pulses than this change the mean and the spread of an exposure by less than a photon counts.
_MAX_DRAWN_PULSES = 4096
_PUMP_HAZE_LENGTH_NM = 400.0
_ZERO_ORDER_STEP_NM = 0.1
# Share of the scattered pump light in each order of the grating.
_PUMP_ORDERS = {0: 1.0, 1: 1.0, 2: 0.05}
OPERATOR_ACTIONS = (
    "sample out of beam",
    "sample into beam",
    "block beam behind pick-off",
    "unblock beam behind pick-off",
    "fresh spot",
    "remount sample",
    "add water",
    "pump down",
    "vent",
)
"""What the simulated operator can do by hand."""


class _Kind(BaseModel):
    """Which model a ``[truth]`` is for; its other keys are for that model to judge."""

    kind: Literal["ensemble", "cavity"] = "ensemble"


class Laboratory:
    """All that the emulators of one bench share.

    :param truth: What the optics really are.
    :param sample: The sample in the beam.
    :param seed: Seed of all randomness.
    """

    def __init__(self, truth: LaboratoryTruth, sample: Sample | None, seed: int) -> None:
        self.truth = truth
        self.sample = sample
        self.noise = KeyedNoise(seed)
        self.beam = PumpBeam(truth, self.noise, self._settle)
        self.laser = self.beam.laser
        self.wave_plate = self.beam.wave_plate
        self.shutter = self.beam.shutter
        self.filters = Filters(truth.filter)
        self.spectrograph = Spectrograph(truth.spectrograph)
        self.camera = Camera(truth.camera, self.noise)
        self.open_interlock = Outage(truth.interlock.opens_at_s, truth.interlock.closes_after_s)
        self.no_cooling_water = Outage(truth.cooling.fails_at_s, truth.cooling.returns_after_s)
        self.thermal = ThermalBody(truth.thermal, self.noise, self._settle)
        self.lamp = UVLamp(truth.lamp, self.noise, self._settle)
        self.vacuum = Vacuum(truth.vacuum)
        self._stages: dict[str, Carriage] = {}
        self.slit = Slit(truth.slit, self.noise, self._stages.get)
        self.places = Places(truth.places)
        self._conditions = Conditions(
            self.beam, self.thermal, self.lamp, self.places, sample.truth.heat if sample else None, self._sample_stage
        )
        self._remounted: History[float] = History(0.0)
        self._passed = Accumulated(self.beam.pulses_between)
        self._newest_s = 0.0
        self._lock = threading.RLock()

    def announce(self, point: int, attempt: int, schedule_s: float) -> None:
        """Say which point of the plan the following readings belong to; see :class:`KeyedNoise`."""
        self.noise.announce(point, attempt, schedule_s)

    def operator(self, action: str, t: float | None = None) -> None:
        """Do by hand what a prompt asked for.

        :param action: One of :data:`OPERATOR_ACTIONS`.
        :param t: Laboratory time; the newest known when left out.
        :raises ValueError: Unknown action.
        """
        with self._lock:
            when = self._newest_s if t is None else self._seen(t)
            match action:
                case "sample out of beam":
                    self.beam.in_sample.set(when, 0.0)
                case "sample into beam":
                    self.beam.in_sample.set(when, 1.0)
                case "block beam behind pick-off":
                    self.beam.behind_pick_off.set(when, 0.0)
                case "unblock beam behind pick-off":
                    self.beam.behind_pick_off.set(when, 1.0)
                case "fresh spot":
                    self._conditions.fresh_spot(when, max(0, self._place(when)))
                case "pump down":
                    self.vacuum.pump_down(when)
                case "vent":
                    self.vacuum.vent(when)
                case "add water":
                    self._conditions.add_water(when)
                case "remount sample":
                    self._remounted.set(when, float(self.noise.generator("remount").standard_normal()))
                case _:
                    known = ", ".join(f'"{name}"' for name in OPERATOR_ACTIONS)
                    raise ValueError(f"the simulated operator cannot do {action!r}; it knows {known}")

    def stage(self, role: str) -> Carriage:
        """Get the carriage of the stage for ``role``; what is asked for first is put there."""
        with self._lock:
            if role not in self._stages:
                initial_mm = self.truth.stages.get(role, StageTruth()).initial_mm
                self._stages[role] = Carriage(role, initial_mm, self.noise, self._settle)
            return self._stages[role]

    def pressure_mbar(self, t: float) -> float:
        """Get the true pressure around the sample at ``t``, mbar."""
        return self.vacuum.pressure_mbar(t)

    def pulses_passed(self, t: float) -> int:
        """Count the laser pulses that have passed the shutter before ``t``, exactly."""
        with self._lock:
            self._seen(t)
            return round(float(self._passed.at(t, self._newest_s)))

    @property
    def pulse_period_s(self) -> float:
        """Time between two laser pulses, s."""
        return self.laser.pulse_period_s

    def next_pulse(self, t: float) -> float:
        """Get the time of the first laser pulse at or after ``t``, whether or not light passes, s."""
        return self.laser.next_pulse(t)

    def meter_energy_j(self, t: float, n_pulses: int) -> np.ndarray:
        """Measure the pulses that reach the meter among the next ``n_pulses`` of the laser from ``t`` on.

        :returns: Energies, J, shape (m,), m <= n_pulses; empty while the shutter is closed.
        """
        with self._lock:
            times = self.next_pulse(t) + self.pulse_period_s * np.arange(n_pulses)
            self._seen(float(times[-1]) if n_pulses else t)
            arrived = self.shutter.open_at(times) > 0.5
            passed = self.wave_plate.transmission(times)
            energy_uj = passed * self.laser.pulse_energies_uj(n_pulses, "meter")
            return 1e-6 * (energy_uj * self._meter_factor(n_pulses))[arrived]

    def slit_meter_energy_j(self, t: float, n_pulses: int) -> np.ndarray:
        """Measure the pulses that reach the meter behind the slit among the next ``n_pulses`` from ``t`` on.

        Their energy goes with the length that the blades leave open: the beam is even.

        :returns: Energies, J, shape (m,), m <= n_pulses; empty while the shutter is closed.
        """
        with self._lock:
            times = self.next_pulse(t) + self.pulse_period_s * np.arange(n_pulses)
            self._seen(float(times[-1]) if n_pulses else t)
            arrived = (self.shutter.open_at(times) > 0.5) & (self.beam.behind_pick_off.sample(times) > 0.5)
            share = self._slit_share(t) * self.truth.meter.ratio * self.truth.slit.meter_share
            white = self.truth.slit.meter_noise * self.noise.generator("slit meter").standard_normal(n_pulses)
            passed = self.wave_plate.transmission(times)
            energy_uj = passed * self.laser.pulse_energies_uj(n_pulses, "slit meter")
            return 1e-6 * share * (energy_uj * (1.0 + white))[arrived]

    def meter_power_w(self, t: float, average_s: float) -> float:
        """Measure the mean power at the meter over [t - average_s, t], W.

        A thermal head (``response_s`` > 0) sees it through a first-order low-pass.
        """
        with self._lock:
            self._seen(t)
            response_s = self.truth.meter.response_s
            if response_s:
                # Equal shares of an exponential memory, seen at their middles.
                share = (np.arange(64) + 0.5) / 64
                light = float(self.beam.light(t + response_s * np.log(share)).mean())
            else:
                light = self.beam.mean_light(t - average_s, t)
            pulses = max(1, round(average_s / self.pulse_period_s))
            energy_uj = self.laser.pulse_energies_uj(min(pulses, _MAX_DRAWN_PULSES), "meter").mean()
            factor = float(self._meter_factor(1)[0])
            return 1e-6 * light * energy_uj * factor * self.truth.laser.repetition_rate_hz

    def expose(self, t0: float, exposure_s: float, temperature_c: float, camera: Camera | None = None) -> np.ndarray:
        """Expose the camera over [t0, t0 + exposure_s] and read it out.

        :param temperature_c: Temperature of the sensor, C.
        :param camera: A camera with a sensor of its own, in the place of the laboratory's.
        :returns: ADU, int32, shape (pixels,).
        """
        with self._lock:
            camera = camera or self.camera
            t1 = self._seen(t0 + exposure_s)
            light = self.beam.mean_light(t0, t1, self.beam.behind_pick_off)
            open_share = self.beam.open_share(t0, t1)
            pulses = round(open_share * exposure_s / self.pulse_period_s)
            centre_nm, lines_per_mm = self.spectrograph.at(0.5 * (t0 + t1))
            truth = camera.truth
            wavelengths = self.spectrograph.wavelengths_nm(centre_nm, lines_per_mm, truth.pixels, truth.pixel_um)
            electrons = np.zeros(truth.pixels)
            if pulses:
                drawn = self.laser.pulse_energies_uj(min(pulses, _MAX_DRAWN_PULSES), "camera")
                sample_uj = drawn * self.truth.meter.ratio * light / open_share
                fluences = sample_uj / self.truth.illuminated.area_cm2
                middle = 0.5 * (t0 + t1)
                per_pulse = self._electrons_per_pulse(camera, wavelengths, lines_per_mm, fluences, middle)
                electrons = pulses * self.spectrograph.open_share(t0, t1) * per_pulse
            return camera.read_out(camera.expected_electrons(electrons), exposure_s, temperature_c)

    def fluence_uj_cm2(self, t: float) -> float:
        """True mean fluence on the sample at ``t``, were the shutter open; without the laser's noise."""
        return self.beam.full_fluence_uj_cm2 * float(self.wave_plate.transmission(t))

    def dose_uj_cm2(self, t: float) -> float:
        """Fluence summed over all pulses that have hit the spot until ``t``, uJ/cm2, from the mean energy.

        The sample sees light whenever the shutter is open, whether or not the camera does.
        """
        with self._lock:
            return self._conditions.dose_uj_cm2(self._seen(t), self._newest_s, max(0, self._place(t)))

    def sample_state(self, t: float) -> SampleState:
        """Get what has happened to the sample that is in the beam at ``t``, or to the first if none is."""
        with self._lock:
            return self._conditions.state(self._seen(t), self._newest_s, max(0, self._place(t)))

    def state(self, t: float) -> dict[str, float | bool]:
        """Get what is true at ``t``; for tests and for faults, not for instruments."""
        centre_nm, lines_per_mm = self.spectrograph.at(t)
        sample = self.sample_state(t)
        return {
            "shutter_open": self.shutter.is_open(t),
            "plate_optical_deg": float(self.wave_plate.optical_deg(t)),
            "fluence_uj_cm2": self.fluence_uj_cm2(t),
            "centre_nm": centre_nm,
            "lines_per_mm": lines_per_mm,
            "sample_in_beam": self.beam.in_sample.at(t) > 0.5,
            "beam_blocked": self.beam.behind_pick_off.at(t) < 0.5,
            "filter_position": self.filters.position(t),
            "dose_uj_cm2": sample.accumulated_fluence_uj_cm2,
            "brightness": self.sample.brightness(sample) if self.sample else 0.0,
            "shots": sample.shots,
            "temperature_c": sample.temperature_c,
            "heat_h": sample.heat_h,
            "uv_j_cm2": sample.uv_j_cm2,
            "water_h": sample.water_h,
            "heater_on": self.thermal.is_controlled(t),
            "lamp_on": self.lamp.is_on(t),
            "pressure_mbar": self.pressure_mbar(t),
            "pulses_passed": self.pulses_passed(t),
            **{f"{role}_mm": stage.at(t) for role, stage in self._stages.items()},
        }

    def _settle(self, until_s: float) -> None:
        """Add up what has come together before somebody forgets how."""
        with self._lock:
            self._passed.settle(until_s)
            self._conditions.settle(until_s)

    def _sample_stage(self) -> Carriage | None:
        return self._stages.get("sample_stage")

    def _place(self, t: float) -> int:
        """What is in the beam: the index of a sample, ``REFERENCE`` or ``DARK``."""
        return self.places.at(self._sample_stage(), t)

    def _seen(self, t: float) -> float:
        self._newest_s = max(self._newest_s, t)
        return t

    def _meter_factor(self, n: int) -> np.ndarray:
        meter = self.truth.meter
        white = meter.noise * self.noise.generator("meter").standard_normal(n)
        return (1.0 + white) * (1.0 + self.noise.drift("meter", meter.drift_rms, meter.drift_tau_s))

    def _electrons_per_pulse(
        self, camera: Camera, wavelengths: np.ndarray, lines_per_mm: float, fluences: np.ndarray, t: float
    ) -> np.ndarray:
        """Mean photoelectrons of ideal pixels per pulse, over the drawn pulses of peak fluence ``fluences``."""
        truth = camera.truth

        def efficiency(nm: ArrayLike) -> np.ndarray:
            return camera.quantum_efficiency(nm) * self.filters.transmission(nm, t)

        width_nm = np.abs(np.gradient(wavelengths))
        sigma_px = self.spectrograph.psf_sigma_nm(lines_per_mm) / float(np.median(width_nm))
        mean_fluence, pump_nm = float(fluences.mean()), self.truth.laser.wavelength_nm
        pump = mean_fluence * float(efficiency(pump_nm)) * self._slit_share(t)
        electrons = np.zeros(truth.pixels)
        for order, share in _PUMP_ORDERS.items():
            _add_line(electrons, wavelengths, order * pump_nm, share * truth.pump_line * pump)
        emission = self._emission(t)
        if emission is not None:
            scale = truth.collection * self._reading_factor(t)
            electrons += scale * width_nm * efficiency(wavelengths) * emission.mean(wavelengths, fluences)
            if wavelengths[0] < 0.0 < wavelengths[-1]:
                line = emission.line_nm + np.arange(-100.0, 100.0, _ZERO_ORDER_STEP_NM)
                seen = float(efficiency(line) @ emission.mean(line, fluences))
                _add_line(electrons, wavelengths, 0.0, scale * _ZERO_ORDER_STEP_NM * seen)
        haze = truth.pump_scatter * pump * np.exp(-np.abs(wavelengths - pump_nm) / _PUMP_HAZE_LENGTH_NM)
        return ndimage.gaussian_filter1d(electrons, sigma_px, mode="nearest") + haze

    def _emission(self, t: float) -> Emission | None:
        """What emits at ``t``; None where nothing does: no sample, a dark place, blades that let nothing pass."""
        if self.beam.in_sample.at(t) < 0.5:
            return None
        stripe = self.slit.stripe(t) if self.slit.is_there else Stripe(self.truth.illuminated.length_mm)
        place = self._place(t)
        if stripe is None or place == DARK:
            return None
        if place == REFERENCE:
            return ReferenceEmission(self.places.truth or PlacesTruth(), stripe.length_mm)
        if self.sample is None:
            return None
        return SampleEmission(self.sample, stripe, self.sample_state(t), cut=self.slit.is_there)

    def _slit_share(self, t: float) -> float:
        """Energy behind the slit in units of that for the whole stripe; 1 without blades."""
        return self.slit.open_length_mm(t) / self.truth.illuminated.length_mm if self.slit.is_there else 1.0

    def _reading_factor(self, t: float) -> float:
        """How much more or less than meant is seen of the emission at ``t``."""
        readings, factor = self.truth.readings, 1.0
        if readings.flicker:
            factor *= 1.0 + readings.flicker * float(self.noise.generator("flicker").standard_normal())
        stage = self._sample_stage()
        if stage is not None:
            factor *= 1.0 + readings.arrival * stage.luck(t)
        if self._place(t) >= 0:
            factor *= 1.0 + readings.remount * self._remounted.at(t)[1]
        if self.slit.is_there:
            factor *= 1.0 + self.slit.luck(t)
        return factor


def _add_line(signal: np.ndarray, wavelengths: np.ndarray, line_nm: float, strength: float) -> None:
    """Put a narrow line on the two pixels around ``line_nm``, if it falls on the camera."""
    if wavelengths[0] <= line_nm <= wavelengths[-1]:
        place = float(np.interp(line_nm, wavelengths, np.arange(wavelengths.size)))
        first = min(int(place), wavelengths.size - 2)
        signal[first] += strength * (1.0 - (place - first))
        signal[first + 1] += strength * (place - first)


def create(bench: Table | Mapping[str, Any] | None, sample: Table | Mapping[str, Any] | None, seed: int) -> Laboratory:
    """Build a laboratory from the bench's ``[laboratory]`` and the sample's ``[truth]``; either may be missing.

    :raises ConfigError: Unknown keys, wrong types, values out of range.
    :raises InputError: Values that no sample can have together.
    """
    truth = read_table(bench, LaboratoryTruth, "laboratory")
    if sample is None:
        return Laboratory(truth, None, seed)
    return Laboratory(truth, _sample(sample, truth.laser, truth.wears), seed)


def _sample(raw: Table | Mapping[str, Any], laser: LaserTruth, wears: bool) -> Sample:
    if read_table(raw, _Kind, "truth").kind == "cavity":
        cavity = read_table(raw, CavityTruth, "truth")
        return CavitySample(cavity if wears else cavity.model_copy(update={"shots": None}))
    truth = read_table(raw, SampleTruth, "truth")
    if not wears:
        truth = truth.model_copy(update={"shots": None, "second_band": None})
    try:
        with np.errstate(divide="raise", invalid="raise", over="raise"):
            return EnsembleSample(truth, laser.wavelength_nm, laser.pulse_duration_ns)
    except (ArithmeticError, ValueError) as error:
        raise InputError(
            f"no sample is as its truth says: {error}",
            where=f"[truth] of {getattr(raw, 'file', 'the sample')}",
            todo="give lines, widths and gain that fit each other",
        ) from error
