"""The figure of a fluence sweep: spectra, emission against fluence with the threshold, collapse of the width."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from labctl.report import style
from labctl.report.sweep_data import NEEDED, EmissionSpectra, SweepRows, fitted_curve, read_rows, read_spectra
from labctl.report.titles import subtitle, title
from labctl.report.wording import CONVENTIONS, in_print, interval, number, range_text, rounded, unit_text
from labctl.store.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOOKS = {
    "coarse": ("coarse pass", "o", style.BLUE, "white"),
    "fine": ("fine pass", "o", style.BLUE, style.BLUE),
    "listed": ("listed fluences", "o", style.BLUE, style.BLUE),
    "return": ("return to low fluence", "s", style.PURPLE, "none"),
}
_OTHER = ("points", "o", style.BLUE, style.BLUE)
_LARGE_UJ_CM2 = 1000.0
_LONG_LABEL, _LONG_LABEL_SIZE = 55, 12.5
_DYNAMIC_RANGE = 3e4
_SMOOTH_NM = 0.6
_SMOOTH_SHARE = 0.15
"""Share of a narrow line that smoothing may cover: it is for the eye, and must not broaden what it shows."""
_PEAK_NOISES, _EDGE_NOISES = 6.0, 2.0


@dataclass(frozen=True)
class _Labels:
    """How the figure names and scales what it shows: films in µJ/cm², pulses of nanoseconds in mJ/cm²."""

    per_uj_cm2: float
    unit: str
    convention: str
    narrow: str
    broad: str
    share: str

    @property
    def fluence(self) -> str:
        """Name of the fluence axis."""
        return f"Pump fluence ({self.unit})"

    @property
    def whole(self) -> str:
        """The same with the convention."""
        return f"Pump fluence, {self.convention} ({self.unit})" if self.convention else self.fluence


def can_draw(run: Run) -> bool:
    """Get whether the run has the columns of a fluence sweep."""
    layout = run.streams.get(run.default_stream)
    return layout is not None and all(layout.column(name) is not None for name in NEEDED)


def draw(run: Run, data: Mapping[str, Any]) -> Figure:
    """Draw the sweep; ``data`` is the stored result of its analysis, or empty."""
    rows, simulated = read_rows(run, data), run.simulated
    entry = data.get("result")
    found = entry.get("threshold") if isinstance(entry, Mapping) else None
    threshold = in_print(found) if isinstance(found, Mapping) and (number(found.get("value")) or 0.0) > 0 else None
    labels = _labels(rows, threshold, cavity=bool(data.get("modes_nm")))
    smooth_nm = min(_SMOOTH_NM, _SMOOTH_SHARE * rows.narrow_nm)
    shown = read_spectra(run, rows)
    rows = replace(
        rows,
        fluence=rows.fluence * labels.per_uj_cm2,
        fluence_error=rows.fluence_error * labels.per_uj_cm2,
    )
    figure = style.new_figure()
    top = style.head(figure, title(run, data), subtitle(run, data), simulated=simulated)
    spectra = figure.add_subplot(figure.add_gridspec(left=0.08, right=0.478, bottom=0.085, top=top)[0])
    cells = figure.add_gridspec(
        3, left=0.575, right=0.985, bottom=0.085, top=top, height_ratios=(34, 15, 11), hspace=0.06
    )
    output = figure.add_subplot(cells[0])
    width, share = (figure.add_subplot(cells[row], sharex=output) for row in (1, 2))
    _draw_spectra(spectra, shown, threshold, labels, smooth_nm=smooth_nm, status=run.status, simulated=simulated)
    _draw_output(output, rows, threshold, labels, simulated=simulated)
    _draw_width(width, rows, simulated=simulated)
    _draw_share(share, rows, labels, simulated=simulated)
    _draw_fluence_axis((output, width, share), rows, threshold)
    figure.align_ylabels([output, width, share])
    return figure


def _labels(rows: SweepRows, threshold: Mapping[str, Any] | None, *, cavity: bool) -> _Labels:
    """Choose unit and names; without a threshold the highest fluence decides the unit."""
    if threshold is not None:
        large = threshold.get("unit") == "mJ/cm^2"
    else:
        large = bool(np.nanmax(rows.fluence, initial=0.0) > _LARGE_UJ_CM2)
    name = str((threshold or {}).get("convention") or "")
    parts = ("modes", "past the modes", "Mode share") if cavity else ("ASE part", "PL part", "ASE share")
    return _Labels(1e-3 if large else 1.0, "mJ/cm²" if large else "µJ/cm²", CONVENTIONS.get(name, name), *parts)


def _draw_spectra(
    axes: Axes,
    spectra: EmissionSpectra | None,
    threshold: Mapping[str, Any] | None,
    labels: _Labels,
    *,
    smooth_nm: float,
    status: str,
    simulated: bool,
) -> None:
    """(a) Spectra per pulse on a logarithmic scale, coloured by fluence, as far as they stand above their noise."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, LogNorm

    style.panel(axes, "a", simulated=simulated, mark=(0.5, 0.075))
    axes.set_xlabel("Wavelength (nm)")
    axes.set_ylabel("Emission (counts per pulse and nm)")
    lines = (
        [] if spectra is None else [_above_noise(spectra.wavelength_nm, line, smooth_nm) for line in spectra.emission]
    )
    drawn = [line for line in lines if np.isfinite(line).any()]
    if spectra is None or not drawn:
        axes.set_xticks([])
        axes.set_yticks([])
        still = " yet" if status == "running" else ""
        style.say(axes, f"no emission spectra{still}" if spectra is None else "no emission above the noise")
        return
    shown = spectra.fluence * labels.per_uj_cm2
    low, high = float(shown[0]), float(shown[-1])
    norm = LogNorm(low, high if high > low * 1.001 else low * 1.1)
    # The top of viridis is too light for thin lines on white.
    colours = ListedColormap(colormaps["viridis"](np.linspace(0.0, 0.93, 256)))
    for fluence, line in zip(shown, lines, strict=True):
        axes.plot(spectra.wavelength_nm, line, color=colours(norm(fluence)), lw=1.4)
    bright = max(float(np.nanmax(line)) for line in drawn)
    faint = min(float(np.nanmax(line)) for line in drawn)
    axes.set_yscale("log")
    axes.set_ylim(max(faint / 25, bright / _DYNAMIC_RANGE), bright * 1.6)
    axes.set_xlim(*_lit_range(spectra.wavelength_nm, np.array(drawn) > axes.get_ylim()[0]))
    style.log_axis(axes.yaxis, *axes.get_ylim())
    _draw_colour_bar(axes, norm, colours, threshold, labels)
    if spectra.left_out:
        note = axes.text(0.02, 0.02, "; ".join(spectra.left_out), transform=axes.transAxes, size=9.5, color="#555555")
        note.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2})


