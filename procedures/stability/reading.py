"""One read: sample and reference in turn under the same weak light, so that what the light does falls out."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.frames import Frames
from labctl.analysis.single_line import single_line
from labctl.bench.bench import Bench
from labctl.bench.places import Places
from labctl.config.surroundings import REFERENCE_PLACE
from labctl.errors import Aborted, InstrumentError
from labctl.quantities import Spectrum
from labctl.run.record import Record
from procedures.emission.band import band_sum
from procedures.emission.exposure import ExposureLadder
from procedures.emission.layout import COSMIC, SATURATED
from procedures.emission.taking import SpectrumTaker

Array = NDArray[np.float64]

PEAK_COUNTS = 800.0
"""Counts that the brightest pixel should have in one exposure at most: all exposures of a read together then tell sum
and line better than the light's own flicker lets them, and more light would only wear the sample."""


@dataclass(frozen=True)
class Shot:
    """One spectrum in a place.

    :param at_s: Middle of its exposures, by the run's clock.
    :param intensity: Emission over the band per pulse, with its standard error.
    """

    spectrum: Spectrum
    at_s: float
    intensity: float
    error: float
    pulses: float
    energy_j: float
    fluence_uj_cm2: float
    fluence_error: float
    open_s: float


@dataclass(frozen=True)
class LampLight:
    """Light of the stress lamp on the detector, pump shut: counts/s above dark and its variance, shape (pixels,)."""

    rate: Array
    variance: Array


class Reader:
    """Takes reads: reference, sample, reference, sample..., reference.

    :param bench: The bench.
    :param taker: Takes the spectra.
    :param frames: Dark frames.
    :param ladder: Exposures there are dark frames for.
    :param mask: Pixels of the band, shape (pixels,).
    :param places: The sample stage; None on a bench without one.
    :param place: Where the sample is on it.
    :param use_reference: Whether the reference is read as well.
    :param averages: Exposures summed for a spectrum.
    :param stop: Set to end an exposure.
    """

    def __init__(
        self,
        bench: Bench,
        taker: SpectrumTaker,
        frames: Frames,
        ladder: ExposureLadder,
        mask: NDArray[np.bool_],
        *,
        places: Callable[[], Places | None],
        place: str,
        use_reference: bool,
        averages: int,
        stop: threading.Event,
    ) -> None:
        self._bench = bench
        self._taker = taker
        self._frames = frames
        self._ladder = ladder
        self._mask = mask
        self._places = places
        self._place = place
        self._use_reference = use_reference
        self._averages = averages
        self._stop = stop

    def take(
        self,
        fluence_uj_cm2: float,
        cycles: int,
        rates: tuple[float | None, float | None],
        *,
        lamp_is_on: Callable[[], bool] | None = None,
    ) -> Reads:
        """Read at a fluence.

        :param cycles: Reads of the sample, each between two of the reference.
        :param rates: Rates of the brightest pixel that are expected of sample and reference, counts/s; None if unknown.
        :param lamp_is_on: Tells whether the stress lamp shines meanwhile: its light is then measured and subtracted.
        """
        pump = self._bench.pump
        pump.set_fluence(fluence_uj_cm2)
        sample: list[Shot] = []
        reference: list[Shot] = []
        lit = lamp_is_on is not None and lamp_is_on()
        lights: dict[str, dict[int, LampLight]] = {"sample": {}, "reference": {}}
        for cycle in range(cycles + 1):
            if self._use_reference:
                self._go_to(REFERENCE_PLACE)
                reference.append(self._shot("reference", reference, rates[1], lights["reference"], lit=lit))
            if cycle < cycles:
                self._go_to(self._place)
                sample.append(self._shot("sample", sample, rates[0], lights["sample"], lit=lit))
        if self._use_reference:
            # The sample stays in the beam between reads: what comes next may be light that is to wear it.
            self._go_to(self._place)
        lamp = next(iter(lights["sample"].values()), None)
        return Reads(sample, reference, lamp, self._bench.clock.now())

    def _go_to(self, place: str) -> None:
        places = self._places()
        if places is not None:
            places.go_to(place)

    def _shot(
        self, what: str, before: Sequence[Shot], rate: float | None, lights: dict[int, LampLight], *, lit: bool
    ) -> Shot:
        """Take one spectrum; all of one kind in a point have the same exposure, so that they can be summed."""
        if self._stop.is_set():
            raise Aborted("the run was stopped on request")
        bench, pump = self._bench, self._bench.pump
        fixed_s = before[0].spectrum.exposure_s if before else None
        exposure_s = fixed_s or self._exposure_s(rate)
        with pump.light(on_sample=what == "sample") as opening:
            spectrum, fluence, reading = self._taker.lit(exposure_s, self._averages)
            while fixed_s is None and self._is_full(spectrum) and spectrum.exposure_s > self._ladder.shortest_s * 1.001:
                spectrum, fluence, reading = self._taker.lit(self._ladder.shorter(spectrum.exposure_s), self._averages)
            ended_s = bench.clock.now()
        light = self._lamp_light(spectrum, lights) if lit else None
        pulses = spectrum.total_exposure_s * pump.repetition_rate_hz
        signal, variance = self._frames.emission(spectrum, fluence.pulse_energy_j, pulses)
        if light is not None:
            signal = signal - light.rate * spectrum.total_exposure_s
            variance = variance + light.variance * spectrum.total_exposure_s**2
        common = self._frames.scatter_error(fluence.pulse_energy_j, pulses)
        total, error = band_sum(signal, variance, self._mask, pulses / spectrum.accumulations, common)
        mean_energy = math.hypot(fluence.error_uj_cm2, fluence.uj_cm2 * reading.std_j / reading.mean_j / pulses**0.5)
        return Shot(
            spectrum,
            ended_s - 0.5 * spectrum.total_exposure_s,
            total / pulses,
            error / pulses,
            pulses,
            fluence.pulse_energy_j,
            fluence.uj_cm2,
            mean_energy,
            opening.open_s,
        )

    def _exposure_s(self, rate: float | None) -> float:
        """Choose an exposure for a rate of the brightest pixel in counts/s; the middle one where nothing is known."""
        if rate is None:
            return self._ladder.middle_s
        fitting = [seconds for seconds in self._ladder.exposures_s if seconds * rate <= PEAK_COUNTS]
        return max(fitting, default=self._ladder.shortest_s)

    def _is_full(self, spectrum: Spectrum) -> bool:
        return bool((spectrum.saturated & ~spectrum.cosmic & self._mask).any())

    def _lamp_light(self, spectrum: Spectrum, known: dict[int, LampLight]) -> LampLight:
        """Take what the stress lamp alone gives at the exposure of a spectrum, shutter closed; once in a point."""
        key = round(spectrum.exposure_s * 1e6)
        if key not in known:
            frame = self._bench.spectrometer.acquire(spectrum.exposure_s, self._averages, stop=self._stop)
            counts, variance = self._frames.emission(frame, 0.0, 0.0)
            seconds = frame.total_exposure_s
            known[key] = LampLight(counts / seconds, variance / seconds**2)
        return known[key]


