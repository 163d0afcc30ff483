"""One acquisition of a simulated camera: when its scans are exposed and read, and what they hold.

The laboratory gives one line, the sum over all rows. Where rows are read apart, the line is spread over them with a
Gaussian profile and rounded so that the rows add up to the line again; the offset of the converter is spread with it,
which a real camera does not do.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_PROFILE_SIGMA_ROWS = 6.0

Line = NDArray[np.int32]
Expose = Callable[[float], Line]
"""Exposes the sensor from a moment on and reads it out as one line, shape (pixels,)."""


@dataclass(frozen=True)
class Geometry:
    """What is read of the sensor: bands of rows, each summed into one line, and a window of columns.

    :param bands: First and last row of each band, from 1, inclusive.
    :param first_column: First column, from 1. :param last_column: Last column, inclusive.
    :param bin: Columns per value. :param rows: Rows of the sensor.
    """

    bands: tuple[tuple[int, int], ...]
    first_column: int
    last_column: int
    bin: int
    rows: int

    @property
    def size(self) -> int:
        """Get the number of values in a frame."""
        return len(self.bands) * ((self.last_column - self.first_column + 1) // self.bin)

    def frame(self, line: Line) -> NDArray[np.int32]:
        """Get the frame, shape (size,), band after band."""
        lines = [self._below(last, line) - self._below(first - 1, line) for first, last in self.bands]
        window = np.array(lines)[:, self.first_column - 1 : self.last_column]
        return window.reshape(-1, self.bin).sum(axis=1).astype(np.int32)

    def _below(self, row: int, line: Line) -> NDArray[np.int64]:
        """Counts in all rows from 1 to ``row``."""
        middle, width = (self.rows + 1) / 2, _PROFILE_SIGMA_ROWS * math.sqrt(2)
        low, high = math.erf((0.5 - middle) / width), math.erf((self.rows + 0.5 - middle) / width)
        share = (math.erf((row + 0.5 - middle) / width) - low) / (high - low)
        return np.rint(share * line).astype(np.int64)


@dataclass(frozen=True)
class Timing:
    """True times in s, after rounding.

    :param exposure_s: Exposure of a scan. :param accumulate_s: From scan to scan.
    :param kinetic_s: From frame to frame. :param readout_s: Read-out of a scan.
    """

    exposure_s: float
    accumulate_s: float
    kinetic_s: float
    readout_s: float


@dataclass
class Acquisition:
    """What one StartAcquisition brings.

    :param start_s: When the first exposure starts.
    :param frames: Number of frames; None for run till abort.
    :param scans: Accumulations in each frame.
    """

    start_s: float
    timing: Timing
    geometry: Geometry
    frames: int | None
    scans: int
    expose: Expose
    aborted_s: float = math.inf
    retrieved: int = 0
    _done: dict[int, NDArray[np.int32]] = field(default_factory=dict)

    @property
    def end_s(self) -> float:
        """Get the moment at which the last frame is read, or at which it was aborted."""
        end_s = math.inf if self.frames is None else self.scan_end_s(self.frames * self.scans)
        return min(end_s, self.aborted_s)

    def scan_end_s(self, number: int) -> float:
        """Get the moment at which scan ``number`` (from 1) is read."""
        return self._scan_start_s(number - 1) + self.timing.exposure_s + self.timing.readout_s

    def scans_read(self, t: float) -> int:
        """Get the number of scans read until ``t``."""
        t = min(t, self.aborted_s)
        most = sys.maxsize if self.frames is None else self.frames * self.scans
        number = min(max(math.floor((t - self.start_s) / self.timing.kinetic_s) - 1, 0) * self.scans, most)
        while number < most and self.scan_end_s(number + 1) <= t:
            number += 1
        return number

    def frames_read(self, t: float) -> int:
        """Get the number of complete frames until ``t``."""
        return self.scans_read(t) // self.scans

    def frame(self, number: int) -> NDArray[np.int32]:
        """Get frame ``number`` (from 1), the sum of its scans; the same one each time it is asked for."""
        if number not in self._done:
            lines = [self.expose(self._scan_start_s((number - 1) * self.scans + scan)) for scan in range(self.scans)]
            self._done[number] = self.geometry.frame(np.sum(lines, axis=0))
        return self._done[number]

    def _scan_start_s(self, index: int) -> float:
        frame, scan = divmod(index, self.scans)
        return self.start_s + frame * self.timing.kinetic_s + scan * self.timing.accumulate_s
