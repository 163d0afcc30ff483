"""Mutated journals and sealed files: a clear error or a correct read, never a fault, a crash or a hang."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import pytest

from run_fuzz.campaign import Mutant, campaign
from run_fuzz.originals import Originals, make_originals
from run_fuzz.worker import look

MUTANTS, A_FEW = 2000, 30

pytestmark = pytest.mark.skipif(os.name != "posix", reason="waits for the pipe of a process")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Originals:
    return make_originals(tmp_path_factory.mktemp("originals"))


def broken(mutants: list[Mutant]) -> list[Mutant]:
    return [mutant for mutant in mutants if not mutant.kept]


def test_a_few_mutants_give_a_clear_error_or_a_correct_read(originals: Originals, tmp_path: Path) -> None:
    mutants = list(campaign(originals, tmp_path, range(A_FEW)))
    assert not broken(mutants)
    assert {mutant.outcome for mutant in mutants} == {"read", "error"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_mutants_give_a_clear_error_or_a_correct_read(originals: Originals, tmp_path: Path) -> None:
    mutants = list(campaign(originals, tmp_path, range(MUTANTS)))
    assert not broken(mutants)
    outcomes = Counter((mutant.form, mutant.outcome) for mutant in mutants)
    assert all(outcomes[form, outcome] > MUTANTS // 20 for form in ("journal", "h5") for outcome in ("read", "error"))


def test_a_mutant_that_reads_wrongly_is_told_from_one_that_reads_well(originals: Originals, tmp_path: Path) -> None:
    """The judge can find a broken promise: a spectrum that was changed, and its checksums with it."""
    other = tmp_path / "other.h5"
    other.write_bytes(originals.sealed.read_bytes())
    assert look(other, originals.sealed, 0, damaged=True, deep=False)[0] == "read"
    with h5py.File(other, "r+") as file:
        spectra: Any = file["entry/data/spectrum"]
        spectra[0, 0] += 1
    assert look(other, originals.sealed, 1, damaged=True, deep=False)[0] == "wrong"
