"""Finding runs by sample, procedure, date, status, text and result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labctl.errors import InputError
from labctl.store.catalogue import RunSummary
from labctl.store.run_search import ResultCondition, Search


def summary(name: str, **keys: Any) -> RunSummary:
    known = {
        "status": "finished",
        "procedure": "fluence-sweep",
        "sample": "cdse-cds",
        "started": "2026-11-21T10:00:00+00:00",
    }
    return RunSummary(Path(f"{name}.h5"), **{**known, **keys})


RUNS = [
    summary("a", results={"threshold": {"value": 28.5, "unit": "uJ/cm^2"}}, words="bleached a little"),
    summary(
        "b", sample="CsPbBr3", results={"threshold": {"value": 4.0, "unit": "uJ/cm^2"}, "q": {"value": 90, "unit": "1"}}
    ),
    summary(
        "c",
        procedure="vsl-scan",
        started="2026-11-23T10:00:00+00:00",
        results={"gain": {"value": 120.0, "unit": "1/cm"}},
    ),
    summary("d", status="crashed", started="", spot="B4"),
]


def found(**keys: Any) -> str:
    keys["results"] = tuple(ResultCondition.read(text) for text in keys.pop("result", ()))
    return "".join(run.path.stem for run in Search(**keys).among(RUNS))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "abcd"),
        ({"sample": "cdse-cds"}, "acd"),
        ({"sample": "CDSE*"}, "acd"),
        ({"sample": "cspb*"}, "b"),
        ({"sample": "cds"}, ""),
        ({"procedure": "vsl_scan"}, "c"),
        ({"statuses": ("crashed", "failed")}, "d"),
        ({"text": "BLEACHED"}, "a"),
        ({"text": "b4"}, "d"),
        ({"since": "2026-11-22"}, "c"),
        ({"until": "2026-11-22"}, "ab"),
        ({"since": "2026-11-21T00:00", "until": "2026-11-23T23:00"}, "abc"),
        ({"result": ["threshold"]}, "ab"),
        ({"result": ["threshold>20 uJ/cm^2"]}, "a"),
        ({"result": ["threshold > 0.02 mJ/cm^2"]}, "a"),
        ({"result": ["threshold<=28.5 uJ/cm^2", "q>80"]}, "b"),
        ({"result": ["gain >= 100 cm^-1"]}, "c"),
        ({"result": ["threshold>20 nm"]}, ""),
        ({"result": ["threshold=4 uJ/cm^2"], "sample": "cdse*"}, ""),
    ],
)
def test_all_that_is_given_must_hold(keys: dict[str, Any], expected: str) -> None:
    assert found(**keys) == expected


@pytest.mark.parametrize(
    "text", ["", ">3", "threshold>", "threshold>>3", "a b", "threshold>x", "threshold>3 qqq", "x" * 500, "1>2"]
)
def test_a_condition_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        ResultCondition.read(text)


@pytest.mark.parametrize("text", ["yesterday", "2026-02-30", "", "0001-01-01T00:00", "99999-01-01"])
def test_a_date_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no date"):
        found(since=text)
