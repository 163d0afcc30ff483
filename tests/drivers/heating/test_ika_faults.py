"""A fault in each exchange of a hot plate's day: the right error or a right result, and off in the end."""

from __future__ import annotations

import pytest

from drivers.heating.emulators.ika import IKAEmulator
from drivers.heating.ika import IKAHotplate
from labctl.bench.safe import make_safe
from labctl.clock import VirtualClock
from labctl.errors import InstrumentError
from labctl.sim.faults import CONNECT, WIRE_KINDS, Fault, Faults, Kind, Transaction
from labctl.sim.laboratory import create
from labctl.sim.link import EmulatorLink
from labctl.transport.adapter import WireAdapter

TARGET_C = 80.0
LOST_FOR_GOOD = {Kind.DEAD, Kind.UNPLUGGED}
ANOTHER_NUMBER = {Kind.DIGIT, Kind.BYTE_LOST}
"""A bare number with another digit, or one digit less, is as good as the first one."""


class Day:
    """One plate that is started, heated, read, fed and made safe, with one fault on its wire."""

    def __init__(self, number: int, kind: Kind | None) -> None:
        self.clock = VirtualClock(start_s=1.0, wall_start=1.7e9)
        self.laboratory = create(None, None, 0)
        self.emulator = IKAEmulator(self.laboratory, "heating_stage", {"noise_k": 0.0, "speed_rpm": 100.0})
        self.fault = None if kind is None else Fault(kind)
        self.transactions: list[Transaction] = []
        self._number = number
        faults = Faults(self._watch)
        link = IKAHotplate.LINK
        self.plate = IKAHotplate(
            WireAdapter(
                lambda: EmulatorLink(faults.put("heating_stage", self.emulator, link), self.clock), link, self.clock
            ),
            clock=self.clock,
        )
        self.readings_k: list[float] = []
        self.error: InstrumentError | None = None
        try:
            self._measure()
        except InstrumentError as error:
            self.error = error
        self.report = make_safe({"heating_stage": self.plate}, inline=True)

    def _watch(self, transaction: Transaction) -> Fault | None:
        self.transactions.append(transaction)
        return self.fault if transaction.number == self._number else None

    def _measure(self) -> None:
        plate = self.plate
        plate.start_up()
        plate.identify()
        assert plate.arm(60.0) == 60.0
        assert plate.set_temperature(TARGET_C) == TARGET_C
        plate.switch_on()
        for _ in range(2):
            self.clock.sleep(20.0)
            self.readings_k.append(plate.temperature_c - self.laboratory.thermal.temperature_c(self.clock.now()))
            plate.feed()
        plate.switch_off()

    def is_off(self) -> bool:
        return not self.emulator.heats and not self.laboratory.thermal.is_controlled(self.clock.now())


@pytest.fixture(scope="module")
def sound() -> Day:
    return Day(-1, None)


def test_a_day_without_faults(sound: Day) -> None:
    assert sound.error is None and sound.report.state == "confirmed" and sound.is_off()
    assert len(sound.readings_k) == 2


@pytest.mark.parametrize("kind", [kind for kind in WIRE_KINDS if kind not in (Kind.STUCK, Kind.DEVICE_ERROR)])
def test_a_fault_in_each_exchange(sound: Day, kind: Kind) -> None:
    hit = 0
    for transaction in sound.transactions:
        if transaction.command == CONNECT:
            continue
        day = Day(transaction.number, kind)
        assert day.fault is not None
        if not day.fault.applied:
            continue
        hit += 1
        where = f"{kind} at {transaction.number}: {transaction.command}: {day.error}, {day.report}"
        if kind not in ANOTHER_NUMBER:
            assert all(abs(off_k) < 1.0 for off_k in day.readings_k), where
        if day.error is not None:
            assert day.error.exchange.sent or day.error.where, where
        if kind in LOST_FOR_GOOD:
            assert day.report.state == "unconfirmed" or day.is_off(), where
            day.clock.sleep(70.0)
            assert not day.laboratory.thermal.is_controlled(day.clock.now()), where
        else:
            assert day.report.state == "confirmed" and day.is_off(), where
    assert hit


def test_most_faults_are_made_good_by_asking_again(sound: Day) -> None:
    started = next(index for index, transaction in enumerate(sound.transactions) if "IN_PV_2" in transaction.command)
    for kind in (Kind.LOST, Kind.SILENCE, Kind.LATE, Kind.GARBLED, Kind.TRUNCATED):
        for transaction in sound.transactions[started : started + 8]:
            day = Day(transaction.number, kind)
            assert day.error is None and day.report.state == "confirmed", (
                f"{kind} at {transaction.command}: {day.error}"
            )
