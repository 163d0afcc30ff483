"""The PICam library as a call table, and its error codes in words with what to do about them.

Handles and addresses travel as ``i64``, structures as arrays of 16-bit words (see
:mod:`drivers.detector.picam_structures`), so only a 64-bit library fits. The table holds what the simulated library
offers, which is more than :mod:`drivers.detector.picam` calls. Taken from published headers and samples; UNVERIFIED on
a real library.
"""

from __future__ import annotations

import os
from enum import IntEnum

from drivers.detector.picam_structures import AcquisitionStatus, AvailableData, CameraID, words_in
from labctl.transport.settings import LibrarySettings, Parameter
from labctl.transport.vendor_host import READ_MEMORY, READ_TEXT, WRITE_MEMORY


class Code(IntEnum):
    """Error codes (PicamError)."""

    NONE = 0
    NOT_INITIALIZED = 1
    INVALID_VALUE = 2
    NULL_POINTER = 3
    UNEXPECTED = 4
    ALREADY_INITIALIZED = 5
    INVALID_DEMO_MODEL = 6
    ALREADY_OPENED = 7
    INVALID_CAMERA_ID = 8
    INVALID_HANDLE = 9
    READ_ONLY = 10
    WRONG_VALUE_TYPE = 11
    PARAMETER_DOES_NOT_EXIST = 12
    WRONG_CONSTRAINT_TYPE = 13
    IRRELEVANT = 14
    COMMUNICATION = 15
    INVALID_ENUMERATION_TYPE = 16
    INVALID_ENUMERATION_VALUE = 17
    ACQUISITION_IN_PROGRESS = 20
    INVALID_DEMO_SERIAL = 21
    DEMO_ALREADY_CONNECTED = 22
    DISCONNECTED = 23
    OPEN_ELSEWHERE = 24
    NOT_ONLINEABLE = 25
    NOT_READABLE = 26
    ACQUISITION_NOT_IN_PROGRESS = 27
    INVALID_PARAMETER_VALUES = 28
    NOT_COMMITTED = 29
    INVALID_BUFFER = 30
    OUT_OF_MEMORY = 31
    TIME_OUT = 32
    HANDLER_REGISTERED = 33
    NO_CAMERAS = 34
    INVALID_READOUT_COUNT = 36
    INVALID_READOUT_TIME_OUT = 37
    INVALID_CONSTRAINT_CATEGORY = 38
    INVALID_COUNT = 39
    DEMO_UNSUPPORTED = 40
    INVALID_OPERATION = 42
    CANCELLED = 43
    ACQUISITION_STATE = 44
    SHUTTER_OVERHEATED = 52
    CAMERA_FAULTED = 53


_MEANING = {
    Code.NONE: "done",
    Code.NOT_INITIALIZED: "the library is not initialised",
    Code.INVALID_VALUE: "a value is not allowed",
    Code.UNEXPECTED: "an unexpected failure inside the library",
    Code.ALREADY_INITIALIZED: "the library is initialised already",
    Code.ALREADY_OPENED: "the camera is open already in this process",
    Code.INVALID_CAMERA_ID: "there is no such camera",
    Code.INVALID_HANDLE: "the handle is not that of an open camera",
    Code.READ_ONLY: "the parameter is read-only",
    Code.WRONG_VALUE_TYPE: "the parameter has another type",
    Code.PARAMETER_DOES_NOT_EXIST: "this camera has no such parameter",
    Code.IRRELEVANT: "the parameter does not matter in this configuration",
    Code.COMMUNICATION: "no communication with the camera",
    Code.INVALID_ENUMERATION_VALUE: "there is no such choice",
    Code.ACQUISITION_IN_PROGRESS: "an acquisition is under way",
    Code.DISCONNECTED: "the camera is disconnected",
    Code.OPEN_ELSEWHERE: "the camera is open in another program, mostly LightField",
    Code.ACQUISITION_NOT_IN_PROGRESS: "no acquisition is under way",
    Code.INVALID_PARAMETER_VALUES: "parameters have values that are not allowed",
    Code.NOT_COMMITTED: "parameters were set and not committed",
    Code.OUT_OF_MEMORY: "there is not enough memory",
    Code.TIME_OUT: "the wait timed out",
    Code.NO_CAMERAS: "no camera is available",
    Code.DEMO_UNSUPPORTED: "this library has no demo cameras",
    Code.SHUTTER_OVERHEATED: "the camera shutter is too hot",
    Code.CAMERA_FAULTED: "the camera reports a fault",
}

