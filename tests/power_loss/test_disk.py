"""The model of the disk itself: it keeps what was synced, and loses the rest."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from power_loss.disk import Disk
from power_loss.trace import Call, can_trace, parse, trace

ROOT = Path("/lab")


def quoted(data: bytes) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in data) + '"'


def lines(*calls: str) -> list[Call]:
    return parse("\n".join(f"1 {call}" for call in calls))


def opened(name: str, descriptor: int, flags: str = "O_RDWR|O_CREAT") -> str:
    return f"openat(AT_FDCWD, {quoted(f'/lab/{name}'.encode())}, {flags}, 0644) = {descriptor}"


def written(descriptor: int, data: bytes, offset: int) -> str:
    return f"pwrite64({descriptor}, {quoted(data)}, {len(data)}, {offset}) = {len(data)}"


FOLDER = f"openat(AT_FDCWD, {quoted(b'/lab')}, O_RDONLY) = 9"
MADE = (opened("a", 3), FOLDER, "fsync(9) = 0")


def images(*calls: str, count: int = 60) -> list[dict[str, bytes]]:
    disk = Disk(ROOT)
    disk.run(lines(*calls))
    return [disk.image(random.Random(seed)) for seed in range(count)]


def test_what_was_synced_is_there() -> None:
    assert images(*MADE, written(3, b"x" * 100, 0), "fdatasync(3) = 0", count=20) == [{"a": b"x" * 100}] * 20


def test_a_write_after_the_sync_is_there_missing_or_torn() -> None:
    found = images(*MADE, written(3, b"o" * 8192, 0), "fsync(3) = 0", written(3, b"n" * 8192, 0))
    contents = {image["a"] for image in found}
    assert {b"o" * 8192, b"n" * 8192} < contents
    torn = contents - {b"o" * 8192, b"n" * 8192}
    assert torn
    for content in torn:
        assert all(len(set(content[start : start + 512])) == 1 for start in range(0, 8192, 512))


def test_writes_are_lost_out_of_order() -> None:
    found = {image["a"] for image in images(*MADE, written(3, b"1", 0), written(3, b"2", 1))}
    assert b"\0" + b"2" in found or b"\xa5" + b"2" in found
    assert {b"", b"1", b"12"} <= found


def test_a_name_without_a_sync_of_its_directory_may_be_lost() -> None:
    kinds = {tuple(sorted(image)) for image in images(opened("a", 3), written(3, b"1", 0), "fsync(3) = 0")}
    assert kinds == {(), ("a",)}


def test_a_rename_keeps_one_of_its_names() -> None:
    renamed = f"rename({quoted(b'/lab/a')}, {quoted(b'/lab/b')}) = 0"
    kinds = {tuple(sorted(image)) for image in images(*MADE, renamed)}
    assert kinds == {("a",), ("b",)}


def test_a_link_and_the_removal_of_the_old_name_may_come_in_either_order() -> None:
    linked = f"link({quoted(b'/lab/a')}, {quoted(b'/lab/b')}) = 0"
    kinds = {tuple(sorted(image)) for image in images(*MADE, linked, f"unlink({quoted(b'/lab/a')}) = 0")}
    assert kinds == {(), ("a",), ("b",), ("a", "b")}


def test_a_cut_of_a_file_may_be_lost() -> None:
    found = {image["a"] for image in images(*MADE, written(3, b"12", 0), "fsync(3) = 0", "ftruncate(3, 1) = 0")}
    assert found == {b"1", b"12"}


def test_a_write_that_was_not_over_when_the_sync_began_is_not_sure() -> None:
    text = [f"1 {call}" for call in MADE]
    text += ["1 fsync(3 <unfinished ...>", f"2 {written(3, b'1', 0)}", "1 <... fsync resumed>) = 0"]
    disk = Disk(ROOT)
    disk.run(parse("\n".join(text)))
    assert {disk.image(random.Random(seed))["a"] for seed in range(30)} == {b"", b"1"}


def test_sequential_writes_appends_and_copies_land_where_they_belong() -> None:
    disk = Disk(ROOT)
    disk.run(
        lines(
            opened("a", 3),
            f"write(3, {quoted(b'abc')}, 3) = 3",
            "lseek(3, 1, SEEK_SET) = 1",
            f"write(3, {quoted(b'X')}, 1) = 1",
            opened("a", 4, "O_WRONLY|O_APPEND"),
            f"write(4, {quoted(b'd')}, 1) = 1",
            opened("b", 5),
            "lseek(3, 0, SEEK_SET) = 0",
            "sendfile(5, 3, [0] => [4], 100) = 4",
            "fallocate(5, 0, 0, 6) = 0",
        )
    )
    assert {name: bytes(disk.files[number].live) for name, number in disk.names.items()} == {
        "a": b"aXcd",
        "b": b"aXcd\0\0",
    }


def test_a_failed_call_changes_nothing() -> None:
    assert lines(f"pwrite64(3, {quoted(b'1')}, 1, 0) = -1 ENOSPC (No space left on device)") == []


def test_a_call_that_the_model_does_not_know_is_refused() -> None:
    with pytest.raises(NotImplementedError):
        images(*MADE, 'pwritev(3, [{iov_base="\\x31", iov_len=1}], 1, 0) = 1')


@pytest.mark.skipif(bool(can_trace()), reason=can_trace() or "can trace")
def test_a_program_is_traced(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    program = f"import os; f = open('{run}/a', 'xb'); f.write(b'hello'); f.close()"
    program += f"; os.rename('{run}/a', '{run}/b')"
    disk = Disk(run)
    disk.run(trace([sys.executable, "-c", program], tmp_path / "trace"))
    assert {name: bytes(disk.files[number].live) for name, number in disk.names.items()} == {"b": b"hello"}
