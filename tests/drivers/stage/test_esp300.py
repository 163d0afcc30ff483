"""The ESP300 driver over its emulator; the bytes expected on the wire are written from the fact sheet."""

from __future__ import annotations

import itertools
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.stage.emulators.esp300 import ESP300Emulator
from drivers.stage.esp300 import ESP300
from labctl.errors import InstrumentError, InstrumentTimeout
from labctl.roles import Identity, LinearStage
from labctl.sim.laboratory import create


def emulator_with(**options) -> ESP300Emulator:
    return ESP300Emulator(create(None, None, 0), "slit_far", options)


def answers(emulator, data: bytes, t: float = 1.0) -> bytes:
    return b"".join(reply for _, reply in emulator.respond(t, data))


@pytest.fixture
def stand(stage_stand):
    return lambda **options: stage_stand(ESP300, ESP300Emulator, **options)


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (b"VE?\r", b"ESP300 Version 3.08\r\n"),
        (b"1TP\r", b"0.00000\r\n"),
        (b"1MD?\r", b"1\r\n"),
        (b"1MO?\r", b"0\r\n"),
        (b"1MO\r1MO?\r1MF\r1MO?\r", b"1\r\n0\r\n"),
        (b"1SN?\r", b"2\r\n"),
        (b"1SL?;1SR?\r", b"-5.00000\r\n50.00000\r\n"),
        (b"1SL-1.5;1SR10\r1SL?\r\n1SR?\r\n", b"-1.50000\r\n10.00000\r\n"),
        (b"1VA?\r1VA0.5\r1VA?\r", b"2.00000\r\n0.50000\r\n"),
        (b"1AC?\r1AG?\r", b"8.00000\r\n8.00000\r\n"),
        (b"TE?\r", b"0\r\n"),
        (b"TB?\r", b"0, 2500, NO ERROR DETECTED\r\n"),
        (b"\r\r\n\r", b""),
        (b"1PA3.2\r", b""),
        (b"1PA3.2\rTE?\rTE?\r", b"113\r\n0\r\n"),
        (b"1MO;1PA50.1\rTB?\r", b"106, 2500, AXIS-1 POSITIVE SOFTWARE LIMIT DETECTED\r\n"),
        (b"1MO;1PA-5.1\rTE?\r", b"107\r\n"),
        (b"1XX\rTE?\r", b"6\r\n"),
        (b"4TP\rTE?\r", b"9\r\n"),
        (b"TP\rTE?\r", b"37\r\n"),
        (b"1PA\rTE?\r", b"38\r\n"),
        (b"2TP\rTE?\r", b"208\r\n"),
        (b"1SN3;1SL?\r", b"-5000.00000\r\n"),
        (b"1DH2.0;1TP\r", b"2.00000\r\n"),
        (b"TP", b""),
    ],
)
def test_emulator_answers_as_the_protocol_says(sent, received):
    assert answers(emulator_with(), sent) == received


def test_a_move_takes_its_time_and_nothing_acknowledges_it():
    emulator = emulator_with(motor_on=True)
    assert answers(emulator, b"1PA3.2\r", 10.0) == b""
    assert answers(emulator, b"1MD?\r", 11.0) == b"0\r\n"
    assert 0.5 < float(answers(emulator, b"1TP\r", 11.0)) < 2.5
    assert answers(emulator, b"1MD?;1TP\r", 12.0) == b"1\r\n3.20000\r\n"
    answers(emulator, b"1PR-0.5\r", 12.0)
    assert answers(emulator, b"1TP\r", 14.0) == b"2.70000\r\n"


def test_a_stopped_move_ends_on_its_way():
    emulator = emulator_with(motor_on=True)
    answers(emulator, b"1PA10\r", 0.0)
    answers(emulator, b"1ST\r", 2.0)
    assert answers(emulator, b"1MD?\r", 2.1) == b"0\r\n"
    assert answers(emulator, b"1MD?\r", 2.5) == b"1\r\n"
    stopped = float(answers(emulator, b"1TP\r", 2.5))
    assert 3.0 < stopped < 5.0 and float(answers(emulator, b"1TP\r", 9.0)) == stopped


