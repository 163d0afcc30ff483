"""Calibration of the attenuator: energy at the meter against the angle of the half-wave plate, and Malus' law.

Order of the run: shutter closed, plate homed, meter zeroed in the dark; the operator blocks the beam behind the
pick-off, since every angle is passed and with it the full energy; the curve; then the plate is left near extinction and
the operator takes the block away. Every angle is reached from below and with the shutter closed. The angles are visited
in strides that share no rhythm with the curve: a slow drift of the laser becomes scatter instead of a shifted angle.

Before, amid and after the curve the same two angles are measured as a reference. They lie 45 deg apart, so that their
energies sum to T0 + T1 wherever the curve lies (cos² + sin² = 1): how this sum wanders is the drift of the laser. What
the full energy was on average says the fit; how well that holds for any moment of the run says the drift.

The calibration is written to a new file beside the run. It only sets the angle for a fluence; energies are always read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from labctl.analysis.estimate import Estimate
from labctl.analysis.malus import MIN_POINTS, PERIOD_DEG, MalusFit, fit_malus
from labctl.bench.bench import Bench
from labctl.bench.bench_sections import malus_law, meter_reading_s, pump_limits
from labctl.config.bench import BenchConfig, parse_bench
from labctl.config.calibration import AttenuatorCalibration as CalibrationFile
from labctl.config.calibration import load_calibration, save_calibration
from labctl.config.sample import SampleConfig
from labctl.errors import InputError
from labctl.quantities import EnergyReading
from labctl.run.parameters import quantity, whole
from labctl.run.plan import Plan, Point, Stage
from labctl.run.procedure import Acknowledged, Column, DefaultPlot, Record, RowLayout, Streams, SweepProcedure

_MOVE_S = 1.5
_SEARCH_S = 0.5
_OPERATOR_S = 60.0
_HOME_AND_ZERO_S = 10.0
_LOWEST_START_DEG = 1.0
_GOLDEN_SHARE = (3 - math.sqrt(5)) / 2
_SCATTER_WARNING = 0.03
_DRIFT_WARNING = 0.01
_THETA0_WARNING_DEG = 0.1

_CURVE = RowLayout(
    (
        Column("angle_set_deg", "float", "deg", "Angle asked for"),
        Column("reference", "int", "", "1 for a reading of the reference, which is no part of the curve"),
        Column("angle_deg", "float", "deg", "Angle of the attenuator as read back"),
        Column("energy_j", "float", "J", "Mean pulse energy at the meter"),
        Column("energy_error_j", "float", "J", "Its standard error, from the scatter of the pulses"),
        Column("energy_std_j", "float", "J", "Standard deviation from pulse to pulse"),
        Column("pulses", "int", "", "Pulses averaged"),
        Column("range_j", "float", "J", "Range of the meter"),
        Column("open_s", "float", "s", "Time the shutter was open, beam blocked behind the pick-off"),
    )
)
_OPERATOR = RowLayout((Column("action", "text", "", "What the operator confirmed", width=64),))
_PROMPTS = {
    "block beam behind pick-off": "Block the pump beam behind the pick-off, before the sample: full energy follows.",
    "unblock beam behind pick-off": "The shutter is closed: take the block behind the pick-off out of the beam.",
}


class AttenuatorCalibration(SweepProcedure):
    """Energy at the meter against the angle of the attenuator; the beam is blocked before it reaches the sample."""

    NAME: ClassVar[str] = "attenuator-calibration"
    TITLE: ClassVar[str] = "Calibration of the attenuator: law of Malus"
    ROLES: ClassVar[tuple[str, ...]] = ("attenuator", "shutter", "energy_meter")
    CALIBRATES: ClassVar[tuple[str, ...]] = ("attenuator",)
    DEFAULT_PLOT: ClassVar[DefaultPlot] = DefaultPlot("points", "angle_deg", "energy_j")
    DATA_COLUMNS: ClassVar[list[str]] = [column.name for column in _CURVE.columns]

    points: int = whole("Angles", minimum=MIN_POINTS, maximum=1000, default=25)
    span: float = quantity(
        "Range of angles",
        "deg",
        minimum=PERIOD_DEG / 2,
        maximum=358.0,
        default=PERIOD_DEG,
        description="90 deg hold the whole curve",
    )
    start: float = quantity(
        "First angle",
        "deg",
        minimum=_LOWEST_START_DEG,
        maximum=314.0,
        default=2.0,
        description="At least 1 deg, so that it can be reached from below",
    )
    pulses: int = whole("Pulses in a reading of the energy meter", minimum=10, maximum=100000, default=300)
    readings: int = whole("Readings at each angle", minimum=1, maximum=100, default=1)

    def plan(self, bench: BenchConfig, sample: SampleConfig | None) -> Plan:
        """Plan the curve between two steps of the operator; raises InputError if the limits forbid the full energy."""
        if self.start + self.span > 360.0:
            raise InputError(
                f"the curve would end at {self.start + self.span:g} deg; the mount turns from 0 to 360 deg",
                where="parameters of attenuator-calibration",
                todo="choose a smaller start or span; 90 deg hold the whole curve",
            )
        angles = self._angles()
        curve_s = _MOVE_S + _SEARCH_S + self.readings * meter_reading_s(bench, self.pulses)
        settings = self._curve()
        stages = (
            _operator_stage("block", "block beam behind pick-off"),
            Stage("curve", "points", len(settings), curve_s, settings, {"angle_deg": (min(angles), max(angles))}),
            _operator_stage("unblock", "unblock beam behind pick-off"),
        )
        return Plan(stages, _HOME_AND_ZERO_S, tuple(_full_energy_warnings(bench)))

    def prepare(self, bench: Bench) -> None:
        """Home the plate and zero the meter in the dark."""
        bench.pump.shutter.shut()
        bench.pump.attenuator.home()
        bench.pump.prepare()
        self._bench = bench

    def begin(self, bench: Bench) -> None:
        """No angle has been measured yet."""
        self._darkest: tuple[float, float] | None = None

    def streams(self, bench: Bench) -> Streams:
        """Rows of the curve, and what the operator confirmed."""
        return Streams({"points": _CURVE, "operator": _OPERATOR})

    def measure(self, point: Point) -> Record:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Have the operator act, or measure the energy at one angle."""
        if point.stage == "curve":
            return self._measure_energy(point.settings["angle_deg"], point.settings["reference"])
        action = point.settings["action"]
        pump = self._bench.pump
        pump.shutter.shut()
        if self._darkest is not None:
            pump.turn_to(self._darkest[1])
        self._bench.ask_operator(action, _PROMPTS[action])
        return Record({"action": action})

    def acknowledge(self, entry: Acknowledged) -> None:
        """Remember the angle of least energy: the plate is left there."""
        if entry.point.stage == "curve":
            found = (float(entry.row["energy_j"]), float(entry.row["angle_set_deg"]))
            self._darkest = found if self._darkest is None else min(self._darkest, found)

    def analyse(self, run: Any) -> dict[str, Any]:
        """Fit the law of Malus; returns ``{"result", "fit", "calibration", "warnings"}``.

        ``calibration`` is the table of the calibration file, or None if the run is not fit to be one.
        Raises NoMalusFit if the points do not determine the curve.
        """
        columns = run.columns("points")
        bench = parse_bench(run.header["provenance"]["files"]["bench"], run.header["bench"]["file"])
        energy_j, reference = np.asarray(columns["energy_j"]), np.asarray(columns["reference"]) > 0
        on_curve = {name: np.asarray(columns[name])[~reference] for name in ("angle_deg", "energy_error_j")}
        fit = fit_malus(on_curve["angle_deg"], energy_j[~reference], on_curve["energy_error_j"])
        drift = _drift(energy_j[reference])
        full_energy = _with_drift(fit.maximum, drift)
        warnings = _warnings(fit, drift)
        calibration = _calibration_table(run, bench, fit, full_energy, drift, len(self._curve()))
        if calibration is None:
            warnings.append("no calibration file: the run is not finished, its curve has holes")
        result = {
            "theta0": fit.theta0.as_dict(),
            "full_energy": full_energy.as_dict(),
            "minimum_energy": _with_drift(fit.minimum, drift).as_dict(),
            "transmission_min": fit.extinction.as_dict(),
            "residual_rms": {"value": fit.residual_rms, "unit": ""},
            "laser_drift": {"value": float(np.std(drift, ddof=1)) if drift.size > 1 else None, "unit": ""},
        }
        return {"result": result, "fit": fit.as_dict(), "calibration": calibration, "warnings": warnings}

    def write_products(self, run_path: Path, analysed: Mapping[str, Any]) -> dict[str, Path]:
        """Write the calibration beside the run; raises StorageError if the file exists."""
        table = analysed["calibration"]
        if table is None:
            return {}
        path = run_path.with_name(f"{run_path.stem}_attenuator.toml")
        calibration = CalibrationFile.model_validate(table)
        # A run that was ended behind its curve has written it already; the part that is resumed finds the same.
        if not (path.is_file() and load_calibration(path).model_dump() == calibration.model_dump()):
            save_calibration(path, calibration)
        return {"calibration": path}

    def _angles(self) -> Sequence[float]:
        """Get the angles in the order in which they are visited.

        Going up once would mix a drift of the laser with the curve: 1 % over the run then shifts θ0 by up to 0.008 deg
        and the minimum by up to 3 %. With strides near the golden section of the range, neighbours in time are far
        apart on the curve: up to 0.005 deg and 1 %.
        """
        coprime = (step for step in range(1, self.points) if math.gcd(step, self.points) == 1)
        stride = min(coprime, key=lambda step: abs(step - self.points * _GOLDEN_SHARE))
        return [self.start + self.span * (number * stride % self.points) / self.points for number in range(self.points)]

    def _curve(self) -> tuple[Mapping[str, Any], ...]:
        """Get the settings of all points: the angles of the curve, and the reference before, amid and after them."""
        angles = self._angles()
        pair = [{"angle_deg": angle, "reference": 1} for angle in (self.start, self.start + PERIOD_DEG / 2)]
        curve = [{"angle_deg": angle, "reference": 0} for angle in angles]
        middle = len(curve) // 2
        return (*pair, *curve[:middle], *pair, *curve[middle:], *pair)

    def _measure_energy(self, angle_set_deg: float, reference: int) -> Record:
        pump = self._bench.pump
        pump.shutter.shut()
        angle_deg = pump.turn_to(angle_set_deg)
        with pump.light(on_sample=False) as opening:
            readings = [pump.read_energy(self.pulses) for _ in range(self.readings)]
        together = _together(readings)
        row = {
            "angle_set_deg": angle_set_deg,
            "reference": reference,
            "angle_deg": angle_deg,
            "energy_j": together.mean_j,
            "energy_error_j": together.error_j,
            "energy_std_j": together.std_j,
            "pulses": together.pulses,
            "range_j": pump.meter.range_j,
            "open_s": opening.open_s,
        }
        return Record(row)


