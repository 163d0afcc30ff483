"""The simulated twin of a bench: the same file with an emulator behind every driver.

A laboratory that is described in the bench file stays as it is there. Of a real bench, the table ``[laboratory]`` is
written from what the file and its calibrations state of laser, attenuator, pick-off, spot, spectrograph and filters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labctl.config.bench import BenchConfig
from labctl.config.filters import EDGE_SHARE, BandPassPosition, EdgePosition, FilterConfig, NeutralDensityPosition
from labctl.config.pump import FlatTopConfig, GaussianConfig, RectangleConfig, StripeConfig
from labctl.config.raw_table import RawTable
from labctl.config.toml_lines import scan_lines
from labctl.errors import InputError
from labctl.installed import entry_points

_EMULATORS = "labctl.emulators"
_SIMULATED = "sim:"
_SERVED_AT = "served_at"


def simulated_twin(bench: BenchConfig, *, steady: bool) -> BenchConfig:
    """Get a bench of emulators that answers as this one does, as far as its file tells.

    :param steady: Whether its laser and its meter do not drift: what is seen is then the middle of what may happen.
    :raises InputError: a driver has no emulator.
    """
    emulated = {entry.name for entry in entry_points(group=_EMULATORS)}
    without = [f"{role} ({entry.driver})" for role, entry in bench.instruments.items() if entry.driver not in emulated]
    if without:
        raise InputError(f"no emulator stands in for {', '.join(without)}", where=bench.file)
    table = _own_laboratory(bench)
    if table is None:
        table = described_laboratory(bench)
    if steady:
        table = _without_drift(table)
    instruments = {role: entry.model_copy(update={"resource": _SIMULATED}) for role, entry in bench.instruments.items()}
    laboratory = RawTable(f"the simulated twin of {bench.file}", ("laboratory",), scan_lines(""), table)
    return bench.model_copy(update={"instruments": instruments, "laboratory": laboratory})


def described_laboratory(bench: BenchConfig) -> dict[str, Any]:
    """Write the table ``[laboratory]`` for a bench that has none, from the rest of its file."""
    table: dict[str, Any] = {}
    calibration = bench.attenuator_calibration
    if bench.laser is not None:
        table["laser"] = {
            "wavelength_nm": bench.laser.wavelength_nm,
            "repetition_rate_hz": bench.laser.repetition_rate_hz,
            "pulse_duration_ns": bench.laser.pulse_duration_fs * 1e-6,
        }
    if calibration is not None:
        table.setdefault("laser", {})["energy_uj"] = calibration.full_energy_uj * calibration.transmission_max
        leak = calibration.transmission_min / calibration.transmission_max
        table["wave_plate"] = {"theta0_deg": calibration.theta0_deg, "leak": leak, "retardance_error": 0.0}
    if bench.pump is not None:
        table["meter"] = {"ratio": bench.pump.pick_off_ratio}
        table |= _spot(bench)
        most_uj = bench.limits.pulse_energy_uj if bench.limits is not None else None
        if calibration is None and most_uj is not None:
            # Nobody knows the full energy: half of what the limit allows behind the pick-off will do.
            table.setdefault("laser", {})["energy_uj"] = most_uj / bench.pump.pick_off_ratio / 2
    if bench.spectrometer is not None:
        table["spectrograph"] = {
            "offset_nm": bench.spectrometer.wavelength_offset_nm,
            "psf_fwhm_nm": bench.spectrometer.instrument_fwhm_nm,
        }
        table["camera"] = {"gain_e_per_adu": 1.0 / bench.spectrometer.counts_per_electron}
    if bench.filter is not None:
        table["filter"] = _filters(bench.filter)
    return table


def _own_laboratory(bench: BenchConfig) -> dict[str, Any] | None:
    """Get the laboratory as the bench file describes it; None of a real bench, and of one that is served elsewhere."""
    if bench.laboratory is not None:
        own = {key: value for key, value in bench.laboratory.data.items() if key != _SERVED_AT}
        return own or None
    return {} if bench.is_in_process else None


def _without_drift(table: Mapping[str, Any]) -> dict[str, Any]:
    steady = {part: {**table.get(part, {}), "drift_rms": 0.0} for part in ("laser", "meter")}
    return {**table, **steady}


def _spot(bench: BenchConfig) -> dict[str, Any]:
    spot = bench.pump.spot if bench.pump is not None else None
    match spot:
        case StripeConfig():
            return {"stripe": {"length_mm": spot.length_mm, "half_width_um": spot.half_width_mm * 1e3}}
        case GaussianConfig():
            radii = {"radius_x_um": spot.radius_x_mm * 1e3, "radius_y_um": spot.radius_y_mm * 1e3}
            return {"spot": {"shape": "gaussian", **radii}}
        case RectangleConfig():
            axes = {"axis_a_um": spot.axis_a_mm * 1e3, "axis_b_um": spot.axis_b_mm * 1e3}
            return {"spot": {"shape": "rectangle", **axes}}
        case FlatTopConfig():
            return {"spot": {"shape": "flat_top", "area_mm2": spot.area_mm2}}
        case _:
            return {}


def _filters(filters: FilterConfig) -> dict[str, Any]:
    positions: list[dict[str, Any]] = []
    for position in filters.positions:
        curve: dict[str, Any] = {"number": position.number, "kind": position.kind}
        match position:
            case EdgePosition() | BandPassPosition():
                edge_nm = position.edge_nm or EDGE_SHARE * position.cut_on_nm
                curve |= {"cut_on_nm": position.cut_on_nm, "edge_nm": edge_nm, "optical_density": position.blocking}
            case NeutralDensityPosition():
                curve["optical_density"] = position.optical_density
        if isinstance(position, BandPassPosition):
            curve["cut_off_nm"] = position.cut_off_nm
        positions.append(curve)
    return {"positions": positions}
