"""Emission against temperature, from a cryostat's lowest to room temperature: quench, line energy, line width.

Order of the run: dark frames and pump scatter; the operator pumps down where the bench asks for vacuum; reads at the
highest temperature, to which the last one is compared; then the lowest temperature, and reads while warming up. At each
temperature the stage settles, and the sample is given time to follow.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from labctl.bench.bench import Bench
from labctl.bench.bench_sections import section
from labctl.config.bench import BenchConfig
from labctl.config.sample import SampleConfig
from labctl.errors import Aborted, InputError, InstrumentError
from labctl.run.parameters import quantity, quantity_list, whole
from labctl.run.plan import Plan, Point, Stage
from labctl.run.procedure import DefaultPlot, Record, Streams
from procedures.stability.heat import Heat
from procedures.stability.layout import operator_layout
from procedures.stability.memory import BASELINE
from procedures.stability.procedure import StabilityProcedure
from procedures.stability.series_analysis import ZERO_CELSIUS_K, analyse_series

SERIES, VACUUM = "series", "vacuum"
_PUMP_DOWN = "pump down"
_OPERATOR_S = 300.0
_DRY_ABOVE_K = 278.0
"""Below this temperature air leaves water on the sample."""
_USUAL_K = (10.0, 25.0, 50.0, 75.0, 100.0, 125.0, 150.0, 180.0, 210.0, 240.0, 270.0, 300.0)
_VACUUM_LOOK_S = 60.0


class TemperatureSeries(StabilityProcedure):
    """Intensity, energy and width of the line at a series of temperatures."""

    NAME: ClassVar[str] = "temperature-series"
    TITLE: ClassVar[str] = "Temperature series: emission line from the lowest temperature up"
    ROLES: ClassVar[tuple[str, ...]] = (*StabilityProcedure.ROLES, "heating_stage")
    OPTIONAL_ROLES: ClassVar[tuple[str, ...]] = (*StabilityProcedure.OPTIONAL_ROLES, "vacuum_gauge")
    DEFAULT_PLOT: ClassVar[DefaultPlot] = DefaultPlot("points", "temperature_c", "ratio", "spectrum")

    averages: int = whole("Exposures summed for a spectrum", minimum=1, maximum=1000, default=10)
    temperatures: tuple[float, ...] | None = quantity_list(
        "Temperatures",
        "K",
        minimum=1.0,
        description="Measured from the lowest up; 10 to 300 K in 12 steps if not given",
    )
    dwell: float = quantity(
        "Time at each temperature before it is read", "s", minimum=0.0, maximum=86400.0, default=600.0
    )
    phonon_energy: float | None = quantity(
        "Energy of the phonon that widens the line",
        "meV",
        minimum=1.0,
        maximum=200.0,
        optional=True,
        description="Held in the fit of the width; fitted if not given",
    )

    def plan(self, bench: BenchConfig, sample: SampleConfig | None) -> Plan:
        """Plan all stages with hard bounds; raises InputError for what cannot be."""
        parts = self.plan_reads(bench, sample)
        heating = section(bench.heating, "heating", bench)
        kelvin = sorted(self.temperatures or _USUAL_K)
        if len(set(kelvin)) < len(kelvin) or len(kelvin) < 2:
            raise InputError("list two temperatures or more, each once", where="parameter temperatures")
        if kelvin[0] < _DRY_ABOVE_K and not self._needs_vacuum(bench):
            raise InputError(
                f"{kelvin[0]:g} K without vacuum: the sample and its windows would ice up",
                where="heating.vacuum_below of the bench file",
                todo="write heating.vacuum_below and [instruments.vacuum_gauge] (manual will do), or stay above 5 degC",
            )
        bounds = {"heating_stage.temperature_c": (kelvin[0] - ZERO_CELSIUS_K, kelvin[-1] - ZERO_CELSIUS_K)}
        more_s, wait_s = self.dwell + heating.timeout_s / 4, heating.timeout_s + self.dwell
        asked = ({"action": _PUMP_DOWN},)
        pump_s = _OPERATOR_S + heating.timeout_s / 4
        vacuum = [Stage(VACUUM, "operator", 1, pump_s, asked, essential=True)] if self._needs_vacuum(bench) else []
        at_top = [self._at(kelvin[-1])] * self.baseline_reads
        stages = [
            *self.first_stages(parts)[:-1],
            *vacuum,
            self.read_stage(BASELINE, parts, at_top, more_s=more_s, wait_s=wait_s, essential=True, bounds=bounds),
            self.read_stage(
                SERIES, parts, [self._at(value) for value in kelvin], more_s=more_s, wait_s=wait_s, bounds=bounds
            ),
        ]
        return parts.plan(stages)

    def begin(self, bench: Bench) -> None:
        """Nothing has been measured yet."""
        super().begin(bench)
        self._reached_k = math.nan

    def prepare(self, bench: Bench) -> None:
        """Cool, home, zero; what the stage had reached is not relied on."""
        super().prepare(bench)
        self._reached_k = math.nan

    def streams(self, bench: Bench) -> Streams:
        """Rows of the reads, of what was done by hand, and frames apart from them."""
        streams = super().streams(bench)
        return Streams({**streams.layouts, "operator": operator_layout()}, streams.axes)

    def measure_stage(self, point: Point) -> Record:
        """Measure a point that is no frame."""
        if point.stage == VACUUM:
            self.bench.ask_operator(
                _PUMP_DOWN, "Pump the cryostat down, until the gauge shows what the bench asks for."
            )
            self._wait_for_vacuum()
            return Record({"stage": point.stage, "action": _PUMP_DOWN})
        kelvin = float(point.settings["temperature_k"])
        heat = Heat(lambda: self.bench.thermostat, kelvin - ZERO_CELSIUS_K, self.stop_event)
        if self._reached_k == kelvin:
            before_c = heat.hold()
        else:
            heat.settle()
            self._dwell(heat)
            self._reached_k = kelvin
            before_c = heat.read()
        return self.read(
            point,
            after=lambda: {"temperature_c": 0.5 * (before_c + heat.read()), "pressure_mbar": heat.pressure_mbar()},
            log=heat.take_log,
        )

    def _wait_for_vacuum(self) -> None:
        """Wait until the pressure is what the bench asks for; raises what the gauge says in the end."""
        clock, thermostat = self.bench.clock, self.bench.thermostat
        ends_s = clock.now() + thermostat.config.timeout_s
        while True:
            try:
                thermostat.require_vacuum()
                return
            except InstrumentError:
                if clock.now() > ends_s:
                    raise
            if clock.wait(self.stop_event, _VACUUM_LOOK_S):
                raise Aborted("the run was stopped on request", state="shutter closed")

    def _dwell(self, heat: Heat) -> None:
        clock, every_s = self.bench.clock, self.bench.thermostat.config.reading_every_s
        ends_s = clock.now() + self.dwell
        while (left_s := ends_s - clock.now()) > 0:
            if clock.wait(self.stop_event, min(left_s, every_s)):
                raise Aborted("the run was stopped on request", state="shutter closed")
            heat.read()

    def _at(self, kelvin: float) -> dict[str, Any]:
        return {"fluence_uj_cm2": self.fluence, "temperature_k": kelvin}

    def _needs_vacuum(self, bench: BenchConfig) -> bool:
        return bench.heating is not None and bench.heating.vacuum_below_mbar is not None

    def analyse(self, run: Any) -> dict[str, Any]:
        """Quench, energy and width of the line against temperature; of a run in any state."""
        return analyse_series(run, self)