def _operator_stage(name: str, action: str) -> Stage:
    return Stage(name, "operator", 1, _OPERATOR_S, ({"action": action},))


def _together(readings: Sequence[EnergyReading]) -> EnergyReading:
    mean = float(np.mean([reading.mean_j for reading in readings]))
    std = math.sqrt(float(np.mean([reading.std_j**2 for reading in readings])))
    return EnergyReading(mean, std, sum(reading.pulses for reading in readings))


def _full_energy_warnings(bench: BenchConfig) -> list[str]:
    """Say what arrives behind the pick-off; raises InputError if a limit forbids it even there.

    The limit of the pulse energy protects the optics as well and is held. That of the fluence is the sample's, and the
    block keeps the light off it.
    """
    limits = pump_limits(bench)
    if bench.pump is None:
        raise InputError(f"the bench {bench.name!r} has no [pump]", where=bench.file)
    text = "the plate passes the full energy of the laser: only the block behind the pick-off protects the sample"
    if bench.attenuator_calibration is None:
        return [f"{text}; how much that is, is not known yet"]
    energy_j = malus_law(bench).maximum_j * bench.pump.pick_off_ratio
    if limits.pulse_energy_j is not None and energy_j > limits.pulse_energy_j:
        raise InputError(
            f"the full energy behind the pick-off, {energy_j:.4g} J by the present calibration, lies beyond the limit"
            f" of {limits.pulse_energy_j:.4g} J",
            where="limits.pulse_energy of the bench",
            todo="put a neutral-density filter before the attenuator; the limit is changed in the bench file only",
        )
    fluence = bench.pump.geometry().fluence(energy_j).uj_cm2
    beyond = f", beyond the limit of {limits.fluence_uj_cm2:.4g} uJ/cm^2" if fluence > limits.fluence_uj_cm2 else ""
    return [f"{text} from {fluence:.3g} uJ/cm^2{beyond}"]


