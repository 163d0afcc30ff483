"""Finding the runs that go on: those of an output folder whose journal a living engine owns."""

from __future__ import annotations

import threading
from pathlib import Path

from labctl.clock import RealClock
from labctl.errors import LabctlError
from labctl.store.catalogue import RunSummary, list_running

LOOK_EVERY_S = 2.0
_JOIN_S = 5.0


class Discovery:
    """Looks for runs every two seconds, in a thread of its own; :meth:`close` ends it.

    :param folder: Output folder.
    """

    def __init__(self, folder: Path | str) -> None:
        self._clock = RealClock()
        self._lock = threading.Lock()
        self._folder = Path(folder)
        self._found: tuple[RunSummary, ...] | None = None
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._look_on, name="discovery of runs", daemon=True)
        self._thread.start()

    def look_at(self, folder: Path | str) -> None:
        """Look into another folder from now on."""
        with self._lock:
            if Path(folder) == self._folder:
                return
            self._folder, self._found = Path(folder), None
        self._wake.set()

    def found(self) -> tuple[RunSummary, ...] | None:
        """Get the runs that were going on at the last look; None before the first."""
        with self._lock:
            return self._found

    def close(self) -> None:
        """Stop looking."""
        self._closing = True
        self._wake.set()
        self._thread.join(_JOIN_S)

    def _look_on(self) -> None:
        while not self._closing:
            self._wake.clear()
            with self._lock:
                folder = self._folder
            try:
                found = tuple(list_running(folder))
            except (LabctlError, OSError):  # a folder that cannot be read has no runs for us
                found = ()
            with self._lock:
                if folder == self._folder:
                    self._found = found
            self._clock.wait(self._wake, LOOK_EVERY_S)
