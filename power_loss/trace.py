"""Tracing the system calls by which a program changes files, with ``strace``."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CALLS = (
    "open,openat,creat,close,write,pwrite64,writev,pwritev,pwritev2,sendfile,copy_file_range,lseek,truncate,ftruncate,"
    "fallocate,fsync,fdatasync,sync_file_range,sync,syncfs,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir"
)
LONGEST_WRITE = 1 << 26

_WHOLE = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+|\?)")
_BEGUN = re.compile(r"^(\d+) +(\w+)\((.*?) *<unfinished \.\.\.>$")
_ENDED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (-?\d+|\?)")


@dataclass(frozen=True)
class Call:
    """One system call that succeeded.

    :param begun: How many calls had ended when this one began: what a sync promises goes no further.
    :param result: What it returned.
    """

    name: str
    arguments: tuple[str, ...]
    result: int
    begun: int


def can_trace() -> str:
    """Why programs cannot be traced here; empty if they can."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed"
    tried = subprocess.run([strace, "-f", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"strace may not trace here: {tried.stderr.strip()[-200:]}"


def trace(command: Sequence[str], output: Path, *, timeout_s: float = 60.0) -> list[Call]:
    """Run a program to its end and get its calls, in the order in which they ended."""
    options = ["-f", "-qq", "-xx", "-s", str(LONGEST_WRITE), "-e", f"trace={CALLS}", "-e", "signal=none"]
    done = subprocess.run(
        ["strace", *options, "-o", str(output), *command],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the traced program failed ({done.returncode}): {done.stderr[-2000:]}")
    return parse(output.read_text(encoding="ascii"))


def parse(text: str) -> list[Call]:
    """Read the output of ``strace -f -xx``; calls that failed are left out."""
    calls: list[Call] = []
    begun: dict[str, tuple[int, str]] = {}
    for line in text.splitlines():
        if found := _BEGUN.match(line):
            begun[found[1]] = (len(calls), found[3])
            continue
        start = len(calls)
        if found := _ENDED.match(line):
            start, arguments = begun.pop(found[1])
            arguments += found[3]
        elif found := _WHOLE.match(line):
            arguments = found[3]
        else:
            continue
        if found[4] != "?" and int(found[4]) >= 0:
            calls.append(Call(found[2], tuple(part.strip() for part in arguments.split(",")), int(found[4]), start))
    return calls


@cache
def text_of(argument: str) -> bytes:
    """The bytes of a string argument, ``"\\x61\\x62"``."""
    if argument.endswith("..."):
        raise ValueError("strace has cut a string short")
    return bytes.fromhex(argument.strip('"').replace("\\x", ""))
