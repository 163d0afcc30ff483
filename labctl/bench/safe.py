"""The safe state: ordered steps, each tried even if the one before failed, each confirmed by read-back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from labctl.roles import SAFE_ORDER, Instrument, SafeStep

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
    """Bring every instrument into its safe state, what keeps light off the sample first."""
    steps: list[RoleStep] = []
    for role in sorted(instruments, key=_order):
        steps.extend(RoleStep(role, step) for step in _steps_of(role, instruments[role]))
    report = SafeReport(tuple(steps))
    for entry in report.unconfirmed:
        log.error("UNCONFIRMED safe state: %s: %s (%s)", entry.role, entry.step.action, entry.step.evidence)
    return report


def _order(role: str) -> tuple[int, str]:
    return (SAFE_ORDER.index(role) if role in SAFE_ORDER else len(SAFE_ORDER), role)


def _steps_of(role: str, instrument: Instrument) -> list[SafeStep]:
    try:
        return list(instrument.make_safe())
    except Exception as error:  # a driver that breaks its promise must not keep the next instrument from its turn
        log.exception("make_safe of %s failed", role)
        return [SafeStep("make safe", False, f"{type(error).__name__}: {error}")]
