"""Tables of what was compared in an analysis: models or laws with their criteria, and the systematic budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labctl.report.stability_data import course_of
from labctl.report.wording import label_text, number, rounded, typeset


@dataclass(frozen=True)
class Table:
    """A table: its title, what to know of it, headings and rows of texts."""

    title: str
    remark: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(data: Mapping[str, Any]) -> tuple[Table, ...]:
    """Get the tables that the stored analysis gives rise to."""
    scans = data.get("scans")
    scan = scans[-1] if isinstance(scans, list) and scans and isinstance(scans[-1], Mapping) else {}
    found = (_budget(scan.get("budget")), _models(scan.get("fit")), _laws(course_of(data)))
    return tuple(table for table in found if table is not None and table.rows)


def _budget(budget: Any) -> Table | None:
    if not isinstance(budget, Mapping):
        return None
    rows = [
        (
            str(part.get("name")),
            _number(part.get("sd_cm1")),
            "yes" if part.get("counted") is True else "no, the interval holds it",
            typeset(str(part.get("how") or "")),
        )
        for part in _entries(budget.get("parts"))
    ]
    total = number(budget.get("systematic_cm1"))
    if total is not None:
        rows.append(("sum in quadrature", _number(total), "", "beside the statistical interval"))
    remark = "None of these shows in the scatter of the points; standard deviations of the gain."
    return Table("Systematic budget", remark, ("Part", "cm⁻¹", "Counted", "How it was had"), tuple(rows))


def _models(fit: Any) -> Table | None:
    if not isinstance(fit, Mapping):
        return None
    rows = tuple(
        (
            str(model.get("model")),
            _number(model.get("gain_cm1")),
            _number(model.get("chi2")),
            _number(model.get("bic")),
            _share(model.get("weight")),
        )
        for model in _entries(fit.get("models"))
    )
    remark = "The lowest BIC gives the stated gain; a weight is the probability of a model among these."
    return Table("Models compared", remark, ("Model", "Gain (cm⁻¹)", "χ²", "BIC", "Weight"), rows)


def _laws(course: Mapping[str, Any]) -> Table | None:
    laws = _entries(course.get("laws"))
    if not laws:
        return None
    names = [name for name in laws[0] if name != "law" and any(number(law.get(name)) is not None for law in laws)]
    rows = tuple((label_text(str(law.get("law"))), *(_number(law.get(name)) for name in names)) for law in laws)
    headings = ("Law", *(_HEADINGS.get(name, label_text(name)) for name in names))
    return Table("Laws compared", "The lowest BIC is chosen, best first.", headings, rows)


_HEADINGS = {"chi2": "χ²", "bic": "BIC", "aic": "AIC", "weight": "Weight", "dof": "Degrees of freedom"}


def _number(value: Any) -> str:
    found = number(value)
    return "" if found is None else rounded(found) if found else "0"


def _share(value: Any) -> str:
    found = number(value)
    return "" if found is None else f"{100 * found:.3g} %"


def _entries(values: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in values if isinstance(entry, Mapping)] if isinstance(values, list | tuple) else []
