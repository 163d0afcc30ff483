"""The PICam driver over the simulated library, in this process."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from drivers.detector import picam_parameters as parameters
from drivers.detector.emulators.picam import PicamLibraryEmulator
from drivers.detector.picam import Picam
from drivers.detector.picam_calls import LINK
from drivers.detector.picam_structures import AcquisitionStatus, AvailableData
from labctl.clock import VirtualClock
from labctl.errors import Aborted, ConnectionLost, InputError, InstrumentError, InstrumentTimeout
from labctl.roles import Detector
from labctl.sim.laboratory import Laboratory, create
from labctl.sim.link import EmulatorChannel

Answer = tuple[float, int, Sequence[Any]]


class Recorded:
    """A simulated library that notes its calls, without ``Picam_``, and can be made to answer otherwise."""

    def __init__(self, library: PicamLibraryEmulator) -> None:
        self.library = library
        self.calls: list[tuple[Any, ...]] = []
        self.instead: dict[str, Callable[[float, Sequence[Any]], Answer]] = {}

    def call(self, t: float, function: str, arguments: Sequence[Any]) -> Answer:
        name = function.removeprefix("Picam_")
        self.calls.append((name, *arguments))
        if name in self.instead:
            return self.instead[name](t, arguments)
        return self.library.call(t, function, arguments)

    def answer(self, function: str, code: int, *outputs: Any) -> None:
        self.instead[function] = lambda t, arguments: (t, code, outputs)

    @property
    def names(self) -> list[str]:
        return [call[0] for call in self.calls]

    def was_set(self, parameter: parameters.PicamParameter) -> list[float]:
        """Values that were given to a parameter."""
        return [call[3] for call in self.calls if call[0].startswith("SetParameter") and call[2] == parameter.id]


class Bench:
    """A camera on a virtual clock."""

    def __init__(self, options: Mapping[str, Any] | None = None, simulation: Mapping[str, Any] | None = None) -> None:
        self.clock = VirtualClock()
        self.laboratory: Laboratory = create({}, None, 1)
        self.library = Recorded(PicamLibraryEmulator(self.laboratory, "detector", simulation or {}))
        self.options = dict(options or {})
        self.camera = self.new_camera()

    def new_camera(self) -> Picam:
        channel = EmulatorChannel(self.library, self.clock, LINK, "detector")
        return Picam(channel, clock=self.clock, **self.options)

    def started(self) -> Picam:
        self.camera.start_up()
        self.library.calls.clear()
        return self.camera

    @property
    def memory_blocks(self) -> int:
        """Blocks of the library's memory in use, its buffer for data among them."""
        return self.library.library.memory.blocks


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_the_driver_fills_its_role(bench: Bench) -> None:
    camera = bench.started()
    assert isinstance(camera, Detector)
    assert (camera.pixels, camera.pixel_um, camera.full_scale_counts) == (1340, 20.0, 65535)
    identity = camera.identify()
    assert (identity.vendor, identity.model, identity.serial) == (
        "Princeton Instruments", "PIXIS: 100F", "0401130001",
    )  # fmt: skip


def test_start_up_opens_sets_commits_and_touches_neither_light_nor_cooler(bench: Bench) -> None:
    bench.camera.start_up()
    wanted = ["InitializeLibrary", "OpenFirstCamera", "CommitParameters"]
    assert list(dict.fromkeys(name for name in bench.library.names if name in wanted)) == wanted
    assert bench.library.was_set(parameters.READOUT_COUNT) == [1]
    assert "SetParameterLargeIntegerValue" in bench.library.names
    assert bench.library.was_set(parameters.SHUTTER_TIMING_MODE) == [2]
    assert not bench.library.was_set(parameters.TEMPERATURE_SET_POINT)
    assert "StartAcquisition" not in bench.library.names
    model = bench.library.library.camera.model  # type: ignore[union-attr]
    assert model.is_committed
    (roi,) = model.rois
    assert (roi.x, roi.width, roi.x_binning, roi.y, roi.height, roi.y_binning) == (0, 1340, 1, 0, 100, 100)


def test_all_memory_that_the_library_gives_is_given_back(bench: Bench) -> None:
    camera = bench.started()
    assert bench.memory_blocks == 1
    camera.identify()
    camera.set_exposure(0.1)
    camera.cool_to(-60)
    _ = camera.cooler
    camera.start()
    camera.read()
    camera.make_safe()
    assert bench.memory_blocks == 1
    camera.close()
    assert bench.memory_blocks == 0


