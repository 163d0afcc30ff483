"""What the figure of a fluence sweep shows, taken from a stored run in any state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from labctl.report.stored_spectra import SATURATED, column, emission, read_frames, read_mask, texts, wavelengths_nm
from labctl.report.wording import number
from labctl.store.run import Run

Array = NDArray[np.float64]
MAX_SPECTRA = 60
"""More spectra than this say nothing more to the eye; they are thinned out evenly in ln F."""
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
    def narrow_nm(self) -> float:
        """Get the width below which a quarter of the lines are, in nm; infinite if no width is known."""
        known = self.fwhm_nm[_positive(self.fwhm_nm) & _positive(self.fluence) & ~self.saturated]
        return float(np.quantile(known, 0.25)) if known.size else math.inf

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
    rows = SweepRows(
        stage=texts(run, "stage"),
        fluence=column(run, "fluence_uj_cm2"),
        fluence_error=column(run, "fluence_error_uj_cm2"),
        intensity=column(run, "band_intensity"),
        intensity_error=column(run, "band_intensity_error"),
        fwhm_nm=column(run, "fwhm_nm"),
        ase=column(run, "ase_intensity"),
        pl=column(run, "pl_intensity"),
        saturated=np.nan_to_num(column(run, "saturated_pixels")) > 0,
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
    name, stream = str(run.header.get("spectra")), run.default_stream
    wavelength_nm = wavelengths_nm(run, name, stream)
    if wavelength_nm is None:
        return None
    frames = read_frames(run, name)
    nm_per_pixel = np.abs(np.gradient(wavelength_nm)) if len(wavelength_nm) > 1 else np.ones(1)
    kept, spectra, without_dark, saturated = [], [], 0, False
    for index in _thinned(rows):
        found = emission(run, frames, stream, index, name)
        if found is None:
            without_dark += 1
            continue
        saturated |= bool((read_mask(run, stream, wavelength_nm.shape, index) & SATURATED).any())
        kept.append(index)
        spectra.append(found[0] / nm_per_pixel)
    if not kept:
        return None
    left_out = [f"{without_dark} spectra without a dark frame are not shown"] if without_dark else []
    if saturated:
        left_out.append("saturated pixels are left out")
    if not frames.has_scatter:
        left_out.append("no frame of pump scatter: only dark is subtracted")
    return EmissionSpectra(rows.fluence[kept], wavelength_nm, np.array(spectra), tuple(left_out))


def fitted_curve(threshold: Mapping[str, Any], fluence: Array) -> Array | None:
    """Get the fitted intensity at ``fluence``, uJ/cm2, from a stored threshold, or None if it does not hold the fit."""
    from labctl.analysis.hinge import HingeParameters
    from labctl.analysis.s_curve import SCurve

    stored = threshold.get("parameters")
    if not isinstance(stored, Mapping):
        return None
    if threshold.get("definition") == "lasing_s_curve":
        found = {field.name: number(stored.get(field.name)) for field in fields(SCurve)}
        if any(value is None for value in found.values()):
            return None
        return SCurve(**cast("dict[str, float]", found)).intensity(np.log(fluence))
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
