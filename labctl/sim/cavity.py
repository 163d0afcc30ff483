"""A laser cavity with nanocrystals in it: a vertical cavity, or whispering-gallery modes of a fibre.

The modes follow the steady state of the rate equations dn/dt = P - n/tau - beta n p/tau and
dp/dt = -gamma p + beta n (p + 1)/tau: :func:`mode_photons` against the pump. What is emitted past the modes goes with
the pump and has the line of the PL.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, model_validator

from labctl.sim.degradation import (
    FRESH,
    HeatTruth,
    SampleState,
    ShotsTruth,
    TemperatureTruth,
    UVTruth,
    WaterTruth,
    left_by_shots,
    thermal_yield,
    wear,
)
from labctl.sim.lines import split_gaussian
from labctl.sim.slit import Stripe
from labctl.sim.truth_table import NotNegative, Positive, Positives, Truth

_LN2 = float(np.log(2.0))


class CavityTruth(Truth):
    """Parameters of a laser cavity.

    :param threshold_uj_cm2: Fluence at the threshold, as :mod:`labctl.sim.spot` states it, uJ/cm2.
    :param beta: Share of the spontaneous emission that goes into the modes; the output jumps by 1/beta at threshold.
        The laboratory averages over pulses with three nodes: too few for a beta below the variance of their energies.
    :param mode_photons: Photons in all modes, per pulse and per threshold that the pump lies above it; in the unit of
        :class:`labctl.sim.truth.CameraTruth`'s ``collection``.
    :param background: B, the photons past the modes at threshold, in units of ``mode_photons``; they go with the pump.
    :param modes_nm: Wavelengths of the modes, nm. :param mode_weights: Their shares, in any unit; even if left out.
    :param q: Quality factor: a mode is lambda/q wide at half maximum. :param mode_shape: Its line.
    :param lambda_pl_nm: Peak of the PL line, nm. :param fwhm_pl_nm: Its full width at half maximum, nm.
    :param asymmetry_pl: Ratio of the red to the blue half width of the PL line.
    :param damage_fluence_uj_cm2: As for an ensemble; what is left of the emitters is pumped in its stead.
    :param heat: :param uv: :param water: :param shots: :param temperature: As for an ensemble; the modes stay.
    """

    kind: Literal["cavity"]
    threshold_uj_cm2: Positive
    beta: Annotated[float, Field(gt=0, lt=1)]
    mode_photons: Positive
    background: NotNegative = 0.0
    modes_nm: Annotated[Positives, Field(min_length=1)]
    mode_weights: Positives = ()
    q: Positive
    mode_shape: Literal["gaussian", "lorentzian"] = "lorentzian"
    lambda_pl_nm: Positive
    fwhm_pl_nm: Positive
    asymmetry_pl: Positive = 1.0
    damage_fluence_uj_cm2: NotNegative = 0.0
    heat: HeatTruth | None = None
    uv: UVTruth | None = None
    water: WaterTruth | None = None
    shots: ShotsTruth | None = None
    temperature: TemperatureTruth | None = None

    @model_validator(mode="after")
    def _a_weight_for_each_mode(self) -> CavityTruth:
        if self.mode_weights and len(self.mode_weights) != len(self.modes_nm):
            raise ValueError("modes_nm and mode_weights must have the same length")
        return self


def mode_photons(pump: ArrayLike, beta: float) -> np.ndarray:
    """Get the mean photon number p of the mode at a pump r in units of the threshold.

    p = [(r - 1) + sqrt((r - 1)^2 + 4 beta r)]/(2 beta), below threshold in the form that does not cancel.
    """
    r = np.asarray(pump, dtype=float)
    root = np.sqrt((r - 1.0) ** 2 + 4.0 * beta * r)
    below = 2.0 * r / np.maximum(root - (r - 1.0), np.finfo(float).tiny)
    return np.where(r < 1.0, below, (r - 1.0 + root) / (2.0 * beta))


class CavitySample:
    """A sample that lases in the modes of a cavity; the pumped length plays no part."""

    def __init__(self, truth: CavityTruth) -> None:
        self.truth = truth
        weights = np.array(truth.mode_weights or [1.0] * len(truth.modes_nm))
        self._shares = weights / weights.sum()

    @property
    def line_nm(self) -> float:
        """Get the peak of the spontaneous emission, nm."""
        return self.truth.lambda_pl_nm

    def active_fraction(self, state: SampleState) -> float:
        """Get the fraction of the emitters that all stresses have left intact."""
        return wear(self.truth, state)

    def brightness(self, state: SampleState) -> float:
        """Get what all stresses have left of the emitters, and laser pulses of the light."""
        return wear(self.truth, state) * left_by_shots(self.truth.shots, state)

    def mode_spectrum(self, wavelength_nm: ArrayLike) -> np.ndarray:
        """Get the lines of all modes together, per nm, of area 1."""
        wavelength = np.asarray(wavelength_nm, dtype=float)
        lines = np.zeros_like(wavelength)
        for mode_nm, share in zip(self.truth.modes_nm, self._shares, strict=True):
            half_nm = 0.5 * mode_nm / self.truth.q
            offset = (wavelength - mode_nm) / half_nm
            if self.truth.mode_shape == "gaussian":
                lines += share * np.exp(-_LN2 * offset**2) * np.sqrt(_LN2 / np.pi) / half_nm
            else:
                lines += share / (np.pi * half_nm * (1.0 + offset**2))
        return lines

    def emission_spectrum(
        self, wavelength_nm: ArrayLike, fluence_uj_cm2: ArrayLike, length_mm: float, state: SampleState = FRESH
    ) -> np.ndarray:
        """Get what leaves the cavity and what passes it by; see :class:`labctl.sim.sample.Sample`."""
        truth = self.truth
        pump = self.active_fraction(state) * np.asarray(fluence_uj_cm2, dtype=float)[..., None] / truth.threshold_uj_cm2
        lasing = truth.beta * mode_photons(pump, truth.beta) * self.mode_spectrum(wavelength_nm)
        pl = split_gaussian(wavelength_nm, truth.lambda_pl_nm, truth.fwhm_pl_nm, truth.asymmetry_pl)
        light = truth.mode_photons * (lasing + truth.background * pump * pl)
        left = left_by_shots(truth.shots, state) * thermal_yield(truth.temperature, state.temperature_c)
        return light if left == 1.0 else light * left

    def stripe_spectrum(
        self, wavelength_nm: ArrayLike, fluence_uj_cm2: ArrayLike, stripe: Stripe, state: SampleState = FRESH
    ) -> np.ndarray:
        """Get the same: no slit cuts the pump of a cavity."""
        return self.emission_spectrum(wavelength_nm, fluence_uj_cm2, stripe.length_mm, state)
