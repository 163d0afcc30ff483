"""Thermal stability: how much of the emission is left after heat, and how much comes back on cooling.

Order of the run: dark frames; the baseline, cold; heating up; reads at the temperature of the stress; cooling down; the
baseline once more. What is lost while hot and comes back is thermal quenching, the rest is the loss. The sample ages by
the temperatures that were read, on the way up too: the clock of the analysis is the time at the temperature of the
stress that would have aged it as much.
"""

from __future__ import annotations

from typing import Any, ClassVar

from labctl.bench.bench import Bench
from labctl.bench.bench_sections import section
from labctl.config.bench import BenchConfig
from labctl.config.sample import SampleConfig
from labctl.errors import InputError
from labctl.run.parameters import quantity
from labctl.run.plan import Plan, Point, Stage
from labctl.run.procedure import Record, Streams
from procedures.stability.heat import Heat
from procedures.stability.heat_analysis import analyse_heat
from procedures.stability.layout import heating_layout, log_arrays
from procedures.stability.procedure import StabilityProcedure

HEAT_UP, HOT, COOL_DOWN, AFTER = "heat-up", "hot", "cool-down", "after"
_REPORTED_MIN = (20.0, 100.0)


class ThermalStability(StabilityProcedure):
    """Emission against the time at a temperature; reversible quenching and lasting loss told apart."""

    NAME: ClassVar[str] = "thermal-stability"
    TITLE: ClassVar[str] = "Thermal stability: emission against the time at a temperature"
    ROLES: ClassVar[tuple[str, ...]] = (*StabilityProcedure.ROLES, "heating_stage")
    OPTIONAL_ROLES: ClassVar[tuple[str, ...]] = (*StabilityProcedure.OPTIONAL_ROLES, "vacuum_gauge")
    STRESS_STAGES: ClassVar[tuple[str, ...]] = (HOT,)
    USUAL_MIN: ClassVar[tuple[float, ...]] = (0, 1, 2, 3, 5, 7, 10, 15, *range(20, 101, 10))

    temperature: float = quantity("Temperature of the stress", "degC", minimum=-270.0, maximum=1000.0, default=100.0)
    cool_below: float = quantity(
        "Temperature of the last reads, at most", "degC", minimum=-270.0, maximum=1000.0, default=30.0
    )
    activation_energy: float = quantity(
        "Activation energy of the loss",
        "eV",
        minimum=0.0,
        maximum=5.0,
        default=0.8,
        description="Only converts what the ramps do into time at the temperature",
    )
    activation_energy_error: float = quantity("Its error", "eV", minimum=0.0, maximum=5.0, default=0.3)

    def plan(self, bench: BenchConfig, sample: SampleConfig | None) -> Plan:
        """Plan all stages with hard bounds; raises InputError for what cannot be."""
        parts = self.plan_reads(bench, sample)
        heating = section(bench.heating, "heating", bench)
        if self.cool_below >= self.temperature:
            raise InputError("cool-below is no lower than the temperature", where="parameters of thermal-stability")
        times_s = self.schedule_s()
        reads = self.scheduled(parts, times_s, temperature_c=self.temperature)
        after = [{"fluence_uj_cm2": self.fluence}] * self.after_reads
        bounds = {"heating_stage.temperature_c": (self.temperature, self.temperature)}
        asked = ({"temperature_c": self.temperature},)
        stages = [
            *self.first_stages(parts),
            _waiting_stage(HEAT_UP, asked, heating.timeout_s, bounds, essential=True),
            self.read_stage(HOT, parts, reads, times_s=times_s, wait_s=heating.timeout_s, bounds=bounds),
            _waiting_stage(COOL_DOWN, ({"temperature_c": self.cool_below},), heating.timeout_s, {}),
        ]
        if after:
            stages.append(self.read_stage(AFTER, parts, after))
        warnings = self.late_warnings(parts, times_s)
        warnings += [] if after else ["nothing is read after cooling down: quenching cannot be told from the loss"]
        return parts.plan(stages, *warnings)

    def begin(self, bench: Bench) -> None:
        """Nothing has been measured yet."""
        super().begin(bench)
        self._heat = Heat(lambda: self.bench.thermostat, self.temperature, self.stop_event)

    def streams(self, bench: Bench) -> Streams:
        """Rows of the reads, of heating up and cooling down, and dark frames apart from them."""
        streams = super().streams(bench)
        return Streams({**streams.layouts, "heating": heating_layout()}, streams.axes)

    def measure_stage(self, point: Point) -> Record:
        """Measure a point that is no dark frame."""
        if point.stage in (HEAT_UP, COOL_DOWN):
            return self._change_temperature(point)
        if point.stage == HOT:
            before_c = self._heat.hold()
        else:
            before_c = self._heat.read()
        return self.read(point, after=lambda: self._temperatures(before_c, point), log=self._heat.take_log)

    def take_up(self, point: Point) -> None:
        """Heat again, if the run broke off while it was hot."""
        if point.stage == HOT:
            self.bench.thermostat.begin(self.temperature)

    def _temperatures(self, before_c: float, point: Point) -> dict[str, Any]:
        columns = {"temperature_c": 0.5 * (before_c + self._heat.read())}
        return {**columns, "pressure_mbar": self._heat.pressure_mbar()} if point.stage == HOT else columns

    def _change_temperature(self, point: Point) -> Record:
        clock = self.bench.clock
        began_s, asked_c = clock.now(), point.settings["temperature_c"]
        reached_c = self._heat.settle() if point.stage == HEAT_UP else self._heat.cool_down(asked_c)
        row = {
            "stage": point.stage,
            "asked_c": asked_c,
            "reached_c": reached_c,
            "took_s": clock.now() - began_s,
            "pressure_mbar": self._heat.pressure_mbar() if point.stage == HEAT_UP else float("nan"),
        }
        return Record(row, log_arrays(self._heat.take_log(), clock.now()))

    def analyse(self, run: Any) -> dict[str, Any]:
        """What is left, how fast it went, what came back, and how the line moved; of a run in any state."""
        return analyse_heat(run, self, self.report_at or _REPORTED_MIN)


def _waiting_stage(name: str, settings: Any, timeout_s: float, bounds: Any, *, essential: bool = False) -> Stage:
    """One point that waits for a temperature; the loop gives it four times its expected time."""
    return Stage(name, "heating", 1, timeout_s / 4, settings, bounds, essential=essential)