def test_after_ws_the_controller_answers_when_the_stage_stands():
    emulator = emulator_with(motor_on=True)
    ((arrives, reply),) = emulator.respond(10.0, b"1PA2;1WS200\r1MD?\r")
    # 2 mm at 2 mm/s with 8 mm/s² take 1.25 s, and 50 ms to settle; then 200 ms.
    assert reply == b"1\r\n" and arrives == pytest.approx(10.0 + 1.25 + 0.05 + 0.2 + 0.003)


def test_homing_finds_the_mark_wherever_the_counter_was():
    laboratory = create({"stages": {"slit_far": {"initial_mm": 7.0}}}, None, 0)
    emulator = ESP300Emulator(laboratory, "slit_far", {})
    assert answers(emulator, b"1TP\r", 1.0) == b"0.00000\r\n"
    assert answers(emulator, b"1OR\rTE?\r", 1.0) == b"113\r\n"
    assert answers(emulator, b"1MO;1OR\r1MD?\r1PA3\rTE?\r", 2.0) == b"0\r\n130\r\n"
    assert answers(emulator, b"1MD?\r1TP\r", 20.0) == b"1\r\n0.00000\r\n"
    assert laboratory.stage("slit_far").at(20.0) == pytest.approx(0.0, abs=0.003)


def test_errors_wait_in_a_queue_of_ten():
    emulator = emulator_with()
    assert answers(emulator, b"1XX\r" * 12 + b"TE?\r" * 11) == b"6\r\n" * 10 + b"0\r\n"


@given(cuts=st.sets(st.integers(1, 40)))
@settings(max_examples=25, deadline=None)
def test_commands_may_come_in_pieces(cuts):
    stream = b"1MO;1MO?\r\n1SL?\r1TP\rTB?\r\rVE?\r"
    emulator = emulator_with()
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    received = b"".join(answers(emulator, stream[a:b]) for a, b in itertools.pairwise(edges))
    assert received == b"1\r\n-5.00000\r\n0.00000\r\n0, 2500, NO ERROR DETECTED\r\nESP300 Version 3.08\r\n"


def test_backlash_shows_when_arriving_from_above():
    laboratory = create(None, None, 0)
    emulator = ESP300Emulator(laboratory, "slit_far", {"motor_on": True, "backlash_um": 10.0, "repeatability_um": 0.0})
    answers(emulator, b"1PA2\r", 1.0)
    assert laboratory.stage("slit_far").at(5.0) == pytest.approx(2.0, abs=1e-9)
    answers(emulator, b"1PA1\r", 5.0)
    assert laboratory.stage("slit_far").at(9.0) == pytest.approx(1.01, abs=1e-9)
    assert answers(emulator, b"1TP\r", 9.0) == b"1.00000\r\n"


def test_start_up_homes_switches_on_and_reads_what_it_needs(stand):
    s = stand(start_up=False)
    sent = s.sent_since(s.driver.start_up)
    assert sent.startswith(b"VE?\rVE?\r1MD?\rTB?\r1SN?\r1SN?\r1MO?\r1MD?\rTB?\r")
    assert b"1AC?\r1AC?\r1AG?\r1AG?\r1MO?\r1MO\r1MO?\r1OR\r1MD?\r" in sent
    assert b"TB?\r1MO?\r1SL?\r1SL?\r1SR?\r1SR?\r1VA?\r1VA?\r1AC?\r1AC?\r1SL?\r1SL?\r1SR?\r1SR?\r" in sent
    assert sent.endswith(b"1AC?\r1AC?\r1AG8.008\r1AC?\r1AC?\r1AG?\r1AG?\r")
    assert isinstance(s.driver, LinearStage) and s.driver.is_homed
    assert s.driver.range_mm == (-5.0, 50.0) and s.driver.resolution_mm == 1e-4
    assert s.driver.identify() == Identity("Newport", "ESP300", firmware="3.08")
    assert all(entry.ok for entry in s.driver.readiness())


def test_a_move_upwards_is_straight(stand):
    s = stand()
    sent = s.sent_since(lambda: s.driver.move_to(3.2))
    assert sent.startswith(b"1MO?\r1SN?\r1SN?\r1MD?\rTB?\r1TP\r1TP\r1PA3.2\r1MD?\r")
    assert sent.endswith(b"1MD?\rTB?\r1TP\r1TP\r1MO?\r1SN?\r1SN?\r")
    assert sent.count(b"PA") == 1
    assert s.driver.position_mm == 3.2 and s.true_mm == pytest.approx(3.2, abs=0.0015)


