"""The table [limits]: what a pump needs, and bounds of any quantity of any role, checked against the drivers."""

from __future__ import annotations

import copy
import pickle

import pytest

from labctl.config.bench import BenchConfig, parse_bench
from labctl.config.fault import Fault, Faults
from labctl.config.limits import Bounds
from labctl.config.locate import locate
from labctl.errors import ConfigError, Problem

SHIPPED = locate("benches", "simulated").read_text(encoding="utf-8")


def parsed(limits: str) -> BenchConfig:
    text = SHIPPED.replace("[calibrations]", f"{limits}\n[calibrations]", 1)
    return parse_bench(text, "bench.toml", check_drivers=True)


def problems_of(limits: str) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        parsed(limits)
    return list(caught.value.problems)


def test_bounds_of_a_role() -> None:
    bench = parsed(
        '[limits.roles.detector]\nexposure = "1 min"\ntemperature = { at_least = "-80 degC", at_most = "300 K" }\n'
        '[limits.roles.spectrograph]\nwavelength = { at_least = "400 nm" }'
    )
    assert bench.limits is not None
    detector = bench.limits.roles["detector"]
    assert detector["exposure"].in_unit("s") == (None, 60.0)
    assert detector["temperature"].in_unit("degC") == (-80.0, pytest.approx(26.85))
    assert bench.limits.roles["spectrograph"]["wavelength"].in_unit("nm") == (400.0, None)
    written = bench.model_dump(mode="json", by_alias=True)["limits"]["roles"]
    assert written == {
        "detector": {"exposure": "1 min", "temperature": {"at_least": "-80 degC", "at_most": "300 K"}},
        "spectrograph": {"wavelength": {"at_least": "400 nm"}},
    }
    assert pickle.loads(pickle.dumps(bench)) == bench == copy.deepcopy(bench)
    with pytest.raises(TypeError):
        bench.limits.roles["detector"]["exposure"] = Bounds(None, "1 hour")  # type: ignore[index]


def test_average_power() -> None:
    bench = parsed('average_power = "5 mW"')
    assert bench.limits is not None and bench.limits.average_power_mw == 5.0


@pytest.mark.parametrize(
    ("limits", "key", "found", "nearest"),
    [
        ('average_powr = "5 mW"', "limits.average_powr", "unknown key", "average_power"),
        ('average_power = "5 mJ"', "limits.average_power", "does not convert", None),
        ('[limits.roles.detector]\nexposur = "1 s"', "limits.roles.detector.exposur", "unknown quantity", "exposure"),
        ('[limits.roles.detector]\nexposure = "1 m"', "limits.roles.detector.exposure", "does not convert", None),
        ("[limits.roles.detector]\nexposure = 1", "limits.roles.detector.exposure", "1", None),
        (
            '[limits.roles.detector]\nexposure = { at_mots = "1 s" }',
            "limits.roles.detector.exposure.at_mots",
            "unknown key",
            "at_most",
        ),
        (
            '[limits.roles.detector]\nexposure = { at_least = "2 s", at_most = "1 s" }',
            "limits.roles.detector.exposure",
            "at_least",
            None,
        ),
        ('[limits.roles.detector]\nlock = "1"', "limits.roles.detector.lock", "unknown quantity", None),
        ('[limits.roles.filter]\nposition = "1"', "limits.roles.filter", '"filter"', None),
        ('[limits.roles.detctor]\nexposure = "1 s"', "limits.roles.detctor", "unknown role", "detector"),
    ],
)
def test_a_fault_is_named_with_its_line(limits: str, key: str, found: str, nearest: str | None) -> None:
    (problem,) = problems_of(limits)
    assert problem.key == key
    assert found in problem.found
    assert problem.nearest == nearest
    first = SHIPPED[: SHIPPED.index("[calibrations]")].count("\n") + 1
    assert problem.line is not None
    header = key.count(".") == 2
    assert problem.line - first == (0 if header else limits.count("\n"))


def test_all_faults_at_once() -> None:
    keys = [problem.key for problem in problems_of('[limits.roles.detector]\nexposur = "1 s"\ntemperature = "1 s"')]
    assert keys == ["limits.roles.detector.exposur", "limits.roles.detector.temperature"]


def test_a_bench_with_a_pump_states_all_its_limits() -> None:
    text = SHIPPED
    for key in ("fluence", "pulse_energy", "dose_per_spot"):
        start = text.index(f"\n{key} = ", text.index("[limits]"))
        text = text[:start] + text[text.index("\n", start + 1) :]
    with pytest.raises(ConfigError) as caught:
        parse_bench(text, "bench.toml")
    assert [problem.key for problem in caught.value.problems] == [
        "limits.fluence",
        "limits.pulse_energy",
        "limits.dose_per_spot",
    ]


def test_a_bench_without_a_pump_may_limit_its_instruments_alone() -> None:
    text = SHIPPED[: SHIPPED.index("[pump]")] + '[limits.roles.detector]\nexposure = "1 s"\n'
    bench = parse_bench(text + SHIPPED[SHIPPED.index("[instruments.attenuator]") :], "bench.toml", check_drivers=True)
    assert bench.limits is not None and bench.limits.fluence_uj_cm2 is None


@pytest.mark.parametrize("value", [{}, [], 3, True, {"at_most": 3}, {"most": "3 s"}])
def test_bounds_are_text_or_a_table_of_text(value: object) -> None:
    with pytest.raises((Fault, Faults)):
        Bounds.parse(value)
