"""What every fit result carries: a value with its intervals, and the fingerprint of the data it came from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Estimate:
    """A value with unit, 68 % and 95 % confidence interval (lower, upper), all in ``unit``."""

    value: float
    unit: str
    ci68: tuple[float, float]
    ci95: tuple[float, float]

    @classmethod
    def from_sd(cls, value: float, sd: float, unit: str) -> Estimate:
        """Build the symmetric intervals of a normal estimate with standard deviation ``sd``."""
        return cls(
            float(value),
            unit,
            (float(value - sd), float(value + sd)),
            (float(value - 1.95996 * sd), float(value + 1.95996 * sd)),
        )

    @property
    def sd(self) -> float:
        """Get half the width of the 68 % interval."""
        return 0.5 * (self.ci68[1] - self.ci68[0])

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON: value, unit, ci68, ci95; a value that is not finite becomes None."""
        return {
            "value": finite_or_none(self.value),
            "unit": self.unit,
            "ci68": [finite_or_none(v) for v in self.ci68],
            "ci95": [finite_or_none(v) for v in self.ci95],
        }


def finite_or_none(value: float) -> float | None:
    """Return ``value`` as a plain float, or None if it is nan or infinite (neither is JSON)."""
    return float(value) if np.isfinite(value) else None


def data_hash(*arrays: ArrayLike | None) -> str:
    """Return the SHA-256 (hex) of the arrays, as little-endian doubles with their shapes; None counts as absent."""
    digest = hashlib.sha256()
    for array in arrays:
        if array is None:
            digest.update(b"none;")
            continue
        data: NDArray[np.float64] = np.ascontiguousarray(array, dtype="<f8")
        digest.update(f"{data.shape};".encode())
        digest.update(data.tobytes())
    return digest.hexdigest()
