"""Preflight: everything that can be known before the laser is on, held against what the bench allows.

What is checked are the hard bounds of the plan. What the run will likely take is said by :mod:`labctl.run.forecast`.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from labctl.bench.bench import needs_laboratory
from labctl.bench.bench_sections import pump_limits
from labctl.bench.spectral_window import SpectralWindow, check_window
from labctl.clock import VirtualClock
from labctl.config.sample import SampleConfig
from labctl.errors import InputError, LabctlError
from labctl.folders import free_mb
from labctl.run.light import EarlierLight, earlier_light
from labctl.run.plan import Plan
from labctl.run.request import PreparedRun
from labctl.run.set_quantities import SetQuantity, set_quantities
from labctl.transport.opening import open_laboratory
from labctl.transport.session import Session

_FILES_FACTOR = 3
"""Journal, sealed file and what is analysed stand beside each other for a moment."""
_FIXED_MB = 16.0
"""What a run takes beside its points: the log of its journal (8 MB at most), its header, figure and page."""

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class CalibrationAge:
    """A calibration that the run relies on.

    :param name: What it calibrates.
    :param age_days: Its age; negative if it is dated in the future.
    :param max_age_days: What the bench file allows; None if it does not say.
    :param counts: Whether the age counts: emulators do not age, and a calibration is not needed to make it anew.
    """

    name: str
    file: str
    date: str
    age_days: int
    max_age_days: float | None
    counts: bool

    def as_dict(self) -> dict[str, Any]:
        """The calibration as JSON-serialisable data."""
        return {
            "calibration": self.name,
            "file": self.file,
            "date": self.date,
            "age_days": self.age_days,
            "max_age_days": self.max_age_days,
            "age_counts": self.counts,
        }


@dataclass(frozen=True)
class Preflight:
    """What was found.

    :param plan: The plan that was checked; without stages if the run cannot be planned at all.
    :param refusals: Reasons not to start, all at once.
    :param warnings: What the experimenter should know.
    :param disk_free_mb: Free space where the run will be written, in MB.
    :param disk_need_mb: Space the run may need at most, in MB.
    :param spot_dose_j_cm2: Dose that the spot has received in earlier runs, in J/cm².
    :param window: Wavelengths that are looked at, as far as known, and the filter; None where no spectra are taken.
    :param disk_reserve_mb: Space that is to stay free, in MB.
    :param dose_limit_j_cm2: Dose that the bench allows a spot, in J/cm²; None where there is no such limit.
    :param quantities: What the plan sets, beside the limits that hold for it.
    :param calibrations: The calibrations that the run relies on.
    """

    plan: Plan
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]
    disk_free_mb: float
    disk_need_mb: float
    spot_dose_j_cm2: float
    window: SpectralWindow | None = None
    disk_reserve_mb: float = 0.0
    dose_limit_j_cm2: float | None = None
    quantities: tuple[SetQuantity, ...] = ()
    calibrations: tuple[CalibrationAge, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The preflight as JSON-serialisable data."""
        return {
            "plan": self.plan.as_dict(),
            "refusals": list(self.refusals),
            "warnings": list(self.warnings),
            "disk_free_mb": self.disk_free_mb,
            "disk_need_mb": self.disk_need_mb,
            "disk_reserve_mb": self.disk_reserve_mb,
            "spot_dose_j_cm2": self.spot_dose_j_cm2,
            "dose_limit_j_cm2": self.dose_limit_j_cm2,
            "quantities": [quantity.as_dict() for quantity in self.quantities],
            "calibrations": [calibration.as_dict() for calibration in self.calibrations],
            "spectral_window": self.window.as_dict() if self.window is not None else None,
        }


def preflight(prepared: PreparedRun) -> Preflight:
    """Plan the run and check it against limits, dose, window, disk and calibrations; opens no instrument.

    A simulated laboratory is built once, so that a fault in its tables is found here.

    :raises LabctlError: The run cannot be planned, and there is no other reason against it.
    """
    errors: list[LabctlError] = []

    def collect(step: Callable[[], _Found], otherwise: _Found) -> _Found:
        try:
            return step()
        except LabctlError as error:
            errors.append(error)
            return otherwise

    collect(lambda: _check_laboratory(prepared), None)
    planned = collect(prepared.plan, None)
    checked = planned if planned is not None else Plan(())
    refusals, warnings = list(checked.refusals), list(checked.warnings)
    window = None
    if planned is not None:
        window = collect(lambda: prepared.procedure.spectral_window(prepared.bench), None)
    if window is not None:
        found = check_window(window, prepared.bench)
        refusals += found.refusals
        warnings += found.warnings
    quantities = set_quantities(checked, prepared.bench, prepared.procedure.roles_on(prepared.bench))
    refusals += _beyond_limits(quantities)
    before = collect(lambda: earlier_light(prepared), EarlierLight(0.0))
    refusals += _beyond_dose(prepared, checked, before)
    need_mb = points_mb(prepared, checked.max_points) + _FIXED_MB
    left_mb, reserve_mb = free_mb(Path(prepared.request.out)), _reserve_mb(prepared)
    if left_mb < need_mb + reserve_mb:
        refusals.append(
            f"the disk has {left_mb:.0f} MB free; the run may need {need_mb:.0f} MB and {reserve_mb:.0f} MB are to"
            " stay free (limits.disk_reserve)"
        )
    if _needs_calibrated_attenuator(prepared):
        refusals += [str(stale) for stale in prepared.bench.stale_calibrations(datetime.date.today())]
    if len(errors) == 1 and not refusals:
        raise errors[0]
    return Preflight(
        plan=checked,
        refusals=(*(str(error) for error in errors), *refusals),
        warnings=tuple(warnings),
        disk_free_mb=left_mb,
        disk_need_mb=need_mb,
        spot_dose_j_cm2=before.dose_j_cm2,
        window=window,
        disk_reserve_mb=reserve_mb,
        dose_limit_j_cm2=pump_limits(prepared.bench).dose_j_cm2 if prepared.bench.limits is not None else None,
        quantities=quantities,
        calibrations=_calibrations(prepared),
    )


