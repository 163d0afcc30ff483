"""Calibration curve of an attenuator made of a half-wave plate before a polariser.

The law of Malus (`labctl.analysis.half_wave_plate`),

    E(θ) = T0 + (T1 − T0) cos²[2 (θ − θ0)] = a + b cos 4θ + c sin 4θ,

which is linear in a, b, c: a = (T1 + T0) / 2, and b, c = (T1 − T0) / 2 times the cosine and the sine of 4 θ0. So the
fit needs no starting values and finds the one minimum. A retardance that is not exactly λ/2 only adds to T0.

Errors. σ² = σ_E² + (dE/dθ σ_θ)² + (s E)², taken at the fitted curve, not at the data, since that would favour what
came out low. s is the scatter that all points share beyond their own errors (slow drift of the laser above all); it is
chosen such that χ² equals the degrees of freedom, and is 0 if χ² is smaller without it. Intervals are those of
Student's t, because s comes from the residuals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from labctl.analysis.estimate import Estimate, data_hash
from labctl.analysis.half_wave_plate import PERIOD_DEG, transmitted

MODEL = "malus_half_wave_plate"
MIN_POINTS = 6
_MAX_CONDITION = 10.0
"""Angles spread evenly over half the period give 9: fewer leave minimum and maximum undetermined."""
_ROUNDS = 30
_SETTLED = 1e-9
_FLOOR = 1e-6
"""Least error of a point as a share of the highest energy, so that no point carries all the weight."""

Array = NDArray[np.float64]


class NoMalusFit(ValueError):
    """The data do not determine the curve; the text says why."""


@dataclass(frozen=True)
class MalusFit:
    """The law of Malus through measured energies.

    :param theta0: Angle of full transmission in deg, in [0, 90): the curve repeats every 90 deg.
    :param minimum: Energy at full extinction, J.
    :param maximum: Energy at full transmission, J.
    :param extinction: minimum / maximum.
    :param residual_rms: Root mean square of data minus curve, as a share of the maximum.
    :param scatter: Relative scatter s that the points share beyond their own errors.
    :param chi2: Sum of squared residuals over the errors of the points alone (s = 0), at the final curve.
    :param dof: Degrees of freedom.
    :param residual_j: Data minus curve, J, shape (points,).
    :param data_hash: Fingerprint of angles, energies and errors.
    """

    theta0: Estimate
    minimum: Estimate
    maximum: Estimate
    extinction: Estimate
    residual_rms: float
    scatter: float
    chi2: float
    dof: int
    residual_j: Array
    data_hash: str

    def energy_j(self, angle_deg: ArrayLike) -> Array:
        """Get the energy of the curve in J at angles in deg, of their shape."""
        return transmitted(angle_deg, self.minimum.value, self.maximum.value, self.theta0.value)

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the residuals, as JSON-serialisable data."""
        estimates = {name: getattr(self, name).as_dict() for name in ("theta0", "minimum", "maximum", "extinction")}
        numbers = {name: getattr(self, name) for name in ("residual_rms", "scatter", "chi2", "dof", "data_hash")}
        return {"model": MODEL, **estimates, **numbers}


def fit_malus(
    angle_deg: ArrayLike, energy_j: ArrayLike, energy_error_j: ArrayLike | None = None, *, angle_error_deg: float = 0.0
) -> MalusFit:
    """Fit the law of Malus of a half-wave plate.

    :param angle_deg: Angles of the plate as the mount reports them, deg, shape (points,), at least 6.
    :param energy_j: Energies at the meter, J, shape (points,).
    :param energy_error_j: Their standard errors, J, shape (points,) or one for all; None or 0 for errors that are a
        share of the energy, of a size that follows from the residuals.
    :param angle_error_deg: Standard error of an angle, deg.
    :raises NoMalusFit: too few points, angles that do not span the curve, or a curve without contrast.
    """
    angle = np.asarray(angle_deg, dtype=float).ravel()
    energy = np.asarray(energy_j, dtype=float).ravel()
    error = np.broadcast_to(np.asarray(0.0 if energy_error_j is None else energy_error_j, dtype=float), energy.shape)
    _check(angle, energy, error)
    turn = np.deg2rad(4.0 * angle)
    basis = np.column_stack([np.ones_like(turn), np.cos(turn), np.sin(turn)])
    if np.linalg.cond(basis) > _MAX_CONDITION:
        raise NoMalusFit("the angles do not span the curve: spread them evenly over 90 degrees")
    slope_basis = np.deg2rad(4.0) * np.column_stack([np.zeros_like(turn), -np.sin(turn), np.cos(turn)])
    floor = _FLOOR * float(np.max(np.abs(energy)))
    coefficients = np.linalg.lstsq(basis, energy, rcond=None)[0]
    scatter, variance = 0.0, np.ones_like(energy)
    for _ in range(_ROUNDS):
        curve = basis @ coefficients
        own = error**2 + (slope_basis @ coefficients * angle_error_deg) ** 2 + floor**2
        scatter = _scatter(energy - curve, own, curve, energy.size - 3)
        variance = own + (scatter * curve) ** 2
        before, coefficients = coefficients, _weighted(basis, energy, variance)
        if np.max(np.abs(coefficients - before)) < _SETTLED * np.max(np.abs(coefficients)):
            break
    return _describe(angle, energy, error, basis, coefficients, variance, scatter, own)


