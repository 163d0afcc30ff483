"""Analysis of a temperature series: quench, line energy and line width against temperature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.stability_reads import normalise
from labctl.analysis.stress_clock import ZERO_CELSIUS_K
from labctl.analysis.temperature_line import LineCurve, analyse_temperature_series
from labctl.errors import InputError
from procedures.stability.analysis import lines_of
from procedures.stability.memory import BASELINE
from procedures.stability.stored import StoredReads

if TYPE_CHECKING:
    from procedures.temperature_series import TemperatureSeries

Array = NDArray[np.float64]

_METERED_DRIFT = 0.005
"""Drift over a series that is assumed without a reference, where each read is divided by the energy of its pulses."""


def analyse_series(run: Any, procedure: TemperatureSeries) -> dict[str, Any]:
    """Analyse a series, live or old; returns ``{"result", "series", "points", "warnings"}``."""
    reads = StoredReads.of(run)
    order = np.where(reads.stage == BASELINE, 0.0, np.arange(1.0, len(reads.stage) + 1.0))
    series = reads.stability(lambda t_s: np.interp(t_s, reads.middle_s, order), "1")
    try:
        points = normalise(series, divide_by_pump=not reads.has_reference, lamp_drift=_METERED_DRIFT)
        kelvin = np.asarray(reads.columns["temperature_c"], dtype=float)[points.point] + ZERO_CELSIUS_K
        lines = lines_of(run, reads, procedure)
        found = analyse_temperature_series(
            kelvin,
            intensity=points.intensity,
            # The baseline is a point like the others: what is asked for is a ratio of two of them.
            intensity_covariance=points.fit_covariance,
            energy_ev=None if lines is None else lines.peak_ev[points.point],
            energy_error_ev=None if lines is None else lines.peak_error_ev[points.point],
            width_mev=None if lines is None else lines.fwhm_mev[points.point],
            width_error_mev=None if lines is None else lines.fwhm_error_mev[points.point],
            phonon_mev=procedure.phonon_energy,
            quench_between_k=(float(kelvin.min()), float(kelvin.max())),
        )
    except ValueError as reason:
        raise InputError(f"the reads cannot be analysed: {reason}", where=str(run.path)) from reason
    result: dict[str, Any] = {}
    if found.quench is not None:
        result["quench"] = found.quench.percent.as_dict()
        result["quench_activation"] = found.quench.activation_mev.as_dict()
    top = float(kelvin.max())
    for name, curve, unit in (("energy", found.energy, "eV"), ("width", found.width, "meV")):
        if curve is not None:
            result[f"{name}_at_highest"] = {"value": float(curve.value(np.array([top]))[0]), "unit": unit}
            result |= {f"{name}_{key}": value for key, value in _parameters(curve).items()}
    again = reads.stage == BASELINE
    first, last = np.nanmean(points.intensity[again[points.point]]), points.intensity[np.argmax(points.clock)]
    result["return_ratio"] = {"value": float(last / first), "unit": "1"}
    table = {"temperature_k": kelvin.tolist(), "intensity": points.intensity.tolist(), "error": points.error.tolist()}
    if lines is not None:
        for name in ("peak_ev", "peak_error_ev", "fwhm_mev", "fwhm_error_mev", "peak_nm", "fwhm_nm"):
            table[name] = [float(value) for value in getattr(lines, name)[points.point]]
    warnings = [*points.warnings, *found.warnings]
    return {"result": result, "series": found.as_dict(), "points": table, "warnings": list(dict.fromkeys(warnings))}


def _parameters(curve: LineCurve) -> dict[str, Any]:
    return {name.lower(): estimate.as_dict() for name, estimate in curve.parameters.items()}


__all__ = ["ZERO_CELSIUS_K", "analyse_series"]
