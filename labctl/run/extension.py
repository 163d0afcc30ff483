"""Whether a run that goes may have more points: what dose and disk still allow."""

from __future__ import annotations

from pathlib import Path

from labctl.bench.bench import Bench
from labctl.folders import free_mb
from labctl.run.plan import Stage
from labctl.run.preflight import points_mb
from labctl.run.request import PreparedRun


def reason_against(prepared: PreparedRun, bench: Bench, stage: Stage, count: int) -> str:
    """Get why a stage may not have ``count`` points more; empty if it may.

    The dose of a point is bounded as in the plan. The bench holds the limit of the dose in any case: this refuses
    beforehand what would end the run halfway.
    """
    limits = prepared.bench.limits
    if limits is None:
        return ""
    dose_j_cm2 = stage.dose_j_cm2 / max(stage.max_points, 1) * count
    limit_j_cm2 = limits.dose_per_spot_j_cm2
    if dose_j_cm2 > 0 and limit_j_cm2 is not None and bench.pump.spot_dose_j_cm2 + dose_j_cm2 > limit_j_cm2:
        return (
            f"{count} more points may add {dose_j_cm2:.3g} J/cm^2 to the {bench.pump.spot_dose_j_cm2:.3g} J/cm^2 that"
            f" the spot has received; the limit is {limit_j_cm2:.3g} J/cm^2 (limits.dose_per_spot)"
        )
    need_mb, left_mb = points_mb(prepared, count), free_mb(Path(prepared.request.out))
    if left_mb < need_mb + limits.disk_reserve_mb:
        return (
            f"{count} more points may need {need_mb:.0f} MB; the disk has {left_mb:.0f} MB free, of which"
            f" {limits.disk_reserve_mb:.0f} MB are to stay free (limits.disk_reserve)"
        )
    return ""
