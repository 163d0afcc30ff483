"""Getting in step, the error queue and the numbers of a line that speaks SCPI."""

from __future__ import annotations

import pytest

from drivers.scpi.emulators.interface import ScpiError, ScpiInterface, command, number, query, switch
from drivers.scpi.emulators.messages import Unit
from drivers.scpi.line import ScpiLine
from labctl.errors import InstrumentError, InstrumentTimeout
from labctl.sim.emulator import Reply
from labctl.transport.settings import WireSettings

SETTINGS = WireSettings(write_termination=b"\n", read_termination=b"\n", timeout_s=1.0)


class Device:
    """An instrument with a number, a state, and a query that it answers late or never."""

    def __init__(self) -> None:
        self.value = 1.5
        self.slow_s = 0.0
        self.aborted = 0
        self.interface = ScpiInterface(
            {
                "*IDN": query(lambda: "A,B,C,D"),
                "VALue": self._value,
                "STATe": query(lambda: "1"),
                "WORD": query(lambda: "perhaps"),
                "ABORt": command(self._abort),
            },
            reply_s=0.0,
        )

    def _value(self, t: float, unit: Unit) -> str | None:
        if unit.query:
            return f"{self.value:.3E}"
        self.value = number(unit)
        return None

    def _abort(self) -> None:
        self.aborted += 1

    def respond(self, t: float, data: bytes) -> list[Reply]:
        slow_s = self.slow_s if b"VAL" in data else 0.0
        return [(moment + slow_s, reply) for moment, reply in self.interface.respond(t, data)]

    def next_event(self) -> float | None:
        return None


@pytest.fixture
def line_to(adapter_to, tap):
    def build(abort: str = ""):
        wire = tap(Device())
        return wire, ScpiLine(adapter_to(wire, SETTINGS), "device", abort)

    return build


def test_numbers_and_states(line_to) -> None:
    _, line = line_to()
    line.write("VAL 2.25")
    assert line.number("VAL?") == 2.25
    assert line.flag("STAT?") is True
    assert line.identity_fields() == ["A", "B", "C", "D"]
    with pytest.raises(InstrumentError, match="not a number") as caught:
        line.number("WORD?")
    assert "perhaps" in caught.value.exchange.received
    with pytest.raises(InstrumentError, match="0 or 1 was expected"):
        line.flag("VAL?")


def test_it_gets_in_step_before_the_first_word_and_never_again(line_to) -> None:
    wire, line = line_to()
    line.write("VAL 1")
    line.write("VAL 2")
    assert wire.sent == [b"*IDN?\n", b"SYST:ERR?\n", b"VAL 1\n", b"VAL 2\n"]


@pytest.mark.parametrize(("abort", "aborted"), [("", 0), ("ABOR", 1)])
def test_it_aborts_only_what_may_be_aborted(line_to, abort, aborted) -> None:
    wire, line = line_to(abort)
    line.synchronise()
    assert wire.emulator.aborted == aborted


def test_a_late_reply_is_an_error_and_answers_nothing_else(line_to) -> None:
    wire, line = line_to()
    assert line.number("VAL?") == 1.5
    wire.emulator.slow_s = 1.2
    with pytest.raises(InstrumentTimeout) as caught:
        line.number("VAL?")
    assert "the device answers again" in caught.value.state
    wire.emulator.slow_s = 0.0
    assert line.flag("STAT?") is True


def test_a_reply_that_comes_long_after_it_was_given_up_answers_nothing(line_to, clock) -> None:
    wire, line = line_to()
    assert line.number("VAL?") == 1.5
    wire.emulator.slow_s = 3.0
    with pytest.raises(InstrumentTimeout):
        line.number("VAL?")
    wire.emulator.slow_s = 0.0
    clock.sleep(5.0)
    line.raise_errors("it refused")
    assert line.flag("STAT?") is True


def test_a_read_without_a_query_is_no_refusal(line_to) -> None:
    wire, line = line_to()
    line.synchronise()
    answers = iter([b'-420,"Query UNTERMINATED"\n', b'-222,"Data out of range"\n', b'0,"No error"\n'])
    wire.damage_reply = lambda t, data: [(t, next(answers))]
    assert line.take_errors() == ['-222,"Data out of range"']


def test_silence_says_what_the_error_queue_holds(line_to) -> None:
    _, line = line_to()
    with pytest.raises(InstrumentTimeout) as caught:
        line.ask("NONSENSE?")
    assert '-113,"Undefined header"' in caught.value.state


def test_the_queue_is_emptied_and_told(line_to) -> None:
    _, line = line_to()
    line.write("NONSENSE 1")
    line.write("VAL many")
    with pytest.raises(InstrumentError, match=r'it refused: -113,"Undefined header"; -104,"Data type error"'):
        line.raise_errors("it refused")
    line.raise_errors("it refused")


def test_a_queue_that_overflows_says_so() -> None:
    interface = ScpiInterface({}, reply_s=0.0)
    interface.respond(0.0, b"BAD\n" * 40)
    said = [interface.respond(0.0, b"SYST:ERR?\n")[0][1] for _ in range(17)]
    assert said[15] == b'-350,"Queue overflow"\n' and said[16] == b'0,"No error"\n'


def test_a_queue_without_end_is_not_waited_for(line_to, tap) -> None:
    wire, line = line_to()
    line.synchronise()
    wire.damage_reply = lambda t, data: [(t, b'-100,"Command error"\n')]
    assert len(line.take_errors()) == 32


def test_a_device_that_talks_but_never_answers(line_to) -> None:
    wire, line = line_to()
    wire.damage_reply = lambda t, data: [(t + 0.01 * count, b"blah\n") for count in range(200)]
    with pytest.raises(InstrumentTimeout):
        line.synchronise()


@pytest.mark.parametrize(("text", "found"), [("ON", True), ("0", False), ("off", False)])
def test_booleans(text, found) -> None:
    assert switch(Unit(("X",), False, text)) is found
    with pytest.raises(ScpiError):
        switch(Unit(("X",), False, "maybe"))
