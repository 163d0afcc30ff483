"""What the plan of a sweep says and refuses before anything is opened."""

from __future__ import annotations

import pytest

from labctl.bench.bench_sections import meter_reading_s
from labctl.config.bench import load_bench
from labctl.config.sample import load_sample, parse_sample
from labctl.errors import InputError
from labctl.run.plan import Plan
from procedures.emission.light import RETAKES
from procedures.fluence_sweep import FluenceSweep


def plan(**parameters) -> Plan:
    return FluenceSweep(**parameters).plan(load_bench("simulated"), load_sample("cdse-cds-zno"))


def test_the_default_plan_has_nothing_to_warn_of():
    assert plan().warnings == ()


def test_too_few_fluences_for_a_threshold_are_told_beforehand():
    assert any(
        "6 listed fluences give no threshold" in text for text in plan(fluences="3,7,15,22,28,36uJ/cm^2").warnings
    )
    assert plan(fluences="3, 7, 15, 22, 28, 36, 50 uJ/cm^2").warnings == ()


def test_exposures_that_hold_few_pulses_are_told_and_none_refused():
    (warning,) = plan(exposure_min="2 ms").warnings
    assert "holds 2 pulses only" in warning
    with pytest.raises(InputError, match="holds no pulse"):
        plan(exposure_min="0.5 ms")


@pytest.mark.parametrize("band", ["300, 310 nm", "900, 950 nm"])
def test_a_band_far_from_the_window_is_refused(band):
    with pytest.raises(InputError, match="not in the window"):
        plan(band=band)


def test_the_bound_of_the_light_holds_a_reading_with_every_retake():
    bench = load_bench("simulated")
    few, many = (plan(pulses=pulses) for pulses in (100, 1100))
    longer_s = meter_reading_s(bench, 1100) - meter_reading_s(bench, 100)
    assert many.open_s - few.open_s == pytest.approx((1 + RETAKES) * longer_s * 35)


def test_few_pulses_are_counted_as_the_ladder_has_them():
    parameters = {"exposure_min": "0.13 s", "exposure_max": "0.13 s"}
    found = FluenceSweep(**parameters).plan(load_bench("simulated-ns"), load_sample("cdzns-zns"))
    assert any("holds 3 pulses only" in text for text in found.warnings)
    with pytest.raises(InputError, match=r"0\.03 s holds no pulse at 20 Hz"):
        FluenceSweep(exposure_min="30 ms").plan(load_bench("simulated-ns"), load_sample("cdzns-zns"))


@pytest.mark.parametrize("bench", ["simulated-rings", "simulated-vcsel", "simulated-ns", "simulated-fibre"])
def test_every_bench_plans_its_own_sample_without_a_word(bench: str):
    config = load_bench(bench)
    assert config.default_sample is not None
    found = FluenceSweep().plan(config, load_sample(config.default_sample))
    assert found.warnings == ()
    assert config.limits is not None
    assert found.dose_j_cm2 <= config.limits.dose_per_spot_j_cm2
    assert found.bounds["fluence_uj_cm2"][1] <= config.limits.fluence_uj_cm2


def test_a_cross_section_for_another_line_is_told_and_not_used():
    sample = parse_sample(
        '[sample]\nname = "a"\nmaterial = "b"\nexpected_threshold = "28 uJ/cm^2"\n[sample.excitation]\n'
        'cross_section = "2.6e-14 cm^2"\nwavelength = "532 nm"\n',
        "sample.toml",
    )
    procedure = FluenceSweep()
    (warning,) = procedure.plan(load_bench("simulated"), sample).warnings
    assert "for 532 nm, the pump has 400 nm" in warning and procedure.cross_section is None
