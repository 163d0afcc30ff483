"""The endpoint: an owner-only local socket over which fronts follow a run and send commands, as JSON lines.

On POSIX a Unix socket in a folder only the owner can enter. CPython has no such sockets on Windows: there a port of
the loopback interface, and a token in a file of the owner's profile. Who connects says the token first; before that he
hears nothing and may ask nothing.

A front sends objects like ``{"v": 1, "command": "abort", "reason": "..."}`` and gets ``{"v": 1, "answer": {...}}``
for each, in order; an answer to what is wrong is ``{"error": "..."}``. In between come events, ``{"v": 1, "event":
NAME, ...}``. What a front may ask beside ``attach`` is the engine's choice.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from labctl.errors import LabctlError

log = logging.getLogger(__name__)

VERSION = 1
_MAX_LINE = 1 << 16
_MAX_FRONTS = 16
_BACKLOG_LINES = 256
_ACCEPT_POLL_S = 0.2
_LOOPBACK = "127.0.0.1"
_FINISH_S = 2.0
_CONNECT_S = 5.0
_HAS_UNIX_SOCKETS = os.name == "posix" and hasattr(socket, "AF_UNIX")

Command = Callable[[dict[str, Any]], dict[str, Any]]


class Endpoint:
    """Serves fronts from threads of its own; never holds up the run.

    A front that does not read loses the oldest of what it was sent, not the run its time.

    :param commands: What a front may ask, by name; each takes the message and returns the answer.
    :param lease_lost: Called when a front that held the lease is gone.
    :param unix_socket: Whether to listen on a Unix socket; otherwise on a loopback port.
    """

    def __init__(
        self,
        commands: dict[str, Command],
        lease_lost: Callable[[], None],
        *,
        unix_socket: bool = _HAS_UNIX_SOCKETS,
    ) -> None:
        self.leased = threading.Event()
        """Set once a front has taken the lease."""
        self._commands = commands
        self._lease_lost = lease_lost
        self._fronts: list[_Front] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._token = ""
        self._file = _private_folder() / "engine"
        self._socket, self.address = self._listen_on_file() if unix_socket else self._listen_on_port()
        self._socket.listen(_MAX_FRONTS)
        self._socket.settimeout(_ACCEPT_POLL_S)
        self._acceptor = threading.Thread(target=self._accept, name="endpoint", daemon=True)
        self._acceptor.start()

    def publish(self, event: dict[str, Any]) -> None:
        """Send an event to every front; returns at once."""
        line = _line(event)
        with self._lock:
            for front in self._fronts:
                if front.trusted:
                    front.offer(line)

    def close(self) -> None:
        """Send what is queued, close all connections and remove the socket."""
        self._closing.set()
        self._acceptor.join(timeout=5.0)
        with self._lock:
            fronts, self._fronts = self._fronts, []
        for front in fronts:
            front.finish()
        self._socket.close()
        with contextlib.suppress(OSError):
            self._file.unlink()
        with contextlib.suppress(OSError):
            self._file.parent.rmdir()

    def _listen_on_file(self) -> tuple[socket.socket, str]:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self._file))
        return listener, str(self._file)

    def _listen_on_port(self) -> tuple[socket.socket, str]:
        self._token = secrets.token_hex(16)
        with os.fdopen(os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(self._token)
        listener = socket.socket()
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows: nobody else may listen on the same port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        listener.bind((_LOOPBACK, 0))
        # The run's journal names the file, not the token: others may read the journal.
        return listener, f"{_LOOPBACK}:{listener.getsockname()[1]}#{self._file}"

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            front = _Front(connection, self._answer, self._gone, trusted=not self._token)
            with self._lock:
                full = len(self._fronts) >= _MAX_FRONTS
                if not full:
                    self._fronts.append(front)
            if full:
                _turn_away(connection)
            else:
                front.start()

    def _answer(self, front: _Front, message: dict[str, Any]) -> dict[str, Any]:
        if message.get("v") != VERSION:
            return {"error": f"this engine speaks version {VERSION}; say so by 'v' in every message"}
        if not front.trusted:
            if not secrets.compare_digest(str(message.get("token", "")).encode(), self._token.encode()):
                return {"error": "wrong token"}
            front.trust()
        name = message.get("command")
        if name == "attach":
            front.lease = message.get("lease") is True
            if front.lease:
                self.leased.set()
            return {"attached": True}
        command = self._commands.get(name) if isinstance(name, str) else None
        if command is None:
            return {"error": f"unknown command {str(name)[:80]!r}", "commands": sorted([*self._commands, "attach"])}
        try:
            return command(message)
        except LabctlError as error:
            return {"error": str(error)}
        except Exception as error:  # a front must never bring down the engine
            log.exception("the command %s failed", name)
            return {"error": f"{type(error).__name__}: {error}"}

    def _gone(self, front: _Front) -> None:
        with self._lock:
            known = front in self._fronts
            if known:
                self._fronts.remove(front)
        if known and front.lease and not self._closing.is_set():
            self._lease_lost()


class _Front:
    """One connection: a thread that reads commands and one that writes; both end with the connection."""

    def __init__(
        self,
        connection: socket.socket,
        answer: Callable[[_Front, dict[str, Any]], dict[str, Any]],
        gone: Callable[[_Front], None],
        *,
        trusted: bool,
    ) -> None:
        self.lease = False
        self.trusted = trusted
        self._connection = connection
        self._connection.settimeout(None if trusted else _CONNECT_S)
        self._answer = answer
        self._gone = gone
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, name="front reader", daemon=True)
        self._writer = threading.Thread(target=self._write, name="front writer", daemon=True)

    def start(self) -> None:
        # The writer first: a reader whose front has left already waits for it.
        self._writer.start()
        self._reader.start()

    def trust(self) -> None:
        """Take the front for the owner's: it may be silent for as long as it likes, and hears what happens."""
        self.trusted = True
        self._connection.settimeout(None)

    def offer(self, line: bytes) -> None:
        """Queue a line; the oldest goes when the front does not read."""
        while self._lines.qsize() >= _BACKLOG_LINES:
            with contextlib.suppress(queue.Empty):
                self._lines.get_nowait()
        self._lines.put(line)

    def finish(self) -> None:
        """Send what is queued, then close; a front that does not read is cut off."""
        self._lines.put(None)
        self._writer.join(timeout=_FINISH_S)
        self._shut()
        self._reader.join(timeout=_FINISH_S)

    def _read(self) -> None:
        buffer = b""
        try:
            while data := self._connection.recv(4096):
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    self._handle(line)
                    if not self.trusted:
                        return
                if len(buffer) > _MAX_LINE:
                    self.offer(_line({"answer": {"error": f"a line is longer than {_MAX_LINE} bytes"}}))
                    break
        except OSError:
            log.debug("a front broke off")
        finally:
            self._gone(self)
            self._lines.put(None)
            self._writer.join(timeout=_FINISH_S)
            self._shut()

    def _handle(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            if not isinstance(message, dict):
                raise ValueError("a JSON object is wanted")
        except (ValueError, RecursionError) as error:
            answer: dict[str, Any] = {"error": f"not understood: {error}"}
        else:
            answer = self._answer(self, message)
        self.offer(_line({"answer": answer}))

    def _write(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                # No time-out: a front that was suspended may come back; closing the socket ends the wait.
                self._connection.sendall(line)
        except OSError:
            log.debug("a front does not read any more")

    def _shut(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


class EndpointClient:
    """A front's connection to an endpoint.

    :param address: As the engine announces it: the path of a Unix socket, or ``host:port#FILE`` with the file of the
        token.
    :param lease: Whether the run ends when this connection does.

    Raises OSError when the engine cannot be reached.
    """

    def __init__(self, address: str, *, lease: bool = False) -> None:
        token = ""
        if address.startswith("/"):
            self._socket = socket.socket(socket.AF_UNIX)
            try:
                self._socket.settimeout(_CONNECT_S)
                self._socket.connect(address)
            except OSError:
                self._socket.close()
                raise
        else:
            place, _, file = address.partition("#")
            token = Path(file).read_text(encoding="ascii")
            host, _, port = place.rpartition(":")
            self._socket = socket.create_connection((host, int(port)), timeout=_CONNECT_S)
        self._socket.settimeout(None)
        self.send("attach", lease=lease, token=token)

    def send(self, command: str, **data: Any) -> None:
        """Send a command; its answer comes among the messages."""
        self._socket.sendall(_line({"command": command, **data}))

    def messages(self) -> Iterator[dict[str, Any]]:
        """Give what the engine sends until it closes the connection; raises OSError if that breaks."""
        with self._socket.makefile("rb") as stream:
            for line in stream:
                yield json.loads(line)

    def ask(self, command: str, *, timeout_s: float = _CONNECT_S, **data: Any) -> dict[str, Any]:
        """Send a command on a new connection and return its answer; raises OSError if there is none in time."""
        self._socket.settimeout(timeout_s)
        self.send(command, **data)
        answers = (message["answer"] for message in self.messages() if "answer" in message)
        next(answers, None)  # to the attach
        answer = next(answers, None)
        if answer is None:
            raise ConnectionResetError("the engine closed the connection")
        return answer

    def close(self) -> None:
        """Close the connection and wake whoever waits for messages."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def __enter__(self) -> EndpointClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _private_folder(platform: str = os.name) -> Path:
    """Make a folder that only its owner can enter: by its mode, on Windows by lying in the profile of its owner."""
    within: Path | None = None
    if platform == "nt" and (profile := os.environ.get("LOCALAPPDATA")):
        within = Path(profile) / "labctl" / "engines"
        within.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="labctl-engine-", dir=within))


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps({"v": VERSION, **message}, default=str).encode() + b"\n"


def _turn_away(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setblocking(False)
        connection.send(_line({"answer": {"error": f"{_MAX_FRONTS} fronts are attached already"}}))
    connection.close()
