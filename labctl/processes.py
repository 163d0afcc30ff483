"""Processes of our own: apart from the terminal, apart from the jobs of whoever started them, and how they end.

Standard library only, and little of it: the guard loads this file by its name.
"""

from __future__ import annotations

import os
import signal
import subprocess

TYPE_CHECKING = False  # the module typing costs more start-up time than all the rest
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# As in winbase.h: the module subprocess knows them on Windows only.
CREATE_NEW_PROCESS_GROUP = 0x00000200
CREATE_BREAKAWAY_FROM_JOB = 0x01000000
CREATE_NO_WINDOW = 0x08000000

_END_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK", "SIGPWR")
_FIRST_FAULT = 0xC0000000
_NTSTATUS = {
    0xC0000005: "access violation",
    0xC000001D: "illegal instruction",
    0xC00000FD: "stack overflow",
    0xC0000135: "a library was not found",
    0xC000013A: "Ctrl-C, or its console was closed",
    0xC0000374: "heap corruption",
    0xC0000409: "it aborted",
}


def end_signals() -> tuple[signal.Signals, ...]:
    """Get the signals that ask a program to end, as far as this system has them.

    On Windows SIGBREAK stands for Ctrl-Break and for a console window that is closed; SIGHUP does not exist. SIGPWR is
    what an uninterruptible supply may have sent where the system knows it (Linux): the mains are gone.
    """
    return tuple(getattr(signal, name) for name in _END_SIGNALS if hasattr(signal, name))


def own_session(platform: str = os.name) -> dict[str, Any]:
    """Get the arguments of Popen that take a child out of reach of the terminal's signals and of its end.

    On Windows a console of its own, without a window: closing a console ends every process in it, and Ctrl-Break
    reaches them all, whatever their group.
    """
    if platform == "posix":
        return {"start_new_session": True}
    return {"creationflags": CREATE_NEW_PROCESS_GROUP | CREATE_NO_WINDOW}


def no_window(platform: str = os.name) -> dict[str, Any]:
    """Get the arguments of Popen that keep a console program from opening a window; none but on Windows."""
    return {} if platform == "posix" else {"creationflags": CREATE_NO_WINDOW}


_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def single_threaded() -> dict[str, str]:
    """Get the environment for a program whose linear algebra stays in one thread, unless the user says otherwise.

    The matrices of a run have some hundred rows. Shared among threads they take longer, and while these wait for each
    other they keep every core busy: where others compute too, thirty times as long.
    """
    return {**dict.fromkeys(_THREADS, "1"), **os.environ}


def start_apart(
    command: list[str],
    *,
    risk: str = "if that job is ended, guard and engine end with it, and nobody closes the shutter",
    platform: str = os.name,
    popen: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen,
    **arguments: Any,
) -> subprocess.Popen[bytes]:
    """Start a program that may outlive whoever starts it: in a session of its own and, on Windows, in no job of theirs.

    A job on Windows may end all its processes with its owner, e.g. those of an ssh session or of a test runner. Where
    the job lets nobody out, the program is started in it all the same, and a warning says so.

    :param risk: What that means, for the warning.
    :param arguments: For Popen.
    """
    arguments |= own_session(platform)
    if platform == "posix":
        return popen(command, **arguments)
    flags: int = arguments.pop("creationflags")
    try:
        return popen(command, creationflags=flags | CREATE_BREAKAWAY_FROM_JOB, **arguments)
    except PermissionError:
        program = popen(command, creationflags=flags, **arguments)
    import logging  # seldom needed, and slow to import

    logging.getLogger(__name__).warning(
        "process %d had to be started inside the job object of its parent: %s; an ordinary console has no such job",
        program.pid,
        risk,
    )
    return program


def end_session(pid: int) -> None:
    """Kill a process that has a session of its own, with all that is in it; on Windows that process alone."""
    try:
        if os.name == "posix":
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM)  # there it is TerminateProcess
    except OSError:
        pass


def status_text(code: int | None, platform: str = os.name) -> str:
    """Write an exit status, with the name of the signal (POSIX) or of the fault (Windows), where it was one."""
    if code is None:
        return "none: it has not ended"
    name = ""
    if platform == "posix":
        name = next((known.name for known in signal.Signals if known == -code), "")
    elif code & 0xFFFFFFFF >= _FIRST_FAULT:
        code &= 0xFFFFFFFF
        return f"0x{code:08X}" + (f", {_NTSTATUS[code]}" if code in _NTSTATUS else "")
    return f"{code}, {name}" if name else str(code)
