"""What came of a run: the object that every front and ``--json`` shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Outcome:
    """What came of a run, filled while it goes.

    :param simulated: Whether emulators took part.
    :param run: Path of the sealed file.
    :param status: ``finished``, ``aborted``, ``failed``, ``crashed``, or ``refused`` before anything moved.
    :param safe_state: ``confirmed``, ``unconfirmed``, ``lost-with-run`` or ``not-needed``.
    :param points: Points stored and planned.
    :param result: Name to ``{value, unit, ci68, ci95, ...}``.
    :param files: Figure and report by name.
    """

    simulated: bool
    run: str = ""
    status: str = "failed"
    safe_state: str = "not-needed"
    safe_report: dict[str, Any] = field(default_factory=dict)
    points: dict[str, int] = field(default_factory=lambda: {"done": 0, "planned": 0})
    result: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    exit_code: int = 1

    def as_dict(self) -> dict[str, Any]:
        """The outcome as JSON-serialisable data."""
        return {
            "run": self.run,
            "status": self.status,
            "safe_state": self.safe_state,
            "points": dict(self.points),
            "result": self.result,
            "warnings": list(self.warnings),
            "simulated": self.simulated,
            "files": dict(self.files),
            "safe_report": self.safe_report,
            "error": self.error,
        }
