"""The base of every table of a configuration file, and the field types that several tables share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from labctl.config.quantity import InUnit


class Table(BaseModel):
    """A table of a TOML file: unknown keys are faults, nothing is converted silently, nothing changes afterwards.

    The aliases are the keys as written; attribute names add the unit. ``model_dump(mode="json", by_alias=True)`` gives
    the table as it would be written.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True)


ShortText = Annotated[str, Field(min_length=1, max_length=120, description="text in quotes")]
PathText = Annotated[str, Field(min_length=1, max_length=4096, description="a path in quotes")]
LongText = Annotated[str, Field(max_length=10_000, description="text in quotes")]

WavelengthNm = Annotated[float, InUnit("nm", at_least=100, at_most=20_000, example="632 nm")]
LineWidthNm = Annotated[float, InUnit("nm", above=0, at_most=200, example="0.2 nm")]
FluenceUjCm2 = Annotated[float, InUnit("uJ/cm^2", above=0, at_most=1e7, example="28 uJ/cm^2")]
SpotSizeMm = Annotated[float, InUnit("mm", at_least=1e-4, at_most=100, example="150 um")]
"""From 0.1 µm, below any focus, to 100 mm, beyond any optics of a bench."""
SpotSizeErrorMm = Annotated[float, InUnit("mm", at_least=0, at_most=100, example="10 um")]
WavelengthErrorNm = Annotated[float, InUnit("nm", at_least=0, at_most=50, example="0.05 nm")]
PulseEnergyUj = Annotated[float, InUnit("uJ", above=0, at_most=1e6, example="5 uJ")]
AngleDeg = Annotated[float, InUnit("deg", at_least=-360, at_most=360, example="12.3 deg")]
AngleErrorDeg = Annotated[float, InUnit("deg", at_least=0, at_most=45, example="0.015 deg")]
Fraction = Annotated[float, Field(ge=0, le=1, description="a number from 0 to 1")]
