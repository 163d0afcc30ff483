"""When a stability run was not there: after a crash or an abort, until it was resumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Interruption:
    """A time in which nobody looked; in s since the start of the run.

    :param seen_s: The last moment that is recorded before.
    :param began_s: When the bench was made safe, as far as known.
    :param ended_s: When the run went on.
    """

    seen_s: float
    began_s: float
    ended_s: float

    @property
    def longest_s(self) -> float:
        """Get for how long the state of the bench is unknown at most, in s."""
        return self.ended_s - self.seen_s


def interruptions(run: Any) -> list[Interruption]:
    """Get the gaps of a run from its events."""
    events = run.events()
    virtual = bool(run.header.get("request", {}).get("virtual_time"))
    found = []
    for number, event in enumerate(events):
        if event.kind != "resumed":
            continue
        before = [earlier for earlier in events[:number] if earlier.kind != "resumed"]
        if not before:
            continue
        if virtual:
            # No time passes in a simulated laboratory while nobody is there, and the wall clock knows nothing of it.
            opened = next((later for later in events[number:] if later.kind == "instruments"), event)
            found.append(Interruption(opened.t_s, opened.t_s, opened.t_s))
            continue
        safe = [earlier for earlier in before if earlier.kind == "safe_state"]
        seen = max(earlier.t_s for earlier in before)
        last = safe[-1] if safe else before[-1]
        # The program that makes a bench safe after a crash knows the wall clock, not that of the run.
        began_s = event.t_s - max(event.wall_s - last.wall_s, 0.0)
        found.append(Interruption(min(seen, began_s), min(max(began_s, 0.0), event.t_s), event.t_s))
    return found
