"""Keyed randomness: every draw is a function of (seed, source, point, attempt), never of the draws before it.

A generator that is drawn from in sequence makes all later data depend on how often it was asked: one repeated
reading, an overlapping move or a resumed run would change everything after it. Here each draw has its own
counter-based generator (Philox), whose key is a hash of the names above. Same key, same data, in any order.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter

import numpy as np

_DRIFT_MODES = 96


class KeyedNoise:
    """The random numbers of one simulated laboratory.

    :param seed: Seed of the run, any integer.

    Before the first announcement the point is -1: readings taken while a bench is opened and checked.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.point = -1
        self.attempt = 0
        self.schedule_s = 0.0
        self._draws: Counter[str] = Counter()
        self._modes: dict[tuple[str, float], tuple[np.ndarray, np.ndarray]] = {}
        self._lock = threading.Lock()

    def announce(self, point: int, attempt: int, schedule_s: float) -> None:
        """Set the point that all following draws belong to; the count of draws of every source starts at 0.

        :param point: Index of the point in the plan.
        :param attempt: 0 for the first attempt at this point.
        :param schedule_s: Time of the point in the plan's own schedule, s. Slow drifts are functions of it, because
            the time that really passes differs from run to run.
        """
        with self._lock:
            self.point, self.attempt, self.schedule_s = point, attempt, schedule_s
            self._draws.clear()

    def generator(self, source: str, *extra: int) -> np.random.Generator:
        """Get the generator of the next draw of ``source`` at the announced point.

        :param source: Name of what fluctuates, e.g. ``"camera"``. Sources do not influence each other.
        :param extra: Further parts of the key, e.g. a pixel block.
        """
        with self._lock:
            count = self._draws[source]
            self._draws[source] += 1
            key = (self.point, self.attempt, count, *extra)
        return self._keyed(source, "draw", *key)

    def fixed(self, source: str, *extra: int) -> np.random.Generator:
        """Get a generator that depends on seed and source alone: fixed patterns, a device's own errors."""
        return self._keyed(source, "fixed", *extra)

    def drift(self, source: str, rms: float, tau_s: float, schedule_s: float | None = None) -> float:
        """Get a slow stationary drift with the spectrum of an Ornstein-Uhlenbeck process.

        The drift is a sum of cosines of equal amplitude. The angular frequencies are drawn from the process' own
        spectrum (a Cauchy distribution of width 1/tau), one from each of equally likely intervals, so that every
        seed, and not only their mean, has the autocorrelation ``rms**2 * exp(-|t|/tau)``. It is a pure function of
        (seed, source, tau_s, schedule time): any time may be asked for in any order.

        :param rms: Root mean square, in the unit of the result.
        :param tau_s: Correlation time, s.
        :param schedule_s: Schedule time, s; the announced one when left out.
        """
        with self._lock:
            if (source, tau_s) not in self._modes:
                rng = self._keyed(source, "drift")
                quantile = (np.arange(_DRIFT_MODES) + rng.random(_DRIFT_MODES)) / _DRIFT_MODES
                omega = np.tan(0.5 * np.pi * quantile) / tau_s
                self._modes[source, tau_s] = omega, rng.uniform(0.0, 2.0 * np.pi, _DRIFT_MODES)
            omega, phase = self._modes[source, tau_s]
        t = self.schedule_s if schedule_s is None else schedule_s
        return float(rms * np.sqrt(2.0 / _DRIFT_MODES) * np.cos(omega * t + phase).sum())

    def _keyed(self, source: str, kind: str, *numbers: int) -> np.random.Generator:
        text = "\x1f".join([str(self.seed), kind, source, *map(str, numbers)])
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
