"""One camera opened through PICam: its parameters by name, and what lies at the addresses that the library gives.

Setting a parameter changes only the library's model of the camera; CommitParameters sends the model to it, and may
reject parameters although it answers 0.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from drivers.detector.picam_calls import (
    AVAILABLE_WORDS,
    CAMERA_ID_WORDS,
    CAMERA_LOST,
    MODEL_ENUMERATION,
    REQUIRED,
    STATUS_WORDS,
    Code,
    code_in_words,
    what_to_do,
)
from drivers.detector.picam_parameters import ROIS, PicamParameter, ValueType, name_of
from drivers.detector.picam_structures import (
    AcquisitionStatus,
    AvailableData,
    CameraID,
    RangeConstraint,
    Roi,
    Rois,
    RoisConstraint,
    words_in,
)
from labctl.errors import ConnectionLost, InstrumentError
from labctl.transport.link import LibraryChannel
from labctl.transport.vendor_host import READ_MEMORY, READ_TEXT, WRITE_MEMORY

_TEXT_SIZE = 256
_SLOW_S = 60.0

Structure = TypeVar("Structure", CameraID, Roi, Rois, RangeConstraint, RoisConstraint)


class PicamLibrary:
    """The library: calls whose codes become errors, and its memory.

    :param channel: Channel to the library. :param name: Name for messages.
    """

    def __init__(self, channel: LibraryChannel, name: str) -> None:
        self.channel = channel
        self.name = name

    def call(
        self,
        function: str,
        *arguments: Any,
        accept: Collection[int] = (),
        timeout_s: float | None = None,
        about: str = "",
    ) -> tuple[int, Any]:
        """Call a function, named without ``Picam_``; raises for a code other than none and those accepted.

        Raises ConnectionLost where the code says that no camera answers, else InstrumentError.

        :param about: What it is about, for messages.
        """
        code, outputs = self.channel.call(f"Picam_{function}", *arguments, timeout_s=timeout_s)
        if code != Code.NONE and code not in accept:
            self.refuse(f"{function}{about and f' of {about}'} failed", code)
        return code, outputs

    def refuse(self, what: str, code: int) -> NoReturn:
        """Raise the error for a code."""
        kind = ConnectionLost if code in CAMERA_LOST else InstrumentError
        raise kind(f"{what}: {code_in_words(code)}", exchange=self.channel.last, where=self.name, todo=what_to_do(code))

    def words_at(self, address: int, count: int) -> NDArray[np.uint16]:
        """Copy ``count`` 16-bit words of the library's memory, shape (count,)."""
        code, (words,) = self.channel.call(READ_MEMORY, address, count)
        if code != Code.NONE:
            raise InstrumentError("the library gave no address", exchange=self.channel.last, where=self.name)
        return words

    def structure_at(self, kind: type[Structure], address: int) -> Structure:
        """Copy a structure out of the library's memory."""
        return kind.from_words(self.words_at(address, words_in(kind)))

    def integers_at(self, address: int, count: int) -> list[int]:
        """Copy ``count`` 32-bit integers out of the library's memory."""
        return self.words_at(address, 2 * count).view("<i4").tolist() if count else []

    def write(self, address: int, words: NDArray[np.uint16]) -> None:
        """Overwrite memory that the library gave away."""
        self.channel.call(WRITE_MEMORY, address, words)

    def connect_demo(self, model: int, serial: str) -> CameraID:
        """Connect a demo camera of the library, or find the one that is connected already."""
        code, (words,) = self.call(
            "ConnectDemoCamera", model, serial, CAMERA_ID_WORDS, accept=[Code.DEMO_ALREADY_CONNECTED]
        )
        return self.camera(serial) if code == Code.DEMO_ALREADY_CONNECTED else CameraID.from_words(words)

    def camera(self, serial: str) -> CameraID:
        """Find an available camera by its serial number; raises ConnectionLost with those that were found."""
        _, (address, count) = self.call("GetAvailableCameraIDs", timeout_s=_SLOW_S)
        ids = [self.structure_at(CameraID, address + i * ctypes.sizeof(CameraID)) for i in range(count)]
        if address:
            self.call("DestroyCameraIDs", address)
        found = {camera.serial_number.decode("latin-1"): camera for camera in ids}
        if serial not in found:
            raise ConnectionLost(
                f"no camera with serial number {serial} is available; found: {', '.join(found) or 'none'}",
                exchange=self.channel.last,
                where=self.name,
                state="no camera was opened",
                todo=f"correct `serial` in the bench file; {what_to_do(Code.NO_CAMERAS)}",
            )
        return found[serial]

    def open(self, camera: CameraID | None) -> PicamHandle:
        """Open a camera, or the first one available."""
        if camera is None:
            _, (handle,) = self.call("OpenFirstCamera", timeout_s=_SLOW_S)
        else:
            _, (handle,) = self.call("OpenCamera", camera.to_words(), timeout_s=_SLOW_S)
        return PicamHandle(self, handle)


