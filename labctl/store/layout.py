"""The layout of a stream: which columns and arrays each of its records holds, and their bytes.

A record is a fixed number of little-endian bytes: ``point`` (int64), ``attempt`` (int32), ``t_s`` and ``wall_s``
(float64), then the columns in order. The arrays of a record follow one another, in order, in a second block of bytes.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, NoReturn

import numpy as np

from labctl.errors import StorageError

Kind = Literal["float", "int", "bool", "text"]

RECORD_FIELDS = ("point", "attempt", "t_s", "wall_s")
"""What every record carries besides its columns: plan index, attempt, run monotonic seconds, Unix seconds."""

MAX_TEXT_WIDTH = 65_536
MAX_ARRAY_BYTES = 1 << 30
MAX_ARRAY_DIMENSIONS = 8
MAX_FIELDS = 4096

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_STRUCT_CODE = {"float": "d", "int": "q", "bool": "?"}
_DTYPE_CODE = {"float": "<f8", "int": "<i8", "bool": "?"}
_INTEGERS = frozenset({int, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64})
_ACCEPTED: dict[str, frozenset[type]] = {
    "float": _INTEGERS | {float, np.float64, np.float32, np.float16},
    "int": _INTEGERS,
    "bool": frozenset({bool, np.bool_}),
    "text": frozenset({str, np.str_}),
}


def _refuse_layout(what: str) -> NoReturn:
    raise StorageError(what, state="nothing was written", todo="correct the declaration of the columns and arrays")


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        _refuse_layout(f"{name!r} is not a name for a column or an array: letters, digits and _ only, up to 100")
    if name in RECORD_FIELDS:
        _refuse_layout(f"the name {name!r} is taken: every record carries it already")


@dataclass(frozen=True)
class Column:
    """One scalar per point.

    :param name: Name with its unit as suffix, e.g. ``fluence_uj_cm2``.
    :param kind: ``float`` (float64), ``int`` (int64), ``bool`` or ``text``.
    :param unit: Unit as text, empty if there is none.
    :param width: For ``text``: the greatest length in UTF-8 bytes, 1 to 65536; 0 otherwise.
    """

    name: str
    kind: Kind
    unit: str = ""
    description: str = ""
    width: int = 0

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.kind not in _ACCEPTED:
            _refuse_layout(f"column {self.name!r}: {self.kind!r} is not a kind; there are float, int, bool and text")
        if not isinstance(self.unit, str) or not isinstance(self.description, str) or type(self.width) is not int:
            _refuse_layout(f"column {self.name!r}: unit and description are text, width is an integer")
        if self.kind == "text" and not 1 <= self.width <= MAX_TEXT_WIDTH:
            _refuse_layout(f"column {self.name!r}: a text column needs a width of 1 to {MAX_TEXT_WIDTH} bytes")
        if self.kind != "text" and self.width != 0:
            _refuse_layout(f"column {self.name!r}: only a text column has a width")


@dataclass(frozen=True)
class ArrayField:
    """One small array per point: a spectrum, a histogram, a thumbnail.

    :param shape: Shape of one point's array, 1 to 8 dimensions, at most 1 GiB.
    :param dtype: NumPy name of a bool, integer, float or complex type, e.g. ``float32``.
    :param axis: Name of the axis shared by all points along the last dimension, e.g. ``wavelength_nm``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    unit: str = ""
    description: str = ""
    axis: str | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        object.__setattr__(self, "shape", tuple(self.shape))
        if not 1 <= len(self.shape) <= MAX_ARRAY_DIMENSIONS or any(type(n) is not int or n < 1 for n in self.shape):
            _refuse_layout(f"array {self.name!r}: {self.shape} is not a shape of 1 to 8 lengths, each 1 or more")
        if not all(isinstance(text, str) for text in (self.unit, self.description, self.axis or "")):
            _refuse_layout(f"array {self.name!r}: unit, description and axis are text")
        try:
            kind = np.dtype(self.dtype).kind
        except TypeError:
            kind = "?"
        if kind not in "biufc":
            _refuse_layout(f"array {self.name!r}: {self.dtype!r} is not a bool, integer, float or complex type")
        if math.prod(self.shape) * np.dtype(self.dtype).itemsize > MAX_ARRAY_BYTES:
            _refuse_layout(f"array {self.name!r}: one point would hold more than {MAX_ARRAY_BYTES} bytes")

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """The type in little-endian byte order."""
        return np.dtype(self.dtype).newbyteorder("<")