def test_one_exposure_is_the_sequence_of_the_sheet(bench: Bench) -> None:
    camera = bench.started()
    assert camera.set_exposure(0.2) == 0.2
    bench.library.calls.clear()
    begin = bench.clock.now()
    camera.start()
    counts = camera.read()
    shutter = ["GetParameterIntegerValue", "GetParameterIntegerValue", "SetParameterIntegerValue", "CommitParameters"]
    assert bench.library.names == [
        *shutter, "GetParameterIntegerValue", "StartAcquisition", "WaitForAcquisitionUpdate", "read_memory",
        "WaitForAcquisitionUpdate",
    ]  # fmt: skip
    assert counts.shape == (1340,) and counts.dtype == np.int32
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
    # The pump line stands in the middle of this sensor, whatever the laboratory's own camera is.
    assert abs(int(np.argmax(lit)) - 670) < 5


def test_frames_stay_as_they_were_when_the_library_overwrites_its_memory(bench: Bench) -> None:
    camera = bench.started()
    camera.start()
    first = camera.read()
    kept = first.copy()
    camera.start()
    second = camera.read()
    assert np.array_equal(first, kept) and not np.array_equal(first, second)
    assert not np.any(first == 0xA5A5) and not np.any(second == 0xA5A5)


@pytest.mark.parametrize(
    ("asked_s", "made_s"), [(0.1, 0.1), (0.012341, 0.01235), (0.0, 0.001), (0.1234567, 0.12346), (7200, 7200)]
)
def test_the_exposure_is_what_the_camera_will_make(bench: Bench, asked_s: float, made_s: float) -> None:
    camera = bench.started()
    assert camera.set_exposure(asked_s) == made_s == camera.exposure_s
    assert camera.cycle_s > made_s


@pytest.mark.parametrize("asked_s", [-1.0, 7201.0, float("nan")])
def test_an_exposure_beyond_the_range_is_refused(bench: Bench, asked_s: float) -> None:
    camera = bench.started()
    with pytest.raises(InputError, match="0 to 7200 s"):
        camera.set_exposure(asked_s)
    assert camera.exposure_s == 0.1


def test_rejected_parameters_are_named_and_the_values_before_are_put_back(bench: Bench) -> None:
    bench.library.instead["GetParameterRangeConstraint"] = lambda t, arguments: (
        t, 0, [bench.library.library.memory.allocate(bytes(24) + np.array([1e9, 0.0]).tobytes() + bytes(32))],
    )  # fmt: skip
    camera = bench.started()
    with pytest.raises(InstrumentError, match=r"rejects ExposureTime = 8e\+06") as caught:
        camera.set_exposure(8000.0)
    assert caught.value.exchange.sent.startswith("Picam_CommitParameters")
    assert caught.value.state == "the settings before were put back"
    assert camera.exposure_s == 0.1
    assert bench.library.library.camera.model.is_committed  # type: ignore[union-attr]
    camera.start()
    assert camera.read().shape == (1340,)


def test_speed_gain_and_quality_are_set_by_value() -> None:
    bench = Bench({"adc_speed_mhz": 0.1, "gain": "high", "quality": "high-capacity"})
    bench.camera.start_up()
    assert bench.library.was_set(parameters.ADC_SPEED) == [0.1]
    assert bench.library.was_set(parameters.ADC_ANALOG_GAIN) == [3]
    assert bench.library.was_set(parameters.ADC_QUALITY) == [2]
    assert bench.camera.cycle_s > 0.1 + 1340 / 0.1e6
    with pytest.raises(InstrumentError, match="rejects AdcSpeed = 3"):
        Bench({"adc_speed_mhz": 3.0}).camera.start_up()


def test_a_parameter_that_the_camera_does_not_have_is_named() -> None:
    bench = Bench({"adc_speed_mhz": 1.0})
    real = bench.library.library.call

    def get(t: float, arguments: Sequence[Any]) -> Answer:
        if arguments[1] == parameters.ADC_SPEED.id:
            return t, 12, []
        return real(t, "Picam_GetParameterFloatingPointValue", arguments)

    bench.library.instead["GetParameterFloatingPointValue"] = get
    with pytest.raises(
        InstrumentError, match="of AdcSpeed failed: 12 PARAMETER_DOES_NOT_EXIST, this camera has no such"
    ):
        bench.camera.start_up()


