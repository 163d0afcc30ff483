"""Names that Windows does not take, or takes for something else (``NUL``, ``a.``), and paths too long for it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path, PurePath, PureWindowsPath

from labctl.errors import InputError

LONGEST_PATH = 259
"""MAX_PATH of Windows without its closing NUL, in UTF-16 units."""

_DEVICE = re.compile(r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³])[ ]*(?:\..*)?", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]')


def fault_in(path: PurePath | str) -> str:
    """Say what Windows would not take in a path, or nothing. A drive and the server of a share are no names."""
    whole = PureWindowsPath(path)
    for part in whole.parts[1:] if whole.anchor else whole.parts:
        if part in (".", ".."):
            continue
        if _DEVICE.fullmatch(part):
            return f"{part!r} is a device on Windows, not a file"
        if forbidden := _FORBIDDEN.search(part):
            return f"{part!r} contains {forbidden[0]!r}, which no name on Windows may"
        if part.endswith((".", " ")):
            return f"{part!r} ends with a full stop or a blank, which Windows drops"
    return ""


def check_names(path: Path, where: str, platform: str = os.name) -> None:
    """Refuse a path that Windows would not take or takes for something else; elsewhere everything is allowed.

    :param where: What the path was given for.
    :raises InputError: with what is wrong.
    """
    if platform == "nt" and (fault := fault_in(path)):
        raise InputError(fault, where=where, state="nothing was written", todo="give another name")


def too_long(path: str, platform: str = os.name, long_paths: bool | None = None) -> int:
    """Get by how many characters a path is too long for this system; 0 if it is not.

    :param long_paths: Whether Windows has been told to take longer paths; asked, if not given.
    """
    if platform != "nt" or (long_paths_enabled() if long_paths is None else long_paths):
        return 0
    return max(len(path.encode("utf-16-le", "surrogatepass")) // 2 - LONGEST_PATH, 0)


def long_paths_enabled() -> bool:
    """Ask Windows whether it takes paths beyond 259 characters (LongPathsEnabled in its registry)."""
    if sys.platform != "win32":
        return True
    import ctypes

    try:
        function = ctypes.WinDLL("ntdll").RtlAreLongPathsEnabled
    except (AttributeError, OSError):  # before Windows 10, version 1607
        return False
    function.restype, function.argtypes = ctypes.c_ubyte, ()
    return bool(function())
