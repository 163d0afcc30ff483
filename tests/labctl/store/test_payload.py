from __future__ import annotations

from pathlib import Path

import pytest

from labctl.errors import StorageError
from labctl.store.journal import Journal
from labctl.store.layout import Column, RowLayout
from labctl.store.payload import Payload, PayloadReference, read_payload


def test_payload_is_synced_before_the_record_that_refers_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = RowLayout(tuple(Column(name, "int") for name in ("offset", "length", "crc32")))
    with Payload(tmp_path / "frames.payload") as payload, Journal.create(tmp_path / "a.journal", {}) as journal:
        journal.add_stream("frames", layout)
        journal.add_payload(payload)
        order: list[str] = []
        sync = payload.sync
        monkeypatch.setattr(payload, "sync", lambda: (order.append(f"sync {journal.acknowledged('frames')}"), sync()))
        for number in range(3):
            reference = payload.append(bytes([number]) * 1000)
            journal.append("frames", point=number, attempt=0, t_s=0.0, wall_s=0.0, row=vars(reference))
        assert order == ["sync 0", "sync 1", "sync 2"]
    assert read_payload(tmp_path / "frames.payload", reference) == b"\2" * 1000


def test_payload_goes_on_at_the_end_of_an_existing_file(tmp_path: Path) -> None:
    path = tmp_path / "x.payload"
    with Payload(path) as payload:
        first = payload.append(b"abc")
    with Payload(path) as payload:
        second = payload.append(memoryview(b"defg"))
    assert (second.offset, second.length) == (3, 4)
    assert read_payload(path, first) + read_payload(path, second) == b"abcdefg"


def test_damaged_payload_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.payload"
    with Payload(path) as payload:
        reference = payload.append(b"abc")
    path.write_bytes(b"abd")
    with pytest.raises(StorageError, match="missing or have changed"):
        read_payload(path, reference)
    with pytest.raises(StorageError, match="missing or have changed"):
        read_payload(path, PayloadReference(10, 3, 0))
    with pytest.raises(StorageError, match="cannot be read"):
        read_payload(tmp_path / "none", reference)
