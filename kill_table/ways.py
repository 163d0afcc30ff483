"""The ways in which a run is ended, and what each allows for."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psutil

SAFE_S = 2.0
"""Real time from the death to the closed shutter."""
_LIVENESS_S = 1.0
_SLEEP_S = 3.0

Processes = Mapping[str, psutil.Process]


@dataclass(frozen=True)
class Way:
    """One way to end a run.

    :param end: Ends it; given the processes that live by name: ``front``, ``guard``, ``engine``, ``standby``.
    :param within_s: Real time after which the shutter must be closed for good.
    :param hangs_up: Whether its terminal is hung up instead.
    """

    end: Callable[[Processes], None]
    within_s: float = SAFE_S
    hangs_up: bool = False


def _send(number: int, *names: str) -> Callable[[Processes], None]:
    def send(processes: Processes) -> None:
        for name in names:
            if name in processes:
                try:
                    processes[name].send_signal(number)
                except psutil.NoSuchProcess:
                    pass

    return send


def _press_three_times(processes: Processes) -> None:
    for _ in range(3):
        _send(signal.SIGINT, "front")(processes)
        time.sleep(0.05)


def _sleep(processes: Processes) -> None:
    everybody = ("front", "guard", "engine", "standby")
    _send(signal.SIGSTOP, *everybody)(processes)
    time.sleep(_SLEEP_S)
    _send(signal.SIGCONT, *everybody)(processes)


def _nothing(_: Processes) -> None:
    """The terminal is hung up by whoever holds it."""


WAYS: dict[str, Way] = (
    {
        "kill": Way(_send(signal.SIGKILL, "engine")),
        "term": Way(_send(signal.SIGTERM, "front")),
        "int": Way(_press_three_times),
        "stop": Way(_send(signal.SIGSTOP, "engine"), _LIVENESS_S + SAFE_S),
        "guard": Way(_send(signal.SIGKILL, "guard")),
        "both": Way(_send(signal.SIGKILL, "guard", "engine")),
        "both-reversed": Way(_send(signal.SIGKILL, "engine", "guard")),
        "hangup": Way(_nothing, hangs_up=True),
        "suspend": Way(_sleep, _LIVENESS_S + SAFE_S),
    }
    if os.name == "posix"
    else {}
)
"""``kill``: SIGKILL to the engine. ``term``, ``int`` (three times): to the process in the terminal. ``stop``: the
engine hangs. ``guard``; ``both``: guard, then engine; ``both-reversed``. ``hangup``: the terminal is closed.
``suspend``: every process stands still for 3 s; the limit counts from the waking.
"""
