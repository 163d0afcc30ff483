"""Activation energy of degradation from its rate at several temperatures: k(T) = k0 exp(-Ea/kT)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from labctl.analysis.estimate import Estimate
from labctl.analysis.stress_clock import BOLTZMANN_EV_K

LEAST_TEMPERATURES = 3
_SPREAD_K = 0.5
"""Temperatures closer than this are one temperature."""


@dataclass(frozen=True)
class Arrhenius:
    """Activation energy and ln(k0), k0 in the unit of the rates; both None, with the reason, if the data give none."""

    activation_ev: Estimate | None
    ln_prefactor: Estimate | None
    temperatures: int
    chi2: float | None
    reason: str | None
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {
            "activation_ev": None if self.activation_ev is None else self.activation_ev.as_dict(),
            "ln_prefactor": None if self.ln_prefactor is None else self.ln_prefactor.as_dict(),
            "temperatures": self.temperatures,
            "chi2": self.chi2,
            "reason": self.reason,
            "warnings": list(self.warnings),
        }


def arrhenius(temperature_k: ArrayLike, rate: ArrayLike, rate_error: ArrayLike | None = None) -> Arrhenius:
    """Fit ln k against 1/kT.

    :param temperature_k: [n]. :param rate: [n] > 0, for instance 1/tau or 1/T80. :param rate_error: [n], standard
        deviations; without, all rates count alike and their scatter gives the error.
    Fewer than three temperatures give no activation energy: two points lie on any line. Errors are widened if the
    scatter asks for it, and intervals are Student's where the scatter alone gives them.
    """
    kelvin, k = np.asarray(temperature_k, dtype=float), np.asarray(rate, dtype=float)
    if kelvin.ndim != 1 or kelvin.shape != k.shape or not (np.all(kelvin > 0) and np.all(k > 0)):
        raise ValueError("temperature_k and rate must be one-dimensional, equally long, and above zero")
    error = None if rate_error is None else np.asarray(rate_error, dtype=float)
    if error is not None and (error.shape != k.shape or not np.all(error > 0)):
        raise ValueError("rate_error must be above zero and as long as rate")
    distinct = 1 + int(np.count_nonzero(np.diff(np.sort(kelvin)) > _SPREAD_K)) if kelvin.size else 0
    if distinct < LEAST_TEMPERATURES:
        why = (
            f"{distinct} temperature{'' if distinct == 1 else 's'}: an activation energy needs"
            f" {LEAST_TEMPERATURES} at least"
        )
        return Arrhenius(None, None, distinct, None, why)
    u = 1.0 / (BOLTZMANN_EV_K * kelvin)
    y = np.log(k)
    weight = np.ones(k.size) if error is None else k / error
    middle = float(np.average(u, weights=weight**2))
    basis = np.stack([np.ones(k.size), -(u - middle)], axis=1) * weight[:, None]
    covariance = np.linalg.inv(basis.T @ basis)
    level, activation = covariance @ (basis.T @ (y * weight))
    rest = y * weight - basis @ np.array([level, activation])
    dof = k.size - 2
    chi2 = float(rest @ rest)
    warnings: list[str] = []
    scale = chi2 / dof
    if error is not None:
        if scale > 4.0:
            warnings.append(f"the rates scatter about the line {np.sqrt(scale):.1f} times as much as their errors say")
        scale = max(scale, 1.0)
    covariance = covariance * scale
    known = error is not None and scale == 1.0
    activation_sd = float(np.sqrt(covariance[1, 1]))
    prefactor_sd = float(np.sqrt(covariance[0, 0] + middle**2 * covariance[1, 1]))
    return Arrhenius(
        _estimate(float(activation), activation_sd, "eV", 0 if known else dof),
        _estimate(float(level + activation * middle), prefactor_sd, "1", 0 if known else dof),
        distinct,
        chi2,
        None,
        tuple(warnings),
    )


def _estimate(value: float, sd: float, unit: str, dof: int) -> Estimate:
    if dof == 0:
        return Estimate.from_sd(value, sd, unit)
    narrow, wide = (float(student.ppf(0.5 + 0.5 * level, dof)) * sd for level in (0.6827, 0.95))
    return Estimate(value, unit, (value - narrow, value + narrow), (value - wide, value + wide))
