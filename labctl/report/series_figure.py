"""The figure of a temperature series: emission, peak energy and width against temperature, with the fits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.split_line import HC_EV_NM
from labctl.analysis.stress_clock import BOLTZMANN_EV_K, ZERO_CELSIUS_K
from labctl.report import style
from labctl.report.stability_data import Reads, floats, read_reads
from labctl.report.stability_spectra_panel import draw_spectra
from labctl.report.stress_panel import draw_stress
from labctl.report.titles import subtitle, title
from labctl.report.wording import reading
from labctl.store.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Curve = Callable[[Array], Array]
_STORED = {
    "kelvin": "temperature_k",
    "intensity": "intensity",
    "intensity_error": "error",
    "energy_ev": "peak_ev",
    "energy_error_ev": "peak_error_ev",
    "width_mev": "fwhm_mev",
    "width_error_mev": "fwhm_error_mev",
}
"""Columns of the stored points by what they are here."""
_AGAIN_K = 2.0
"""Temperatures nearer to each other than this are the same."""


@dataclass(frozen=True)
class _Series:
    """The reads by temperature, [n]; NaN where not known. ``again``: at a temperature that was read before."""

    kelvin: Array
    intensity: Array
    intensity_error: Array
    energy_ev: Array
    energy_error_ev: Array
    width_mev: Array
    width_error_mev: Array
    again: NDArray[np.bool_]


def can_draw(run: Run) -> bool:
    """Get whether the run has the columns of a temperature series."""
    layout = run.streams.get(run.default_stream)
    return layout is not None and all(layout.column(name) is not None for name in ("temperature_c", "ratio"))


def draw(run: Run, data: Mapping[str, Any]) -> Figure:
    """Draw the series; ``data`` is the stored result of its analysis, or empty: then the reads as they are."""
    simulated = run.simulated
    reads = read_reads(run, data)
    series, fits = _read(run, reads, data), series_of(data)
    figure = style.new_figure()
    top = style.head(figure, title(run, data), subtitle(run, data), simulated=simulated)
    place: dict[str, Any] = {"bottom": 0.085, "top": top}
    left = figure.add_gridspec(1, left=0.078, right=0.365, **place)
    middle = figure.add_gridspec(2, left=0.452, right=0.715, hspace=0.06, **place)
    right = figure.add_gridspec(2, left=0.805, right=0.985, hspace=0.3, **place)
    emission = figure.add_subplot(left[0])
    energy = figure.add_subplot(middle[0])
    width = figure.add_subplot(middle[1], sharex=energy)
    found = fits.get("quench")
    curve, text = _quench_curve(series, found), _quench_text(found)
    style.panel(emission, "a", simulated=simulated)
    emission.set_ylabel("Emission, 1 at the coldest")
    _draw(emission, series, series.intensity, series.intensity_error, curve, text, run.status)
    style.panel(energy, "b", simulated=simulated)
    energy.set_ylabel("Peak (eV)", fontsize=11)
    _draw(energy, series, series.energy_ev, series.energy_error_ev, _energy_curve(fits.get("energy")),
          _text(fits.get("energy"), ("E0", "S", "hw")), run.status)  # fmt: skip
    style.panel(width, "c", simulated=simulated)
    width.set_ylabel("FWHM (meV)", fontsize=11)
    _draw(width, series, series.width_mev, series.width_error_mev, _width_curve(fits.get("width")),
          _text(fits.get("width"), ("G0", "s", "G_LO", "E_LO")), run.status)  # fmt: skip
    energy.tick_params(labelbottom=False)
    for axes in (emission, width):
        axes.set_xlabel("Temperature (K)")
    figure.align_ylabels([energy, width])
    draw_spectra(figure.add_subplot(right[0]), run, reads, simulated=simulated, letter="d", by_temperature=True)
    draw_stress(figure.add_subplot(right[1]), run, reads, simulated=simulated, letter="e")
    return figure


def series_of(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Get the stored fits of a temperature series; empty if the run was not analysed."""
    for found in (data, *data.values()):
        if isinstance(found, Mapping) and {"quench", "energy", "width"} <= set(found):
            return found
    return {}


def _read(run: Run, reads: Reads, data: Mapping[str, Any]) -> _Series:
    """Read the series: the lines as the analysis fitted them where they are stored, else as seen while measuring."""
    kelvin = reads.temperature_c + ZERO_CELSIUS_K
    with np.errstate(divide="ignore", invalid="ignore"):
        energy = HC_EV_NM / reads.peak_nm
        width = 1e3 * HC_EV_NM * reads.fwhm_nm / reads.peak_nm**2
    nothing = np.zeros_like(kelvin)
    columns = {"energy_ev": energy, "energy_error_ev": nothing, "width_mev": width, "width_error_mev": nothing}
    columns |= {"kelvin": kelvin, "intensity": reads.intensity, "intensity_error": reads.error}
    stored = data.get("points")
    if isinstance(stored, Mapping):
        found = {name: floats(stored.get(key)) for name, key in _STORED.items()}
        whole = {name: values for name, values in found.items() if values is not None}
        if len(whole) == len(_STORED) and len({len(values) for values in whole.values()}) == 1:
            columns = whole
    kelvin = columns["kelvin"]
    cold = _coldest(kelvin, columns["intensity"])
    again = np.array([bool((np.abs(kelvin[:k] - kelvin[k]) < _AGAIN_K).any()) for k in range(len(kelvin))], dtype=bool)
    scaled = {name: columns[name] / cold for name in ("intensity", "intensity_error")}
    return _Series(**{**columns, **scaled}, again=again)


