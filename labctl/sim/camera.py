"""The simulated CCD camera: from light on the pixels to the numbers that are read out."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from labctl.sim.noise import KeyedNoise
from labctl.sim.truth import CameraTruth

_COSMIC_MEAN_E = 2000.0


class Camera:
    """A line of pixels with fixed pattern, dark current, cosmic rays, full well and read noise."""

    def __init__(self, truth: CameraTruth, noise: KeyedNoise) -> None:
        self.truth = truth
        self._noise = noise
        self._sensitivity = 1.0 + truth.prnu * noise.fixed("camera/prnu").standard_normal(truth.pixels)

    def dark_e_s(self, temperature_c: float) -> float:
        """Dark current of a pixel at a sensor temperature, electrons/s."""
        truth = self.truth
        return truth.dark_e_s * 2.0 ** ((temperature_c - truth.dark_reference_c) / truth.dark_doubling_k)

    def quantum_efficiency(self, wavelength_nm: ArrayLike) -> np.ndarray:
        """Photoelectrons per photon of a wavelength, nm (not of the place it falls on: orders overlap)."""
        offset = (
            np.asarray(wavelength_nm, dtype=float) - self.truth.efficiency_peak_nm
        ) / self.truth.efficiency_width_nm
        return self.truth.quantum_efficiency * np.exp(-(offset**2))

    def expected_electrons(self, electrons: np.ndarray) -> np.ndarray:
        """Mean photoelectrons per pixel, stray light and fixed pattern added to those of ideal optics and pixels."""
        truth = self.truth
        stray = truth.stray * electrons.sum() / truth.pixels
        return ((1.0 - truth.stray) * electrons + stray) * self._sensitivity

    def read_out(self, electrons: np.ndarray, exposure_s: float, temperature_c: float) -> np.ndarray:
        """Draw one frame.

        :param electrons: Mean photoelectrons per pixel of the whole exposure, shape (pixels,).
        :returns: ADU, int32, shape (pixels,); never above full scale.
        """
        truth = self.truth
        rng = self._noise.generator("camera")
        charge = rng.poisson(electrons + self.dark_e_s(temperature_c) * exposure_s).astype(float)
        self._add_cosmics(charge, exposure_s, rng)
        full_well = (truth.full_scale_adu - truth.offset_adu) * truth.gain_e_per_adu
        excess = np.maximum(charge - full_well, 0.0)
        charge[1:] += truth.bleed * excess[:-1]
        charge[:-1] += truth.bleed * excess[1:]
        charge += truth.read_noise_e * rng.standard_normal(truth.pixels)
        adu = truth.offset_adu + charge / truth.gain_e_per_adu
        return np.clip(np.rint(adu), 0.0, truth.full_scale_adu).astype(np.int32)

    def _add_cosmics(self, charge: np.ndarray, exposure_s: float, rng: np.random.Generator) -> None:
        for _ in range(rng.poisson(self.truth.cosmics_per_s * exposure_s)):
            first = int(rng.integers(self.truth.pixels))
            track = charge[first : first + int(rng.integers(1, 4))]
            track += rng.exponential(_COSMIC_MEAN_E)
