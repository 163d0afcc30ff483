"""Sweeps of many seeds in a process of their own: one JSON line each; see test_samples_of_the_sweep.py."""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

from labctl.run.engine import Engine, GuardLine
from labctl.run.request import RunRequest, prepare


class NoGuard(GuardLine):
    """A line to nobody."""

    def say(self, kind: str, **data: Any) -> None:
        pass


def main() -> None:
    """Sweep with every seed of the request, a JSON object on standard input; each run is thrown away."""
    request = json.load(sys.stdin)
    for seed in request["seeds"]:
        with tempfile.TemporaryDirectory() as out:
            asked = RunRequest(
                procedure="fluence-sweep",
                parameters=request["parameters"],
                bench=request["bench"],
                sample=request["sample"],
                out=out,
                seed=seed,
                virtual_time=True,
            )
            outcome = Engine(prepare(asked), NoGuard()).run()
        told = {"seed": seed, "status": outcome.status, "result": outcome.result, "warnings": outcome.warnings}
        print(json.dumps({**told, "safe_state": outcome.safe_state, "error": outcome.error}, default=str), flush=True)


if __name__ == "__main__":
    main()
