"""Overlaps: where the exposure changes from one point to the next, one of them is measured at both."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.bench.bench import Bench
from labctl.quantities import Spectrum
from procedures.emission.exposure import ExposureLadder, predicted_peak_rate
from procedures.sweep.memory import SweepMemory

_NOT_FULL = 0.8


class Overlaps:
    """Ties a point to its neighbours by a further exposure, shutter open.

    :param bench: Its spectrometer is used.
    :param ladder: The exposures there are dark frames for.
    :param memory: What the sweep has measured so far.
    :param mask: Pixels of the band, shape (pixels,).
    :param stop: Set to end an exposure.
    """

    def __init__(
        self,
        bench: Bench,
        ladder: ExposureLadder,
        memory: SweepMemory,
        mask: NDArray[np.bool_],
        stop: threading.Event,
    ) -> None:
        self._bench = bench
        self._ladder = ladder
        self._memory = memory
        self._mask = mask
        self._stop = stop

    def exposure_before(self, spectrum: Spectrum) -> float | None:
        """Get the exposure that ties this point to the one before, or None if they are tied already.

        That is the exposure of the point before. Where it would saturate here and was not foreseen there, the next
        exposure of the ladder has to do.
        """
        if not self._memory.rows:
            return None
        known = (self._memory.rows[-1]["exposure_s"], self._memory.rows[-1]["overlap_next_exposure_s"])
        if any(math.isclose(exposure_s, spectrum.exposure_s, rel_tol=1e-3) for exposure_s in known):
            return None
        longest_s = _NOT_FULL * spectrum.full_scale_counts / self._memory.frames.peak_rate(spectrum, self._mask)
        return known[0] if known[0] <= longest_s else self._ladder.beside(spectrum.exposure_s, longest_s)

    def exposure_after(
        self, following_uj_cm2: float | None, spectrum: Spectrum, here: Mapping[str, Any]
    ) -> float | None:
        """Get the exposure of the next point if it will be shorter: this one would saturate there.

        :param following_uj_cm2: Fluence of the next point; None if it is not known.
        :param here: What is known of this point for auto-exposure: its fluence and peak rate.
        """
        if following_uj_cm2 is None:
            return None
        next_s = self._ladder.choose(
            predicted_peak_rate([*self._memory.rows, here], following_uj_cm2), self._bench.spectrometer.detector
        )
        return next_s if next_s < spectrum.exposure_s * 0.999 else None

    def overlap(self, spectrum: Spectrum, exposure_s: float | None) -> tuple[float, float]:
        """Measure once more at another exposure; returns it and the ratio of rates, that one over the spectrum's.

        The ratio tells whether detector and shutter are linear across a change of exposure. NaN without an exposure.
        """
        if exposure_s is None:
            return math.nan, math.nan
        other = self._bench.spectrometer.acquire(exposure_s, 1, stop=self._stop)
        rates = [self._memory.frames.band_rate(one, self._mask) for one in (other, spectrum)]
        return other.exposure_s, rates[0] / rates[1] if rates[1] else math.nan
