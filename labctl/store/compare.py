"""Comparing two forms of one run, value by value."""

from __future__ import annotations

import numpy as np

from labctl.store.journal_format import encode_json
from labctl.store.layout import RECORD_FIELDS
from labctl.store.source import RunSource, array_slabs


def first_difference(journal: RunSource, sealed: RunSource, status: str, *, at_least: bool = False) -> str:
    """What differs first between a journal and its sealed file; empty if nothing does.

    Numbers are compared by their bytes, so NaN equals NaN and -0.0 differs from 0.0.

    :param status: The status that the sealed file must show.
    :param at_least: Whether the sealed file may hold notes and results beyond those of the journal.
    """
    if sealed.status != status:
        return f"status {sealed.status} instead of {status}"
    if encode_json(sealed.header, "the header") != encode_json(journal.header, "the header"):
        return "the header"
    if sealed.streams != journal.streams:
        return "the list of streams"
    for stream in journal.streams:
        difference = _stream_difference(journal, sealed, stream)
        if difference:
            return f"stream {stream!r}: {difference}"
    ours, theirs = journal.axes(), sealed.axes()
    if list(ours) != list(theirs) or any(
        ours[n].values.tobytes() != theirs[n].values.tobytes() or ours[n].unit != theirs[n].unit for n in ours
    ):
        return "the axes"
    if encode_json([vars(e) for e in journal.events()], "") != encode_json([vars(e) for e in sealed.events()], ""):
        return "the events"
    for what, ours, theirs in (
        ("the notes", journal.notes(), sealed.notes()),
        ("the results", journal.results(), sealed.results()),
    ):
        wanted = encode_json([vars(item) for item in ours], what)
        if encode_json([vars(item) for item in theirs[: len(ours)]], what) != wanted:
            return what
        if what == "the notes" and not at_least and len(theirs) != len(ours):
            return what
    return ""


def _stream_difference(journal: RunSource, sealed: RunSource, stream: str) -> str:
    layout, count = journal.layout(stream), journal.count(stream)
    if sealed.layout(stream) != layout:
        return "the layout"
    if sealed.count(stream) != count:
        return f"{sealed.count(stream)} records instead of {count}"
    for name in (*RECORD_FIELDS, *(column.name for column in layout.columns)):
        if not _same_bytes(journal.column(stream, name), sealed.column(stream, name)):
            return f"column {name!r}"
    for array in layout.arrays:
        record_bytes = int(np.prod(array.shape)) * array.stored_dtype.itemsize
        for start, stop in array_slabs(count, record_bytes):
            ours = journal.read_array(stream, array.name, start, stop)
            if not _same_bytes(ours, sealed.read_array(stream, array.name, start, stop)):
                return f"array {array.name!r}, records {start} to {stop - 1}"
    return ""


def _same_bytes(ours: np.ndarray, theirs: np.ndarray) -> bool:
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return False
    return bool(np.array_equal(_bytes(ours), _bytes(theirs)))


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)
