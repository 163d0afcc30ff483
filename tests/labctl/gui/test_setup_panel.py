"""Choosing, checking, starting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labctl.errors import InputError
from labctl.gui.command import LabctlCommand
from labctl.gui.setup_panel import SetupPanel

from .conftest import until

PLAN = {
    "max_points": 25,
    "duration_s": 60.0,
    "start_up_s": 0.0,
    "open_s": 0.0,
    "dose_j_cm2": 0.0,
    "bounds": {},
}
ACCEPTED = {"plan": PLAN, "refusals": [], "warnings": [], "disk_need_mb": 1.0, "disk_free_mb": 1000.0}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would be run."""
    commands: list[list[str]] = []
    monkeypatch.setattr(LabctlCommand, "start", lambda self, arguments: commands.append(list(arguments)))
    return commands


@pytest.fixture
def panel(app, asked: list[list[str]]) -> Iterator[SetupPanel]:
    made = SetupPanel("simulated")
    made.procedure.setCurrentText("attenuator-calibration")
    yield made
    made.close_commands()
    made.deleteLater()


def test_the_command_is_that_of_the_terminal(panel: SetupPanel) -> None:
    panel.sample.setCurrentText("my film.toml")
    panel.out.setText("data")
    panel.seed.setText("7")
    panel.virtual.setChecked(True)
    panel.form.fields["points"].set_text("30")
    common = [
        "attenuator-calibration",
        "--bench",
        "simulated",
        "--sample",
        "my film.toml",
        "--out",
        "data",
        "--spot",
        "1",
    ]
    assert panel.arguments() == [*common, "--set=points=30"]
    assert panel.run_arguments() == [
        "run",
        *common,
        "--set=points=30",
        "--seed",
        "7",
        "--virtual-time",
        "--detach",
    ]


def test_nothing_starts_that_was_not_checked(panel: SetupPanel, asked: list[list[str]]) -> None:
    assert not panel.start.isEnabled()
    panel.begin_run()
    assert asked == []
    panel.begin_check()
    assert asked == [["plan", *panel.arguments()]]
    panel.checker.finished.emit(ACCEPTED)
    assert panel.start.isEnabled() and panel.headline.text() == "✓ may start"
    panel.start.click()
    assert asked[1:] == [panel.run_arguments()]


@pytest.mark.parametrize("what", ["parameter", "seed", "bench", "virtual", "procedure"])
def test_a_change_after_the_check_needs_another(panel: SetupPanel, what: str) -> None:
    panel.checker.finished.emit(ACCEPTED)
    assert panel.start.isEnabled()
    if what == "parameter":
        panel.form.fields["points"].set_text("31")
    elif what == "seed":
        panel.seed.setText("1")
    elif what == "bench":
        panel.bench.setCurrentText("other.toml")
    elif what == "virtual":
        panel.virtual.toggle()
    else:
        panel.procedure.setCurrentIndex(1 - panel.procedure.currentIndex())
    assert not panel.start.isEnabled() and panel.headline.text() == "not checked yet"


@pytest.mark.parametrize(("name", "text"), [("points", "2"), ("seed", "-1"), ("seed", "x")])
def test_a_fault_is_not_sent_to_be_checked(panel: SetupPanel, asked: list[list[str]], name: str, text: str) -> None:
    if name == "seed":
        panel.seed.setText(text)
    else:
        panel.form.fields[name].set_text(text)
    panel.begin_check()
    assert asked == [] and panel.headline.text().startswith("✕ not checked")
    assert name in panel.findings.text()


def test_a_refusal_is_shown_and_keeps_the_run_from_starting(panel: SetupPanel) -> None:
    panel.checker.finished.emit({**ACCEPTED, "refusals": ["the dose is too high"], "warnings": ["be quick"]})
    assert not panel.start.isEnabled()
    assert panel.headline.text() == "✕ refused, nothing was moved"
    assert panel.findings.text().splitlines()[:2] == ["✕ the dose is too high", "▲ be quick"]


def test_problems_are_marked_in_their_fields(panel: SetupPanel) -> None:
    problems = [
        {"key": "points", "found": "2", "allowed": "more"},
        {"key": "laser", "found": "none", "allowed": "a laser"},
    ]
    panel.checker.finished.emit({"error": {"what": "2 problems in the input", "problems": problems}})
    assert "more" in panel.form.fields["points"].fault.text()
    assert panel.findings.text() == "laser: found none; allowed: a laser"


def test_a_run_that_begins_is_announced_and_one_that_does_not_says_why(panel: SetupPanel) -> None:
    begun: list[str] = []
    panel.started.connect(begun.append)
    panel.starter.finished.emit({"run": "", "status": "refused", "error": {"what": "the bench is in use"}})
    assert begun == [] and "the bench is in use" in panel.findings.text()
    panel.starter.finished.emit({"run": "runs/0001.h5", "status": "running"})
    assert begun == ["runs/0001.h5"]
    assert not panel.start.isEnabled(), "the same run is not started twice by accident"


def test_a_procedure_that_cannot_be_loaded_is_no_end(panel: SetupPanel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Any:
        raise InputError("it cannot be imported", todo="repair it")

    monkeypatch.setattr("labctl.gui.form.procedure_class", fail)
    panel._choose_procedure()
    assert panel.headline.text() == "✕ the procedure cannot be loaded"
    assert "it cannot be imported" in panel.findings.text() and not panel.start.isEnabled()


@pytest.mark.parametrize(
    ("arguments", "key"), [(["samples"], "samples"), (["no-such-command"], "error"), (["plan", "x"], "error")]
)
def test_commands_answer_in_json(app, arguments: list[str], key: str) -> None:
    command, answers = LabctlCommand(), []
    command.finished.connect(answers.append)
    command.start(arguments)
    until(lambda: answers)
    assert key in answers[0] and not command.running


def test_a_command_that_nobody_waits_for_is_ended(app) -> None:
    command, answers = LabctlCommand(), []
    command.finished.connect(answers.append)
    command.start(["drivers"])
    command.drop()
    assert not command.running and answers == []
