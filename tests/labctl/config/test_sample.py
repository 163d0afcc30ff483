from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from labctl.config.locate import list_shipped
from labctl.config.sample import load_sample, parse_sample
from labctl.errors import ConfigError


def test_the_shipped_sample() -> None:
    config = load_sample("cdse-cds-zno")
    sample = config.sample
    assert (sample.expected_pl_nm, sample.expected_ase_nm, sample.expected_threshold_uj_cm2) == (641.0, 632.0, 28.0)
    assert sample.excitation is not None
    assert (sample.excitation.cross_section_cm2, sample.excitation.wavelength_nm) == (2.6e-14, 400.0)
    assert sample.excitation.cross_section_error_cm2 == 5e-15
    assert config.truth is not None
    assert config.truth.data["kappa"] == 1.447
    assert "damage_fluence_uj_cm2" not in config.truth.data


def test_the_fragile_sample_differs_by_its_damage_only() -> None:
    stable, fragile = load_sample("cdse-cds-zno"), load_sample("cdse-cds-zno-fragile")
    assert stable.truth is not None and fragile.truth is not None
    truth = fragile.truth.data
    assert truth.pop("damage_fluence_uj_cm2") > 0
    assert truth == stable.truth.data
    assert fragile.sample.model_copy(update={"name": stable.sample.name}) == stable.sample


@pytest.mark.parametrize("name", list_shipped("samples"))
def test_every_shipped_sample_has_the_name_of_its_file(name: str) -> None:
    assert load_sample(name).sample.name == name


def test_the_truth_is_not_read_here() -> None:
    config = parse_sample('[sample]\nname = "a"\nmaterial = "b"\n[truth]\nnonsense = "1 furlong"\n', "s.toml")
    assert config.truth is not None
    assert config.truth.data == {"nonsense": "1 furlong"}


def test_who_reads_the_truth_gets_file_line_and_key() -> None:
    class Truth(BaseModel, extra="forbid", strict=True):
        kappa: float
        family: str

    config = parse_sample('[sample]\nname = "a"\nmaterial = "b"\n[truth]\nkapa = 1\nfamily = 3\n', "s.toml")
    assert config.truth is not None
    with pytest.raises(ConfigError) as caught:
        config.truth.validate(Truth)
    assert [(one.file, one.line, one.key, one.nearest) for one in sorted(caught.value.problems, key=str)] == [
        ("s.toml", 5, "truth.kapa", "kappa"),
        ("s.toml", 6, "truth.family", None),
    ]


def test_a_real_sample_has_no_truth() -> None:
    assert parse_sample('[sample]\nname = "a"\nmaterial = "b"\n', "s.toml").truth is None


def test_faults_of_a_sample() -> None:
    text = '[sample]\nnam = "a"\nform = "flim"\nexpected_pl = "641"\n[sample.excitation]\nwavelength = "400 nm"\n'
    with pytest.raises(ConfigError) as caught:
        parse_sample(text + "[thruth]\nx = 1\n", "s.toml")
    assert [(one.line, one.key, one.nearest) for one in caught.value.problems] == [
        (1, "sample.material", None),
        (2, "sample.nam", "name"),
        (3, "sample.form", "film"),
        (4, "sample.expected_pl", None),
        (5, "sample.excitation.cross_section", None),
        (7, "thruth", "truth"),
    ]


def test_nothing_can_be_changed() -> None:
    config = load_sample("cdse-cds-zno")
    with pytest.raises(ValidationError):
        config.sample.name = "other"


def test_the_lifetime_of_multiexcitons_is_optional_and_has_a_unit() -> None:
    head = '[sample]\nname = "a"\nmaterial = "b"\n[sample.excitation]\n'
    head += 'cross_section = "2e-15 cm^2"\nwavelength = "395 nm"\n'
    without = parse_sample(head, "s.toml").sample.excitation
    given = parse_sample(head + 'multiexciton_lifetime = "350 ps"\n', "s.toml").sample.excitation
    assert without is not None and without.multiexciton_lifetime_ns is None
    assert given is not None and given.multiexciton_lifetime_ns == 0.35
    with pytest.raises(ConfigError, match="without a unit"):
        parse_sample(head + "multiexciton_lifetime = 0.35\n", "s.toml")
