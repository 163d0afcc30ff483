"""Emission line against temperature: thermal quench, shift and broadening.

I(T) = I0/[1 + C exp(-Ea/kT)]; E(T) = E0 - S hw [coth(hw/2kT) - 1] (O'Donnell and Chen, Appl. Phys. Lett. 58, 2924,
1991), which stays finite at low temperature where Varshni's formula has no physics; Gamma(T) = G0 + s T +
G_LO/[exp(E_LO/kT) - 1] (Rudin et al., Phys. Rev. B 42, 11218, 1990). The last two coefficients and E_LO trade against
each other: with twelve temperatures and 1 meV of error E_LO is known to 40 %. Fix it to the bulk value if there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from labctl.analysis.degradation_fit import CurveData, LawFit, fit_laws
from labctl.analysis.degradation_laws import Bounds, Law
from labctl.analysis.estimate import Estimate, data_hash
from labctl.analysis.stress_clock import BOLTZMANN_EV_K

Array = NDArray[np.float64]

_K_MEV = 1e3 * BOLTZMANN_EV_K
_PHONON_RANGE_MEV = (3.0, 150.0)
_LEVELS = (0.6827, 0.95)
_STRONG_CORRELATION = 0.85


def _quenched(kelvin: Array, theta: Array) -> Array:
    strength, log_energy = np.exp(theta[..., 0, None]), theta[..., 1, None]
    with np.errstate(divide="ignore"):
        return 1.0 / (1.0 + strength * np.exp(-np.exp(log_energy) / (_K_MEV * kelvin)))


def _quench_bounds(lowest: float, highest: float) -> Bounds:
    # An energy below kT of the coldest point, or above 20 kT of the hottest, does not show in the data.
    return (-9.0, 20.0), (float(np.log(0.5 * _K_MEV * lowest)), float(np.log(20.0 * _K_MEV * highest)))


QUENCH = Law(
    "thermal_quench",
    "1/[1 + C exp(-Ea/kT)]",
    ("C", "Ea"),
    (False, False),
    _quenched,
    _quench_bounds,
    (tuple(np.linspace(0.05, 0.95, 16)), tuple(np.linspace(0.3, 0.97, 12))),
    lambda p: (float(np.exp(p[0])), float(np.exp(p[1]))),
)


@dataclass(frozen=True)
class ThermalQuench:
    """Loss of emission between two temperatures, in percent of that at the lower, and the parameters (Ea in meV)."""

    percent: Estimate
    between_k: tuple[float, float]
    strength: Estimate
    activation_mev: Estimate
    chi2: float
    dof: int

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {
            "percent": self.percent.as_dict(),
            "between_k": list(self.between_k),
            "strength": self.strength.as_dict(),
            "activation_mev": self.activation_mev.as_dict(),
            "chi2": self.chi2,
            "dof": self.dof,
        }


@dataclass(frozen=True)
class LineCurve:
    """Peak energy or width against temperature: parameters by name, their correlations, chi2.

    ``phonon_fixed`` says that the phonon energy was given; it has then no interval. ``value(T)`` is the curve.
    """

    parameters: dict[str, Estimate]
    correlation: Array
    phonon_fixed: bool
    chi2: float
    dof: int
    value: Callable[[ArrayLike], Array]

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {
            "parameters": {name: e.as_dict() for name, e in self.parameters.items()},
            "correlation": [[float(v) for v in row] for row in self.correlation],
            "phonon_fixed": self.phonon_fixed,
            "chi2": self.chi2,
            "dof": self.dof,
        }


@dataclass(frozen=True)
class TemperatureSeries:
    """What a temperature series says; a part is None if its data were not given or do not reach."""

    quench: ThermalQuench | None
    energy: LineCurve | None
    width: LineCurve | None
    data_sha256: str
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {
            "quench": None if self.quench is None else self.quench.as_dict(),
            "energy": None if self.energy is None else self.energy.as_dict(),
            "width": None if self.width is None else self.width.as_dict(),
            "data_sha256": self.data_sha256,
            "warnings": list(self.warnings),
        }


def analyse_temperature_series(
    temperature_k: ArrayLike,
    *,
    intensity: ArrayLike | None = None,
    intensity_error: ArrayLike | None = None,
    intensity_covariance: ArrayLike | None = None,
    energy_ev: ArrayLike | None = None,
    energy_error_ev: ArrayLike | None = None,
    width_mev: ArrayLike | None = None,
    width_error_mev: ArrayLike | None = None,
    phonon_mev: float | None = None,
    quench_between_k: tuple[float, float] = (10.0, 300.0),
) -> TemperatureSeries:
    """Analyse a temperature series.

    :param temperature_k: [n], in order of measurement: a temperature that comes again is compared with the first time.
    :param intensity: [n], any unit, over the reference. Its errors [n], or a covariance [n, n] as `normalise` gives it
        for reads whose clock is the temperature; without, every point has the same relative error.
    :param energy_ev: [n] peaks; :param width_mev: [n] full widths at half maximum; nan where no line was found.
    :param phonon_mev: E_LO to be held; None to fit it.
    Raises ValueError for malformed input; too few temperatures for a part make it None with a warning.
    """
    kelvin = np.asarray(temperature_k, dtype=float)
    if kelvin.ndim != 1 or kelvin.size < 2 or not np.all(kelvin > 0):
        raise ValueError("temperature_k must be one-dimensional with values above zero")
    warnings: list[str] = []
    quench = None
    if intensity is not None:
        value = _like(kelvin, "intensity", intensity)
        covariance, known = _covariance(value, intensity_error, intensity_covariance)
        _compare_returns(kelvin, value, covariance, warnings)
        quench = _thermal_quench(kelvin, value, covariance, known, quench_between_k, warnings)
    energy = None
    if energy_ev is not None:
        energy = _line_curve(kelvin, energy_ev, energy_error_ev, ("E0", "S"), "eV", _energy_basis, None, warnings)
    width = None
    if width_mev is not None:
        width = _line_curve(
            kelvin, width_mev, width_error_mev, ("G0", "s", "G_LO"), "meV", _width_basis, phonon_mev, warnings
        )
    return TemperatureSeries(quench, energy, width, data_hash(kelvin, intensity, energy_ev, width_mev), tuple(warnings))


def _like(kelvin: Array, name: str, values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=float)
    if array.shape != kelvin.shape:
        raise ValueError(f"{name} must have shape {kelvin.shape} like temperature_k, got {array.shape}")
    return array


def _covariance(value: Array, error: ArrayLike | None, covariance: ArrayLike | None) -> tuple[Array, bool]:
    if covariance is not None:
        matrix = np.asarray(covariance, dtype=float)
        if matrix.shape != (value.size, value.size):
            raise ValueError(f"intensity_covariance must have shape {(value.size, value.size)}, got {matrix.shape}")
        return matrix, True
    if error is not None:
        sd = np.asarray(error, dtype=float)
        if sd.shape != value.shape or not np.all(sd > 0):
            raise ValueError("intensity_error must be above zero and as long as intensity")
        return np.diag(sd**2), True
    return np.diag((0.01 * np.abs(value)) ** 2), False


def _compare_returns(kelvin: Array, value: Array, covariance: Array, warnings: list[str]) -> None:
    """Warn if the emission at a temperature measured again is not what it was."""
    for later in range(1, kelvin.size):
        same = np.flatnonzero(np.abs(kelvin[:later] - kelvin[later]) < 2.0)
        if same.size == 0 or same[0] >= later - 1:
            continue
        k = int(same[0])
        change = float(value[later] / value[k] - 1.0)
        sd = np.sqrt(covariance[k, k] + covariance[later, later] - 2 * covariance[k, later]) / abs(value[k])
        if abs(change) > 3.0 * sd:
            warnings.append(
                f"the emission at {kelvin[later]:.0f} K is {100 * change:+.1f} % when measured again:"
                " the series is not reversible, and the loss counts as quench"
            )


def _thermal_quench(
    kelvin: Array, value: Array, covariance: Array, known: bool, between: tuple[float, float], warnings: list[str]
) -> ThermalQuench | None:
    good = np.isfinite(value)
    if np.unique(np.round(kelvin[good], 1)).size < 4:
        warnings.append("fewer than four temperatures with an intensity: no thermal quench")
        return None
    matrix = covariance[np.ix_(good, good)]
    white = np.asarray(np.linalg.inv(np.linalg.cholesky(matrix)), dtype=float)
    data = CurveData(kelvin[good], value[good], white, np.zeros(int(good.sum()), dtype=bool), known, 0)
    fit = fit_laws(data, (QUENCH,))[0]
    low, high = between
    reached = float(kelvin[good].min()), float(kelvin[good].max())
    if low < 0.5 * reached[0] or high > 1.05 * reached[1]:
        warnings.append(
            f"the quench is asked from {low:g} to {high:g} K, measured from {reached[0]:.1f} to {reached[1]:.1f} K"
        )
    parameters = fit.parameter_estimates()
    return ThermalQuench(
        _quench_percent(fit, low, high),
        between,
        parameters["C"],
        Estimate(parameters["Ea"].value, "meV", parameters["Ea"].ci68, parameters["Ea"].ci95),
        fit.chi2,
        fit.dof,
    )


def _quench_percent(fit: LawFit, low: float, high: float) -> Estimate:
    ends = np.array([low, high])

    def percent(theta: Array) -> float:
        cold, warm = _quenched(ends, theta)
        return 100.0 * float(1.0 - warm / cold)

    return fit.profiled(lambda x, theta: percent(theta) - x, percent(fit.theta), "%", (0.0, 100.0))


def _energy_basis(kelvin: Array, phonon_mev: float) -> Array:
    """Return the columns that E0 (eV) and S multiply, [n, 2]."""
    x = phonon_mev / (2.0 * _K_MEV * kelvin)
    return np.stack([np.ones(kelvin.size), -1e-3 * phonon_mev * (1.0 / np.tanh(x) - 1.0)], axis=1)


def _width_basis(kelvin: Array, phonon_mev: float) -> Array:
    """Return the columns that G0 (meV), s (meV/K) and G_LO (meV) multiply, [n, 3]."""
    occupation = 1.0 / np.expm1(np.minimum(phonon_mev / (_K_MEV * kelvin), 500.0))
    return np.stack([np.ones(kelvin.size), kelvin, occupation], axis=1)


def _line_curve(
    kelvin: Array,
    values: ArrayLike,
    errors: ArrayLike | None,
    names: tuple[str, ...],
    unit: str,
    basis: Callable[[Array, float], Array],
    fixed_mev: float | None,
    warnings: list[str],
) -> LineCurve | None:
    y = _like(kelvin, "line", values)
    sd = None if errors is None else _like(kelvin, "line error", errors)
    good = np.isfinite(y) if sd is None else np.isfinite(y) & np.isfinite(sd) & (sd > 0)
    free = len(names) + (fixed_mev is None)
    if np.unique(np.round(kelvin[good], 1)).size <= free:
        warnings.append(f"{free + 1} temperatures at least are needed for {', '.join(names)}: no curve of the line")
        return None
    x, target = kelvin[good], y[good]
    weight = np.ones(x.size) if sd is None else 1.0 / sd[good]

    def solved(phonon: float) -> tuple[Array, float]:
        columns = basis(x, phonon) * weight[:, None]
        found, *_ = np.linalg.lstsq(columns, target * weight, rcond=None)
        rest = target * weight - columns @ found
        return np.asarray(found, dtype=float), float(rest @ rest)

    phonon = fixed_mev if fixed_mev is not None else _best_phonon(lambda e: solved(e)[1])
    found, chi2 = solved(phonon)
    dof = int(x.size - free)
    scale = chi2 / dof if sd is None else max(chi2 / dof, 1.0)
    columns = basis(x, phonon)
    if fixed_mev is None:
        step = 1e-4 * phonon
        slope = (basis(x, phonon + step) - basis(x, phonon - step)) @ found / (2 * step)
        columns = np.concatenate([columns, slope[:, None]], axis=1)
    columns = columns * weight[:, None]
    covariance = np.linalg.pinv(columns.T @ columns, rcond=1e-14) * scale
    spread = np.sqrt(np.diag(covariance))
    units = dict(zip(names, (unit, "1") if len(names) == 2 else (unit, f"{unit}/K", unit), strict=True))
    parameters = {
        name: _wald(float(v), float(s), units[name], dof) for name, v, s in zip(names, found, spread, strict=False)
    }
    label = "hw" if len(names) == 2 else "E_LO"
    correlation = covariance / np.outer(spread, spread)
    if fixed_mev is None:
        rise = {level: float(student.ppf(0.5 + 0.5 * level, dof)) ** 2 * scale for level in _LEVELS}
        parameters[label] = _phonon_estimate(lambda e: solved(e)[1], phonon, chi2, rise)
        strongest = float(np.max(np.abs(correlation[-1, :-1])))
        if label == "E_LO" and strongest > _STRONG_CORRELATION:
            warnings.append(
                f"{label} and the coefficients of the width are correlated to"
                f" {strongest:.2f}: hold the phonon energy at its bulk value, or quote them together"
            )
    else:
        parameters[label] = Estimate(phonon, "meV", (phonon, phonon), (phonon, phonon))

    def curve(at: ArrayLike) -> Array:
        where = np.asarray(at, dtype=float)
        return (basis(where.ravel(), phonon) @ found).reshape(where.shape)

    return LineCurve(parameters, correlation, fixed_mev is not None, chi2, dof, curve)


def _best_phonon(chi2: Callable[[float], float]) -> float:
    grid = np.geomspace(*_PHONON_RANGE_MEV, 60)
    for _ in range(4):
        k = int(np.argmin([chi2(float(e)) for e in grid]))
        best = float(grid[k])
        grid = np.linspace(grid[max(k - 1, 0)], grid[min(k + 1, grid.size - 1)], 41)
    return best


def _phonon_estimate(chi2: Callable[[float], float], best: float, lowest: float, rise: dict[float, float]) -> Estimate:
    """Return the phonon energy with profile intervals; an end outside 3 to 150 meV becomes that bound."""
    ends: list[tuple[float, float]] = []
    for level in _LEVELS:
        pair = []
        for bound in _PHONON_RANGE_MEV:
            path = np.geomspace(best, bound, 300)
            height = np.array([chi2(float(e)) - lowest for e in path]) - rise[level]
            above = np.flatnonzero(height > 0)
            if above.size == 0:
                pair.append(bound)
                continue
            k = int(above[0])
            share = height[k - 1] / (height[k - 1] - height[k])
            pair.append(float(path[k - 1] + share * (path[k] - path[k - 1])))
        ends.append((pair[0], pair[1]))
    return Estimate(best, "meV", ends[0], ends[1])


def _wald(value: float, sd: float, unit: str, dof: int) -> Estimate:
    narrow, wide = (float(student.ppf(0.5 + 0.5 * level, dof)) * sd for level in _LEVELS)
    return Estimate(value, unit, (value - narrow, value + narrow), (value - wide, value + wide))
