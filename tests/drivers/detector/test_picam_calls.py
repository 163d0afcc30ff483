"""Parameter ids, structures and codes of PICam against the numbers that are printed in the fact sheet."""

from __future__ import annotations

import ctypes
import re

import numpy as np
import pytest

from drivers.detector import picam_parameters as parameters
from drivers.detector.picam_calls import FUNCTIONS, LINK, code_in_words, what_to_do
from drivers.detector.picam_handle import PicamLibrary
from drivers.detector.picam_structures import (
    AcquisitionStatus,
    AvailableData,
    CameraID,
    RangeConstraint,
    Roi,
    Rois,
    RoisConstraint,
)
from labctl.errors import ConnectionLost, InstrumentError

PRINTED_IDS = {
    "ExposureTime": 0x02020017,
    "Rois": 0x04050025,
    "ReadoutCount": 0x02060028,
    "ReadoutStride": 0x0101002D,
    "FrameSize": 16842794,
    "FrameStride": 16842795,
    "FramesPerReadout": 16842796,
    "PixelBitDepth": 16842800,
    "PixelFormat": 0x03040029,
    "SensorActiveWidth": 16842811,
    "SensorActiveHeight": 16842812,
    "PixelWidth": 16908297,
    "PixelHeight": 16908298,
    "SensorTemperatureSetPoint": 0x0202000E,
    "SensorTemperatureReading": 0x0102000F,
    "SensorTemperatureStatus": 0x01040010,
    "AdcSpeed": 0x03020021,
    "AdcBitDepth": 50397218,
    "AdcAnalogGain": 50593827,
    "AdcQuality": 50593828,
    "AdcEMGain": 33620021,
    "ShutterTimingMode": 50593816,
    "ShutterClosingDelay": 33685529,
    "ShutterOpeningDelay": 33685550,
    "ReadoutControlMode": 50593818,
    "TriggerResponse": 50593822,
    "TriggerDetermination": 50593823,
    "VerticalShiftRate": 50462733,
    "ReadoutTimeCalculation": 16908315,
    "ReadoutRateCalculation": 16908338,
    "TimeStamps": 50593860,
    "TrackFrames": 50528327,
    "CleanUntilTrigger": 50528278,
    "CleanCycleCount": 33619988,
}


def test_ids_built_by_the_rule_are_those_that_are_printed() -> None:
    assert {parameter.name: parameter.id for parameter in parameters.BY_ID.values()} == PRINTED_IDS


def test_each_type_of_value_has_its_functions() -> None:
    used = {parameter.name: parameter.value.functions for parameter in parameters.BY_ID.values()}
    assert used["ReadoutCount"] == "LargeInteger" and used["ExposureTime"] == "FloatingPoint"
    assert used["TimeStamps"] == used["TrackFrames"] == used["FrameSize"] == "Integer" and used["Rois"] == "Rois"
    for functions in set(used.values()):
        assert {f"Picam_GetParameter{functions}Value", f"Picam_SetParameter{functions}Value"} <= set(FUNCTIONS)


@pytest.mark.parametrize(
    ("structure", "size", "offsets"),
    [
        (CameraID, 136, [0, 4, 8, 72]),
        (Roi, 24, [0, 4, 8, 12, 16, 20]),
        (Rois, 16, [0, 8]),
        (AvailableData, 16, [0, 8]),
        (AcquisitionStatus, 16, [0, 4, 8]),
        (RangeConstraint, 72, [0, 4, 8, 16, 24, 32, 40, 48, 56, 64]),
        (RoisConstraint, 344, [0, 4, 8, 12, 16, 24, 96, 168, 176, 184, 256, 328, 336]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_structures_have_the_natural_alignment_of_64_bit(
    structure: type[ctypes.Structure], size: int, offsets: list[int]
) -> None:
    assert ctypes.sizeof(structure) == size
    assert [getattr(structure, field[0]).offset for field in structure._fields_] == offsets


def test_structures_travel_as_words() -> None:
    words = CameraID(2, 1, b"CCD36", b"0008675309").to_words()
    assert words.dtype == np.uint16 and words.shape == (68,) and words[0] == 2
    assert CameraID.from_words(words).serial_number == b"0008675309"
    assert Roi(0, 1340, 1, 0, 100, 100).to_words()[::2].tolist() == [0, 1340, 1, 0, 100, 100]


class Refusing:
    """A channel that answers every call with one code."""

    def __init__(self, code: int) -> None:
        self.code = code

    last = None

    def call(self, function: str, *arguments: object, timeout_s: float | None = None) -> tuple[int, list[int]]:
        return self.code, []

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (1, ConnectionLost, "not initialised"),
        (9, ConnectionLost, "handle"),
        (12, InstrumentError, "no such parameter"),
        (15, ConnectionLost, "check power and cable"),
        (20, InstrumentError, "acquisition is under way"),
        (23, ConnectionLost, "disconnected"),
        (24, ConnectionLost, "LightField"),
        (29, InstrumentError, "not committed"),
        (34, ConnectionLost, "demo = true"),
        (40, InstrumentError, "no demo cameras"),
        (52, InstrumentError, "too hot"),
        (53, InstrumentError, "switch the camera off and on"),
        (999, InstrumentError, "unknown code"),
    ],
)
def test_codes_become_errors_that_say_what_to_do(code: int, kind: type[InstrumentError], words: str) -> None:
    with pytest.raises(InstrumentError, match=re.escape(words)) as caught:
        PicamLibrary(Refusing(code), "camera").call("StartAcquisition", 1)  # pyright: ignore[reportArgumentType]
    assert type(caught.value) is kind and str(code) in str(caught.value)


def test_words_for_codes() -> None:
    assert code_in_words(34) == "34 NO_CAMERAS, no camera is available"
    assert code_in_words(16) == "16 INVALID_ENUMERATION_TYPE"
    assert what_to_do(0) == "" and what_to_do(999) == ""
    assert set(FUNCTIONS) >= {name for name, _, _ in LINK.farewell}
