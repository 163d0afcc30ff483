"""What a campaign that was killed, or that ended unsafe, has left: how its last run ended, and its bench."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from labctl.clock import RealClock
from labctl.errors import ExitCode, InputError, StorageError
from labctl.run.queue_history import RunState
from labctl.run.queue_state import QueueState
from labctl.run.queued_runs import QueuedRun
from labctl.run.safe_program import LeftBench, make_safe
from labctl.store.run import open_run

log = logging.getLogger(__name__)

ENDING_S = 60.0
"""How long a run whose campaign was killed may take to end."""
_LOOK_S = 0.2
_SAFE = ("confirmed", "lost-with-run", "not-needed")


class LeftRuns:
    """Settles what was left before the queue goes on.

    :param todo: What a person has to do first, where the bench could not be made safe.
    """

    def __init__(self, runs: Sequence[QueuedRun], state: QueueState, tell: Callable[[str], None]) -> None:
        self.todo = ""
        self._runs = runs
        self._state = state
        self._tell = tell

    def take_up(self) -> bool:
        """Note how runs ended whose end was not noted, make safe what may be unsafe; returns whether the bench is."""
        states = self._states()
        earlier = self._state.round
        cut_off = [run for run in self._runs if (state := states.get(run.number)) and not state.status]
        unsafe = [run for run in self._runs if (state := states.get(run.number)) and state.exit == ExitCode.UNSAFE]
        unknown = [run for run in cut_off if not self._settle(run)]
        if earlier is not None and earlier.unconfirmed:
            unknown += unsafe[-1:]
        for run in unknown:
            report = make_safe(LeftBench.of_request(run.request))
            self._state.made_safe(report["state"])
            self._tell(f"bench of {run.name}: safe state {report['state']}")
            if report["state"] not in _SAFE:
                self.todo = "go to the bench and look; mend what keeps it from its safe state, then resume again"
                return False
        return True

    def _states(self) -> dict[int, RunState]:
        return self._state.round.runs if self._state.round is not None else {}

    def _settle(self, run: QueuedRun) -> bool:
        """Read from its file how a run ended whose end was not noted; returns whether its bench was left safe."""
        state = self._states()[run.number]
        if not state.run:
            return False
        found = end_of(state.run)
        if found is None:
            return False
        if found["status"] == "finished":
            self._state.ended(run.number, found)
        return found["safe_state"] in _SAFE


def end_of(path: str) -> dict[str, Any] | None:
    """Get how a run ended, from its file; None if that is lost.

    :raises InputError: the run still goes after :data:`ENDING_S`.
    """
    clock = RealClock()
    give_up_s = clock.now() + ENDING_S
    while True:
        try:
            with open_run(path) as run:
                status, safe = run.status, run.events("safe_state")
                result = run.results[-1].data.get("result", {}) if run.results else {}
        except StorageError as error:
            log.warning("%s: %s", path, error.what)
            return None
        if status != "running":
            break
        if clock.now() > give_up_s:
            raise InputError(
                "a run of this campaign still goes",
                where=path,
                state="it goes on",
                todo="wait for it, or `labctl abort RUN`; then resume again",
            )
        clock.sleep(_LOOK_S)
    safe_state = str(safe[-1].data.get("state", "")) if safe else ""
    code = ExitCode.FINISHED if status == "finished" else ExitCode.FAILED
    known = {"run": path, "status": status, "safe_state": safe_state, "result": result}
    return {**known, "exit": int(code if safe_state in _SAFE else ExitCode.UNSAFE)}


def last_wall_s(path: str) -> float | None:
    """Get the Unix time of the last event of a run, by its own clock; None if its file cannot be read."""
    try:
        with open_run(path) as run:
            return max((event.wall_s for event in run.events()), default=None)
    except StorageError:
        return None
