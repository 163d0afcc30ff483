"""Settings in laboratory time."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.sim.history import History, panels


def test_a_setting_replaces_what_lay_later() -> None:
    history: History[str] = History("off")
    history.set(1.0, "on")
    history.set(5.0, "fall-back")
    history.set(3.0, "dim")
    assert history.at(0.5)[1] == "off"
    assert history.at(2.0) == (1.0, "on")
    assert history.at(9.0) == (3.0, "dim")


def test_what_is_kept_loses_what_was_foreseen() -> None:
    history: History[str] = History("off")
    history.set(1.0, "on")
    history.set(5.0, "fall-back")
    history.keep(2.0)
    assert history.at(9.0) == (1.0, "on")


def test_pieces_cover_the_time_asked_for() -> None:
    history: History[int] = History(0)
    for t in (1.0, 2.0, 3.0):
        history.set(t, int(t))
    pieces = list(history.pieces(1.5, 2.5))
    assert [(start, end, setting) for start, end, _, setting in pieces] == [(1.5, 2.0, 1), (2.0, 2.5, 2)]
    assert [since for *_, since, _ in pieces] == [1.0, 2.0]
    assert list(history.pieces(4.0, 4.0)) == []


def test_memory_is_bounded_and_whoever_adds_up_is_told_before_it_goes() -> None:
    total = 0.0
    settled = 0.0

    def forgets(until_s: float) -> None:
        nonlocal total, settled
        total += sum((end - start) * setting for start, end, _, setting in history.pieces(settled, until_s))
        settled = until_s

    history: History[int] = History(0, forgets)
    for command in range(100_000):
        history.set(10.0 * command, command % 2)
    total += sum((end - start) * setting for start, end, _, setting in history.pieces(settled, 1e6))
    assert len(history) < 3000
    assert total == pytest.approx(5e5, abs=10.0)
    with pytest.raises(LookupError, match="before the kept past"):
        history.at(0.0)


def test_panels_integrate() -> None:
    times, weights = panels(np.array([0.0, 0.5, 2.0]))
    assert weights @ np.exp(times) == pytest.approx(np.expm1(2.0), rel=1e-12)
