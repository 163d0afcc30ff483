"""Runs for the tests of the report: a film of two Gaussian lines, seen through a camera with an offset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.analysis.ase import analyse_sweep
from labctl.analysis.linewidth import InstrumentResponse
from labctl.analysis.sweep_arrays import SweepArrays
from labctl.store.journal import Journal
from labctl.store.layout import ArrayField, Column, RowLayout
from labctl.store.results import add_result
from labctl.store.seal import seal

PIXELS = 512
WAVELENGTH_NM = np.linspace(570.0, 694.0, PIXELS)
THRESHOLD_UJ_CM2 = 28.0
EXPOSURES_S = (0.02, 0.32)
OFFSET, SCATTER_PER_J, RATE_HZ = 600.0, 2e6, 1000.0
STARTED = 1.795e9

_POINT = RowLayout(
    (
        Column("stage", "text", "", "Stage of the plan", width=16),
        Column("fluence_uj_cm2", "float", "uJ/cm^2", "Fluence reached"),
        Column("fluence_error_uj_cm2", "float", "uJ/cm^2", "Its error"),
        Column("pulse_energy_j", "float", "J", "Energy per pulse"),
        Column("band_intensity", "float", "counts", "Emission integrated over the band, per pulse"),
        Column("band_intensity_error", "float", "counts", "Its error"),
        Column("fwhm_nm", "float", "nm", "Width"),
        Column("ase_intensity", "float", "counts", "Narrow part"),
        Column("pl_intensity", "float", "counts", "Broad part"),
        Column("exposure_s", "float", "s", "Exposure"),
        Column("accumulations", "int", "", "Sums"),
        Column("counted_pulses", "int", "", "Pulses"),
        Column("saturated_pixels", "int", "", "Saturated"),
        Column("open_s", "float", "s", "Light"),
        Column("dose_j_cm2", "float", "J/cm^2", "Dose"),
    ),
    (
        ArrayField("spectrum", (PIXELS,), "<f4", "counts", "Raw counts", "wavelength_nm"),
        ArrayField("mask", (PIXELS,), "|u1", "", "Flags", "wavelength_nm"),
    ),
)
_FRAME = RowLayout(
    (
        Column("exposure_s", "float", "s"),
        Column("accumulations", "int"),
        Column("pulse_energy_j", "float", "J"),
        Column("counted_pulses", "int"),
    ),
    (ArrayField("spectrum", (PIXELS,), "<f4", "counts", axis="wavelength_nm"),),
)


def header(**changes: Any) -> dict[str, Any]:
    """A header as the engine writes it."""
    return {
        "run": "0012_fluence-sweep_film-7",
        "procedure": "fluence-sweep",
        "parameters": {"expected_threshold": 28.0, "fluences": None, "averages": 3, "zero_meter": True},
        "bench": {"name": "simulated", "file": "simulated.toml"},
        "sample": {
            "spot": "1",
            "name": "film-7",
            "material": "CdSe/CdS@ZnO",
            "substrate": "",
            "thickness_nm": None,
            "expected_threshold_uj_cm2": "28.0 uJ/cm^2",
            "excitation": {"cross_section_cm2": "2.6e-14 cm^2"},
        },
        "plan": {
            "max_points": 38,
            "stages": [{"name": "coarse", "max_points": 8}, {"name": "fine", "max_points": 30}],
        },
        "provenance": {
            "versions": {"python": "3.11.9", "numpy": "2.4.0", "pyvisa": ""},
            "platform": "Linux",
            "git": {"commit": "0123456789abcdef", "diff": "+ one line\n", "diff_truncated": False},
            "files": {"bench": 'name = "simulated"\n', "sample": ""},
            "calibrations": {"attenuator": "date = 2026-11-20\n"},
        },
        "simulated": True,
        "seed": 0,
        "started": "2026-11-21T10:00:00+00:00",
        "default_stream": "points",
        "x": "fluence_uj_cm2",
        "signal": "band_intensity",
        "spectra": "spectrum",
    } | changes


@dataclass
class Sweep:
    """What the made run is to look like."""

    status: str | None = "finished"
    stages: tuple[tuple[str, tuple[float, ...]], ...] = (
        ("coarse", tuple(np.geomspace(2.8, 140.0, 8))),
        ("fine", tuple(np.geomspace(14.0, 98.0, 24))),
        ("return", tuple(np.geomspace(2.8, 140.0, 8)[:3])),
    )
    saturated_above: float = np.inf
    bright: float = 1.0
    frames: bool = True
    analysed: bool = True
    result: dict[str, Any] | None = None
    header: dict[str, Any] = field(default_factory=dict)
    safe: bool | None = True
    seal: bool = True


def emission(fluence: float) -> tuple[np.ndarray, float, float]:
    """Counts per pulse and pixel of a film at a fluence, and the areas of its two lines in counts per pulse."""
    pl = 40.0 * fluence
    ase = 40.0 * fluence * max((fluence / THRESHOLD_UJ_CM2) ** 3 - 0.3, 0.0) / (1 + (fluence / 100.0) ** 3)

    def line(centre: float, fwhm: float) -> np.ndarray:
        shape = np.exp(-4 * np.log(2) * ((WAVELENGTH_NM - centre) / fwhm) ** 2)
        return shape / shape.sum()

    return pl * line(641.0, 28.4) + ase * line(632.0, 6.7), ase, pl


def write_sweep(path: Path, sweep: Sweep) -> Path:
    """Write a run through the store as the engine does; returns the file to open."""
    rng = np.random.default_rng(0)
    with Journal.create(path, header(**sweep.header)) as journal:
        for name, layout in (("points", _POINT), ("dark", _FRAME), ("scatter", _FRAME)):
            journal.add_stream(name, layout)
        journal.set_axis("wavelength_nm", WAVELENGTH_NM, "nm")
        identity = {"driver": "thorlabs-sc10", "resource": "sim:", "vendor": "Thorlabs", "model": "SC10"}
        journal.event("instruments", {"shutter": identity | {"serial": "", "firmware": "1.2"}}, t_s=0.1, wall_s=STARTED)
        if sweep.frames:
            _write_frames(journal, rng)
        found = _write_points(journal, sweep, rng)
        times = {"t_s": 190.0, "wall_s": STARTED + 190.0}
        if sweep.safe is not None:
            step = {
                "role": "shutter",
                "action": "close shutter",
                "confirmed": sweep.safe,
                "evidence": "'closed?' -> '1'",
            }
            state = "confirmed" if sweep.safe else "unconfirmed"
            journal.event("safe_state", {"state": state, "steps": [step]}, **times)
        if sweep.status in {"aborted", "failed"}:
            error = {
                "type": "Aborted",
                "what": "the run was stopped on request",
                "where": "SIGINT",
                "state": "",
                "todo": "",
            }
            journal.event("incident", {"error": error, "reason": "SIGINT"}, **times)
        if sweep.status is not None:
            journal.set_status(sweep.status, **times)
    target = path.with_suffix(".h5")
    written = seal(path, target) if sweep.seal else path
    if sweep.analysed:
        add_result(written, "fluence-sweep", found if sweep.result is None else sweep.result)
    return written


def _write_frames(journal: Journal, rng: np.random.Generator) -> None:
    for point, exposure in enumerate(EXPOSURES_S):
        counts = np.asarray(5 * OFFSET + rng.normal(0, 9, PIXELS), np.float32)
        row = {"exposure_s": exposure, "accumulations": 5, "pulse_energy_j": 0.0, "counted_pulses": 0}
        _append(journal, "dark", point, row, {"spectrum": counts})
    pulses, energy = round(4 * EXPOSURES_S[0] * RATE_HZ), 5.3e-8
    counts = np.asarray(4 * OFFSET + SCATTER_PER_J * energy * pulses + rng.normal(0, 8, PIXELS), np.float32)
    row = {"exposure_s": EXPOSURES_S[0], "accumulations": 4, "pulse_energy_j": energy, "counted_pulses": pulses}
    _append(journal, "scatter", 2, row, {"spectrum": counts})


def _write_points(journal: Journal, sweep: Sweep, rng: np.random.Generator) -> dict[str, Any]:
    settings = [(stage, fluence) for stage, fluences in sweep.stages for fluence in fluences]
    rows, spectra, dose = [], [], 0.0
    for number, (stage, fluence) in enumerate(settings):
        exposure = EXPOSURES_S[1] if fluence < 20 else EXPOSURES_S[0]
        pulses = round(3 * exposure * RATE_HZ)
        light, ase, pl = emission(fluence)
        light, ase, pl = sweep.bright * light, sweep.bright * ase, sweep.bright * pl
        energy = fluence * 1.88e-9
        electrons = rng.poisson(np.maximum(light * pulses, 0.0)) * rng.normal(1.0, 0.01)
        counts = electrons + 3 * OFFSET + SCATTER_PER_J * energy * pulses + rng.normal(0, 7, PIXELS)
        full = fluence > sweep.saturated_above
        mask = np.where(full & (light > 0.5 * light.max()), 1, 0).astype(np.uint8)
        mask[7] = 2
        counts[7] += 5e4
        dose += fluence * pulses * 1e-6
        measured = electrons / pulses
        total, width = float(measured.sum()), 28.4 if ase < pl else 7.0
        row = {
            "stage": stage,
            "fluence_uj_cm2": fluence * rng.normal(1.0, 0.01),
            "fluence_error_uj_cm2": 0.01 * fluence,
            "pulse_energy_j": energy,
            "band_intensity": total if total > 0 else float("nan"),
            "band_intensity_error": 0.01 * total + 0.5,
            "fwhm_nm": width if total > 0 else float("nan"),
            "ase_intensity": ase if ase > 0 else float("nan"),
            "pl_intensity": pl,
            "exposure_s": exposure,
            "accumulations": 3,
            "counted_pulses": pulses,
            "saturated_pixels": int((mask & 1).sum()),
            "open_s": 3 * exposure,
            "dose_j_cm2": dose,
        }
        _append(journal, "points", 3 + number, row, {"spectrum": counts.astype(np.float32), "mask": mask})
        rows.append(row)
        spectra.append(measured)
    return _analysis(rows, spectra) if sweep.analysed and sweep.result is None else {}


def _analysis(rows: list[dict[str, Any]], spectra: list[np.ndarray]) -> dict[str, Any]:
    if len(rows) < 5:
        return {"result": {}, "warnings": [f"{len(rows)} points are too few for a threshold"]}
    names = ("fluence_uj_cm2", "band_intensity", "fluence_error_uj_cm2", "band_intensity_error")
    fluence, intensity, fluence_error, intensity_error = (np.array([row[name] for row in rows]) for name in names)
    sweep = SweepArrays.of(
        fluence,
        intensity,
        fluence_error=fluence_error,
        intensity_error=intensity_error,
        saturated=[row["saturated_pixels"] > 0 for row in rows],
        wavelength_nm=WAVELENGTH_NM,
        spectra=np.array(spectra),
        stage=[row["stage"] for row in rows],
    )
    found = analyse_sweep(sweep, response=InstrumentResponse(0.2))
    result: dict[str, Any] = {}
    if found.threshold is not None:
        result["threshold"] = {**found.threshold.as_dict(), "systematic_relative_error": 0.01}
    if found.ase_line is not None:
        line = found.ase_line.as_dict()
        result |= {"ase_peak": line["peak_nm"], "ase_fwhm": line["fwhm_nm"], "q": line["q"]}
        result |= {"ase_fwhm_deconvolved": line["fwhm_deconvolved_nm"], "q_deconvolved": line["q_deconvolved"]}
    return {"result": result, **found.as_dict()}


def _append(journal: Journal, stream: str, point: int, row: dict[str, Any], arrays: dict[str, Any]) -> None:
    t_s = 5.0 * point
    journal.append(stream, point=point, attempt=0, t_s=t_s, wall_s=STARTED + t_s, row=row, arrays=arrays)


@pytest.fixture
def make_header() -> Callable[..., dict[str, Any]]:
    """Make a header as the engine writes it; keywords change it."""
    return header


@pytest.fixture
def make_sweep(tmp_path: Path) -> Callable[..., Path]:
    """Make a fluence sweep in a folder of its own; keywords change what :class:`Sweep` says."""

    def make(**changes: Any) -> Path:
        return write_sweep(tmp_path / "0012_fluence-sweep_film-7.journal", Sweep(**changes))

    return make


@pytest.fixture
def make_plain(tmp_path: Path) -> Callable[..., Path]:
    """Make a run of any procedure from its columns, floats of one length by name."""

    def make(columns: dict[str, np.ndarray], result: dict[str, Any] | None = None, **changes: Any) -> Path:
        names = list(columns)
        told = {"procedure": "variable-stripe", "x": names[0], "signal": names[1], "spectra": None} | changes
        descriptions = {"x_mm": "Position"}
        layout = RowLayout(
            tuple(Column(name, "float", name.rpartition("_")[2], descriptions.get(name, "")) for name in names)
        )
        path = tmp_path / "0001_plain.journal"
        with Journal.create(path, header(**told)) as journal:
            journal.add_stream("points", layout)
            for point, values in enumerate(zip(*columns.values(), strict=True)):
                _append(journal, "points", point, dict(zip(names, map(float, values), strict=True)), {})
            journal.set_status("finished", t_s=1.0, wall_s=STARTED)
        sealed = seal(path, path.with_suffix(".h5"))
        if result is not None:
            add_result(sealed, told["procedure"], result)
        return sealed

    return make


@pytest.fixture
def lasing_result() -> dict[str, Any]:
    """What the analysis of a sweep on a fibre laser stores: an S-curve, modes, fluences of nanosecond pulses."""
    return {
        "result": {
            "threshold": {
                "value": 25200.0,
                "unit": "uJ/cm^2",
                "ci68": [24990.0, 25410.0],
                "ci95": [24780.0, 25640.0],
                "definition": "lasing_s_curve",
                "model": "lasing",
                "convention": "rect_axes_product",
                "beta": {"value": 0.01, "unit": "1", "ci68": [0.009, 0.011], "ci95": [0.008, 0.012]},
                "background_share": 0.95,
                "pulse_rms": 0.035,
                "data_range": [2500.0, 120000.0],
                "parameters": {
                    "log_threshold": 10.1346,
                    "log_beta": -4.6,
                    "scale": 50.0,
                    "background": 0.04,
                    "pulse_rms": 0.035,
                },
            },
            "threshold_energy": {"value": 30.2, "unit": "uJ", "ci95": [29.7, 30.8]},
            "threshold_by_convention": {
                "rect_axes_product": {"value": 25200.0, "unit": "uJ/cm^2", "reading": "energy over the product"},
                "peak_gauss": {"value": 64100.0, "unit": "uJ/cm^2", "reading": "axes read as 1/e^2 diameters"},
            },
            "effective_population": {"value": 7.37, "unit": ""},
            "beta": {"value": 0.01, "unit": "1", "ci95": [0.008, 0.012]},
            "mode_spacing": {"value": 0.7324, "unit": "nm", "ci95": [0.7319, 0.733]},
        },
        "definitions": {"loglog_knee": {"value": 24000.0, "unit": "uJ/cm^2", "meaning": "knee", "reason": None}},
        "modes_nm": [438.9, 439.6, 440.3],
        "warnings": [],
    }
