"""``labctl sim serve``."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from labctl.cli.output import print_json, say, show
from labctl.config.bench import load_bench
from labctl.config.sample import load_sample
from labctl.errors import InputError


def serve(bench: str, speed: float, sample: str | None, seed: int, *, as_json: bool) -> int:
    """Serve the emulators of a bench until ended; prints the addresses once all listen."""
    if not speed > 0:
        raise InputError(f"the speed must be positive, not {speed}", where="--speed")
    config = load_bench(bench)
    chosen = sample or config.default_sample
    truth = load_sample(chosen) if chosen else None

    def ready(addresses: dict[str, Any]) -> None:
        if as_json:
            print_json(addresses)
            return
        for role, entry in addresses["instruments"].items():
            show(
                f"{role:14} {entry['driver']:20} tcp {entry['tcp']}" + (f"  pty {entry['pty']}" if entry["pty"] else "")
            )
        show(f"laboratory     framed               tcp {addresses['laboratory']['tcp']}")
        say("serving SIMULATED instruments; end with Ctrl-C")

    run_server = _server()
    run_server(config, truth, seed=seed, speed=speed, ready=ready)
    return 0


def _server() -> Any:
    """Get the server through the registry: nothing but the registry leads from here to the simulated laboratory."""
    (entry,) = entry_points(group="labctl.laboratory", name="serve")
    return entry.load()
