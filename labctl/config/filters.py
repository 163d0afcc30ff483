"""The table ``[filter]``: what stands in which position of the filter wheel before the slit, and which is in use."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from labctl.config.fault import Fault, Faults, as_toml, unknown_name
from labctl.config.quantity import InUnit
from labctl.config.table import LongText, Table, WavelengthNm

NO_FILTER = "none"
"""Name of the filter in the rows of a bench without one."""
NAME_BYTES = 40
BLOCKING_OD = 3.0
"""Optical density from which a filter counts as blocking: a thousandth of a pump line is still a line."""
EDGE_SHARE = 0.02
"""From this share of the cut-on below it a long-pass blocks, if nobody says better; coloured glass is less steep."""

EdgeNm = Annotated[float, InUnit("nm", at_least=0, at_most=200, example="8 nm")]


def _edge_nm(given_nm: float | None, at_nm: float) -> float:
    return EDGE_SHARE * at_nm if given_nm is None else given_nm


class Position(Table):
    """What all positions have: where it is, and what the rows of a run call it."""

    number: Annotated[int, Field(ge=1, le=24, description="position as the wheel counts it, from 1")]
    name: Annotated[str, Field(min_length=1, max_length=NAME_BYTES, description="what the rows of a run call it")]
    description: LongText = ""

    @field_validator("name", mode="after")
    @classmethod
    def _fits_into_a_row(cls, name: str) -> str:
        if name == NO_FILTER:
            raise Fault(as_toml(name), 'any other name: "none" stands for a bench without filters')
        if len(name.encode()) > NAME_BYTES:
            raise Fault(as_toml(name), f"a name of at most {NAME_BYTES} bytes")
        return name

    @property
    def passes_light(self) -> bool:
        """Get whether any light passes."""
        return True

    @property
    def blocked_nm(self) -> tuple[tuple[float, float], ...]:
        """Get the ranges of wavelength, in nm, that are blocked by an optical density of at least 3."""
        return ()

    @property
    def passed_nm(self) -> tuple[float, float]:
        """Get the range of wavelength, in nm, between what the filter's cut-on and cut-off are quoted as."""
        return -math.inf, math.inf


class OpenPosition(Position):
    """A position without a filter."""

    kind: Literal["open"]

    @property
    def text(self) -> str:
        """Get what it is, in a few words."""
        return "open"


class EdgePosition(Position):
    """A filter that passes what is longer than its cut-on: a long-pass, or one made to sort orders."""

    kind: Literal["long_pass", "order_sorting"]
    cut_on_nm: WavelengthNm = Field(alias="cut_on")
    edge_nm: EdgeNm | None = Field(alias="edge", default=None)
    """From so far below the cut-on it blocks."""
    blocking: Annotated[float, Field(gt=0, le=12, description="optical density below the edge")] = 4.0

    @property
    def blocks_below_nm(self) -> float:
        """Get the wavelength in nm below which it blocks."""
        return self.cut_on_nm - _edge_nm(self.edge_nm, self.cut_on_nm)

    @property
    def blocked_nm(self) -> tuple[tuple[float, float], ...]:
        """Get the ranges of wavelength, in nm, that are blocked by an optical density of at least 3."""
        return ((0.0, self.blocks_below_nm),) if self.blocking >= BLOCKING_OD else ()

    @property
    def passed_nm(self) -> tuple[float, float]:
        """Get what lies above the cut-on."""
        return self.cut_on_nm, math.inf

    @property
    def text(self) -> str:
        """Get what it is, in a few words."""
        words = {"long_pass": "long-pass", "order_sorting": "order-sorting filter"}[self.kind]
        return f"{words}, cut-on {self.cut_on_nm:g} nm, OD {self.blocking:g} below {self.blocks_below_nm:g} nm"