def _coldest(kelvin: Array, intensity: Array) -> float:
    good = np.isfinite(kelvin) & np.isfinite(intensity) & (intensity > 0)
    if not good.any():
        return 1.0
    return float(intensity[good][np.argmin(kelvin[good])])


def _draw(
    axes: Axes, series: _Series, values: Array, errors: Array, curve: Curve | None, text: str, status: str
) -> None:
    """Draw one quantity against temperature with its fit."""
    good = np.isfinite(series.kelvin) & np.isfinite(values)
    if not good.any():
        axes.set_yticks([])
        style.say(axes, "no reads" + (" yet" if status == "running" else " with a value"))
        return
    for chosen, name, face in (
        (good & ~series.again, "measured", style.BLUE),
        (good & series.again, "the same temperature again", "white"),
    ):
        if chosen.any():
            bars = np.maximum(np.nan_to_num(errors[chosen]), 0.0)
            look = {"color": style.BLUE, "mfc": face, "ms": 6, "mew": 1.3, "elinewidth": 1.0, "zorder": 3}
            axes.errorbar(series.kelvin[chosen], values[chosen], yerr=bars, fmt="o", label=name, **look)
    low, high = float(series.kelvin[good].min()), float(series.kelvin[good].max())
    if curve is not None and high > low:
        grid = np.linspace(max(low, 1.0), high, 300)
        axes.plot(grid, curve(grid), color=style.BLACK, lw=1.6, zorder=2, label=text)
    margin = max(0.04 * (high - low), 2.0)
    axes.set_xlim(max(low - margin, 0.0), high + margin)
    shown = values[good]
    falls = float(shown[np.argmax(series.kelvin[good])]) < float(shown[np.argmin(series.kelvin[good])])
    bottom, top = axes.get_ylim()
    # The legend goes where a curve that falls, or rises, with temperature leaves room.
    axes.set_ylim(bottom - (0.3 if falls else 0.0) * (top - bottom), top + (0.0 if falls else 0.3) * (top - bottom))
    style.legend(axes, loc="lower left" if falls else "upper left", fontsize=9.5, labelspacing=0.3)


def _parameters(found: Any, names: tuple[str, ...]) -> list[float] | None:
    """Get parameters of a stored curve by name, or None if one is missing."""
    parameters = found.get("parameters") if isinstance(found, Mapping) else None
    if not isinstance(parameters, Mapping):
        return None
    values = floats([_entry(parameters.get(name)).get("value") for name in names])
    return values.tolist() if values is not None and np.isfinite(values).all() else None


def _quench_curve(series: _Series, found: Any) -> Curve | None:
    """Get I(T) = I0/[1 + C exp(-Ea/kT)], its height being that of the points."""
    entry = _entry(found)
    values = floats([_entry(entry.get(name)).get("value") for name in ("strength", "activation_mev")])
    if values is None or not np.isfinite(values).all():
        return None
    strength, activation = values

    def shape(kelvin: Array) -> Array:
        return 1 / (1 + strength * np.exp(-1e-3 * activation / (BOLTZMANN_EV_K * kelvin)))

    good = np.isfinite(series.intensity) & (series.kelvin > 0)
    if not good.any():
        return None
    unit = shape(series.kelvin[good])
    height = float((unit * series.intensity[good]).sum() / (unit**2).sum())
    return lambda kelvin: height * shape(kelvin)


def _energy_curve(found: Any) -> Curve | None:
    """Get E(T) = E0 - S hw [coth(hw/2kT) - 1], in eV."""
    values = _parameters(found, ("E0", "S", "hw"))
    if values is None:
        return None
    start, coupling, phonon = values[0], values[1], 1e-3 * values[2]
    return lambda kelvin: start - coupling * phonon * (1 / np.tanh(phonon / (2 * BOLTZMANN_EV_K * kelvin)) - 1)


def _width_curve(found: Any) -> Curve | None:
    """Get G(T) = G0 + s T + G_LO/[exp(E_LO/kT) - 1], in meV."""
    values = _parameters(found, ("G0", "s", "G_LO", "E_LO"))
    if values is None:
        return None
    start, slope, coupling, phonon = values

    def width(kelvin: Array) -> Array:
        quanta = 1 / np.expm1(np.minimum(1e-3 * phonon / (BOLTZMANN_EV_K * kelvin), 500.0))
        return start + slope * kelvin + coupling * quanta

    return width


def _quench_text(found: Any) -> str:
    entry = _entry(found)
    shown = reading("quench", entry.get("percent"))
    ends = entry.get("between_k")
    between = floats(ends)
    where = f" from {between[0]:.4g} to {between[1]:.4g} K" if between is not None and len(between) == 2 else ""
    interval = f" ({shown.ci95})" if shown.ci95 else ""
    return f"fit: loss {shown.value}{interval} %{where}" if shown.value else "fit"


def _text(found: Any, names: tuple[str, ...]) -> str:
    """Write the parameters of a curve, one line each, with half of their 68 % intervals."""
    parameters = _entry(_entry(found).get("parameters"))
    lines = []
    for name in names:
        shown = reading(name, parameters.get(name))
        if shown.value:
            half = floats(_entry(parameters.get(name)).get("ci68"))
            error = float(half[1] - half[0]) / 2 if half is not None and len(half) == 2 else math.nan
            lines.append(f"{_SYMBOLS.get(name, name)} = {shown.value} {shown.unit}".rstrip())
            lines[-1] += f" ± {error:.2g}" if error > 0 else " (held)" if error == 0 else ""
    return "fit: " + "\n".join(lines) if lines else "fit"


_SYMBOLS = {"E0": "E₀", "hw": "ħω", "G0": "Γ₀", "s": "σ", "G_LO": "Γ_LO", "E_LO": "E_LO"}


def _entry(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
