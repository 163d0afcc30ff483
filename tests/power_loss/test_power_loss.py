"""Power cuts at random moments of a run: nothing that was acknowledged is lost, and nothing is unreadable."""

from __future__ import annotations

from pathlib import Path

import pytest

from power_loss.cut import Image, cut_at, cuts, renamings, traced
from power_loss.trace import can_trace

UNTRACEABLE = can_trace()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(UNTRACEABLE), reason=UNTRACEABLE or "can trace"),
]


def failed(images: list[Image]) -> list[Image]:
    return [image for image in images if image.problems]


def test_no_power_cut_loses_an_acknowledged_point(tmp_path: Path) -> None:
    images = list(cuts(traced(tmp_path), tmp_path / "run", tmp_path / "images", range(300)))
    assert not failed(images)
    assert sum(image.pending > 0 for image in images) > 200
    assert len({image.points for image in images}) > 50


def test_no_name_is_lost_between_its_change_and_the_next(tmp_path: Path) -> None:
    programs = traced(tmp_path)
    moments = renamings(programs)
    assert len(moments) >= 10
    images = [cut_at(programs, tmp_path / "run", tmp_path, moment, seed) for moment in moments for seed in range(8)]
    assert not failed(images)


@pytest.mark.parametrize(("left_out", "at_least"), [("off", 10), ("normal", 10), ("payload", 10)])
def test_a_sync_that_is_left_out_is_missed(tmp_path: Path, left_out: str, at_least: int) -> None:
    images = list(cuts(traced(tmp_path, left_out), tmp_path / "run", tmp_path / "images", range(30)))
    assert len(failed(images)) >= at_least
