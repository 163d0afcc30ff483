"""UV stability: how the emission of a sample rises and falls under a lamp, against time and dose.

Order of the run: dark frames and pump scatter; the baseline; the lamp is lit and stays on, and the emission is read at
weak light by the schedule; the lamp goes out and the last reads follow. The irradiance is read while the lamp warms up,
at each read, and every hour: the dose is what was measured, not what was expected. The lamp's own light on the detector
is measured at each read with the pump shut, and subtracted.
"""

from __future__ import annotations

from typing import Any, ClassVar

from labctl.bench.bench_sections import section
from labctl.config.bench import BenchConfig
from labctl.config.sample import SampleConfig
from labctl.errors import InputError
from labctl.run.parameters import quantity_list
from labctl.run.plan import Plan, Point
from labctl.run.procedure import DefaultPlot, Record
from procedures.stability.lamp_analysis import analyse_lit
from procedures.stability.lit import LitProcedure
from procedures.stability.procedure import StabilityProcedure

UV, AFTER = "uv", "after"
_REPORTED_MIN = (2 * 60.0, 17 * 60.0, 648 * 60.0)


class UvStability(LitProcedure):
    """Emission against time and dose under a lamp."""

    NAME: ClassVar[str] = "uv-stability"
    TITLE: ClassVar[str] = "UV stability: emission against time and dose under a lamp"
    ROLES: ClassVar[tuple[str, ...]] = (*StabilityProcedure.ROLES, "lamp")
    OPTIONAL_ROLES: ClassVar[tuple[str, ...]] = (*StabilityProcedure.OPTIONAL_ROLES, "lamp_meter")
    STRESS_STAGES: ClassVar[tuple[str, ...]] = (UV,)
    DEFAULT_PLOT: ClassVar[DefaultPlot] = DefaultPlot("points", "lamp_dose_j_cm2", "relative_intensity", "spectrum")
    USUAL_MIN: ClassVar[tuple[float, ...]] = (*range(10, 181, 10), *range(240, 1021, 60))

    doses: tuple[float, ...] | None = quantity_list(
        "Doses of the reads", "J/cm^2", minimum=1e-9, description="Due at the irradiance of the bench; instead of times"
    )

    def plan(self, bench: BenchConfig, sample: SampleConfig | None) -> Plan:
        """Plan all stages with hard bounds; raises InputError for what cannot be."""
        parts = self.plan_reads(bench, sample)
        lamp = section(bench.lamp, "lamp", bench)
        if self.doses is not None and self.times is not None:
            raise InputError("times and doses are both listed", where="parameters of uv-stability", todo="list one")
        if self.doses is not None:
            times_s = tuple(sorted(1e3 * dose / lamp.irradiance_mw_cm2 for dose in self.doses))
        else:
            times_s = self.schedule_s()
        stages = [*self.first_stages(parts), self.lit_stage(UV, parts, times_s)]
        if self.after_reads:
            stages.append(self.read_stage(AFTER, parts, [{"fluence_uj_cm2": self.fluence}] * self.after_reads))
        return parts.plan(stages, *self.late_warnings(parts, times_s))

    def measure_stage(self, point: Point) -> Record:
        """Measure a point that is no frame."""
        return self.measure_lit(point) if point.stage == UV else self.measure_dark_lamp(point)

    def analyse(self, run: Any) -> dict[str, Any]:
        """What is left, the maximum, lifetimes, against time and dose; of a run in any state."""
        return analyse_lit(run, self, self.report_at or _REPORTED_MIN)
