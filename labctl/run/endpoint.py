"""The endpoint: an owner-only local socket over which fronts follow a run and send commands, as JSON lines.

On POSIX a Unix socket in a folder only the owner can enter; elsewhere a loopback port with a token that is known only
to whoever can read the run's folder.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import secrets
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

VERSION = 1
_MAX_LINE = 1 << 16
_MAX_FRONTS = 16
_BACKLOG_EVENTS = 256
_ACCEPT_POLL_S = 0.2
_SEND_TIMEOUT_S = 2.0

Command = Callable[[dict[str, Any]], dict[str, Any]]


class Endpoint:
    """Serves fronts from threads of its own; never holds up the run.

    A front that does not read loses events (the newest win) and finally its connection, not the run its time.

    :param commands: What a front may ask, by name; each takes the message and returns the answer.
    :param lease_lost: Called when a front that held the lease is gone.
    """

    def __init__(self, commands: dict[str, Command], lease_lost: Callable[[], None]) -> None:
        self._commands = commands
        self._lease_lost = lease_lost
        self._fronts: list[_Front] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._folder: str | None = None
        self._token = ""
        self._socket, self.address = self._listen()
        self._acceptor = threading.Thread(target=self._accept, name="endpoint", daemon=True)
        self._acceptor.start()

    def publish(self, event: dict[str, Any]) -> None:
        """Send an event to every front; returns at once."""
        line = json.dumps({"v": VERSION, **event}).encode() + b"\n"
        with self._lock:
            for front in self._fronts:
                front.offer(line)

    def close(self) -> None:
        """Close all connections and remove the socket."""
        self._closing.set()
        self._acceptor.join(timeout=5.0)
        with self._lock:
            fronts, self._fronts = self._fronts, []
        for front in fronts:
            front.finish()
        self._socket.close()
        if self._folder is not None:
            with contextlib.suppress(OSError):
                Path(self.address).unlink()
            with contextlib.suppress(OSError):
                Path(self._folder).rmdir()

    def _listen(self) -> tuple[socket.socket, str]:
        if hasattr(socket, "AF_UNIX") and os.name == "posix":
            self._folder = tempfile.mkdtemp(prefix="labctl-")  # mode 0700: only the owner gets at the socket
            address = str(Path(self._folder) / "engine")
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(address)
        else:
            self._token = secrets.token_hex(16)
            listener = socket.create_server(("127.0.0.1", 0))
            address = f"127.0.0.1:{listener.getsockname()[1]}#{self._token}"
        listener.listen(_MAX_FRONTS)
        listener.settimeout(_ACCEPT_POLL_S)
        return listener, address

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            front = _Front(connection, self._answer, self._gone)
            with self._lock:
                if len(self._fronts) >= _MAX_FRONTS:
                    connection.close()
                    continue
                self._fronts.append(front)
            front.start()

    def _answer(self, front: _Front, message: dict[str, Any]) -> dict[str, Any]:
        if self._token and not front.trusted:
            front.trusted = secrets.compare_digest(str(message.get("token", "")), self._token)
            if not front.trusted:
                return {"error": "wrong token"}
        name = message.get("command")
        if name == "attach":
            front.lease = bool(message.get("lease", False))
            return {"attached": True}
        command = self._commands.get(str(name))
        if command is None:
            return {"error": f"unknown command {name!r}", "commands": sorted([*self._commands, "attach"])}
        return command(message)

    def _gone(self, front: _Front) -> None:
        with self._lock:
            known = front in self._fronts
            if known:
                self._fronts.remove(front)
        if known and front.lease and not self._closing.is_set():
            self._lease_lost()


class _Front:
    """One connection: a thread that reads commands and one that writes events."""

    def __init__(
        self,
        connection: socket.socket,
        answer: Callable[[_Front, dict[str, Any]], dict[str, Any]],
        gone: Callable[[_Front], None],
    ) -> None:
        self.lease = False
        self.trusted = False
        self._connection = connection
        self._answer = answer
        self._gone = gone
        self._events: queue.Queue[bytes | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, name="front reader", daemon=True)
        self._writer = threading.Thread(target=self._write, name="front writer", daemon=True)

    def start(self) -> None:
        self._reader.start()
        self._writer.start()

    def offer(self, line: bytes) -> None:
        """Queue an event; the oldest goes when the front does not read."""
        while self._events.qsize() >= _BACKLOG_EVENTS:
            with contextlib.suppress(queue.Empty):
                self._events.get_nowait()
        self._events.put(line)

    def finish(self) -> None:
        """Send what is queued, then close."""
        self._events.put(None)
        self._writer.join(timeout=_SEND_TIMEOUT_S)
        self._shut()
        self._reader.join(timeout=_SEND_TIMEOUT_S)

    def _read(self) -> None:
        buffer = b""
        try:
            while data := self._connection.recv(4096):
                buffer += data
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    self._handle(line)
                if len(buffer) > _MAX_LINE:
                    break
        except OSError:
            pass
        finally:
            self._shut()
            self._events.put(None)
            self._gone(self)

    def _handle(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            if not isinstance(message, dict):
                raise ValueError("a JSON object is wanted")
        except ValueError as error:
            answer: dict[str, Any] = {"error": f"not understood: {error}"}
        else:
            answer = self._answer(self, message)
        self.offer(json.dumps({"v": VERSION, "answer": answer}).encode() + b"\n")

    def _write(self) -> None:
        try:
            while (line := self._events.get()) is not None:
                self._connection.settimeout(_SEND_TIMEOUT_S)
                self._connection.sendall(line)
                self._connection.settimeout(None)
        except OSError:
            log.debug("a front does not read any more")

    def _shut(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def connect(address: str, timeout_s: float = 5.0) -> socket.socket:
    """Connect to an endpoint; on systems without Unix sockets the token is sent at once."""
    if "#" in address:
        place, _, token = address.partition("#")
        host, _, port = place.rpartition(":")
        connection = socket.create_connection((host, int(port)), timeout=timeout_s)
        connection.sendall(json.dumps({"v": VERSION, "command": "attach", "token": token}).encode() + b"\n")
        return connection
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout_s)
    connection.connect(address)
    return connection
