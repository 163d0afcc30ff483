"""From a resource name to a connection: the grammar, and the registry of schemes."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import cast

from labctl.errors import InputError
from labctl.installed import entry_points
from labctl.transport.link import ByteLink, LibraryChannel
from labctl.transport.session import LaboratoryLink, OpenRequest, Session
from labctl.transport.settings import LibrarySettings, WireSettings

TRANSPORTS = "labctl.transports"
LABORATORY = "labctl.laboratory"
"""Entry-point group of a package that simulates a laboratory: ``open`` for the engine, ``serve`` for its server."""
_VISA_PREFIXES = ("ASRL", "GPIB", "USB", "TCPIP", "VXI", "PXI", "FIREWIRE")


def scheme_of(resource: str) -> str:
    """Get the scheme of a resource name: ``sim``, ``sim+tcp``, ``serial``, ``socket``, ``sdk``, ``visa``...

    Raises InputError for a name that fits no grammar.
    """
    if resource.upper().startswith(_VISA_PREFIXES) and "::" in resource:
        return "visa"
    scheme, separator, _ = resource.partition(":")
    known = {"serial", "socket", "sdk", "operator", *(entry.name for entry in entry_points(group=TRANSPORTS))}
    if separator and scheme in known:
        return scheme
    raise InputError(
        f"the resource {resource!r} has no known form",
        todo=f"write one of {', '.join(sorted(f'{name}:' for name in known))} or a VISA resource name",
    )


def is_simulated(resource: str) -> bool:
    """Get whether a resource leads to an emulator of ours."""
    return scheme_of(resource).startswith("sim")


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
    if scheme == "operator":
        from labctl.transport.operator import OperatorLink

        return OperatorLink(request.session.operator)
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
