"""What a bench file says of its pump, as the bench layer wants it; nothing is opened."""

from __future__ import annotations

import math
from typing import TypeVar

from labctl.bench.attenuation import MalusLaw
from labctl.bench.limits import PumpLimits
from labctl.bench.pump_beam import reading_bound_s
from labctl.config.bench import BenchConfig
from labctl.config.registry import driver_entry
from labctl.errors import InputError

_LONGEST_READING_S = 30.0
_Section = TypeVar("_Section")


def section(section: _Section | None, name: str, config: BenchConfig) -> _Section:
    """Get a table of the bench file; raises InputError if the bench has none."""
    if section is None:
        raise InputError(f"the bench {config.name!r} has no [{name}]", where=config.file, todo=f"write a [{name}]")
    return section


def malus_law(config: BenchConfig) -> MalusLaw:
    """Get the attenuator's law from the calibration that the bench file names; raises InputError without one."""
    calibration = config.attenuator_calibration
    if calibration is None:
        raise InputError(
            f"the bench {config.name!r} has no calibration of the attenuator",
            where="calibrations.attenuator of the bench file",
            todo="run attenuator-calibration and name the file it writes",
        )
    return MalusLaw(
        minimum_j=calibration.transmission_min * calibration.full_energy_uj * 1e-6,
        maximum_j=calibration.transmission_max * calibration.full_energy_uj * 1e-6,
        theta0_deg=calibration.theta0_deg,
    )


def pump_limits(config: BenchConfig) -> PumpLimits:
    """Get the limits of the pump from the bench file; raises InputError if it has none."""
    limits = section(config.limits, "limits", config)
    return PumpLimits(
        # A bench with a pump states it: the reading of the file sees to that.
        math.inf if limits.fluence_uj_cm2 is None else limits.fluence_uj_cm2,
        None if limits.pulse_energy_uj is None else limits.pulse_energy_uj * 1e-6,
        limits.dose_per_spot_j_cm2,
        None if limits.average_power_mw is None else limits.average_power_mw * 1e-3,
        section(config.laser, "laser", config).repetition_rate_hz if limits.average_power_mw is not None else math.nan,
    )


def meter_reading_s(config: BenchConfig, pulses: int) -> float:
    """Get an upper bound of the time in s that a reading of the energy meter takes; raises InputError if it is long."""
    rate_hz = section(config.laser, "laser", config).repetition_rate_hz
    entry = config.instruments.get("energy_meter")
    pace = getattr(driver_entry("energy_meter", entry.driver).load(), "PACE", None) if entry else None
    bound_s = reading_bound_s(pulses, rate_hz, pace)
    if bound_s > _LONGEST_READING_S:
        raise InputError(
            f"a reading of {pulses} pulses may take {bound_s:.0f} s at {rate_hz:g} Hz, with light on all the time;"
            f" at most {_LONGEST_READING_S:g} s are sensible",
            where="parameter pulses",
            todo="average fewer pulses: the drift of the laser is not averaged away",
        )
    return bound_s
