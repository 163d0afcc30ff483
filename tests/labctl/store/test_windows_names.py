"""What Windows does with names and paths, by pure functions: they say the same on every system."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest

from labctl.errors import InputError, StorageError
from labctl.store import durable, naming
from labctl.store.durable import patiently
from labctl.store.journal_format import connect, sqlite_uri
from labctl.store.naming import allocate_run, is_network_windows
from labctl.store.windows_names import LONGEST_PATH, check_names, fault_in, long_paths_enabled, too_long


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nul", "is a device"),
        ("runs/NUL.html", "is a device"),
        (r"C:\data\con\runs", "is a device"),
        ("Com3.toml", "is a device"),
        ("lpt¹", "is a device"),
        ("AUX .txt", "is a device"),
        (r"C:\data\what?.h5", "contains '?'"),
        ("a:b:c", "contains ':'"),
        ("line\nfeed", r"contains '\n'"),
        ("runs.", "ends with a full stop"),
        ("runs /a", "ends with a full stop or a blank"),
    ],
)
def test_names_that_windows_does_not_take(path: str, said: str) -> None:
    assert said in fault_in(path)
    with pytest.raises(InputError) as caught:
        check_names(Path(path), "--out", "nt")
    assert caught.value.where == "--out"


@pytest.mark.parametrize(
    "path",
    [
        "runs",
        r"C:\data\A12",
        "D:/",
        r"\\server\share$\runs",
        "../runs",
        "./a.b.c",
        "COM10.toml",
        "console",
        "nully",
        "µ",
    ],
)
def test_names_that_windows_takes(path: str) -> None:
    assert fault_in(path) == ""
    check_names(Path(path), "--out", "nt")


def test_other_systems_take_every_name() -> None:
    check_names(Path("nul"), "--out", "posix")


def test_the_length_of_paths() -> None:
    assert LONGEST_PATH == 259
    assert too_long("x" * 300, "posix") == 0
    assert too_long("x" * 259, "nt", long_paths=False) == 0
    assert too_long("x" * 300, "nt", long_paths=False) == 41
    assert too_long("x" * 300, "nt", long_paths=True) == 0
    assert too_long("\N{GRINNING FACE}" * 130, "nt", long_paths=False) == 1
    assert isinstance(long_paths_enabled(), bool)


def test_a_run_whose_files_would_have_names_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naming, "too_long", lambda path: too_long(path, "nt", long_paths=False))
    deep = tmp_path / ("x" * 120) / ("y" * 60)
    with pytest.raises(StorageError, match=r"would have \d+ characters; Windows takes 259"):
        allocate_run(deep, "fluence-sweep", "A" * 60, date(2026, 11, 21))
    assert allocate_run(tmp_path, "vsl", "A12", date(2026, 11, 21)).number == 1


@pytest.mark.parametrize(
    ("path", "network"),
    [
        (r"C:\data\runs", False),
        (r"Z:\runs", True),
        ("Z:/runs", True),
        (r"\\server\share\runs", True),
        ("//server/share/runs", True),
        (r"\\?\UNC\server\share", True),
        (r"\\?\C:\data", False),
        (r"\\?\Z:\data", True),
        (r"\\wsl.localhost\Ubuntu\home", True),
    ],
)
def test_shares_are_told_by_their_form_or_the_type_of_their_drive(path: str, network: bool) -> None:
    def drive_type(root: str) -> int:
        assert root in ("C:\\", "Z:\\")
        return {"C:\\": 3, "Z:\\": 4}[root]

    assert is_network_windows(path, drive_type) is network


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        (PurePosixPath("/home/me/a b#c?d%e.journal"), "file:///home/me/a%20b%23c%3Fd%25e.journal"),
        (PureWindowsPath(r"C:\Users\J\µ.journal"), "file:///C:/Users/J/%C2%B5.journal"),
        (PureWindowsPath(r"\\server\share\x.journal"), "file:////server/share/x.journal"),
    ],
)
def test_the_uri_of_a_journal(path: PurePosixPath | PureWindowsPath, uri: str) -> None:
    assert sqlite_uri(path) == uri


def test_a_journal_of_a_strange_name_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "a b#c?d%41µ.journal"
    path.touch()
    connection = connect(path)
    connection.execute("CREATE TABLE a(b)")
    connection.close()
    assert path.stat().st_size > 0
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_name_that_a_virus_scanner_holds_is_changed_a_little_later() -> None:
    tries: list[int] = []

    def held() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise PermissionError(13, "used by another process")

    patiently(held, "win32")
    assert len(tries) == 3
    tries.clear()
    with pytest.raises(PermissionError):
        patiently(held, "linux")
    assert len(tries) == 1


def test_a_name_that_stays_held_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "_PATIENCE_S", 0.05)

    def held() -> None:
        raise PermissionError(13, "used by another process")

    with pytest.raises(PermissionError):
        patiently(held, "win32")


AS_ON_WINDOWS = """
import contextlib, fcntl, os, pathlib, sys, types, weakref
import labctl.clock, labctl.errors

def locking(descriptor, mode, count):
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 1 << 30 and count == 1
    fcntl.flock(descriptor, {2: fcntl.LOCK_EX | fcntl.LOCK_NB, 0: fcntl.LOCK_UN}[mode])

sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2, LK_UNLCK=0)
sys.platform = "win32"
from labctl.store.ownership import OwnerLock, is_owned, owner_of

path = pathlib.Path(sys.argv[1])
assert not is_owned(path)
mine, other = OwnerLock(path), OwnerLock(path)
mine.acquire()
assert is_owned(path) and owner_of(path) == f"process {os.getpid()}"
try:
    other.acquire()
except labctl.errors.StorageError as error:
    assert "in use by process" in error.what
else:
    raise AssertionError("two owners")
mine.release(remove=False)
assert path.exists() and not is_owned(path)
other.acquire(timeout_s=1.0)
other.release()
assert not path.exists() and not is_owned(path)
print("held")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there the other tests do it for real")
def test_the_owner_of_a_journal_as_on_windows(tmp_path: Path) -> None:
    command = [sys.executable, "-c", AS_ON_WINDOWS, str(tmp_path / "a.journal.lock")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "held\n", done.stderr
