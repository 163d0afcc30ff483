"""Upper bounds of the light in a point, the fluences that a bench can give, and the stage of the dark frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labctl.bench.bench_sections import malus_law, pump_limits
from labctl.config.bench import BenchConfig
from labctl.errors import InputError
from labctl.run.plan import Stage
from procedures.emission.exposure import ExposureLadder

Settings = tuple[Mapping[str, Any], ...]

MOVE_S = 1.5
"""Expected time to turn the attenuator and to work the shutter."""
_EXTINCTION_MARGIN = 1.5
"""Lowest energy that is asked for, in units of the calibrated minimum: nearer to it the angle means nothing."""
SHUTTER_S = 0.1
"""Time the shutter needs to open and to close at most: light may pass meanwhile."""
READOUT_S = 0.03
"""Time that passes between two exposures at most, with the light on."""
RETAKES = 3
"""Times that a spectrum is taken again at most, because its exposure is far off."""
_OVERLAPS = 2
"""Exposures of overlap in a point at most: with the point before and with the one after."""
_RETAKE_SHARE = 4 / 3
"""Retakes go one way in steps of four or more, so all exposures of a point sum to less than this times the longest."""


@dataclass(frozen=True)
class PointLight:
    """Upper bounds of the light in one point.

    :param meter_s: Time to read the energy meter, in s.
    :param open_s: Time with the shutter open, in s.
    :param repetition_rate_hz: Repetition rate of the laser.
    :param exposures_s: Shortest and longest exposure that may be set, in s.
    """

    meter_s: float
    open_s: float
    repetition_rate_hz: float
    exposures_s: tuple[float, float]

    @classmethod
    def of(cls, ladder: ExposureLadder, averages: int, meter_s: float, repetition_rate_hz: float) -> PointLight:
        """Get the bounds for a spectrum of ``averages`` exposures, its retakes, all with a reading, and overlaps."""
        exposures = averages * (1 + RETAKES) + _OVERLAPS
        spectra_s = ladder.longest_s * (averages * _RETAKE_SHARE + _OVERLAPS) + exposures * READOUT_S
        open_s = SHUTTER_S + (1 + RETAKES) * meter_s + spectra_s
        return cls(meter_s, open_s, repetition_rate_hz, (ladder.exposures_s[0], ladder.longest_s))

    def dose_j_cm2(self, fluences_uj_cm2: Sequence[float]) -> float:
        """Get the dose of one point at each fluence, in J/cm²."""
        return float(sum(fluences_uj_cm2)) * 1e-6 * self.open_s * self.repetition_rate_hz


def reach_uj_cm2(bench: BenchConfig) -> tuple[float, float]:
    """Get the lowest and highest fluence that attenuator and limits of a bench allow, in µJ/cm²."""
    law, limits = malus_law(bench), pump_limits(bench)
    if bench.pump is None:
        raise InputError(f"the bench {bench.name!r} has no [pump]", where=bench.file)
    geometry = bench.pump.geometry()
    scale = bench.pump.pick_off_ratio * 1e6 / geometry.area_cm2
    lowest = law.minimum_j * scale * _EXTINCTION_MARGIN
    return lowest, min(law.maximum_j * scale, limits.highest_fluence_uj_cm2(geometry))


def reach_refusals(fluences: Sequence[float], reach: tuple[float, float]) -> list[str]:
    """Get the reason against fluences that cannot be set, with the range of the bench; empty if all can be."""
    outside = [value for value in fluences if not reach[0] <= value <= reach[1]]
    if not outside:
        return []
    return [
        f"{len(outside)} of {len(fluences)} fluences cannot be set: {min(outside):.4g} to {max(outside):.4g} uJ/cm^2;"
        f" attenuator calibration and limits of the bench give {reach[0]:.4g} to {reach[1]:.4g} uJ/cm^2: choose other"
        " fluences or another expected-threshold, or change the neutral-density filter"
    ]


def dark_stage(ladder: ExposureLadder, frames: int) -> Stage:
    """Dark frames at every exposure of the ladder, shutter closed."""
    mean_s = sum(ladder.exposures_s) / len(ladder.exposures_s)
    settings = tuple({"exposure_s": exposure} for exposure in ladder.exposures_s)
    longest_s = frames * (ladder.longest_s + READOUT_S)
    bounds = {"exposure_s": (ladder.exposures_s[0], ladder.longest_s)}
    point_s = frames * mean_s
    return Stage("dark", "dark", len(settings), point_s, settings, bounds, longest_point_s=longest_s, essential=True)


def point_s(light: PointLight) -> float:
    """Expected duration of a point: most exposures are far shorter than the longest."""
    return MOVE_S + light.meter_s + light.open_s / 3
