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
from labctl.run.endpoint import VERSION, Endpoint, EndpointClient

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Unix sockets")


def refuse(message: dict[str, Any]) -> dict[str, Any]:
    raise StorageError("the disk is full")


def break_down(message: dict[str, Any]) -> dict[str, Any]:
    raise KeyError("text")


@pytest.fixture
def lost() -> threading.Event:
    return threading.Event()


@pytest.fixture
def endpoint(lost: threading.Event) -> Iterator[Endpoint]:
    commands = {"echo": lambda message: {"text": message["text"]}, "refuse": refuse, "break": break_down}
    served = Endpoint(commands, lost.set)
    yield served
    served.close()


def exchange(endpoint: Endpoint, data: bytes) -> list[dict[str, Any]]:
    """Send bytes, end the sending, and return all that comes back."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(10)
        raw.connect(endpoint.address)
        try:
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
    return [json.loads(line) for line in received.splitlines()]


def still_serves(endpoint: Endpoint) -> bool:
    with EndpointClient(endpoint.address) as client:
        return client.ask("echo", text="hello") == {"text": "hello"}


def test_only_the_owner_gets_in(endpoint):
    assert stat.S_IMODE(Path(endpoint.address).parent.stat().st_mode) == 0o700


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


def test_what_was_published_before_the_end_arrives(lost):
    endpoint = Endpoint({}, lost.set)
    with EndpointClient(endpoint.address, lease=True) as client:
        assert endpoint.leased.wait(5)
        for number in range(50):
            endpoint.publish({"event": "final", "number": number})
        endpoint.close()
        assert [message["number"] for message in client.messages() if "event" in message] == list(range(50))
    assert not lost.is_set(), "it was the engine that closed"
    assert not Path(endpoint.address).parent.exists()
