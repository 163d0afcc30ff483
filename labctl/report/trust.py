"""How far a result may be trusted, in sentences that need no knowledge of the analysis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labctl.report.stability_data import course_of
from labctl.report.wording import interval, label_text, number, rounded, typeset, unit_text

_SMALL_SCATTER = 0.05


@dataclass(frozen=True)
class Remark:
    """A remark on a result; ``level`` is ``good``, ``bad`` or ``unknown``, ``about`` what it is about."""

    level: str
    about: str
    text: str


def remarks(data: Mapping[str, Any]) -> tuple[Remark, ...]:
    """Get the remarks on what the stored analysis says; none for a procedure without such."""
    scans = data.get("scans")
    scan = scans[-1] if isinstance(scans, list) and scans and isinstance(scans[-1], Mapping) else None
    if scan is not None:
        return tuple(_of_stripes(scan))
    course = course_of(data)
    return tuple(_of_course(course)) if course else ()


def _of_stripes(scan: Mapping[str, Any]) -> list[Remark]:
    found: list[Remark] = []
    fit = _mapping(scan.get("fit"))
    if scan.get("no_gain"):
        found.append(Remark("bad", "no gain", f"{typeset(str(scan['no_gain']))}."))
    found += _simple_fits(scan)
    share = number(fit.get("amplified_share"))
    if share is not None and "late light" in str(fit.get("model")):
        found.append(
            Remark(
                "unknown",
                "late light",
                f"{100 * share:.2g} % of the emission comes while there is gain; the rest is emitted after the gain has"
                " gone, grows in proportion to the stripe, and is not amplified. The model holds both parts.",
            )
        )
    length = number(scan.get("saturation_length_um"))
    if length is not None:
        found.append(
            Remark(
                "unknown",
                "saturation",
                f"in a stripe of {length:.0f} µm saturation has taken a tenth of the light. The model holds that; a"
                " plain exponential over longer stripes gives too small a gain.",
            )
        )
    scatter = (number(fit.get("relative_error")) or 0.0) * (number(fit.get("error_scale")) or 1.0)
    if scatter:
        level = "good" if scatter < _SMALL_SCATTER else "bad"
        text = f"the light scatters by {100 * scatter:.2g} % from length to length about the fit; intervals rest on it."
        found.append(Remark(level, "scatter", text))
    found += [*_collection(scan), *_bleach(scan), *_fluence(scan)]
    return found


def _simple_fits(scan: Mapping[str, Any]) -> list[Remark]:
    fits = [entry for entry in scan.get("small_signal") or () if isinstance(entry, Mapping)]
    doubted = [fit for fit in fits if fit.get("trusted") is not True and number(fit.get("value")) is not None]
    if not fits:
        return []
    if not doubted:
        return [
            Remark("good", "the papers' simple fit", "nothing speaks against I = (a/g)(exp(gL) − 1) for this film.")
        ]
    values = ", ".join(f"{rounded(number(fit['value']) or 0.0)} cm⁻¹ {_range_of(fit)}" for fit in doubted)
    reasons = dict.fromkeys(str(reason) for fit in doubted for reason in fit.get("reasons") or ())
    text = (
        f"the fit I = (a/g)(exp(gL) − 1), from which published gains come, gives {values}. It is not to be trusted"
        " here: it may look good on the figure, but the film does not do what it assumes (no saturation, and no light"
        " but amplified light), so its gain is wrong by far more than its interval says, usually too small. Quote the"
        " stated gain; use these only to compare with papers that fitted the same way. What speaks against: "
    )
    return [Remark("bad", "the papers' simple fit", text + "; ".join(typeset(reason) for reason in reasons) + ".")]


def _range_of(fit: Mapping[str, Any]) -> str:
    cut = number(fit.get("cut_gl"))
    return "over all lengths" if cut is None else f"up to gL = {cut:g}"


def _collection(scan: Mapping[str, Any]) -> list[Remark]:
    if scan.get("method") == "stripe":
        text = (
            "the light of all places of the stripe is taken to be collected alike. If the spectrograph sees less of"
            " what comes from deep inside, the true gain is larger; shifted spots and a loss run would tell."
        )
        return [Remark("unknown", "collection", text)]
    text = "measured with a shifted spot and taken out, together with the propagation loss."
    return [Remark("good", "collection", text)]


def _bleach(scan: Mapping[str, Any]) -> list[Remark]:
    found = _mapping(scan.get("bleach"))
    ratio = _mapping(found.get("ratio"))
    value, ends = number(ratio.get("value")), interval(ratio.get("ci95"))
    if value is None:
        return [Remark("unknown", "bleaching", "not checked: no length was measured again.")]
    limits = f" (95 %: {rounded(ends[0], 0.05)} to {rounded(ends[1], 0.05)})" if ends else ""
    text = f"the first lengths gave {rounded(value, 0.05)} of their light when measured again{limits}"
    if found.get("bleached") is True:
        return [Remark("bad", "bleaching", f"{text}: the film changed during the scan; use a fresh spot.")]
    if found.get("conclusive") is not True:
        return [Remark("unknown", "bleaching", f"{text}: no change is seen, but a small one would not have shown.")]
    return [Remark("good", "bleaching", f"{text}: no change beyond the 3 % that are tolerated.")]


def _fluence(scan: Mapping[str, Any]) -> list[Remark]:
    found = _mapping(scan.get("constant_fluence"))
    worst, where = number(found.get("worst")), number(found.get("worst_um"))
    if worst is None or where is None:
        return [Remark("unknown", "fluence at all lengths", "not checked: there was no meter behind the slit.")]
    text = f"the energy behind the slit departs from proportion to the length by {100 * worst:+.1f} % at {where:.0f} µm"
    if found.get("constant") is True:
        doubt = "" if found.get("significant") is True else ", within its error"
        return [Remark("good", "fluence at all lengths", f"{text} at most{doubt}.")]
    return [Remark("bad", "fluence at all lengths", f"{text}: the pump was not the same at all lengths.")]


def _of_course(course: Mapping[str, Any]) -> list[Remark]:
    found: list[Remark] = []
    law, unit = str(course.get("law") or ""), unit_text(course.get("clock_unit"))
    if law == "none of the laws":
        text = "none of the laws describes the course; what is stated is read off a smoothed curve, with its scatter."
        found.append(Remark("unknown", "law", text))
    elif law:
        formula = f", {course['formula']}," if course.get("formula") else ""
        text = f"{label_text(law)}{formula} describes the reads best (lowest BIC). It is a description, no mechanism."
        found.append(Remark("good", "law", text))
    for name, share in (("t80", 80), ("t50", 50)):
        found += _lifetime(course.get(name), f"T{share}", share, unit)
    quench = _mapping(course.get("quench"))
    if (factor := number(quench.get("value"))) is not None:
        text = (
            f"at the temperature of the stress the sample emits {rounded(factor, 0.02)} of what it emits cold in the"
            " same state. That part comes back on cooling; the loss stated is the lasting one."
        )
        found.append(Remark("good", "thermal quenching", text))
    noise, scale = number(course.get("read_noise")), number(course.get("error_scale"))
    if noise:
        text = f"repeated reads scatter by {100 * noise:.2g} %"
        text += f"; the errors were widened by {scale:.2g} to match the scatter about the law" if scale else ""
        found.append(Remark("good" if noise < _SMALL_SCATTER else "unknown", "scatter", f"{text}."))
    return found


def _lifetime(life: Any, name: str, share: int, unit: str) -> list[Remark]:
    found = _mapping(life)
    limit = number(found.get("longer_than"))
    base = "its maximum" if found.get("reference") == "maximum" else "its start"
    if number(_mapping(found.get("estimate")).get("value")) is not None:
        if found.get("extrapolated") is not True:
            return []
        text = f"the reads ended before the emission fell to {share} % of {base}: the law was extended beyond them."
        return [Remark("unknown", name, text)]
    if limit is None:
        return []
    text = (
        f"the emission did not fall to {share} % of {base}. What is given is a limit: with 95 % confidence it takes"
        f" longer than {rounded(limit)} {unit}."
    )
    return [Remark("unknown", name, text)]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
