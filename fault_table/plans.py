"""Which procedures have a fault table, and with which parameters: one line each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_FEW_FRAMES = {"averages": 2, "dark_frames": 1, "pulses": 20, "exposure_max": "0.08 s"}
_FEW = {"scatter_frames": 1, **_FEW_FRAMES}


@dataclass(frozen=True)
class Plan:
    """A run whose transactions are spoilt.

    :param every: Parameters of a short run with all stages: every transaction gets every fault.
    :param stride: Take only every so-many-th transaction of the short run, and the first of each command and stage. For
        a run whose points are alike, if they begin at all remainders of it: then every transaction of a point has its
        turn in one of them.
    :param once: Parameters of a long run: of its transactions only those get faults whose command does not occur at
        the same stage of the short one; None for no such run.
    :param roles: Only these instruments have the first transaction of each command and stage spoilt, and are reset
        while another one is spoken to, because the others have a table with another procedure; all if empty. The stride
        goes over all instruments.
    :param bench: The simulated bench.
    """

    every: Mapping[str, Any]
    once: Mapping[str, Any] | None = None
    stride: int = 1
    roles: tuple[str, ...] = ()
    bench: str = "simulated"


PLANS = {
    "fluence-sweep": Plan({"coarse_points": 5, "fine_points": 0, "return_points": 1, **_FEW}, once={}),
    "attenuator-calibration": Plan({"points": 6, "pulses": 10}, once={}, stride=3),
    "vsl-scan": Plan(
        {"length_points": 20, "edge_points": 12, "bleach_points": 1, **_FEW_FRAMES},
        stride=97,
        roles=("slit_near", "slit_far", "slit_meter"),
        bench="simulated-gain",
    ),
    "thermal-stability": Plan(
        {
            "temperature": "32 degC",
            "times": "0, 3 min",
            "cycles": 1,
            "baseline_reads": 1,
            "after_reads": 1,
            **_FEW,
        },
        stride=61,
        roles=("heating_stage", "sample_stage"),
        bench="simulated-stability",
    ),
    "uv-stability": Plan(
        {"times": "1, 3 min", "cycles": 1, "baseline_reads": 1, "after_reads": 1, **_FEW},
        stride=61,
        roles=("lamp", "lamp_meter"),
        bench="simulated-stability",
    ),
}
