"""Writing a run as NeXus-style HDF5: groups that h5web, silx and NexPy plot, without claiming a definition.

``/entry`` (NXentry) holds ``data`` (the main stream, NXdata), one NXdata group for each other stream and for each array
(``data_spectrum``), ``instrument/<role>``, ``sample``, ``process`` (results), ``provenance``, ``events``, ``notes``
and ``axes``. Scalars are contiguous, so every HDF5 reader opens them; arrays are Blosc-LZ4 with bit shuffle and a
Fletcher-32 checksum. :mod:`labctl.store.sealed_reader` is the way back.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from labctl.store.checked_file import append_checksums
from labctl.store.journal_format import encode_json, labelled_crc
from labctl.store.layout import RECORD_FIELDS, RowLayout
from labctl.store.source import SEALED_FORMAT, Axis, Event, Note, Result, RunSource

LIBRARY_VERSION = ("v108", "v108")
"""Every HDF5 since 1.8 (2008) reads it, and its metadata carry checksums: a damaged file is told from a good one."""
CHUNK_BYTES = 512 << 10

ROLE_CLASSES = {
    "attenuator": "NXattenuator",
    "laser": "NXsource",
    "lamp": "NXsource",
    "shutter": "NXbeam_stop",
    "spectrograph": "NXmonochromator",
    "filter": "NXfilter",
    "detector": "NXdetector",
    "energy_meter": "NXdetector",
    "spectrometer": "NXdetector",
    "streak": "NXdetector",
    "tcspc": "NXdetector",
}
SEARCHABLE = ("run", "procedure", "sample", "started", "seed")

_TEXT = h5py.string_dtype("utf-8")


def write_run(path: Path, source: RunSource, status: str, results: Sequence[Result]) -> None:
    """Write a complete run to a new file ``path``; the caller syncs, verifies and renames it.

    :param status: Status to record: ``finished``, ``aborted``, ``failed`` or ``crashed``.
    :param results: Results of analyses to store with the run.
    """
    header = source.header
    axes = source.axes()
    main = main_stream(source)
    with h5py.File(path, "x", libver=LIBRARY_VERSION) as file:
        file.attrs["NX_class"] = "NXroot"
        file.attrs["default"] = "entry"
        file.attrs["creator"] = "labctl"
        file.attrs["labctl_format"] = SEALED_FORMAT
        file.attrs["status"] = status
        file.attrs["simulated"] = bool(header.get("simulated", False))
        file.attrs["points"] = source.count(main) if main is not None else 0
        for name in SEARCHABLE:
            if name in header:
                file.attrs[name] = searchable(header[name])
        entry = _group(file, "entry", "NXentry")
        _write_title(entry, source, status)
        _write_axes(entry, axes)
        groups: dict[str, dict[str, str]] = {}
        for stream in source.streams:
            name = "data" if stream == main else stream
            _write_stream(entry, name, source, stream, axes)
            groups[stream] = {"group": name, "layout": source.layout(stream).to_json()}
        if main is not None:
            entry.attrs["default"] = "data"
        _write_header(entry, header, groups, source.events())
        _write_events(entry, source.events())
        write_notes(entry, source.notes())
        process = _group(entry, "process", "NXcollection")
        for result in results:
            write_result(process, result)
    append_checksums(path)


def main_stream(source: RunSource) -> str | None:
    """The stream that is plotted first: the header's ``default_stream``, else ``points``, else the first."""
    for name in (source.header.get("default_stream"), "points"):
        if name in source.streams:
            return str(name)
    return source.streams[0] if source.streams else None


def searchable(value: Any) -> Any:
    """A header value as an HDF5 attribute: a scalar as it is; of a mapping its ``name``; else JSON, shortened."""
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        value = value["name"]
    if isinstance(value, bool | float | str) or (isinstance(value, int) and abs(value) < 2**63):
        return value[:1000] if isinstance(value, str) else value
    return encode_json(value, "the header")[:1000]


