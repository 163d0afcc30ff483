"""The two kinds of connection a driver may stand on: a stream of bytes, or calls into a vendor library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from labctl.errors import Exchange


class ByteLink(Protocol):
    """A stream of bytes to and from one instrument."""

    def send(self, data: bytes) -> None:
        """Send all of ``data``; raises ConnectionLost."""
        ...

    def receive(self, timeout_s: float) -> bytes:
        """Wait at most ``timeout_s`` for bytes; return what is there, or nothing on time-out."""
        ...

    def clear(self) -> None:
        """Throw away what has arrived and was not read."""
        ...

    def close(self) -> None:
        """Close; may be called twice."""
        ...


class LibraryChannel(Protocol):
    """Calls into a vendor library, wherever it lives."""

    @property
    def last(self) -> Exchange:
        """Get the last call and what came back, for messages."""
        ...

    def call(self, function: str, *arguments: Any, timeout_s: float | None = None) -> tuple[int, Sequence[Any]]:
        """Call a function of the call table (see LibrarySettings); return its code and its outputs.

        Raises InstrumentTimeout when the call does not come back in time and ConnectionLost when the library died.
        """
        ...

    def close(self) -> None:
        """Release the library; may be called twice."""
        ...
