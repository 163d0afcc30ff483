"""What an emulator is: a lazy object without threads that speaks an instrument's real protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

Reply = tuple[float, bytes]
"""Moment in laboratory seconds at which the bytes leave the instrument, and the bytes."""


class WireEmulator(Protocol):
    """An instrument on a wire.

    It frames its input by terminator or by length, answers only what the real device answers and keeps silent where
    that is silent. Moves, exposures and warm-up follow from the time it is given; it never waits.
    """

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        """Take bytes that arrive at ``t`` (laboratory seconds) and say what will be answered, and when (≥ t).

        With empty ``data``: only let time pass up to ``t`` and say what the instrument sends unasked until then.
        """
        ...

    def next_event(self) -> float | None:
        """Get the moment at which the instrument will next speak unasked, or None."""
        ...


class LibraryEmulator(Protocol):
    """A vendor library with the device behind it."""

    def call(self, t: float, function: str, arguments: Sequence[Any]) -> tuple[float, int, Sequence[Any]]:
        """Call a function at ``t``; get the moment of return (≥ t), the code, and the outputs of the call table."""
        ...


class LineBuffer:
    """Splits arriving bytes into commands at any of the terminators; empty commands are dropped.

    :param terminators: Bytes that end a command, e.g. ``b"\\r\\n"`` for either CR or LF.
    """

    def __init__(self, terminators: bytes) -> None:
        self._terminators = terminators
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes; return the commands that are now complete, without terminators."""
        text = self._rest + data
        for byte in self._terminators[1:]:
            text = text.replace(bytes([byte]), self._terminators[:1])
        *complete, self._rest = text.split(self._terminators[:1])
        return [command for command in complete if command]
