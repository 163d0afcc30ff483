"""The figure of a stripe-length scan: light against length with the models, gain spectrum, what it rests on."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labctl.report import style
from labctl.report.gain_spectrum_panel import draw_gain_spectrum
from labctl.report.gains_panel import draw_gains
from labctl.report.stripe_data import NEEDED, Scan, Stripes, read_scans, read_stripes, simple_curve
from labctl.report.stripe_support_panel import draw_support
from labctl.report.titles import subtitle, title
from labctl.report.wording import number, rounded, typeset
from labctl.store.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
_LOOKS = (("o", style.BLUE), ("s", style.ORANGE), ("^", style.GREEN), ("D", style.PURPLE))
_MOST_SPECTRA = 8
_DYNAMIC_RANGE = 3e5
_WIDEST_MISS = 0.3
"""Residuals beyond this share of the light, of a curve that was not chosen, leave the panel."""
_REASON_WIDTH = 46
_REASONS = 2


def can_draw(run: Run) -> bool:
    """Get whether the run has the columns of a stripe-length scan."""
    layout = run.streams.get(run.default_stream)
    return layout is not None and all(layout.column(name) is not None for name in NEEDED)


def draw(run: Run, data: Mapping[str, Any]) -> Figure:
    """Draw the scan; ``data`` is the stored result of its analysis, or empty."""
    scans, simulated = read_scans(data), run.simulated
    stripes = read_stripes(run, scans)
    scan = scans[-1] if scans else None
    figure = style.new_figure()
    top = style.head(figure, title(run, data), subtitle(run, data), simulated=simulated)
    place: dict[str, Any] = {"bottom": 0.085, "top": top}
    left = figure.add_gridspec(2, left=0.078, right=0.405, height_ratios=(3.2, 1), hspace=0.06, **place)
    middle = figure.add_gridspec(2, left=0.487, right=0.712, height_ratios=(1, 1), hspace=0.06, **place)
    right = figure.add_gridspec(2, left=0.797, right=0.985, height_ratios=(1, 1.45), hspace=0.34, **place)
    output = figure.add_subplot(left[0])
    missed = figure.add_subplot(left[1], sharex=output)
    gain = figure.add_subplot(middle[0])
    spectra = figure.add_subplot(middle[1], sharex=gain)
    _draw_output(output, stripes, scans, run.status, simulated=simulated)
    _draw_missed(missed, stripes, scans, simulated=simulated)
    draw_gain_spectrum(gain, scan, simulated=simulated)
    _draw_spectra(spectra, stripes, scan, simulated=simulated)
    draw_support(figure.add_subplot(right[0]), run, data, stripes, scan, simulated=simulated)
    draw_gains(figure.add_subplot(right[1]), scan, simulated=simulated)
    figure.align_ylabels([output, missed])
    figure.align_ylabels([gain, spectra])
    return figure


def _draw_output(axes: Axes, stripes: Stripes, scans: list[Scan], status: str, *, simulated: bool) -> None:
    """(a) Light of the band against the length of the stripe, with the chosen model and the papers' fit."""
    style.panel(axes, "a", simulated=simulated, mark=(0.55, 0.5), tilt=30)
    axes.set_ylabel(stripes.light_name, fontsize=11)
    axes.tick_params(labelbottom=False)
    drawn = stripes.of("lengths") & np.isfinite(stripes.light) & (stripes.light > 0) & (stripes.length_um > 0)
    left_out = int((stripes.of("lengths") & stripes.saturated).sum())
    if not drawn.any():
        axes.set_yticks([])
        still = " yet" if status == "running" else ""
        style.say(
            axes, f"all {left_out} stripes saturated the detector" if left_out else f"no stripes with light{still}"
        )
        return
    axes.set_yscale("log")
    by_fluence = {scan.fluence: scan for scan in scans}
    fluences = stripes.fluences
    for place, fluence in enumerate(fluences):
        marker, colour = _LOOKS[(len(fluences) - 1 - place) % len(_LOOKS)]
        name = f"{fluence:.4g} µJ/cm²" if len(fluences) > 1 else "measured"
        _draw_points(axes, stripes, drawn & (stripes.fluence == fluence), by_fluence.get(fluence), marker, colour, name)
    again = stripes.of("bleach") & np.isfinite(stripes.light) & (stripes.light > 0)
    if again.any():
        look = {"color": style.PURPLE, "mfc": "none", "ms": 9, "mew": 1.4}
        axes.plot(stripes.length_um[again], stripes.light[again], "s", label="measured again at the end", **look)
    longest = float(stripes.length_um[drawn].max())
    axes.set_xlim(-0.03 * longest, 1.04 * longest)
    for scan in scans:
        _draw_model(axes, scan, longest, is_last=scan is scans[-1])
    if scans:
        _draw_simple(axes, stripes, scans[-1], drawn & (stripes.fluence == scans[-1].fluence), longest)
        _mark_saturation(axes, scans[-1], longest)
    low, high = float(stripes.light[drawn].min()), float(stripes.light[drawn].max())
    axes.set_ylim(low / 2.5, high * (high / low) ** 0.6 * 1.5)
    style.log_axis(axes.yaxis, *axes.get_ylim())
    style.legend(axes, loc="upper left", labelspacing=0.35)
    if left_out:
        _note(axes, f"{left_out} stripes saturated the detector and were not fitted", (0.98, 0.28))


