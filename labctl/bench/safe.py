"""The safe state: ordered steps, each tried even if the one before failed or hangs, each confirmed by read-back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

from labctl.bench.turns import LATE_S, TURN_S, take_turns
from labctl.roles import ROLES, SAFE_ORDER, Instrument, SafeStep
from labctl.transport.operator import OperatorLink

log = logging.getLogger(__name__)

_HUNG = "make safe in time"

CAN_HARM = ("shutter", "lamp", "heating_stage", "detector")
"""Roles of labctl whose instruments can let harm go on: light, heat, a warm sensor or a tube under voltage."""

SafeState = Literal["confirmed", "unconfirmed", "lost-with-run", "not-needed"]


def can_harm(role: str) -> bool:
    """Get whether an instrument of this role can let harm go on; labctl cannot know it of a role it does not know."""
    return role in CAN_HARM or role not in ROLES


@dataclass(frozen=True, slots=True)
class RoleStep:
    """One step of the safe state, with the role it belongs to."""

    role: str
    step: SafeStep


@dataclass(frozen=True, slots=True)
class SafeReport:
    """What was done to make the bench safe, and what the instruments said to it."""

    steps: tuple[RoleStep, ...]

    @property
    def state(self) -> SafeState:
        """Get ``confirmed``, ``unconfirmed``, or ``not-needed`` when no instrument was open.

        An energy meter that no longer answers is a failed measurement, not an unsafe bench: only what can let harm go
        on counts. What the others could not confirm is in the steps, and in :attr:`unheard`.
        """
        if not self.steps:
            return "not-needed"
        return "unconfirmed" if any(can_harm(entry.role) for entry in self.unconfirmed) else "confirmed"

    @property
    def unconfirmed(self) -> tuple[RoleStep, ...]:
        """Get the steps that were not confirmed."""
        return tuple(entry for entry in self.steps if not entry.step.confirmed)

    @property
    def unheard(self) -> tuple[str, ...]:
        """Get what instruments that can harm nothing could not confirm, in words."""
        return tuple(
            f"{entry.role} could not confirm its safe state, but can harm nothing: {entry.step.evidence}"
            for entry in self.unconfirmed
            if not can_harm(entry.role)
        )

    def as_dict(self) -> dict[str, object]:
        """The report as JSON-serialisable data."""
        return {"state": self.state, "steps": [{"role": entry.role, **asdict(entry.step)} for entry in self.steps]}


def make_safe(
    instruments: Mapping[str, Instrument], *, inline: bool = False, turn_s: float = TURN_S, late_s: float = LATE_S
) -> SafeReport:
    """Bring every instrument into its safe state, what keeps light off the sample first.

    When all have had their turn, those that could not confirm it get one more, a wire over a new connection: a byte
    that was lost, or a plug that was loose for a moment, does not make the bench unsafe. One that does not come back
    within its turn holds up nobody: the next one begins, and what it confirms later still counts.

    :param inline: Whether all is done in the calling thread, without time-outs of its own: for virtual time, where
        every wait of a driver ends at once.
    :param turn_s: Real time in s after which the next instrument has its turn.
    :param late_s: Real time in s for which late ones are waited for after all turns; with six instruments that all
        hang it takes ``6 turn_s + late_s``.
    """
    roles = sorted(instruments, key=_order)

    def in_turn(calls: Mapping[str, Callable[[], list[SafeStep]]], late_s: float) -> dict[str, list[SafeStep]]:
        if inline:
            return {role: call() for role, call in calls.items()}
        by_hand = [role for role in calls if _is_by_hand(instruments[role])]
        taken = take_turns(calls, turn_s=turn_s, late_s=late_s, by_hand=by_hand)
        late = f"the driver did not come back within {turn_s + late_s:g} s; its thread was left behind"
        return {role: taken.get(role, [SafeStep(_HUNG, False, late)]) for role in calls}

    steps = in_turn({role: partial(_steps_of, role, instruments[role]) for role in roles}, late_s)
    again = [role for role in roles if _failed(steps[role]) and _may_try_again(instruments[role])]
    tries = {role: partial(_second_try, role, instruments[role], steps[role]) for role in again}
    for role, found in in_turn(tries, 0.0).items():
        if found and found[0].action != _HUNG:  # a second try that hangs says less than the first
            steps[role] = found
    report = SafeReport(tuple(RoleStep(role, step) for role in roles for step in steps[role]))
    for entry in report.unconfirmed:
        if can_harm(entry.role):
            log.error("UNCONFIRMED safe state: %s: %s (%s)", entry.role, entry.step.action, entry.step.evidence)
    for text in report.unheard:
        log.warning("%s", text)
    return report


def _failed(steps: list[SafeStep]) -> bool:
    return not all(step.confirmed for step in steps)


def _may_try_again(instrument: Any) -> bool:
    """Get whether a second try makes sense: not where there is no connection, nor with somebody who said no."""
    return getattr(instrument, "adapter", None) is not None and not _is_by_hand(instrument)


def _is_by_hand(instrument: Any) -> bool:
    return isinstance(getattr(getattr(instrument, "adapter", None), "connection", None), OperatorLink)


def _second_try(role: str, instrument: Any, first: list[SafeStep]) -> list[SafeStep]:
    """Try again; the steps say what failed before."""
    failed = "; ".join(step.evidence for step in first if not step.confirmed)
    log.warning("%s: making it safe once more after: %s", role, failed)
    if hasattr(instrument.adapter, "try_to_reconnect") and (reason := instrument.adapter.try_to_reconnect()):
        log.warning("%s: no new connection, and the old one may still do: %s", role, reason)
    again = _steps_of(role, instrument)
    return [replace(step, evidence=_evidence(step.evidence, failed)) for step in again]


def _evidence(said: str, failed: str) -> str:
    return f"{said}; tried twice" if said == failed else f"{said}; at the second try, after: {failed}"


def _order(role: str) -> tuple[int, str]:
    return (SAFE_ORDER.index(role) if role in SAFE_ORDER else len(SAFE_ORDER), role)


def _steps_of(role: str, instrument: Instrument) -> list[SafeStep]:
    try:
        return list(instrument.make_safe())
    except Exception as error:  # a driver that breaks its promise must not keep the next instrument from its turn
        log.exception("make_safe of %s failed", role)
        return [SafeStep("make safe", False, f"{type(error).__name__}: {error}")]
