"""The filters between sample and slit of the simulated laboratory: how much of each wavelength passes."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, model_validator

from labctl.sim.timeline import Timeline

_BETWEEN = 0
"""Position of a wheel that turns: no light passes."""
_HALF_DENSITY = np.log10(2.0)


class FilterCurve(BaseModel):
    """What a filter really passes.

    :param number: Its position, from 1. :param transmission: Where it passes.
    :param cut_on_nm: Half of that passes here, towards longer wavelengths; for the kinds that have one.
    :param cut_off_nm: The same towards shorter ones, for a band-pass.
    :param edge_nm: From half to blocked takes about so far. :param optical_density: Where it blocks; of a neutral
        density everywhere.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    number: Annotated[int, Field(ge=1, le=24)]
    kind: Literal["open", "long_pass", "order_sorting", "neutral_density", "band_pass", "blank"]
    transmission: Annotated[float, Field(gt=0, le=1)] = 1.0
    cut_on_nm: Annotated[float, Field(gt=0)] | None = None
    cut_off_nm: Annotated[float, Field(gt=0)] | None = None
    edge_nm: Annotated[float, Field(gt=0)] = 8.0
    optical_density: Annotated[float, Field(gt=0, le=12)] = 4.0

    @model_validator(mode="after")
    def _has_its_edges(self) -> FilterCurve:
        passes = self.kind in ("long_pass", "order_sorting", "band_pass")
        if passes != (self.cut_on_nm is not None):
            raise ValueError("a long-pass, order-sorting or band-pass filter has cut_on_nm, another has none")
        if (self.kind == "band_pass") != (self.cut_off_nm is not None):
            raise ValueError("a band-pass filter has cut_off_nm, another has none")
        return self

    def transmission_at(self, wavelength_nm: ArrayLike) -> np.ndarray:
        """Get the transmission at wavelengths in nm, of their shape.

        Beyond an edge the optical density rises evenly with the wavelength, up to that of the blocking.
        """
        nm = np.asarray(wavelength_nm, dtype=float)
        if self.kind == "blank":
            return np.zeros(nm.shape)
        density = np.zeros(nm.shape)
        if self.kind == "neutral_density":
            density += self.optical_density
        if self.cut_on_nm is not None:
            density += self._beyond(self.cut_on_nm - nm)
        if self.cut_off_nm is not None:
            density += self._beyond(nm - self.cut_off_nm)
        return self.transmission * 10.0**-density

    def _beyond(self, distance_nm: np.ndarray) -> np.ndarray:
        slope = self.optical_density / self.edge_nm
        return np.clip(_HALF_DENSITY + slope * distance_nm, 0.0, self.optical_density)


class FilterTruth(BaseModel):
    """The filters before the slit; a position that is not listed is open.

    :param initial_position: What is in the beam when the laboratory is switched on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    initial_position: Annotated[int, Field(ge=1, le=24)] = 1
    positions: Annotated[tuple[FilterCurve, ...], Field(strict=False)] = ()


class Filters:
    """A filter wheel, or a holder, as the light sees it."""

    def __init__(self, truth: FilterTruth) -> None:
        self._curves = {curve.number: curve for curve in truth.positions}
        self._position = Timeline(float(truth.initial_position))

    def set(self, t: float, position: int) -> None:
        """Have a position in the beam from laboratory time ``t`` on."""
        self._position.set(t, float(position))

    def move(self, t0: float, t1: float, position: int) -> None:
        """Turn from ``t0`` to ``t1``, s, to a position; meanwhile no light passes."""
        if t1 > t0:
            self._position.set(t0, float(_BETWEEN))
        self._position.set(t1, float(position))

    def position(self, t: float) -> int:
        """Get the position in the beam at ``t``; 0 while the wheel turns."""
        return round(self._position.at(t))

    def transmission(self, wavelength_nm: ArrayLike, t: float) -> np.ndarray:
        """Get the transmission at wavelengths in nm and at laboratory time ``t``, of the shape of the wavelengths."""
        position = self.position(t)
        if position == _BETWEEN:
            return np.zeros(np.shape(wavelength_nm))
        curve = self._curves.get(position)
        return np.ones(np.shape(wavelength_nm)) if curve is None else curve.transmission_at(wavelength_nm)
