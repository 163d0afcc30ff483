"""What a campaign has done: a file of JSON lines beside its runs, each synced before the queue goes on.

Each line has an ``event``: ``queue`` when the campaign begins; ``begun``, ``named`` (the run has a file), ``ended`` and
``passed`` (the queue goes on beyond it) for its runs. Lines are only ever added; a campaign that is begun anew writes
another ``queue`` and counts from there. The last line may be torn, by a power failure say: nobody acted on it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labctl.clock import RealClock
from labctl.errors import InputError, StorageError
from labctl.store.durable import sync_directory
from labctl.store.ownership import OwnerLock, is_owned, owner_of

MAX_BYTES = 100_000_000


@dataclass
class RunState:
    """How far one run of the queue is.

    :param request: What it was begun with, as data.
    :param attempts: How often it was begun.
    :param run: Path of its file, as soon as it has one.
    :param status: How it ended: ``finished``, ``aborted``, ``failed``, ``crashed``, ``refused``; empty before that.
    :param passed: Whether the queue went on beyond it though it did not finish.
    """

    request: dict[str, Any]
    attempts: int = 0
    run: str = ""
    status: str = ""
    safe_state: str = ""
    exit: int | None = None
    passed: bool = False

    @property
    def done(self) -> bool:
        """Get whether nothing of it is left to do: it was measured, or passed over."""
        return self.status == "finished" or self.passed


@dataclass
class Round:
    """One time that the campaign was begun: its options, and its runs by number."""

    options: dict[str, Any]
    runs: dict[int, RunState] = field(default_factory=dict)
    unconfirmed: bool = False
    """Whether the last run left the bench in a state that nobody has confirmed."""


class QueueState:
    """The state file of a campaign in a folder of runs. Use it with ``with``: it is locked meanwhile.

    :param folder: The folder of the runs; made when missing.
    :param stem: The name of the campaign's file without suffix.
    :raises StorageError: the folder cannot be written.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self.path = folder / f"{stem}.campaign.jsonl"
        self._lock = OwnerLock(folder / f".{stem}.campaign.lock")
        self.round: Round | None = None

    def __enter__(self) -> QueueState:
        with _storing(self.path, "nothing was started"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._acquire()
        try:
            self._read()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _acquire(self) -> None:
        try:
            self._lock.acquire()
        except StorageError:
            if not is_owned(self._lock.path):
                raise
            owner = owner_of(self._lock.path) or "another process"
            raise InputError(
                f"the campaign goes on already, in {owner}",
                where=str(self.path),
                state="that one goes on; nothing was started here",
                todo="wait for it or end it, or name another folder with --out",
            ) from None

    def begin(self, **options: Any) -> None:
        """Begin the campaign anew; what was done before counts no more."""
        self._append({"event": "queue", **options})

    def begun(self, number: int, request: dict[str, Any]) -> None:
        """Note that a run begins."""
        self._append({"event": "begun", "number": number, "request": request})

    def named(self, number: int, run: str) -> None:
        """Note where the file of a run is."""
        self._append({"event": "named", "number": number, "run": run})

    def ended(self, number: int, outcome: dict[str, Any]) -> None:
        """Note how a run ended: ``run``, ``status``, ``safe_state`` and ``exit`` of its outcome."""
        kept = {key: outcome.get(key) for key in ("run", "status", "safe_state", "exit")}
        self._append({"event": "ended", "number": number, **kept})

    def passed(self, number: int) -> None:
        """Note that the queue goes on beyond a run that did not finish."""
        self._append({"event": "passed", "number": number})

    def made_safe(self, state: str) -> None:
        """Note that the bench, left unconfirmed, was made safe afterwards."""
        self._append({"event": "made_safe", "state": state})

    def _append(self, entry: dict[str, Any]) -> None:
        """Write one line and wait until it is on the disk."""
        entry = {**entry, "at": datetime.fromtimestamp(RealClock().wall(), UTC).isoformat(timespec="milliseconds")}
        line = json.dumps(entry, default=str).encode() + b"\n"
        with _storing(self.path, "the queue has ended; the runs themselves are kept"):
            new = not self.path.exists()
            with self.path.open("ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            if new:
                sync_directory(self.path.parent)
        self._take(entry)

    def _read(self) -> None:
        """Read what is there; cut off a torn last line, on which nobody acted."""
        if not self.path.exists():
            return
        with _storing(self.path, "nothing was started"), self.path.open("r+b") as file:
            content = file.read(MAX_BYTES + 1)
            whole = content.rfind(b"\n") + 1
            if whole < len(content) <= MAX_BYTES:
                file.truncate(whole)
                os.fsync(file.fileno())
        if len(content) > MAX_BYTES:
            raise self._unreadable(None, f"more than {MAX_BYTES} bytes")
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise self._unreadable(number, f"{type(error).__name__}: {error}") from error

    def _unreadable(self, line: int | None, why: str) -> InputError:
        place = f"{self.path}:{line}" if line else str(self.path)
        return InputError(
            f"what the campaign has done cannot be read: {why}",
            where=place,
            state="nothing was started; the runs are not touched",
            todo="move that file away and begin anew, or name another folder with --out",
        )

    def _take(self, entry: dict[str, Any]) -> None:
        event = entry["event"]
        if event == "queue":
            self.round = Round({key: value for key, value in entry.items() if key not in ("event", "at")})
            return
        if self.round is None:
            raise ValueError("a run before the queue has begun")
        if event == "made_safe":
            self.round.unconfirmed = entry["state"] == "unconfirmed"
            return
        number = int(entry["number"])
        if event == "begun":
            state = self.round.runs.setdefault(number, RunState({}))
            state.request, state.attempts = dict(entry["request"]), state.attempts + 1
            state.run = str(state.request.get("resume") or "")
            state.status, state.safe_state, state.exit = "", "", None
            return
        state = self.round.runs[number]
        if event == "named":
            state.run = str(entry["run"])
        elif event == "ended":
            state.run = str(entry["run"] or state.run)
            state.status, state.safe_state = str(entry["status"]), str(entry["safe_state"])
            state.exit = int(entry["exit"])
            self.round.unconfirmed = state.exit == 4
        elif event == "passed":
            state.passed = True
        else:
            raise ValueError(f"{event!r} is nothing that a campaign does")


@contextmanager
def _storing(path: Path, state: str) -> Iterator[None]:
    """Say of an error of the disk what it means for the queue."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"what the campaign has done cannot be kept: {error.strerror or error}",
            where=str(path),
            state=state,
            todo="check the folder, its rights and the free space; then `labctl campaign FILE --resume`",
        ) from error
