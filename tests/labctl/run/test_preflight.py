"""The preflight: all reasons at once, and nothing opened or written."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from labctl.bench.attenuation import MalusLaw
from labctl.bench.ledger import Exposure, ExposureLedger
from labctl.bench.light import ComingLight
from labctl.bench.pump_beam import angles_deg
from labctl.config.bench import load_bench
from labctl.config.locate import locate
from labctl.errors import InputError
from labctl.run.earlier import Earlier
from labctl.run.plan import Plan, Stage
from labctl.run.preflight import Preflight, preflight, require
from labctl.run.request import RunRequest, prepare
from labctl.run.set_quantities import SetQuantity, set_quantities
from labctl.store.journal import Journal


@pytest.fixture
def real_bench(tmp_path: Path) -> Callable[..., str]:
    """Write the shipped bench as a real one with pieces of its text replaced, and a calibration of another date."""

    def write(*replacements: tuple[str, str], dated: str = "") -> str:
        source = locate("benches", "simulated")
        shutil.copytree(source.parent / "calibrations", tmp_path / "calibrations", dirs_exist_ok=True)
        if dated:
            calibration = tmp_path / "calibrations" / "simulated_attenuator.toml"
            text = calibration.read_text(encoding="utf-8")
            calibration.write_text(re.sub(r"date = \S+", f"date = {dated}", text), encoding="utf-8")
        text = source.read_text(encoding="utf-8").split("[laboratory.")[0]
        number = iter(range(9))
        text = re.sub(r'resource = "sim:"', lambda _: f'resource = "serial:/dev/none{next(number)}"', text)
        text = re.sub(r'(driver = "andor-sdk2"\nresource = )"[^"]*"', r'\1"sdk:andor"', text)
        for old, new in replacements:
            assert old in text, old
            text = text.replace(old, new, 1)
        (tmp_path / "real.toml").write_text(text, encoding="utf-8")
        return str(tmp_path / "real.toml")

    return write


def check(tmp_path: Path, bench: str, procedure: str = "fluence-sweep", **parameters: Any) -> Preflight:
    request = RunRequest(procedure=procedure, bench=bench, out=str(tmp_path / "runs"), parameters=parameters)
    return preflight(prepare(request))


def test_all_reasons_come_at_once_and_nothing_is_opened_or_written(
    tmp_path: Path, real_bench: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("an instrument was opened")

    monkeypatch.setattr("labctl.transport.wire.open_wire", never)
    monkeypatch.setattr("labctl.transport.vendor.open_library", never)
    bench = real_bench(
        ('dose_per_spot = "200 J/cm^2"', 'dose_per_spot = "0.5 J/cm^2"'),
        ('disk_reserve = "200 MB"', 'disk_reserve = "100000000 MB"'),
        dated="2019-01-01",
    )
    # The window around 820 nm holds the pump line in second order.
    fluences = {"fluences": "100 uJ/cm^2, 200 uJ/cm^2", "centre_wavelength": "820 nm", "band": "790 nm, 850 nm"}
    found = check(tmp_path, bench, **fluences)
    expected = ("limits.dose_per_spot", "limits.disk_reserve", "days old", "order 2")
    for reason in expected:
        assert [reason in text for text in found.refusals].count(True) == 1, (reason, found.refusals)
    with pytest.raises(InputError) as refused:
        require(found)
    assert all(text in refused.value.what for text in found.refusals)
    assert not (tmp_path / "runs").exists()


def test_a_plan_that_cannot_be_made_hides_no_other_reason(tmp_path: Path, real_bench: Callable[..., str]) -> None:
    bench = real_bench(('disk_reserve = "200 MB"', 'disk_reserve = "100000000 MB"'), dated="2019-01-01")
    beyond = {"start": "300 deg", "span": "90 deg"}
    found = check(tmp_path, bench, "attenuator-calibration", **beyond)
    assert found.plan == Plan(())
    assert "the curve would end at 390 deg" in found.refusals[0]
    assert "limits.disk_reserve" in found.refusals[1]
    assert len(found.refusals) == 2  # it makes the calibration anew: the old one may be of any age
    with pytest.raises(InputError, match=r"^the curve would end at 390 deg"):
        check(tmp_path, "simulated", "attenuator-calibration", **beyond)


def test_the_age_of_a_calibration_is_shown_and_counts_on_a_real_bench(
    tmp_path: Path, real_bench: Callable[..., str]
) -> None:
    (stale,) = check(tmp_path, real_bench(dated="2019-01-01")).calibrations
    assert stale.counts and stale.age_days > 2000 and stale.max_age_days == 365
    (simulated,) = check(tmp_path, "simulated").calibrations
    assert not simulated.counts
    (made_anew,) = check(tmp_path, real_bench(dated="2019-01-01"), "attenuator-calibration").calibrations
    assert not made_anew.counts


def test_every_set_quantity_stands_beside_its_limit(tmp_path: Path) -> None:
    found = check(tmp_path, "simulated", fluences="2 uJ/cm^2, 50 uJ/cm^2", scatter_frames=0, return_points=0)
    temperature, dark, fluence, energy, exposure = found.quantities
    assert (temperature.stage, temperature.low, temperature.limit) == ("bench file", -60.0, None)
    assert (dark.stage, dark.name, exposure.stage) == ("dark", "exposure_s", "listed")
    assert (dark.low, dark.high) == (exposure.low, exposure.high) == (0.01, 2.56)
    assert (fluence.low, fluence.high, fluence.limit) == (2.0, 50.0, 1000.0)
    assert fluence.margin == pytest.approx(0.95)
    assert (energy.name, energy.limit, energy.limited_by) == ("pulse_energy_uj", 5.0, "limits.pulse_energy")
    # 50 uJ/cm^2 at the peak of a stripe of 1 mm, 150 um (1/e^2): A = L w sqrt(pi / 2).
    assert energy.high == pytest.approx(50.0 * 0.1 * 0.015 * 1.2533, rel=1e-4)


def test_limits_of_power_and_of_roles_count_too(tmp_path: Path, real_bench: Callable[..., str]) -> None:
    bench = real_bench(
        ('disk_reserve = "200 MB"', 'disk_reserve = "200 MB"\naverage_power = "0.05 mW"'),
        ("[calibrations]", '[limits.roles.attenuator]\nangle = "60 deg"\n\n[calibrations]'),
    )
    stage = Stage("listed", "points", 1, 1.0, ({},), {"fluence_uj_cm2": (20.0, 40.0)})
    fluence, energy, power, angle = set_quantities(Plan((stage,)), load_bench(bench))
    assert angle.refusal == "" and angle.limit == 60.0
    assert (fluence.refusal, energy.refusal) == ("", "")
    # 40 uJ/cm^2 on the stripe take 0.0752 uJ, at 1 kHz 0.0752 mW.
    assert "up to 0.0752 mW, beyond the limit of 0.05 mW (limits.average_power" in power.refusal
    found = check(tmp_path, bench, "attenuator-calibration")
    assert [text for text in found.refusals if "limits.roles.attenuator.angle" in text]


@pytest.mark.parametrize(
    ("low", "high", "word"), [(1.0, 5.0, ""), (0.5, 5.0, "below"), (1.0, 5.1, "beyond"), (1.0, float("nan"), "beyond")]
)
def test_a_value_may_reach_its_limit_and_not_pass_it(low: float, high: float, word: str) -> None:
    refusal = SetQuantity("points", "angle_deg", low, high, 5.0, 1.0, "limits.roles.attenuator.angle").refusal
    assert (word in refusal) if word else refusal == ""


def test_limits_of_roles_refuse_before_anything_opens_and_all_at_once(
    tmp_path: Path, real_bench: Callable[..., str]
) -> None:
    tables = (
        '[limits.roles.detector]\nexposure = { at_least = "0.02 s", at_most = "1 s" }\n'
        'temperature = { at_least = "-50 degC", at_most = "20 degC" }\n\n'
        '[limits.roles.attenuator]\nangle = { at_least = "40 deg", at_most = "41 deg" }\n\n[calibrations]'
    )
    found = check(tmp_path, real_bench(("[calibrations]", tables)), fluences="5 uJ/cm^2, 200 uJ/cm^2")
    for reason in (
        "the bench file sets the temperature down to -60 degC, below the limit of -50 degC",
        "exposure down to 0.01 s, below the limit of 0.02 s",
        "exposure up to 2.56 s, beyond the limit of 1 s",
        "beyond the limit of 41 deg",
        "below the limit of 40 deg",
    ):
        assert [reason in text for text in found.refusals].count(True) == 1, (reason, found.refusals)


@pytest.mark.parametrize("theta0_deg", [0.5, 7.0, 200.0, 330.0, 359.7])
def test_the_range_of_angles_holds_every_angle_that_is_set(theta0_deg: float) -> None:
    law = MalusLaw(1e-9, 1e-6, theta0_deg)
    low, high = angles_deg(law, 1e-8, 5e-7)
    for number in range(101):
        angle = law.angle_deg(1e-8 + number / 100 * 4.9e-7) % 360.0
        angle = angle if angle >= 1.0 else angle + 90.0
        assert low <= angle - 1.0 < angle <= high
    assert high - low == 360.0 or high - low < 46.0


def test_a_plan_that_sets_nothing_has_no_quantities(tmp_path: Path) -> None:
    prepared = prepare(RunRequest(procedure="fluence-sweep", bench="simulated", out=str(tmp_path / "runs")))
    assert set_quantities(Plan(()), prepared.bench) == ()


def test_the_light_of_runs_that_died_counts_and_an_unknown_amount_of_it_refuses(
    tmp_path: Path, real_bench: Callable[..., str]
) -> None:
    def dies(run: str, closed_wall_s: float | None) -> None:
        path = tmp_path / "runs" / f"{run}.journal"
        path.parent.mkdir(parents=True, exist_ok=True)
        account = ExposureLedger(tmp_path / "runs").open_account(name, "1", run, simulated=False, wall_s=1.7e9)
        light = ComingLight(1.7e9, 50.0, 1000.0, 0.0, 0, 0.0)
        with Journal.create(path, {"request": {}}) as journal:
            journal.event("light", {"account": account.number, **asdict(light)}, t_s=0.0, wall_s=light.wall_s)
            if closed_wall_s is not None:
                steps = [{"role": "shutter", "confirmed": True}]
                journal.event("safe_state", {"steps": steps}, t_s=0.0, wall_s=closed_wall_s)

    bench = real_bench()
    sample = prepare(RunRequest(procedure="fluence-sweep", bench=bench)).sample
    assert sample is not None
    name = sample.sample.name
    dies("2026-11-21/0001_a", 1.7e9 + 10.0)
    before = check(tmp_path, bench)
    assert before.spot_dose_j_cm2 == pytest.approx(0.5)
    assert not [reason for reason in before.refusals if "died" in reason]
    dies("2026-11-21/0002_a", 1.7e9 + 10_000.0)
    assert any("has received 500 J/cm^2" in reason for reason in check(tmp_path, bench).refusals)
    dies("2026-11-21/0003_a", None)
    assert any("nobody has confirmed since" in reason for reason in check(tmp_path, bench).refusals)


@pytest.mark.parametrize(("own_share", "accepted"), [(1.01, True), (0.5, False)])
def test_of_a_resumed_run_what_fell_and_what_is_left_count_once_each(
    tmp_path: Path, real_bench: Callable[..., str], own_share: float, accepted: bool
) -> None:
    """The limit is what is left of the plan, and a share of the 3 J/cm^2 that the earlier part gave."""
    request = RunRequest(procedure="fluence-sweep", bench=real_bench(), out=str(tmp_path / "runs"))
    first = prepare(request)
    assert first.sample is not None
    left = first.plan()
    limit = left.dose_j_cm2 + 3.0 * own_share
    bench = real_bench(('dose_per_spot = "200 J/cm^2"', f'dose_per_spot = "{limit} J/cm^2"'))
    journal = tmp_path / "runs" / "2026-11-21" / "0001_a.journal"
    journal.parent.mkdir(parents=True)
    sample = first.sample.sample.name
    one = Exposure(sample, "1", "2026-11-21/0001_a", 1.7e9, 3.0, 60_000, 50.0, False)
    assert one.dose_j_cm2 == pytest.approx(3.0)
    ExposureLedger(tmp_path / "runs").write([one])
    earlier = Earlier(journal, {}, left, {}, (), frozenset(), {}, "aborted", "", 0.0, 1.7e9, 0)
    found = preflight(replace(prepare(request.model_copy(update={"bench": bench})), earlier=earlier))
    refusals = [text for text in found.refusals if "limits.dose_per_spot" in text]
    assert bool(refusals) is not accepted
    assert all("has received 3 J/cm^2 (3 of it in the earlier part of this run)" in text for text in refusals)


@pytest.mark.parametrize(("temperature", "refused"), [("149 degC", False), ("151 degC", True)])
def test_the_limit_of_the_heating_stage_is_held_before_anything_is_opened(
    tmp_path: Path, temperature: str, refused: bool
) -> None:
    found = check(tmp_path, "simulated-stability", "thermal-stability", temperature=temperature)
    told = [text for text in found.refusals if "limits.roles.heating_stage.temperature" in text]
    assert bool(told) is refused
    assert found.refusals == tuple(told)
    limited = [entry for entry in found.quantities if entry.limited_by == "limits.roles.heating_stage.temperature"]
    assert {entry.stage for entry in limited} == {"heat-up", "hot"}
    assert {entry.limit for entry in limited} == {150.0}


def test_both_limits_of_a_cryostat_are_held() -> None:
    bench = load_bench("simulated-cryostat")
    for low_c, high_c, refused in ((-263.0, 27.0, False), (-270.0, 27.0, True), (-263.0, 60.0, True)):
        stage = Stage("series", "points", 2, 1.0, bounds={"heating_stage.temperature_c": (low_c, high_c)})
        (found,) = set_quantities(Plan((stage,)), bench)
        assert bool(found.refusal) is refused
        assert found.limited_by == "limits.roles.heating_stage.temperature"
        assert found.margin is None, "a share of a temperature in degC means nothing"
