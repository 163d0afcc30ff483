"""Parameters of PICam with their ids, and the values of its enumerations.

UNVERIFIED: that PixelWidth and PixelHeight are in µm and the shutter delays in ms; no function tells a unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag


class ConstraintType(IntEnum):
    """How the values of a parameter are limited; NONE is read-only."""

    NONE = 1
    RANGE = 2
    COLLECTION = 3
    ROIS = 4


class ValueType(IntEnum):
    """Type of a parameter; Booleans and enumerations go through the functions for integers."""

    INTEGER = 1
    FLOATING_POINT = 2
    BOOLEAN = 3
    ENUMERATION = 4
    ROIS = 5
    LARGE_INTEGER = 6

    @property
    def functions(self) -> str:
        """Get how the functions that get and set such a value are named."""
        if self in (ValueType.BOOLEAN, ValueType.ENUMERATION):
            return "Integer"
        return self.name.title().replace("_", "")


@dataclass(frozen=True, slots=True)
class PicamParameter:
    """A parameter of the camera.

    :param name: Name in the vendor's header. :param number: Its number there.
    """

    name: str
    value: ValueType
    constraint: ConstraintType
    number: int

    @property
    def id(self) -> int:
        """Get the id that the library expects; the vendor's header builds it so."""
        return (self.constraint << 24) + (self.value << 16) + self.number


_INTEGER, _FLOAT, _BOOLEAN = ValueType.INTEGER, ValueType.FLOATING_POINT, ValueType.BOOLEAN
_ENUMERATION, _LARGE = ValueType.ENUMERATION, ValueType.LARGE_INTEGER
_NONE, _RANGE, _COLLECTION = ConstraintType.NONE, ConstraintType.RANGE, ConstraintType.COLLECTION

EXPOSURE_TIME = PicamParameter("ExposureTime", _FLOAT, _RANGE, 23)
ROIS = PicamParameter("Rois", ValueType.ROIS, ConstraintType.ROIS, 37)
READOUT_COUNT = PicamParameter("ReadoutCount", _LARGE, _RANGE, 40)
PIXEL_FORMAT = PicamParameter("PixelFormat", _ENUMERATION, _COLLECTION, 41)
FRAME_SIZE = PicamParameter("FrameSize", _INTEGER, _NONE, 42)
FRAME_STRIDE = PicamParameter("FrameStride", _INTEGER, _NONE, 43)
FRAMES_PER_READOUT = PicamParameter("FramesPerReadout", _INTEGER, _NONE, 44)
READOUT_STRIDE = PicamParameter("ReadoutStride", _INTEGER, _NONE, 45)
PIXEL_BIT_DEPTH = PicamParameter("PixelBitDepth", _INTEGER, _NONE, 48)
SENSOR_ACTIVE_WIDTH = PicamParameter("SensorActiveWidth", _INTEGER, _NONE, 59)
SENSOR_ACTIVE_HEIGHT = PicamParameter("SensorActiveHeight", _INTEGER, _NONE, 60)
PIXEL_WIDTH = PicamParameter("PixelWidth", _FLOAT, _NONE, 9)
PIXEL_HEIGHT = PicamParameter("PixelHeight", _FLOAT, _NONE, 10)
TEMPERATURE_SET_POINT = PicamParameter("SensorTemperatureSetPoint", _FLOAT, _RANGE, 14)
TEMPERATURE_READING = PicamParameter("SensorTemperatureReading", _FLOAT, _NONE, 15)
TEMPERATURE_STATUS = PicamParameter("SensorTemperatureStatus", _ENUMERATION, _NONE, 16)
ADC_SPEED = PicamParameter("AdcSpeed", _FLOAT, _COLLECTION, 33)
ADC_BIT_DEPTH = PicamParameter("AdcBitDepth", _INTEGER, _COLLECTION, 34)
ADC_ANALOG_GAIN = PicamParameter("AdcAnalogGain", _ENUMERATION, _COLLECTION, 35)
ADC_QUALITY = PicamParameter("AdcQuality", _ENUMERATION, _COLLECTION, 36)
ADC_EM_GAIN = PicamParameter("AdcEMGain", _INTEGER, _RANGE, 53)
SHUTTER_TIMING_MODE = PicamParameter("ShutterTimingMode", _ENUMERATION, _COLLECTION, 24)
SHUTTER_CLOSING_DELAY = PicamParameter("ShutterClosingDelay", _FLOAT, _RANGE, 25)
SHUTTER_OPENING_DELAY = PicamParameter("ShutterOpeningDelay", _FLOAT, _RANGE, 46)
READOUT_CONTROL_MODE = PicamParameter("ReadoutControlMode", _ENUMERATION, _COLLECTION, 26)
TRIGGER_RESPONSE = PicamParameter("TriggerResponse", _ENUMERATION, _COLLECTION, 30)
TRIGGER_DETERMINATION = PicamParameter("TriggerDetermination", _ENUMERATION, _COLLECTION, 31)
VERTICAL_SHIFT_RATE = PicamParameter("VerticalShiftRate", _FLOAT, _COLLECTION, 13)
READOUT_TIME_CALCULATION = PicamParameter("ReadoutTimeCalculation", _FLOAT, _NONE, 27)
READOUT_RATE_CALCULATION = PicamParameter("ReadoutRateCalculation", _FLOAT, _NONE, 50)
TIME_STAMPS = PicamParameter("TimeStamps", _ENUMERATION, _COLLECTION, 68)
TRACK_FRAMES = PicamParameter("TrackFrames", _BOOLEAN, _COLLECTION, 71)
CLEAN_UNTIL_TRIGGER = PicamParameter("CleanUntilTrigger", _BOOLEAN, _COLLECTION, 22)
CLEAN_CYCLE_COUNT = PicamParameter("CleanCycleCount", _INTEGER, _RANGE, 20)

BY_ID = {parameter.id: parameter for parameter in list(globals().values()) if isinstance(parameter, PicamParameter)}
"""The parameters of this module by their ids."""


def name_of(parameter_id: int) -> str:
    """Get the name of a parameter, or its id in hexadecimal digits where it is not one of ours."""
    return BY_ID[parameter_id].name if parameter_id in BY_ID else f"parameter 0x{parameter_id & 0xFFFFFFFF:08X}"


class TemperatureStatus(IntEnum):
    """Values of SensorTemperatureStatus."""

    UNLOCKED = 1
    LOCKED = 2
    FAULTED = 3


class ShutterTiming(IntEnum):
    """Values of ShutterTimingMode; NORMAL opens it for each exposure."""

    NORMAL = 1
    CLOSED = 2
    OPEN = 3
    OPEN_BEFORE_TRIGGER = 4


class AcquisitionErrors(IntFlag):
    """Bits of the errors of an acquisition."""

    DATA_LOST = 1
    CONNECTION_LOST = 2
    DATA_NOT_ARRIVING = 4
    SHUTTER_OVERHEATED = 8
    CAMERA_FAULTED = 16


FULL_FRAME = 1
NO_TRIGGER = 1
MONOCHROME_16 = 1
ANALOG_GAINS = {"low": 1, "medium": 2, "high": 3}
QUALITIES = {"low-noise": 1, "high-capacity": 2, "electron-multiplied": 3, "high-speed": 4}
