"""The campaign file."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.config.campaign import CampaignConfig, load_campaign, parse_campaign
from labctl.config.locate import list_shipped
from labctl.errors import ConfigError, Problem

GOOD = """\
name = "films"
on_failure = "continue"

[[run]]
procedure = "fluence-sweep"
bench = "simulated"
sample = "own/film.toml"
parameters = { averages = 3, band = "630 nm", fluences = [2.8, 5.6], zero-meter = true }

[[run]]
name = "again"
procedure = "attenuator-calibration"
bench = "mine.toml"
seed = 7
repeat = 3
spot = "B4"
on_failure = "stop"
"""


def problems(text: str) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        parse_campaign(text, "c.toml")
    return list(caught.value.problems)


def test_a_campaign_says_what_stands_in_it() -> None:
    campaign = parse_campaign(GOOD, "c.toml")
    first, second = campaign.runs
    assert (campaign.name, campaign.on_failure, campaign.text) == ("films", "continue", GOOD)
    assert first.parameters.data == {"averages": 3, "band": "630 nm", "fluences": [2.8, 5.6], "zero-meter": True}
    assert (first.repeat, first.seed, first.spot, first.on_failure) == (1, None, "1", None)
    assert (second.repeat, second.seed, second.spot, second.on_failure) == (3, 7, "B4", "stop")
    assert second.parameters.data == {} and second.sample is None
    assert campaign.line_of(("run", 1, "bench")) == 13


def test_paths_start_from_the_campaign(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(GOOD, encoding="utf-8")
    campaign = load_campaign(path)
    assert campaign.place("benches", "simulated") == "simulated"
    assert campaign.place("benches", "mine.toml") == str(tmp_path / "mine.toml")
    assert campaign.place("samples", str(tmp_path / "x.toml")) == str(tmp_path / "x.toml")
    assert campaign.place("samples", "~/x.toml") == "~/x.toml"


def test_all_faults_at_once_with_line_key_and_nearest_name() -> None:
    text = GOOD.replace('"continue"', '"contine"').replace("seed = 7", "sede = 7").replace("repeat = 3", "repeat = 0")
    found = {(problem.line, problem.key): problem for problem in problems(text)}
    assert set(found) == {(2, "on_failure"), (14, "run[1].sede"), (15, "run[1].repeat")}
    assert found[2, "on_failure"].nearest == "continue"
    assert found[14, "run[1].sede"].nearest == "seed"


@pytest.mark.parametrize(
    ("old", "new", "line", "key"),
    [
        ("averages = 3", "averages = { a = 1 }", 8, "run[0].parameters.averages"),
        ("averages = 3", "averages = nan", 8, "run[0].parameters.averages"),
        ("averages = 3", "averages = [[1]]", 8, "run[0].parameters.averages"),
        ("averages = 3", "averages = 2026-11-21", 8, "run[0].parameters.averages"),
        ('procedure = "fluence-sweep"\n', "", 4, "run[0].procedure"),
        ("seed = 7", "seed = -1", 14, "run[1].seed"),
        ("seed = 7", f"seed = {2**63}", 14, "run[1].seed"),
        ("repeat = 3", "repeat = 3.0", 15, "run[1].repeat"),
        ("repeat = 3", "repeat = 10001", 15, "run[1].repeat"),
        ("repeat = 3", "repeat = 10000", 4, "run"),
        ('name = "again"', 'name = ""', 11, "run[1].name"),
        ('spot = "B4"', "parameters = 3", 16, "run[1].parameters"),
    ],
)
def test_what_is_refused(old: str, new: str, line: int, key: str) -> None:
    assert old in GOOD
    (problem,) = problems(GOOD.replace(old, new))
    assert (problem.file, problem.line, problem.key) == ("c.toml", line, key)


def test_a_name_is_given_once() -> None:
    (problem,) = problems(GOOD.replace('sample = "own/film.toml"', 'name = "again"'))
    assert (problem.line, problem.key) == (11, "run[1].name")


@pytest.mark.parametrize("text", ['name = "x"\n', 'name = "x"\nrun = []\n', 'name = "x"\nrun = 3\n', ""])
def test_a_campaign_has_runs(text: str) -> None:
    assert "run" in {problem.key for problem in problems(text)}


@pytest.mark.parametrize("name", list_shipped("campaigns"))
def test_shipped_campaigns(name: str) -> None:
    assert isinstance(load_campaign(name), CampaignConfig)
    assert {"simulated-films"} <= set(list_shipped("campaigns"))


def test_nobody_is_told_a_hundred_thousand_faults() -> None:
    found = problems(GOOD + "".join(f"x{number} = 1\n" for number in range(5000)))
    assert len(found) == 201
    assert "4800 more faults" in found[-1].found
    assert all(problem.line is not None for problem in found)
