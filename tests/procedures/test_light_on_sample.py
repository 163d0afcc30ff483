"""The light that is entered, planned and limited, against what the simulated sample truly got."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.bench.bench import Bench
from labctl.bench.ledger import ExposureLedger, SpotTotal
from labctl.bench.spectrometer import Spectrometer
from labctl.clock import VirtualClock
from labctl.config.bench import load_bench
from labctl.config.locate import locate
from labctl.config.sample import load_sample
from labctl.errors import Aborted, InputError, InstrumentError, LimitExceeded
from labctl.run.outcome import Outcome
from labctl.run.policy import FailurePolicy
from labctl.store.run import open_run
from procedures.fluence_sweep import FluenceSweep

Sweep = Callable[..., Outcome]
SHORT: dict[str, Any] = {"fluences": "5, 20, 60, 90, 140 uJ/cm^2", "return_points": 0}


@pytest.fixture
def true_dose_j_cm2(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The dose of the simulated sample, asked for when the bench is closed."""
    doses: list[float] = []
    close = Bench.close

    def ask_and_close(bench: Bench) -> None:
        if bench.laboratory is not None:
            doses.append(bench.laboratory.state()["dose_uj_cm2"] * 1e-6)
        close(bench)

    monkeypatch.setattr(Bench, "close", ask_and_close)
    return doses


def entered(tmp_path: Path, sample: str = "cdse-cds-zno") -> SpotTotal:
    return ExposureLedger(tmp_path / "runs").total(sample, "1", simulated=True)


def fail_in_the_light(monkeypatch: pytest.MonkeyPatch, error: Exception, *, seconds: float = 0.0) -> None:
    """Let the third spectrum that is taken with light on the sample fail, after a while."""
    acquire = Spectrometer.acquire
    taken: list[float] = []

    def fail(spectrometer: Spectrometer, exposure_s: float, accumulations: int, *more: Any, **named: Any) -> Any:
        if accumulations == 3:
            taken.append(exposure_s)
        if len(taken) == 3:
            spectrometer.clock.sleep(seconds)
            raise error
        return acquire(spectrometer, exposure_s, accumulations, *more, **named)

    monkeypatch.setattr(Spectrometer, "acquire", fail)


def test_the_ledger_holds_what_the_sample_got(sweep: Sweep, tmp_path: Path, true_dose_j_cm2: list[float]) -> None:
    outcome = sweep(**SHORT)
    assert outcome.status == "finished"
    (true,) = true_dose_j_cm2
    assert true > 0
    assert true * 0.99 < entered(tmp_path).dose_j_cm2 < true * 1.06
    with open_run(outcome.run) as run:
        assert entered(tmp_path).dose_j_cm2 == pytest.approx(run.columns("points")["dose_j_cm2"][-1])


@pytest.mark.parametrize(
    ("error", "status"),
    [(InstrumentError("the camera is gone"), "failed"), (Aborted("stopped"), "aborted"), (ValueError("x"), "failed")],
)
def test_the_light_of_a_point_that_ends_early_is_entered(
    sweep: Sweep,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    true_dose_j_cm2: list[float],
    error: Exception,
    status: str,
) -> None:
    fail_in_the_light(monkeypatch, error, seconds=30.0)
    monkeypatch.setattr(FluenceSweep, "FAILURES", FailurePolicy(retries=0))
    outcome = sweep(**SHORT)
    assert (outcome.status, outcome.safe_state) == (status, "confirmed")
    (true,) = true_dose_j_cm2
    assert true * 0.99 < entered(tmp_path).dose_j_cm2 < true * 1.06
    with open_run(outcome.run) as run:
        stored = run.columns("points")["dose_j_cm2"][-1] if run.count("points") else 0.0
    assert stored < 0.6 * true


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"pulses": 5000},
        {"exposure_min": "10 ms", "exposure_max": "10 ms", "averages": 100},
        {"exposure_min": "2 s", "exposure_max": "2.1 s", "averages": 2},
    ],
)
def test_no_sweep_gives_more_light_than_planned(
    sweep: Sweep, tmp_path: Path, true_dose_j_cm2: list[float], parameters: dict[str, Any]
) -> None:
    together = {**SHORT, **parameters}
    plan = FluenceSweep(**together).plan(load_bench("simulated"), load_sample("cdse-cds-zno"))
    outcome = sweep(**together)
    assert outcome.status == "finished", outcome.error
    assert true_dose_j_cm2[0] <= plan.dose_j_cm2
    total = entered(tmp_path)
    assert total.open_s <= plan.open_s
    assert total.dose_j_cm2 <= plan.dose_j_cm2 * 1.05


