"""Sessions of our own, on POSIX for real and on Windows by what is asked of it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from labctl import processes
from labctl.processes import end_signals, no_window, own_session, start_apart, status_text


class AsOnWindows:
    """Popen as it would be called there; refuses what it is told to."""

    pid = 4242

    def __init__(self, *, lets_out: bool) -> None:
        self.lets_out = lets_out
        self.flags: list[int] = []

    def __call__(self, command: list[str], *, creationflags: int, **arguments: Any) -> Any:
        assert command == ["labctl"] and arguments == {"stdin": subprocess.DEVNULL}
        self.flags.append(creationflags)
        if creationflags & processes.CREATE_BREAKAWAY_FROM_JOB and not self.lets_out:
            raise PermissionError(13, "Access is denied")
        return self


def test_the_flags_are_those_of_windows() -> None:
    assert processes.CREATE_NEW_PROCESS_GROUP == 512
    assert processes.CREATE_BREAKAWAY_FROM_JOB == 0x1000000
    assert processes.CREATE_NO_WINDOW == 0x8000000
    assert own_session("nt") == {"creationflags": 0x08000200}
    assert no_window("nt") == {"creationflags": 0x08000000}
    assert own_session("posix") == {"start_new_session": True}
    assert no_window("posix") == {}
    for name in ("CREATE_NEW_PROCESS_GROUP", "CREATE_BREAKAWAY_FROM_JOB", "CREATE_NO_WINDOW"):
        assert getattr(subprocess, name, getattr(processes, name)) == getattr(processes, name)


def test_a_guard_leaves_the_job_of_its_front(caplog: pytest.LogCaptureFixture) -> None:
    popen = AsOnWindows(lets_out=True)
    start_apart(["labctl"], platform="nt", popen=popen, stdin=subprocess.DEVNULL)
    assert popen.flags == [0x09000200]
    assert not caplog.records


def test_a_job_that_lets_nobody_out_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    popen = AsOnWindows(lets_out=False)
    with caplog.at_level(logging.WARNING):
        assert start_apart(["labctl"], platform="nt", popen=popen, stdin=subprocess.DEVNULL) is popen
    assert popen.flags == [0x09000200, 0x08000200]
    assert "process 4242" in caplog.text and "nobody closes the shutter" in caplog.text


@pytest.mark.skipif(os.name != "posix", reason="sessions")
def test_a_program_apart_has_a_session_of_its_own() -> None:
    code = "import os; print(os.getsid(0) == os.getpid())"
    with start_apart([sys.executable, "-c", code], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.read() == b"True\n"


def test_signals_that_end_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {signal.SIGINT, signal.SIGTERM} <= set(end_signals())
    monkeypatch.setattr(signal, "SIGBREAK", 21, raising=False)
    monkeypatch.setattr(signal, "SIGPWR", 30, raising=False)
    assert 30 in end_signals()
    monkeypatch.delattr(signal, "SIGPWR")
    monkeypatch.delattr(signal, "SIGHUP", raising=False)
    assert end_signals() == (signal.SIGINT, signal.SIGTERM, 21)


@pytest.mark.parametrize(
    ("code", "platform", "text"),
    [
        (0, "posix", "0"),
        (7, "nt", "7"),
        (-9, "posix", "-9, SIGKILL"),
        (-200, "posix", "-200"),
        (0xC0000005, "nt", "0xC0000005, access violation"),
        (0xC0000005 - (1 << 32), "nt", "0xC0000005, access violation"),
        (0xC0000099, "nt", "0xC0000099"),
        (None, "nt", "none: it has not ended"),
    ],
)
def test_how_a_process_ended(code: int | None, platform: str, text: str) -> None:
    assert status_text(code, platform) == text
