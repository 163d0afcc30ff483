"""Light of a run in journal and ledger: nothing that fell is missing, nothing is counted twice, whenever a run dies."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.bench.ledger import LEDGER_NAME, ExposureLedger
from labctl.bench.light import ComingLight, LightOnSample, pulses_in
from labctl.bench.safe import RoleStep, SafeReport
from labctl.errors import InputError, StorageError
from labctl.roles import SafeStep
from labctl.run.guard_line import GuardLine
from labctl.run.light import RunLight, earlier_light, owed_light, run_name, settle_dead_run
from labctl.run.request import PreparedRun, RunRequest, prepare
from labctl.run.safe_program import record
from labctl.store.journal import Journal
from labctl.store.layout import Column, RowLayout

RATE_HZ = 1000.0
FLUENCE = 50.0
BEGIN_S = 1.7e9
SHUT = SafeReport((RoleStep("shutter", SafeStep("close shutter", True, "closed? 1")),))
NOT_SHUT = SafeReport((RoleStep("shutter", SafeStep("close shutter", False, "silence")),))
ROWS = RowLayout((Column("signal", "float", "", "Signal"),))


@cache
def prepared_once() -> PreparedRun:
    return prepare(RunRequest(procedure="fluence-sweep", bench="simulated"))


def prepared_in(folder: Path, spot: str = "1") -> PreparedRun:
    known = prepared_once()
    return replace(known, request=known.request.model_copy(update={"out": str(folder), "spot": spot}))


class Toy:
    """A run as the engine leads it: its journal, its light, and what truly fell."""

    def __init__(self, folder: Path, name: str = "2026-11-21/0001_fluence-sweep_toy", **header: Any) -> None:
        self.folder = folder
        self.path = folder / name
        self.path.parent.mkdir(exist_ok=True)
        self.prepared = prepared_in(folder)
        self.journal = Journal.create(self.path.with_suffix(".journal"), {"request": header})
        self.journal.add_stream("points", ROWS)
        self.light = self._light()
        self.wall_s = BEGIN_S
        self.total = LightOnSample(0.0, 0, 0.0, 0.0)
        self.unwritten: list[LightOnSample] = []

    def _light(self) -> RunLight:
        record = lambda data, wall_s: self.journal.event("light", data, t_s=0.0, wall_s=wall_s)  # noqa: E731
        return RunLight(self.prepared, self.path.with_suffix(".h5"), record)

    def announce(self) -> None:
        fell = self.total
        dose = FLUENCE * 1e-6 * fell.pulses
        self.light.announce(ComingLight(self.wall_s, FLUENCE, RATE_HZ, fell.open_s, fell.pulses, dose))

    def shine(self, duration_s: float) -> None:
        self.wall_s += duration_s
        pulses = pulses_in(duration_s, RATE_HZ)
        self.total = replace(self.total, open_s=self.total.open_s + duration_s, pulses=self.total.pulses + pulses)
        self.unwritten.append(LightOnSample(duration_s, pulses, FLUENCE, self.wall_s))

    def store(self) -> None:
        self.wall_s += 0.01
        row = {"signal": 1.0}
        self.journal.append("points", point=0, attempt=0, t_s=0.0, wall_s=self.wall_s, row=row)

    def write(self) -> None:
        self.light.write(self.unwritten)
        self.unwritten.clear()

    def die(self, confirmed_after_s: float | None = 1.5) -> None:
        """The process is gone; the safe-state program has closed the shutter, or there was none."""
        if confirmed_after_s is not None:
            data = {"state": "confirmed", "steps": [{"role": "shutter", "confirmed": True}]}
            self.journal.event("safe_state", data, t_s=0.0, wall_s=self.wall_s + confirmed_after_s)
        self.journal.close()

    def in_ledger(self) -> LightOnSample:
        sample = self.prepared.sample
        assert sample is not None
        held = ExposureLedger(self.folder).total(sample.sample.name, "1", simulated=True)
        return LightOnSample(held.open_s, held.pulses, 0.0, 0.0)


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Toy]:
    made = Toy(tmp_path)
    yield made
    made.journal.close()


def settle_all(folder: Path) -> None:
    for owed in owed_light(folder):
        owed.settle()


def test_an_orderly_end_leaves_nothing_owed(toy: Toy) -> None:
    toy.announce()
    toy.shine(2.0)
    toy.light.end(toy.unwritten, SHUT)
    toy.die()
    assert owed_light(toy.folder) == []
    assert toy.in_ledger().pulses == 2000


def test_a_run_without_light_opens_no_account(toy: Toy) -> None:
    toy.light.end([], SHUT)
    assert not (toy.folder / LEDGER_NAME).exists()


def test_a_run_that_dies_owes_what_was_not_written_and_the_opening_up_to_the_confirmed_close(toy: Toy) -> None:
    toy.announce()
    toy.shine(1.0)
    toy.store()
    toy.write()
    toy.announce()
    toy.shine(1.0)
    toy.store()
    toy.announce()
    toy.shine(0.3)
    toy.die(confirmed_after_s=1.5)
    (owed,) = owed_light(toy.folder)
    added = owed.settle()
    assert added.open_s == pytest.approx(1.0 + 0.3 + 1.5, abs=1e-3)
    assert added.pulses == 2800
    assert added.fluence_uj_cm2 == pytest.approx(FLUENCE)
    assert toy.in_ledger().pulses == 3800


def test_what_is_owed_is_added_once(toy: Toy) -> None:
    toy.announce()
    toy.shine(1.0)
    toy.die()
    (first,), (second,) = owed_light(toy.folder), owed_light(toy.folder)
    first.settle()
    second.settle()
    assert toy.in_ledger().pulses == 2500
    assert owed_light(toy.folder) == []


def test_a_stored_point_ends_its_light(toy: Toy) -> None:
    toy.announce()
    toy.shine(1.0)
    toy.store()
    toy.die(confirmed_after_s=100.0)
    settle_all(toy.folder)
    assert 1000 <= toy.in_ledger().pulses <= 1011


def test_a_living_run_owes_nothing(toy: Toy) -> None:
    toy.announce()
    toy.shine(1.0)
    assert owed_light(toy.folder) == []
    assert len(owed_light(toy.folder, toy.path)) == 1


def test_nobody_knows_when_the_light_of_a_run_ended_that_died_with_its_guard(toy: Toy) -> None:
    toy.announce()
    toy.shine(1.0)
    toy.die(confirmed_after_s=None)
    (owed,) = owed_light(toy.folder)
    assert not owed.is_known
    with pytest.raises(InputError, match="nobody has confirmed since that the shutter is closed"):
        owed.settle()
    before = earlier_light(toy.prepared)
    assert len(before.unknown) == 1
    assert "--resume" in before.unknown[0]
    assert earlier_light(prepared_in(toy.folder, spot="2")).unknown == ()
    assert owed.settle(toy.wall_s + 7.0).pulses == 8000


def test_a_safe_state_that_was_not_confirmed_ends_no_light(toy: Toy) -> None:
    toy.announce()
    toy.shine(1.0)
    toy.light.end(toy.unwritten, NOT_SHUT)
    toy.journal.event("safe_state", NOT_SHUT.as_dict(), t_s=0.0, wall_s=toy.wall_s)
    toy.die(confirmed_after_s=None)
    (owed,) = owed_light(toy.folder)
    assert not owed.is_known
    assert owed.settle(toy.wall_s + 1.0).pulses == 1000


def test_earlier_light_holds_that_of_runs_that_died(toy: Toy) -> None:
    toy.announce()
    toy.shine(1.0)
    toy.die(confirmed_after_s=1.0)
    expected = pytest.approx(2000 * FLUENCE * 1e-6)
    assert earlier_light(toy.prepared).dose_j_cm2 == expected
    settle_all(toy.folder)
    assert earlier_light(toy.prepared).dose_j_cm2 == expected


def test_a_run_that_dies_twice(toy: Toy) -> None:
    toy.announce()
    toy.shine(1.0)
    toy.die(confirmed_after_s=0.5)
    settle_all(toy.folder)
    toy.journal = Journal.open(toy.path.with_suffix(".journal"))
    toy.light, toy.total = toy._light(), LightOnSample(0.0, 0, 0.0, 0.0)
    toy.unwritten.clear()
    toy.wall_s += 3600.0
    toy.announce()
    toy.shine(1.0)
    toy.write()
    toy.die(confirmed_after_s=0.5)
    settle_all(toy.folder)
    assert toy.in_ledger().pulses == 3000


def test_the_safe_state_program_settles_the_light_and_seals_what_it_did(toy: Toy) -> None:
    toy.journal.close()
    toy = Toy(toy.folder, "2026-11-21/0002_fluence-sweep_toy")
    toy.wall_s = time.time() - 5.0
    toy.announce()
    toy.die(confirmed_after_s=None)
    report = {"state": "confirmed", "steps": [{"role": "shutter", "confirmed": True}]}
    recorded = record({"run": str(toy.path.with_suffix(".journal")), "what": "killed"}, report, GuardLine())
    assert recorded["warnings"] == []
    assert owed_light(toy.folder) == []
    assert 5000 <= toy.in_ledger().pulses < 60_000


def test_what_the_safe_state_program_cannot_settle_is_a_warning(toy: Toy) -> None:
    toy.announce()
    toy.die(confirmed_after_s=None)
    (warning,) = settle_dead_run(toy.path.with_suffix(".h5"))
    assert "lacks the last light" in warning
    assert "--settle" in warning


def test_a_resumed_run_settles_its_own_earlier_light_before_its_first(toy: Toy) -> None:
    toy.announce()
    toy.shine(1.0)
    toy.die(confirmed_after_s=None)
    resumed = replace(toy.prepared, earlier=SimpleNamespace(journal=toy.path.with_suffix(".journal")))
    before = earlier_light(resumed)
    assert before.unknown == ()
    assert before.own_j_cm2 == before.dose_j_cm2 > (time.time() - toy.wall_s) * RATE_HZ * FLUENCE * 1e-6
    toy.journal = Journal.open(toy.path.with_suffix(".journal"))
    toy.light, toy.total = toy._light(), LightOnSample(0.0, 0, 0.0, 0.0)
    toy.unwritten.clear()
    toy.wall_s += 9.0
    toy.announce()
    assert toy.in_ledger().pulses == 10_000
    toy.shine(20.0)
    toy.light.end(toy.unwritten, SHUT)
    toy.journal.event("note", {}, t_s=0.0, wall_s=toy.wall_s)
    assert toy.in_ledger().pulses == 30_000
    assert owed_light(toy.folder, toy.path) == []
    after = earlier_light(resumed)
    assert after.own_j_cm2 == pytest.approx(after.dose_j_cm2) == pytest.approx(30_000 * FLUENCE * 1e-6)


def test_files_that_are_gone_are_named_and_forgive_nothing(toy: Toy) -> None:
    toy.announce()
    toy.die()
    toy.path.with_suffix(".journal").unlink()
    (owed,) = owed_light(toy.folder)
    with pytest.raises(InputError, match="its files cannot tell how much: they are gone"):
        owed.settle(toy.wall_s)
    assert len(owed_light(toy.folder)) == 1


def test_a_broken_journal_is_named(toy: Toy) -> None:
    toy.announce()
    toy.die()
    toy.path.with_suffix(".journal").write_bytes(b"no journal" * 1000)
    (owed,) = owed_light(toy.folder)
    assert owed.problem


def test_on_the_virtual_clock_nothing_falls_after_the_death(tmp_path: Path) -> None:
    toy = Toy(tmp_path, virtual_time=True)
    toy.announce()
    toy.die()
    (owed,) = owed_light(tmp_path)
    assert owed.settle().pulses == 0


def test_light_that_cannot_be_accounted_for_must_not_come(toy: Toy) -> None:
    (toy.folder / LEDGER_NAME).write_bytes(b"this is no database" * 100)
    with pytest.raises(StorageError, match="could not be read"):
        toy.announce()


def test_numbers_of_runs_begin_anew_each_day() -> None:
    assert run_name(Path("a/2026-11-21/0001_x_y.h5")) == "2026-11-21/0001_x_y"
    assert run_name(Path("a/2026-11-21/0001_x_y.journal")) == run_name(Path("b/2026-11-21/0001_x_y"))
    assert run_name(Path("a/2026-11-22/0001_x_y.h5")) == "2026-11-22/0001_x_y"


@dataclass(frozen=True)
class Step:
    """One opening, and what is done after it."""

    light_s: float
    pause_s: float
    stores: bool
    writes: bool


STEPS = st.lists(
    st.builds(Step, st.floats(0.001, 3.0), st.floats(0.0, 3.0), st.booleans(), st.booleans()), min_size=1, max_size=6
)


@settings(max_examples=40, deadline=None)
@given(steps=STEPS, confirmed_after_s=st.floats(0.0, 2.0))
def test_never_less_than_fell_and_no_more_than_up_to_the_confirmed_close(
    steps: Sequence[Step], confirmed_after_s: float
) -> None:
    with TemporaryDirectory() as folder:
        toy = Toy(Path(folder))
        for step in steps:
            toy.announce()
            opened_s = toy.wall_s
            toy.shine(step.light_s)
            if step.stores:
                toy.store()
            if step.writes:
                toy.write()
            toy.wall_s += step.pause_s
        toy.die(confirmed_after_s)
        settle_all(Path(folder))
        held = toy.in_ledger()
    dark_s = toy.wall_s + confirmed_after_s - opened_s - steps[-1].light_s
    assert toy.total.open_s - 1e-4 <= held.open_s <= toy.total.open_s + dark_s + 1e-4
    assert toy.total.pulses - 1 <= held.pulses <= toy.total.pulses + dark_s * RATE_HZ + 1
