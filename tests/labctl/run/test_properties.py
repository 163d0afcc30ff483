"""Whatever goes wrong, and whenever: what was acknowledged is stored, what is stored is what was planned, in the dark.

Plans, failures, wishes of operators, interlocks, full disks, aborts and kills are drawn at random; each run is resumed
until it is finished.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from labctl.bench.bench import Bench
from labctl.errors import InstrumentError
from labctl.run.engine import Engine, GuardLine
from labctl.run.outcome import Outcome
from labctl.run.plan import Plan, Point
from labctl.run.policy import FailurePolicy
from labctl.run.procedure import Acknowledged
from labctl.run.request import RunRequest, prepare
from labctl.run.steering import Alteration
from labctl.run.stored_request import request_to_resume
from labctl.sim.faults import Fault, Kind, Transaction, injected
from labctl.store.run import Run, open_run
from tests.labctl.run.toy_run import ToyRun, adaptive, listed, scheduled, signal_at

MOST_PARTS = 60
LAST_TICK = 100

policies = st.builds(
    FailurePolicy,
    retries=st.integers(0, 2),
    then=st.sampled_from(["abort", "skip"]),
    wait_s=st.sampled_from([0.0, 1.0]),
    quarantine_after=st.integers(1, 3),
)
numbers = st.integers(0, 99).map(float)
roles = st.sampled_from(["camera", "meter", "shutter", ""])


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    stages = []
    for number in range(draw(st.integers(1, 4))):
        name = f"stage{number}"
        fields = {"essential": draw(st.booleans()), "on_failure": draw(st.none() | policies)}
        x_mm = draw(st.lists(numbers, min_size=1, max_size=4))
        match draw(st.sampled_from(["listed", "adaptive", "scheduled"])):
            case "listed":
                stages.append(listed(name, *x_mm, **fields))
            case "adaptive":
                stages.append(adaptive(name, len(x_mm), **fields))
            case _:
                stages.append(scheduled(name, draw(st.sampled_from([0.5, 3.0, 20.0])), *x_mm, **fields))
    return Plan(tuple(stages))


alterations = st.builds(
    lambda what, stage, amount: Alteration(
        what=what,
        stage=stage,
        points=amount if what != "retime" else None,
        every_s=3.0 * amount if what == "retime" else None,
    ),
    st.sampled_from(["extend", "shorten", "retime"]),
    st.sampled_from(["", "", "stage0", "stage1", "stage2", "stage3"]),
    st.integers(1, 3),
)


@dataclass(frozen=True)
class Trouble:
    """What goes wrong in a run.

    :param failures: Point and how many times it was measured before, to the role that fails, and to how many new
        connections it refuses.
    :param acts: Tick to what happens then.
    :param trips: Look at the interlocks to action and number of looks until the run may go on.
    :param policy: That of the procedure, or of the request.
    :param away_s: How long the run is away each time it has ended.
    """

    failures: Mapping[tuple[int, int], tuple[str, int]]
    acts: Mapping[int, str | Alteration]
    trips: Mapping[int, tuple[str, int]]
    policy: FailurePolicy
    overrides: bool
    away_s: float


troubles = st.builds(
    Trouble,
    st.dictionaries(st.tuples(st.integers(0, 9), st.integers(0, 3)), st.tuples(roles, st.integers(0, 2)), max_size=5),
    st.dictionaries(
        st.integers(1, LAST_TICK),
        st.sampled_from(["kill", "kill", "abort", "pause", "full disk", "sleep"]) | alterations,
        min_size=1,
        max_size=8,
    ),
    st.dictionaries(
        st.integers(0, 30), st.tuples(st.sampled_from(["pause", "safe", "abort"]), st.integers(0, 2)), max_size=2
    ),
    policies,
    st.booleans(),
    st.sampled_from([0.0, 1.0, 30.0, 86400.0]),
)


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(plans(), troubles)
def test_nothing_is_lost_and_nothing_is_done_twice(plan: Plan, trouble: Trouble) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = ToyRun(Path(folder), plan)
        befall(run, trouble)
        ended = run.part(policy=trouble.policy, overrides=trouble.overrides)
        parts = 1
        while ended.status != "finished":
            assert parts < MOST_PARTS, "the run comes to no end"
            assert not run.bench.is_open
            assert_nothing_acknowledged_is_lost(run)
            ended = run.part(away_s=trouble.away_s, policy=trouble.policy, overrides=trouble.overrides)
            parts += 1
        event(f"{min(parts, 5)} parts or more" if parts >= 5 else f"{parts} parts")
        assert run.bench.wrongs == []
        assert_nothing_acknowledged_is_lost(run)
        with run.open() as stored:
            assert_as_planned(stored, plan, run)
            assert_in_order(stored)
            assert (ended.done, ended.planned) == (stored.count("points"), stored.count("points"))


def befall(run: ToyRun, trouble: Trouble) -> None:
    """Have the trouble happen in its time."""
    measured: Counter[int] = Counter()

    def fail(point: Point) -> None:
        role, dead = trouble.failures.get((point.index, measured[point.index]), (None, 0))
        measured[point.index] += 1
        if role is not None:
            if role:
                run.bench.dead[role] = dead
            raise InstrumentError("no reply", role=role)

    acts = {
        "kill": run.kill,
        "abort": lambda: run.stop.set(),
        "pause": lambda: run.steering.pause("lunch"),
        "full disk": run.fill_disk,
        "sleep": lambda: run.steering.disturb("the computer slept"),
    }
    run.at_attempt = fail
    run.on_notice = lambda kind: run.steering.go_on() if kind == "paused" else None
    run.trips = dict(trouble.trips)
    for tick, act in trouble.acts.items():
        run.at_tick[tick] = acts[act] if isinstance(act, str) else lambda act=act: run.steering.alter(act)


def assert_nothing_acknowledged_is_lost(run: ToyRun) -> None:
    stored = run.stored()
    assert len(set(stored)) == len(stored), "no point is stored twice"
    assert len(set(run.acknowledged)) == len(run.acknowledged), "nor acknowledged twice"
    assert set(run.acknowledged) <= set(stored)


def assert_as_planned(stored: Run, plan: Plan, run: ToyRun) -> None:
    """The set-points are those of the journalled stages, each measured at one place only, whatever came between."""
    stages = {entry.data["name"]: entry.data for entry in stored.events("stage")}
    planned: dict[int, float] = {}
    for stage in plan.stages:
        data = stages[stage.name]
        assert data["first"] == len(planned), "points are numbered through"
        planned |= {len(planned) + number: point["x_mm"] for number, point in enumerate(data["points"])}
    skipped = [entry.data["point"] for entry in stored.events("skipped")]
    points = stored.column("point", "points").tolist()
    assert sorted(points + skipped) == sorted(planned)
    assert points == sorted(points), "rows commit in the order of the plan"
    x_mm = dict(zip(points, stored.column("x_mm", "points").tolist(), strict=True))
    assert x_mm == {point: planned[point] for point in points}
    signals = stored.column("signal_counts", "points").tolist()
    assert signals == [signal_at(x_mm[point]) for point in points]
    essential = {stage.name for stage in plan.stages if stage.essential}
    for skip in stored.events("skipped"):
        assert skip.data["stage"] not in essential or "its time went by" in skip.data["why"]
    for _, index, _, place in run.only("measure"):
        assert place == {"x_mm": planned[index]}, "no attempt was made anywhere else"
    if not skipped and not stored.events("altered"):
        assert [point.settings["x_mm"] for point in uninterrupted(plan, run)] == list(planned.values())


def uninterrupted(plan: Plan, run: ToyRun) -> list[Point]:
    """The points of a run to which nothing happens."""
    rows: list[Acknowledged] = []
    for stage in plan.stages:
        chosen = stage.settings if stage.settings is not None else run.sweep.next_settings(stage, tuple(rows))
        for entry in chosen:
            row = {"x_mm": entry["x_mm"], "signal_counts": signal_at(entry["x_mm"])}
            rows.append(Acknowledged(Point(len(rows), stage.name, entry, 0.0), row))
    return [entry.point for entry in rows]


def assert_in_order(stored: Run) -> None:
    for name in ("t_s", "wall_s"):
        for stream in ("points", "reference"):
            times = stored.column(name, stream).tolist()
            assert times == sorted(times)
        of_events = [getattr(entry, name) for entry in stored.events()]
        assert of_events == sorted(of_events)


SWEEP = {
    "fluences": "5, 10, 20 uJ/cm^2",
    "return_points": 1,
    "averages": 1,
    "pulses": 20,
    "dark_frames": 1,
    "scatter_frames": 1,
    "exposure_max": "0.1 s",
}
LAST_TRANSACTION = 400
LAST_POINT = 10


class NoGuard(GuardLine):
    """A line to nobody."""

    def say(self, kind: str, **data: Any) -> None:
        pass


class Sweeping(Engine):
    """An engine that ends its run after the given numbers of points of all its parts."""

    def __init__(self, request: RunRequest, aborts: set[int]) -> None:
        super().__init__(prepare(request), NoGuard())
        self._aborts = aborts

    def done(self, point: Point, record: Any, done: int) -> None:
        super().done(point, record, done)
        if done in self._aborts:
            self._aborts.discard(done)
            self.abort("the test has seen enough")


def sweep_part(request: RunRequest, aborts: set[int], faults: dict[int, Kind], begun: int) -> tuple[Outcome, int]:
    """Carry out a part of a sweep; get what came of it, and the number of transactions until then.

    Whatever it says of the safe state, the emulator of the shutter is asked as well.
    """
    count = begun
    open_at_the_end: list[bool] = []
    close = Bench.close

    def suffer(transaction: Transaction) -> Fault | None:
        nonlocal count
        count = begun + transaction.number
        kind = faults.pop(count, None)
        return Fault(kind) if kind in transaction.kinds else None

    def look_and_close(bench: Bench) -> None:
        assert bench.laboratory is not None
        open_at_the_end.append(bool(bench.laboratory.state()["shutter_open"]))
        close(bench)

    # The journal tells all; sealing and reporting take longer than the sweep.
    with (
        injected(suffer),
        mock.patch.object(Bench, "close", look_and_close),
        mock.patch("labctl.run.engine.finish"),
    ):
        outcome = Sweeping(request, aborts).run()
    if outcome.safe_state == "confirmed":
        assert not any(open_at_the_end), "the shutter is open, and the report says that it is not"
    return outcome, count + 1


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(st.integers(0, LAST_TRANSACTION), st.sampled_from(list(Kind)), min_size=1, max_size=4),
    st.sets(st.integers(1, LAST_POINT), max_size=2),
    policies,
)
def test_a_sweep_whose_instruments_fail_at_random(
    faults: dict[int, Kind], aborts: set[int], policy: FailurePolicy
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        request = RunRequest(
            procedure="fluence-sweep",
            parameters=SWEEP,
            bench="simulated",
            out=folder,
            virtual_time=True,
            on_failure=policy,
        )
        outcome, count = sweep_part(request, aborts, faults, 0)
        parts = 1
        while outcome.status != "finished":
            assert parts < MOST_PARTS, outcome.error
            assert outcome.error is not None
            again = request_to_resume(outcome.run)
            outcome, count = sweep_part(again, aborts, faults, count)
            parts += 1
        event(f"{parts} parts, {len(faults)} faults left")
        with open_run(Path(outcome.run).with_suffix(".journal")) as stored:
            assert_each_point_once(stored)
            assert_times_ascend(stored)


def assert_each_point_once(stored: Run) -> None:
    planned: dict[int, dict[str, Any]] = {}
    for entry in stored.events("stage"):
        planned |= {entry.data["first"] + number: point for number, point in enumerate(entry.data["points"])}
    streams = [name for name in stored.streams if name != "reference"]
    points = [int(point) for name in streams for point in stored.column("point", name)]
    skipped = [entry.data["point"] for entry in stored.events("skipped")]
    assert sorted(points + skipped) == sorted(planned)
    places = zip(stored.column("point", "points"), stored.column("fluence_set_uj_cm2", "points"), strict=True)
    assert all(place == planned[int(point)]["fluence_uj_cm2"] for point, place in places)
    assert {planned[index]["fluence_uj_cm2"] for index in planned if "fluence_uj_cm2" in planned[index]} >= {5, 10, 20}


def assert_times_ascend(stored: Run) -> None:
    for stream in stored.streams:
        times = stored.column("t_s", stream).tolist()
        assert times == sorted(times)
