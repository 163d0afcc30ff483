"""What the figure of a fluence sweep shows, taken from a stored run in any state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from labctl.report.wording import number
from labctl.store.run import Run

Array = NDArray[np.float64]
MAX_SPECTRA = 60
"""More spectra than this say nothing more to the eye; they are thinned out evenly in ln F."""
_SATURATED, _COSMIC = 1, 2
_SETTINGS = ("exposure_s", "accumulations", "counted_pulses", "pulse_energy_j")
NEEDED = ("fluence_uj_cm2", "band_intensity")


@dataclass(frozen=True)
class SweepRows:
    """Columns of the sweep, each of shape [n]; NaN where a run does not have a column.

    Fluences in µJ/cm², intensities in counts per pulse, widths in nm.
    """

    stage: NDArray[np.str_]
    fluence: Array
    fluence_error: Array
    intensity: Array
    intensity_error: Array
    fwhm_nm: Array
    ase: Array
    pl: Array
    saturated: NDArray[np.bool_]

    @property
    def drawable(self) -> NDArray[np.bool_]:
        """Points that have a place on logarithmic axes."""
        return _positive(self.fluence) & _positive(self.intensity)


@dataclass(frozen=True)
class EmissionSpectra:
    """Spectra in order of fluence: [k] µJ/cm², [n_px] nm, [k, n_px] counts per pulse and nm; saturated pixels NaN.

    ``left_out`` says in words what is not among them.
    """

    fluence: Array
    wavelength_nm: Array
    emission: Array
    left_out: tuple[str, ...]


def _positive(values: Array) -> NDArray[np.bool_]:
    return np.isfinite(values) & (values > 0)


def read_rows(run: Run, data: Mapping[str, Any]) -> SweepRows:
    """Read the columns; a column that is not there is NaN throughout.

    Widths and parts come from the stored analysis ``data`` where it has them for every point: it knew all spectra,
    while the columns were filled as the sweep went.
    """
    count = run.count()
    present = {column.name for column in run.streams[run.default_stream].columns}

    def column(name: str) -> Array:
        return np.asarray(run.column(name), float) if name in present else np.full(count, np.nan)

    stage = run.column("stage") if "stage" in present else np.full(count, "")
    rows = SweepRows(
        stage=np.asarray(stage, dtype=np.str_),
        fluence=column("fluence_uj_cm2"),
        fluence_error=column("fluence_error_uj_cm2"),
        intensity=column("band_intensity"),
        intensity_error=column("band_intensity_error"),
        fwhm_nm=column("fwhm_nm"),
        ase=column("ase_intensity"),
        pl=column("pl_intensity"),
        saturated=np.nan_to_num(column("saturated_pixels")) > 0,
    )
    points = data.get("points")
    if not isinstance(points, list) or len(points) != count or not all(isinstance(p, Mapping) for p in points):
        return rows
    per_nm = _pixels_per_nm(run)
    return replace(
        rows,
        fwhm_nm=_of_points(points, "fwhm_nm"),
        ase=_of_points(points, "ase_area") * per_nm,
        pl=_of_points(points, "pl_area") * per_nm,
    )


def _of_points(points: list[Mapping[str, Any]], name: str) -> Array:
    values = [number(point.get(name)) for point in points]
    return np.array([math.nan if value is None else value for value in values])


def _pixels_per_nm(run: Run) -> float:
    """Areas of lines are in counts nm, the band intensity in counts summed over pixels."""
    field = run.streams[run.default_stream].array(str(run.header.get("spectra")))
    axis = None if field is None else run.axes.get(field.axis or "")
    if axis is None or len(axis.values) < 2:
        return math.nan
    return 1 / abs(float(np.mean(np.diff(axis.values))))


def read_spectra(run: Run, rows: SweepRows) -> EmissionSpectra | None:
    """Read the spectra, subtract dark and scattered pump light, divide by pulses; None if there are none to show."""
    name = run.header.get("spectra")
    field = run.streams[run.default_stream].array(str(name)) if name else None
    axis = run.axes.get(field.axis or "") if field is not None else None
    if field is None or axis is None or len(field.shape) != 1 or len(axis.values) != field.shape[0]:
        return None
    chosen = _thinned(rows)
    dark = _dark_by_exposure(run, field.name)
    scatter = _scatter_per_joule(run, field.name, dark)
    nm_per_pixel = np.abs(np.gradient(axis.values)) if len(axis.values) > 1 else np.ones(1)
    settings = [_column(run, column) for column in _SETTINGS]
    has_mask = run.streams[run.default_stream].array("mask") is not None
    kept, spectra, without_dark, saturated = [], [], 0, False
    for index in chosen:
        exposure, sums, pulses, energy = (float(values[index]) for values in settings)
        frame = dark.get(_microseconds(exposure))
        if frame is None or not pulses > 0 or not sums > 0:
            without_dark += 1
            continue
        mask = np.asarray(run.array("mask")[int(index)]) if has_mask else np.zeros(field.shape, np.uint8)
        counts = _repaired(np.asarray(run.array(field.name)[int(index)], float), (mask & _COSMIC) > 0)
        signal = counts - frame * sums
        if scatter is not None and math.isfinite(energy):
            signal = signal - scatter * energy * pulses
        full = (mask & _SATURATED) > 0
        saturated |= bool(full.any())
        signal[full] = np.nan
        kept.append(index)
        spectra.append(signal / pulses / nm_per_pixel)
    if not kept:
        return None
    left_out = [f"{without_dark} spectra without a dark frame are not shown"] if without_dark else []
    if saturated:
        left_out.append("saturated pixels are left out")
    if scatter is None:
        left_out.append("no frame of pump scatter: only dark is subtracted")
    return EmissionSpectra(rows.fluence[kept], axis.values, np.array(spectra), tuple(left_out))


def fitted_curve(threshold: Mapping[str, Any], fluence: Array) -> Array | None:
    """Get the fitted intensity at ``fluence`` from a stored threshold, or None if it does not hold the fit."""
    from labctl.analysis.hinge import HingeParameters

    stored = threshold.get("parameters")
    if not isinstance(stored, Mapping):
        return None
    values = {field.name: number(stored.get(field.name)) for field in fields(HingeParameters)}
    required = [name for name in values if name not in ("distance", "slope_saturated")]
    if any(values[name] is None for name in required) or not (values["softness"] or 0) > 0:
        return None
    return np.exp(HingeParameters(**cast("dict[str, float]", values)).curve(np.log(fluence)))


def _thinned(rows: SweepRows) -> list[int]:
    """Choose the spectra to draw, by ascending fluence; those of the return show the same as the first ones."""
    usable = np.flatnonzero(_positive(rows.fluence) & (rows.stage != "return"))
    ordered = usable[np.argsort(rows.fluence[usable], kind="stable")]
    if len(ordered) > MAX_SPECTRA:
        x = np.log(rows.fluence[ordered])
        marks = np.linspace(float(x[0]), float(x[-1]), MAX_SPECTRA)
        ordered = ordered[np.unique(np.searchsorted(x, marks - 1e-12))]
    return [int(index) for index in ordered]


def _column(run: Run, name: str, stream: str | None = None) -> Array:
    stream = stream or run.default_stream
    if run.streams[stream].column(name) is None:
        return np.full(run.count(stream), np.nan)
    return np.asarray(run.column(name, stream), float)


def _dark_by_exposure(run: Run, name: str) -> dict[int, Array]:
    """Get dark counts of one accumulation, shape [n_px], by the exposure in µs."""
    if "dark" not in run.streams or run.streams["dark"].array(name) is None:
        return {}
    exposure, sums = _column(run, "exposure_s", "dark"), _column(run, "accumulations", "dark")
    frames = np.asarray(run.array(name, "dark"), float)
    good = np.isfinite(exposure) & (sums > 0)
    return {_microseconds(exposure[k]): frames[k] / sums[k] for k in np.flatnonzero(good)}


def _scatter_per_joule(run: Run, name: str, dark: Mapping[int, Array]) -> Array | None:
    """Get the counts of scattered pump light per joule on the sample, shape [n_px]; None if it was not measured."""
    if "scatter" not in run.streams or run.streams["scatter"].array(name) is None or not run.count("scatter"):
        return None
    exposure, sums, pulses, energy = (float(_column(run, column, "scatter")[-1]) for column in _SETTINGS)
    frame = dark.get(_microseconds(exposure))
    if frame is None or not energy * pulses > 0:
        return None
    return (np.asarray(run.array(name, "scatter")[-1], float) - frame * sums) / (energy * pulses)


def _repaired(counts: Array, bad: NDArray[np.bool_]) -> Array:
    """Bridge pixels hit by a cosmic ray by their good neighbours."""
    if not bad.any() or bad.all():
        return counts
    pixels = np.arange(len(counts))
    return np.where(bad, np.interp(pixels, pixels[~bad], counts[~bad]), counts)


def _microseconds(exposure_s: float) -> int:
    return round(exposure_s * 1e6) if math.isfinite(exposure_s) else -1
