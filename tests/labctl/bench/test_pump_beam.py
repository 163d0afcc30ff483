"""The pump beam: light only when asked for, angles from one side, limits before anything moves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.bench.attenuation import MalusLaw
from labctl.bench.light import ComingLight
from labctl.bench.limits import PumpLimits
from labctl.bench.pump_beam import PickOff, PumpBeam, reading_bound_s
from labctl.clock import VirtualClock
from labctl.errors import InputError, InstrumentError, LimitError, LimitExceeded, NoPulse, StorageError
from labctl.quantities import Convention, EnergyReading, SpotGeometry, StripeSpot
from labctl.roles import Identity, SafeStep


class Device:
    """What all roles share."""

    def identify(self) -> Identity:
        return Identity("toy", "toy")

    def make_safe(self) -> Sequence[SafeStep]:
        return []

    def close(self) -> None:
        pass


class ToyPlate(Device):
    """A mount that counts from 0 to 360 deg and goes the direct way, never across zero."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.angle_deg = 0.0
        self.off_deg = 0.0
        self.last_rise_deg = 0.0
        self.resolution_deg = 0.0025

    def home(self) -> None:
        self.angle_deg = 0.0

    def move_to(self, angle_deg: float) -> float:
        assert 0 <= angle_deg < 360
        self.log.append(f"turn {angle_deg:.3f}")
        self.last_rise_deg = angle_deg - self.angle_deg
        self.angle_deg = angle_deg
        return angle_deg + self.off_deg


class ToyShutter(Device):
    has_readback = True

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.is_open = False
        self.stuck = False

    def open(self) -> None:
        self.log.append("open")
        if self.stuck:
            raise InstrumentError("the blade did not open")
        self.is_open = True

    def shut(self) -> None:
        self.log.append("shut")
        if self.stuck and self.is_open:
            raise InstrumentError("the blade did not close")
        self.is_open = False


