"""Runs with guard and engine in processes of their own, against a laboratory in yet another."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from kill_table.laboratory import Served
from labctl.config.bench import load_bench
from labctl.config.sample import load_sample
from labctl.run.front import RunFront
from labctl.run.request import RunRequest
from labctl.sim.server import LaboratoryServer

PATIENCE_S = 60.0


class Laboratory(Served):
    """A served laboratory whose process can be killed."""

    def __init__(
        self, folder: Path, server: LaboratoryServer, addresses: dict[str, Any], *, raw: bool, of: str
    ) -> None:
        super().__init__(folder, addresses, raw=raw, of=of)
        self.server = server


class Going:
    """A run that goes: its events so far, its processes."""

    def __init__(self, request: RunRequest) -> None:
        self.front = RunFront(request)
        self.guard = psutil.Process(self.front._guard.pid)
        self.events: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for event in self.front.events():
            self.events.append(event)

    def wait_for(self, found: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for an event."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for event in list(self.events):
                if found(event):
                    return event
            assert self._reader.is_alive(), f"the run ended: {self.front.outcome()}"
            time.sleep(0.002)
        raise AssertionError(f"no such event among {self.events}")

    def engine(self) -> psutil.Process:
        """The engine's process."""
        return self._child("labctl.run.engine")

    def standby(self) -> psutil.Process:
        """The process of the program that stands by."""
        return self._child("labctl.run.safe_program")

    def standby_or_none(self) -> psutil.Process | None:
        """The process of the program that stands by, if one lives just now."""
        return next((child for child in self.guard.children() if "labctl.run.safe_program" in _command(child)), None)

    def _child(self, module: str) -> psutil.Process:
        (found,) = [child for child in self.guard.children() if module in child.cmdline()]
        return found

    def freeze_with_light_on(self, laboratory: Served, stage: str = "coarse") -> psutil.Process:
        """Stop the engine (SIGSTOP) at a moment when the shutter is open; returns it, stopped."""
        self.wait_for(lambda event: event.get("phase") == stage)
        engine = self.engine()
        for _ in range(1000):
            engine.suspend()
            if laboratory.state()["shutter_open"]:
                return engine
            engine.resume()
            time.sleep(0.013)
        raise AssertionError("the shutter was never seen open")

    def end(self) -> dict[str, Any]:
        """Wait for the end of the run; returns its outcome."""
        self._reader.join(PATIENCE_S)
        assert not self._reader.is_alive(), "the run does not end"
        outcome = self.front.outcome()
        self.front.close()
        return outcome


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Laboratory]]:
    """Serve the shipped laboratory in another process."""
    with ExitStack() as stack:

        def start(*, raw: bool = False, speed: float = 1.0, of: str = "simulated") -> Laboratory:
            server = LaboratoryServer(load_bench(of), load_sample("cdse-cds-zno"), seed=0, speed=speed)
            return Laboratory(tmp_path, server, stack.enter_context(server), raw=raw, of=of)

        yield start


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Going]]:
    """Start a run; what still goes at the end of the test is killed."""
    runs: list[Going] = []

    def begin(bench: str = "simulated", *, request: RunRequest | None = None, **fields: Any) -> Going:
        fields.setdefault("virtual_time", True)
        asked = request or RunRequest(procedure="fluence-sweep", bench=bench, out=str(tmp_path / "runs"), **fields)
        runs.append(Going(asked))
        return runs[-1]

    yield begin
    for run in runs:
        for process in _alive(run):
            process.send_signal(signal.SIGKILL)
        run.end()


def _command(process: psutil.Process) -> list[str]:
    """Get the command line of a process that may be gone; empty then."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _alive(run: Going) -> list[psutil.Process]:
    try:
        return [run.guard, *run.guard.children()]
    except psutil.NoSuchProcess:
        return []
