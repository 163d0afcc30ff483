"""A front's side of a run: starts the guard, follows the endpoint, passes aborts on, brings back the outcome."""

from __future__ import annotations

import json
import logging
import queue
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labctl.errors import LabctlError
from labctl.run.endpoint import VERSION, connect
from labctl.run.guard import own_session
from labctl.run.request import RunRequest

log = logging.getLogger(__name__)

LIVENESS_S = 1.0
START_S = 60.0
SAFE_S = 30.0
_GUARD_FILE = Path(__file__).with_name("guard.py")


class RunFront:
    """Starts a run and follows it.

    Owns three threads: one reads the guard, one reads the endpoint; both end with the run. The death of this front
    ends the run safely if the request asks for a lease, and changes nothing otherwise.

    :param request: What to run. The engine checks it and refuses, before anything moves, what it cannot carry out.
    """

    def __init__(self, request: RunRequest) -> None:
        self.request = request
        self._folder = tempfile.TemporaryDirectory(prefix="labctl-run-", ignore_cleanup_errors=True)
        self._log = Path(self._folder.name) / "engine.log"
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._final: dict[str, Any] | None = None
        self._socket: socket.socket | None = None
        self._abort_asked = ""
        self._guard = self._start_guard()
        self._reader = threading.Thread(target=self._read_guard, name="guard reader", daemon=True)
        self._reader.start()

    def events(self) -> Iterator[dict[str, Any]]:
        """Give the events of the run until it has ended; ``started`` comes first, unless the run was refused."""
        while (event := self._events.get()) is not None:
            yield event

    def abort(self, reason: str) -> None:
        """Ask the engine to end the run safely; may be called from a signal handler and more than once."""
        self._abort_asked = reason
        if self._socket is not None:
            try:
                self._send(self._socket, {"command": "abort", "reason": reason})
            except OSError:
                log.warning("the engine cannot be reached; the guard watches it")

    def outcome(self, timeout_s: float | None = None) -> dict[str, Any]:
        """Wait for the end; returns ``{"exit": code, "report": {...}}``."""
        self._reader.join(timeout_s)
        self._guard.wait(timeout_s)
        if self._final is None:
            log_text = self._log.read_text(errors="replace") if self._log.exists() else ""
            raise LabctlError(
                "the guard ended without a word",
                where=log_text[-2000:],
                state="unknown: check the bench by eye",
                todo="report this; look at the run with `labctl show`",
            )
        return self._final

    @property
    def engine_log(self) -> str:
        """Get what engine and safe-state program wrote to their log."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def close(self) -> None:
        """Forget the run; a run that still goes loses its lease."""
        if self._socket is not None:
            self._socket.close()
        if self._guard.stdout is not None:
            self._guard.stdout.close()
        self._folder.cleanup()

    def _start_guard(self) -> subprocess.Popen[bytes]:
        request_file = Path(self._folder.name) / "request.json"
        request_file.write_text(self.request.model_dump_json(), encoding="utf-8")
        python = [sys.executable, "-X", "utf8", "-m"]
        config = {
            "engine": [*python, "labctl.run.engine", str(request_file)],
            "safe": [*python, "labctl.run.safe_program", str(request_file)],
            "liveness_s": LIVENESS_S,
            "start_s": START_S,
            "safe_s": SAFE_S,
            "log": str(self._log),
        }
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(_GUARD_FILE), json.dumps(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            **own_session(),
        )

    def _read_guard(self) -> None:
        follower: threading.Thread | None = None
        lines = self._guard.stdout
        if lines is None:
            return
        for line in lines:
            message = json.loads(line)
            if message.get("m") == "started":
                self._events.put({**message, "event": "started"})
                follower = threading.Thread(
                    target=self._follow, args=(message["endpoint"],), name="endpoint reader", daemon=True
                )
                follower.start()
            elif message.get("m") == "final":
                self._final = message
        if follower is not None:
            follower.join(timeout=5.0)
        self._events.put(None)

    def _follow(self, address: str) -> None:
        try:
            connection = connect(address)
        except OSError as error:
            log.warning("the endpoint cannot be reached: %s", error)
            return
        connection.settimeout(None)
        self._socket = connection
        self._send(connection, {"command": "attach", "lease": self.request.lease})
        if self._abort_asked:
            self.abort(self._abort_asked)
        with connection.makefile("rb") as stream:
            try:
                for line in stream:
                    message = json.loads(line)
                    if "event" in message:
                        self._events.put(message)
            except OSError:
                log.debug("the endpoint was closed")

    @staticmethod
    def _send(connection: socket.socket, message: dict[str, Any]) -> None:
        connection.sendall(json.dumps({"v": VERSION, **message}).encode() + b"\n")
