"""How a run is carried through beyond its plan: failures, interlocks, wishes of operators, an earlier part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from labctl.run.contracts import Interlocks, Keeper
from labctl.run.earlier import Earlier
from labctl.run.plan import Stage
from labctl.run.policy import FailurePolicy
from labctl.run.steering import Steering


@dataclass(frozen=True)
class Conduct:
    """By default nothing is tried again, nothing is watched, and nobody steers.

    :param policy: What is done when a point fails.
    :param overrides: Whether that goes before what a stage says for itself.
    :param keeper: Brings the instruments back; without one a failed point ends the run.
    :param set_up: Sets every role up as before the first point; what was measured is kept.
    :param against_more: Says why a stage may not have so many points more; an empty text if it may.
    :param interlocks: Watch conditions, looked at between points and while waiting.
    :param steering: What operators want.
    :param earlier: The earlier part of a resumed run.
    :param began_s: When the run began, by its clock, in s, its gaps counted; when the loop is made if None.
    :param leave_if_idle_s: Time in s of waiting for the next point at which the run leaves the bench; None: it stays.
    """

    policy: FailurePolicy = field(default_factory=lambda: FailurePolicy(retries=0))
    overrides: bool = False
    keeper: Keeper | None = None
    set_up: Callable[[], None] = lambda: None
    against_more: Callable[[Stage, int], str] = lambda stage, count: ""
    interlocks: Interlocks | None = None
    steering: Steering = field(default_factory=Steering)
    earlier: Earlier | None = None
    began_s: float | None = None
    leave_if_idle_s: float | None = None

    def policy_of(self, own: FailurePolicy | None, *, essential: bool) -> FailurePolicy:
        """Get what is done about a point, given what its stage says.

        :param own: The policy of the stage.
        :param essential: Whether the point may not be skipped.
        """
        chosen = self.policy if self.overrides or own is None else own
        return chosen.model_copy(update={"then": "abort"}) if essential else chosen
