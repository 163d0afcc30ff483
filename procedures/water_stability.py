"""Water stability: how the emission of a sample falls under water, in the dark or under a lamp.

Order of the run: dark frames and pump scatter; the baseline, dry; the operator adds water; reads by the schedule. With
``uv`` the lamp is lit when the water is there and stays on.
"""

from __future__ import annotations

from typing import Any, ClassVar

from labctl.bench.bench import Bench
from labctl.bench.bench_sections import section
from labctl.config.bench import BenchConfig
from labctl.config.sample import SampleConfig
from labctl.errors import InputError
from labctl.run.parameters import flag
from labctl.run.plan import Plan, Point, Stage
from labctl.run.procedure import Record, Streams
from procedures.stability.layout import operator_layout
from procedures.stability.lit import LitProcedure
from procedures.stability.procedure import StabilityProcedure
from procedures.stability.water_analysis import analyse_wet

WATER, WET = "water", "wet"
_ADD = "add water"
_OPERATOR_S = 60.0
_REPORTED_MIN = (12 * 60.0, 504 * 60.0)


class WaterStability(LitProcedure):
    """Emission against the time under water, with or without light of a lamp."""

    NAME: ClassVar[str] = "water-stability"
    TITLE: ClassVar[str] = "Water stability: emission against the time under water"
    OPTIONAL_ROLES: ClassVar[tuple[str, ...]] = (*StabilityProcedure.OPTIONAL_ROLES, "lamp", "lamp_meter")
    STRESS_STAGES: ClassVar[tuple[str, ...]] = (WET,)
    USUAL_MIN: ClassVar[tuple[float, ...]] = tuple(60.0 * hours for hours in (1, 2, 4, 8, 12, *range(24, 505, 24)))

    uv: bool = flag("Light the lamp, too", default=False)

    def plan(self, bench: BenchConfig, sample: SampleConfig | None) -> Plan:
        """Plan all stages with hard bounds; raises InputError for what cannot be."""
        parts = self.plan_reads(bench, sample)
        times_s = self.schedule_s()
        if self.uv:
            section(bench.lamp, "lamp", bench)
            if "lamp" not in bench.instruments:
                raise InputError("uv needs a lamp", where=f"the bench {bench.name!r}", todo="write [instruments.lamp]")
            wet = self.lit_stage(WET, parts, times_s)
        else:
            wet = self.read_stage(WET, parts, self.scheduled(parts, times_s), times_s=times_s)
        asked = ({"action": _ADD},)
        stages = [*self.first_stages(parts), Stage(WATER, "operator", 1, _OPERATOR_S, asked, essential=True), wet]
        return parts.plan(stages, *self.late_warnings(parts, times_s))

    def streams(self, bench: Bench) -> Streams:
        """Rows of the reads, of what was done by hand, and frames apart from them."""
        streams = super().streams(bench)
        return Streams({**streams.layouts, "operator": operator_layout()}, streams.axes)

    def measure_stage(self, point: Point) -> Record:
        """Measure a point that is no frame."""
        if point.stage == WATER:
            self.bench.ask_operator(point.settings["action"], "Add the water to the sample, now, and close the cell.")
            return Record({"stage": point.stage, "action": point.settings["action"]})
        return self.measure_lit(point) if self.uv and point.stage == WET else self.read(point)

    def analyse(self, run: Any) -> dict[str, Any]:
        """What is left, and lifetimes, against the time under water; of a run in any state."""
        return analyse_wet(run, self, self.report_at or _REPORTED_MIN)
