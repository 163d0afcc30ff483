"""Following a run from outside: what its engine says, and what is on the disk; knows nothing of Qt.

A follower only reads, except for the abort, the answers to an operator's question, and the question how far the engine
is. It holds no lease: the run goes on, whatever becomes of the follower.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labctl.clock import RealClock
from labctl.errors import LabctlError
from labctl.gui.view import RunView, read_view
from labctl.run.endpoint import EndpointClient
from labctl.store.run import Run, open_run

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
GUARD_PATIENCE_S = 60.0
"""After the engine's death: how long to wait for the word of the guard on the safe state."""
HANDS_OFF = ("making safe", "sealing and analysis")
"""Phases in which the engine seals the journal, and removes it: nobody else should then hold it open."""
_JOIN_S = 5.0


@dataclass(frozen=True)
class EngineWord:
    """What the engine of a run said last.

    :param connected: Whether it can be reached.
    :param gone: Whether it was reached and is not any more.
    :param abort_asked: Whether an abort was sent from here.
    :param aborting: Whether the engine says that it ends the run.
    :param pausing: Whether the run is to pause after the present point.
    :param paused: Whether it pauses between two points.
    :param question: What an operator is to do: ``id``, ``text``, ``wants``.
    :param final: The outcome, if the engine lived to say it.
    """

    connected: bool = False
    gone: bool = False
    phase: str = ""
    done: int = 0
    planned: int = 0
    percent: float | None = None
    abort_asked: bool = False
    aborting: bool = False
    pausing: bool = False
    paused: bool = False
    question: Mapping[str, Any] | None = None
    final: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Following:
    """The newest of everything; ``sequence`` grows with every change, ``trouble`` says why the run cannot be read."""

    sequence: int = 0
    view: RunView | None = None
    engine: EngineWord = EngineWord()
    trouble: str = ""
    over: bool = False