class PicamHandle:
    """An open camera.

    :param library: The library. :param handle: The handle that it gave.
    """

    def __init__(self, library: PicamLibrary, handle: int) -> None:
        self.library = library
        self.handle = handle

    def call(
        self, function: str, *arguments: Any, accept: Collection[int] = (), timeout_s: float | None = None
    ) -> tuple[int, Any]:
        """Call a function of the library for this camera."""
        return self.library.call(function, self.handle, *arguments, accept=accept, timeout_s=timeout_s)

    @property
    def camera_id(self) -> CameraID:
        """Get model, sensor and serial number."""
        return CameraID.from_words(self.call("GetCameraID", CAMERA_ID_WORDS)[1][0])

    @property
    def model(self) -> str:
        """Get the model in the words of the library, e.g. ``PIXIS: 100F``."""
        number = self.camera_id.model
        _, (address,) = self.library.call("GetEnumerationString", MODEL_ENUMERATION, number)
        _, (text,) = self.library.channel.call(READ_TEXT, address, _TEXT_SIZE)
        self.library.call("DestroyString", address)
        return text or f"model {number}"

    def has(self, parameter: PicamParameter) -> bool:
        """Whether this camera has a parameter and it matters in the present configuration."""
        _, (exists,) = self.call("DoesParameterExist", parameter.id)
        return bool(exists) and bool(self.call("IsParameterRelevant", parameter.id)[1][0])

    def get(self, parameter: PicamParameter) -> Any:
        """Get the value of a parameter in the library's model of the camera."""
        return self._call_about(parameter, "Get")[1][0]

    def read(self, parameter: PicamParameter, accept: Collection[int] = ()) -> tuple[int, Any]:
        """Ask the camera itself for a value; get the code, where others than none are accepted, and the value."""
        code, (value,) = self._call_about(parameter, "Read", accept=accept)
        return code, value

    def apply(
        self, values: Mapping[PicamParameter, float], timeout_s: float | None = None
    ) -> dict[PicamParameter, Any]:
        """Set parameters and commit them; get what the library reads back.

        Raises InstrumentError with the names of the parameters that the camera rejects, or that read back otherwise
        (numbers with a fraction may be rounded); the values before are put back then.
        """
        before = {parameter: self.get(parameter) for parameter in values}
        try:
            self._set(values)
            self._commit(values, timeout_s)
        except InstrumentError as error:
            error.state = self._restore(before, timeout_s)
            raise
        after = {parameter: self.get(parameter) for parameter in values}
        for parameter, value in values.items():
            if parameter.value is not ValueType.FLOATING_POINT and after[parameter] != value:
                raise InstrumentError(
                    f"{parameter.name} was set to {value} and reads {after[parameter]}",
                    exchange=self.library.channel.last,
                    where=self.library.name,
                    todo="switch the camera off and on, then open the bench again",
                )
        return after

    def limits(self, parameter: PicamParameter) -> RangeConstraint:
        """Get the range that holds for a parameter with the present settings."""
        _, (address,) = self.call("GetParameterRangeConstraint", parameter.id, REQUIRED)
        limits = self.library.structure_at(RangeConstraint, address)
        self.library.call("DestroyRangeConstraints", address)
        return limits

    def vertical_binnings(self) -> list[int]:
        """Get the numbers of rows that may be binned into one; empty where all may."""
        _, (address,) = self.call("GetParameterRoisConstraint", ROIS.id, REQUIRED)
        limits = self.library.structure_at(RoisConstraint, address)
        allowed = self.library.integers_at(limits.y_binning_limits_array, limits.y_binning_limits_count)
        self.library.call("DestroyRoisConstraints", address)
        return allowed

    def read_out_only(self, roi: Roi) -> None:
        """Have one region read; raises InstrumentError when it is rejected or reads back otherwise."""
        # The library's copy of the present regions is the memory for the new one: it holds at least one.
        self._with_rois(lambda address: self._overwrite_rois(address, roi))
        self._commit({ROIS: 0.0}, None)
        read_back = self._with_rois(self._first_roi)
        if bytes(read_back) != bytes(roi):
            raise InstrumentError(
                "the region of interest reads back otherwise than it was set",
                exchange=self.library.channel.last,
                where=self.library.name,
                todo="switch the camera off and on, then open the bench again",
            )

    def wait(self, timeout_s: float) -> tuple[int, AvailableData, AcquisitionStatus]:
        """Wait for news of the acquisition; get the code (also time-out, or no acquisition), data and status.

        The data are valid until the next wait.
        """
        code, (data, status) = self.call(
            "WaitForAcquisitionUpdate",
            round(1000 * timeout_s),
            AVAILABLE_WORDS,
            STATUS_WORDS,
            accept=[Code.TIME_OUT, Code.ACQUISITION_NOT_IN_PROGRESS],
            timeout_s=timeout_s + 5.0,
        )
        return code, AvailableData.from_words(data), AcquisitionStatus.from_words(status)

    def _call_about(
        self, parameter: PicamParameter, verb: str, *values: Any, accept: Collection[int] = ()
    ) -> tuple[int, Any]:
        """Call the function that gets, sets or reads a value of the parameter's type."""
        function = f"{verb}Parameter{parameter.value.functions}Value"
        about, arguments = parameter.name, (self.handle, parameter.id, *values)
        return self.library.call(function, *arguments, accept=accept, about=about)

    def _set(self, values: Mapping[PicamParameter, float]) -> None:
        for parameter, value in values.items():
            self._call_about(parameter, "Set", value)

    def _commit(self, values: Mapping[PicamParameter, float], timeout_s: float | None) -> None:
        _, (address, count) = self.call("CommitParameters", timeout_s=timeout_s)
        exchange = self.library.channel.last
        rejected = self.library.integers_at(address, count)
        if address:
            self.library.call("DestroyParameters", address)
        if rejected:
            given = {parameter.id: "" if parameter is ROIS else f" = {value:g}" for parameter, value in values.items()}
            raise InstrumentError(
                f"the camera rejects {', '.join(name_of(each) + given.get(each, '') for each in rejected)}",
                exchange=exchange,
                where=self.library.name,
                todo="correct the options of the detector in the bench file",
            )

    def _restore(self, before: Mapping[PicamParameter, float], timeout_s: float | None) -> str:
        """Put values back that were good; get what has become of it."""
        try:
            self._set(before)
            self._commit(before, timeout_s)
        except InstrumentError as error:
            return f"the settings before could not be put back: {error}"
        return "the settings before were put back"

    def _with_rois(self, act: Callable[[int], Any]) -> Any:
        _, (address,) = self.call("GetParameterRoisValue", ROIS.id)
        try:
            return act(address)
        finally:
            self.library.call("DestroyRois", address)

    def _overwrite_rois(self, address: int, roi: Roi) -> None:
        regions = self.library.structure_at(Rois, address)
        if regions.roi_count < 1:
            raise InstrumentError("the library has no region of interest", where=self.library.name)
        self.library.write(regions.roi_array, roi.to_words())
        self.library.write(address, Rois(regions.roi_array, 1).to_words())
        self.call("SetParameterRoisValue", ROIS.id, address)

    def _first_roi(self, address: int) -> Roi:
        return self.library.structure_at(Roi, self.library.structure_at(Rois, address).roi_array)