def _draw_colour_bar(axes: Axes, norm: Any, colours: Any, threshold: Mapping[str, Any] | None, labels: _Labels) -> None:
    from matplotlib.cm import ScalarMappable

    bar = axes.inset_axes((0.63, 0.945, 0.33, 0.028))
    axes.figure.colorbar(ScalarMappable(norm, colours), cax=bar, orientation="horizontal")
    style.log_axis(bar.xaxis, norm.vmin, norm.vmax, most=4)
    bar.tick_params(labelsize=10, top=False, pad=2)
    bar.set_xlabel(labels.fluence, fontsize=10.5, labelpad=1)
    value = None if threshold is None else number(threshold.get("value"))
    if value is not None and norm.vmin < value < norm.vmax:
        bar.axvline(value, color="white", lw=3.5)
        bar.axvline(value, color=style.VERMILION, lw=2)


def _above_noise(wavelength_nm: Any, emission: Any, smooth_nm: float) -> Any:
    """Smooth a spectrum for the eye and keep what lies around its peak above the noise; the rest becomes NaN."""
    width = max(round(smooth_nm / abs(float(np.median(np.diff(wavelength_nm))))), 1)
    good = np.isfinite(emission)
    nothing = np.full(len(emission), np.nan)
    if good.sum() < 3:
        return nothing
    kernel = np.ones(width)
    weight = np.convolve(good.astype(float), kernel, "same")
    smooth = np.convolve(np.where(good, emission, 0.0), kernel, "same") / np.maximum(weight, 1.0)
    # Most pixels hold no light or little, so the median difference of neighbours tells the noise without it.
    noise = 1.4826 * float(np.median(np.abs(np.diff(emission[good])))) / math.sqrt(2 * width)
    peak = int(np.argmax(np.where(good, smooth, -np.inf)))
    if not smooth[peak] > _PEAK_NOISES * noise:
        return nothing
    dim = np.flatnonzero((smooth < _EDGE_NOISES * noise) & (weight > 0))
    first = int(dim[dim < peak].max(initial=-1)) + 1
    last = int(dim[dim > peak].min(initial=len(emission)))
    nothing[first:last] = np.where(good, smooth, np.nan)[first:last]
    return nothing


