"""Trying a point again: dark, reconnect, set up anew, measure; a few times, then the point or the run is given up."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from labctl.errors import InstrumentError, Quarantined
from labctl.run.conduct import Conduct
from labctl.run.plan import Point, Stage
from labctl.run.policy import FailurePolicy
from labctl.run.record import Record

if TYPE_CHECKING:
    from labctl.run.point_loop import PointLoop

_MARGIN_S = 60.0


class Attempts:
    """Measures points for a loop, each as often as the policy allows.

    :param loop: The loop; it owns clock, journal and procedure.
    :param conduct: How the run is carried through.
    """

    def __init__(self, loop: PointLoop, conduct: Conduct) -> None:
        self._loop = loop
        self._conduct = conduct
        self._spoilt: Counter[str] = Counter()
        self._broken: set[str] = set()
        self._is_stale = False

    def set_up_first(self) -> None:
        """Have every role set up anew before the next point."""
        self._is_stale = True

    def measure(self, point: Point, stage: Stage) -> tuple[Record, int] | None:
        """Measure a point.

        :return: The record and the number of its attempt, from 0; None if the point was skipped.
        :raises InstrumentError: If every attempt failed and the point may not be skipped, or if the sample cannot be
            kept dark.
        :raises Quarantined: If one instrument has spoilt too many points in a row.
        """
        policy = self._conduct.policy_of(stage.on_failure, essential=stage.essential)
        earlier = self._conduct.earlier
        attempt = earlier.attempts.get(point.index, 0) if earlier is not None else 0
        left = policy.retries if self._conduct.keeper is not None else 0
        failed_s: float | None = None
        tries = 0
        while True:
            try:
                self._make_ready(stage)
                record = self._once(point, attempt)
            except InstrumentError as error:
                error.where = error.where or f"point {point.index} of stage {stage.name!r}"
                self._take_note(error)
                # What an interlock has stopped is no fault of the instrument: such a try does not count.
                held = self._held_in_the_dark(point)
                failed_s = self._loop.now_s if failed_s is None else failed_s
                patient = self._conduct.keeper is not None and self._loop.now_s - failed_s < policy.patience_s
                if left <= 0 and not held and not patient:
                    return self._give_up(point, stage, policy, attempt, error)
                self._record(point, stage, attempt, error, "retry")
                if not held:
                    self._wait(point, policy.pause_s(tries))
                    left, tries = left - 1, tries + 1
            else:
                self._spoilt.clear()
                if failed_s is not None:
                    self._loop.was_away()
                return record, attempt
            attempt += 1

    def _wait(self, point: Point, duration_s: float) -> None:
        """Wait before the next try, and say so to whoever watches over the run."""
        self._loop.observer.expect(duration_s + _MARGIN_S)
        self._loop.clock.wait(self._loop.stop, duration_s)
        self._loop.stop_if_asked(point)

    def measure_reference(self, point: Point, stage: Stage, attempt: int) -> Record | None:
        """Measure a point of the earlier part again, once; None if that failed: it must not keep the run from going on.

        :raises InstrumentError: If the sample cannot be kept dark.
        """
        try:
            self._make_ready(stage)
            return self._once(point, attempt)
        except InstrumentError as error:
            keeper = self._conduct.keeper
            if keeper is None:
                raise
            self._take_note(error)
            self._record(point, stage, attempt, error, "go on without the reference")
            self._loop.expect_revival()
            keeper.darken()
            return None

    def _once(self, point: Point, attempt: int) -> Record:
        steering = self._conduct.steering
        steering.take_disturbance()
        self._loop.announcer.announce(point.index, attempt, point.schedule_s)
        record = self._loop.procedure.measure(point)
        if disturbance := steering.take_disturbance():
            raise InstrumentError(
                disturbance, where=f"point {point.index}", state="what was measured meanwhile was not stored"
            )
        return record

    def _take_note(self, error: InstrumentError) -> None:
        """Remember what must be brought back before anything is measured again."""
        self._is_stale = True
        if role := self._role_of(error):
            self._broken.add(role)

    def _make_ready(self, stage: Stage) -> None:
        """Revive what failed and set every role up anew, if anything did: nothing is measured before that succeeds."""
        if not self._is_stale:
            return
        self._loop.expect_revival()
        for role in sorted(self._broken):
            if self._conduct.keeper is not None:
                self._conduct.keeper.revive(role)
            self._broken.discard(role)
        self._conduct.set_up()
        self._is_stale = False
        self._loop.expect(stage)

    def _held_in_the_dark(self, point: Point) -> bool:
        """Keep the sample dark, and heed the interlocks; get whether one has held the run."""
        keeper = self._conduct.keeper
        if keeper is None:
            return False
        self._loop.expect_revival()
        keeper.darken()
        return self._loop.held_by_interlocks(point)

    def _give_up(self, point: Point, stage: Stage, policy: FailurePolicy, attempt: int, error: InstrumentError) -> None:
        """Skip the point, or end the run by raising."""
        keeper = self._conduct.keeper
        role = self._role_of(error)
        if policy.then == "abort" or keeper is None:
            if policy.retries:
                error.state = error.state or f"tried {attempt + 1} times"
            raise error
        self._record(point, stage, attempt, error, "skip")
        self._loop.skip(point, f"{attempt + 1} attempts failed: {error.what}")
        self._spoilt = Counter({role: self._spoilt[role] + 1})
        if role and self._spoilt[role] >= policy.quarantine_after:
            raise Quarantined(role, self._spoilt[role], error) from error
        try:
            self._make_ready(stage)
        except InstrumentError as failure:
            self._take_note(failure)
            self._record(point, stage, attempt, failure, "not brought back")

    def _record(self, point: Point, stage: Stage, attempt: int, error: InstrumentError, action: str) -> None:
        data: dict[str, Any] = {
            "error": error.as_dict(),
            "role": self._role_of(error),
            "point": point.index,
            "stage": stage.name,
            "attempt": attempt,
            "action": action,
        }
        self._loop.notice("incident", data)

    def _role_of(self, error: InstrumentError) -> str:
        keeper = self._conduct.keeper
        return keeper.role_of(error) if keeper is not None else error.role