def require(found: Preflight) -> None:
    """Raise InputError with all reasons at once, if there is any reason not to start."""
    if found.refusals:
        raise InputError(
            "preflight refuses:\n" + "\n".join(f"  - {reason}" for reason in found.refusals),
            where="plan against bench",
            todo="change the parameters; limits are changed in the bench file only",
        )


def points_mb(prepared: PreparedRun, points: int) -> float:
    """Get the space in MB that so many points of a run may need on the disk."""
    return points * prepared.procedure.POINT_BYTES * _FILES_FACTOR / 1e6


def can_be_simulated(sample: SampleConfig | None) -> bool:
    """Get whether a sample file says what a simulated laboratory needs of it; only that laboratory reads it."""
    return sample is not None and sample.truth is not None


def _check_laboratory(prepared: PreparedRun) -> None:
    if not needs_laboratory(prepared.bench):
        return
    truth = prepared.sample.truth if prepared.sample else None
    session = Session(prepared.bench.name, VirtualClock(), prepared.bench.laboratory, truth, prepared.request.seed)
    open_laboratory(session).close()


def _beyond_limits(quantities: tuple[SetQuantity, ...]) -> list[str]:
    """Say once for each quantity how far beyond its upper and its lower limit the plan would set it."""
    found: list[str] = []
    for name in dict.fromkeys(quantity.name for quantity in quantities):
        same = [quantity for quantity in quantities if quantity.name == name]
        above = [quantity for quantity in same if quantity.above]
        below = [quantity for quantity in same if quantity.below]
        found += [max(above, key=lambda quantity: quantity.high).above] if above else []
        found += [min(below, key=lambda quantity: quantity.low).below] if below else []
    return found


def _beyond_dose(prepared: PreparedRun, plan: Plan, before: EarlierLight) -> list[str]:
    """The limit is per spot: what it received before counts, except in a simulated laboratory, where it is fresh."""
    limit = pump_limits(prepared.bench).dose_j_cm2 if plan.dose_j_cm2 else None
    if limit is None:
        return []
    if needs_laboratory(prepared.bench):
        before = EarlierLight(0.0)
    # The plan of a resumed run is what is left of it; what its earlier part gave has been received.
    if before.dose_j_cm2 + plan.dose_j_cm2 <= limit:
        return list(before.unknown)
    own = f" ({before.own_j_cm2:.3g} of it in the earlier part of this run)" if before.own_j_cm2 else ""
    return [
        *before.unknown,
        f"the spot {prepared.request.spot!r} has received {before.dose_j_cm2:.3g} J/cm^2{own} and the plan may add"
        f" {plan.dose_j_cm2:.3g} J/cm^2; the limit is {limit:.3g} J/cm^2 (limits.dose_per_spot); use a fresh spot",
    ]


def _needs_calibrated_attenuator(prepared: PreparedRun) -> bool:
    return "attenuator" in set(prepared.procedure.ROLES) - set(prepared.procedure.CALIBRATES)


def _calibrations(prepared: PreparedRun) -> tuple[CalibrationAge, ...]:
    bench = prepared.bench
    calibration = bench.attenuator_calibration
    if calibration is None or "attenuator" not in prepared.procedure.ROLES:
        return ()
    age_days = calibration.age_days(datetime.date.today())
    counts = _needs_calibrated_attenuator(prepared) and not bench.is_simulated
    allowed = bench.calibrations.max_age_day
    name = Path(calibration.file).name
    return (CalibrationAge("attenuator", name, calibration.date.isoformat(), age_days, allowed, counts),)


def _reserve_mb(prepared: PreparedRun) -> float:
    return prepared.bench.limits.disk_reserve_mb if prepared.bench.limits else 0.0
