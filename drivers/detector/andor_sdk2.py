"""Andor SDK2 cameras (iDus, Newton) as a line detector, read with full vertical binning (FVB).

The library has no read-back for read mode, acquisition mode, trigger mode and shutter: its return code is all there
is, and all of them are set again at every start-up. What was set is not trusted where the library tells the truth:
the exposure is rounded up, so :attr:`AndorSDK2.exposure_s` is what GetAcquisitionTimings says.

The library is not said to be thread-safe; the channel serialises the calls, and a wait is cut into slices so that
another thread can abort.

UNVERIFIED on hardware: that SetCoolerMode(1) keeps USB cameras cold after ShutDown; what a single-mode start costs
beyond the cycle time that the library calculates (reports range from 6 ms to 0.6 s).
"""

from __future__ import annotations

import logging
import math
import sys
import threading
from collections.abc import Callable, Collection
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from pymeasure.instruments import Instrument

from drivers.detector.andor_sdk2_calls import (
    CAMERA_LOST,
    CAPABILITY_FIELDS,
    LINK,
    TEMPERATURE_WITHOUT_CAMERA_C,
    TEXT_SIZE,
    VERSION_SDK,
    AcquisitionMode,
    Code,
    Feature,
    ReadMode,
    ShutterMode,
    code_in_words,
)
from labctl.clock import Clock
from labctl.errors import Aborted, ConnectionLost, InputError, InstrumentError, InstrumentTimeout, LabctlError
from labctl.roles import READINGS_OF_A_COOLED_DETECTOR, CoolerState, Identity, SafeStep
from labctl.transport.link import LibraryChannel

log = logging.getLogger(__name__)

MOST_EXPOSURE_S = 3600.0
WARM_C = 0.0
"""Sensor temperature to wait for before ShutDown; the SDK asks for more than -20 degC on some systems."""
WARM_UP_TIMEOUT_S = 1800.0
_WARM_UP_POLL_S = 5.0
_INITIALIZE_TIMEOUT_S = 60.0
_SLICE_S = 0.5
_SLICE_MARGIN_S = 0.02
_READ_OUT_MARGIN_S = 5.0
_EMPTY_SHARE = 0.1
_MOST_PIXELS = 1 << 16
_MOST_BITS = 31
_POLL_S = 0.02
_SAFE_CALL_S = 1.5
_IDLE_TIMEOUT_S = 2.0
_CHANNEL = 0
_INTERNAL_TRIGGER = 0
_KEEP_COLD = 1
_WARM_TO_AMBIENT = 0
_FAN_FULL = 0
_COOLER_CODES = (
    Code.TEMP_OFF,
    Code.TEMP_NOT_STABILIZED,
    Code.TEMP_STABILIZED,
    Code.TEMP_NOT_REACHED,
    Code.TEMP_DRIFT,
)


