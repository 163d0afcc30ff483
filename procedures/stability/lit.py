"""What procedures share whose sample is stressed by a lamp, with or without water."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from labctl.bench.bench import Bench
from labctl.errors import InputError
from labctl.run.parameters import flag
from labctl.run.plan import Point, Stage
from labctl.run.procedure import Record
from procedures.stability.lamp import LampStress
from procedures.stability.layout import LAMP, READ, lamp_record, log_arrays
from procedures.stability.procedure import PlanParts, StabilityProcedure
from procedures.stability.schedule import HOUR_S, MINUTE_S

_WARM_UP_S = (0.0, MINUTE_S, 2 * MINUTE_S, 3 * MINUTE_S, 5 * MINUTE_S)
"""When the lamp alone is read after it was lit: most of the warming up is over then."""
_LAMP_POINT_S = 2.0


class LitProcedure(StabilityProcedure):
    """Reads of a sample under a lamp: the lamp stays on between points, and unless asked otherwise during reads."""

    pause_stress: bool = flag("Switch the lamp off while the emission is read", default=False)

    def lit_stage(self, name: str, parts: PlanParts, times_s: Sequence[float], **more: Any) -> Stage:
        """Reads under the lamp, with points between them that read the lamp alone."""
        reads_s = [due_s for due_s in times_s if due_s > 0]
        if not reads_s:
            raise InputError("the schedule holds no read under the lamp", where="parameter times")
        entries = {due_s: {**entry, **more, "kind": READ} for due_s, entry in self._due(parts, reads_s)}
        for due_s in lamp_times_s(reads_s):
            entries.setdefault(due_s, {"fluence_uj_cm2": self.fluence, "kind": LAMP})
        due = tuple(sorted(entries))
        stage = self.read_stage(name, parts, [entries[due_s] for due_s in due], times_s=due, more_s=_LAMP_POINT_S)
        # Only reads let light on the sample.
        share = len(reads_s) / len(due)
        return replace(stage, dose_j_cm2=stage.dose_j_cm2 * share, open_s=stage.open_s * share)

    def prepare(self, bench: Bench) -> None:
        """As for all reads; a lamp meter that was connected anew is told its wavelength again. The lamp stays as is."""
        super().prepare(bench)
        bench.stress_lamp.prepare()

    def begin(self, bench: Bench) -> None:
        """Nothing has been measured yet; the lamp is off."""
        super().begin(bench)
        self.lamp = LampStress(lambda: self.bench.stress_lamp, bench.clock)

    def take_up(self, point: Point) -> None:
        """Light the lamp again that was put out when the run broke off."""
        if point.stage in self.STRESS_STAGES and self.memory.stress_began_unix_s:
            self.lamp.switch_on()

    def measure_lit(self, point: Point) -> Record:
        """Measure a point under the lamp, which is lit if it is not on."""
        began_unix_s = self.stress_began_unix_s(point)
        self.lamp.switch_on()
        if point.settings["kind"] == LAMP:
            self.lamp.read()
            pumped = {"open_s": 0.0, "dose_j_cm2": self.memory.earlier_dose_j_cm2 + self.bench.pump.dose_j_cm2}
            columns = {**self.stress_columns(point, began_unix_s), **self._lamp_columns(), **pumped}
            pixels = self.bench.spectrometer.detector.pixels
            return lamp_record(columns, pixels, self.cycles, log_arrays(self.lamp.take_log(), self.bench.clock.now()))
        if self.pause_stress:
            self.lamp.switch_off()
        else:
            self.lamp.read()
        return self.read(
            point,
            lamp_is_on=(lambda: True) if not self.pause_stress else None,
            after=self._after_read,
            log=self.lamp.take_log,
        )

    def measure_dark_lamp(self, point: Point) -> Record:
        """Read with the lamp off."""
        self.lamp.switch_off()
        return self.read(point, after=lambda: {"lamp_dose_j_cm2": self._dose_j_cm2()}, log=self.lamp.take_log)

    def _after_read(self) -> dict[str, Any]:
        if self.pause_stress:
            self.lamp.switch_on()
        else:
            self.lamp.read()
        return self._lamp_columns()

    def _lamp_columns(self) -> dict[str, Any]:
        return {
            "irradiance_mw_cm2": self.lamp.last_mw_cm2,
            "lamp_dose_j_cm2": self._dose_j_cm2(),
            "stress_paused": self.pause_stress,
        }

    def _dose_j_cm2(self) -> float:
        return self.memory.earlier_lamp_dose_j_cm2 + self.lamp.dose_j_cm2

    def _due(self, parts: PlanParts, reads_s: Sequence[float]) -> list[tuple[float, dict[str, Any]]]:
        return list(zip(reads_s, self.scheduled(parts, reads_s), strict=True))


def lamp_times_s(reads_s: Sequence[float]) -> list[float]:
    """Get when the lamp alone is to be read, beside some reads: while it warms up, and every hour at least."""
    found = [due_s for due_s in _WARM_UP_S if due_s < reads_s[-1]]
    before_s = 0.0
    for due_s in reads_s:
        between = int((due_s - before_s) / HOUR_S - 1e-6)
        found += [before_s + number * (due_s - before_s) / (between + 1) for number in range(1, between + 1)]
        before_s = due_s
    return found