def _check(angle: Array, energy: Array, error: Array) -> None:
    if angle.shape != energy.shape:
        raise NoMalusFit(f"{angle.size} angles and {energy.size} energies")
    if angle.size < MIN_POINTS:
        raise NoMalusFit(f"{angle.size} points are too few; at least {MIN_POINTS} are needed")
    if not (np.isfinite(angle).all() and np.isfinite(energy).all() and np.isfinite(error).all()):
        raise NoMalusFit("an angle, an energy or an error is not a finite number")
    if (error < 0).any() or not energy.max() > 0:
        raise NoMalusFit("errors must not be negative, and some energy must be positive")


def _weighted(basis: Array, energy: Array, variance: Array) -> Array:
    root = 1.0 / np.sqrt(variance)
    return np.asarray(np.linalg.lstsq(basis * root[:, None], energy * root, rcond=None)[0], dtype=np.float64)


def _scatter(residual: Array, own: Array, curve: Array, dof: int) -> float:
    """Find s with sum(residual² / (own + s² curve²)) = dof; 0 if the own errors suffice."""

    def excess(s: float) -> float:
        return float(np.sum(residual**2 / (own + (s * curve) ** 2))) - dof

    if excess(0.0) <= 0.0:
        return 0.0
    # Points where the curve is nearly zero hardly feel s: beyond 1 the curve is no description of the data.
    return float(optimize.root_scalar(excess, bracket=(0.0, 1.0)).root) if excess(1.0) < 0.0 else 1.0


def _describe(
    angle: Array,
    energy: Array,
    error: Array,
    basis: Array,
    coefficients: Array,
    variance: Array,
    scatter: float,
    own: Array,
) -> MalusFit:
    middle, cosine, sine = (float(value) for value in coefficients)
    swing = math.hypot(cosine, sine)
    maximum, minimum = middle + swing, middle - swing
    covariance = np.linalg.inv(basis.T @ (basis / variance[:, None]))
    along = np.array([cosine, sine]) / swing if swing > 0 else np.zeros(2)
    gradients = {
        "maximum": np.array([1.0, *along]),
        "minimum": np.array([1.0, *-along]),
        "theta0": np.array([0.0, -sine, cosine]) / max(swing, 1e-300) ** 2 * math.degrees(0.25),
    }
    gradients["extinction"] = (gradients["minimum"] - minimum / maximum * gradients["maximum"]) / maximum
    sd = {name: math.sqrt(float(gradient @ covariance @ gradient)) for name, gradient in gradients.items()}
    if not maximum > 0 or 2 * swing < 5 * math.hypot(sd["maximum"], sd["minimum"]):
        raise NoMalusFit("the energy does not depend on the angle: is the polariser behind the plate?")
    dof = energy.size - 3
    residual = energy - basis @ coefficients
    # The remainder of a tiny negative angle rounds to the period itself; taken twice it is 0.
    theta0 = math.degrees(math.atan2(sine, cosine)) / 4.0 % PERIOD_DEG % PERIOD_DEG

    def estimate(value: float, name: str, unit: str) -> Estimate:
        inner, outer = (float(special.stdtrit(dof, 0.5 + share / 2)) * sd[name] for share in (0.6827, 0.95))
        return Estimate(value, unit, (value - inner, value + inner), (value - outer, value + outer))

    return MalusFit(
        theta0=estimate(theta0, "theta0", "deg"),
        minimum=estimate(minimum, "minimum", "J"),
        maximum=estimate(maximum, "maximum", "J"),
        extinction=estimate(minimum / maximum, "extinction", ""),
        residual_rms=float(np.sqrt(np.mean(residual**2))) / maximum,
        scatter=scatter,
        chi2=float(np.sum(residual**2 / own)),
        dof=dof,
        residual_j=residual,
        data_hash=data_hash(angle, energy, error),
    )
