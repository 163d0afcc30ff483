"""Reading a sealed run file. Nothing outside the file is followed, whatever the file says."""

from __future__ import annotations

import contextlib
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from labctl.errors import StorageError
from labctl.store.checked_file import CheckedFile, has_checksums
from labctl.store.journal_format import decode_mapping, labelled_crc
from labctl.store.layout import RowLayout
from labctl.store.source import SEALED_FORMAT, Axis, Event, Note, Result

SEALED_STATUSES = ("finished", "aborted", "failed", "crashed")
# gzip, shuffle, Fletcher-32, Blosc: what labctl writes. Other filters would load other plugins.
ALLOWED_FILTERS = frozenset({1, 2, 3, 32001})
# gzip shrinks at most about 1032 times and Blosc about 255: more is a bomb.
MAX_RATIO = 1100


class SealedReader:
    """A sealed file as a :class:`labctl.store.source.RunSource`; opening reads the header only.

    :raises StorageError: If the file is missing, corrupt, or not a sealed run.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise StorageError(f"there is no run file {self.path.name}", where=str(self.path))
        self._file: Any = None
        self._bytes: CheckedFile | None = None
        self._open()

    def _open(self) -> None:
        with self._reading():
            if has_checksums(self.path):
                self._bytes = CheckedFile(self.path)
        try:
            with self._reading():
                if self._bytes is not None:
                    self._file = h5py.File(self._bytes, "r")
                else:
                    self._file = h5py.File(self.path, "r", locking="best-effort")
                self._read_header()
        except BaseException:
            self.close()
            raise

    def _read_header(self) -> None:
        attributes: Any = self._file.attrs
        if "labctl_format" not in attributes:
            raise StorageError(f"{self.path.name} is not a run file of labctl", where=str(self.path))
        if int(attributes["labctl_format"]) != SEALED_FORMAT:
            raise StorageError(
                f"{self.path.name} has format {attributes['labctl_format']}; this program reads {SEALED_FORMAT}",
                where=str(self.path),
                todo="read it with the version of labctl that wrote it",
            )
        self.status = str(attributes["status"])
        if self.status not in SEALED_STATUSES:
            raise self._corrupt(f"{self.status!r} is not a status")
        self.header = decode_mapping(self._text("entry/provenance/header_json"), "the header of the run")
        streams = decode_mapping(self._text("entry/provenance/streams_json"), "the list of streams")
        self._groups = {name: f"entry/{stream['group']}" for name, stream in streams.items()}
        self._layouts = {name: RowLayout.from_json(stream["layout"]) for name, stream in streams.items()}
        self._counts = {name: len(self._dataset(f"{group}/point")) for name, group in self._groups.items()}
        self._columns: dict[tuple[str, str], np.ndarray[Any, Any]] = {}

    @property
    def streams(self) -> tuple[str, ...]:
        return tuple(self._groups)

    def layout(self, stream: str) -> RowLayout:
        return self._layouts[stream]

    def count(self, stream: str) -> int:
        return self._counts[stream]

    def column(self, stream: str, name: str) -> np.ndarray[Any, Any]:
        known = self._columns.get((stream, name))
        if known is not None:
            return known
        expected = self._layouts[stream].record_dtype[name]
        with self._reading():
            dataset = self._dataset(f"{self._groups[stream]}/{name}")
            if dataset.shape != (self._counts[stream],) or dataset.dtype != expected:
                raise self._corrupt(f"column {name!r} of {stream!r} has shape {dataset.shape}, type {dataset.dtype}")
            values = np.asarray(dataset[()])
            if zlib.crc32(values.tobytes()) != int(dataset.attrs["crc32"]):
                raise self._corrupt(f"column {name!r} of {stream!r}: the checksum does not fit")
        values.flags.writeable = False
        self._columns[stream, name] = values
        return values

    def read_array(self, stream: str, name: str, start: int, stop: int) -> np.ndarray[Any, Any]:
        import hdf5plugin  # noqa: F401  registers Blosc; scalars are read without it

        field = self._layouts[stream].array(name)
        if field is None:
            raise StorageError(f"stream {stream!r} has no array {name!r}", where=str(self.path))
        with self._reading():
            dataset = self._dataset(f"{self._groups[stream]}/{name}")
            if dataset.shape != (self._counts[stream], *field.shape) or dataset.dtype != field.stored_dtype:
                raise self._corrupt(f"array {name!r} of {stream!r} has shape {dataset.shape}, type {dataset.dtype}")
            return np.asarray(dataset[start:stop])

    def axes(self) -> dict[str, Axis]:
        axes: list[tuple[int, Axis]] = []
        with self._reading():
            for name in self._names("entry/axes"):
                dataset = self._dataset(f"entry/axes/{name}")
                values = np.asarray(dataset[()], "<f8")
                if zlib.crc32(values.tobytes()) != int(dataset.attrs["crc32"]):
                    raise self._corrupt(f"axis {name!r}: the checksum does not fit")
                description, unit = str(dataset.attrs["long_name"]), str(dataset.attrs["units"])
                order = int(dataset.attrs["labctl_order"])
                self._check(dataset, "labels_crc32", b"", name, unit, description, order)
                axes.append((order, Axis(name, values, unit, "" if description == name else description)))
        return {axis.name: axis for _, axis in sorted(axes, key=lambda pair: pair[0])}

    def events(self) -> list[Event]:
        with self._reading():
            names = ("seq", "kind", "t_s", "wall_s", "data_json")
            rows = list(zip(*(self._list(f"entry/events/{name}") for name in names), strict=True))
            self._check(self._group("entry/events"), "crc32", b"", *rows)
            return [
                Event(sequence, kind, t_s, wall_s, decode_mapping(text, f"event {sequence}"))
                for sequence, kind, t_s, wall_s, text in rows
            ]

    def notes(self) -> list[Note]:
        with self._reading():
            rows = list(zip(self._list("entry/notes/wall_s"), self._list("entry/notes/text"), strict=True))
            self._check(self._group("entry/notes"), "crc32", b"", *rows)
            return [Note(wall_s, text) for wall_s, text in rows]

    def results(self) -> list[Result]:
        results: list[tuple[int, Result]] = []
        with self._reading():
            for name in self._names("entry/process"):
                path = f"entry/process/{name}"
                title, wall_s = self._text(f"{path}/name"), float(self._dataset(f"{path}/wall_s")[()])
                data = decode_mapping(self._text(f"{path}/result_json", title, wall_s), f"the result {name!r}")
                attributes: Any = self._group(path).attrs
                order = int(attributes["labctl_order"])
                results.append((order, Result(title, wall_s, data)))
        return [result for _, result in sorted(results, key=lambda pair: pair[0])]

    def refresh(self) -> None:
        """Open the file again: notes and results are added by replacing it."""
        self.close()
        self._file = self._bytes = None
        self._open()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._bytes is not None:
            self._bytes.close()

    def __enter__(self) -> SealedReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _reading(self) -> Any:
        """Turn whatever HDF5 says about a damaged file into one clear error."""
        try:
            yield
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, MemoryError) as error:
            raise StorageError(
                f"{self.path.name} cannot be read: {error}",
                where=str(self.path),
                state="the file is corrupt, incomplete, or not a run file",
                todo="restore it from a copy, or seal the journal again if it is still there",
            ) from error

    def _item(self, path: str) -> Any:
        """An object reached by hard links only: an external or soft link could name any file of the machine."""
        item: Any = self._file
        for part in path.split("/"):
            if not isinstance(item, h5py.Group) or not isinstance(item.get(part, getlink=True), h5py.HardLink):
                raise self._corrupt(f"{path} is missing or a link to elsewhere")
            item = item[part]
        return item

    def _group(self, path: str) -> h5py.Group:
        item = self._item(path)
        if not isinstance(item, h5py.Group):
            raise self._corrupt(f"{path} is not a group")
        return item

    def _names(self, path: str) -> list[str]:
        return [str(name) for name in self._group(path)]

    def _dataset(self, path: str) -> Any:
        item = self._item(path)
        if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external:
            raise self._corrupt(f"{path} is not a dataset, or keeps its values elsewhere")
        properties = item.id.get_create_plist()
        if any(properties.get_filter(n)[0] not in ALLOWED_FILTERS for n in range(properties.get_nfilters())):
            raise self._corrupt(f"{path} uses a filter that labctl does not write")
        if item.nbytes > (1 << 20) and item.nbytes > MAX_RATIO * item.id.get_storage_size():
            raise self._corrupt(f"{path} claims {item.nbytes} bytes and stores {item.id.get_storage_size()}")
        return item

    def _text(self, path: str, *labels: object) -> str:
        dataset = self._dataset(path)
        value = dataset[()]
        if not isinstance(value, bytes):
            raise self._corrupt(f"{path} is not a text")
        self._check(dataset, "crc32", value, *labels)
        return value.decode()

    def _check(self, item: Any, attribute: str, data: bytes, *labels: object) -> None:
        """Compare with the checksum in an attribute; older files have none."""
        crc = item.attrs.get(attribute)
        if crc is not None and int(crc) != labelled_crc(data, *labels):
            raise self._corrupt(f"{item.name}: the checksum does not fit")

    def _list(self, path: str) -> list[Any]:
        dataset = self._dataset(path)
        values = np.asarray(dataset[()])
        return [value.decode() for value in values] if values.dtype.kind == "O" else values.tolist()

    def _corrupt(self, what: str) -> StorageError:
        return StorageError(what, where=str(self.path), state="the file is corrupt", todo="restore it from a copy")
