"""Preflight: everything that can be known before the laser is on."""

from __future__ import annotations

import datetime
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.bench.bench import needs_laboratory, pump_limits
from labctl.bench.ledger import ExposureLedger
from labctl.bench.spectral_window import SpectralWindow, check_window
from labctl.clock import VirtualClock
from labctl.errors import InputError
from labctl.run.plan import Plan
from labctl.run.request import PreparedRun
from labctl.transport.opening import open_laboratory
from labctl.transport.session import Session

_FILES_FACTOR = 3
"""Journal, sealed file and report stand beside each other for a moment."""


@dataclass(frozen=True)
class Preflight:
    """What was found.

    :param plan: The plan that was checked.
    :param refusals: Reasons not to start, all at once.
    :param warnings: What the experimenter should know.
    :param disk_free_mb: Free space where the run will be written, in MB.
    :param disk_need_mb: Space the run may need, in MB.
    :param spot_dose_j_cm2: Dose that the spot has received in earlier runs, in J/cm².
    :param window: Wavelengths that are looked at, as far as known, and the filter; None where no spectra are taken.
    """

    plan: Plan
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]
    disk_free_mb: float
    disk_need_mb: float
    spot_dose_j_cm2: float
    window: SpectralWindow | None = None

    def as_dict(self) -> dict[str, Any]:
        """The preflight as JSON-serialisable data."""
        return {
            "plan": self.plan.as_dict(),
            "refusals": list(self.refusals),
            "warnings": list(self.warnings),
            "disk_free_mb": self.disk_free_mb,
            "disk_need_mb": self.disk_need_mb,
            "spot_dose_j_cm2": self.spot_dose_j_cm2,
            "spectral_window": self.window.as_dict() if self.window is not None else None,
        }


def preflight(prepared: PreparedRun) -> Preflight:
    """Plan the run and check it against limits, dose, window, disk and calibrations; opens no instrument.

    A simulated laboratory is built once, so that a fault in its tables is found here.
    """
    _check_laboratory(prepared)
    plan = prepared.procedure.plan(prepared.bench, prepared.sample)
    refusals, warnings = list(plan.refusals), list(plan.warnings)
    window = prepared.procedure.spectral_window(prepared.bench)
    if window is not None:
        found = check_window(window, prepared.bench)
        refusals += found.refusals
        warnings += found.warnings
    refusals += _beyond_limits(prepared, plan)
    spot_dose = _spot_dose(prepared)
    refusals += _beyond_dose(prepared, plan, spot_dose)
    need_mb = plan.max_points * prepared.procedure.POINT_BYTES * _FILES_FACTOR / 1e6
    free_mb = _free_mb(Path(prepared.request.out))
    reserve_mb = prepared.bench.limits.disk_reserve_mb if prepared.bench.limits else 0.0
    if free_mb < need_mb + reserve_mb:
        refusals.append(
            f"the disk has {free_mb:.0f} MB free; the run may need {need_mb:.0f} MB and {reserve_mb:.0f} MB are to"
            " stay free (limits.disk_reserve)"
        )
    if "attenuator" in set(prepared.procedure.ROLES) - set(prepared.procedure.CALIBRATES):
        refusals += [str(stale) for stale in prepared.bench.stale_calibrations(datetime.date.today())]
    return Preflight(plan, tuple(refusals), tuple(warnings), free_mb, need_mb, spot_dose, window)


def require(found: Preflight) -> None:
    """Raise InputError with all reasons at once, if there is any reason not to start."""
    if found.refusals:
        raise InputError(
            "preflight refuses:\n" + "\n".join(f"  - {reason}" for reason in found.refusals),
            where="plan against bench",
            todo="change the parameters; limits are changed in the bench file only",
        )


def _check_laboratory(prepared: PreparedRun) -> None:
    if not needs_laboratory(prepared.bench):
        return
    truth = prepared.sample.truth if prepared.sample else None
    session = Session(prepared.bench.name, VirtualClock(), prepared.bench.laboratory, truth, prepared.request.seed)
    open_laboratory(session).close()


def _beyond_limits(prepared: PreparedRun, plan: Plan) -> list[str]:
    fluences = plan.bounds.get("fluence_uj_cm2")
    if fluences is None:
        return []
    limit = pump_limits(prepared.bench).fluence_uj_cm2
    if fluences[1] <= limit:
        return []
    return [
        f"the plan sets fluences up to {fluences[1]:.4g} uJ/cm^2, beyond the limit of {limit:.4g} uJ/cm^2"
        " (limits.fluence of the bench)"
    ]


def _spot_dose(prepared: PreparedRun) -> float:
    if prepared.sample is None:
        return 0.0
    ledger = ExposureLedger(Path(prepared.request.out))
    simulated = needs_laboratory(prepared.bench)
    return ledger.total(prepared.sample.sample.name, prepared.request.spot, simulated=simulated).dose_j_cm2


def _beyond_dose(prepared: PreparedRun, plan: Plan, spot_dose: float) -> list[str]:
    """The limit is per spot: what it received before counts, except in a simulated laboratory, where it is fresh."""
    if plan.dose_j_cm2 == 0.0:
        return []
    limit = pump_limits(prepared.bench).dose_j_cm2
    before = 0.0 if needs_laboratory(prepared.bench) else spot_dose
    if limit is None or before + plan.dose_j_cm2 <= limit:
        return []
    return [
        f"the spot {prepared.request.spot!r} has received {before:.3g} J/cm^2 and the plan may add"
        f" {plan.dose_j_cm2:.3g} J/cm^2; the limit is {limit:.3g} J/cm^2 (limits.dose_per_spot); use a fresh spot"
    ]


def _free_mb(folder: Path) -> float:
    existing = folder.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    return shutil.disk_usage(existing).free / 1e6
