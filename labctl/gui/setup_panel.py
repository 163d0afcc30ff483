"""The panel on the left: choose procedure, bench, sample and parameters; check; start."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from labctl.config.locate import list_shipped
from labctl.errors import LabctlError
from labctl.gui.command import LabctlCommand, as_typed
from labctl.gui.fields import CalmCombo
from labctl.gui.form import ParameterForm
from labctl.gui.label import words
from labctl.gui.preflight_text import verdict_of
from labctl.gui.qt import Qt, QtWidgets, Signal
from labctl.run.request import PROCEDURES

_BENCH_DEFAULT = "the bench's own"
_FIRST = "fluence-sweep"
_WIDTH_PX = 372


class SetupPanel(QtWidgets.QFrame):
    """Makes the command line of a run, has it checked by ``labctl plan`` and started by ``labctl run --detach``.

    :param bench: Bench to begin with.
    """

    started = Signal(str)
    """Path of a run that has begun."""
    said = Signal(str)
    """A line for the log."""
    folder_changed = Signal(str)

    def __init__(self, bench: str) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.setFixedWidth(_WIDTH_PX)
        self.procedure, self.bench, self.sample = CalmCombo(), CalmCombo(), CalmCombo()
        self.out, self.seed, self.spot = (QtWidgets.QLineEdit(text) for text in ("runs", "0", "1"))
        self.virtual = QtWidgets.QCheckBox("do not wait (simulated only)")
        self.form = ParameterForm()
        self.headline, self.findings = words(role="heading"), words()
        self.findings.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.check = QtWidgets.QPushButton("Check")
        self.start = QtWidgets.QPushButton("Start")
        self.start.setObjectName("start")
        self.copy = QtWidgets.QPushButton("Copy command")
        self.copy.setObjectName("flat")
        self.checker, self.starter = LabctlCommand(), LabctlCommand()
        self._accepted: list[str] | None = None
        self._held = ""
        self._fill(bench)
        self._lay_out()
        self._connect()
        self._choose_procedure()

    def _fill(self, bench: str) -> None:
        self.procedure.addItems(sorted({entry.name for entry in entry_points(group=PROCEDURES)}))
        self.procedure.setCurrentText(_FIRST)
        for combo, kind in ((self.bench, "benches"), (self.sample, "samples")):
            combo.setEditable(True)
            combo.setInsertPolicy(QtWidgets.QComboBox.InsertPolicy.NoInsert)
            combo.addItems([_BENCH_DEFAULT] if kind == "samples" else [])
            combo.addItems(list_shipped(kind))
            combo.setToolTip(f"One of the shipped {kind}, or the path of a TOML file")
        for combo in (self.procedure, self.bench, self.sample):
            combo.setSizeAdjustPolicy(QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            combo.setMinimumContentsLength(12)
            combo.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self.bench.setCurrentText(bench)
        self.out.setToolTip("Folder for runs; nothing is ever overwritten. Runs that go on are looked for here.")
        self.seed.setToolTip("Seed of a simulated laboratory: the same seed gives the same data")
        self.spot.setToolTip("Name of the spot on the sample, for the exposure ledger")

    def _lay_out(self) -> None:
        choices = QtWidgets.QFormLayout()
        choices.setFieldGrowthPolicy(QtWidgets.QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        choices.setVerticalSpacing(4)
        for title, widget in (
            ("Procedure", self.procedure),
            ("Bench", self.bench),
            ("Sample", self.sample),
            ("Output folder", self.out),
        ):
            choices.addRow(title, widget)
        small = QtWidgets.QHBoxLayout()
        small.addWidget(self.spot)
        small.addSpacing(8)
        small.addWidget(QtWidgets.QLabel("Seed"))
        small.addSpacing(4)
        small.addWidget(self.seed)
        choices.addRow("Spot", small)
        choices.addRow("Virtual time", self.virtual)
        heading = QtWidgets.QLabel("New run")
        heading.setProperty("role", "heading")
        top = QtWidgets.QHBoxLayout()
        top.addWidget(heading, 1)
        top.addWidget(self.copy)
        area = _scrolled(self.form)
        findings = QtWidgets.QWidget()
        findings.setObjectName("clear")
        inner = QtWidgets.QVBoxLayout(findings)
        inner.setContentsMargins(0, 0, 6, 0)
        inner.addWidget(self.headline)
        inner.addWidget(self.findings)
        inner.addStretch(1)
        self.found_area = _scrolled(findings)
        self.found_area.setFixedHeight(126)
        buttons = QtWidgets.QHBoxLayout()
        buttons.addWidget(self.check, 1)
        buttons.addWidget(self.start, 1)
        rows = QtWidgets.QVBoxLayout(self)
        rows.setContentsMargins(12, 8, 8, 10)
        rows.setSpacing(6)
        rows.addLayout(top)
        rows.addLayout(choices)
        rows.addWidget(_rule())
        rows.addWidget(area, 1)
        rows.addWidget(_rule())
        rows.addWidget(self.found_area)
        rows.addLayout(buttons)

    def _connect(self) -> None:
        self.procedure.currentTextChanged.connect(self._choose_procedure)
        for combo in (self.bench, self.sample):
            combo.currentTextChanged.connect(self._edited)
        for line in (self.out, self.seed, self.spot):
            line.textChanged.connect(self._edited)
        self.out.editingFinished.connect(lambda: self.folder_changed.emit(self.out.text().strip() or "runs"))
        self.virtual.toggled.connect(self._edited)
        self.form.changed.connect(self._edited)
        self.check.clicked.connect(self.begin_check)
        self.start.clicked.connect(self.begin_run)
        self.copy.clicked.connect(self._copy)
        self.checker.finished.connect(self._checked)
        self.starter.finished.connect(self._began)

    def hold(self, reason: str) -> None:
        """Allow no start while there is a reason against it; empty text allows it again."""
        if reason != self._held:
            self._held = reason
            self._refresh()

    def arguments(self) -> list[str]:
        """Get what stands behind ``labctl run``."""
        sample = self.sample.currentText().strip()
        found = [self.procedure.currentText(), "--bench", self.bench.currentText().strip()]
        if sample and sample != _BENCH_DEFAULT:
            found += ["--sample", sample]
        found += ["--out", self.out.text().strip() or "runs", "--spot", self.spot.text().strip() or "1"]
        return found + [f"--set={name}={text}" for name, text in self.form.settings().items()]

    def run_arguments(self) -> list[str]:
        """Get the whole command line of the run."""
        virtual = ["--virtual-time"] if self.virtual.isChecked() else []
        return ["run", *self.arguments(), "--seed", self.seed.text().strip() or "0", *virtual, "--detach"]

    def begin_check(self) -> None:
        """Have the run checked, in a process of its own; nothing is opened."""
        if faults := self._faults():
            self._say("✕ not checked: correct the marked fields", faults)
            return
        self._accepted = None
        self._say("… checking", [])
        self.checker.start(["plan", *self.arguments()])
        self._refresh()

    def begin_run(self) -> None:
        """Start the run that was checked."""
        if self._accepted != self.run_arguments() or self._held or self.starter.running:
            return
        self._say("… starting", [])
        self.said.emit(as_typed(self.run_arguments()))
        self.starter.start(self.run_arguments())
        self._refresh()

    def _faults(self) -> list[str]:
        faults = [f"{name}: {text}" for name, text in self.form.faults().items()]
        seed = self.seed.text().strip() or "0"
        if not (seed.isascii() and seed.isdigit()):
            faults.append("seed: a whole number from 0")
        return faults

    def _choose_procedure(self, *_: object) -> None:
        try:
            self.form.show_procedure(self.procedure.currentText())
        except LabctlError as error:
            self._accepted = None
            self._say("✕ the procedure cannot be loaded", [error.what, error.todo])
            self._refresh()
            return
        self._edited()

    def _edited(self, *_: object) -> None:
        """What was checked is not what stands there any more."""
        self._accepted = None
        self.checker.drop()
        self._say("not checked yet", ["Check tells points, duration, light and dose; nothing is opened."])
        self._refresh()

    def _checked(self, answer: Mapping[str, Any]) -> None:
        found = verdict_of(answer)
        error = answer.get("error")
        problems = list(error.get("problems", ())) if isinstance(error, Mapping) else []
        others = self.form.show_problems(problems)
        if problems:
            text = [f"{p.get('key')}: found {p.get('found')}; allowed: {p.get('allowed')}" for p in others]
            self._say(found.headline, text or ["correct the marked fields"])
        else:
            self._say(found.headline, list(found.lines))
        self._accepted = self.run_arguments() if found.accepted else None
        self._refresh()

    def _began(self, answer: Mapping[str, Any]) -> None:
        self._accepted = None
        if answer.get("error") or not answer.get("run"):
            found = verdict_of({"error": answer.get("error") or {"what": "the run did not begin"}})
            self._say("✕ the run did not begin", list(found.lines))
            self.said.emit(f"the run did not begin: {found.lines[0]}")
        else:
            self._say("✓ started", [_short(str(answer["run"]))])
            self.started.emit(str(answer["run"]))
        self._refresh()

    def _refresh(self) -> None:
        busy = self.checker.running or self.starter.running
        self.check.setEnabled(not busy)
        self.start.setEnabled(self._accepted is not None and not busy and not self._held)
        self.start.setToolTip(self._held or ("" if self._accepted is not None else "check first"))

    def _say(self, headline: str, lines: list[str]) -> None:
        self.headline.setText(headline)
        self.headline.setProperty("role", "error" if headline.startswith("✕") else "heading")
        style = self.headline.style()
        if style is not None:
            style.unpolish(self.headline)
            style.polish(self.headline)
        self.findings.setText("\n".join(line for line in lines if line))

    def _copy(self) -> None:
        clipboard = QtWidgets.QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(as_typed(self.run_arguments()))
            self.said.emit(f"copied: {as_typed(self.run_arguments())}")

    def close_commands(self) -> None:
        """End what is at work; a run that has begun goes on."""
        self.checker.drop()
        self.starter.drop()


def _short(path: str) -> str:
    """Write a path as seen from the working directory, where it lies in there."""
    return str(Path(path).relative_to(Path.cwd())) if Path(path).is_relative_to(Path.cwd()) else path


def _scrolled(widget: QtWidgets.QWidget) -> QtWidgets.QScrollArea:
    area = QtWidgets.QScrollArea()
    area.setWidget(widget)
    area.setWidgetResizable(True)
    area.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    return area


def _rule() -> QtWidgets.QFrame:
    rule = QtWidgets.QFrame()
    rule.setFrameShape(QtWidgets.QFrame.Shape.HLine)
    rule.setFixedHeight(1)
    rule.setStyleSheet("color: rgba(128, 128, 128, 90);")
    return rule
