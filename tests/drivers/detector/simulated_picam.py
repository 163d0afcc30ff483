"""The simulated PICam library for a library's process: what ``python:FILE:make`` names."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from drivers.detector.emulators.picam import PicamLibraryEmulator
from labctl.clock import ScaledClock
from labctl.sim.laboratory import create


class TimedLibrary:
    """A simulated library whose calls last; one exposure time makes it crash, another makes it hang."""

    def __init__(self) -> None:
        self._clock = ScaledClock(20.0)
        self._library = PicamLibraryEmulator(create({}, None, 3), "detector", {"cold": True})

    def call(self, function: str, arguments: Sequence[Any]) -> tuple[int, Sequence[Any]]:
        if function == "Picam_SetParameterFloatingPointValue" and arguments[2] == 666000.0:
            os.abort()
        if function == "Picam_SetParameterFloatingPointValue" and arguments[2] == 777000.0:
            time.sleep(1000)
        start = self._clock.now()
        done, code, outputs = self._library.call(start, function, arguments)
        self._clock.sleep(done - start)
        return code, outputs


def make() -> TimedLibrary:
    return TimedLibrary()
