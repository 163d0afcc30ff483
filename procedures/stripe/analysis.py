"""Analysis of a stripe scan, live or old: the film's edge, the gain at each pump fluence, loss, checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.estimate import Estimate
from labctl.analysis.vsl import SpectralScan, VSLAnalysis, analyse_vsl
from labctl.errors import InputError
from procedures.emission.stored import Emission, bench_of, stored_emission
from procedures.stripe.edge import fit_edge

if TYPE_CHECKING:
    from procedures.vsl_scan import VslScan

Array = NDArray[np.float64]
_FEWEST = 7
BLADE_ERROR_UM = 0.5
"""Standard deviation of where a blade stands, by itself, at each length."""


def analyse(run: Any, procedure: VslScan) -> dict[str, Any]:
    """Analyse a stripe scan; returns ``{"result", "scans", "edge", "warnings"}``.

    The gain of the result is that at the highest pump fluence; ``scans`` holds the whole analysis at each of them.
    Raises InputError if the run has too few stripes to say anything.
    """
    count = run.count("points") if "points" in run.streams else 0
    if count < _FEWEST:
        raise InputError(
            f"{count} stripes are too few for a gain", where=str(run.path), todo=f"measure at least {_FEWEST} lengths"
        )
    bench = bench_of(run)
    gain = bench.spectrometer.counts_per_electron if bench.spectrometer else 1.0
    light = stored_emission(run, procedure.band_nm(bench), gain)
    columns = run.columns("points")
    stages = np.asarray(columns["stage"]).astype(str)
    fluences = sorted({float(value) for value in columns["fluence_set_uj_cm2"][_is(stages, "lengths")]})
    if not fluences:
        raise InputError("no stripe of the scan was measured", where=str(run.path))
    loss = _known_loss(procedure)
    scans = [(value, _scan(columns, stages, light, value, loss, last=value == fluences[-1])) for value in fluences]
    several = len(scans) > 1
    warnings = [
        f"at {value:.4g} uJ/cm^2: {text}" if several else text for value, found in scans for text in found.warnings
    ]
    result = _result(*scans[-1])
    if several:
        for value, found in scans[:-1]:
            result[f"gain_at_{value:.4g}_uj_cm2"] = found.gain.as_dict() if found.gain is not None else _nothing()
    edge = _edge(run)
    if edge is not None:
        result["edge"] = edge
    return {
        "result": result,
        "scans": [{"fluence_uj_cm2": value, **found.as_dict()} for value, found in scans],
        "edge": edge,
        "warnings": list(dict.fromkeys(warnings)),
    }


def _scan(
    columns: Mapping[str, Any],
    stages: NDArray[Any],
    light: Emission,
    fluence: float,
    loss: Estimate | None,
    *,
    last: bool,
) -> VSLAnalysis:
    """Analyse the stripes of one pump fluence; what was measured once belongs to the last of them."""
    here = np.asarray(columns["fluence_set_uj_cm2"]) == fluence
    closed, lengths = here & _is(stages, "closed"), here & _is(stages, "lengths")
    errors_um = np.asarray(columns["edge_error_um"], dtype=float)[lengths]
    energy = np.asarray(columns["slit_energy_j"], dtype=float)[lengths]
    energy_error = np.asarray(columns["slit_energy_error_j"], dtype=float)[lengths]
    length_read_um = np.asarray(columns["length_um"], dtype=float)
    length_um = length_read_um[lengths]
    # A blade that stands a little off lets so much more or less through.
    energy_error = np.hypot(energy_error, energy * BLADE_ERROR_UM / np.maximum(length_um, BLADE_ERROR_UM))
    metered = np.isfinite(energy).all() and energy.size > 0

    def part(kind: str, position: str) -> SpectralScan | None:
        wanted = here & _is(stages, kind)
        return _spectral(columns, light, wanted, position) if last and wanted.any() else None

    return analyse_vsl(
        light.wavelength_nm,
        _spectral(columns, light, lengths, "length_um"),
        zero_error_um=float(np.nanmedian(errors_um)) if np.isfinite(errors_um).any() else 3.0,
        length_error_um=BLADE_ERROR_UM,
        baseline=light.spectra[closed].mean(axis=0) if closed.any() else None,
        baseline_error=_error_of_mean(light.spectra_error[closed]) if closed.any() else None,
        repeated=part("bleach", "length_um"),
        spots=part("ses", "offset_um"),
        spot_width_um=_middle(length_read_um[here & _is(stages, "ses")]),
        loss_run=part("loss", "offset_um"),
        loss_stripe_um=_middle(length_read_um[here & _is(stages, "loss")]),
        loss=loss,
        slit_energy=energy if metered else None,
        slit_energy_error=energy_error if metered else None,
    )


def _spectral(columns: Mapping[str, Any], light: Emission, wanted: NDArray[np.bool_], position: str) -> SpectralScan:
    return SpectralScan(
        np.asarray(columns[position], dtype=float)[wanted],
        light.spectra[wanted],
        light.spectra_error[wanted],
        np.asarray(columns["saturated_pixels"])[wanted] > 0,
    )


def _known_loss(procedure: VslScan) -> Estimate | None:
    if procedure.known_loss is None:
        return None
    error = procedure.known_loss_error
    return Estimate.from_sd(procedure.known_loss, 0.1 * procedure.known_loss if error is None else error, "cm^-1")


def _middle(values: Array) -> float:
    return float(np.median(values)) if values.size else 0.0


def _error_of_mean(errors: Array) -> Array:
    return np.sqrt((errors**2).sum(axis=0)) / len(errors)


def _is(stages: NDArray[Any], kind: str) -> NDArray[np.bool_]:
    """Get the points of a kind of stage; with several pump fluences its name ends with a number."""
    return np.array([stage.partition("-")[0] == kind for stage in stages.tolist()], dtype=bool)


def _result(fluence: float, found: VSLAnalysis) -> dict[str, Any]:
    result: dict[str, Any] = {
        "gain": found.gain.as_dict() if found.gain is not None else _nothing(),
    }
    if found.gain is None:
        return result
    result |= {
        "pump_fluence": {"value": fluence, "unit": "uJ/cm^2"},
        "peak": {"value": found.band.centre_nm, "unit": "nm"},
    }
    if found.budget is not None:
        result["gain_with_systematic"] = found.budget.total.as_dict()
    if found.saturation_length_um is not None:
        result["saturation_length"] = {"value": found.saturation_length_um, "unit": "um"}
    if found.small_signal:
        result["gain_small_signal"] = found.small_signal[0].as_dict()
    if found.loss is not None:
        result["loss"] = found.loss.loss.as_dict()
    if found.bleach.ratio is not None:
        result["bleach_ratio"] = found.bleach.ratio.as_dict()
    return result


def _nothing() -> dict[str, Any]:
    return {"value": None, "unit": "cm^-1"}


def _edge(run: Any) -> dict[str, Any] | None:
    if "edge" not in run.streams or not run.count("edge"):
        return None
    rows = run.columns("edge")
    try:
        fit = fit_edge(*(np.asarray(rows[name]) for name in ("far_mm", "band_intensity", "band_intensity_error")))
    except ValueError:
        return None
    return fit.as_dict()
