"""Frames without emission, and the emission that is left when they are subtracted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labctl.errors import InputError
from labctl.quantities import Spectrum

READ_NOISE_COUNTS = 6.0
"""Upper estimate of read noise per exposure and pixel, for weights only; χ² of the fit corrects it."""

Array = NDArray[np.float64]


def repaired(counts: Array, bad: NDArray[np.bool_]) -> Array:
    """Replace bad pixels by interpolation between good neighbours; shape (pixels,)."""
    if not bad.any() or bad.all():
        return counts
    pixels = np.arange(len(counts))
    return np.where(bad, np.interp(pixels, pixels[~bad], counts[~bad]), counts)


class Frames:
    """Dark frames by exposure and one frame of pump scatter."""

    def __init__(self) -> None:
        self._dark: dict[int, tuple[Array, int]] = {}
        self._scatter_per_j: Array | None = None

    def add_dark(self, frame: Spectrum) -> None:
        """Keep a dark frame for its exposure, as the mean of its accumulations."""
        counts = repaired(frame.counts, frame.cosmic) / frame.accumulations
        self._dark[_microseconds(frame.exposure_s)] = (counts, frame.accumulations)

    def add_scatter(self, frame: Spectrum, pulse_energy_j: float, pulses: int) -> None:
        """Keep pump scatter as counts per joule on the sample: it is linear in the pump."""
        counts = repaired(frame.counts, frame.cosmic) - self._dark_of(frame)[0] * frame.accumulations
        self._scatter_per_j = counts / (pulse_energy_j * pulses)

    def emission(self, spectrum: Spectrum, pulse_energy_j: float, pulses: int) -> tuple[Array, Array]:
        """Get the emission in counts, summed over the accumulations, and its variance; both shape (pixels,)."""
        dark, dark_frames = self._dark_of(spectrum)
        signal = repaired(spectrum.counts, spectrum.cosmic) - dark * spectrum.accumulations
        read = READ_NOISE_COUNTS**2 * spectrum.accumulations * (1 + spectrum.accumulations / dark_frames)
        variance = np.maximum(signal, 0.0) + read
        if self._scatter_per_j is not None:
            signal = signal - self._scatter_per_j * pulse_energy_j * pulses
        return signal, variance

    def peak_rate(self, spectrum: Spectrum, band: NDArray[np.bool_]) -> float:
        """Get the rate of the brightest pixel of the band above dark, in counts per second, at least 1."""
        counts = repaired(spectrum.counts, spectrum.cosmic) / spectrum.accumulations - self._dark_of(spectrum)[0]
        return max(float(counts[band].max()) / spectrum.exposure_s, 1.0)

    def band_rate(self, spectrum: Spectrum, band: NDArray[np.bool_]) -> float:
        """Get the rate over the band above dark, in counts per second."""
        counts = repaired(spectrum.counts, spectrum.cosmic) / spectrum.accumulations - self._dark_of(spectrum)[0]
        return float(counts[band].sum()) / spectrum.exposure_s

    def _dark_of(self, frame: Spectrum) -> tuple[Array, int]:
        try:
            return self._dark[_microseconds(frame.exposure_s)]
        except KeyError:
            known = ", ".join(f"{exposure / 1e6:g}" for exposure in sorted(self._dark))
            raise InputError(f"there is no dark frame at {frame.exposure_s:g} s (there are: {known} s)") from None


def _microseconds(exposure_s: float) -> int:
    return round(exposure_s * 1e6)
