"""Writing to a pipe that cannot be told not to block, as on Windows before Python 3.12, within the time one has."""

from __future__ import annotations

import os
import queue
import threading

from labctl.clock import RealClock


class PatientWriter:
    """Writes from a thread of its own; the thread ends with :meth:`close`, or with the process.

    :param descriptor: File descriptor of the pipe.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._clock = RealClock()
        self._parcels: queue.SimpleQueue[_Parcel | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_on, name="pipe writer", daemon=True)
        self._thread.start()

    def write(self, data: bytes, patience_s: float) -> None:
        """Write ``data`` wholly; raises OSError if that fails, TimeoutError if nobody reads for ``patience_s``."""
        parcel = _Parcel(data)
        self._parcels.put(parcel)
        if not self._clock.wait(parcel.settled, patience_s):
            raise TimeoutError("nobody reads the pipe")
        if parcel.error is not None:
            raise parcel.error

    def close(self) -> None:
        """Let the thread end once everything is written; the pipe stays open."""
        self._parcels.put(None)

    def _write_on(self) -> None:
        while (parcel := self._parcels.get()) is not None:
            try:
                while parcel.data:
                    parcel.data = parcel.data[os.write(self._descriptor, parcel.data) :]
            except OSError as error:
                parcel.error = error
            parcel.settled.set()


class _Parcel:
    """What is to be written, and what came of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.settled = threading.Event()
        self.error: OSError | None = None
