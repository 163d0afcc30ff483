"""A simulated camera as the PICam library shows it; methods are named as the library's functions.

They take their arguments after the time and without the handle, and give code and outputs. Get and set are spelled out
for each type of values, as in the library.

UNVERIFIED, chosen here: the time that StartAcquisition takes; that temperatures cannot be read and parameters not be
committed while an acquisition is in progress; that a wait which times out leaves the acquisition running.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from drivers.detector import picam_parameters as parameters
from drivers.detector.andor_sdk2_calls import Code as CoolerCode
from drivers.detector.emulators.andor_acquisition import Geometry
from drivers.detector.emulators.andor_cooler import Cooler
from drivers.detector.emulators.picam_acquisition import Acquisition, News
from drivers.detector.emulators.picam_memory import Memory
from drivers.detector.emulators.picam_model import SET_POINT_LIMITS_C, CameraModel, Limits
from drivers.detector.picam_calls import REQUIRED, Code
from drivers.detector.picam_parameters import AcquisitionErrors, PicamParameter, ShutterTiming, TemperatureStatus
from drivers.detector.picam_structures import (
    AcquisitionStatus,
    AvailableData,
    CameraID,
    RangeConstraint,
    Roi,
    Rois,
    RoisConstraint,
)

Answer = tuple[int, list[Any]]
"""Code, and the outputs; none where the library did not write them."""

Expose = Callable[[float, float, float, bool], np.ndarray]
"""Exposes from a moment on, for a time in s, at a temperature in °C, with or without light: counts, (columns,)."""

_START_S = 0.005
_BUFFER_READOUTS = 64
_RUBBISH = b"\xa5"
_TICKS_PER_S = 1_000_000


class PicamCamera:
    """One open camera.

    :param camera_id: Who it is. :param model: Its parameters. :param cooler: Its cooler.
    :param memory: Where it puts its data. :param expose: The light.
    """

    def __init__(self, camera_id: CameraID, model: CameraModel, cooler: Cooler, memory: Memory, expose: Expose) -> None:
        self.camera_id = camera_id
        self.model = model
        self.acquisition: Acquisition | None = None
        self.return_s = 0.0
        self.cooler_faulted = False
        self._cooler = cooler
        self._memory = memory
        self._expose = expose
        self._buffer = memory.allocate(b"\0")
        self._frames = 0

    def release(self) -> None:
        """Give all memory back, as the camera is closed."""
        self._memory.free(self._buffer)

    @property
    def is_acquiring(self) -> bool:
        """Whether an acquisition is in progress."""
        return self.acquisition is not None and self.acquisition.in_progress

    def GetCameraID(self, t: float, words: int) -> Answer:
        return Code.NONE, [self.camera_id.to_words()]

    def DoesParameterExist(self, t: float, parameter_id: int) -> Answer:
        parameter = parameters.BY_ID.get(parameter_id)
        return Code.NONE, [int(parameter is parameters.ROIS or (parameter is not None and parameter in self.model))]

    def IsParameterRelevant(self, t: float, parameter_id: int) -> Answer:
        if not self.DoesParameterExist(t, parameter_id)[1][0]:
            return Code.PARAMETER_DOES_NOT_EXIST, []
        quality = self.model[parameters.ADC_QUALITY]
        is_em_gain = parameter_id == parameters.ADC_EM_GAIN.id
        return Code.NONE, [int(not is_em_gain or quality == parameters.QUALITIES["electron-multiplied"])]

    def GetParameterIntegerValue(self, t: float, parameter_id: int) -> Answer:
        code, value = self._value(parameter_id, "Integer")
        return code, [int(each) for each in value]

    def GetParameterLargeIntegerValue(self, t: float, parameter_id: int) -> Answer:
        code, value = self._value(parameter_id, "LargeInteger")
        return code, [int(each) for each in value]

    def GetParameterFloatingPointValue(self, t: float, parameter_id: int) -> Answer:
        return self._value(parameter_id, "FloatingPoint")

    def SetParameterIntegerValue(self, t: float, parameter_id: int, value: int) -> Answer:
        return self._set(parameter_id, "Integer", value)

    def SetParameterLargeIntegerValue(self, t: float, parameter_id: int, value: int) -> Answer:
        return self._set(parameter_id, "LargeInteger", value)

    def SetParameterFloatingPointValue(self, t: float, parameter_id: int, value: float) -> Answer:
        return self._set(parameter_id, "FloatingPoint", value)

    def GetParameterRoisValue(self, t: float, parameter_id: int) -> Answer:
        code, _ = self.model.find(parameter_id, "Rois")
        if code != Code.NONE:
            return code, []
        # One block, as the library's: the regions follow the structure that points to them.
        address = self._memory.allocate(bytes(16) + b"".join(bytes(roi) for roi in self.model.rois))
        self._memory.write(address, bytes(Rois(address + 16, len(self.model.rois))))
        return Code.NONE, [address]

    def SetParameterRoisValue(self, t: float, parameter_id: int, address: int) -> Answer:
        code, _ = self.model.find(parameter_id, "Rois")
        if code != Code.NONE:
            return code, []
        if not address:
            return Code.NULL_POINTER, []
        rois = Rois.from_buffer_copy(self._memory.read(address, 16))
        data = self._memory.read(rois.roi_array, 24 * rois.roi_count)
        self.model.rois = [Roi.from_buffer_copy(data, 24 * number) for number in range(rois.roi_count)]
        return Code.NONE, []

    def ReadParameterIntegerValue(self, t: float, parameter_id: int) -> Answer:
        return self._read(t, parameter_id, "Integer")

    def ReadParameterFloatingPointValue(self, t: float, parameter_id: int) -> Answer:
        return self._read(t, parameter_id, "FloatingPoint")

    def GetParameterRangeConstraint(self, t: float, parameter_id: int, category: int) -> Answer:
        parameter = parameters.BY_ID.get(parameter_id)
        if parameter is None or parameter not in self.model:
            return Code.PARAMETER_DOES_NOT_EXIST, []
        limits = self.model.limits(parameter)
        if limits is None:
            return Code.WRONG_CONSTRAINT_TYPE, []
        if category not in (1, REQUIRED, 3):
            return Code.INVALID_CONSTRAINT_CATEGORY, []
        return Code.NONE, [self._memory.allocate(bytes(_range(limits)))]

    def GetParameterRoisConstraint(self, t: float, parameter_id: int, category: int) -> Answer:
        if parameter_id != parameters.ROIS.id:
            return Code.WRONG_CONSTRAINT_TYPE, []
        if category not in (1, REQUIRED, 3):
            return Code.INVALID_CONSTRAINT_CATEGORY, []
        sensor = self.model.sensor
        allowed = np.array(sensor.y_binnings, dtype="<i4")
        address = self._memory.allocate(bytes(RoisConstraint()) + allowed.tobytes())
        constraint = RoisConstraint(
            maximum_roi_count=16,
            x=_range(Limits(0, sensor.columns - 1, 1)),
            width=_range(Limits(1, sensor.columns, 1)),
            y=_range(Limits(0, sensor.rows - 1, 1)),
            height=_range(Limits(1, sensor.rows, 1)),
            y_binning_limits_array=address + len(bytes(RoisConstraint())) if allowed.size else 0,
            y_binning_limits_count=allowed.size,
        )
        self._memory.write(address, bytes(constraint))
        return Code.NONE, [address]

    def AreParametersCommitted(self, t: float) -> Answer:
        return Code.NONE, [int(self.model.is_committed)]

    def CommitParameters(self, t: float) -> Answer:
        if self.is_acquiring:
            return Code.ACQUISITION_IN_PROGRESS, []
        rejected = np.array([parameter.id for parameter in self.model.commit()], dtype="<i4")
        if not rejected.size:
            # A set-point above the surroundings asks for no cooling, and the camera does not heat.
            is_on = self.model.set_point_c < SET_POINT_LIMITS_C[1]
            self._cooler.set(t, on=is_on, set_point_c=self.model.set_point_c)
        return Code.NONE, [self._memory.allocate(rejected.tobytes()) if rejected.size else 0, rejected.size]

    def Acquire(self, t: float, readouts: int, timeout_ms: int, words: int) -> Answer:
        if readouts < 1:
            return Code.INVALID_READOUT_COUNT, []
        code = self._begin(t, readouts)
        if code != Code.NONE or self.acquisition is None:
            return code, []
        end_s = self.acquisition.end_s
        if -1 < timeout_ms < 1000 * (end_s - t):
            self.return_s = t + timeout_ms / 1000
            return Code.TIME_OUT, []
        self.return_s = end_s
        news = self.acquisition.news(end_s, 0.0)
        self.acquisition.in_progress = False
        return Code.NONE, [self._deliver(news).to_words(), 0]

    def StartAcquisition(self, t: float) -> Answer:
        return self._begin(t, int(self.model[parameters.READOUT_COUNT])), []

    def StopAcquisition(self, t: float) -> Answer:
        if self.acquisition is None or not self.acquisition.in_progress:
            return Code.ACQUISITION_NOT_IN_PROGRESS, []
        self.acquisition.stop(t)
        return Code.NONE, []

    def IsAcquisitionRunning(self, t: float) -> Answer:
        return Code.NONE, [int(self.is_acquiring)]

    def WaitForAcquisitionUpdate(self, t: float, timeout_ms: int, words: int, status_words: int) -> Answer:
        if self.acquisition is None or not self.acquisition.in_progress:
            return Code.ACQUISITION_NOT_IN_PROGRESS, []
        news = self.acquisition.news(t, math.inf if timeout_ms == -1 else timeout_ms / 1000)
        if news is None:
            self._spoil()
            self.return_s = t + timeout_ms / 1000
            return Code.TIME_OUT, []
        self.return_s = news.moment_s
        rate_hz = 1.0 / (self.acquisition.exposure_s + self.acquisition.readout_s)
        status = AcquisitionStatus(int(news.running), int(news.errors), rate_hz)
        return Code.NONE, [self._deliver(news).to_words(), status.to_words()]

    def lose(self, t: float, errors: AcquisitionErrors) -> None:
        """Have the acquisition end with errors."""
        if self.acquisition is not None:
            self.acquisition.stop(t, errors)

    def _value(self, parameter_id: int, type_name: str) -> Answer:
        code, parameter = self.model.find(parameter_id, type_name)
        return code, [self.model[parameter]] if code == Code.NONE else []

    def _set(self, parameter_id: int, type_name: str, value: float) -> Answer:
        code, parameter = self.model.find(parameter_id, type_name)
        return (self.model.set(parameter, value) if code == Code.NONE else code), []

    def _read(self, t: float, parameter_id: int, type_name: str) -> Answer:
        code, parameter = self.model.find(parameter_id, type_name)
        if code != Code.NONE:
            return code, []
        if self.is_acquiring:
            return Code.ACQUISITION_IN_PROGRESS, []
        measured: dict[PicamParameter, Callable[[], float]] = {
            parameters.TEMPERATURE_READING: lambda: self._cooler.temperature_c(t),
            parameters.TEMPERATURE_STATUS: lambda: self._temperature_status(t),
        }
        return (Code.NONE, [measured[parameter]()]) if parameter in measured else (Code.NOT_READABLE, [])

    def _temperature_status(self, t: float) -> TemperatureStatus:
        if self.cooler_faulted:
            return TemperatureStatus.FAULTED
        stable = self._cooler.state(t) is CoolerCode.TEMP_STABILIZED
        return TemperatureStatus.LOCKED if stable else TemperatureStatus.UNLOCKED

    def _begin(self, t: float, readouts: int) -> Code:
        if self.is_acquiring:
            return Code.ACQUISITION_IN_PROGRESS
        if not self.model.is_committed:
            return Code.NOT_COMMITTED
        self._memory.free(self._buffer)
        self._buffer = self._memory.allocate(_RUBBISH * self.model.frame_stride * min(readouts or 64, _BUFFER_READOUTS))
        model, self._frames = self.model, 0
        self.return_s = t + _START_S
        self.acquisition = Acquisition(
            self.return_s, model.exposure_s, model.readout_ms / 1000, readouts, self._readout
        )
        return Code.NONE

    def _readout(self, start_s: float) -> bytes:
        """Expose and read: the regions one after another, then the metadata."""
        model, sensor = self.model, self.model.sensor
        is_lit = model.shutter is not ShutterTiming.CLOSED
        line = self._expose(start_s, model.exposure_s, self._cooler.temperature_c(start_s), is_lit)
        frame = b""
        for roi in model.rois:
            bands = tuple((row + 1, row + roi.y_binning) for row in range(roi.y, roi.y + roi.height, roi.y_binning))
            geometry = Geometry(bands, roi.x + 1, roi.x + roi.width, roi.x_binning, sensor.rows)
            frame += np.clip(geometry.frame(line), 0, 65535).astype("<u2").tobytes()
        self._frames += 1
        stamps = [round(start_s * _TICKS_PER_S), round((start_s + model.exposure_s) * _TICKS_PER_S)]
        metadata = [*stamps[: int(model[parameters.TIME_STAMPS]).bit_count()], self._frames]
        return frame + np.array(metadata, dtype="<i8").tobytes()[: model.metadata_bytes]

    def _deliver(self, news: News | None) -> AvailableData:
        """Put new readouts where the last ones were."""
        self._spoil()
        new = news.readouts[-_BUFFER_READOUTS:] if news else []
        self._memory.write(self._buffer, b"".join(new))
        return AvailableData(self._buffer if new else 0, len(new))

    def _spoil(self) -> None:
        """Overwrite what was delivered before: it was good until the next wait only."""
        size = self.model.frame_stride * (
            min(self.acquisition.readouts or 64, _BUFFER_READOUTS) if self.acquisition else 0
        )
        self._memory.write(self._buffer, _RUBBISH * size)


def _range(limits: Limits) -> RangeConstraint:
    return RangeConstraint(minimum=limits.minimum, maximum=limits.maximum, increment=limits.increment)
