"""The lamp over its real driver: on, off, and whether its meter agrees."""

from __future__ import annotations

import pytest

from labctl.errors import InstrumentError

LAMP = ("lamp", "lamp_meter")
WARM_S = 3600.0


@pytest.fixture
def lit(open_bench):
    def open_(roles=LAMP, **how):
        opened = open_bench(roles, bench="simulated-stability", **how)
        opened.bench.stress_lamp.prepare()
        return opened

    return open_


def test_it_shines_as_the_bench_file_says_once_it_is_warm(lit):
    opened = lit()
    bench, lamp = opened.bench, opened.bench.stress_lamp
    assert not lamp.is_on
    assert lamp.irradiance_mw_cm2() == pytest.approx(0.0, abs=0.5)
    lamp.switch_on()
    assert lamp.is_on
    assert opened.truth()["lamp_on"]
    cold = lamp.irradiance_mw_cm2()
    bench.clock.sleep(WARM_S)
    warm = lamp.irradiance_mw_cm2()
    assert cold < 0.9 * warm
    assert warm == pytest.approx(75.0, rel=0.03)
    assert warm == pytest.approx(opened.laboratory.lamp.irradiance_mw_cm2(bench.clock.now()), rel=0.02)
    lamp.switch_off()
    assert not opened.truth()["lamp_on"]


def test_a_lamp_that_did_not_go_out_is_seen_by_its_meter(lit, monkeypatch):
    opened = lit()
    lamp = opened.bench.stress_lamp
    lamp.switch_on()
    # A controller that believes its output is off, while the light comes on.
    monkeypatch.setattr(opened.laboratory.lamp, "set", lambda t, share: None)
    with pytest.raises(InstrumentError, match="its meter still sees light") as caught:
        lamp.switch_off()
    assert caught.value.role == "lamp"
    assert caught.value.state == "the lamp may be on"
    assert opened.truth()["lamp_on"]


def test_a_warm_lamp_without_light_is_an_error_and_a_cold_one_is_not(lit, monkeypatch):
    opened = lit()
    lamp = opened.bench.stress_lamp
    lamp.switch_on()
    monkeypatch.setattr(type(opened.laboratory.lamp), "power_w", lambda self, t: 0.002)
    assert lamp.irradiance_mw_cm2() < 10.0
    opened.bench.clock.sleep(WARM_S)
    with pytest.raises(InstrumentError, match="its meter sees 4% of its light") as caught:
        lamp.irradiance_mw_cm2()
    assert caught.value.role == "lamp_meter"


def test_without_a_meter_the_bench_file_is_believed_as_long_as_the_lamp_is_on(lit):
    for opened in (lit(roles=("lamp",)), lit(changes={'meter_power = "50 mW"\n': ""})):
        lamp = opened.bench.stress_lamp
        assert lamp.irradiance_mw_cm2() == 0.0
        lamp.switch_on()
        assert lamp.irradiance_mw_cm2() == 75.0
        lamp.switch_off()
        assert lamp.irradiance_mw_cm2() == 0.0


def test_brightness_is_that_of_the_bench_file(lit):
    opened = lit(changes={'warm_up = "10 min"': 'warm_up = "10 min"\nbrightness = 40.0'})
    lamp = opened.bench.stress_lamp
    lamp.switch_on()
    opened.bench.clock.sleep(WARM_S)
    state = opened.laboratory.lamp.irradiance_mw_cm2(opened.bench.clock.now())
    assert state == pytest.approx(0.4 * 75.0, rel=0.03)


def test_a_lamp_that_is_on_is_neither_switched_nor_dimmed_again(lit):
    opened = lit()
    lamp = opened.bench.stress_lamp
    lamp.switch_on()
    opened.bench.clock.sleep(WARM_S)
    on_s = opened.laboratory.lamp.on_time_s(opened.bench.clock.now())
    lamp.prepare()
    lamp.switch_on()
    assert opened.laboratory.lamp.on_time_s(opened.bench.clock.now()) >= on_s >= WARM_S


def test_instruments_that_are_connected_anew_are_used_and_know_the_brightness(lit):
    opened = lit()
    lamp = opened.bench.stress_lamp
    lamp.switch_on()
    for role in LAMP:
        opened.bench.reopen(role).start_up()
    assert (lamp.lamp, lamp.meter) == tuple(opened.bench.instruments[role] for role in LAMP)
    assert not opened.truth()["lamp_on"], "a lamp that was left on is switched off when it is started"
    lamp.switch_on()
    assert opened.truth()["lamp_on"]
    opened.bench.clock.sleep(WARM_S)
    assert lamp.irradiance_mw_cm2() == pytest.approx(75.0, rel=0.03)


def test_the_bench_file_may_leave_the_lamp_on_between_runs(lit):
    opened = lit(changes={'keep_on = ["detector.cooler"]': 'keep_on = ["detector.cooler", "lamp.lamp"]'})
    opened.bench.stress_lamp.switch_on()
    report = opened.bench.make_safe()
    assert report.state == "confirmed"
    assert ("lamp", "leave as it is") in [(entry.role, entry.step.action) for entry in report.steps]
    assert opened.truth()["lamp_on"]
    shipped = lit()
    shipped.bench.stress_lamp.switch_on()
    assert shipped.bench.make_safe().state == "confirmed"
    assert not shipped.truth()["lamp_on"]
