"""Runs on the simulated bench that broke off and go on: the same rows as if nothing had been, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.bench.ledger import ExposureLedger
from labctl.config.locate import locate
from labctl.errors import InputError, InstrumentError, LabctlError
from labctl.run.engine import Engine, GuardLine
from labctl.run.outcome import Outcome
from labctl.run.policy import FailurePolicy
from labctl.run.request import RunRequest, prepare
from labctl.run.stored_request import request_to_resume
from labctl.store.results import add_note
from labctl.store.run import open_run

SWEEP = {
    "coarse_points": 5,
    "fine_points": 5,
    "return_points": 2,
    "averages": 1,
    "pulses": 20,
    "dark_frames": 1,
    "scatter_frames": 1,
}
CALIBRATION = {"points": 8, "pulses": 50}
"""Stages of the sweep with the number of the first point and of all points."""
STAGES = {"dark": (0, 9), "scatter": (9, 1), "coarse": (10, 5), "fine": (15, 5), "return": (20, 2)}
DOSE = "dose_j_cm2"
"""Holds what the spot has received so far, and so the light of the reference point; all else is the same."""


class NoGuard(GuardLine):
    """A line to nobody."""

    def say(self, kind: str, **data: Any) -> None:
        pass


class Ending(Engine):
    """An engine that ends its run after a number of points, counted in this part.

    :param after: Points until then; None for never.
    :param by: Raised in the measurement of the next point instead of an abort.
    """

    def __init__(self, request: RunRequest, after: int | None = None, by: Exception | None = None) -> None:
        super().__init__(prepare(request), NoGuard())
        self._after = after
        self._by = by
        self._points = 0
        self._measure_one = self.prepared.procedure.measure
        self.prepared.procedure.measure = self._measure_or_raise

    def done(self, point: Any, record: Any, done: int) -> None:
        super().done(point, record, done)
        self._points += 1
        if self._by is None and self._points == self._after:
            self.abort("the test has seen enough")

    def _measure_or_raise(self, point: Any) -> Any:
        if self._by is not None and self._points == self._after:
            raise self._by
        return self._measure_one(point)


def request(out: Path, procedure: str = "fluence-sweep", bench: str = "simulated", **parameters: Any) -> RunRequest:
    values = {**(SWEEP if procedure == "fluence-sweep" else CALIBRATION), **parameters}
    return RunRequest(procedure=procedure, parameters=values, bench=bench, out=str(out), virtual_time=True)


def resumed(run: str | Path, after: int | None = None, by: Exception | None = None, **options: Any) -> Outcome:
    return Ending(request_to_resume(str(run), **options), after, by).run()


def contents(path: str | Path) -> dict[str, np.ndarray]:
    """Everything that was measured, but neither times nor the dose."""
    found = {}
    with open_run(path) as run:
        for stream in set(run.streams) - {"reference"}:
            layout = run.streams[stream]
            names = [column.name for column in layout.columns if column.name != DOSE]
            found |= {f"{stream}.{name}": run.column(name, stream) for name in ("point", "attempt", *names)}
            found |= {f"{stream}.{entry.name}": run.array(entry.name, stream)[:] for entry in layout.arrays}
    return found


def assert_same(path: str | Path, whole: str | Path) -> None:
    """Bit for bit; a time that light was on is a difference of times, whose rounding depends on how late it is."""
    found, expected = contents(path), contents(whole)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        if name.endswith(".open_s"):
            np.testing.assert_allclose(found[name], values, rtol=1e-9, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], values, err_msg=name)


def events(path: str | Path, kind: str) -> list[dict[str, Any]]:
    with open_run(path) as run:
        return [event.data for event in run.events(kind)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A sweep to which nothing happened."""
    outcome = Ending(request(tmp_path_factory.mktemp("whole"))).run()
    assert (outcome.status, outcome.points) == ("finished", {"done": 22, "planned": 22})
    return outcome


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A calibration to which nothing happened."""
    outcome = Ending(request(tmp_path_factory.mktemp("calibrated"), "attenuator-calibration")).run()
    assert outcome.status == "finished"
    return outcome


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that was aborted in its coarse pass, on a bench with a file of its own; the folder of everything."""
    folder = tmp_path_factory.mktemp("broken")
    source = locate("benches", "simulated")
    shutil.copytree(source.parent / "calibrations", folder / "calibrations")
    shutil.copy(source, folder / "bench.toml")
    shutil.copy(locate("samples", "cdse-cds-zno"), folder / "sample.toml")
    asked = request(folder / "runs", bench=str(folder / "bench.toml"))
    asked = asked.model_copy(update={"sample": str(folder / "sample.toml")})
    outcome = Ending(asked, 12).run()
    assert (outcome.status, outcome.safe_state, outcome.points["done"]) == ("aborted", "confirmed", 12)
    return folder