def _draw_points(
    axes: Axes, stripes: Stripes, chosen: NDArray[np.bool_], scan: Scan | None, marker: str, colour: str, name: str
) -> None:
    light = stripes.light[chosen]
    error = np.hypot(stripes.error[chosen], (scan.scatter if scan else 0.0) * light)
    # On a logarithmic axis a bar that reaches zero has no lower end: it stops at a tenth.
    bars = np.stack([np.minimum(error, 0.9 * light), error])
    look = {"color": colour, "ms": 5.5, "elinewidth": 1.0, "zorder": 3, "label": name}
    axes.errorbar(stripes.length_um[chosen], light, yerr=bars, fmt=marker, **look)


def _draw_model(axes: Axes, scan: Scan, longest: float, *, is_last: bool) -> None:
    grid = np.linspace(1e-3 * longest, longest, 400)
    curve = scan.curve(grid)
    if curve is None:
        return
    axes.plot(grid, curve, color=style.BLACK, lw=1.7, zorder=4, label=f"fit: {scan.fit['model']}" if is_last else None)
    late = scan.late_light(grid) if is_last else None
    if late is not None:
        axes.plot(grid, late, ":", color=style.GREY, lw=1.6, label="of it late light, not amplified")


def _draw_simple(axes: Axes, stripes: Stripes, scan: Scan, used: NDArray[np.bool_], longest: float) -> None:
    """Draw the papers' fit over all lengths, and say where it must not be trusted, and why."""
    fit = next(iter(scan.simple_fits), None)
    gain = None if fit is None else number(fit.get("value"))
    if fit is None or gain is None:
        return
    grid = np.linspace(1e-3 * longest, longest, 400)
    curve = simple_curve(scan, gain, stripes.length_um[used], stripes.light[used], grid)
    trusted = fit.get("trusted") is True
    text = f"papers' simple fit, {rounded(gain)} cm⁻¹" + ("" if trusted else ", not to be trusted")
    if curve is not None:
        axes.plot(grid, curve, "--", color=style.VERMILION, lw=1.5, zorder=3.5, label=text)
    if not trusted:
        reasons = [str(reason) for reason in fit.get("reasons") or ()][:_REASONS]
        lines = [line for reason in reasons for line in textwrap.wrap(typeset(f"– {reason}"), _REASON_WIDTH)]
        _note(axes, "\n".join(["Why the simple fit is not to be trusted:", *lines]), (0.98, 0.02))


def _mark_saturation(axes: Axes, scan: Scan, longest: float) -> None:
    length = number(scan.data.get("saturation_length_um"))
    if length is None:
        return
    if length <= longest:
        name = f"saturation length {length:.0f} µm"
        axes.axvline(length, color=style.PURPLE, ls="-.", lw=1.3, zorder=2, label=name)
    else:
        axes.plot([], [], "-.", color=style.PURPLE, lw=1.3, label=f"saturation length {length:.0f} µm, beyond")


def _note(axes: Axes, text: str, place: tuple[float, float]) -> None:
    axes.text(
        *place,
        text,
        transform=axes.transAxes,
        ha="right",
        va="bottom",
        size=8.5,
        color="#444444",
        parse_math=False,
        zorder=6,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2},
    )