@dataclass(frozen=True)
class RowLayout:
    """The columns and arrays of one stream, with fast packing and unpacking."""

    columns: tuple[Column, ...]
    arrays: tuple[ArrayField, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "arrays", tuple(self.arrays))
        names = [field.name for field in (*self.columns, *self.arrays)]
        if len(names) > MAX_FIELDS:
            _refuse_layout(f"{len(names)} columns and arrays; the limit is {MAX_FIELDS}")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            _refuse_layout(f"declared more than once: {', '.join(twice)}")

    @cached_property
    def record_dtype(self) -> np.dtype[Any]:
        """NumPy type of one packed record: the four record fields, then the columns."""
        fields: list[tuple[str, str]] = [("point", "<i8"), ("attempt", "<i4"), ("t_s", "<f8"), ("wall_s", "<f8")]
        fields += [(c.name, f"S{c.width}" if c.kind == "text" else _DTYPE_CODE[c.kind]) for c in self.columns]
        return np.dtype(fields)

    @cached_property
    def arrays_dtype(self) -> np.dtype[Any]:
        """NumPy type of the arrays of one record."""
        return np.dtype([(a.name, a.stored_dtype, a.shape) for a in self.arrays])

    @cached_property
    def _struct(self) -> struct.Struct:
        codes = (f"{c.width}s" if c.kind == "text" else _STRUCT_CODE[c.kind] for c in self.columns)
        return struct.Struct("<qidd" + "".join(codes))

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    @cached_property
    def _accepted(self) -> tuple[frozenset[type], ...]:
        return tuple(_ACCEPTED[c.kind] for c in self.columns)

    @cached_property
    def _texts(self) -> tuple[tuple[int, Column], ...]:
        return tuple((index, c) for index, c in enumerate(self.columns) if c.kind == "text")

    def pack(self, point: int, attempt: int, t_s: float, wall_s: float, row: Mapping[str, Any]) -> bytes:
        """Pack one record.

        :param point: Plan index of the point.
        :param t_s: Monotonic seconds since the start of the run.
        :param wall_s: Unix seconds.
        :param row: One value for each column, NumPy scalars included. An integer is accepted for a float.
        :raises StorageError: For an unknown or missing column, a wrong type, or a text that is too long.
        """
        try:
            values = [row[name] for name in self._names]
        except KeyError:
            self._refuse_names(row, [c.name for c in self.columns], "column")
        if len(row) != len(values):
            self._refuse_names(row, [c.name for c in self.columns], "column")
        for index, accepted in enumerate(self._accepted):
            if type(values[index]) not in accepted:
                _refuse_value(self.columns[index], values[index])
        for index, column in self._texts:
            values[index] = _encode_text(column, values[index])
        try:
            return self._struct.pack(point, attempt, t_s, wall_s, *values)
        except (struct.error, OverflowError, TypeError) as error:
            self._refuse_range(point, attempt, t_s, wall_s, values, error)

    def pack_arrays(self, arrays: Mapping[str, Any] | None) -> bytes:
        """Pack the arrays of one record, one after another.

        :param arrays: One array of the declared shape for each field; its type must convert without loss.
        :raises StorageError: For an unknown or missing array, a wrong shape, or a type that would lose information.
        """
        given = arrays or {}
        if len(given) != len(self.arrays) or any(a.name not in given for a in self.arrays):
            self._refuse_names(given, [a.name for a in self.arrays], "array")
        if len(self.arrays) == 1:
            return _array_bytes(self.arrays[0], given[self.arrays[0].name])
        return b"".join(_array_bytes(field, given[field.name]) for field in self.arrays)

    def unpack(self, data: bytes, count: int) -> np.ndarray[Any, Any]:
        """Packed records as a structured array of shape (count,)."""
        return _from_bytes(data, self.record_dtype, count)

    def unpack_arrays(self, data: bytes, count: int) -> np.ndarray[Any, Any]:
        """Packed arrays as a structured array of shape (count,), one field for each array."""
        return _from_bytes(data, self.arrays_dtype, count)

    def to_json(self) -> str:
        """The layout as JSON text."""
        return json.dumps({"columns": [asdict(c) for c in self.columns], "arrays": [asdict(a) for a in self.arrays]})

    @classmethod
    def from_json(cls, text: str) -> RowLayout:
        """Rebuild a layout from :meth:`to_json`.

        :raises StorageError: If the text is not a layout.
        """
        try:
            data = json.loads(text)
            columns = tuple(Column(**column) for column in data["columns"])
            return cls(columns, tuple(ArrayField(**{**a, "shape": tuple(a["shape"])}) for a in data["arrays"]))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise StorageError(f"this is not the layout of a stream: {error}") from error

    def column(self, name: str) -> Column | None:
        """The column of that name, if there is one."""
        return next((c for c in self.columns if c.name == name), None)

    def array(self, name: str) -> ArrayField | None:
        """The array field of that name, if there is one."""
        return next((a for a in self.arrays if a.name == name), None)

    def _refuse_names(self, given: Mapping[str, Any], expected: list[str], what: str) -> NoReturn:
        missing = [name for name in expected if name not in given]
        unknown = [str(name) for name in given if name not in expected]
        parts = [f"{what} {', '.join(missing)} missing"] if missing else []
        parts += [f"unknown {what} {', '.join(unknown)}"] if unknown else []
        raise StorageError(
            f"the row does not fit its stream: {'; '.join(parts)}",
            state="the row was not written",
            todo=f"give exactly: {', '.join(expected) or 'nothing'}",
        )

    def _refuse_range(
        self, point: Any, attempt: Any, t_s: Any, wall_s: Any, values: list[Any], error: Exception
    ) -> NoReturn:
        named = [("point", "q", point), ("attempt", "i", attempt), ("t_s", "d", t_s), ("wall_s", "d", wall_s)]
        named += [
            (column.name, _STRUCT_CODE[column.kind], value)
            for column, value in zip(self.columns, values, strict=True)
            if column.kind != "text"
        ]
        for name, code, value in named:
            try:
                struct.pack("<" + code, value)
            except (struct.error, OverflowError, TypeError):
                raise StorageError(
                    f"column {name!r}: {value!r} does not fit into its type", state="the row was not written"
                ) from error
        raise StorageError(f"the row cannot be packed: {error}", state="the row was not written") from error


