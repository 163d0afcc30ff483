"""Whatever is given for a parameter is accepted or refused with a ConfigError; never a traceback."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymeasure.experiment import Parameter

from labctl.errors import ConfigError
from labctl.run.parameters import choice, flag, named, quantity, quantity_list, whole
from labctl.run.procedure import SweepProcedure


class Stubborn(Parameter):
    """A parameter of a user's own that raises what nobody expects."""

    def convert(self, value: Any) -> Any:
        raise KeyError(value)


class OfEveryKind(SweepProcedure):
    NAME: ClassVar[str] = "of-every-kind"
    width: float | None = quantity("Width", "um", minimum=1.0, maximum=1e4, optional=True)
    share: float = quantity("Share", minimum=0.0, maximum=1.0, default=0.5)
    fluences: tuple[float, ...] | None = quantity_list("Fluences", "uJ/cm^2", minimum=1e-9)
    points: int = whole("Points", minimum=1, maximum=100, default=3)
    zero: bool = flag("Zero", default=True)
    order: str = choice("Order", choices=("up", "down"), default="up")
    stubborn: Any = Stubborn("Stubborn", default=None)
    window: str | None = named("Window")


NAMES = ("width", "share", "fluences", "points", "zero", "order", "stubborn", "window")
UNITS = ("", " ", "uJ/cm^2", " uJ/cm^2", " um", "%", "J", " /", "^")
NUMBERS = st.one_of(st.floats().map(repr), st.integers().map(str), st.text("0123456789.eE+-, ", max_size=12))
TEXTS = st.one_of(
    st.text(max_size=20),
    st.builds(lambda numbers, unit: ",".join(numbers) + unit, st.lists(NUMBERS, max_size=4), st.sampled_from(UNITS)),
)
PLAIN = st.one_of(TEXTS, st.none(), st.booleans(), st.integers(), st.floats(), st.binary(max_size=4))
ARRAYS = st.sampled_from([np.array([]), np.array([1.0, 2.0]), np.ones((2, 2)), np.array("3 um"), np.float32(3)])
VALUES = st.one_of(PLAIN, st.lists(PLAIN, max_size=3), st.dictionaries(st.text(max_size=2), PLAIN, max_size=2), ARRAYS)


@given(name=st.sampled_from(NAMES), value=VALUES)
def test_any_value_is_accepted_or_refused_in_words(name: str, value: Any) -> None:
    try:
        accepted = getattr(OfEveryKind(**{name: value}), name)
    except ConfigError as error:
        assert name in str(error)
        return
    if name == "fluences" and accepted is not None:
        assert len(accepted) > 0
        assert all(np.isfinite(number) and number >= 1e-9 for number in accepted)


@pytest.mark.parametrize(
    ("given_as", "taken_as"),
    [
        ("3,4,5uJ/cm^2", (3.0, 4.0, 5.0)),
        (" 3 , 4, 5  uJ/cm^2 ", (3.0, 4.0, 5.0)),
        ("300 nJ/cm^2, 4 uJ/cm^2", (0.3, 4.0)),
        ("1e1 uJ/cm^2", (10.0,)),
        (["3 uJ/cm^2", 4], (3.0, 4.0)),
        (np.array([3.0, 4.0]), (3.0, 4.0)),
        (5, (5.0,)),
    ],
)
def test_lists_are_read_with_one_unit_at_the_end_or_one_each(given_as: Any, taken_as: tuple[float, ...]) -> None:
    assert OfEveryKind(fluences=given_as).fluences == pytest.approx(taken_as)


@pytest.mark.parametrize("given_as", ["", "  ", ",", "3,,4 uJ/cm^2", "3,4,5", "3 um", [], [True], [[1.0]], 10**400])
def test_lists_that_make_no_sense_are_refused(given_as: Any) -> None:
    with pytest.raises(ConfigError, match="fluences"):
        OfEveryKind(fluences=given_as)