def _draw_missed(axes: Axes, stripes: Stripes, scans: list[Scan], *, simulated: bool) -> None:
    """(b) What the points miss of the chosen model, in percent of it; the papers' fit beside it."""
    style.panel(axes, "b", simulated=simulated)
    axes.set_xlabel("Stripe length (µm)")
    axes.set_ylabel("Data / fit − 1 (%)", fontsize=11)
    widest = 0.0
    for place, scan in enumerate(scans):
        used = stripes.of("lengths", scan.fluence) & np.isfinite(stripes.light) & (stripes.length_um > 0)
        curve = scan.curve(stripes.length_um[used]) if used.any() else None
        if curve is None:
            continue
        marker, colour = _LOOKS[(len(scans) - 1 - place) % len(_LOOKS)]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = stripes.light[used] / curve - 1
            error = np.hypot(stripes.error[used] / curve, scan.scatter)
        look = {"color": colour, "ms": 4.5, "elinewidth": 1.0, "zorder": 3}
        axes.errorbar(stripes.length_um[used], 100 * ratio, yerr=100 * error, fmt=marker, **look)
        reach = np.abs(ratio) + error
        widest = max(widest, float(np.nanquantile(reach, 0.97)) if np.isfinite(reach).any() else 0.0)
    if not widest:
        axes.set_yticks([])
        style.say(axes, "no fit to compare with")
        return
    axes.axhline(0, color=style.BLACK, lw=1.2, zorder=2)
    _draw_simple_missed(axes, stripes, scans[-1])
    limit = 115 * min(widest, _WIDEST_MISS)
    axes.set_ylim(-limit, limit)


def _draw_simple_missed(axes: Axes, stripes: Stripes, scan: Scan) -> None:
    fit = next(iter(scan.simple_fits), None)
    gain = None if fit is None else number(fit.get("value"))
    used = stripes.of("lengths", scan.fluence) & np.isfinite(stripes.light)
    if gain is None or not used.any():
        return
    grid = np.linspace(float(stripes.length_um[used].min()), float(stripes.length_um[used].max()), 400)
    simple, curve = simple_curve(scan, gain, stripes.length_um[used], stripes.light[used], grid), scan.curve(grid)
    if simple is not None and curve is not None:
        axes.plot(grid, 100 * (simple / curve - 1), "--", color=style.VERMILION, lw=1.4)


def _draw_spectra(axes: Axes, stripes: Stripes, scan: Scan | None, *, simulated: bool) -> None:
    """(d) Spectra of a few stripes from short to long, at the highest pump fluence."""
    style.panel(axes, "d", simulated=simulated)
    axes.set_xlabel("Wavelength (nm)")
    axes.set_ylabel("Counts per pulse and px", fontsize=11)
    fluences = stripes.fluences
    if stripes.wavelength_nm is None or stripes.spectra is None or not fluences:
        axes.set_yticks([])
        style.say(axes, "no spectra")
        return
    chosen = np.flatnonzero(stripes.of("lengths", fluences[-1]) & np.isfinite(stripes.spectra).any(axis=1))
    if not chosen.size:
        axes.set_yticks([])
        style.say(axes, "no spectrum with a dark frame\nand below saturation")
        return
    chosen = chosen[np.argsort(stripes.length_um[chosen], kind="stable")]
    chosen = chosen[np.unique(np.linspace(0, chosen.size - 1, _MOST_SPECTRA).astype(int))]
    _spectra_lines(axes, stripes.wavelength_nm, stripes.spectra[chosen], stripes.length_um[chosen])
    band = None if scan is None else scan.band
    if band is not None:
        half = band.width_nm / 2
        axes.axvspan(band.centre_nm - half, band.centre_nm + half, color=style.GREY, alpha=0.3, lw=0, zorder=1)


def _spectra_lines(axes: Axes, wavelength_nm: Array, spectra: Array, length_um: Array) -> None:
    from matplotlib import colormaps

    colours = colormaps["viridis"](np.linspace(0.0, 0.93, len(spectra)))
    width = max(round(1.0 / max(abs(float(np.median(np.diff(wavelength_nm)))), 1e-9)), 1)
    lines = [style.smoothed(spectrum, width) for spectrum in spectra]
    bright = max(float(np.nanmax(line)) for line in lines)
    faint = min(float(np.nanmax(line)) for line in lines)
    if not bright > 0:
        style.say(axes, "no emission above the dark")
        return
    for line, colour, length in zip(lines, colours, length_um, strict=True):
        with np.errstate(invalid="ignore"):
            shown = np.where(line > 0, line, math.nan)
        axes.plot(wavelength_nm, shown, color=colour, lw=1.2, label=f"{length:.0f} µm")
    floor = max(faint / 12 if faint > 0 else 0.0, bright / _DYNAMIC_RANGE)
    axes.set_yscale("log")
    axes.set_ylim(floor, bright * 1.8)
    style.log_axis(axes.yaxis, *axes.get_ylim(), most=6)
    lit = wavelength_nm[np.any([line > max(0.02 * np.nanmax(line), floor) for line in lines], axis=0)]
    if lit.size:
        axes.set_xlim(max(lit.min() - 2, wavelength_nm.min()), min(lit.max() + 2, wavelength_nm.max()))
    axes.legend(loc="upper right", fontsize=8.5, labelspacing=0.2, handlelength=1.0, borderaxespad=0.3)
