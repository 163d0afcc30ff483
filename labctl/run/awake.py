"""Keeps the computer from going to sleep during a run: its ports would be gone, and the shutter left as it stood."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

log = logging.getLogger(__name__)

# As in winbase.h.
ES_SYSTEM_REQUIRED = 0x00000001
ES_CONTINUOUS = 0x80000000


def keep_awake(platform: str = os.name, ask: Callable[[int], int] | None = None) -> bool:
    """Ask Windows not to go to sleep for want of input, until the calling thread ends; nothing is asked elsewhere.

    A lid that is closed, or a user who chooses sleep, has its way all the same.

    :param ask: SetThreadExecutionState, if it is not to be that of this system; it answers 0 when it refuses.
    :return: Whether it was granted.
    """
    if platform == "posix":
        return False
    if (ask or _ask_windows)(ES_CONTINUOUS | ES_SYSTEM_REQUIRED):
        return True
    log.warning("Windows may go to sleep during the run: switch that off in its power settings")
    return False


def _ask_windows(state: int) -> int:
    import ctypes

    function = ctypes.WinDLL("kernel32").SetThreadExecutionState  # pyright: ignore[reportAttributeAccessIssue]
    function.restype, function.argtypes = ctypes.c_uint32, (ctypes.c_uint32,)
    return int(function(state))
