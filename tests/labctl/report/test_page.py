from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import ExitCode, InputError, StorageError
from labctl.report.page import write_report
from labctl.store.journal import Journal

Make = Callable[..., Path]


class _Page(HTMLParser):
    """Tags, words and references of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data", "action"}]

    def handle_data(self, data: str) -> None:
        if self.lasttag not in {"style", "script"}:
            self.words.append(data)


def page(path: Path) -> _Page:
    return _Page(path.read_text(encoding="utf-8"))


def text(path: Path) -> str:
    return " ".join(" ".join(page(path).words).split())


def test_a_report_is_a_figure_and_one_page_that_needs_nothing_else(make_sweep: Make) -> None:
    run = make_sweep()
    written = write_report(run)
    assert written == {"figure": run.with_suffix(".png"), "page": run.with_suffix(".html")}
    assert written["figure"].read_bytes().startswith(b"\x89PNG")
    found = page(written["page"])
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(found.tags)
    assert [reference[:22] for reference in found.references] == ["data:image/png;base64,"]
    source = written["page"].read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|https?://|\son\w+=", source)


def test_the_page_tells_everything(make_sweep: Make) -> None:
    words = text(write_report(make_sweep())["page"])
    for part in (
        "SIMULATED: taken with emulated instruments",
        "Threshold (SIMULATED)",
        "68 %",
        "95 %",
        "peak of the Gaussian spot",
        "systematic ±1 %",
        "ASE = PL",
        "Q, spectrograph removed",
        "Photodamage",
        "Run finished",
        "Safe state confirmed",
        "closed?",
        "thorlabs-sc10",
        "UNCOMMITTED CHANGES",
        "date = 2026-11-20",
    ):
        assert part in words


def test_a_measurement_is_nowhere_called_simulated(make_sweep: Make) -> None:
    run = make_sweep(header={"simulated": False, "bench": {"name": "table 2"}, "provenance": {}})
    assert "SIMULATED" not in text(write_report(run)["page"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stages": (), "analysed": False}, "not analysed"),
        ({"stages": (), "frames": False, "analysed": False, "status": None, "seal": False}, "crashed"),
        ({"stages": (("listed", (10.0,)),)}, "too few for a threshold"),
        ({"bright": 0.0, "status": "aborted"}, "aborted"),
        ({"saturated_above": 0.0}, "saturated points were left out"),
        ({"status": "failed", "safe": False}, "UNCONFIRMED: shutter"),
        ({"header": {"x": None, "signal": None, "spectra": None}}, "Threshold"),
        ({"header": {"spectra": "mask"}}, "Threshold"),
    ],
)
def test_a_run_in_any_state_has_a_report(make_sweep: Make, changes: dict[str, Any], words: str) -> None:
    assert words in text(write_report(make_sweep(**changes))["page"])


@pytest.mark.parametrize(
    "result",
    [
        {"result": None},
        {"result": {"threshold": "high"}},
        {"result": {"threshold": {"value": None, "ci95": [None, None]}}},
        {"result": {"threshold": {"value": -1.0, "unit": 7, "ci95": [1.0]}}},
        {"result": {"threshold": {"value": 28.0, "unit": "uJ/cm^2", "ci95": [30.0, 20.0], "data_range": [9.0, 2.0]}}},
        {
            "result": {
                "threshold": {"value": 28.0, "softness": 0.0, "slope_below": 1.0, "slope_above": 3.0},
                "q": None,
                "rest": [1, 2],
            },
            "definitions": {"ase_equals_pl": None},
            "photodamage": "none",
            "warnings": "one text",
            "points": [{"fwhm_nm": "wide"}] * 35,
        },
        {"points": [], "definitions": []},
    ],
)
def test_a_result_of_another_make_does_no_harm(make_sweep: Make, result: dict[str, Any]) -> None:
    assert write_report(make_sweep(result=result))["page"].exists()


def test_a_live_run_has_a_report_as_of_now(make_sweep: Make) -> None:
    run = make_sweep(status=None, seal=False, safe=None, analysed=False)
    with Journal.open(run):
        words = text(write_report(run)["page"])
    assert "Run running: still going" in words
    assert "Safe state not yet" in words


def test_what_comes_from_a_run_is_escaped(make_sweep: Make) -> None:
    evil = "<script>alert(1)</script>"
    run = make_sweep(
        stages=(),
        header={"sample": {"name": evil}, "run": evil, "parameters": {evil: evil}},
        result={"result": {}, "warnings": [evil]},
    )
    found = page(write_report(run)["page"])
    assert "script" not in found.tags
    assert evil in "".join(found.words)


def test_reports_beside_a_run_never_replace_each_other(make_sweep: Make) -> None:
    run = make_sweep(stages=())
    run.with_name(f"{run.stem}-2.png").write_bytes(b"mine")
    first, second = write_report(run), write_report(run)
    assert first["page"].name == f"{run.stem}.html"
    assert {path.name for path in second.values()} == {f"{run.stem}-3.html", f"{run.stem}-3.png"}
    assert run.with_name(f"{run.stem}-2.png").read_bytes() == b"mine"


@pytest.mark.parametrize("taken", ["report.html", "report.png"])
def test_a_given_name_that_is_taken_is_refused(make_sweep: Make, tmp_path: Path, taken: str) -> None:
    run = make_sweep(stages=())
    (tmp_path / taken).write_bytes(b"mine")
    with pytest.raises(InputError, match="exists already") as caught:
        write_report(run, tmp_path / "report.html")
    assert caught.value.exit_code == ExitCode.BAD_INPUT
    assert (tmp_path / taken).read_bytes() == b"mine"
    assert {p.name for p in tmp_path.glob("report.*")} == {taken}


def test_a_link_to_nowhere_counts_as_taken(make_sweep: Make, tmp_path: Path) -> None:
    run = make_sweep(stages=())
    (tmp_path / "report.html").symlink_to(tmp_path / "elsewhere.html")
    with pytest.raises(InputError, match="exists already"):
        write_report(run, tmp_path / "report.html")
    assert not (tmp_path / "elsewhere.html").exists()


@pytest.mark.parametrize(("name", "words"), [("report.pdf", "no name for one"), ("none/report.html", "no folder")])
def test_a_name_that_cannot_be_a_page_is_refused(make_sweep: Make, tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        write_report(make_sweep(stages=()), tmp_path / name)


def test_a_page_that_cannot_be_written_leaves_no_figure(make_sweep: Make, tmp_path: Path) -> None:
    # 255 bytes is the longest name: the figure's just fits, the page's is one too long.
    run = make_sweep(stages=())
    with pytest.raises(StorageError, match="could not be written"):
        write_report(run, tmp_path / f"{'n' * 251}.html")
    assert not list(tmp_path.glob("nnn*"))


def test_a_run_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no run"):
        write_report(tmp_path / "0009_none.h5")