class RunFollower:
    """Follows one run. Owns two threads: one looks at the run's file, one reads the endpoint; :meth:`close` ends both.

    :param run: Path of the run, of either file or without suffix.
    """

    def __init__(self, run: Path | str) -> None:
        path = Path(run)
        self.path = path.with_name(path.name.removesuffix(path.suffix)) if path.suffix in {".h5", ".journal"} else path
        self._clock = RealClock()
        self._lock = threading.Lock()
        self._send_lock = threading.Lock()
        self._newest = Following()
        self._stop = threading.Event()
        self._client: EndpointClient | None = None
        self._run: Run | None = None
        self._asked_status = False
        self._gone_s = 0.0
        self._listener: threading.Thread | None = None
        self._looker = threading.Thread(target=self._look_on, name="run follower", daemon=True)
        self._looker.start()

    def newest(self) -> Following:
        """Get the newest state; what came in between is not kept."""
        with self._lock:
            return self._newest

    def abort(self, reason: str) -> bool:
        """Ask the engine to end the run safely; False if it cannot be reached."""
        sent = self._send("abort", reason=reason)
        if sent:
            self._change_engine(abort_asked=True)
        return sent

    def pause(self, reason: str) -> bool:
        """Ask the engine to pause after the present point; False if it cannot be reached."""
        return self._send("pause", reason=reason)

    def go_on(self) -> bool:
        """Ask the engine to go on after a pause; False if it cannot be reached."""
        return self._send("continue")

    def answer(self, number: int, *, done: bool, said: str = "") -> bool:
        """Answer an operator's question; False if the engine cannot be reached."""
        return self._send("answer", id=number, done=done, said=said)

    def close(self) -> None:
        """Stop following; the run goes on."""
        self._stop.set()
        self._looker.join(_JOIN_S)
        if self._client is not None:
            self._client.close()
        if self._listener is not None:
            self._listener.join(_JOIN_S)

    def _look_on(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._look()
                    self._change(trouble="")
                except (LabctlError, OSError) as error:
                    # Between two files of a run there may be neither; the next look tells.
                    self._change(trouble=error.what if isinstance(error, LabctlError) else str(error))
                if self._is_over():
                    self._change(over=True)
                    return
                self._clock.wait(self._stop, LOOK_EVERY_S)
        finally:
            self._close_run()

    def _look(self) -> None:
        now = self.newest()
        if now.engine.connected:
            self._ask_status()
        hands_off = now.engine.connected and now.engine.phase in HANDS_OFF
        if hands_off and self._run is None and now.view is not None:
            return
        if self._run is None:
            self._run = open_run(self.path)
        else:
            self._run.refresh()
        view = read_view(self._run, now.view)
        if view != now.view or now.view is None:
            self._change(view=view)
        if hands_off:
            self._close_run()
        if self._client is None and view.status == "running" and view.endpoint:
            self._connect(view.endpoint)

    def _is_over(self) -> bool:
        now = self.newest()
        if now.view is None or now.engine.connected or self._run is None:
            return False
        if now.view.status == "running":
            return False
        if now.view.status != "crashed" or now.view.safe_state is not None:
            return True
        self._gone_s = self._gone_s or self._clock.now()
        return self._clock.now() > self._gone_s + GUARD_PATIENCE_S

    def _close_run(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.close()

    def _connect(self, address: str) -> None:
        try:
            self._client = EndpointClient(address)
        except (OSError, ValueError) as error:
            log.info("the engine cannot be reached: %s", error)
            return
        self._change_engine(connected=True)
        self._ask_status()
        self._listener = threading.Thread(
            target=self._listen, args=(self._client,), name="endpoint reader", daemon=True
        )
        self._listener.start()

    def _listen(self, client: EndpointClient) -> None:
        try:
            for message in client.messages():
                self._take(message)
        except (OSError, ValueError):
            log.debug("the endpoint was closed")
        finally:
            client.close()
            self._change_engine(connected=False, gone=True, question=None)

    def _take(self, message: Mapping[str, Any]) -> None:
        kind, answer = message.get("event"), message.get("answer")
        if kind == "final":
            self._change_engine(final=message.get("report") or {})
        elif kind == "prompt":
            self._change_engine(question={key: message.get(key, "") for key in ("id", "text", "wants")})
        elif kind is not None:
            self._take_progress(message)
        elif isinstance(answer, Mapping):
            if "phase" in answer:
                self._asked_status = False
                self._take_progress(answer)
                self._change_engine(aborting=bool(answer.get("aborting")), question=answer.get("question"))
            elif answer.get("aborting"):
                self._change_engine(aborting=True)
            elif "pausing" in answer or "continuing" in answer:
                self._change_engine(pausing="pausing" in answer)
            elif "error" in answer:
                log.warning("the engine answers: %s", answer["error"])

    def _take_progress(self, message: Mapping[str, Any]) -> None:
        known = {
            key: message[key] for key in ("phase", "done", "planned", "percent", "pausing", "paused") if key in message
        }
        self._change_engine(**known)

    def _ask_status(self) -> None:
        """Ask how far the engine is; not again before it has answered, or its input would fill up."""
        if not self._asked_status:
            self._asked_status = self._send("status")

    def _send(self, command: str, **data: Any) -> bool:
        client = self._client
        if client is None or not self.newest().engine.connected:
            return False
        try:
            with self._send_lock:
                client.send(command, **data)
        except OSError:
            return False
        return True

    def _change_engine(self, **changes: Any) -> None:
        with self._lock:
            engine = replace(self._newest.engine, **changes)
            if engine != self._newest.engine:
                self._newest = replace(self._newest, engine=engine, sequence=self._newest.sequence + 1)

    def _change(self, **changes: Any) -> None:
        with self._lock:
            now = self._newest
            if any(getattr(now, name) is not value and getattr(now, name) != value for name, value in changes.items()):
                self._newest = replace(now, **changes, sequence=now.sequence + 1)
