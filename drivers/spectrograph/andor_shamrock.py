"""Andor Shamrock and Kymera spectrographs (SR-303i, Kymera 193i, 328i...) on USB, through the vendor's library.

Moves block until the part stands; there is no position meanwhile and no way to stop them. 20201 appears now and then
although a move works, so a call that gets it is repeated, and at last the library is closed and initialised anew.
All calls that the driver repeats set or read a value; none is relative.

The library knows the wavelength of each pixel from its own calibration. It is fetched after every move
(:meth:`AndorShamrock.wavelengths_nm`), since it follows grating, wavelength, pixel width and offsets.

Zero order: as with every spectrograph, near 0 nm the undispersed light falls on the detector, and an intensified or
electron-multiplying one dies of it. :meth:`AndorShamrock.go_to` refuses it unless told ``allow_zero_order=True``.

The library lives in a process of its own. A spectrograph on the I2C line of its camera shares the camera's library and
process and cannot be used here; one on USB is independent of the camera.

UNVERIFIED on hardware: that the angular deviation of the EEPROM is the full angle between the arms (the axis from the
library does not need it); the sign of the focal tilt; how long moves take at most (60 s are allowed); what is answered
for a part that is not mounted; whether Initialize moves anything; what the library forgets when it is initialised anew
(the pixels are set every time).
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from pymeasure.instruments import Instrument

from drivers.spectrograph.andor_shamrock_calls import (
    FAMILIES,
    LINK,
    NO_CONNECTION,
    Code,
    Flipper,
    Port,
    ShutterMode,
    Slit,
    advice,
    code_in_words,
)
from labctl.clock import Clock
from labctl.errors import Aborted, ConnectionLost, InputError, InstrumentError, LabctlError
from labctl.roles import Grating, Identity, SafeStep, SpectrographGeometry
from labctl.transport.link import LibraryChannel

log = logging.getLogger(__name__)

_INITIALIZE_S = 130.0
_MOVE_S = 60.0
_SAFE_CALL_S = 5.0
_REPEATS = 5
_REPEAT_AFTER_S = 0.1
_TOLERANCE_NM = 0.05
_ZERO_ORDER_NM = 25.0
"""Below this the library itself gives no wavelengths."""
_LEAST_PIXELS = 8
_PLAUSIBLE_DISPERSION = (0.2, 1.2)
"""Dispersion of a wavelength table in units of 10⁶/(G f): the cosine of the angle of diffraction, with some room."""
_SAME_FOCAL_LENGTH = 0.03
"""Relative difference that is rounding: 328 mm are sold as 330."""
_MODELS = ((0.190, 0.200, "Kymera 193i"), (0.296, 0.310, "SR-303i"), (0.326, 0.330, "Kymera 328i"))
"""Range of the focal length in m, and the model that has it."""


class AndorShamrock(Instrument):
    """A Shamrock or Kymera spectrograph.

    :param adapter: Channel to the vendor library.
    :param clock: The clock on which waits run.
    :param options: See :class:`Options`.
    """

    LINK = LINK
    ROLE = "spectrograph"

    class Options(BaseModel):
        """Options of the instrument in the bench file.

        :param device: Index of the spectrograph, from 0.
        :param functions: Family of functions to call; ``Shamrock`` for a library from before SDK 2.103.
        :param flip: The first pixel of the detector is at the other end than the library thinks. Find out with a known
            line.
        :param shutter: What a built-in shutter does while there is something to measure: open, or follow its BNC input.
        :param detector_width_mm: Width on which the zero order is kept away from.
        :param focal_length_mm: Focal length, if the bench file states it: checked against what the spectrograph says.
            The axis itself comes from the spectrograph, so that a stated angle is not looked at.
        :param half_angle_deg: As for spectrographs that do not know their own geometry.
        :param detector_angle_deg: Likewise.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")

        device: int = Field(default=0, ge=0)
        functions: Literal["ATSpectrograph", "Shamrock"] = "ATSpectrograph"
        flip: bool = False
        shutter: Literal["open", "bnc"] = "open"
        detector_width_mm: float = Field(default=30.0, ge=0)
        focal_length_mm: float | None = Field(default=None, gt=0)
        half_angle_deg: float | None = Field(default=None, ge=0, lt=45)
        detector_angle_deg: float | None = Field(default=None, gt=-45, lt=45)

    adapter: LibraryChannel  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self, adapter: LibraryChannel, name: str = "Andor spectrograph", *, clock: Clock, **options: Any
    ) -> None:
        super().__init__(adapter, name, includeSCPI=False)  # pyright: ignore[reportArgumentType]
        self.clock = clock
        self._chosen = self.Options(**options)
        self._family = FAMILIES[self._chosen.functions]
        self._initialized = False
        self._geometry: SpectrographGeometry | None = None
        self._gratings: tuple[Grating, ...] = ()
        self._has_shutter = False
        self._expected_nm: float | None = None
        self._moving = False
        self._stop = threading.Event()

    def start_up(self) -> None:
        """Initialise the library (up to 2 min) and read what is mounted; no move is ordered, no shutter opened.

        Raises InputError for an option that this spectrograph cannot have, ConnectionLost if there is none.
        """
        self._initialize()
        self._geometry = self._read_geometry()
        self._check_focal_length(self._geometry.focal_length_mm)
        self._require("wavelength drive", "WavelengthIsPresent")
        self._require("grating", "GratingIsPresent")
        self._gratings = self._read_gratings()
        self._has_shutter = bool(self._get("ShutterIsPresent"))
        if self._has_shutter and not self._get(self._family.is_shutter_mode_possible, self._working_mode):
            raise InputError(
                f"the shutter of {self.name} has no mode {self._chosen.shutter!r}",
                where="options of the spectrograph in the bench file",
                todo='write shutter = "open"',
            )
        self._expected_nm = self._read_wavelength()
        if self._shows_zero_order(self._expected_nm, self.grating):
            log.info("%s stands at %.3f nm: the zero order is on the detector", self.name, self._expected_nm)

    def _check_focal_length(self, found_mm: float) -> None:
        stated_mm = self._chosen.focal_length_mm
        if stated_mm is not None and abs(found_mm - stated_mm) > _SAME_FOCAL_LENGTH * stated_mm:
            raise InputError(
                f"{self.name} has a focal length of {found_mm:g} mm, not {stated_mm:g} mm",
                where="options of the spectrograph in the bench file",
                todo="correct focal_length_mm, or leave it out: this spectrograph states its own",
            )

    def identify(self) -> Identity:
        """Get serial number and, from the focal length, the model."""
        serial = str(self._get("GetSerialNumber", *self._family.text_arguments))
        focal_m = self.geometry.focal_length_mm * 1e-3
        return Identity("Andor", next((model for low, high, model in _MODELS if low <= focal_m <= high), ""), serial)

    @property
    def wavelength_nm(self) -> float:
        """Measure the centre wavelength in nm as the device reports it.

        Raises InstrumentError, once, if the spectrograph has moved without order.
        """
        found = self._read_wavelength()
        expected, self._expected_nm = self._expected_nm, found
        if expected is not None and abs(found - expected) > _TOLERANCE_NM:
            raise self._error(
                f"the spectrograph stands at {found:.3f} nm instead of {expected:.3f} nm: "
                "it was switched off, or moved by another program",
                state="spectra since the last point are in doubt",
                todo="select grating and wavelength anew",
            )
        return found

    def go_to(self, wavelength_nm: float, *, allow_zero_order: bool = False) -> float:
        """Control the centre wavelength in nm; returns the wavelength read back. Opens a built-in shutter then.

        :param allow_zero_order: Go there even if the zero order falls on the detector. Keep the light off the detector
            before you say so.

        Raises InputError before anything moves, InstrumentError if the device stands elsewhere afterwards, Aborted if
        it was made safe meanwhile.
        """
        if not (math.isfinite(wavelength_nm) and wavelength_nm >= 0):
            raise InputError(f"{wavelength_nm!r} nm is no wavelength", where="spectrograph", todo="give 0 nm or more")
        self._stop.clear()
        grating = self.grating
        if self._shows_zero_order(wavelength_nm, grating) and not allow_zero_order:
            raise InputError(
                f"at {wavelength_nm:g} nm the zero order falls on the detector",
                where="spectrograph",
                todo=f"stay above {self._zero_order_reach_nm(grating):.0f} nm with this grating, or keep the "
                "light off the detector and call go_to(..., allow_zero_order=True)",
            )
        least_nm, most_nm = self._limits_nm(grating)
        if not least_nm <= wavelength_nm <= most_nm:
            raise InputError(
                f"grating {grating.number} does not reach {wavelength_nm:g} nm",
                where="spectrograph",
                todo=f"choose {least_nm:g} to {most_nm:g} nm, or another grating",
            )
        reached = self._move("SetWavelength", float(wavelength_nm))
        if abs(reached - wavelength_nm) > _TOLERANCE_NM:
            raise self._error(
                f"the spectrograph went to {reached:.3f} nm instead of {wavelength_nm:.3f} nm",
                state=f"it stands at {reached:.3f} nm",
                todo="repeat; then switch the spectrograph off and on",
            )
        self._let_light_in()
        return reached

    @property
    def grating(self) -> Grating:
        """Measure which grating is in the beam."""
        number = self._get("GetGrating")
        for grating in self.gratings:
            if grating.number == number:
                return grating
        raise self._error(f"grating {number} is in the beam, but not among the installed ones")

    @property
    def gratings(self) -> Sequence[Grating]:
        """Get the installed gratings, as read at start-up."""
        if not self._gratings:
            self._gratings = self._read_gratings()
        return self._gratings

    def select_grating(self, number: int, *, allow_zero_order: bool = False) -> Grating:
        """Control the grating and keep the wavelength; returns the grating read back. The focus may change.

        :param allow_zero_order: Select a mirror, which throws the zero order on the detector.

        Raises InputError if it is not installed or a mirror, InstrumentError if it was not selected.
        """
        chosen = next((grating for grating in self.gratings if grating.number == number), None)
        if chosen is None:
            known = ", ".join(str(grating.number) for grating in self.gratings)
            raise InputError(f"grating {number} is not installed", where="spectrograph", todo=f"choose one of {known}")
        if not chosen.lines_per_mm and not allow_zero_order:
            raise InputError(f"place {number} holds a mirror", where="spectrograph", todo="choose a grating")
        if self.grating.number == number:
            return chosen
        before_nm = self._read_wavelength()
        after_nm = self._move("SetGrating", number)
        reached = self.grating
        if reached.number != number:
            raise self._error(f"grating {reached.number} is in the beam instead of {number}")
        least_nm, most_nm = self._limits_nm(reached)
        if least_nm <= before_nm <= most_nm:
            after_nm = self._move("SetWavelength", before_nm)
        if abs(after_nm - before_nm) > _TOLERANCE_NM:
            log.warning("grating %d does not reach %.3f nm: it stands at %.3f nm", number, before_nm, after_nm)
        if self._shows_zero_order(after_nm, reached):
            log.warning("with grating %d at %.3f nm the zero order is on the detector", number, after_nm)
        return reached

    @property
    def geometry(self) -> SpectrographGeometry:
        """Get the geometry as the EEPROM of the spectrograph states it, read at start-up."""
        if self._geometry is None:
            self._geometry = self._read_geometry()
        return self._geometry

    def wavelengths_nm(self, pixels: int, pixel_um: float) -> NDArray[np.float64]:
        """Measure the wavelength of each pixel in nm, shape (pixels,), from the library's calibration.

        :param pixels: Number of pixels, at least 8.
        :param pixel_um: Width of a pixel in µm.

        Raises InstrumentError if there is none (for a mirror and in zero order), or one that cannot be true.
        """
        if pixels < _LEAST_PIXELS:
            raise InputError(f"{self.name} has no wavelengths for fewer than {_LEAST_PIXELS} pixels")
        self._set_and_read_back("number of pixels", "NumberPixels", pixels)
        self._set_and_read_back("pixel width", "PixelWidth", float(pixel_um))
        code, (table,) = self._call("GetCalibration", pixels, pixels, accept=[Code.ERROR], timeout_s=_MOVE_S)
        if code == Code.ERROR:
            self._raise("the spectrograph has no wavelengths for the pixels", code)
        table = np.asarray(table, dtype=np.float64)
        self._check_table(table, pixel_um)
        return table[::-1].copy() if self._chosen.flip else table

    def slit_width_um(self, slit: Slit) -> float:
        """Measure the width of a slit in µm; raises InputError if it has no motor."""
        self._require(f"motorised slit {slit.name}", self._family.slit_is_present, slit)
        return _as_f32_prints(self._get(self._family.get_slit_width, slit))

    @property
    def filter_position(self) -> int:
        """Measure the position of the built-in filter wheel, from 1; raises InputError if there is none."""
        self._require("filter wheel", "FilterIsPresent")
        return int(self._get("GetFilter"))

    def port(self, flipper: Flipper) -> Port:
        """Measure where a flipper mirror sends the light; raises InputError if there is none."""
        self._require(f"{flipper.name} flipper mirror", "FlipperMirrorIsPresent", flipper)
        return Port(self._get("GetFlipperMirror", flipper))

    def make_safe(self) -> Sequence[SafeStep]:
        """Close the built-in shutter, if there is one; else report where the spectrograph stands.

        A move cannot be stopped; it is waited for.
        """
        self._stop.set()
        if self._has_shutter:
            return [self._safe_step("close spectrograph shutter", self._close_shutter)]
        return [self._safe_step("leave the spectrograph as it is", self._position_in_words)]

    def close(self) -> None:
        """Release the library; the spectrograph is left as it is. What cannot be done is logged."""
        try:
            if self._initialized:
                self._call("Close", reconnect=False)
        except LabctlError as error:
            log.error("%s: closing: %s", self.name, error)
        finally:
            self._initialized = False
            self.adapter.close()

    @property
    def _working_mode(self) -> ShutterMode:
        return ShutterMode.BNC if self._chosen.shutter == "bnc" else ShutterMode.OPEN

    def _zero_order_reach_nm(self, grating: Grating) -> float:
        """Get the wavelength below which the zero order is on the detector: half its width times 10⁶/(G f) nm/mm."""
        if not grating.lines_per_mm:
            return math.inf
        dispersion_nm_mm = 1e6 / (grating.lines_per_mm * self.geometry.focal_length_mm)
        return max(dispersion_nm_mm * self._chosen.detector_width_mm / 2, _ZERO_ORDER_NM)

    def _shows_zero_order(self, wavelength_nm: float, grating: Grating) -> bool:
        return wavelength_nm <= self._zero_order_reach_nm(grating)

    def _limits_nm(self, grating: Grating) -> tuple[float, float]:
        _, (least_nm, most_nm) = self._call("GetWavelengthLimits", grating.number)
        return _as_f32_prints(least_nm), _as_f32_prints(most_nm)

    def _move(self, function: str, target: float | int) -> float:
        """Move something; get the wavelength afterwards."""
        self._expected_nm = None
        self._moving = True
        self._call(function, target, timeout_s=_MOVE_S)
        # Not after a failure: then something may still be moving.
        self._moving = False
        self._expected_nm = self._read_wavelength()
        return self._expected_nm

    def _let_light_in(self) -> None:
        """Put a built-in shutter to work, unless the safe state was asked for, at whatever moment."""
        if self._has_shutter and not self._stop.is_set():
            self._set_and_read_back("shutter", "Shutter", self._working_mode)
            if self._stop.is_set():
                self._close_shutter()
        if self._stop.is_set():
            raise Aborted("the spectrograph was made safe during a move", where=self.name)

    def _close_shutter(self) -> str:
        self._set_and_read_back("shutter", "Shutter", ShutterMode.CLOSED, timeout_s=self._patience_s, reconnect=False)
        return f"{self.adapter.last}: {ShutterMode.CLOSED.name}"

    def _position_in_words(self) -> str:
        return f"at {self._read_wavelength(timeout_s=self._patience_s, reconnect=False):.3f} nm, {self.adapter.last}"

    @property
    def _patience_s(self) -> float:
        """Get how long the safe state waits for a call: a move before it lasts as long as it lasts."""
        return _MOVE_S if self._moving else _SAFE_CALL_S

    def _safe_step(self, action: str, act: Callable[[], str]) -> SafeStep:
        try:
            return SafeStep(action, True, act())
        except LabctlError as error:
            return SafeStep(action, False, str(error))

    def _initialize(self) -> None:
        """Initialise the library and look for the spectrograph."""
        try:
            self._call("Initialize", "", timeout_s=_INITIALIZE_S, reconnect=False)
        except InstrumentError as error:
            if type(error) is InstrumentError:
                (other,) = set(FAMILIES) - {self._chosen.functions}
                error.todo += f'; or write functions = "{other}" into the options of the spectrograph'
            raise
        self._initialized = True
        _, (found,) = self._call("GetNumberDevices", reconnect=False, timeout_s=_INITIALIZE_S)
        if self._chosen.device >= found:
            raise ConnectionLost(
                f"the library finds {found} spectrograph(s), and number {self._chosen.device} is asked for",
                exchange=self.adapter.last,
                where=self.name,
                state="no spectrograph was opened",
                todo="switch it on, check its USB cable, and close other programs that use it",
            )

    def _reconnect(self) -> None:
        """Close the library and initialise it anew, as the only way back from a lost connection."""
        log.warning("%s: no communication (%s); initialising the library anew", self.name, self.adapter.last)
        self.adapter.call(f"{self._family.prefix}Close", timeout_s=_INITIALIZE_S)
        self._initialized = False
        self._initialize()

    def _read_geometry(self) -> SpectrographGeometry:
        _, (focal_m, deviation_deg, tilt_deg) = self._call("EepromGetOpticalParams")
        if not (0.05 <= focal_m <= 2.0 and 0 <= deviation_deg < 90 and abs(tilt_deg) < 45):
            raise self._error(
                f"the EEPROM states a focal length of {focal_m:g} m, an angular deviation of {deviation_deg:g} deg and "
                f"a focal tilt of {tilt_deg:g} deg",
                todo="switch the spectrograph off and on; ask the vendor to write its EEPROM anew",
            )
        return SpectrographGeometry(
            _as_f32_prints(focal_m * 1e3), _as_f32_prints(deviation_deg / 2), _as_f32_prints(tilt_deg)
        )

    def _read_gratings(self) -> tuple[Grating, ...]:
        gratings = []
        for number in range(1, int(self._get("GetNumberGratings")) + 1):
            _, (lines, blaze, _home, _offset) = self._call("GetGratingInfo", number, *self._family.text_arguments)
            gratings.append(Grating(number, _as_f32_prints(lines), blaze))
        if not gratings:
            raise self._error("no grating is installed", todo="check that the turret is seated")
        return tuple(gratings)

    def _read_wavelength(self, *, timeout_s: float | None = None, reconnect: bool = True) -> float:
        _, (wavelength_nm,) = self._call("GetWavelength", timeout_s=timeout_s, reconnect=reconnect)
        return _as_f32_prints(wavelength_nm)

    def _check_table(self, table: NDArray[np.float64], pixel_um: float) -> None:
        """Check what the library says against the text book; a table of before the move, or of nothing, is found."""
        centre_nm, grating = self._read_wavelength(), self.grating
        steps = np.diff(table)
        if not grating.lines_per_mm:
            what = f"were given for a mirror, {grating.blaze}"
        elif not (np.isfinite(table).all() and ((steps > 0).all() or (steps < 0).all())):
            what = "are not in order"
        elif not table.min() <= centre_nm <= table.max():
            what = f"({table.min():.2f} to {table.max():.2f} nm) leave out the centre, {centre_nm:.2f} nm"
        else:
            text_book_nm = pixel_um * 1e3 / (grating.lines_per_mm * self.geometry.focal_length_mm)
            share = float(np.abs(steps).mean()) / text_book_nm
            if _PLAUSIBLE_DISPERSION[0] <= share <= _PLAUSIBLE_DISPERSION[1]:
                return
            what = f"are {np.abs(steps).mean():.4g} nm apart; 10⁶/(G f) is {text_book_nm:.4g} nm"
        raise self._error(
            f"the wavelengths of the pixels {what}",
            todo="select grating and wavelength anew; then check the calibration with the vendor's program",
        )

    def _set_and_read_back(self, what: str, suffix: str, value: float | int, **call: Any) -> None:
        self._call(f"Set{suffix}", value, **call)
        _, (found,) = self._call(f"Get{suffix}", **call)
        if not math.isclose(found, value, rel_tol=1e-6):
            raise self._error(f"the {what} reads {found:g} after it was set to {value:g}")

    def _require(self, part: str, function: str, *which: int) -> None:
        """Raise InputError unless a part is mounted: without it, functions answer anything, or hang."""
        if not self._get(function, *which):
            raise InputError(
                f"{self.name} has no {part}",
                where=f"{self._family.prefix}{function}",
                todo="leave out what needs it",
            )

    def _get(self, function: str, *arguments: Any) -> Any:
        _, (value,) = self._call(function, *arguments)
        return value

    def _call(
        self,
        function: str,
        *arguments: Any,
        accept: Collection[int] = (),
        timeout_s: float | None = None,
        reconnect: bool = True,
    ) -> tuple[int, Any]:
        """Call a function of the family, with the device where it takes one; repeats and reconnects as needed.

        Raises InstrumentError for a code other than success and those accepted, ConnectionLost if none answers.
        """
        code, outputs = self._ask(function, arguments, timeout_s)
        if code in NO_CONNECTION and reconnect:
            self._reconnect()
            code, outputs = self._ask(function, arguments, timeout_s)
        if code == Code.SUCCESS or code in accept:
            return code, outputs
        self._raise(f"{function} failed", code, ConnectionLost if code in NO_CONNECTION else InstrumentError)

    def _ask(self, function: str, arguments: Sequence[Any], timeout_s: float | None) -> tuple[int, Sequence[Any]]:
        """Call a function, and again after 20201."""
        device = () if function in _WITHOUT_DEVICE else (self._chosen.device,)
        name = f"{self._family.prefix}{function}"
        for _ in range(_REPEATS):
            code, outputs = self.adapter.call(name, *device, *arguments, timeout_s=timeout_s)
            if code != Code.COMMUNICATION_ERROR:
                return code, outputs
            self.clock.sleep(_REPEAT_AFTER_S)
        return self.adapter.call(name, *device, *arguments, timeout_s=timeout_s)

    def _error(self, what: str, *, state: str = "", todo: str = "") -> InstrumentError:
        return InstrumentError(what, exchange=self.adapter.last, where=self.name, state=state, todo=todo)

    def _raise(self, what: str, code: int, kind: type[InstrumentError] = InstrumentError) -> NoReturn:
        raise kind(f"{what}: {code_in_words(code)}", exchange=self.adapter.last, where=self.name, todo=advice(code))


_WITHOUT_DEVICE = frozenset({"Initialize", "Close", "GetNumberDevices"})


def _as_f32_prints(value: float) -> float:
    """Get a 32-bit float as the decimal number it stands for (299.9, not 299.8999939): it holds seven digits."""
    return float(f"{value:.7g}")
