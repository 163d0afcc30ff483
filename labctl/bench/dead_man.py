"""Dead men: instruments that go safe by themselves when nobody feeds them, armed while a run lives.

What feeds them is the life of the run, not a thread: the thread here only carries the food, and it carries none once
the run is late by its own word. A run that hangs, a process that is stopped or killed, a computer that sleeps or loses
its mains: in each case nothing is fed any more, and the instrument acts by itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from labctl.bench.safe import SafeReport
from labctl.clock import RealClock
from labctl.roles import DeadMan, Instrument

log = logging.getLogger(__name__)

TIMEOUT_S = 60.0
"""How long an instrument waits for food: longer than any sequence of exchanges that keeps its wire busy."""
_MEALS = 4.0
_END_S = 5.0


class DeadMen:
    """Those instruments of a bench that have a dead man, in real time.

    Owns one thread, a daemon that ends with :meth:`leave`. If it dies, the instruments act.

    :param instruments: Instruments by role; one that is replaced during the run is armed anew.
    :param run_is_alive: Whether the run is within the time that it has declared.
    :param timeout_s: Time in s to be asked of the instruments.
    """

    def __init__(
        self, instruments: Mapping[str, Instrument], run_is_alive: Callable[[], bool], timeout_s: float = TIMEOUT_S
    ) -> None:
        self.warnings: list[str] = []
        self._instruments = instruments
        self._run_is_alive = run_is_alive
        self._timeout_s = timeout_s
        self._armed: dict[str, DeadMan] = {}
        self._meal_s = timeout_s / _MEALS
        self._left = threading.Event()
        self._clock = RealClock()
        self._thread = threading.Thread(target=self._feed_on, name="dead men", daemon=True)

    @property
    def roles(self) -> tuple[str, ...]:
        """Get the roles that are armed."""
        return tuple(self._armed)

    def arm(self) -> dict[str, Exception]:
        """Arm all there are and begin to feed them; returns those that could not be armed, with the reason."""
        failures: dict[str, Exception] = {}
        for role, instrument in self._instruments.items():
            if isinstance(instrument, DeadMan):
                try:
                    self._arm(role, instrument)
                except Exception as error:  # drivers of other packages may fail in any way
                    failures[role] = error
        if self._armed:
            self._thread.start()
        return failures

    def judge(self, report: SafeReport) -> None:
        """Warn of those that stay armed, because their safe state was not confirmed."""
        for role in self._unsafe(report):
            self.warnings.append(f"{role}: its dead man stays armed, and acts within {self._timeout_s:g} s")

    def leave(self, report: SafeReport) -> None:
        """Feed no more; disarm those that are safe. The others act by themselves when their time is over."""
        self._left.set()
        if self._thread.is_alive():
            self._thread.join(_END_S)
        unsafe = self._unsafe(report)
        for role, dead_man in self._armed.items():
            if role in unsafe:
                continue
            try:
                dead_man.disarm()
            except Exception:  # it will act although all is safe: a nuisance, no danger
                log.exception("the dead man of %s could not be disarmed", role)
        self._armed.clear()

    def _unsafe(self, report: SafeReport) -> set[str]:
        safe = {entry.role for entry in report.steps} - {entry.role for entry in report.unconfirmed}
        return set(self._armed) - safe

    def _arm(self, role: str, dead_man: DeadMan) -> None:
        granted_s = dead_man.arm(self._timeout_s)
        self._armed[role] = dead_man
        self._meal_s = min(self._meal_s, granted_s / _MEALS)
        log.info("%s goes safe by itself when nothing is heard for %g s", role, granted_s)

    def _feed_on(self) -> None:
        while not self._clock.wait(self._left, self._meal_s):
            if not self._run_is_alive():
                log.error("the run is late: %s are not fed", ", ".join(self._armed))
                continue
            for role in list(self._armed):
                self._feed(role)

    def _feed(self, role: str) -> None:
        instrument = self._instruments.get(role)
        if not isinstance(instrument, DeadMan):
            return
        try:
            if instrument is self._armed[role]:
                instrument.feed()
            else:
                self._arm(role, instrument)
        except Exception as error:  # one that cannot be fed acts by itself; the run finds its instrument off
            log.warning("the dead man of %s could not be fed: %s", role, error)
            text = f"{role}: its dead man could not be fed, and may have switched it off"
            if text not in self.warnings:
                self.warnings.append(text)
