"""The Andor spectrograph library as a call table: both families of functions, constants, return codes in words.

The same functions go by two names, ``Shamrock...`` (ShamrockCIF) and ``ATSpectrograph...`` (since SDK 2.103). Windows'
atspectrograph.dll exports both. The same suffix does not mean the same parameters: a library object is used through
one family only, which :class:`Family` describes. The table holds what the simulated library offers, which is more than
:mod:`drivers.spectrograph.andor_shamrock` calls.

UNVERIFIED: whether libatspectrograph.so exports the ``Shamrock`` names too. Left out: functions that exist only from
2.104.30132 on, and Linux' old libshamrockcif.so.2, which wants libandor.so.2 in the same process before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from labctl.transport.settings import LibrarySettings, Parameter


class Code(IntEnum):
    """Return codes of both families."""

    COMMUNICATION_ERROR = 20201
    SUCCESS = 20202
    ERROR = 20249
    P1INVALID = 20266
    P2INVALID = 20267
    P3INVALID = 20268
    P4INVALID = 20269
    P5INVALID = 20270
    NOT_INITIALIZED = 20275
    NOT_AVAILABLE = 20292


NO_CONNECTION = frozenset({Code.COMMUNICATION_ERROR, Code.NOT_INITIALIZED})
"""Codes after which the library is to be closed and initialised anew."""

_MEANING = {
    Code.COMMUNICATION_ERROR: "no communication with the spectrograph",
    Code.SUCCESS: "done",
    Code.ERROR: "refused without a reason",
    Code.P1INVALID: "parameter 1 invalid",
    Code.P2INVALID: "parameter 2 invalid",
    Code.P3INVALID: "parameter 3 invalid",
    Code.P4INVALID: "parameter 4 invalid",
    Code.P5INVALID: "parameter 5 invalid",
    Code.NOT_INITIALIZED: "the library is not initialised",
    Code.NOT_AVAILABLE: "this spectrograph does not have it",
}

_ADVICE = {
    Code.COMMUNICATION_ERROR: "check power and USB cable, close other programs that use it, then open the bench again; "
    "a spectrograph that is connected through its camera (I2C) cannot be used",
    Code.ERROR: "look whether a mirror or the zero order is in the beam; if not, switch the spectrograph off and on",
    Code.P1INVALID: "correct `device` in the options of the spectrograph",
    Code.P2INVALID: "choose a value within the limits of the spectrograph",
    Code.P3INVALID: "choose a value within the limits of the spectrograph",
    Code.NOT_INITIALIZED: "open the bench again",
    Code.NOT_AVAILABLE: "leave out what needs a part that is not mounted",
}


def code_in_words(code: int) -> str:
    """Get a return code with its name and meaning, e.g. ``20202 SUCCESS, done``."""
    if code not in _MEANING:
        return f"{code} unknown code"
    known = Code(code)
    return f"{code} {known.name}, {_MEANING[known]}"


def advice(code: int) -> str:
    """Get what to do about a return code."""
    return _ADVICE.get(Code(code), "") if code in _MEANING else "look the code up in the manual of the library"


class ShutterMode(IntEnum):
    """What the shutter does. Comments in the vendor's header swap open and closed; the names are right."""

    NEVER_SET = -1
    CLOSED = 0
    OPEN = 1
    BNC = 2


class Slit(IntEnum):
    """The slits."""

    INPUT_SIDE = 1
    INPUT_DIRECT = 2
    OUTPUT_SIDE = 3
    OUTPUT_DIRECT = 4


class Flipper(IntEnum):
    """The mirrors that choose a port."""

    INPUT = 1
    OUTPUT = 2


class Port(IntEnum):
    """Where a flipper mirror sends the light."""

    DIRECT = 0
    SIDE = 1


TEXT_SIZE = 256
"""Size of buffers for text; the ``Shamrock`` functions are not told, so it is generous."""

_IN = Parameter("in")
_IN_FLOAT = Parameter("in", "f32")
_OUT = Parameter("out")
_OUT_FLOAT = Parameter("out", "f32")
_TEXT = Parameter("text_out")
_DEVICE = _IN
_LENGTH = _IN

