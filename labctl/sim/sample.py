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
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from labctl.sim.amplification import amplified_emission
from labctl.sim.degradation import FRESH, SampleState, Wearing, left_by_shots, line_nm, thermal_yield, wear
from labctl.sim.lines import split_gaussian
from labctl.sim.slit import Stripe
from labctl.sim.stripe import collected_amplified, collected_spontaneous, unevenly_pumped
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


class Sample(Protocol):
    """What the simulated laboratory asks of a sample, whatever it is made of."""

    @property
    def truth(self) -> Wearing:
        """Get how it wears."""
        ...

    @property
    def line_nm(self) -> float:
        """Get the peak of the spontaneous emission, nm."""
        ...

    def brightness(self, state: SampleState) -> float:
        """Get what all stresses have left of the emission at room temperature; 1 for a fresh sample."""
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

    def stripe_spectrum(
        self, wavelength_nm: ArrayLike, fluence_uj_cm2: ArrayLike, stripe: Stripe, state: SampleState = FRESH
    ) -> np.ndarray:
        """Get the same for a stripe that a slit cuts out of the pump."""
        ...


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

    def transparency_fluence_uj_cm2(self) -> float:
        """Fluence at which the net gain at the peak is zero: y = y0 + alpha/G. Infinite for a sample without gain."""
        if not self.truth.gain_cm1:
            return np.inf
        return self._fluence_at_gain(0.0)

    def pl_line(self, wavelength_nm: ArrayLike, state: SampleState = FRESH) -> np.ndarray:
        """Spontaneous line per nm, a split Gaussian of area 1."""
        peak_nm, fwhm_nm = line_nm(self.truth, self.truth.lambda_pl_nm, self.truth.fwhm_pl_nm, state)
        return split_gaussian(wavelength_nm, peak_nm, fwhm_nm, self.truth.asymmetry_pl)

    def active_fraction(self, state: SampleState) -> float:
        """Get the fraction of the emitters that all stresses have left for the gain, 0 to 1."""
        return min(1.0, wear(self.truth, state))

    def brightness(self, state: SampleState) -> float:
        """Get what all stresses have left of the emission at room temperature; UV light may brighten it."""
        return wear(self.truth, state) * left_by_shots(self.truth.shots, state)

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
        length_cm = 0.1 * length_mm
        spontaneous, gain = self._sources(wavelength_nm, fluence_uj_cm2, state)
        if gain is None:
            return self._seen(spontaneous * length_cm, wavelength_nm, fluence_uj_cm2, length_cm, state)
        ase = amplified_emission(spontaneous, gain, self._saturation, length_cm)
        light = (1.0 - self.truth.eta_t) * spontaneous * length_cm + self.truth.eta_t * ase
        return self._seen(light, wavelength_nm, fluence_uj_cm2, length_cm, state)

    def stripe_spectrum(
        self, wavelength_nm: ArrayLike, fluence_uj_cm2: ArrayLike, stripe: Stripe, state: SampleState = FRESH
    ) -> np.ndarray:
        """Emission from the edge of the film for a stripe that a slit cuts; see :meth:`emission_spectrum`.

        What comes from a stripe away from the edge is lost on its way as exp(-alpha d).
        """
        length_cm, begin_cm, x0_cm = 0.1 * stripe.length_mm, 0.1 * stripe.distance_mm, 0.1 * stripe.collection_length_mm
        passed = np.exp(-self.truth.alpha_cm1 * begin_cm)
        if stripe.profile is not None:
            light = self._unevenly_pumped(wavelength_nm, fluence_uj_cm2, stripe, state)
        elif np.isinf(x0_cm):
            return passed * self.emission_spectrum(wavelength_nm, fluence_uj_cm2, stripe.length_mm, state)
        else:
            spontaneous, gain = self._sources(wavelength_nm, fluence_uj_cm2, state)
            light = collected_spontaneous(spontaneous, begin_cm, length_cm, x0_cm)
            if gain is not None:
                ase = collected_amplified(spontaneous, gain, self._saturation, begin_cm, length_cm, x0_cm)
                light = (1.0 - self.truth.eta_t) * light + self.truth.eta_t * ase
        return passed * self._seen(light, wavelength_nm, fluence_uj_cm2, length_cm, state)

    def _sources(
        self, wavelength_nm: ArrayLike, fluence_uj_cm2: ArrayLike, state: SampleState
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Spontaneous emission, per nm and cm, and net gain, 1/cm; None for a sample without gain."""
        n = self.excitons(fluence_uj_cm2)[..., None]
        bright = wear(self.truth, state) * thermal_yield(self.truth.temperature, state.temperature_c)
        spontaneous = bright * self.emitted_photons(n) * self.pl_line(wavelength_nm, state)
        return spontaneous, self.modal_gain_cm1(wavelength_nm, n, state) if self.truth.gain_cm1 else None

    def _unevenly_pumped(
        self, wavelength_nm: ArrayLike, fluence_uj_cm2: ArrayLike, stripe: Stripe, state: SampleState
    ) -> np.ndarray:
        assert stripe.profile is not None  # noqa: S101
        fluence = np.asarray(fluence_uj_cm2, dtype=float)

        def light(pump: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            spontaneous, gain = self._sources(wavelength_nm, pump * fluence, state)
            return spontaneous, np.zeros_like(spontaneous) if gain is None else gain

        begin_cm, length_cm = 0.1 * stripe.distance_mm, 0.1 * stripe.length_mm
        profile = stripe.profile
        spontaneous, amplified = unevenly_pumped(
            light, lambda x_cm: profile(10.0 * x_cm), self._saturation, begin_cm, length_cm
        )
        return (1.0 - self.truth.eta_t) * spontaneous + self.truth.eta_t * amplified

    def _seen(
        self,
        light: np.ndarray,
        wavelength_nm: ArrayLike,
        fluence_uj_cm2: ArrayLike,
        length_cm: float,
        state: SampleState,
    ) -> np.ndarray:
        """What leaves the edge: with the second band, and as laser pulses have left it."""
        band = self.truth.second_band
        if self.truth.shots is not None:
            light = light * left_by_shots(self.truth.shots, state)
        if band is None:
            return light
        n = self.excitons(fluence_uj_cm2)[..., None]
        three_or_more = 1.0 - np.exp(-n) * (1.0 + n + 0.5 * n * n)
        photons = band.share * three_or_more * wear(self.truth, state) * left_by_shots(band.shots, state)
        return light + photons * length_cm * split_gaussian(wavelength_nm, band.lambda_nm, band.fwhm_nm, 1.0)

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