@pytest.fixture
def aborted(broken: Path, tmp_path: Path) -> Iterator[Path]:
    """That sweep, at the place where it was made; whatever a test does to it is undone."""
    shutil.copytree(broken, tmp_path / "kept")
    yield broken
    shutil.rmtree(broken)
    shutil.copytree(tmp_path / "kept", broken)


def run_in(folder: Path) -> Path:
    (found,) = (path for path in (folder / "runs").rglob("*.h5"))
    return found


def change(file: Path, *replacements: tuple[str, str]) -> None:
    text = file.read_text(encoding="utf-8")
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new, 1)
    file.write_text(text, encoding="utf-8")


def test_an_aborted_sweep_goes_on_with_the_same_rows(aborted: Path, whole: Outcome) -> None:
    run = run_in(aborted)
    add_note(run, "coffee")
    outcome = resumed(run)
    assert outcome.error is None
    assert (outcome.status, outcome.safe_state, outcome.exit_code) == ("finished", "confirmed", 0)
    assert outcome.points == {"done": 22, "planned": 22}
    assert outcome.run == str(run), "it is the same run"
    assert_same(run, whole.run)
    assert outcome.result["threshold"] == whole.result["threshold"]
    with open_run(run) as found:
        assert [note.text for note in found.notes] == ["coffee"]
        assert found.count("reference") == 1
    with open_run(run.with_name(f"{run.stem}.1.h5")) as kept:
        assert (kept.status, kept.count("points")) == ("aborted", 2)


def test_the_gap_its_cause_and_the_reference_are_in_the_file(aborted: Path) -> None:
    outcome = resumed(run_in(aborted))
    (back,) = events(outcome.run, "resumed")
    assert (back["status"], back["points"]) == ("aborted", 12)
    assert "stopped on request" in back["cause"]
    assert back["gap_s"] >= 0.0
    assert (back["bench"], back["calibrations"]) == (None, {"attenuator": None}), "nothing has changed"
    (reference,) = events(outcome.run, "reference")
    assert (reference["point"], reference["stage"]) == (10, "coarse"), "the weakest light"
    assert reference["ratio"] == pytest.approx(1.0, abs=0.1)
    with open_run(outcome.run) as run:
        assert run.column("attempt", "reference").tolist() == [1000]
        times = run.column("t_s", "points")
        assert (np.diff(times) > 0).all()


