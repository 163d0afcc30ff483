"""What lies where on the carrier that the sample stage moves: samples, a reference, and dark places between them."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from labctl.sim.carriage import Carriage
from labctl.sim.truth_table import NotNegative, Positive, Truth

DARK = -1
REFERENCE = -2


class PlaceTruth(Truth):
    """A further piece of the same sample, with a spot of its own; where its middle comes into the beam, mm."""

    name: str
    position_mm: float


class PlacesTruth(Truth):
    """What the carrier holds; it acts once the sample stage has moved.

    :param sample_mm: Position of the stage at which the sample's middle is in the beam, mm. :param reference_mm: The
        same for the reference. :param width_mm: How wide each of them is, mm.
    :param reference_nm: Peak of the reference's emission, nm. :param reference_fwhm_nm: Its width, nm.
    :param reference_photons: Photons per pulse, per uJ/cm2 and per cm of stripe, in the unit of the sample's emission.
    :param samples: Further pieces of the sample.
    """

    sample_mm: float = 10.0
    reference_mm: float = 40.0
    width_mm: Positive = 4.0
    reference_nm: Annotated[float, Field(ge=100, le=20_000)] = 610.0
    reference_fwhm_nm: Annotated[float, Field(ge=0.01, le=2000)] = 30.0
    reference_photons: NotNegative = 0.06
    samples: Annotated[tuple[PlaceTruth, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _apart(self) -> PlacesTruth:
        positions = sorted([self.reference_mm, *self.samples_mm])
        if any(b - a < self.width_mm for a, b in pairwise(positions)):
            raise ValueError("samples and reference must lie at least width_mm apart")
        return self

    @property
    def samples_mm(self) -> tuple[float, ...]:
        """Get the positions of all samples, the one called ``sample_mm`` first, mm."""
        return (self.sample_mm, *(place.position_mm for place in self.samples))


class Places:
    """The carrier under the beam.

    :param truth: None for a carrier with nothing but one sample, as large as the way of the stage.
    """

    def __init__(self, truth: PlacesTruth | None) -> None:
        self.truth = truth
        self.names = ("sample",) if truth is None else ("sample", *(place.name for place in truth.samples))

    def at(self, carriage: Carriage | None, t: float) -> int:
        """Get what is in the beam at ``t``: the index of a sample, :data:`REFERENCE` or :data:`DARK`."""
        return int(self.sample(carriage, np.array([t]))[0])

    def sample(self, carriage: Carriage | None, t: np.ndarray) -> np.ndarray:
        """Get what is in the beam at many times."""
        if self.truth is None or carriage is None:
            return np.zeros(t.shape, dtype=int)
        position_mm = carriage.sample(t)
        found = np.full(t.shape, DARK)
        half_mm = 0.5 * self.truth.width_mm
        for index, middle_mm in enumerate(self.truth.samples_mm):
            found[np.abs(position_mm - middle_mm) <= half_mm] = index
        found[np.abs(position_mm - self.truth.reference_mm) <= half_mm] = REFERENCE
        # Before the stage has ever moved, the first sample is in the beam, wherever the stage says it stands.
        found[t < carriage.first_move_s] = 0
        return found
