"""From a resource name to a connection: the grammar, and the registry of schemes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, cast

from labctl.clock import Clock
from labctl.errors import InputError
from labctl.transport.link import ByteLink, LibraryChannel
from labctl.transport.settings import LibrarySettings, LinkSettings, WireSettings

TRANSPORTS = "labctl.transports"
LABORATORY = "labctl.laboratory"
"""Entry-point group of a package that simulates a laboratory: ``open`` for the engine, ``serve`` for its server."""
_VISA_PREFIXES = ("ASRL", "GPIB", "USB", "TCPIP", "VXI", "PXI", "FIREWIRE")


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
    """

    bench: str
    clock: Clock
    laboratory_table: Any = None
    truth_table: Any = None
    seed: int = 0
    drivers: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    laboratory: LaboratoryLink | None = None


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


def scheme_of(resource: str) -> str:
    """Get the scheme of a resource name: ``sim``, ``sim+tcp``, ``serial``, ``socket``, ``sdk``, ``visa``...

    Raises InputError for a name that fits no grammar.
    """
    if resource.upper().startswith(_VISA_PREFIXES) and "::" in resource:
        return "visa"
    scheme, separator, _ = resource.partition(":")
    known = {"serial", "socket", "sdk", *(entry.name for entry in entry_points(group=TRANSPORTS))}
    if separator and scheme in known:
        return scheme
    raise InputError(
        f"the resource {resource!r} has no known form",
        todo=f"write one of {', '.join(sorted(f'{name}:' for name in known))} or a VISA resource name",
    )


def is_simulated(resource: str) -> bool:
    """Get whether a resource leads to an emulator of ours."""
    return scheme_of(resource).startswith("sim")


def has_virtual_time(resource: str) -> bool:
    """Get whether a resource may run on the virtual clock: only our own emulators, which are told the time."""
    return is_simulated(resource)


def open_link(request: OpenRequest) -> ByteLink | LibraryChannel:
    """Open the connection that a resource names, as the driver's settings ask."""
    scheme = scheme_of(request.resource)
    if scheme in {"visa", "serial", "socket"}:
        if not isinstance(request.settings, WireSettings):
            raise InputError(
                f"{request.driver} stands on a vendor library and cannot be reached at {request.resource!r}",
                where=f"instruments.{request.role}.resource",
                todo="write sdk:NAME, or sim: for the simulated library",
            )
        from labctl.transport.wire import open_wire

        return open_wire(request.resource, request.settings)
    if scheme == "sdk":
        if not isinstance(request.settings, LibrarySettings):
            raise InputError(
                f"{request.driver} speaks on a wire and has no vendor library",
                where=f"instruments.{request.role}.resource",
                todo="write a serial:, socket:// or VISA resource",
            )
        from labctl.transport.vendor import open_library

        return open_library(request)
    opener = cast(Callable[[OpenRequest], ByteLink | LibraryChannel], _entry_point(TRANSPORTS, scheme).load())
    return opener(request)


def open_laboratory(session: Session) -> LaboratoryLink:
    """Open the simulated laboratory of a bench and remember it in the session."""
    opener = cast(Callable[[Session], LaboratoryLink], _entry_point(LABORATORY, "open").load())
    session.laboratory = opener(session)
    return session.laboratory


def _entry_point(group: str, name: str) -> EntryPoint:
    for entry in entry_points(group=group):
        if entry.name == name:
            return entry
    raise InputError(f"no package offers {name!r} in {group}", todo="install the package that offers it")
