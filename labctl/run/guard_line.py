"""The engine's line to the guard: what it says of its life, its progress and its end."""

from __future__ import annotations

import io
import json
import math
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

from labctl.clock import RealClock
from labctl.run.pipe_writer import PatientWriter

_EXPECT_WITHIN_S = 0.1
_ATOMIC_BYTES = 4096
"""A pipe takes lines up to this size whole or not at all (POSIX PIPE_BUF on Linux)."""
_PATIENCE_S, _PATIENCE_WITH_LONG_LINES_S = 1.0, 30.0


class GuardLine:
    """Writes one JSON line per message, from any thread. See :mod:`labctl.run.guard` for what they mean.

    A guard that is gone, or does not read, is remembered and never holds up the run.

    :param descriptor: File descriptor of the pipe; None for a run without a guard.
    :param platform: Where this is not POSIX, a thread writes, because a pipe cannot be told not to block.
    """

    def __init__(self, descriptor: int | None = None, platform: str = os.name) -> None:
        self._descriptor = descriptor
        self._posix = platform == "posix"
        self._writer = PatientWriter(descriptor) if descriptor is not None and not self._posix else None
        self.standby_answered = threading.Event()
        """Set once a program stands by that would make the bench safe in the engine's place, or none can."""
        self.unready = ""
        """Why no program can stand by; empty as long as one can."""
        self.told_to_end = ""
        """Why the guard wants the run to end safely; empty as long as it does not."""
        self._lock = threading.Lock()
        self._broken = threading.Event()
        self._clock = RealClock()
        self._progress_by_s = self._sent_s = -math.inf
        self._declared_until_s = math.inf
        self._set_blocking(False)

    def listen(self) -> None:
        """Take the guard's lines from standard input in a thread, which ends with the guard."""

        def listen_on() -> None:
            # Without a buffer: its lock, held by a thread that waits, would trouble the end of the interpreter.
            with io.FileIO(0, closefd=False) as lines:
                for line in lines:
                    self.hear(json.loads(line))

        threading.Thread(target=listen_on, name="guard listener", daemon=True).start()

    def hear(self, message: Mapping[str, Any]) -> None:
        """Take one message of the guard."""
        if message.get("m") == "standby":
            self.standby_answered.set()
        elif message.get("m") == "unready":
            self.unready = str(message.get("reason")) or "no reason was given"
            if self.standby_answered.is_set():
                self.told_to_end = f"nobody stands by any more to make the bench safe: {self.unready}"
            self.standby_answered.set()
        elif message.get("m") == "end":
            self.told_to_end = str(message.get("reason")) or "the guard wants it"

    def in_time(self) -> bool:
        """Get whether the run is within the time that it has declared itself; a dead man is fed no longer."""
        return self._clock.now() <= self._declared_until_s

    @property
    def has_guard(self) -> bool:
        """Get whether there is a guard at all."""
        return self._descriptor is not None

    @property
    def broken(self) -> bool:
        """Get whether the guard is gone."""
        return self._broken.is_set()

    def say(self, kind: str, **data: Any) -> None:
        """Write one message."""
        line = json.dumps({"m": kind, **data}).encode() + b"\n"
        with self._lock:
            if self._descriptor is None or self._broken.is_set():
                return
            try:
                if self._writer is not None:
                    long = len(line) > _ATOMIC_BYTES
                    self._writer.write(line, _PATIENCE_WITH_LONG_LINES_S if long else _PATIENCE_S)
                elif len(line) <= _ATOMIC_BYTES:
                    os.write(self._descriptor, line)
                else:
                    self._write_long(self._descriptor, line)
            except OSError:
                self._broken.set()

    def expect(self, duration_s: float) -> None:
        """Declare that progress comes within ``duration_s``; for the run's own thread.

        Thousands of points per second would flood the guard, so a deadline that moves by less than 0.1 s is not sent,
        nor is an earlier one within 0.1 s of the last.
        """
        now_s = self._clock.now()
        self._declared_until_s = progress_by_s = now_s + duration_s
        if progress_by_s < self._progress_by_s and now_s - self._sent_s < _EXPECT_WITHIN_S:
            return
        if abs(progress_by_s - self._progress_by_s) >= _EXPECT_WITHIN_S:
            self._progress_by_s, self._sent_s = progress_by_s, now_s
            self.say("expect", s=duration_s)

    def quiet(self, duration_s: float) -> None:
        """Declare that neither a sign of life nor progress need come for ``duration_s``."""
        self._progress_by_s = -math.inf
        self._declared_until_s = self._clock.now() + duration_s
        self.say("quiet", s=duration_s)

    def close(self) -> None:
        """Say nothing more; for whoever made a line that does not end with the process."""
        self._broken.set()
        if self._writer is not None:
            self._writer.close()

    def _write_long(self, descriptor: int, line: bytes) -> None:
        """Only the first and the last message of a run are so long: no light is on, so it may take its time."""
        self._set_blocking(True)
        while line:
            line = line[os.write(descriptor, line) :]
        self._set_blocking(False)

    def _set_blocking(self, blocking: bool) -> None:
        if self._descriptor is not None and self._posix:
            os.set_blocking(self._descriptor, blocking)


def take_standard_output() -> int:
    """Keep standard output for the guard alone: what anything else prints goes to standard error from now on.

    Child processes do not inherit the descriptor that is returned.
    """
    descriptor = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return descriptor
