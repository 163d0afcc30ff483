"""A disk that may lose power: what it surely holds after a number of system calls, and what it may hold.

A write is sure once its file was synced after it, a name once its directory was. Of everything later, each image keeps
a random part: writes are dropped, kept, or torn at the boundaries of sectors; names that were made, changed or removed
come or do not; what lies between pieces that were kept reads as zeros or as old rubbish of the disk.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from power_loss.trace import Call, text_of

MARK = b"MARK "
"""A write that begins so is a remark of the traced program."""

_SECTORS = (512, 4096)
_SHARED_MEMORY = "-shm"


@dataclass(frozen=True)
class Write:
    """``data`` at ``offset``."""

    offset: int
    data: bytes


@dataclass(frozen=True)
class Resize:
    """The file is cut, or extended by zeros, to ``size`` bytes."""

    size: int


@dataclass(frozen=True)
class Names:
    """Names that change together; None removes one."""

    changes: tuple[tuple[str, int | None], ...]


@dataclass
class File:
    """One file, whatever its names: sure content, all content, and the changes in between, each with its call."""

    sure: bytearray = field(default_factory=bytearray)
    live: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, Write | Resize]] = field(default_factory=list)


@dataclass
class _Open:
    file: int | None
    position: int = 0
    append: bool = False


class Disk:
    """The directory ``root``, which was empty before the first call.

    :param root: Only changes of files in it are followed; it has no directories in it.
    """

    def __init__(self, root: Path) -> None:
        self.root = PurePosixPath(root)
        self.files: list[File] = []
        self.names: dict[str, int] = {}
        self.marks: list[bytes] = []
        self._sure_names: dict[str, int] = {}
        self._pending_names: list[tuple[int, Names]] = []
        self._open: dict[int, _Open] = {}
        self._count = 0
        self._program_began = 0

    def end_process(self) -> None:
        """Forget the open files: the next call belongs to another program."""
        self._open.clear()
        self._program_began = self._count

    def run(self, calls: Iterable[Call]) -> None:
        """Carry calls out."""
        for call in calls:
            self._carry_out(call)
            self._count += 1

    @property
    def unsure(self) -> int:
        """How many changes a power cut could undo."""
        return len(self._pending_names) + sum(len(file.pending) for file in self.files)

    def image(self, chance: random.Random) -> dict[str, bytes]:
        """One state in which the disk may be found when the power comes back: content by name."""
        sector = chance.choice(_SECTORS)
        keep = chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        rubbish = chance.choice((b"\0", b"\xa5"))
        names = dict(self._sure_names)
        in_order = chance.random() < 0.5
        kept = chance.randint(0, len(self._pending_names))
        for number, (_, change) in enumerate(self._pending_names):
            if number < kept if in_order else chance.random() < 0.5:
                _rename(names, change)
        found: dict[str, bytes] = {}
        for name, number in sorted(names.items()):
            content = _content(self.files[number], chance, sector, keep, rubbish)
            if name.endswith(_SHARED_MEMORY):
                # Its memory-mapped changes are in no trace: any content at all.
                content = bytes(chance.randbytes(len(content)))
            found[name] = content
        return found

    def _carry_out(self, call: Call) -> None:
        name, arguments = call.name, call.arguments
        if name in ("open", "openat", "creat"):
            self._open_file(call)
        elif name == "close":
            self._open.pop(int(arguments[0]), None)
        elif name in ("rename", "renameat", "renameat2", "link", "linkat"):
            old, new = (self._inside(argument) for argument in arguments if argument.startswith('"'))
            if old is not None and new is not None and self.names.get(old) != self.names.get(new):
                removed = () if name.startswith("link") else ((old, None),)
                self._change_names(Names((*removed, (new, self.names[old]))))
        elif name in ("unlink", "unlinkat"):
            (old,) = (self._inside(argument) for argument in arguments if argument.startswith('"'))
            if old is not None:
                self._change_names(Names(((old, None),)))
        elif name in ("write", "pwrite64", "sendfile", "copy_file_range", "lseek"):
            self._move_data(call)
        elif name in ("ftruncate", "truncate", "fallocate"):
            self._resize(call)
        elif name in ("fsync", "fdatasync"):
            self._sync(call)
        elif name in ("writev", "pwritev", "pwritev2", "sync_file_range", "sync", "syncfs", "mkdir"):
            if arguments[0].isdigit() and self._opened(arguments[0]) is None:
                return
            if name == "mkdir" and self._inside(arguments[0]) is None:
                return
            raise NotImplementedError(f"{name} is not modelled")

    def _open_file(self, call: Call) -> None:
        path = next(argument for argument in call.arguments if argument.startswith('"'))
        flags = next((argument for argument in call.arguments if argument.startswith("O_")), "").split("|")
        if text_of(path).decode("utf-8", "replace") == str(self.root):
            self._open[call.result] = _Open(None)
            return
        name = self._inside(path)
        if name is None:
            return
        if name not in self.names:
            self.files.append(File())
            self._change_names(Names(((name, len(self.files) - 1),)))
        self._open[call.result] = _Open(self.names[name], append="O_APPEND" in flags)
        if "O_TRUNC" in flags:
            self._change(self.names[name], Resize(0))

    def _move_data(self, call: Call) -> None:
        name, arguments = call.name, call.arguments
        if name == "write" and text_of(arguments[1]).startswith(MARK):
            self.marks.append(text_of(arguments[1]).removeprefix(MARK))
            return
        target = self._opened(arguments[2 if name == "copy_file_range" else 0])
        if target is None or target.file is None:
            return
        if name == "lseek":
            target.position = call.result
        elif name == "pwrite64":
            self._change(target.file, Write(int(arguments[3]), text_of(arguments[1])[: call.result]))
        else:
            offset = len(self.files[target.file].live) if target.append else target.position
            if name == "write":
                data = text_of(arguments[1])[: call.result]
            else:
                data = self._copied(call)
            self._change(target.file, Write(offset, data))
            target.position = offset + call.result

    def _copied(self, call: Call) -> bytes:
        """What the kernel copies from one file to another without showing it."""
        source = self._opened(call.arguments[1 if call.name == "sendfile" else 0])
        if source is None or source.file is None:
            raise NotImplementedError("a copy from a file elsewhere is not modelled")
        given = call.arguments[2 if call.name == "sendfile" else 1]
        start = int(given.split("=>")[0].strip(" []")) if given != "NULL" else source.position
        if given == "NULL":
            source.position += call.result
        return bytes(self.files[source.file].live[start : start + call.result])

    def _resize(self, call: Call) -> None:
        if call.name == "truncate":
            name = self._inside(call.arguments[0])
            number = self.names[name] if name is not None else None
        else:
            opened = self._opened(call.arguments[0])
            number = opened.file if opened is not None else None
        if number is None:
            return
        if call.name == "fallocate":
            end = int(call.arguments[2]) + int(call.arguments[3])
            if call.arguments[1] == "0" and end > len(self.files[number].live):
                self._change(number, Resize(end))
        else:
            self._change(number, Resize(int(call.arguments[1])))

    def _sync(self, call: Call) -> None:
        opened = self._opened(call.arguments[0])
        begun = self._program_began + call.begun
        if opened is None:
            return
        if opened.file is None:
            for number, change in self._pending_names:
                if number < begun:
                    _rename(self._sure_names, change)
            self._pending_names = [entry for entry in self._pending_names if entry[0] >= begun]
            return
        file = self.files[opened.file]
        for number, change in file.pending:
            if number < begun:
                _apply(file.sure, change)
        file.pending = [entry for entry in file.pending if entry[0] >= begun]

    def _opened(self, argument: str) -> _Open | None:
        return self._open.get(int(argument))

    def _inside(self, argument: str) -> str | None:
        path = PurePosixPath(text_of(argument).decode("utf-8", "replace"))
        return path.name if path.parent == self.root else None

    def _change(self, number: int, change: Write | Resize) -> None:
        _apply(self.files[number].live, change)
        self.files[number].pending.append((self._count, change))

    def _change_names(self, change: Names) -> None:
        _rename(self.names, change)
        self._pending_names.append((self._count, change))


def _rename(names: dict[str, int], change: Names) -> None:
    for name, number in change.changes:
        if number is None:
            names.pop(name, None)
        else:
            names[name] = number


def _apply(content: bytearray, change: Write | Resize, rubbish: bytes = b"\0") -> None:
    if isinstance(change, Resize):
        content[change.size :] = bytes(max(0, change.size - len(content)))
        return
    if change.offset > len(content):
        content.extend(rubbish * (change.offset - len(content)))
    content[change.offset : change.offset + len(change.data)] = change.data


def _content(file: File, chance: random.Random, sector: int, keep: float, rubbish: bytes) -> bytes:
    content = bytearray(file.sure)
    for _, change in file.pending:
        fate = chance.random()
        if fate < keep:
            _apply(content, change, rubbish)
        elif fate < keep + 0.5 * (1.0 - keep) and isinstance(change, Write):
            for piece in _pieces(change, sector):
                if chance.random() < 0.5:
                    _apply(content, piece, rubbish)
    return bytes(content)


def _pieces(write: Write, sector: int) -> Iterable[Write]:
    """A write, cut at the boundaries of sectors."""
    start, end = write.offset, write.offset + len(write.data)
    while start < end:
        stop = min(end, (start // sector + 1) * sector)
        yield Write(start, write.data[start - write.offset : stop - write.offset])
        start = stop
