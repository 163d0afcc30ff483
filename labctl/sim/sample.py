"""The sample: one object that decides what every instrument of the simulated laboratory sees.

An ensemble of nanocrystals is described by its truth (:class:`labctl.sim.truth.SampleTruth`) and by its state.
Everything else is a pure function of the two, so that all instruments agree. This module holds the ensemble's
excitation, its gain and its emission from the edge of a pumped stripe; another view of the same sample (decay,
streak image, single dots) belongs into a module of its own that takes an :class:`EnsembleSample`.

Model, readings of it, and sources
----------------------------------
* Excitons per dot and pulse: N = kappa sigma F/(h nu); their numbers are Poisson-distributed. Multiexcitons decay
  during a pulse that is not much shorter than tau_xx: N is then what is there at a time, in the quasi-stationary form
  N (tau_xx/tau_p)(1 - exp(-tau_p/tau_xx)), and emission and gain of the pulse are those of that population.
* Emitted photons per dot and pulse: sum over n of P(at least n excitons) QY_n, with QY_1 = QY and, from radiative
  rates that go as n^2 and Auger rates that go as n^2 (n - 1), QY_n = (1-w)/((1-w) + w (n-1)) for n >= 2.
* Net modal gain: g = G b [y(N) - y0] S_g(lambda) - alpha, with y the inversion of a two-fold degenerate band edge,
  P(n >= 2) - P(n = 0), and b the active fraction.
* Edge emission of a stripe of length L, with a = spontaneous emission per nm and cm:
  (1 - eta_t) a L + eta_t ASE(a, g, I_s, L). Only the share eta_t that is emitted while the gain lives is amplified;
  counted like this the edge shows a L, neither more nor less, where g = 0.
* ASE is the closed form of dI/dz = g I/(1 + I/I_s) + a (one-dimensional, homogeneous, one direction), taken at each
  wavelength on its own (:func:`amplified_emission`).
* I_s, a constant of the sample, is what a stripe of the reference length would emit without saturation at the peak of
  the gain when g L = ``saturation_gl``.

Read like this, and with the band integrated over the whole emission line, the parameters of CdSe/CdS@ZnO give the
knee, the steepest point and the collapse of the line width at the fluences quoted for that set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from labctl.sim.truth import SampleTruth

_PLANCK_J_S = 6.62607015e-34
_LIGHT_M_S = 299792458.0
_MAX_EXCITONS = 400
_SHORT_PULSE = 1e-3
"""Share of the biexciton's lifetime below which nothing decays during a pulse."""
_GAUSS = 4.0 * np.log(2.0)


def inversion_biexciton(n: ArrayLike) -> np.ndarray:
    """Inversion y(N) = P(n >= 2) - P(n = 0) = 1 - exp(-N)(2 + N) of a two-fold degenerate band edge; -1 ... 1."""
    mean = np.asarray(n, dtype=float)
    return 1.0 - np.exp(-mean) * (2.0 + mean)


GAIN_LAWS: dict[str, Callable[[ArrayLike], np.ndarray]] = {"biexciton": inversion_biexciton}


@dataclass(frozen=True)
class SampleState:
    """What has happened to the illuminated spot.

    :param accumulated_fluence_uj_cm2: Peak fluence summed over all pulses so far, uJ/cm2.
    """

    accumulated_fluence_uj_cm2: float = 0.0


FRESH = SampleState()


class Sample(Protocol):
    """What the simulated laboratory asks of a sample, whatever it is made of."""

    @property
    def line_nm(self) -> float:
        """Get the peak of the spontaneous emission, nm."""
        ...

    def active_fraction(self, state: SampleState) -> float:
        """Get the fraction of the emitters that light has left intact, 0 to 1."""
        ...

    def emission_spectrum(
        self, wavelength_nm: ArrayLike, fluence_uj_cm2: ArrayLike, length_mm: float, state: SampleState = FRESH
    ) -> np.ndarray:
        """Get the light that leaves the sample towards the spectrograph, photons per nm and pulse.

        :param wavelength_nm: Wavelengths, nm, shape (n,).
        :param fluence_uj_cm2: Fluence as :mod:`labctl.sim.spot` states it, uJ/cm2, a number or shape (m,).
        :param length_mm: Length over which the pumped area amplifies, mm.
        :returns: Shape (n,) for one fluence, else (m, n).
        """
        ...