class ToyMeter(Device):
    """A meter with four ranges, which needs 1 % of the range to trigger."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.wavelength_nm = 0.0
        self.largest_range_j = 1e-4
        self.energy_j = 1e-5
        self._range_j = math.nan

    @property
    def range_j(self) -> float:
        return self._range_j

    @range_j.setter
    def range_j(self, value: float) -> None:
        self._range_j = min(full for full in (1e-7, 1e-6, 1e-5, 1e-4) if full >= value * (1 - 1e-9))
        self.log.append(f"range {self._range_j:g}")

    def zero(self) -> float:
        self.log.append("zero")
        return 1e-9

    def measure(self, pulses: int) -> EnergyReading:
        if self.energy_j < 0.01 * self._range_j:
            raise NoPulse("no pulse reached the energy meter")
        if self.energy_j > self._range_j:
            raise InstrumentError("pulses exceed the measuring range")
        return EnergyReading(self.energy_j, 0.01 * self.energy_j, pulses)


class Toys:
    """A pump beam on toys, with a record of all that was done."""

    def __init__(self, malus: MalusLaw | None = MalusLaw(4e-8, 38e-6, 7.3), spot_dose_j_cm2: float = 0.0) -> None:
        self.log: list[str] = []
        self.plate, self.shutter, self.meter = ToyPlate(self.log), ToyShutter(self.log), ToyMeter(self.log)
        self.clock = VirtualClock()
        self.told: list[ComingLight] = []
        self.pump = PumpBeam(
            self.plate,
            self.shutter,
            self.meter,
            malus=malus,
            pick_off=PickOff(0.02, 2e-4),
            geometry=SpotGeometry(StripeSpot(1.0, 0.15), Convention.PEAK_GAUSS),
            wavelength_nm=400.0,
            repetition_rate_hz=1000.0,
            limits=PumpLimits(1000.0, 5e-6, 200.0),
            clock=self.clock,
            spot_dose_j_cm2=spot_dose_j_cm2,
            on_light=self.tell,
        )

    def tell(self, light: ComingLight) -> None:
        self.told.append(light)
        self.log.append("told")


@given(start=st.floats(0.0, 359.99), target=st.floats(1.0, 359.99))
def test_every_angle_is_reached_from_below(start: float, target: float) -> None:
    toys = Toys()
    toys.plate.angle_deg = start
    assert toys.pump.turn_to(target) == pytest.approx(target)
    assert toys.plate.last_rise_deg >= 1.0 - 1e-9


@given(fluence=st.floats(0.5, 400.0), theta0=st.floats(-360.0, 360.0), start=st.floats(0.0, 359.99))
def test_a_fluence_is_reached_from_below_wherever_the_curve_lies(fluence: float, theta0: float, start: float) -> None:
    law = MalusLaw(4e-8, 38e-6, theta0)
    toys = Toys(law)
    toys.plate.angle_deg = start
    reached = toys.pump.set_fluence(fluence)
    wanted_j = toys.pump.geometry.pulse_energy_j(fluence) / 0.02
    assert law.energy_j(reached) == pytest.approx(wanted_j, rel=1e-6)
    assert toys.plate.last_rise_deg >= 1.0 - 1e-9


@pytest.mark.parametrize("angle", [0.0, 0.99, 360.5, -359.5, math.nan])
def test_angles_that_cannot_be_reached_from_below_are_refused(angle: float) -> None:
    toys = Toys()
    with pytest.raises(InputError, match="from below"):
        toys.pump.turn_to(angle)
    assert toys.log == []


def test_the_plate_is_not_turned_in_the_light() -> None:
    toys = Toys()
    with toys.pump.light(), pytest.raises(InstrumentError, match="refused to turn") as caught:
        toys.pump.turn_to(30.0)
    assert caught.value.role == "shutter"
    assert not [entry for entry in toys.log if entry.startswith("turn")]


def test_setting_a_fluence_closes_a_shutter_that_was_left_open_before_anything_turns() -> None:
    toys = Toys()
    toys.shutter.is_open = True
    toys.pump.set_fluence(28.0)
    assert toys.log[0] == "shut"
    assert toys.log.index("shut") < next(n for n, entry in enumerate(toys.log) if entry.startswith("turn"))


def test_nothing_turns_behind_a_shutter_that_is_stuck_open() -> None:
    toys = Toys()
    toys.shutter.is_open = toys.shutter.stuck = True
    with pytest.raises(InstrumentError, match="did not close"):
        toys.pump.set_fluence(28.0)
    assert toys.log == ["shut"]


def test_a_mount_that_stops_short_is_an_error() -> None:
    toys = Toys()
    toys.plate.off_deg = 0.03
    with pytest.raises(InstrumentError, match=r"stopped at 30\.03"):
        toys.pump.turn_to(30.0)


@pytest.mark.parametrize("fluence", [1000.5, 1e6, math.nan, math.inf])
def test_limits_act_before_anything_moves(fluence: float) -> None:
    toys = Toys()
    with pytest.raises(LimitError):
        toys.pump.set_fluence(fluence)
    assert toys.log == []


def test_fluences_that_the_laser_cannot_give_are_refused_before_anything_moves() -> None:
    toys = Toys()
    for fluence in (0.0, -1.0, 0.4, 500.0):
        with pytest.raises(InputError, match="cannot give"):
            toys.pump.set_fluence(fluence)
    assert toys.log == []
    low, high = toys.pump.fluence_range_uj_cm2
    assert (low, high) == pytest.approx((0.4255, 404.26), rel=1e-3)


def test_light_goes_off_whatever_happens() -> None:
    toys = Toys()
    for error in (ValueError("x"), KeyboardInterrupt(), InstrumentError("x")):
        with pytest.raises(type(error)), toys.pump.light():
            assert toys.shutter.is_open
            toys.clock.sleep(0.1)
            raise error
        assert not toys.shutter.is_open
    assert [light.pulses for light in toys.pump.take_light()] == [100, 100, 100]


def test_a_shutter_that_closes_by_itself_spoils_what_was_measured() -> None:
    toys = Toys()
    toys.pump.set_fluence(10.0)
    with pytest.raises(InstrumentError, match="closed by itself") as caught:
        with toys.pump.light():
            toys.shutter.is_open = False
    assert caught.value.role == "shutter"
    assert toys.log[-1] == "shut"


def test_openings_are_counted_once_with_their_time() -> None:
    toys = Toys()
    for duration_s in (0.5, 2.0):
        with toys.pump.light() as opening:
            toys.clock.sleep(duration_s)
        assert opening.open_s == pytest.approx(duration_s)
    first, second = toys.pump.take_light()
    assert (first.open_s, second.open_s) == pytest.approx((0.5, 2.0))
    assert second.wall_s - first.wall_s == pytest.approx(2.0)
    assert toys.pump.take_light() == []


def test_light_that_a_stuck_shutter_lets_through_counts_until_it_is_given_up() -> None:
    toys = Toys()
    toys.pump.set_fluence(30.0)
    with pytest.raises(InstrumentError, match="did not close"):
        with toys.pump.light():
            toys.clock.sleep(0.5)
            toys.shutter.stuck = True
    toys.clock.sleep(1.5)
    assert toys.pump.dose_j_cm2 == pytest.approx(30e-6 * 2000)
    toys.pump.account_light_left_on()
    toys.pump.account_light_left_on()
    assert [light.open_s for light in toys.pump.take_light()] == pytest.approx([0.5, 1.5])
    assert toys.pump.dose_j_cm2 == pytest.approx(30e-6 * 2000)


def test_light_counts_as_measured_else_as_set_else_as_the_full_energy() -> None:
    toys = Toys()

    def fluence(read: bool = False) -> float:
        with toys.pump.light():
            toys.clock.sleep(0.1)
            if read:
                toys.pump.read_fluence(100)
        (light,) = toys.pump.take_light()
        return light.fluence_uj_cm2

    assert fluence() == pytest.approx(404.26, rel=1e-3)
    toys.pump.set_fluence(100.0)
    assert fluence() == pytest.approx(100.0)
    measured = fluence(read=True)
    assert measured == pytest.approx(106.4, rel=1e-3)
    assert fluence() == measured
    toys.pump.set_fluence(50.0)
    assert fluence() == pytest.approx(50.0)


def test_light_that_does_not_reach_the_sample_gives_no_dose() -> None:
    toys = Toys(malus=None)
    with toys.pump.light(on_sample=False) as opening:
        toys.clock.sleep(5.0)
        assert toys.pump.dose_j_cm2 == 0.0
    assert opening.open_s == pytest.approx(5.0)
    assert toys.pump.take_light() == []
    assert toys.pump.dose_j_cm2 == 0.0


def test_no_light_on_the_sample_of_which_nothing_is_known() -> None:
    toys = Toys(malus=None)
    with pytest.raises(InputError, match="not calibrated"), toys.pump.light():
        pass
    assert "open" not in toys.log


def test_the_dose_limit_keeps_the_shutter_closed_whoever_asks() -> None:
    toys = Toys(spot_dose_j_cm2=199.0)
    toys.pump.set_fluence(100.0)
    with toys.pump.light():
        toys.clock.sleep(10.0)
    with toys.pump.light():
        toys.clock.sleep(1.0)
    assert toys.pump.dose_j_cm2 == pytest.approx(1.1)
    del toys.log[:]
    with pytest.raises(LimitExceeded, match=r"the spot has received 200\.1 J/cm\^2"), toys.pump.light():
        pass
    assert "open" not in toys.log
    with toys.pump.light(on_sample=False):
        pass


def test_the_dose_is_checked_after_each_reading_with_the_light_that_is_on() -> None:
    toys = Toys(spot_dose_j_cm2=199.9)
    toys.pump.set_fluence(100.0)
    with pytest.raises(LimitExceeded, match="the spot has received"), toys.pump.light():
        toys.pump.read_fluence(100)
        toys.clock.sleep(1.0)
        toys.pump.read_fluence(100)
    assert not toys.shutter.is_open


def test_light_that_is_still_to_come_counts_when_it_is_asked_for() -> None:
    toys = Toys(spot_dose_j_cm2=199.0)
    toys.pump.set_fluence(100.0)
    toys.pump.require_dose(10.0)
    with pytest.raises(LimitExceeded, match=r"has received 199 J/cm\^2 and would receive 1\.1 J/cm\^2 more"):
        toys.pump.require_dose(11.0)
    with pytest.raises(LimitExceeded, match=r"has received 199\.5 J"), toys.pump.light():
        toys.clock.sleep(5.0)
        toys.pump.require_dose(5.0)
        toys.pump.require_dose(6.0)
    assert not toys.shutter.is_open
    with toys.pump.light(on_sample=False):
        toys.pump.require_dose(1000.0)


def test_each_opening_on_the_sample_is_told_before_its_light_with_all_that_fell_before() -> None:
    toys = Toys()
    toys.pump.set_fluence(100.0)
    del toys.log[:]
    with toys.pump.light(on_sample=False):
        toys.clock.sleep(3.0)
    with toys.pump.light():
        toys.clock.sleep(2.0)
    with toys.pump.light():
        toys.clock.sleep(1.0)
    assert toys.log == ["open", "shut", "told", "open", "shut", "told", "open", "shut"]
    first, second = toys.told
    assert (first.open_s, first.pulses, first.dose_j_cm2) == (0.0, 0, 0.0)
    assert second.wall_s - first.wall_s == pytest.approx(2.0)
    assert (second.open_s, second.pulses, second.dose_j_cm2) == pytest.approx((2.0, 2000, 0.2))
    light = second.until(second.wall_s + 1.0)
    assert (light.open_s, light.pulses, light.dose_j_cm2) == pytest.approx((1.0, 1000, 0.1))
    assert second.until(second.wall_s - 5.0).pulses == 0


def test_light_that_cannot_be_written_down_beforehand_does_not_come() -> None:
    toys = Toys()

    def refuse(_: ComingLight) -> None:
        raise StorageError("the disk is full")

    toys.pump._on_light = refuse
    with pytest.raises(StorageError), toys.pump.light():
        pass
    assert "open" not in toys.log
    assert toys.pump.take_light() == []


def test_light_that_proves_stronger_than_was_told_is_told_anew() -> None:
    toys = Toys()
    toys.pump.set_fluence(100.0)
    expected_j = toys.pump.geometry.pulse_energy_j(100.0) / toys.pump.pick_off.ratio
    with toys.pump.light():
        toys.meter.energy_j = 1.04 * expected_j
        toys.pump.read_fluence(10)
        assert len(toys.told) == 1
        toys.clock.sleep(1.0)
        toys.meter.energy_j = 1.1 * expected_j
        toys.pump.read_fluence(10)
        toys.pump.read_fluence(10)
    first, second = toys.told
    assert second.fluence_uj_cm2 == pytest.approx(110.0)
    assert (second.wall_s, second.dose_j_cm2) == (first.wall_s, first.dose_j_cm2)


@pytest.mark.parametrize("factor", [0.49, 2.01])
def test_a_fluence_far_from_what_was_set_ends_the_run(factor: float) -> None:
    toys = Toys()
    toys.pump.set_fluence(100.0)
    toys.meter.energy_j = factor * toys.pump.geometry.pulse_energy_j(100.0) / 0.02
    with pytest.raises(InstrumentError, match="calibration of the attenuator does not hold") as caught:
        with toys.pump.light():
            toys.clock.sleep(0.1)
            toys.pump.read_fluence(100)
    assert "calibrate the attenuator anew" in caught.value.todo
    assert not toys.shutter.is_open
    (light,) = toys.pump.take_light()
    assert light.fluence_uj_cm2 == pytest.approx(100.0 * factor)


def test_a_doubtful_fluence_is_a_warning_once() -> None:
    toys = Toys()
    toys.pump.set_fluence(100.0)
    for factor in (1.1, 0.9):
        toys.meter.energy_j = factor * toys.pump.geometry.pulse_energy_j(100.0) / 0.02
        toys.pump.read_fluence(100)
    assert toys.pump.warnings == []
    for factor in (1.3, 0.7):
        toys.meter.energy_j = factor * toys.pump.geometry.pulse_energy_j(100.0) / 0.02
        toys.pump.read_fluence(100)
    (warning,) = toys.pump.warnings
    assert "+30%" in warning and "calibrate the attenuator anew" in warning


def test_an_over_range_error_says_what_may_be_wrong() -> None:
    toys = Toys()
    toys.pump.set_fluence(1.0)
    toys.meter.energy_j = 99e-6
    with pytest.raises(InstrumentError, match="exceed the measuring range") as caught:
        toys.pump.read_fluence(100)
    assert "calibrate the attenuator anew" in caught.value.todo


def test_a_reading_takes_no_longer_than_its_bound(open_bench: Callable[..., Any]) -> None:
    opened = open_bench(roles=("attenuator", "shutter", "energy_meter"))
    pump = opened.bench.pump
    pump.prepare()
    pump.set_fluence(100.0)
    with pump.light():
        for pulses in (2, 10, 100, 6000):
            started_s = opened.bench.clock.now()
            pump.read_fluence(pulses)
            assert opened.bench.clock.now() - started_s < reading_bound_s(pulses, 1000.0)


def test_a_reading_beyond_a_limit_ends_the_run() -> None:
    toys = Toys()
    toys.pump.prepare()
    toys.meter.energy_j = 99e-6
    with pytest.raises(LimitExceeded, match=r"the sample got 1053 uJ/cm\^2"):
        toys.pump.read_fluence(100)


def test_a_reading_becomes_a_fluence_with_its_random_error() -> None:
    toys = Toys()
    toys.pump.prepare()
    fluence, reading = toys.pump.read_fluence(100)
    assert reading.error_j == pytest.approx(1e-8)
    area_cm2 = 0.1 * 0.015 * math.sqrt(math.pi / 2)
    assert fluence.uj_cm2 == pytest.approx(1e-5 * 0.02 * 1e6 / area_cm2)
    assert fluence.error_uj_cm2 / fluence.uj_cm2 == pytest.approx(1e-3)


def test_the_meter_is_prepared_in_the_dark() -> None:
    toys = Toys()
    toys.shutter.is_open = True
    assert toys.pump.prepare() == 1e-9
    assert toys.log == ["shut", "range 0.0001", "zero"]
    assert toys.meter.wavelength_nm == 400.0


def test_the_range_changes_only_where_it_does_not_fit() -> None:
    toys = Toys()
    toys.pump.prepare()
    del toys.log[:]
    for fluence in (300.0, 250.0, 200.0, 20.0, 10.0, 300.0):
        toys.pump.set_fluence(fluence)
    assert [entry for entry in toys.log if entry.startswith("range")] == ["range 1e-05", "range 0.0001"]


@pytest.mark.parametrize("energy_j", [9e-5, 6e-5, 3e-6, 4e-8, 2e-9])
def test_an_unknown_energy_finds_its_range_from_the_largest_down(energy_j: float) -> None:
    toys = Toys(malus=None)
    toys.pump.prepare()
    toys.meter.energy_j = energy_j
    assert toys.pump.read_energy(300).mean_j == energy_j
    assert energy_j <= toys.meter.range_j <= max(32 * energy_j, 1e-7)


def test_a_meter_that_was_started_anew_is_told_its_range_again() -> None:
    toys = Toys()
    toys.pump.prepare()
    del toys.log[:]
    toys.pump.prepare()
    assert toys.log[-2:] == ["range 0.0001", "zero"]


def test_a_range_that_the_meter_did_not_take_is_asked_for_again() -> None:
    toys = Toys()
    toys.pump.prepare()
    toys.pump._choose_range(1e-4)
    del toys.log[:]
    lost = iter([True, False, False])
    take = ToyMeter.range_j.fset
    assert take is not None

    class LosesOne(ToyMeter):
        @property
        def range_j(self) -> float:
            return self._range_j

        @range_j.setter
        def range_j(self, value: float) -> None:
            if not next(lost):
                take(self, value)

    toys.meter.__class__ = LosesOne
    toys.pump._choose_range(1e-5)
    assert toys.log == ["range 1e-05"]


def test_the_smallest_range_is_not_asked_for_without_end() -> None:
    toys = Toys()
    toys.pump._choose_range(1e-7)
    del toys.log[:]
    toys.pump._choose_range(1e-9)
    assert toys.log == ["range 1e-07"] * 2


def test_the_largest_range_needs_no_headroom() -> None:
    toys = Toys(MalusLaw(4e-8, 90e-6, 7.3))
    toys.pump.prepare()
    toys.pump.set_fluence(900.0)
    assert [entry for entry in toys.log if entry.startswith("range")] == ["range 0.0001"]


def test_no_pulse_at_all_is_a_time_out() -> None:
    toys = Toys(malus=None)
    toys.meter.energy_j = 0.0
    with pytest.raises(NoPulse):
        toys.pump.read_energy(300)


def test_an_unknown_energy_beyond_the_limit_ends_the_run() -> None:
    toys = Toys(malus=None)
    toys.meter.largest_range_j, toys.meter.energy_j = 1e-4, 9e-5
    toys.pump.limits = PumpLimits(1e9, 1e-6)
    with pytest.raises(LimitExceeded, match="went through"):
        toys.pump.read_energy(300)


def test_without_a_calibration_angles_and_energies_only() -> None:
    toys = Toys(malus=None)
    assert toys.pump.turn_to(30.0) == 30.0
    for refused in (lambda: toys.pump.set_fluence(28.0), lambda: toys.pump.fluence_range_uj_cm2):
        with pytest.raises(InputError, match="not calibrated") as caught:
            refused()
        assert "attenuator-calibration" in caught.value.todo


def test_the_simulated_beam_gives_what_was_set(open_bench: Callable[..., Any]) -> None:
    opened = open_bench(roles=("attenuator", "shutter", "energy_meter"))
    pump = opened.bench.pump
    pump.prepare()
    for fluence in (390.0, 30.0, 5.0, 100.0):
        angle = pump.set_fluence(fluence)
        assert opened.truth()["plate_optical_deg"] == pytest.approx(angle - 0.015, abs=0.006)
        assert not opened.truth()["shutter_open"]
        with pump.light():
            reached, _ = pump.read_fluence(100)
            assert opened.truth()["shutter_open"]
        assert reached.uj_cm2 == pytest.approx(fluence, rel=0.03)
        assert reached.uj_cm2 == pytest.approx(opened.truth()["fluence_uj_cm2"], rel=0.04)


def test_the_dose_counted_is_an_upper_bound_of_the_true_one(open_bench: Callable[..., Any]) -> None:
    opened = open_bench(roles=("attenuator", "shutter", "energy_meter"))
    pump = opened.bench.pump
    pump.prepare()
    pump.set_fluence(30.0)
    for _ in range(5):
        with pump.light():
            opened.bench.clock.sleep(0.3)
    counted = sum(light.open_s for light in pump.take_light())
    truth = opened.truth()
    true_s = truth["dose_uj_cm2"] / truth["fluence_uj_cm2"] / 1000.0
    assert 1.5 < true_s <= counted < true_s + 5 * 0.1


def test_a_simulated_shutter_stuck_open_keeps_the_plate_still(open_bench: Callable[..., Any]) -> None:
    opened = open_bench(roles=("attenuator", "shutter", "energy_meter"))
    pump = opened.bench.pump
    pump.prepare()
    pump.set_fluence(30.0)
    before = opened.truth()["plate_optical_deg"]
    with pytest.raises(InstrumentError, match="LIGHT MAY BE ON"), pump.light():
        opened.emulator("shutter").stuck = True
    with pytest.raises(InstrumentError, match="did not close"):
        pump.set_fluence(300.0)
    assert opened.truth()["plate_optical_deg"] == before


def test_the_last_reading_is_known_also_when_it_was_refused() -> None:
    toys = Toys(spot_dose_j_cm2=3.0)
    pump = toys.pump
    assert (pump.last_pulse_energy_j, pump.last_fluence_uj_cm2, pump.last_average_power_w) == (None, None, None)
    assert pump.spot_dose_j_cm2 == 3.0
    pump.prepare()
    pump.read_energy(10)
    assert pump.last_pulse_energy_j == pytest.approx(2e-7)
    assert pump.last_average_power_w == pytest.approx(2e-4)
    assert pump.last_fluence_uj_cm2 == pytest.approx(pump.geometry.fluence(2e-7).uj_cm2)
    toys.meter.energy_j = 99e-6
    with pytest.raises(LimitExceeded):
        pump.read_fluence(100)
    assert pump.last_pulse_energy_j == pytest.approx(99e-6 * 0.02)


def test_the_average_power_bounds_what_is_set_and_read() -> None:
    toys = Toys()
    toys.pump.limits = PumpLimits(1000.0, 5e-6, 200.0, average_power_w=1e-4, repetition_rate_hz=1000.0)
    highest = toys.pump.geometry.fluence(1e-7).uj_cm2
    assert toys.pump.fluence_range_uj_cm2[1] == pytest.approx(highest)
    with pytest.raises(LimitError, match="average power"):
        toys.pump.set_fluence(1.01 * highest)
    assert toys.log == []
    toys.pump.prepare()
    with pytest.raises(LimitExceeded, match="on average"):
        toys.pump.read_energy(10)