class BandPassPosition(Position):
    """A filter that passes what lies between its cut-on and its cut-off."""

    kind: Literal["band_pass"]
    cut_on_nm: WavelengthNm = Field(alias="cut_on")
    cut_off_nm: WavelengthNm = Field(alias="cut_off")
    edge_nm: EdgeNm | None = Field(alias="edge", default=None)
    """From so far beyond cut-on and cut-off it blocks."""
    blocking: Annotated[float, Field(gt=0, le=12, description="optical density beyond the edges")] = 4.0

    @field_validator("cut_off_nm", mode="after")
    @classmethod
    def _above_the_cut_on(cls, cut_off_nm: float, info: ValidationInfo) -> float:
        cut_on_nm = info.data.get("cut_on_nm")
        if cut_on_nm is not None and cut_off_nm <= cut_on_nm:
            raise Fault(f"{cut_off_nm:g} nm", f"more than the cut-on of {cut_on_nm:g} nm")
        return cut_off_nm

    @property
    def blocked_nm(self) -> tuple[tuple[float, float], ...]:
        """Get the ranges of wavelength, in nm, that are blocked by an optical density of at least 3."""
        if self.blocking < BLOCKING_OD:
            return ()
        below_nm = self.cut_on_nm - _edge_nm(self.edge_nm, self.cut_on_nm)
        above_nm = self.cut_off_nm + _edge_nm(self.edge_nm, self.cut_off_nm)
        return (0.0, below_nm), (above_nm, math.inf)

    @property
    def passed_nm(self) -> tuple[float, float]:
        """Get what lies between cut-on and cut-off."""
        return self.cut_on_nm, self.cut_off_nm

    @property
    def text(self) -> str:
        """Get what it is, in a few words."""
        return f"band-pass, {self.cut_on_nm:g} to {self.cut_off_nm:g} nm, OD {self.blocking:g} beyond"


class NeutralDensityPosition(Position):
    """A filter that weakens all wavelengths alike."""

    kind: Literal["neutral_density"]
    optical_density: Annotated[float, Field(gt=0, le=12, description="T = 10^-OD")]

    @property
    def text(self) -> str:
        """Get what it is, in a few words."""
        return f"neutral density, OD {self.optical_density:g}"


class BlankPosition(Position):
    """A position that passes nothing."""

    kind: Literal["blank"]

    @property
    def passes_light(self) -> bool:
        """Get whether any light passes."""
        return False

    @property
    def text(self) -> str:
        """Get what it is, in a few words."""
        return "blank: no light passes"


AnyPosition = Annotated[
    OpenPosition | EdgePosition | BandPassPosition | NeutralDensityPosition | BlankPosition,
    Field(discriminator="kind", description="a table"),
]


class FilterConfig(Table):
    """The filters in the detection path, by position, and the one in use."""

    positions: Annotated[
        tuple[AnyPosition, ...],
        Field(strict=False, min_length=1, description="one table [[filter.positions]] for each position"),
    ]
    use: Annotated[str, Field(description="name of the position that runs use unless they say otherwise")]

    @field_validator("positions", mode="after")
    @classmethod
    def _each_once(cls, positions: tuple[AnyPosition, ...]) -> tuple[AnyPosition, ...]:
        faults: list[Fault] = []
        for index, position in enumerate(positions):
            before = positions[:index]
            if position.number in {other.number for other in before}:
                faults.append(Fault(str(position.number), "a number given once", key=(index, "number")))
            if position.name in {other.name for other in before}:
                faults.append(Fault(as_toml(position.name), "a name given once", key=(index, "name")))
        if faults:
            raise Faults(faults)
        return positions

    @field_validator("use", mode="after")
    @classmethod
    def _is_there(cls, use: str, info: ValidationInfo) -> str:
        positions = info.data.get("positions")
        if positions is not None and use not in {position.name for position in positions}:
            raise unknown_name("filter", use, [position.name for position in positions])
        return use

    @property
    def names(self) -> tuple[str, ...]:
        """Get the names in the order of the file."""
        return tuple(position.name for position in self.positions)

    def position(self, name: str) -> AnyPosition:
        """Get a position by its name; raises KeyError."""
        for position in self.positions:
            if position.name == name:
                return position
        raise KeyError(name)