def _lit_range(wavelength_nm: Any, lit: Any) -> tuple[float, float]:
    """Wavelengths between which there is emission to see, with a margin."""
    found = wavelength_nm[lit.any(axis=0)]
    ends = (float(found.min()), float(found.max())) if found.size else (float(wavelength_nm.min()), 0.0)
    margin = max(0.03 * (ends[1] - ends[0]), 0.5)
    return max(ends[0] - margin, float(wavelength_nm.min())), min(ends[1] + margin, float(wavelength_nm.max()))


def _draw_output(
    axes: Axes, rows: SweepRows, threshold: Mapping[str, Any] | None, labels: _Labels, *, simulated: bool
) -> None:
    """(b) Emission in the band against fluence, its parts, the fit and the threshold."""
    from matplotlib.container import ErrorbarContainer

    style.panel(axes, "b", simulated=simulated, mark=(0.45, 0.45), tilt=22)
    axes.set_ylabel("Band intensity (counts/pulse)")
    shown = rows.drawable
    if not shown.any():
        axes.set_yticks([])
        style.say(axes, "no points with emission above the background")
        return
    axes.set_yscale("log")
    for values, name, colour, marker in (
        (rows.pl, labels.broad, style.SKY, "v"),
        (rows.ase, labels.narrow, style.ORANGE, "^"),
    ):
        part = np.isfinite(values) & (values > 0) & (rows.fluence > 0) & ~rows.saturated
        if part.any():
            axes.plot(rows.fluence[part], values[part], marker, color=colour, ms=4, alpha=0.65, mew=0, label=name)
    for name in dict.fromkeys(str(stage) for stage in rows.stage[shown & ~rows.saturated]):
        _draw_stage(axes, rows, shown & ~rows.saturated & (rows.stage == name), _LOOKS.get(name, _OTHER))
    full = shown & rows.saturated
    if full.any():
        axes.plot(
            rows.fluence[full], rows.intensity[full], "x", color=style.GREY, ms=8, mew=1.8, label="saturated, excluded"
        )
    low, high = float(rows.intensity[shown].min()), float(rows.intensity[shown].max())
    if threshold is not None:
        _draw_fit(axes, rows, threshold, labels)
    axes.set_ylim(low / 2.2, high * 2.2)
    style.log_axis(axes.yaxis, *axes.get_ylim())
    handles, names = axes.get_legend_handles_labels()
    # Of a marker with error bars, the legend shows the marker.
    handles = [handle[0] if isinstance(handle, ErrorbarContainer) else handle for handle in handles]
    parts = (labels.narrow, labels.broad)
    parts_last = sorted(zip(names, handles, strict=True), key=lambda entry: entry[0] in parts)
    names, handles = [name for name, _ in parts_last], [handle for _, handle in parts_last]
    axes.legend(handles, names, loc="upper left", labelspacing=0.35)


def _draw_stage(axes: Axes, rows: SweepRows, chosen: Any, look: tuple[str, str, str, str]) -> None:
    name, marker, colour, face = look
    fluence, intensity = rows.fluence[chosen], rows.intensity[chosen]
    error = np.nan_to_num(rows.intensity_error[chosen])
    axes.errorbar(
        fluence,
        intensity,
        # On a logarithmic axis a bar that reaches zero has no lower end: it stops at a tenth.
        yerr=np.stack([np.minimum(error, 0.9 * intensity), error]),
        xerr=np.minimum(np.nan_to_num(rows.fluence_error[chosen]), 0.9 * fluence),
        fmt=marker,
        color=colour,
        mfc=face,
        ms=9 if marker == "s" else 6,
        mew=1.4,
        elinewidth=1.0,
        label=name,
        zorder=3,
    )


