"""What grows with the length of a stripe: amplified light and late light, each as a curve of unit strength."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from labctl.analysis.vsl_amplification import Array, unit_emission


class StripeShapes(Protocol):
    """The two curves that a measured intensity is made of, besides a constant.

    ``zero_cm`` is the reading of the stripe length at which the stripe has none.
    """

    @property
    def length_cm(self) -> Array:
        """Get the lengths as read, cm, [n]."""
        ...

    def at(self, length_cm: Array) -> StripeShapes:
        """Return the same curves at other lengths, cm, [m]."""
        ...

    def amplified(self, gain_cm1: Array, depth: Array, zero_cm: float) -> Array:
        """Return the amplified light of unit spontaneous emission, [..., n], for gains and depths of shape [...]."""
        ...

    def late(self, zero_cm: float) -> Array:
        """Return the light of unit strength that is emitted after the gain has gone, [n]."""
        ...


@dataclass(frozen=True)
class EvenStripe:
    """A stripe pumped evenly and collected evenly: the closed form, and late light in proportion to the length."""

    length_cm: Array

    def at(self, length_cm: Array) -> EvenStripe:
        """Return the stripe at other lengths."""
        return EvenStripe(length_cm)

    def amplified(self, gain_cm1: Array, depth: Array, zero_cm: float) -> Array:
        """Return I/a of the saturable closed form."""
        return unit_emission(self.late(zero_cm), gain_cm1[..., None], depth[..., None])

    def late(self, zero_cm: float) -> Array:
        """Return the true length, cm; nothing is shorter than nothing."""
        return np.maximum(self.length_cm - zero_cm, 0.0)
