from __future__ import annotations

import json
import math

import numpy as np
import pytest

from drivers.by_hand.attenuator import AttenuatorByHand
from drivers.by_hand.detector import DetectorByHand
from drivers.by_hand.emulators.operator import SimulatedOperator
from drivers.by_hand.energy_meter import EnergyMeterByHand
from drivers.by_hand.filter import FilterByHand
from drivers.by_hand.instrument import read_quantity
from drivers.by_hand.shutter import ShutterByHand
from drivers.by_hand.spectrograph import SpectrographByHand
from drivers.by_hand.vacuum_gauge import VacuumGaugeByHand
from labctl.errors import Aborted, ConnectionLost, InputError, InstrumentError, LabctlError
from labctl.roles import ROLES
from labctl.sim.laboratory import create
from labctl.transport.adapter import WireAdapter
from labctl.transport.operator import OperatorLink

DRIVERS = {
    driver.ROLE: driver
    for driver in (
        AttenuatorByHand,
        ShutterByHand,
        EnergyMeterByHand,
        SpectrographByHand,
        DetectorByHand,
        FilterByHand,
        VacuumGaugeByHand,
    )
}


class Person:
    """An operator with answers prepared; what he was asked is kept."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str]] = []

    def __call__(self, text: str, wants: str = "") -> str:
        self.asked.append((text, wants))
        answer = self.answers.pop(0) if self.answers else ""
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def with_person(clock):
    """Get a function that gives a driver of a role with a person beside it."""

    def build(role: str, person: Person | None, **options):
        driver = DRIVERS[role]
        adapter = WireAdapter(lambda: OperatorLink(person), driver.LINK, clock, role)
        return driver(adapter, clock=clock, **options)

    return build


@pytest.fixture
def simulated(clock, adapter_to):
    """Get a function that gives laboratory, simulated operator and driver of a role."""

    def build(role: str, **options):
        laboratory = create(None, None, 0)
        operator = SimulatedOperator(laboratory, role, options)
        return laboratory, operator, DRIVERS[role](adapter_to(operator, DRIVERS[role].LINK), clock=clock)

    return build


@pytest.mark.parametrize("role", sorted(DRIVERS))
def test_satisfies_its_role(simulated, role):
    _, _, driver = simulated(role)
    # The protocol asks each property once: an operator must not be troubled by that beyond what he can answer.
    assert isinstance(driver, ROLES[role])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12.3 uJ", 12.3e-6),
        ("12,3 µJ", 12.3e-6),
        (" 4e-1mJ ", 4e-4),
        (".5 J", 0.5),
        ("12.3", None),
        ("12.3 W", None),
        ("about 12 uJ", None),
        ("", None),
    ],
)
def test_a_typed_quantity(text, value):
    found = read_quantity(text, {"J": 1.0, "mJ": 1e-3, "uJ": 1e-6})
    assert found == (value if value is None else pytest.approx(value))


def test_the_operator_is_told_what_to_do_and_what_to_type(with_person):
    person = Person("23.4 deg")
    assert with_person("attenuator", person).move_to(23.4) == 23.4
    assert person.asked == [("Turn the attenuator to 23.4 deg.", "the angle on the dial, e.g. 23.4 deg")]


def test_he_is_asked_again_when_it_makes_no_sense_and_given_up_on(with_person):
    person = Person("hm", "400 deg", "23.5")
    assert with_person("attenuator", person).move_to(23.4) == 23.5
    assert person.asked[1][0].startswith("'hm' is not the angle") and "Turn the attenuator" in person.asked[2][0]
    with pytest.raises(InstrumentError, match="said 'no idea'"):
        with_person("attenuator", Person(*["no idea"] * 3)).move_to(1.0)


def test_the_angle_is_not_known_after_a_refusal(with_person):
    person = Person("10 deg", Aborted("refused"), "11 deg")
    driver = with_person("attenuator", person)
    driver.move_to(10.0)
    with pytest.raises(Aborted):
        driver.move_to(20.0)
    assert driver.angle_deg == 11.0
    assert "do not turn" in person.asked[-1][0]


def test_an_angle_off_the_dial_is_refused_before_anybody_is_asked(with_person):
    person = Person()
    with pytest.raises(InputError):
        with_person("attenuator", person).move_to(math.nan)
    assert person.asked == []


def test_a_shutter_counts_as_open_until_the_operator_says_otherwise(with_person):
    person = Person()
    driver = with_person("shutter", person)
    assert driver.is_open and not driver.has_readback
    driver.start_up()
    assert not driver.is_open
    driver.shut()
    assert len(person.asked) == 1
    driver.open()
    assert driver.is_open and "Goggles" in person.asked[1][0]


def test_safe_state_of_a_shutter_is_the_operators_word(with_person):
    driver = with_person("shutter", Person())
    driver.start_up()
    (step,) = driver.make_safe()
    assert step.confirmed and "operator said" in step.evidence
    driver.open()
    (step,) = driver.make_safe()
    assert step.confirmed and "operator closed it" in step.evidence


def test_safe_state_without_an_operator_is_unconfirmed(with_person):
    driver = with_person("shutter", None)
    (step,) = driver.make_safe()
    assert not step.confirmed and "LIGHT MAY BE ON" in step.evidence and "an operator is needed" in step.evidence
    driver = with_person("shutter", Person("", "", Aborted("nobody confirmed it")))
    driver.start_up()
    driver.open()
    (step,) = driver.make_safe()
    assert not step.confirmed and "nobody confirmed it" in step.evidence
    assert driver.is_open


def test_an_energy_is_typed_with_its_unit(with_person):
    person = Person("12.3", "-1 uJ", "12.3 uJ")
    reading = with_person("energy_meter", person, pulse_spread=0.1).measure(100)
    assert reading.mean_j == pytest.approx(12.3e-6) and reading.std_j == pytest.approx(1.23e-6)
    assert reading.pulses == 100 and "about 100 pulses" in person.asked[0][0]


def test_the_wavelength_of_the_meter_is_asked_for_once(with_person):
    person = Person()
    driver = with_person("energy_meter", person)
    driver.wavelength_nm = driver.wavelength_nm = 400.0
    assert driver.wavelength_nm == 400.0 and len(person.asked) == 1


def test_gratings_are_those_of_the_bench_file(with_person):
    person = Person("2", "", "631.9 nm")
    driver = with_person("spectrograph", person, lines_per_mm=[300.0, 600.0])
    assert driver.grating.lines_per_mm == 600.0
    assert driver.select_grating(1).number == 1
    assert driver.go_to(632.0) == 631.9
    with pytest.raises(InputError, match="none at position 3"):
        driver.select_grating(3)


def test_a_spectrum_is_read_from_the_file_that_was_named(with_person, tmp_path):
    path = tmp_path / "spectrum.asc"
    path.write_text("Wavelength;Counts\n# exposed 0.5 s\n" + "".join(f"{600 + n};{n * n}\n" for n in range(16)))
    person = Person(str(tmp_path / "missing"), str(path))
    driver = with_person("detector", person, pixels=16)
    driver.set_exposure(0.5)
    driver.start()
    counts = driver.read()
    assert counts.dtype == np.int32 and counts.tolist() == [n * n for n in range(16)]
    assert "0.5 s" in person.asked[0][0] and "missing" in person.asked[1][0]


def test_a_file_of_another_length_is_refused(with_person, tmp_path):
    path = tmp_path / "spectrum.asc"
    path.write_text("1 2\n3 nan\n")
    with pytest.raises(InstrumentError, match="no spectrum of 1024 pixels"):
        with_person("detector", Person(*[str(path)] * 3)).read()


def test_a_detector_nobody_cooled_is_not_locked(with_person):
    driver = with_person("detector", Person("", Aborted("refused")))
    assert not driver.cooler.locked
    driver.cool_to(-60.0)
    assert driver.cooler.locked and driver.cooler.temperature_c == -60.0
    with pytest.raises(Aborted):
        driver.cool_to(-70.0)
    assert not driver.cooler.locked


def test_a_filter_is_put_in_and_its_number_read_back(with_person):
    person = Person("2", "7", "3")
    driver = with_person("filter", person)
    assert driver.position == 2 and driver.position == 2
    assert driver.select(3) == 3 and driver.position == 3
    assert len(person.asked) == 3 and person.asked[1][0].startswith("Put the filter of position 3")
    with pytest.raises(InputError, match="no filter position 7"):
        driver.select(7)


@pytest.mark.parametrize(
    ("typed", "pressure_mbar"),
    [("2.3e-6 mbar", 2.3e-6), ("1013 hPa", 1013.0), ("0,5 Pa", 5e-3), ("760 Torr", 1013.25), ("1e-5torr", 1.33322e-5)],
)
def test_a_pressure_is_typed_with_its_unit(with_person, typed, pressure_mbar):
    person = Person(typed)
    assert with_person("vacuum_gauge", person).pressure_mbar == pytest.approx(pressure_mbar, rel=1e-5)
    assert "Torr" in person.asked[0][1]


def test_a_pressure_is_asked_for_each_time_and_again_without_a_unit(with_person):
    person = Person("2e-6", "0 mbar", "2e-6 mbar", "3 bar", "5000 mbar", "-1 Pa")
    gauge = with_person("vacuum_gauge", person)
    assert gauge.pressure_mbar == 2e-6
    with pytest.raises(InstrumentError, match="said '-1 Pa'"):
        _ = gauge.pressure_mbar
    assert len(person.asked) == 6


def test_a_gauge_without_an_operator_gives_no_pressure(with_person):
    with pytest.raises(LabctlError, match="an operator is needed"):
        _ = with_person("vacuum_gauge", None).pressure_mbar


def test_the_simulated_operator_reads_the_gauge(simulated, clock):
    laboratory, operator, gauge = simulated("vacuum_gauge")
    assert gauge.pressure_mbar == pytest.approx(1013.0, rel=0.01)
    laboratory.operator("pump down", clock.now())
    clock.sleep(1800.0)
    assert (
        gauge.pressure_mbar == pytest.approx(laboratory.pressure_mbar(clock.now()), rel=0.01)
        and len(operator.asked) == 2
    )
    assert gauge.pressure_mbar < 1e-3


def test_a_closed_link_asks_nobody():
    person = Person()
    link = OperatorLink(person)
    link.close()
    link.send(b'{"ask": "Open.", "wants": ""}\n')
    with pytest.raises(ConnectionLost):
        link.receive(1.0)
    assert person.asked == []


def test_questions_may_come_in_pieces():
    link = OperatorLink(Person("yes"))
    line = json.dumps({"ask": "Well?", "wants": "yes or no"}).encode() + b"\n"
    link.send(line[:7])
    assert link.receive(0.0) == b""
    link.send(line[7:])
    assert json.loads(link.receive(0.0)) == {"said": "yes"}


def test_the_simulated_operator_works_the_laboratory(simulated, clock):
    laboratory, operator, shutter = simulated("shutter")
    shutter.start_up()
    shutter.open()
    assert laboratory.shutter.is_open(clock.now())
    shutter.shut()
    assert not laboratory.shutter.is_open(clock.now())
    assert len(operator.asked) == 3

    laboratory, _, attenuator = simulated("attenuator")
    assert attenuator.move_to(33.33) == 33.3
    assert laboratory.wave_plate.optical_deg(clock.now()) == pytest.approx(33.3, abs=0.1)

    laboratory, _, wheel = simulated("filter")
    assert wheel.select(3) == 3
    assert laboratory.filters.position(clock.now()) == 3

    laboratory, _, spectrograph = simulated("spectrograph")
    assert spectrograph.go_to(640.0) == 640.0
    assert laboratory.spectrograph.at(clock.now()) == (640.0, 600.0)


def test_a_simulated_operator_who_mumbles_does_nothing(simulated, clock):
    laboratory, operator, attenuator = simulated("attenuator", mumble="hm")
    with pytest.raises(InstrumentError, match="said 'hm'"):
        attenuator.move_to(40.0)
    assert laboratory.wave_plate.optical_deg(clock.now()) == pytest.approx(0.0, abs=0.1)
    assert len(operator.asked) == 3


def test_what_was_asked_and_said_is_handed_to_whoever_records_it(simulated):
    _, _, attenuator = simulated("attenuator")
    heard = []
    attenuator.on_confirmed = lambda *said: heard.append(said)
    attenuator.move_to(10.0)
    assert heard == [("Turn the attenuator to 10.0 deg.", "10.0 deg")]
