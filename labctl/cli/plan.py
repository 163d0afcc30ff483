"""``labctl plan``: the preflight, shown: what is bound to happen at most, what will likely happen, what forbids it."""

from __future__ import annotations

import shutil
import sys
import textwrap
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from labctl.cli.output import print_json, say, show, show_table
from labctl.clock import RealClock
from labctl.errors import BenchOpenError, InputError
from labctl.run.request import RunRequest

if TYPE_CHECKING:
    from labctl.run.bench_state import BenchState
    from labctl.run.expectation import Expectation, StageExpectation
    from labctl.run.plan import Stage
    from labctl.run.preflight import CalibrationAge, Preflight
    from labctl.run.request import PreparedRun
    from labctl.run.set_quantities import SetQuantity

_LABEL = 11
_WORDS = {(True, True): "ok", (True, False): "ok", (False, True): "to come", (False, False): "NOT READY"}
_NOT_ASKED = "not asked; `labctl plan --live` asks the instruments, and starts nothing"
_NO_ANSWER = "not known: the bench could not be opened"


def show_plan(
    request: RunRequest, *, as_json: bool, rehearsal: bool = True, live: bool = False, seed: int | None = None
) -> int:
    """Show the preflight; exit code 2 if it refuses.

    :param rehearsal: Whether the run may be rehearsed on emulators to learn what it takes.
    :param live: Whether real instruments may be opened to be asked how they stand.
    :param seed: Seed of a simulated laboratory; None for the middle of what may come.
    """
    from labctl.run.preflight import preflight, require
    from labctl.run.request import prepare

    prepared = prepare(request)
    checked = preflight(prepared)
    state, unreached = _ask(prepared, live=live)
    if state is not None:
        refusals, warnings = (*checked.refusals, *state.refusals), (*checked.warnings, *state.warnings)
        checked = replace(checked, refusals=refusals, warnings=warnings)
    elif unreached:
        checked = replace(checked, refusals=(*checked.refusals, unreached))
    expected, forbidden = _expected(prepared, checked, rehearsal=rehearsal, seed=seed)
    if forbidden:
        checked = replace(checked, refusals=(*checked.refusals, forbidden))
    if as_json:
        code = 2 if checked.refusals else 0
        print_json({**_as_json(prepared, checked, state, expected), "exit": code})
        return code
    if checked.plan.stages:
        _show(prepared.procedure.NAME, checked, _state_lines(state, unreached), expected)
    require(checked)
    return 0


def _ask(prepared: PreparedRun, *, live: bool) -> tuple[BenchState | None, str]:
    """Ask emulators, or instruments if they may be opened; get what they said, else why they could not be asked."""
    from labctl.run.bench_state import ask_bench

    # Emulators within this process are asked in any case: that costs and moves nothing.
    if prepared.procedure.OWN_INSTRUMENTS or not (live or prepared.bench.is_in_process):
        return None, ""
    try:
        return ask_bench(prepared), ""
    except (BenchOpenError, InputError) as error:
        return None, str(error)


def _expected(
    prepared: PreparedRun, checked: Preflight, *, rehearsal: bool, seed: int | None
) -> tuple[Expectation | None, str]:
    """Learn what a run takes that may be begun, and what forbids it on its way; a refusal does not wait for it."""
    if checked.refusals:
        return None, ""
    from labctl.run.forecast import forecast
    from labctl.run.rehearsal import Forbidden

    try:
        return forecast(prepared, checked.plan, rehearsal=rehearsal, seed=seed), ""
    except Forbidden as forbidden:
        return None, str(forbidden)


def _as_json(
    prepared: PreparedRun, checked: Preflight, state: BenchState | None, expected: Expectation | None
) -> dict[str, Any]:
    return {
        "procedure": prepared.procedure.NAME,
        "bench": prepared.bench.name,
        **checked.as_dict(),
        "expected": expected.as_dict() if expected is not None else None,
        "ends_at": _end(expected).isoformat(timespec="seconds") if expected is not None else None,
        "state": state.as_dict() if state is not None else None,
    }


def _end(expected: Expectation) -> datetime:
    """Get when a run ends that begins now, in local time."""
    return datetime.fromtimestamp(RealClock().wall() + expected.duration_s).astimezone()


def _show(name: str, checked: Preflight, state: list[tuple[str, str]], expected: Expectation | None) -> None:
    likely = {stage.name: stage for stage in expected.stages} if expected is not None else {}
    is_measured = expected is not None and expected.is_measured
    headings = {"stage": "left", "points": "right", "time": "right", "light / s": "right", "at most": "right"}
    headings |= {"dose J/cm²": "right", "at most ": "right"}
    rows = [_stage_row(stage, likely.get(stage.name), is_measured=is_measured) for stage in checked.plan.stages]
    show_table(headings, rows, f"plan of {name}")
    if checked.quantities:
        headings = {
            "stage": "left",
            "sets": "left",
            "from": "right",
            "to": "right",
            "limit": "right",
            "margin": "right",
        }
        show_table({**headings, "unit": "left"}, [_quantity_row(quantity) for quantity in checked.quantities])
    show("")
    for label, text in [*_lines(checked, expected), *state]:
        show(_in_columns(label, text))
    for warning in checked.warnings:
        say(f"warning: {warning}")