def test_the_ledger_holds_each_exposure_once(aborted: Path) -> None:
    """That of the reference point, too: the dose of the last row is all that the spot has received."""
    outcome = resumed(run_in(aborted))
    with open_run(outcome.run) as run:
        dose = run.column(DOSE, "points")
        lit = [run.column("open_s", stream).sum() for stream in ("points", "reference")]
    assert (np.diff(dose) > 0).all(), "also across the gap"
    total = ExposureLedger(aborted / "runs").total("cdse-cds-zno", "1", simulated=True)
    assert total.dose_j_cm2 == pytest.approx(dose[-1], rel=1e-3)
    assert total.open_s == pytest.approx(sum(lit), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("after", "failing"),
    [(1, False), (4, True), (9, True), (10, False), (11, False), (14, True), (15, False), (17, True), (20, False)],
)
def test_a_sweep_goes_on_wherever_it_broke_off(tmp_path: Path, whole: Outcome, after: int, failing: bool) -> None:
    fault = ZeroDivisionError("a bug in the procedure") if failing else None
    first = Ending(request(tmp_path), after, fault).run()
    assert (first.status, first.points["done"]) == ("failed" if failing else "aborted", after)
    last = resumed(first.run)
    assert (last.status, last.points) == ("finished", {"done": 22, "planned": 22})
    assert_same(last.run, whole.run)
    assert last.result["threshold"] == whole.result["threshold"]
    assert events(last.run, "resumed")[0]["points"] == after
    reference = events(last.run, "reference")[0]
    assert reference["point"] is None if after <= 10 else reference["ratio"] == pytest.approx(1.0, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [(3, 8), (12, 1), (16, 5)])
def test_a_sweep_that_breaks_off_twice(tmp_path: Path, whole: Outcome, first: int, second: int) -> None:
    begun = Ending(request(tmp_path), first).run()
    again = resumed(
        begun.run, second, InstrumentError("no reply", role="detector"), on_failure=FailurePolicy(retries=0)
    )
    assert (again.status, again.points["done"]) == ("failed", first + second)
    last = resumed(again.run)
    assert last.status == "finished"
    assert_same(last.run, whole.run)
    assert [entry["status"] for entry in events(last.run, "resumed")] == ["aborted", "failed"]
    assert "no reply" in events(last.run, "resumed")[1]["cause"]
    kept = sorted(path.name for path in Path(last.run).parent.glob("*.h5"))
    stem = Path(last.run).stem
    assert kept == [f"{stem}.1.h5", f"{stem}.2.h5", f"{stem}.h5"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_sweep_whose_engine_was_killed(start: Callable[..., Any], whole: Outcome, stage: str) -> None:
    run = start(parameters=SWEEP, lease=False)
    run.wait_for(lambda event: event.get("phase") == stage)
    run.engine().kill()
    crashed = run.end()
    assert crashed["status"] == "crashed"
    last = resumed(crashed["run"])
    assert (last.status, last.points) == ("finished", {"done": 22, "planned": 22})
    assert_same(last.run, whole.run)
    (back,) = events(last.run, "resumed")
    assert back["points"] == crashed["points"]["done"]
    assert "engine" in back["cause"]


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 2, 7, 15])
def test_a_calibration_goes_on_wherever_it_broke_off(tmp_path: Path, calibrated: Outcome, after: int) -> None:
    first = Ending(request(tmp_path / "parts", "attenuator-calibration"), after).run()
    assert (first.status, first.points["done"]) == ("aborted", after)
    last = resumed(first.run)
    assert (last.status, last.points) == ("finished", calibrated.points)
    assert_same(last.run, calibrated.run)
    assert last.result["theta0"] == calibrated.result["theta0"]
    assert Path(last.files["calibration"]).is_file()


def refused(run: Path, **options: Any) -> LabctlError:
    """Why a run is not resumed; nothing of it has changed then."""
    journal = run.with_suffix(".journal")
    before = journal.read_bytes()
    with pytest.raises(LabctlError) as caught:
        resumed(run, **options)
    assert journal.read_bytes() == before
    assert caught.value.todo
    return caught.value


def test_a_finished_run_is_not_resumed(whole: Outcome) -> None:
    with pytest.raises(InputError) as caught:
        request_to_resume(whole.run)
    assert "there is nothing to resume" in caught.value.what
    assert "--again" in caught.value.todo


def test_a_run_whose_bench_file_is_gone_names_it(aborted: Path) -> None:
    (aborted / "bench.toml").unlink()
    assert "bench.toml" in str(refused(run_in(aborted)))