CAMERA_LOST = frozenset(
    {
        Code.NOT_INITIALIZED,
        Code.INVALID_CAMERA_ID,
        Code.INVALID_HANDLE,
        Code.COMMUNICATION,
        Code.DISCONNECTED,
        Code.OPEN_ELSEWHERE,
        Code.NO_CAMERAS,
    }
)
"""Codes that mean: no camera answers, or not to us."""

_LOOK_FOR_IT = "check power and cable of the camera, then open the bench again"
_CLOSE_OTHERS = "close LightField and other programs that use the camera"

_ADVICE = {
    Code.COMMUNICATION: _LOOK_FOR_IT,
    Code.DISCONNECTED: _LOOK_FOR_IT,
    Code.INVALID_HANDLE: "open the bench again",
    Code.NOT_INITIALIZED: "open the bench again",
    Code.OPEN_ELSEWHERE: f"{_CLOSE_OTHERS}, then open the bench again",
    Code.ALREADY_OPENED: "one process has one driver for a camera: close the other one",
    Code.NO_CAMERAS: f"switch the camera on, check its cable, {_CLOSE_OTHERS}; or set `demo = true` in the bench file",
    Code.INVALID_CAMERA_ID: "check `serial` in the bench file, power and cable",
    Code.DEMO_UNSUPPORTED: "remove `demo` from the bench file and connect a camera",
    Code.ACQUISITION_IN_PROGRESS: "wait for its end or call abort()",
    Code.OUT_OF_MEMORY: "close other programs",
    Code.SHUTTER_OVERHEATED: 'let the shutter cool down; use longer exposures or `shutter = "open"`',
    Code.CAMERA_FAULTED: "switch the camera off and on, then open the bench again",
}


def code_in_words(code: int) -> str:
    """Get a code with its name and meaning, e.g. ``34 NO_CAMERAS, no camera is available``."""
    if code not in set(Code):
        return f"{code} unknown code"
    known = Code(code)
    return f"{code} {known.name}" + (f", {_MEANING[known]}" if known in _MEANING else "")


def what_to_do(code: int) -> str:
    """Get the advice for a code; empty where there is none."""
    return _ADVICE.get(Code(code), "") if code in set(Code) else ""


REQUIRED = 2
"""Category of the constraints that hold with the present settings."""

MODEL_ENUMERATION = 2
"""Type of the enumeration of camera models, for Picam_GetEnumerationString."""

DEMO_MODEL, DEMO_SERIAL = 2, "0008675309"
"""The camera that the vendor's samples connect as a demo: a PIXIS 100F."""

_HANDLE = Parameter("in", "i64")
_ADDRESS = Parameter("in", "i64")
_LARGE = Parameter("in", "i64")
_IN = Parameter("in")
_IN_FLOAT = Parameter("in", "f64")
_OUT = Parameter("out")
_OUT_FLOAT = Parameter("out", "f64")
_OUT_ADDRESS = Parameter("out", "i64")
_STRUCTURE_IN = Parameter("array_in", "u16")
_STRUCTURE_OUT = Parameter("array_out", "u16")

CAMERA_ID_WORDS = words_in(CameraID)
AVAILABLE_WORDS = words_in(AvailableData)
STATUS_WORDS = words_in(AcquisitionStatus)