def _in_columns(label: str, text: str) -> str:
    """Put a label before a text; on a terminal the text is wrapped beside it."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    indent = " " * (_LABEL + 1)
    return textwrap.fill(f"{label:{_LABEL}} {text}", max(width, 2 * _LABEL), subsequent_indent=indent).rstrip()


def _stage_row(stage: Stage, likely: StageExpectation | None, *, is_measured: bool) -> list[str]:
    from labctl.report.wording import duration_text

    most = f"≤ {stage.max_points}" if stage.adaptive else str(stage.max_points)
    time = duration_text(likely.duration_s) if likely is not None else ""
    points = light = dose = ""
    if likely is not None and is_measured:
        points = f"{likely.points} ({most})" if stage.adaptive else most
        light, dose = f"{likely.open_s:.3g}", f"{likely.dose_j_cm2:.3g}"
    return [stage.name, points or most, time, light, f"{stage.open_s:.3g}", dose, f"{stage.dose_j_cm2:.3g}"]


def _quantity_row(quantity: SetQuantity) -> list[str]:
    from labctl.report.wording import typeset

    limit = f"{quantity.limit:.4g}" if quantity.limit is not None else "none"
    if quantity.at_least is not None:
        limit = f"{quantity.at_least:.4g} to {limit}" if quantity.limit is not None else f"≥ {quantity.at_least:.4g}"
    margin = f"{quantity.margin:.0%}" if quantity.margin is not None else ""
    unit = typeset(quantity.unit)
    return [quantity.stage, quantity.words, f"{quantity.low:.4g}", f"{quantity.high:.4g}", limit, margin, unit]


def _lines(checked: Preflight, expected: Expectation | None) -> list[tuple[str, str]]:
    from labctl.report.wording import duration_text

    plan = checked.plan
    found: list[tuple[str, str]] = []
    points, light, dose = f"at most {plan.max_points} points", f"at most {duration_text(plan.open_s)}", ""
    if expected is not None:
        preparing, total = duration_text(expected.start_up_s), duration_text(expected.duration_s)
        ends = f"{total}, {preparing} of it preparation; begun now it ends {_end(expected):%a %H:%M}"
        found.append(("duration", ends if expected.duration_s else "not known"))
        found.append(("", f"known from: {expected.source}"))
        if expected.note:
            found.append(("", expected.note))
    if expected is not None and expected.is_measured:
        points = f"{expected.points} expected, {points}"
        light = f"{duration_text(expected.open_s)} on the sample, {light}"
        dose = f"{expected.dose_j_cm2:.3g} J/cm² "
    found += [("points", points), ("light", light)]
    limit = f"; limit of the spot {checked.dose_limit_j_cm2:.4g}" if checked.dose_limit_j_cm2 is not None else ""
    bound = f"at most {plan.dose_j_cm2:.3g} J/cm²"
    had = f"; the spot has had {checked.spot_dose_j_cm2:.3g}" if checked.spot_dose_j_cm2 else ""
    found.append(("dose", (f"{dose}expected, {bound}" if dose else bound) + had + limit))
    found.append(("disk", _disk_text(checked, expected)))
    if checked.window is not None:
        found.append(("window", str(checked.window)))
    return found + [("calibration", _calibration_text(one)) for one in checked.calibrations]


def _disk_text(checked: Preflight, expected: Expectation | None) -> str:
    text = f"at most {checked.disk_need_mb:.0f} MB needed"
    if expected is not None and expected.files_mb is not None:
        text = f"{expected.files_mb:.2g} MB stay, {text}"
    return f"{text}; {_mb(checked.disk_free_mb)} free, {_mb(checked.disk_reserve_mb)} of them reserved"


def _mb(size_mb: float) -> str:
    return f"{size_mb / 1000:.0f} GB" if size_mb >= 10_000 else f"{size_mb:.0f} MB"


def _calibration_text(calibration: CalibrationAge) -> str:
    text = f"{calibration.name}, {calibration.date}, {calibration.age_days} days old"
    if calibration.max_age_days is not None:
        text += f" (at most {calibration.max_age_days:g})"
    return text if calibration.counts else f"{text}; the age does not count here"


def _state_lines(state: BenchState | None, unreached: str) -> list[tuple[str, str]]:
    if state is None:
        return [("readiness", _NO_ANSWER if unreached else _NOT_ASKED)]
    texts = [
        f"{_WORDS[entry.readiness.ok, entry.readiness.waits]:9} {entry.role} {entry.readiness.name}:"
        f" {entry.readiness.text}"
        for entry in state.readiness
    ]
    texts += [f"{'HOLDS' if one.holds else 'ok':9} watch {one.name}: {one.reading}" for one in state.watched]
    labels = ["readiness", *([""] * len(texts))]
    return list(zip(labels, texts or ["nothing to ask"], strict=False))
