"""What the analysis of a sweep says beside its statistical intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from labctl.store.run import Run, open_run
from procedures.emission.stored import bench_of
from procedures.emission.stored import stored_emission as emission
from procedures.sweep.analysis import analyse

EVERYTHING = (-math.inf, math.inf)


class Edited:
    """A stored run with lines of its files, or parameters, replaced."""

    def __init__(self, run: Run, *replacements: tuple[str, str, str], **parameters: float) -> None:
        self._run = run
        files = dict(run.header["provenance"]["files"])
        for name, old, new in replacements:
            assert old in files[name]
            files[name] = files[name].replace(old, new)
        provenance = {**run.header["provenance"], "files": files}
        self.header = {
            **run.header,
            "provenance": provenance,
            "parameters": {**run.header["parameters"], **parameters},
        }

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)

    def analysed(self) -> dict[str, Any]:
        return analyse(self, EVERYTHING, bench_of(self))


@pytest.fixture
def run(shipped) -> Iterator[Run]:
    with open_run(shipped.run) as run:
        yield run


def test_what_all_points_share_stands_beside_the_intervals(run):
    shipped = Edited(run).analysed()
    result, excitons = shipped["result"], shipped["result"]["excitons_at_threshold"]
    # Pick-off ratio 1 %, stripe 1 % long and 2 % wide; cross-section 5 in 26.
    fluence = math.sqrt(0.01**2 + 0.01**2 + 0.02**2)
    assert result["threshold"]["systematic_relative_error"] == pytest.approx(fluence)
    assert excitons["systematic_relative_error"] == pytest.approx(math.hypot(fluence, 5 / 26))
    assert excitons["cross_section_error_known"]
    assert result["ase_peak"]["systematic_error_nm"] == 0.05
    assert not any("excitons" in text for text in shipped["warnings"])

    other = Edited(run, cross_section=1e-14).analysed()["result"]["excitons_at_threshold"]
    assert not other["cross_section_error_known"], "the sample file's error is that of its own cross-section"
    assert other["systematic_relative_error"] == pytest.approx(fluence)

    vague = Edited(
        run, ("bench", 'wavelength_error = "0.05 nm"', ""), ("bench", 'fwhm_error = "0.01 nm"', 'fwhm_error = "1 nm"')
    ).analysed()["result"]
    assert vague["ase_peak"]["systematic_error_nm"] is None
    widths = [r["ase_fwhm_deconvolved"]["ci68"] for r in (result, vague)]
    assert widths[1][1] - widths[1][0] > 2 * (widths[0][1] - widths[0][0])
    assert vague["ase_fwhm"] == result["ase_fwhm"]


def test_pulses_of_nanoseconds_do_not_make_a_population(run):
    found = Edited(run, ("bench", 'pulse_duration = "100 fs"', 'pulse_duration = "5 ns"')).analysed()
    assert any("pulse of 5 ns" in text and "population is smaller" in text for text in found["warnings"])


class VagueScatter:
    """A stored run whose scatter frame was taken with an energy known less well, or not said how well."""

    def __init__(self, run: Run, relative: float | None) -> None:
        self._run, self._relative = run, relative

    def columns(self, stream: str) -> dict[str, Any]:
        columns = dict(self._run.columns(stream))
        if stream == "scatter":
            columns["pulse_energy_error_j"] = columns["pulse_energy_j"] * (self._relative or 0.0)
            if self._relative is None:
                del columns["pulse_energy_error_j"]
        return columns

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)


def test_the_energy_of_the_scatter_frame_is_among_the_errors(run):
    scatter = run.columns("scatter")
    relative = float(scatter["pulse_energy_error_j"][0] / scatter["pulse_energy_j"][0])
    assert 1e-4 < relative < 0.02
    light = emission(run, EVERYTHING)
    assert light.intensity_error == pytest.approx(run.columns("points")["band_intensity_error"], rel=1e-5)

    unsaid, vague, vaguer = (emission(VagueScatter(run, share), EVERYTHING) for share in (None, 0.5, 1.0))
    added = [np.sqrt(found.intensity_error**2 - unsaid.intensity_error**2) for found in (vague, vaguer)]
    energy_j = run.columns("points")["pulse_energy_j"]
    assert added[1] == pytest.approx(2 * added[0], rel=1e-6)
    assert added[0] / energy_j == pytest.approx(np.full(len(energy_j), added[0][0] / energy_j[0]), rel=1e-6)
    assert added[0][0] > unsaid.intensity_error[0]