class AndorSDK2(Instrument):
    """A CCD camera behind a spectrograph.

    :param adapter: Channel to the vendor library.
    :param clock: The clock on which waits run.
    :param options: See :class:`Options`.
    """

    LINK = LINK
    ROLE = "detector"
    READINGS: ClassVar = READINGS_OF_A_COOLED_DETECTOR

    class Options(BaseModel):
        """Options of the instrument in the bench file.

        :param camera: Index of the camera, from 0.
        :param directory: Folder with the camera's firmware; the vendor's default if left out.
        :param hs_speed_mhz: Read-out speed in MHz as the camera lists it; its first (fastest) if left out.
        :param preamp_gain: Pre-amplifier gain as the camera lists it; its first if left out.
        :param shutter: Camera shutter: opened for each exposure, kept open, or not there.
        :param shutter_ttl_high: Whether a high level opens the shutter.
        :param shutter_open_ms: Time the shutter needs to open, in ms; the least exposure is 1 ms longer.
        :param shutter_close_ms: Time it needs to close, in ms.
        :param warm_up: At closing, warm the sensor before the library is released (minutes); else it stays cold.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")

        camera: int = Field(default=0, ge=0)
        directory: str | None = None
        hs_speed_mhz: float | None = Field(default=None, gt=0)
        preamp_gain: float | None = Field(default=None, gt=0)
        shutter: Literal["auto", "open", "none"] = "auto"
        shutter_ttl_high: bool = True
        shutter_open_ms: int = Field(default=0, ge=0, le=10000)
        shutter_close_ms: int = Field(default=0, ge=0, le=10000)
        warm_up: bool = False

    adapter: LibraryChannel  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, adapter: LibraryChannel, name: str = "Andor camera", *, clock: Clock, **options: Any) -> None:
        super().__init__(adapter, name, includeSCPI=False)  # pyright: ignore[reportArgumentType]
        self.clock = clock
        self._options = self.Options(**options)
        self._initialized = False
        self._features = Feature(0)
        self._has_em_gain = False
        self._shutter_mode: ShutterMode | None = None
        self._pixels = 0
        self._pixel_um = 0.0
        self._bits = 0
        self._exposure_s = 0.0
        self._cycle_s = 0.0
        self._exposing = False
        self._ends_s = 0.0
        self._stop = threading.Event()

    def start_up(self) -> None:
        """Initialise the library and set it up for single FVB exposures; takes seconds. The cooler is left alone."""
        self._initialize()
        capabilities = dict(zip(CAPABILITY_FIELDS, self._capabilities(), strict=False))
        self._features = Feature(capabilities["features"])
        if not self._features:
            self._refuse_answer("no features at all")
        self._has_em_gain = capabilities["em_gain"] != 0
        _, (pixels, _rows) = self._call("GetDetector")
        if not 1 <= pixels <= _MOST_PIXELS:
            self._refuse_answer(f"{pixels} pixels")
        self._pixels = pixels
        _, (width_um, _height_um) = self._call("GetPixelSize")
        self._pixel_um = _as_f32_prints(width_um)
        self._set_amplifier()
        self._lower_em_gain()
        self._move_shutter(ShutterMode.CLOSED)
        self._call("SetReadMode", ReadMode.FVB)
        self._call("SetAcquisitionMode", AcquisitionMode.SINGLE)
        # A number of accumulations set by another program would be kept.
        self._call("SetNumberAccumulations", 1)
        self._call("SetTriggerMode", _INTERNAL_TRIGGER)
        self._read_timings()

    def identify(self) -> Identity:
        """Get head model, serial number and version of the library."""
        _, (model,) = self._call("GetHeadModel", TEXT_SIZE)
        _, (serial,) = self._call("GetCameraSerialNumber")
        code, (version,) = self._call("GetVersionInfo", VERSION_SDK, TEXT_SIZE, 80, accept=[Code.NOT_SUPPORTED])
        return Identity("Andor", model, str(serial), f"SDK {version}" if code == Code.SUCCESS else "")

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
        """Get the ceiling of the ADC for one exposure, in counts.

        The register may fill below it when many rows are binned; no function of the library tells.
        """
        return (1 << self._bits) - 1

    @property
    def cooler(self) -> CoolerState:
        """Measure the state of the cooler; waits for the end of an exposure, as most cameras cannot tell during one.

        Raises ConnectionLost when the camera does not answer.
        """
        code, (temperature_c,) = self._call_when_idle("GetTemperatureF", accept=_COOLER_CODES)
        if round(temperature_c) == TEMPERATURE_WITHOUT_CAMERA_C:
            self._raise("the camera does not answer", code, ConnectionLost)
        text = code_in_words(code).partition(", ")[2]
        return CoolerState(code != Code.TEMP_OFF, float(temperature_c), code == Code.TEMP_STABILIZED, text)

    def cool_to(self, temperature_c: float) -> None:
        """Control the set-point in °C and switch cooler and fan on; returns at once.

        Raises InputError for a set-point that is not a whole degree or beyond the range of the camera.
        """
        if temperature_c != round(temperature_c):
            raise InputError(f"{self.name} takes whole degrees, not {temperature_c} degC")
        _, (least_c, most_c) = self._call_when_idle("GetTemperatureRange")
        if not least_c <= temperature_c <= most_c:
            raise InputError(
                f"the camera cannot be set to {temperature_c:g} degC; its range is {least_c} to {most_c} degC",
                where=self.name,
                state="the cooler was left as it was",
                todo="correct `temperature` in the bench file",
            )
        self._call_when_idle("SetTemperature", round(temperature_c))
        if Feature.FAN in self._features:
            self._call("SetFanMode", _FAN_FULL)
        self._call("CoolerON")
        code, (on,) = self._call("IsCoolerOn")
        if not on:
            self._raise("the cooler was switched on but reports that it is off", code)

    @property
    def exposure_s(self) -> float:
        """Get the true exposure in s, as the camera will make it."""
        return self._exposure_s

    def set_exposure(self, exposure_s: float) -> float:
        """Control the exposure in s, 0 to 3600; returns the true exposure, which is rounded up.

        Raises InstrumentError while an exposure is under way.
        """
        if not 0 <= exposure_s <= MOST_EXPOSURE_S:
            raise InputError(f"the exposure must lie in 0 to {MOST_EXPOSURE_S:g} s, not {exposure_s:g} s")
        self._call("SetExposureTime", float(exposure_s))
        self._read_timings()
        return self._exposure_s

    @property
    def cycle_s(self) -> float:
        """Get the time from one exposure to the next in s, as the library calculates it."""
        return self._cycle_s

    def start(self) -> None:
        """Start one exposure; returns at once. Raises InstrumentError if one is under way."""
        self._stop.clear()
        self._move_shutter(ShutterMode.OPEN if self._options.shutter == "open" else ShutterMode.AUTO)
        self._call("StartAcquisition")
        self._exposing = True
        self._ends_s = self.clock.now() + self._cycle_s

    def read(self) -> NDArray[np.int32]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Wait for the end of the exposure and read it, shape (pixels,), counts of the ADC.

        Raises Aborted when :meth:`abort` or :meth:`make_safe` stopped it, InstrumentTimeout when it does not end,
        ConnectionLost when the camera is gone.
        """
        if self._stop.is_set():
            raise Aborted("the exposure was stopped", where=self.name)
        if not self._exposing:
            raise InstrumentError("no exposure was started", where=self.name, todo="call start() before read()")
        self._wait_for_end()
        code, (counts,) = self._call("GetAcquiredData", self._pixels, self._pixels, accept=[Code.NO_NEW_DATA])
        self._exposing = False
        if code == Code.NO_NEW_DATA:
            if self._stop.is_set():
                raise Aborted("the exposure was stopped", where=self.name)
            self._raise("the exposure ended without data", code, todo="repeat the point")
        return self._checked(np.asarray(counts, dtype=np.int32))

    def _checked(self, counts: NDArray[np.int32]) -> NDArray[np.int32]:
        """Get a frame if the converter can have given it: within its range, and no stretch without its offset."""
        low, high = int(counts.min()), int(counts.max())
        if low < 0 or high > self.full_scale_counts:
            what = f"counts of {low} to {high}; the converter gives 0 to {self.full_scale_counts}"
        elif (empty := int((counts == 0).sum())) >= _EMPTY_SHARE * len(counts):
            what = f"{empty} of {len(counts)} pixels without a count, not even the offset: they were not read out"
        else:
            return counts
        raise InstrumentError(
            f"the frame has {what}", exchange=self.adapter.last, where=self.name, todo="repeat the point"
        )

    def abort(self) -> None:
        """Stop an exposure; nothing happens when none is under way."""
        self._stop.set()
        self._call("AbortAcquisition", accept=[Code.IDLE])
        deadline = self.clock.now() + _IDLE_TIMEOUT_S
        while (status := self._status()) != Code.IDLE:
            if self.clock.now() > deadline:
                self._raise("the camera goes on after AbortAcquisition", status, InstrumentTimeout)
            self.clock.sleep(_POLL_S)
        self._exposing = False

    def make_safe(self) -> list[SafeStep]:
        """Stop the exposure, close the camera shutter, lower the EM gain; the cooler stays as it is."""
        self._stop.set()
        steps = [self._safe_step("stop exposure and close camera shutter", self._stop_safely)]
        if self._has_em_gain:
            steps.append(self._safe_step("lower EM gain", self._lower_em_gain))
        return steps

    def close(self) -> None:
        """Stop, close the shutter and release the library; what cannot be done is logged.

        The sensor stays cold if the camera can do that and ``warm_up`` is false; else it is warmed first.
        """
        try:
            if self._initialized:
                self._shut_down()
        except LabctlError as error:
            log.error("%s: closing: %s", self.name, error)
        finally:
            self._initialized = False
            self.adapter.close()

    def _initialize(self) -> None:
        _, (cameras,) = self._call("GetAvailableCameras", timeout_s=_INITIALIZE_TIMEOUT_S)
        index = self._options.camera
        if not 0 <= index < cameras:
            raise ConnectionLost(
                f"the library finds {cameras} camera(s), and number {index} is asked for",
                exchange=self.adapter.last,
                where=self.name,
                state="no camera was opened",
                todo="switch the camera on, check its cable, and close other programs that use it",
            )
        _, (handle,) = self._call("GetCameraHandle", index)
        self._call("SetCurrentCamera", handle)
        # Whoever used the library before in this process may have left it at work, and it then refuses Initialize.
        self._call("AbortAcquisition", accept=[Code.IDLE, Code.NOT_INITIALIZED])
        directory = self._options.directory
        if directory is None:
            directory = "" if sys.platform == "win32" else "/usr/local/etc/andor"
        self._call("Initialize", directory, timeout_s=_INITIALIZE_TIMEOUT_S)
        self._initialized = True

    def _capabilities(self) -> list[int]:
        """Get AndorCapabilities; older libraries know fewer fields and refuse a structure that is too long."""
        for length in (len(CAPABILITY_FIELDS), len(CAPABILITY_FIELDS) - 1):
            code, (fields,) = self._call("GetCapabilities", length, accept=[Code.P1INVALID])
            if code == Code.SUCCESS:
                return [int(field) for field in fields]
        _, (fields,) = self._call("GetCapabilities", len(CAPABILITY_FIELDS) - 2)
        return [int(field) for field in fields]

    def _set_amplifier(self) -> None:
        """Choose converter, register, speeds and gain; the order matters to the library."""
        self._call("SetADChannel", _CHANNEL)
        _, (bits,) = self._call("GetBitDepth", _CHANNEL)
        if not 1 <= bits <= _MOST_BITS:
            self._refuse_answer(f"a converter of {bits} bits")
        self._bits = bits
        amplifier = self._conventional_amplifier()
        self._call("SetOutputAmplifier", amplifier)
        _, (count,) = self._call("GetNumberHSSpeeds", _CHANNEL, amplifier)
        speeds = [self._call("GetHSSpeed", _CHANNEL, amplifier, index)[1][0] for index in range(count)]
        speed = self._choice("hs_speed_mhz", self._options.hs_speed_mhz, speeds)
        self._call("SetHSSpeed", amplifier, speed)
        _, (count,) = self._call("GetNumberPreAmpGains")
        gains = [self._call("GetPreAmpGain", index)[1][0] for index in range(count)]
        gain = self._choice("preamp_gain", self._options.preamp_gain, gains)
        _, (available,) = self._call("IsPreAmpGainAvailable", _CHANNEL, amplifier, speed, gain)
        if not available:
            raise InputError(f"{self.name} has no gain {gains[gain]:g} at {speeds[speed]:g} MHz")
        self._call("SetPreAmpGain", gain)
        code, (vertical, _us) = self._call("GetFastestRecommendedVSSpeed", accept=[Code.NOT_SUPPORTED])
        if code == Code.SUCCESS:
            self._call("SetVSSpeed", vertical)

    def _conventional_amplifier(self) -> int:
        """Get the index of the register without electron multiplication; heads without one have only index 0."""
        _, (count,) = self._call("GetNumberAmp")
        for index in range(count):
            if "conventional" in self._call("GetAmpDesc", index, TEXT_SIZE, 21)[1][0].lower():
                return index
        return 0

    def _choice(self, option: str, wanted: float | None, offered: list[float]) -> int:
        if wanted is None:
            return 0
        for index, value in enumerate(offered):
            if abs(value - wanted) <= 0.01 * wanted:
                return index
        raise InputError(
            f"{option} = {wanted:g} is not offered by {self.name}",
            where="options of the detector in the bench file",
            todo=f"choose one of {', '.join(f'{value:g}' for value in offered)}",
        )

    def _lower_em_gain(self) -> str:
        if not self._has_em_gain:
            return ""
        _, (least, _most) = self._call("GetEMGainRange", timeout_s=_SAFE_CALL_S)
        self._call("SetEMCCDGain", least, timeout_s=_SAFE_CALL_S)
        code, (gain,) = self._call("GetEMCCDGain", timeout_s=_SAFE_CALL_S)
        if gain != least:
            self._raise(f"the EM gain was set to {least} and reads {gain}", code)
        return f"EM gain reads {gain}, its minimum"

    def _move_shutter(self, mode: ShutterMode) -> str:
        """Set the shutter mode unless it is set already; a camera without a shutter output is left alone."""
        if self._options.shutter == "none" or Feature.SHUTTER not in self._features:
            return "no camera shutter"
        if mode is not self._shutter_mode:
            options = self._options
            self._shutter_mode = None
            times_ms = (options.shutter_close_ms, options.shutter_open_ms)
            self._call("SetShutter", int(options.shutter_ttl_high), mode, *times_ms, timeout_s=_SAFE_CALL_S)
            self._shutter_mode = mode
        return f"shutter set to {mode.name.lower()} (the library has no read-back of it)"

    def _read_timings(self) -> None:
        _, (exposure_s, accumulate_s, _kinetic_s) = self._call("GetAcquisitionTimings")
        self._exposure_s = _as_f32_prints(exposure_s)
        self._cycle_s = max(_as_f32_prints(accumulate_s), self._exposure_s)

    def _wait_for_end(self) -> None:
        deadline = self._ends_s + _READ_OUT_MARGIN_S
        while not self._stop.is_set():
            begin = self.clock.now()
            slice_s = min(max(self._ends_s - begin, 0.0) + _SLICE_MARGIN_S, _SLICE_S)
            code, _ = self._call(
                "WaitForAcquisitionTimeOut",
                round(slice_s * 1000),
                accept=[Code.NO_NEW_DATA],
                timeout_s=slice_s + _READ_OUT_MARGIN_S,
            )
            # An event may be early, stale or lost: the status alone tells that the exposure has ended.
            if (status := self._status()) == Code.IDLE:
                return
            if status != Code.ACQUIRING:
                self._give_up(f"the exposure failed: {code_in_words(status)}", InstrumentError)
            if self.clock.now() > deadline:
                self._give_up(f"the exposure of {self._exposure_s:g} s has not ended", InstrumentTimeout)
            if code == Code.SUCCESS or self.clock.now() < begin + slice_s / 2:
                self.clock.sleep(_POLL_S)
        self._exposing = False
        raise Aborted("the exposure was stopped", where=self.name)

    def _give_up(self, what: str, kind: type[InstrumentError]) -> NoReturn:
        exchange = self.adapter.last
        self.abort()
        raise kind(what, exchange=exchange, where=self.name, state="the exposure was aborted", todo="repeat the point")

    def _status(self) -> int:
        _, (status,) = self._call("GetStatus", timeout_s=_SAFE_CALL_S)
        return status

    def _stop_safely(self) -> str:
        self.abort()
        shutter = self._move_shutter(ShutterMode.CLOSED)
        return f"GetStatus reads {code_in_words(Code.IDLE)}; {shutter}"

    def _safe_step(self, action: str, act: Callable[[], str]) -> SafeStep:
        try:
            return SafeStep(action, True, act())
        except LabctlError as error:
            return SafeStep(action, False, str(error))

    def _shut_down(self) -> None:
        for step in self.make_safe():
            if not step.confirmed:
                log.error("%s: closing: %s: %s", self.name, step.action, step.evidence)
        mode = _WARM_TO_AMBIENT if self._options.warm_up else _KEEP_COLD
        code, _ = self._call("SetCoolerMode", mode, accept=[Code.NOT_SUPPORTED])
        if self._options.warm_up or code == Code.NOT_SUPPORTED:
            self._warm_up()
        else:
            log.info("%s: the cooler is left as it is", self.name)
        self._call("ShutDown", timeout_s=_INITIALIZE_TIMEOUT_S)

    def _warm_up(self) -> None:
        """Switch the cooler off and wait: ShutDown stops controlling the rate at which the sensor warms."""
        self._call("CoolerOFF")
        deadline = self.clock.now() + WARM_UP_TIMEOUT_S
        while (temperature_c := self.cooler.temperature_c) < WARM_C:
            if self.clock.now() > deadline:
                log.error("%s: still at %.0f degC after %g s", self.name, temperature_c, WARM_UP_TIMEOUT_S)
                return
            log.info("%s: warming up, %.0f degC", self.name, temperature_c)
            self.clock.sleep(_WARM_UP_POLL_S)

    def _call_when_idle(self, function: str, *arguments: Any, accept: Collection[int] = ()) -> tuple[int, Any]:
        """Call a function that the library refuses during an exposure; waits for its end."""
        deadline = max(self._ends_s, self.clock.now()) + _READ_OUT_MARGIN_S
        while True:
            code, outputs = self._call(function, *arguments, accept=[*accept, Code.ACQUIRING])
            if code != Code.ACQUIRING:
                return code, outputs
            if self.clock.now() > deadline:
                self._raise(f"{function} had to wait for an exposure that does not end", code, InstrumentTimeout)
            self.clock.sleep(_POLL_S)

    def _call(
        self, function: str, *arguments: Any, accept: Collection[int] = (), timeout_s: float | None = None
    ) -> tuple[int, Any]:
        """Call a function; raises for a code other than success and those accepted."""
        code, outputs = self.adapter.call(function, *arguments, timeout_s=timeout_s)
        if code == Code.SUCCESS or code in accept:
            if any(isinstance(value, float) and not math.isfinite(value) for value in outputs):
                self._raise(f"{function} gave a number that is none", code)
            return code, outputs
        if code in CAMERA_LOST:
            self._raise(
                "the camera is gone",
                code,
                ConnectionLost,
                todo="check its power and cable, close other programs that use it, then open the bench again",
            )
        self._raise(f"{function} failed", code)

    def _refuse_answer(self, what: str) -> NoReturn:
        raise InstrumentError(
            f"the camera states {what}",
            exchange=self.adapter.last,
            where=self.name,
            todo="open the bench again; switch the camera off and on",
        )

    def _raise(
        self, what: str, code: int, kind: type[InstrumentError] = InstrumentError, state: str = "", todo: str = ""
    ) -> NoReturn:
        raise kind(
            f"{what}: {code_in_words(code)}", exchange=self.adapter.last, where=self.name, state=state, todo=todo
        )


def _as_f32_prints(value: float) -> float:
    """Get a 32-bit float as the decimal number it stands for (0.1, not 0.10000000149): it holds seven digits."""
    return float(f"{value:.7g}")