def write_result(process: Any, result: Result) -> None:
    """Add one result as a new NXprocess group: everything as JSON, and each number as a dataset of its own."""
    existing = set(process)
    number = next(n for n in range(1, len(existing) + 2) if f"{_plain_name(result.name)}_{n}" not in existing)
    group = _group(process, f"{_plain_name(result.name)}_{number}", "NXprocess")
    group.attrs["labctl_order"] = len(existing)
    group["program"] = "labctl"
    group["version"] = program_version()
    group["date"] = _iso(result.wall_s)
    group["name"] = result.name
    group["wall_s"] = float(result.wall_s)
    text = encode_json(result.data, f"the result {result.name!r}")
    _write_checked(group, "result_json", text, result.name, float(result.wall_s))
    _write_numbers(_group(group, "result", "NXcollection"), json.loads(encode_json(result.data, "the result")))


def write_notes(entry: Any, notes: Sequence[Note]) -> None:
    """Write the table of notes as a new group."""
    group = _group(entry, "notes", "NXcollection")
    group.attrs["crc32"] = labelled_crc(b"", *((float(note.wall_s), note.text) for note in notes))
    group["wall_s"] = np.array([note.wall_s for note in notes], "<f8")
    group.create_dataset("text", data=np.array([note.text for note in notes], object), dtype=_TEXT, shape=(len(notes),))


def program_version() -> str:
    """The version of the installed labctl."""
    try:
        return version("labctl-bench")
    except PackageNotFoundError:
        return "unknown"


def _write_title(entry: h5py.Group, source: RunSource, status: str) -> None:
    header = source.header
    times = [event.wall_s for event in source.events()]
    times += [float(source.column(s, "wall_s")[-1]) for s in source.streams if source.count(s)]
    started = header.get("started")
    entry["title"] = " ".join(str(searchable(header[k])) for k in ("procedure", "sample") if k in header) or "run"
    entry["start_time"] = started if isinstance(started, str) else _iso(min(times, default=math.nan))
    entry["end_time"] = _iso(max(times, default=math.nan))
    entry["program_name"] = "labctl"
    entry["program_name"].attrs["version"] = program_version()
    entry["entry_identifier"] = str(header.get("run", ""))
    entry["status"] = status
    entry.attrs["simulated"] = bool(header.get("simulated", False))
    if header.get("simulated"):
        entry["experiment_description"] = "SIMULATED: recorded on emulators, not on instruments"


def _write_axes(entry: h5py.Group, axes: Mapping[str, Axis]) -> None:
    group = _group(entry, "axes", "NXcollection")
    for order, axis in enumerate(axes.values()):
        dataset = group.create_dataset(axis.name, data=axis.values)
        dataset.attrs["units"] = axis.unit
        dataset.attrs["long_name"] = axis.description or axis.name
        dataset.attrs["crc32"] = zlib.crc32(axis.values.tobytes())
        dataset.attrs["labctl_order"] = order
        dataset.attrs["labels_crc32"] = labelled_crc(b"", axis.name, axis.unit, axis.description or axis.name, order)


