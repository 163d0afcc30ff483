"""What surrounds the sample on a bench: the tables ``[slit]``, ``[places]``, ``[lamp]`` and ``[heating]``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field, PlainSerializer, model_validator

from labctl.config.fault import Fault, Faults, as_toml
from labctl.config.quantity import InUnit
from labctl.config.table import Fraction, Table, WavelengthNm

PositionMm = Annotated[float, InUnit("mm", at_least=-1000, at_most=1000, example="10.00 mm")]
LengthMm = Annotated[float, InUnit("mm", above=0, at_most=100, example="1.0 mm")]

SAMPLE_PLACE = "sample"
REFERENCE_PLACE = "reference"
DARK_PLACE = "dark"
_PLACE = r"[A-Za-z][A-Za-z0-9_-]{0,31}"


class SlitConfig(Table):
    """The slit that cuts the pumped stripe: a far blade that sets its end, and perhaps a near one for its beginning.

    Positions are those of the blades' own controllers. Both rise in the same direction, away from the film's edge.
    """

    edge_mm: PositionMm = Field(alias="edge")
    """Position of the far blade at which the stripe has no length, as well as it is known; a scan finds it anew."""
    longest_mm: LengthMm = Field(alias="longest")
    """Length over which the pump is even enough, from the edge; no stripe reaches farther."""
    uniformity: Fraction = 0.1
    """Largest deviation of the pump's profile within it."""
    edge_scan_mm: Annotated[float, InUnit("mm", above=0, at_most=10, example="0.15 mm")] = Field(
        alias="edge_scan", default=0.15
    )
    """How far to either side of ``edge`` the scan looks for it."""
    near_edge_mm: PositionMm | None = Field(alias="near_edge", default=None)
    """Position of the near blade at the film's edge; None where there is no near blade."""
    near_out_mm: PositionMm | None = Field(alias="near_out", default=None)
    """Position of the near blade out of the beam."""

    @model_validator(mode="after")
    def _near_blade_is_whole(self) -> SlitConfig:
        if (self.near_edge_mm is None) != (self.near_out_mm is None):
            missing = "near_edge" if self.near_edge_mm is None else "near_out"
            raise Fault(f"no {missing}", "a near blade has both near_edge and near_out", key=(missing,))
        if self.near_edge_mm is not None and self.near_out_mm is not None and self.near_out_mm >= self.near_edge_mm:
            raise Fault("near_out beyond near_edge", "a position before near_edge", key=("near_out",))
        return self


@dataclass(frozen=True)
class ByPlace(Mapping[str, float]):
    """Positions of the sample stage in mm by the name of the place; cannot be changed."""

    _positions: Mapping[str, float]

    def __getitem__(self, place: str) -> float:
        return self._positions[place]

    def __iter__(self) -> Iterator[str]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)


def _frozen(positions: Mapping[str, float]) -> ByPlace:
    if SAMPLE_PLACE not in positions:
        raise Faults([Fault("no sample", 'the position of the sample, e.g. sample = "10 mm"', key=(SAMPLE_PLACE,))])
    return ByPlace(positions)


def _named(place: str) -> str:
    if re.fullmatch(_PLACE, place) is None:
        raise Fault(as_toml(place), "a letter, then at most 31 letters, digits, - or _")
    return place


PlaceName = Annotated[str, AfterValidator(_named), Field(json_schema_extra={"pattern": f"^{_PLACE}$"})]
Places = Annotated[
    Mapping[PlaceName, PositionMm],
    Field(max_length=200, description='positions of the sample stage by place, e.g. sample = "10 mm"'),
    AfterValidator(_frozen),
    PlainSerializer(dict),
]
"""What the sample stage brings into the beam: ``sample``, perhaps ``reference`` and ``dark``, and further samples."""


class LampConfig(Table):
    """The lamp that stresses the sample."""

    wavelength_nm: WavelengthNm = Field(alias="wavelength")
    irradiance_mw_cm2: Annotated[float, InUnit("mW/cm^2", above=0, at_most=1e6, example="75 mW/cm^2")] = Field(
        alias="irradiance"
    )
    """At the sample, at the brightness named here, warm."""
    irradiance_error_mw_cm2: Annotated[float, InUnit("mW/cm^2", at_least=0, at_most=1e6, example="2 mW/cm^2")] = Field(
        alias="irradiance_error", default=0.0
    )
    brightness_percent: Annotated[float, Field(gt=0, le=100, description="percent of the largest")] = Field(
        alias="brightness", default=100.0
    )
    meter_power_mw: Annotated[float, InUnit("mW", above=0, at_most=1e6, example="12 mW")] | None = Field(
        alias="meter_power", default=None
    )
    """What the lamp meter shows at that irradiance; without it the irradiance is taken to be constant."""
    warm_up_s: Annotated[float, InUnit("s", at_least=0, at_most=7200, example="10 min")] = Field(
        alias="warm_up", default=0.0
    )


class HeatingConfig(Table):
    """How the heating stage is used."""

    tolerance_k: Annotated[float, InUnit("K", above=0, at_most=20, example="0.5 K")] = Field(
        alias="tolerance", default=0.5
    )
    """Deviation from the set-point at which the temperature is reached."""
    settle_s: Annotated[float, InUnit("s", at_least=0, at_most=7200, example="60 s")] = Field(
        alias="settle_time", default=60.0
    )
    """How long it must stay within the tolerance."""
    timeout_s: Annotated[float, InUnit("s", at_least=1, at_most=86400, example="60 min")] = Field(
        alias="settle_timeout", default=3600.0
    )
    vacuum_below_mbar: Annotated[float, InUnit("mbar", above=0, at_most=1000, example="1e-3 mbar")] | None = Field(
        alias="vacuum_below", default=None
    )
    """Nothing is heated or cooled at a higher pressure; None where no vacuum is needed."""
    reading_every_s: Annotated[float, InUnit("s", at_least=0.5, at_most=600, example="5 s")] = Field(
        alias="reading_every", default=5.0
    )
