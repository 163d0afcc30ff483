"""What the connections of one opened bench share, and what is asked for when one is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from labctl.clock import Clock
from labctl.transport.settings import LinkSettings


class LaboratoryLink(Protocol):
    """What the engine tells a simulated laboratory, beside the instruments' own wires."""

    def announce(self, point: int, attempt: int, schedule_s: float) -> None:
        """Say which point is measured next: all randomness is keyed by it.

        :param schedule_s: Planned time of the point since the start of the run, in s; slow drifts follow it.
        """
        ...

    def operator(self, action: str) -> None:
        """Have the simulated operator do something by hand, e.g. ``sample out of beam``."""
        ...

    def state(self) -> Mapping[str, Any]:
        """Get the true state of the laboratory, for tests and reports."""
        ...

    def close(self) -> None:
        """Close the connection to the laboratory."""
        ...


class Operator(Protocol):
    """Somebody at the bench, reached through the fronts of a run."""

    def __call__(self, text: str, wants: str = "") -> str:
        """Have something done by hand; returns when it is confirmed. Raises Aborted when refused.

        :param text: What to do, as a sentence.
        :param wants: What is to be typed when it is done, e.g. ``the wavelength shown, e.g. 632.0 nm``; empty: nothing.
        :returns: What was typed; empty if nothing was wanted.
        """
        ...


@dataclass
class Session:
    """What all connections of one opened bench share.

    :param bench: Name of the bench.
    :param clock: Clock of the run.
    :param laboratory_table: The bench file's ``[laboratory]`` table, unread; None for a real bench.
    :param truth_table: The sample file's ``[truth]`` table, unread.
    :param seed: Seed of all simulated randomness.
    :param drivers: Driver name and options by role, so that a laboratory knows which emulators stand on its bench.
    :param laboratory: Link to the simulated laboratory, once opened.
    :param operator: Who does by hand what no instrument can; None where nobody can be asked.
    :param record_by_hand: Writes down what a simulated operator did; what a real one did is written where he is asked.
    """

    bench: str
    clock: Clock
    laboratory_table: Any = None
    truth_table: Any = None
    seed: int = 0
    drivers: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    laboratory: LaboratoryLink | None = None
    operator: Operator | None = None
    record_by_hand: Callable[[Mapping[str, Any]], None] | None = None


@dataclass(frozen=True)
class OpenRequest:
    """One connection to open.

    :param role: Role on the bench.
    :param driver: Name of the driver in the registry.
    :param resource: Resource name as written in the bench file.
    :param settings: What the driver says about its link.
    :param options: Options of the instrument in the bench file.
    :param session: What it shares with the others.
    """

    role: str
    driver: str
    resource: str
    settings: LinkSettings
    options: Mapping[str, Any]
    session: Session
