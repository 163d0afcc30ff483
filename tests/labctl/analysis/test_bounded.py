from __future__ import annotations

import pytest

from labctl.analysis.bounded import from_line, to_line


@pytest.mark.parametrize("value", [-1.9, 0.0, 2.5])
def test_there_and_back_again(value):
    assert from_line(to_line(value, (-2.0, 3.0)), (-2.0, 3.0)) == pytest.approx(value)


def test_no_number_leaves_the_bounds_and_no_start_lies_on_one():
    assert all(-2.0 <= from_line(z, (-2.0, 3.0)) <= 3.0 for z in (-50.0, -1.0, 0.3, 1e6))
    assert (
        -2.0
        < from_line(to_line(-2.0, (-2.0, 3.0)), (-2.0, 3.0))
        < from_line(to_line(9.0, (-2.0, 3.0)), (-2.0, 3.0))
        < 3.0
    )
