from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from labctl.errors import StorageError
from labctl.store.layout import ArrayField, Column, RowLayout, decode_text

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True).filter(
    lambda name: name not in ("point", "attempt", "t_s", "wall_s")
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
VALUES = {
    "float": st.floats(),
    "int": st.integers(-(2**63), 2**63 - 1),
    "bool": st.booleans(),
    "text": TEXTS,
}
DTYPES = ("bool", "int8", "uint16", "int64", "float32", "float64", "complex128")


@st.composite
def layouts_with_rows(draw: st.DrawFn) -> tuple[RowLayout, dict, dict]:
    names = draw(st.lists(NAMES, min_size=1, max_size=8, unique=True))
    split = draw(st.integers(0, len(names)))
    kinds = [draw(st.sampled_from(sorted(VALUES))) for _ in names[:split]]
    columns = [Column(n, kind, "u", "d", 32 if kind == "text" else 0) for n, kind in zip(names, kinds, strict=False)]
    shapes = [draw(st_numpy.array_shapes(max_dims=3, max_side=4)) for _ in names[split:]]
    arrays = [ArrayField(n, s, draw(st.sampled_from(DTYPES))) for n, s in zip(names[split:], shapes, strict=True)]
    row = {column.name: draw(VALUES[column.kind]) for column in columns}
    given_arrays = {a.name: draw(st_numpy.arrays(a.stored_dtype, a.shape)) for a in arrays}
    return RowLayout(tuple(columns), tuple(arrays)), row, given_arrays


@settings(max_examples=150, deadline=None)
@given(layouts_with_rows(), st.integers(0, 2**62), st.integers(0, 2**31 - 1), st.floats(), st.floats())
def test_what_is_packed_is_what_is_unpacked(case, point, attempt, t_s, wall_s) -> None:
    layout, row, arrays = case
    packed = layout.unpack(layout.pack(point, attempt, t_s, wall_s, row) * 2, 2)[1]
    assert (packed["point"], packed["attempt"]) == (point, attempt)
    assert np.array_equal([packed["t_s"], packed["wall_s"]], [t_s, wall_s], equal_nan=True)
    for column in layout.columns:
        value = packed[column.name]
        if column.kind == "text":
            assert decode_text(column, np.array([value]))[0] == row[column.name]
        else:
            assert value == row[column.name] or (math.isnan(value) and math.isnan(row[column.name]))
    unpacked = layout.unpack_arrays(layout.pack_arrays(arrays) * 2, 2)
    for name, value in arrays.items():
        assert unpacked[name][1].tobytes() == value.tobytes()


@settings(max_examples=50, deadline=None)
@given(layouts_with_rows())
def test_a_layout_survives_json(case) -> None:
    layout = case[0]
    assert RowLayout.from_json(layout.to_json()) == layout


SIMPLE = RowLayout(
    (Column("x", "float"), Column("n", "int"), Column("ok", "bool"), Column("name", "text", width=4)),
    (ArrayField("spectrum", (3,), "float32"),),
)
ROW = {"x": 1.0, "n": 2, "ok": True, "name": "ab"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": 1.0}, "unknown column y"),
        ({"x": None}, "'x' takes float, not NoneType"),
        ({"x": True}, "'x' takes float, not bool"),
        ({"x": "1"}, "'x' takes float"),
        ({"x": 10**400}, "'x': 1000"),
        ({"n": 1.0}, "'n' takes int, not float"),
        ({"n": np.float32(1)}, "'n' takes int"),
        ({"n": 2**63}, "'n': 9223372036854775808 does not fit"),
        ({"n": np.uint64(2**64 - 1)}, "'n':"),
        ({"ok": 1}, "'ok' takes bool, not int"),
        ({"name": b"ab"}, "'name' takes text, not bytes"),
        ({"name": "µµµ"}, "'name': the text needs 6 bytes, the column has 4"),
        ({"name": "a\0"}, "'name': a text cannot end with a NUL"),
        ({"name": "\ud800"}, "'name'"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_by_name(change: dict, message: str) -> None:
    with pytest.raises(StorageError) as caught:
        SIMPLE.pack(0, 0, 0.0, 0.0, ROW | change)
    assert message in str(caught.value)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(StorageError, match="column n missing"):
        SIMPLE.pack(0, 0, 0.0, 0.0, {k: v for k, v in ROW.items() if k != "n"})


def test_numpy_scalars_are_accepted() -> None:
    row = {"x": np.float32(0.5), "n": np.uint16(7), "ok": np.bool_(False), "name": np.str_("é")}
    assert SIMPLE.unpack(SIMPLE.pack(np.int64(1), 0, np.float64(2), 3, row), 1)[0].item() == (
        *(1, 0, 2.0, 3.0, 0.5, 7, False, "é".encode()),
    )


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (None, "array spectrum missing"),
        ({}, "array spectrum missing"),
        ({"spectrum": np.zeros(3, "f4"), "extra": 1}, "unknown array extra"),
        ({"spectrum": np.zeros(4, "f4")}, "shape (4,), declared is (3,)"),
        ({"spectrum": np.zeros((1, 3), "f4")}, "shape (1, 3)"),
        ({"spectrum": np.zeros(3, "f8")}, "float64 would lose information"),
        ({"spectrum": np.zeros(3, "c8")}, "complex64 would lose information"),
        ({"spectrum": [1, [2], 3]}, "not an array"),
        ({"spectrum": np.array([None] * 3)}, "object would lose information"),
    ],
)
def test_an_array_that_does_not_fit_is_refused_by_name(arrays: dict | None, message: str) -> None:
    with pytest.raises(StorageError) as caught:
        SIMPLE.pack_arrays(arrays)
    assert message in str(caught.value)


def test_arrays_are_stored_little_endian_and_contiguous() -> None:
    values = np.arange(6, dtype=">f4")[::2]
    assert SIMPLE.pack_arrays({"spectrum": values}) == np.array([0, 2, 4], "<f4").tobytes()
    assert SIMPLE.pack_arrays({"spectrum": np.array([1, 2, 3], np.int16)}) == np.array([1, 2, 3], "<f4").tobytes()


@pytest.mark.parametrize(
    "declare",
    [
        lambda: Column("1x", "float"),
        lambda: Column("point", "float"),
        lambda: Column("a/b", "float"),
        lambda: Column("x", "double"),  # type: ignore[arg-type]
        lambda: Column("x", "text"),
        lambda: Column("x", "float", width=3),
        lambda: Column("x", "text", width=10**6),
        lambda: ArrayField("s", (), "float32"),
        lambda: ArrayField("s", (0,), "float32"),
        lambda: ArrayField("s", (3,), "object"),
        lambda: ArrayField("s", (3,), "S8"),
        lambda: ArrayField("s", (2**30,), "float64"),
        lambda: RowLayout((Column("x", "int"), Column("x", "int"))),
        lambda: RowLayout((Column("x", "int"),), (ArrayField("x", (3,), "int8"),)),
    ],
)
def test_an_impossible_layout_is_refused(declare) -> None:
    with pytest.raises(StorageError):
        declare()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"columns": [{"name": 3}], "arrays": []}', "[" * 100_000])
def test_json_that_is_no_layout_is_refused(text: str) -> None:
    with pytest.raises(StorageError):
        RowLayout.from_json(text)


def test_a_block_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(StorageError, match="instead of"):
        SIMPLE.unpack(b"123", 1)
