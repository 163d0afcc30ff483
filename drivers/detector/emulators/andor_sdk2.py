"""Simulated Andor SDK2 with an iDus DU401A behind it: same functions, constants, codes and states.

The methods named as the functions of the library, here and in :class:`ReadOut`, take their arguments and give code and
outputs. A function that is not simulated answers 20991.

UNVERIFIED, chosen here: the set of read-out speeds, the temperature range, the time that StartAcquisition takes, the
step to which exposures are rounded, and what WaitForAcquisition does without an acquisition (here: it times out).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from drivers.detector.andor_sdk2_calls import (
    CAPABILITY_FIELDS,
    FUNCTIONS,
    PARAMETER_INVALID,
    TEMPERATURE_WITHOUT_CAMERA_C,
    VERSION_SDK,
    AcquisitionMode,
    Code,
    Feature,
    ShutterMode,
)
from drivers.detector.emulators.andor_acquisition import Acquisition, Expose, Line, Timing
from drivers.detector.emulators.andor_cooler import Cooler
from drivers.detector.emulators.andor_read_out import Answer, ReadOut

HANDLE = 100
TEMPERATURE_RANGE_C = (-100, 20)
_EXPOSURE_STEP_S = 1e-5
_LEAST_EXPOSURE_S = 1e-3
_START_S = 0.005
_INITIALIZE_S = 2.0
_LONG_S = 3600.0
_NEVER_S = 1e9
_CIRCULAR_BUFFER_FRAMES = 512
_WITHOUT_INITIALIZE = frozenset(
    {"GetAvailableCameras", "GetCameraHandle", "SetCurrentCamera", "GetCurrentCamera", "Initialize", "GetVersionInfo"}
)
_NOT_DURING_ACQUISITION = (
    frozenset(name for name in FUNCTIONS if name.startswith("Set"))
    | {
        "CoolerON",
        "CoolerOFF",
        "FreeInternalMemory",
        "GetAcquiredData",
        "GetAcquiredData16",
        "GetAcquisitionTimings",
        "GetTemperatureRange",
        "Initialize",
        "PrepareAcquisition",
        "StartAcquisition",
    }
) - {"SetCurrentCamera"}


class AndorSDK2Library:
    """The library and one camera; the camera keeps its temperature when the library is shut down with cooler mode 1.

    :param laboratory: The simulated laboratory.
    :param options: See :class:`Options`.
    """

    class Options(BaseModel):
        """Options of the simulation; those of the driver are in the same table and are not looked at.

        :param rows: Rows of the sensor.
        :param cold: Start with the sensor stable at ``set_point_c``.
        :param set_point_c: First set-point in °C.
        :param cooling_k_s: Rate of cooling and warming in K/s.
        :param settle_s: Time from reaching the set-point to being stable.
        :param em: A head with electron multiplication.
        :param has_cooler_mode: Whether SetCoolerMode is supported.
        :param awkward: Left by another program: initialised, acquiring for ever, a stale event pending.
        """

        model_config = ConfigDict(frozen=True, extra="ignore")

        rows: int = Field(default=127, ge=8)
        cold: bool = False
        set_point_c: float = -60.0
        cooling_k_s: float = Field(default=0.25, gt=0)
        settle_s: float = Field(default=60.0, ge=0)
        em: bool = False
        has_cooler_mode: bool = True
        awkward: bool = False

    def __init__(self, laboratory: Any, role: str, options: Mapping[str, Any]) -> None:
        self.options = self.Options.model_validate(dict(options))
        self.laboratory = laboratory
        self.role = role
        self._powered = True
        self.stuck = False
        chosen = self.options
        water = laboratory.no_cooling_water
        self.cooler = Cooler(chosen.set_point_c, chosen.cold, chosen.cooling_k_s, chosen.settle_s, water)
        self._columns: int = laboratory.truth.camera.pixels
        self._pixel_um: float = laboratory.truth.camera.pixel_um
        self._cooler_mode = 0
        self._initialized = False
        self._reset()
        if chosen.awkward:
            self._initialized = True
            self._acquisition_mode = AcquisitionMode.RUN_TILL_ABORT
            self._stale_event = True
            self._begin(0.0)

    def power_off(self, t: float) -> None:
        """Cut the camera's power, or pull its plug."""
        self._powered = False
        self._acquisition = None
        self.cooler.set(t, on=False)

    def power_on(self) -> None:
        """Give the power back: the library has to be initialised anew."""
        self._powered = True
        self._initialized = False

    def power_cycle(self, t: float) -> None:
        """Switch the camera off and on."""
        self.power_off(t)
        self.power_on()

    def refuse(self, t: float, function: str) -> int:
        """Refuse a call, without carrying it out."""
        return Code.GENERAL_ERRORS

    def call(self, t: float, function: str, arguments: Sequence[Any]) -> tuple[float, int, Sequence[Any]]:
        """Call a function at ``t``; get the moment of return, the code, and the outputs of the call table."""
        self._return_s = t
        code, outputs = self._answer(t, function, arguments)
        return self._return_s, int(code), outputs

    def _answer(self, t: float, function: str, arguments: Sequence[Any]) -> Answer:
        method = None
        if function in FUNCTIONS:
            method = getattr(self, function, None) or getattr(self.read_out, function, None)
        if method is None:
            return Code.NOT_SUPPORTED, []
        if not self._powered:
            return self._without_camera(function)
        if not self._initialized and function not in _WITHOUT_INITIALIZE:
            return Code.NOT_INITIALIZED, []
        if function in _NOT_DURING_ACQUISITION and self._acquiring(t):
            return Code.ACQUIRING, []
        return method(t, *arguments)

    def _without_camera(self, function: str) -> Answer:
        if function == "GetAvailableCameras":
            return Code.SUCCESS, [0]
        if function in {"GetTemperature", "GetTemperatureF"} and self._initialized:
            return Code.TEMP_OFF, [TEMPERATURE_WITHOUT_CAMERA_C]
        return Code.ERROR_ACK, []

    def _reset(self) -> None:
        """Forget all settings, as Initialize does."""
        self._acquisition_mode = AcquisitionMode.SINGLE
        self.read_out = ReadOut(self._columns, self.options.rows, self.options.em)
        self._exposure_s = 0.1
        self._accumulations = 1
        self._accumulate_s = 0.0
        self._kinetics = 1
        self._kinetic_s = 0.0
        self._shutter_mode = ShutterMode.CLOSED
        self._shutter_ms = (0, 0)
        self._acquisition: Acquisition | None = None
        self._scans_seen = 0
        self._stale_event = False

    # Life cycle and identity

    def GetAvailableCameras(self, t: float) -> Answer:
        return Code.SUCCESS, [1]

    def GetCameraHandle(self, t: float, index: int) -> Answer:
        return (Code.SUCCESS, [HANDLE]) if index == 0 else (Code.P1INVALID, [])

    def SetCurrentCamera(self, t: float, handle: int) -> Answer:
        return (Code.SUCCESS if handle == HANDLE else Code.P1INVALID), []

    def GetCurrentCamera(self, t: float) -> Answer:
        return Code.SUCCESS, [HANDLE]

    def Initialize(self, t: float, directory: str) -> Answer:
        self._return_s = t + _INITIALIZE_S
        self._initialized = True
        self._reset()
        return Code.SUCCESS, []

    def ShutDown(self, t: float) -> Answer:
        if self._cooler_mode == 0:
            self.cooler.set(t, on=False)
        self._initialized = False
        self._acquisition = None
        return Code.SUCCESS, []

    def GetDetector(self, t: float) -> Answer:
        return Code.SUCCESS, [self._columns, self.options.rows]

    def GetPixelSize(self, t: float) -> Answer:
        return Code.SUCCESS, [_f32(self._pixel_um), _f32(self._pixel_um)]

    def GetHeadModel(self, t: float, size: int) -> Answer:
        return Code.SUCCESS, ["DU970P_BV" if self.options.em else "DU401A_BVF"]

    def GetControllerCardModel(self, t: float, size: int) -> Answer:
        return Code.SUCCESS, ["USB"]

    def GetCameraSerialNumber(self, t: float) -> Answer:
        return Code.SUCCESS, [11923]

    def GetVersionInfo(self, t: float, kind: int, size: int, length: int) -> Answer:
        return (Code.SUCCESS, ["2.104.30084.0"]) if kind == VERSION_SDK else (Code.NOT_SUPPORTED, [])

    def GetCapabilities(self, t: float, count: int) -> Answer:
        if not 11 <= count <= len(CAPABILITY_FIELDS):
            return Code.P1INVALID, []
        features = Feature.POLLING | Feature.EVENTS | Feature.SHUTTER | Feature.FAN
        em = self.options.em
        set_functions = 0x1 | 0x2 | 0x4 | 0x200 | 0x1000 | (0x10 if em else 0)
        get_functions = 0x1 | 0x2 | 0x4 | 0x8 | (0x20 if em else 0)
        fields = [4 * count, 1 | 2 | 4 | 8, 63, 1, 8 if em else 7, 4, set_functions, get_functions, int(features)]
        return Code.SUCCESS, [[*fields, 0, 8 if em else 0, 0, 0][:count]]

    # Cooling

    def GetTemperatureRange(self, t: float) -> Answer:
        return Code.SUCCESS, list(TEMPERATURE_RANGE_C)

    def SetTemperature(self, t: float, set_point_c: int) -> Answer:
        if not TEMPERATURE_RANGE_C[0] <= set_point_c <= TEMPERATURE_RANGE_C[1]:
            return Code.P1INVALID, []
        self.cooler.set(t, set_point_c=float(set_point_c))
        return Code.SUCCESS, []

    def CoolerON(self, t: float) -> Answer:
        self.cooler.set(t, on=True)
        return Code.SUCCESS, []

    def CoolerOFF(self, t: float) -> Answer:
        self.cooler.set(t, on=False)
        return Code.SUCCESS, []

    def IsCoolerOn(self, t: float) -> Answer:
        return Code.SUCCESS, [int(self.cooler.on)]

    def GetTemperature(self, t: float) -> Answer:
        if self._acquiring(t):
            return Code.ACQUIRING, []
        return self.cooler.state(t), [round(self.cooler.temperature_c(t))]

    def GetTemperatureF(self, t: float) -> Answer:
        if self._acquiring(t):
            return Code.ACQUIRING, []
        return self.cooler.state(t), [_f32(self.cooler.temperature_c(t))]

    def SetCoolerMode(self, t: float, mode: int) -> Answer:
        if not self.options.has_cooler_mode:
            return Code.NOT_SUPPORTED, []
        if mode not in (0, 1):
            return Code.P1INVALID, []
        self._cooler_mode = mode
        return Code.SUCCESS, []

    def SetFanMode(self, t: float, mode: int) -> Answer:
        return (Code.SUCCESS if mode in (0, 1, 2) else Code.P1INVALID), []

    # Timing, trigger, shutter

    def SetAcquisitionMode(self, t: float, mode: int) -> Answer:
        if mode not in set(AcquisitionMode) - {AcquisitionMode.FAST_KINETICS}:
            return Code.P1INVALID, []
        self._acquisition_mode = AcquisitionMode(mode)
        return Code.SUCCESS, []

    def SetExposureTime(self, t: float, exposure_s: float) -> Answer:
        if exposure_s < 0:
            return Code.P1INVALID, []
        self._exposure_s = _f32(exposure_s)
        return Code.SUCCESS, []

    def SetNumberAccumulations(self, t: float, number: int) -> Answer:
        if number < 1:
            return Code.P1INVALID, []
        self._accumulations = number
        return Code.SUCCESS, []

    def SetAccumulationCycleTime(self, t: float, cycle_s: float) -> Answer:
        self._accumulate_s = cycle_s
        return (Code.SUCCESS if cycle_s >= 0 else Code.P1INVALID), []

    def SetNumberKinetics(self, t: float, number: int) -> Answer:
        if number < 1:
            return Code.P1INVALID, []
        self._kinetics = number
        return Code.SUCCESS, []

    def SetKineticCycleTime(self, t: float, cycle_s: float) -> Answer:
        self._kinetic_s = cycle_s
        return (Code.SUCCESS if cycle_s >= 0 else Code.P1INVALID), []

    def GetAcquisitionTimings(self, t: float) -> Answer:
        timing = self._timing()
        return Code.SUCCESS, [_f32(timing.exposure_s), _f32(timing.accumulate_s), _f32(timing.kinetic_s)]

    def GetReadOutTime(self, t: float) -> Answer:
        return Code.SUCCESS, [_f32(self._timing().readout_s)]

    def SetTriggerMode(self, t: float, mode: int) -> Answer:
        return (Code.SUCCESS if mode == 0 else Code.P1INVALID), []

    def IsTriggerModeAvailable(self, t: float, mode: int) -> Answer:
        return (Code.SUCCESS if mode == 0 else Code.INVALID_MODE), []

    def SetShutter(self, t: float, kind: int, mode: int, close_ms: int, open_ms: int) -> Answer:
        bad = (kind not in (0, 1), mode not in set(ShutterMode), close_ms < 0, open_ms < 0)
        for code, is_bad in zip(PARAMETER_INVALID, bad, strict=False):
            if is_bad:
                return code, []
        self._shutter_mode, self._shutter_ms = ShutterMode(mode), (close_ms, open_ms)
        return Code.SUCCESS, []

    def GetShutterMinTimes(self, t: float) -> Answer:
        return Code.SUCCESS, [0, 0]

    # Acquisition and data

    def PrepareAcquisition(self, t: float) -> Answer:
        return Code.SUCCESS, []

    def StartAcquisition(self, t: float) -> Answer:
        if self._acquisition and self._acquisition.scans_read(t) > self._scans_seen:
            self._stale_event = True
        self._begin(t)
        self._return_s = t + _START_S
        return Code.SUCCESS, []

    def AbortAcquisition(self, t: float) -> Answer:
        if not self._acquiring(t) or self._acquisition is None:
            return Code.IDLE, []
        self._acquisition.aborted_s = t
        return Code.SUCCESS, []

    def GetStatus(self, t: float) -> Answer:
        return Code.SUCCESS, [int(Code.ACQUIRING if self._acquiring(t) else Code.IDLE)]

    def WaitForAcquisition(self, t: float) -> Answer:
        return self._wait(t, _LONG_S)

    def WaitForAcquisitionTimeOut(self, t: float, timeout_ms: int) -> Answer:
        return self._wait(t, timeout_ms / 1000)

    def WaitForAcquisitionByHandleTimeOut(self, t: float, handle: int, timeout_ms: int) -> Answer:
        return self._wait(t, timeout_ms / 1000) if handle == HANDLE else (Code.P1INVALID, [])

    def CancelWait(self, t: float) -> Answer:
        return Code.SUCCESS, []

    def GetAcquisitionProgress(self, t: float) -> Answer:
        if self._acquisition is None:
            return Code.SUCCESS, [0, 0]
        frames, scans = divmod(self._acquisition.scans_read(t), self._acquisition.scans)
        return Code.SUCCESS, [scans, frames]

    def GetTotalNumberImagesAcquired(self, t: float) -> Answer:
        return Code.SUCCESS, [self._frames_read(t)]

    def GetNumberNewImages(self, t: float) -> Answer:
        if self._acquisition is None or self._frames_read(t) <= self._acquisition.retrieved:
            return Code.NO_NEW_DATA, []
        return Code.SUCCESS, [self._acquisition.retrieved + 1, self._frames_read(t)]

    def GetSizeOfCircularBuffer(self, t: float) -> Answer:
        return Code.SUCCESS, [_CIRCULAR_BUFFER_FRAMES]

    def GetAcquiredData(self, t: float, count: int, size: int) -> Answer:
        if self._acquisition is None or not self._frames_read(t):
            return Code.NO_NEW_DATA, []
        frames = self._frames_read(t)
        if size != frames * self._acquisition.geometry.size or count < size:
            return Code.P2INVALID, []
        return Code.SUCCESS, [_padded(self._frames(1, frames), count)]

    def GetAcquiredData16(self, t: float, count: int, size: int) -> Answer:
        return self.GetAcquiredData(t, count, size)

    def GetMostRecentImage(self, t: float, count: int, size: int) -> Answer:
        if self._acquisition is None or not self._frames_read(t):
            return Code.NO_NEW_DATA, []
        if size != self._acquisition.geometry.size or count < size:
            return Code.P2INVALID, []
        return Code.SUCCESS, [_padded(self._frames(self._frames_read(t), self._frames_read(t)), count)]

    def GetImages(self, t: float, first: int, last: int, count: int, size: int) -> Answer:
        if self._acquisition is None or not self._frames_read(t):
            return Code.NO_NEW_DATA, []
        newest = self._frames_read(t)
        if not max(1, newest - _CIRCULAR_BUFFER_FRAMES + 1) <= first <= last <= newest:
            return Code.GENERAL_ERRORS, []
        if size != (last - first + 1) * self._acquisition.geometry.size or count < size:
            return Code.P4INVALID, []
        return Code.SUCCESS, [_padded(self._frames(first, last), count), first, last]

    def GetImages16(self, t: float, first: int, last: int, count: int, size: int) -> Answer:
        return self.GetImages(t, first, last, count, size)

    def FreeInternalMemory(self, t: float) -> Answer:
        self._acquisition = None
        return Code.SUCCESS, []

    # What they stand on

    def _timing(self) -> Timing:
        close_ms, open_ms = self._shutter_ms if self._shutter_mode is ShutterMode.AUTO else (0, 0)
        steps = math.ceil(self._exposure_s / _EXPOSURE_STEP_S * (1 - 1e-6))
        least_s = max(_LEAST_EXPOSURE_S, (open_ms + 1) * 1e-3 if open_ms else 0.0)
        exposure_s = max(steps * _EXPOSURE_STEP_S, least_s)
        readout_s = self.read_out.duration_s
        accumulate_s = max(exposure_s + readout_s + (close_ms + open_ms) * 1e-3, self._accumulate_s)
        kinetic_s = max(self._scans * accumulate_s, self._kinetic_s)
        return Timing(exposure_s, accumulate_s, kinetic_s, readout_s)

    @property
    def _scans(self) -> int:
        accumulating = self._acquisition_mode in (AcquisitionMode.ACCUMULATE, AcquisitionMode.KINETICS)
        return self._accumulations if accumulating else 1

    def _begin(self, t: float) -> None:
        many = {AcquisitionMode.KINETICS: self._kinetics, AcquisitionMode.RUN_TILL_ABORT: None}
        timing = self._timing()
        self._scans_seen = 0
        self._acquisition = Acquisition(
            start_s=t + (_NEVER_S if self.stuck else _START_S),
            timing=timing,
            geometry=self.read_out.geometry,
            frames=many.get(self._acquisition_mode, 1),
            scans=self._scans,
            expose=self._exposure(timing.exposure_s, self._shutter_mode is not ShutterMode.CLOSED),
        )

    def _exposure(self, exposure_s: float, is_open: bool) -> Expose:
        """Get what exposes the sensor with the settings of now; without light if the camera shutter is closed."""

        def expose(start_s: float) -> Line:
            temperature_c = self.cooler.temperature_c(start_s)
            if is_open:
                return self.laboratory.expose(start_s, exposure_s, temperature_c)
            return self.laboratory.camera.read_out(np.zeros(self._columns), exposure_s, temperature_c)

        return expose

    def _acquiring(self, t: float) -> bool:
        return self._acquisition is not None and t < self._acquisition.end_s

    def _frames_read(self, t: float) -> int:
        return 0 if self._acquisition is None else self._acquisition.frames_read(t)

    def _frames(self, first: int, last: int) -> NDArray[np.int32]:
        if self._acquisition is None:
            return np.zeros(0, dtype=np.int32)
        self._acquisition.retrieved = max(self._acquisition.retrieved, last)
        return np.concatenate([self._acquisition.frame(number) for number in range(first, last + 1)])

    def _wait(self, t: float, timeout_s: float) -> Answer:
        """Wait for the event that each scan sets; it is one event however many scans set it."""
        if self._stale_event:
            self._stale_event = False
            return Code.SUCCESS, []
        read = 0 if self._acquisition is None else self._acquisition.scans_read(t)
        if read > self._scans_seen:
            self._scans_seen = read
            return Code.SUCCESS, []
        if self._acquisition is not None and self._acquiring(t):
            moment_s = self._acquisition.scan_end_s(read + 1)
            if moment_s <= min(t + timeout_s, self._acquisition.end_s):
                self._scans_seen = read + 1
                self._return_s = moment_s
                return Code.SUCCESS, []
        self._return_s = t + timeout_s
        return Code.NO_NEW_DATA, []


def _f32(value: float) -> float:
    """Get a number as it passes through a C float."""
    return float(np.float32(value))


def _padded(data: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    return np.concatenate([data, np.zeros(count - len(data), dtype=np.int32)])
