"""The Andor SDK2 as a call table: functions with their C parameters, constants, and return codes in words.

The headers say ``long``; it is 32 bits wide on Windows and on Linux alike, so the table says ``i32``. The table holds
what the simulated library offers, which is more than :mod:`drivers.detector.andor_sdk2` calls.
UNVERIFIED: the arguments of ``SetMultiTrack`` and ``SetRandomTracks`` were taken from a client's declarations.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

from labctl.transport.settings import LibrarySettings, Parameter


class Code(IntEnum):
    """Return codes that the driver or the simulated library tell apart."""

    SUCCESS = 20002
    ERROR_ACK = 20013
    ACQ_BUFFER = 20018
    KINETIC_TIME_NOT_MET = 20022
    ACCUM_TIME_NOT_MET = 20023
    NO_NEW_DATA = 20024
    SPOOLERROR = 20026
    TEMP_OFF = 20034
    TEMP_NOT_STABILIZED = 20035
    TEMP_STABILIZED = 20036
    TEMP_NOT_REACHED = 20037
    TEMP_DRIFT = 20040
    GENERAL_ERRORS = 20049
    P1INVALID = 20066
    P2INVALID = 20067
    P3INVALID = 20068
    P4INVALID = 20069
    ACQUIRING = 20072
    IDLE = 20073
    TEMPCYCLE = 20074
    NOT_INITIALIZED = 20075
    P5INVALID = 20076
    P6INVALID = 20077
    INVALID_MODE = 20078
    USBERROR = 20089
    BINNING_ERROR = 20099
    ERROR_NOCAMERA = 20990
    NOT_SUPPORTED = 20991
    NOT_AVAILABLE = 20992


PARAMETER_INVALID = (
    Code.P1INVALID,
    Code.P2INVALID,
    Code.P3INVALID,
    Code.P4INVALID,
    Code.P5INVALID,
    Code.P6INVALID,
)
"""Code for a bad first, second... parameter; the numbers do not follow each other."""

CAMERA_LOST = frozenset({Code.ERROR_ACK, Code.NOT_INITIALIZED, Code.USBERROR, Code.ERROR_NOCAMERA, Code.NOT_AVAILABLE})
"""Codes that mean: no camera answers any more, it was switched off or pulled out."""

_OTHER_CODES = {
    20001: "ERROR_CODES",
    20003: "VXDNOTINSTALLED, the device driver is not installed",
    20004: "ERROR_SCAN",
    20005: "ERROR_CHECK_SUM",
    20006: "ERROR_FILELOAD",
    20007: "UNKNOWN_FUNCTION",
    20008: "ERROR_VXD_INIT",
    20009: "ERROR_ADDRESS",
    20010: "ERROR_PAGELOCK",
    20011: "ERROR_PAGEUNLOCK",
    20012: "ERROR_BOARDTEST",
    20014: "ERROR_UP_FIFO",
    20015: "ERROR_PATTERN",
    20017: "ACQUISITION_ERRORS",
    20019: "ACQ_DOWNFIFO_FULL",
    20020: "PROC_UNKNOWN_INSTRUCTION",
    20021: "ILLEGAL_OP_CODE",
    20025: "PCI_DMA_FAIL",
    20027: "SPOOLSETUPERROR",
    20028: "FILESIZELIMITERROR",
    20029: "ERROR_FILESAVE",
    20033: "TEMPERATURE_CODES",
    20038: "TEMPERATURE_OUT_RANGE",
    20039: "TEMPERATURE_NOT_SUPPORTED",
    20050: "INVALID_AUX",
    20051: "COF_NOTLOADED",
    20052: "FPGAPROG",
    20053: "FLEXERROR",
    20054: "GPIBERROR",
    20055: "EEPROMVERSIONERROR",
    20064: "DATATYPE",
    20065: "DRIVER_ERRORS",
    20070: "INIERROR, the library cannot load its ini file",
    20071: "COFERROR, the library cannot load its cof file",
    20079: "INVALID_FILTER",
    20080: "I2CERRORS",
    20081: "I2CDEVNOTFOUND",
    20082: "I2CTIMEOUT",
    20083: "P7INVALID",
    20084: "P8INVALID",
    20085: "P9INVALID",
    20086: "P10INVALID",
    20087: "P11INVALID",
    20090: "IOCERROR",
    20091: "VRMVERSIONERROR",
    20092: "GATESTEPERROR",
    20093: "USB_INTERRUPT_ENDPOINT_ERROR",
    20094: "RANDOM_TRACK_ERROR",
    20095: "INVALID_TRIGGER_MODE",
    20096: "LOAD_FIRMWARE_ERROR, the library found no firmware in the directory given to Initialize",
    20097: "DIVIDE_BY_ZERO_ERROR",
    20098: "INVALID_RINGEXPOSURES",
    20100: "INVALID_AMPLIFIER",
    20101: "INVALID_COUNTCONVERT_MODE",
    20102: "USB_INTERRUPT_ENDPOINT_TIMEOUT",
    20115: "ERROR_MAP",
    20116: "ERROR_UNMAP",
    20117: "ERROR_MDL",
    20118: "ERROR_UNMDL",
    20119: "ERROR_BUFFSIZE",
    20121: "ERROR_NOHANDLE",
    20130: "GATING_NOT_AVAILABLE",
    20131: "FPGA_VOLTAGE_ERROR",
    20156: "MSTIMINGS_ERROR",
    20211: "PROCESSING_FAILED",
}

_MEANING = {
    Code.SUCCESS: "done",
    Code.ERROR_ACK: "no communication with the camera",
    Code.ACQ_BUFFER: "the computer could not take the data in time",
    Code.KINETIC_TIME_NOT_MET: "the kinetic cycle time could not be met",
    Code.ACCUM_TIME_NOT_MET: "the accumulation cycle time could not be met",
    Code.NO_NEW_DATA: "no new data, or the wait timed out",
    Code.SPOOLERROR: "spooling to disk failed",
    Code.TEMP_OFF: "cooler off",
    Code.TEMP_NOT_STABILIZED: "set-point reached, not yet stable",
    Code.TEMP_STABILIZED: "stable at the set-point",
    Code.TEMP_NOT_REACHED: "set-point not reached",
    Code.TEMP_DRIFT: "drifted away from the set-point",
    Code.GENERAL_ERRORS: "the range of images is not there",
    Code.P1INVALID: "parameter 1 invalid",
    Code.P2INVALID: "parameter 2 invalid",
    Code.P3INVALID: "parameter 3 invalid",
    Code.P4INVALID: "parameter 4 invalid",
    Code.ACQUIRING: "an acquisition is under way",
    Code.IDLE: "no acquisition is under way",
    Code.TEMPCYCLE: "a temperature cycle is under way",
    Code.NOT_INITIALIZED: "the library is not initialised",
    Code.P5INVALID: "parameter 5 invalid",
    Code.P6INVALID: "parameter 6 invalid",
    Code.INVALID_MODE: "the mode is not available",
    Code.USBERROR: "no or a bad USB connection",
    Code.BINNING_ERROR: "the width is no multiple of the binning",
    Code.ERROR_NOCAMERA: "no camera found",
    Code.NOT_SUPPORTED: "this camera does not support it",
    Code.NOT_AVAILABLE: "the camera is in use by another program, or hangs",
}


def code_in_words(code: int) -> str:
    """Get a return code with its name and meaning, e.g. ``20073 IDLE, no acquisition is under way``."""
    if code in _MEANING:
        known = Code(code)
        return f"{code} {known.name}, {_MEANING[known]}"
    return f"{code} {_OTHER_CODES.get(code, 'unknown code')}"


class ReadMode(IntEnum):
    """How rows are put together."""

    FVB = 0
    MULTI_TRACK = 1
    RANDOM_TRACK = 2
    SINGLE_TRACK = 3
    IMAGE = 4


class AcquisitionMode(IntEnum):
    """What one StartAcquisition brings."""

    SINGLE = 1
    ACCUMULATE = 2
    KINETICS = 3
    FAST_KINETICS = 4
    RUN_TILL_ABORT = 5


class ShutterMode(IntEnum):
    """What the camera does with its shutter output."""

    AUTO = 0
    OPEN = 1
    CLOSED = 2


class Feature(IntFlag):
    """Bits of the capability field ulFeatures."""

    POLLING = 1
    EVENTS = 2
    SHUTTER = 8
    SHUTTER_EX = 16
    FAN = 128
    TEMPERATURE_DURING_ACQUISITION = 512


CAPABILITY_FIELDS = (
    "size",
    "acquisition_modes",
    "read_modes",
    "trigger_modes",
    "camera_type",
    "pixel_mode",
    "set_functions",
    "get_functions",
    "features",
    "pci_card",
    "em_gain",
    "frame_transfer_read_modes",
    "features2",
)
"""Fields of AndorCapabilities in order, all u32; the first holds the size of the structure in bytes."""

VERSION_SDK = 0x40000000
TEXT_SIZE = 260
TEMPERATURE_WITHOUT_CAMERA_C = -999

_IN = Parameter("in")
_SIZE = Parameter("in", "u32")
_SECONDS = Parameter("in", "f32")
_OUT = Parameter("out")
_OUT_FLOAT = Parameter("out", "f32")
_TEXT = Parameter("text_out")
_COUNTS = Parameter("array_out", "i32")
_COUNTS16 = Parameter("array_out", "u16")

FUNCTIONS: dict[str, tuple[Parameter, ...]] = {
    "GetAvailableCameras": (_OUT,),
    "GetCameraHandle": (_IN, _OUT),
    "SetCurrentCamera": (_IN,),
    "GetCurrentCamera": (_OUT,),
    "Initialize": (Parameter("text_in"),),
    "ShutDown": (),
    "GetDetector": (_OUT, _OUT),
    "GetPixelSize": (_OUT_FLOAT, _OUT_FLOAT),
    "GetHeadModel": (_TEXT,),
    "GetControllerCardModel": (_TEXT,),
    "GetCameraSerialNumber": (_OUT,),
    "GetVersionInfo": (_IN, _TEXT, _SIZE),
    "GetCapabilities": (Parameter("struct_out", "u32"),),
    "GetTemperatureRange": (_OUT, _OUT),
    "SetTemperature": (_IN,),
    "CoolerON": (),
    "CoolerOFF": (),
    "IsCoolerOn": (_OUT,),
    "GetTemperature": (_OUT,),
    "GetTemperatureF": (_OUT_FLOAT,),
    "SetCoolerMode": (_IN,),
    "SetFanMode": (_IN,),
    "SetReadMode": (_IN,),
    "SetSingleTrack": (_IN, _IN),
    "SetMultiTrack": (_IN, _IN, _IN, _OUT, _OUT),
    "SetRandomTracks": (_IN, Parameter("array_in", "i32")),
    "SetFVBHBin": (_IN,),
    "SetImage": (_IN, _IN, _IN, _IN, _IN, _IN),
    "GetNumberADChannels": (_OUT,),
    "SetADChannel": (_IN,),
    "GetBitDepth": (_IN, _OUT),
    "GetNumberAmp": (_OUT,),
    "SetOutputAmplifier": (_IN,),
    "GetAmpDesc": (_IN, _TEXT, _IN),
    "GetNumberHSSpeeds": (_IN, _IN, _OUT),
    "GetHSSpeed": (_IN, _IN, _IN, _OUT_FLOAT),
    "SetHSSpeed": (_IN, _IN),
    "GetNumberVSSpeeds": (_OUT,),
    "GetVSSpeed": (_IN, _OUT_FLOAT),
    "SetVSSpeed": (_IN,),
    "GetFastestRecommendedVSSpeed": (_OUT, _OUT_FLOAT),
    "GetNumberPreAmpGains": (_OUT,),
    "GetPreAmpGain": (_IN, _OUT_FLOAT),
    "SetPreAmpGain": (_IN,),
    "IsPreAmpGainAvailable": (_IN, _IN, _IN, _IN, _OUT),
    "GetEMGainRange": (_OUT, _OUT),
    "SetEMCCDGain": (_IN,),
    "GetEMCCDGain": (_OUT,),
    "SetAcquisitionMode": (_IN,),
    "SetExposureTime": (_SECONDS,),
    "SetNumberAccumulations": (_IN,),
    "SetAccumulationCycleTime": (_SECONDS,),
    "SetNumberKinetics": (_IN,),
    "SetKineticCycleTime": (_SECONDS,),
    "GetAcquisitionTimings": (_OUT_FLOAT, _OUT_FLOAT, _OUT_FLOAT),
    "GetReadOutTime": (_OUT_FLOAT,),
    "SetTriggerMode": (_IN,),
    "IsTriggerModeAvailable": (_IN,),
    "SetShutter": (_IN, _IN, _IN, _IN),
    "GetShutterMinTimes": (_OUT, _OUT),
    "PrepareAcquisition": (),
    "StartAcquisition": (),
    "AbortAcquisition": (),
    "GetStatus": (_OUT,),
    "WaitForAcquisition": (),
    "WaitForAcquisitionTimeOut": (_IN,),
    "WaitForAcquisitionByHandleTimeOut": (_IN, _IN),
    "CancelWait": (),
    "GetAcquisitionProgress": (_OUT, _OUT),
    "GetTotalNumberImagesAcquired": (_OUT,),
    "GetNumberNewImages": (_OUT, _OUT),
    "GetSizeOfCircularBuffer": (_OUT,),
    "GetAcquiredData": (_COUNTS, _SIZE),
    "GetAcquiredData16": (_COUNTS16, _SIZE),
    "GetMostRecentImage": (_COUNTS, _SIZE),
    "GetImages": (_IN, _IN, _COUNTS, _SIZE, _OUT, _OUT),
    "GetImages16": (_IN, _IN, _COUNTS16, _SIZE, _OUT, _OUT),
    "FreeInternalMemory": (),
}
"""Parameters of each function in the order of the header. Every function returns a u32 code."""

LINK = LibrarySettings(
    name="Andor SDK2",
    files={
        "win32": (
            r"C:\Program Files\Andor SDK\atmcd64d.dll",
            r"C:\Program Files\Andor SOLIS\atmcd64d.dll",
            r"C:\Program Files\Andor SOLIS\Drivers\atmcd64d.dll",
            "atmcd64d.dll",
        ),
        "linux": ("/usr/local/lib/libandor.so", "/usr/local/lib/libandor.so.2", "libandor.so.2"),
    },
    functions=FUNCTIONS,
    timeout_s=10.0,
    # Without ShutDown the driver may stay blocked until the camera is replugged. It is left out where the sensor
    # would then warm up without control, that is where the cooler cannot be told to stay on.
    farewell=(
        ("AbortAcquisition", (), (Code.SUCCESS, Code.IDLE)),
        ("SetCoolerMode", (1,), (Code.SUCCESS,)),
        ("ShutDown", (), (Code.SUCCESS,)),
    ),
)
