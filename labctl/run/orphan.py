"""What the safe-state program does when its guard is dead: wait for the end of the engine, see how it left the bench.

An engine whose guard is dead ends its run by itself and makes the bench safe. While it lives it owns the journal, which
no other process can pretend. It is given its time as long as it answers; one that hangs is killed. What it left is read
in the journal: a ``safe_state`` after its beginning means that it got so far.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labctl.clock import RealClock
from labctl.errors import StorageError
from labctl.processes import end_session
from labctl.run.endpoint import EndpointClient
from labctl.store.journal_format import lock_path
from labctl.store.naming import find_run
from labctl.store.ownership import is_owned, owner_of
from labctl.store.run import Run, open_run

log = logging.getLogger(__name__)

_LOOK_S = 0.02
_ASK_EVERY_S = 0.5
_ANSWER_S = 1.0
_TRIES = 3
_TO_SAFE_STATE_S = 120.0
"""Time an engine has from the death of its guard until it makes the bench safe."""
_TO_END_S = 2700.0
"""Time it has in all: a warm camera may be part of it."""
_GONE_S = 5.0
_RECORD_LOOK_S = 0.2
_SEALING_S = 30.0
_MAKING_SAFE = "making safe"


class Orphan:
    """An engine without a guard.

    Made while the guard lives, because only then it is certain whose name stands in the lock of the journal.

    :param run: Path of the run.
    :param endpoint: Where the engine answers fronts.
    """

    def __init__(self, run: str, endpoint: str) -> None:
        self.run = run
        self.stuck = 0
        """Process of the engine, if it was killed but the kernel does not let it go."""
        self._endpoint = endpoint
        journal = find_run(run).journal
        self._lock = lock_path(journal) if journal is not None else None
        self._owner = owner_of(self._lock) if self._lock is not None else ""
        self._clock = RealClock()

    def await_end(self) -> str:
        """Wait until the engine is gone, or kill it when it hangs; return what ended it, for the record.

        An engine that answers is given 2 minutes to begin with the safe state, and 45 minutes in all.
        """
        began_s = asked_s = self._clock.now()
        misses = 0
        while self._lives():
            now_s = self._clock.now()
            if now_s - asked_s >= _ASK_EVERY_S:
                phase = self._phase()
                misses = 0 if phase else misses + 1
                allowed_s = _TO_END_S if phase == _MAKING_SAFE else _TO_SAFE_STATE_S
                if misses >= _TRIES or now_s - began_s > allowed_s:
                    self._kill()
                    return "the guard died and the engine hung; it was killed"
                asked_s = self._clock.now()
            self._clock.sleep(_LOOK_S)
        return "the guard and the engine both died"

    def _lives(self) -> bool:
        return self._lock is not None and is_owned(self._lock) and owner_of(self._lock) == self._owner

    def _phase(self) -> str:
        """Ask the engine what it does; empty if it does not answer."""
        try:
            with EndpointClient(self._endpoint) as engine:
                return str(engine.ask("status", timeout_s=_ANSWER_S).get("phase", "unknown"))
        except (OSError, ValueError):
            return ""

    def _kill(self) -> None:
        if not (found := re.fullmatch(r"process (\d+)", self._owner)):
            return
        log.error("process %s, an engine without guard, hangs and is killed", found[1])
        end_session(int(found[1]))
        give_up_s = self._clock.now() + _GONE_S
        while self._lives() and self._clock.now() < give_up_s:
            self._clock.sleep(_LOOK_S)
        self.stuck = int(found[1]) if self._lives() else 0


def open_newest(run: str) -> Run:
    """Open the journal of a run if it is still there, else its sealed file; raises StorageError."""
    files = find_run(run)
    path = files.journal if files.journal is not None and files.journal.is_file() else files.sealed
    return open_run(path or Path(run))


def safe_report(run: Run) -> Mapping[str, Any] | None:
    """Get how the bench was left by the last engine of a run; None if nobody has written that down."""
    begun = max((event.seq for event in run.events("endpoint")), default=0)
    reports = [event.data for event in run.events("safe_state") if event.seq > begun]
    return reports[-1] if reports else None


def await_record(run: str, patience_s: float) -> dict[str, Any] | None:
    """Wait until it is written down how the bench was left, and the run is sealed.

    :param run: Path of a run whose guard and engine are dead.
    :param patience_s: Real time to wait, in s.
    :return: ``run``, ``status``, ``safe_state``, ``safe_report`` and ``points`` (their number); None if nobody wrote.
    """
    clock = RealClock()
    give_up_s = clock.now() + patience_s
    found: dict[str, Any] | None = None
    while True:
        try:
            with open_newest(run) as opened:
                report = safe_report(opened)
                if report is not None:
                    give_up_s = give_up_s if found is not None else min(give_up_s, clock.now() + _SEALING_S)
                    # Whoever records and seals owns the run meanwhile, which then looks as if it were going on.
                    being_written = opened.status == "running"
                    found = {"run": str(opened.path), "status": "crashed" if being_written else opened.status}
                    found |= {"points": opened.points_done, "safe_state": report["state"], "safe_report": dict(report)}
                    sealed = find_run(run).sealed
                    if not being_written and sealed is not None and sealed.is_file():
                        return {**found, "run": str(sealed)}
        except (StorageError, OSError) as error:
            log.debug("%s cannot be read just now: %s", run, error)
        if clock.now() > give_up_s:
            return found
        clock.sleep(_RECORD_LOOK_S)


def was_opened(run: Run) -> bool:
    """Get whether the last engine of a run may have opened instruments."""
    return bool(run.events("endpoint")) and safe_report(run) is None


def needs_care(run: str) -> bool:
    """Get whether a bench was left as it stood by the engine of a run that is gone; yes if that cannot be read."""
    try:
        with open_newest(run) as opened:
            return was_opened(opened)
    except (StorageError, OSError) as error:
        log.error("%s cannot be read, so the bench is made safe: %s", run, error)
        return True
