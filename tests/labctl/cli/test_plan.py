"""``labctl plan``: the table, the JSON, the exit code; nothing is opened or written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.cli.plan import show_plan
from labctl.cli.run import make_request
from labctl.errors import InputError
from labctl.roles import Readiness
from labctl.run import bench_state


def test_the_table_shows_bounds_and_what_will_likely_happen(labctl: Callable[..., Any], tmp_path: Path) -> None:
    said = labctl("plan", "fluence-sweep", "--bench", "simulated")
    assert said.code == 0
    for text in ("24 (≤ 24)", "rehearsed on the emulators", "45 expected, at most 45 points", "limit", "margin"):
        assert text in said.out, text
    for label in ("duration", "light", "dose", "disk", "window", "calibration", "readiness"):
        assert f"\n{label} " in said.out
    assert "ok        shutter interlock: closed" in said.out
    assert list(tmp_path.iterdir()) == []


def test_json_holds_the_bounds_and_the_expectation(labctl: Callable[..., Any], tmp_path: Path) -> None:
    found = labctl("plan", "attenuator-calibration", "--bench", "simulated", "--json").json
    expected = found["expected"]
    assert expected["source"] == "rehearsed on the emulators"
    assert expected["points"] == found["plan"]["max_points"] == 33
    assert expected["duration_s"] == pytest.approx(
        expected["start_up_s"] + expected["closing_s"] + sum(stage["duration_s"] for stage in expected["stages"])
    )
    assert 0.0 < expected["journal_mb"] < expected["files_mb"] < found["disk_need_mb"]
    assert found["refusals"] == [] and found["state"]["readiness"]
    assert found["calibrations"][0]["age_counts"] is False
    assert {"stage", "quantity", "low", "high", "limit", "margin"} <= found["quantities"][0].keys()
    assert list(tmp_path.iterdir()) == []


def test_a_refused_plan_is_shown_with_all_reasons_and_not_rehearsed(
    labctl: Callable[..., Any], bench_with: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a refused run was rehearsed")

    monkeypatch.setattr("labctl.run.forecast.forecast", never)
    bench = bench_with(
        ('dose_per_spot = "200 J/cm^2"', 'dose_per_spot = "1 J/cm^2"'),
        ('disk_reserve = "200 MB"', 'disk_reserve = "100000000 MB"'),
    )
    said = labctl("plan", "fluence-sweep", "--bench", bench)
    assert said.code == 2
    assert "limits.dose_per_spot" in said.err and "limits.disk_reserve" in said.err
    assert "plan of fluence-sweep" in said.out
    refused = labctl("plan", "fluence-sweep", "--bench", bench, "--json")
    assert refused.code == 2 and len(refused.json["refusals"]) == 2 and refused.json["expected"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.toml", "calibrations"]


def test_without_a_rehearsal_the_bound_is_shown(
    labctl: Callable[..., Any], capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    request = make_request("fluence-sweep", "simulated", [])
    assert show_plan(request, as_json=False, rehearsal=False) == 0
    assert "known from: the plan alone" in capfd.readouterr().out


def test_an_instrument_that_is_not_ready_forbids_the_run(
    labctl: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [
        bench_state.RoleReadiness("shutter", Readiness("interlock", False, "open: close the enclosure")),
        bench_state.RoleReadiness("detector", Readiness("temperature", False, "20 degC", waits=True)),
    ]
    monkeypatch.setattr(bench_state, "read_readiness", lambda bench: entries)
    said = labctl("plan", "fluence-sweep", "--bench", "simulated")
    assert said.code == 2
    assert "shutter: interlock: open: close the enclosure" in said.err
    assert "20 degC" not in said.err and "to come   detector temperature: 20 degC" in said.out


def test_an_open_interlock_of_the_laboratory_forbids_the_run(
    labctl: Callable[..., Any], bench_with: Callable[..., str]
) -> None:
    bench = bench_with(("[laboratory.meter]", "[laboratory.interlock]\nopens_at_s = 0.0\n\n[laboratory.meter]"))
    said = labctl("plan", "fluence-sweep", "--bench", bench)
    assert said.code == 2
    assert "shutter: interlock: " in said.err and "NOT READY shutter interlock" in said.out


def test_real_instruments_are_asked_only_when_they_may_be_opened(
    bench_with: Callable[..., str], capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bench = bench_with(
        ('driver = "thorlabs-sc10"\nresource = "sim:"', 'driver = "thorlabs-sc10"\nresource = "serial:/dev/none"')
    )
    request = make_request("fluence-sweep", bench, [])
    assert show_plan(request, as_json=False, rehearsal=False) == 0
    assert "not asked; `labctl plan --live`" in capfd.readouterr().out
    assert show_plan(request, as_json=True, rehearsal=False, live=True) == 2
    assert "/dev/none" in capfd.readouterr().out
    with pytest.raises(InputError, match="/dev/none"):
        show_plan(request, as_json=False, rehearsal=False, live=True)
    assert "readiness   not known: the bench could not be opened" in capfd.readouterr().out


def test_what_a_watch_ends_in_the_rehearsal_refuses_the_plan(labctl, bench_with):
    watch = '[[watch]]\nname = "bright"\nwhen = "pump.fluence > 5 uJ/cm^2"\naction = "abort"\n'
    watch += '[[watch]]\nname = "disk"\nwhen = "disk.free < 1 MB"\naction = "abort"\n\n[safe_state]'
    bench = bench_with(("[safe_state]", watch))
    said = labctl("plan", "fluence-sweep", "--bench", bench, "--set", "fluences=10 uJ/cm^2", "--json")
    assert said.code == 2
    (refusal,) = said.json["refusals"]
    assert "the rehearsal on the emulators ended after" in refusal and "bright" in refusal
    assert said.json["expected"] is None
