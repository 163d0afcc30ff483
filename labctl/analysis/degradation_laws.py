"""Laws by which emission degrades, each 1 at clock 0. The clock may be time, dose, shots or thermal-equivalent time.

Photobrightening, a rise before the fall, has two forms: a saturating rise times a compressed exponential, and the
consecutive reactions dark -> bright -> dead of Osborne and Lee (ACS Nano 5, 8295, 2011).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Bounds = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Law:
    """One law. ``parameters`` are as reported; logarithms of the scales are what is fitted.

    :param shape: (clock [n], theta [..., k]) -> I [..., n] with I = 1 at clock 0.
    :param bounds: (shortest, longest clock) -> range of each element of theta.
    :param starts: share of each range at which searches begin. :param report: theta [k] -> the parameters.
    """

    name: str
    formula: str
    parameters: tuple[str, ...]
    on_clock: tuple[bool, ...]
    """Which parameters carry the unit of the clock; the others have none."""
    shape: Callable[[Array, Array], Array]
    bounds: Callable[[float, float], Bounds]
    starts: tuple[tuple[float, ...], ...]
    report: Callable[[Array], tuple[float, ...]]
    rises: bool = False
    """Whether the law can rise above its start."""

    def start_grid(self, limits: Bounds) -> Array:
        """Return every combination of start values, [m, k]."""
        axes = [
            [low + s * (high - low) for s in shares] for (low, high), shares in zip(limits, self.starts, strict=True)
        ]
        return np.array(list(product(*axes)), dtype=float).reshape(-1, len(limits))


def _scales(shortest: float, longest: float) -> tuple[float, float]:
    return float(np.log(0.1 * shortest)), float(np.log(300.0 * longest))


def _part(theta: Array, k: int) -> Array:
    return np.asarray(theta, dtype=float)[..., k, None]


def _constant(x: Array, theta: Array) -> Array:
    return np.ones((*np.shape(theta)[:-1], x.size))


def _exponential(x: Array, theta: Array) -> Array:
    return np.exp(-x * np.exp(-_part(theta, 0)))


def _floored(x: Array, theta: Array) -> Array:
    floor = _part(theta, 1)
    return floor + (1.0 - floor) * _exponential(x, theta)


def _down_to_floor(x: Array, theta: Array) -> Array:
    return np.maximum(_part(theta, 1), _exponential(x, theta))


def _power(x: Array, log_scale: Array, exponent: Array) -> Array:
    """Return (x/scale)^exponent, 0 at x = 0, without overflow."""
    with np.errstate(divide="ignore"):
        return np.exp(np.minimum(exponent * (np.log(x) - log_scale), 100.0))


def _stretched(x: Array, theta: Array) -> Array:
    return np.exp(-_power(x, _part(theta, 0), _part(theta, 1)))


def _bi_exponential(x: Array, theta: Array) -> Array:
    fast, ratio, share = _part(theta, 0), _part(theta, 1), _part(theta, 2)
    return share * np.exp(-x * np.exp(-fast)) + (1.0 - share) * np.exp(-x * np.exp(-fast - ratio))


def _rise_and_fall(x: Array, theta: Array) -> Array:
    gain, rise, ratio, exponent = (_part(theta, k) for k in range(4))
    return (1.0 - gain * np.expm1(-x * np.exp(-rise))) * np.exp(-_power(x, rise + ratio, exponent))


def _consecutive(x: Array, theta: Array) -> Array:
    dark, rise, ratio = (_part(theta, k) for k in range(3))
    k1, k2 = np.exp(-rise), np.exp(-rise - ratio)
    z = (k1 - k2) * x
    # (e^{-k2 x} - e^{-k1 x})/(k1 - k2), which has a limit where the two rates agree.
    mean = np.where(np.abs(z) < 1e-8, 1.0, -np.expm1(-z) / np.where(np.abs(z) < 1e-8, 1.0, z))
    return np.exp(-k2 * x) * (1.0 + dark * k1 * x * mean)


_TAU = (0.15, 0.3, 0.4, 0.5, 0.6, 0.75)
CONSTANT = Law("constant", "1", (), (), _constant, lambda a, b: (), (), lambda p: ())
EXPONENTIAL = Law(
    "exponential",
    "exp(-x/tau)",
    ("tau",),
    (True,),
    _exponential,
    lambda a, b: (_scales(a, b),),
    (tuple(np.linspace(0.05, 0.95, 19)),),
    lambda p: (float(np.exp(p[0])),),
)
FLOORED = Law(
    "exponential_floor",
    "c + (1 - c) exp(-x/tau)",
    ("tau", "c"),
    (True, False),
    _floored,
    lambda a, b: (_scales(a, b), (0.0, 0.98)),
    (tuple(np.linspace(0.1, 0.8, 12)), (0.03, 0.3, 0.6, 0.9)),
    lambda p: (float(np.exp(p[0])), float(p[1])),
)
DOWN_TO_FLOOR = Law(
    "exponential_down_to_floor",
    "max[c, exp(-x/tau)]",
    ("tau", "c"),
    (True, False),
    _down_to_floor,
    lambda a, b: (_scales(a, b), (0.0, 0.98)),
    (tuple(np.linspace(0.1, 0.8, 12)), (0.003, 0.03, 0.1, 0.3, 0.6, 0.9)),
    lambda p: (float(np.exp(p[0])), float(p[1])),
)
STRETCHED = Law(
    "stretched",
    "exp[-(x/tau)^b]",
    ("tau", "b"),
    (True, False),
    _stretched,
    lambda a, b: (_scales(a, b), (0.15, 4.0)),
    (tuple(np.linspace(0.15, 0.95, 14)), (0.06, 0.12, 0.2, 0.3, 0.6)),
    lambda p: (float(np.exp(p[0])), float(p[1])),
)
BI_EXPONENTIAL = Law(
    "bi_exponential",
    "a exp(-x/tau1) + (1 - a) exp(-x/tau2)",
    ("tau1", "tau2", "a"),
    (True, True, False),
    _bi_exponential,
    lambda a, b: (_scales(a, b), (float(np.log(1.5)), float(np.log(3e3))), (0.0, 1.0)),
    (_TAU, (0.1, 0.3, 0.5, 0.8), (0.1, 0.35, 0.65, 0.9)),
    lambda p: (float(np.exp(p[0])), float(np.exp(p[0] + p[1])), float(p[2])),
)
RISE_AND_FALL = Law(
    "rise_and_fall",
    "[1 + B (1 - exp(-x/x_b))] exp[-(x/x_d)^p]",
    ("B", "x_b", "x_d", "p"),
    (False, True, True, False),
    _rise_and_fall,
    lambda a, b: ((0.0, 2.0), _scales(a, b), (0.0, float(np.log(3e3))), (0.3, 5.0)),
    ((0.05, 0.12, 0.3), _TAU, (0.15, 0.3, 0.45, 0.6, 0.8), (0.1, 0.25, 0.45)),
    lambda p: (float(p[0]), float(np.exp(p[1])), float(np.exp(p[1] + p[2])), float(p[3])),
    rises=True,
)
CONSECUTIVE = Law(
    "consecutive",
    "exp(-k2 x) + r k1/(k1 - k2) [exp(-k2 x) - exp(-k1 x)]",
    ("r", "1/k1", "1/k2"),
    (False, True, True),
    _consecutive,
    lambda a, b: ((0.0, 5.0), _scales(a, b), (0.0, float(np.log(3e3)))),
    ((0.03, 0.1, 0.25), _TAU, (0.05, 0.15, 0.3, 0.5, 0.8)),
    lambda p: (float(p[0]), float(np.exp(p[1])), float(np.exp(p[1] + p[2]))),
    rises=True,
)
LAWS: tuple[Law, ...] = (
    CONSTANT,
    EXPONENTIAL,
    FLOORED,
    DOWN_TO_FLOOR,
    STRETCHED,
    BI_EXPONENTIAL,
    RISE_AND_FALL,
    CONSECUTIVE,
)
BY_NAME = {law.name: law for law in LAWS}
