"""The stages of a stripe scan with their hard bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labctl.config.surroundings import SlitConfig
from labctl.run.plan import Stage
from procedures.emission.light import MOVE_S, PointLight, point_s

_BLADE_S = 2.0
"""Expected time of a blade's move and its approach."""


def stripe_stage(
    name: str,
    settings: Sequence[Mapping[str, Any]],
    light: PointLight,
    slit: SlitConfig,
    *,
    essential: bool = False,
) -> Stage:
    """Points of stripes, or of the far blade in the scan of the edge."""
    fluences = [entry["fluence_uj_cm2"] for entry in settings]
    bounds: dict[str, tuple[float, float]] = {
        "fluence_uj_cm2": (min(fluences), max(fluences)),
        "exposure_s": light.exposures_s,
    }
    bounds |= _of_stripes(settings, slit) if "length_um" in settings[0] else _of_positions(settings)
    return Stage(
        name,
        "edge" if name == "edge" else "points",
        len(settings),
        point_s(light) + _BLADE_S,
        tuple(settings),
        bounds,
        light.dose_j_cm2(fluences),
        light.open_s * len(settings),
        MOVE_S + _BLADE_S + light.open_s,
        essential=essential,
    )


def _of_stripes(settings: Sequence[Mapping[str, Any]], slit: SlitConfig) -> dict[str, tuple[float, float]]:
    """Get the bounds of stripes: where they end, and where the blades go; the edge is where the scan finds it."""
    ends_um = [entry["length_um"] + entry["offset_um"] for entry in settings]
    begins_um = [entry["offset_um"] for entry in settings if entry["offset_um"] > 0]
    low_mm, high_mm = slit.edge_mm - slit.edge_scan_mm, slit.edge_mm + slit.edge_scan_mm
    bounds = {
        "stripe_end_um": (min(ends_um), max(ends_um)),
        "slit_far.position_mm": (low_mm + min(ends_um) * 1e-3, high_mm + max(ends_um) * 1e-3),
    }
    if slit.near_edge_mm is not None and slit.near_out_mm is not None:
        farthest_mm = slit.near_edge_mm + max(begins_um) * 1e-3 if begins_um else slit.near_out_mm
        bounds["slit_near.position_mm"] = (slit.near_out_mm, farthest_mm)
    return bounds


def _of_positions(settings: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    return {"slit_far.position_mm": (settings[0]["far_mm"], settings[-1]["far_mm"])}
