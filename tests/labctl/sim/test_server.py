"""The served laboratory: raw on TCP and pty for strangers, framed for our own drivers."""

from __future__ import annotations

import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import serial

from labctl.clock import Clock, RealClock, ScaledClock, VirtualClock
from labctl.errors import ConnectionLost, InputError, LabctlError
from labctl.sim.frames import VERSION, FrameReader, encode
from labctl.sim.remote import RemoteLaboratory
from labctl.sim.server import LaboratoryServer, run_server
from labctl.sim.serving import LaboratoryService
from labctl.sim.stand import Stand
from labctl.sim.transport import EmulatorChannel, EmulatorLink, LocalLaboratory, open_laboratory, open_sim, open_sim_tcp
from labctl.transport.session import OpenRequest, Session
from labctl.transport.settings import LibrarySettings, LinkSettings, Parameter, WireSettings

_WAIT_S = 20.0
_LINE = WireSettings()
_LIBRARY = LibrarySettings(
    "toy library",
    {},
    {
        "SetGain": (Parameter("in"),),
        "GetGain": (Parameter("out"),),
        "GetImage": (Parameter("array_out"),),
        "Refuse": (),
        "Missing": (),
    },
)


def bench_of(**drivers: str) -> Any:
    instruments = {
        role: SimpleNamespace(driver=driver, resource="sim:", options={"value": role} if "wire" in driver else {})
        for role, driver in drivers.items()
    }
    return SimpleNamespace(name="toys", instruments=instruments, laboratory={})


TOYS = bench_of(left="toy-wire", right="toy-wire", camera="toy-library")


@contextmanager
def serving(bench: Any, **options: Any) -> Iterator[dict[str, Any]]:
    """Serve in a thread of this process; gives the addresses."""
    addresses: dict[str, Any] = {}
    services: list[LaboratoryService] = []
    faults: list[BaseException] = []
    ready = threading.Event()

    def listening(found: dict[str, Any]) -> None:
        addresses.update(found)
        ready.set()

    def serve() -> None:
        try:
            run_server(bench, ready=listening, started=services.append, **options)
        except BaseException as error:
            faults.append(error)
            ready.set()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(_WAIT_S)
    try:
        if faults:
            raise faults[0]
        yield addresses
    finally:
        services[0].stop()
        thread.join(_WAIT_S)
        assert not thread.is_alive()


