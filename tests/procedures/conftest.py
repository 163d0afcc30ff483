"""Sweeps on the simulated bench within the test's own process: real drivers, real emulators, no guard."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from labctl.config.locate import locate
from labctl.run.engine import Engine, GuardLine
from labctl.run.outcome import Outcome
from labctl.run.request import RunRequest, prepare


class NoGuard(GuardLine):
    """A line to nobody."""

    def say(self, kind: str, **data: Any) -> None:
        pass


Sweep = Callable[..., Outcome]


def _run(
    out: Path,
    procedure: str = "fluence-sweep",
    *,
    bench: str = "simulated",
    sample: str | None = None,
    seed: int = 0,
    virtual_time: bool = True,
    **parameters: Any,
) -> Outcome:
    request = RunRequest(
        procedure=procedure,
        parameters=parameters,
        bench=bench,
        sample=sample,
        out=str(out),
        seed=seed,
        virtual_time=virtual_time,
    )
    return Engine(prepare(request), NoGuard()).run()


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Run a procedure on a bench in virtual time; returns the outcome."""
    return partial(_run, tmp_path / "runs")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The outcome of one sweep of the shipped film, for tests that only look at it."""
    return _run(tmp_path_factory.mktemp("shipped") / "runs")


@pytest.fixture
def sample_with(tmp_path: Path) -> Callable[..., str]:
    """Write a copy of a shipped sample with other values in its ``[truth]``; returns the path."""

    def write(of: str = "cdse-cds-zno", **truth: float) -> str:
        text = locate("samples", of).read_text(encoding="utf-8")
        for key, value in truth.items():
            text, count = re.subn(rf"(?m)^{key} = [-+.0-9e]+", f"{key} = {value!r}", text)
            assert count == 1, f"{key} stands {count} times in the shipped sample"
        path = tmp_path / f"{of}-{'-'.join(truth)}.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write
