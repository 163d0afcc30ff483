"""The simulated PICam library by itself: what it refuses, and how its data lie in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from drivers.detector.emulators.picam import HANDLE, PicamLibraryEmulator
from drivers.detector.picam_calls import LINK
from drivers.detector.picam_structures import AcquisitionStatus, AvailableData, CameraID, Roi, Rois
from labctl.clock import VirtualClock
from labctl.errors import ConnectionLost
from labctl.sim.laboratory import create
from labctl.sim.link import EmulatorChannel

EXPOSURE, READOUT_COUNT, ROIS = 33685527, 33947688, 67436581
TIME_STAMPS, TRACK_FRAMES, FRAME_SIZE, READOUT_STRIDE = 50593860, 50528327, 16842794, 16842797
SET_POINT, STATUS, WIDTH = 33685518, 17039376, 16842811


class Program:
    """A program that calls the library with the camera open."""

    def __init__(self, **options: Any) -> None:
        self.clock = VirtualClock()
        self.library = PicamLibraryEmulator(create({}, None, 2), "detector", {"cold": True, **options})
        self.channel = EmulatorChannel(self.library, self.clock, LINK)
        assert self.code("InitializeLibrary") == 0
        assert self.channel.call("Picam_OpenFirstCamera") == (0, [HANDLE])

    def call(self, function: str, *arguments: Any) -> tuple[int, Sequence[Any]]:
        return self.channel.call(f"Picam_{function}", *arguments)

    def code(self, function: str, *arguments: Any) -> int:
        return self.call(function, *arguments)[0]

    def wait(self, timeout_ms: int) -> tuple[int, AvailableData, AcquisitionStatus]:
        code, (data, status) = self.call("WaitForAcquisitionUpdate", HANDLE, timeout_ms, 8, 8)
        return code, AvailableData.from_words(data), AcquisitionStatus.from_words(status)

    def memory(self, address: int, size: int) -> bytes:
        return self.channel.call("read_memory", address, size // 2)[1][0].tobytes()


@pytest.fixture
def program() -> Program:
    return Program()


@pytest.mark.parametrize(
    ("function", "arguments", "code"),
    [
        ("InitializeLibrary", (), 5),
        ("OpenFirstCamera", (), 34),
        ("OpenCamera", (CameraID(2, 1, b"", b"0401130001").to_words(),), 7),
        ("OpenCamera", (CameraID(2, 1, b"", b"0815").to_words(),), 8),
        ("CloseCamera", (HANDLE + 1,), 9),
        ("GetParameterIntegerValue", (HANDLE + 1, WIDTH), 9),
        ("GetParameterIntegerValue", (HANDLE, WIDTH), 0),
        ("GetParameterIntegerValue", (HANDLE, EXPOSURE), 11),
        ("GetParameterFloatingPointValue", (HANDLE, WIDTH), 11),
        ("SetParameterIntegerValue", (HANDLE, READOUT_COUNT, 1), 11),
        ("SetParameterIntegerValue", (HANDLE, WIDTH, 1), 10),
        ("SetParameterIntegerValue", (HANDLE, 0x02010035, 1), 12),
        ("SetParameterIntegerValue", (HANDLE, 12345, 1), 12),
        ("SetParameterIntegerValue", (HANDLE, TIME_STAMPS, -1), 17),
        ("SetParameterRoisValue", (HANDLE, ROIS, 0), 3),
        ("ReadParameterIntegerValue", (HANDLE, WIDTH), 26),
        ("ReadParameterIntegerValue", (HANDLE, STATUS), 0),
        ("GetParameterRangeConstraint", (HANDLE, TIME_STAMPS, 2), 13),
        ("GetParameterRangeConstraint", (HANDLE, EXPOSURE, 7), 38),
        ("GetParameterRoisConstraint", (HANDLE, EXPOSURE, 2), 13),
        ("WaitForAcquisitionUpdate", (HANDLE, 10, 8, 8), 27),
        ("StopAcquisition", (HANDLE,), 27),
        ("Acquire", (HANDLE, 0, -1, 8), 36),
        ("ConnectDemoCamera", (99, "1", 68), 6),
        ("ConnectDemoCamera", (2, "", 68), 21),
        ("DisconnectDemoCamera", (CameraID(2, 1, b"", b"1").to_words(),), 8),
        ("GetEnumerationString", (2, 77), 17),
        ("GetEnumerationString", (9, 2), 16),
        ("DestroyString", (4711,), 4),
    ],
)
def test_wrong_use_is_refused(program: Program, function: str, arguments: tuple[Any, ...], code: int) -> None:
    assert program.code(function, *arguments) == code


def test_nothing_works_before_initialize() -> None:
    library = PicamLibraryEmulator(create({}, None, 0), "detector", {})
    for function in ("Picam_OpenFirstCamera", "Picam_StartAcquisition", "Picam_UninitializeLibrary"):
        assert library.call(0.0, function, [HANDLE])[1] == 1
    assert library.call(0.0, "Picam_IsLibraryInitialized", [])[1:] == (0, [0])


def test_an_acquisition_wants_committed_parameters(program: Program) -> None:
    assert program.call("AreParametersCommitted", HANDLE) == (0, [1])
    program.code("SetParameterFloatingPointValue", HANDLE, EXPOSURE, 50.0)
    assert program.call("AreParametersCommitted", HANDLE) == (0, [0])
    assert program.code("StartAcquisition", HANDLE) == 29
    assert program.call("CommitParameters", HANDLE) == (0, [0, 0])
    assert program.code("StartAcquisition", HANDLE) == 0
    assert program.code("StartAcquisition", HANDLE) == program.code("CommitParameters", HANDLE) == 20
    assert program.code("ReadParameterIntegerValue", HANDLE, STATUS) == program.code("CloseCamera", HANDLE) == 20


def test_rejected_parameters_are_listed_although_the_code_is_none(program: Program) -> None:
    program.code("SetParameterFloatingPointValue", HANDLE, EXPOSURE, 0.5)
    program.code("SetParameterFloatingPointValue", HANDLE, SET_POINT, -200.0)
    code, (address, count) = program.call("CommitParameters", HANDLE)
    assert (code, count) == (0, 2)
    assert set(np.frombuffer(program.memory(address, 8), dtype="<i4").tolist()) == {EXPOSURE, SET_POINT}
    assert program.code("DestroyParameters", address) == 0
    assert program.code("StartAcquisition", HANDLE) == 29


def test_news_come_one_by_one_and_the_end_comes_last(program: Program) -> None:
    program.code("SetParameterLargeIntegerValue", HANDLE, READOUT_COUNT, 2)
    program.code("CommitParameters", HANDLE)
    program.code("StartAcquisition", HANDLE)
    assert program.wait(50)[0] == 32
    told = [program.wait(5000) for _ in range(3)]
    assert [code for code, _, _ in told] == [0, 0, 0]
    assert [data.readout_count for _, data, _ in told] == [1, 1, 0]
    assert [status.running for _, _, status in told] == [1, 1, 0]
    assert program.wait(50)[0] == 27


def test_data_are_overwritten_by_the_next_wait_and_the_next_acquisition(program: Program) -> None:
    program.code("StartAcquisition", HANDLE)
    _, data, _ = program.wait(5000)
    frame = program.memory(data.initial_readout, 2680)
    assert b"\xa5\xa5\xa5\xa5" not in frame
    program.wait(5000)
    assert program.memory(data.initial_readout, 4) == b"\xa5\xa5\xa5\xa5"
    program.code("StartAcquisition", HANDLE)
    with pytest.raises(ConnectionLost, match="crashed"):
        program.memory(data.initial_readout, 2680)


def test_readouts_lie_one_stride_apart_with_regions_and_metadata_in_order(program: Program) -> None:
    _, (address,) = program.call("GetParameterRoisValue", HANDLE, ROIS)
    regions = program.library.memory.allocate(bytes(Roi(0, 1340, 1, 0, 50, 50)) + bytes(Roi(600, 100, 2, 50, 50, 25)))
    program.channel.call("write_memory", address, Rois(regions, 2).to_words())
    program.code("SetParameterRoisValue", HANDLE, ROIS, address)
    program.code("SetParameterIntegerValue", HANDLE, TIME_STAMPS, 3)
    program.code("SetParameterIntegerValue", HANDLE, TRACK_FRAMES, 1)
    assert program.call("CommitParameters", HANDLE) == (0, [0, 0])
    frame_size = 2 * (1340 + 2 * 50)
    assert program.call("GetParameterIntegerValue", HANDLE, FRAME_SIZE) == (0, [frame_size])
    assert program.call("GetParameterIntegerValue", HANDLE, READOUT_STRIDE) == (0, [frame_size + 24])
    code, (words, errors) = program.call("Acquire", HANDLE, 3, -1, 8)
    data = AvailableData.from_words(words)
    assert (code, errors, data.readout_count) == (0, 0, 3)
    for number in range(3):
        readout = program.memory(data.initial_readout + number * (frame_size + 24), frame_size + 24)
        pixels = np.frombuffer(readout[:frame_size], dtype="<u2")
        # Half of the offset of 600 counts lies in either half of the rows: it is spread as the light is.
        assert pixels[:1340].mean() == pytest.approx(300, abs=2)
        assert (pixels[1340:1390] + pixels[1390:]).mean() == pytest.approx(2 * 300, abs=4)
        started, ended, frame = np.frombuffer(readout[frame_size:], dtype="<i8").tolist()
        assert frame == number + 1 and ended - started == 100_000


def test_acquire_comes_back_when_its_time_is_over(program: Program) -> None:
    begin = program.clock.now()
    assert program.code("Acquire", HANDLE, 100, 1000, 8) == 32
    assert program.clock.now() - begin == pytest.approx(1.0)
    assert program.call("IsAcquisitionRunning", HANDLE) == (0, [1])
    assert program.code("StopAcquisition", HANDLE) == 0
    while program.wait(10)[2].running:
        pass
    assert program.call("IsAcquisitionRunning", HANDLE) == (0, [0])


def test_wild_addresses_crash_the_library(program: Program) -> None:
    with pytest.raises(ConnectionLost, match="crashed"):
        program.memory(4096, 16)
    assert program.channel.call("read_memory", 0, 4)[0] == 1
