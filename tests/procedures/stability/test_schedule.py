"""When reads are due."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.errors import InputError
from procedures.stability.lit import lamp_times_s
from procedures.stability.schedule import Rhythm, time_name

USUAL = (0.0, 1.0, 5.0, 10.0)


def test_usual_times_are_cut_or_go_on_as_they_end() -> None:
    assert Rhythm().due_s(USUAL) == (0.0, 60.0, 300.0, 600.0)
    assert Rhythm(duration=5.0).due_s(USUAL) == (0.0, 60.0, 300.0)
    assert Rhythm(duration=21.0).due_s(USUAL) == (0.0, 60.0, 300.0, 600.0, 900.0, 1200.0)


def test_logarithmic_then_regular() -> None:
    due = np.array(Rhythm(every=60.0, duration=648 * 60.0).due_s(USUAL)) / 60
    assert due[0] == 0.0
    assert due[-1] == 648 * 60
    assert (np.diff(due) > 0).all()
    assert np.diff(due)[-600:] == pytest.approx(60.0)
    assert 640 < due.size < 665


def test_dense_then_regular() -> None:
    due = Rhythm(dense_every=10.0, dense_until=30.0, every=60.0, duration=180.0).due_s(USUAL)
    assert [value / 60 for value in due] == [0, 10, 20, 30, 60, 120, 180]


@pytest.mark.parametrize(
    "rhythm",
    [
        Rhythm(times=(5.0, 1.0)),
        Rhythm(every=1.0),
        Rhythm(dense_every=1.0, every=5.0, duration=10.0),
        Rhythm(every=1e-3, duration=1e6),
    ],
)
def test_schedules_that_cannot_be(rhythm: Rhythm) -> None:
    with pytest.raises(InputError):
        rhythm.due_s(USUAL)


def test_lamp_is_read_while_it_warms_up_and_every_hour() -> None:
    found = lamp_times_s([600.0, 3 * 3600.0])
    assert found[:5] == [0.0, 60.0, 120.0, 180.0, 300.0]
    assert np.diff([*found[5:], 3 * 3600.0]).max() <= 3600.0


@pytest.mark.parametrize(("minutes", "name"), [(20, "20min"), (100, "100min"), (1020, "17h"), (0.5, "0_5min")])
def test_names_of_times(minutes: float, name: str) -> None:
    assert time_name(minutes) == name
