"""Keeps the computer from sleep and restarts of its own during a run: ports would be gone, the shutter as it stood.

What cannot be asked for, or is refused, is a warning in the log: a run goes on without it, and a lid that is closed or
somebody who chooses sleep has its way all the same. A computer that did sleep is noticed by the guard.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

# As in winbase.h.
ES_SYSTEM_REQUIRED = 0x00000001
ES_CONTINUOUS = 0x80000000

_UNTIL_THE_PIPE_ENDS = ["sh", "-c", "echo held; exec cat >/dev/null"]
_HOLDERS = {
    "linux": [
        "systemd-inhibit",
        "--what=idle:sleep:shutdown",
        "--mode=block",
        "--who=labctl",
        "--why=a run with the laser on the sample",
        *_UNTIL_THE_PIPE_ENDS,
    ],
    "darwin": ["caffeinate", "-i", "-m", "-s", *_UNTIL_THE_PIPE_ENDS],
}
"""Programs that hold a lock as long as what they run; it runs until nobody holds the other end of its input."""
_END_S = 2.0
_COMPLAINT_LENGTH = 500


class Awake:
    """What keeps the computer awake; ends with :meth:`close`, a ``with`` block, or this process, however it ends.

    A child process holds the lock of the system, and its standard input is a pipe from this process. The kernel closes
    that pipe when this process dies, so the child outlives it by no more than it takes to notice.

    :param command: Command of the child, which prints ``held`` once it has the lock; None where nothing is to be held.
    """

    def __init__(self, command: list[str] | None = None) -> None:
        self.held = threading.Event()
        """Set once the lock is held."""
        self._child: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        if command is None:
            return
        try:
            self._child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        except OSError as error:
            log.warning("the computer may go to sleep during the run: %s: %s", command[0], error)
            return
        self._reader = threading.Thread(target=self._read, name="awake", daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Let the computer sleep again; may be called twice."""
        child, self._child = self._child, None
        if child is None or child.stdin is None or self._reader is None:
            return
        child.stdin.close()
        try:
            child.wait(_END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        self._reader.join(_END_S)

    def __enter__(self) -> Awake:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        """Read what the child says; ends with the child."""
        output: Any = self._child.stdout if self._child is not None else None
        if output is None:
            return
        with output:
            complaint = b""
            for line in output:
                if line.strip() == b"held":
                    self.held.set()
                else:
                    complaint += line
        if not self.held.is_set():
            said = complaint.decode("utf-8", "replace").strip()[:_COMPLAINT_LENGTH]
            log.warning("the computer may go to sleep or restart during the run; the system refused: %s", said)


def keep_awake(
    platform: str = sys.platform,
    ask: Callable[[int], int] | None = None,
    find: Callable[[str], str | None] = shutil.which,
) -> Awake:
    """Ask the system not to go to sleep, and not to restart by itself, until what is returned is closed.

    Linux with systemd: neither for want of input nor by anything that asks before, updates among it; macOS: no sleep.
    Windows: no sleep for want of input, until the calling thread ends; it restarts for updates all the same. Elsewhere
    nothing is asked.

    :param platform: As ``sys.platform``.
    :param ask: SetThreadExecutionState, if it is not to be that of this system; it answers 0 when it refuses.
    :param find: Finds a program by name, or None.
    """
    if platform == "win32":
        awake = Awake()
        if (ask or _ask_windows)(ES_CONTINUOUS | ES_SYSTEM_REQUIRED):
            awake.held.set()
        else:
            log.warning("Windows may go to sleep during the run: switch that off in its power settings")
        return awake
    command = _HOLDERS.get(platform)
    if command is None or find(command[0]) is None:
        log.info("nothing on this computer can keep it awake during the run")
        return Awake()
    return Awake(command)


def _ask_windows(state: int) -> int:
    import ctypes

    function = ctypes.WinDLL("kernel32").SetThreadExecutionState  # pyright: ignore[reportAttributeAccessIssue]
    function.restype, function.argtypes = ctypes.c_uint32, (ctypes.c_uint32,)
    return int(function(state))
