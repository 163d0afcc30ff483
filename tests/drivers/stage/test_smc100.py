"""The SMC100 and CONEX drivers over their emulator; the bytes expected on the wire are written from the fact sheet."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.stage.emulators.smc100 import ConexCCEmulator, SMC100Emulator
from drivers.stage.smc100 import SMC100, ConexCC
from labctl.errors import InstrumentError, InstrumentTimeout
from labctl.roles import Identity, LinearStage
from labctl.sim.laboratory import create


def emulator_with(**options) -> SMC100Emulator:
    return SMC100Emulator(create(None, None, 0), "slit_far", options)


def answers(emulator, data: bytes, t: float = 1.0) -> bytes:
    return b"".join(reply for _, reply in emulator.respond(t, data))


@pytest.fixture
def stand(stage_stand):
    return lambda **options: stage_stand(SMC100, SMC100Emulator, **options)


READY = {"state": 0x32}


@pytest.mark.parametrize(
    ("options", "sent", "received"),
    [
        ({}, b"1TS\r\n", b"1TS00000A\r\n"),
        ({}, b"1TE\r\n", b"1TE@\r\n"),
        ({}, b"\r\n\r\n1TS\r\n\r\n", b"1TS00000A\r\n"),
        ({}, b"2TS\r\nTS\r\n", b""),
        ({}, b"1PA1.5\r\n1TE\r\n1TE\r\n", b"1TEH\r\n1TE@\r\n"),
        ({}, b"1PA1.5\r\n1TB\r\n", b"1TBH Execution not allowed in NOT REFERENCED state\r\n"),
        ({}, b"1TBG\r\n", b"1TBG Displacement out of limits\r\n"),
        ({}, b"1XY\r\n1TE\r\n", b"1TEA\r\n"),
        ({}, b"1OR\r\n1TS\r\n1OR\r\n1TE\r\n", b"1TS00001E\r\n1TEE\r\n"),
        (READY, b"1PA1.5\r\n1TS\r\n1PA2\r\n1TE\r\n", b"1TS000028\r\n1TEM\r\n"),
        (READY, b"1TP\r\n1TH\r\n", b"1TP0.00000\r\n1TH0.00000\r\n"),
        (READY, b"1PA51\r\n1TE\r\n", b"1TEG\r\n"),
        (READY, b"1PA\r\n1TE\r\n1PAx\r\n1TE\r\n", b"1TEC\r\n1TEC\r\n"),
        (READY, b"1OR\r\n1TE\r\n", b"1TEK\r\n"),
        (READY, b"1MM0\r\n1TS\r\n1PA1\r\n1TE\r\n1MM1\r\n1TS\r\n", b"1TS00003C\r\n1TEJ\r\n1TS000034\r\n"),
        (READY, b"1SL?\r\n1SR?\r\n1VA?\r\n1AC?\r\n", b"1SL-5\r\n1SR50\r\n1VA2\r\n1AC8\r\n"),
        ({"state": 0x14}, b"1PA1\r\n1TE\r\n1ID?\r\n", b"1TEI\r\n1IDTRA25CC\r\n"),
        ({}, b"1PW1\r\n1TS\r\n", b"1TS000014\r\n"),
        ({"address": 12}, b"12TS\r\n1TS\r\n", b"12TS00000A\r\n"),
        ({}, b"1TS", b""),
    ],
)
def test_emulator_answers_as_the_protocol_says(options, sent, received):
    assert answers(emulator_with(**options), sent) == received


def test_a_move_takes_its_time_and_nothing_acknowledges_it():
    emulator = emulator_with(state=0x32)
    assert answers(emulator, b"1PA3.2\r\n", 10.0) == b""
    assert answers(emulator, b"1TS\r\n", 11.0) == b"1TS000028\r\n"
    assert answers(emulator, b"1TS\r\n1TP\r\n", 12.0) == b"1TS000033\r\n1TP3.20000\r\n"
    answers(emulator, b"1PR-0.2\r\n", 12.0)
    answers(emulator, b"1ST\r\n", 12.1)
    assert answers(emulator, b"1TS\r\n", 13.0) == b"1TS000033\r\n"
    assert 3.0 < float(answers(emulator, b"1TP\r\n", 13.0)[3:]) < 3.2


def test_homing_takes_seconds_and_a_stop_ends_it():
    emulator = emulator_with()
    answers(emulator, b"1OR\r\n", 1.0)
    assert answers(emulator, b"1TS\r\n", 2.0) == b"1TS00001E\r\n"
    answers(emulator, b"1ST\r\n", 2.1)
    assert answers(emulator, b"1TS\r\n", 3.0) == b"1TS00000B\r\n"
    answers(emulator, b"1OR\r\n", 4.0)
    assert answers(emulator, b"1TS\r\n", 9.0) == b"1TS000032\r\n"


@given(cuts=st.sets(st.integers(1, 34)))
@settings(max_examples=25, deadline=None)
def test_commands_may_come_in_pieces(cuts):
    stream = b"1TS\r\n\r\n1TE\r\n1MM1\r\n1TE\r\n1TH\r\n"
    emulator = emulator_with()
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    received = b"".join(answers(emulator, stream[a:b]) for a, b in itertools.pairwise(edges))
    assert received == b"1TS00000A\r\n1TE@\r\n1TEH\r\n1TH0.00000\r\n"


def test_start_up_homes_one_that_is_not_referenced(stand):
    s = stand(start_up=False)
    sent = s.sent_since(s.driver.start_up)
    assert sent.startswith(b"1VE\r\n1VE\r\n1TE\r\n1TS\r\n") and sent.count(b"1OR\r\n") == 1
    assert sent.endswith(b"1VA?\r\n1VA?\r\n1AC?\r\n1AC?\r\n1SL?\r\n1SL?\r\n1SR?\r\n1SR?\r\n")
    assert isinstance(s.driver, LinearStage) and s.driver.is_homed
    assert s.driver.range_mm == (-5.0, 50.0)
    assert s.driver.identify() == Identity("Newport", "SMC100CC", firmware="2.0.1")
    assert all(entry.ok for entry in s.driver.readiness())


def test_start_up_does_not_home_one_that_is_referenced(stand):
    s = stand(start_up=False, state=0x33)
    assert b"OR" not in s.sent_since(s.driver.start_up)
    assert s.driver.move_to(1.0) == 1.0


def test_moves_arrive_from_below(stand):
    s = stand(backlash_um=20.0, repeatability_um=0.0)
    sent = s.sent_since(lambda: s.driver.move_to(3.0))
    assert sent.startswith(b"1TS\r\n1TS\r\n1TE\r\n1TP\r\n1TP\r\n1PA3\r\n1TS\r\n")
    assert sent.endswith(b"1TS\r\n1TE\r\n1TS\r\n1TP\r\n1TP\r\n1TS\r\n")
    sent = s.sent_since(lambda: s.driver.move_to(2.0))
    assert [line for line in sent.split(b"\r\n") if b"PA" in line] == [b"1PA1.98", b"1PA2"]
    assert s.true_mm == pytest.approx(2.0, abs=1e-9) and s.driver.position_mm == 2.0


def test_what_rests_there_since_before_is_left_in_peace(stand, adapter_to):
    s = stand()
    s.driver.move_to(1.0)
    again = SMC100(adapter_to(s.wire, SMC100.LINK), clock=s.clock)
    again.start_up()
    s.wire.sent.clear()
    assert again.move_to(1.0) == 1.0
    assert not any(b"PA" in part for part in s.wire.sent)
    again.home()
    s.wire.sent.clear()
    again.move_to(0.0)
    assert [part for part in s.wire.sent if b"PA" in part] == [b"1PA-0.02\r\n", b"1PA0\r\n"]


def test_the_address_of_the_option_is_used(stand):
    s = stand(options={"address": 7, "velocity_mm_s": 1.0}, address=7)
    assert b"7PA1\r\n" in s.sent_since(lambda: s.driver.move_to(1.0))
    assert answers(s.emulator, b"7VA?\r\n", s.clock.now()) == b"7VA1\r\n"
    with pytest.raises(InstrumentTimeout, match="does not answer"):
        stand(options={"address": 2})


def test_a_conex_is_served_likewise(stage_stand):
    s = stage_stand(ConexCC, ConexCCEmulator)
    assert s.driver.identify() == Identity("Newport", "CONEX-CC", firmware="2.0.1")
    assert s.driver.move_to(1.0) == 1.0
    assert ConexCC.LINK.baud_rate == 921600 and not ConexCC.LINK.xonxoff
    assert SMC100.LINK.baud_rate == 57600 and SMC100.LINK.xonxoff
    with pytest.raises(InstrumentError, match="not the version of an SMC100"):
        stage_stand(SMC100, ConexCCEmulator)


@pytest.mark.parametrize("position_mm", [-1.001, 8.001, float("nan")])
def test_a_position_beyond_the_limits_is_refused_before_anything_moves(stand, position_mm):
    s = stand(options={"lowest_mm": -1.0, "highest_mm": 8.0})
    with pytest.raises(InstrumentError, match="lies outside -1 mm to 8 mm") as caught:
        s.driver.move_to(position_mm)
    assert "nothing was moved" in str(caught.value) and not any(b"PA" in part for part in s.wire.sent)


def test_not_homed_is_refused_with_what_to_do(stand):
    s = stand(options={"home_at_start": False})
    assert not s.driver.is_homed and not s.driver.readiness()[0].ok
    with pytest.raises(InstrumentError, match="not homed: state 0A") as caught:
        s.driver.move_to(1.0)
    assert "home_at_start" in caught.value.todo
    s.driver.home()
    assert s.driver.move_to(1.0) == 1.0


def test_homing_anew_resets_the_controller_first(stand):
    s = stand()
    s.driver.move_to(3.0)
    sent = s.sent_since(s.driver.home)
    assert sent.index(b"1RS\r\n") < sent.index(b"1OR\r\n")
    assert s.driver.position_mm == 0.0 and s.true_mm == pytest.approx(0.0, abs=0.003)


@pytest.mark.parametrize("state", [0x3C, 0x3D, 0x3E, 0x3F])
def test_a_disabled_motor_is_enabled_at_the_start(stand, state):
    s = stand(state=state)
    assert s.driver.is_homed and s.driver.move_to(1.0) == 1.0


def test_a_motor_disabled_in_between_is_noticed(stand):
    s = stand()
    s.emulator.disable(s.clock.now())
    with pytest.raises(InstrumentError, match=r"the motor is disabled: state 3C"):
        s.driver.move_to(1.0)


@pytest.mark.parametrize(
    ("state", "words"),
    [(0x14, "being configured"), (0x46, "keypad"), (0x47, "keypad"), (0x10, "does not know its stage")],
)
def test_a_state_that_only_a_person_can_end(stand, state, words):
    s = stand(start_up=False, state=state)
    with pytest.raises(InstrumentError, match=words) as caught:
        s.driver.start_up()
    assert caught.value.todo and "nothing was moved" in str(caught.value)
    assert not any(b"OR" in part or b"PW" in part for part in s.wire.sent)


@pytest.mark.parametrize("options", [{"awkward": True}, {"moving_to_mm": 30.0}, {"error": "N"}, {"state": 0x0F}])
def test_an_awkward_start(stand, options):
    s = stand(**options)
    assert s.driver.move_to(4.0) == 4.0
    assert s.true_mm == pytest.approx(4.0, abs=0.0015)


def test_half_a_command_of_somebody_else_moves_nothing(stand):
    s = stand(state=0x32, awkward=True)
    s.clock.sleep(10.0)
    assert s.true_mm == 0.0


def test_a_motor_that_does_not_follow(stand):
    s = stand()
    s.emulator.stuck = True
    with pytest.raises(InstrumentError, match="following error") as caught:
        s.driver.move_to(2.0)
    assert "may stand anywhere from 0.0000 mm to 2.0000 mm" in str(caught.value)
    assert not s.driver.is_homed


def test_homing_against_a_block(stand):
    with pytest.raises(InstrumentError, match="time-out of homing"):
        stand(stuck=True)


def test_a_home_command_that_is_lost_is_noticed(stand):
    s = stand(start_up=False)
    s.wire.damage_command = lambda data: data.replace(b"1OR\r\n", b"")
    with pytest.raises(InstrumentError, match="did not begin"):
        s.driver.start_up()


def test_a_command_that_the_controller_refuses_is_named(stand):
    s = stand()
    s.wire.damage_command = lambda data: data.replace(b"1PA2\r", b"1PA200\r")
    with pytest.raises(InstrumentError, match="error G \\(displacement out of limits\\)"):
        s.driver.move_to(2.0)


def test_a_reset_between_two_moves_is_noticed(stand):
    s = stand()
    s.driver.move_to(2.0)
    s.emulator.power_cycle(s.clock.now())
    with pytest.raises(InstrumentError, match="not homed: state 0A"):
        _ = s.driver.position_mm
    s.driver.home()
    assert s.driver.move_to(1.0) == 1.0 and s.true_mm == pytest.approx(1.0, abs=0.0015)


@pytest.mark.parametrize("answer", [b"1TS0033\r\n", b"1TS0000FF\r\n", b"1TP2.0\r\n", b"2TS000033\r\n", b"\r\n"])
def test_a_state_that_is_none_shows_its_bytes(stand, answer):
    s = stand()
    s.wire.damage_reply = lambda t, data: [(t, answer)]
    with pytest.raises(InstrumentError, match="is no answer to '1TS'") as caught:
        _ = s.driver.is_homed
    assert answer.strip().decode() in str(caught.value)


@pytest.mark.parametrize(
    ("bits", "word"), [(0x0100, "DC voltage too low"), (0x8000, "bits 8000"), (0x0001, "negative")]
)
def test_faults_are_told_in_words(stand, bits, word):
    s = stand()
    s.emulator.faults = bits
    (entry,) = s.driver.readiness()
    assert word in entry.text
    assert entry.ok is not bool(bits & 0x03FC)


def test_a_late_answer_does_not_answer_the_next_question(stand):
    s = stand()
    s.driver.move_to(2.0)
    late_s = s.clock.now() + 1.2
    s.wire.damage_reply = lambda t, data: [(max(t, late_s), data)]
    with pytest.raises(InstrumentTimeout):
        _ = s.driver.position_mm
    s.wire.damage_reply = lambda t, data: [(t, data)]
    assert s.driver.move_to(3.0) == 3.0


def test_make_safe_stops_a_motion_and_leaves_the_stage_there(stand):
    s = stand()
    answers(s.emulator, b"1PA40\r\n", s.clock.now())
    s.clock.sleep(2.0)
    (step,) = s.driver.make_safe()
    assert step.confirmed and "position reads" in step.evidence
    rests_mm = s.true_mm
    s.clock.sleep(30.0)
    assert s.true_mm == rests_mm and 3.0 < rests_mm < 6.0
    assert s.driver.move_to(1.0) == 1.0


@pytest.mark.parametrize("state", [0x0A, 0x10, 0x14, 0x32, 0x3C])
def test_make_safe_in_every_state(stand, state):
    s = stand(start_up=False, state=state)
    (step,) = s.driver.make_safe()
    assert step.confirmed


def test_make_safe_cannot_confirm_a_stage_that_somebody_jogs(stand):
    s = stand(start_up=False, state=0x46)
    (step,) = s.driver.make_safe()
    assert not step.confirmed and "does not stop" in step.evidence


def test_make_safe_of_a_dead_controller_says_so(stand):
    s = stand()
    s.wire.damage_reply = lambda t, data: []
    (step,) = s.driver.make_safe()
    assert not step.confirmed and "does not answer" in step.evidence
