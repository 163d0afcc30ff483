"""Shipped benches with changes of a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.config.locate import locate

BenchWith = Callable[..., str]


@pytest.fixture
def bench_with(tmp_path: Path) -> BenchWith:
    """Write a copy of a shipped bench with some texts replaced and others added; returns its path."""

    def write(of: str, changes: dict[str, str], more: str = "") -> str:
        shipped = locate("benches", of)
        text = shipped.read_text(encoding="utf-8")
        for old, new in {'"calibrations/': f'"{shipped.parent.as_posix()}/calibrations/', **changes}.items():
            assert old in text, f"{old} does not stand in {of}"
            text = text.replace(old, new)
        path = tmp_path / f"{of}-changed.toml"
        path.write_text(f"{text}\n{more}\n", encoding="utf-8")
        return str(path)

    return write
