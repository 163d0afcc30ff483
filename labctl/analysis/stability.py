"""Analysis of a stability run: law of degradation, emission at asked clock readings, lifetimes, thermal quench."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.analysis.blended import blended
from labctl.analysis.condensed_reads import condensed
from labctl.analysis.degradation_fit import CurveData, LawFit, comparison, fit_law, fit_laws
from labctl.analysis.degradation_laws import LAWS, Law
from labctl.analysis.estimate import Estimate, data_hash
from labctl.analysis.lifetime_rules import (
    FURTHEST,
    BurnIn,
    Lifetime,
    Maximum,
    after_burn_in,
    lifetime,
    maximum_of,
)
from labctl.analysis.misfit import erratic_share
from labctl.analysis.smooth_course import SmoothCourse, fit_smooth_course
from labctl.analysis.stability_course import DrawnCurve, DrawnPoints, drawn_curve, drawn_points
from labctl.analysis.stability_reads import LAMP_DRIFT, StabilityPoints, StabilityReads, normalise

Array = NDArray[np.float64]

NONE_OF_THE_LAWS = "none of the laws"
_SMOOTH_MISFIT = 4.0
"""A law is refused if the misfit of neighbouring points is this many standard deviations too much in common."""
_LEAST_ERRATIC = 0.2
_FAR_OFF = 25.0
"""chi2/dof from which on noise that repeated reads do not show is no longer believed without looking like noise."""
_LEAST_ERRATIC_FAR_OFF = 0.6
_OPEN_CHOICE = 6.0
"""Laws whose BIC is within this of the best stay in the intervals with their weight: beyond, it is below 5 %."""
_WEAK_CHOICE = 2.0


@dataclass(frozen=True)
class CurveValue:
    """I/I(0) of the cold sample at one clock reading; None with the reason if the data do not reach there."""

    clock: float
    intensity: Estimate | None
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {
            "clock": self.clock,
            "intensity": None if self.intensity is None else self.intensity.as_dict(),
            "reason": self.reason,
        }


@dataclass(frozen=True)
class StabilityAnalysis:
    """What a stability run says. Clock readings and the scales of a law are in ``clock_unit``.

    ``law`` is "none of the laws" if each leaves a smooth misfit; the curve is then a smoothed one and ``parameters`` is
    empty. ``end`` is I/I(0) at the last clock reading. ``quench`` is the reversible thermal quench factor, None without
    both hot and cold reads. ``chi2`` and ``dof`` are those of the best law; ``error_scale`` is the factor by which
    the errors of the points were widened to match their scatter. ``drawn`` and ``drawn_curve`` are for a figure.
    """

    law: str
    formula: str | None
    parameters: dict[str, Estimate]
    values: tuple[CurveValue, ...]
    end: Estimate
    maximum: Maximum
    t80: Lifetime
    t50: Lifetime
    burn_in: BurnIn | None
    quench: Estimate | None
    points: StabilityPoints
    course: LawFit | SmoothCourse
    drawn: DrawnPoints
    drawn_curve: DrawnCurve
    laws: tuple[dict[str, Any], ...]
    chi2: float
    error_scale: float
    dof: int
    data_sha256: str
    warnings: tuple[str, ...]

    @property
    def clock_unit(self) -> str:
        """Get the unit of clock readings."""
        return self.points.clock_unit

    def curve(self, clock: ArrayLike) -> Array:
        """Return the fitted I/I(0) of the cold sample at ``clock``, same shape."""
        return self.course.values(np.asarray(clock, dtype=float))

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {
            "law": self.law,
            "formula": self.formula,
            "parameters": {name: e.as_dict() for name, e in self.parameters.items()},
            "values": [value.as_dict() for value in self.values],
            "end": self.end.as_dict(),
            "maximum": self.maximum.as_dict(),
            "t80": self.t80.as_dict(),
            "t50": self.t50.as_dict(),
            "burn_in": None if self.burn_in is None else self.burn_in.as_dict(),
            "quench": None if self.quench is None else self.quench.as_dict(),
            "clock_unit": self.clock_unit,
            "clock_range": [float(self.points.clock.min()), float(self.points.clock.max())],
            "points": self.drawn.as_dict(),
            "curve": self.drawn_curve.as_dict(),
            "laws": list(self.laws),
            "chi2": self.chi2,
            "error_scale": self.error_scale,
            "dof": self.dof,
            "read_noise": None if np.isnan(self.points.read_noise) else self.points.read_noise,
            "data_sha256": self.data_sha256,
            "warnings": list(self.warnings),
        }


def analyse_stability(
    reads: StabilityReads,
    *,
    at: Sequence[float] = (),
    laws: Sequence[Law] = LAWS,
    divide_by_pump: bool = False,
    clock_error: ArrayLike | None = None,
    lamp_drift: float = LAMP_DRIFT,
) -> StabilityAnalysis:
    """Analyse a stability run.

    :param at: Clock readings at which I/I(0) is asked, beside the last one. :param laws: Those to choose from.
    :param divide_by_pump: Divide the signal by the pump energy of each read.
    :param clock_error: [n], what one standard deviation of a common error adds to the clock of each read: that of the
        activation energy for a thermal-equivalent clock, of the irradiance for a dose. It widens the values.
    Malformed input, a run without baseline or with too few points raises ValueError.
    """
    few = condensed(reads)
    points = normalise(few, divide_by_pump=divide_by_pump, lamp_drift=lamp_drift)
    data = CurveData.of(points)
    first, end = data.span
    fits = fit_laws(data, laws)
    best = fits[0]
    warnings = list(points.warnings)
    cold = _cold(points, best)
    course: LawFit | SmoothCourse = best
    close: list[LawFit] = []
    if _leaves_a_smooth_misfit(best):
        course = fit_smooth_course(points, cold)
        warnings.append(
            f"none of the laws describes the curve (the best, {best.law.name}, leaves {best.scale:.1f} times the"
            " variance of the reads, in common to neighbouring points): values are those of a smoothed curve"
        )
    else:
        lowest = min(fit.rank for fit in fits)
        close = [best, *(fit for fit in fits[1:] if fit.rank - lowest < _OPEN_CHOICE)]
        open_laws = [fit.law.name for fit in close[1:] if fit.rank - best.rank < _WEAK_CHOICE]
        if open_laws:
            warnings.append(f"the data do not tell {best.law.name} from {', '.join(open_laws)}")
    moved = _moved(reads, clock_error, points, course)
    shifts = _Shift(moved, end)
    lives = [_lifetime(course, close, share, first, end, points.clock_unit, moved) for share in (0.8, 0.5)]
    spread = float(np.sqrt(best.scale)) if isinstance(course, LawFit) else course.noise_factor
    cold_error = spread * np.sqrt(np.diag(points.fit_covariance)) * cold / points.intensity
    quench = best.quench_estimate()
    if quench is not None:
        warnings += _quench_warnings(points, course)
    elif points.hot.any():
        warnings.append("no cold read: the reversible thermal quench cannot be told from the loss")
    return StabilityAnalysis(
        law=best.law.name if isinstance(course, LawFit) else NONE_OF_THE_LAWS,
        formula=best.law.formula if isinstance(course, LawFit) else None,
        parameters=_parameters(course, points.clock_unit),
        values=tuple(_value(course, close, float(x), end, shifts) for x in at),
        end=_intensity(course, close, end, shifts),
        maximum=maximum_of(course, end, points.clock_unit),
        t80=lives[0],
        t50=lives[1],
        burn_in=after_burn_in(course, points.clock, cold, cold_error, points.clock_unit),
        quench=quench,
        points=points,
        course=course,
        drawn=drawn_points(points, _start(course, best), spread),
        drawn_curve=drawn_curve(course, close, _weights(close), data.span, None if moved is None else moved.values),
        laws=tuple(comparison(fits)),
        chi2=best.chi2,
        error_scale=spread,
        dof=best.dof,
        data_sha256=data_hash(
            reads.clock, reads.signal, reads.signal_error, reads.reference, reads.reference_time_s, reads.pump_energy
        ),
        warnings=tuple(warnings),
    )


@dataclass(frozen=True)
class _Shift:
    """The curve fitted with every clock reading moved by one standard deviation of their common error."""

    course: LawFit | SmoothCourse | None
    end: float

    def widen(self, estimate: Estimate, clock: float) -> Estimate:
        """Add in quadrature what the error of the clock does to I/I(0) at one reading."""
        if self.course is None:
            return estimate
        extra = abs(float(self.course.values(np.array([clock]))[0]) - estimate.value)
        return _wider(estimate, extra)


def _wider(estimate: Estimate, extra: float) -> Estimate:
    def ends(interval: tuple[float, float], k: float) -> tuple[float, float]:
        low, high = (float(np.hypot(end - estimate.value, k * extra)) for end in interval)
        return estimate.value - low, estimate.value + high

    return replace(estimate, ci68=ends(estimate.ci68, 1.0), ci95=ends(estimate.ci95, 1.96))


def _cold(points: StabilityPoints, fit: LawFit) -> Array:
    """Return I/I(0) with the thermal quench of hot points taken out and the fitted start as 1."""
    amplitudes = fit.data.groups @ fit.amplitudes
    return points.intensity / amplitudes


def _start(course: LawFit | SmoothCourse, fit: LawFit) -> float:
    """Return the fitted start of the cold sample, in units of the mean of the baseline."""
    return float(fit.amplitudes[0]) * (course.start if isinstance(course, SmoothCourse) else 1.0)


def _leaves_a_smooth_misfit(fit: LawFit) -> bool:
    residual, sigma = fit.residuals()
    order = np.argsort(fit.data.clock, kind="stable")
    share = erratic_share(fit.data.clock[order], residual[order], sigma[order])
    if fit.data.scale_known and fit.chi2 / max(fit.dof, 1) > _FAR_OFF and share < _LEAST_ERRATIC_FAR_OFF:
        return True
    return share < max(1.0 - _SMOOTH_MISFIT / float(np.sqrt(residual.size)), _LEAST_ERRATIC)


def _parameters(course: LawFit | SmoothCourse, unit: str) -> dict[str, Estimate]:
    if isinstance(course, SmoothCourse):
        return {}
    found = course.parameter_estimates()
    return {name: replace(e, unit=unit) if e.unit == "clock" else e for name, e in found.items()}


def _intensity(course: LawFit | SmoothCourse, close: list[LawFit], clock: float, shifts: _Shift) -> Estimate:
    if isinstance(course, SmoothCourse):
        x = np.array([clock])
        found = Estimate.from_sd(float(course.values(x)[0]), float(course.errors(x)[0]), "1")
    else:
        found = blended([fit.value_estimate(clock, walk=fit is close[0]) for fit in close], _weights(close))
    return shifts.widen(found, clock)


def _value(course: LawFit | SmoothCourse, close: list[LawFit], clock: float, end: float, shifts: _Shift) -> CurveValue:
    furthest = end if isinstance(course, SmoothCourse) else FURTHEST * end
    if not 0 <= clock <= furthest * (1 + 1e-9):
        return CurveValue(
            clock, None, f"the reads end at {end:.4g}; the curve is not extrapolated beyond {furthest:.4g}"
        )
    return CurveValue(clock, _intensity(course, close, clock, shifts))


def _weights(close: list[LawFit]) -> list[float]:
    return [float(np.exp(-0.5 * (fit.rank - close[0].rank))) for fit in close]


def _lifetime(
    course: LawFit | SmoothCourse,
    close: list[LawFit],
    share: float,
    first: float,
    end: float,
    unit: str,
    moved: LawFit | SmoothCourse | None,
) -> Lifetime:
    found = lifetime(course, share, first, end, unit)
    others = [lifetime(fit, share, first, end, unit, walk=False) for fit in close[1:]]
    if found.estimate is None:
        # A limit holds whichever of the laws is right.
        limits = [life.longer_than if life.estimate is None else life.estimate.ci95[0] for life in (found, *others)]
        return replace(found, longer_than=min(limit for limit in limits if limit is not None))
    same = [
        (life.estimate, weight)
        for life, weight in zip(others, _weights(close)[1:], strict=True)
        if life.estimate is not None and life.reference == found.reference
    ]
    estimate = blended([found.estimate, *(e for e, _ in same)], [1.0, *(w for _, w in same)])
    if moved is not None:
        other = lifetime(moved, share, first, end, unit, walk=False).estimate
        if other is not None:
            estimate = _wider(estimate, abs(other.value - estimate.value))
    return replace(found, estimate=estimate)


def _moved(
    reads: StabilityReads, clock_error: ArrayLike | None, points: StabilityPoints, course: LawFit | SmoothCourse
) -> LawFit | SmoothCourse | None:
    """Return the curve refitted with the clock moved by its error; None if there is none."""
    if clock_error is None:
        return None
    error = np.asarray(clock_error, dtype=float)
    if error.shape != reads.clock.shape or not np.all(np.isfinite(error)):
        raise ValueError(f"clock_error must be finite with shape {reads.clock.shape}, got {error.shape}")
    order = np.argsort(reads.clock, kind="stable")[: np.count_nonzero(np.isfinite(reads.clock))]
    shift = np.interp(points.clock, reads.clock[order], error[order])
    moved = replace(points, clock=np.maximum(points.clock + shift, 0.0))
    if isinstance(course, SmoothCourse):
        return fit_smooth_course(moved, course.intensity)
    again = fit_law(CurveData.of(moved), course.law)
    return replace(again, scale=course.scale, spread_dof=course.spread_dof)


def _quench_warnings(points: StabilityPoints, course: LawFit | SmoothCourse) -> list[str]:
    after = (~points.hot) & (~points.baseline)
    if not after.any():
        return ["no read after cooling down: the thermal quench rests on the law extrapolated to clock 0"]
    if float(course.values(points.clock[after]).max()) < 0.05:
        return [
            "almost nothing is left after cooling down: the thermal quench rests on the law extrapolated to clock 0"
        ]
    return []