def active_fraction(damage_fluence_uj_cm2: float, state: SampleState) -> float:
    """Get what photodamage has left: exp(-D/F_dam), D the accumulated fluence; 1 for F_dam = 0, no damage."""
    if not damage_fluence_uj_cm2:
        return 1.0
    return float(np.exp(-state.accumulated_fluence_uj_cm2 / damage_fluence_uj_cm2))


def split_gaussian(wavelength_nm: ArrayLike, peak_nm: float, fwhm_nm: float, asymmetry: float) -> np.ndarray:
    """Get a line of area 1, per nm, that is a Gaussian of its own on either side of its peak.

    :param asymmetry: Ratio of the red to the blue half width.
    """
    blue = fwhm_nm / (1.0 + asymmetry)
    offset = np.asarray(wavelength_nm, dtype=float) - peak_nm
    width = np.where(offset < 0.0, 2.0 * blue, 2.0 * (fwhm_nm - blue))
    return np.exp(-_GAUSS * (offset / width) ** 2) / (fwhm_nm * np.sqrt(np.pi / _GAUSS))


def amplified_emission(a: ArrayLike, g: ArrayLike, saturation: float, length: float) -> np.ndarray:
    """Intensity at the end of a stripe: dI/dz = g I/(1 + I/I_s) + a for g > 0, no saturation for g <= 0.

    With b = g + a/I_s, k = a/(g I_s), X = b^2 L/g the solution is (a/b) expm1(X + k - omega(ln k + k + X)), omega the
    Wright omega function. Near g = 0 that is the difference of large numbers; there the small-signal form
    a expm1(g L)/g is used, with the saturation to first order in g L (error below 1e-6 for g L < 1e-3).

    :param a: Spontaneous emission per unit length.
    :param g: Net gain per unit length, either sign; broadcast against ``a``.
    :param saturation: Saturation intensity I_s, in the unit of the result.
    :param length: Stripe length, in the unit of 1/g.
    """
    spontaneous, gain = np.broadcast_arrays(np.asarray(a, dtype=float), np.asarray(g, dtype=float))
    product = gain * length
    # expm1(x)/x is 1 + x/2 to machine precision where the division fails.
    tiny = np.abs(product) < 1e-8
    safe = np.where(tiny, 1.0, product)
    small_signal = np.where(tiny, 1.0 + 0.5 * product, np.expm1(np.minimum(safe, 700.0)) / safe)
    result = np.asarray(spontaneous * length * small_signal)
    depth = spontaneous * length / saturation
    nearly_zero = (product > 0.0) & (product < 1e-3)
    if nearly_zero.any():
        r = depth[nearly_zero]
        series = r / 3.0 - r**2 / 4.0 + r**3 / 5.0
        exact = 0.5 - (r - np.log1p(r)) / np.where(r > 0.0, r, 1.0) ** 2
        first_order = np.where(r < 1e-2, series, exact)
        result[nearly_zero] -= spontaneous[nearly_zero] * length * product[nearly_zero] * first_order
    amplified = (product >= 1e-3) & (spontaneous > 0.0)
    if amplified.any():
        source, rate = spontaneous[amplified], gain[amplified]
        b = rate + source / saturation
        k = source / (rate * saturation)
        x = b * b * length / rate
        result[amplified] = source / b * np.expm1(x + k - special.wrightomega(np.log(k) + k + x))
    return result


