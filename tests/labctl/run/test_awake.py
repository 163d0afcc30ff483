"""The computer stays awake as long as a run lives, and not a moment longer; who refuses is named in the log."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from labctl.run import awake
from labctl.run.awake import Awake, keep_awake

posix = pytest.mark.skipif(os.name != "posix", reason="a shell")
PATIENCE_S = 20.0


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put a folder with programs of our own before those of the system."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    yield tmp_path


def write_program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


TAKES_THE_LOCK = """
echo "$@" > "$0.asked"
while [ "${1#-}" != "$1" ]; do shift; done
"$@"
echo released > "$0.released"
"""


@posix
@pytest.mark.parametrize(
    ("platform", "name", "asks"),
    [
        ("linux", "systemd-inhibit", "--what=idle:sleep:shutdown --mode=block"),
        ("darwin", "caffeinate", "-i -m -s"),
    ],
)
def test_a_program_of_the_system_holds_the_lock(programs: Path, platform: str, name: str, asks: str) -> None:
    write_program(programs, name, TAKES_THE_LOCK)
    with keep_awake(platform) as kept:
        assert kept.held.wait(PATIENCE_S)
        assert asks in (programs / f"{name}.asked").read_text(encoding="utf-8")
        assert not (programs / f"{name}.released").exists()
    assert (programs / f"{name}.released").exists()
    kept.close()


@posix
def test_the_lock_ends_with_a_process_that_is_killed(programs: Path) -> None:
    write_program(programs, "systemd-inhibit", TAKES_THE_LOCK)
    code = (
        "from labctl.run.awake import keep_awake; k = keep_awake('linux'); k.held.wait(20); print('held', flush=True)"
    )
    command = [sys.executable, "-c", f"{code}; input()"]
    with psutil.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as engine:
        assert engine.stdout is not None
        assert engine.stdout.readline() == b"held\n"
        holders = engine.children(recursive=True)
        assert holders
        engine.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(holders, timeout=PATIENCE_S)
    assert not alive
    assert (programs / "systemd-inhibit.released").exists()


@posix
def test_a_system_that_refuses_is_a_warning(programs: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_program(programs, "systemd-inhibit", "echo 'Failed to inhibit: Access denied' >&2; exit 1")
    with keep_awake("linux") as kept:
        assert kept._reader is not None
        kept._reader.join(PATIENCE_S)
        assert not kept.held.is_set()
    assert "Access denied" in caplog.text
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@posix
def test_a_holder_that_does_not_let_go_is_killed(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awake, "_END_S", 0.1)
    write_program(programs, "systemd-inhibit", "echo held; exec sleep 60")
    kept = keep_awake("linux")
    assert kept.held.wait(PATIENCE_S)
    child = kept._child
    assert child is not None
    kept.close()
    assert child.returncode == -signal.SIGKILL


def test_a_program_that_cannot_be_started_is_a_warning(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    Awake([str(tmp_path / "nowhere")]).close()
    assert "may go to sleep" in caplog.text


@pytest.mark.parametrize("platform", ["linux", "darwin", "freebsd14"])
def test_nothing_is_started_where_the_system_has_nothing(platform: str) -> None:
    with keep_awake(platform, find=lambda name: None) as kept:
        assert not kept.held.is_set()
        assert kept._child is None


def test_windows_is_asked_to_stay_awake(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[int] = []

    def grant(state: int) -> int:
        asked.append(state)
        return 0x80000000

    assert keep_awake("win32", grant).held.is_set()
    assert asked == [0x80000001]
    assert not caplog.records
    assert not keep_awake("win32", lambda state: 0).held.is_set()
    assert "Windows may go to sleep" in caplog.text
