"""The stripe scan through real drivers against the simulator's truth."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.config.bench import load_bench
from labctl.config.locate import locate
from labctl.config.sample import load_sample
from labctl.errors import InputError
from labctl.run.engine import Engine, GuardLine
from labctl.run.outcome import Outcome
from labctl.run.preflight import preflight
from labctl.run.request import RunRequest, prepare
from labctl.run.stored_request import request_to_resume
from labctl.sim.laboratory import create
from labctl.store.run import open_run

SHORT = {
    "averages": 2,
    "dark_frames": 1,
    "pulses": 20,
    "exposure_max": "0.08 s",
    "length_points": 20,
    "edge_points": 12,
    "bleach_points": 1,
}
RINGS = {"bench": "simulated-gain-rings", "fluences": "92 uJ/cm^2", "expected_gain": "360 /cm"}
"""Rings are pumped far above threshold: the gain of the paper is that of full inversion."""
COLLECTS_LESS = ("# collection_length_um = 600.0", "collection_length_um = 500.0")
RINGS_COLLECT_LESS = ("# collection_length_um = 250.0", "collection_length_um = 250.0")


class NoGuard(GuardLine):
    """A line to nobody."""

    def say(self, kind: str, **data: Any) -> None:
        pass


@pytest.fixture
def scan(sweep: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """Scan on the bench for films; returns the outcome."""

    def run(*, bench: str = "simulated-gain", **parameters: Any) -> Outcome:
        return sweep("vsl-scan", bench=bench, **parameters)

    return run


@pytest.fixture
def bench_with(tmp_path: Path) -> Callable[..., str]:
    """Write a copy of a shipped bench with pieces of its text replaced; returns the path."""

    def write(*replacements: tuple[str, str], of: str = "simulated-gain") -> str:
        source = locate("benches", of)
        calibrations = (source.parent / "calibrations").as_posix()
        text = source.read_text(encoding="utf-8").replace('"calibrations/', f'"{calibrations}/')
        for old, new in replacements:
            assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the shipped bench"
            text = text.replace(old, new)
        path = tmp_path / "bench.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def planned(tmp_path: Path, bench: str = "simulated-gain", **parameters: Any) -> Any:
    """The preflight of a scan."""
    request = RunRequest(procedure="vsl-scan", bench=bench, parameters=parameters, out=str(tmp_path / "runs"))
    return preflight(prepare(request))


def true_edge_um(bench: str, seed: int) -> float:
    """Where the far blade truly lies on the edge of the film."""
    config, sample = load_bench(bench), load_sample(str(load_bench(bench).default_sample))
    return 1e3 * create(config.laboratory, sample.truth, seed).slit.zero_mm("slit_far")


def test_the_gain_of_the_shipped_film_and_all_that_it_rests_on(scan):
    outcome = scan()
    assert outcome.status == "finished", outcome.error
    assert (outcome.safe_state, outcome.simulated) == ("confirmed", True)
    result = outcome.result
    assert result["gain"]["value"] == pytest.approx(115.0, abs=12.0)
    low, high = result["gain_with_systematic"]["ci95"]
    assert low < 115.0 < high
    assert high - low > result["gain"]["ci95"][1] - result["gain"]["ci95"][0]
    assert result["gain_small_signal"]["trusted"] is False
    assert result["gain_small_signal"]["value"] < 0.6 * result["gain"]["value"]
    assert result["bleach_ratio"]["value"] == pytest.approx(1.0, abs=0.06)
    assert result["peak"]["value"] == pytest.approx(632.0, abs=1.0)
    assert result["pump_fluence"]["value"] == pytest.approx(84.0)
    assert result["edge"]["value"] == pytest.approx(true_edge_um("simulated-gain", 0), abs=3.0)
    with open_run(outcome.run) as run:
        assert (run.count("dark"), run.count("edge"), run.count("points")) == (9, 31, 37)
        rows, edge = run.columns("points"), run.columns("edge")
    stages = [str(stage) for stage in rows["stage"]]
    assert stages == ["closed"] + ["lengths"] * 28 + ["bleach"] * 8
    lengths = rows["length_um"]
    assert np.all(np.diff(lengths[1:29]) > 0)
    assert lengths[29:] == pytest.approx(lengths[1:9], abs=2.0)
    assert lengths == pytest.approx(rows["length_set_um"], abs=2.0)
    assert rows["far_mm"] - rows["edge_mm"] == pytest.approx(lengths * 1e-3, abs=2e-3)
    assert set(rows["edge_mm"]) == {result["edge"]["value"] * 1e-3}, "all stripes begin at the edge that was found"
    assert not rows["saturated_pixels"].any()
    assert rows["fluence_uj_cm2"] == pytest.approx(84.0, rel=0.1)
    assert edge["fluence_uj_cm2"] == pytest.approx(0.3 * 28.0, rel=0.1)
    closed, longest = rows["band_intensity"][0], rows["band_intensity"][28]
    assert abs(closed) < 0.01 * rows["band_intensity"][1]
    assert longest > 100 * rows["band_intensity"][1]
    relative = rows["slit_energy_j"][1:29] / rows["pulse_energy_j"][1:29]
    slope, _ = np.polyfit(lengths[1:29], relative, 1)
    assert relative == pytest.approx(slope * lengths[1:29], abs=0.02 * relative.max()), "the fluence is the same at all"
    assert np.all(np.diff(np.concatenate([edge["dose_j_cm2"], rows["dose_j_cm2"]])) > 0)


def test_each_pump_fluence_has_a_scan_and_a_gain_of_its_own(scan):
    outcome = scan(fluences="60, 84 uJ/cm^2", **SHORT)
    assert outcome.status == "finished", outcome.error
    result = outcome.result
    with open_run(outcome.run) as run:
        rows = run.columns("points")
    stages = [str(stage) for stage in rows["stage"]]
    assert stages == ["closed-1"] + ["lengths-1"] * 20 + ["closed-2"] + ["lengths-2"] * 20 + ["bleach"]
    assert result["pump_fluence"]["value"] == pytest.approx(84.0)
    assert result["gain"]["value"] == pytest.approx(115.0, abs=12.0)
    assert 0.0 < result["gain_at_60_uj_cm2"]["value"] < result["gain"]["value"]


def test_an_aborted_scan_goes_on_with_the_same_rows(tmp_path):
    def engine(request: RunRequest, after: int | None = None) -> Engine:
        made = Engine(prepare(request), NoGuard())
        done, points = made.done, iter(range(1, 999))

        def stop_after(*of_point: Any) -> None:
            done(*of_point)
            if next(points) == after:
                made.abort("the test has seen enough")

        made.done = stop_after  # type: ignore[method-assign]
        return made

    def asked(folder: str) -> RunRequest:
        return RunRequest(
            procedure="vsl-scan",
            parameters=SHORT,
            bench="simulated-gain",
            out=str(tmp_path / folder),
            virtual_time=True,
        )

    whole = engine(asked("whole")).run()
    for after in (26,):  # among the stripes
        broken = engine(asked(f"broken-{after}"), after).run()
        assert (broken.status, broken.safe_state, broken.points["done"]) == ("aborted", "confirmed", after)
        outcome = engine(request_to_resume(str(broken.run))).run()
        assert (outcome.status, outcome.points) == ("finished", whole.points), outcome.error
        with open_run(outcome.run) as run, open_run(whole.run) as expected:
            for stream in ("dark", "edge", "points"):
                names = {column.name for column in run.streams[stream].columns} - {"dose_j_cm2", "open_s"}
                for name in sorted(names):
                    np.testing.assert_array_equal(run.column(name, stream), expected.column(name, stream), name)
                spectra = (np.asarray(found.array("spectrum", stream)[:]) for found in (run, expected))
                np.testing.assert_array_equal(*spectra)
        assert outcome.result["gain"] == whole.result["gain"]


def test_the_plan_is_bounded_in_all_that_moves(tmp_path):
    found = planned(tmp_path, ses=True, loss=True)
    assert found.refusals == ()
    bounds = {(entry.stage, entry.name): (entry.low, entry.high) for entry in found.quantities}
    assert bounds["edge", "slit_far.position_mm"] == (1.85, 2.15)
    low_mm, high_mm = bounds["lengths", "slit_far.position_mm"]
    assert low_mm > 1.85
    assert high_mm == pytest.approx(2.15 + bounds["lengths", "stripe_end_um"][1] * 1e-3)
    assert bounds["closed", "slit_near.position_mm"] == (1.0, 1.0)
    longest_um = bounds["lengths", "stripe_end_um"][1]
    assert bounds["ses", "stripe_end_um"][1] == pytest.approx(longest_um), "beyond the stripes there is nothing to know"
    assert bounds["ses", "slit_near.position_mm"][1] == pytest.approx(2.0 + (longest_um - 15.0) * 1e-3)
    assert bounds["loss", "stripe_end_um"][1] == pytest.approx(2000.0)
    for stage in ("lengths", "bleach", "ses", "loss"):
        assert bounds[stage, "fluence_uj_cm2"] == (pytest.approx(84.0), pytest.approx(84.0))
        assert bounds[stage, "stripe_end_um"][1] <= 3000.0 + 1e-6
    assert bounds["edge", "fluence_uj_cm2"][1] < 28.0


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"lengths": "10, 20, 30 um"}, "3 lengths up to 30 um"),
        ({"lengths": ", ".join(map(str, range(100, 3200, 100))) + " um"}, "none beyond slit.longest"),
        ({"lengths": ", ".join(["50"] * 25) + " um"}, "each once"),
        ({"fluences": "0.9 mJ/cm^2"}, "900"),
        ({"loss": True, "loss_length": "3000 um"}, "loss-length leaves no room"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_opened(tmp_path, parameters, says):
    with pytest.raises(InputError) as caught:
        found = planned(tmp_path, **parameters)
        raise InputError("; ".join(found.refusals))
    assert says in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_bench_without_a_slit_is_refused(tmp_path):
    with pytest.raises(InputError, match="slit_far"):
        planned(tmp_path, bench="simulated")


@pytest.mark.parametrize("asked", ["ses", "loss"])
def test_runs_away_from_the_edge_need_a_near_blade(tmp_path, bench_with, asked):
    no_near = bench_with(
        ('[instruments.slit_near]\ndriver = "newport-smc100"\nresource = "sim:"\n', ""),
        ('near_edge = "2.00 mm"\nnear_out = "1.00 mm"\n', ""),
    )
    assert planned(tmp_path, bench=no_near).refusals == ()
    with pytest.raises(InputError, match="near blade"):
        planned(tmp_path, bench=no_near, **{asked: True})


def test_without_a_threshold_it_says_what_to_give(tmp_path, bench_with):
    unnamed = bench_with(('default_sample = "cdse-cds-zno"\n', ""))
    with pytest.raises(InputError, match="how strongly to pump"):
        planned(tmp_path, bench=unnamed)
    warned = planned(tmp_path, bench=unnamed, fluences="84 uJ/cm^2", edge_fluence="8 uJ/cm^2")
    assert any("no gain is expected" in text for text in warned.warnings)


@pytest.mark.parametrize(
    ("limit", "stage"),
    [
        ('slit_far]\nposition = { at_most = "2.5 mm" }', "lengths"),
        ('slit_far]\nposition = { at_least = "1.9 mm" }', "edge"),
        ('slit_near]\nposition = { at_least = "1.5 mm" }', "closed"),
    ],
)
def test_limits_of_the_blades_are_held_before_the_bench_is_opened(tmp_path, bench_with, limit, stage):
    found = planned(tmp_path, bench=bench_with(("\n[slit]", f"\n[limits.roles.{limit}\n\n[slit]")))
    role = limit.partition("]")[0]
    (told,) = found.refusals
    assert f"'{stage}'" in told
    assert f"limits.roles.{role}.position" in told
    wide = limit.replace("2.5 mm", "5.2 mm").replace("1.9 mm", "1.8 mm").replace("1.5 mm", "0.9 mm")
    assert planned(tmp_path, bench=bench_with(("\n[slit]", f"\n[limits.roles.{wide}\n\n[slit]"))).refusals == ()


def test_a_film_that_is_not_where_the_bench_file_says_fails_by_name(scan, bench_with):
    far_off = bench_with(("edge_mm = 2.008  ", "edge_mm = 2.408  "))
    outcome = scan(bench=far_off, **SHORT)
    assert (outcome.status, outcome.safe_state) == ("failed", "confirmed")
    assert "edge was not found" in outcome.error["what"]
    assert "slit.edge" in outcome.error["todo"]


def gains(scan: Callable[..., Outcome], **parameters: Any) -> list[float]:
    """Gain of each of eight seeds; in each the fit of the papers is flagged, and the bench left safe."""
    found = []
    for seed in range(8):
        outcome = scan(seed=seed, **parameters)
        assert (outcome.status, outcome.safe_state) == ("finished", "confirmed"), (seed, outcome.error)
        assert outcome.result["gain_small_signal"]["trusted"] is False, seed
        found.append(outcome.result["gain"]["value"])
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_films_of_p0_over_seeds(scan):
    found = gains(scan)
    assert np.abs(np.array(found) - 115.0).max() < 12.0, found
    assert statistics.median(found) == pytest.approx(115.0, abs=5.0), found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_rings_of_p2_over_seeds(scan):
    found = gains(scan, **RINGS)
    assert np.abs(np.array(found) - 360.0).max() < 18.0, found


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("of", "piece", "truth", "each", "parameters"),
    [
        ("simulated-gain", COLLECTS_LESS, 115.4, 12.0, {"expected_gain": "115 /cm", "longest": "1 mm"}),
        ("simulated-gain-rings", RINGS_COLLECT_LESS, 360.2, 18.0, RINGS | {"longest": "0.5 mm"}),
    ],
)
def test_spots_take_out_a_collection_that_falls_to_half_in_the_middle_over_seeds(
    scan, bench_with, of, piece, truth, each, parameters
):
    asked = {**parameters, "bench": bench_with(piece, of=of)}
    found = []
    for seed in range(8):
        outcome = scan(seed=seed, ses=True, loss=True, **asked)
        assert outcome.status == "finished", (seed, outcome.error)
        found.append(outcome.result["gain"]["value"])
        low, high = outcome.result["loss"]["ci95"]
        assert low - 2.0 < (10.0 if of == "simulated-gain" else 15.0) < high + 2.0, "the loss says how unsure it is"
    assert np.abs(np.array(found) - truth).max() < each, found
    assert abs(np.mean(found) / truth - 1.0) < 0.02, found


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(8))
def test_the_loss_of_rings(scan, seed):
    outcome = scan(seed=seed, loss=True, **RINGS)
    assert outcome.status == "finished", outcome.error
    assert outcome.result["loss"]["value"] == pytest.approx(15.0, abs=1.5)