def test_a_move_downwards_arrives_from_below(stand):
    s = stand(backlash_um=20.0, repeatability_um=0.0)
    s.driver.move_to(3.0)
    sent = s.sent_since(lambda: s.driver.move_to(2.0))
    assert [part for part in sent.split(b"\r") if b"PA" in part] == [b"1PA1.98", b"1PA2"]
    assert s.true_mm == pytest.approx(2.0, abs=1e-9)


def test_short_steps_upwards_follow_each_other_without_going_down(stand):
    s = stand(backlash_um=20.0, repeatability_um=0.0)
    s.driver.move_to(3.0)
    sent = s.sent_since(lambda: [s.driver.move_to(position_mm) for position_mm in (3.005, 3.01, 3.005)])
    moves = [part for part in sent.split(b"\r") if b"PA" in part]
    assert moves == [b"1PA3.005", b"1PA3.01", b"1PA2.985", b"1PA3.005"]
    assert s.true_mm == pytest.approx(3.005, abs=1e-9)


def test_a_step_up_from_the_lowest_position_takes_up_the_backlash_as_far_as_it_can(stand):
    s = stand(options={"lowest_mm": 1.0})
    s.driver.move_to(3.0)
    s.driver.move_to(1.0)
    sent = s.sent_since(lambda: [s.driver.move_to(1.01), s.driver.move_to(1.015)])
    moves = [part for part in sent.split(b"\r") if b"PA" in part]
    assert moves == [b"1PA1.01", b"1PA1", b"1PA1.015"]


def test_without_approach_the_backlash_is_there(stand):
    s = stand(backlash_um=20.0, repeatability_um=0.0, options={"approach_mm": 0.0})
    s.driver.move_to(3.0)
    assert s.driver.move_to(2.0) == 2.0
    assert s.true_mm == pytest.approx(2.02, abs=1e-9)


def test_near_the_lowest_position_the_way_from_below_is_shorter(stand):
    s = stand(options={"lowest_mm": 1.0})
    s.driver.move_to(3.0)
    sent = s.sent_since(lambda: s.driver.move_to(1.005))
    assert [part for part in sent.split(b"\r") if b"PA" in part] == [b"1PA1", b"1PA1.005"]
    sent = s.sent_since(lambda: s.driver.move_to(1.0))
    assert [part for part in sent.split(b"\r") if b"PA" in part] == [b"1PA1"]


def test_a_position_that_is_taken_already_is_not_taken_again(stand):
    s = stand()
    s.driver.move_to(2.0)
    assert b"PA" not in s.sent_since(lambda: s.driver.move_to(2.0))
    answers(s.emulator, b"1PR0.1\r", s.clock.now())
    s.clock.sleep(2.0)
    assert b"PA" in s.sent_since(lambda: s.driver.move_to(2.0))


def opened_again(s, adapter_to, **options) -> ESP300:
    again = ESP300(adapter_to(s.wire, ESP300.LINK), clock=s.clock, **options)
    s.wire.sent.clear()
    again.start_up()
    return again


def test_an_axis_that_was_homed_is_neither_homed_again_nor_moved_when_a_run_goes_on(stand, adapter_to):
    s = stand()
    s.driver.move_to(2.0)
    s.driver.move_to(1.0)
    again = opened_again(s, adapter_to)
    assert again.is_homed and again.move_to(1.0) == 1.0
    assert not any(b"OR" in part or b"PA" in part for part in s.wire.sent)
    assert again.move_to(1.5) == 1.5
    assert b"1PA1\r" in s.sent_since(lambda: again.move_to(1.0))


def test_an_axis_that_was_switched_off_and_on_in_between_is_homed_again(stand, adapter_to):
    s = stand()
    s.driver.move_to(2.0)
    s.emulator.power_cycle(s.clock.now())
    answers(s.emulator, b"1MO\r", s.clock.now())
    opened_again(s, adapter_to)
    assert b"1OR\r" in s.wire.sent


