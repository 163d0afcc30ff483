"""Drives the simulated Andor SDK2 by an unmodified pylablib, in a process of its own; prints JSON.

pylablib is licensed under the GPL: nothing of labctl is imported by it, and labctl never imports it.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

import numpy as np
from pylablib.devices.utils import load_lib

from drivers.detector.andor_sdk2_calls import LINK, Code
from drivers.detector.emulators.andor_sdk2 import AndorSDK2Library
from labctl.clock import VirtualClock
from labctl.sim.ctypes_facade import CtypesFacade
from labctl.sim.laboratory import create

clock = VirtualClock()
laboratory = create({}, None, 0)
library = AndorSDK2Library(laboratory, "detector", json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})
calls: list[str] = []


class Recorded:
    """The simulated library, which notes the names of the functions that are called."""

    def call(self, t: float, function: str, arguments: Any) -> Any:
        calls.append(function)
        return library.call(t, function, arguments)


facade = CtypesFacade(
    Recorded(), LINK, clock, unknown_code=Code.NOT_SUPPORTED, input_lengths={"SetRandomTracks": lambda n: 2 * n[0]}
)
# pylablib is written for Windows, where `long` has 32 bits; elsewhere it would declare the functions wrongly.
ctypes.c_long, ctypes.c_ulong = ctypes.c_int32, ctypes.c_uint32  # type: ignore[misc]
load_lib.load_lib = lambda *arguments, **options: facade  # type: ignore[assignment]

from pylablib.devices.Andor import AndorSDK2Camera  # noqa: E402

camera = AndorSDK2Camera(amp_mode=None)
report: dict[str, Any] = {
    "info": list(camera.get_device_info()),
    "detector": camera.get_detector_size(),
    "pixel_um": [round(1e6 * size, 3) for size in camera.get_pixel_size()],
    "speeds_mhz": sorted({round(mode.hsspeed_MHz, 3) for mode in camera.get_all_amp_modes()}),
    "range": camera.get_temperature_range(),
}
camera.set_temperature(-60)
states = [camera.get_temperature_status()]
while states[-1] != "stabilized":
    clock.sleep(5.0)
    if (state := camera.get_temperature_status()) != states[-1]:
        states.append(state)
report["cooling"] = states
report["temperature_c"] = camera.get_temperature()
report["exposures_s"] = [camera.set_exposure(wanted) for wanted in (0.1, 0.0123456)]

camera.setup_shutter("auto")
camera.set_read_mode("fvb")
camera.set_exposure(0.05)
spectra = np.array(camera.grab(3))
report["fvb"] = {"shape": spectra.shape, "dtype": str(spectra.dtype), "means": spectra.mean(axis=(1, 2)).tolist()}
camera.setup_image_mode(0, 1024, 50, 60)
image = np.array(camera.snap())
report["image"] = {"shape": image.shape, "sum": int(image.sum())}
camera.setup_image_mode()
report["sum of whole image"] = int(np.array(camera.snap()).astype(int).sum())
camera.close()
report["last calls"] = calls[-3:]
report["calls"] = len(calls)
print(json.dumps(report))
