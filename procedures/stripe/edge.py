"""The film's edge as the scan of the far blade shows it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labctl.analysis.vsl_edge import EdgeFit, find_edge
from labctl.config.surroundings import SlitConfig

_STANDARD_ERRORS_IN_CI95 = 2 * 1.96


@dataclass(frozen=True, slots=True)
class Edge:
    """Where the film's edge is.

    :param position_mm: Position of the far blade at which the stripe has no length.
    :param error_um: Its standard error.
    """

    position_mm: float
    error_um: float


class EdgeSearch:
    """Takes the points of a scan of the far blade and finds the edge in them."""

    def __init__(self) -> None:
        self._points: list[tuple[float, float, float]] = []

    def add(self, far_mm: float, intensity: float, error: float) -> None:
        """Take a point: position of the blade, emission over the band per pulse, its error."""
        self._points.append((far_mm, intensity, error))

    def find(self) -> Edge:
        """Find the edge; raises ValueError if the scan does not show one."""
        fit = fit_edge(*np.array(self._points).T) if self._points else None
        if fit is None:
            raise ValueError("nothing was scanned")
        low, high = fit.position.ci95
        return Edge(fit.position.value * 1e-3, (high - low) / _STANDARD_ERRORS_IN_CI95)


def fit_edge(far_mm: np.ndarray, intensity: np.ndarray, error: np.ndarray) -> EdgeFit:
    """Fit the edge to a scan, arrays of shape (positions,); the result is in µm of the blade's coordinate."""
    return find_edge(far_mm * 1e3, intensity, error=error)


def scan_positions_mm(slit: SlitConfig, points: int) -> list[float]:
    """Get the positions of the far blade in mm at which the edge is looked for, ascending."""
    low, high = slit.edge_mm - slit.edge_scan_mm, slit.edge_mm + slit.edge_scan_mm
    return [round(float(position), 5) for position in np.linspace(low, high, points)]