def test_homing_that_failed_leaves_no_mark(stand, adapter_to):
    s = stand()
    s.emulator.stuck = True
    with pytest.raises(InstrumentError):
        s.driver.home()
    s.emulator.stuck = False
    answers(s.emulator, b"1MO\r", s.clock.now())
    opened_again(s, adapter_to)
    assert b"1OR\r" in s.wire.sent


def test_an_axis_that_keeps_no_mark_is_homed_each_time(stand, adapter_to):
    s = stand(start_up=False)
    s.wire.damage_command = lambda data: b"" if data.startswith(b"1AG8.") else data
    s.driver.start_up()
    assert s.driver.move_to(1.0) == 1.0
    opened_again(s, adapter_to)
    assert b"1OR\r" in s.wire.sent


@pytest.mark.parametrize(("unit", "sent"), [(3, b"1PA3200\r"), (4, b"1PA0.125984\r")])
def test_other_lengths_are_converted(stand, unit, sent):
    s = stand(unit=unit)
    assert sent in s.sent_since(lambda: s.driver.move_to(3.2))
    assert s.driver.position_mm == pytest.approx(3.2, abs=2e-4) and s.true_mm == pytest.approx(3.2, abs=0.0015)
    assert s.driver.range_mm == pytest.approx((-5.0, 50.0), abs=1e-3)


@pytest.mark.parametrize(("unit", "word"), [(0, "encoder counts"), (1, "motor steps"), (7, "degrees")])
def test_an_axis_that_counts_no_length_is_refused_before_it_moves(stand, unit, word):
    s = stand(start_up=False, unit=unit)
    with pytest.raises(InstrumentError, match=word) as caught:
        s.driver.start_up()
    assert "nothing was moved" in str(caught.value)
    assert not any(b"OR" in part or b"PA" in part or b"MO\r" in part for part in s.wire.sent)


def test_a_unit_that_changes_is_noticed_before_the_next_move(stand):
    s = stand()
    answers(s.emulator, b"1SN3\r", s.clock.now())
    with pytest.raises(InstrumentError, match="micrometres now, and in millimetres before"):
        s.driver.move_to(1.0)


def test_the_limits_are_the_narrower_ones_and_are_set_in_the_controller(stand):
    s = stand(options={"lowest_mm": -1.0, "highest_mm": 80.0})
    assert s.driver.range_mm == (-1.0, 50.0)
    assert answers(s.emulator, b"1SL?;1SR?\r", s.clock.now()) == b"-1.00000\r\n50.00000\r\n"


@pytest.mark.parametrize("position_mm", [-1.001, 8.001, float("nan"), float("inf")])
def test_a_position_beyond_the_limits_is_refused_before_anything_moves(stand, position_mm):
    s = stand(options={"lowest_mm": -1.0, "highest_mm": 8.0})
    s.wire.sent.clear()
    with pytest.raises(InstrumentError, match="lies outside -1 mm to 8 mm") as caught:
        s.driver.move_to(position_mm)
    assert "nothing was moved" in str(caught.value) and not any(b"PA" in part for part in s.wire.sent)


def test_limits_that_leave_nothing_are_refused(stand):
    with pytest.raises(InstrumentError, match="no position is allowed"):
        stand(options={"lowest_mm": 60.0})


@pytest.mark.parametrize(
    "options", [{"lowest_mm": 2.0, "highest_mm": 1.0}, {"axis": 4}, {"home_mode": 0}, {"speed": 1}]
)
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(ValidationError):
        ESP300.Options(**options)


def test_the_axis_of_the_option_is_used(stand):
    s = stand(options={"axis": 3, "home_mode": 4, "velocity_mm_s": 4.0}, axis=3, start_up=False)
    assert b"\r3OR4\r" in s.sent_since(s.driver.start_up)
    assert b"3PA1\r" in s.sent_since(lambda: s.driver.move_to(1.0))
    assert answers(s.emulator, b"3VA?\r", s.clock.now()) == b"4.00000\r\n"


def test_the_wrong_axis_is_noticed(stand):
    with pytest.raises(InstrumentTimeout):
        stand(options={"axis": 2})


def test_not_homed_is_refused_with_what_to_do(stand):
    s = stand(options={"home_at_start": False})
    assert not s.driver.is_homed and not s.driver.readiness()[0].ok
    with pytest.raises(InstrumentError, match="not homed: the motor of axis 1 is off") as caught:
        s.driver.move_to(1.0)
    assert "home_at_start" in caught.value.todo and caught.value.state == "nothing was moved"
    s.driver.home()
    assert s.driver.move_to(1.0) == 1.0


