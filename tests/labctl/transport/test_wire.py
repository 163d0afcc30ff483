"""Byte links over real sockets, a pty and VISA."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from labctl.errors import ConnectionLost, InputError
from labctl.transport.link import ByteLink
from labctl.transport.settings import WireSettings
from labctl.transport.wire import SerialLink, SocketLink, VisaLink, open_wire, split_host_port

_JOIN_S = 20.0
_SETTINGS = WireSettings(timeout_s=2.0)


class FarEnd:
    """The instrument's end of a link."""

    def __init__(self, write: Callable[[bytes], object], read: Callable[[int], bytes]) -> None:
        self.write = write
        self._read = read

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += self._read(count - len(data))
        return data


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(_JOIN_S)
        yield server


def _on_tcp(listener: socket.socket, resource: str) -> Iterator[tuple[ByteLink, FarEnd]]:
    link = open_wire(resource.format(port=listener.getsockname()[1]), _SETTINGS)
    peer, _ = listener.accept()
    peer.settimeout(_JOIN_S)
    with peer:
        yield link, FarEnd(peer.sendall, peer.recv)
    link.close()


@pytest.fixture(params=["socket", "visa", "serial", "serial over tcp"])
def wire(request: pytest.FixtureRequest, listener: socket.socket) -> Iterator[tuple[ByteLink, FarEnd]]:
    """Get a link of each kind, and the far end of it."""
    if request.param == "socket":
        yield from _on_tcp(listener, "socket://127.0.0.1:{port}")
    elif request.param == "visa":
        yield from _on_tcp(listener, "TCPIP::127.0.0.1::{port}::SOCKET")
    elif request.param == "serial over tcp":
        yield from _on_tcp(listener, "serial:socket://127.0.0.1:{port}")
    else:
        master, slave = os.openpty()
        link = open_wire(f"serial:{os.ttyname(slave)}", _SETTINGS)
        yield link, FarEnd(lambda data: os.write(master, data), lambda count: os.read(master, count))
        link.close()
        os.close(master)
        os.close(slave)


def _receive(link: ByteLink, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = link.receive(_JOIN_S)
        assert more, f"only {data!r} came"
        data += more
    return data


def test_bytes_go_both_ways_unchanged(wire: tuple[ByteLink, FarEnd]) -> None:
    link, far = wire
    every_byte = bytes(range(256))
    link.send(every_byte)
    assert far.read(256) == every_byte
    far.write(every_byte)
    assert _receive(link, 256) == every_byte


def test_silence_gives_nothing_and_loses_nothing(wire: tuple[ByteLink, FarEnd]) -> None:
    link, far = wire
    assert link.receive(0.02) == b""
    assert link.receive(0.0) == b""
    far.write(b"prompt> ")
    assert _receive(link, 8) == b"prompt> "


def test_a_reply_in_pieces_without_terminator_arrives_whole(wire: tuple[ByteLink, FarEnd]) -> None:
    link, far = wire
    far.write(b"12")
    assert _receive(link, 2) == b"12"
    assert link.receive(0.02) == b""
    far.write(b"34> ")
    assert _receive(link, 4) == b"34> "


def test_clearing_throws_away_what_has_arrived(wire: tuple[ByteLink, FarEnd]) -> None:
    link, far = wire
    far.write(b"old old")
    assert _receive(link, 1)[:1] == b"o"
    time.sleep(0.05)
    link.clear()
    assert link.receive(0.02) == b""
    far.write(b"new")
    assert _receive(link, 3) == b"new"


def test_a_closed_link_may_be_closed_again_and_says_that_it_is_lost(wire: tuple[ByteLink, FarEnd]) -> None:
    link, _ = wire
    link.close()
    link.close()
    with pytest.raises(ConnectionLost):
        link.receive(0.1)
    with pytest.raises(ConnectionLost):
        link.send(b"x")


@pytest.mark.parametrize("kind", ["socket", "serial"])
def test_closing_wakes_a_reader_in_another_thread(kind: str, listener: socket.socket) -> None:
    master, slave = os.openpty()
    if kind == "socket":
        link: ByteLink = SocketLink("127.0.0.1", listener.getsockname()[1])
    else:
        link = SerialLink(os.ttyname(slave), _SETTINGS)
    faults: list[Exception] = []

    def read() -> None:
        try:
            link.receive(600.0)
        except Exception as error:
            faults.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    time.sleep(0.1)
    link.close()
    thread.join(_JOIN_S)
    os.close(master)
    os.close(slave)
    assert not thread.is_alive()
    assert len(faults) == 1 and isinstance(faults[0], ConnectionLost)


def test_the_other_side_going_away_is_a_lost_connection(listener: socket.socket) -> None:
    link = SocketLink("127.0.0.1", listener.getsockname()[1])
    peer, _ = listener.accept()
    peer.close()
    for use in (lambda: link.receive(_JOIN_S), link.clear):
        with pytest.raises(ConnectionLost, match="other side closed"):
            use()
    link.close()


def test_closing_one_visa_resource_leaves_the_others_open(listener: socket.socket) -> None:
    resource = f"TCPIP::127.0.0.1::{listener.getsockname()[1]}::SOCKET"
    first, second = VisaLink(resource, _SETTINGS), VisaLink(resource, _SETTINGS)
    peers = [listener.accept()[0] for _ in range(2)]
    first.close()
    second.send(b"still here")
    assert peers[1].recv(100) == b"still here"
    second.close()
    for peer in peers:
        peer.close()


@pytest.mark.parametrize("resource", ["socket://127.0.0.1:{port}", "TCPIP::127.0.0.1::{port}::SOCKET"])
def test_nobody_listening_is_a_lost_connection_that_names_the_place(resource: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionLost, match=str(port)):
        # pyvisa-py notices at the first use only.
        open_wire(resource.format(port=port), _SETTINGS).receive(0.1)


def test_a_serial_port_that_does_not_exist_is_a_lost_connection() -> None:
    with pytest.raises(ConnectionLost, match="no-such-port"):
        open_wire("serial:/dev/no-such-port", _SETTINGS)


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":4000", "host:0", "host:65536", "host:-1", "host:4a", "4000"]
)
def test_an_address_without_host_or_port_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="needs host:port"):
        split_host_port(address, f"socket://{address}")


def test_addresses_of_both_families() -> None:
    assert split_host_port("bench:4000", "") == ("bench", 4000)
    assert split_host_port("[::1]:4000", "") == ("::1", 4000)
