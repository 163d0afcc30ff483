"""Repeating a run from its own provenance: the same rows of a simulated bench, the bench of today of a real one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.config.bench import load_bench
from labctl.config.locate import locate
from labctl.errors import InputError, LabctlError
from labctl.run.engine import Engine, GuardLine
from labctl.run.outcome import Outcome
from labctl.run.policy import FailurePolicy
from labctl.run.preflight import preflight, require
from labctl.run.request import RunRequest, prepare
from labctl.run.stored_request import StoredFiles, request_again, request_to_resume, stored_files
from labctl.store.journal import Journal
from labctl.store.run import open_run

SWEEP = {
    "fluences": "5, 10, 20 uJ/cm^2",
    "return_points": 0,
    "averages": 1,
    "pulses": 20,
    "dark_frames": 1,
    "scatter_frames": 1,
}


class NoGuard(GuardLine):
    """A line to nobody."""

    def say(self, kind: str, **data: Any) -> None:
        pass


def carry_out(request: RunRequest) -> Outcome:
    outcome = Engine(prepare(request), NoGuard()).run()
    assert outcome.status == "finished", outcome.error
    return outcome


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bench, a sample and a calibration of their own."""
    made = tmp_path_factory.mktemp("lab")
    source = locate("benches", "simulated")
    shutil.copytree(source.parent / "calibrations", made / "calibrations")
    shutil.copy(source, made / "bench.toml")
    shutil.copy(locate("samples", "cdse-cds-zno"), made / "sample.toml")
    return made


@pytest.fixture(scope="module")
def first(folder: Path) -> Outcome:
    request = RunRequest(
        procedure="fluence-sweep",
        parameters=SWEEP,
        bench=str(folder / "bench.toml"),
        sample=str(folder / "sample.toml"),
        out=str(folder / "runs"),
        seed=3,
        virtual_time=True,
        on_failure=FailurePolicy(retries=1, then="skip"),
    )
    return carry_out(request)


@pytest.fixture
def lost(folder: Path, first: Outcome, tmp_path: Path) -> Any:
    """All files that the run was made from are gone; back after the test."""
    for name in ("bench.toml", "sample.toml", "calibrations"):
        (folder / name).rename(tmp_path / name)
    yield first
    for name in ("bench.toml", "sample.toml", "calibrations"):
        (tmp_path / name).rename(folder / name)


def contents(path: str) -> dict[str, np.ndarray]:
    found = {}
    with open_run(path) as run:
        for stream, layout in run.streams.items():
            found |= {f"{stream}.{column.name}": run.column(column.name, stream) for column in layout.columns}
            found |= {f"{stream}.{entry.name}": run.array(entry.name, stream)[:] for entry in layout.arrays}
    return found


def test_a_simulated_run_is_repeated_bit_for_bit_though_its_files_are_gone(lost: Outcome, tmp_path: Path) -> None:
    request = request_again(lost.run, changes={"out": str(tmp_path / "again")})
    outcome = carry_out(request)
    assert outcome.run != lost.run
    assert outcome.result == lost.result
    found, expected = contents(outcome.run), contents(lost.run)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    with open_run(outcome.run) as again, open_run(lost.run) as run:
        assert again.header["provenance"]["files"] == run.header["provenance"]["files"]
        assert again.header["provenance"]["calibrations"] == run.header["provenance"]["calibrations"]
        assert again.header["request"]["again"] == str(Path(lost.run).absolute())
        assert again.header["parameters"] == run.header["parameters"]


def test_what_was_asked_for_is_asked_for_again(first: Outcome) -> None:
    request = request_again(first.run, changes={"spot": "2", "seed": 4})
    assert (request.spot, request.seed, request.virtual_time) == ("2", 4, True)
    assert request.on_failure == FailurePolicy(retries=1, then="skip")
    assert request.parameters["pulses"] == 20
    assert request.parameters["exposure_min"] is not None, "values that were completed are kept"


def test_another_bench_is_read_as_it_is_now(first: Outcome) -> None:
    request = request_again(first.run, bench="simulated")
    assert (request.bench, request.again) == ("simulated", None)
    assert stored_files(request) == StoredFiles()


def test_a_new_run_takes_nothing_from_another() -> None:
    stored = stored_files(RunRequest(procedure="fluence-sweep", bench="simulated"))
    assert not stored.is_stored
    assert stored.warnings(load_bench("simulated")) == ()


def test_what_differs_in_the_bench_file_is_shown_but_not_endlessly(folder: Path) -> None:
    bench = load_bench(str(folder / "bench.toml"))
    then = bench.text.replace('fluence = "1 mJ/cm^2"', 'fluence = "2 mJ/cm^2"')
    (warning,) = StoredFiles(bench_text=then).warnings(bench)
    assert '-fluence = "2 mJ/cm^2" | +fluence = "1 mJ/cm^2"' in warning
    (warning,) = StoredFiles(bench_text="").warnings(bench)
    assert len(warning) < 2000
    assert "more" in warning
    assert StoredFiles(bench_text=bench.text).warnings(bench) == ()


@pytest.mark.parametrize(
    "header",
    [{}, {"request": {}}, {"request": {"procedure": "x", "bench": "y"}}, {"request": {"colour": 1}, "parameters": {}}],
)
def test_a_run_that_does_not_say_what_was_asked_for(tmp_path: Path, header: dict[str, Any]) -> None:
    path = tmp_path / "run.journal"
    with Journal.create(path, header) as journal:
        journal.set_status("finished", t_s=0.0, wall_s=0.0)
    with pytest.raises(InputError) as caught:
        request_again(str(path))
    assert "does not say what was asked for" in caught.value.what
    assert caught.value.where == str(path)


@pytest.mark.parametrize("make", [request_again, request_to_resume])
def test_a_run_that_is_not_there(tmp_path: Path, make: Callable[[str], RunRequest]) -> None:
    with pytest.raises(InputError, match="nothing"):
        make(str(tmp_path / "nothing.h5"))


@pytest.mark.slow
def test_a_bench_in_another_process_is_taken_as_it_is_today(serve: Callable[..., Any], tmp_path: Path) -> None:
    """Its instruments may have been changed since: limits, calibrations and addresses of today hold."""
    laboratory = serve()
    bench = Path(laboratory.bench)
    begun = RunRequest(
        procedure="fluence-sweep", parameters=SWEEP, bench=str(bench), out=str(tmp_path / "runs"), virtual_time=True
    )
    first = carry_out(begun)
    text = bench.read_text(encoding="utf-8")
    bench.write_text(text.replace('cooling_timeout = "20 min"', 'cooling_timeout = "30 min"'), encoding="utf-8")
    prepared = prepare(request_again(first.run))
    assert prepared.bench.spectrometer is not None
    assert prepared.bench.spectrometer.cooling_timeout_s == 1800.0
    (warning,) = preflight(prepared).warnings[:1]
    assert '+cooling_timeout = "30 min"' in warning
    bench.write_text(text.replace('fluence = "1 mJ/cm^2"', 'fluence = "8 uJ/cm^2"'), encoding="utf-8")
    with pytest.raises(LabctlError, match="8"):
        require(preflight(prepare(request_again(first.run))))
    bench.unlink()
    with pytest.raises(LabctlError) as caught:
        prepare(request_again(first.run))
    assert bench.name in str(caught.value)
