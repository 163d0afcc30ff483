"""What the state file of a campaign tells: its rounds, and how far each run is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from labctl.errors import InputError, StorageError

MAX_BYTES = 100_000_000
SUFFIX = ".campaign.jsonl"


@dataclass
class RunState:
    """How far one run of the queue is.

    :param request: What it was begun with, as data.
    :param asked: What the file asked for then, as data; empty if that is the request.
    :param resolved: Its parameters that were taken from earlier runs, as data of :class:`Resolved`.
    :param attempts: How often it was begun, its turns in a group not counted.
    :param run: Path of its file, as soon as it has one.
    :param status: How it ended: ``finished``, ``aborted``, ``failed``, ``crashed``, ``refused``, ``waiting`` (for its
        next point), ``skipped``; empty before that.
    :param passed: Whether the queue went on beyond it though it did not finish.
    :param due_s: Unix time of its next point, while it waits.
    :param why: Why it was skipped.
    :param kept: ``result``, ``points``, ``files``, ``warnings``, ``error``, ``simulated`` of its last outcome.
    :param failures: What its attempts failed by: ``at`` and ``what``.
    """

    request: dict[str, Any]
    asked: dict[str, Any] = field(default_factory=dict)
    resolved: list[dict[str, Any]] = field(default_factory=list)
    attempts: int = 0
    run: str = ""
    status: str = ""
    safe_state: str = ""
    exit: int | None = None
    passed: bool = False
    due_s: float | None = None
    why: str = ""
    kept: dict[str, Any] = field(default_factory=dict)
    failures: list[dict[str, str]] = field(default_factory=list)
    began: str = ""
    """ISO time of its first attempt; the next one that of its end."""
    ended: str = ""
    ended_s: float | None = None
    """Its end by the clock of the campaign, as Unix time."""

    @property
    def done(self) -> bool:
        """Get whether nothing of it is left to do: it was measured, or passed over."""
        return self.status == "finished" or self.passed

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """Get what it has measured, by name."""
        found = self.kept.get("result")
        return dict(found) if isinstance(found, Mapping) else {}


@dataclass
class Round:
    """One time that the campaign was begun: its options, and its runs by number.

    :param began: ISO time.
    :param plan: Number, name, procedure and sample of every run, as data.
    :param clock_s: The time of a virtual campaign, as Unix time, and when it began; None in real time.
    :param waiting: ``until_s``, ``why`` and ``number`` while the queue waits; empty while it does not.
    :param over: ``status``, ``todo``, ``report`` once the queue has ended; empty while it goes, or when it was killed.
    :param resumed: ISO times at which it was resumed.
    """

    options: dict[str, Any]
    runs: dict[int, RunState] = field(default_factory=dict)
    unconfirmed: bool = False
    """Whether the last run left the bench in a state that nobody has confirmed."""
    began: str = ""
    last: str = ""
    plan: list[dict[str, Any]] = field(default_factory=list)
    clock_s: float | None = None
    clock_began_s: float | None = None
    waiting: dict[str, Any] = field(default_factory=dict)
    over: dict[str, Any] = field(default_factory=dict)
    resumed: list[str] = field(default_factory=list)


class History:
    """The rounds of a campaign, built line by line."""

    def __init__(self) -> None:
        self.rounds: list[Round] = []

    @property
    def round(self) -> Round | None:
        """Get the present round; None if the campaign was never begun."""
        return self.rounds[-1] if self.rounds else None

    def take(self, entry: dict[str, Any]) -> None:
        """Take one line; raises ValueError, KeyError, TypeError or AttributeError for nonsense."""
        event, at = entry["event"], str(entry.get("at", ""))
        if event == "queue":
            told = ("event", "at", "plan", "clock_s")
            options = {key: value for key, value in entry.items() if key not in told}
            self.rounds.append(Round(options, began=at, plan=list(entry.get("plan", []))))
        if self.round is None:
            raise ValueError("a run before the queue has begun")
        self.round.last = at
        if entry.get("clock_s") is not None:
            self.round.clock_s = float(entry["clock_s"])
            self.round.clock_began_s = self.round.clock_began_s or self.round.clock_s
        if event in _OF_THE_QUEUE:
            _OF_THE_QUEUE[event](self.round, entry, at)
        elif event in _OF_A_RUN:
            self.round.waiting = {}
            if event in ("begun", "skipped"):
                state = self.round.runs.setdefault(int(entry["number"]), RunState({}))
            else:
                state = self.round.runs[int(entry["number"])]
            _OF_A_RUN[event](self.round, state, entry, at)
        else:
            raise ValueError(f"{event!r} is nothing that a campaign does")


def _queue(_round: Round, _entry: dict[str, Any], _at: str) -> None:
    """Nothing more: a new round was begun."""


def _resumed(round_: Round, entry: dict[str, Any], at: str) -> None:
    round_.resumed.append(at)
    round_.plan = list(entry.get("plan") or round_.plan)
    round_.over, round_.waiting = {}, {}


def _waiting(round_: Round, entry: dict[str, Any], _at: str) -> None:
    until_s, why, number = float(entry["until_s"]), str(entry["why"]), int(entry["number"])
    round_.waiting = {"until_s": until_s, "why": why, "number": number}


def _over(round_: Round, entry: dict[str, Any], at: str) -> None:
    round_.over = {key: str(entry.get(key) or "") for key in ("status", "todo", "report")} | {"at": at}
    round_.waiting = {}


def _made_safe(round_: Round, entry: dict[str, Any], _at: str) -> None:
    round_.unconfirmed = entry["state"] == "unconfirmed"


def _begun(_round: Round, state: RunState, entry: dict[str, Any], at: str) -> None:
    # Who waited for the next point goes on with the same attempt.
    state.request, state.attempts = dict(entry["request"]), state.attempts + (state.status != "waiting")
    state.asked = dict(entry.get("asked") or {})
    state.resolved = [dict(one) for one in entry.get("resolved") or []]
    state.run = str(state.request.get("resume") or "")
    state.status, state.safe_state, state.exit, state.due_s = "", "", None, None
    state.began = state.began or at


def _named(_round: Round, state: RunState, entry: dict[str, Any], _at: str) -> None:
    state.run = str(entry["run"])


def _ended(round_: Round, state: RunState, entry: dict[str, Any], at: str) -> None:
    state.run = str(entry["run"] or state.run)
    state.status, state.safe_state = str(entry["status"]), str(entry["safe_state"])
    state.exit = int(entry["exit"])
    state.due_s = float(entry["due_s"]) if entry.get("due_s") is not None else None
    state.kept = dict(entry.get("kept") or {})
    state.ended, state.ended_s = at, _moment_s(entry, at)
    if state.status not in ("finished", "waiting"):
        state.failures.append({"at": at, "what": str(state.kept.get("error") or state.status)})
    round_.unconfirmed = state.exit == 4


def _passed(_round: Round, state: RunState, _entry: dict[str, Any], _at: str) -> None:
    state.passed = True


def _skipped(_round: Round, state: RunState, entry: dict[str, Any], at: str) -> None:
    state.status, state.why, state.passed = "skipped", str(entry["why"]), True
    state.ended, state.ended_s = at, _moment_s(entry, at)


def _moment_s(entry: dict[str, Any], at: str) -> float | None:
    if entry.get("clock_s") is not None:
        return float(entry["clock_s"])
    return datetime.fromisoformat(at).timestamp() if at else None


_OF_THE_QUEUE = {
    "queue": _queue,
    "resumed": _resumed,
    "waiting": _waiting,
    "over": _over,
    "made_safe": _made_safe,
}
_OF_A_RUN = {"begun": _begun, "named": _named, "ended": _ended, "passed": _passed, "skipped": _skipped}


def take_lines(content: bytes, path: Path) -> History:
    """Read the whole lines of a state file.

    :raises InputError: a line says nonsense.
    """
    history = History()
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            history.take(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise unreadable(path, number, f"{type(error).__name__}: {error}") from error
    return history


def read_history(path: Path) -> History:
    """Read a state file beside whoever writes it; a last line that is not whole yet is left out.

    :raises StorageError: there is no such file, or it cannot be read.
    :raises InputError: it says nonsense.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise StorageError(f"the state of the campaign cannot be read: {error.strerror}", where=str(path)) from error
    if len(content) > MAX_BYTES:
        raise unreadable(path, None, f"more than {MAX_BYTES} bytes")
    return take_lines(content[: content.rfind(b"\n") + 1], path)


def unreadable(path: Path, line: int | None, why: str) -> InputError:
    """Make the error for a state file that says nonsense."""
    return InputError(
        f"what the campaign has done cannot be read: {why}",
        where=f"{path}:{line}" if line else str(path),
        state="nothing was started; the runs are not touched",
        todo="move that file away and begin anew, or name another folder with --out",
    )