FUNCTIONS: dict[str, tuple[Parameter, ...]] = {
    "Picam_InitializeLibrary": (),
    "Picam_UninitializeLibrary": (),
    "Picam_IsLibraryInitialized": (_OUT,),
    "Picam_GetVersion": (_OUT, _OUT, _OUT, _OUT),
    "Picam_OpenFirstCamera": (_OUT_ADDRESS,),
    "Picam_GetAvailableCameraIDs": (_OUT_ADDRESS, _OUT),
    "Picam_DestroyCameraIDs": (_ADDRESS,),
    "Picam_OpenCamera": (_STRUCTURE_IN, _OUT_ADDRESS),
    "Picam_CloseCamera": (_HANDLE,),
    "Picam_GetCameraID": (_HANDLE, _STRUCTURE_OUT),
    "Picam_IsCameraConnected": (_HANDLE, _OUT),
    "Picam_ConnectDemoCamera": (_IN, Parameter("text_in"), _STRUCTURE_OUT),
    "Picam_DisconnectDemoCamera": (_STRUCTURE_IN,),
    "Picam_DoesParameterExist": (_HANDLE, _IN, _OUT),
    "Picam_IsParameterRelevant": (_HANDLE, _IN, _OUT),
    "Picam_GetParameterIntegerValue": (_HANDLE, _IN, _OUT),
    "Picam_SetParameterIntegerValue": (_HANDLE, _IN, _IN),
    "Picam_GetParameterLargeIntegerValue": (_HANDLE, _IN, Parameter("out", "i64")),
    "Picam_SetParameterLargeIntegerValue": (_HANDLE, _IN, _LARGE),
    "Picam_GetParameterFloatingPointValue": (_HANDLE, _IN, _OUT_FLOAT),
    "Picam_SetParameterFloatingPointValue": (_HANDLE, _IN, _IN_FLOAT),
    "Picam_GetParameterRoisValue": (_HANDLE, _IN, _OUT_ADDRESS),
    "Picam_SetParameterRoisValue": (_HANDLE, _IN, _ADDRESS),
    "Picam_DestroyRois": (_ADDRESS,),
    "Picam_ReadParameterIntegerValue": (_HANDLE, _IN, _OUT),
    "Picam_ReadParameterFloatingPointValue": (_HANDLE, _IN, _OUT_FLOAT),
    "Picam_GetParameterRangeConstraint": (_HANDLE, _IN, _IN, _OUT_ADDRESS),
    "Picam_DestroyRangeConstraints": (_ADDRESS,),
    "Picam_GetParameterRoisConstraint": (_HANDLE, _IN, _IN, _OUT_ADDRESS),
    "Picam_DestroyRoisConstraints": (_ADDRESS,),
    "Picam_AreParametersCommitted": (_HANDLE, _OUT),
    "Picam_CommitParameters": (_HANDLE, _OUT_ADDRESS, _OUT),
    "Picam_DestroyParameters": (_ADDRESS,),
    "Picam_Acquire": (_HANDLE, _LARGE, _IN, _STRUCTURE_OUT, _OUT),
    "Picam_StartAcquisition": (_HANDLE,),
    "Picam_StopAcquisition": (_HANDLE,),
    "Picam_IsAcquisitionRunning": (_HANDLE, _OUT),
    "Picam_WaitForAcquisitionUpdate": (_HANDLE, _IN, _STRUCTURE_OUT, _STRUCTURE_OUT),
    "Picam_GetEnumerationString": (_IN, _IN, _OUT_ADDRESS),
    "Picam_DestroyString": (_ADDRESS,),
    READ_MEMORY: (_ADDRESS, _STRUCTURE_OUT),
    WRITE_MEMORY: (_ADDRESS, _STRUCTURE_IN),
    READ_TEXT: (_ADDRESS, Parameter("text_out")),
}
"""Parameters of each function in the order of the header. Every function returns a code."""

_ROOT = os.environ.get("PICAMROOT", r"C:\Program Files\Princeton Instruments\PICam")

LINK = LibrarySettings(
    name="PICam",
    files={
        "win32": (rf"{_ROOT}\Runtime\Picam.dll", "Picam.dll"),
        "linux": ("/usr/local/lib/libpicam.so", "libpicam.so"),
    },
    functions=FUNCTIONS,
    timeout_s=10.0,
    # The library stops what runs and closes the cameras that are open; these calls cannot name a handle.
    farewell=(("Picam_UninitializeLibrary", (), (Code.NONE,)),),
)
