"""Runs ended in every way: dark within 2 s, confirmed, no acknowledged point lost, resumed to the same set-points."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kill_table.engine import checksum, plain
from kill_table.table import Trial, _judge_the_bench, text_of
from kill_table.trial import Instant, Seen, lost
from kill_table.ways import WAYS

ROOT = Path(__file__).resolve().parents[2]
KILLS, OTHERS = 6, 1
_HANG_S = 1500

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and terminals")


def trial(
    way: str = "kill", *, hit: bool = True, dark_s: float = math.nan, state: str = "confirmed", **seen: Any
) -> Trial:
    looked = Seen(0.0, 9.0, 5.0, last_light_s=5.0 + dark_s, hit=hit, outcome={"safe_state": state}, **seen)
    return Trial(way, 0, Instant(1.0), looked)


@pytest.mark.parametrize(
    ("seen", "lit_at_last", "said"),
    [
        (trial(), False, ""),
        (trial(dark_s=1.9), False, ""),
        (trial(dark_s=2.1), False, "open for 2.10 s"),
        (trial("stop", dark_s=2.9), False, ""),
        (trial("stop", dark_s=3.1), False, "open for 3.10 s"),
        (trial(dark_s=2.1, hit=False), False, ""),
        (trial(), True, "THE SHUTTER IS OPEN"),
        (trial(state="not-needed"), False, ""),
        (trial(state="not-needed", dark_s=0.1), False, "the safe state is not-needed"),
        (trial(state="unconfirmed"), False, "the safe state is unconfirmed"),
        (trial(left=["standby"]), False, "did not end: standby"),
    ],
)
def test_what_is_promised_of_the_bench(seen: Trial, lit_at_last: bool, said: str) -> None:
    _judge_the_bench(seen, WAYS[seen.way], lit_at_last=lit_at_last)
    assert bool(seen.problems) is bool(said)
    assert said in "".join(seen.problems)


def note(point: int, value: float, counts: list[int]) -> dict[str, Any]:
    array = checksum(np.asarray(counts, "<i4"))
    return {"key": ["points", point, 0], "row": {"x": plain(value)}, "arrays": {"spectrum": array}}


def test_an_acknowledged_row_must_be_stored_to_the_last_bit() -> None:
    stored = {("points", entry["key"][1], 0): entry for entry in (note(0, 0.1, [1, 2]), note(1, math.nan, [3]))}
    assert lost([note(0, 0.1, [1, 2]), note(1, math.nan, [3])], stored) == []
    assert lost([note(2, 0.1, [1])], stored) == ["point 2 of points was acknowledged and is lost"]
    for other in (note(0, 0.1 + 2**-56, [1, 2]), note(0, 0.1, [1, 3])):
        assert lost([other], stored) == ["point 0 of points is stored with other values"]


def test_the_table_names_what_was_broken() -> None:
    good, bad = trial(dark_s=0.5, lit=True), trial(dark_s=0.7, lit=True)
    bad.problems.append("the run cannot be read")
    lines = text_of([good, bad]).splitlines()
    assert lines[2] == "| kill | 2 | 2 | 2 | 0.50, 0.60, 0.70 | 0 | 0 | 1 |"
    assert lines[-1] == "    the run cannot be read"


@pytest.mark.slow
@pytest.mark.timeout(_HANG_S + 60)
def test_no_way_of_ending_a_run_breaks_a_promise() -> None:
    command = [sys.executable, "-m", "kill_table", "--count", str(KILLS), "--others", str(OTHERS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_HANG_S)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines()[2:]]
    assert [row[0].strip() for row in rows] == list(WAYS)
    assert sum(int(row[1]) for row in rows) == KILLS + OTHERS * (len(WAYS) - 1)
    assert sum(int(row[5]) for row in rows) > 0, "rows that could have been lost"
