"""What the spectra of a whole sweep say: the same for a film and for a cavity."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.analysis.estimate import Estimate
from labctl.analysis.linewidth import LineResult
from labctl.analysis.spectrum import PLShape
from labctl.analysis.sweep_line import SweepPoint


@dataclass(frozen=True)
class SpectralParts:
    """Points and lines of a sweep; None for what was not found. ``line`` is ASE, or the strongest mode of a cavity.

    ``split`` says whether the points are told apart into PL and the narrow line.
    """

    points: tuple[SweepPoint, ...]
    split: bool = False
    pl_shape: PLShape | None = None
    pl_peak: Estimate | None = None
    line: LineResult | None = None
    ase_shift: Estimate | None = None
    """Peak of the ASE minus peak of the PL, nm."""
    mode_spacing: Estimate | None = None
    modes_nm: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()
