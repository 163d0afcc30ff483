"""What a check before the start found, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labctl.report.wording import duration_text, label_text, typeset

_UNITS = {"uj_cm2": "uJ/cm^2", "deg": "deg", "nm": "nm"}


@dataclass(frozen=True)
class Verdict:
    """What came of a check: whether a run may start, a headline, and lines with a mark each."""

    accepted: bool
    headline: str
    lines: tuple[str, ...]


def verdict_of(answer: Mapping[str, Any]) -> Verdict:
    """Put the answer of ``labctl plan --json``, or of a run that was refused, into words."""
    error = answer.get("error")
    if isinstance(error, Mapping):
        todo = [f"→ {error['todo']}"] if error.get("todo") else []
        first, *more = str(error.get("what", "refused")).splitlines()
        return Verdict(False, "✕ refused, nothing was moved", tuple(typeset(t) for t in (first, *more, *todo)))
    refusals = [f"✕ {typeset(text)}" for text in answer.get("refusals", ())]
    warnings = [f"▲ {typeset(text)}" for text in answer.get("warnings", ())]
    lines = (*refusals, *warnings, *_plan_lines(answer))
    if refusals:
        return Verdict(False, "✕ refused, nothing was moved", lines)
    return Verdict(True, "✓ may start", lines)


def _plan_lines(answer: Mapping[str, Any]) -> list[str]:
    plan = answer["plan"]
    expected = answer.get("expected") or plan
    lines = [f"at most {plan['max_points']} points, about {duration_text(expected['duration_s'])}"]
    if expected["start_up_s"]:
        lines[0] += f" ({duration_text(expected['start_up_s'])} of it before the first)"
    if plan["open_s"]:
        lines.append(f"light on the sample for at most {duration_text(plan['open_s'])}")
    if plan["dose_j_cm2"]:
        lines.append(f"dose at most {plan['dose_j_cm2']:.3g} J/cm²")
    if answer.get("spot_dose_j_cm2"):
        lines[-1] += f"; the spot has had {answer['spot_dose_j_cm2']:.3g} J/cm²"
    for name, (low, high) in plan["bounds"].items():
        words, unit = _named(name)
        lines.append(f"{words} {low:.4g} to {high:.4g} {unit}".rstrip())
    lines.append(f"disk: {answer['disk_need_mb']:.3g} MB of {answer['disk_free_mb'] / 1000:.0f} GB free")
    return lines


def _named(name: str) -> tuple[str, str]:
    for suffix, unit in _UNITS.items():
        if name.endswith(f"_{suffix}"):
            return label_text(name.removesuffix(f"_{suffix}")), typeset(unit)
    return label_text(name), ""
