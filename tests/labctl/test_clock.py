"""Clocks: real, scaled, virtual with several actors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.clock import Clock, RealClock, ScaledClock, VirtualClock

_JOIN_S = 20.0


def _run(*bodies: Callable[[], None]) -> None:
    """Run each body in a thread of its own; fail if one raises or does not end."""
    faults: list[BaseException] = []

    def guarded(body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=guarded, args=(body,), daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_JOIN_S)
    assert not any(thread.is_alive() for thread in threads), "deadlock"
    assert not faults, faults


def _actors(clock: VirtualClock, *bodies: Callable[[], None]) -> None:
    """Run each body as an actor; none begins before all are registered."""
    start = threading.Barrier(len(bodies))

    def acting(body: Callable[[], None]) -> Callable[[], None]:
        def act() -> None:
            with clock.actor():
                start.wait(_JOIN_S)
                body()

        return act

    _run(*map(acting, bodies))


@pytest.mark.parametrize("clock", [RealClock(), ScaledClock(1000.0), VirtualClock()], ids=["real", "scaled", "virtual"])
def test_sleep_and_wait_take_at_least_their_time_and_nothing_when_negative(clock: Clock) -> None:
    start, wall = clock.now(), clock.wall()
    clock.sleep(0.01)
    assert clock.now() - start >= 0.0099
    assert clock.wall() - wall >= 0.009
    assert clock.wait(threading.Event(), 0.01) is False
    assert clock.now() - start >= 0.0199
    before = clock.now()
    clock.sleep(-5.0)
    assert clock.wait(threading.Event(), -5.0) is False
    assert before <= clock.now()
    event = threading.Event()
    event.set()
    assert clock.wait(event, 1e6) is True
    with clock.actor():
        assert clock.wait(event, 0.0) is True


def test_a_scaled_clock_starts_at_zero_and_runs_faster_than_the_machine() -> None:
    clock = ScaledClock(1000.0)
    assert 0.0 <= clock.now() < 1000.0 * _JOIN_S
    before = time.monotonic()
    clock.sleep(2.0)
    real_s = time.monotonic() - before
    assert real_s >= 0.0019
    assert clock.now() >= 1000.0 * 0.0019


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_a_scaled_clock_refuses_a_speed_that_is_not_positive(speed: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        ScaledClock(speed)


def test_virtual_time_is_exact_and_keeps_wall_time_beside_it() -> None:
    clock = VirtualClock(start_s=5.0, wall_start=1.7e9)
    with clock.actor():
        clock.sleep(648 * 3600.0)
    assert clock.now() == 5.0 + 648 * 3600.0
    assert clock.wall() == 1.7e9 + 648 * 3600.0
    clock.sleep_until(1.0)
    assert clock.now() == 5.0 + 648 * 3600.0


def test_a_busy_actor_holds_the_time_of_all_others() -> None:
    clock = VirtualClock()
    seen: list[float] = []
    asleep = threading.Event()

    def busy() -> None:
        asleep.wait(_JOIN_S)
        time.sleep(0.05)
        seen.append(clock.now())

    def sleeper() -> None:
        asleep.set()
        clock.sleep(10.0)
        seen.append(clock.now())

    _actors(clock, busy, sleeper)
    assert seen == [0.0, 10.0]


def test_nested_actors_of_one_thread_count_once_and_leave_with_the_outermost() -> None:
    clock = VirtualClock()
    seen: list[float] = []

    def nested() -> None:
        with clock.actor():
            clock.sleep(1.0)
        seen.append(clock.now())
        with clock.actor(), clock.actor():
            pass
        clock.sleep(2.0)
        seen.append(clock.now())

    def other() -> None:
        clock.sleep(2.0)
        seen.append(clock.now())
        clock.sleep(10.0)

    _actors(clock, nested, other)
    assert seen == [1.0, 2.0, 3.0]
    assert clock.now() == 12.0


def test_an_actor_that_fails_no_longer_holds_the_time() -> None:
    clock = VirtualClock()

    def failing() -> None:
        with pytest.raises(RuntimeError):
            with clock.actor():
                raise RuntimeError("gone")

    def sleeper() -> None:
        with clock.actor():
            clock.sleep(3.0)

    _run(failing, sleeper)
    assert clock.now() == 3.0


def test_an_event_ends_a_wait_at_the_moment_of_the_actor_who_sets_it() -> None:
    clock = VirtualClock()
    event = threading.Event()
    seen: list[float] = []

    def setter() -> None:
        clock.sleep(3.0)
        event.set()
        clock.sleep(100.0)

    def waiter() -> None:
        assert clock.wait(event, 10.0)
        seen.append(clock.now())

    _actors(clock, setter, waiter)
    assert seen == [3.0]
    assert clock.now() == 103.0


def test_an_actor_may_set_an_event_and_join_the_thread_that_waits_for_it() -> None:
    clock = VirtualClock()
    stop = threading.Event()
    waits = threading.Event()

    def worker() -> None:
        with clock.actor():
            waits.set()
            assert clock.wait(stop, 1.0)

    with clock.actor():
        thread = threading.Thread(target=worker, daemon=True)
        thread.start()
        assert waits.wait(_JOIN_S)
        stop.set()
        thread.join(_JOIN_S)
        assert not thread.is_alive(), "the joining actor holds the time, the worker was never woken"
    assert clock.now() == 0.0


def test_a_thread_that_is_no_actor_sleeps_with_the_actors_and_never_holds_them() -> None:
    clock = VirtualClock()
    seen: list[float] = []

    def actor() -> None:
        with clock.actor():
            for _ in range(100):
                clock.sleep(1.0)

    def stranger() -> None:
        for _ in range(5):
            before = clock.now()
            clock.sleep(0.5)
            seen.append(clock.now() - before)

    _run(actor, stranger)
    assert len(seen) == 5
    assert min(seen) >= 0.5
    assert clock.now() >= 100.0


def test_advance_to_wakes_those_it_passes_and_never_goes_back() -> None:
    clock = VirtualClock()
    seen: list[float] = []

    def joining() -> None:
        while not clock._waiting:
            time.sleep(0.001)
        clock.advance_to(50.0)
        clock.advance_to(20.0)
        clock.sleep(1.0)
        seen.append(clock.now())

    def sleeper() -> None:
        clock.sleep(10.0)
        seen.append(clock.now())

    _actors(clock, joining, sleeper)
    assert seen == [50.0, 51.0]


def test_an_interrupted_sleep_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = VirtualClock()
    busy, done = threading.Event(), threading.Event()

    def hold() -> None:
        with clock.actor():
            busy.set()
            done.wait(_JOIN_S)

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    assert busy.wait(_JOIN_S)

    def interrupted(timeout: float | None = None) -> bool:
        raise KeyboardInterrupt

    with clock.actor():
        with monkeypatch.context() as patch:
            patch.setattr(clock._changed, "wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                clock.sleep(5.0)
        done.set()
        holder.join(_JOIN_S)
        clock.sleep(7.0)
    assert clock.now() == 7.0


durations = st.floats(min_value=0.0, max_value=1e4, allow_nan=False)
schedules = st.lists(st.lists(durations, max_size=6), min_size=1, max_size=4)


@given(schedules)
@settings(max_examples=60, deadline=None)
def test_every_actor_wakes_exactly_at_its_own_moments(schedule: list[list[float]]) -> None:
    clock = VirtualClock()
    log: list[float] = []

    def sleeping(steps: list[float]) -> Callable[[], None]:
        def body() -> None:
            expected = 0.0
            for step in steps:
                expected += step
                clock.sleep(step)
                assert clock.now() == expected
                log.append(expected)

        return body

    _actors(clock, *map(sleeping, schedule))
    assert log == sorted(log)
    assert clock.now() == max((sum(steps) for steps in schedule), default=0.0)


@given(schedules, st.lists(durations, min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_events_and_sleeps_together_never_deadlock_nor_pass_a_deadline(
    schedule: list[list[float]], set_after: list[float]
) -> None:
    clock = VirtualClock()
    events = [threading.Event() for _ in set_after]

    def setting() -> None:
        for event, pause in zip(events, set_after, strict=True):
            clock.sleep(pause)
            event.set()

    def waiting(steps: list[float]) -> Callable[[], None]:
        def body() -> None:
            for number, step in enumerate(steps):
                event = events[number % len(events)]
                deadline = clock.now() + step
                if not clock.wait(event, step):
                    assert clock.now() == deadline
                assert clock.now() <= deadline

        return body

    _actors(clock, setting, *map(waiting, schedule))