def _write_stream(entry: h5py.Group, name: str, source: RunSource, stream: str, axes: Mapping[str, Axis]) -> None:
    layout = source.layout(stream)
    count = source.count(stream)
    group = _group(entry, name, "NXdata")
    units = {"t_s": "s", "wall_s": "s"} | {column.name: column.unit for column in layout.columns}
    descriptions = {column.name: column.description for column in layout.columns}
    for field in (*RECORD_FIELDS, *(column.name for column in layout.columns)):
        values = source.column(stream, field)
        if values.dtype.kind == "S":
            text = values.astype(h5py.string_dtype("utf-8", values.dtype.itemsize))
            dataset = group.create_dataset(field, data=text)
        else:
            dataset = group.create_dataset(field, data=values)
        dataset.attrs["units"] = units.get(field, "")
        dataset.attrs["long_name"] = descriptions.get(field) or field
        dataset.attrs["crc32"] = zlib.crc32(np.ascontiguousarray(values).tobytes())
    for array in layout.arrays:
        record_bytes = array.stored_dtype.itemsize * math.prod(array.shape)
        rows = max(1, min(count, CHUNK_BYTES // record_bytes))
        dataset = group.create_dataset(
            array.name,
            (count, *array.shape),
            array.stored_dtype,
            chunks=(rows, *array.shape),
            maxshape=(None, *array.shape),
            fletcher32=True,
            compression=hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.BITSHUFFLE),
        )
        dataset.attrs["units"] = array.unit
        dataset.attrs["long_name"] = array.description or array.name
        slab = max(rows, (16 << 20) // record_bytes // rows * rows)
        for start in range(0, count, slab):
            stop = min(start + slab, count)
            dataset[start:stop] = source.read_array(stream, array.name, start, stop)
    x = _x_of(layout, source.header)
    _mark_signal(group, layout, source.header, x, axes, entry)
    for array in layout.arrays:
        _write_view(entry, f"{name}_{array.name}", group, array.name, x, array.axis, len(array.shape), axes)


def _x_of(layout: RowLayout, header: Mapping[str, Any]) -> str:
    x = header.get("x")
    column = layout.column(x) if isinstance(x, str) else None
    return column.name if column is not None and column.kind != "text" else "point"


def _mark_signal(
    group: h5py.Group,
    layout: RowLayout,
    header: Mapping[str, Any],
    x: str,
    axes: Mapping[str, Axis],
    entry: h5py.Group,
) -> None:
    wanted = header.get("signal")
    numeric = [column.name for column in layout.columns if column.kind in ("float", "int") and column.name != x]
    if isinstance(wanted, str) and wanted in numeric:
        signal = wanted
    elif layout.arrays and not (numeric and not isinstance(wanted, str)):
        array = layout.arrays[0]
        _mark_array(group, array.name, x, array.axis, len(array.shape), axes, entry)
        return
    else:
        signal = numeric[0] if numeric else "t_s"
    group.attrs["signal"] = signal
    group.attrs["axes"] = [x]
    group.attrs[f"{x}_indices"] = 0


def _write_view(
    entry: h5py.Group,
    name: str,
    stream_group: h5py.Group,
    array: str,
    x: str,
    axis: str | None,
    dimensions: int,
    axes: Mapping[str, Axis],
) -> None:
    """An NXdata group of its own for an array: hard links only, no copy."""
    if name in entry:
        return
    view = _group(entry, name, "NXdata")
    view[array] = stream_group[array]
    if x not in view:
        view[x] = stream_group[x]
    _mark_array(view, array, x, axis, dimensions, axes, entry)


def _mark_array(
    group: Any,
    array: str,
    x: str,
    axis: str | None,
    dimensions: int,
    axes: Mapping[str, Axis],
    entry: Any,
) -> None:
    names = [x, *["."] * dimensions]
    group.attrs["signal"] = array
    group.attrs[f"{x}_indices"] = 0
    if axis is not None and axis in axes and len(axes[axis].values) == group[array].shape[-1]:
        if axis not in group:
            group[axis] = entry["axes"][axis]
        if group[axis] == entry["axes"][axis]:
            names[-1] = axis
            group.attrs[f"{axis}_indices"] = dimensions
    group.attrs["axes"] = names


def _write_header(
    entry: h5py.Group, header: Mapping[str, Any], groups: Mapping[str, Any], events: Sequence[Event]
) -> None:
    provenance = _group(entry, "provenance", "NXcollection")
    _write_checked(provenance, "header_json", encode_json(dict(header), "the header"))
    _write_checked(provenance, "streams_json", encode_json(dict(groups), "the streams"))
    origin = header.get("provenance")
    _write_mapping(provenance, origin if isinstance(origin, Mapping) else {"description": encode_json(origin, "it")})
    for name in ("parameters", "bench", "seed", "procedure", "run"):
        if name in header:
            _write_value(provenance, name, header[name])
    sample = header.get("sample")
    _write_mapping(
        _group(entry, "sample", "NXsample"), sample if isinstance(sample, Mapping) else {"name": sample or ""}
    )
    instrument = _group(entry, "instrument", "NXinstrument")
    for role, description in _instruments(events).items():
        group = _group(instrument, _plain_name(role), ROLE_CLASSES.get(role, "NXcollection"))
        _write_mapping(group, description if isinstance(description, Mapping) else {"description": description})


def _instruments(events: Sequence[Event]) -> Mapping[str, Any]:
    """The mapping role → description from the last event of kind ``instruments``; empty if none was opened."""
    for event in reversed(events):
        if event.kind == "instruments":
            return event.data
    return {}


def _write_events(entry: h5py.Group, events: Sequence[Event]) -> None:
    group = _group(entry, "events", "NXcollection")
    group["seq"] = np.array([event.seq for event in events], "<i8")
    group["t_s"] = np.array([event.t_s for event in events], "<f8")
    group["wall_s"] = np.array([event.wall_s for event in events], "<f8")
    kinds = np.array([event.kind for event in events], object)
    texts = [encode_json(event.data, "an event") for event in events]
    rows = ((e.seq, e.kind, float(e.t_s), float(e.wall_s), text) for e, text in zip(events, texts, strict=True))
    group.attrs["crc32"] = labelled_crc(b"", *rows)
    data = np.array(texts, object)
    group.create_dataset("kind", data=kinds, dtype=_TEXT, shape=(len(events),))
    group.create_dataset("data_json", data=data, dtype=_TEXT, shape=(len(events),))


def _write_checked(group: Any, name: str, text: str, *labels: object) -> None:
    """A text with its checksum, and that of what stands beside it."""
    dataset = group.create_dataset(name, data=text, dtype=_TEXT)
    dataset.attrs["crc32"] = labelled_crc(text.encode(), *labels)


def _write_mapping(group: h5py.Group, mapping: Mapping[str, Any]) -> None:
    for name, value in mapping.items():
        _write_value(group, str(name), value)


def _write_value(group: h5py.Group, name: str, value: Any) -> None:
    name = _plain_name(name)
    if name in group:
        return
    if isinstance(value, Mapping):
        _write_mapping(_group(group, name, "NXcollection"), value)
    elif isinstance(value, bool | float | np.bool_ | np.number) or (isinstance(value, int) and abs(value) < 2**63):
        group[name] = value
    elif isinstance(value, str) and "\0" not in value:
        group.create_dataset(name, data=value, dtype=_TEXT)
    else:
        group.create_dataset(name, data=encode_json(value, name).replace("\0", ""), dtype=_TEXT)


def _write_numbers(group: h5py.Group, mapping: Mapping[str, Any]) -> None:
    """The numbers of a result, and the lists of numbers, as datasets; ``unit`` becomes the attribute ``units``."""
    for key, value in mapping.items():
        name = _plain_name(str(key))
        if name in group:
            continue
        if isinstance(value, Mapping):
            _write_numbers(_group(group, name, "NXcollection"), value)
        elif isinstance(value, bool | float | int | list):
            array = _as_numbers(value)
            if array is not None:
                group[name] = array
                if key == "value" and isinstance(mapping.get("unit"), str):
                    group[name].attrs["units"] = mapping["unit"]


def _as_numbers(value: Any) -> np.ndarray[Any, Any] | None:
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    return array if array.dtype.kind in "bif" else None


def _group(parent: h5py.Group, name: str, nexus_class: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nexus_class
    return group


def _plain_name(name: str) -> str:
    cleaned = "".join(c if c.isalnum() or c in "_-." else "_" for c in name)
    return cleaned if cleaned.strip(".") else f"_{cleaned}"


def _iso(wall_s: float) -> str:
    try:
        return datetime.fromtimestamp(wall_s, UTC).isoformat()
    except (ValueError, OverflowError, OSError):  # not a number, or beyond the calendar
        return ""
