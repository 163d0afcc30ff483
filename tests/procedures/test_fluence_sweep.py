"""The sweep through real drivers against the simulator's truth."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from labctl.bench.ledger import ExposureLedger
from labctl.errors import ConfigError, InputError
from labctl.store.run import open_run

THRESHOLD = 28.0
SHIPPED_KAPPA = 1.447


def assert_shipped_film(outcome) -> None:
    """Tolerances of the acceptance table, rows 1 and 7."""
    assert outcome.status == "finished", outcome.error
    assert outcome.safe_state == "confirmed"
    assert outcome.simulated
    assert outcome.result["threshold"]["value"] == pytest.approx(THRESHOLD, rel=0.08)
    assert outcome.result["ase_peak"]["value"] == pytest.approx(632.0, abs=0.3)
    assert outcome.result["ase_fwhm"]["value"] == pytest.approx(6.7, abs=0.3)


def test_finds_threshold_and_line_of_the_shipped_film(shipped):
    assert_shipped_film(shipped)
    assert shipped.points == {"done": 45, "planned": 45}
    assert set(shipped.files) == {"figure", "page"}
    with open_run(shipped.run) as run:
        assert run.status == "finished"
        assert run.simulated
        columns = run.columns("points")
        low, high = shipped.result["threshold"]["ci95"]
        assert low < shipped.result["threshold"]["value"] < high
        stages = [str(stage) for stage in columns["stage"]]
        assert stages == ["coarse"] * 8 + ["fine"] * 24 + ["return"] * 3
        for stage in ("coarse", "fine", "return"):
            chosen = columns["fluence_set_uj_cm2"][np.array(stages) == stage]
            assert np.all(np.diff(chosen) > 0), f"{stage} does not ascend"
        assert not columns["saturated_pixels"].any()
        relative = columns["fluence_uj_cm2"] / columns["fluence_set_uj_cm2"] - 1
        assert np.all(np.abs(relative) < 0.15)
        assert run.count("dark") == 9
        assert run.count("scatter") == 1


def test_frames_are_kept_apart_and_raw(sweep):
    with open_run(sweep(fine_points=0, return_points=0).run) as run:
        dark = np.asarray(run.array("spectrum", "dark")[0]) / run.columns("dark")["accumulations"][0]
        assert 590 < np.median(dark) < 610, "dark frames hold the offset of the camera, nothing subtracted"
        raw = np.asarray(run.array("spectrum", "points")[0]) / run.columns("points")["accumulations"][0]
        assert raw.min() > 550, "spectra are stored as the detector gave them"


def test_exposure_follows_the_light_with_overlaps_at_each_change(shipped):
    with open_run(shipped.run) as run:
        columns = run.columns("points")
        share = columns["peak_rate"] * columns["exposure_s"] / 65535
        assert share.max() < 0.75
        on_the_ladder = columns["exposure_s"] < columns["exposure_s"].max()
        assert np.median(share[on_the_ladder]) > 0.25
        assert_every_change_has_an_overlap(columns)


def assert_every_change_has_an_overlap(columns) -> None:
    """Each change of exposure has a finite ratio: in the row of the new exposure, or foreseen in the one before."""
    exposure, ahead = columns["exposure_s"], columns["overlap_next_exposure_s"]
    changes = 0
    for k in range(1, len(exposure)):
        foreseen = np.isclose(ahead[k - 1], exposure[k]) and np.isfinite(columns["overlap_next_ratio"][k - 1])
        looked_back = np.isfinite(columns["overlap_ratio"][k])
        if np.isclose(exposure[k], exposure[k - 1]):
            assert not looked_back
        else:
            changes += 1
            assert foreseen != looked_back, f"row {k}: {exposure[k - 1]} to {exposure[k]} s"
    assert changes > 0
    ratios = np.concatenate([columns["overlap_ratio"], columns["overlap_next_ratio"]])
    assert np.abs(ratios[np.isfinite(ratios)] - 1).max() < 0.1


@pytest.mark.parametrize("seed", range(3))
def test_parts_of_the_spectrum_are_right_while_the_sweep_runs(sweep, seed):
    outcome = sweep(seed=seed)
    threshold = outcome.result["threshold"]["value"]
    with open_run(outcome.run) as run:
        columns = run.columns("points")
    ase, pl, band = (columns[name] for name in ("ase_intensity", "pl_intensity", "band_intensity"))
    far_above = columns["fluence_uj_cm2"] > 2 * threshold
    assert far_above.sum() >= 3
    assert (ase[far_above] > 5 * pl[far_above]).all()
    far_below = columns["fluence_uj_cm2"] < 0.5 * threshold
    assert (np.abs(ase[far_below]) < 0.05 * pl[far_below]).all()
    known = np.isfinite(ase)
    assert known.mean() > 0.9
    assert ase[known] + pl[known] == pytest.approx(band[known], rel=0.1)
    assert_every_change_has_an_overlap(columns)


def test_damaged_sample_raises_its_flag_and_a_sound_one_does_not(sweep, shipped):
    fragile = sweep(sample="cdse-cds-zno-fragile")
    assert any("photodamage: the emission at the lowest fluences changed" in text for text in fragile.warnings)
    assert not any("photodamage: the emission" in text for text in shipped.warnings)


def test_descending_order_warns_and_descends(sweep):
    outcome = sweep(order="descending")
    assert any("descending order" in text for text in outcome.warnings)
    with open_run(outcome.run) as run:
        coarse = run.columns("points")["fluence_set_uj_cm2"][:8]
        assert np.all(np.diff(coarse) < 0)


def test_listed_fluences_are_measured_and_nothing_else(sweep):
    outcome = sweep(fluences="3, 7, 15, 22, 28, 36, 50, 80 uJ/cm^2", return_points=0)
    with open_run(outcome.run) as run:
        chosen = run.columns("points")["fluence_set_uj_cm2"]
    assert chosen.tolist() == [3, 7, 15, 22, 28, 36, 50, 80]


def test_a_sweep_below_threshold_says_so_instead_of_a_number(sweep):
    outcome = sweep(fluences="2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 uJ/cm^2")
    assert outcome.status == "finished"
    assert "threshold" not in outcome.result
    assert any("no threshold" in text for text in outcome.warnings)


def test_excitons_follow_from_the_cross_section_of_the_sample_file(sweep):
    with open_run(sweep(fine_points=0, return_points=0).run) as run:
        columns = run.columns("points")
    expected = columns["fluence_uj_cm2"] * 1e-6 * 2.6e-14 / 4.9661e-19
    assert columns["excitons_per_particle"] == pytest.approx(expected, rel=1e-3)


def test_dose_goes_to_the_ledger(sweep, tmp_path: Path):
    outcome = sweep()
    total = ExposureLedger(tmp_path / "runs").total("cdse-cds-zno", "1", simulated=True)
    with open_run(outcome.run) as run:
        columns = run.columns("points")
    assert total.runs == 1
    assert total.open_s >= columns["open_s"].sum() * 0.999
    assert total.dose_j_cm2 == pytest.approx(columns["dose_j_cm2"][-1], rel=0.02)


def test_same_seed_same_rows_other_seed_other_rows(sweep):
    rows = []
    for seed in (0, 0, 1):
        with open_run(sweep(seed=seed, fine_points=0, return_points=0).run) as run:
            rows.append(run.columns("points")["band_intensity"])
    assert np.array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"expected_threshold": "28"}, "unit"),
        ({"expected_threshold": "28 nm"}, "convert"),
        ({"expected_treshold": "28 uJ/cm^2"}, "expected_threshold"),
        ({"coarse_points": "8.5"}, "whole number"),
        ({"order": "sideways"}, "ascending"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_is_opened(sweep, parameters, said):
    with pytest.raises(ConfigError, match=said):
        sweep(**parameters)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"fluences": "10, 20, 2000 uJ/cm^2"}, "cannot be set"),
        ({"expected_threshold": "900 uJ/cm^2"}, "cannot be set"),
        ({"band": "600 nm"}, "two wavelengths"),
        ({"band": "300, 310 nm"}, "not in the window"),
        ({"band": "500, 510 nm"}, "holds 0 pixels"),
        ({"fluences": ""}, "at least one number"),
        ({"fine_points": 3}, "too short"),
    ],
)
def test_what_the_bench_cannot_do_is_refused(sweep, parameters, said):
    try:
        outcome = sweep(**parameters)
    except (ConfigError, InputError) as error:
        text = str(error)
    else:
        text = str(outcome.error)
        assert outcome.safe_state == "confirmed"
    assert said in text


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_twenty_seeds_each_within_tolerance(sweep, seed):
    outcome = sweep(seed=seed)
    assert_shipped_film(outcome)
    assert not any("photodamage: the emission" in text for text in outcome.warnings)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("factor", [0.4, 0.6, 0.8, 1.3, 1.7, 2.2])
def test_threshold_moves_inversely_with_kappa(sweep, sample_with, factor):
    """Nothing is fitted to the shipped sample: another truth gives another threshold, and the sweep finds it."""
    reference = sweep().result["threshold"]["value"]
    found = sweep(sample=sample_with(kappa=SHIPPED_KAPPA * factor)).result["threshold"]["value"]
    assert found * factor / reference == pytest.approx(1.0, abs=0.05)
    assert math.isfinite(found)