def decode_text(column: Column, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The values of a text column (type ``S``, UTF-8) as strings (type ``U``).

    :raises StorageError: If they are not UTF-8.
    """
    try:
        return np.char.decode(np.ascontiguousarray(values), "utf-8")
    except UnicodeDecodeError as error:
        what = f"column {column.name!r} holds bytes that are not UTF-8"
        raise StorageError(what, state="the data is corrupt") from error


def _refuse_value(column: Column, value: object) -> NoReturn:
    raise StorageError(
        f"column {column.name!r} takes {column.kind}, not {type(value).__name__} {value!r:.80}",
        state="the row was not written",
    )


def _encode_text(column: Column, value: str) -> bytes:
    try:
        data = value.encode()
    except UnicodeEncodeError as error:
        raise StorageError(f"column {column.name!r}: {value!r:.80} is not valid text") from error
    if len(data) > column.width:
        raise StorageError(
            f"column {column.name!r}: the text needs {len(data)} bytes, the column has {column.width}",
            state="the row was not written",
            todo="declare the column wider",
        )
    if data.endswith(b"\0"):
        raise StorageError(f"column {column.name!r}: a text cannot end with a NUL", state="the row was not written")
    return data


def _array_bytes(field: ArrayField, value: Any) -> bytes:
    if type(value) is not np.ndarray:
        try:
            value = np.asarray(value)
        except (ValueError, TypeError) as error:
            what = f"array {field.name!r}: not an array: {error}"
            raise StorageError(what, state="the row was not written") from error
    dtype = field.stored_dtype
    if value.dtype != dtype:
        if not np.can_cast(value.dtype, dtype, "safe"):
            raise StorageError(
                f"array {field.name!r} takes {field.dtype}; {value.dtype} would lose information",
                state="the row was not written",
                todo="convert it where it is measured, or declare a wider type",
            )
        value = value.astype(dtype)
    if value.shape != field.shape:
        raise StorageError(
            f"array {field.name!r} has shape {value.shape}, declared is {field.shape}", state="the row was not written"
        )
    return value.tobytes()


def _from_bytes(data: bytes, dtype: np.dtype[Any], count: int) -> np.ndarray[Any, Any]:
    if count < 0 or len(data) != count * dtype.itemsize:
        raise StorageError(
            f"a block of {count} records holds {len(data)} bytes instead of {count * dtype.itemsize}",
            state="the file is corrupt",
        )
    if dtype.itemsize == 0:
        return np.zeros(count, dtype)
    return np.frombuffer(data, dtype, count)
