"""Runs for the tests of the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from labctl.store.journal import Journal
from labctl.store.layout import ArrayField, Column, RowLayout

PIXELS = 32
WAVELENGTH_NM = np.linspace(500.0, 560.0, PIXELS)
HEADER = {
    "run": "0001_fluence-sweep_A12",
    "procedure": "fluence-sweep",
    "sample": {"name": "A12", "substrate": "glass"},
    "bench": {"name": "simulated"},
    "parameters": {"points": 30, "limits": [1.0, 2.0], "missing": float("nan")},
    "provenance": {"git": "abc", "versions": {"numpy": "2"}},
    "simulated": True,
    "seed": 0,
    "started": "2026-11-21T10:00:00+00:00",
    "default_stream": "points",
    "x": "fluence_uj_cm2",
    "signal": "signal_counts",
    "spectra": "spectrum",
}


@pytest.fixture
def layout() -> RowLayout:
    columns = (
        Column("fluence_uj_cm2", "float", "uJ/cm^2", "Fluence"),
        Column("signal_counts", "float", "counts"),
        Column("pulses", "int"),
        Column("saturated", "bool"),
        Column("remark", "text", width=12),
    )
    return RowLayout(columns, (ArrayField("spectrum", (PIXELS,), "float32", "counts", axis="wavelength_nm"),))


def spectrum(point: int) -> np.ndarray:
    return np.random.default_rng([0, point]).random(PIXELS).astype(np.float32)


def append_point(journal: Journal, point: int) -> None:
    signal = float("nan") if point == 3 else 2.0 * point
    row = {"fluence_uj_cm2": 1.5 * point, "signal_counts": signal, "pulses": point, "saturated": point % 2 == 1}
    row["remark"] = f"µ{point}"
    arrays = {"spectrum": spectrum(point)}
    journal.append("points", point=point, attempt=0, t_s=0.1 * point, wall_s=1.79e9 + point, row=row, arrays=arrays)


@pytest.fixture
def make_run(layout: RowLayout) -> Callable[..., Path]:
    """Make a journal of ``count`` points with that last status (None: as its writer left it when it died)."""

    def make(path: Path, *, count: int = 30, status: str | None = "finished", group_commit_s: float = 0.0) -> Path:
        with Journal.create(path, HEADER, group_commit_s=group_commit_s) as journal:
            journal.add_stream("points", layout)
            journal.add_stream("dark", RowLayout((), layout.arrays))
            journal.set_axis("wavelength_nm", WAVELENGTH_NM, "nm", "Wavelength")
            journal.event("plan", {"stages": [{"points": count}]}, t_s=0.0, wall_s=1.79e9)
            instruments = {"attenuator": {"driver": "thorlabs-ell14", "resource": "sim:"}}
            journal.event("instruments", instruments, t_s=0.0, wall_s=1.79e9)
            dark = {"spectrum": np.zeros(PIXELS, np.float32)}
            journal.append("dark", point=0, attempt=0, t_s=0.0, wall_s=1.79e9, row={}, arrays=dark)
            for point in range(count):
                append_point(journal, point)
            journal.event("read-back", {"shutter": "closed", "energy_j": np.float64(0.5)}, t_s=9.0, wall_s=1.79e9 + 99)
            if status is not None:
                journal.set_status(status, t_s=10.0, wall_s=1.79e9 + 100)
        return path

    return make


@pytest.fixture
def append() -> Callable[[Journal, int], None]:
    return append_point
