"""The safe state: ordered steps, each tried even if the one before failed, each confirmed by read-back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from labctl.roles import SAFE_ORDER, Instrument, SafeStep
from labctl.transport.operator import OperatorLink

log = logging.getLogger(__name__)

SafeState = Literal["confirmed", "unconfirmed", "lost-with-run", "not-needed"]


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
        """Get ``confirmed``, ``unconfirmed``, or ``not-needed`` when no instrument was open."""
        if not self.steps:
            return "not-needed"
        return "confirmed" if all(entry.step.confirmed for entry in self.steps) else "unconfirmed"

    @property
    def unconfirmed(self) -> tuple[RoleStep, ...]:
        """Get the steps that were not confirmed."""
        return tuple(entry for entry in self.steps if not entry.step.confirmed)

    def as_dict(self) -> dict[str, object]:
        """The report as JSON-serialisable data."""
        return {"state": self.state, "steps": [{"role": entry.role, **asdict(entry.step)} for entry in self.steps]}


def make_safe(instruments: Mapping[str, Instrument]) -> SafeReport:
    """Bring every instrument into its safe state, what keeps light off the sample first.

    When all have had their turn, those that could not confirm it get one more, a wire over a new connection: a byte
    that was lost, or a plug that was loose for a moment, does not make the bench unsafe.
    """
    roles = sorted(instruments, key=_order)
    steps = {role: _steps_of(role, instruments[role]) for role in roles}
    for role in roles:
        if _failed(steps[role]) and _may_try_again(instruments[role]):
            steps[role] = _second_try(role, instruments[role], steps[role])
    report = SafeReport(tuple(RoleStep(role, step) for role in roles for step in steps[role]))
    for entry in report.unconfirmed:
        log.error("UNCONFIRMED safe state: %s: %s (%s)", entry.role, entry.step.action, entry.step.evidence)
    return report


def _failed(steps: list[SafeStep]) -> bool:
    return not all(step.confirmed for step in steps)


def _may_try_again(instrument: Any) -> bool:
    """Get whether a second try makes sense: not where there is no connection, nor with somebody who said no."""
    adapter = getattr(instrument, "adapter", None)
    return adapter is not None and not isinstance(getattr(adapter, "connection", None), OperatorLink)


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
