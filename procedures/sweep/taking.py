"""Taking emission spectra: well exposed, with the energy of their pulses, and tied to their neighbours by overlaps."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.bench.bench import Bench
from labctl.errors import Aborted
from labctl.quantities import EnergyReading, Fluence, Spectrum
from procedures.sweep.exposure import ExposureLadder, predicted_peak_rate
from procedures.sweep.memory import SweepMemory
from procedures.sweep.stages import RETAKES

_WEAK = 4.0
_NOT_FULL = 0.8


class SpectrumTaker:
    """Takes spectra with the shutter open.

    :param bench: Its spectrometer and pump beam are used.
    :param ladder: The exposures there are dark frames for.
    :param memory: What the sweep has measured so far.
    :param mask: Pixels of the band, shape (pixels,).
    :param averages: Exposures summed for a spectrum.
    :param pulses: Pulses in a reading of the energy meter.
    :param stop: Set to end an exposure.
    """

    def __init__(
        self,
        bench: Bench,
        ladder: ExposureLadder,
        memory: SweepMemory,
        mask: NDArray[np.bool_],
        *,
        averages: int,
        pulses: int,
        stop: threading.Event,
    ) -> None:
        self._bench = bench
        self._ladder = ladder
        self._memory = memory
        self._mask = mask
        self._averages = averages
        self._pulses = pulses
        self._stop = stop

    def lit(self, exposure_s: float, accumulations: int) -> tuple[Spectrum, Fluence, EnergyReading]:
        """Take a spectrum, shutter open, and read the energy of the pulses in its first exposure.

        The reading starts as soon as the first exposure has: light beyond a limit is found no later than by a reading
        beforehand, and ends the exposure.
        """
        self._bench.pump.require_dose(exposure_s * accumulations)
        readings: list[tuple[Fluence, EnergyReading]] = []
        spectrum = self._bench.spectrometer.acquire(
            exposure_s,
            accumulations,
            during=lambda: readings.append(self._bench.pump.read_fluence(self._pulses)),
            stop=self._stop,
        )
        return spectrum, *readings[0]

    def well_exposed(self, exposure_s: float) -> tuple[Spectrum, Fluence, EnergyReading]:
        """Take a spectrum, and again while its exposure is far off, always in the direction of the first correction."""
        taken = self.lit(exposure_s, self._averages)
        first_s = taken[0].exposure_s
        for _ in range(RETAKES):
            better_s = self._better_exposure(taken[0])
            if better_s is None or (better_s > taken[0].exposure_s) != (better_s > first_s):
                break
            if self._stop.is_set():
                raise Aborted("the run was stopped on request")
            taken = self.lit(better_s, self._averages)
        return taken

    def _better_exposure(self, spectrum: Spectrum) -> float | None:
        """Get the exposure with which to take the spectrum again, or None if it is good enough."""
        if (spectrum.saturated & self._mask).any():
            return (
                self._ladder.shorter(spectrum.exposure_s)
                if spectrum.exposure_s > self._ladder.shortest_s * 1.001
                else None
            )
        chosen_s = self._ladder.choose(
            self._memory.frames.peak_rate(spectrum, self._mask), self._bench.spectrometer.detector
        )
        return chosen_s if chosen_s >= _WEAK * spectrum.exposure_s else None

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
