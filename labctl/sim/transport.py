"""The transports ``sim:`` and ``sim+tcp://host:port`` and the laboratory behind them (group ``labctl.transports``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labctl.clock import Clock
from labctl.config.raw_table import RawTable
from labctl.errors import InputError
from labctl.sim.faults import Faults, active_faults
from labctl.sim.link import EmulatorChannel, EmulatorLink
from labctl.sim.remote import RemoteLaboratory, RemoteLibrary, RemoteWire
from labctl.sim.stand import Stand, has_emulator, is_wire
from labctl.transport.link import ByteLink, LibraryChannel
from labctl.transport.session import LaboratoryLink, OpenRequest, Session
from labctl.transport.settings import LibrarySettings
from labctl.transport.wire import split_host_port

__all__ = ["EmulatorChannel", "EmulatorLink", "LocalLaboratory", "open_laboratory", "open_sim", "open_sim_tcp"]

SERVED_AT = "served_at"


class LocalLaboratory:
    """The link of the engine to a laboratory in its own process.

    :param stand: The laboratory with its emulators.
    :param clock: Clock of the run.
    :param faults: Faults on the wires to its instruments, in tests of labctl itself.
    """

    def __init__(self, stand: Stand, clock: Clock, faults: Faults | None = None) -> None:
        self.stand = stand
        self.clock = clock
        self.faults = faults

    @property
    def is_unused(self) -> bool:
        """Get whether no instrument of it was ever opened."""
        return not any(place.opened for place in self.stand.places.values())

    def announce(self, point: int, attempt: int, schedule_s: float) -> None:
        with self.stand.lock:
            self.stand.laboratory.announce(point, attempt, schedule_s)

    def operator(self, action: str) -> None:
        self.stand.operator(action, self.clock.now())

    def state(self) -> Mapping[str, Any]:
        with self.stand.lock:
            return self.stand.laboratory.state(self.clock.now())

    def close(self) -> None:
        """Nothing to close: the laboratory ends with the session."""


def open_laboratory(session: Session) -> LaboratoryLink:
    """Open the simulated laboratory of a bench.

    In this process, unless the table ``[laboratory]`` has ``served_at = "host:port"``: then it is the one that
    `labctl sim serve` serves there, and that one's physics, sample and seed hold.
    """
    served_at = table_values(session.laboratory_table).get(SERVED_AT)
    if served_at is not None:
        return RemoteLaboratory(_address(served_at), session.clock, session.seed)
    from labctl.sim.laboratory import create

    stand = Stand(create(session.laboratory_table, session.truth_table, session.seed))
    for role, (driver, options) in session.drivers.items():
        if has_emulator(driver):
            stand.put(role, driver, table_values(options))
    return LocalLaboratory(stand, session.clock, active_faults())


def open_sim(request: OpenRequest) -> ByteLink | LibraryChannel:
    """Open ``sim:``, an emulator in this process."""
    session = request.session
    if session.laboratory is None:
        session.laboratory = open_laboratory(session)
    laboratory = session.laboratory
    if not isinstance(laboratory, LocalLaboratory):
        raise InputError(
            "the laboratory of this bench lives in another process, so its instruments do too",
            where=f"instruments.{request.role}.resource",
            todo=f"write sim+tcp://HOST:PORT as resource, or take {SERVED_AT} out of [laboratory]",
        )
    stand = laboratory.stand
    place = stand.put(request.role, request.driver, table_values(request.options))
    if is_wire(place.emulator) is isinstance(request.settings, LibrarySettings):
        raise _wrong_kind(request)
    with stand.lock:
        place.connect(session.clock.now())
    faults, emulator = laboratory.faults, place.emulator
    if faults is not None:
        emulator = faults.put(request.role, emulator, request.settings)
    return _as_link(request, emulator, lock=stand.lock)


def open_sim_tcp(request: OpenRequest) -> ByteLink | LibraryChannel:
    """Open ``sim+tcp://host:port``, an emulator that `labctl sim serve` serves; the port is the laboratory's."""
    session = request.session
    address = split_host_port(request.resource.partition(":")[2].removeprefix("//"), request.resource)
    laboratory = session.laboratory
    # A bench file that differs from a simulated one in its resources alone says nothing about a served laboratory.
    if laboratory is None or (isinstance(laboratory, LocalLaboratory) and laboratory.is_unused):
        laboratory = session.laboratory = RemoteLaboratory(address, session.clock, session.seed)
    if not isinstance(laboratory, RemoteLaboratory) or laboratory.address != address:
        elsewhere = f"at {laboratory.address}" if isinstance(laboratory, RemoteLaboratory) else "in this process"
        raise InputError(
            f"{request.resource} belongs to another laboratory than the bench, whose laboratory is {elsewhere}",
            where=f"instruments.{request.role}.resource",
            todo=f'write {SERVED_AT} = "{address[0]}:{address[1]}" into [laboratory]',
        )
    connection = laboratory.connect(request.role, request.driver)
    library = isinstance(request.settings, LibrarySettings)
    emulator = RemoteLibrary(connection) if library else RemoteWire(connection, session.clock)
    return _as_link(request, emulator, lock=connection.lock, on_close=connection.close)


def without_served_at(table: Any) -> Any:
    """Get the table ``[laboratory]`` without the key that says where it is served."""
    values = {key: value for key, value in table_values(table).items() if key != SERVED_AT}
    return RawTable(table.file, table.path, table.lines, values) if isinstance(table, RawTable) else values


def table_values(table: Any) -> Mapping[str, Any]:
    """Get the values of a table of a configuration file, however it is kept; none for None."""
    if table is None:
        return {}
    return table.data if isinstance(table, RawTable) else table


def _address(served_at: Any) -> tuple[str, int]:
    if not isinstance(served_at, str):
        raise InputError(f"found {served_at!r}; allowed: text like 127.0.0.1:4000", where=f"laboratory.{SERVED_AT}")
    return split_host_port(served_at, served_at)


def _as_link(request: OpenRequest, emulator: Any, **shared: Any) -> EmulatorLink | EmulatorChannel:
    clock, name = request.session.clock, f"{request.role} ({request.driver} at {request.resource})"
    if isinstance(request.settings, LibrarySettings):
        return EmulatorChannel(emulator, clock, request.settings, name, **shared)
    return EmulatorLink(emulator, clock, name, **shared)


def _wrong_kind(request: OpenRequest) -> InputError:
    return InputError(
        f"driver and emulator of {request.driver} do not fit: one speaks on a wire, the other is a library",
        where=f"instruments.{request.role}.driver",
        todo="report this to whoever maintains the driver",
    )
