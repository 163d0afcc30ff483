from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.config.calibration import AttenuatorCalibration, load_calibration, save_calibration
from labctl.errors import ConfigError, StorageError

TABLE: dict[str, Any] = {
    "kind": "attenuator",
    "date": datetime.date(2026, 11, 20),
    "instrument": 'Thorlabs ELL14 "11400123" µ',
    "wavelength": "400 nm",
    "transmission_min": 0.001,
    "transmission_min_error": 0.0002,
    "transmission_max": 1.0,
    "transmission_max_error": 0.0022,
    "theta0": "12.3 deg",
    "theta0_error": "0.015 deg",
    "full_energy": "20 uJ",
    "full_energy_error": "0.05 uJ",
    "residual_rms": 0.01,
    "approach": "increasing",
    "source_run": "2026-11-20/0003_attenuator-calibration.h5",
}


def test_written_and_read_again(tmp_path: Path) -> None:
    calibration = AttenuatorCalibration.model_validate(TABLE)
    path = tmp_path / "new" / "attenuator.toml"
    save_calibration(path, calibration)
    again = load_calibration(path)
    assert again.model_dump() == calibration.model_dump()
    assert again.text == path.read_text(encoding="utf-8")
    assert again.file == str(path)
    assert again.age_days(datetime.date(2026, 11, 30)) == 10


@settings(deadline=None)
@given(
    angle_deg=st.floats(-360, 360),
    energy_uj=st.floats(1e-300, 1e6),
    notes=st.text(st.characters(codec="utf-8"), max_size=50),
)
def test_no_digit_and_no_character_is_lost(
    tmp_path_factory: pytest.TempPathFactory, angle_deg: float, energy_uj: float, notes: str
) -> None:
    table = {**TABLE, "theta0": f"{angle_deg!r} deg", "full_energy": f"{energy_uj!r} uJ", "notes": notes}
    calibration = AttenuatorCalibration.model_validate(table)
    path = tmp_path_factory.mktemp("calibration") / "c.toml"
    save_calibration(path, calibration)
    again = load_calibration(path)
    assert (again.theta0_deg, again.full_energy_uj, again.notes) == (angle_deg, energy_uj, notes)


def test_a_calibration_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("precious", encoding="utf-8")
    with pytest.raises(StorageError, match="never overwritten"):
        save_calibration(path, AttenuatorCalibration.model_validate(TABLE))
    assert path.read_text(encoding="utf-8") == "precious"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError):
        save_calibration(tmp_path / "file" / "c.toml", AttenuatorCalibration.model_validate(TABLE))


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("date = 2026-11-20", 'date = "20 Nov"', "date"),
        ("date = 2026-11-20", "date = 20261120", "date"),
        ('"attenuator"', '"atenuator"', "kind"),
        ("transmission_min = 0.001", "transmission_min = 1.0", "transmission_min"),
        ("transmission_min = 0.001", "transmission_min = inf", "transmission_min"),
        ('theta0 = "12.3 deg"', "theta0 = 12.3", "theta0"),
        ('approach = "increasing"', 'approach = "up"', "approach"),
        ('full_energy = "20.0 uJ"', 'full_energy = "0 uJ"', "full_energy"),
    ],
)
def test_faults_of_a_calibration(tmp_path: Path, old: str, new: str, key: str) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    save_calibration(good, AttenuatorCalibration.model_validate(TABLE))
    text = good.read_text(encoding="utf-8")
    assert old in text
    bad.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_calibration(bad)
    (problem,) = caught.value.problems
    assert problem.key == key
    assert problem.line == bad.read_text(encoding="utf-8").split("\n").index(new) + 1 if " = " in new else True


def test_a_date_may_be_text() -> None:
    calibration = AttenuatorCalibration.model_validate({**TABLE, "date": "2026-11-20"})
    assert calibration.date == datetime.date(2026, 11, 20)
