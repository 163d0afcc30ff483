from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.report.summary import Summary, summarise
from labctl.store.results import add_note, add_result
from labctl.store.run import open_run
from labctl.store.source import Event

Make = Callable[..., Path]


def summary(path: Path) -> Summary:
    with open_run(path) as run:
        return summarise(run)


def test_a_finished_run(make_sweep: Make) -> None:
    found = summary(make_sweep())
    assert found.headline is not None
    assert found.headline.unit == "µJ/cm²"
    assert 20 < float(found.headline.value) < 30
    assert found.headline.ci68
    assert found.headline.ci95
    assert found.systematic == "±1 %"
    assert found.convention == "knee of ln I against ln F · incident fluence, peak of the Gaussian spot"
    assert (found.status.level, found.safe.level) == ("good", "good")
    assert found.photodamage is not None
    assert found.photodamage.level == "good"
    assert {reading.label for reading in found.definitions} >= {"ASE = PL", "Width: half-way", "Zero net gain"}
    assert {reading.label for reading in found.results} >= {"ASE peak", "Q, as measured", "Q, spectrograph removed"}
    assert dict(found.course)["Points measured"] == "38 of 38 planned"
    assert dict(found.course)["Duration"] == "3 min 10 s"
    assert dict(found.course)["Dose on the spot"].endswith("J/cm²")
    assert "0123456789abcdef, UNCOMMITTED CHANGES: 1 lines" in dict(found.provenance)["git commit"]
    assert "pyvisa" not in dict(found.provenance)["Versions"]
    assert len(dict(found.provenance)["SHA-256 of the fitted data"]) == 64
    assert dict(found.sample_table) == {
        "spot": "1",
        "name": "film-7",
        "material": "CdSe/CdS@ZnO",
        "expected threshold": "28.0 µJ/cm²",
        "excitation: cross section": "2.6e-14 cm²",
    }
    assert [name for name, _ in found.files] == ["bench file", "calibration: attenuator"]
    assert found.instruments[0][0] == "shutter"
    assert dict(found.parameters)["fluences"] == "not given"


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({"status": "aborted"}, "bad", "aborted: ended on request"),
        ({"status": "failed"}, "bad", "failed: ended by a fault"),
        ({"status": None}, "bad", "crashed: its program died"),
    ],
)
def test_a_run_that_did_not_finish_says_so(make_sweep: Make, changes: dict[str, Any], level: str, words: str) -> None:
    found = summary(make_sweep(**changes))
    assert found.status.level == level
    assert found.status.text.startswith(words)


def test_an_incident_is_told_in_full(make_sweep: Make) -> None:
    (incident,) = summary(make_sweep(status="aborted")).incidents
    assert "the run was stopped on request; where: SIGINT; reason: SIGINT" in incident


def test_a_gap_is_told_apart_from_incidents() -> None:
    event = Event(1, "resumed", 10.0, 1.795e9, {"gap_s": 3600.0, "status": "crashed", "cause": "killed"})
    header = {"procedure": "uv-stability", "run": "0001"}
    run = SimpleNamespace(
        header=header,
        path=Path("0001.h5"),
        results=[],
        notes=[],
        simulated=True,
        status="finished",
        streams={},
        default_stream="points",
        count=lambda stream=None: 0,
        points_planned=None,
        events=lambda kind=None: [event] if kind in (None, "resumed") else [],
    )
    found = summarise(run)  # pyright: ignore[reportArgumentType]
    assert found.incidents == ()
    assert found.gaps[0].endswith("resumed after 3600 s, the run having crashed: killed")


def test_an_unconfirmed_safe_state_names_its_steps(make_sweep: Make) -> None:
    found = summary(make_sweep(safe=False))
    assert (found.safe.level, found.safe.text) == ("bad", "UNCONFIRMED: shutter: close shutter")
    assert [step.confirmed for step in found.safe_steps] == [False]


