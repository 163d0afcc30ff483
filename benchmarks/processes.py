"""What whole processes cost: ``labctl --help``, the demo, and the guard.

``python -m benchmarks.processes``; the functions are used by ``python -m benchmarks`` too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from labctl.run import guard

LABCTL = [sys.executable, "-m", "labctl.cli.main"]
_IDLE_ENGINE = (
    'import time; print(\'{"m": "started", "run": "", "endpoint": "", "simulated": true}\', flush=True);'
    " time.sleep(0.3);"
    ' print(\'{"m": "final", "exit": 0, "report": {}}\', flush=True)'
)


def wall_s(command: list[str]) -> float:
    """Seconds from the start of a command to its end; raises CalledProcessError if it fails."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True, timeout=600)
    return time.perf_counter() - start


def help_s(repeats: int) -> float:
    """Median wall time of ``labctl --help`` in s, a new process each time."""
    return float(np.median([wall_s([*LABCTL, "--help"]) for _ in range(repeats)]))


def demo_s(directory: Path, repeats: int) -> float:
    """Median wall time of ``labctl demo`` in s: check, sweep, seal, analyse, report."""
    return float(np.median([wall_s([*LABCTL, "demo", "--out", str(directory)]) for _ in range(repeats)]))


def guard_cost(directory: Path, repeats: int) -> tuple[float, float]:
    """Median time in s from the start of a guard to the first word of an engine that does nothing else, and the
    resident memory of the guard in MB then (nan where the system does not tell).
    """
    engine = [sys.executable, "-I", "-S", "-c", _IDLE_ENGINE]
    limits = dict.fromkeys(("liveness_s", "start_s", "safe_s", "record_s"), 10.0)
    config = {"engine": engine, "safe": engine, **limits, "log": str(directory / "engine.log"), "remove": []}
    times, memories = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        command = [sys.executable, "-I", "-S", guard.__file__, json.dumps(config)]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["m"] == "started"
            times.append(time.perf_counter() - start)
            memories.append(_resident_mb(process.pid))
            process.communicate(timeout=20)
    return float(np.median(times)), float(np.median(memories))


def _resident_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return float(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) * 1024e-6


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        start_s, memory_mb = guard_cost(Path(name), 5)
        print(f"labctl --help               {help_s(10):7.3f} s")
        print(f"labctl demo                 {demo_s(Path(name), 3):7.2f} s")
        print(f"guard and an idle engine    {start_s:7.3f} s, guard {memory_mb:.1f} MB")


if __name__ == "__main__":
    main()