@pytest.fixture
def served(toys: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    with serving(TOYS, factories=toys, seed=5, speed=10.0) as addresses:
        yield addresses


def address_of(text: str) -> tuple[str, int]:
    host, port = text.rsplit(":", 1)
    return host, int(port)


@contextmanager
def raw(served: dict[str, Any], role: str = "left") -> Iterator[Callable[[bytes, int], bytes]]:
    """Connect as a stranger; gives a function that sends, and reads a number of bytes."""
    with socket.create_connection(address_of(served["instruments"][role]["tcp"]), timeout=_WAIT_S) as client:

        def exchange(data: bytes, count: int) -> bytes:
            client.sendall(data)
            received = b""
            while len(received) < count and (piece := client.recv(count - len(received))):
                received += piece
            return received

        yield exchange


def session_at(served: dict[str, Any], clock: Clock, seed: int = 5) -> Session:
    return Session("toys", clock, laboratory_table={"served_at": served["laboratory"]["tcp"]}, seed=seed)


def open_at(session: Session, served: dict[str, Any], role: str) -> Any:
    driver, line = ("toy-library", _LIBRARY) if role == "camera" else ("toy-wire", _LINE)
    return open_sim_tcp(request(session, served, role, driver, line))


def request(session: Session, served: dict[str, Any], role: str, driver: str, line: LinkSettings) -> OpenRequest:
    return OpenRequest(role, driver, f"sim+tcp://{served['laboratory']['tcp']}", line, {}, session)


def test_every_instrument_has_an_address_on_loopback(served: dict[str, Any]) -> None:
    assert served["bench"] == "toys"
    assert list(served["instruments"]) == ["left", "right", "camera"]
    for role, entry in served["instruments"].items():
        assert entry["driver"] == TOYS.instruments[role].driver
        assert address_of(entry["tcp"])[0] == "127.0.0.1"
    assert served["instruments"]["camera"] == {
        "driver": "toy-library",
        "tcp": served["laboratory"]["tcp"],
        "pty": None,
    }
    wires = [served["instruments"][role]["tcp"] for role in ("left", "right")]
    assert len({*wires, served["laboratory"]["tcp"]}) == 3


def test_strangers_come_one_after_another_and_find_the_state_they_left(served: dict[str, Any]) -> None:
    with raw(served) as exchange:
        assert exchange(b"get\n", 5) == b"left\n"
        exchange(b"set 42\n", 0)
        assert exchange(b"get\n", 3) == b"42\n"
    with raw(served) as exchange:
        assert exchange(b"get\n", 3) == b"42\n"
    with raw(served, "right") as exchange:
        assert exchange(b"get\n", 6) == b"right\n"


def test_lines_come_with_any_ending_in_any_pieces(served: dict[str, Any]) -> None:
    with raw(served) as exchange:
        assert exchange(b"set 1\r\n\r\nget\r\nget\nset 2\rget\r\n", 6) == b"1\n1\n2\n"
        for byte in b"ge":
            exchange(bytes([byte]), 0)
            time.sleep(0.005)
        assert exchange(b"t\n", 2) == b"2\n"


def test_late_replies_leave_in_the_order_of_their_moments(served: dict[str, Any]) -> None:
    with raw(served) as exchange:
        assert exchange(b"backwards\nslow 0.25\nget\n", 23) == b"left\nfirst\ndone\nsecond\n"


def test_time_runs_as_fast_as_asked(served: dict[str, Any]) -> None:
    with raw(served) as exchange:
        start = _time(exchange)
        assert exchange(b"slow 2\n", 5) == b"done\n"
        assert _time(exchange) - start >= 1.99


def _time(exchange: Callable[[bytes, int], bytes]) -> float:
    text = exchange(b"time\n", 1)
    while not text.endswith(b"\n"):
        text += exchange(b"", 1)
    return float(text)


def test_what_an_instrument_says_unasked_goes_to_its_client_only(served: dict[str, Any]) -> None:
    with raw(served) as left, raw(served, "right") as right:
        assert left(b"tick\n", 10) == b"tick\ntick\n"
        assert right(b"get\n", 6) == b"right\n"


def test_replies_under_way_are_lost_with_the_connection(served: dict[str, Any]) -> None:
    with raw(served) as exchange:
        exchange(b"slow 1\nset 9\n", 0)
    with raw(served) as exchange:
        time.sleep(0.15)
        assert exchange(b"get\n", 2) == b"9\n"


def test_a_large_reply_arrives_whole(served: dict[str, Any]) -> None:
    with raw(served) as exchange:
        assert exchange(b"large 3000000\n", 3000001) == b"x" * 3000000 + b"\n"


def test_an_emulator_that_breaks_cuts_off_its_client_alone(
    served: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with raw(served, "right") as other:
        with raw(served) as exchange:
            assert exchange(b"break\n", 1) == b""
        assert other(b"get\n", 6) == b"right\n"
    with raw(served) as exchange:
        assert exchange(b"get\n", 5) == b"left\n"
    assert "the toy broke" in caplog.text


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no ptys")
def test_a_pty_serves_pyserial_clients_that_come_and_go(served: dict[str, Any]) -> None:
    path = served["instruments"]["left"]["pty"]
    for baud_rate, number in ((9600, b"1"), (115200, b"2")):
        with serial.Serial(path, baud_rate, timeout=_WAIT_S) as port:
            port.write(b"get\r\n")
            before = port.read_until(b"\n")
            port.write(b"set " + number + b"\r\n\r\nget\r\n")
            assert port.read_until(b"\n") == number + b"\n"
            port.write(b"slow 0.5\n")
            assert port.read_until(b"\n") == b"done\n"
    assert before == b"1\n"
    with raw(served) as exchange:
        assert exchange(b"get\n", 2) == b"2\n"


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no ptys")
def test_a_pty_passes_every_byte_and_large_replies(served: dict[str, Any]) -> None:
    with serial.Serial(served["instruments"]["left"]["pty"], timeout=_WAIT_S, rtscts=True) as port:
        port.write(b"large 50000\n")
        assert port.read(50001) == b"x" * 50000 + b"\n"
        port.write(b"set \x11\x13\x03\x04\x1a\x7f\nget\n")
        assert port.read_until(b"\n") == b"\x11\x13\x03\x04\x1a\x7f\n"


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no ptys")
def test_the_flow_control_of_a_pty_client_is_no_data(served: dict[str, Any]) -> None:
    with serial.Serial(served["instruments"]["left"]["pty"], timeout=_WAIT_S, xonxoff=True) as port:
        port.write(b"set 1\nlarge 50000\n")
        # The line discipline of a client that does not read yet stops us with ^S.
        time.sleep(0.2)
        assert port.read(50001) == b"x" * 50000 + b"\n"
        port.write(b"\x13\x11get\n")
        assert port.read_until(b"\n") == b"1\n"


def _script(session: Session, left: EmulatorLink, right: EmulatorLink, camera: EmulatorChannel) -> list[Any]:
    """What a run does, with the moment of everything that comes back."""
    laboratory, clock = session.laboratory, session.clock
    assert laboratory is not None
    seen: list[Any] = []

    def note(what: object) -> None:
        seen.append((clock.now(), what))

    for point in range(3):
        laboratory.announce(point, 0, 10.0 * point)
        left.send(b"set 5\nslow 1.7\n")
        note(left.receive(0.3))
        right.send(b"draw\ntick\n")
        note(right.receive(2.0))
        note(left.receive(9.0))
        note(right.receive(2.0))
        right.send(b"quiet\nbackwards\n")
        note(right.receive(2.0))
        note(camera.call("SetGain", point))
        code, (image,) = camera.call("GetImage", 100)
        note((code, image.dtype.str, image.tobytes()))
        note(camera.call("GetGain"))
        note(camera.call("Refuse"))
        clock.sleep(0.1)
        right.send(b"time\n")
        note(right.receive(1.0))
    return seen


def test_a_run_is_the_same_in_process_and_in_another_bit_for_bit(
    served: dict[str, Any], toys: Mapping[str, Any]
) -> None:
    from labctl.sim.laboratory import create

    far = session_at(served, VirtualClock())
    far.laboratory = open_laboratory(far)
    with far.clock.actor():
        links = [open_at(far, served, role) for role in ("left", "right", "camera")]
        over_tcp = _script(far, *links)
    for link in links:
        link.close()
    far.laboratory.close()

    near = Session("toys", VirtualClock(), seed=5)
    stand = Stand(create({}, None, 5), toys)
    near.laboratory = LocalLaboratory(stand, near.clock)
    for role in ("left", "right"):
        stand.put(role, "toy-wire", {"value": role})
    here = [
        open_sim(OpenRequest(role, driver, "sim:", line, {}, near))
        for role, driver, line in (
            ("left", "toy-wire", _LINE),
            ("right", "toy-wire", _LINE),
            ("camera", "toy-library", _LIBRARY),
        )
    ]
    assert over_tcp == _script(near, *here)  # type: ignore[arg-type]
    assert len({data for _, data in over_tcp if isinstance(data, bytes)}) > 5


def test_a_new_client_joins_at_the_latest_time_of_the_laboratory(served: dict[str, Any]) -> None:
    first = session_at(served, VirtualClock(start_s=5000.0))
    link = open_at(first, served, "left")
    link.send(b"slow 1\n")
    assert link.receive(2.0) == b"done\n"
    link.send(b"set 3\n")
    link.close()
    assert first.laboratory is not None
    first.laboratory.close()

    virtual = session_at(served, VirtualClock())
    late = open_at(virtual, served, "left")
    assert virtual.clock.now() == 5001.0
    late.send(b"get\n")
    assert late.receive(1.0) == b"3\n"

    late.close()
    assert virtual.laboratory is not None
    virtual.laboratory.close()


@pytest.mark.parametrize("clock", [RealClock(), ScaledClock(4.0)], ids=["real", "scaled"])
def test_framed_clients_in_real_time_live_in_the_time_of_the_raw_ones(served: dict[str, Any], clock: Clock) -> None:
    session = session_at(served, clock)
    link = open_at(session, served, "left")
    with raw(served, "right") as exchange:
        for _ in range(3):
            link.send(b"time\n")
            framed = float(link.receive(_WAIT_S))
            assert 0.0 <= _time(exchange) - framed < 10.0 * _WAIT_S
    before = clock.now()
    link.send(b"slow 1\n")
    assert link.receive(_WAIT_S) == b"done\n"
    # One second of the laboratory, which runs ten times as fast as real time.
    assert clock.now() - before >= 0.0999 * getattr(clock, "speed", 1.0)
    link.send(b"tick\n")
    assert link.receive(_WAIT_S) == b"tick\n"
    link.send(b"quiet\n")
    camera = open_at(session, served, "camera")
    assert camera.call("SetGain", 3) == (20002, [])
    assert len(camera.call("GetImage", 10)[1][0]) == 10
    assert session.laboratory is not None
    session.laboratory.operator("sample out of beam")
    assert session.laboratory.state()["sample_in_beam"] is False
    for connection in (link, camera, session.laboratory):
        connection.close()


def test_a_bench_file_may_differ_from_a_simulated_one_in_its_resources_alone(served: dict[str, Any]) -> None:
    session = Session("toys", VirtualClock(), laboratory_table={}, seed=5)
    session.laboratory = open_laboratory(session)
    assert isinstance(session.laboratory, LocalLaboratory)
    link = open_at(session, served, "left")
    assert isinstance(session.laboratory, RemoteLaboratory)
    link.send(b"get\n")
    assert link.receive(1.0) == b"left\n"
    link.close()
    session.laboratory.close()


def test_a_framed_port_that_is_opened_again_has_lost_what_was_said_meanwhile(served: dict[str, Any]) -> None:
    session = session_at(served, VirtualClock())
    link = open_at(session, served, "left")
    link.send(b"tick\nslow 0.5\n")
    link.close()
    session.clock.sleep(3.5)
    link = open_at(session, served, "left")
    assert link.receive(0.25) == b""
    assert link.receive(0.5) == b"tick\n"
    link.close()
    assert session.laboratory is not None
    session.laboratory.close()


def test_raw_clients_go_on_from_the_latest_framed_time(served: dict[str, Any]) -> None:
    session = session_at(served, VirtualClock(start_s=9000.0))
    link = open_at(session, served, "left")
    link.send(b"set 8\n")
    with raw(served) as exchange:
        assert exchange(b"get\n", 2) == b"8\n"
        assert exchange(b"slow 0.5\n", 5) == b"done\n"
        assert 9000.0 <= _time(exchange) < 9000.0 + 10.0 * _WAIT_S
    link.close()
    assert session.laboratory is not None
    session.laboratory.close()


def test_the_control_connection_reaches_the_laboratory_itself(
    served: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    session = session_at(served, VirtualClock(), seed=6)
    with caplog.at_level(logging.WARNING):
        laboratory = open_laboratory(session)
    assert "has seed 5, the run has 6" in caplog.text
    assert laboratory.state()["sample_in_beam"] is True
    laboratory.operator("sample out of beam")
    assert laboratory.state()["sample_in_beam"] is False
    with pytest.raises(InputError, match="cannot do 'dance'"):
        laboratory.operator("dance")
    laboratory.announce(1, 0, 0.0)
    laboratory.close()
    with pytest.raises(ConnectionLost):
        laboratory.announce(2, 0, 0.0)


@pytest.mark.parametrize(("role", "driver"), [("shutter", "toy-wire"), ("left", "thorlabs-sc10")])
def test_an_instrument_that_is_not_there_is_refused_with_those_that_are(
    served: dict[str, Any], role: str, driver: str
) -> None:
    session = session_at(served, VirtualClock())
    with pytest.raises(InputError, match=r"it has left \(toy-wire\), right"):
        open_sim_tcp(request(session, served, role, driver, _LINE))
    assert session.laboratory is not None
    session.laboratory.close()


def test_instruments_and_bench_must_name_the_same_laboratory(served: dict[str, Any]) -> None:
    session = session_at(served, VirtualClock())
    session.laboratory = open_laboratory(session)
    with pytest.raises(InputError, match="another laboratory"):
        open_sim_tcp(OpenRequest("left", "toy-wire", "sim+tcp://127.0.0.1:9", _LINE, {}, session))
    with pytest.raises(InputError, match="lives in another process"):
        open_sim(OpenRequest("left", "toy-wire", "sim:", _LINE, {}, session))
    session.laboratory.close()


def test_a_call_that_the_emulator_does_not_know_ends_that_connection_only(
    served: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    session = session_at(served, VirtualClock())
    camera, other = open_at(session, served, "camera"), open_at(session, served, "camera")
    with pytest.raises(ConnectionLost, match="the toy has no Missing"):
        camera.call("Missing")
    with pytest.raises(ConnectionLost):
        camera.call("GetGain")
    assert other.call("GetGain") == (20002, [1])
    assert "the toy has no Missing" in caplog.text
    other.close()
    camera.close()
    assert session.laboratory is not None
    session.laboratory.close()


_HELLO = encode({"op": "hello", "version": VERSION, "role": "left", "driver": "toy-wire", "t": 0.0, "speed": None})
_CONTROL = encode({"op": "hello", "version": VERSION, "t": 0.0, "speed": None})


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"*IDN?\n" * 4, "does not begin a frame"),
        (struct.pack(">II", 0xFFFFFFFF, 4), "does not begin a frame"),
        (struct.pack(">II", 6, 2) + b"{]", "not JSON"),
        (encode({"op": "wire", "t": 0.0, "data": b""}), "begins with one hello"),
        (encode({"op": "hello", "version": 99, "t": 0.0, "speed": None}), "speaks version 1"),
        (encode({"op": "format disk"}), "is not understood"),
        (_HELLO + _HELLO, "begins with one hello"),
        (_HELLO + encode({"op": "state", "t": 0.0}), "takes no State"),
        (_HELLO + encode({"op": "call", "t": 0.0, "function": "f", "arguments": []}), "takes no Call"),
        (_CONTROL + encode({"op": "wire", "t": 0.0, "data": b""}), "takes no Wire"),
        (_HELLO + encode({"op": "wire", "t": float("nan"), "data": b""}), "is not understood"),
    ],
)
def test_hostile_frames_are_answered_with_the_fault_and_close_that_connection_only(
    served: dict[str, Any], data: bytes, complaint: str
) -> None:
    session = session_at(served, VirtualClock())
    link = open_at(session, served, "left")
    with socket.create_connection(address_of(served["laboratory"]["tcp"]), timeout=_WAIT_S) as attacker:
        attacker.sendall(data)
        received = b""
        while piece := attacker.recv(1 << 16):
            received += piece
    refusal = list(FrameReader().feed(received))[-1]
    assert complaint in refusal["error"] and refusal["input_error"] is False
    link.send(b"get\n")
    assert link.receive(1.0) == b"left\n"
    link.close()
    assert session.laboratory is not None
    session.laboratory.close()


def test_a_client_that_leaves_in_the_middle_of_a_frame_does_no_harm(served: dict[str, Any]) -> None:
    for length in range(1, len(_HELLO), 7):
        with socket.create_connection(address_of(served["laboratory"]["tcp"]), timeout=_WAIT_S) as client:
            client.sendall(_HELLO[:length])
    with raw(served) as exchange:
        assert exchange(b"get\n", 5) == b"left\n"


def test_a_server_that_sends_no_frames_is_a_lost_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1000)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        served = {"laboratory": {"tcp": f"127.0.0.1:{server.getsockname()[1]}"}}
        with pytest.raises(ConnectionLost, match="does not begin a frame"):
            open_laboratory(session_at(served, VirtualClock()))
        thread.join(_WAIT_S)