@pytest.mark.slow
def test_a_bench_file_that_has_moved_can_be_named(aborted: Path, whole: Outcome) -> None:
    moved = aborted / "other"
    moved.mkdir()
    (aborted / "bench.toml").rename(moved / "bench.toml")
    (aborted / "calibrations").rename(moved / "calibrations")
    outcome = resumed(run_in(aborted), bench=str(moved / "bench.toml"))
    assert outcome.status == "finished"
    assert_same(outcome.run, whole.run)


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (('fluence = "1 mJ/cm^2"', 'fluence = "20 uJ/cm^2"'), "20"),
        (('dose_per_spot = "200 J/cm^2"', 'dose_per_spot = "0.1 J/cm^2"'), "dose"),
        (('pulse_energy = "5 uJ"', 'pulse_energy = "10 nJ"'), "cannot be set"),
    ],
)
def test_nobody_passes_a_limit_by_resuming(aborted: Path, limit: tuple[str, str], words: str) -> None:
    change(aborted / "bench.toml", limit)
    error = refused(run_in(aborted))
    assert words in str(error)
    assert error.state in {"", "nothing was moved"}


def test_a_bench_that_lost_an_instrument_is_refused(aborted: Path) -> None:
    text = (aborted / "bench.toml").read_text(encoding="utf-8")
    start, end = text.index("[instruments.energy_meter]"), text.index("[instruments.spectrograph]")
    (aborted / "bench.toml").write_text(text[:start] + text[end:], encoding="utf-8")
    assert "energy_meter" in str(refused(run_in(aborted)))


def test_the_calibration_of_today_holds_for_the_fluences_of_then(aborted: Path, whole: Outcome) -> None:
    """The set-points stay; the angles follow the new calibration, and the file says so."""
    change(aborted / "calibrations" / "simulated_attenuator.toml", ('theta0 = "7.31662 deg"', 'theta0 = "7.11662 deg"'))
    outcome = resumed(run_in(aborted))
    assert outcome.status == "finished"
    found, expected = contents(outcome.run), contents(whole.run)
    np.testing.assert_array_equal(found["points.fluence_set_uj_cm2"][:5], expected["points.fluence_set_uj_cm2"][:5])
    angles = found["points.angle_deg"] - expected["points.angle_deg"]
    assert (angles[:2] == 0).all()
    assert angles[2:5] == pytest.approx(-0.2, abs=0.05)
    (back,) = events(outcome.run, "resumed")
    assert 'theta0 = "7.11662 deg"' in back["calibrations"]["attenuator"]


@pytest.mark.slow
def test_the_sample_of_then_is_the_sample_of_today(aborted: Path, whole: Outcome) -> None:
    (aborted / "sample.toml").unlink()
    outcome = resumed(run_in(aborted))
    assert outcome.status == "finished"
    assert_same(outcome.run, whole.run)


@pytest.mark.slow
def test_a_folder_of_runs_that_has_moved_keeps_its_ledger(aborted: Path, whole: Outcome, tmp_path: Path) -> None:
    shutil.move(aborted / "runs", tmp_path / "moved")
    (run,) = (tmp_path / "moved").rglob("*.h5")
    before = ExposureLedger(tmp_path / "moved").total("cdse-cds-zno", "1", simulated=True)
    outcome = resumed(run)
    assert outcome.status == "finished"
    assert_same(run, whole.run)
    assert not (aborted / "runs").exists()
    assert ExposureLedger(tmp_path / "moved").total("cdse-cds-zno", "1", simulated=True).pulses > before.pulses > 0


@pytest.mark.slow
def test_a_bench_that_has_changed_is_told(aborted: Path) -> None:
    change(aborted / "bench.toml", ('cooling_timeout = "20 min"', 'cooling_timeout = "25 min"'))
    outcome = resumed(run_in(aborted))
    (warning,) = [text for text in outcome.warnings if "the bench file has changed since" in text]
    assert '-cooling_timeout = "20 min"' in warning
    assert '+cooling_timeout = "25 min"' in warning
    assert 'cooling_timeout = "25 min"' in events(outcome.run, "resumed")[0]["bench"]
