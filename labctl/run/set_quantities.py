"""What a plan sets, beside the limits that the bench holds it to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from labctl.bench.bench_sections import malus_law, pump_limits
from labctl.bench.pump_beam import angles_deg
from labctl.config.bench import BenchConfig
from labctl.roles import SETTINGS_OF_ROLES
from labctl.run.plan import Plan, Stage

_FLUENCE = "fluence_uj_cm2"
_ANGLE = "angle_deg"
BENCH_FILE = "bench file"
"""Stands in place of a stage for what the bench file states and every stage keeps."""
_UNITS = {
    "uj_cm2": "uJ/cm^2",
    "uj": "uJ",
    "mw": "mW",
    "deg": "deg",
    "nm": "nm",
    "um": "um",
    "mm": "mm",
    "c": "degC",
    "s": "s",
}


@dataclass(frozen=True)
class SetQuantity:
    """The range in which a stage sets a quantity.

    :param name: Name with its unit, e.g. ``fluence_uj_cm2``.
    :param low: Lowest value, as are the next three in the unit of the name. :param high: Highest value.
    :param limit: Highest value that the bench allows; None where it states none.
    :param at_least: Lowest value that it allows, likewise.
    :param limited_by: Key of the limit in the bench file.
    """

    stage: str
    name: str
    low: float
    high: float
    limit: float | None = None
    at_least: float | None = None
    limited_by: str = ""

    @property
    def words(self) -> str:
        """Get the name without its unit, e.g. ``fluence``."""
        return _split(self.name)[0]

    @property
    def unit(self) -> str:
        """Get the unit, e.g. ``uJ/cm^2``; empty where the name has none that is known."""
        return _split(self.name)[1]

    @property
    def margin(self) -> float | None:
        """Get what is left up to the upper limit as a share of it, negative beyond; None without one, or a zero."""
        return 1.0 - self.high / self.limit if self.limit and self.unit != "degC" else None

    @property
    def above(self) -> str:
        """Get why the upper limit forbids it; empty if it does not."""
        # Written so that a value that is not a number is refused, too.
        if self.limit is None or self.high <= self.limit:
            return ""
        return self._refusal("up", self.high, "beyond", self.limit)

    @property
    def below(self) -> str:
        """Get why the lower limit forbids it; empty if it does not."""
        if self.at_least is None or self.low >= self.at_least:
            return ""
        return self._refusal("down", self.low, "below", self.at_least)

    def _refusal(self, way: str, value: float, beyond: str, limit: float) -> str:
        who = "the bench file" if self.stage == BENCH_FILE else f"the stage {self.stage!r}"
        return (
            f"{who} sets the {self.words} {way} to {value:.4g} {self.unit}, {beyond} the limit of {limit:.4g}"
            f" {self.unit} ({self.limited_by} of the bench)"
        )

    @property
    def refusal(self) -> str:
        """Get why the limits forbid it; empty if they do not."""
        return "; ".join(text for text in (self.above, self.below) if text)

    def as_dict(self) -> dict[str, Any]:
        """The quantity as JSON-serialisable data."""
        return {
            "stage": self.stage,
            "quantity": self.name,
            "low": self.low,
            "high": self.high,
            "at_least": self.at_least,
            "limit": self.limit,
            "limited_by": self.limited_by,
            "margin": self.margin,
        }


def set_quantities(plan: Plan, bench: BenchConfig, roles: Sequence[str] = ()) -> tuple[SetQuantity, ...]:
    """Get everything that a plan sets, stage by stage; of a fluence also energy, power and angle that it takes.

    Energy, power and angle only where the bench limits them.

    :param roles: Roles that the procedure uses; what the bench file sets them to comes first.
    """
    of_stages = (found for stage in plan.stages for found in _of_stage(stage, bench))
    return (*_of_bench_file(bench, roles), *of_stages)


def _of_bench_file(bench: BenchConfig, roles: Sequence[str]) -> Iterator[SetQuantity]:
    if "detector" in roles and bench.spectrometer is not None:
        set_c = bench.spectrometer.temperature_c
        limit = _role_limit("detector.temperature_c", bench)
        yield SetQuantity(BENCH_FILE, "temperature_c", set_c, set_c, *limit)


def _of_stage(stage: Stage, bench: BenchConfig) -> Iterator[SetQuantity]:
    for name, (low, high) in stage.bounds.items():
        if name == _FLUENCE and bench.pump is not None:
            yield from _of_fluence(stage.name, low, high, bench)
        else:
            yield SetQuantity(stage.name, name, low, high, *_role_limit(name, bench))


def _of_fluence(stage: str, low: float, high: float, bench: BenchConfig) -> Iterator[SetQuantity]:
    limits = pump_limits(bench)
    yield SetQuantity(stage, _FLUENCE, low, high, limits.fluence_uj_cm2, None, "limits.fluence")
    geometry = bench.pump.geometry() if bench.pump is not None else None
    if geometry is None:
        return
    low_uj, high_uj = (geometry.pulse_energy_j(fluence) * 1e6 for fluence in (low, high))
    if limits.pulse_energy_j is not None:
        most_uj = limits.pulse_energy_j * 1e6
        yield SetQuantity(stage, "pulse_energy_uj", low_uj, high_uj, most_uj, None, "limits.pulse_energy")
    if limits.average_power_w is not None:
        per_uj = limits.repetition_rate_hz * 1e-3
        most_mw = limits.average_power_w * 1e3
        power = (low_uj * per_uj, high_uj * per_uj)
        yield SetQuantity(stage, "average_power_mw", *power, most_mw, None, "limits.average_power")
    angle_limit = _role_limit(_ANGLE, bench)
    if angle_limit[2] and bench.pump is not None and bench.attenuator_calibration is not None:
        at_meter_j = (energy_uj * 1e-6 / bench.pump.pick_off_ratio for energy_uj in (low_uj, high_uj))
        yield SetQuantity(stage, _ANGLE, *angles_deg(malus_law(bench), *at_meter_j), *angle_limit)


def _role_limit(name: str, bench: BenchConfig) -> tuple[float | None, float | None, str]:
    """Get highest and lowest value that ``[limits.roles]`` allows for a quantity, and the key.

    :param name: E.g. ``exposure_s``, or ``heating_stage.temperature_c`` where several roles have such a quantity.
    """
    only, _, quantity = name.rpartition(".")
    words, unit = _split(quantity)
    for role, bounds in bench.limits.roles.items() if bench.limits is not None else ():
        if only not in ("", role):
            continue
        setting = SETTINGS_OF_ROLES.get(role, {}).get(words)
        if setting is not None and setting.unit == unit and words in bounds:
            at_least, at_most = bounds[words].in_unit(unit)
            return at_most, at_least, f"limits.roles.{role}.{words}"
    return None, None, ""


def _split(name: str) -> tuple[str, str]:
    name = name.replace(".", " ")
    for suffix, unit in _UNITS.items():
        if name.endswith(f"_{suffix}"):
            return name.removesuffix(f"_{suffix}").replace("_", " "), unit
    return name.replace("_", " "), ""
