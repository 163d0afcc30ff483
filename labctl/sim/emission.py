"""What emits in the beam, sample or reference, and its spectrum averaged over pulses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from labctl.sim.degradation import SampleState
from labctl.sim.lines import split_gaussian
from labctl.sim.places import PlacesTruth
from labctl.sim.sample import Sample
from labctl.sim.slit import Stripe


class Emission(Protocol):
    """Something that emits."""

    @property
    def line_nm(self) -> float:
        """Get the peak of its spontaneous emission, nm."""
        ...

    def mean(self, wavelengths: np.ndarray, fluences: np.ndarray) -> np.ndarray:
        """Get its spectrum, photons per nm and pulse, shape (n,), as the mean over pulses of ``fluences``, uJ/cm2."""
        ...


@dataclass(frozen=True)
class SampleEmission:
    """A stripe of a sample in a state; ``cut`` says whether blades cut it."""

    sample: Sample
    stripe: Stripe
    state: SampleState
    cut: bool

    @property
    def line_nm(self) -> float:
        """Get the peak of its spontaneous emission, nm."""
        return self.sample.line_nm

    def mean(self, wavelengths: np.ndarray, fluences: np.ndarray) -> np.ndarray:
        """Average over pulses by three-point Gauss-Hermite quadrature with their mean and spread.

        The emission goes as a high power of the fluence, so its mean is not that of the mean pulse. Three points are
        exact up to the fifth power for a Gaussian spread, and cost as much as three pulses.
        """
        mean, spread = float(fluences.mean()), float(fluences.std())
        if not spread:
            return self._spectrum(wavelengths, mean)
        nodes = np.maximum(mean + np.sqrt(3.0) * spread * np.array([-1.0, 0.0, 1.0]), 0.0)
        return np.array([1.0, 4.0, 1.0]) / 6.0 @ self._spectrum(wavelengths, nodes)

    def _spectrum(self, wavelengths: np.ndarray, fluence: np.ndarray | float) -> np.ndarray:
        if self.cut:
            return self.sample.stripe_spectrum(wavelengths, fluence, self.stripe, self.state)
        return self.sample.emission_spectrum(wavelengths, fluence, self.stripe.length_mm, self.state)


@dataclass(frozen=True)
class ReferenceEmission:
    """A stripe of the reference: it neither fades nor saturates."""

    truth: PlacesTruth
    length_mm: float

    @property
    def line_nm(self) -> float:
        """Get the peak of its emission, nm."""
        return self.truth.reference_nm

    def mean(self, wavelengths: np.ndarray, fluences: np.ndarray) -> np.ndarray:
        """Get its spectrum, which goes with the fluence."""
        photons = self.truth.reference_photons * float(fluences.mean()) * 0.1 * self.length_mm
        return photons * split_gaussian(wavelengths, self.truth.reference_nm, self.truth.reference_fwhm_nm, 1.0)
