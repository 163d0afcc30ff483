"""Bringing instruments of the simulated bench back, with the sample dark meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.bench.bench import Bench
from labctl.bench.recovery import Recovery
from labctl.clock import VirtualClock
from labctl.config.bench import load_bench
from labctl.config.sample import load_sample
from labctl.errors import ConnectionLost, InstrumentError, LabctlError
from labctl.sim.faults import Fault, Kind, Transaction, injected


class Trouble:
    """A fault for the next transaction with an instrument."""

    def __init__(self) -> None:
        self.coming: dict[str, Kind] = {}
        self.seen: list[Transaction] = []

    def __call__(self, transaction: Transaction) -> Fault | None:
        self.seen.append(transaction)
        kind = self.coming.get(transaction.role)
        if kind is None or kind not in transaction.kinds:
            return None
        del self.coming[transaction.role]
        return Fault(kind)

    def commands(self, role: str) -> list[str]:
        return [transaction.command for transaction in self.seen if transaction.role == role]


@pytest.fixture
def trouble() -> Any:
    made = Trouble()
    with injected(made):
        yield made


@pytest.fixture
def bench(trouble: Trouble) -> Any:
    opened = Bench.open(load_bench("simulated"), VirtualClock(), sample=load_sample("cdse-cds-zno"))
    yield opened
    opened.close()


@pytest.fixture
def recovery(bench: Bench) -> Recovery:
    return Recovery(bench)


def is_open(bench: Bench) -> bool:
    assert bench.laboratory is not None
    return bool(bench.laboratory.state()["shutter_open"])


@pytest.mark.parametrize(
    ("error", "role"),
    [
        (InstrumentError("no reply", role="energy_meter"), "energy_meter"),
        (InstrumentError("no reply", role="energy meter"), "energy_meter"),
        (InstrumentError("no reply", where="detector, GetAcquiredData"), "detector"),
        (InstrumentError("no reply", role="detector_2"), ""),
        (InstrumentError("no reply", where="the detector"), ""),
        (InstrumentError("no reply"), ""),
        (InstrumentError("no reply", role="camera of the neighbours", where="shutter"), "shutter"),
    ],
)
def test_the_instrument_that_failed_is_known_by_the_name_in_the_error(
    recovery: Recovery, error: InstrumentError, role: str
) -> None:
    assert recovery.role_of(error) == role


def test_the_shutter_is_closed_and_read_back(bench: Bench, recovery: Recovery) -> None:
    shutter: Any = bench.instruments["shutter"]
    shutter.open()
    assert is_open(bench)
    recovery.darken()
    assert not is_open(bench)
    assert not shutter.is_open


def test_a_shutter_whose_line_broke_is_closed_over_a_new_one(
    bench: Bench, recovery: Recovery, trouble: Trouble
) -> None:
    shutter: Any = bench.instruments["shutter"]
    shutter.open()
    trouble.coming["shutter"] = Kind.DISCONNECT
    recovery.darken()
    assert not is_open(bench)
    assert trouble.commands("shutter").count("connect") == 2


def test_a_shutter_that_is_stuck_open_is_not_called_closed(bench: Bench, recovery: Recovery, trouble: Trouble) -> None:
    shutter: Any = bench.instruments["shutter"]
    shutter.open()
    trouble.coming["shutter"] = Kind.STUCK
    with pytest.raises(InstrumentError):
        recovery.darken()
    assert is_open(bench)


def test_a_bench_without_a_shutter_has_nothing_to_close(trouble: Trouble) -> None:
    opened = Bench.open(
        load_bench("simulated"), VirtualClock(), roles=("energy_meter",), sample=load_sample("cdse-cds-zno")
    )
    Recovery(opened).darken()
    assert "shutter" not in {transaction.role for transaction in trouble.seen}
    opened.close()


@pytest.mark.parametrize("role", ["shutter", "energy_meter", "attenuator", "spectrograph"])
def test_an_instrument_whose_line_broke_answers_over_a_new_one(
    bench: Bench, recovery: Recovery, trouble: Trouble, role: str
) -> None:
    trouble.coming[role] = Kind.DISCONNECT
    instrument: Any = bench.instruments[role]
    with pytest.raises(ConnectionLost):
        instrument.identify()
    recovery.revive(role)
    bench.instruments[role].identify()


def test_a_vendor_library_is_loaded_anew(bench: Bench, recovery: Recovery) -> None:
    before = bench.instruments["detector"]
    recovery.revive("detector")
    after: Any = bench.instruments["detector"]
    assert after is not before
    assert after.pixels > 0


def test_an_instrument_that_is_gone_says_so(bench: Bench, recovery: Recovery, trouble: Trouble) -> None:
    trouble.coming["energy_meter"] = Kind.UNPLUGGED
    with pytest.raises(InstrumentError):
        bench.pump.read_energy(10)
    with pytest.raises(InstrumentError) as caught:
        recovery.revive("energy_meter")
        bench.pump.prepare()
    assert recovery.role_of(caught.value) == "energy_meter"


def test_the_attenuator_finds_its_home_in_the_dark(bench: Bench, recovery: Recovery, trouble: Trouble) -> None:
    """On its way it passes full energy."""
    shutter: Any = bench.instruments["shutter"]
    shutter.open()
    trouble.seen.clear()
    recovery.revive("attenuator")
    assert not is_open(bench)


def test_a_bench_at_rest_wakes_up(bench: Bench, recovery: Recovery) -> None:
    recovery.rest()
    assert not is_open(bench)
    recovery.wake()
    with bench.pump.light():
        assert is_open(bench)
    assert not is_open(bench)


def test_a_bench_that_does_not_come_to_rest_names_the_step(bench: Bench, recovery: Recovery, trouble: Trouble) -> None:
    shutter: Any = bench.instruments["shutter"]
    shutter.open()
    trouble.coming["shutter"] = Kind.STUCK
    with pytest.raises(LabctlError) as caught:
        recovery.rest()
    assert "shutter" in caught.value.what
    assert "look" in caught.value.todo
