"""Trying a point again: dark, reconnect, set up anew, measure; a few times, then the point or the run is given up."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

from labctl.errors import InstrumentError, Quarantined
from labctl.run.conduct import Conduct
from labctl.run.plan import Point, Stage
from labctl.run.policy import FailurePolicy
from labctl.run.record import Record

if TYPE_CHECKING:
    from labctl.run.contracts import Keeper
    from labctl.run.point_loop import PointLoop

log = logging.getLogger(__name__)


class Attempts:
    """Measures points for a loop, each as often as the policy allows.

    :param loop: The loop; it owns clock, journal and procedure.
    :param conduct: How the run is carried through.
    """

    def __init__(self, loop: PointLoop, conduct: Conduct) -> None:
        self._loop = loop
        self._conduct = conduct
        self._spoilt: Counter[str] = Counter()

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
        left = policy.retries
        while True:
            try:
                record = self._once(point, attempt)
            except InstrumentError as error:
                error.where = error.where or f"point {point.index} of stage {stage.name!r}"
                if left == 0:
                    return self._give_up(point, stage, policy, attempt, error)
                self._record(point, stage, attempt, error, "retry")
                self._bring_back(point, stage, attempt, error, policy.wait_s * 2 ** (policy.retries - left))
                left -= 1
            else:
                self._spoilt.clear()
                return record, attempt
            attempt += 1

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

    def _bring_back(self, point: Point, stage: Stage, attempt: int, error: InstrumentError, wait_s: float) -> None:
        """Keep the sample dark, wait, revive the instrument, set every role up anew.

        What fails on the way to a revived instrument counts as a failed attempt of its own, with the next one.
        """
        keeper = self._conduct.keeper
        if keeper is None:
            raise error
        self._loop.expect_revival()
        keeper.darken()
        self._loop.clock.wait(self._loop.stop, wait_s)
        self._loop.stop_if_asked(point)
        try:
            self._revive(keeper, error)
        except InstrumentError as failure:
            log.warning("%s did not come back: %s", keeper.role_of(error) or "an instrument", failure)
            self._record(point, stage, attempt, failure, "not brought back")
        self._loop.stop_if_asked(point)
        self._loop.expect(stage)

    def _revive(self, keeper: Keeper, error: InstrumentError) -> None:
        if role := keeper.role_of(error):
            keeper.revive(role)
        self._loop.set_up_anew()

    def _give_up(self, point: Point, stage: Stage, policy: FailurePolicy, attempt: int, error: InstrumentError) -> None:
        """Skip the point, or end the run by raising."""
        keeper = self._conduct.keeper
        role = self._role_of(error)
        if policy.then == "abort" or keeper is None:
            if policy.retries:
                error.state = error.state or f"tried {attempt + 1} times"
            raise error
        self._record(point, stage, attempt, error, "skip")
        self._loop.expect_revival()
        keeper.darken()
        self._loop.skip(point, f"{attempt + 1} attempts failed: {error.what}")
        self._spoilt = Counter({role: self._spoilt[role] + 1})
        if role and self._spoilt[role] >= policy.quarantine_after:
            raise Quarantined(role, self._spoilt[role], error) from error
        try:
            self._revive(keeper, error)
        except InstrumentError as failure:
            self._record(point, stage, attempt, failure, "not brought back")
        self._loop.expect(stage)

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
