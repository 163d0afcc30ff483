"""Logs the humidity at even intervals."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from labctl.bench.bench import Bench
from labctl.config.bench import BenchConfig
from labctl.config.sample import SampleConfig
from labctl.run.parameters import quantity, whole
from labctl.run.plan import Plan, Point, Stage
from labctl.run.procedure import DefaultPlot, Streams, SweepProcedure
from labctl.run.record import Record
from labctl.store.layout import Column, RowLayout

_READING_S = 0.5
"""Expected duration of a reading."""


class HumidityLog(SweepProcedure):
    """Reads the hygrometer again and again."""

    NAME: ClassVar[str] = "humidity-log"
    TITLE: ClassVar[str] = "Humidity around the sample"
    ROLES: ClassVar[tuple[str, ...]] = ("hygrometer",)
    DEFAULT_PLOT: ClassVar[DefaultPlot] = DefaultPlot("points", "planned_s", "humidity_percent")

    readings: int = whole("Readings", minimum=1, maximum=100_000, default=10)
    interval: float = quantity("Time from one reading to the next", "s", minimum=0.1, maximum=86_400.0, default=60.0)

    def plan(self, bench: BenchConfig, sample: SampleConfig | None) -> Plan:
        """One stage whose points are all known beforehand, each with the moment at which it is due."""
        times_s = tuple(number * self.interval for number in range(self.readings))
        settings = tuple({"planned_s": time_s} for time_s in times_s)
        return Plan((Stage("log", "points", self.readings, _READING_S, settings, times_s=times_s),))

    def prepare(self, bench: Bench) -> None:
        """Switch the heater off: it dries the sensor, and would be measured."""
        self._hygrometer: Any = bench.instruments["hygrometer"]
        self._hygrometer.heat(False)

    def streams(self, bench: Bench) -> Streams:
        """One stream of two columns."""
        columns = (Column("planned_s", "float", "s"), Column("humidity_percent", "float", "%"))
        return Streams({"points": RowLayout(columns)})

    def measure(self, point: Point) -> Record:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Read; the engine has waited for the moment of the point."""
        return Record({**point.settings, "humidity_percent": self._hygrometer.humidity_percent})

    def analyse(self, run: Any) -> dict[str, Any]:
        """Mean with its 68 % interval, from a run live or old."""
        humidity = np.asarray(run.column("humidity_percent", "points"))
        mean, error = float(humidity.mean()), float(humidity.std() / np.sqrt(max(len(humidity) - 1, 1)))
        return {
            "result": {"humidity": {"value": mean, "unit": "%", "ci68": [mean - error, mean + error]}},
            "warnings": [],
        }
