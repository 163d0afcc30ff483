"""Simulated Andor spectrograph library with an SR-303i behind it: both families of functions, codes and states.

The methods are named as the functions of the library, without prefix, by the names of the ``ATSpectrograph`` family;
they take the arguments behind the device and give code and outputs. A function that is not simulated answers 20292.
Its wavelengths are those that it believes: they know nothing of what a lamp would find.

Constructed or assumed, because the sources leave it open: all durations (guesses of another simulator), the limits of
gratings, pixels that are forgotten by Initialize, 20292 for a part that is not mounted, 20268 for a wavelength table of
another length than was set, what a switched-off spectrograph answers, what state the shutter has before it is set
(closed), and that offsets in steps move no wavelength here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from drivers.spectrograph.andor_shamrock_calls import FAMILIES, Code, Port, ShutterMode, Slit, code_in_words

Answer = tuple[Code, Sequence[Any]]

SERIAL = "SR-1234"
_RANGE_NM_LINES_PER_MM = 1.5e6
"""The drive turns up to a fixed angle, so that limit times groove density is constant: 5000 nm at 300 lines/mm."""
_NO_CALIBRATION_NM = 25.0
_SLIT_UM = (10.0, 2500.0)
_GRATING_OFFSET = 20000
_DETECTOR_OFFSET = 240000
_FOCUS_STEPS = 600
_REPLY_S = 1e-3
_WITHOUT_DEVICE = frozenset({"Initialize", "Close", "GetNumberDevices", "GetFunctionReturnDescription"})
_MOVES = frozenset({"SetWavelength", "SetGrating"})
_OTHER_NAMES = {
    "AutoSlitIsPresent": "SlitIsPresent",
    "SetAutoSlitWidth": "SetSlitWidth",
    "GetAutoSlitWidth": "GetSlitWidth",
    "AutoSlitReset": "SlitReset",
    "IsModePossible": "IsShutterModePossible",
    "SetDetectorOffsetEx": "SetDetectorOffset",
    "GetDetectorOffsetEx": "GetDetectorOffset",
}
"""``ATSpectrograph`` names of functions that the ``Shamrock`` family calls otherwise."""
_OF_OLD_MODELS = frozenset({"SlitIsPresent", "SlitReset", "SetSlit", "GetSlit"})
"""``Shamrock`` functions for the input slit of models that had but one."""


class AndorShamrockLibrary:
    """The library and one spectrograph, which keeps its state when the library is closed.

    :param laboratory: The simulated laboratory.
    :param options: See :class:`Options`.
    """

    class Options(BaseModel):
        """Options of the simulation; those of the driver are in the same table and are not looked at.

        :param installed: Lines per mm and blaze of each grating; 0 lines for a mirror.
        :param slew_nm_s: Speed of a wavelength drive in nm/s.
        :param grating_change_s: Time of a grating change in s.
        :param initialize_s: Time that Initialize takes in s.
        :param grating_shift_nm: By how much a grating change leaves the wavelength off.
        :param has_shutter: Whether there is a built-in shutter; ``has_bnc`` whether it can follow its BNC input.
        :param slits: Motorised slits, 1 to 4.
        :param filters: Names of the filters in the wheel; none without a wheel.
        :param flippers: Flipper mirrors: 1 input, 2 output.
        :param has_focus: Whether there is a focus mirror.
        :param spurious: How many moves are answered with 20201 although they work.
        :param awkward: Left by another program: initialised, in zero order with its last grating, shutter open, the
            pixels of another detector, and the next two moves answered with 20201.
        """

        model_config = ConfigDict(frozen=True, extra="ignore")

        installed: tuple[tuple[float, str], ...] = ((600.0, "500"), (150.0, "500"), (1200.0, "500"))
        slew_nm_s: float = Field(default=1000.0, gt=0)
        grating_change_s: float = Field(default=5.0, ge=0)
        initialize_s: float = Field(default=2.0, ge=0)
        grating_shift_nm: float = 0.0
        has_shutter: bool = True
        has_bnc: bool = False
        slits: tuple[int, ...] = (Slit.INPUT_SIDE,)
        filters: tuple[str, ...] = ()
        flippers: tuple[int, ...] = ()
        has_focus: bool = True
        spurious: int = Field(default=0, ge=0)
        awkward: bool = False

    def __init__(self, laboratory: Any, role: str, options: Mapping[str, Any]) -> None:
        self.options = self.Options.model_validate(dict(options))
        self._laboratory = laboratory
        self._truth = laboratory.truth.spectrograph
        self._powered = True
        self._free_at = 0.0
        self._spurious = self.options.spurious
        self._slits_um = {number: _SLIT_UM[0] for number in self.options.slits}
        self._ports = {number: Port.DIRECT for number in self.options.flippers}
        self._filter = 1
        self._focus = _FOCUS_STEPS // 2
        self._grating_offsets = [0] * len(self.options.installed)
        self._detector_offsets: dict[tuple[int, int], int] = {}
        self._shutter = ShutterMode.NEVER_SET
        self._grating = 1
        self._wavelength_nm = float(self._truth.initial_centre_nm)
        self._initialized = False
        self._pixels, self._pixel_um = 0, 0.0
        if self.options.awkward:
            self._initialized = True
            self._grating = len(self.options.installed)
            self._wavelength_nm = 0.0
            self._shutter = ShutterMode.OPEN if self.options.has_shutter else ShutterMode.NEVER_SET
            self._pixels, self._pixel_um = 2048, 13.5
            self._spurious += 2
        self._tell_laboratory(0.0)

    def power_off(self) -> None:
        """Cut its power, or pull its plug."""
        self._powered = False

    def power_on(self, t: float) -> None:
        """Give the power back at ``t``: grating 1, 0 nm, shutter not set; the library has to be initialised anew."""
        self._powered = True
        self._initialized = False
        self._grating, self._wavelength_nm, self._shutter = 1, 0.0, ShutterMode.NEVER_SET
        self._tell_laboratory(t)

    def call(self, t: float, function: str, arguments: Sequence[Any]) -> tuple[float, int, Sequence[Any]]:
        """Call a function at ``t``; get the moment of return, the code, and the outputs of the call table.

        A call that comes during a move waits for its end.
        """
        start = max(t, self._free_at)
        self._return_s = start + _REPLY_S
        code, outputs = self._answer(start, function, arguments)
        self._free_at = self._return_s
        return self._return_s, int(code), outputs

    def _answer(self, t: float, function: str, arguments: Sequence[Any]) -> Answer:
        prefix = next((prefix for prefix in FAMILIES if function.startswith(prefix)), "")
        suffix = function.removeprefix(prefix)
        if not prefix or suffix not in FAMILIES[prefix].signatures:
            return Code.NOT_AVAILABLE, []
        given = _without_text_sizes(prefix, suffix, arguments)
        method = self._method(prefix, suffix)
        if suffix in _WITHOUT_DEVICE:
            return method(t, *given) if method else (Code.NOT_AVAILABLE, [])
        if not self._initialized:
            return Code.NOT_INITIALIZED, []
        if not self._powered:
            return Code.COMMUNICATION_ERROR, []
        device, *rest = given
        if device != 0:
            return Code.P1INVALID, []
        if method is None:
            return Code.NOT_AVAILABLE, []
        code, outputs = method(t, *rest)
        if suffix in _MOVES and code == Code.SUCCESS and self._spurious > 0:
            self._spurious -= 1
            return Code.COMMUNICATION_ERROR, []
        return code, outputs

    def _method(self, prefix: str, suffix: str) -> Callable[..., Answer] | None:
        if prefix == "Shamrock" and suffix in _OF_OLD_MODELS:
            return getattr(self, f"Old{suffix}", None)
        return getattr(self, _OTHER_NAMES.get(suffix, suffix), None)

    # Life cycle and identity

    def Initialize(self, t: float, ini_path: str) -> Answer:
        self._return_s = t + self.options.initialize_s
        if not self._powered:
            return Code.COMMUNICATION_ERROR, []
        self._initialized = True
        self._pixels, self._pixel_um = 0, 0.0
        return Code.SUCCESS, []

    def Close(self, t: float) -> Answer:
        if not self._initialized:
            return Code.NOT_INITIALIZED, []
        self._initialized = False
        return Code.SUCCESS, []

    def GetNumberDevices(self, t: float) -> Answer:
        return (Code.SUCCESS, [1]) if self._initialized else (Code.NOT_INITIALIZED, [])

    def GetFunctionReturnDescription(self, t: float, code: int) -> Answer:
        return Code.SUCCESS, [code_in_words(code)[:63]]

    def GetSerialNumber(self, t: float) -> Answer:
        return Code.SUCCESS, [SERIAL]

    def EepromGetOpticalParams(self, t: float) -> Answer:
        truth = self._truth
        values = truth.focal_length_mm * 1e-3, 2.0 * truth.half_angle_deg, truth.detector_angle_deg
        return Code.SUCCESS, [_f32(value) for value in values]

    # Gratings and wavelength

    def GratingIsPresent(self, t: float) -> Answer:
        return Code.SUCCESS, [1]

    def GetNumberGratings(self, t: float) -> Answer:
        return Code.SUCCESS, [len(self.options.installed)]

    def GetGrating(self, t: float) -> Answer:
        return Code.SUCCESS, [self._grating]

    def GetGratingInfo(self, t: float, number: int) -> Answer:
        if not self._has_grating(number):
            return Code.P2INVALID, []
        lines, blaze = self.options.installed[number - 1]
        return Code.SUCCESS, [_f32(lines), blaze, 1000 * number, self._grating_offsets[number - 1]]

    def SetGrating(self, t: float, number: int) -> Answer:
        if not self._has_grating(number):
            return Code.P2INVALID, []
        if number != self._grating:
            self._grating = number
            self._return_s = t + self.options.grating_change_s
            _, longest_nm = self._limits_nm(number)
            self._wavelength_nm = min(max(self._wavelength_nm + self.options.grating_shift_nm, 0.0), longest_nm)
            self._focus = _FOCUS_STEPS // 2 + 10 * number
            self._tell_laboratory(self._return_s)
        return Code.SUCCESS, []

    def GetGratingOffset(self, t: float, number: int) -> Answer:
        if not self._has_grating(number):
            return Code.P2INVALID, []
        return Code.SUCCESS, [self._grating_offsets[number - 1]]

    def SetGratingOffset(self, t: float, number: int, steps: int) -> Answer:
        if not self._has_grating(number):
            return Code.P2INVALID, []
        if abs(steps) > _GRATING_OFFSET:
            return Code.P3INVALID, []
        self._grating_offsets[number - 1] = steps
        return Code.SUCCESS, []

    def GetDetectorOffset(self, t: float, entrance: int = 0, exit_: int = 0) -> Answer:
        return Code.SUCCESS, [self._detector_offsets.get((entrance, exit_), 0)]

    def SetDetectorOffset(self, t: float, *ports_and_steps: int) -> Answer:
        """Take the ports of entrance and exit, of which the old function knows nothing, and the steps."""
        *ports, steps = ports_and_steps
        if abs(steps) > _DETECTOR_OFFSET:
            return (Code.P4INVALID if ports else Code.P2INVALID), []
        entrance, exit_ = ports or (0, 0)
        self._detector_offsets[entrance, exit_] = steps
        return Code.SUCCESS, []

    def WavelengthIsPresent(self, t: float) -> Answer:
        return Code.SUCCESS, [1]

    def GetWavelength(self, t: float) -> Answer:
        return Code.SUCCESS, [_f32(self._wavelength_nm)]

    def GetWavelengthLimits(self, t: float, number: int) -> Answer:
        if not self._has_grating(number):
            return Code.P2INVALID, []
        return Code.SUCCESS, [_f32(limit) for limit in self._limits_nm(number)]

    def SetWavelength(self, t: float, wavelength_nm: float) -> Answer:
        shortest_nm, longest_nm = self._limits_nm(self._grating)
        if not shortest_nm <= wavelength_nm <= longest_nm:
            return Code.P2INVALID, []
        target_nm = _f32(wavelength_nm)
        self._return_s = t + abs(target_nm - self._wavelength_nm) / self.options.slew_nm_s + _REPLY_S
        self._wavelength_nm = target_nm
        self._laboratory.spectrograph.slew(t, self._return_s, float(f"{target_nm:.7g}"))
        return Code.SUCCESS, []

    def WavelengthReset(self, t: float) -> Answer:
        return self.SetWavelength(t, 0.0)

    def GotoZeroOrder(self, t: float) -> Answer:
        return self.SetWavelength(t, 0.0)

    def AtZeroOrder(self, t: float) -> Answer:
        return Code.SUCCESS, [int(self._wavelength_nm == 0.0)]

    # The wavelength of each pixel

    def SetPixelWidth(self, t: float, width_um: float) -> Answer:
        if width_um < 0:
            return Code.P2INVALID, []
        self._pixel_um = _f32(width_um)
        return Code.SUCCESS, []

    def GetPixelWidth(self, t: float) -> Answer:
        return Code.SUCCESS, [self._pixel_um]

    def SetNumberPixels(self, t: float, pixels: int) -> Answer:
        if pixels < 0:
            return Code.P2INVALID, []
        self._pixels = pixels
        return Code.SUCCESS, []

    def GetNumberPixels(self, t: float) -> Answer:
        return Code.SUCCESS, [self._pixels]

    def GetCalibration(self, t: float, count: int, pixels: int) -> Answer:
        lines, _ = self.options.installed[self._grating - 1]
        if not lines or self._wavelength_nm < _NO_CALIBRATION_NM:
            return Code.ERROR, []
        if pixels != self._pixels or count < pixels:
            return Code.P3INVALID, []
        # The offset is the laboratory's secret: it is taken out of the true wavelengths again.
        believed_nm = self._wavelength_nm - self._truth.offset_nm
        table = self._laboratory.spectrograph.wavelengths_nm(believed_nm, lines, pixels, self._pixel_um)
        return Code.SUCCESS, [np.concatenate([table, np.zeros(count - pixels)]).astype(np.float32)]

    # Shutter, slits, filters, mirrors

    def ShutterIsPresent(self, t: float) -> Answer:
        return Code.SUCCESS, [int(self.options.has_shutter)]

    def IsShutterModePossible(self, t: float, mode: int) -> Answer:
        return Code.SUCCESS, [int(self._has_mode(mode))]

    def GetShutter(self, t: float) -> Answer:
        return (Code.SUCCESS, [int(self._shutter)]) if self.options.has_shutter else (Code.NOT_AVAILABLE, [])

    def SetShutter(self, t: float, mode: int) -> Answer:
        if not self.options.has_shutter:
            return Code.NOT_AVAILABLE, []
        if not self._has_mode(mode):
            return Code.P2INVALID, []
        self._shutter = ShutterMode(mode)
        self._tell_laboratory(t)
        return Code.SUCCESS, []

    def SlitIsPresent(self, t: float, slit: int) -> Answer:
        return (Code.SUCCESS, [int(slit in self._slits_um)]) if slit in set(Slit) else (Code.P2INVALID, [])

    def GetSlitWidth(self, t: float, slit: int) -> Answer:
        if slit not in self._slits_um:
            return Code.NOT_AVAILABLE, []
        return Code.SUCCESS, [_f32(self._slits_um[slit])]

    def SetSlitWidth(self, t: float, slit: int, width_um: float) -> Answer:
        if slit not in self._slits_um:
            return Code.NOT_AVAILABLE, []
        if not _SLIT_UM[0] <= width_um <= _SLIT_UM[1]:
            return Code.P3INVALID, []
        self._return_s = t + abs(width_um - self._slits_um[slit]) / 500.0 + _REPLY_S
        self._slits_um[slit] = width_um
        return Code.SUCCESS, []

    def SlitReset(self, t: float, slit: int) -> Answer:
        return self.SetSlitWidth(t, slit, _SLIT_UM[0])

    def OldSlitIsPresent(self, t: float) -> Answer:
        return Code.SUCCESS, [0]

    def FilterIsPresent(self, t: float) -> Answer:
        return Code.SUCCESS, [int(bool(self.options.filters))]

    def GetFilter(self, t: float) -> Answer:
        return (Code.SUCCESS, [self._filter]) if self.options.filters else (Code.NOT_AVAILABLE, [])

    def SetFilter(self, t: float, position: int) -> Answer:
        if not self.options.filters:
            return Code.NOT_AVAILABLE, []
        if not 1 <= position <= len(self.options.filters):
            return Code.P2INVALID, []
        self._return_s = t + 1.0 * abs(position - self._filter) + _REPLY_S
        self._filter = position
        return Code.SUCCESS, []

    def GetFilterInfo(self, t: float, position: int) -> Answer:
        if not 1 <= position <= len(self.options.filters):
            return (Code.P2INVALID if self.options.filters else Code.NOT_AVAILABLE), []
        return Code.SUCCESS, [self.options.filters[position - 1]]

    def FlipperMirrorIsPresent(self, t: float, flipper: int) -> Answer:
        return (Code.SUCCESS, [int(flipper in self._ports)]) if flipper in (1, 2) else (Code.P2INVALID, [])

    def GetFlipperMirror(self, t: float, flipper: int) -> Answer:
        return (Code.SUCCESS, [int(self._ports[flipper])]) if flipper in self._ports else (Code.NOT_AVAILABLE, [])

    def SetFlipperMirror(self, t: float, flipper: int, port: int) -> Answer:
        if flipper not in self._ports:
            return Code.NOT_AVAILABLE, []
        if port not in set(Port):
            return Code.P3INVALID, []
        self._return_s = t + 1.0
        self._ports[flipper] = Port(port)
        return Code.SUCCESS, []

    def FlipperMirrorReset(self, t: float, flipper: int) -> Answer:
        return self.SetFlipperMirror(t, flipper, Port.DIRECT)

    def FocusMirrorIsPresent(self, t: float) -> Answer:
        return Code.SUCCESS, [int(self.options.has_focus)]

    def GetFocusMirror(self, t: float) -> Answer:
        return (Code.SUCCESS, [self._focus]) if self.options.has_focus else (Code.NOT_AVAILABLE, [])

    def GetFocusMirrorMaxSteps(self, t: float) -> Answer:
        return (Code.SUCCESS, [_FOCUS_STEPS]) if self.options.has_focus else (Code.NOT_AVAILABLE, [])

    def SetFocusMirror(self, t: float, steps: int) -> Answer:
        """Move by ``steps``: it is the one function that is relative."""
        if not self.options.has_focus:
            return Code.NOT_AVAILABLE, []
        if not 0 <= self._focus + steps <= _FOCUS_STEPS:
            return Code.P2INVALID, []
        self._return_s = t + abs(steps) / 100.0 + _REPLY_S
        self._focus += steps
        return Code.SUCCESS, []

    def AccessoryIsPresent(self, t: float) -> Answer:
        return Code.SUCCESS, [0]

    def IrisIsPresent(self, t: float, iris: int) -> Answer:
        return Code.SUCCESS, [0]

    # What they stand on

    def _has_grating(self, number: int) -> bool:
        return 1 <= number <= len(self.options.installed)

    def _has_mode(self, mode: int) -> bool:
        possible = {ShutterMode.CLOSED, ShutterMode.OPEN} | ({ShutterMode.BNC} if self.options.has_bnc else set())
        return self.options.has_shutter and mode in possible

    def _limits_nm(self, number: int) -> tuple[float, float]:
        lines, _ = self.options.installed[number - 1]
        return 0.0, (_RANGE_NM_LINES_PER_MM / lines if lines else 0.0)

    def _tell_laboratory(self, t: float) -> None:
        """Tell what stands in the beam; a mirror shows what any grating shows in zero order."""
        spectrograph = self._laboratory.spectrograph
        lines, _ = self.options.installed[self._grating - 1]
        spectrograph.set(t, self._wavelength_nm if lines else 0.0, lines or self._truth.initial_lines_per_mm)
        if self.options.has_shutter:
            spectrograph.let_in(t, self._shutter in (ShutterMode.OPEN, ShutterMode.BNC))


def _without_text_sizes(prefix: str, suffix: str, arguments: Sequence[Any]) -> list[Any]:
    """Get the arguments of a call without the sizes of text buffers, in which the families differ."""
    kept: list[Any] = []
    values = iter(arguments)
    after_text = False
    for parameter in FAMILIES[prefix].signatures[suffix]:
        if parameter.kind == "out":
            after_text = False
            continue
        value = next(values)
        if parameter.kind != "text_out" and not after_text:
            kept.append(value)
        after_text = parameter.kind == "text_out"
    return kept


def _f32(value: float) -> float:
    """Get a number as it passes through a C float."""
    return float(np.float32(value))
