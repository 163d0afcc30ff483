"""Emulators in process: as a byte link, as a library channel, and by their resource name."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labctl.clock import RealClock, VirtualClock
from labctl.config.raw_table import RawTable
from labctl.config.toml_lines import scan_lines
from labctl.errors import ConnectionLost, InputError, InstrumentError, InstrumentTimeout
from labctl.sim.transport import (
    EmulatorChannel,
    EmulatorLink,
    LocalLaboratory,
    open_laboratory,
    open_sim,
    open_sim_tcp,
    without_served_at,
)
from labctl.transport.session import OpenRequest, Session
from labctl.transport.settings import LibrarySettings, LinkSettings, Parameter, WireSettings

_JOIN_S = 20.0
TOY_LIBRARY = LibrarySettings(
    "toy library",
    {},
    {
        "SetGain": (Parameter("in"),),
        "GetGain": (Parameter("out"),),
        "GetImage": (Parameter("array_out"),),
        "GetName": (Parameter("text_out"),),
        "GetFields": (Parameter("struct_out", "u32"),),
        "Refuse": (Parameter("out"), Parameter("array_out"), Parameter("text_out"), Parameter("struct_out", "u32")),
        "Hang": (),
        "Lie": (Parameter("out"),),
        "Missing": (),
    },
    timeout_s=10.0,
)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(start_s=100.0)


@pytest.fixture
def wire(toys: Mapping[str, Any], toy_laboratory: type) -> Any:
    return toys["toy-wire"](toy_laboratory(), "toy", {})


@pytest.fixture
def channel(toys: Mapping[str, Any], toy_laboratory: type, clock: VirtualClock) -> EmulatorChannel:
    return EmulatorChannel(toys["toy-library"](toy_laboratory(), "toy", {}), clock, TOY_LIBRARY, "detector")


def test_a_reply_comes_at_its_moment(wire: Any, clock: VirtualClock) -> None:
    link = EmulatorLink(wire, clock)
    link.send(b"slow 2.5\n")
    assert link.receive(10.0) == b"done\n"
    assert clock.now() == 102.5


def test_a_time_out_gives_nothing_and_the_late_reply_still_comes(wire: Any, clock: VirtualClock) -> None:
    link = EmulatorLink(wire, clock)
    link.send(b"slow 2.5\n")
    assert link.receive(1.0) == b""
    assert clock.now() == 101.0
    assert link.receive(0.0) == b""
    assert link.receive(10.0) == b"done\n"
    assert clock.now() == 102.5


def test_silence_takes_the_whole_time_out(wire: Any, clock: VirtualClock) -> None:
    link = EmulatorLink(wire, clock)
    link.send(b"set 3\n")
    assert link.receive(7.0) == b""
    assert clock.now() == 107.0


def test_replies_arrive_in_the_order_of_their_moments(wire: Any, clock: VirtualClock) -> None:
    link = EmulatorLink(wire, clock)
    link.send(b"backwards\n")
    assert link.receive(1.0) == b"first\n"
    assert link.receive(1.0) == b"second\n"
    link.send(b"backwards\nslow 0.25\n")
    clock.sleep(1.0)
    assert link.receive(0.0) == b"first\ndone\nsecond\n"


def test_what_an_instrument_says_unasked_arrives_when_it_is_said(wire: Any, clock: VirtualClock) -> None:
    link = EmulatorLink(wire, clock)
    link.send(b"tick\n")
    for second in (101.0, 102.0):
        assert link.receive(10.0) == b"tick\n"
        assert clock.now() == second
    clock.sleep(2.5)
    assert link.receive(0.0) == b"tick\ntick\n"
    link.send(b"quiet\n")
    assert link.receive(5.0) == b""


def test_clearing_leaves_what_is_yet_to_come(wire: Any, clock: VirtualClock) -> None:
    link = EmulatorLink(wire, clock)
    link.send(b"get\nslow 2\n")
    link.clear()
    assert link.receive(5.0) == b"done\n"


def test_a_reopened_port_has_lost_what_was_under_way_and_the_device_kept_its_state(
    wire: Any, clock: VirtualClock
) -> None:
    first = EmulatorLink(wire, clock)
    first.send(b"set 42\nslow 1\n")
    first.close()
    first.close()
    second = EmulatorLink(wire, clock)
    assert second.receive(5.0) == b""
    second.send(b"get\n")
    assert second.receive(1.0) == b"42\n"
    for use in (lambda: first.send(b"get\n"), lambda: first.receive(1.0), first.clear):
        with pytest.raises(ConnectionLost, match="was closed"):
            use()


def test_closing_wakes_a_reader(wire: Any) -> None:
    link = EmulatorLink(wire, RealClock(), "shutter")
    faults: list[Exception] = []

    def read() -> None:
        try:
            link.receive(600.0)
        except Exception as error:
            faults.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    link.close()
    thread.join(_JOIN_S)
    assert len(faults) == 1 and isinstance(faults[0], ConnectionLost)


class StuckEvent:
    """An emulator that announces an event and never delivers it."""

    def respond(self, t: float, data: bytes) -> Sequence[tuple[float, bytes]]:
        return []

    def next_event(self) -> float | None:
        return 50.0


def test_an_event_that_is_never_delivered_does_not_stop_time(clock: VirtualClock) -> None:
    assert EmulatorLink(StuckEvent(), clock).receive(3.0) == b""
    assert clock.now() == 103.0


@given(st.lists(st.integers(0, 60)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_commands_may_be_split_anywhere(toys: Mapping[str, Any], toy_laboratory: type, cuts: list[int]) -> None:
    stream = b"set 7\r\n\r\nget\rslow 0.5\n\nget\r\n"
    edges = sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})
    link = EmulatorLink(toys["toy-wire"](toy_laboratory(), "toy", {}), VirtualClock())
    for a, b in itertools.pairwise(edges):
        link.send(stream[a:b])
    assert link.receive(1.0) == b"7\n7\n"
    assert link.receive(1.0) == b"done\n"


class OneAtATime:
    """Emulators that fail if two threads are inside them at once, as those that share a laboratory would."""

    inside = threading.Lock()

    def respond(self, t: float, data: bytes) -> Sequence[tuple[float, bytes]]:
        assert self.inside.acquire(blocking=False), "two threads at once"
        try:
            sum(range(200))
            return [(t, data)]
        finally:
            self.inside.release()

    def next_event(self) -> float | None:
        return None


def test_emulators_of_one_laboratory_are_called_by_one_thread_at_a_time() -> None:
    lock = threading.RLock()
    clock = RealClock()
    faults: list[BaseException] = []

    def drive() -> None:
        try:
            link = EmulatorLink(OneAtATime(), clock, lock=lock)
            for _ in range(500):
                link.send(b"x")
                assert link.receive(1.0) == b"x"
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=drive) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_JOIN_S)
    assert faults == []


def test_a_library_gives_what_the_call_table_says(channel: EmulatorChannel, clock: VirtualClock) -> None:
    assert channel.call("SetGain", 7) == (20002, [])
    code, (gain,) = channel.call("GetGain")
    assert (code, gain, type(gain)) == (20002, 7, int)
    assert channel.call("GetName", 32) == (20002, ["toy µ"])
    assert channel.call("GetFields", 3) == (20002, [[0, 1, 2]])
    assert clock.now() == 100.0
    code, (image,) = channel.call("GetImage", 64)
    assert clock.now() == 100.5
    assert code == 20002 and image.dtype == np.int32 and image.shape == (64,)
    assert channel.last.sent == "GetImage(64)" and "20002" in channel.last.received


def test_a_refusing_library_leaves_its_outputs_untouched(channel: EmulatorChannel) -> None:
    code, (scalar, array, text, fields) = channel.call("Refuse", 4, 16, 2)
    assert (code, scalar, array.tolist(), text, fields) == (20066, 0, [0, 0, 0, 0], "", [0, 0])


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("NoSuch", ()),
        ("SetGain", ()),
        ("SetGain", (1, 2)),
        ("SetGain", ("1",)),
        ("SetGain", (1 << 40,)),
        ("Hang", (1,)),
    ],
)
def test_a_call_that_does_not_fit_the_table_never_reaches_the_library(
    channel: EmulatorChannel, function: str, arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(InputError, match=function):
        channel.call(function, *arguments)
    assert channel.call("GetGain") == (20002, [1])


def test_an_emulator_that_breaks_its_call_table_is_found_out(channel: EmulatorChannel) -> None:
    with pytest.raises(InstrumentError, match="breaks its call table at Lie"):
        channel.call("Lie")


def test_a_call_that_hangs_times_out_and_the_library_is_gone(channel: EmulatorChannel, clock: VirtualClock) -> None:
    with pytest.raises(InstrumentTimeout, match="within 2 s") as caught:
        channel.call("Hang", timeout_s=2.0)
    assert clock.now() == 102.0
    assert caught.value.exchange.sent == "Hang()"
    with pytest.raises(ConnectionLost, match=r"Hang\(\) hung"):
        channel.call("GetGain")
    channel.close()


def test_the_safe_state_breaks_off_a_call_that_hangs(toys: Mapping[str, Any], toy_laboratory: type) -> None:
    channel = EmulatorChannel(toys["toy-library"](toy_laboratory(), "toy", {}), RealClock(), TOY_LIBRARY)
    faults: list[Exception] = []
    holds = threading.Event()

    def hang() -> None:
        try:
            with channel.exclusive():
                holds.set()
                channel.call("Hang", timeout_s=4000.0)
        except Exception as error:
            faults.append(error)

    thread = threading.Thread(target=hang, daemon=True)
    thread.start()
    assert holds.wait(_JOIN_S)
    with channel.seize():
        assert channel.call("GetGain") == (20002, [1])
    thread.join(_JOIN_S)
    assert len(faults) == 1 and isinstance(faults[0], ConnectionLost)
    channel.close()
    with pytest.raises(ConnectionLost, match="it was closed"):
        channel.call("GetGain")


@pytest.fixture
def session(clock: VirtualClock) -> Session:
    drivers = {"shutter": ("thorlabs-sc10", {}), "later": ("no-emulator-for-this", {})}
    return Session("bench", clock, laboratory_table={}, seed=3, drivers=drivers)


def request(session: Session, *, resource: str = "sim:", driver: str = "thorlabs-sc10", **more: Any) -> OpenRequest:
    line: LinkSettings = more.get("line", WireSettings(b"\r", b"\r"))
    return OpenRequest("shutter", driver, resource, line, {}, session)


def test_the_device_stays_powered_between_openings_within_a_session(session: Session) -> None:
    first = open_sim(request(session))
    assert isinstance(first, EmulatorLink)
    first.send(b"rep=7\r")
    first.close()
    second = open_sim(request(session))
    assert isinstance(second, EmulatorLink)
    second.send(b"rep?\r")
    assert b"7\r" in second.receive(1.0) + second.receive(1.0)
    assert isinstance(session.laboratory, LocalLaboratory)


def test_the_laboratory_is_told_the_point_and_says_its_state(session: Session, clock: VirtualClock) -> None:
    laboratory = open_laboratory(session)
    assert isinstance(laboratory, LocalLaboratory)
    laboratory.announce(4, 1, 33.0)
    noise = laboratory.stand.laboratory.noise
    assert (noise.seed, noise.point, noise.attempt, noise.schedule_s) == (3, 4, 1, 33.0)
    assert laboratory.state()["sample_in_beam"] is True
    clock.sleep(1.0)
    laboratory.operator("sample out of beam")
    assert laboratory.state()["sample_in_beam"] is False
    with pytest.raises(InputError, match="cannot do 'dance'"):
        laboratory.operator("dance")
    laboratory.close()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"driver": "no-emulator-for-this"}, "is a thorlabs-sc10"),
        ({"line": TOY_LIBRARY}, "one speaks on a wire"),
    ],
)
def test_what_does_not_stand_on_the_bench_cannot_be_opened(
    session: Session, change: dict[str, Any], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        open_sim(request(session, **change))


def test_a_driver_without_emulator_is_refused(clock: VirtualClock) -> None:
    with pytest.raises(InputError, match="emulator for the driver 'no-emulator-for-this'"):
        open_sim(request(Session("bench", clock), driver="no-emulator-for-this"))


def test_a_laboratory_in_this_process_has_no_instruments_in_another(session: Session) -> None:
    open_sim(request(session))
    with pytest.raises(InputError, match="in this process") as caught:
        open_sim_tcp(request(session, resource="sim+tcp://127.0.0.1:4000"))
    assert 'served_at = "127.0.0.1:4000"' in caught.value.todo


@pytest.mark.parametrize("served_at", [4000, "here", "127.0.0.1:", ""])
def test_an_address_that_is_none_is_refused(clock: VirtualClock, served_at: Any) -> None:
    with pytest.raises(InputError):
        open_laboratory(Session("bench", clock, laboratory_table={"served_at": served_at}))


def test_nobody_serving_there_is_a_lost_connection_that_says_how_to_serve(clock: VirtualClock) -> None:
    with pytest.raises(ConnectionLost, match="labctl sim serve"):
        open_laboratory(Session("bench", clock, laboratory_table={"served_at": "127.0.0.1:1"}))


def test_where_a_laboratory_is_served_is_no_part_of_its_physics() -> None:
    table = {"served_at": "127.0.0.1:1", "laser": {"energy": 1}}
    assert without_served_at(table) == {"laser": {"energy": 1}}
    assert without_served_at(None) == {}
    raw = without_served_at(RawTable("bench.toml", ("laboratory",), scan_lines(""), table))
    assert isinstance(raw, RawTable) and raw.data == {"laser": {"energy": 1}}
