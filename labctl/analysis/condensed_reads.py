"""Fewer reads for a run of many thousands: means of neighbours, so that covariances still fit into memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.stability_reads import StabilityReads

Array = NDArray[np.float64]

MOST_READS = 2400
"""Beyond this many reads of the sample, or of the reference, neighbours are averaged: 1 s and 0.3 GB at this size."""


def condensed(reads: StabilityReads, most: int = MOST_READS) -> StabilityReads:
    """Return the reads, or if there are more than ``most`` the means of neighbours in time, each a point of its own.

    Baseline and others, hot and cold are not mixed; reads that are not finite are left out first. What repeated reads
    of a point scatter is then no longer seen; the fit finds the noise by itself.
    """
    found = _condensed_signal(reads, most) if reads.signal.size > most else reads
    reference, when = found.reference, found.reference_time_s
    if reference is None or when is None or reference.size <= most:
        return found
    good = np.isfinite(reference) & (reference > 0) & np.isfinite(when)
    error = found.reference_error
    order = np.flatnonzero(good)[np.argsort(when[good], kind="stable")]
    group = np.arange(order.size) // int(np.ceil(order.size / most))
    return replace(
        found,
        reference=_mean(reference[order], group),
        reference_time_s=_mean(when[order], group),
        reference_error=None if error is None else _error(error[order], group),
    )


def _condensed_signal(reads: StabilityReads, most: int) -> StabilityReads:
    good = np.isfinite(reads.signal) & np.isfinite(reads.clock) & np.isfinite(reads.time_s)
    order = np.flatnonzero(good)[np.argsort(reads.time_s[good], kind="stable")]
    kind = 2 * reads.baseline[order].astype(int) + reads.hot[order]
    together = int(np.ceil(order.size / most))
    stretch = np.concatenate([[0], np.cumsum(np.diff(kind) != 0)])
    begins = np.searchsorted(stretch, stretch, side="left")
    part = (np.arange(order.size) - begins) // together
    _, group = np.unique(stretch * order.size + part, return_inverse=True)
    error, pump = reads.signal_error, reads.pump_energy
    return replace(
        reads,
        clock=_mean(reads.clock[order], group),
        time_s=_mean(reads.time_s[order], group),
        signal=_mean(reads.signal[order], group),
        baseline=_mean(reads.baseline[order].astype(float), group) > 0.5,
        hot=_mean(reads.hot[order].astype(float), group) > 0.5,
        point=np.arange(int(group.max()) + 1),
        signal_error=None if error is None else _error(error[order], group),
        pump_energy=None if pump is None else _mean(pump[order], group),
    )


def _mean(values: Array, group: NDArray[np.intp]) -> Array:
    return np.bincount(group, values) / np.bincount(group)


def _error(errors: Array, group: NDArray[np.intp]) -> Array:
    return np.sqrt(np.bincount(group, errors**2)) / np.bincount(group)