def test_a_zero_found_at_the_front_panel_is_trusted_when_asked_for(stand):
    s = stand(options={"home_at_start": False}, motor_on=True, homed=True)
    assert s.driver.is_homed and not any(b"OR" in part for part in s.wire.sent)
    assert s.driver.move_to(1.0) == 1.0


@pytest.mark.parametrize("options", [{"awkward": True}, {"moving_to_mm": 30.0, "motor_on": True}, {"motor_on": True}])
def test_an_awkward_start(stand, options):
    s = stand(**options)
    assert s.driver.move_to(4.0) == 4.0
    assert s.true_mm == pytest.approx(4.0, abs=0.0015)


def test_half_a_command_of_somebody_else_moves_nothing(stand):
    s = stand(start_up=False, awkward=True, motor_on=True, options={"home_at_start": False})
    s.driver.start_up()
    s.clock.sleep(10.0)
    assert s.true_mm == 0.0


def test_old_errors_are_logged_and_not_blamed_on_the_next_move(stand, caplog):
    caplog.set_level(logging.WARNING)
    s = stand(queued_errors=(103, 8))
    assert "following error: the motor does not follow" in caplog.text and "cable interlock" in caplog.text
    assert s.driver.move_to(1.0) == 1.0


def test_errors_of_another_axis_are_logged_only(stand, caplog):
    s = stand()
    s.wire.damage_command = lambda data: data.replace(b"1PA", b"2XX;1PA")
    assert s.driver.move_to(1.0) == 1.0
    assert "another axis has an error 208 of axis 2: no stage is connected" in caplog.text


def test_a_motor_that_does_not_follow(stand):
    s = stand()
    s.emulator.stuck = True
    with pytest.raises(InstrumentError, match="error 103 of axis 1: following error") as caught:
        s.driver.move_to(2.0)
    assert "the stage may stand anywhere from 0.0000 mm to 2.0000 mm" in str(caught.value)
    assert not s.driver.is_homed


def test_homing_against_a_block(stand):
    with pytest.raises(InstrumentError, match="following error"):
        stand(stuck=True)


def test_a_home_command_that_is_lost_is_noticed(stand):
    s = stand(start_up=False)
    s.wire.damage_command = lambda data: data.replace(b"1OR\r", b"")
    with pytest.raises(InstrumentError, match="did not begin"):
        s.driver.start_up()
    assert not s.driver.is_homed


def test_homing_that_takes_too_long(stand):
    with pytest.raises(InstrumentTimeout, match=r"reference mark was not found within 2\.0 s"):
        stand(home_search_s=10.0, options={"home_timeout_s": 2.0})


def test_a_stage_that_rests_elsewhere(stand):
    s = stand()
    s.wire.damage_command = lambda data: data.replace(b"1PA2\r", b"1PA2.01\r")
    with pytest.raises(InstrumentError, match=r"stands at 2\.01000 mm instead of 2\.00000 mm"):
        s.driver.move_to(2.0)


def test_a_move_that_does_not_end(stand):
    s = stand()
    s.wire.damage_reply = lambda t, data: [(t, b"0\r\n" if s.wire.sent[-1] == b"1MD?\r" and t > 5 else data)]
    with pytest.raises(InstrumentTimeout, match="has not ended") as caught:
        s.driver.move_to(10.0)
    assert "MAY STILL MOVE" in caught.value.state


def test_a_move_that_would_take_hours_is_refused(stand):
    s = stand(velocity=0.001)
    with pytest.raises(InstrumentError, match="would take 10000 s"):
        s.driver.move_to(10.0)


def test_a_reset_between_two_moves_is_noticed(stand):
    s = stand()
    s.driver.move_to(2.0)
    s.emulator.power_cycle(s.clock.now())
    with pytest.raises(InstrumentError, match="as after the controller was switched off and on"):
        _ = s.driver.position_mm
    answers(s.emulator, b"1MO\r", s.clock.now())
    with pytest.raises(InstrumentError, match="not homed"):
        s.driver.move_to(1.0)
    s.driver.home()
    assert s.driver.move_to(1.0) == 1.0 and s.true_mm == pytest.approx(1.0, abs=0.0015)


