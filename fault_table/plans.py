"""Which procedures have a fault table, and with which parameters: one line each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_FEW = {"averages": 2, "dark_frames": 1, "scatter_frames": 1, "pulses": 20, "exposure_max": "0.08 s"}


@dataclass(frozen=True)
class Plan:
    """A run whose transactions are spoilt.

    :param every: Parameters of a short run with all stages: every transaction gets every fault.
    :param stride: Take only every so-many-th transaction of the short run, and the first of each command and stage. For
        a run whose points are alike, if they begin at all remainders of it: then every transaction of a point has its
        turn in one of them.
    :param once: Parameters of a long run: of its transactions only those get faults whose command does not occur at
        the same stage of the short one; None for no such run.
    """

    every: Mapping[str, Any]
    once: Mapping[str, Any] | None = None
    stride: int = 1


PLANS = {
    "fluence-sweep": Plan({"coarse_points": 5, "fine_points": 0, "return_points": 1, **_FEW}, once={}),
    "attenuator-calibration": Plan({"points": 6, "pulses": 10}, once={}, stride=3),
}
