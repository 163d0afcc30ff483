"""``labctl plan``: the preflight, shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.cli.output import print_json, say, show, show_table
from labctl.run.request import RunRequest

if TYPE_CHECKING:
    from labctl.run.preflight import Preflight


def show_plan(request: RunRequest, *, as_json: bool) -> int:
    """Show the preflight; exit code 2 if it refuses."""
    from labctl.run.preflight import preflight, require
    from labctl.run.request import prepare

    prepared = prepare(request)
    checked = preflight(prepared)
    if as_json:
        print_json({"procedure": prepared.procedure.NAME, "bench": prepared.bench.name, **checked.as_dict()})
        return 2 if checked.refusals else 0
    _show_plan(prepared.procedure.NAME, checked)
    require(checked)
    return 0


def _show_plan(name: str, checked: Preflight) -> None:
    from labctl.report.wording import duration_text

    plan = checked.plan
    rows = []
    for stage in plan.stages:
        sets = ", ".join(f"{key} {low:.4g}..{high:.4g}" for key, (low, high) in stage.bounds.items())
        points = f"≤ {stage.max_points}" if stage.adaptive else str(stage.max_points)
        seconds = f"{stage.max_points * stage.point_s:.0f}"
        rows.append([stage.name, points, seconds, f"{stage.open_s:.3g}", f"{stage.dose_j_cm2:.3g}", sets])
    headings = {"stage": "left", "points": "right", "time / s": "right", "light ≤ / s": "right"}
    show_table({**headings, "dose ≤ / (J/cm²)": "right", "sets": "left"}, rows, f"plan of {name}")
    show(
        f"at most {plan.max_points} points in about {duration_text(plan.duration_s)}, {duration_text(plan.start_up_s)}"
        f" of it preparation; dose at most {plan.dose_j_cm2:.3g} J/cm²;"
        f" disk {checked.disk_need_mb:.1f} MB of {checked.disk_free_mb:.0f} MB free"
    )
    if checked.window is not None:
        show(f"window {checked.window}")
    for warning in checked.warnings:
        say(f"warning: {warning}")