@pytest.mark.parametrize(
    ("resource", "options", "match"),
    [
        ("sim+tcp://127.0.0.1:4000", {}, "cannot be served: left at sim"),
        ("serial:COM3", {}, "left at serial:COM3"),
        ("sim:", {"speed": 0.0}, "found 0 as speed"),
        ("sim:", {"speed": float("nan")}, "found nan as speed"),
        ("sim:", {"port": "taken"}, "cannot listen"),
    ],
)
def test_what_cannot_be_served_is_refused(
    toys: Mapping[str, Any], resource: str, options: dict[str, Any], match: str
) -> None:
    bench = bench_of(left="toy-wire")
    bench.instruments["left"].resource = resource
    with socket.create_server(("127.0.0.1", 0)) as taken:
        if options.get("port"):
            options = {"port": taken.getsockname()[1]}
        with pytest.raises(InputError, match=match):
            run_server(bench, factories=toys, ready=lambda _: pytest.fail("must not listen"), **options)


def test_a_bench_with_an_unknown_driver_is_refused() -> None:
    with pytest.raises(InputError, match="no-such-driver"):
        run_server(bench_of(left="no-such-driver"), ready=lambda _: pytest.fail("must not listen"))


def test_a_child_process_serves_real_emulators_until_it_is_left() -> None:
    server = LaboratoryServer(bench_of(shutter="thorlabs-sc10"), seed=1)
    with server as addresses:
        with raw(addresses, "shutter") as exchange:
            assert exchange(b"id?\r", 31).startswith(b"id?\rTHORLABS SC10")
        pid = server.pid
        assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_child_that_is_killed_is_noticed_by_its_clients() -> None:
    server = LaboratoryServer(bench_of(shutter="thorlabs-sc10"), seed=1)
    with server as addresses:
        session = session_at(addresses, VirtualClock(), seed=1)
        laboratory = open_laboratory(session)
        server.kill()
        with pytest.raises(ConnectionLost):
            laboratory.state()


def test_what_a_child_refuses_is_raised_here() -> None:
    with pytest.raises(LabctlError, match="no-such-driver"):
        with LaboratoryServer(bench_of(shutter="no-such-driver")):
            pytest.fail("must not listen")


def test_arrays_cross_the_wire_as_they_are(served: dict[str, Any]) -> None:
    session = session_at(served, VirtualClock())
    camera = open_at(session, served, "camera")
    _, (image,) = camera.call("GetImage", 100_000)
    assert image.dtype == np.int32 and image.shape == (100_000,)
    assert 995.0 < image.mean() < 1005.0
    camera.close()
    assert session.laboratory is not None
    session.laboratory.close()
