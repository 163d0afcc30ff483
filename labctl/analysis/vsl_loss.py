"""Propagation loss from a loss run: a stripe of fixed length is moved away from the edge, and its light fades.

    I(d) = I0 exp(-alpha d) eta(d) + c

eta(d) is the collection efficiency. It is 1, or known from elsewhere, or 1/(1 + (d/x0)^2) with x0 free: the data choose
between them by BIC; a falling one is meant for a stripe shorter than x0. A scan of a shifted spot does not give eta by
itself, for its light has suffered the same loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special
from scipy.optimize import leastsq

from labctl.analysis.estimate import Estimate, data_hash
from labctl.analysis.vsl_amplification import Array
from labctl.analysis.vsl_gain import NoGain

CollectionModel = Literal["even", "given", "falling"]
MIN_DISTANCES = 5
_FIRST_RELATIVE_ERROR = 0.02
_BIC_MARGIN = 6.0
"""A falling collection must be clearly better: next to it the loss is known much less well."""
_X0_RANGE_CM = (1e-3, 3.0)


@dataclass(frozen=True)
class LossFit:
    """Loss of a film.

    :param loss: alpha, 1/cm. :param collection: Which eta; ``collection_um`` is its x0 if it fell, else None.
    :param bic: Of each model that was compared.
    """

    loss: Estimate
    collection: CollectionModel
    collection_um: float | None
    intensity: float
    offset: float
    relative_error: float
    chi2: float
    dof: int
    bic: dict[str, float]
    data_range_um: tuple[float, float]
    data_sha256: str
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {
            **self.loss.as_dict(),
            "collection": self.collection,
            "collection_um": self.collection_um,
            "intensity": self.intensity,
            "offset": self.offset,
            "relative_error": self.relative_error,
            "chi2": self.chi2,
            "dof": self.dof,
            "bic": dict(self.bic),
            "data_range_um": list(self.data_range_um),
            "data_sha256": self.data_sha256,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class _Run:
    """Distances (cm), light, eta where given, and errors, all [n]; prior of the offset; middle of the stripe, cm."""

    distance_cm: Array
    light: Array
    eta: Array
    error: Array
    offset: float
    offset_error: float
    middle_cm: float

    def curve(self, z: Array, falling: bool) -> Array:
        """Return the light for z = ln I0, alpha, and, as far as they are free, ln x0 and the offset's departure."""
        rest = list(z[2:])
        eta = self.eta
        if falling:
            x0 = np.exp(np.clip(rest.pop(0), *np.log(_X0_RANGE_CM)))
            eta = eta / (1.0 + ((self.distance_cm + self.middle_cm) / x0) ** 2)
        moved = self.offset_error * rest.pop(0) if rest else 0.0
        with np.errstate(over="ignore"):
            return np.exp(np.clip(z[0] - z[1] * self.distance_cm, -300.0, 300.0)) * eta + self.offset + moved


