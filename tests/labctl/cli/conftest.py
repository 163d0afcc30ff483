"""The command line within the test's own process, and benches to feed it with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labctl.cli.main import main
from labctl.config.locate import locate


@dataclass(frozen=True)
class Said:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        (line,) = self.out.splitlines()
        found = json.loads(line)
        assert isinstance(found, dict)
        return found


@pytest.fixture
def labctl(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """Give a command line, get what it said; in an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Said:
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        out, err = capfd.readouterr()
        return Said(int(end.value.code or 0), out, err)

    return call


@pytest.fixture
def bench_with(tmp_path: Path) -> Callable[..., str]:
    """Write the shipped bench with pieces of its text replaced; returns its path."""
    source = locate("benches", "simulated")
    shutil.copytree(source.parent / "calibrations", tmp_path / "calibrations")

    def write(*replacements: tuple[str, str]) -> str:
        text = source.read_text(encoding="utf-8")
        for old, new in replacements:
            assert old in text, old
            text = text.replace(old, new, 1)
        (tmp_path / "bench.toml").write_text(text, encoding="utf-8")
        return "bench.toml"

    return write


@pytest.fixture
def sample_with(tmp_path: Path) -> Callable[..., str]:
    """Write the shipped sample with pieces of its text replaced; returns its path."""

    def write(*replacements: tuple[str, str]) -> str:
        text = locate("samples", "cdse-cds-zno").read_text(encoding="utf-8")
        for old, new in replacements:
            assert old in text, old
            text = text.replace(old, new, 1)
        (tmp_path / "sample.toml").write_text(text, encoding="utf-8")
        return "sample.toml"

    return write
