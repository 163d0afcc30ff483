"""Rows as a pymeasure procedure emits them: any scalars, under the titles of its columns."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from pint import PintError

from labctl.config.quantity import unit_registry
from labctl.errors import StorageError
from labctl.run.pymeasure_bridge import ColumnTitle, name_columns
from labctl.store.journal import Journal
from labctl.store.layout import Column, RowLayout

log = logging.getLogger(__name__)

_TEXT_BYTES = 1024
_NUMBERS = bool | int | float | Decimal | np.bool_ | np.integer | np.floating


class ForeignRows:
    """Makes the stream from the first row, then stores rows in it.

    Numbers of every kind become floats, truth values 1 and 0. A quantity is converted to the unit of its column. A
    column that begins with something else is text. What a row leaves out is NaN, or empty text. What the first row has
    beyond the declared columns becomes a column too.

    :param journal: Journal of the run.
    :param stream: Name of the stream.
    :param columns: The declared columns.
    """

    def __init__(self, journal: Journal, stream: str, columns: Sequence[ColumnTitle]) -> None:
        self.journal = journal
        self.stream = stream
        self._titles = list(columns)
        self._columns: dict[str, Column] | None = None
        self._left_out: set[str] = set()

    def append(self, record: Mapping[str, Any], point: int, t_s: float, wall_s: float) -> dict[str, float | str]:
        """Store one row and return it by our names; raises StorageError if a value does not fit or the disk fails."""
        if not isinstance(record, Mapping):
            raise StorageError(f"a row is a dict of column titles and values, not {type(record).__name__}")
        columns = self._columns if self._columns is not None else self._declare(record)
        self._warn_of_unknown(record, columns)
        row = {column.name: _value(column, record.get(title)) for title, column in columns.items()}
        self.journal.append(self.stream, point=point, attempt=0, t_s=t_s, wall_s=wall_s, row=row)
        return row

    def declare_if_none(self) -> None:
        """Declare the stream of a procedure that gave no row, so that its file is as every other."""
        if self._columns is None:
            self._declare({})

    def _declare(self, record: Mapping[str, Any]) -> dict[str, Column]:
        declared = [column.title for column in self._titles]
        titles = name_columns([*declared, *(str(key) for key in record if key not in declared)])
        columns = {entry.title: _column(entry, record.get(entry.title)) for entry in titles}
        self.journal.add_stream(self.stream, RowLayout(tuple(columns.values())))
        self._columns = columns
        return columns

    def _warn_of_unknown(self, record: Mapping[str, Any], columns: Mapping[str, Column]) -> None:
        unknown = [title for title in record if title not in columns and title not in self._left_out]
        if unknown:
            self._left_out.update(unknown)
            log.warning("not stored, since neither DATA_COLUMNS nor the first row has them: %s", ", ".join(unknown))


def rows_of_batch(batch: Any) -> Iterator[dict[str, Any]]:
    """Take a "batch results" record apart into rows; raises StorageError unless its sequences are of one length."""
    if not isinstance(batch, Mapping) or not all(_is_sequence(part) for part in batch.values()):
        raise StorageError("a batch is a dict of sequences, one for each column")
    lengths = {len(part) for part in batch.values()}
    if len(lengths) > 1:
        raise StorageError(f"the columns of a batch have different lengths: {sorted(lengths)}")
    return (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True))


def _is_sequence(part: Any) -> bool:
    return isinstance(part, Sequence | np.ndarray) and not isinstance(part, str | bytes)


def _column(entry: ColumnTitle, first: Any) -> Column:
    """Declare a column by what its first row holds."""
    if first is None or entry.unit or isinstance(first, _NUMBERS):
        return Column(entry.name, "float", entry.unit, entry.text)
    if _is_quantity(first):
        return Column(entry.name, "float", str(first.to_base_units().units).replace("dimensionless", ""), entry.text)
    return Column(entry.name, "text", "", entry.text, _TEXT_BYTES)


def _value(column: Column, value: Any) -> float | str:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, np.ndarray | list | tuple | dict):
        raise StorageError(
            f"column {column.description!r} was given {type(value).__name__}; a row of pymeasure holds scalars only",
            state="the row was not written",
            todo="emit its mean, or make the procedure a SweepProcedure, which stores arrays",
        )
    if column.kind == "text":
        return "" if value is None else str(value)
    if value is None:
        return math.nan
    if isinstance(value, str):
        value = _quantity_of_text(column, value)
    if _is_quantity(value):
        value = _magnitude(column, value)
    return _number(column, value)


def _number(column: Column, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise StorageError(
            f"column {column.description!r} holds numbers, not {type(value).__name__} {value!r:.80}",
            state="the row was not written",
        ) from None
    if isinstance(value, int) and int(number) != value:
        raise StorageError(
            f"column {column.description!r}: {value} has more digits than a float holds",
            state="the row was not written",
        )
    return number


def _is_quantity(value: Any) -> bool:
    return hasattr(value, "m_as") and hasattr(value, "to_base_units")


def _quantity_of_text(column: Column, text: str) -> Any:
    """Read text in a column of numbers, with a unit or without; what cannot be read is refused by the caller."""
    try:
        return float(text)
    except ValueError:
        pass
    number, _, unit = text.strip().partition(" ")
    try:
        return float(number) * unit_registry().Unit(unit)
    except (ValueError, TypeError, PintError, AttributeError):
        return text


def _magnitude(column: Column, quantity: Any) -> float:
    try:
        return float(quantity.m_as(column.unit))
    except (PintError, ValueError, TypeError) as error:
        raise StorageError(
            f"column {column.description!r} is in {column.unit or 'no unit'}: {error}", state="the row was not written"
        ) from error
