"""What a campaign has done: a file of JSON lines beside its runs, each synced before the queue goes on.

Each line has an ``event``: ``queue`` when the campaign begins and ``resumed`` when it goes on; ``begun``, ``named``
(the run has a file), ``ended``, ``skipped`` and ``passed`` (the queue goes on beyond it) for its runs; ``waiting`` and
``over`` for the queue. Lines are only ever added; a campaign that is begun anew writes another ``queue`` and counts
from there. The last line may be torn, by a power failure say: nobody acted on it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labctl.clock import RealClock
from labctl.errors import InputError, StorageError
from labctl.run.dependencies import Resolved, compact_results
from labctl.run.queue_history import MAX_BYTES, SUFFIX, History, Round, take_lines, unreadable
from labctl.store.durable import sync_directory
from labctl.store.ownership import OwnerLock, is_owned, owner_of

_MOST_WARNINGS = 20


class QueueState:
    """The state file of a campaign in a folder of runs. Use it with ``with``: it is locked meanwhile.

    :param folder: The folder of the runs; made when missing.
    :param stem: The name of the campaign's file without suffix.
    :raises StorageError: the folder cannot be written.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self.path = folder / f"{stem}{SUFFIX}"
        self.history = History()
        self.clock_s: Callable[[], float | None] = lambda: None
        """Gets the time of a virtual campaign, which every line then has."""
        self._lock = OwnerLock(lock_of(self.path))

    @property
    def round(self) -> Round | None:
        """Get the present round; None if the campaign was never begun."""
        return self.history.round

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
        """Begin the campaign anew; what was done before counts no more.

        :param options: ``campaign``, ``file``, ``runs``, ``seed``, ``virtual_time``, and ``plan``, what there is to do.
        """
        self._append({"event": "queue", **options})

    def resumed(self, plan: Sequence[dict[str, Any]]) -> None:
        """Note that the campaign goes on, and what there is to do by the file as it is now, if that is another."""
        same = self.round is not None and self.round.plan == list(plan)
        self._append({"event": "resumed", **({} if same else {"plan": list(plan)})})

    def begun(
        self, number: int, request: dict[str, Any], asked: dict[str, Any], resolved: Sequence[Resolved] = ()
    ) -> None:
        """Note that a run begins: with which request, what the file asks for, and what was taken from earlier runs."""
        entry = {"event": "begun", "number": number, "request": request, "asked": asked}
        taken = [{"parameter": one.parameter, "value": one.value, "origin": dict(one.origin)} for one in resolved]
        self._append({**entry, **({"resolved": taken} if taken else {})})

    def named(self, number: int, run: str) -> None:
        """Note where the file of a run is."""
        self._append({"event": "named", "number": number, "run": run})

    def ended(self, number: int, outcome: dict[str, Any], due_s: float | None = None) -> None:
        """Note how a run ended: what its outcome says that is needed later.

        :param due_s: Unix time of its next point, if it waits for that.
        """
        entry = {key: outcome.get(key) for key in ("run", "status", "safe_state", "exit")}
        kept = {key: outcome[key] for key in ("points", "files", "simulated") if outcome.get(key)}
        if results := compact_results(outcome.get("result")):
            kept["result"] = results
        if warnings := list(outcome.get("warnings") or []):
            kept["warnings"] = warnings[:_MOST_WARNINGS]
        if outcome.get("error"):
            kept["error"] = str(outcome["error"].get("what", ""))
        due = {} if due_s is None else {"due_s": due_s}
        self._append({"event": "ended", "number": number, **entry, **due, "kept": kept})

    def skipped(self, number: int, why: str) -> None:
        """Note that a run is not begun at all, and why."""
        self._append({"event": "skipped", "number": number, "why": why})

    def waiting(self, until_s: float, why: str, number: int) -> None:
        """Note until when the queue waits before it goes on with a run, and why."""
        self._append({"event": "waiting", "until_s": until_s, "why": why, "number": number})

    def over(self, status: str, todo: str, report: str) -> None:
        """Note that the queue has ended, and how."""
        self._append({"event": "over", "status": status, "todo": todo, "report": report})

    def passed(self, number: int) -> None:
        """Note that the queue goes on beyond a run that did not finish."""
        self._append({"event": "passed", "number": number})

    def made_safe(self, state: str) -> None:
        """Note that the bench, left unconfirmed, was made safe afterwards."""
        self._append({"event": "made_safe", "state": state})

    def _append(self, entry: dict[str, Any]) -> None:
        """Write one line and wait until it is on the disk."""
        entry = {**entry, "at": datetime.fromtimestamp(RealClock().wall(), UTC).isoformat(timespec="milliseconds")}
        if (clock_s := self.clock_s()) is not None:
            entry["clock_s"] = clock_s
        line = json.dumps(entry, default=str).encode() + b"\n"
        with _storing(self.path, "the queue has ended; the runs themselves are kept"):
            new = not self.path.exists()
            with self.path.open("ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            if new:
                sync_directory(self.path.parent)
        self.history.take(entry)

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
            raise unreadable(self.path, None, f"more than {MAX_BYTES} bytes")
        self.history = take_lines(content[:whole], self.path)


def lock_of(path: Path) -> Path:
    """Get the file whose lock tells that a campaign is at work, given its state file."""
    return path.with_name(f".{path.name.removesuffix(SUFFIX)}.campaign.lock")


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