def _drift(energy_j: NDArray[np.float64]) -> NDArray[np.float64]:
    """Get the deviation of the full energy from its mean at each reading of the reference, as a share of the mean.

    :param energy_j: Energies of the reference in the order of measurement, shape (2 · readings,); an angle that is left
        over from an unfinished reading does not count.
    """
    sums = energy_j[: energy_j.size // 2 * 2].reshape(-1, 2).sum(axis=1)
    return sums / sums.mean() - 1.0 if sums.size else sums


def _with_drift(energy: Estimate, drift: NDArray[np.float64]) -> Estimate:
    """Widen the intervals of a mean energy to hold for any moment of the run.

    The deviations at a few moments tell their standard deviation only roughly, hence Student's t.
    """
    if drift.size < 2:
        return energy
    sd = energy.value * float(np.std(drift, ddof=1))
    widened = []
    for share, (low, high) in ((0.6827, energy.ci68), (0.95, energy.ci95)):
        half = float(special.stdtrit(drift.size - 1, 0.5 + share / 2)) * sd
        below, above = math.hypot(energy.value - low, half), math.hypot(high - energy.value, half)
        widened.append((energy.value - below, energy.value + above))
    return Estimate(energy.value, energy.unit, widened[0], widened[1])


def _warnings(fit: MalusFit, drift: NDArray[np.float64]) -> list[str]:
    found = []
    if drift.size and np.ptp(drift) > _DRIFT_WARNING:
        found.append(f"the laser drifted by {np.ptp(drift):.1%} during the calibration: full_energy holds no better")
    if fit.scatter > _SCATTER_WARNING:
        found.append(f"the energies scatter by {fit.scatter:.1%} about the curve: let the laser warm up, then repeat")
    if 0.5 * (fit.theta0.ci95[1] - fit.theta0.ci95[0]) > _THETA0_WARNING_DEG:
        found.append("theta0 is known to more than 0.1 deg only: measure more angles")
    return found


def _calibration_table(
    run: Any, bench: BenchConfig, fit: MalusFit, full_energy: Estimate, drift: NDArray[np.float64], points: int
) -> dict[str, Any] | None:
    """The calibration as its file has it, values rounded to a hundredth of their error; None for an unfinished run."""
    if run.count("points") < points or bench.laser is None:
        return None
    identity = next((event.data.get("attenuator", {}) for event in run.events("instruments")), {})
    who = " ".join(str(identity[part]) for part in ("vendor", "model", "serial") if identity.get(part))
    maximum_uj, maximum_error_uj = full_energy.value * 1e6, full_energy.sd * 1e6
    return {
        "kind": "attenuator",
        "date": str(run.header["started"])[:10],
        "instrument": (who[:100] or "unknown") + (" (emulator)" if run.simulated else ""),
        "wavelength": f"{bench.laser.wavelength_nm:g} nm",
        "transmission_min": _rounded(max(fit.extinction.value, 0.0), fit.extinction.sd),
        "transmission_min_error": _rounded(fit.extinction.sd, fit.extinction.sd),
        # Full transmission is 1 by definition: its uncertainty is that of the full energy.
        "transmission_max": 1.0,
        "transmission_max_error": 0.0,
        "theta0": f"{_rounded(fit.theta0.value, fit.theta0.sd)!r} deg",
        "theta0_error": f"{_rounded(fit.theta0.sd, fit.theta0.sd)!r} deg",
        "full_energy": f"{_rounded(maximum_uj, maximum_error_uj)!r} uJ",
        "full_energy_error": f"{_rounded(maximum_error_uj, maximum_error_uj)!r} uJ",
        "residual_rms": float(f"{fit.residual_rms:.3g}"),
        "approach": "increasing",
        "source_run": str(run.header["run"]),
        "notes": f"{fit.dof + 3} angles; scatter about the curve {fit.scatter:.2%}; the laser drifted by"
        f" {np.ptp(drift):.2%} meanwhile, which full_energy_error holds",
    }


def _rounded(value: float, error: float) -> float:
    digits = 2 - math.floor(math.log10(error)) if error > 0 else 12
    return round(value, digits)
