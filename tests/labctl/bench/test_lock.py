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
    monkeypatch.setattr(lock, "lock_folder", lambda: tmp_path / "labctl" / "locks")
    return tmp_path / "labctl" / "locks"


HOLDER = """
import sys
from pathlib import Path
from labctl.bench import lock
lock.lock_folder = lambda: Path(sys.argv[1]) / "labctl" / "locks"
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


def test_the_locks_of_a_process_that_was_killed_but_stays_are_passed_over(tmp_path: Path) -> None:
    holder = Holder(tmp_path, SERIAL)
    try:
        mine = ResourceLocks([SERIAL, SOCKET], "me", dead_owner=holder.process.pid)
        mine.acquire()
        with pytest.raises(InputError, match="in use by me"):
            ResourceLocks([SOCKET], "a third").acquire()
        mine.release()
        with pytest.raises(InputError, match="in use by fluence-sweep"):
            ResourceLocks([SERIAL], "me", dead_owner=holder.process.pid + 1).acquire()
    finally:
        holder.kill()


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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("socket://localhost:4000", "socket://127.0.0.1:4000"),
        ("sim+tcp://[::1]:4000", "socket://LOCALHOST:04000"),
        ("socket://bench.lab:4000", "TCPIP0::Bench.lab::4000::SOCKET"),
        ("serial:COM3", "ASRLcom3::INSTR"),
        ("serial:COM3", "serial:com3"),
        ("serial:COM3", "ASRL3::INSTR"),
        ("serial:COM12", r"serial:\\.\COM12"),
        ("ASRL12::INSTR", r"ASRL\\.\com12::INSTR"),
        (r"sdk:C:\Program Files\Andor SDK\atmcd64d.dll", "sdk:c:/program files/andor sdk/ATMCD64D.DLL"),
        ("serial:/dev/ttyUSB0", "ASRL/dev/ttyUSB0::INSTR"),
        ("USB0::0x1313::0x8078::P001::INSTR", "usb::0x1313::0x8078::p001::instr"),
        ("TCPIP0::127.0.0.1::inst0::INSTR", "TCPIP::localhost::INST0::INSTR"),
    ],
)
def test_one_place_has_one_lock_whatever_it_is_called(one: str, other: str) -> None:
    first = ResourceLocks([one], "first")
    first.acquire()
    with pytest.raises(InputError, match="in use by first"):
        ResourceLocks([other], "second").acquire()
    first.release()
    both = ResourceLocks([one, other], "one bench that calls it by two names")
    both.acquire()
    both.release()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("socket://localhost:4000", "socket://localhost:4001"),
        ("socket://bench:4000", "socket://bench2:4000"),
        ("serial:COM1", "serial:COM10"),
        ("serial:COM1", "ASRL10::INSTR"),
        ("USB0::0x1313::0x8078::P001::INSTR", "USB1::0x1313::0x8078::P001::INSTR"),
        ("GPIB0::1::INSTR", "GPIB0::10::INSTR"),
        ("sdk:andor", "sdk:other"),
    ],
)
def test_two_places_have_two_locks(one: str, other: str) -> None:
    locks = [ResourceLocks([name], name) for name in (one, other)]
    for held in locks:
        held.acquire()
    for held in locks:
        held.release()


def test_a_serial_port_by_its_link_is_the_port(tmp_path: Path) -> None:
    port, link = tmp_path / "ttyUSB0", tmp_path / "by-id"
    port.touch()
    link.symlink_to(port)
    assert lock.canonical(f"serial:{link}") == lock.canonical(f"serial:{port}")


def test_on_windows_all_users_may_write_the_locks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[list[str]] = []

    def icacls(command: list[str], *, check: bool, timeout: float, **arguments: object) -> None:
        assert check and timeout > 0
        asked.append(command)

    lock._open_to_all_on_windows(tmp_path, icacls)
    assert asked == [["icacls", str(tmp_path), "/grant", "*S-1-5-32-545:(OI)(CI)M", "/Q"]]

    def missing(command: list[str], **arguments: object) -> None:
        raise FileNotFoundError("icacls")

    lock._open_to_all_on_windows(tmp_path, missing)
    assert "may find their instruments locked" in caplog.text


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_the_locks_are_for_all_users_of_the_machine(own_state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    monkeypatch.setenv("HOME", "/elsewhere")
    locks = ResourceLocks([SERIAL], "me")
    locks.acquire()
    assert own_state.stat().st_mode & 0o7777 == 0o1777
    assert {path.stat().st_mode & 0o777 for path in own_state.iterdir()} == {0o666}
    locks.release()
    monkeypatch.undo()
    before = lock.lock_folder()
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    monkeypatch.setenv("HOME", "/elsewhere")
    assert lock.lock_folder() == before


def test_locks_that_are_held_can_be_taken_again_and_get_the_name_of_the_run() -> None:
    locks, other = ResourceLocks([SERIAL], "fluence-sweep in /data/runs"), ResourceLocks([SERIAL], "me")
    locks.acquire()
    locks.acquire()
    locks.name_owner("run /data/runs/2026-11-21/0001_a.h5")
    with pytest.raises(InputError, match=f"in use by run /data/runs/2026-11-21/0001_a.h5 .process {os.getpid()} on "):
        other.acquire()
    locks.release()
    other.acquire()
    other.release()
