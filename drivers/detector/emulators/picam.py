"""Simulated PICam library with a PIXIS 100F behind it: same functions, codes, structures and addresses in memory.

The methods named as the functions of the library, here and in :class:`PicamCamera`, take their arguments and give
code and outputs. Addresses that the library gives away are good until they are destroyed, data until the next wait.

UNVERIFIED, chosen here: what the library calls the model; that UninitializeLibrary closes the cameras; that a camera
keeps its set-point while it is closed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from drivers.detector.emulators.andor_cooler import Cooler
from drivers.detector.emulators.picam_camera import Answer, PicamCamera
from drivers.detector.emulators.picam_memory import Memory
from drivers.detector.emulators.picam_model import SET_POINT_LIMITS_C, CameraModel, Sensor
from drivers.detector.picam_calls import DEMO_MODEL, FUNCTIONS, MODEL_ENUMERATION, Code
from drivers.detector.picam_parameters import READOUT_COUNT, AcquisitionErrors
from drivers.detector.picam_structures import CameraID
from labctl.sim.camera import Camera
from labctl.transport.vendor_host import READ_MEMORY, READ_TEXT, WRITE_MEMORY

HANDLE = 0x7F3A_1000_0000
SERIAL = "0401130001"
_COLUMNS, _ROWS, _PIXEL_UM = 1340, 100, 20.0
_INITIALIZE_S = 0.5
_OPEN_S = 2.0
_USB2 = 1
_WITHOUT_INITIALIZE = frozenset({"InitializeLibrary", "IsLibraryInitialized", "GetVersion"})
_MODELS = {DEMO_MODEL: "PIXIS: 100F"}


class PicamLibraryEmulator:
    """The library and one camera, which keeps its temperature while no program has it open.

    :param laboratory: The simulated laboratory.
    :param options: See :class:`Options`.
    """

    class Options(BaseModel):
        """Options of the simulation; those of the driver are in the same table and are not looked at.

        :param cold: Start with the sensor stable at ``set_point_c``, else warm.
        :param set_point_c: Set-point of a cold start in °C.
        :param cooling_k_s: Rate of cooling and warming in K/s.
        :param settle_s: Time from reaching the set-point to being stable.
        :param em: A camera with electron multiplication.
        :param y_binnings: Numbers of rows that the sensor can bin; all if left out.
        :param time_stamps: Time stamps follow each frame and cannot be switched off.
        :param no_camera: No camera is connected; the library still has its virtual one.
        :param light_field: Another program, LightField, has the camera.
        :param awkward: Left by another program in this process: initialised, camera open, acquiring for ever.
        """

        model_config = ConfigDict(frozen=True, extra="ignore")

        cold: bool = False
        set_point_c: float = Field(default=-60.0, ge=SET_POINT_LIMITS_C[0], le=SET_POINT_LIMITS_C[1])
        cooling_k_s: float = Field(default=0.25, gt=0)
        settle_s: float = Field(default=60.0, ge=0)
        em: bool = False
        y_binnings: tuple[int, ...] = ()
        time_stamps: bool = False
        no_camera: bool = False
        light_field: bool = False
        awkward: bool = False

    def __init__(self, laboratory: Any, role: str, options: Mapping[str, Any]) -> None:
        self.options = chosen = self.Options.model_validate(dict(options))
        self.laboratory = laboratory
        self.role = role
        self.memory = Memory()
        self.camera: PicamCamera | None = None
        set_point_c = chosen.set_point_c if chosen.cold else SET_POINT_LIMITS_C[1]
        water = laboratory.no_cooling_water
        self.cooler = Cooler(set_point_c, chosen.cold, chosen.cooling_k_s, chosen.settle_s, water)
        truth = laboratory.truth.camera.model_copy(update={"pixels": _COLUMNS, "pixel_um": _PIXEL_UM})
        self._ccd = Camera(truth, laboratory.noise)
        self._powered = not chosen.no_camera
        self._demo_serial = ""
        self._initialized = False
        self._is_connected = True
        if chosen.awkward:
            self._initialized = True
            self._open(SERIAL)
            if self.camera is not None:
                self.camera.SetParameterLargeIntegerValue(0.0, READOUT_COUNT.id, 0)
                self.camera.CommitParameters(0.0)
                self.camera.StartAcquisition(0.0)

    def power_off(self, t: float) -> None:
        """Cut the camera's power, or pull its plug."""
        self._powered = False
        self.cooler.set(t, on=False)
        if self.camera is not None:
            self._is_connected = False
            self.camera.lose(t, AcquisitionErrors.CONNECTION_LOST)

    def power_on(self) -> None:
        """Give the power back: the camera has to be opened anew."""
        self._powered = True

    def call(self, t: float, function: str, arguments: Sequence[Any]) -> tuple[float, int, Sequence[Any]]:
        """Call a function at ``t``; get the moment of return, the code, and the outputs of the call table."""
        self._return_s = t
        if self.camera is not None:
            self.camera.return_s = t
        camera = self.camera
        code, outputs = self._answer(t, function, arguments)
        return max(self._return_s, camera.return_s if camera is not None else t), int(code), outputs

    def _answer(self, t: float, function: str, arguments: Sequence[Any]) -> Answer:
        if function in (READ_MEMORY, WRITE_MEMORY, READ_TEXT):
            return self._reach_memory(function, *arguments)
        name = function.removeprefix("Picam_")
        if not self._initialized and name not in _WITHOUT_INITIALIZE:
            return Code.NOT_INITIALIZED, []
        method = getattr(self, name, None)
        if method is not None and function in FUNCTIONS:
            return method(t, *arguments)
        if self.camera is None or arguments[0] != HANDLE:
            return Code.INVALID_HANDLE, []
        # News of an acquisition that ended because the camera went away are still delivered.
        if not self._is_connected and name not in ("WaitForAcquisitionUpdate", "IsAcquisitionRunning"):
            return Code.DISCONNECTED, []
        return getattr(self.camera, name)(t, *arguments[1:])

    def _reach_memory(self, function: str, address: int, given: Any) -> Answer:
        if not address:
            return 1, []
        if function == READ_TEXT:
            return Code.NONE, [self.memory.text(address)[: given - 1]]
        if function == WRITE_MEMORY:
            self.memory.write(address, np.asarray(given, dtype="<u2").tobytes())
            return Code.NONE, []
        return Code.NONE, [np.frombuffer(self.memory.read(address, 2 * given), dtype="<u2")]

    # Life cycle

    def InitializeLibrary(self, t: float) -> Answer:
        if self._initialized:
            return Code.ALREADY_INITIALIZED, []
        self._return_s = t + _INITIALIZE_S
        self._initialized = True
        return Code.NONE, []

    def UninitializeLibrary(self, t: float) -> Answer:
        self._release()
        self._demo_serial = ""
        self._initialized = False
        return Code.NONE, []

    def IsLibraryInitialized(self, t: float) -> Answer:
        return Code.NONE, [int(self._initialized)]

    def GetVersion(self, t: float) -> Answer:
        return Code.NONE, [5, 14, 6, 2310]

    def GetAvailableCameraIDs(self, t: float) -> Answer:
        found = [self._id(serial) for serial in self._available()]
        address = self.memory.allocate(b"".join(bytes(each) for each in found)) if found else 0
        return Code.NONE, [address, len(found)]

    def OpenFirstCamera(self, t: float) -> Answer:
        found = self._available()
        if not found:
            return Code.NO_CAMERAS, []
        return self._open_at(t, found[0])

    def OpenCamera(self, t: float, words: Sequence[int]) -> Answer:
        serial = CameraID.from_words(np.asarray(words, dtype="<u2")).serial_number.decode("latin-1")
        if serial not in (SERIAL, self._demo_serial):
            return Code.INVALID_CAMERA_ID, []
        if self.camera is not None:
            return Code.ALREADY_OPENED, []
        if serial == SERIAL and not self._powered:
            return Code.DISCONNECTED, []
        if serial == SERIAL and self.options.light_field:
            return Code.OPEN_ELSEWHERE, []
        return self._open_at(t, serial)

    def CloseCamera(self, t: float, handle: int) -> Answer:
        if self.camera is None or handle != HANDLE:
            return Code.INVALID_HANDLE, []
        if self.camera.is_acquiring and self._is_connected:
            return Code.ACQUISITION_IN_PROGRESS, []
        self._release()
        return Code.NONE, []

    def IsCameraConnected(self, t: float, handle: int) -> Answer:
        if self.camera is None or handle != HANDLE:
            return Code.INVALID_HANDLE, []
        return Code.NONE, [int(self._is_connected)]

    def ConnectDemoCamera(self, t: float, model: int, serial: str, words: int) -> Answer:
        if model not in _MODELS:
            return Code.INVALID_DEMO_MODEL, []
        if not 0 < len(serial) < 64:
            return Code.INVALID_DEMO_SERIAL, []
        if self._demo_serial:
            return Code.DEMO_ALREADY_CONNECTED, []
        self._demo_serial = serial
        return Code.NONE, [self._id(serial).to_words()]

    def DisconnectDemoCamera(self, t: float, words: Sequence[int]) -> Answer:
        serial = CameraID.from_words(np.asarray(words, dtype="<u2")).serial_number.decode("latin-1")
        if not serial or serial != self._demo_serial:
            return Code.INVALID_CAMERA_ID, []
        self._demo_serial = ""
        return Code.NONE, []

    def GetEnumerationString(self, t: float, kind: int, value: int) -> Answer:
        if kind != MODEL_ENUMERATION:
            return Code.INVALID_ENUMERATION_TYPE, []
        if value not in _MODELS:
            return Code.INVALID_ENUMERATION_VALUE, []
        return Code.NONE, [self.memory.allocate(_MODELS[value].encode() + b"\0")]

    # What was given away comes back

    def DestroyCameraIDs(self, t: float, address: int) -> Answer:
        return self._destroy(address)

    def DestroyParameters(self, t: float, address: int) -> Answer:
        return self._destroy(address)

    def DestroyRangeConstraints(self, t: float, address: int) -> Answer:
        return self._destroy(address)

    def DestroyRois(self, t: float, address: int) -> Answer:
        return self._destroy(address)

    def DestroyRoisConstraints(self, t: float, address: int) -> Answer:
        return self._destroy(address)

    def DestroyString(self, t: float, address: int) -> Answer:
        return self._destroy(address)

    def _destroy(self, address: int) -> Answer:
        return (Code.NONE if self.memory.free(address) else Code.UNEXPECTED), []

    def _available(self) -> list[str]:
        """Serial numbers of the cameras that can be opened, which one in another program cannot."""
        real = [SERIAL] if self._powered and not self.options.light_field and self.camera is None else []
        return [*real, *([self._demo_serial] if self._demo_serial else [])]

    def _id(self, serial: str) -> CameraID:
        return CameraID(DEMO_MODEL, _USB2, b"E2V 1340 x 100 (CCD36-00)", serial.encode("latin-1"))

    def _open_at(self, t: float, serial: str) -> Answer:
        self._return_s = t + _OPEN_S
        self._open(serial)
        return Code.NONE, [HANDLE]

    def _open(self, serial: str) -> None:
        options = self.options
        self._is_connected = True
        sensor = Sensor(_COLUMNS, _ROWS, _PIXEL_UM, options.em, options.y_binnings, options.time_stamps)
        model = CameraModel(sensor, self.cooler.set_point_c)
        self.camera = PicamCamera(self._id(serial), model, self.cooler, self.memory, self._expose)

    def _release(self) -> None:
        if self.camera is not None:
            self.camera.release()
            self.camera = None

    def _expose(self, start_s: float, exposure_s: float, temperature_c: float, is_lit: bool) -> np.ndarray:
        if is_lit:
            return self.laboratory.expose(start_s, exposure_s, temperature_c, self._ccd)
        return self._ccd.read_out(np.zeros(_COLUMNS), exposure_s, temperature_c)