def test_a_run_without_word_of_its_safe_state_is_not_called_safe(make_sweep: Make) -> None:
    found = summary(make_sweep(status=None, safe=None))
    assert (found.safe.level, found.safe.text) == ("bad", "not recorded in this run")


def test_a_sweep_without_threshold_gives_the_reason(make_sweep: Make) -> None:
    found = summary(make_sweep(saturated_above=0.0))
    assert found.headline is None
    assert "0 usable fluences" in found.no_headline


def test_a_failed_analysis_gives_its_warning(make_sweep: Make) -> None:
    found = summary(make_sweep(result={"result": {}, "warnings": ["no threshold in range: too flat"]}))
    assert found.no_headline == "no threshold in range: too flat"
    assert found.warnings == ("no threshold in range: too flat",)


def test_a_laser_in_words(make_sweep: Make, lasing_result: dict[str, Any]) -> None:
    found = summary(make_sweep(result=lasing_result))
    assert found.headline is not None
    assert (found.headline.label, found.headline.value, found.headline.unit) == ("Lasing threshold", "25.20", "mJ/cm²")
    assert found.convention.startswith("lasing threshold of the S-curve · incident fluence, energy over")
    fit = dict(found.fit)
    assert fit["Definition"] == "lasing threshold of the S-curve" and fit["Share past the mode, far below"] == "0.9500"
    assert fit["Data used"].endswith("mJ/cm²")
    others = {reading.label: reading for reading in found.results}
    assert others["Threshold, peak gauss"].unit == "mJ/cm²"
    assert others["Threshold, peak gauss"].meaning == "axes read as 1/e² diameters"
    assert "Threshold, rect axes product" not in others, "that one is the headline"
    assert {"Spacing of the modes", "Excitons at a time, long pulse"} <= set(others)
    assert [reading.label for reading in found.definitions] == ["Log-log knee"]


def test_a_run_that_was_not_analysed_says_how_to(make_sweep: Make) -> None:
    assert "labctl analyse" in summary(make_sweep(analysed=False)).no_headline


def test_the_newest_analysis_counts(make_sweep: Make) -> None:
    path = make_sweep()
    add_result(path, "fluence-sweep", {"result": {"threshold": {"value": 3.3, "unit": "uJ/cm^2"}}})
    add_result(path, "another", {"result": {"threshold": {"value": 9.9, "unit": "uJ/cm^2"}}})
    found = summary(path)
    assert found.headline is not None
    assert found.headline.value == "3.300"


@pytest.mark.parametrize(
    ("photodamage", "level", "word"),
    [
        ({"ratio": {"value": 0.9, "ci95": [0.88, 0.92]}, "damaged": True, "conclusive": True}, "bad", "fresh spot"),
        (
            {"ratio": {"value": 0.99, "ci95": [0.9, 1.1]}, "damaged": False, "conclusive": False},
            "unknown",
            "inconclusive",
        ),
        ({"ratio": None, "damaged": False, "reason": "no return"}, "unknown", "no return"),
        ({}, "unknown", "not checked"),
    ],
)
def test_photodamage_in_words(make_sweep: Make, photodamage: dict[str, Any], level: str, word: str) -> None:
    verdict = summary(make_sweep(stages=(), result={"photodamage": photodamage})).photodamage
    assert verdict is not None
    assert verdict.level == level
    assert word in verdict.text


def test_notes_and_units_of_parameters_are_shown(make_sweep: Make) -> None:
    path = make_sweep(stages=(), header={"parameter_units": {"expected_threshold": "uJ/cm^2"}})
    add_note(path, "the lamp\nwas on")
    found = summary(path)
    assert found.notes[0][1] == "the lamp\nwas on"
    assert dict(found.parameters)["expected threshold"] == "28 µJ/cm²"


def test_a_bare_header_is_enough(make_sweep: Make) -> None:
    nothing = dict.fromkeys(("parameters", "bench", "sample", "plan", "provenance"))
    found = summary(make_sweep(stages=(), header=nothing))
    assert found.sample == "no sample named"
    assert dict(found.provenance)["git commit"] == "not run from a git checkout"
