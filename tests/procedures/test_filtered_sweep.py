"""Sweeps through a filter: it is in every row, weakens what it should, and may not change in between."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from labctl.config.locate import locate
from labctl.errors import InputError
from labctl.run.preflight import preflight
from labctl.run.request import RunRequest, prepare
from labctl.store.run import open_run
from procedures.fluence_sweep import FluenceSweep

FILTERS = """
[instruments.filter]
driver = "thorlabs-fw102c"
resource = "sim:"

[filter]
use = "LP550"
positions = [
  { number = 1, name = "open", kind = "open" },
  { number = 2, name = "LP550", kind = "long_pass", cut_on = "550 nm" },
  { number = 3, name = "ND1", kind = "neutral_density", optical_density = 1.0 },
  { number = 4, name = "blank", kind = "blank" },
]

[laboratory.filter]
positions = [
  { number = 2, kind = "long_pass", cut_on_nm = 550.0 },
  { number = 3, kind = "neutral_density", optical_density = 1.0 },
  { number = 4, kind = "blank" },
]
"""
SHORT = {
    **{"fluences": "5, 10, 20, 40, 80 uJ/cm^2", "dark_frames": 1, "scatter_frames": 1, "averages": 1},
    **{"return_points": 0, "exposure_max": "0.64 s"},
}


@pytest.fixture
def bench_with(tmp_path: Path) -> Callable[..., str]:
    """Write the shipped bench with filters added, its window unstated, and text replaced; returns the path."""

    def write(*changes: tuple[str, str], filters: str = FILTERS) -> str:
        shipped = locate("benches", "simulated")
        text = shipped.read_text(encoding="utf-8").replace(
            '"calibrations/', f'"{shipped.parent.as_posix()}/calibrations/'
        )
        text = re.sub(r"(?m)^window = .*\n", "", text) + filters
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        path = tmp_path / "bench.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def wheel_in(procedure: FluenceSweep) -> Any:
    return procedure.bench.laboratory.stand.places["filter"].emulator  # type: ignore[union-attr]


def test_every_row_names_its_filter(sweep, bench_with) -> None:
    outcome = sweep(bench=bench_with(), **SHORT)
    assert outcome.status == "finished", outcome.error
    run = open_run(outcome.run)
    for stream, count in (("points", 5), ("dark", None), ("scatter", 1)):
        names, numbers = run.column("filter", stream), run.column("filter_position", stream)
        assert len(names) == (count or len(names)) > 0
        assert set(names) == {"LP550"} and set(numbers) == {2}
    assert run.header["parameters"]["filter"] == "LP550"
    with h5py.File(outcome.run) as file:
        wheel = file["entry/instrument/filter"]
        assert wheel.attrs["NX_class"] == "NXfilter"
        assert wheel["positions/2/text"][()] == b"long-pass, cut-on 550 nm, OD 4 below 539 nm"
        assert wheel["positions/3/name"][()] == b"ND1"


def test_without_filters_the_rows_say_none(sweep) -> None:
    outcome = sweep(**SHORT)
    run = open_run(outcome.run)
    assert set(run.column("filter", "points")) == {"none"} == set(run.column("filter", "dark"))
    assert set(run.column("filter_position", "scatter")) == {0}
    assert run.header["parameters"]["filter"] is None
    assert "filter" not in {step["role"] for step in outcome.safe_report["steps"]}


def test_a_neutral_density_weakens_the_signal_by_its_transmission(sweep, bench_with) -> None:
    bench = bench_with()
    bare, weak = (open_run(sweep(bench=bench, filter=name, **SHORT).run) for name in ("open", "ND1"))
    ratio = weak.column("band_intensity", "points") / bare.column("band_intensity", "points")
    assert set(weak.column("filter", "points")) == {"ND1"}
    assert np.median(ratio) == pytest.approx(0.1, rel=0.05)
    assert ratio == pytest.approx(0.1, rel=0.2)


def test_a_wheel_turned_between_two_points_is_turned_back(sweep, bench_with, monkeypatch) -> None:
    acknowledge = FluenceSweep.acknowledge

    def turn_after_two(self: FluenceSweep, entry: Any) -> None:
        acknowledge(self, entry)
        if len(self._memory.rows) == 2:
            wheel_in(self).turn_by_hand(self.bench.clock.now(), 1)
            self.bench.clock.sleep(5.0)

    monkeypatch.setattr(FluenceSweep, "acknowledge", turn_after_two)
    outcome = sweep(bench=bench_with(), **SHORT)
    assert outcome.status == "finished" and outcome.safe_state == "confirmed"
    run = open_run(outcome.run)
    assert set(run.column("filter", "points")) == {"LP550"}
    (incident,) = (event.data for event in run.events("incident"))
    assert (incident["role"], incident["action"], incident["attempt"]) == ("filter", "retry", 0)
    assert "position 1 (open) is in the beam instead of 2 (LP550)" in str(incident["error"])
    assert sorted(run.column("attempt", "points"))[-2:] == [0, 1]


def test_the_preflight_refuses_what_the_bench_file_shows(bench_with, tmp_path) -> None:
    bench = bench_with(('slit = "50 um"', 'slit = "50 um"\nwindow = "140 nm"'))

    def look(**parameters: Any) -> Any:
        request = RunRequest(
            procedure="fluence-sweep", parameters={**SHORT, **parameters}, bench=bench, out=str(tmp_path / "runs")
        )
        return preflight(prepare(request))

    fine = look()
    assert fine.refusals == ()
    assert fine.as_dict()["spectral_window"] == {
        **{"low_nm": 562.0, "high_nm": 702.0, "source": "spectrometer.window"},
        **{"filter": "LP550", "filter_position": 2, "filter_text": "long-pass, cut-on 550 nm, OD 4 below 539 nm"},
    }
    (reason,) = look(filter="blank").refusals
    assert "no light reaches the detector" in reason
    with pytest.raises(InputError, match="has no filter 'OG590'"):
        look(filter="OG590")


@pytest.mark.parametrize("window", ["", '\nwindow = "140 nm"'])
def test_a_window_with_the_pump_is_refused_before_any_light(sweep, bench_with, window: str) -> None:
    bench = bench_with(
        ('centre_wavelength = "632 nm"', 'centre_wavelength = "440 nm"' + window), ('use = "LP550"', 'use = "ND1"')
    )
    if window:
        with pytest.raises(InputError, match="holds the pump line at 400 nm"):
            sweep(bench=bench, band="420, 460 nm", **SHORT)
        return
    outcome = sweep(bench=bench, band="420, 460 nm", **SHORT)
    assert outcome.status == "failed"
    assert "holds the pump line at 400 nm" in str(outcome.error)
    assert "the shutter is closed" in str(outcome.error) and outcome.safe_state == "confirmed"


def test_the_shipped_bench_needs_its_long_pass(tmp_path) -> None:
    def look(**parameters: Any) -> Any:
        out = str(tmp_path / "runs")
        request = RunRequest(procedure="fluence-sweep", parameters=parameters, bench="simulated-filtered", out=out)
        return preflight(prepare(request))

    assert look().refusals == ()
    pump, second_order = look(filter="open").refusals
    assert "holds the pump line" in pump and "in order 2" in second_order
    assert "use the filter 'OG550' or 'GG495' or 'BP632'" in pump


@pytest.mark.slow
def test_the_threshold_behind_the_long_pass(sweep) -> None:
    outcome = sweep(bench="simulated-filtered")
    assert outcome.result["threshold"]["value"] == pytest.approx(28.0, rel=0.08)
    assert outcome.result["ase_peak"]["value"] == pytest.approx(632.0, abs=0.3)
