"""The Andor SDK2 driver over the simulated library, in this process."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.detector.andor_sdk2 import AndorSDK2
from drivers.detector.andor_sdk2_calls import FUNCTIONS, LINK, code_in_words
from drivers.detector.emulators.andor_acquisition import Geometry
from drivers.detector.emulators.andor_sdk2 import AndorSDK2Library
from labctl.clock import VirtualClock
from labctl.errors import Aborted, ConnectionLost, InputError, InstrumentError, InstrumentTimeout
from labctl.roles import Detector
from labctl.sim.laboratory import Laboratory, create
from labctl.sim.link import EmulatorChannel

Answer = tuple[float, int, Sequence[Any]]


class Recorded:
    """A simulated library that notes its calls and can be made to answer otherwise."""

    def __init__(self, library: AndorSDK2Library) -> None:
        self.library = library
        self.calls: list[tuple[Any, ...]] = []
        self.instead: dict[str, Callable[[float, Sequence[Any]], Answer]] = {}

    def call(self, t: float, function: str, arguments: Sequence[Any]) -> Answer:
        self.calls.append((function, *arguments))
        if function in self.instead:
            return self.instead[function](t, arguments)
        return self.library.call(t, function, arguments)

    def answer(self, function: str, code: int, *outputs: Any) -> None:
        self.instead[function] = lambda t, arguments: (t, code, outputs)

    @property
    def names(self) -> list[str]:
        return [call[0] for call in self.calls]


class Bench:
    """A camera on a virtual clock."""

    def __init__(self, options: Mapping[str, Any] | None = None, simulation: Mapping[str, Any] | None = None) -> None:
        self.clock = VirtualClock()
        self.laboratory: Laboratory = create({}, None, 1)
        self.library = Recorded(AndorSDK2Library(self.laboratory, "detector", simulation or {}))
        self.options = dict(options or {})
        self.camera = self.new_camera()

    def new_camera(self) -> AndorSDK2:
        channel = EmulatorChannel(self.library, self.clock, LINK, "detector")
        return AndorSDK2(channel, clock=self.clock, **self.options)

    def started(self) -> AndorSDK2:
        self.camera.start_up()
        self.library.calls.clear()
        return self.camera


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_the_driver_fills_its_role(bench: Bench) -> None:
    camera = bench.started()
    assert isinstance(camera, Detector)
    assert (camera.pixels, camera.pixel_um, camera.full_scale_counts) == (1024, 26.0, 65535)
    identity = camera.identify()
    assert (identity.vendor, identity.model, identity.serial) == ("Andor", "DU401A_BVF", "11923")


def test_start_up_follows_the_order_of_the_manual(bench: Bench) -> None:
    bench.camera.start_up()
    wanted = [
        "GetAvailableCameras", "GetCameraHandle", "SetCurrentCamera", "Initialize", "GetCapabilities", "GetDetector",
        "GetPixelSize", "SetADChannel", "SetOutputAmplifier", "SetHSSpeed", "SetPreAmpGain", "SetVSSpeed", "SetShutter",
        "SetReadMode", "SetAcquisitionMode", "SetTriggerMode", "GetAcquisitionTimings",
    ]  # fmt: skip
    assert [name for name in bench.library.names if name in wanted] == wanted
    assert ("SetReadMode", 0) in bench.library.calls and ("SetAcquisitionMode", 1) in bench.library.calls
    # Nothing that acts on the sample or the sensor: no cooling, no open shutter, no exposure.
    assert not {"CoolerON", "SetTemperature", "StartAcquisition"} & set(bench.library.names)
    assert ("SetShutter", 1, 2, 0, 0) in bench.library.calls


def test_one_exposure_is_the_sequence_of_the_sheet(bench: Bench) -> None:
    camera = bench.started()
    assert camera.set_exposure(0.2) == 0.2
    bench.library.calls.clear()
    begin = bench.clock.now()
    camera.start()
    counts = camera.read()
    assert bench.library.names == [
        "SetShutter", "StartAcquisition", "WaitForAcquisitionTimeOut", "GetStatus", "GetAcquiredData",
    ]  # fmt: skip
    assert bench.library.calls[0] == ("SetShutter", 1, 0, 0, 0)
    assert bench.library.calls[-1] == ("GetAcquiredData", 1024, 1024)
    assert counts.shape == (1024,) and counts.dtype == np.int32
    assert 600 < counts.mean() < 700  # the offset, and the dark current of a warm sensor
    assert camera.cycle_s <= bench.clock.now() - begin < camera.cycle_s + 0.02


def test_light_reaches_the_camera(bench: Bench) -> None:
    camera = bench.started()
    bench.laboratory.spectrograph.set(bench.clock.now(), 400.0, 600.0)
    camera.set_exposure(0.1)
    camera.start()
    dark = camera.read()
    bench.laboratory.shutter.set(bench.clock.now(), True)
    camera.start()
    lit = camera.read()
    assert lit.max() > dark.max() + 100


def test_a_long_exposure_is_waited_for_in_slices(bench: Bench) -> None:
    camera = bench.started()
    camera.set_exposure(2.0)
    camera.start()
    bench.library.calls.clear()
    camera.read()
    waits = [call[1] for call in bench.library.calls if call[0] == "WaitForAcquisitionTimeOut"]
    assert len(waits) == 5 and max(waits) <= 500


def test_the_exposure_is_what_the_camera_will_make(bench: Bench) -> None:
    camera = bench.started()
    assert camera.set_exposure(0.1) == 0.1
    assert camera.set_exposure(0.0123456) == 0.01235
    assert camera.set_exposure(0.0) == 0.001
    assert camera.exposure_s == 0.001
    with pytest.raises(InputError, match="0 to 3600"):
        camera.set_exposure(-1.0)


def test_a_shutter_that_needs_time_makes_the_exposure_longer() -> None:
    camera = Bench({"shutter_open_ms": 50, "shutter_close_ms": 30}).started()
    camera.start()
    camera.read()
    assert camera.set_exposure(0.05) == 0.051
    assert camera.cycle_s > 0.051 + 0.08


def test_cooling_runs_through_the_states_of_the_library(bench: Bench) -> None:
    camera = bench.started()
    assert not camera.cooler.on and camera.cooler.temperature_c == 20.0
    camera.cool_to(-60)
    texts = [camera.cooler.text]
    begin = bench.clock.now()
    while not (state := camera.cooler).locked:
        assert bench.clock.now() < begin + 1200
        bench.clock.sleep(5.0)
        if (text := camera.cooler.text) != texts[-1]:
            texts.append(text)
    assert texts == ["set-point not reached", "set-point reached, not yet stable", "stable at the set-point"]
    assert state.on and state.temperature_c == -60.0
    assert bench.clock.now() - begin == pytest.approx(380, abs=6)
    assert ("SetFanMode", 0) in bench.library.calls


@pytest.mark.parametrize("set_point_c", [-101, 21, -60.5])
def test_a_set_point_that_the_camera_cannot_have_is_refused(bench: Bench, set_point_c: float) -> None:
    camera = bench.started()
    with pytest.raises(InputError):
        camera.cool_to(set_point_c)
    assert "SetTemperature" not in bench.library.names and "CoolerON" not in bench.library.names


def test_a_cooler_that_does_not_switch_on_is_noticed(bench: Bench) -> None:
    camera = bench.started()
    bench.library.answer("CoolerON", 20002)
    with pytest.raises(InstrumentError, match="reports that it is off"):
        camera.cool_to(-60)


def test_temperature_and_set_point_wait_for_the_end_of_an_exposure(bench: Bench) -> None:
    camera = bench.started()
    camera.set_exposure(0.3)
    camera.start()
    assert camera.cooler.temperature_c == 20.0
    assert bench.clock.now() >= 0.3
    assert camera.read().shape == (1024,)
    camera.start()
    camera.cool_to(-60)
    assert camera.read().shape == (1024,)


def test_speed_and_gain_are_chosen_by_value() -> None:
    bench = Bench({"hs_speed_mhz": 0.05, "preamp_gain": 4.0})
    bench.camera.start_up()
    assert ("SetHSSpeed", 0, 2) in bench.library.calls and ("SetPreAmpGain", 2) in bench.library.calls
    with pytest.raises(InputError, match=r"choose one of 1, 0.1, 0.05"):
        Bench({"hs_speed_mhz": 3.0}).camera.start_up()


def test_an_emccd_is_read_by_its_conventional_amplifier_with_the_least_gain() -> None:
    bench = Bench(simulation={"em": True})
    bench.camera.start_up()
    assert ("SetOutputAmplifier", 1) in bench.library.calls and ("SetEMCCDGain", 2) in bench.library.calls
    steps = bench.camera.make_safe()
    assert [step.confirmed for step in steps] == [True, True]
    assert steps[1].evidence == "EM gain reads 2, its minimum"


def test_an_older_library_with_a_shorter_structure_is_understood(bench: Bench) -> None:
    def capabilities(t: float, arguments: Sequence[Any]) -> Answer:
        if arguments[0] > 11:
            return t, 20066, []
        return bench.library.library.call(t, "GetCapabilities", arguments)

    bench.library.instead["GetCapabilities"] = capabilities
    bench.camera.start_up()
    assert [call[1] for call in bench.library.calls if call[0] == "GetCapabilities"] == [13, 12, 11]


def test_a_library_left_awkward_by_another_program() -> None:
    bench = Bench(simulation={"awkward": True})
    camera = bench.started()
    camera.set_exposure(0.1)
    camera.start()
    assert camera.read().shape == (1024,)


def test_stale_and_lost_events_do_not_matter(bench: Bench) -> None:
    camera = bench.started()
    camera.set_exposure(0.2)
    for code in (20002, 20024):
        begin = bench.clock.now()
        bench.library.answer("WaitForAcquisitionTimeOut", code)
        camera.start()
        assert camera.read().shape == (1024,)
        assert bench.clock.now() - begin >= 0.2


def test_data_of_an_exposure_that_was_not_read_do_not_show_up_later(bench: Bench) -> None:
    camera = bench.started()
    camera.set_exposure(0.1)
    camera.start()
    bench.clock.sleep(1.0)
    camera.start()
    begin = bench.clock.now()
    camera.read()
    assert bench.clock.now() - begin >= 0.09


def test_an_exposure_can_be_read_long_after_its_end(bench: Bench) -> None:
    camera = bench.started()
    camera.set_exposure(0.1)
    camera.start()
    bench.clock.sleep(100.0)
    assert camera.read().shape == (1024,)


def test_the_state_of_an_exposure_is_guarded(bench: Bench) -> None:
    camera = bench.started()
    with pytest.raises(InstrumentError, match="no exposure was started"):
        camera.read()
    camera.set_exposure(1.0)
    camera.start()
    with pytest.raises(InstrumentError, match="20072 ACQUIRING") as caught:
        camera.start()
    assert caught.value.exchange.sent == "StartAcquisition()"
    with pytest.raises(InstrumentError, match="SetExposureTime failed"):
        camera.set_exposure(0.5)
    assert camera.read().shape == (1024,)


def test_abort_leaves_the_camera_idle_and_ready(bench: Bench) -> None:
    camera = bench.started()
    camera.abort()
    camera.set_exposure(100.0)
    camera.start()
    camera.abort()
    with pytest.raises(Aborted):
        camera.read()
    assert bench.clock.now() < 10
    camera.set_exposure(0.1)
    camera.start()
    assert camera.read().shape == (1024,)


@pytest.mark.parametrize("stop", ["abort", "make_safe"])
def test_another_thread_can_stop_an_exposure(bench: Bench, stop: str) -> None:
    camera = bench.started()
    camera.set_exposure(1000.0)
    ended: list[float] = []

    def expose() -> None:
        with bench.clock.actor():
            camera.start()
            ready.set()
            with pytest.raises(Aborted):
                camera.read()
            ended.append(bench.clock.now())

    ready = threading.Event()
    with bench.clock.actor():
        thread = threading.Thread(target=expose)
        thread.start()
        while not bench.clock.wait(ready, 1.0):
            pass
        bench.clock.sleep(20.0)
        begin = bench.clock.now()
        getattr(camera, stop)()
        bench.clock.sleep(1.0)
    thread.join(10)
    assert ended and begin - 1 <= ended[0] <= begin + 1


def test_make_safe_stops_closes_and_is_idempotent(bench: Bench) -> None:
    camera = bench.started()
    camera.cool_to(-60)
    camera.set_exposure(100.0)
    camera.start()
    for _ in range(2):
        (step,) = camera.make_safe()
        assert step.confirmed and "20073 IDLE" in step.evidence and "closed" in step.evidence
    assert bench.library.calls[-1] == ("GetStatus",) or ("SetShutter", 1, 2, 0, 0) in bench.library.calls
    assert camera.cooler.on
    assert "ShutDown" not in bench.library.names
    camera.set_exposure(0.1)
    camera.start()
    assert camera.read().shape == (1024,)


def test_make_safe_of_a_dead_camera_says_so_and_does_not_raise(bench: Bench) -> None:
    assert not bench.camera.make_safe()[0].confirmed
    camera = bench.started()
    bench.library.library.power_off(bench.clock.now())
    (step,) = camera.make_safe()
    assert not step.confirmed and "20013 ERROR_ACK" in step.evidence


def test_an_exposure_that_does_not_end_is_given_up(bench: Bench) -> None:
    camera = bench.started()
    camera.set_exposure(0.1)
    camera.start()
    bench.library.answer("GetStatus", 20002, 20072)
    bench.library.instead["AbortAcquisition"] = lambda t, arguments: (t, bench.library.instead.clear() or 20002, ())
    begin = bench.clock.now()
    with pytest.raises(InstrumentTimeout, match="has not ended"):
        camera.read()
    assert bench.clock.now() - begin < 6
    camera.start()
    assert camera.read().shape == (1024,)


@pytest.mark.parametrize("status", [20018, 20022, 20023, 20026])
def test_an_exposure_that_fails_is_told_in_words(bench: Bench, status: int) -> None:
    camera = bench.started()
    camera.start()
    replies = [status]
    real = bench.library.library.call
    bench.library.instead["GetStatus"] = lambda t, arguments: (
        (t, 20002, [replies.pop()]) if replies else real(t, "GetStatus", arguments)
    )
    with pytest.raises(InstrumentError, match=f"the exposure failed: {status}"):
        camera.read()
    camera.start()
    assert camera.read().shape == (1024,)


def test_a_camera_that_loses_power_during_an_exposure_is_noticed(bench: Bench) -> None:
    camera = bench.started()
    camera.set_exposure(5.0)
    camera.start()
    bench.library.library.power_off(bench.clock.now())
    with pytest.raises(ConnectionLost, match="the camera is gone"):
        camera.read()
    with pytest.raises(ConnectionLost, match="does not answer"):
        _ = camera.cooler
    bench.library.library.power_on()
    with pytest.raises(ConnectionLost, match="20075 NOT_INITIALIZED"):
        camera.start()
    again = bench.new_camera()
    again.start_up()
    again.start()
    assert again.read().shape == (1024,)
    assert not again.cooler.on


@pytest.mark.parametrize(
    ("function", "code", "kind", "words"),
    [
        ("Initialize", 20992, ConnectionLost, "in use by another program"),
        ("Initialize", 20990, ConnectionLost, "no camera found"),
        ("Initialize", 20096, InstrumentError, "no firmware in the directory"),
        ("SetReadMode", 20066, InstrumentError, "parameter 1 invalid"),
        ("GetDetector", 29999, InstrumentError, "29999 unknown code"),
    ],
)
def test_codes_become_errors_in_words(
    bench: Bench, function: str, code: int, kind: type[InstrumentError], words: str
) -> None:
    bench.library.answer(function, code)
    with pytest.raises(kind, match=words) as caught:
        bench.camera.start_up()
    assert caught.value.exchange.sent.startswith(function)


def test_a_camera_that_is_not_there_is_told_with_the_number_found() -> None:
    bench = Bench()
    bench.library.library.power_off(0.0)
    with pytest.raises(ConnectionLost, match=r"finds 0 camera"):
        bench.camera.start_up()
    with pytest.raises(ConnectionLost, match=r"finds 1 camera.* number 2"):
        Bench({"camera": 2}).camera.start_up()


def test_closing_keeps_the_sensor_cold(bench: Bench) -> None:
    camera = bench.started()
    camera.cool_to(-60)
    bench.clock.sleep(1000)
    bench.library.calls.clear()
    camera.close()
    assert bench.library.names == [
        "AbortAcquisition", "GetStatus", "SetCoolerMode", "ShutDown",
    ]  # fmt: skip
    assert bench.library.calls[-2:] == [("SetCoolerMode", 1), ("ShutDown",)]
    again = bench.new_camera()
    again.start_up()
    assert again.cooler.locked


@pytest.mark.parametrize(
    ("options", "simulation"), [({"warm_up": True}, {}), ({}, {"has_cooler_mode": False})], ids=["asked", "no choice"]
)
def test_closing_warms_up_when_asked_or_when_the_camera_cannot_stay_cold(
    options: Mapping[str, Any], simulation: Mapping[str, Any]
) -> None:
    bench = Bench(options, {"cold": True, **simulation})
    camera = bench.started()
    begin = bench.clock.now()
    camera.close()
    assert bench.clock.now() - begin == pytest.approx(60 / 0.25, abs=6)
    assert bench.library.names[-1] == "ShutDown"
    assert bench.library.library.cooler.temperature_c(bench.clock.now()) >= 0


def test_closing_a_dead_camera_or_one_that_never_started_does_not_raise(bench: Bench) -> None:
    bench.camera.close()
    assert "ShutDown" not in bench.library.names
    other = Bench()
    camera = other.started()
    other.library.library.power_off(other.clock.now())
    camera.close()
    camera.close()


def test_the_same_point_gives_the_same_data_whenever_it_is_taken() -> None:
    frames = []
    for delay in (0.0, 123.456):
        bench = Bench(simulation={"cold": True})
        camera = bench.started()
        bench.clock.sleep(delay)
        bench.laboratory.announce(7, 0, 30.0)
        camera.set_exposure(0.1)
        camera.start()
        frames.append(camera.read())
    assert np.array_equal(frames[0], frames[1])


@given(
    line=st.lists(st.integers(0, 65535), min_size=8, max_size=8),
    cuts=st.lists(st.integers(1, 126), max_size=6, unique=True),
)
def test_bands_of_rows_add_up_to_the_whole_line(line: list[int], cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), 127]
    bands = tuple((low + 1, high) for low, high in itertools.pairwise(edges))
    frame = Geometry(bands, 1, 8, 1, 127).frame(np.array(line, dtype=np.int32))
    assert frame.reshape(len(bands), 8).sum(axis=0).tolist() == line


def test_accumulated_and_kinetic_scans(bench: Bench) -> None:
    """Accumulation sums its scans and sets an event for each; a kinetic series keeps them apart."""
    library, clock = AndorSDK2Library(bench.laboratory, "detector", {"cold": True}), bench.clock
    call = EmulatorChannel(library, clock, LINK).call
    for function, *arguments in [("Initialize", ""), ("SetShutter", 1, 1, 0, 0), ("SetExposureTime", 0.1)]:
        assert call(function, *arguments)[0] == 20002
    call("SetNumberAccumulations", 4)
    call("SetAcquisitionMode", 2)
    call("StartAcquisition")
    events = 0
    while call("GetStatus")[1] == [20072]:
        events += call("WaitForAcquisitionTimeOut", 1000)[0] == 20002
    assert events == 4
    code, (data,) = call("GetAcquiredData", 1024, 1024)
    assert code == 20002 and data.mean() == pytest.approx(4 * 600, abs=10)
    call("SetNumberAccumulations", 1)
    call("SetAcquisitionMode", 3)
    call("SetNumberKinetics", 3)
    call("SetKineticCycleTime", 1.0)
    assert call("GetAcquisitionTimings")[1][2] == 1.0
    call("StartAcquisition")
    clock.sleep(1.5)
    assert call("GetNumberNewImages") == (20002, [1, 2])
    assert call("GetImages", 1, 2, 2048, 2048)[0] == 20002
    assert call("GetNumberNewImages")[0] == 20024
    assert call("GetAcquiredData", 3072, 3072)[0] == 20072
    clock.sleep(2.0)
    assert call("GetNumberNewImages") == (20002, [3, 3])
    assert call("GetAcquiredData", 1024, 1024)[0] == 20067
    assert call("GetAcquiredData", 3072, 3072)[0] == 20002
    assert call("GetImages", 3, 4, 2048, 2048)[0] == 20049
    call("FreeInternalMemory")
    assert call("GetAcquiredData", 3072, 3072)[0] == 20024


@pytest.mark.parametrize(
    ("function", "arguments", "code"),
    [
        ("SetImage", (1, 1, 1, 1024, 1, 127), 20002),
        ("SetImage", (4, 4, 19, 118, 10, 25), 20002),
        ("SetImage", (0, 1, 1, 1024, 1, 127), 20066),
        ("SetImage", (1, 0, 1, 1024, 1, 127), 20067),
        ("SetImage", (1, 1, 0, 1024, 1, 127), 20068),
        ("SetImage", (1, 1, 1, 1025, 1, 127), 20069),
        ("SetImage", (1, 1, 1, 1024, 0, 127), 20076),
        ("SetImage", (1, 1, 1, 1024, 1, 128), 20077),
        ("SetSingleTrack", (0, 1), 20066),
        ("SetSingleTrack", (60, 200), 20067),
        ("SetShutter", (2, 0, 0, 0), 20066),
        ("SetShutter", (1, 5, 0, 0), 20067),
        ("SetShutter", (1, 0, -1, 0), 20068),
        ("SetShutter", (1, 0, 0, -1), 20069),
        ("SetTemperature", (-101,), 20066),
        ("SetReadMode", (5,), 20066),
        ("IsTriggerModeAvailable", (1,), 20078),
        ("SetFVBHBin", (2,), 20991),
        ("GetCameraHandle", (1,), 20066),
    ],
)
def test_the_simulated_library_refuses_as_the_real_one(function: str, arguments: tuple[int, ...], code: int) -> None:
    library = AndorSDK2Library(create({}, None, 0), "detector", {})
    library.call(0.0, "Initialize", [""])
    assert library.call(5.0, function, arguments)[1] == code


def test_nothing_works_before_initialize() -> None:
    library = AndorSDK2Library(create({}, None, 0), "detector", {})
    for function in ("GetDetector", "StartAcquisition", "GetStatus", "ShutDown", "GetTemperatureF"):
        assert library.call(0.0, function, [])[1] == 20075
    assert library.call(0.0, "GetAvailableCameras", [])[1:] == (20002, [1])


def test_every_function_of_the_driver_is_in_the_call_table(bench: Bench) -> None:
    assert set(FUNCTIONS) >= {name for name, _, _ in LINK.farewell}
    assert code_in_words(20073) == "20073 IDLE, no acquisition is under way"
    assert code_in_words(20089).startswith("20089 USBERROR")


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [(slice(512, 1024), "512 of 1024 pixels without a count"), (-3, "counts of -3"), (70000, "to 70000")],
)
def test_a_frame_that_no_converter_gives_is_refused(bench: Bench, spoilt: slice | int, said: str) -> None:
    camera = bench.started()
    counts = np.full(1024, 600, dtype=np.int32)
    counts[spoilt if isinstance(spoilt, slice) else 7] = 0 if isinstance(spoilt, slice) else spoilt
    bench.library.answer("GetAcquiredData", 20002, counts)
    camera.start()
    with pytest.raises(InstrumentError, match=said):
        camera.read()


def test_a_number_that_is_none_is_refused(bench: Bench) -> None:
    camera = bench.started()
    bench.library.answer("GetTemperatureF", 20036, float("nan"))
    with pytest.raises(InstrumentError, match="a number that is none"):
        _ = camera.cooler


@pytest.mark.parametrize(
    ("function", "outputs", "said"),
    [
        ("GetDetector", (2**31 - 2, 127), "2147483646 pixels"),
        ("GetBitDepth", (2**31 - 2,), "2147483646 bits"),
        ("GetCapabilities", ([52, 15, 63, 1, 7, 4] + [0] * 7,), "no features"),
    ],
)
def test_a_camera_that_cannot_be_is_refused(bench: Bench, function: str, outputs: tuple, said: str) -> None:
    bench.library.answer(function, 20002, *outputs)
    with pytest.raises(InstrumentError, match=said):
        bench.camera.start_up()
