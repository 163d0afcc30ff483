"""What a run will likely take: learned from past runs or from a rehearsal, else its plan alone."""

from __future__ import annotations

from dataclasses import replace

from labctl.bench.bench import needs_laboratory
from labctl.errors import LabctlError
from labctl.run.expectation import Expectation, from_plan
from labctl.run.learned import past_runs
from labctl.run.plan import Plan
from labctl.run.preflight import can_be_simulated
from labctl.run.request import PreparedRun

_SEES_THE_SAMPLE = "detector"
_AS_THE_FILES_SAY = (
    "exposures, and with them light and dose, follow the brightness of the real sample; what is done by hand takes"
    " extra time"
)


def forecast(prepared: PreparedRun, plan: Plan, *, rehearsal: bool = True, seed: int | None = None) -> Expectation:
    """Say what a run will likely take, and where that is known from. There is always the plan.

    A simulated bench is rehearsed, because that shows the very run; a real one is better known by its past runs.

    :param plan: Its plan, accepted by the preflight.
    :param rehearsal: Whether a rehearsal may be held; it takes seconds.
    :param seed: Seed of a simulated laboratory, where it is known.
    :raises Forbidden: The rehearsal came to what a limit or a watch of the bench forbids.
    """
    simulated = needs_laboratory(prepared.bench)
    known = None if simulated and rehearsal else past_runs(prepared, plan)
    if known is not None:
        return known
    if not rehearsal:
        return from_plan(plan)
    if not simulated and _SEES_THE_SAMPLE in prepared.procedure.ROLES and not can_be_simulated(prepared.sample):
        return from_plan(plan, "not rehearsed: nobody knows how bright this sample is")
    from labctl.run.rehearsal import Forbidden, rehearse

    try:
        found = rehearse(prepared, seed=seed if simulated else None)
        return found if simulated else replace(found, note=_AS_THE_FILES_SAY)
    except Forbidden:
        raise
    except LabctlError as error:
        known = past_runs(prepared, plan)
        return known if known is not None else from_plan(plan, f"not rehearsed: {error.what}")
