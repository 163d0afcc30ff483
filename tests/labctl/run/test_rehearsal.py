"""A rehearsal is the run: it takes what the run takes, and leaves no trace."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from labctl.config.bench import load_bench
from labctl.config.locate import locate
from labctl.errors import InputError
from labctl.run import engine as engine_module
from labctl.run.engine import Engine
from labctl.run.expectation import Expectation, light_of, measured
from labctl.run.forecast import forecast
from labctl.run.guard_line import GuardLine
from labctl.run.preflight import preflight
from labctl.run.rehearsal import rehearse
from labctl.run.request import PreparedRun, RunRequest, prepare
from labctl.run.twin import described_laboratory, simulated_twin
from labctl.store.run import open_run

BENCHES = ("simulated", "simulated-rings", "simulated-ns", "simulated-vcsel")
ON_THE_EDGE = "simulated-filtered"
"""Between two exposures at one of its points: the time with light differs by 6 % from seed to seed."""
SEEDS = 5


@pytest.fixture(autouse=True)
def _a_tree_that_nobody_edits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The uncommitted changes of a checkout are part of a run, and may change between two of them."""
    monkeypatch.setattr("labctl.run.provenance._git", lambda folder: {})


def prepared_run(folder: Path, procedure: str, bench: str = "simulated", **fields: Any) -> PreparedRun:
    request = RunRequest(procedure=procedure, bench=bench, out=str(folder / "runs"), virtual_time=True, **fields)
    return prepare(request)


def run(prepared: PreparedRun) -> tuple[Expectation, float, float]:
    """Run for real; get what it took, and the sizes of its journal and of its files in MB."""
    out = Path(prepared.request.out)
    sizes: list[float] = []
    finish = engine_module.finish

    def look_and_finish(paths: Any, *others: Any) -> None:
        sizes.append(paths.journal.stat().st_size / 1e6)
        finish(paths, *others)

    with mock.patch.object(engine_module, "finish", look_and_finish):
        outcome = Engine(prepared, GuardLine()).run()
    assert outcome.status == "finished", outcome.error
    path = Path(outcome.run)
    with open_run(path) as stored:
        found = measured(stored, light_of(out, path), "the run")
    return found, sizes[0], sum(file.stat().st_size for file in path.parent.iterdir() if file.is_file()) / 1e6


def run_without_files(prepared: PreparedRun) -> Expectation:
    """Run for real, without analysis and report."""
    with mock.patch.object(engine_module, "finish", lambda *_: None):
        outcome = Engine(prepared, GuardLine()).run()
    assert outcome.status == "finished", outcome.error
    path = Path(outcome.run)
    with open_run(path) as stored:
        return measured(stored, light_of(Path(prepared.request.out), path), "the run")


def assert_agree(expected: Expectation, real: Expectation, share: float) -> None:
    assert [(stage.name, stage.points) for stage in expected.stages] == [(s.name, s.points) for s in real.stages]
    assert expected.duration_s == pytest.approx(real.duration_s, rel=share)
    assert expected.open_s == pytest.approx(real.open_s, rel=share)
    assert expected.dose_j_cm2 == pytest.approx(real.dose_j_cm2, rel=share)


@pytest.fixture
def real_bench(tmp_path: Path) -> Callable[[str], str]:
    """Write a shipped bench as a real one: other resources, no laboratory."""

    def write(name: str) -> str:
        source = locate("benches", name)
        shutil.copytree(source.parent / "calibrations", tmp_path / "calibrations", dirs_exist_ok=True)
        text = source.read_text(encoding="utf-8").split("[laboratory.")[0]
        number = iter(range(9))
        text = re.sub(r'resource = "sim:"', lambda _: f'resource = "serial:/dev/none{next(number)}"', text)
        text = re.sub(r'(driver = "andor-sdk2"\nresource = )"[^"]*"', r'\1"sdk:andor"', text)
        (tmp_path / "real.toml").write_text(text, encoding="utf-8")
        return str(tmp_path / "real.toml")

    return write


def test_a_watch_of_the_space_on_the_disk_does_not_end_a_rehearsal_elsewhere(
    tmp_path: Path, real_bench: Callable[[str], str]
) -> None:
    bench = Path(real_bench("simulated"))
    watch = '[[watch]]\nname = "disk"\nwhen = "disk.free < 100000 TB"\naction = "abort"\n\n[safe_state]'
    bench.write_text(bench.read_text(encoding="utf-8").replace("[safe_state]", watch), encoding="utf-8")
    parameters = {"fluences": "5 uJ/cm^2", "dark_frames": 1, "scatter_frames": 0, "return_points": 0}
    request = RunRequest(procedure="fluence-sweep", bench=str(bench), out=str(tmp_path / "runs"), parameters=parameters)
    assert rehearse(prepare(request)).points > 0


def test_a_rehearsal_with_the_seed_of_the_run_is_the_run(tmp_path: Path) -> None:
    prepared = prepared_run(tmp_path, "fluence-sweep", seed=1)
    expected = rehearse(prepared, seed=1)
    assert not (tmp_path / "runs").exists()
    real, journal_mb, files_mb = run(prepared)
    assert_agree(expected, real, 1e-6)
    assert expected.journal_mb == pytest.approx(journal_mb, rel=0.02)
    assert expected.files_mb == pytest.approx(files_mb, rel=0.02)


