"""What came of a run: the object that every front and ``--json`` shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Outcome:
    """What came of a run, filled while it goes.

    :param simulated: Whether emulators took part.
    :param run: Path of the sealed file.
    :param status: ``finished``, ``aborted``, ``failed``, ``crashed``, ``refused`` before anything moved, or
        ``waiting``: it has left the bench until its next point is due, and goes on when it is resumed.
    :param safe_state: ``confirmed``, ``unconfirmed``, ``lost-with-run`` or ``not-needed``.
    :param points: Points stored and planned.
    :param result: Name to ``{value, unit, ci68, ci95, ...}``.
    :param files: Figure and report by name.
    :param next_due_in_s: Of a run that waits: time in s until its next point, by its clock.
    :param next_due_wall_s: Of a run that waits: Unix time of its next point, by its clock.
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
    next_due_in_s: float | None = None
    next_due_wall_s: float | None = None

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
            **(
                {"next_due_in_s": self.next_due_in_s, "next_due_wall_s": self.next_due_wall_s}
                if self.status == "waiting"
                else {}
            ),
        }
