"""Drives the simulated spectrograph library by an unmodified pylablib, in a process of its own; prints JSON.

pylablib is licensed under the GPL: nothing of labctl is imported by it, and labctl never imports it.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

from pylablib.devices.utils import load_lib

from drivers.spectrograph.andor_shamrock_calls import LINK, Code
from drivers.spectrograph.emulators.andor_shamrock import AndorShamrockLibrary
from labctl.clock import VirtualClock
from labctl.sim.ctypes_facade import CtypesFacade
from labctl.sim.laboratory import create

clock = VirtualClock()
laboratory = create({}, None, 0)
library = AndorShamrockLibrary(laboratory, "spectrograph", json.loads(sys.argv[1]))
calls: list[str] = []


class Recorded:
    """The simulated library, which notes the names of the functions that are called."""

    def call(self, t: float, function: str, arguments: Any) -> Any:
        calls.append(function)
        return library.call(t, function, arguments)


facade = CtypesFacade(Recorded(), LINK, clock, unknown_code=Code.NOT_AVAILABLE)
# pylablib is written for Windows, where `long` has 32 bits; elsewhere it would declare the functions wrongly.
ctypes.c_long, ctypes.c_ulong = ctypes.c_int32, ctypes.c_uint32  # type: ignore[misc]
load_lib.load_lib = lambda *arguments, **options: facade  # type: ignore[assignment]

from pylablib.devices import Andor  # noqa: E402
from pylablib.devices.Andor import ShamrockSpectrograph  # noqa: E402

report: dict[str, Any] = {"found": Andor.list_shamrock_spectrographs()}
spectrograph = ShamrockSpectrograph()
report["serial"] = spectrograph.get_device_info().serial_number
report["optics"] = list(spectrograph.get_optical_parameters())
report["gratings"] = [list(spectrograph.get_grating_info(n + 1)) for n in range(spectrograph.get_gratings_number())]
report["limits_nm"] = [1e9 * limit for limit in spectrograph.get_wavelength_limits(3)]
report["started in zero order"] = spectrograph.is_at_zero_order()
start = clock.now()
report["grating"] = spectrograph.set_grating(2)
report["grating_s"] = clock.now() - start
report["wavelength_nm"] = 1e9 * spectrograph.set_wavelength(632e-9)
report["at"] = list(laboratory.spectrograph.at(clock.now()))
report["slits"] = [spectrograph.is_slit_present(slit) for slit in range(1, 5)]
report["slit_um"] = 1e6 * spectrograph.set_slit_width("input_side", 50e-6)
report["shutter"] = [spectrograph.get_shutter(), spectrograph.set_shutter("opened")]
report["bnc"] = bool(spectrograph.is_shutter_mode_possible("bnc"))
report["offsets"] = [spectrograph.set_grating_offset(-12, 2), spectrograph.set_detector_offset(34)]
spectrograph.set_pixel_width(26e-6)
spectrograph.set_number_pixels(1024)
axis_nm = 1e9 * spectrograph.get_calibration()
report["axis"] = {"pixels": len(axis_nm), "first": axis_nm[0], "middle": axis_nm[512], "last": axis_nm[-1]}
try:
    spectrograph.set_wavelength(99999e-9)
except Andor.AndorError as error:
    report["refused"] = str(error)
report["settings"] = sorted(spectrograph.get_settings())
spectrograph.goto_zero_order()
report["zero order"] = spectrograph.is_at_zero_order()
try:
    spectrograph.get_calibration()
except Andor.AndorError as error:
    report["no calibration"] = str(error)
spectrograph.close()
report["last call"] = calls[-1]
report["families"] = sorted({"ATSpectrograph" if name.startswith("AT") else "Shamrock" for name in calls})
print(json.dumps(report))
