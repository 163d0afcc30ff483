"""The simulated spectrograph library for a library's process: what ``python:FILE:make`` names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from drivers.spectrograph.emulators.andor_shamrock import AndorShamrockLibrary
from labctl.clock import ScaledClock
from labctl.sim.laboratory import create


class TimedLibrary:
    """A simulated library whose calls last; one wavelength makes it crash."""

    def __init__(self) -> None:
        self._clock = ScaledClock(50.0)
        options = {"awkward": True, "flippers": [1]}
        self._library = AndorShamrockLibrary(create({}, None, 0), "spectrograph", options)

    def call(self, function: str, arguments: Sequence[Any]) -> tuple[int, Sequence[Any]]:
        if function.endswith("SetWavelength") and arguments[1] == 666.0:
            os.abort()
        start = self._clock.now()
        done, code, outputs = self._library.call(start, function, arguments)
        self._clock.sleep(done - start)
        return code, outputs


def make() -> TimedLibrary:
    return TimedLibrary()
