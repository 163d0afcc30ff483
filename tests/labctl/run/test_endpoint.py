"""The endpoint: answers what is right, survives what is wrong, never holds up the run."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labctl.errors import StorageError
from labctl.run import endpoint as endpoint_module
from labctl.run.endpoint import VERSION, Endpoint, EndpointClient

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Unix sockets")


def refuse(message: dict[str, Any]) -> dict[str, Any]:
    raise StorageError("the disk is full")


def break_down(message: dict[str, Any]) -> dict[str, Any]:
    raise KeyError("text")


@pytest.fixture
def lost() -> threading.Event:
    return threading.Event()


COMMANDS = {"echo": lambda message: {"text": message["text"]}, "refuse": refuse, "break": break_down}


@pytest.fixture(params=[True, False], ids=["Unix socket", "loopback port"])
def endpoint(lost: threading.Event, request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    served = Endpoint(COMMANDS, lost.set, unix_socket=request.param)
    yield served
    served.close()


@pytest.fixture
def port(lost: threading.Event) -> Iterator[Endpoint]:
    served = Endpoint(COMMANDS, lost.set, unix_socket=False)
    yield served
    served.close()


def token_of(endpoint: Endpoint) -> str:
    return Path(endpoint.address.partition("#")[2]).read_text(encoding="ascii")


def connected(endpoint: Endpoint) -> socket.socket:
    if endpoint.address.startswith("/"):
        raw = socket.socket(socket.AF_UNIX)
        raw.connect(endpoint.address)
    else:
        host, _, number = endpoint.address.partition("#")[0].rpartition(":")
        raw = socket.create_connection((host, int(number)))
    raw.settimeout(10)
    return raw


def exchange(endpoint: Endpoint, data: bytes) -> list[dict[str, Any]]:
    """Send bytes, end the sending, and return all that comes back, but for the answer to the token."""
    with connected(endpoint) as raw:
        answers_to_token = 0
        try:
            if not endpoint.address.startswith("/"):
                raw.sendall(b'{"v": 1, "command": "attach", "token": "%s"}\n' % token_of(endpoint).encode())
                answers_to_token = 1
            raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other side may have had enough
        received = b""
        try:
            while data := raw.recv(65536):
                received += data
        except ConnectionResetError:
            pass
    messages = [json.loads(line) for line in received.splitlines()]
    if answers_to_token and messages and messages[0].get("answer") == {"attached": True}:
        return messages[1:]
    return messages


def still_serves(endpoint: Endpoint) -> bool:
    with EndpointClient(endpoint.address) as client:
        return client.ask("echo", text="hello") == {"text": "hello"}


def test_only_the_owner_gets_in(endpoint):
    folder = Path(endpoint.address.partition("#")[2] or endpoint.address).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_address_does_not_tell_the_token(port):
    assert len(token_of(port)) == 32
    assert token_of(port) not in port.address


@pytest.mark.parametrize("token", ["", "0" * 32, 5, None])
def test_a_stranger_is_cut_off_and_hears_nothing(port, lost, token):
    with connected(port) as raw, EndpointClient(port.address) as owner:
        messages = owner.messages()
        assert next(messages)["answer"] == {"attached": True}
        port.publish({"event": "point"})
        assert next(messages)["event"] == "point"
        raw.sendall(json.dumps({"v": VERSION, "command": "attach", "lease": True, "token": token}).encode() + b"\n")
        (line,) = raw.makefile("rb").read().splitlines()
        assert json.loads(line)["answer"] == {"error": "wrong token"}
    assert not port.leased.is_set() and not lost.is_set()


def test_strangers_who_say_nothing_take_nobodys_place(port, monkeypatch):
    monkeypatch.setattr(endpoint_module, "_CONNECT_S", 0.2)
    strangers = [connected(port) for _ in range(16)]
    for stranger in strangers:
        assert stranger.recv(100) == b""
        stranger.close()
    assert still_serves(port)


def test_the_file_of_the_token_lies_in_the_profile_of_its_owner(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    folder = endpoint_module._private_folder("nt")
    assert folder.parent == tmp_path / "labctl" / "engines"
    assert folder.is_dir()


def test_commands_are_answered_in_order(endpoint):
    line = b'{"v": 1, "command": "echo", "text": %d}\n'
    answers = exchange(endpoint, b"".join(line % number for number in range(20)))
    assert [answer["answer"]["text"] for answer in answers] == list(range(20))
    assert all(answer["v"] == VERSION for answer in answers)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"hello", "not understood"),
        (b"[1]", "JSON object"),
        (b'"\xff\xfe"', "not understood"),
        (b"[" * 60000, "not understood"),
        (b"9" * 60000, "not understood"),
        (b'{"command": "echo"}', "version 1"),
        (b'{"v": 2, "command": "echo"}', "version 1"),
        (b'{"v": 1}', "unknown command"),
        (b'{"v": 1, "command": {"a": 1}}', "unknown command"),
        (b'{"v": 1, "command": "__init__"}', "unknown command"),
        (b'{"v": 1, "command": "refuse"}', "the disk is full"),
        (b'{"v": 1, "command": "break"}', "KeyError"),
    ],
)
def test_wrong_input_is_answered_with_an_error(endpoint, line, said):
    (answer,) = exchange(endpoint, line + b"\n")
    assert said in answer["answer"]["error"]
    assert still_serves(endpoint)


def test_a_line_without_end_is_cut_off(endpoint):
    answers = exchange(endpoint, b"x" * (1 << 20))
    assert [answer["answer"]["error"] for answer in answers] in ([], ["a line is longer than 65536 bytes"])
    assert still_serves(endpoint)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_bytes_do_no_harm(endpoint, lost, data):
    exchange(endpoint, data + b"\n")
    assert not lost.is_set()
    assert still_serves(endpoint)


def test_many_connections_are_turned_away_and_do_no_harm(endpoint):
    clients = [EndpointClient(endpoint.address) for _ in range(16)]
    for client in clients:
        assert client.ask("echo", text=1) == {"text": 1}
    assert "16 fronts" in exchange(endpoint, b"")[0]["answer"]["error"]
    clients.pop().close()
    deadline = time.monotonic() + 10
    while "16 fronts" in str(exchange(endpoint, b"")):
        assert time.monotonic() < deadline, "the place of a front that has left is not free again"
    for client in clients:
        client.close()


def test_a_front_that_does_not_read_holds_up_nobody(endpoint, lost):
    with EndpointClient(endpoint.address, lease=True) as sleeper, EndpointClient(endpoint.address) as reader:
        assert endpoint.leased.wait(5)
        messages = reader.messages()
        assert next(messages)["answer"] == {"attached": True}
        for number in range(3000):
            endpoint.publish({"event": "point", "number": number, "padding": "x" * 500})
        endpoint.publish({"event": "last"})
        assert any(message.get("event") == "last" for message in messages)
        assert not lost.is_set(), "a suspended front keeps its lease"
        # It wakes up: whole lines, the newest among them.
        seen = []
        for message in sleeper.messages():
            seen.append(message)
            if message.get("event") == "last":
                break
        assert len(seen) < 3000


def test_the_lease_is_lost_with_the_connection(endpoint, lost):
    EndpointClient(endpoint.address).close()
    client = EndpointClient(endpoint.address, lease=True)
    assert endpoint.leased.wait(5)
    assert not lost.is_set()
    client.close()
    assert lost.wait(5)


@pytest.mark.parametrize("unix_socket", [True, False])
def test_what_was_published_before_the_end_arrives(lost, unix_socket):
    endpoint = Endpoint({}, lost.set, unix_socket=unix_socket)
    with EndpointClient(endpoint.address, lease=True) as client:
        assert endpoint.leased.wait(5)
        for number in range(50):
            endpoint.publish({"event": "final", "number": number})
        endpoint.close()
        assert [message["number"] for message in client.messages() if "event" in message] == list(range(50))
    assert not lost.is_set(), "it was the engine that closed"
    assert not Path(endpoint.address.partition("#")[2] or endpoint.address).parent.exists()
