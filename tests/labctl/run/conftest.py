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

from labctl.clock import RealClock, VirtualClock
from labctl.config.bench import load_bench
from labctl.config.locate import locate
from labctl.config.sample import load_sample
from labctl.run.front import RunFront
from labctl.run.request import RunRequest
from labctl.sim.remote import RemoteLaboratory
from labctl.sim.server import LaboratoryServer

PATIENCE_S = 60.0


class Served:
    """The shipped laboratory in a process of its own, and a bench file that leads to it.

    :param raw: Whether the wires are plain sockets in scaled time; else frames, which virtual time needs.
    """

    def __init__(self, folder: Path, server: LaboratoryServer, addresses: dict[str, Any], *, raw: bool) -> None:
        self.server = server
        self.virtual_time = not raw
        host, _, port = addresses["laboratory"]["tcp"].rpartition(":")
        self.address = (host, int(port))
        self.bench = str(folder / "bench.toml")
        Path(self.bench).write_text(_bench_text(addresses, raw=raw), encoding="utf-8")

    def state(self) -> dict[str, Any]:
        """Ask the laboratory what is true in it."""
        laboratory = RemoteLaboratory(self.address, VirtualClock() if self.virtual_time else RealClock(), 0)
        try:
            return dict(laboratory.state())
        finally:
            laboratory.close()


def _bench_text(addresses: dict[str, Any], *, raw: bool) -> str:
    source = locate("benches", "simulated")
    framed = addresses["laboratory"]["tcp"]
    text = source.read_text(encoding="utf-8").split("[laboratory.laser]")[0]
    for role, entry in addresses["instruments"].items():
        # The camera is a vendor library: its calls go over the framed port.
        resource = f"socket://{entry['tcp']}" if raw and role != "detector" else f"sim+tcp://{framed}"
        line = f'driver = "{entry["driver"]}"\nresource = "sim:"'
        assert line in text
        text = text.replace(line, line.replace("sim:", resource))
    calibrations = (source.parent / "calibrations").as_posix()
    return text.replace('"calibrations/', f'"{calibrations}/') + f'\n[laboratory]\nserved_at = "{framed}"\n'


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
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Serve the shipped laboratory in another process."""
    with ExitStack() as stack:

        def start(*, raw: bool = False, speed: float = 1.0) -> Served:
            server = LaboratoryServer(load_bench("simulated"), load_sample("cdse-cds-zno"), seed=0, speed=speed)
            return Served(tmp_path, server, stack.enter_context(server), raw=raw)

        yield start


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Going]]:
    """Start a run; what still goes at the end of the test is killed."""
    runs: list[Going] = []

    def begin(bench: str = "simulated", **fields: Any) -> Going:
        fields.setdefault("virtual_time", True)
        request = RunRequest(procedure="fluence-sweep", bench=bench, out=str(tmp_path / "runs"), **fields)
        runs.append(Going(request))
        return runs[-1]

    yield begin
    for run in runs:
        for process in _alive(run):
            process.send_signal(signal.SIGKILL)
        run.end()


def _alive(run: Going) -> list[psutil.Process]:
    try:
        return [run.guard, *run.guard.children()]
    except psutil.NoSuchProcess:
        return []
