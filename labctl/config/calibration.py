"""Calibrations: dated objects with an uncertainty, one TOML file each, never overwritten."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from labctl.config.document import parse_document, read_document
from labctl.config.fault import Fault, as_toml
from labctl.config.file_table import FileTable, read_table
from labctl.config.quantity import InUnit
from labctl.config.table import AngleDeg, AngleErrorDeg, Fraction, LongText, ShortText, WavelengthNm
from labctl.errors import StorageError

SAME_WAVELENGTH_NM = 2.0
"""A calibration holds for the line it was made with: a femtosecond line at 400 nm is about 2 nm wide."""


def _as_date(value: object) -> object:
    if isinstance(value, str):
        try:
            return datetime.date.fromisoformat(value)
        except ValueError:
            raise Fault(as_toml(value), "a date such as 2026-11-21") from None
    return value


class AttenuatorCalibration(FileTable):
    """Energy at the meter against the angle of an attenuator, by the law of Malus.

    ``E(theta) = full_energy * T(theta)`` with ``T = T0 + (T1 - T0) cos²[2 (theta - theta0)]`` for a half-wave plate
    before a polariser; theta is the angle that the mount reports. Errors are one standard deviation.
    """

    kind: Annotated[Literal["attenuator"], Field(description='"attenuator"')]
    date: Annotated[datetime.date, BeforeValidator(_as_date), Field(description="a date such as 2026-11-21")]
    instrument: Annotated[ShortText, Field(description="vendor, model and serial number of the rotator")]
    wavelength_nm: WavelengthNm = Field(alias="wavelength")
    transmission_min: Annotated[Fraction, Field(description="T0, a number from 0 to 1")]
    transmission_min_error: Fraction
    transmission_max: Annotated[float, Field(gt=0, le=1, description="T1, a number above 0, at most 1")]
    transmission_max_error: Fraction
    theta0_deg: AngleDeg = Field(alias="theta0")
    theta0_error_deg: AngleErrorDeg = Field(alias="theta0_error")
    full_energy_uj: Annotated[float, InUnit("uJ", above=0, at_most=1e6, example="20 uJ")] = Field(alias="full_energy")
    full_energy_error_uj: Annotated[float, InUnit("uJ", at_least=0, at_most=1e6, example="0.05 uJ")] = Field(
        alias="full_energy_error"
    )
    residual_rms: Annotated[Fraction, Field(description="rms of the residuals over the full energy, 0 to 1")]
    approach: Annotated[Literal["increasing"], Field(description='"increasing": angles are always reached from below')]
    source_run: ShortText
    notes: LongText = ""

    @model_validator(mode="after")
    def _some_contrast(self) -> AttenuatorCalibration:
        if self.transmission_min >= self.transmission_max:
            allowed = f"less than transmission_max, which is {self.transmission_max}"
            raise Fault(str(self.transmission_min), allowed, key=("transmission_min",))
        return self

    def age_days(self, on: datetime.date) -> int:
        """Get the age in days on a given date; negative if the calibration is dated later."""
        return (on - self.date).days


def load_calibration(path: str | Path) -> AttenuatorCalibration:
    """Read a calibration file.

    :raises ConfigError: every fault in it, or that it cannot be read.
    """
    document = read_document(Path(path))
    return read_table(AttenuatorCalibration, document, document.data)


def parse_calibration(text: str, file: str) -> AttenuatorCalibration:
    """Read a calibration from text, e.g. as stored in a run.

    :raises ConfigError: every fault in it.
    """
    document = parse_document(text, file)
    return read_table(AttenuatorCalibration, document, document.data)


def save_calibration(path: str | Path, calibration: AttenuatorCalibration) -> None:
    """Write a calibration to a new file.

    :raises StorageError: the file exists (a calibration is never overwritten) or cannot be written.
    """
    path = Path(path)
    table = calibration.model_dump(mode="json", by_alias=True, exclude={"date"})
    lines = [f"date = {calibration.date.isoformat()}", *(f"{key} = {_scalar(value)}" for key, value in table.items())]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", newline="\n") as stream:
            stream.write("\n".join(lines) + "\n")
    except FileExistsError as error:
        todo = "choose a new file name, e.g. one with the date; then name it in [calibrations] of the bench"
        what = "the calibration was not written: a file of that name exists and calibrations are never overwritten"
        raise StorageError(what, where=str(path), state="the existing file is unchanged", todo=todo) from error
    except OSError as error:
        what, todo = f"the calibration could not be written: {error.strerror}", "check the folder and the free space"
        raise StorageError(what, where=str(path), todo=todo) from error


def _scalar(value: str | float) -> str:
    """Write a scalar as TOML; text with every character outside printable ASCII escaped."""
    if not isinstance(value, str):
        return repr(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(char if " " <= char <= "~" else f"\\U{ord(char):08x}" for char in escaped) + '"'
