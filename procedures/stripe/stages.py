"""The stages of a stripe scan with their hard bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labctl.run.plan import Stage
from procedures.emission.light import MOVE_S, PointLight, point_s

_BLADE_S = 2.0
"""Expected time of a blade's move and its approach."""


def stripe_stage(
    name: str,
    settings: Sequence[Mapping[str, Any]],
    light: PointLight,
    longest_um: float,
    *,
    essential: bool = False,
) -> Stage:
    """Points of stripes, or of the far blade in the scan of the edge."""
    fluences = [entry["fluence_uj_cm2"] for entry in settings]
    bounds: dict[str, tuple[float, float]] = {
        "fluence_uj_cm2": (min(fluences), max(fluences)),
        "exposure_s": light.exposures_s,
    }
    if "length_um" in settings[0]:
        ends = [entry["length_um"] + entry["offset_um"] for entry in settings]
        bounds["stripe_end_um"] = (min(ends), min(max(ends), longest_um))
    else:
        bounds["slit_far.position_mm"] = (settings[0]["far_mm"], settings[-1]["far_mm"])
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
