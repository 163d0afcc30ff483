"""Reads of a stability run as arrays, and the normalisation I(t) = [S(t)/R(t)] / [S(0)/R(0)] with its covariance.

S is the signal of the sample, R that of a reference (a dye or a stable film) which is read before and after it under
the same light, so that what the lamp does falls out. Without a reference the lamp's drift stays in the curve: at 5 %
of drift it raises the error after 100 min of heat from 0.006 to 0.035.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.analysis.lamp_reference import Lamp, lamp_at

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

UNKNOWN_NOISE = 0.01
"""Relative noise of a read where neither errors nor repeated reads tell it."""
NOISE_FLOOR = 1e-3
"""Noise of a read whose errors are not given, as a share of the baseline: keeps a dim read from outweighing all."""
LAMP_DRIFT = 0.03
"""Lamp drift over a run that is assumed without a reference: standard deviation at its end, as a random walk."""
_MIN_REPEATS = 6


@dataclass(frozen=True)
class StabilityReads:
    """Reads of one run, in any order. Arrays [n]; those of the reference [m].

    ``clock`` is the reading of what wears the sample at each read: time, dose, shots, thermal-equivalent time, in
    ``clock_unit``; 0 at a baseline read. ``time_s`` is when the read was taken, on the time axis of the reference.
    ``signal`` is integrated and dark-subtracted; ``signal_error`` its standard deviation (counting and dark only).
    ``point`` numbers the point a read belongs to: its cycles share it. ``hot`` marks reads taken at the temperature
    of the stress. ``pump_energy`` is the excitation at the read, in any unit.
    """

    clock: Array
    time_s: Array
    signal: Array
    baseline: BoolArray
    point: NDArray[np.int64]
    hot: BoolArray
    signal_error: Array | None = None
    reference_time_s: Array | None = None
    reference: Array | None = None
    reference_error: Array | None = None
    pump_energy: Array | None = None
    clock_unit: str = "s"

    @classmethod
    def of(
        cls,
        clock: ArrayLike,
        signal: ArrayLike,
        *,
        time_s: ArrayLike | None = None,
        signal_error: ArrayLike | None = None,
        baseline: ArrayLike | None = None,
        point: ArrayLike | None = None,
        hot: ArrayLike | None = None,
        reference_time_s: ArrayLike | None = None,
        reference: ArrayLike | None = None,
        reference_error: ArrayLike | None = None,
        pump_energy: ArrayLike | None = None,
        clock_unit: str = "s",
    ) -> StabilityReads:
        """Build from any sequences; see the class for shapes and units.

        Left out, ``time_s`` is the clock, ``baseline`` the reads at clock 0, ``point`` one for each read, ``hot`` none.
        ``reference_time_s`` may be left out when there is one reference read per sample read.
        Raises ValueError for shapes that do not fit, a run without baseline, or no finite read.
        """
        reading = _vector("clock", clock)
        n = reading.size
        when = reading if time_s is None else _vector("time_s", time_s, n)
        start = reading <= 0 if baseline is None else np.asarray(baseline, dtype=bool)
        groups = np.arange(n) if point is None else np.asarray(point, dtype=np.int64)
        heated = np.zeros(n, dtype=bool) if hot is None else np.asarray(hot, dtype=bool)
        for name, array in (("baseline", start), ("point", groups), ("hot", heated)):
            if array.shape != (n,):
                raise ValueError(f"{name} must have shape ({n},) like clock, got {array.shape}")
        if reference is None and (reference_time_s is not None or reference_error is not None):
            raise ValueError("reference_time_s or reference_error without reference")
        ref = None if reference is None else _vector("reference", reference)
        if ref is None:
            ref_time = None
        elif reference_time_s is not None:
            ref_time = _vector("reference_time_s", reference_time_s, ref.size)
        elif ref.size == n:
            ref_time = when
        else:
            raise ValueError(f"{ref.size} reference reads for {n} sample reads need reference_time_s")
        return cls(
            reading,
            when,
            _vector("signal", signal, n),
            start,
            groups,
            heated,
            None if signal_error is None else _vector("signal_error", signal_error, n),
            ref_time,
            ref,
            None if reference_error is None or ref is None else _vector("reference_error", reference_error, ref.size),
            None if pump_energy is None else _vector("pump_energy", pump_energy, n),
            clock_unit,
        )


def _vector(name: str, values: ArrayLike, size: int | None = None) -> Array:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or array.size == 0 or (size is not None and array.size != size):
        raise ValueError(f"{name} must be one-dimensional{'' if size is None else f' with {size} values'}")
    return array


@dataclass(frozen=True)
class StabilityPoints:
    """Points of a run, sorted by clock: means over the cycles. Arrays [p], covariances [p, p].

    ``intensity`` is I/I(0) with ``covariance``, in which the error of the baseline stands in every element;
    ``fit_covariance`` leaves it out, for a fit whose amplitude is free and whose data include the baseline.
    ``read_noise`` is the relative noise of one read found from repeated reads (nan without them), with
    ``noise_dof`` degrees of freedom: 0 where the scale of the errors is not known.
    """

    clock: Array
    intensity: Array
    covariance: Array
    fit_covariance: Array
    baseline: BoolArray
    hot: BoolArray
    point: NDArray[np.int64]
    read_noise: float
    noise_dof: int
    scale_known: bool
    clock_unit: str
    warnings: tuple[str, ...]

    @property
    def error(self) -> Array:
        """Get the standard deviations of ``intensity``, [p]."""
        return np.sqrt(np.diag(self.covariance))


def normalise(
    reads: StabilityReads, *, divide_by_pump: bool = False, lamp_drift: float = LAMP_DRIFT
) -> StabilityPoints:
    """Return the points of a run, normalised to its baseline.

    Each read is divided by the lamp, interpolated in time between the reference reads before and after it, optionally
    by the pump energy, and by the mean of the baseline. Reads that share reference reads are correlated, as are all
    points through the baseline; the covariances hold both. What repeated reads scatter more than their errors say
    (repositioning, flicker) becomes a relative noise of every read.

    :param lamp_drift: used without a reference only, see `LAMP_DRIFT`.
    """
    warnings: list[str] = []
    good, level = _usable(reads, divide_by_pump, warnings)
    when = reads.time_s[good]
    lamp = _lamp(reads, when, warnings)
    q = reads.signal[good] / level[good] / (np.ones(when.size) if lamp is None else np.exp(lamp.log_level))
    start = float(np.mean(q[reads.baseline[good]]))
    if not start > 0:
        raise ValueError(f"the baseline is {start:.4g}, not above zero: check the dark and the band")
    size = np.abs(q / start)
    if reads.signal_error is None:
        own = np.full(q.size, NOISE_FLOOR)
    else:
        own = reads.signal_error[good] / reads.signal[good] * q / start
    drift = _drift(when, lamp_drift) if lamp is None else lamp.covariance
    if lamp is None and not divide_by_pump:
        warnings.append(
            "no reference: the lamp's drift is in the curve; errors include a drift of"
            f" {100 * lamp_drift:.0f} % over the run"
        )
    shared = np.outer(size, size) * drift
    groups, index = np.unique(reads.point[good], return_inverse=True)
    within = shared if lamp is not None else np.zeros_like(shared)
    variance, dof = _excess(q / start, index, np.diag(own**2) + within, size**2)
    if not dof and lamp is not None and np.isfinite(lamp.noise):
        variance = lamp.noise**2
    covariance = shared + np.diag(own**2 + variance * size**2)
    mean = np.zeros((groups.size, q.size))
    mean[index, np.arange(q.size)] = 1.0 / np.bincount(index)[index]
    clock = mean @ reads.clock[good]
    order = np.argsort(clock, kind="stable")
    mean = mean[order]
    return _points(reads, good, mean, q / start, covariance, clock[order], groups[order], variance, dof, warnings)


def _points(
    reads: StabilityReads,
    good: BoolArray,
    mean: Array,
    q: Array,
    covariance: Array,
    clock: Array,
    point: NDArray[np.int64],
    variance: float,
    dof: int,
    warnings: list[str],
) -> StabilityPoints:
    """Return the means [p] over the reads of each point, normalised to those of the baseline, with covariances."""
    y, fit_covariance = mean @ q, mean @ covariance @ mean.T
    is_baseline = (mean @ reads.baseline[good]) > 0.5
    if not is_baseline.any():
        raise ValueError("a point holds baseline reads and others: number the baseline reads apart")
    share = is_baseline / is_baseline.sum()
    start = float(share @ y)
    turn = np.eye(y.size) - np.outer(y / start, share)
    return StabilityPoints(
        clock=clock,
        intensity=y / start,
        covariance=np.asarray(turn @ fit_covariance @ turn.T / start**2, dtype=float),
        fit_covariance=fit_covariance / start**2,
        baseline=is_baseline,
        hot=(mean @ reads.hot[good]) > 0.5,
        point=point,
        read_noise=float(np.sqrt(variance)) if dof else float("nan"),
        noise_dof=dof,
        scale_known=dof > 0,
        clock_unit=reads.clock_unit,
        warnings=tuple(warnings),
    )


def _usable(reads: StabilityReads, divide_by_pump: bool, warnings: list[str]) -> tuple[BoolArray, Array]:
    """Return which reads count [n], and the pump energy [n] to divide by (or ones)."""
    level = np.ones(reads.signal.size)
    if divide_by_pump:
        if reads.pump_energy is None:
            raise ValueError("no pump energy to divide by")
        level = reads.pump_energy
    good = np.isfinite(reads.signal) & np.isfinite(reads.clock) & np.isfinite(reads.time_s)
    good &= (reads.signal != 0) & np.isfinite(level) & (level > 0)
    if reads.signal_error is not None:
        good &= np.isfinite(reads.signal_error) & (reads.signal_error > 0)
    if not good.all():
        warnings.append(f"{np.count_nonzero(~good)} of {good.size} reads are missing or not finite; they are left out")
    if not np.any(good & reads.baseline):
        raise ValueError("no baseline read to normalise to: take reads at clock 0 before the stress begins")
    return good, level


def _lamp(reads: StabilityReads, when: Array, warnings: list[str]) -> Lamp | None:
    if reads.reference is None or reads.reference_time_s is None:
        return None
    error = reads.reference_error
    use = np.isfinite(reads.reference) & (reads.reference > 0) & np.isfinite(reads.reference_time_s)
    if error is not None:
        use &= np.isfinite(error) & (error > 0)
    if not use.any():
        raise ValueError("no reference read is above zero: leave the reference out, or check the reference sample")
    if not use.all():
        warnings.append(f"{np.count_nonzero(~use)} of {use.size} reference reads are missing or not above zero")
    lamp = lamp_at(when, reads.reference_time_s[use], reads.reference[use], None if error is None else error[use])
    if lamp.outside > 0.1 * when.size:
        warnings.append(f"{lamp.outside} of {when.size} reads have a reference read on one side only")
    return lamp


def _excess(q: Array, index: NDArray[np.intp], known: Array, unit: Array) -> tuple[float, int]:
    """Return the relative variance of a read that the scatter within points asks for, and its degrees of freedom.

    :param known: [n, n], covariance that is accounted for. :param unit: [n], variance of a read at relative noise 1.
    """
    repeats = np.bincount(index)
    dof = int(np.sum(repeats - 1))
    if dof < _MIN_REPEATS:
        return UNKNOWN_NOISE**2, 0
    centre = np.eye(q.size) - (index[:, None] == index[None, :]) / repeats[index][:, None]
    scatter = float(q @ centre @ q) - float(np.sum(centre * known))
    return max(scatter / float(np.diag(centre) @ unit), 0.0), dof


def _drift(time_s: Array, share: float) -> Array:
    since = time_s - time_s.min()
    return share**2 * np.minimum(since[:, None], since[None, :]) / max(float(since.max()), 1e-300)
