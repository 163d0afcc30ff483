"""Generators of fluence sweeps: a soft knee with saturation, and the emission of a modelled ASE film."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import gammainc, wrightomega

PHOTON_J_400_NM = 4.9661e-19


def soft_knee(fluence, threshold=28.0, below=1.0, above=3.5, saturated=0.8, softness=0.15, distance=np.log(3.5)):
    """Intensity of a hinge in log-log axes; ``distance=None`` for no saturation."""
    u = np.log(np.asarray(fluence, dtype=float) / threshold)
    y = below * u + (above - below) * softness * np.logaddexp(0, u / softness)
    if distance is not None:
        y = y - (above - saturated) * softness * np.logaddexp(0, (u - distance) / softness)
    return np.exp(y)


class Film:
    """Edge emission of a stripe of CdSe/CdS@ZnO: Poisson excitons, biexciton gain, saturable ASE, late PL."""

    kappa, sigma_cm2 = 1.447, 2.6e-14
    gain_cm1, alpha_cm1, y0, share, length_cm = 134.0, 10.0, 0.05, 0.03, 0.1
    qy, auger = 0.85, 0.095

    def __init__(self, kappa_factor: float = 1.0) -> None:
        self.per_fluence = kappa_factor * self.kappa * self.sigma_cm2 * 1e-6 / PHOTON_J_400_NM
        self.wavelength_nm = np.linspace(575.0, 705.0, 512)
        self.pl = np.exp(-4 * np.log(2) * ((self.wavelength_nm - 641.0) / 28.4) ** 2)
        self.gain_line = np.exp(-4 * np.log(2) * ((self.wavelength_nm - 631.7) / 16.3) ** 2)
        n_saturation = np.interp(9.5 / self.length_cm, self._peak_gain(n := np.linspace(1.2, 8, 2000)), n)
        source = self._photons(n_saturation) * float(np.interp(631.7, self.wavelength_nm, self.pl))
        self.saturation = source * self.length_cm * np.expm1(9.5) / 9.5

    def _peak_gain(self, n):
        return self.gain_cm1 * (1 - np.exp(-n) * (2 + n) - self.y0) - self.alpha_cm1

    def _photons(self, n):
        order = np.arange(1, 60)
        yields = np.where(order == 1, self.qy, (1 - self.auger) / (1 - self.auger + self.auger * (order - 1)))
        return gammainc(order, np.asarray(n)[..., None]) @ yields

    def spectra(self, fluence):
        """Spectra [n, n_px] per pulse at the fluences [n], uJ/cm2."""
        n = np.atleast_1d(np.asarray(fluence, dtype=float)) * self.per_fluence
        a = self._photons(n)[:, None] * self.pl
        inversion = 1 - np.exp(-n) * (2 + n) - self.y0
        g = self.gain_cm1 * inversion[:, None] * self.gain_line - self.alpha_cm1
        length = self.length_cm
        up = np.where(g > 1e-3, g, 1.0)
        b, k = up + a / self.saturation, a / (up * self.saturation)
        x = b * b * length / up
        amplified = a / b * np.expm1(x + k - wrightomega(np.log(k) + k + x))
        down = np.where(g > 1e-3, -1.0, np.where(np.abs(g) < 1e-9, 1e-9, g))
        absorbed = a / down * np.expm1(down * length)
        return (1 - self.share) * a * length + self.share * np.where(g > 1e-3, amplified, absorbed)

    def intensity(self, fluence):
        """Band-integrated emission [n] at the fluences [n], uJ/cm2."""
        return self.spectra(fluence).sum(axis=1)


@dataclass
class Sweep:
    """One simulated sweep in the order of acquisition; fluence as read by the energy meter."""

    fluence: np.ndarray
    intensity: np.ndarray
    fluence_error: np.ndarray
    intensity_error: np.ndarray

    @property
    def errors(self) -> dict[str, np.ndarray]:
        return {"fluence_error": self.fluence_error, "intensity_error": self.intensity_error}


def noisy_sweep(source: Callable, fluence, seed, sigma_i=0.03, sigma_f=0.01, rng=None) -> Sweep:
    """Measure ``source`` (fluence -> intensity): the true fluence and the signal scatter."""
    rng = np.random.default_rng(seed) if rng is None else rng
    fluence = np.asarray(fluence, dtype=float)
    true = fluence * np.exp(rng.normal(0, sigma_f, fluence.size))
    intensity = source(true) * np.exp(rng.normal(0, sigma_i, fluence.size))
    return Sweep(fluence, intensity, sigma_f * fluence, sigma_i * intensity)


@pytest.fixture(scope="session")
def film() -> Film:
    return Film()


@pytest.fixture(scope="session")
def make_film() -> Callable[[float], Film]:
    return Film


@pytest.fixture(name="soft_knee", scope="session")
def soft_knee_fixture() -> Callable:
    return soft_knee


@pytest.fixture(name="noisy_sweep", scope="session")
def noisy_sweep_fixture() -> Callable[..., Sweep]:
    return noisy_sweep
