from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import pytest

from labctl import installed


def announce(site: Path, name: str) -> None:
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[labctl.drivers]\n{name} = not_there:Driver\n")


def names() -> set[str]:
    return {entry.name for entry in installed.entry_points(group="labctl.drivers")}


def test_it_says_what_the_standard_library_says() -> None:
    for group in ("labctl.drivers", "labctl.procedures", "labctl.emulators", "no.such.group"):
        assert set(installed.entry_points(group)) == set(importlib.metadata.entry_points(group=group))


def test_the_disk_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = names()
    monkeypatch.setattr(installed, "read_entry_points", lambda group: pytest.fail("read again"))
    assert names() == before


def test_a_package_that_comes_or_goes_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    announce(tmp_path / "site", "first")
    assert "first" not in names()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert "first" in names()
    announce(tmp_path / "site", "second")
    os.utime(tmp_path / "site", ns=(0, 0))  # a file system may count time in steps of milliseconds
    assert {"first", "second"} <= names()
    monkeypatch.undo()
    assert not {"first", "second"} & names()


def test_an_entry_of_the_path_that_is_no_folder_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    before = names()
    monkeypatch.syspath_prepend("no/such/folder")
    assert names() == before
