"""Reading ``[truth]`` and ``[laboratory]``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from labctl.config.sample import load_sample, parse_sample
from labctl.errors import ConfigError
from labctl.sim.cavity import CavitySample
from labctl.sim.laboratory import create
from labctl.sim.sample import EnsembleSample
from labctl.sim.truth import LaboratoryTruth, SampleTruth
from labctl.sim.truth_table import read_table


def _keys(error: ConfigError) -> set[str]:
    return {problem.key for problem in error.problems}


def test_all_faults_are_named_at_once(cdse_cds_zno: dict[str, Any]) -> None:
    bad = {**cdse_cds_zno, "kapa": 1.0, "y0": "0.05", "qy": 1.2, "sigma_cm2": -1.0}
    with pytest.raises(ConfigError) as caught:
        read_table(bad, SampleTruth, "truth")
    assert _keys(caught.value) == {"kapa", "y0", "qy", "sigma_cm2"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lambda_ase_nm": None}, "needs lambda_ase_nm"),
        ({"alpha_cm1": 200.0}, "never reaches net gain"),
        ({"x_decay_ns": [39.76]}, "same length"),
        ({"x_decay_fractions": [0.8, 0.3]}, "add up to 1"),
    ],
)
def test_values_that_contradict_each_other_are_refused(
    cdse_cds_zno: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_table({**cdse_cds_zno, **change}, SampleTruth, "truth")


def test_an_unknown_gain_law_is_refused(cdse_cds_zno: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="gain_law"):
        read_table({**cdse_cds_zno, "gain_law": "magic"}, SampleTruth, "truth")


def test_a_bench_without_laboratory_table_gets_the_defaults() -> None:
    assert read_table(None, LaboratoryTruth, "laboratory") == LaboratoryTruth()
    assert create(None, None, 0).truth == LaboratoryTruth()


def test_faults_of_nested_tables_are_named_with_their_path() -> None:
    with pytest.raises(ConfigError) as caught:
        create({"laser": {"energy_uj": 0.0}, "camera": {"pixles": 1024}}, None, 0)
    assert _keys(caught.value) == {"laser.energy_uj", "camera.pixles"}


def test_truth_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        LaboratoryTruth().laser = LaboratoryTruth().laser  # pyright: ignore[reportAttributeAccessIssue]


def test_faults_of_a_sample_file_are_named_with_their_line() -> None:
    head = '[sample]\nname = "x"\nmaterial = "CdSe"\nbatch = "b"\nform = "film"\nsubstrate = "glass"\n'
    text = head + '[truth]\nsigma_cm2 = "2e-14"\nlambda_pl_nm = 641\nfwhm_pl_nm = 28.0\nqy = 0.8\ngian_cm1 = 3.0\n'
    with pytest.raises(ConfigError) as caught:
        create(None, parse_sample(text, "film.toml").truth, 0)
    places = {(problem.file, problem.line, problem.key) for problem in caught.value.problems}
    assert places == {("film.toml", 8, "truth.sigma_cm2"), ("film.toml", 12, "truth.gian_cm1")}


@pytest.mark.parametrize(
    ("name", "pulse_ns"),
    [
        ("cdse-cds-zno", 1e-4),
        ("cdse-cds-zno-fragile", 1e-4),
        ("cdse-cds", 1e-4),
        ("quantum-ring-small", 1.2e-4),
        ("quantum-ring-medium", 1.2e-4),
        ("quantum-ring-large", 1.2e-4),
        ("cdzns-zns", 5.0),
    ],
)
def test_the_shipped_films_are_what_they_say(name: str, pulse_ns: float) -> None:
    config = load_sample(name)
    sample = create({"laser": {"pulse_duration_ns": pulse_ns}}, config.truth, 0).sample
    assert isinstance(sample, EnsembleSample)
    truth = sample.truth
    line = sample.ase_line(truth.ase_line_pump * sample.transparency_fluence_uj_cm2())
    assert line == pytest.approx((truth.lambda_ase_nm, truth.fwhm_ase_nm), abs=0.01)
    known = config.sample
    assert (known.expected_ase_nm, known.expected_pl_nm) == (truth.lambda_ase_nm, truth.lambda_pl_nm)
    assert known.excitation is not None
    assert known.excitation.cross_section_cm2 == truth.sigma_cm2
    if known.excitation.multiexciton_lifetime_ns is not None:
        assert known.excitation.multiexciton_lifetime_ns == truth.tau_xx_ns
    assert (truth.damage_fluence_uj_cm2 > 0) is name.endswith("fragile")


@pytest.mark.parametrize("name", ["vcsel", "cdzns-zns-fibre"])
def test_the_shipped_cavities_are_what_they_say(name: str) -> None:
    config = load_sample(name)
    sample = create(None, config.truth, 0).sample
    assert isinstance(sample, CavitySample)
    assert config.sample.form == "cavity"
    assert config.sample.expected_threshold_uj_cm2 == pytest.approx(sample.truth.threshold_uj_cm2, rel=2e-3)
    assert config.sample.expected_ase_nm == pytest.approx(
        max(zip(sample.truth.mode_weights or (1.0,), sample.truth.modes_nm, strict=True))[1], abs=0.01
    )


def test_the_modes_of_the_fibre_are_one_family() -> None:
    truth = load_sample("cdzns-zns-fibre").truth
    assert truth is not None
    modes_nm = np.array(truth.data["modes_nm"])
    assert modes_nm == pytest.approx(np.pi * 1.56 * 54e3 / np.arange(597, 604), abs=1e-3)
    assert -np.diff(modes_nm).mean() == pytest.approx(0.735, abs=0.006)
