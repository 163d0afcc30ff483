"""Reading ``[truth]`` and ``[laboratory]``."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.errors import ConfigError
from labctl.sim.laboratory import create
from labctl.sim.truth import LaboratoryTruth, SampleTruth, read_table


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
