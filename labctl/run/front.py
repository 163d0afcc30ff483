"""A front's side of a run: starts the guard, follows the engine, passes aborts on, brings back the outcome.

A script runs a plan like this::

    from labctl.run.front import run_to_end
    from labctl.run.request import RunRequest

    outcome = run_to_end(RunRequest(procedure="fluence-sweep", bench="simulated", virtual_time=True))
    print(outcome["status"], outcome["result"]["threshold"]["value"])
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol

from labctl.errors import ExitCode
from labctl.processes import end_signals, single_threaded, start_apart
from labctl.run.endpoint import EndpointClient
from labctl.run.request import RunRequest

log = logging.getLogger(__name__)

LIVENESS_S = 1.0
START_S = 60.0
SAFE_S = 30.0
RECORD_S = 300.0
ORPHAN_S = 60.0
"""Time given to the program that stood by, when guard and engine are both dead, to make the bench safe and say so."""
_LOOK_S = 0.1
_LAST_WORDS_S = 5.0
"""Time for what an engine has said at its end to arrive, after the guard has said that it has ended."""
ENGINE = "labctl.run.engine"
_GUARD_FILE = Path(__file__).with_name("guard.py")
_LOG_TAIL = 2000

Event = dict[str, Any]


class Prompt(Protocol):
    """Shows what an operator is to do and, from any thread, later answers."""

    def __call__(self, text: str, answer: Callable[[bool | str], None], wants: str = "") -> None:
        """Show ``text``; call ``answer`` with True when it is done, False when it is refused.

        :param wants: If not empty, what is to be typed when it is done; ``answer`` is then called with that text.
        """
        ...


def run_to_end(
    request: RunRequest,
    on_event: Callable[[Event], None] | None = None,
    *,
    on_prompt: Prompt | None = None,
    forward_signals: bool = False,
) -> dict[str, Any]:
    """Run a request to its end and return what came of it.

    The run holds a lease on this process, unless the request says otherwise: if the process dies, the run is aborted
    and the bench made safe. An exception in ``on_event``, or a KeyboardInterrupt, aborts the run too; it is raised
    again once the bench is safe.

    :param request: What to run; refused, before anything moves, if it cannot be carried out.
    :param on_event: Called with every event: ``started``, ``phase``, ``stage``, ``point`` (with ``done`` and
        ``planned``), ``aborting``, ``safe_state``.
    :param on_prompt: Asks an operator (only real benches need one); without it every prompt is refused, which aborts.
    :param forward_signals: Turn INT, TERM, HUP and BREAK into an abort while the run goes; in the main thread only.
    :return: The object that ``labctl run --json`` prints: ``run``, ``status``, ``safe_state``, ``points``, ``result``,
        ``warnings``, ``simulated``, ``files``, ``error``..., and ``exit``, the exit code.
    """
    front = RunFront(request)
    try:
        with _forwarding(front) if forward_signals else nullcontext():
            try:
                for event in front.events():
                    if event["event"] == "prompt":
                        front.prompt(event, on_prompt)
                    elif on_event is not None:
                        on_event(event)
            except BaseException as error:
                front.abort(f"{type(error).__name__} in the front")
                front.wait_ended()
                raise
        return front.outcome()
    finally:
        front.close()


class RunFront:
    """Starts a run and follows it.

    Owns two threads: one reads the guard, one the engine's endpoint; both end with the run. The death of this front
    ends the run safely if the request asks for a lease, and changes nothing otherwise.

    :param request: What to run. The engine checks it and refuses, before anything moves, what it cannot carry out.
    """

    def __init__(self, request: RunRequest) -> None:
        self.request = request
        # Signal handlers put events here, too, so it must be a queue that allows for that.
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._engine_final: Event | None = None
        self._guard_final: Event | None = None
        self._started: Event | None = None
        self._left: Event = {}
        self._client: EndpointClient | None = None
        self._client_lock = threading.Lock()
        self._abort_reason = ""
        self._folder = Path(tempfile.mkdtemp(prefix="labctl-run-"))
        self._log = self._folder / "engine.log"
        self._guard = self._start_guard()
        self._reader = threading.Thread(target=self._read_guard, name="guard reader", daemon=True)
        self._reader.start()

    def events(self) -> Iterator[Event]:
        """Give the events of the run until it has ended; ``started`` comes first, unless the run was refused."""
        while (event := self._next_event()) is not None:
            if event["event"] == "aborting":
                self._send_abort(event["reason"])
            yield event

    def _next_event(self) -> Event | None:
        """Wait for an event. Windows lets no signal in while a thread waits without end, so the wait is cut up."""
        while True:
            try:
                return self._events.get(timeout=_LOOK_S)
            except queue.Empty:
                continue

    def abort(self, reason: str) -> None:
        """Ask the engine to end the run safely; may be called from a signal handler, and more than once.

        The request is sent by whoever iterates over :meth:`events`.
        """
        self._events.put({"event": "aborting", "reason": reason})

    def prompt(self, event: Event, on_prompt: Prompt | None) -> None:
        """Pass a question of the engine on to an operator and the answer back, whenever it comes."""

        def answer(given: bool | str) -> None:
            with self._client_lock:
                client = self._client
            said = given if isinstance(given, str) else ""
            if client is not None:
                with suppress(OSError):
                    client.send("answer", id=event["id"], done=given is not False, said=said)

        if on_prompt is None:
            answer(False)
        else:
            on_prompt(event["text"], answer, event.get("wants", ""))

    def wait_started(self) -> Event | None:
        """Wait until the run has a name and a front would be heard; None if it was refused or died before that."""
        for event in self.events():
            if event["event"] == "started":
                return event
        return None

    def wait_ended(self) -> None:
        """Wait until the bench is safe and the run has ended; whoever presses Ctrl-C again waits all the same."""
        while True:
            try:
                for _ in self.events():
                    pass
                return
            except KeyboardInterrupt:
                log.warning("the run is ending; the bench is made safe first")

    def outcome(self) -> dict[str, Any]:
        """Get what came of the run, once its events have ended: the engine's report and ``exit``."""
        self._reader.join()
        self._guard.wait()
        # What the engine itself said last is true, even if it died before the guard heard it.
        final = self._engine_final or self._guard_final
        return self._lost() if final is None else {**final["report"], "exit": final["exit"]}

    def detach(self) -> None:
        """Let a run without lease go on alone; this front is of no more use."""
        self._drop_connections()
        # The guard outlives this process, so nobody waits for it.
        self._guard.returncode = 0

    def close(self) -> None:
        """Forget the run; a run that still goes loses its lease."""
        self._drop_connections()
        with suppress(OSError):
            self._guard.wait()
        for path in (self._folder / "request.json", self._log):
            with suppress(OSError):  # Windows keeps a file that a process has open
                path.unlink(missing_ok=True)
        with suppress(OSError):
            self._folder.rmdir()

    def _drop_connections(self) -> None:
        if self._client is not None:
            self._client.close()

    def _start_guard(self) -> subprocess.Popen[bytes]:
        request_file = self._folder / "request.json"
        request_file.write_text(self.request.model_dump_json(), encoding="utf-8")
        # -P: a file of the user's in the working directory must not stand in for a module.
        python = [sys.executable, "-P", "-X", "utf8", "-m"]
        config = {
            "engine": [*python, ENGINE, str(request_file)],
            "safe": [*python, "labctl.run.safe_program"],
            "liveness_s": LIVENESS_S,
            "start_s": START_S,
            "safe_s": SAFE_S,
            "record_s": RECORD_S,
            "log": str(self._log),
            "remove": [str(request_file), str(self._log), str(self._folder)],
        }
        with self._log.open("ab") as engine_log:
            return start_apart(
                [sys.executable, "-I", "-S", str(_GUARD_FILE), json.dumps(config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                env=single_threaded(),
                # The guard opens the log by itself; on Windows it could not remove what its parent had opened for it.
                stderr=engine_log if os.name == "posix" else subprocess.DEVNULL,
            )

    def _read_guard(self) -> None:
        """Read the guard to its end, then wait for the engine's: without its guard it ends the run by itself."""
        follower: threading.Thread | None = None
        lines = self._guard.stdout
        if lines is None:
            raise ValueError("the guard was started without a pipe")
        with lines:
            for line in lines:
                message = json.loads(line)
                kind = message.get("m")
                if kind == "started":
                    self._started = message
                    follower = threading.Thread(target=self._follow, name="endpoint reader", daemon=True)
                    follower.start()
                    self._events.put({**message, "event": "started"})
                elif kind == "safe_state":
                    self._events.put({**message, "event": "safe_state"})
                elif kind == "final":
                    self._guard_final = message
        if follower is not None:
            # A killed engine that the kernel does not let go keeps the endpoint open for ever.
            follower.join(_LAST_WORDS_S if self._guard_final is not None else None)
            self._drop_connections()
            follower.join()
        if self._engine_final is None and self._guard_final is None:
            self._left = self._ask_the_journal()
            self._events.put({"event": "safe_state", "state": self._left["safe_state"]})
        self._events.put(None)

    def _follow(self) -> None:
        """Read the endpoint to its end."""
        if self._started is None:
            return
        try:
            client = EndpointClient(self._started["endpoint"], lease=self.request.lease)
        except OSError as error:
            log.warning("the endpoint cannot be reached: %s", error)
            return
        with self._client_lock:
            self._client = client
            reason = self._abort_reason
        try:
            if reason:
                client.send("abort", reason=reason)
            for message in client.messages():
                self._take(message)
        except (OSError, ValueError):
            log.debug("the endpoint was closed")
        finally:
            client.close()

    def _take(self, message: Event) -> None:
        if message.get("event") == "final":
            self._engine_final = message
        elif "event" in message and message["event"] != "started":
            self._events.put(message)

    def _send_abort(self, reason: str) -> None:
        with self._client_lock:
            self._abort_reason = reason
            client = self._client
        if client is not None:
            try:
                client.send("abort", reason=reason)
            except OSError:
                log.warning("the engine cannot be reached; the guard watches it")

    def _ask_the_journal(self) -> Event:
        """Find out how a run was left whose guard and engine both ended without a word.

        Where a program stood by, it makes the bench safe and writes that down; it is given time.
        """
        started = self._started or {}
        unknown: Event = {"run": started.get("run", ""), "status": "crashed", "safe_state": "unconfirmed", "points": 0}
        if not started:
            return {**unknown, "safe_state": "not-needed"}
        from labctl.run.orphan import await_record

        found = await_record(started["run"], ORPHAN_S if started.get("standby") else 0.0)
        if found is None and started["simulated"] and not started.get("standby"):
            return {**unknown, "safe_state": "lost-with-run"}
        return unknown if found is None else found

    def _lost(self) -> dict[str, Any]:
        """Say what is known of a run whose guard and engine both ended without a word."""
        started, left = self._started or {}, self._left
        text = self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""
        state = left["safe_state"]
        planned = sum(stage["max_points"] for stage in started.get("stages", {}).values())
        error = {
            "type": "GuardDied",
            "what": "the guard and the engine both ended without a word",
            "where": "guard",
            "state": _LOST_STATE.get(state, f"safe state: {state}") + "; every acknowledged point is kept",
            "todo": _LOST_TODO.get(state, "look at the run with `labctl show`; check the bench before the next run"),
            "log": text[-_LOG_TAIL:],
        }
        return {
            "run": left["run"],
            "status": left["status"],
            "safe_state": state,
            "points": {"done": left["points"], "planned": planned},
            "result": {},
            "warnings": [],
            "simulated": started.get("simulated", False),
            "files": {},
            "safe_report": left.get("safe_report", {"state": state, "steps": []}),
            "error": error,
            "exit": int(ExitCode.UNSAFE if state == "unconfirmed" else ExitCode.FAILED),
        }


_LOST_STATE = {"unconfirmed": "unknown: look at the shutter"}
_LOST_TODO = {"unconfirmed": "bring the bench into its safe state with `labctl bench safe`; report this"}


@contextmanager
def _forwarding(front: RunFront) -> Iterator[None]:
    """Turn INT, TERM, HUP and, on Windows, BREAK into an abort for the duration of the block."""

    def on_signal(number: int, _frame: object) -> None:
        front.abort(signal.Signals(number).name)

    before = {number: signal.signal(number, on_signal) for number in end_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
