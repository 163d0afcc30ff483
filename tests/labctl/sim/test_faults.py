"""Faults on simulated wires: each does what its name says, and nothing happens outside of a test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.clock import VirtualClock
from labctl.errors import ConnectionLost, InstrumentTimeout
from labctl.sim.emulator import LineBuffer, Reply
from labctl.sim.faults import CONNECT, Fault, Faults, Kind, Transaction, active_faults, injected
from labctl.sim.link import EmulatorChannel, EmulatorLink
from labctl.sim.spoiling import Spoiler, spoil_bytes, spoil_outputs
from labctl.transport.adapter import WireAdapter
from labctl.transport.settings import LibrarySettings, Parameter, WireSettings

WIRE = WireSettings(timeout_s=1.0)
LIBRARY = LibrarySettings(
    "toys",
    {},
    {
        "Measure": (Parameter("out", "f64"),),
        "Read": (Parameter("array_out", "i32"),),
        "Name": (Parameter("text_out"),),
    },
    timeout_s=10.0,
)


class ToyMeter:
    """Answers every line with the number of lines so far."""

    def __init__(self) -> None:
        self.lines = 0
        self.stuck = False
        self.started_s = 0.0
        self._input = LineBuffer(b"\n")

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        replies = []
        for _ in self._input.feed(data):
            self.lines += 1
            replies.append((t, f"value {self.lines:04d} J\n".encode()))
        return replies

    def next_event(self) -> float | None:
        return None

    def power_cycle(self, t: float) -> None:
        self.lines, self.started_s = 0, t

    def refuse(self, t: float, data: bytes) -> Sequence[Reply]:
        return [(t, b"ERROR\n")]


class ToyLibrary:
    """Gives a number, an array, a name."""

    def call(self, t: float, function: str, arguments: Sequence[Any]) -> tuple[float, int, Sequence[Any]]:
        outputs = {"Measure": 2.5, "Read": np.arange(1, 9, dtype=np.int32), "Name": "toy 7"}
        return t + 0.1, 0, [outputs[function]]

    def refuse(self, t: float, function: str) -> int:
        return 99


class Bench:
    """A toy meter behind a faulty wire; the fault goes into the transaction of the given number."""

    def __init__(self, kind: Kind | None, number: int = 1) -> None:
        self.seen: list[Transaction] = []
        self.fault = Fault(kind) if kind is not None else None
        self.number = number
        self.clock = VirtualClock()
        self.emulator = ToyMeter()
        self.faults = Faults(self.watch)
        self.adapter = WireAdapter(self.connect, WIRE, self.clock, "meter")

    def watch(self, transaction: Transaction) -> Fault | None:
        self.seen.append(transaction)
        return self.fault if transaction.number == self.number else None

    def connect(self) -> EmulatorLink:
        return EmulatorLink(self.faults.put("meter", self.emulator, WIRE), self.clock)

    def ask(self) -> str:
        self.adapter.write("?")
        return self.adapter.read()


def test_transactions_are_numbered_and_shown_before_they_happen() -> None:
    bench = Bench(None)
    assert [bench.ask(), bench.ask()] == ["value 0001 J", "value 0002 J"]
    assert [(one.number, one.role, one.command) for one in bench.seen] == [
        (0, "meter", CONNECT),
        (1, "meter", repr(b"?\n")),
        (2, "meter", repr(b"?\n")),
    ]
    assert set(bench.seen[1].kinds) == set(Kind)


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (Kind.DIGIT, "value 0003 J"),
        (Kind.BYTE_LOST, "value 001 J"),
        (Kind.DEVICE_ERROR, "ERROR"),
        (Kind.GARBLED, "value 0\xb001 J"),
        (Kind.RESET, "value 0001 J"),
        (Kind.STUCK, "value 0001 J"),
    ],
)
def test_what_is_received(kind: Kind, answer: str) -> None:
    bench = Bench(kind)
    assert bench.ask() == answer
    assert bench.fault is not None and bench.fault.applied
    assert bench.emulator.stuck is (kind is Kind.STUCK)


@pytest.mark.parametrize(("kind", "carried_out"), [(Kind.LOST, 0), (Kind.SILENCE, 1), (Kind.TRUNCATED, 1)])
def test_a_lost_reply_is_not_a_lost_command(kind: Kind, carried_out: int) -> None:
    bench = Bench(kind)
    with pytest.raises(InstrumentTimeout):
        bench.ask()
    assert bench.emulator.lines == carried_out
    assert bench.ask() == f"value {carried_out + 1:04d} J"


def test_a_late_reply_comes_when_nobody_waits_any_more() -> None:
    bench = Bench(Kind.LATE)
    with pytest.raises(InstrumentTimeout):
        bench.ask()
    bench.clock.sleep(0.5)
    assert bench.ask() == "value 0001 J", "the old answer to the new question"


def test_silence_for_good_outlives_a_reconnection() -> None:
    bench = Bench(Kind.DEAD)
    for _ in range(2):
        with pytest.raises(InstrumentTimeout):
            bench.ask()
        bench.adapter.reconnect()


def test_a_broken_connection_can_be_made_anew_an_unplugged_one_cannot() -> None:
    broken, unplugged = Bench(Kind.DISCONNECT), Bench(Kind.UNPLUGGED)
    for bench in (broken, unplugged):
        for _ in range(2):
            with pytest.raises(ConnectionLost, match="meter"):
                bench.ask()
    broken.adapter.reconnect()
    assert broken.ask() == "value 0001 J"
    with pytest.raises(ConnectionLost, match="unplugged"):
        unplugged.adapter.reconnect()


@pytest.mark.parametrize("kind", [Kind.DISCONNECT, Kind.UNPLUGGED])
def test_a_connection_may_fail_when_it_is_made(kind: Kind) -> None:
    with pytest.raises(ConnectionLost):
        Bench(kind, number=0)


def test_another_instrument_can_be_reset_meanwhile() -> None:
    bench = Bench(None)
    other = ToyMeter()
    other.lines = 5
    bench.faults.put("other", other, WIRE)
    bench.fault, bench.number = Fault(Kind.RESET, "other"), 2
    assert bench.ask() == "value 0001 J"
    assert other.lines == 0
    assert bench.fault.applied


def channel(kind: Kind) -> tuple[EmulatorChannel, Fault]:
    fault = Fault(kind)
    faults = Faults(lambda transaction: fault if transaction.number == 1 else None)
    library = faults.put("camera", ToyLibrary(), LIBRARY)
    return EmulatorChannel(library, VirtualClock(), LIBRARY, "camera"), fault


@pytest.mark.parametrize(
    ("kind", "function", "arguments", "check"),
    [
        (Kind.GARBLED, "Measure", (), lambda code, value: code == 0 and np.isnan(value)),
        (Kind.DIGIT, "Measure", (), lambda code, value: code == 0 and value == 3.625),
        (Kind.TRUNCATED, "Read", (8,), lambda code, value: value.tolist() == [1, 2, 3, 4, 0, 0, 0, 0]),
        (Kind.GARBLED, "Read", (8,), lambda code, value: value.max() > 1 << 30),
        (Kind.DIGIT, "Name", (20,), lambda code, value: value == "toy 9"),
        (Kind.DEVICE_ERROR, "Measure", (), lambda code, value: code == 99),
    ],
)
def test_calls_are_spoilt(kind: Kind, function: str, arguments: tuple, check: Callable[[int, Any], bool]) -> None:
    library, fault = channel(kind)
    code, (value,) = library.call(function, *arguments)
    assert fault.applied
    assert check(code, value)


def test_a_call_may_hang_or_come_late_or_lose_its_process() -> None:
    hanging, _ = channel(Kind.SILENCE)
    with pytest.raises(InstrumentTimeout):
        hanging.call("Measure")
    late, _ = channel(Kind.LATE)
    assert late.call("Measure", timeout_s=7.0) == (0, [2.5])
    assert late.clock.now() == pytest.approx(6.1)
    dead, _ = channel(Kind.DISCONNECT)
    with pytest.raises(ConnectionLost, match="camera"):
        dead.call("Measure")


def test_what_an_emulator_does_not_offer_is_not_asked_of_it() -> None:
    seen: list[Transaction] = []

    def watch(transaction: Transaction) -> None:
        seen.append(transaction)

    faults = Faults(watch)
    EmulatorChannel(faults.put("camera", ToyLibrary(), LIBRARY), VirtualClock(), LIBRARY).call("Measure")
    assert seen[1].is_call
    assert Kind.DEVICE_ERROR in seen[1].kinds
    assert not {Kind.RESET, Kind.STUCK, Kind.LOST, Kind.BYTE_LOST} & set(seen[1].kinds)


def test_there_are_no_faults_outside_of_the_block() -> None:
    assert active_faults() is None
    with injected(lambda _: None) as faults:
        assert active_faults() is faults
    assert active_faults() is None


@given(data=st.binary(min_size=1, max_size=40), number=st.integers(0, 10_000), spoiler=st.sampled_from(Spoiler))
def test_bytes_are_changed_the_same_way_each_time_and_never_left_as_they_were(
    data: bytes, number: int, spoiler: Spoiler
) -> None:
    spoilt = spoil_bytes(data, spoiler, number)
    assert spoilt == spoil_bytes(data, spoiler, number)
    assert spoilt != data
    assert (spoilt is None) is (spoiler is Spoiler.DIGIT and not any(byte in b"0123456789" for byte in data))


@given(number=st.integers(0, 1000), spoiler=st.sampled_from(Spoiler))
def test_one_output_is_spoilt_and_the_others_are_left(number: int, spoiler: Spoiler) -> None:
    parameters = [Parameter("out", "i32"), Parameter("out", "f64"), Parameter("array_out", "u16")]
    outputs = [5, 1.0, np.arange(1, 5, dtype=np.uint16)]
    spoilt = spoil_outputs(parameters, outputs, spoiler, number)
    assert spoilt is not None
    assert sum(not np.array_equal(*pair) for pair in zip(spoilt, outputs, strict=True)) == 1


def test_an_output_without_digits_or_halves_has_nothing_to_spoil() -> None:
    assert spoil_outputs([Parameter("out", "i32")], [5], Spoiler.CUT, 0) is None
    assert spoil_outputs([Parameter("text_out")], ["none"], Spoiler.DIGIT, 0) is None
    assert spoil_outputs([], [], Spoiler.NOISE, 0) is None
