"""One owner for each resource, across processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from labctl.bench import lock
from labctl.bench.lock import ResourceLocks
from labctl.errors import InputError

SERIAL, SOCKET = "serial:/dev/ttyUSB0", "socket://bench:4000"


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lock, "user_state_path", lambda name: tmp_path / name)
    return tmp_path / "labctl" / "locks"


HOLDER = """
import sys
from pathlib import Path
from labctl.bench import lock
lock.user_state_path = lambda name: Path(sys.argv[1]) / name
locks = lock.ResourceLocks(sys.argv[2:], "fluence-sweep in /data/runs")
locks.acquire()
print("held", flush=True)
sys.stdin.read()
"""


class Holder:
    """Another process that holds resources."""

    def __init__(self, folder: Path, *resources: str) -> None:
        command = [sys.executable, "-c", HOLDER, str(folder), *resources]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_another_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    holder = Holder(tmp_path, SERIAL)
    try:
        mine = ResourceLocks([SOCKET, SERIAL], "me")
        with pytest.raises(InputError) as caught:
            mine.acquire()
        assert SERIAL in caught.value.what
        assert "fluence-sweep in /data/runs" in caught.value.what
        assert f"process {holder.process.pid} on " in caught.value.what
        other = ResourceLocks([SOCKET], "a third")
        other.acquire()
        other.release()
    finally:
        holder.kill()


def test_the_death_of_the_owner_frees_its_resources(tmp_path: Path) -> None:
    Holder(tmp_path, SERIAL, SOCKET).kill()
    mine = ResourceLocks([SERIAL, SOCKET], "me")
    mine.acquire()
    mine.release()


def test_two_benches_in_one_process(own_state: Path) -> None:
    first, second = ResourceLocks([SERIAL], "first"), ResourceLocks([SERIAL], "second")
    first.acquire()
    with pytest.raises(InputError, match=f"in use by first .process {os.getpid()} "):
        second.acquire()
    first.release()
    second.acquire()
    second.release()
    second.release()
    assert list(own_state.glob("*.owner")) == []


def test_emulators_in_the_process_belong_to_nobody_else(own_state: Path) -> None:
    first, second = (ResourceLocks(["sim:", "sim:"], name) for name in ("first", "second"))
    first.acquire()
    second.acquire()
    assert not own_state.exists()
    first.release()
    second.release()


def test_a_resource_that_two_roles_share_is_locked_once() -> None:
    locks = ResourceLocks([SERIAL, SERIAL], "me")
    locks.acquire()
    locks.release()


def test_an_owner_that_left_no_readable_note(own_state: Path) -> None:
    first = ResourceLocks([SERIAL], "first")
    first.acquire()
    (note,) = own_state.glob("*.owner")
    note.write_text("{")
    with pytest.raises(InputError, match="in use by another process"):
        ResourceLocks([SERIAL], "second").acquire()
    first.release()


def test_a_folder_that_cannot_be_written(own_state: Path) -> None:
    own_state.parent.mkdir(parents=True)
    own_state.write_text("a file stands here")
    with pytest.raises(InputError, match="cannot be locked") as caught:
        ResourceLocks([SERIAL], "me").acquire()
    assert "locks" in caught.value.where