@dataclass(frozen=True)
class Reads:
    """What one read gave.

    :param lamp: Light of the stress lamp that was subtracted; None if it was off.
    :param ended_s: When it was over, by the run's clock.
    """

    sample: Sequence[Shot]
    reference: Sequence[Shot]
    lamp: LampLight | None
    ended_s: float

    def until(self, now_s: float) -> Reads:
        """Get the same, over at ``now_s``."""
        return replace(self, ended_s=now_s)

    def ratios(self) -> tuple[Array, Array]:
        """Get sample over the mean of the references before and after, or over the energy; with counting errors."""
        value = np.array([shot.intensity for shot in self.sample])
        error = np.array([shot.error for shot in self.sample])
        if not self.reference:
            energy = np.array([shot.energy_j for shot in self.sample])
            return value / energy, error / energy
        beside = np.array([shot.intensity for shot in self.reference])
        beside_error = np.array([shot.error for shot in self.reference])
        level = 0.5 * (beside[1:] + beside[:-1])
        level_error = 0.5 * np.hypot(beside_error[1:], beside_error[:-1])
        return value / level, np.hypot(error / level, value * level_error / level**2)

    def record(
        self,
        bench: Bench,
        frames: Frames,
        mask: NDArray[np.bool_],
        cycles: int,
        more: Mapping[str, Any],
        arrays: Mapping[str, Any],
    ) -> Record:
        """Compose the record.

        :param cycles: Room for so many in its arrays; what is not used is NaN.
        :param more: Columns that the read itself does not know. :param arrays: Arrays likewise.
        """
        first = self.sample[0].spectrum
        counts = np.sum([shot.spectrum.counts for shot in self.sample], axis=0)
        saturated = np.any([shot.spectrum.saturated for shot in self.sample], axis=0)
        cosmic = np.any([shot.spectrum.cosmic for shot in self.sample], axis=0)
        pulses = sum(shot.pulses for shot in self.sample)
        seconds = sum(shot.spectrum.total_exposure_s for shot in self.sample)
        summed = _Summed(counts, first.exposure_s, sum(shot.spectrum.accumulations for shot in self.sample), cosmic)
        energy_j = float(np.mean([shot.energy_j for shot in self.sample]))
        signal = frames.emission(summed, energy_j, pulses)[0]
        if self.lamp is not None:
            signal = signal - self.lamp.rate * seconds
        line = single_line(bench.spectrometer.wavelength_nm[mask], signal[mask] / pulses)
        ratio, ratio_error = mean_over(*self.ratios())
        sample, sample_error = mean_over(*_values(self.sample))
        reference, reference_error = mean_over(*_values(self.reference))
        seen = self.reference[-1].spectrum if self.reference else None
        row = {
            "ratio": ratio,
            "ratio_error": ratio_error,
            "sample_intensity": sample,
            "sample_intensity_error": sample_error,
            "reference_intensity": reference,
            "reference_intensity_error": reference_error,
            "peak_nm": line.peak_nm,
            "fwhm_nm": line.fwhm_nm,
            "fluence_uj_cm2": float(np.mean([shot.fluence_uj_cm2 for shot in self.sample])),
            "fluence_error_uj_cm2": float(np.linalg.norm([s.fluence_error for s in self.sample]) / len(self.sample)),
            "pulse_energy_j": energy_j,
            "exposure_s": first.exposure_s,
            "accumulations": summed.accumulations,
            "counted_pulses": pulses,
            "peak_rate": frames.peak_rate(first, mask),
            "reference_exposure_s": seen.exposure_s if seen is not None else 0.0,
            "reference_accumulations": seen.accumulations if seen is not None else 0,
            "reference_peak_rate": frames.peak_rate(seen, mask) if seen is not None else 0.0,
            "saturated_pixels": int((saturated & mask).sum()),
            "cosmic_pixels": int(cosmic.sum()),
            "open_s": sum(shot.open_s for shot in self.sample),
            "sensor_c": first.temperature_c,
            "filter": first.filter_name,
            "filter_position": first.filter_position,
            **more,
        }
        if row["saturated_pixels"] and row["exposure_s"] > 0 and (saturated & ~cosmic & mask).sum() > mask.sum() / 10:
            raise InstrumentError(
                f"the emission saturates {row['saturated_pixels']} pixels of the band",
                role="detector",
                state="shutter closed",
                todo="allow a shorter exposure-min, or read at less fluence",
            )
        size = len(counts)
        return Record(
            row,
            {
                "spectrum": counts.astype(np.float32),
                "mask": (np.where(saturated, SATURATED, 0) | np.where(cosmic, COSMIC, 0)).astype(np.uint8),
                "reference_spectrum": (seen.counts if seen is not None else np.zeros(size)).astype(np.float32),
                "lamp_light": (self.lamp.rate if self.lamp is not None else np.zeros(size)).astype(np.float32),
                **self._cycle_arrays(cycles),
                **arrays,
            },
        )

    def _cycle_arrays(self, cycles: int) -> dict[str, Array]:
        def padded(values: Sequence[float] | Array, size: int) -> Array:
            return np.concatenate([values, np.full(size - len(values), np.nan)])

        arrays = {"energy_cycles_j": padded([shot.energy_j for shot in self.sample], cycles)}
        for name, shots, size in (("sample", self.sample, cycles), ("reference", self.reference, cycles + 1)):
            value, error = _values(shots)
            arrays[f"{name}_before_s"] = padded([self.ended_s - shot.at_s for shot in shots], size)
            arrays[f"{name}_cycles"] = padded(value, size)
            arrays[f"{name}_cycles_error"] = padded(error, size)
        return arrays


@dataclass(frozen=True, eq=False)
class _Summed:
    """Exposures of all cycles; see :class:`labctl.analysis.frames.Exposed`."""

    counts: Array
    exposure_s: float
    accumulations: int
    cosmic: NDArray[np.bool_]


def _values(shots: Sequence[Shot]) -> tuple[Array, Array]:
    return np.array([shot.intensity for shot in shots]), np.array([shot.error for shot in shots])


def mean_over(values: Array, errors: Array) -> tuple[float, float]:
    """Get the mean and its standard error: from the scatter, at least that from counting; NaN of nothing."""
    if not values.size:
        return math.nan, math.nan
    counting = float(np.linalg.norm(errors)) / values.size
    scatter = float(values.std(ddof=1)) / values.size**0.5 if values.size > 1 else 0.0
    return float(values.mean()), max(counting, scatter)
