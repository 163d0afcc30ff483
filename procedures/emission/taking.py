"""Taking emission spectra: well exposed, with the energy of their pulses."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.frames import Frames
from labctl.bench.bench import Bench
from labctl.errors import Aborted
from labctl.quantities import EnergyReading, Fluence, Spectrum
from procedures.emission.exposure import ExposureLadder
from procedures.emission.light import RETAKES

_WEAK = 4.0


def _nothing() -> None:
    """Read nothing else."""


class SpectrumTaker:
    """Takes spectra with the shutter open.

    :param bench: Its spectrometer and pump beam are used.
    :param ladder: The exposures there are dark frames for.
    :param frames: Dark frames, to tell how bright a spectrum is.
    :param mask: Pixels of the band, shape (pixels,).
    :param averages: Exposures summed for a spectrum.
    :param pulses: Pulses in a reading of the energy meter.
    :param stop: Set to end an exposure.
    """

    def __init__(
        self,
        bench: Bench,
        ladder: ExposureLadder,
        frames: Frames,
        mask: NDArray[np.bool_],
        *,
        averages: int,
        pulses: int,
        stop: threading.Event,
    ) -> None:
        self._bench = bench
        self._ladder = ladder
        self._frames = frames
        self._mask = mask
        self._averages = averages
        self._pulses = pulses
        self._stop = stop

    def lit(
        self, exposure_s: float, accumulations: int, also: Callable[[], None] = _nothing
    ) -> tuple[Spectrum, Fluence, EnergyReading]:
        """Take a spectrum, shutter open, and read the energy of the pulses in its first exposure.

        The reading starts as soon as the first exposure has: light beyond a limit is found no later than by a reading
        beforehand, and ends the exposure.

        :param also: What else is read while the light is on.
        """
        self._bench.pump.require_dose(exposure_s * accumulations)
        readings: list[tuple[Fluence, EnergyReading]] = []

        def during() -> None:
            readings.append(self._bench.pump.read_fluence(self._pulses))
            also()

        spectrum = self._bench.spectrometer.acquire(
            exposure_s,
            accumulations,
            during=during,
            stop=self._stop,
        )
        return spectrum, *readings[0]

    def well_exposed(
        self, exposure_s: float, also: Callable[[], None] = _nothing
    ) -> tuple[Spectrum, Fluence, EnergyReading]:
        """Take a spectrum, and again while its exposure is far off, always in the direction of the first correction."""
        taken = self.lit(exposure_s, self._averages, also)
        first_s = taken[0].exposure_s
        for _ in range(RETAKES):
            better_s = self._better_exposure(taken[0])
            if better_s is None or (better_s > taken[0].exposure_s) != (better_s > first_s):
                break
            if self._stop.is_set():
                raise Aborted("the run was stopped on request")
            taken = self.lit(better_s, self._averages, also)
        return taken

    def _better_exposure(self, spectrum: Spectrum) -> float | None:
        """Get the exposure with which to take the spectrum again, or None if it is good enough."""
        if (spectrum.saturated & self._mask).any():
            return (
                self._ladder.shorter(spectrum.exposure_s)
                if spectrum.exposure_s > self._ladder.shortest_s * 1.001
                else None
            )
        chosen_s = self._ladder.choose(self._frames.peak_rate(spectrum, self._mask), self._bench.spectrometer.detector)
        return chosen_s if chosen_s >= _WEAK * spectrum.exposure_s else None