def fit_loss(
    distance_um: ArrayLike,
    intensity: ArrayLike,
    *,
    error: ArrayLike | None = None,
    relative_error: float | None = None,
    offset: float = 0.0,
    offset_error: float = 0.0,
    collection: ArrayLike | None = None,
    stripe_um: float = 0.0,
) -> LossFit:
    """Fit the propagation loss.

    :param distance_um: Distance of the near end of the stripe from the edge, µm, [n]; its zero does not matter where
        the collection is even. :param intensity: Light, [n]; ``error`` is the standard deviation of each by itself.
    :param relative_error: Scatter from point to point; estimated if None. :param offset: What is left without stripe.
    :param collection: eta at the distances, [n], if it is known; then no other is tried.
    :param stripe_um: Length of the stripe: a falling collection is that of its middle.

    Raises `NoGain` if fewer than five distances are usable, ValueError on malformed input.
    """
    distance, light = 1e-4 * np.asarray(distance_um, dtype=float), np.asarray(intensity, dtype=float)
    own = np.zeros_like(light) if error is None else np.asarray(error, dtype=float)
    eta = np.ones_like(light) if collection is None else np.asarray(collection, dtype=float)
    if distance.ndim != 1 or not distance.shape == light.shape == own.shape == eta.shape:
        raise ValueError(f"distances {distance.shape}, intensities {light.shape}, errors, collection: not equally long")
    use = np.isfinite(distance) & np.isfinite(light) & (eta > 0) & ((light > offset) | (own > 0))
    if np.unique(distance[use]).size < MIN_DISTANCES:
        raise NoGain(f"only {np.unique(distance[use]).size} usable distances; a loss needs at least {MIN_DISTANCES}")
    run = _Run(distance[use], light[use], eta[use], own[use], offset, offset_error, 0.5e-4 * stripe_um)
    tries = (False,) if collection is not None or run.light.size < 8 else (False, True)
    sigma, relative = _errors(run, relative_error, tries[-1])
    n = run.light.size
    found = {falling: _fit(run, sigma, falling) for falling in tries}
    scale = max(1.0, min(chi2 / max(n - 2 - falling, 1) for falling, (_, chi2, _) in found.items()))
    bic = {falling: chi2 / scale + (2 + falling) * float(np.log(n)) for falling, (_, chi2, _) in found.items()}
    falling = True in bic and bic[True] < bic[False] - _BIC_MARGIN
    z, chi2, covariance = found[falling]
    dof = max(n - 2 - falling, 1)
    sd = float(np.sqrt(covariance[1, 1]))
    alpha = float(z[1])
    reach = {q: float(special.stdtrit(dof, 0.5 + 0.5 * q)) * sd * float(np.sqrt(scale)) for q in (0.6827, 0.95)}
    names: dict[bool, CollectionModel] = {False: "even" if collection is None else "given", True: "falling"}
    fades = alpha * float(np.ptp(run.distance_cm))
    return LossFit(
        loss=Estimate(
            alpha, "1/cm", (alpha - reach[0.6827], alpha + reach[0.6827]), (alpha - reach[0.95], alpha + reach[0.95])
        ),
        collection=names[falling],
        collection_um=1e4 * float(np.exp(z[2])) if falling else None,
        intensity=float(np.exp(z[0])),
        offset=float(run.offset + (run.offset_error * z[-1] if run.offset_error > 0 else 0.0)),
        relative_error=relative,
        chi2=chi2,
        dof=dof,
        bic={names[key]: value for key, value in bic.items()},
        data_range_um=(1e4 * float(run.distance_cm.min()), 1e4 * float(run.distance_cm.max())),
        data_sha256=data_hash(distance, light, None if error is None else own, collection),
        warnings=(f"the light fades by only {fades:.2f} of an e-fold over the run: move further",)
        if fades < 0.5
        else (),
    )


def _fit(run: _Run, sigma: Array, falling: bool) -> tuple[Array, float, Array]:
    """Return parameters, chi2 and covariance of one model."""
    above = np.maximum(run.light - run.offset, 1e-3 * np.max(np.abs(run.light)))
    slope, level = np.polyfit(run.distance_cm, np.log(above / run.eta), 1, w=above / sigma)
    free_offset = run.offset_error > 0
    tries: list[tuple[Array, float, Array]] = []
    for x0 in (0.25, 0.5, 1.0, 2.0) if falling else (1.0,):
        start = [level, -slope]
        if falling:
            start = [level, -0.5 * slope, float(np.log(x0 * np.ptp(run.distance_cm)))]
        z0 = np.array([*start, 0.0] if free_offset else start)

        def residual(z: Array) -> Array:
            missed = (run.curve(z, falling) - run.light) / sigma
            return np.append(missed, z[-1]) if free_offset else missed

        out = leastsq(residual, z0, maxfev=400, full_output=True)
        z = np.asarray(out[0], dtype=float)
        missed = residual(z)
        covariance = np.full((z.size, z.size), np.inf) if out[1] is None else np.asarray(out[1])
        tries.append((z, float(missed @ missed), covariance))
    return min(tries, key=lambda found: found[1])


def _errors(run: _Run, given: float | None, falling: bool) -> tuple[Array, float]:
    relative = _FIRST_RELATIVE_ERROR if given is None else given
    level = np.abs(run.light - run.offset)
    floor = 1e-9 * float(np.max(np.abs(run.light)))
    sigma = np.maximum(np.hypot(run.error, relative * level), floor)
    for _ in range(2):
        z, _, _ = _fit(run, sigma, falling)
        level = np.abs(run.curve(z, falling) - run.offset)
        if given is None:
            dof = max(run.light.size - 2 - falling - (run.offset_error > 0), 1)
            missed = np.mean((run.curve(z, falling) - run.light) ** 2 / np.maximum(level, floor) ** 2)
            counted = np.mean((run.error / np.maximum(level, floor)) ** 2)
            relative = float(np.sqrt(max(missed * run.light.size / dof - counted, 1e-10)))
        sigma = np.maximum(np.hypot(run.error, relative * level), floor)
    return sigma, relative