Signatures = dict[str, tuple[Parameter, ...]]

_BOTH: Signatures = {
    "Initialize": (Parameter("text_in"),),
    "Close": (),
    "GetNumberDevices": (_OUT,),
    "GetFunctionReturnDescription": (_IN, _TEXT, _LENGTH),
    "EepromGetOpticalParams": (_DEVICE, _OUT_FLOAT, _OUT_FLOAT, _OUT_FLOAT),
    "GratingIsPresent": (_DEVICE, _OUT),
    "GetNumberGratings": (_DEVICE, _OUT),
    "SetGrating": (_DEVICE, _IN),
    "GetGrating": (_DEVICE, _OUT),
    "SetGratingOffset": (_DEVICE, _IN, _IN),
    "GetGratingOffset": (_DEVICE, _IN, _OUT),
    "SetTurret": (_DEVICE, _IN),
    "GetTurret": (_DEVICE, _OUT),
    "WavelengthIsPresent": (_DEVICE, _OUT),
    "WavelengthReset": (_DEVICE,),
    "SetWavelength": (_DEVICE, _IN_FLOAT),
    "GetWavelength": (_DEVICE, _OUT_FLOAT),
    "GetWavelengthLimits": (_DEVICE, _IN, _OUT_FLOAT, _OUT_FLOAT),
    "GotoZeroOrder": (_DEVICE,),
    "AtZeroOrder": (_DEVICE, _OUT),
    "ShutterIsPresent": (_DEVICE, _OUT),
    "SetShutter": (_DEVICE, _IN),
    "GetShutter": (_DEVICE, _OUT),
    "FilterIsPresent": (_DEVICE, _OUT),
    "SetFilter": (_DEVICE, _IN),
    "GetFilter": (_DEVICE, _OUT),
    "FlipperMirrorIsPresent": (_DEVICE, _IN, _OUT),
    "SetFlipperMirror": (_DEVICE, _IN, _IN),
    "GetFlipperMirror": (_DEVICE, _IN, _OUT),
    "FlipperMirrorReset": (_DEVICE, _IN),
    "GetCCDLimits": (_DEVICE, _IN, _OUT_FLOAT, _OUT_FLOAT),
    "FocusMirrorIsPresent": (_DEVICE, _OUT),
    "SetFocusMirror": (_DEVICE, _IN),
    "GetFocusMirror": (_DEVICE, _OUT),
    "GetFocusMirrorMaxSteps": (_DEVICE, _OUT),
    "FocusMirrorReset": (_DEVICE,),
    "SetPixelWidth": (_DEVICE, _IN_FLOAT),
    "GetPixelWidth": (_DEVICE, _OUT_FLOAT),
    "SetNumberPixels": (_DEVICE, _IN),
    "GetNumberPixels": (_DEVICE, _OUT),
    "GetCalibration": (_DEVICE, Parameter("array_out", "f32"), _LENGTH),
    "GetPixelCalibrationCoefficients": (_DEVICE, _OUT_FLOAT, _OUT_FLOAT, _OUT_FLOAT, _OUT_FLOAT),
    "AccessoryIsPresent": (_DEVICE, _OUT),
    "GetAccessoryState": (_DEVICE, _IN, _OUT),
    "IrisIsPresent": (_DEVICE, _IN, _OUT),
    "SetIris": (_DEVICE, _IN, _IN),
    "GetIris": (_DEVICE, _IN, _OUT),
}

