"""Reading many mutants in a process of their own, which is started again when one has ended or hung it."""

from __future__ import annotations

import json
import select
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from run_fuzz.journals import mutate_journal
from run_fuzz.originals import Originals
from run_fuzz.sealed_files import mutate_sealed

PATIENCE_S = 30.0
"""Processor time for one mutant: how busy the computer is must not matter."""
_WALL_PATIENCE_S = 600.0
DEEP_EVERY = 20
"""Report and analysis take seconds: one of so many mutants of each form is put through them."""


@dataclass(frozen=True)
class Mutant:
    """One mutant and what came of it.

    :param outcome: ``read``, ``error``, or a broken promise: ``wrong``, ``fault``, ``crash``, ``hang``.
    """

    seed: int
    form: str
    mutation: str
    outcome: str
    detail: str

    @property
    def kept(self) -> bool:
        """Whether it gave a clear error or a correct read."""
        return self.outcome in ("read", "error")


class Worker:
    """The process that reads; owned by :func:`campaign`, ended by :meth:`end`."""

    def __init__(self) -> None:
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "run_fuzz.worker"]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )

    def ask(self, work: dict[str, Any]) -> tuple[str, str]:
        """Have one mutant read; returns outcome and detail."""
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the worker has no pipes")
        process.stdin.write(json.dumps(work).encode() + b"\n")
        ready = self._answered(process.stdout)
        line = process.stdout.readline() if ready else b""
        if line:
            answer = json.loads(line)
            return answer["outcome"], answer["detail"]
        self.end()
        code = process.returncode
        self._process = self._start()
        return ("crash", f"the process ended with {code}") if ready else ("hang", f"no answer in {PATIENCE_S:.0f} s")

    def _answered(self, pipe: IO[bytes]) -> bool:
        """Whether an answer, or the end of the process, comes within its time."""
        times = psutil.Process(self._process.pid).cpu_times
        before = times()
        for _ in range(int(_WALL_PATIENCE_S)):
            if select.select([pipe], [], [], 1.0)[0]:
                return True
            used = times()
            if used.user + used.system - before.user - before.system > PATIENCE_S:
                return False
        return False

    def end(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def campaign(originals: Originals, folder: Path, seeds: Iterable[int]) -> Iterator[Mutant]:
    """Mutate and read: a sealed file for odd seeds; a journal, with or without a log beside it, for even ones."""
    worker = Worker()
    try:
        for seed in seeds:
            scratch = folder / str(seed)
            scratch.mkdir(parents=True)
            if seed % 2:
                original, path = originals.sealed, scratch / "m.h5"
                mutation = mutate_sealed(original, path, seed)
            else:
                original, path = originals.logged if seed % 4 else originals.journal, scratch / "m.journal"
                mutation = mutate_journal(original, path, seed)
            damaged = mutation.startswith("bytes")
            work = {"path": str(path), "original": str(originals.sealed), "number": seed // 2, "damaged": damaged}
            outcome, detail = worker.ask({**work, "deep": seed // 2 % DEEP_EVERY == 0})
            mutant = Mutant(seed, path.suffix[1:], mutation, outcome, detail)
            if mutant.kept:
                shutil.rmtree(scratch)
            yield mutant
    finally:
        worker.end()
