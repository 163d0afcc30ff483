"""The Shamrock driver over the simulated library, in this process; signatures and codes are written from the sheet."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.spectrograph.andor_shamrock import AndorShamrock
from drivers.spectrograph.andor_shamrock_calls import FUNCTIONS, LINK, Flipper, Port, Slit
from drivers.spectrograph.emulators.andor_shamrock import AndorShamrockLibrary
from labctl.bench.bench import Bench as OpenedBench
from labctl.bench.spectrometer import wavelength_axis_nm
from labctl.clock import Clock, RealClock, VirtualClock
from labctl.config.bench import load_bench
from labctl.config.locate import locate
from labctl.config.sample import load_sample
from labctl.errors import Aborted, ConnectionLost, InputError, InstrumentError, InstrumentTimeout, LabctlError
from labctl.roles import CalibratedSpectrograph, Grating, Spectrograph, SpectrographGeometry
from labctl.sim.laboratory import Laboratory, create
from labctl.sim.link import EmulatorChannel

Answer = tuple[float, int, Sequence[Any]]

BOTH = pytest.mark.parametrize("functions", ["ATSpectrograph", "Shamrock"])


class Recorded:
    """A simulated library that notes its calls and can be made to answer otherwise."""

    def __init__(self, library: AndorShamrockLibrary) -> None:
        self.library = library
        self.calls: list[tuple[Any, ...]] = []
        self.instead: dict[str, Callable[[float, Sequence[Any]], Answer]] = {}

    def call(self, t: float, function: str, arguments: Sequence[Any]) -> Answer:
        self.calls.append((function, *arguments))
        if function in self.instead:
            return self.instead[function](t, arguments)
        return self.library.call(t, function, arguments)

    def answer(self, function: str, code: int, *outputs: Any) -> None:
        self.instead[f"ATSpectrograph{function}"] = lambda t, arguments: (t, code, outputs)

    @property
    def names(self) -> list[str]:
        return [call[0].removeprefix("ATSpectrograph").removeprefix("Shamrock") for call in self.calls]


class Bench:
    """Laboratory, simulated library and driver."""

    def __init__(
        self,
        options: Mapping[str, Any] | None = None,
        simulation: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
        optics: Mapping[str, float] | None = None,
    ) -> None:
        self.clock = clock or VirtualClock()
        self.laboratory: Laboratory = create({"spectrograph": dict(optics or {})}, None, 0)
        self.library = Recorded(AndorShamrockLibrary(self.laboratory, "spectrograph", simulation or {}))
        channel = EmulatorChannel(self.library, self.clock, LINK, "spectrograph")
        self.spectrograph = AndorShamrock(channel, clock=self.clock, **(options or {}))

    def ready(self, wavelength_nm: float = 600.0) -> AndorShamrock:
        self.spectrograph.start_up()
        self.spectrograph.go_to(wavelength_nm)
        self.library.calls.clear()
        return self.spectrograph

    @property
    def lets_light_in(self) -> bool:
        now = self.clock.now()
        return self.laboratory.spectrograph.open_share(now, now) == 1.0


def words(function: str) -> str:
    """A signature in short: i an int, f a float, s a text, a an array of floats, with a star where it is returned."""
    short = {"in": "", "out": "*", "text_in": "s", "text_out": "s*", "array_out": "a*"}
    return " ".join(
        short[p.kind] if p.kind.startswith(("text", "array")) else f"{p.type[0]}{short[p.kind]}"
        for p in FUNCTIONS[function]
    )


@pytest.mark.parametrize(
    ("suffix", "shamrock", "atspectrograph"),
    [
        ("Initialize", "s", "s"),
        ("GetFunctionReturnDescription", "i s* i", "i s* i"),
        ("EepromGetOpticalParams", "i f* f* f*", "i f* f* f*"),
        ("GetWavelengthLimits", "i i f* f*", "i i f* f*"),
        ("SetWavelength", "i f", "i f"),
        ("GetCalibration", "i a* i", "i a* i"),
        ("GetPixelCalibrationCoefficients", "i f* f* f* f*", "i f* f* f* f*"),
        ("FlipperMirrorIsPresent", "i i i*", "i i i*"),
        ("GetSerialNumber", "i s*", "i s* i"),
        ("GetGratingInfo", "i i f* s* i* i*", "i i f* s* i i* i*"),
        ("GetFilterInfo", "i i s*", "i i s* i"),
        ("SetDetectorOffset", "i i", "i i i i"),
        ("GetDetectorOffset", "i i*", "i i i i*"),
        ("SlitIsPresent", "i i*", "i i i*"),
        ("SlitReset", "i", "i i"),
    ],
)
def test_same_suffix_different_signature(suffix: str, shamrock: str, atspectrograph: str) -> None:
    assert words(f"Shamrock{suffix}") == shamrock
    assert words(f"ATSpectrograph{suffix}") == atspectrograph


def test_functions_of_one_family_alone() -> None:
    only_shamrock = {
        "AutoSlitIsPresent", "GetAutoSlitWidth", "SetAutoSlitWidth", "AutoSlitReset", "SetDetectorOffsetEx",
        "GetDetectorOffsetEx", "IsModePossible", "SetAccessory", "SetSlit", "GetSlit",
    }  # fmt: skip
    only_new = {"GetSlitWidth", "SetSlitWidth", "IsShutterModePossible", "SetAccessoryState"}
    old = {name.removeprefix("Shamrock") for name in FUNCTIONS if name.startswith("Shamrock")}
    new = {name.removeprefix("ATSpectrograph") for name in FUNCTIONS if name.startswith("ATSpectrograph")}
    assert (old - new, new - old) == (only_shamrock, only_new)


@BOTH
def test_it_is_a_spectrograph_that_states_its_axis(functions: str) -> None:
    spectrograph = Bench({"functions": functions}).ready()
    assert isinstance(spectrograph, Spectrograph) and isinstance(spectrograph, CalibratedSpectrograph)
    identity = spectrograph.identify()
    assert (identity.vendor, identity.model, identity.serial) == ("Andor", "SR-303i", "SR-1234")
    assert spectrograph.geometry == SpectrographGeometry(300.0, 15.2, 1.38)
    assert list(spectrograph.gratings) == [
        Grating(1, 600.0, "500"),
        Grating(2, 150.0, "500"),
        Grating(3, 1200.0, "500"),
    ]
    assert spectrograph.slit_width_um(Slit.INPUT_SIDE) == 10.0


@pytest.mark.parametrize(
    ("focal_length_mm", "model"), [(193.0, "Kymera 193i"), (303.0, "SR-303i"), (328.0, "Kymera 328i"), (500.0, "")]
)
def test_the_model_is_told_by_its_focal_length(focal_length_mm: float, model: str) -> None:
    spectrograph = Bench(optics={"focal_length_mm": focal_length_mm, "detector_angle_deg": -2.17}).ready()
    assert spectrograph.identify().model == model
    assert spectrograph.geometry == SpectrographGeometry(focal_length_mm, 15.2, -2.17)
    assert spectrograph.wavelengths_nm(1024, 26.0)[512] == pytest.approx(600.0, abs=0.2)


@BOTH
def test_only_functions_of_the_family_are_called(functions: str) -> None:
    bench = Bench({"functions": functions}, {"slits": [1], "filters": ["none"], "flippers": [1]})
    spectrograph = bench.spectrograph
    spectrograph.start_up()
    spectrograph.select_grating(2)
    spectrograph.go_to(632.0)
    spectrograph.wavelengths_nm(1024, 26.0)
    spectrograph.identify()
    spectrograph.slit_width_um(Slit.INPUT_SIDE)
    assert (spectrograph.filter_position, spectrograph.port(Flipper.INPUT)) == (1, Port.DIRECT)
    assert all(step.confirmed for step in spectrograph.make_safe())
    spectrograph.close()
    assert {call[0].startswith(functions) for call in bench.library.calls} == {True}


def test_calls_of_a_move_in_their_order() -> None:
    bench = Bench()
    spectrograph = bench.ready()
    assert spectrograph.go_to(546.07) == 546.07
    assert bench.library.calls == [
        ("ATSpectrographGetGrating", 0),
        ("ATSpectrographGetWavelengthLimits", 0, 1),
        ("ATSpectrographSetWavelength", 0, 546.07),
        ("ATSpectrographGetWavelength", 0),
        ("ATSpectrographSetShutter", 0, 1),
        ("ATSpectrographGetShutter", 0),
    ]
    bench.library.calls.clear()
    assert spectrograph.select_grating(3).lines_per_mm == 1200.0
    assert bench.library.names == [
        "GetGrating", "GetWavelength", "SetGrating", "GetWavelength", "GetGrating", "GetWavelengthLimits",
        "SetWavelength", "GetWavelength",
    ]  # fmt: skip
    assert ("ATSpectrographSetWavelength", 0, 546.07) in bench.library.calls
    bench.library.calls.clear()
    spectrograph.wavelengths_nm(1024, 26.0)
    assert bench.library.calls[:5] == [
        ("ATSpectrographSetNumberPixels", 0, 1024),
        ("ATSpectrographGetNumberPixels", 0),
        ("ATSpectrographSetPixelWidth", 0, 26.0),
        ("ATSpectrographGetPixelWidth", 0),
        ("ATSpectrographGetCalibration", 0, 1024, 1024),
    ]


@pytest.mark.parametrize("simulation", [{}, {"awkward": True}, {"spurious": 3}, {"has_shutter": False}])
def test_start_up_moves_and_opens_nothing(simulation: dict[str, Any]) -> None:
    bench = Bench(simulation=simulation)
    bench.spectrograph.start_up()
    setting = {name for name in bench.library.names if name.startswith(("Set", "Goto")) or name.endswith("Reset")}
    assert setting == set()
    assert bench.spectrograph.select_grating(1).number == 1
    assert bench.spectrograph.go_to(650.0) == 650.0
    assert bench.laboratory.spectrograph.at(bench.clock.now()) == (650.0, 600.0)
    assert bench.spectrograph.wavelengths_nm(1024, 26.0)[512] == pytest.approx(650.0, abs=0.1)
    assert bench.lets_light_in


def test_moves_last_and_the_laboratory_follows() -> None:
    bench = Bench()
    spectrograph = bench.ready(100.0)
    start = bench.clock.now()
    spectrograph.go_to(600.0)
    assert bench.clock.now() - start == pytest.approx(0.5, abs=0.02)
    start = bench.clock.now()
    assert spectrograph.select_grating(2).number == 2
    assert bench.clock.now() - start == pytest.approx(5.0, abs=0.02)
    assert bench.laboratory.spectrograph.at(bench.clock.now()) == (600.0, 150.0)


def test_the_wavelength_is_set_again_after_a_grating_change() -> None:
    bench = Bench(simulation={"grating_shift_nm": 1.7})
    spectrograph = bench.ready()
    spectrograph.select_grating(3)
    assert spectrograph.wavelength_nm == 600.0


def test_a_grating_that_does_not_reach_the_wavelength_says_so(caplog: pytest.LogCaptureFixture) -> None:
    spectrograph = Bench().ready(2000.0)
    assert spectrograph.select_grating(3).number == 3
    assert "does not reach 2000.000 nm" in caplog.text
    assert spectrograph.wavelength_nm == 1250.0


def test_gratings_that_are_not_there_and_mirrors() -> None:
    bench = Bench(simulation={"installed": [[299.9, "500"], [0.0, "Mirror"]]})
    spectrograph = bench.ready()
    assert list(spectrograph.gratings) == [Grating(1, 299.9, "500"), Grating(2, 0.0, "Mirror")]
    with pytest.raises(InputError, match="grating 3 is not installed"):
        spectrograph.select_grating(3)
    with pytest.raises(InputError, match="mirror"):
        spectrograph.select_grating(2)
    assert "SetGrating" not in bench.library.names
    assert spectrograph.select_grating(2, allow_zero_order=True).number == 2
    with pytest.raises(InstrumentError, match=r"no wavelengths for the pixels: 20249 ERROR") as caught:
        spectrograph.wavelengths_nm(1024, 26.0)
    assert "mirror" in caught.value.todo
    bench.library.answer("GetCalibration", 20202, np.linspace(-10.0, 10.0, 1024))
    with pytest.raises(InstrumentError, match="were given for a mirror"):
        spectrograph.wavelengths_nm(1024, 26.0)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, 2501.0])
def test_wavelengths_that_cannot_be_are_refused_before_anything_moves(value: float) -> None:
    bench = Bench()
    spectrograph = bench.ready()
    with pytest.raises(InputError):
        spectrograph.go_to(value)
    assert "SetWavelength" not in bench.library.names


@pytest.mark.parametrize("wavelength_nm", [0.0, 24.0, 83.0])
def test_zero_order_only_when_asked_for(wavelength_nm: float) -> None:
    bench = Bench()
    spectrograph = bench.ready()
    with pytest.raises(InputError, match="zero order falls on the detector"):
        spectrograph.go_to(wavelength_nm)
    assert "SetWavelength" not in bench.library.names
    assert spectrograph.go_to(wavelength_nm, allow_zero_order=True) == wavelength_nm


def test_a_narrow_detector_does_not_make_the_zero_order_harmless() -> None:
    spectrograph = Bench({"detector_width_mm": 0.0}).ready()
    with pytest.raises(InputError, match="stay above 25 nm"):
        spectrograph.go_to(20.0)


def test_a_wavelength_that_is_not_reached_is_an_error() -> None:
    bench = Bench()
    spectrograph = bench.ready()
    bench.library.answer("GetWavelength", 20202, 601.0)
    with pytest.raises(InstrumentError, match=r"went to 601\.000 nm instead of 700\.000 nm"):
        spectrograph.go_to(700.0)


def test_a_grating_that_was_not_selected_is_an_error() -> None:
    bench = Bench()
    spectrograph = bench.ready()
    bench.library.answer("SetGrating", 20202)
    with pytest.raises(InstrumentError, match="grating 1 is in the beam instead of 2"):
        spectrograph.select_grating(2)


@pytest.mark.parametrize(
    ("code", "words", "todo"),
    [
        (20249, "20249 ERROR, refused without a reason", "switch the spectrograph off and on"),
        (20266, "20266 P1INVALID", "device"),
        (20267, "20267 P2INVALID", "limits"),
        (20268, "20268 P3INVALID", "limits"),
        (20270, "20270 P5INVALID", ""),
        (20292, "20292 NOT_AVAILABLE", "not mounted"),
        (31337, "31337 unknown code", "manual"),
    ],
)
def test_return_codes_become_errors_that_say_what_to_do(code: int, words: str, todo: str) -> None:
    bench = Bench()
    spectrograph = bench.ready()
    bench.library.answer("SetWavelength", code)
    with pytest.raises(InstrumentError) as caught:
        spectrograph.go_to(700.0)
    assert f"SetWavelength failed: {words}" in caught.value.what and todo in caught.value.todo
    assert caught.value.exchange.sent == "ATSpectrographSetWavelength(0, 700.0)"
    assert not isinstance(caught.value, ConnectionLost)
    assert bench.library.names.count("SetWavelength") == 1


@pytest.mark.parametrize("spurious", range(7))
def test_a_spurious_20201_is_tried_again_five_times_then_the_library_is_initialised_anew(spurious: int) -> None:
    bench = Bench(simulation={"spurious": spurious})
    spectrograph = bench.spectrograph
    spectrograph.start_up()
    bench.library.calls.clear()
    start = bench.clock.now()
    assert spectrograph.go_to(600.0) == 600.0
    assert bench.library.names.count("SetWavelength") == spurious + 1
    assert bench.library.names.count("Initialize") == bench.library.names.count("Close") == (1 if spurious > 5 else 0)
    waited_s = 0.1 * min(spurious, 5) + (2.0 if spurious > 5 else 0.0)
    assert bench.clock.now() - start == pytest.approx(0.6 + waited_s, abs=0.05)


def test_a_spectrograph_that_does_not_answer_is_lost() -> None:
    bench = Bench()
    spectrograph = bench.ready()
    bench.library.library.power_off()
    with pytest.raises(ConnectionLost, match="20201 COMMUNICATION_ERROR") as caught:
        spectrograph.go_to(700.0)
    assert "USB cable" in caught.value.todo
    (step,) = spectrograph.make_safe()
    assert not step.confirmed and "SetShutter failed" in step.evidence
    spectrograph.close()


def test_a_power_cycle_is_noticed_by_the_wavelength() -> None:
    bench = Bench()
    spectrograph = bench.ready()
    bench.library.library.power_off()
    bench.library.library.power_on(bench.clock.now())
    with pytest.raises(InstrumentError, match=r"stands at 0\.000 nm instead of 600\.000 nm"):
        _ = spectrograph.wavelength_nm
    assert {"Close", "Initialize"} <= set(bench.library.names)
    assert spectrograph.wavelength_nm == 0.0
    assert not bench.lets_light_in
    assert spectrograph.go_to(600.0) == 600.0
    assert bench.lets_light_in


def test_no_spectrograph_at_all() -> None:
    bench = Bench()
    bench.library.answer("GetNumberDevices", 20202, 0)
    with pytest.raises(ConnectionLost, match=r"finds 0 spectrograph\(s\)"):
        bench.spectrograph.start_up()


def test_a_library_of_the_other_family_is_named() -> None:
    bench = Bench()

    def missing(t: float, arguments: Sequence[Any]) -> Answer:
        raise InstrumentError("this version has no function ATSpectrographInitialize", todo="install a newer version")

    bench.library.instead["ATSpectrographInitialize"] = missing
    with pytest.raises(InstrumentError) as caught:
        bench.spectrograph.start_up()
    assert 'functions = "Shamrock"' in caught.value.todo


def test_a_move_may_take_a_minute_and_not_more() -> None:
    bench = Bench(simulation={"grating_change_s": 59.0})
    assert bench.ready().select_grating(2).number == 2
    bench = Bench(simulation={"grating_change_s": 61.0})
    spectrograph = bench.ready()
    with pytest.raises(InstrumentTimeout, match="did not come back within 60 s"):
        spectrograph.select_grating(2)
    (step,) = spectrograph.make_safe()
    assert not step.confirmed


def test_functions_of_parts_that_are_not_mounted_are_not_called() -> None:
    bench = Bench(simulation={"slits": [], "has_shutter": False})
    spectrograph = bench.ready()
    asks: list[Callable[[], object]] = [
        lambda: spectrograph.slit_width_um(Slit.INPUT_DIRECT),
        lambda: spectrograph.filter_position,
        lambda: spectrograph.port(Flipper.OUTPUT),
    ]
    for ask in asks:
        with pytest.raises(InputError, match="has no"):
            ask()
    assert bench.library.calls == [
        ("ATSpectrographSlitIsPresent", 0, 2),
        ("ATSpectrographFilterIsPresent", 0),
        ("ATSpectrographFlipperMirrorIsPresent", 0, 2),
    ]
    (step,) = spectrograph.make_safe()
    assert step.action == "leave the spectrograph as it is" and step.confirmed and "at 600.000 nm" in step.evidence
    assert not {"SetShutter", "GetShutter"} & set(bench.library.names)


def test_the_shutter_opens_when_it_stands_and_closes_for_the_safe_state() -> None:
    bench = Bench()
    bench.spectrograph.start_up()
    assert not bench.lets_light_in
    bench.spectrograph.go_to(632.0)
    assert bench.lets_light_in
    for _ in range(2):
        (step,) = bench.spectrograph.make_safe()
        assert step.action == "close spectrograph shutter" and step.confirmed and "20202(0)" in step.evidence
        assert not bench.lets_light_in
    bench.spectrograph.go_to(640.0)
    assert bench.lets_light_in


def test_a_shutter_that_stays_open_is_not_confirmed() -> None:
    bench = Bench()
    spectrograph = bench.ready()
    bench.library.answer("GetShutter", 20202, 1)
    (step,) = spectrograph.make_safe()
    assert not step.confirmed and "shutter reads 1 after it was set to 0" in step.evidence


def test_a_shutter_without_bnc_cannot_follow_one() -> None:
    with pytest.raises(InputError, match="has no mode 'bnc'"):
        Bench({"shutter": "bnc"}).spectrograph.start_up()
    bench = Bench({"shutter": "bnc"}, {"has_bnc": True})
    bench.ready().go_to(700.0)
    assert ("ATSpectrographSetShutter", 0, 2) in bench.library.calls


def test_safe_state_during_a_move_leaves_the_shutter_closed() -> None:
    bench = Bench(simulation={"initialize_s": 0.0}, clock=RealClock())
    spectrograph = bench.spectrograph
    spectrograph.start_up()
    ended: list[LabctlError] = []

    def move() -> None:
        try:
            spectrograph.go_to(600.0)
        except LabctlError as error:
            ended.append(error)

    thread = threading.Thread(target=move)
    thread.start()
    while "SetWavelength" not in bench.library.names:
        thread.join(0.001)
    (step,) = spectrograph.make_safe()
    thread.join(10)
    assert step.confirmed and not bench.lets_light_in
    assert isinstance(ended[0], Aborted)


def test_the_axis_is_what_the_library_believes() -> None:
    bench = Bench()
    spectrograph = bench.ready(632.0)
    axis = spectrograph.wavelengths_nm(1024, 26.0)
    truth = bench.laboratory.spectrograph.wavelengths_nm(632.0, 600.0, 1024, 26.0)
    assert axis.shape == (1024,) and axis.dtype == np.float64
    assert truth - axis == pytest.approx(bench.laboratory.truth.spectrograph.offset_nm, abs=1e-3)
    assert abs(axis - spectrograph.wavelengths_nm(1024, 26.0)).max() == 0.0
    spectrograph.go_to(640.0)
    assert spectrograph.wavelengths_nm(1024, 26.0)[512] - axis[512] == pytest.approx(8.0, abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(
    number=st.integers(1, 3),
    share=st.floats(0.15, 0.95),
    pixels=st.sampled_from([512, 1024, 2000]),
    pixel_um=st.sampled_from([13.5, 15.0, 26.0]),
)
def test_the_axis_agrees_with_the_grating_equation(number: int, share: float, pixels: int, pixel_um: float) -> None:
    spectrograph = Bench().ready(900.0)
    grating = spectrograph.select_grating(number)
    centre_nm = spectrograph.go_to(round(1.5e6 / grating.lines_per_mm * share, 3))
    ours = wavelength_axis_nm(centre_nm, grating.lines_per_mm, spectrograph.geometry, pixels, pixel_um)
    assert spectrograph.wavelengths_nm(pixels, pixel_um) == pytest.approx(ours, abs=1e-2)


def test_a_detector_that_stands_the_other_way_round() -> None:
    usual, flipped = (Bench({"flip": flip}).ready(632.0).wavelengths_nm(1024, 26.0) for flip in (False, True))
    assert (np.diff(usual) > 0).all() and (flipped == usual[::-1]).all()


def test_no_axis_in_zero_order_or_for_a_handful_of_pixels() -> None:
    spectrograph = Bench().ready()
    with pytest.raises(InputError, match="fewer than 8 pixels"):
        spectrograph.wavelengths_nm(7, 26.0)
    spectrograph.go_to(24.0, allow_zero_order=True)
    with pytest.raises(InstrumentError, match="20249 ERROR"):
        spectrograph.wavelengths_nm(1024, 26.0)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (np.full(1024, 600.0), "are not in order"),
        (np.zeros(1024), "are not in order"),
        (np.full(1024, np.nan), "are not in order"),
        (np.linspace(700.0, 800.0, 1024), "leave out the centre, 600.00 nm"),
        (np.linspace(0.0, 1200.0, 1024), "1.173 nm apart"),
        (np.linspace(599.0, 601.0, 1024), "0.001955 nm apart"),
    ],
)
def test_an_axis_that_cannot_be_true_is_refused(table: np.ndarray, words: str) -> None:
    bench = Bench()
    spectrograph = bench.ready(600.0)
    bench.library.answer("GetCalibration", 20202, table)
    with pytest.raises(InstrumentError, match=words):
        spectrograph.wavelengths_nm(1024, 26.0)


def test_pixels_that_were_not_taken_are_an_error() -> None:
    bench = Bench()
    spectrograph = bench.ready()
    bench.library.answer("GetPixelWidth", 20202, 13.5)
    with pytest.raises(InstrumentError, match=r"pixel width reads 13\.5 after it was set to 26"):
        spectrograph.wavelengths_nm(1024, 26.0)


def test_an_eeprom_of_nonsense_is_an_error() -> None:
    bench = Bench()
    bench.library.answer("EepromGetOpticalParams", 20202, 0.0, 0.0, 0.0)
    with pytest.raises(InstrumentError, match="focal length of 0 m"):
        bench.spectrograph.start_up()


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (("SetGrating", 0, 4), 20267),
        (("SetGrating", 1, 1), 20266),
        (("SetWavelength", 0, 2501.0), 20267),
        (("SetSlitWidth", 0, 1, 9.0), 20268),
        (("SetSlitWidth", 0, 3, 100.0), 20292),
        (("SetShutter", 0, 2), 20267),
        (("SetFlipperMirror", 0, 2, 2), 20268),
        (("SetFocusMirror", 0, 400), 20267),
        (("GetCalibration", 0, 64, 64), 20249),
        (("GetPixelCalibrationCoefficients", 0), 20292),
    ],
)
def test_the_library_refuses_as_the_sheet_says(call: tuple[Any, ...], code: int) -> None:
    library = AndorShamrockLibrary(create({}, None, 0), "spectrograph", {"flippers": [2]})
    assert library.call(0.0, "ATSpectrographGetGrating", [0])[1] == 20275
    done, initialised, _ = library.call(0.0, "ATSpectrographInitialize", [""])
    assert initialised == 20202 and done == pytest.approx(2.0, abs=0.01)
    assert library.call(3.0, f"ATSpectrograph{call[0]}", call[1:])[1] == code


@pytest.mark.parametrize(
    ("call", "duration_s"),
    [
        (("SetGrating", 0, 3), 5.0),
        (("SetWavelength", 0, 500.0), 0.5),
        (("SetFilter", 0, 3), 2.0),
        (("SetSlitWidth", 0, 1, 510.0), 1.0),
        (("SetFlipperMirror", 0, 1, 1), 1.0),
        (("SetFocusMirror", 0, -150), 1.5),
    ],
)
def test_how_long_parts_move(call: tuple[Any, ...], duration_s: float) -> None:
    library = AndorShamrockLibrary(
        create({}, None, 0), "spectrograph", {"filters": ["a", "b", "c"], "flippers": [1], "initialize_s": 0.0}
    )
    library.call(0.0, "ATSpectrographInitialize", [""])
    done, code, _ = library.call(1.0, f"ATSpectrograph{call[0]}", call[1:])
    assert code == 20202 and done == pytest.approx(1.0 + duration_s, abs=0.01)
    assert library.call(1.1, "ATSpectrographGetGrating", [0])[0] >= done


def test_a_swap_of_the_spectrograph_leaves_axis_and_light(tmp_path: Path) -> None:
    shipped = locate("benches", "simulated")
    copytree(shipped.parent / "calibrations", tmp_path / "calibrations")
    text = shipped.read_text(encoding="utf-8")
    assert text.count('driver = "acton-spectrapro"') == 1
    spectra = []
    for driver in ("acton-spectrapro", "andor-shamrock"):
        path = tmp_path / f"{driver}.toml"
        path.write_text(text.replace('"acton-spectrapro"', f'"{driver}"'), encoding="utf-8")
        config = load_bench(str(path))
        with OpenedBench.open(config, VirtualClock(), sample=load_sample("cdse-cds-zno"), seed=0) as bench:
            spectrometer = bench.spectrometer
            spectrometer.prepare(632.0, 1)
            spectrometer.start_cooling(-60.0)
            spectrometer.wait_until_cold(1200.0)
            bench.pump.shutter.open()
            spectra.append(spectrometer.acquire(0.1, 1))
    first, second = spectra
    assert second.wavelength_nm == pytest.approx(first.wavelength_nm, abs=2e-3)
    assert first.counts.max() > 2000 and second.counts.sum() == pytest.approx(first.counts.sum(), rel=1e-3)
