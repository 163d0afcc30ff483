"""Propagation loss from a loss run: a stripe of fixed length is moved away from the edge, and its light fades.

    I(d) = I0 exp(-alpha d) eta(d) + c

eta(d) is the collection efficiency. It is 1, or known from elsewhere, or (1 + (d/x0)^2)^-m with x0 free; the data
choose between them by BIC. A falling one is meant for a stripe shorter than x0. A scan of a shifted spot does not give
eta by itself, for its light has suffered the same loss.

Loss and a falling collection can be told apart only because one falls exponentially and the other, far out, does not:
that rests on the form of eta. So m is not held at the 1 of a simple lens but has the prior 1 +- 0.25, which makes the
loss as uncertain as such a doubt about the form does, and the interval, a profile over alpha, takes in each model that
the data do not speak against.
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
from labctl.analysis.vsl_gain import NoGain, relative_scatter

CollectionModel = Literal["even", "given", "falling"]
MIN_DISTANCES = 5
_FIRST_RELATIVE_ERROR = 0.02
_BIC_MARGIN = 2.0
"""A falling collection must be better by this: next to it the loss is known much less well."""
_X0_RANGE_CM = (1e-3, 3.0)
_STEEPNESS = (1.0, 0.25)
"""Mean and standard deviation of the prior of m."""
_STATIONS = 60
_LEVELS = (0.6827, 0.95)


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
        """Return the light for z = ln I0, alpha, and, as far as they are free, ln x0, m, and the offset's departure.

        m and the departure are in units of their priors.
        """
        eta = self.eta
        if falling:
            x0 = np.exp(np.clip(z[2], *np.log(_X0_RANGE_CM)))
            m = max(_STEEPNESS[0] + _STEEPNESS[1] * z[3], 0.0)
            eta = eta * (1.0 + ((self.distance_cm + self.middle_cm) / x0) ** 2) ** -m
        moved = self.offset_error * z[-1] if self.offset_error > 0 else 0.0
        return np.exp(np.clip(z[0] - z[1] * self.distance_cm, -300.0, 300.0)) * eta + self.offset + moved

    def missed(self, z: Array, sigma: Array, falling: bool) -> Array:
        """Return what the curve misses in units of ``sigma``, and the departures from the priors."""
        priors = [float(z[3])] if falling else []
        if self.offset_error > 0:
            priors.append(float(z[-1]))
        return np.concatenate([(self.curve(z, falling) - self.light) / sigma, priors])


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
    scale = max(1.0, min(chi2 / max(n - 2 - 2 * falling, 1) for falling, (_, chi2) in found.items()))
    bic = {falling: chi2 / scale + (2 + falling) * float(np.log(n)) for falling, (_, chi2) in found.items()}
    falling = True in bic and bic[True] < bic[False] - _BIC_MARGIN
    z, chi2 = found[falling]
    dof = max(n - 2 - 2 * falling, 1)
    alpha = float(z[1])
    ends = {
        q: _interval(run, sigma, found, {model: scale * (rise - (bic[model] - min(bic.values()))) for model in bic})
        for q in _LEVELS
        for rise in (float(special.fdtri(1, dof, q)),)
    }
    names: dict[bool, CollectionModel] = {False: "even" if collection is None else "given", True: "falling"}
    fades = alpha * float(np.ptp(run.distance_cm))
    return LossFit(
        loss=Estimate(alpha, "cm^-1", *(_about(alpha, ends[q]) for q in _LEVELS)),
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


def _about(value: float, ends: tuple[float, float]) -> tuple[float, float]:
    return min(value, ends[0]), max(value, ends[1])


def _fit(run: _Run, sigma: Array, falling: bool) -> tuple[Array, float]:
    """Return parameters and chi2 of one model, priors included."""
    above = np.maximum(run.light - run.offset, 1e-3 * np.max(np.abs(run.light)))
    slope, level = np.polyfit(run.distance_cm, np.log(above / run.eta), 1, w=above / sigma)
    last = [0.0] if run.offset_error > 0 else []
    starts = [[level, -slope, *last]]
    if falling:
        span = float(np.ptp(run.distance_cm))
        starts = [
            [level, -0.5 * slope, float(np.log(share * span)), 0.0, *last] for share in (0.1, 0.25, 0.5, 1.0, 2.0)
        ]
    return min((_refit(run, sigma, falling, np.array(start), None) for start in starts), key=lambda fit: fit[1])


def _refit(run: _Run, sigma: Array, falling: bool, start: Array, held: float | None) -> tuple[Array, float]:
    """Minimise chi2 from ``start``, with the loss free or held at a value, 1/cm."""
    free = np.array([held is None or place != 1 for place in range(start.size)])

    def whole(part: Array) -> Array:
        z = np.array(start, dtype=float)
        z[free] = part
        if held is not None:
            z[1] = held
        return z

    out = leastsq(lambda part: run.missed(whole(part), sigma, falling), whole(start[free])[free], maxfev=400)
    z = whole(np.asarray(out[0], dtype=float))
    missed = run.missed(z, sigma, falling)
    return z, float(missed @ missed)


def _interval(
    run: _Run, sigma: Array, found: dict[bool, tuple[Array, float]], rises: dict[bool, float]
) -> tuple[float, float]:
    """Return the union of the losses at which a model's chi2 has risen by no more than its ``rises``."""
    ends: list[float] = []
    for falling, (best, lowest) in found.items():
        if rises[falling] <= 0.0:
            continue
        for direction in (-1.0, 1.0):
            ends.append(_end(run, sigma, falling, best, lowest + rises[falling], direction))
    return min(ends), max(ends)


def _end(run: _Run, sigma: Array, falling: bool, best: Array, ceiling: float, direction: float) -> float:
    """Walk from the best loss until chi2 reaches ``ceiling``; infinite if it never does."""
    step = 0.02 / float(np.ptp(run.distance_cm))
    z, before, alpha = best, 0.0, float(best[1])
    _, lowest = _refit(run, sigma, falling, best, alpha)
    for _ in range(_STATIONS):
        z, chi2 = _refit(run, sigma, falling, z, alpha + direction * step)
        height = float(np.sqrt(max(chi2 - lowest, 0.0) / max(ceiling - lowest, 1e-300)))
        if height >= 1.0:
            return alpha + direction * step * (1.0 - before) / (height - before)
        alpha += direction * step
        # About six steps to the end; the root of the rise is close to linear.
        step = float(np.clip(0.2 * step / max(height - before, 0.02), 0.5 * step, 2.0 * step))
        before = height
    return direction * float("inf")


def _errors(run: _Run, given: float | None, falling: bool) -> tuple[Array, float]:
    relative = _FIRST_RELATIVE_ERROR if given is None else given
    level = np.abs(run.light - run.offset)
    floor = 1e-9 * float(np.max(np.abs(run.light)))
    sigma = np.maximum(np.hypot(run.error, relative * level), floor)
    for _ in range(2):
        z, _ = _fit(run, sigma, falling)
        level = np.abs(run.curve(z, falling) - run.offset)
        if given is None:
            dof = max(run.light.size - 2 - 2 * falling - (run.offset_error > 0), 1)
            relative = relative_scatter(run.curve(z, falling) - run.light, run.error, level, dof)
        sigma = np.maximum(np.hypot(run.error, relative * level), floor)
    return sigma, relative
