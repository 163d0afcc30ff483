"""How numbers, units and times are written for the eye."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

CONVENTIONS = {
    "peak_gauss": "peak of the Gaussian spot",
    "mean_1e2": "mean inside the 1/e² width",
    "flat_top": "flat-top spot",
    "rect_axes_product": "energy over the product of the full axes",
    "peak_gauss_fwhm": "peak of the Gaussian spot, its axes read as FWHM",
}
"""Fluence conventions in words; fluences by different ones differ by up to 2.9."""

DEFINITIONS = {
    "loglog_knee": "knee of ln I against ln F",
    "lasing_s_curve": "lasing threshold of the S-curve",
}
"""What a threshold is, by the name stored with it."""
_LARGE_UJ_CM2 = 1000.0
_FLUENCES = ("value", "saturation_fluence", "ci68", "ci95", "data_range")

_PER = re.compile(r"^1/(\w+)$")
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


@dataclass(frozen=True)
class Reading:
    """A result ready to print; ``value`` is empty where there is none, ``reason`` then may say why."""

    label: str
    value: str
    unit: str
    ci68: str = ""
    ci95: str = ""
    reason: str = ""
    meaning: str = ""
    shared: str = ""
    """Error that all points share, which the intervals do not hold."""


def number(value: Any) -> float | None:
    """Get a finite float, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def interval(value: Any) -> tuple[float, float] | None:
    """Get the two finite ends of an interval, or None."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return None if low is None or high is None else (low, high)


def in_print(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Get an entry with a fluence above 1000 uJ/cm^2 in mJ/cm^2; any other as it is."""
    value = number(entry.get("value"))
    if entry.get("unit") != "uJ/cm^2" or value is None or value <= _LARGE_UJ_CM2:
        return entry
    scaled = {name: _thousandth(entry[name]) for name in _FLUENCES if name in entry}
    return {**entry, **scaled, "unit": "mJ/cm^2"}


def _thousandth(value: Any) -> Any:
    ends = interval(value)
    if ends is not None:
        return [1e-3 * end for end in ends]
    single = number(value)
    return value if single is None else 1e-3 * single


def unit_text(unit: Any) -> str:
    """Write a unit as in print: ``uJ/cm^2`` becomes ``µJ/cm²``; no unit and ``1`` become the empty text."""
    return "" if unit in (None, "1") else typeset(_PER.sub(r"\1^-1", str(unit)))


def typeset(text: str) -> str:
    """Write the units within a text as in print."""
    text = re.sub(r"\bu(?=[AJVWgms]\b)", "µ", text)
    text = re.sub(r"\^(-?\d+)", lambda match: match.group(1).translate(_SUPERSCRIPT), text)
    return re.sub(r"\bdeg\b", "°", text.replace("degC", "°C"))


def rounded(value: float, half_width: float | None = None) -> str:
    """Write a number to the second digit of its uncertainty; without one, to four digits."""
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return _with_power(value, half_width)
    if half_width is None or not half_width > 0:
        return f"{value:#.4g}".rstrip(".").replace("-", "−")
    decimals = min(max(1 - math.floor(math.log10(half_width)), 0), 8)
    return f"{value:.{decimals}f}".replace("-", "−")


def _with_power(value: float, half_width: float | None) -> str:
    digits = 3
    if half_width is not None and half_width > 0:
        digits = math.floor(math.log10(abs(value))) - math.floor(math.log10(half_width)) + 1
    mantissa, exponent = f"{value:.{min(max(digits, 0), 8)}e}".split("e")
    return f"{mantissa}×10{str(int(exponent)).translate(_SUPERSCRIPT)}".replace("-", "−")


def range_text(ends: tuple[float, float] | None, half_width: float | None = None) -> str:
    """Write an interval with the rounding of its own half-width, or of the one given."""
    if ends is None:
        return ""
    half = (ends[1] - ends[0]) / 2 if half_width is None else half_width
    return f"{rounded(ends[0], half)} to {rounded(ends[1], half)}"


def reading(label: str, entry: Any) -> Reading:
    """Write an entry ``{"value", "unit", "ci68", "ci95", "reason", "meaning"}``, each optional, or a plain number."""
    entry = in_print(entry) if isinstance(entry, Mapping) else {"value": entry}
    value, ci68, ci95 = number(entry.get("value")), interval(entry.get("ci68")), interval(entry.get("ci95"))
    narrow = ci68 or ci95
    half = None if narrow is None else (narrow[1] - narrow[0]) / 2
    # A count is exact: every digit is told.
    exact = isinstance(entry.get("value"), int) and half is None and value is not None
    return Reading(
        label,
        f"{entry['value']:,}".replace(",", " ") if exact else "" if value is None else rounded(value, half),
        unit_text(entry.get("unit")),
        range_text(ci68, half) or _one_sided(entry.get("ci68")),
        range_text(ci95, half) or _one_sided(entry.get("ci95")),
        _reason(entry, value),
        str(entry.get("meaning") or ""),
        shared_error_text(entry),
    )


def _one_sided(ends: Any) -> str:
    """Write an interval of which one end is not known."""
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        return ""
    low, high = number(ends[0]), number(ends[1])
    if (low is None) == (high is None):
        return ""
    return f"above {rounded(low)}" if low is not None else f"below {rounded(high or 0.0)}"


def _reason(entry: Mapping[str, Any], value: float | None) -> str:
    """Write why there is no value, and the lower limit that stands in its place."""
    reason = str(entry.get("reason") or ("" if value is not None else "no value"))
    limit = number(entry.get("longer_than"))
    if value is not None or limit is None:
        return reason
    return f"more than {rounded(limit)} {unit_text(entry.get('unit'))} (95 %, one-sided): {reason}"


def shared_error_text(entry: Mapping[str, Any]) -> str:
    """Write the error that all points share, absolute or relative; empty where none is stated."""
    absolute = number(entry.get("systematic_error_nm"))
    if absolute is not None:
        return f"±{absolute:.2g} nm"
    relative = number(entry.get("systematic_relative_error"))
    return "" if relative is None else f"±{100 * relative:.2g} %"


def label_text(name: str) -> str:
    """Write the name of a parameter or result as words."""
    return name.replace("_", " ").replace("-", " ")


def value_text(value: Any) -> str:
    """Write a parameter of any JSON type."""
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(value_text(item) for item in value)
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {value_text(item)}" for key, item in value.items())
    return str(value)


def duration_text(seconds: float) -> str:
    """Write a duration, e.g. ``12 min 5 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def wall_text(wall_s: float) -> str:
    """Write a Unix time as date and time in UTC."""
    try:
        return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{wall_s:g} s (Unix)"


def started_text(iso: Any) -> str:
    """Write the start of a run, given in ISO 8601, as date and time."""
    try:
        moment = datetime.fromisoformat(str(iso))
    except ValueError:
        return str(iso or "start not recorded")
    return moment.strftime("%Y-%m-%d %H:%M %Z").strip()


def clipped(text: Any, length: int) -> str:
    """Put a text on one line of at most ``length`` characters; what is cut is marked by an ellipsis."""
    line = " ".join(str(text).split())
    return line if len(line) <= length else line[: length - 1] + "…"
