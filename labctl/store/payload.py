"""Append-only payload files for what is too bulky for the journal: photon records, streak frames."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import StorageError
from labctl.store.durable import sync_directory


@dataclass(frozen=True)
class PayloadReference:
    """Where a piece of payload lies: byte offset, length in bytes, CRC-32."""

    offset: int
    length: int
    crc32: int


class Payload:
    """One payload file, open for appending by the owner of the run.

    Register it with ``Journal.add_payload``: the journal then syncs it before each commit, so an acknowledged
    reference always points to bytes on the disk. What a crash leaves behind the last reference is ignored.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(self.path, flags, 0o644)
            self._end = os.lseek(self._descriptor, 0, os.SEEK_END)
            sync_directory(self.path.parent)
        except OSError as error:
            raise StorageError(f"the payload file cannot be opened: {error}", where=str(self.path)) from error
        self._dirty = False
        self._lost = ""
        self.make_room: Callable[[Exception], bool] = lambda error: False
        """Asked after a write that failed; whether to try again. The journal sets it."""

    def append(self, data: bytes) -> PayloadReference:
        """Write ``data`` at the end of the file.

        :raises StorageError: If the disk fails; the file is then cut back to its former length.
        """
        view = memoryview(data).cast("B")
        self._dirty = True
        try:
            self._write(view)
        except OSError as error:
            os.ftruncate(self._descriptor, self._end)
            os.lseek(self._descriptor, self._end, os.SEEK_SET)
            raise StorageError(
                f"the payload could not be written: {error}",
                where=str(self.path),
                state="everything acknowledged before is intact",
                todo="check free space and the health of the disk",
            ) from error
        reference = PayloadReference(self._end, len(view), zlib.crc32(view))
        self._end += len(view)
        return reference

    def sync(self) -> None:
        """Force what was appended to the disk; nothing to do if nothing was.

        :raises OSError: If the disk fails, and ever after: the system forgets what a failed sync has lost, so that
            the next one would succeed.
        """
        if self._lost:
            raise OSError(f"{self.path.name} could not be forced to the disk before: {self._lost}")
        if self._dirty:
            try:
                os.fsync(self._descriptor)
            except OSError as error:
                self._lost = str(error)
                raise
            self._dirty = False

    def close(self) -> None:
        """Sync and close the file."""
        try:
            self.sync()
        finally:
            os.close(self._descriptor)

    def _write(self, view: memoryview) -> None:
        written = 0
        while written < len(view):
            try:
                written += os.write(self._descriptor, view[written:])
            except OSError as error:
                if not self.make_room(error):
                    raise

    def __enter__(self) -> Payload:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_payload(path: Path | str, reference: PayloadReference) -> bytes:
    """The bytes that a reference points to.

    :raises StorageError: If they are not there or have changed.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            file.seek(reference.offset)
            data = file.read(reference.length)
    except (OSError, ValueError) as error:
        raise StorageError(f"the payload cannot be read: {error}", where=str(path)) from error
    if len(data) != reference.length or zlib.crc32(data) != reference.crc32:
        raise StorageError(
            f"{reference.length} bytes at {reference.offset} are missing or have changed",
            where=str(path),
            state="the file is corrupt",
            todo="restore the file from a copy",
        )
    return data
