"""Checksums at the end of a sealed file, so that the HDF5 library is never given a damaged byte.

HDF5 1.8 protects some of its metadata only; over a damaged heap its library may loop for ever or crash. So the file
ends with one CRC-32 for each 64 KiB of it, and every block is checked before the library sees any of it: no whole pass
over a large file, only over what is read. Other HDF5 readers do not look behind the end that the file declares. A file
that another program has changed has lost this table, and is read without.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np

BLOCK_BYTES = 1 << 16
_MAGIC = b"labctl checksums"
_END = struct.Struct("<QI16s")
"""Bytes before the table, CRC-32 of the table, magic."""


def append_checksums(path: Path) -> None:
    """Write the table behind the content of a file that is complete."""
    with path.open("r+b") as file:
        checksums = []
        while block := file.read(BLOCK_BYTES):
            checksums.append(zlib.crc32(block))
        size = file.tell()
        table = np.array(checksums, "<u4").tobytes()
        file.write(table + _END.pack(size, zlib.crc32(table), _MAGIC))


class CheckedFile(io.RawIOBase):
    """A file with a table of checksums, read-only, as h5py takes it; a read of a damaged block raises OSError.

    :raises OSError: If it cannot be read, or the table is damaged.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._descriptor = -1
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            self._read_table()
        except BaseException:
            self.close()
            raise
        self._good: set[int] = set()
        self._position = 0

    def _read_table(self) -> None:
        length = os.fstat(self._descriptor).st_size
        size, crc, magic = _END.unpack(self._exactly(length - _END.size, _END.size))
        blocks = -(-size // BLOCK_BYTES)
        if magic != _MAGIC or size + 4 * blocks + _END.size != length:
            raise OSError("the table of checksums is damaged")
        table = self._exactly(size, 4 * blocks)
        if zlib.crc32(table) != crc:
            raise OSError("the table of checksums is damaged")
        self._size, self._checksums = size, np.frombuffer(table, "<u4")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; the end is that of the content, before the table."""
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]  # the type of a buffer has no name before 3.12
        """Read what was checked."""
        view = memoryview(buffer).cast("B")
        start, stop = self._position, min(self._position + len(view), self._size)
        if stop <= start:
            return 0
        for number in range(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)):
            self._check(number)
        view[: stop - start] = self._exactly(start, stop - start)
        self._position = stop
        return stop - start

    def close(self) -> None:
        # Once only, also when this is collected: the number of a closed descriptor soon belongs to another file.
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        super().close()

    def _check(self, number: int) -> None:
        if number in self._good:
            return
        start = number * BLOCK_BYTES
        block = self._exactly(start, min(BLOCK_BYTES, self._size - start))
        if zlib.crc32(block) != self._checksums[number]:
            raise OSError(f"the checksum of bytes {start} to {start + len(block) - 1} does not fit")
        self._good.add(number)

    def _exactly(self, start: int, count: int) -> bytes:
        if start < 0:
            raise OSError("the file is too short")
        os.lseek(self._descriptor, start, os.SEEK_SET)
        pieces, left = [], count
        while left:
            piece = os.read(self._descriptor, left)
            if not piece:
                raise OSError("the file is too short")
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)


def has_checksums(path: Path) -> bool:
    """Whether a file ends with a table of checksums."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(_MAGIC)))
        return file.read() == _MAGIC
