"""Dark and scatter frames: what is left of a spectrum when they are subtracted, and its variance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_ROUNDING_VARIANCE = 1 / 12
"""Variance of the rounding to whole counts: a frame cannot be less noisy."""
_SMOOTH = 15
"""Pixels over which light is averaged for its shot noise."""
_DEVIATIONS = 1.4826
"""Standard deviations in the median of absolute deviations of a normal distribution."""


class Exposed(Protocol):
    """Exposures of a detector, summed."""

    @property
    def counts(self) -> Array:
        """Get the sum over all accumulations, shape (pixels,), nothing subtracted."""
        ...

    @property
    def exposure_s(self) -> float:
        """Get the exposure of one accumulation in s."""
        ...

    @property
    def accumulations(self) -> int:
        """Get the number of exposures summed."""
        ...

    @property
    def cosmic(self) -> NDArray[np.bool_]:
        """Get which pixels a cosmic ray has hit, shape (pixels,)."""
        ...


@dataclass(frozen=True, eq=False)
class Frame:
    """A stored frame; fields as in :class:`Exposed`."""

    counts: Array
    exposure_s: float
    accumulations: int
    cosmic: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Dark:
    counts: Array
    frames: int


def repaired(counts: Array, bad: NDArray[np.bool_]) -> Array:
    """Replace bad pixels by interpolation between good neighbours; shape (pixels,)."""
    if not bad.any() or bad.all():
        return counts
    pixels = np.arange(len(counts))
    return np.where(bad, np.interp(pixels, pixels[~bad], counts[~bad]), counts)


class Frames:
    """Dark frames by exposure, and one frame of pump scatter.

    Variances hold shot noise, the noise of read-out and dark current as the dark frames show it, and that of the dark
    and scatter frames themselves, which are subtracted with it. A dark frame subtracted from both spectrum and scatter
    counts twice, although it cancels in part. How well the energy behind the scatter frame is known is no noise of
    pixels but an error of all of them alike: see :meth:`scatter_error`.

    :param counts_per_electron: Gain of the camera: shot noise of n counts is sqrt(n counts_per_electron) counts.
    """

    def __init__(self, counts_per_electron: float = 1.0) -> None:
        if not (math.isfinite(counts_per_electron) and counts_per_electron > 0):
            raise ValueError(f"counts_per_electron must be > 0, got {counts_per_electron}")
        self._counts_per_electron = counts_per_electron
        self._dark: dict[int, _Dark] = {}
        self._scatter_per_j: Array | None = None
        self._scatter_variance: Array | None = None
        self._scatter_energy_error = 0.0

    @property
    def has_scatter(self) -> bool:
        """Get whether pump scatter is known."""
        return self._scatter_per_j is not None

    def add_dark(self, frame: Exposed) -> None:
        """Keep a dark frame for its exposure, as the mean of its accumulations."""
        counts = repaired(frame.counts, frame.cosmic) / frame.accumulations
        self._dark[_microseconds(frame.exposure_s)] = _Dark(counts, frame.accumulations)

    def add_scatter(self, frame: Exposed, pulse_energy_j: float, pulses: float, energy_error_j: float = 0.0) -> None:
        """Keep pump scatter as counts per joule on the sample: it is linear in the pump.

        :param energy_error_j: Standard error of the mean energy of the pulses in the frame.
        :raises ValueError: There was no pump, or the error is none.
        :raises LookupError: There is no dark frame of its exposure.
        """
        joules = pulse_energy_j * pulses
        if not (math.isfinite(joules) and joules > 0):
            raise ValueError(f"pump scatter needs pulses with energy, got {pulses} of {pulse_energy_j} J")
        if not (math.isfinite(energy_error_j) and energy_error_j >= 0):
            raise ValueError(f"the error of the energy must be >= 0, got {energy_error_j} J")
        counts = self._above_dark(frame)
        self._scatter_per_j = counts / joules
        self._scatter_variance = self._variance(frame, counts) / joules**2
        self._scatter_energy_error = energy_error_j / pulse_energy_j

    def emission(self, frame: Exposed, pulse_energy_j: float, pulses: float) -> tuple[Array, Array]:
        """Get the emission in counts, summed over the accumulations, and its variance; both shape (pixels,).

        Raises LookupError if there is no dark frame of its exposure.
        """
        signal = self._above_dark(frame)
        variance = self._variance(frame, signal)
        if self._scatter_per_j is not None and self._scatter_variance is not None:
            joules = pulse_energy_j * pulses
            signal = signal - self._scatter_per_j * joules
            variance = variance + self._scatter_variance * joules**2
        return signal, variance

    def scatter_error(self, pulse_energy_j: float, pulses: float) -> Array | float:
        """Get the standard deviation of the scatter subtracted from the energy behind its frame, in counts.

        Shape (pixels,), or 0 without scatter frame; of the same sign in all pixels, so a sum over pixels has the sum of
        these for its error.
        """
        if self._scatter_per_j is None:
            return 0.0
        return self._scatter_energy_error * pulse_energy_j * pulses * np.maximum(_smooth(self._scatter_per_j), 0.0)

    def peak_rate(self, frame: Exposed, band: NDArray[np.bool_]) -> float:
        """Get the rate of the brightest pixel of the band above dark, in counts per second, at least 1."""
        return max(float(self._rate(frame)[band].max()), 1.0)

    def band_rate(self, frame: Exposed, band: NDArray[np.bool_]) -> float:
        """Get the rate summed over the band above dark, in counts per second."""
        return float(self._rate(frame)[band].sum())

    def dark_noise_counts(self, exposure_s: float) -> float:
        """Get the noise of one pixel in one dark exposure, in counts: read-out, dark current, rounding.

        It is what scatters from pixel to pixel between the dark frames of neighbouring exposures: their difference has
        no fixed pattern. With a single dark frame its own scatter stands for it, fixed pattern and all.
        """
        known = sorted(self._dark)
        place = known.index(_microseconds(exposure_s))
        own = self._dark[known[place]]
        others = [self._dark[known[near]] for near in (place - 1, place + 1) if 0 <= near < len(known)]
        if others:
            variances = [
                _pixel_variance(own.counts - other.counts) / (1 / own.frames + 1 / other.frames) for other in others
            ]
        else:
            variances = [_pixel_variance(own.counts) * own.frames]
        return math.sqrt(max(float(np.mean(variances)), _ROUNDING_VARIANCE))

    def _rate(self, frame: Exposed) -> Array:
        return self._above_dark(frame) / (frame.exposure_s * frame.accumulations)

    def _above_dark(self, frame: Exposed) -> Array:
        return repaired(frame.counts, frame.cosmic) - self._dark_of(frame).counts * frame.accumulations

    def _variance(self, frame: Exposed, above_dark: Array) -> Array:
        sums, dark_frames = frame.accumulations, self._dark_of(frame).frames
        noise = self.dark_noise_counts(frame.exposure_s) ** 2 * sums * (1 + sums / dark_frames)
        # Smoothed, or the positive half of the noise in the dark would count as light.
        light = np.maximum(_smooth(above_dark), 0.0)
        return light * self._counts_per_electron + noise

    def _dark_of(self, frame: Exposed) -> _Dark:
        try:
            return self._dark[_microseconds(frame.exposure_s)]
        except KeyError:
            known = ", ".join(f"{exposure / 1e6:g}" for exposure in sorted(self._dark)) or "none"
            raise LookupError(f"there is no dark frame at {frame.exposure_s:g} s (there are: {known} s)") from None


def _smooth(counts: Array) -> Array:
    padded = np.pad(counts, _SMOOTH // 2, mode="reflect")
    return np.convolve(padded, np.full(_SMOOTH, 1 / _SMOOTH), mode="valid")


def _pixel_variance(counts: Array) -> float:
    """Variance from pixel to pixel; second differences do not feel what is smooth, their median no single pixel."""
    second = np.diff(counts, 2)
    return float((_DEVIATIONS * np.median(np.abs(second - np.median(second)))) ** 2 / 6)


def _microseconds(exposure_s: float) -> int:
    return round(exposure_s * 1e6) if math.isfinite(exposure_s) else -1
