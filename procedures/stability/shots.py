"""Laser pulses that have passed, from the trigger counter: never from time and repetition rate."""

from __future__ import annotations

import logging
from collections.abc import Callable

from labctl.errors import InstrumentError
from labctl.roles import TriggerCounter

log = logging.getLogger(__name__)


class ShotCounter:
    """Counts on when the counter was started anew; what passed between its last reading and that start is lost.

    To be read with the shutter closed: nothing is then lost.

    :param counter: Gets the counter.
    :param before: Pulses in earlier parts of the run.
    """

    def __init__(self, counter: Callable[[], TriggerCounter], before: int) -> None:
        self._counter = counter
        self._before = before
        self._last = 0
        self.starts = 0
        """How often the counter was found to have lost its count."""

    def total(self) -> int:
        """Measure how many pulses have passed since the start of the run."""
        found = self._counter().count
        if found < self._last:
            self._begin_anew()
        self._last = found
        return self._before + found

    def restart(self) -> None:
        """Have the counter count from 0 on, where it does not count any more."""
        try:
            self.total()
        except InstrumentError as error:
            log.warning("the trigger counter is started anew: %s", error.what)
            self._begin_anew()
            self._counter().restart()
            self._last = self._counter().count

    def _begin_anew(self) -> None:
        self._before += self._last
        self._last = 0
        self.starts += 1
