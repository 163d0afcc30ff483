"""The simulated laboratory: one beam, one sample, one time for all emulators.

The beam goes laser, wave plate, shutter, pick-off with energy meter, sample; a closed shutter leaves the meter dark
too. Emulators tell the laboratory what they did and when, and ask what they would have seen. Times are laboratory
seconds; an emulator's own times must not fall, those of different emulators may be slightly out of order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel
from scipy import ndimage

from labctl.errors import InputError
from labctl.sim.accumulated import Accumulated
from labctl.sim.camera import Camera
from labctl.sim.carriage import Carriage, StageTruth
from labctl.sim.cavity import CavitySample, CavityTruth
from labctl.sim.filters import Filters
from labctl.sim.history import History
from labctl.sim.incidents import Outage
from labctl.sim.lamp import UVLamp
from labctl.sim.laser import PulsedLaser
from labctl.sim.noise import KeyedNoise
from labctl.sim.optics import Spectrograph, WavePlate
from labctl.sim.sample import EnsembleSample, Sample, SampleState
from labctl.sim.slit import Slit
from labctl.sim.thermal import ThermalBody
from labctl.sim.timeline import Timeline
from labctl.sim.truth import LaboratoryTruth, LaserTruth, SampleTruth
from labctl.sim.truth_table import Table, read_table
from labctl.sim.vacuum import Vacuum

# More pulses than this change the mean and the spread of an exposure by less than a photon counts.
_MAX_DRAWN_PULSES = 4096
_MOVING_STEPS = 16
# The dose is settled only up to here behind the newest query: emulators may still report slightly older events.
_DOSE_LAG_S = 5.0
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


class Shutter:
    """The pump shutter as the light sees it."""

    def __init__(self, initially_open: bool, forgets: Callable[[float], None] | None = None) -> None:
        self._open = Timeline(float(initially_open), forgets=forgets)

    def set(self, t: float, is_open: bool) -> None:
        """Let light pass, or not, from laboratory time ``t`` on."""
        self._open.set(t, float(is_open))

    def is_open(self, t: float) -> bool:
        """Whether light passes at ``t``."""
        return self._open.at(t) > 0.5

    def open_at(self, t: np.ndarray) -> np.ndarray:
        """1 where light passes, else 0; of the shape of ``t``."""
        return self._open.sample(t)

    @property
    def kept_from(self) -> float:
        """Oldest laboratory time that is still known, s."""
        return self._open.kept_from

    def edges(self, t0: float, t1: float) -> np.ndarray:
        """Get ``t0``, the times between at which the shutter switched, and ``t1``."""
        return self._open.edges(t0, t1)


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
        self.laser = PulsedLaser(truth.laser, self.noise)
        self.wave_plate = WavePlate(truth.wave_plate)
        self.shutter = Shutter(truth.shutter.initially_open, self._settle)
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
        self._in_beam = Timeline(1.0, forgets=self._settle)
        self._behind_pick_off = Timeline(1.0, forgets=self._settle)
        self._water: History[bool] = History(False, self._settle)
        self._remounted: History[float] = History(0.0)
        self._passed = Accumulated(self._pulses_between)
        self._dose_uj_cm2 = 0.0
        self._dose_settled_s = 0.0
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
                    self._in_beam.set(when, 0.0)
                case "sample into beam":
                    self._in_beam.set(when, 1.0)
                case "block beam behind pick-off":
                    self._behind_pick_off.set(when, 0.0)
                case "unblock beam behind pick-off":
                    self._behind_pick_off.set(when, 1.0)
                case "fresh spot":
                    self._dose_uj_cm2, self._dose_settled_s = 0.0, when
                case "pump down":
                    self.vacuum.pump_down(when)
                case "vent":
                    self.vacuum.vent(when)
                case "add water":
                    self._water.set(when, True)
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
            arrived = (self.shutter.open_at(times) > 0.5) & (self._behind_pick_off.sample(times) > 0.5)
            length_mm = self.truth.illuminated.length_mm
            share = self.slit.open_length_mm(t) / length_mm if self.slit.is_there else 1.0
            share *= self.truth.meter.ratio * self.truth.slit.meter_share
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
                light = float(self._light(t + response_s * np.log(share)).mean())
            else:
                light = self._mean_light(t - average_s, t)
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
            light = self._mean_light(t0, t1, self._behind_pick_off)
            open_share = self._open_share(t0, t1)
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
        energy_uj = self.truth.laser.energy_uj * self.truth.meter.ratio * float(self.wave_plate.transmission(t))
        return energy_uj / self.truth.illuminated.area_cm2

    def dose_uj_cm2(self, t: float) -> float:
        """Fluence summed over all pulses that have hit the spot until ``t``, uJ/cm2, from the mean energy.

        The sample sees light whenever the shutter is open, whether or not the camera does.
        """
        with self._lock:
            self._seen(t)
            settle = self._newest_s - _DOSE_LAG_S
            if settle > self._dose_settled_s:
                self._dose_uj_cm2 += self._dose_between(self._dose_settled_s, settle)
                self._dose_settled_s = settle
            if t >= self._dose_settled_s:
                return self._dose_uj_cm2 + self._dose_between(self._dose_settled_s, t)
            # An exposure from before a fresh spot may be read out after it.
            return max(0.0, self._dose_uj_cm2 - self._dose_between(t, self._dose_settled_s))

    def state(self, t: float) -> dict[str, float | bool]:
        """Get what is true at ``t``; for tests and for faults, not for instruments."""
        centre_nm, lines_per_mm = self.spectrograph.at(t)
        dose = self.dose_uj_cm2(t)
        return {
            "shutter_open": self.shutter.is_open(t),
            "plate_optical_deg": float(self.wave_plate.optical_deg(t)),
            "fluence_uj_cm2": self.fluence_uj_cm2(t),
            "centre_nm": centre_nm,
            "lines_per_mm": lines_per_mm,
            "sample_in_beam": self._in_beam.at(t) > 0.5,
            "beam_blocked": self._behind_pick_off.at(t) < 0.5,
            "filter_position": self.filters.position(t),
            "dose_uj_cm2": dose,
            "brightness": self.sample.active_fraction(SampleState(dose)) if self.sample else 0.0,
        }

    def _settle(self, until_s: float) -> None:
        """Add up what has come together before somebody forgets how."""
        with self._lock:
            self._passed.settle(until_s)

    def _pulses_between(self, t0: float, t1: float) -> float:
        """Count the pulses in [t0, t1) that pass the shutter."""
        if t1 <= t0:
            return 0.0
        edges = self.shutter.edges(max(t0, self.shutter.kept_from), t1)
        passes = self.shutter.open_at(0.5 * (edges[1:] + edges[:-1])) > 0.5
        return float(np.diff(self.laser.pulses_before(edges))[passes].sum())

    def _seen(self, t: float) -> float:
        self._newest_s = max(self._newest_s, t)
        return t

    def _meter_factor(self, n: int) -> np.ndarray:
        meter = self.truth.meter
        white = meter.noise * self.noise.generator("meter").standard_normal(n)
        return (1.0 + white) * (1.0 + self.noise.drift("meter", meter.drift_rms, meter.drift_tau_s))

    def _light(self, t: np.ndarray) -> np.ndarray:
        """Share of the laser's energy that passes plate and shutter at times ``t``."""
        return self.shutter.open_at(t) * self.wave_plate.transmission(t)

    def _pieces(self, t0: float, t1: float) -> np.ndarray:
        """Times that cut [t0, t1] where shutter, plate or sample changed; moves of the plate into small steps."""
        signals = (self.shutter, self.wave_plate, self._in_beam, self._behind_pick_off)
        parts = [signal.edges(t0, t1) for signal in signals]
        edges = np.unique(np.concatenate(parts))
        moving = np.flatnonzero(np.diff(self.wave_plate.optical_deg(edges)))
        if not moving.size:
            return edges
        fine = [np.linspace(edges[i], edges[i + 1], _MOVING_STEPS, endpoint=False) for i in moving]
        return np.unique(np.concatenate([edges, *fine]))

    def _open_share(self, t0: float, t1: float) -> float:
        if t1 <= t0:
            return 0.0
        edges = self.shutter.edges(t0, t1)
        return float(self.shutter.open_at(0.5 * (edges[1:] + edges[:-1])) @ (np.diff(edges) / (t1 - t0)))

    def _mean_light(self, t0: float, t1: float, passes: Timeline | None = None) -> float:
        """Mean share of the laser's energy over [t0, t1]: at the meter, or behind what else it ``passes``."""
        if t1 <= t0:
            return 0.0
        pieces = self._pieces(t0, t1)
        middle = 0.5 * (pieces[1:] + pieces[:-1])
        light = self._light(middle) if passes is None else self._light(middle) * passes.sample(middle)
        # Weights first: where nothing changed the only weight is exactly 1, and the result the same at any time.
        return float(light @ (np.diff(pieces) / (t1 - t0)))

    def _dose_between(self, t0: float, t1: float) -> float:
        if t1 <= t0:
            return 0.0
        # A timeline forgets after an hour and a thousand commands; a dose nobody asked for in that time starts there.
        signals = (self.shutter, self.wave_plate, self._in_beam, self._behind_pick_off)
        kept = max(signal.kept_from for signal in signals)
        if t1 <= kept:
            return 0.0
        pieces = self._pieces(max(t0, kept), t1)
        middle = 0.5 * (pieces[1:] + pieces[:-1])
        reaches = self._behind_pick_off.sample(middle) * self._in_beam.sample(middle)
        light_s = float((self._light(middle) * reaches) @ np.diff(pieces))
        full_uj = self.truth.laser.energy_uj * self.truth.meter.ratio
        return light_s * self.truth.laser.repetition_rate_hz * full_uj / self.truth.illuminated.area_cm2

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
        pump = mean_fluence * float(efficiency(pump_nm))
        electrons = np.zeros(truth.pixels)
        for order, share in _PUMP_ORDERS.items():
            _add_line(electrons, wavelengths, order * pump_nm, share * truth.pump_line * pump)
        if self.sample is not None and self._in_beam.at(t) > 0.5:
            state, scale = SampleState(self.dose_uj_cm2(t)), truth.collection
            emission = self._mean_emission(self.sample, wavelengths, fluences, state)
            electrons += scale * width_nm * efficiency(wavelengths) * emission
            if wavelengths[0] < 0.0 < wavelengths[-1]:
                line = self.sample.line_nm + np.arange(-100.0, 100.0, _ZERO_ORDER_STEP_NM)
                emission = self._mean_emission(self.sample, line, fluences, state)
                _add_line(electrons, wavelengths, 0.0, scale * _ZERO_ORDER_STEP_NM * float(efficiency(line) @ emission))
        haze = truth.pump_scatter * pump * np.exp(-np.abs(wavelengths - pump_nm) / _PUMP_HAZE_LENGTH_NM)
        return ndimage.gaussian_filter1d(electrons, sigma_px, mode="nearest") + haze

    def _mean_emission(
        self, sample: Sample, wavelengths: np.ndarray, fluences: np.ndarray, state: SampleState
    ) -> np.ndarray:
        """Spectrum averaged over pulses, by three-point Gauss-Hermite quadrature with their mean and spread.

        The emission goes as a high power of the fluence, so its mean is not that of the mean pulse. Three points are
        exact up to the fifth power for a Gaussian spread, and cost as much as three pulses.
        """
        mean, spread = float(fluences.mean()), float(fluences.std())
        length_mm = self.truth.illuminated.length_mm
        if not spread:
            return sample.emission_spectrum(wavelengths, mean, length_mm, state)
        nodes = np.maximum(mean + np.sqrt(3.0) * spread * np.array([-1.0, 0.0, 1.0]), 0.0)
        return np.array([1.0, 4.0, 1.0]) / 6.0 @ sample.emission_spectrum(wavelengths, nodes, length_mm, state)


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
    return Laboratory(truth, _sample(sample, truth.laser), seed)


def _sample(raw: Table | Mapping[str, Any], laser: LaserTruth) -> Sample:
    if read_table(raw, _Kind, "truth").kind == "cavity":
        return CavitySample(read_table(raw, CavityTruth, "truth"))
    truth = read_table(raw, SampleTruth, "truth")
    try:
        with np.errstate(divide="raise", invalid="raise", over="raise"):
            return EnsembleSample(truth, laser.wavelength_nm, laser.pulse_duration_ns)
    except (ArithmeticError, ValueError) as error:
        raise InputError(
            f"no sample is as its truth says: {error}",
            where=f"[truth] of {getattr(raw, 'file', 'the sample')}",
            todo="give lines, widths and gain that fit each other",
        ) from error
