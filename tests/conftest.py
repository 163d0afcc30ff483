"""What holds for every test: no window on a screen, and nothing left running or open."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path

import pytest

collect_ignore = ["neighbour"]

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("MPLBACKEND", "Agg")

_GRACE_S = 2.0
_FONTS = "matplotlib/mpl-data/fonts"
"""Matplotlib keeps the fonts it has drawn with open, for the life of the process."""


@pytest.fixture(scope="session", autouse=True)
def libusb() -> None:
    """Have pyvisa-py open libusb, whose descriptors stay until the process ends, before any test is watched."""
    import pyvisa

    pyvisa.ResourceManager("@py")


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a thread, a child process, a socket or an open file.

    What fixtures of a wider scope hold is there before and after. Threads and processes that are about to end are
    given a moment.
    """
    before = _resources()
    yield
    left = _new(before)
    deadline = time.monotonic() + _GRACE_S
    while left and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
        left = _new(before)
    if left:
        pytest.fail("the test left behind: " + "; ".join(left), pytrace=False)


def _new(before: dict[str, str]) -> list[str]:
    return [text for key, text in _resources().items() if key not in before]


def _resources() -> dict[str, str]:
    """Threads, child processes and open descriptors: what tells them apart, and how to name them."""
    # A thread of the same name may follow one that was there before: its number tells them apart.
    threads = {f"thread {thread.ident}": f"thread {thread.name!r}" for thread in threading.enumerate()}
    return threads | (_linux_resources() if sys.platform == "linux" else _other_resources())


def _linux_resources() -> dict[str, str]:
    """By /proc, which takes a tenth of a millisecond."""
    tracker = resource_tracker._resource_tracker  # started by multiprocessing once, for the life of the process
    found = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue  # the thread has ended meanwhile
        found |= {f"child {pid}": _command(pid) for pid in children if int(pid) != tracker._pid}
    for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208 - Path.iterdir is slower
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
        except OSError:
            continue  # the descriptor of the listing itself
        if int(descriptor) != tracker._fd and _FONTS not in target:
            text = f"descriptor {descriptor} of {target}"
            found[text] = text
    return found


def _command(pid: str) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:
        words = b""
    return f"child process {pid} ({words.decode(errors='replace').strip() or 'ended, but nobody waited for it'})"


def _other_resources() -> dict[str, str]:
    import psutil

    process = psutil.Process()
    texts = [f"child process {child.pid}" for child in process.children()]
    paths = [Path(file.path).as_posix() for file in process.open_files()]
    texts += [f"file {path}" for path in paths if _FONTS not in path]
    texts += [f"socket {c.laddr} to {c.raddr} ({c.status})" for c in process.net_connections()]
    return {text: text for text in texts}
