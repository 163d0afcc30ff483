"""Clocks by which a sample ages: light by its dose, heat by the time at a reference temperature that does the same.

Readings come from a log of irradiance or temperature at irregular times; between entries both are straight lines. A
clock asked for before the log begins reads 0; after its end the last entry holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

BOLTZMANN_EV_K = 8.617333262e-5
ZERO_CELSIUS_K = 273.15
HC_J_M = 1.98644586e-25
_PARTS = 24
"""Steps within one interval of a temperature log, across each of which ln(rate) counts as straight."""


@dataclass(frozen=True)
class EquivalentTime:
    """Time at the reference temperature, [n], in the unit of the log, and what one standard deviation of Ea adds."""

    value: Array
    per_activation_sd: Array

    @property
    def error(self) -> Array:
        """Get the standard deviations, [n]; those of one run go up and down together."""
        return np.abs(self.per_activation_sd)


def thermal_equivalent_time(
    at: ArrayLike,
    log_time: ArrayLike,
    log_temperature_c: ArrayLike,
    *,
    reference_c: float,
    activation_ev: float,
    activation_sd_ev: float = 0.0,
) -> EquivalentTime:
    """Return t_eq = integral of exp[-(Ea/k)(1/T - 1/T0)] dt from the start of the log to the times ``at``.

    :param at: [n], on the axis of the log. :param log_time: [m], ascending. :param log_temperature_c: [m].
    :param reference_c: T0, usually the set temperature of the stress. A ramp up costs less than the time it takes, an
    overshoot more: at 0.8 eV and 100 C one kelvin changes the rate by 7 %.
    """
    when, celsius = _log(log_time, log_temperature_c)
    if np.any(celsius <= -ZERO_CELSIUS_K) or reference_c <= -ZERO_CELSIUS_K:
        raise ValueError("a temperature is below absolute zero: the log must be in degrees Celsius")
    asked = np.asarray(at, dtype=float)
    steps = np.linspace(0.0, 1.0, _PARTS, endpoint=False)
    fine = np.append((when[:-1, None] + np.diff(when)[:, None] * steps).ravel(), when[-1])
    fine = np.unique(np.concatenate([fine, asked[(asked > when[0])].ravel()]))
    kelvin = np.interp(fine, when, celsius) + ZERO_CELSIUS_K
    distance = (1.0 / kelvin - 1.0 / (reference_c + ZERO_CELSIUS_K)) / BOLTZMANN_EV_K

    def elapsed(activation: float) -> Array:
        return np.interp(asked, fine, _exponential_integral(fine, -activation * distance))

    step = 1e-3
    slope = (elapsed(activation_ev + step) - elapsed(activation_ev - step)) / (2 * step)
    return EquivalentTime(elapsed(activation_ev), slope * activation_sd_ev)


def dose_j_cm2(at_s: ArrayLike, log_time_s: ArrayLike, log_irradiance_mw_cm2: ArrayLike) -> Array:
    """Return the dose D = integral of E dt up to the times ``at_s`` [n], J/cm2, from a log [m] of E in mW/cm2."""
    when, irradiance = _log(log_time_s, log_irradiance_mw_cm2)
    if np.any(irradiance < 0):
        raise ValueError("an irradiance in the log is below zero: check the meter's zero")
    asked = np.asarray(at_s, dtype=float)
    fine = np.unique(np.concatenate([when, asked[asked > when[0]].ravel()]))
    return np.interp(asked, fine, 1e-3 * _integral(fine, np.interp(fine, when, irradiance)))


def photons_per_cm2(dose: ArrayLike, wavelength_nm: float) -> Array:
    """Return the photons per cm2 in a dose [n] of J/cm2 at one wavelength; lamps compare by these."""
    if not wavelength_nm > 0:
        raise ValueError(f"wavelength_nm must be above zero, got {wavelength_nm}")
    return np.asarray(dose, dtype=float) * wavelength_nm * 1e-9 / HC_J_M


def _log(time: ArrayLike, value: ArrayLike) -> tuple[Array, Array]:
    when, what = np.asarray(time, dtype=float), np.asarray(value, dtype=float)
    good = np.isfinite(when) & np.isfinite(what) if when.shape == what.shape else np.zeros(0, dtype=bool)
    if when.ndim != 1 or when.shape != what.shape or np.count_nonzero(good) < 2 or np.any(np.diff(when[good]) < 0):
        raise ValueError("a log needs ascending times and as many values, two entries at least")
    return when[good], what[good]


def _integral(x: Array, y: Array) -> Array:
    return np.concatenate([[0.0], np.cumsum(0.5 * (y[1:] + y[:-1]) * np.diff(x))])


def _exponential_integral(x: Array, exponent: Array) -> Array:
    """Return the running integral of exp(exponent), the exponent being a straight line between its values."""
    change = np.diff(exponent)
    small = np.abs(change) < 1e-8
    mean = np.where(small, 1.0, np.expm1(change) / np.where(small, 1.0, change))
    return np.concatenate([[0.0], np.cumsum(np.exp(exponent[:-1]) * mean * np.diff(x))])
