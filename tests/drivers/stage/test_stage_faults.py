"""Every kind of fault at every transaction of a start, two moves and a reading: an error or the truth, then safe."""

from __future__ import annotations

import itertools

import pytest

from drivers.stage.emulators.esp300 import ESP300Emulator
from drivers.stage.emulators.smc100 import SMC100Emulator
from drivers.stage.esp300 import ESP300
from drivers.stage.smc100 import SMC100
from labctl.clock import VirtualClock
from labctl.errors import InstrumentError
from labctl.sim.faults import Fault, Faults, Kind
from labctl.sim.laboratory import create
from labctl.sim.link import EmulatorLink
from labctl.transport.adapter import WireAdapter

STAGES = {"esp300": (ESP300, ESP300Emulator), "smc100": (SMC100, SMC100Emulator)}
FOR_GOOD = (Kind.DEAD, Kind.UNPLUGGED)
NEVER = 10**9
READ_MM, AWAY_MM = 1e-9, 0.003
"""How far what is read may be from the target, and the carriage, which has backlash and luck."""


class Trial:
    """A stage on a wire whose ``number``-th transaction has a fault."""

    def __init__(self, name: str, kind: Kind, number: int) -> None:
        self.count = 0
        self.fault = Fault(kind)
        self.number = number
        driver, emulator = STAGES[name]
        self.clock = VirtualClock(1.0, 1.7e9)
        self.laboratory = create({"stages": {"slit_far": {"initial_mm": 0.4}}}, None, 0)
        self.emulator = emulator(self.laboratory, "slit_far", {"home_search_s": 0.5})
        faults = Faults(self.watch)
        adapter = WireAdapter(
            lambda: EmulatorLink(faults.put("slit_far", self.emulator, driver.LINK), self.clock),
            driver.LINK,
            self.clock,
            "test",
        )
        self.driver = driver(adapter, clock=self.clock)

    def watch(self, transaction):
        if transaction.command == "connect":
            return None
        self.count += 1
        return self.fault if self.count - 1 == self.number else None

    @property
    def true_mm(self) -> float:
        return self.laboratory.stage("slit_far").at(self.clock.now())

    def use(self) -> None:
        """Start, move up and down, read; whatever is returned must be true."""
        self.driver.start_up()
        for target_mm in (0.9, 0.6):
            assert self.driver.move_to(target_mm) == pytest.approx(target_mm, abs=READ_MM)
            assert self.true_mm == pytest.approx(target_mm, abs=AWAY_MM)
        assert self.driver.position_mm == pytest.approx(target_mm, abs=READ_MM)


def transactions(name: str) -> int:
    trial = Trial(name, Kind.LOST, NEVER)
    trial.use()
    return trial.count


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("kind", Kind)
def test_a_fault_gives_an_error_or_the_truth_and_the_stage_can_be_made_safe(name: str, kind: Kind, stride: int) -> None:
    applied = failed = 0
    for number in range(0, transactions(name), stride):
        trial = Trial(name, kind, number)
        try:
            trial.use()
        except InstrumentError as error:
            failed += 1
            assert error.what and (error.exchange.sent or error.where)
        applied += trial.fault.applied
        (step,) = trial.driver.make_safe()
        assert step.confirmed is not (kind in FOR_GOOD and trial.fault.applied), (number, step)
        if step.confirmed:
            before_mm = trial.true_mm
            trial.clock.sleep(5.0)
            assert trial.true_mm == before_mm
    assert applied > 5 and (failed > 0 or kind is Kind.DIGIT)


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("kind", [Kind.SILENCE, Kind.LATE, Kind.GARBLED, Kind.TRUNCATED, Kind.BYTE_LOST, Kind.LOST])
def test_after_a_fault_another_try_goes_well(name: str, kind: Kind) -> None:
    for number in itertools.islice(range(transactions(name)), 0, None, 3):
        trial = Trial(name, kind, number)
        try:
            trial.use()
        except InstrumentError:
            trial.use()
