"""The library's model of a simulated camera: parameters that are set, then committed, within their limits.

UNVERIFIED, chosen here: the limits and defaults of a PIXIS 100F, the time that a row takes, and that a value off the
grid is rejected where another library may round it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from drivers.detector import picam_parameters as parameters
from drivers.detector.picam_calls import Code
from drivers.detector.picam_parameters import BY_ID, ConstraintType, PicamParameter, ShutterTiming, ValueType
from drivers.detector.picam_structures import Roi

SET_POINT_LIMITS_C = (-80.0, 25.0)
EM_GAIN_LIMITS = (1.0, 1000.0)
_METADATA_BYTES = 8
_MOST_READOUTS = 2.0**31


@dataclass(frozen=True)
class Limits:
    """Limits of a number; an increment of 0 allows all between."""

    minimum: float
    maximum: float
    increment: float

    def allow(self, value: float) -> bool:
        steps = value / self.increment if self.increment else 0.0
        return self.minimum <= value <= self.maximum and math.isclose(steps, round(steps), rel_tol=1e-9, abs_tol=1e-6)


@dataclass
class Sensor:
    """What a camera is made of.

    :param y_binnings: Numbers of rows that it can bin; empty for all.
    :param time_stamps: Whether time stamps follow each frame and cannot be switched off.
    """

    columns: int
    rows: int
    pixel_um: float
    em: bool
    y_binnings: tuple[int, ...]
    time_stamps: bool


@dataclass
class CameraModel:
    """Values as they are set here, and as the camera has them.

    :param sensor: What is behind the model. :param set_point_c: Set-point that the camera has.
    """

    sensor: Sensor
    set_point_c: float
    rois: list[Roi] = field(init=False)
    _values: dict[PicamParameter, float] = field(init=False)
    _committed: tuple[dict[PicamParameter, float], list[bytes]] = field(init=False)

    def __post_init__(self) -> None:
        p, sensor = parameters, self.sensor
        self._limits: dict[PicamParameter, Limits | tuple[float, ...]] = {
            p.EXPOSURE_TIME: Limits(1.0, 7.2e6, 0.01),
            p.READOUT_COUNT: Limits(0.0, _MOST_READOUTS, 1.0),
            p.TEMPERATURE_SET_POINT: Limits(*SET_POINT_LIMITS_C, 1.0),
            p.ADC_SPEED: (2.0, 0.1),
            p.ADC_BIT_DEPTH: (16,),
            p.ADC_ANALOG_GAIN: (1, 2, 3),
            p.ADC_QUALITY: (3, 1) if sensor.em else (1, 2),
            p.PIXEL_FORMAT: (1,),
            p.SHUTTER_TIMING_MODE: (1, 2, 3),
            p.SHUTTER_CLOSING_DELAY: Limits(0.0, 1000.0, 1.0),
            p.SHUTTER_OPENING_DELAY: Limits(0.0, 1000.0, 1.0),
            p.READOUT_CONTROL_MODE: (1,),
            p.TRIGGER_RESPONSE: (1, 2, 5),
            p.TRIGGER_DETERMINATION: (3, 4),
            p.VERTICAL_SHIFT_RATE: (9.2, 31.2),
            p.TIME_STAMPS: (1,) if sensor.time_stamps else (0, 1, 2, 3),
            p.TRACK_FRAMES: (0, 1),
        }
        if sensor.em:
            self._limits[p.ADC_EM_GAIN] = Limits(*EM_GAIN_LIMITS, 1.0)
        self._values = {
            each: limits.minimum if isinstance(limits, Limits) else limits[0] for each, limits in self._limits.items()
        }
        self._values[p.EXPOSURE_TIME] = 100.0
        self._values[p.READOUT_COUNT] = 1.0
        self._values[p.TEMPERATURE_SET_POINT] = self.set_point_c
        self._computed: dict[PicamParameter, Callable[[], float]] = {
            p.SENSOR_ACTIVE_WIDTH: lambda: sensor.columns,
            p.SENSOR_ACTIVE_HEIGHT: lambda: sensor.rows,
            p.PIXEL_WIDTH: lambda: sensor.pixel_um,
            p.PIXEL_HEIGHT: lambda: sensor.pixel_um,
            p.PIXEL_BIT_DEPTH: lambda: 16,
            p.FRAME_SIZE: lambda: sum(self._pixels_of(roi) for roi in self.rois) * 2,
            p.FRAME_STRIDE: lambda: self.frame_stride,
            p.FRAMES_PER_READOUT: lambda: 1,
            p.READOUT_STRIDE: lambda: self.frame_stride,
            p.READOUT_TIME_CALCULATION: lambda: self.readout_ms,
            p.READOUT_RATE_CALCULATION: lambda: 1000.0 / (self[p.EXPOSURE_TIME] + self.readout_ms),
            p.TEMPERATURE_READING: lambda: self.set_point_c,
            p.TEMPERATURE_STATUS: lambda: parameters.TemperatureStatus.UNLOCKED,
        }
        self.rois = [Roi(0, sensor.columns, 1, 0, sensor.rows, 1)]
        self._keep()

    def __getitem__(self, parameter: PicamParameter) -> float:
        return self._computed[parameter]() if parameter in self._computed else self._values[parameter]

    @property
    def is_committed(self) -> bool:
        """Whether the camera has what is set here."""
        return self._committed == (self._values, [bytes(roi) for roi in self.rois])

    @property
    def exposure_s(self) -> float:
        """Get the exposure in s."""
        return self[parameters.EXPOSURE_TIME] / 1000

    @property
    def readout_ms(self) -> float:
        """Get the time to read a frame in ms: all rows are shifted, every pixel left after binning is converted."""
        shifts_ms = self.sensor.rows * self[parameters.VERTICAL_SHIFT_RATE] / 1000
        closing_ms = self[parameters.SHUTTER_CLOSING_DELAY] if self.shutter is ShutterTiming.NORMAL else 0.0
        pixels = sum(self._pixels_of(roi) for roi in self.rois)
        return shifts_ms + closing_ms + pixels / (self[parameters.ADC_SPEED] * 1000)

    @property
    def shutter(self) -> ShutterTiming:
        """Get what the camera shutter does."""
        return ShutterTiming(int(self[parameters.SHUTTER_TIMING_MODE]))

    @property
    def metadata_bytes(self) -> int:
        """Get the size of what follows each frame."""
        stamps = int(self[parameters.TIME_STAMPS]).bit_count()
        return _METADATA_BYTES * (stamps + int(self[parameters.TRACK_FRAMES]))

    @property
    def frame_stride(self) -> int:
        """Get the bytes from one frame to the next."""
        return int(self[parameters.FRAME_SIZE]) + self.metadata_bytes

    def find(self, parameter_id: int, type_name: str) -> tuple[Code, PicamParameter]:
        """Find a parameter for a function of some type of values; get the code that the library answers."""
        parameter = BY_ID.get(parameter_id)
        known = parameter is not None and (parameter in self or parameter is parameters.ROIS)
        if parameter is None or not known:
            return Code.PARAMETER_DOES_NOT_EXIST, parameters.ROIS
        return (Code.NONE if parameter.value.functions == type_name else Code.WRONG_VALUE_TYPE), parameter

    def __contains__(self, parameter: PicamParameter) -> bool:
        return parameter in self._values or parameter in self._computed

    def set(self, parameter: PicamParameter, value: float) -> Code:
        """Set a value here; only a choice that never exists is refused at once."""
        if parameter.constraint is ConstraintType.NONE:
            return Code.READ_ONLY
        if parameter.value is ValueType.ENUMERATION and not 0 <= value <= 100:
            return Code.INVALID_ENUMERATION_VALUE
        self._values[parameter] = value
        return Code.NONE

    def limits(self, parameter: PicamParameter) -> Limits | None:
        """Get the range of a parameter, if it has one."""
        limits = self._limits.get(parameter)
        return limits if isinstance(limits, Limits) else None

    def commit(self) -> list[PicamParameter]:
        """Send what is set here to the camera, unless parameters are beyond their limits: get those."""
        rejected = [each for each, value in self._values.items() if not self._allowed(each, value)]
        if not self.rois or not all(self._readable(roi) for roi in self.rois):
            rejected.append(parameters.ROIS)
        if not rejected:
            self._keep()
            self.set_point_c = self[parameters.TEMPERATURE_SET_POINT]
        return rejected

    def _keep(self) -> None:
        self._committed = (dict(self._values), [bytes(roi) for roi in self.rois])

    def _allowed(self, parameter: PicamParameter, value: float) -> bool:
        limits = self._limits[parameter]
        return limits.allow(value) if isinstance(limits, Limits) else value in limits

    def _readable(self, roi: Roi) -> bool:
        sensor = self.sensor
        binnable = roi.y_binning >= 1 and (not sensor.y_binnings or roi.y_binning in sensor.y_binnings)
        inside = 0 <= roi.x < roi.x + roi.width <= sensor.columns and 0 <= roi.y < roi.y + roi.height <= sensor.rows
        return (
            binnable and inside and roi.x_binning >= 1 and not (roi.width % roi.x_binning or roi.height % roi.y_binning)
        )

    @staticmethod
    def _pixels_of(roi: Roi) -> int:
        return (roi.width // roi.x_binning) * (roi.height // roi.y_binning)