def _draw_fit(axes: Axes, rows: SweepRows, threshold: Mapping[str, Any], labels: _Labels) -> None:
    ends = interval(threshold.get("data_range"))
    usable = rows.fluence[rows.drawable]
    low, high = ends if ends is not None and 0 < ends[0] < ends[1] else (float(usable.min()), float(usable.max()))
    grid = np.geomspace(low, high, 300)
    curve = fitted_curve(threshold, grid / labels.per_uj_cm2)
    if curve is not None:
        axes.plot(grid, curve, color=style.BLACK, lw=1.8, zorder=4, label="fit, over its range")


def _draw_width(axes: Axes, rows: SweepRows, *, simulated: bool) -> None:
    """(c) Width of the strongest line."""
    from matplotlib.ticker import MaxNLocator

    style.panel(axes, "c", simulated=simulated)
    axes.set_ylabel("FWHM (nm)")
    good = np.isfinite(rows.fwhm_nm) & (rows.fwhm_nm > 0) & (rows.fluence > 0) & ~rows.saturated
    if not good.any():
        axes.set_yticks([])
        style.say(axes, "no line width was found")
        return
    for name in dict.fromkeys(str(stage) for stage in rows.stage[good]):
        chosen = good & (rows.stage == name)
        _, marker, colour, face = _LOOKS.get(name, _OTHER)
        size = 7.5 if marker == "s" else 5
        axes.plot(rows.fluence[chosen], rows.fwhm_nm[chosen], marker, color=colour, mfc=face, ms=size, mew=1.3)
    axes.set_ylim(0, float(rows.fwhm_nm[good].max()) * 1.18)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=(1, 2, 5, 10)))


def _draw_share(axes: Axes, rows: SweepRows, labels: _Labels, *, simulated: bool) -> None:
    """(d) Share of the narrow line in the emission."""
    style.panel(axes, "d", simulated=simulated)
    axes.set_ylabel(labels.share)
    axes.set_xlabel(labels.whole, fontsize=_LONG_LABEL_SIZE if len(labels.whole) > _LONG_LABEL else None)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = rows.ase + rows.pl
        share = np.where((total > 0) & (rows.fluence > 0) & ~rows.saturated, rows.ase / total, np.nan)
    good = np.isfinite(share)
    axes.set_ylim(-0.08, 1.08)
    axes.set_yticks([0, 0.5, 1])
    if good.any():
        axes.plot(rows.fluence[good], share[good], "^", color=style.ORANGE, ms=5, mew=0)
    else:
        axes.set_yticks([])
        style.say(axes, "not split into a narrow and a broad part")


def _draw_fluence_axis(panels: tuple[Axes, ...], rows: SweepRows, threshold: Mapping[str, Any] | None) -> None:
    """Give the panels one logarithmic fluence axis, and the threshold with its 95 % interval."""
    fluence = rows.fluence[np.isfinite(rows.fluence) & (rows.fluence > 0)]
    for axes in panels[:-1]:
        axes.tick_params(labelbottom=False)
    if not fluence.size:
        for axes in panels:
            axes.set_xticks([])
        return
    low, high = float(fluence.min()), float(fluence.max())
    margin = max((high / low) ** 0.05, 1.05)
    panels[0].set_xscale("log")
    panels[0].set_xlim(low / margin, high * margin)
    style.log_axis(panels[0].xaxis, low / margin, high * margin)
    value = None if threshold is None else number(threshold.get("value"))
    if threshold is None or value is None:
        return
    ends = interval(threshold.get("ci95"))
    for axes in panels:
        if ends is not None and 0 < ends[0] < ends[1]:
            axes.axvspan(*ends, color=style.VERMILION, alpha=0.22, lw=0, zorder=1)
        axes.axvline(value, color=style.VERMILION, lw=1.5, zorder=2)
    if low < value < high:
        half = None if ends is None else (ends[1] - ends[0]) / 2
        text = f"$F_\\mathrm{{th}}$ = {rounded(value, half)} {unit_text(threshold.get('unit'))}"
        text += f"\n95 %: {range_text(ends)}" if ends is not None else ""
        right = math.log(value / low) < 0.62 * math.log(high / low)
        panels[0].annotate(
            text,
            (value, 0.06),
            (7 if right else -7, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="left" if right else "right",
            va="bottom",
            color=style.VERMILION,
            size=12,
            weight="bold",
        )