class EnsembleSample:
    """A film or solution of nanocrystals.

    :param truth: Parameters of the model.
    :param pump_wavelength_nm: Wavelength of the pump, nm.
    :param pulse_duration_ns: Duration of its pulses, ns; 0 for pulses much shorter than any decay.

    ``lambda_ase_nm`` and ``fwhm_ase_nm`` of the truth are those of the ASE line *as it leaves the edge* of the
    reference stripe, at a pump of ``ase_line_pump`` times transparency. The gain spectrum S_g is a Gaussian, its centre
    and width solved for that; it is broader than the line, because amplification narrows, and its centre lies off
    the line's, because the spontaneous emission that is amplified has a slope there.
    The line is what the gain adds: the edge spectrum minus a L. Its width grows again when it saturates.
    """

    def __init__(self, truth: SampleTruth, pump_wavelength_nm: float = 400.0, pulse_duration_ns: float = 0.0) -> None:
        self.truth = truth
        self.pump_wavelength_nm = pump_wavelength_nm
        self.pulse_duration_ns = pulse_duration_ns
        self._inversion = GAIN_LAWS[truth.gain_law]
        order = np.arange(1, _MAX_EXCITONS + 1)
        w = truth.auger_share
        self._order = order
        self._order_yield = (1.0 - w) / np.maximum((1.0 - w) + w * (order - 1), 1e-300)
        self._order_yield[0] = truth.qy
        self._reference_cm = 0.1 * truth.reference_stripe_mm
        self._gain_centre_nm = truth.lambda_ase_nm or truth.lambda_pl_nm
        self._gain_fwhm_nm = truth.fwhm_ase_nm or truth.fwhm_pl_nm
        self._saturation = 1.0
        if truth.gain_cm1 > 0:
            self._saturation = self._saturation_intensity()
            self._solve_gain_spectrum()

    def excitons(self, fluence_uj_cm2: ArrayLike) -> np.ndarray:
        """Mean number of excitons per dot: N = kappa sigma F/(h nu), less what decays during a long pulse.

        :param fluence_uj_cm2: Peak fluence of the pulse, uJ/cm2.
        """
        photon_j = _PLANCK_J_S * _LIGHT_M_S / (self.pump_wavelength_nm * 1e-9)
        per_uj_cm2 = self.truth.kappa * self.truth.sigma_cm2 * 1e-6 / photon_j
        return per_uj_cm2 * self._there_at_a_time() * np.asarray(fluence_uj_cm2, dtype=float)

    def _there_at_a_time(self) -> float:
        """Share of the excitons made by a pulse that are there together, (tau/t)(1 - exp(-t/tau)); 1 if it is short."""
        lifetime_ns = self.truth.tau_xx_ns
        if lifetime_ns is None or self.pulse_duration_ns < _SHORT_PULSE * lifetime_ns:
            return 1.0
        ratio = self.pulse_duration_ns / lifetime_ns
        return float(-np.expm1(-ratio) / ratio)

    def fluence_for_excitons_uj_cm2(self, n: float) -> float:
        """Inverse of :meth:`excitons`, uJ/cm2."""
        return n / float(self.excitons(1.0))

    def populations(self, n: ArrayLike, highest: int = 20) -> np.ndarray:
        """Probabilities P_0 ... P_highest of 0 ... ``highest`` excitons at the mean ``n``, last axis the number."""
        mean = np.asarray(n, dtype=float)[..., None]
        number = np.arange(highest + 1)
        return np.exp(special.xlogy(number, mean) - mean - special.gammaln(number + 1.0))

    def emitted_photons(self, n: ArrayLike) -> np.ndarray:
        """Photons that a dot emits spontaneously after a pulse of ``n`` mean excitons, all cascades included."""
        mean = np.atleast_1d(np.asarray(n, dtype=float))
        # P(at least n) of a Poisson distribution is the regularised incomplete gamma function.
        used = min(_MAX_EXCITONS, int(np.max(mean) + 8.0 * np.sqrt(np.max(mean)) + 12))
        photons = special.gammainc(self._order[:used], mean[..., None]) @ self._order_yield[:used]
        return photons.reshape(np.shape(n))

    def active_fraction(self, state: SampleState) -> float:
        """Fraction b of the dots that still emit and amplify: exp(-D/F_dam), D the accumulated fluence."""
        return active_fraction(self.truth.damage_fluence_uj_cm2, state)

    def transparency_fluence_uj_cm2(self) -> float:
        """Fluence at which the net gain at the peak is zero: y = y0 + alpha/G. Infinite for a sample without gain."""
        if not self.truth.gain_cm1:
            return np.inf
        return self._fluence_at_gain(0.0)

    def pl_line(self, wavelength_nm: ArrayLike) -> np.ndarray:
        """Spontaneous line per nm, a split Gaussian of area 1."""
        return split_gaussian(wavelength_nm, self.truth.lambda_pl_nm, self.truth.fwhm_pl_nm, self.truth.asymmetry_pl)

    def modal_gain_cm1(self, wavelength_nm: ArrayLike, n: ArrayLike, state: SampleState = FRESH) -> np.ndarray:
        """Net modal gain, 1/cm; negative is loss.

        :param wavelength_nm: Wavelength, nm; broadcast against ``n``.
        :param n: Mean number of excitons per dot.
        """
        truth = self.truth
        inverted = self.active_fraction(state) * truth.gain_cm1 * (self._inversion(n) - truth.y0)
        return inverted * self._gain_line(wavelength_nm) - truth.alpha_cm1

    @property
    def line_nm(self) -> float:
        """Get the peak of the spontaneous emission, nm."""
        return self.truth.lambda_pl_nm

    def emission_spectrum(
        self, wavelength_nm: ArrayLike, fluence_uj_cm2: ArrayLike, length_mm: float, state: SampleState = FRESH
    ) -> np.ndarray:
        """Emission from the edge of the stripe, photons per nm and pulse.

        The unit counts per dot and cm of stripe: what falls on a detector is this times a constant of the set-up.

        :param wavelength_nm: Wavelengths, nm, shape (n,).
        :param fluence_uj_cm2: Peak fluence, uJ/cm2, a number or shape (m,).
        :param length_mm: Length of the stripe, mm.
        :returns: Shape (n,) for one fluence, else (m, n).
        """
        n = self.excitons(fluence_uj_cm2)[..., None]
        length_cm = 0.1 * length_mm
        spontaneous = self.active_fraction(state) * self.emitted_photons(n) * self.pl_line(wavelength_nm)
        if not self.truth.gain_cm1:
            return spontaneous * length_cm
        gain = self.modal_gain_cm1(wavelength_nm, n, state)
        ase = amplified_emission(spontaneous, gain, self._saturation, length_cm)
        return (1.0 - self.truth.eta_t) * spontaneous * length_cm + self.truth.eta_t * ase

    def _gain_line(self, wavelength_nm: ArrayLike) -> np.ndarray:
        offset = np.asarray(wavelength_nm, dtype=float) - self._gain_centre_nm
        return np.exp(-_GAUSS * (offset / self._gain_fwhm_nm) ** 2)

    def _fluence_at_gain(self, gain_cm1: float) -> float:
        """Fluence at which the peak gain of the fresh sample is ``gain_cm1``; that of y = 0.999 if it never is."""
        truth = self.truth
        wanted = min(truth.y0 + (gain_cm1 + truth.alpha_cm1) / truth.gain_cm1, 0.999)
        found = optimize.root_scalar(lambda mean: float(self._inversion(mean)) - wanted, bracket=(0.0, 100.0))
        return self.fluence_for_excitons_uj_cm2(float(found.root))

    def _saturation_intensity(self) -> float:
        n = self.excitons(self._fluence_at_gain(self.truth.saturation_gl / self._reference_cm))
        spontaneous = self.emitted_photons(n) * self.pl_line(self._gain_centre_nm)
        product = self.truth.saturation_gl
        return float(spontaneous * self._reference_cm * np.expm1(product) / product)

    def _solve_gain_spectrum(self) -> None:
        """Find centre and width of S_g that give the stated ASE line."""
        stated = np.array([self.truth.lambda_ase_nm, self.truth.fwhm_ase_nm], dtype=float)
        fluence = self.truth.ase_line_pump * self.transparency_fluence_uj_cm2()

        def miss(guess: np.ndarray) -> np.ndarray:
            self._gain_centre_nm, self._gain_fwhm_nm = float(guess[0]), abs(float(guess[1]))
            return np.array(self.ase_line(fluence)) - stated

        found = optimize.root(miss, stated * np.array([1.0, 2.0]), tol=1e-8)
        if not found.success:
            raise ArithmeticError(f"no gain spectrum gives the ASE line {stated} nm: {found.message}")
        miss(found.x)

    def ase_line(self, fluence_uj_cm2: float) -> tuple[float, float]:
        """Peak and full width at half maximum, nm, of what the gain adds to the spectrum of the reference stripe."""
        span_nm = 4.0 * self._gain_fwhm_nm
        grid = self._gain_centre_nm + np.linspace(-span_nm, span_nm, 2001)
        n = self.excitons(fluence_uj_cm2)
        spontaneous = self.emitted_photons(n) * self.pl_line(grid)
        ase = amplified_emission(spontaneous, self.modal_gain_cm1(grid, n), self._saturation, self._reference_cm)
        added = ase - spontaneous * self._reference_cm
        top = int(np.argmax(added))
        if not 0 < top < grid.size - 1 or not 0.0 < added[top] < np.inf or added[0] > 0.5 * added[top]:
            raise ArithmeticError(f"no line stands out around {self._gain_centre_nm:.4g} nm")
        a, b, _ = np.polyfit(grid[top - 1 : top + 2] - grid[top], added[top - 1 : top + 2], 2)
        half = 0.5 * added[top]
        above = np.flatnonzero(added > half)
        left, right = above[0], above[-1]
        blue = np.interp(half, added[left - 1 : left + 1], grid[left - 1 : left + 1])
        red = np.interp(half, added[right : right + 2][::-1], grid[right : right + 2][::-1])
        return float(grid[top] - 0.5 * b / a), float(red - blue)
