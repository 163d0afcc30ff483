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


ALONE = """\
name = "alone"
retries = 2
retry_wait = "5 min"
order = "sample"
time_zone = "Europe/Berlin"

[quiet]
from = "22:00"
to = "7:00"
weekdays = ["mon", "sun"]

[notify]
urls = ["json://localhost"]
on = ["failure", "digest"]
digest = "08:30"
stall = "1 hour"

[[run]]
name = "first"
procedure = "fluence-sweep"
bench = "simulated"
samples = ["a", "b.toml"]
positions = ["A1", "A2", "A3"]
repeat = 2

[[run]]
name = "second"
procedure = "fluence-sweep"
bench = "simulated"
sample = "a"
after = ["first"]
quiet = "wait"
interleave = "aging"
leave = "10 min"
fill = true
retries = 0

[run.parameters]
averages = 2
fluences = { from = "first", result = "threshold", times = [1, 3], at_most = "90 uJ/cm^2" }
"""


def test_a_campaign_that_runs_alone_says_what_stands_in_it() -> None:
    campaign = parse_campaign(ALONE, "c.toml")
    first, second = campaign.runs
    assert (campaign.retries, campaign.retry_wait_s, campaign.order) == (2, 300.0, "sample")
    assert campaign.quiet is not None and campaign.notify is not None
    assert (str(campaign.quiet.begins), str(campaign.quiet.ends)) == ("22:00", "07:00")
    assert campaign.quiet.weekdays == ("mon", "sun")
    assert (campaign.notify.on, campaign.notify.digest, campaign.notify.stall_s) == (
        ("failure", "digest"),
        (8, 30),
        3600.0,
    )
    assert (first.count, first.leave_if_idle_s, second.count, second.leave_if_idle_s) == (12, None, 1, 600.0)
    assert (first.retries, second.retries, second.after, second.fill) == (None, 0, ("first",), True)
    assert second.values() == {"averages": 2}
    reference = second.references()["fluences"]
    assert (reference.run, reference.result, reference.factors, reference.otherwise) == (
        "first",
        "threshold",
        (1.0, 3.0),
        "stop",
    )


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('"22:00"', '"24:00"', "quiet.from"),
        ('"22:00"', '"7:00"', "quiet"),
        ('"7:00"', "7", "quiet.to"),
        ('["mon", "sun"]', "[]", "quiet.weekdays"),
        ('["mon", "sun"]', '["mom"]', "quiet.weekdays[0]"),
        ('"Europe/Berlin"', '"Europe/Berlim"', "time_zone"),
        ('"Europe/Berlin"', '"../../etc/passwd"', "time_zone"),
        ('"sample"\ntime', '"samples"\ntime', "order"),
        ('"5 min"', '"5 mm"', "retry_wait"),
        ("retries = 2", "retries = -1", "retries"),
        ('["failure", "digest"]', '["failures"]', "notify.on[0]"),
        ('"1 hour"', '"1 s"', "notify.stall"),
        ('samples = ["a", "b.toml"]', 'samples = ["a", "a"]', "run[0].samples[1]"),
        ('samples = ["a", "b.toml"]', "samples = []", "run[0].samples"),
        ('samples = ["a", "b.toml"]', 'samples = ["a"]\nsample = "b"', "run[0].samples"),
        ("repeat = 2", 'repeat = 2\nspot = "1"', "run[0].positions"),
        ("repeat = 2", "repeat = 9000", "run"),
        ('interleave = "aging"\n', "", "run[1].leave"),
        ('"10 min"', '"0 s"', "run[1].leave"),
        ('after = ["first"]', 'after = "first"', "run[1].after"),
        ('quiet = "wait"', 'quiet = "sleep"', "run[1].quiet"),
        ("times = [1, 3]", "times = []", "run[1].parameters.fluences.times"),
        ("times = [1, 3]", 'times = "3"', "run[1].parameters.fluences.times"),
        ("times = [1, 3]", "times = [nan]", "run[1].parameters.fluences.times"),
        ("times = [1, 3]", "time = 3", "run[1].parameters.fluences.time"),
        ("times = [1, 3]", 'field = "ci90"', "run[1].parameters.fluences.field"),
        ("times = [1, 3]", "plus = true", "run[1].parameters.fluences.plus"),
        ("times = [1, 3]", 'if_missing = "skip", fallback = 3', "run[1].parameters.fluences.fallback"),
        ('result = "threshold", ', "", "run[1].parameters.fluences.result"),
    ],
)
def test_what_is_refused_of_one_that_runs_alone(old: str, new: str, key: str) -> None:
    assert old in ALONE
    assert key in [problem.key for problem in problems(ALONE.replace(old, new, 1))]


def test_who_waits_for_the_end_of_quiet_hours_needs_some() -> None:
    text = ALONE.replace(ALONE[ALONE.index("[quiet]") : ALONE.index("[notify]")], "")
    (problem,) = problems(text)
    assert problem.key == "run[1].quiet" and "[quiet]" in problem.allowed


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
