"""The engine, with a tap: each row goes to a file when its ``append`` has returned and it is acknowledged."""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from labctl.run import engine
from labctl.store.journal import Journal

TAP = "LABCTL_KILL_TABLE_TAP"


def plain(value: Any) -> str:
    """Get a value in a form that can be compared: numbers to the last bit, whatever their type."""
    return value if isinstance(value, str) else float(value).hex()


def checksum(array: Any) -> int:
    """Get the checksum of an array as it is stored."""
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


def tapped(descriptor: int) -> Any:
    """Get ``Journal.append`` with the tap; what it writes outlives the process, because it is written by a call."""
    append = Journal.append

    def append_and_note(self: Journal, stream: str, *, point: int, attempt: int, **record: Any) -> None:
        append(self, stream, point=point, attempt=attempt, **record)
        layout = self.streams[stream]
        arrays = {
            field.name: checksum(np.asarray(record["arrays"][field.name], field.stored_dtype))
            for field in layout.arrays
        }
        row = {name: plain(value) for name, value in record["row"].items()}
        note = {"key": [stream, point, attempt], "row": row, "arrays": arrays, "at_s": time.monotonic()}
        os.write(descriptor, json.dumps(note).encode() + b"\n")

    return append_and_note


if __name__ == "__main__":
    tap = os.open(Path(os.environ[TAP]), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    Journal.append = tapped(tap)
    sys.exit(engine.main(sys.argv[1]))