def test_a_calibration_is_rehearsed_too(tmp_path: Path) -> None:
    prepared = prepared_run(tmp_path, "attenuator-calibration", seed=2)
    expected = rehearse(prepared)
    assert expected.points == 33 and expected.open_s == 0.0 == expected.dose_j_cm2
    real, journal_mb, files_mb = run(prepared)
    assert_agree(expected, real, 0.01)
    assert expected.journal_mb == pytest.approx(journal_mb, rel=0.05)
    assert expected.files_mb == pytest.approx(files_mb, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("bench", BENCHES)
def test_the_plan_agrees_with_the_run_whatever_the_seed(tmp_path: Path, bench: str) -> None:
    prepared = prepared_run(tmp_path, "fluence-sweep", bench)
    expected = forecast(prepared, preflight(prepared).plan)
    for seed in range(SEEDS):
        real = run_without_files(prepared_run(tmp_path, "fluence-sweep", bench, seed=seed))
        assert_agree(expected, real, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
def test_with_its_seed_a_run_is_known_even_on_the_edge(tmp_path: Path, seed: int) -> None:
    prepared = prepared_run(tmp_path, "fluence-sweep", ON_THE_EDGE, seed=seed)
    expected = forecast(prepared, preflight(prepared).plan, seed=seed)
    assert_agree(expected, run_without_files(prepared), 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_plan_of_other_parameters_agrees_with_the_run(tmp_path: Path, seed: int) -> None:
    parameters = {"averages": 2, "coarse_points": 6, "fine_points": 10, "return_points": 1, "dark_frames": 2}
    prepared = prepared_run(tmp_path, "fluence-sweep", parameters=parameters)
    real = run_without_files(prepared_run(tmp_path, "fluence-sweep", parameters=parameters, seed=seed))
    assert_agree(rehearse(prepared), real, 0.05)


def test_a_rehearsal_leaves_the_procedure_as_it_is(tmp_path: Path) -> None:
    prepared = prepared_run(tmp_path, "attenuator-calibration", parameters={"points": 9})
    before = dict(vars(prepared.procedure))
    rehearse(prepared)
    assert vars(prepared.procedure) == before


def test_a_rehearsal_is_given_up_after_a_while(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="more than 0 s of computing"):
        rehearse(prepared_run(tmp_path, "fluence-sweep"), limit_s=0.0)


@pytest.mark.parametrize("bench", [*BENCHES, ON_THE_EDGE])
def test_the_twin_of_a_real_bench_is_what_its_file_says(bench: str) -> None:
    config = load_bench(bench)
    assert config.laboratory is not None
    truth, described = config.laboratory.data, described_laboratory(config)
    for part, key in (("laser", "energy_uj"), ("wave_plate", "theta0_deg"), ("meter", "ratio")):
        assert described[part][key] == pytest.approx(truth[part][key], rel=0.05)
    shape = "stripe" if "stripe" in truth else "spot"
    assert (
        described[shape] == pytest.approx(truth[shape])
        if shape == "stripe"
        else described[shape].keys() == truth[shape].keys()
    )
    assert described["laser"]["repetition_rate_hz"] == truth["laser"].get("repetition_rate_hz", 1000.0)


def test_a_real_bench_is_rehearsed_without_touching_it(
    tmp_path: Path, real_bench: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("an instrument was opened")

    monkeypatch.setattr("labctl.transport.wire.open_wire", never)
    monkeypatch.setattr("labctl.transport.vendor.open_library", never)
    bench = real_bench("simulated")
    request = RunRequest(procedure="fluence-sweep", bench=bench, out=str(tmp_path / "runs"))
    prepared = prepare(request)
    expected = forecast(prepared, preflight(prepared).plan)
    assert expected.source == "rehearsed on the emulators"
    simulated = rehearse(prepared_run(tmp_path, "fluence-sweep"))
    assert_agree(expected, simulated, 0.1)
    assert "brightness" in expected.note


def test_a_sample_that_nobody_can_simulate_is_not_rehearsed(tmp_path: Path, real_bench: Callable[[str], str]) -> None:
    text = locate("samples", "cdse-cds-zno").read_text(encoding="utf-8").split("[truth]")[0]
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    request = RunRequest(
        procedure="fluence-sweep",
        bench=real_bench("simulated"),
        sample=str(tmp_path / "mine.toml"),
        out=str(tmp_path / "runs"),
    )
    prepared = prepare(request)
    plan = preflight(prepared).plan
    expected = forecast(prepared, plan)
    assert expected.source == "the plan alone" and "bright" in expected.note
    assert (expected.duration_s, expected.dose_j_cm2) == (
        pytest.approx(plan.duration_s),
        pytest.approx(plan.dose_j_cm2),
    )


def test_a_driver_without_an_emulator_has_no_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.run.twin.entry_points", lambda group: ())
    with pytest.raises(InputError, match=r"no emulator stands in for .*shutter \(thorlabs-sc10\)"):
        simulated_twin(load_bench("simulated"), steady=True)