def test_a_motor_switched_off_at_the_panel_is_noticed(stand):
    s = stand()
    s.emulator.switch_motor_off(s.clock.now())
    with pytest.raises(InstrumentError, match="motor of axis 1 is off"):
        s.driver.move_to(1.0)


@pytest.mark.parametrize("reply", [b"\r\n", b"x\r\n", b"1.2.3\r\n", b"nan\r\n", b"0x1\r\n", b"1,5\r\n"])
def test_a_reply_that_is_no_number_shows_its_bytes(stand, reply):
    s = stand()
    s.wire.damage_reply = lambda t, data: [(t, reply if s.wire.sent[-1] == b"1TP\r" else data)]
    with pytest.raises(InstrumentError) as caught:
        _ = s.driver.position_mm
    assert repr(reply)[2:-1] in str(caught.value)


def test_an_error_number_that_contradicts_its_text_is_not_believed(stand):
    s = stand()
    s.wire.damage_reply = lambda t, data: [(t, data.replace(b"0, ", b"3, ", 1) if b"NO ERR" in data else data)]
    with pytest.raises(InstrumentError, match="is no answer to 'TB\\?'"):
        s.driver.move_to(1.0)


def test_a_digit_lost_once_gives_no_wrong_position(stand):
    s = stand()
    s.driver.move_to(12.5)
    damaged = iter([True])
    s.wire.damage_reply = lambda t, data: [
        (t, data[1:] if s.wire.sent[-1] == b"1TP\r" and next(damaged, False) else data)
    ]
    assert s.driver.position_mm == 12.5


def test_a_late_answer_does_not_answer_the_next_question(stand):
    s = stand()
    s.driver.move_to(2.0)
    late_s = s.clock.now() + 1.2
    s.wire.damage_reply = lambda t, data: [(max(t, late_s), data)]
    with pytest.raises(InstrumentTimeout):
        _ = s.driver.position_mm
    s.wire.damage_reply = lambda t, data: [(t, data)]
    assert s.driver.move_to(3.0) == 3.0 and s.driver.position_mm == 3.0


def test_another_device_is_refused(stand):
    with pytest.raises(InstrumentTimeout, match="does not answer"):
        stand(version="SR830")


def test_nothing_answers(stand):
    s = stand(start_up=False)
    s.wire.damage_reply = lambda t, data: []
    with pytest.raises(InstrumentTimeout, match="does not answer"):
        s.driver.start_up()
    (step,) = s.driver.make_safe()
    assert not step.confirmed and "does not answer" in step.evidence


def test_make_safe_stops_a_motion_and_leaves_the_stage_there(stand):
    s = stand()
    answers(s.emulator, b"1PA40\r", s.clock.now())
    s.clock.sleep(2.0)
    began_s = s.clock.now()
    (step,) = s.driver.make_safe()
    assert step.confirmed and "position reads" in step.evidence and s.clock.now() - began_s < 1.0
    rests_mm = s.true_mm
    s.clock.sleep(30.0)
    assert s.true_mm == rests_mm and 3.0 < rests_mm < 6.0
    (again,) = s.driver.make_safe()
    assert again.confirmed


@pytest.mark.parametrize("options", [{}, {"awkward": True}, {"queued_errors": (103,)}, {"unit": 0}])
def test_make_safe_before_start_up(stand, options):
    s = stand(start_up=False, **options)
    (step,) = s.driver.make_safe()
    assert step.confirmed
    assert not any(b"PA" in part or b"OR" in part for part in s.wire.sent)


def test_make_safe_gets_a_second_try_over_a_new_connection(stand):
    s = stand()
    damaged = iter([True])
    s.wire.damage_reply = lambda t, data: [(t + 5.0 if next(damaged, False) else t, data)]
    (step,) = s.driver.make_safe()
    assert step.confirmed


def test_stop_ends_a_motion(stand):
    s = stand()
    answers(s.emulator, b"1PA40\r", s.clock.now())
    s.clock.sleep(1.0)
    s.driver.stop()
    rests_mm = s.true_mm
    s.clock.sleep(5.0)
    assert s.true_mm == rests_mm < 4.0
    s.driver.stop()
