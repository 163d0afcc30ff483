"""Watch conditions: a small grammar, every fault at once with its line, nothing evaluated."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.config.bench import load_bench, parse_bench
from labctl.config.fault import Fault
from labctl.config.locate import locate
from labctl.config.watch import Comparison, Condition
from labctl.errors import ConfigError, Problem
from labctl.roles import Reading

SHIPPED = locate("benches", "simulated").read_text(encoding="utf-8")
KELVIN = Reading("temperature_k", "K")
DOOR = Reading("door", words=("closed", "open"))

WATCH = """
[[watch]]
name = "detector warm"
when = "detector.temperature > -50 degC"
grace = "10 s"
action = "pause"
resume_when = "detector.temperature < -55 degC"
longest_pause = "2 hour"
message = "Look at the water."

[[watch]]
name = "door"
when = "shutter.interlock is open"
action = "safe"
"""


def problems_of(watch: str, *, check_drivers: bool = True) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        parse_bench(SHIPPED + watch, "bench.toml", check_drivers=check_drivers)
    return list(caught.value.problems)


def one(**keys: str) -> str:
    table = {"name": "it", "when": "detector.temperature > 0 degC", "action": "abort", **keys}
    return "\n[[watch]]\n" + "\n".join(f"{key} = '{value}'" for key, value in table.items())


def test_conditions_as_they_are_written() -> None:
    bench = parse_bench(SHIPPED + WATCH, "bench.toml", check_drivers=True)
    warm, door = bench.watch
    assert (warm.name, warm.grace_s, warm.action, warm.longest_pause_s) == ("detector warm", 10.0, "pause", 7200.0)
    assert warm.when == Condition("detector", "temperature", ">", "-50 degC")
    assert str(warm.resume_when) == "detector.temperature < -55 degC"
    assert (door.grace_s, door.resume_when, door.message) == (0.0, None, "")
    written = bench.model_dump(mode="json", by_alias=True)["watch"]
    assert written[0]["when"] == "detector.temperature > -50 degC"
    assert written[0]["grace"] == "10.0 s"
    assert pickle.loads(pickle.dumps(bench)) == bench
    assert parse_bench(SHIPPED, "bench.toml").watch == ()


def test_the_commented_example_of_the_shipped_bench_is_good(tmp_path: Any) -> None:
    lines = SHIPPED.splitlines()
    first = lines.index("# [[watch]]")
    last = next(number for number in range(first, len(lines)) if not lines[number].startswith("#"))
    example = [line.removeprefix("# ") for line in lines[first:last]]
    assert parse_bench("\n".join([*lines[:first], *example, *lines[last:]]), "bench.toml", check_drivers=True).watch


@pytest.mark.parametrize(
    ("text", "operator", "value"),
    [
        ("stage.temperature>200 degC", ">", "200 degC"),
        ("  stage . temperature  ≤  200 °C ", "<=", "200 °C"),
        ("stage.door is not  open", "is not", "open"),
        ("stage.door is\tnot open", "is not", "open"),
    ],
)
def test_the_grammar_takes_blanks_and_signs(text: str, operator: str, value: str) -> None:
    condition = Condition.parse(text)
    assert (condition.subject, condition.operator, condition.value) == ("stage", operator, value)
    assert Condition.parse(str(condition)) == condition


@pytest.mark.parametrize(
    "text",
    [
        "",
        "detector.temperature",
        "temperature > 3 K",
        "detector.temperature > ",
        "detector.temperature > 3 K > 2 K",
        "0 K < detector.temperature",
        "detector.temperature == 3 K",
        "detector.temperature isopen",
        "__import__('os').system('true')",
        "detector.__class__.mro is open",
        "detector.temperature > 3 K\nand more",
        "d.t > " + "9" * 500,
        3,
        None,
        ["detector.temperature > 3 K"],
    ],
)
def test_anything_else_is_refused(text: object) -> None:
    with pytest.raises(Fault, match=r"detector\.temperature > -50 degC"):
        Condition.parse(text)


@given(st.text(max_size=300))
def test_any_text_is_a_condition_or_a_fault(text: str) -> None:
    try:
        assert Condition.parse(Condition.parse(text).__str__()) == Condition.parse(text)
    except Fault:
        pass


@pytest.mark.parametrize(
    ("changes", "key", "found", "nearest"),
    [
        ({"when": "detektor.temperature > 0 degC"}, "when", "unknown subject", "detector"),
        ({"when": "detector.temprature > 0 degC"}, "when", "unknown quantity of detector", "temperature"),
        ({"when": "detector.temperature > 0 mm"}, "when", "does not convert to degC", None),
        ({"when": "detector.temperature > 0"}, "when", "without a unit", None),
        ({"when": "detector.temperature is warm"}, "when", "is warm", None),
        ({"when": "shutter.interlock > 1"}, "when", "> 1", None),
        ({"when": "shutter.interlock is opened"}, "when", "unknown word", "open"),
        ({"when": "energy_meter.energy > 1 J"}, "when", "energy_meter.energy", None),
        ({"when": "pump.fluenc > 1 J/cm^2"}, "when", "unknown quantity of pump", "fluence"),
        ({"action": "stop"}, "action", '"stop"', None),
        ({"grace": "10"}, "grace", "without a unit", None),
        ({"grace": "-1 s"}, "grace", "-1 s", None),
        ({"resume_when": "detector.temperature < 0 degC"}, "resume_when", "< 0 degC", None),
        ({"when": "pump.fluence > 1 mJ/cm^2", "action": "pause"}, "action", '"pause"', None),
        ({"action": "pause", "resume_when": "spot.dose < 1 J/cm^2"}, "resume_when", "spot.dose", None),
        ({"action": "pause", "resume_when": "detector.temperature < 1 degC"}, "resume_when", "< 1 degC", None),
        ({"action": "pause", "resume_when": "detector.temperature > 9 degC"}, "resume_when", "> 9 degC", None),
        ({"xyzzy": "x"}, "xyzzy", "unknown key", None),
    ],
)
def test_a_fault_is_named_with_its_line(changes: dict[str, str], key: str, found: str, nearest: str | None) -> None:
    text = one(**changes)
    problems = problems_of(text)
    (problem,) = [problem for problem in problems if problem.key == f"watch[0].{key}"]
    assert problem.line is not None
    assert (SHIPPED + text).splitlines()[problem.line - 1].startswith(key)
    assert found in problem.found
    assert problem.nearest == nearest
    assert len(problems) == 1


def test_all_faults_at_once() -> None:
    text = one(when="a > b") + one(action="now", when="disk.free < 1 m") + one(name="it", grace="1 m")
    assert [problem.key for problem in problems_of(text)] == [
        "watch[0].when",
        "watch[1].when",
        "watch[1].action",
        "watch[2].grace",
    ]
    (problem,) = problems_of(one() + one())
    assert (problem.key, problem.allowed) == ("watch[1].name", "a name given once")


def test_a_bench_without_a_pump_has_no_light_to_watch() -> None:
    start, end = SHIPPED.index("[pump]"), SHIPPED.index("[spectrometer]")
    bare = SHIPPED[:start] + SHIPPED[end:]
    with pytest.raises(ConfigError, match="unknown subject") as caught:
        parse_bench(bare + one(when="spot.dose > 1 J/cm^2"), "bench.toml")
    assert len(caught.value.problems) == 1
    assert parse_bench(bare + one(when="disk.free < 1 GB"), "bench.toml").watch


def test_what_the_bench_itself_knows_is_checked_without_drivers() -> None:
    (problem,) = problems_of(one(when="disk.free < 1 s"), check_drivers=False)
    assert "does not convert" in problem.found
    assert parse_bench(SHIPPED + one(when="detector.nothing > 1"), "bench.toml").watch


def test_a_shutter_that_cannot_tell_cannot_be_watched() -> None:
    text = SHIPPED.replace('driver = "thorlabs-sc10"', 'driver = "uniblitz-vcm-d1"')
    with pytest.raises(ConfigError, match="offers none to watch"):
        parse_bench(text + one(when="shutter.interlock is open"), "bench.toml", check_drivers=True)


def test_the_shipped_bench_can_be_loaded_with_conditions(tmp_path: Any) -> None:
    path = tmp_path / "bench.toml"
    calibrations = (locate("benches", "simulated").parent / "calibrations").as_posix()
    path.write_text(SHIPPED.replace('"calibrations/', f'"{calibrations}/') + WATCH, encoding="utf-8")
    assert len(load_bench(path).watch) == 2


def test_numbers_and_words() -> None:
    warm = Condition.parse("stage.temperature > 27 degC").against(KELVIN)
    assert warm.value == pytest.approx(300.15)
    assert warm.holds(301.0) and not warm.holds(300.0)
    assert Condition.parse("stage.door is not open").against(DOOR).holds("closed")
    assert not Condition.parse("stage.door is closed").against(DOOR).holds("open")


@pytest.mark.parametrize(
    ("first", "second", "excluded"),
    [
        ((">", 2.0), ("<", 1.0), True),
        ((">", 1.0), ("<=", 1.0), True),
        ((">=", 1.0), ("<=", 1.0), False),
        ((">", 1.0), ("<", 2.0), False),
        ((">", 1.0), (">", 2.0), False),
        (("is", "open"), ("is", "closed"), True),
        (("is", "open"), ("is not", "open"), True),
        (("is not", "open"), ("is not", "closed"), False),
        (("is", "open"), ("is", "open"), False),
    ],
)
def test_conditions_that_cannot_both_hold(first: Any, second: Any, excluded: bool) -> None:
    one, other = Comparison(*first), Comparison(*second)
    assert one.excludes(other) is excluded
    assert other.excludes(one) is excluded


@given(
    st.sampled_from(["<", "<=", ">", ">="]),
    st.sampled_from(["<", "<=", ">", ">="]),
    st.integers(-3, 3),
    st.integers(-3, 3),
)
def test_exclusion_agrees_with_what_holds(first: str, second: str, a: int, b: int) -> None:
    one, other = Comparison(first, float(a)), Comparison(second, float(b))
    together = any(one.holds(x / 2) and other.holds(x / 2) for x in range(-20, 21))
    assert one.excludes(other) is not together
