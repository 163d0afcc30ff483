"""What the figure of a stripe-length scan shows, taken from a stored run in any state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.vsl_bands import Band, band_mean
from labctl.analysis.vsl_fit import StripeCurve
from labctl.analysis.vsl_shapes import EvenStripe
from labctl.report.stored_spectra import column, emission, read_frames, texts, wavelengths_nm
from labctl.report.wording import number
from labctl.store.run import Run

Array = NDArray[np.float64]
Chosen = NDArray[np.bool_]
NEEDED = ("fluence_set_uj_cm2", "length_um", "band_intensity")


@dataclass(frozen=True)
class Stripes:
    """Points of a scan of the lengths and of what was measured with it.

    :param kind: ``closed``, ``lengths``, ``bleach``, ``ses`` or ``loss``, [n]. :param fluence: As asked for, uJ/cm2.
    :param light: Light of the band above that of the closed slit, per pulse, with ``error``; NaN where not known.
    :param spectra: The same for every pixel, [n, pixels]; None without spectra. :param light_name: What ``light`` is.
    """

    kind: NDArray[np.str_]
    fluence: Array
    length_um: Array
    offset_um: Array
    light: Array
    error: Array
    saturated: Chosen
    wavelength_nm: Array | None
    spectra: Array | None
    light_name: str

    def of(self, kind: str, fluence: float | None = None) -> Chosen:
        """Get which points are of a kind, and of a pump fluence if one is given, [n]."""
        chosen = self.kind == kind
        return chosen if fluence is None else chosen & (self.fluence == fluence)

    @property
    def fluences(self) -> list[float]:
        """Get the pump fluences at which the lengths were scanned, ascending."""
        here = self.fluence[self.of("lengths")]
        return sorted({float(value) for value in here[np.isfinite(here)]})


@dataclass(frozen=True)
class Scan:
    """The stored analysis at one pump fluence."""

    fluence: float
    data: Mapping[str, Any]

    @property
    def fit(self) -> Mapping[str, Any]:
        """Get the fit of the evenly collected stripe; empty without one."""
        return _mapping(self.data.get("fit"))

    @property
    def band(self) -> Band | None:
        """Get the band whose light was fitted."""
        found = _mapping(self.data.get("band"))
        centre, width = number(found.get("centre_nm")), number(found.get("width_nm"))
        return None if centre is None or width is None else Band(centre, width)

    @property
    def scatter(self) -> float:
        """Get the relative error per length that the fit used; 0 without a fit."""
        return (number(self.fit.get("relative_error")) or 0.0) * (number(self.fit.get("error_scale")) or 1.0)

    def curve(self, length_um: Array) -> Array | None:
        """Get the fitted light at lengths as read; None if the fit is not stored in full."""
        fit = self.fit
        values = [number(fit.get(name)) for name in ("value", "zero_um", "spontaneous_per_cm", "late_per_cm", "offset")]
        if any(value is None for value in values):
            return None
        gain, zero_um, spontaneous, late, offset = (float(value or 0.0) for value in values)
        saturation = number(fit.get("saturation_intensity"))
        depth = spontaneous / (gain * saturation) if saturation and gain > 0 else 0.0
        curve = StripeCurve(gain, depth, 1e-4 * zero_um, spontaneous, late, offset)
        return curve.values(EvenStripe(1e-4 * length_um))

    def late_light(self, length_um: Array) -> Array | None:
        """Get the part of the fitted light that was emitted after the gain; None if the model has none."""
        late, zero_um = number(self.fit.get("late_per_cm")), number(self.fit.get("zero_um"))
        if not late or zero_um is None or "late light" not in str(self.fit.get("model")):
            return None
        return 1e-4 * late * np.maximum(length_um - zero_um, 0.0)

    @property
    def simple_fits(self) -> list[Mapping[str, Any]]:
        """Get the papers' fits; the one over all lengths first."""
        found = self.data.get("small_signal")
        return [fit for fit in found if isinstance(fit, Mapping)] if isinstance(found, list) else []


def read_scans(data: Mapping[str, Any]) -> list[Scan]:
    """Get the stored analyses, by ascending fluence; none if the run was not analysed."""
    found = data.get("scans")
    entries = [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []
    scans = [Scan(fluence, entry) for entry in entries if (fluence := number(entry.get("fluence_uj_cm2"))) is not None]
    return sorted(scans, key=lambda scan: scan.fluence)


def read_stripes(run: Run, scans: list[Scan]) -> Stripes:
    """Read the points, with the light of the band that the analysis chose; of the whole emission if there is none."""
    stages = texts(run, "stage")
    kind = np.array([stage.partition("-")[0] for stage in stages.tolist()], dtype=np.str_)
    fluence = column(run, "fluence_set_uj_cm2")
    light, error = column(run, "band_intensity").copy(), column(run, "band_intensity_error").copy()
    wavelength_nm = wavelengths_nm(run, "spectrum", run.default_stream)
    spectra = None
    name = "Emission, whole band (counts/pulse)"
    if wavelength_nm is not None and len(kind):
        spectra, errors = _spectra(run, wavelength_nm)
        _take_off_closed(spectra, kind, fluence)
        bands = {scan.fluence: band for scan in scans if (band := scan.band) is not None}
        if bands:
            band = bands[max(bands)]
            name = f"Emission within {band.width_nm:.3g} nm of {band.centre_nm:.1f} nm (counts/pulse/px)"
            for value in {float(f) for f in fluence}:
                own, here = bands.get(value, band), fluence == value
                if own.within(wavelength_nm).any():
                    light[here], error[here] = band_mean(own, wavelength_nm, spectra[here], errors[here])
    return Stripes(
        kind,
        fluence,
        column(run, "length_um"),
        column(run, "offset_um"),
        light,
        np.nan_to_num(error),
        np.nan_to_num(column(run, "saturated_pixels")) > 0,
        wavelength_nm,
        spectra,
        name,
    )


def simple_curve(scan: Scan, gain_cm1: float, length_um: Array, light: Array, at_um: Array) -> Array | None:
    """Get the papers' fit I = (a/g)(exp(g L) - 1) at lengths; its a follows from the points, all errors relative."""
    zero_um = number(scan.fit.get("zero_um")) or 0.0
    good = np.isfinite(light) & (light > 0) & (length_um > zero_um)
    if not good.any():
        return None

    def unit(lengths: Array) -> Array:
        return StripeCurve(gain_cm1, 0.0, 1e-4 * zero_um, 1.0, 0.0, 0.0).values(EvenStripe(1e-4 * lengths))

    share = unit(length_um[good]) / light[good]
    return unit(at_um) * float(share.sum() / (share**2).sum())


def _spectra(run: Run, wavelength_nm: Array) -> tuple[Array, Array]:
    stream, count = run.default_stream, run.count()
    frames = read_frames(run)
    spectra = np.full((count, len(wavelength_nm)), math.nan)
    errors = np.zeros_like(spectra)
    for index in range(count):
        found = emission(run, frames, stream, index)
        if found is not None:
            spectra[index], errors[index] = found
    return spectra, errors


def _take_off_closed(spectra: Array, kind: NDArray[np.str_], fluence: Array) -> None:
    """Take off the mean spectrum with the slit closed, at each pump fluence that has one."""
    for value in {float(f) for f in fluence}:
        here = fluence == value
        closed = spectra[here & (kind == "closed")]
        closed = closed[np.isfinite(closed).any(axis=1)]
        if len(closed):
            spectra[here] -= np.nan_to_num(closed).mean(axis=0)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