def test_the_gain_of_an_amplifier_that_was_asked_for_is_lowered() -> None:
    bench = Bench({"quality": "electron-multiplied"}, {"em": True})
    bench.started()
    assert len(bench.camera.make_safe()) == 2
    other = Bench({"quality": "low-noise"}, {"em": True})
    other.started()
    assert len(other.camera.make_safe()) == 1


def test_rows_are_summed_here_when_the_sensor_cannot_bin_them() -> None:
    lines: dict[int, np.ndarray] = {}
    for binned in (100, 20, 1):
        bench = Bench(simulation={"cold": True, "y_binnings": (1, binned, 3)})
        camera = bench.started()
        bench.laboratory.announce(5, 0, 1.0)
        camera.start()
        lines[binned] = camera.read()
        assert camera.full_scale_counts == 65535 * (100 // binned)
    assert np.array_equal(lines[100], lines[20]) and np.array_equal(lines[100], lines[1])


def test_a_row_at_the_ceiling_marks_its_column_when_rows_are_summed_here() -> None:
    bench = Bench(simulation={"y_binnings": (1,)})
    camera = bench.started()
    real = bench.library.library.call

    def read_memory(t: float, arguments: Sequence[Any]) -> Answer:
        _, code, (words,) = real(t, "read_memory", arguments)
        frame = np.array(words)
        frame[7 * 1340 + 333] = 65535
        return t, code, [frame]

    bench.library.instead["read_memory"] = read_memory
    camera.start()
    line = camera.read()
    assert np.flatnonzero(line == camera.full_scale_counts).tolist() == [333]


def test_metadata_after_the_frame_are_not_taken_for_pixels() -> None:
    frames = []
    for time_stamps in (False, True):
        bench = Bench(simulation={"cold": True, "time_stamps": time_stamps})
        camera = bench.started()
        bench.laboratory.announce(1, 0, 1.0)
        camera.start()
        frames.append(camera.read())
    assert np.array_equal(*frames)


def test_the_newest_of_several_readouts_is_found_by_the_stride() -> None:
    bench = Bench(simulation={"time_stamps": True})
    camera = bench.started()
    memory = bench.library.library.memory
    readouts = [np.full(1340, value, dtype="<u2").tobytes() + bytes(8) for value in (1, 2, 3)]
    available = AvailableData(memory.allocate(b"".join(readouts)), 3).to_words()
    camera.start()
    bench.library.answer("WaitForAcquisitionUpdate", 0, available, AcquisitionStatus(0, 0, 1.0).to_words())
    assert camera.read().tolist() == [3] * 1340


def test_cooling_runs_until_the_temperature_is_locked(bench: Bench) -> None:
    camera = bench.started()
    state = camera.cooler
    assert not state.on and not state.locked and state.temperature_c == 20.0
    camera.cool_to(-60)
    begin = bench.clock.now()
    while not (state := camera.cooler).locked:
        assert bench.clock.now() < begin + 1200
        bench.clock.sleep(5.0)
    assert state.on and state.temperature_c == -60.0 and state.text == "locked"
    assert bench.clock.now() - begin == pytest.approx(80 / 0.25 + 60, abs=6)


@pytest.mark.parametrize("set_point_c", [-81, 26])
def test_a_set_point_that_the_camera_cannot_have_is_refused(bench: Bench, set_point_c: float) -> None:
    camera = bench.started()
    with pytest.raises(InputError, match="-80 to 25 degC"):
        camera.cool_to(set_point_c)
    assert not bench.library.was_set(parameters.TEMPERATURE_SET_POINT)


def test_a_faulted_cooler_is_an_error(bench: Bench) -> None:
    camera = bench.started()
    bench.library.library.camera.cooler_faulted = True  # type: ignore[union-attr]
    with pytest.raises(InstrumentError, match="fault of its cooler"):
        _ = camera.cooler


def test_temperature_and_set_point_wait_for_the_end_of_an_exposure(bench: Bench) -> None:
    camera = bench.started()
    camera.set_exposure(0.3)
    begin = bench.clock.now()
    camera.start()
    assert camera.cooler.temperature_c == 20.0
    assert bench.clock.now() - begin >= 0.3
    assert camera.read().shape == (1340,)
    camera.start()
    camera.cool_to(-60)
    assert camera.read().shape == (1340,)


def test_an_em_camera_is_read_with_the_least_gain() -> None:
    bench = Bench(simulation={"em": True})
    bench.camera.start_up()
    assert bench.library.was_set(parameters.ADC_EM_GAIN) == [1]
    steps = bench.camera.make_safe()
    assert [step.confirmed for step in steps] == [True, True]
    assert steps[1].evidence == "EM gain reads 1, its minimum"


def test_a_library_left_awkward_by_another_program() -> None:
    bench = Bench(simulation={"awkward": True})
    camera = bench.started()
    camera.set_exposure(0.1)
    camera.start()
    assert camera.read().shape == (1340,)
    assert bench.memory_blocks == 1


def test_the_state_of_an_exposure_is_guarded(bench: Bench) -> None:
    camera = bench.started()
    with pytest.raises(InstrumentError, match="no exposure was started"):
        camera.read()
    camera.set_exposure(1.0)
    camera.start()
    for act in (camera.start, lambda: camera.set_exposure(0.5)):
        with pytest.raises(InstrumentError, match="an exposure is under way"):
            act()
    assert camera.read().shape == (1340,)
    with pytest.raises(InstrumentError, match="no exposure was started"):
        camera.read()


def test_data_of_an_exposure_that_was_not_read_do_not_show_up_later(bench: Bench) -> None:
    camera = bench.started()
    camera.start()
    bench.clock.sleep(1.0)
    camera.start()
    begin = bench.clock.now()
    camera.read()
    assert bench.clock.now() - begin >= 0.09


def test_an_exposure_can_be_read_long_after_its_end(bench: Bench) -> None:
    camera = bench.started()
    camera.start()
    bench.clock.sleep(100.0)
    assert camera.read().shape == (1340,)


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
    assert camera.read().shape == (1340,)


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
        assert step.confirmed and "IsAcquisitionRunning reads 0" in step.evidence and "2 (closed)" in step.evidence
    assert camera.cooler.on
    assert "CloseCamera" not in bench.library.names
    camera.set_exposure(0.1)
    camera.start()
    assert camera.read().shape == (1340,)


def test_make_safe_of_a_dead_camera_says_so_and_does_not_raise(bench: Bench) -> None:
    assert not bench.camera.make_safe()[0].confirmed
    camera = bench.started()
    bench.library.library.power_off(bench.clock.now())
    (step,) = camera.make_safe()
    assert not step.confirmed and "23 DISCONNECTED" in step.evidence


def test_a_camera_that_does_not_stop_is_not_confirmed(bench: Bench) -> None:
    camera = bench.started()
    camera.set_exposure(100.0)
    camera.start()
    bench.library.answer("StopAcquisition", 0)
    (step,) = camera.make_safe()
    assert not step.confirmed and "goes on after StopAcquisition" in step.evidence


def test_an_exposure_that_does_not_end_is_stopped_and_given_up(bench: Bench) -> None:
    camera = bench.started()
    camera.start()
    real = bench.library.library.call

    def silent(t: float, arguments: Sequence[Any]) -> Answer:
        if "StopAcquisition" in bench.library.names:
            return real(t, "Picam_WaitForAcquisitionUpdate", arguments)
        return t + arguments[1] / 1000, 32, []

    bench.library.instead["WaitForAcquisitionUpdate"] = silent
    begin = bench.clock.now()
    with pytest.raises(InstrumentTimeout, match=r"of 0.1 s has not ended") as caught:
        camera.read()
    assert caught.value.state == "the exposure was stopped"
    assert bench.clock.now() - begin < 7
    camera.start()
    assert camera.read().shape == (1340,)


@pytest.mark.parametrize(
    ("bits", "kind", "words"),
    [
        (1, InstrumentError, "data lost"),
        (2, ConnectionLost, "connection lost"),
        (4, InstrumentError, "data not arriving"),
        (8, InstrumentError, "shutter overheated"),
        (16, ConnectionLost, "camera faulted"),
        (5, InstrumentError, "data lost, data not arriving"),
        (0x40, InstrumentError, "unknown error 0x40"),
    ],
)
def test_errors_of_an_acquisition_are_told_in_words(
    bench: Bench, bits: int, kind: type[InstrumentError], words: str
) -> None:
    camera = bench.started()
    camera.start()
    bench.library.library.camera.lose(bench.clock.now(), bits)  # type: ignore[union-attr, arg-type]
    with pytest.raises(InstrumentError, match=words) as caught:
        camera.read()
    assert type(caught.value) is kind
    camera.start()
    assert camera.read().shape == (1340,)


def test_a_camera_that_loses_power_during_an_exposure_is_noticed(bench: Bench) -> None:
    camera = bench.started()
    camera.set_exposure(5.0)
    camera.start()
    bench.library.library.power_off(bench.clock.now())
    with pytest.raises(ConnectionLost, match="connection lost"):
        camera.read()
    with pytest.raises(ConnectionLost, match="23 DISCONNECTED"):
        _ = camera.cooler
    bench.library.library.power_on()
    with pytest.raises(ConnectionLost, match="23 DISCONNECTED"):
        camera.start()
    again = bench.new_camera()
    again.start_up()
    again.start()
    assert again.read().shape == (1340,)


def test_an_exposure_that_ends_without_data_is_an_error(bench: Bench) -> None:
    camera = bench.started()
    camera.start()
    camera.adapter.call("Picam_StopAcquisition", 0x7F3A_1000_0000)
    with pytest.raises(InstrumentError, match="ended without data"):
        camera.read()
    camera.start()
    assert camera.read().shape == (1340,)


def test_a_camera_in_use_by_light_field_is_told_so() -> None:
    with pytest.raises(ConnectionLost, match="34 NO_CAMERAS") as caught:
        Bench(simulation={"light_field": True}).camera.start_up()
    assert "LightField" in caught.value.todo
    bench = Bench()
    bench.library.answer("OpenFirstCamera", 24)
    with pytest.raises(ConnectionLost, match=r"24 OPEN_ELSEWHERE.*LightField"):
        bench.camera.start_up()


def test_a_camera_is_chosen_by_its_serial_number() -> None:
    bench = Bench({"serial": "0401130001"})
    assert bench.started().identify().serial == "0401130001"
    assert bench.memory_blocks == 1
    with pytest.raises(ConnectionLost, match=re.escape("0815 is available; found: 0401130001")):
        Bench({"serial": "0815"}).camera.start_up()
    with pytest.raises(ConnectionLost, match="found: none"):
        Bench({"serial": "0815"}, {"no_camera": True}).camera.start_up()


def test_the_vendors_demo_camera_stands_in_where_there_is_none() -> None:
    bench = Bench({"demo": True}, {"no_camera": True})
    camera = bench.camera
    camera.start_up()
    assert ("ConnectDemoCamera", 2, "0008675309", 68) in bench.library.calls
    assert camera.identify().serial == "0008675309"
    camera.start()
    assert camera.read().shape == (1340,)
    camera.close()
    assert bench.library.names[-3:] == ["CloseCamera", "DisconnectDemoCamera", "UninitializeLibrary"]


def test_a_demo_camera_that_is_connected_already_is_used() -> None:
    bench = Bench({"demo": True}, {"no_camera": True})
    bench.library.library.InitializeLibrary(0.0)
    bench.library.library.ConnectDemoCamera(0.0, 2, "0008675309", 68)
    bench.library.answer("InitializeLibrary", 0)
    assert bench.started().identify().serial == "0008675309"


def test_closing_keeps_the_sensor_cold(bench: Bench) -> None:
    camera = bench.started()
    camera.cool_to(-60)
    bench.clock.sleep(1000)
    camera.close()
    again = bench.new_camera()
    again.start_up()
    assert again.cooler.locked and again.cooler.temperature_c == -60.0


def test_closing_warms_up_when_asked() -> None:
    bench = Bench({"warm_up": True}, {"cold": True})
    camera = bench.started()
    begin = bench.clock.now()
    camera.close()
    assert bench.clock.now() - begin == pytest.approx(60 / 0.25, abs=6)
    assert bench.library.was_set(parameters.TEMPERATURE_SET_POINT) == [25.0]
    assert bench.library.names[-1] == "UninitializeLibrary"


def test_closing_a_dead_camera_or_one_that_never_started_does_not_raise(bench: Bench) -> None:
    bench.camera.close()
    assert not bench.library.names
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