@pytest.mark.parametrize(
    ("bench", "sample", "fluences"),
    [
        ("simulated-vcsel", "vcsel", "1, 3, 6 uJ/cm^2"),
        ("simulated-ns", "cdzns-zns", "5, 15, 40 mJ/cm^2"),
        ("simulated-fibre", "cdzns-zns-fibre", "8, 25, 80 mJ/cm^2"),
    ],
)
def test_spots_of_any_shape_and_slow_lasers_are_accounted_for(
    sweep: Sweep, tmp_path: Path, true_dose_j_cm2: list[float], bench: str, sample: str, fluences: str
) -> None:
    parameters = {"fluences": fluences, "return_points": 0}
    plan = FluenceSweep(**parameters).plan(load_bench(bench), load_sample(sample))
    outcome = sweep(bench=bench, sample=sample, **parameters)
    assert outcome.points["done"] == outcome.points["planned"]
    (true,) = true_dose_j_cm2
    assert true * 0.97 < entered(tmp_path, sample).dose_j_cm2 < true * 1.06
    assert true <= plan.dose_j_cm2


def test_readings_that_take_too_long_are_refused_before_anything_moves() -> None:
    with pytest.raises(InputError, match=r"9000 pulses may take 41 s at 1000 Hz"):
        FluenceSweep(**SHORT, pulses=9000).plan(load_bench("simulated"), load_sample("cdse-cds-zno"))


def test_the_longest_point_of_a_stage_is_told_apart_from_the_mean() -> None:
    plan = FluenceSweep(**SHORT, dark_frames=1000).plan(load_bench("simulated"), load_sample("cdse-cds-zno"))
    dark, *_, listed = plan.stages
    assert dark.point_s == pytest.approx(1000 * 5.11 / 9)
    assert dark.longest_point_s > 1000 * 2.56
    assert listed.longest_point_s > listed.open_s / listed.max_points


def test_a_doubtful_calibration_is_a_warning_and_a_wrong_one_ends_the_run(sweep: Sweep, tmp_path: Path) -> None:
    folder = locate("benches", "simulated").parent

    def bench(factor: float) -> str:
        calibration = (folder / "calibrations" / "simulated_attenuator.toml").read_text(encoding="utf-8")
        full_uj = load_bench("simulated").attenuator_calibration.full_energy_uj  # pyright: ignore[reportOptionalMemberAccess]
        assert f"{full_uj} uJ" in calibration
        (tmp_path / "wrong.toml").write_text(calibration.replace(f"{full_uj} uJ", f"{full_uj / factor:.6g} uJ"))
        text = (folder / "simulated.toml").read_text(encoding="utf-8")
        path = tmp_path / "bench.toml"
        path.write_text(text.replace("calibrations/simulated_attenuator.toml", "wrong.toml"))
        return str(path)

    doubtful = sweep(bench=bench(1.4), **SHORT)
    assert doubtful.status == "finished"
    assert len([text for text in doubtful.warnings if "calibrate the attenuator anew" in text]) == 1
    wrong = sweep(bench=bench(2.4), **SHORT)
    assert (wrong.status, wrong.safe_state) == ("failed", "confirmed")
    assert wrong.error is not None and "does not hold" in wrong.error["what"]


def test_the_dose_of_earlier_runs_counts_on_a_real_spot_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_bench() -> Bench:
        return Bench.open(load_bench("simulated"), VirtualClock(), roles=FluenceSweep.ROLES, spot_dose_j_cm2=200.1)

    with open_bench() as bench:
        with bench.pump.light():
            assert bench.pump.shutter.is_open
    monkeypatch.setattr(Bench, "simulated", False)
    with open_bench() as bench:
        with pytest.raises(LimitExceeded, match=r"received 200\.1 J/cm\^2"), bench.pump.light():
            pass
        assert bench.take_light() == []
