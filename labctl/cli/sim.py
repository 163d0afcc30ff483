"""``labctl sim serve``."""

from __future__ import annotations

import sys
import threading
from importlib.metadata import entry_points
from typing import Any

from labctl.cli.output import print_json, say, show
from labctl.config.bench import load_bench
from labctl.config.sample import load_sample
from labctl.errors import InputError


def serve(bench: str, speed: float, sample: str | None, seed: int, *, until_eof: bool, as_json: bool) -> int:
    """Serve the emulators of a bench until ended; prints the addresses once all listen.

    :param until_eof: Whether it ends with whoever holds the other end of its standard input.
    """
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

    def end_with_input(service: Any) -> None:
        # A daemon: it waits for the input and for nothing else, and ends with the process.
        threading.Thread(target=_stop_at_eof, args=(service,), name="input", daemon=True).start()

    run_server = _server()
    started = end_with_input if until_eof else None
    run_server(config, truth, seed=seed, speed=speed, ready=ready, started=started)
    return 0


def _stop_at_eof(service: Any) -> None:
    while sys.stdin.readline():
        pass
    service.stop()


def _server() -> Any:
    """Get the server through the registry: nothing but the registry leads from here to the simulated laboratory."""
    (entry,) = entry_points(group="labctl.laboratory", name="serve")
    return entry.load()