_ONLY_SHAMROCK: Signatures = {
    "GetSerialNumber": (_DEVICE, _TEXT),
    "GetGratingInfo": (_DEVICE, _IN, _OUT_FLOAT, _TEXT, _OUT, _OUT),
    "GetFilterInfo": (_DEVICE, _IN, _TEXT),
    "SetDetectorOffset": (_DEVICE, _IN),
    "GetDetectorOffset": (_DEVICE, _OUT),
    "SetDetectorOffsetEx": (_DEVICE, _IN, _IN, _IN),
    "GetDetectorOffsetEx": (_DEVICE, _IN, _IN, _OUT),
    "AutoSlitIsPresent": (_DEVICE, _IN, _OUT),
    "SetAutoSlitWidth": (_DEVICE, _IN, _IN_FLOAT),
    "GetAutoSlitWidth": (_DEVICE, _IN, _OUT_FLOAT),
    "AutoSlitReset": (_DEVICE, _IN),
    "SlitIsPresent": (_DEVICE, _OUT),
    "SetSlit": (_DEVICE, _IN_FLOAT),
    "GetSlit": (_DEVICE, _OUT_FLOAT),
    "SlitReset": (_DEVICE,),
    "IsModePossible": (_DEVICE, _IN, _OUT),
    "SetAccessory": (_DEVICE, _IN, _IN),
}

_ONLY_ATSPECTROGRAPH: Signatures = {
    "GetSerialNumber": (_DEVICE, _TEXT, _LENGTH),
    "GetGratingInfo": (_DEVICE, _IN, _OUT_FLOAT, _TEXT, _LENGTH, _OUT, _OUT),
    "GetFilterInfo": (_DEVICE, _IN, _TEXT, _LENGTH),
    "SetDetectorOffset": (_DEVICE, _IN, _IN, _IN),
    "GetDetectorOffset": (_DEVICE, _IN, _IN, _OUT),
    "SlitIsPresent": (_DEVICE, _IN, _OUT),
    "SetSlitWidth": (_DEVICE, _IN, _IN_FLOAT),
    "GetSlitWidth": (_DEVICE, _IN, _OUT_FLOAT),
    "SlitReset": (_DEVICE, _IN),
    "IsShutterModePossible": (_DEVICE, _IN, _OUT),
    "SetAccessoryState": (_DEVICE, _IN, _IN),
}


@dataclass(frozen=True, slots=True)
class Family:
    """One of the two names of the functions, and what differs beyond the name.

    :param prefix: Begins the name of every function.
    :param signatures: Parameters of its functions by suffix.
    :param text_arguments: What a call gives for a text that is returned: size of the buffer, and once more where the
        function is told.
    :param slit_is_present: Suffix of the function that asks for one of the four slits; the others likewise.
    """

    prefix: str
    signatures: Signatures
    text_arguments: tuple[int, ...]
    slit_is_present: str
    get_slit_width: str
    is_shutter_mode_possible: str


FAMILIES = {
    family.prefix: family
    for family in (
        Family(
            "ATSpectrograph",
            _BOTH | _ONLY_ATSPECTROGRAPH,
            (TEXT_SIZE, TEXT_SIZE),
            "SlitIsPresent",
            "GetSlitWidth",
            "IsShutterModePossible",
        ),
        Family(
            "Shamrock",
            _BOTH | _ONLY_SHAMROCK,
            (TEXT_SIZE,),
            "AutoSlitIsPresent",
            "GetAutoSlitWidth",
            "IsModePossible",
        ),
    )
}

FUNCTIONS: Signatures = {
    f"{prefix}{suffix}": parameters
    for prefix, family in FAMILIES.items()
    for suffix, parameters in family.signatures.items()
}
"""Parameters of each function of both families. Every function returns a 32-bit code."""

LINK = LibrarySettings(
    name="ATSpectrograph library",
    files={
        "win32": (
            r"C:\Program Files\Andor SDK\atspectrograph.dll",
            r"C:\Program Files\Andor SOLIS\atspectrograph.dll",
            r"C:\Program Files\Andor SDK\ShamrockCIF64.dll",
            r"C:\Program Files\Andor SOLIS\ShamrockCIF64.dll",
            r"C:\Program Files\Andor SOLIS\Drivers\Shamrock64\ShamrockCIF.dll",
            "atspectrograph.dll",
        ),
        "linux": ("/usr/local/lib/libatspectrograph.so", "libatspectrograph.so"),
    },
    functions=FUNCTIONS,
    timeout_s=10.0,
)
