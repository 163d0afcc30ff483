"""A panel with the gain spectrum of a stripe-length scan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labctl.report import style
from labctl.report.stripe_data import Scan
from labctl.report.wording import number, rounded

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
_TOO_UNSURE = 0.4
"""Groups of pixels whose gain is known worse than this share of the peak say nothing to the eye."""


def draw_gain_spectrum(axes: Axes, scan: Scan | None, *, simulated: bool) -> None:
    """(c) Net gain against wavelength with 95 % interval, zero line and sign changes; shares its x axis below."""
    style.panel(axes, "c", simulated=simulated)
    axes.set_ylabel("Net modal gain (cm⁻¹)", fontsize=11)
    axes.tick_params(labelbottom=False)
    found = None if scan is None else scan.data.get("spectrum")
    columns = _columns(found) if isinstance(found, Mapping) else None
    if columns is None or not isinstance(found, Mapping):
        axes.set_yticks([])
        style.say(axes, "no gain spectrum")
        return
    wavelength, gain, sd = columns
    peak = _value(found.get("peak_gain"))
    height = max(abs(peak) if peak is not None else 0.0, float(np.abs(gain).max()))
    shown = sd < _TOO_UNSURE * height
    wavelength, gain, sd = wavelength[shown], gain[shown], sd[shown]
    axes.axhline(0, color=style.BLACK, lw=1.0, zorder=2)
    if not wavelength.size:
        axes.set_yticks([])
        style.say(axes, "the gain spectrum is too uncertain to show")
        return
    axes.fill_between(wavelength, gain - 1.96 * sd, gain + 1.96 * sd, color=style.SKY, alpha=0.4, lw=0, label="95 %")
    axes.plot(wavelength, gain, "o-", color=style.BLUE, ms=4, lw=1.2, zorder=3)
    _mark_stated(axes, scan)
    _mark_signs(axes, found)
    low, high = float((gain - 1.96 * sd).min()), float((gain + 1.96 * sd).max())
    low, high = min(max(low, -1.2 * height), -0.08 * height), max(min(high, 1.4 * height), 0.2 * height)
    axes.set_ylim(low - 0.06 * (high - low), high + 0.45 * (high - low))
    style.legend(axes, loc="upper right", fontsize=9, labelspacing=0.25)


def _mark_stated(axes: Axes, scan: Scan | None) -> None:
    """Mark the gain that the run states, in its band."""
    entry, band = (None, None) if scan is None else (scan.data.get("gain"), scan.band)
    value = _value(entry)
    if value is None or band is None:
        return
    x = [band.centre_nm - band.width_nm / 2, band.centre_nm + band.width_nm / 2]
    axes.axvspan(*x, color=style.GREY, alpha=0.3, lw=0, zorder=1)
    axes.plot(band.centre_nm, value, "D", color=style.VERMILION, ms=7, zorder=4, label="stated gain, its band")


def _mark_signs(axes: Axes, found: Mapping[str, Any]) -> None:
    changes = found.get("sign_changes")
    places = {side: _value(entry) for side, entry in changes.items()} if isinstance(changes, Mapping) else {}
    known = {side: place for side, place in places.items() if place is not None}
    if known:
        text = "zero at " + ", ".join(rounded(place, 5.0) for place in sorted(known.values())) + " nm"
        axes.plot(
            list(known.values()), np.zeros(len(known)), "x", color=style.PURPLE, ms=9, mew=2, zorder=4, label=text
        )


def _columns(found: Mapping[str, Any]) -> tuple[Array, Array, Array] | None:
    lists = [found.get(name) for name in ("wavelength_nm", "gain_cm1", "sd_cm1")]
    if not all(isinstance(values, list) for values in lists):
        return None
    columns = [np.array([np.nan if number(v) is None else v for v in values or ()], float) for values in lists]
    if len({len(values) for values in columns}) != 1:
        return None
    good = np.isfinite(columns).all(axis=0)
    wavelength, gain, sd = (values[good] for values in columns)
    return (wavelength, gain, sd) if wavelength.size else None


def _value(entry: Any) -> float | None:
    return number(entry.get("value")) if isinstance(entry, Mapping) else None
