"""Princeton Instruments cameras (PIXIS, ProEM) through PICam, as a line detector read with full vertical binning.

The library tells what it will do: every parameter is read back after it was committed. It has no switch for the
cooler, only a set-point; here the cooler counts as off when the set-point is the warmest there is. There is no rule
for warming up: ``warm_up`` raises the set-point and waits, before the camera may be switched off.

Nothing here was run on a vendor's library; with ``demo = true`` a PC with the PICam runtime can do it without a camera.
UNVERIFIED: that a camera keeps its set-point after CloseCamera and is not set to another one by OpenCamera; that an
acquisition goes on when a wait has timed out (it is stopped either way); whether an acquisition that has ended counts
as in progress until a wait has said so (both are dealt with); the unit of PixelWidth (µm).
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from pymeasure.instruments import Instrument

from drivers.detector.picam_calls import DEMO_MODEL, DEMO_SERIAL, LINK, Code, code_in_words, what_to_do
from drivers.detector.picam_handle import PicamHandle, PicamLibrary
from drivers.detector.picam_parameters import (
    ADC_ANALOG_GAIN,
    ADC_EM_GAIN,
    ADC_QUALITY,
    ADC_SPEED,
    ANALOG_GAINS,
    EXPOSURE_TIME,
    FRAME_SIZE,
    FULL_FRAME,
    NO_TRIGGER,
    PIXEL_BIT_DEPTH,
    PIXEL_WIDTH,
    QUALITIES,
    READOUT_CONTROL_MODE,
    READOUT_COUNT,
    READOUT_RATE_CALCULATION,
    READOUT_STRIDE,
    READOUT_TIME_CALCULATION,
    SENSOR_ACTIVE_HEIGHT,
    SENSOR_ACTIVE_WIDTH,
    SHUTTER_TIMING_MODE,
    TEMPERATURE_READING,
    TEMPERATURE_SET_POINT,
    TEMPERATURE_STATUS,
    TRIGGER_RESPONSE,
    AcquisitionErrors,
    PicamParameter,
    ShutterTiming,
    TemperatureStatus,
)
from drivers.detector.picam_structures import AvailableData, CameraID, Roi
from labctl.clock import Clock
from labctl.errors import Aborted, ConnectionLost, InputError, InstrumentError, InstrumentTimeout, LabctlError
from labctl.roles import READINGS_OF_A_COOLED_DETECTOR, CoolerState, Identity, SafeStep
from labctl.transport.link import LibraryChannel

log = logging.getLogger(__name__)

WARM_C = 0.0
"""Sensor temperature from which the camera may be switched off."""
WARM_UP_TIMEOUT_S = 1800.0
_WARM_UP_POLL_S = 5.0
_INITIALIZE_TIMEOUT_S = 60.0
_READ_OUT_MARGIN_S = 5.0
_SLICE_S = 0.5
_POLL_S = 0.02
_SAFE_CALL_S = 1.5
_SAFE_COMMIT_S = 5.0
_IDLE_TIMEOUT_S = 2.0
_LARGEST_COUNT = (1 << 31) - 1
_SHUTTER_MODES = {"auto": ShutterTiming.NORMAL, "open": ShutterTiming.OPEN}


class Picam(Instrument):
    """A Princeton Instruments CCD camera behind a spectrograph.

    :param adapter: Channel to the vendor library.
    :param clock: The clock on which waits run.
    :param options: See :class:`Options`.
    """

    LINK = LINK
    ROLE = "detector"
    READINGS: ClassVar = READINGS_OF_A_COOLED_DETECTOR

    class Options(BaseModel):
        """Options of the instrument in the bench file.

        :param serial: Serial number of the camera; the first one found if left out.
        :param demo: Connect the virtual camera of the vendor's library instead; its data mean nothing.
        :param adc_speed_mhz: Read-out speed in MHz as the camera lists it; its default if left out.
        :param gain: Analog gain; the camera's default if left out.
        :param quality: Which amplifier; the camera's default if left out.
        :param shutter: Camera shutter: opened for each exposure, kept open, or not there.
        :param warm_up: At closing, raise the set-point and wait (minutes); else the sensor stays cold.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")

        serial: str | None = None
        demo: bool = False
        adc_speed_mhz: float | None = Field(default=None, gt=0)
        gain: Literal["low", "medium", "high"] | None = None
        quality: Literal["low-noise", "high-capacity", "electron-multiplied", "high-speed"] | None = None
        shutter: Literal["auto", "open", "none"] = "auto"
        warm_up: bool = False

    adapter: LibraryChannel  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, adapter: LibraryChannel, name: str = "PICam camera", *, clock: Clock, **options: Any) -> None:
        super().__init__(adapter, name, includeSCPI=False)  # pyright: ignore[reportArgumentType]
        self.clock = clock
        self._options = self.Options(**options)
        self._library = PicamLibrary(adapter, name)
        self._open_camera: PicamHandle | None = None
        self._demo: CameraID | None = None
        self._has_shutter = False
        self._has_em_gain = False
        self._pixels = 0
        self._pixel_um = 0.0
        self._rows = 1
        self._frame_words = 0
        self._stride_bytes = 0
        self._bits = 0
        self._exposure_s = 0.0
        self._cycle_s = 0.0
        self._exposing = False
        self._collecting = False
        self._frame: NDArray[np.int32] | None = None
        self._ends_s = 0.0
        self._stop = threading.Event()

    def start_up(self) -> None:
        """Open the camera and set it up for single exposures; takes seconds. The cooler is left alone."""
        code, _ = self._library.call(
            "InitializeLibrary", accept=[Code.ALREADY_INITIALIZED], timeout_s=_INITIALIZE_TIMEOUT_S
        )
        if code == Code.ALREADY_INITIALIZED:
            # Whoever used the library before in this process has left its camera open, perhaps at work.
            self._library.call("UninitializeLibrary", timeout_s=_INITIALIZE_TIMEOUT_S)
            self._library.call("InitializeLibrary", timeout_s=_INITIALIZE_TIMEOUT_S)
        self._open_camera = camera = self._open()
        self._pixels = camera.get(SENSOR_ACTIVE_WIDTH)
        self._pixel_um = camera.get(PIXEL_WIDTH)
        self._has_shutter = self._options.shutter != "none" and camera.has(SHUTTER_TIMING_MODE)
        camera.apply(self._settings(camera), timeout_s=_INITIALIZE_TIMEOUT_S)
        self._has_em_gain = camera.has(ADC_EM_GAIN)
        self._lower_em_gain()
        self._move_shutter(ShutterTiming.CLOSED)
        self._bin_rows(camera)
        self._read_timings()

    def identify(self) -> Identity:
        """Get model, serial number and version of the library."""
        camera = self._camera
        _, (major, minor, distribution, _released) = self._library.call("GetVersion")
        serial = camera.camera_id.serial_number.decode("latin-1")
        return Identity("Princeton Instruments", camera.model, serial, f"PICam {major}.{minor}.{distribution}")

    @property
    def pixels(self) -> int:
        """Get the number of pixels along the wavelength axis."""
        return self._pixels

    @property
    def pixel_um(self) -> float:
        """Get the width of a pixel in µm."""
        return self._pixel_um

    @property
    def full_scale_counts(self) -> int:
        """Get the ceiling for one exposure, in counts: that of the ADC, times the rows that are summed here.

        A column in which any row has reached the ceiling of the ADC reads this number, whatever the sum is.
        """
        return min(self._adc_ceiling * self._rows, _LARGEST_COUNT)

    @property
    def cooler(self) -> CoolerState:
        """Measure the state of the cooler; where the camera cannot tell during an exposure, waits for its end.

        Raises InstrumentError when the camera reports a fault of the cooler, ConnectionLost when it does not answer.
        """
        status = self._read_when_idle(TEMPERATURE_STATUS)
        temperature_c = float(self._read_when_idle(TEMPERATURE_READING))
        if status == TemperatureStatus.FAULTED:
            raise InstrumentError(
                f"the camera reports a fault of its cooler, at {temperature_c:.1f} degC",
                exchange=self.adapter.last,
                where=self.name,
                state="the set-point is as it was",
                todo="check fan or cooling water, let the camera cool down, switch it off and on",
            )
        is_on = self._camera.get(TEMPERATURE_SET_POINT) < self._camera.limits(TEMPERATURE_SET_POINT).maximum
        locked = status == TemperatureStatus.LOCKED
        return CoolerState(is_on, temperature_c, locked, "locked" if locked else "unlocked")

    def cool_to(self, temperature_c: float) -> None:
        """Control the set-point in °C, which starts the cooling; returns at once, or after a running exposure.

        Raises InputError for a set-point beyond the range of the camera.
        """
        limits = self._camera.limits(TEMPERATURE_SET_POINT)
        if not limits.minimum <= temperature_c <= limits.maximum:
            raise InputError(
                f"the camera cannot be set to {temperature_c:g} degC; "
                f"its range is {limits.minimum:g} to {limits.maximum:g} degC",
                where=self.name,
                state="the cooler was left as it was",
                todo="correct `temperature` in the bench file",
            )
        self._set_point(temperature_c)

    @property
    def exposure_s(self) -> float:
        """Get the true exposure in s, as the camera will make it."""
        return self._exposure_s

    def set_exposure(self, exposure_s: float) -> float:
        """Control the exposure in s; returns the true exposure, which is rounded up to what the camera can do.

        Raises InputError beyond its range, InstrumentError while an exposure is under way.
        """
        self._settle()
        limits = self._camera.limits(EXPOSURE_TIME)
        if not 0 <= 1000 * exposure_s <= limits.maximum:
            raise InputError(f"the exposure must lie in 0 to {limits.maximum / 1000:g} s, not {exposure_s:g} s")
        wanted_ms = max(1000 * exposure_s, limits.minimum)
        if limits.increment > 0:
            wanted_ms = math.ceil(wanted_ms / limits.increment * (1 - 1e-9)) * limits.increment
        self._camera.apply({EXPOSURE_TIME: min(wanted_ms, limits.maximum)})
        self._read_timings()
        return self._exposure_s

    @property
    def cycle_s(self) -> float:
        """Get the time from one exposure to the next in s, as the library calculates it."""
        return self._cycle_s

    def start(self) -> None:
        """Start one exposure; returns at once. Raises InstrumentError if one is under way."""
        self._settle()
        self._stop.clear()
        self._frame = None
        self._move_shutter(_SHUTTER_MODES.get(self._options.shutter, ShutterTiming.NORMAL))
        self._camera.call("StartAcquisition")
        self._exposing = True
        self._ends_s = self.clock.now() + self._cycle_s

    def read(self) -> NDArray[np.int32]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Wait for the end of the exposure and read it, shape (pixels,), counts of the ADC.

        Raises Aborted when :meth:`abort` or :meth:`make_safe` stopped it, InstrumentTimeout when it does not end,
        ConnectionLost when the camera is gone.
        """
        if self._exposing and not self._stop.is_set():
            self._collect()
        if self._stop.is_set():
            raise Aborted("the exposure was stopped", where=self.name)
        if self._frame is None:
            raise InstrumentError("no exposure was started", where=self.name, todo="call start() before read()")
        frame, self._frame = self._frame, None
        return frame

    def abort(self) -> None:
        """Stop an exposure; nothing happens when none is under way."""
        self._stop.set()
        camera = self._camera
        camera.call("StopAcquisition", accept=[Code.ACQUISITION_NOT_IN_PROGRESS], timeout_s=_SAFE_CALL_S)
        deadline = self.clock.now() + _IDLE_TIMEOUT_S
        while True:
            code, _, status = camera.wait(_POLL_S)
            if code == Code.ACQUISITION_NOT_IN_PROGRESS or (code == Code.NONE and not status.running):
                break
            if self.clock.now() > deadline:
                raise InstrumentTimeout(
                    "the camera goes on after StopAcquisition",
                    exchange=self.adapter.last,
                    where=self.name,
                    todo="switch the camera off and on, then open the bench again",
                )
            self.clock.sleep(_POLL_S)
        self._exposing = False
        self._frame = None

    def make_safe(self) -> list[SafeStep]:
        """Stop the exposure, close the camera shutter, lower the EM gain; the cooler stays as it is."""
        self._stop.set()
        steps = [self._safe_step("stop exposure and close camera shutter", self._stop_safely)]
        if self._has_em_gain:
            steps.append(self._safe_step("lower EM gain", self._lower_em_gain))
        return steps

    def close(self) -> None:
        """Stop, close the shutter and release the library; what cannot be done is logged.

        The sensor stays cold unless ``warm_up`` is set; then the set-point is raised first.
        """
        try:
            if self._open_camera is not None:
                self._shut_down(self._open_camera)
        except LabctlError as error:
            log.error("%s: closing: %s", self.name, error)
        finally:
            self._open_camera = None
            self.adapter.close()

    @property
    def _camera(self) -> PicamHandle:
        if self._open_camera is None:
            raise ConnectionLost(
                "no camera is open", where=self.name, todo="call start_up() first, or open the bench again"
            )
        return self._open_camera

    @property
    def _adc_ceiling(self) -> int:
        return (1 << self._bits) - 1

    def _open(self) -> PicamHandle:
        options = self._options
        if options.demo:
            log.warning("%s: the virtual camera of PICam is used: its data mean nothing", self.name)
            self._demo = self._library.connect_demo(DEMO_MODEL, options.serial or DEMO_SERIAL)
            return self._library.open(self._demo)
        return self._library.open(self._library.camera(options.serial) if options.serial else None)

    def _settings(self, camera: PicamHandle) -> dict[PicamParameter, float]:
        """Get what start-up sets: single untriggered exposures, and the amplifier that was chosen."""
        fixed = {READOUT_COUNT: 1, READOUT_CONTROL_MODE: FULL_FRAME, TRIGGER_RESPONSE: NO_TRIGGER}
        settings: dict[PicamParameter, float] = {each: value for each, value in fixed.items() if camera.has(each)}
        options = self._options
        if options.quality is not None:
            settings[ADC_QUALITY] = QUALITIES[options.quality]
        if options.adc_speed_mhz is not None:
            settings[ADC_SPEED] = options.adc_speed_mhz
        if options.gain is not None:
            settings[ADC_ANALOG_GAIN] = ANALOG_GAINS[options.gain]
        return settings

    def _bin_rows(self, camera: PicamHandle) -> None:
        """Have all rows binned on the sensor, or as many as it can; the rest is summed here."""
        height = camera.get(SENSOR_ACTIVE_HEIGHT)
        allowed = camera.vertical_binnings() or [height]
        binned = max((each for each in allowed if height % each == 0), default=1)
        camera.read_out_only(Roi(0, self._pixels, 1, 0, height, binned))
        self._rows = height // binned
        if self._rows > 1:
            log.warning("%s: the sensor bins %d of %d rows; the rest is summed here", self.name, binned, height)
        self._bits = camera.get(PIXEL_BIT_DEPTH)
        self._frame_words = camera.get(FRAME_SIZE) // 2
        self._stride_bytes = camera.get(READOUT_STRIDE)
        pixel_words = 1 if self._bits <= 16 else 2
        if self._frame_words != self._pixels * self._rows * pixel_words:
            raise InstrumentError(
                f"a frame has {2 * self._frame_words} bytes, not those of {self._rows} x {self._pixels} pixels "
                f"of {self._bits} bits",
                exchange=self.adapter.last,
                where=self.name,
                todo="report this with model and version of the library",
            )

    def _lower_em_gain(self) -> str:
        if not self._has_em_gain:
            return ""
        least = round(self._camera.limits(ADC_EM_GAIN).minimum)
        self._camera.apply({ADC_EM_GAIN: least}, timeout_s=_SAFE_COMMIT_S)
        return f"EM gain reads {least}, its minimum"

    def _move_shutter(self, mode: ShutterTiming) -> str:
        """Set the shutter mode unless it is set already; a camera without a shutter output is left alone."""
        if not self._has_shutter:
            return "no camera shutter"
        if self._camera.get(SHUTTER_TIMING_MODE) != mode:
            self._camera.apply({SHUTTER_TIMING_MODE: mode}, timeout_s=_SAFE_COMMIT_S)
        return f"ShutterTimingMode reads {mode} ({mode.name.lower()})"

    def _read_timings(self) -> None:
        camera = self._camera
        self._exposure_s = round(camera.get(EXPOSURE_TIME) / 1000, 9)
        cycle_s = self._exposure_s + camera.get(READOUT_TIME_CALCULATION) / 1000
        rate_hz = camera.get(READOUT_RATE_CALCULATION) if camera.has(READOUT_RATE_CALCULATION) else 0.0
        self._cycle_s = max(cycle_s, 1 / rate_hz if rate_hz > 0 else 0.0)

    def _collect(self) -> None:
        """Wait for the end of the exposure and keep its frame; returns early when it is stopped."""
        self._collecting = True
        try:
            # The library is left alone during the exposure, so that another thread can stop it at once.
            while not self._stop.is_set() and (left_s := self._ends_s - self.clock.now()) > 0:
                self.clock.wait(self._stop, left_s)
            self._take(max(self._ends_s, self.clock.now()) + _READ_OUT_MARGIN_S)
        finally:
            self._collecting = False

    def _take(self, deadline: float) -> None:
        """Take what the camera delivers until it stands still; raises InstrumentTimeout after ``deadline``."""
        while not self._stop.is_set():
            code, data, status = self._camera.wait(_SLICE_S)
            if code == Code.NONE:
                if status.errors:
                    self._give_up(f"the exposure failed: {_errors_in_words(status.errors)}", status.errors)
                if data.readout_count > 0:
                    self._frame = self._line(data)
                if not status.running:
                    break
            elif code == Code.ACQUISITION_NOT_IN_PROGRESS:
                break
            if self.clock.now() > deadline:
                self._give_up(f"the exposure of {self._exposure_s:g} s has not ended", 0)
        if self._stop.is_set():
            return
        self._exposing = False
        if self._frame is None:
            raise InstrumentError(
                "the exposure ended without data", exchange=self.adapter.last, where=self.name, todo="repeat the point"
            )

    def _line(self, data: AvailableData) -> NDArray[np.int32]:
        """Copy the newest frame out of the library's memory, which is good until the next call only."""
        address = data.initial_readout + (data.readout_count - 1) * self._stride_bytes
        words = self._library.words_at(address, self._frame_words)
        pixels = words.view("<u4") if self._bits > 16 else words
        rows = pixels.reshape(self._rows, self._pixels).astype(np.int64)
        line = np.minimum(rows.sum(axis=0), self.full_scale_counts)
        line[(rows >= self._adc_ceiling).any(axis=0)] = self.full_scale_counts
        return line.astype(np.int32)

    def _settle(self) -> None:
        """Take an exposure that has ended and was not read out of the way; raises if one is under way."""
        if self._exposing and self.clock.now() < self._ends_s and not self._stop.is_set():
            self._raise("an exposure is under way", Code.ACQUISITION_IN_PROGRESS)
        if self._exposing:
            self._collect()
            self._exposing = False

    def _give_up(self, what: str, errors: int) -> NoReturn:
        exchange = self.adapter.last
        lost = errors & (AcquisitionErrors.CONNECTION_LOST | AcquisitionErrors.CAMERA_FAULTED)
        state = "the exposure was stopped"
        try:
            self.abort()
        except LabctlError as error:
            state = f"the exposure could not be stopped: {error}"
        kind = ConnectionLost if lost else InstrumentError if errors else InstrumentTimeout
        todo = what_to_do(Code.DISCONNECTED) if lost else "repeat the point"
        raise kind(what, exchange=exchange, where=self.name, state=state, todo=todo)

    def _stop_safely(self) -> str:
        self.abort()
        _, (running,) = self._camera.call("IsAcquisitionRunning", timeout_s=_SAFE_CALL_S)
        if running:
            self._raise("the acquisition still runs", Code.ACQUISITION_IN_PROGRESS)
        return f"IsAcquisitionRunning reads 0; {self._move_shutter(ShutterTiming.CLOSED)}"

    def _safe_step(self, action: str, act: Callable[[], str]) -> SafeStep:
        try:
            return SafeStep(action, True, act())
        except LabctlError as error:
            return SafeStep(action, False, str(error))

    def _shut_down(self, camera: PicamHandle) -> None:
        for step in self.make_safe():
            if not step.confirmed:
                log.error("%s: closing: %s: %s", self.name, step.action, step.evidence)
        if self._options.warm_up:
            self._warm_up(camera)
        else:
            log.info("%s: the cooler is left as it is", self.name)
        camera.call("CloseCamera", timeout_s=_INITIALIZE_TIMEOUT_S)
        if self._demo is not None:
            self._library.call("DisconnectDemoCamera", self._demo.to_words())
        self._library.call("UninitializeLibrary", timeout_s=_INITIALIZE_TIMEOUT_S)

    def _warm_up(self, camera: PicamHandle) -> None:
        """Raise the set-point to the warmest and wait, so that the camera can be switched off."""
        self._set_point(camera.limits(TEMPERATURE_SET_POINT).maximum)
        deadline = self.clock.now() + WARM_UP_TIMEOUT_S
        while (temperature_c := float(self._read_when_idle(TEMPERATURE_READING))) < WARM_C:
            if self.clock.now() > deadline:
                log.error("%s: still at %.0f degC after %g s", self.name, temperature_c, WARM_UP_TIMEOUT_S)
                return
            log.info("%s: warming up, %.0f degC", self.name, temperature_c)
            self.clock.sleep(_WARM_UP_POLL_S)

    def _set_point(self, temperature_c: float) -> None:
        if self._exposing and not self._stop.is_set():
            self._collect()
        reached = self._camera.apply({TEMPERATURE_SET_POINT: temperature_c})[TEMPERATURE_SET_POINT]
        if abs(reached - temperature_c) > 0.5:
            raise InstrumentError(
                f"the set-point was set to {temperature_c:g} degC and reads {reached:g} degC",
                exchange=self.adapter.last,
                where=self.name,
                state=f"the camera cools to {reached:g} degC",
                todo="correct `temperature` in the bench file",
            )

    def _read_when_idle(self, parameter: PicamParameter) -> Any:
        """Ask the camera, after the end of an exposure where it cannot tell during one."""
        deadline = max(self._ends_s, self.clock.now()) + _READ_OUT_MARGIN_S
        while True:
            code, value = self._camera.read(parameter, accept=[Code.ACQUISITION_IN_PROGRESS])
            if code == Code.NONE:
                return value
            if self.clock.now() > deadline:
                self._raise(f"{parameter.name} had to wait for an exposure that does not end", code)
            if self._exposing and not self._collecting and not self._stop.is_set():
                self._collect()
            else:
                self.clock.sleep(_POLL_S)

    def _raise(self, what: str, code: int) -> NoReturn:
        raise InstrumentError(
            f"{what}: {code_in_words(code)}", exchange=self.adapter.last, where=self.name, todo=what_to_do(code)
        )


def _errors_in_words(errors: int) -> str:
    """Get the errors of an acquisition in words."""
    known = [each.name.lower().replace("_", " ") for each in AcquisitionErrors if errors & each and each.name]
    unknown = errors & ~sum(AcquisitionErrors)
    return ", ".join([*known, *([f"unknown error 0x{unknown:X}"] if unknown else [])])
