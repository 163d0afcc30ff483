"""Stability of amplified spontaneous emission, or of a laser, under its own pump: emission against laser pulses.

Order of the run: dark frames; a few short reads at the fluence of the run, and some a little beside it, which tell how
steeply the emission follows the pump; then blocks. In a block the shutter is open all the time, at its end a spectrum
is taken, and the trigger counter tells how many pulses have passed. The emission goes as a power of the pump: what
drifts of the laser is taken out with that power and the energy that was read with each spectrum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, cast

from numpy.typing import NDArray

from labctl.bench.bench import Bench
from labctl.config.bench import BenchConfig
from labctl.config.sample import SampleConfig
from labctl.errors import Aborted
from labctl.roles import TriggerCounter
from labctl.run.parameters import quantity_list, whole
from labctl.run.plan import Plan, Point, Stage
from labctl.run.procedure import Acknowledged, DefaultPlot, Record, Streams
from procedures.emission.band import band_mask, band_sum
from procedures.emission.checks import check_band
from procedures.emission.layout import frame_layout
from procedures.emission.light import dark_stage, reach_uj_cm2
from procedures.stability.ase_analysis import analyse_blocks, pump_exponent
from procedures.stability.layout import READ, SECOND_COLUMNS, log_arrays, read_layout
from procedures.stability.memory import BASELINE, SLOPE
from procedures.stability.procedure import PlanParts, StabilityProcedure
from procedures.stability.reading import Reads, Shot
from procedures.stability.shots import ShotCounter

BLOCKS = "blocks"
_TIMES_THRESHOLD = 3.0
_SLOPE_SHARES = (0.86, 0.9, 0.94, 0.98, 1.02, 1.06, 1.1)
"""Fluences, in units of that of the run, at which its power is measured: as far as a laser drifts in a day."""
_HALF_BAND_NM = 15.0
_LOOK_S, _ENERGY_EVERY_S = 1.0, 60.0
"""How often a block looks whether it is to end, and reads the energy of its pulses, in s."""


class AseStability(StabilityProcedure):
    """Emission under its own pump against the number of pulses, in one band or two."""

    NAME: ClassVar[str] = "ase-stability"
    TITLE: ClassVar[str] = "Stability of amplified emission: emission against laser pulses"
    ROLES: ClassVar[tuple[str, ...]] = (*StabilityProcedure.ROLES, "trigger_counter")
    STRESS_STAGES: ClassVar[tuple[str, ...]] = (BLOCKS,)
    DEFAULT_PLOT: ClassVar[DefaultPlot] = DefaultPlot("points", "shots", "relative_intensity", "spectrum")
    USUAL_MIN: ClassVar[tuple[float, ...]] = tuple(range(1, 81))
    DATA_COLUMNS: ClassVar[list[str]] = [
        *StabilityProcedure.DATA_COLUMNS,
        *(column.name for column in SECOND_COLUMNS),
    ]

    averages: int = whole("Exposures summed for a spectrum", minimum=1, maximum=1000, default=10)
    second_band: tuple[float, ...] | None = quantity_list("Second band (two wavelengths)", "nm", minimum=1.0)

    def plan(self, bench: BenchConfig, sample: SampleConfig | None) -> Plan:
        """Plan all stages with hard bounds on light and dose; raises InputError for what cannot be."""
        self.cycles, self.use_reference = 1, "no"
        if self.fluence is None and sample is not None and sample.sample.expected_threshold_uj_cm2 is not None:
            self.fluence = _TIMES_THRESHOLD * sample.sample.expected_threshold_uj_cm2
        parts = self.plan_reads(bench, sample)
        line_nm = self.expected_line_nm(sample)
        if self.band is None and line_nm is not None:
            self.band = (line_nm - _HALF_BAND_NM, line_nm + _HALF_BAND_NM)
        check_band(self.second_band, self.centre_wavelength)
        ends_s = [due_s for due_s in self.schedule_s() if due_s > 0]
        blocks_s = [end - begin for begin, end in zip([0.0, *ends_s[:-1]], ends_s, strict=True)]
        fluence = self.fluence or math.nan
        highest = reach_uj_cm2(bench)[1]
        slope = [{"fluence_uj_cm2": min(share * fluence, max(highest, fluence))} for share in _SLOPE_SHARES]
        baseline = [{"fluence_uj_cm2": fluence}] * self.baseline_reads
        stages = [
            dark_stage(self.ladder, self.dark_frames),
            self.read_stage(SLOPE, parts, slope),
            self.read_stage(BASELINE, parts, baseline, essential=True),
            self._block_stage(parts, blocks_s),
        ]
        return PlanParts(parts.light, parts.read_s, parts.start_up_s, (), parts.refusals).plan(stages)

    def expected_line_nm(self, sample: SampleConfig | None) -> float | None:
        """The line that the pump makes must be in the window."""
        if sample is None:
            return None
        return sample.sample.expected_ase_nm or sample.sample.expected_pl_nm

    def prepare(self, bench: Bench) -> None:
        """Cool, home, zero, see that the counter counts; the shutter is closed before and after."""
        super().prepare(bench)
        if self._has_stage:
            bench.places.go_to(self._place)
        if (counter := getattr(self, "_counter", None)) is not None:
            counter.restart()

    def begin(self, bench: Bench) -> None:
        """Nothing has been measured yet."""
        super().begin(bench)
        self._counter = ShotCounter(self._trigger_counter, 0)
        self._second_mask = (
            band_mask(bench.spectrometer.wavelength_nm, (self.second_band[0], self.second_band[1]))
            if self.second_band is not None
            else None
        )

    def streams(self, bench: Bench) -> Streams:
        """Rows of the blocks and of the reads before them, and dark frames apart from them."""
        pixels = bench.spectrometer.detector.pixels
        layouts = {"points": read_layout(pixels, 1, SECOND_COLUMNS), "dark": frame_layout(pixels)}
        return Streams(layouts, {"wavelength_nm": (bench.spectrometer.wavelength_nm, "nm")})

    def recall(self, entry: Acknowledged, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take a frame or a row of the earlier part as if it had just been measured."""
        super().recall(entry, arrays)
        self._counter = ShotCounter(self._trigger_counter, self.memory.shots)

    def measure_stage(self, point: Point) -> Record:
        """Measure a short read, or a whole block with the spectrum at its end."""
        pump, fluence_uj_cm2 = self.bench.pump, point.settings["fluence_uj_cm2"]
        began_unix_s = self.stress_began_unix_s(point)
        pump.set_fluence(fluence_uj_cm2)
        exposure_s = self.ladder.choose(self.memory.rates(fluence_uj_cm2)[0], self.bench.spectrometer.detector)
        block_s = point.settings.get("block_s", 0.0)
        with pump.light() as opening:
            self._expose(block_s - self.averages * exposure_s)
            spectrum, fluence, reading = self.taker.well_exposed(exposure_s)
            ended_s = self.bench.clock.now()
        shots = self._counter.total()
        pulses = self.pulses_in(spectrum)
        signal, variance = self.frames.emission(spectrum, fluence.pulse_energy_j, pulses)
        per_exposure = pulses / spectrum.accumulations
        total, error = band_sum(signal, variance, self.band_mask, per_exposure)
        middle_s = ended_s - 0.5 * spectrum.total_exposure_s
        error_of_mean = fluence.uj_cm2 * reading.std_j / reading.mean_j / math.sqrt(pulses)
        shot = Shot(
            spectrum,
            middle_s,
            total / pulses,
            error / pulses,
            pulses,
            fluence.pulse_energy_j,
            fluence.uj_cm2,
            math.hypot(fluence.error_uj_cm2, error_of_mean),
            opening.open_s,
        )
        second = (math.nan, math.nan)
        if self._second_mask is not None:
            second = band_sum(signal, variance, self._second_mask, per_exposure)
        columns = {
            **self.stress_columns(point, began_unix_s),
            "kind": READ,
            "place": self._place if self._has_stage else "",
            "fluence_set_uj_cm2": fluence_uj_cm2,
            "relative_intensity": self._relative(shot, point.stage),
            "dose_j_cm2": self.memory.earlier_dose_j_cm2 + pump.dose_j_cm2,
            "shots": shots,
            "block_shots": shots - self.memory.shots,
            "second_intensity": second[0] / pulses,
            "second_intensity_error": second[1] / pulses,
        }
        reads = Reads([shot], [], None, self.bench.clock.now())
        return reads.record(self.bench, self.frames, self.band_mask, 1, columns, log_arrays((), 0.0))

    def _expose(self, duration_s: float) -> None:
        """Leave the light on the sample for a time, while its energy is looked at; raises Aborted on request."""
        clock, pump = self.bench.clock, self.bench.pump
        if duration_s <= 0:
            return
        pump.require_dose(duration_s)
        ends_s, read_s = clock.now() + duration_s, clock.now()
        while (left_s := ends_s - clock.now()) > 0:
            if clock.now() >= read_s:
                pump.read_fluence(self._reading_pulses)
                read_s = clock.now() + _ENERGY_EVERY_S
                continue
            if clock.wait(self.stop_event, min(left_s, read_s - clock.now() if clock.virtual else _LOOK_S)):
                raise Aborted("the run was stopped on request", state="in a block: its light has fallen on the sample")

    def _relative(self, shot: Shot, stage: str) -> float:
        """Get the emission in units of the baseline, with the drift of the pump taken out; for the eye."""
        known = self.memory.early_reads
        exponent = pump_exponent(known)
        at_start = [intensity / energy**exponent for name, energy, intensity in known if name == BASELINE]
        now = shot.intensity / shot.energy_j**exponent
        if stage == BASELINE:
            at_start.append(now)
        return now * len(at_start) / sum(at_start) if at_start and sum(at_start) else math.nan

    def _block_stage(self, parts: PlanParts, blocks_s: list[float]) -> Stage:
        fluence = self.fluence or math.nan
        open_s = sum(blocks_s) + len(blocks_s) * parts.light.open_s
        return Stage(
            BLOCKS,
            "points",
            len(blocks_s),
            sum(blocks_s) / len(blocks_s) + parts.read_s,
            tuple({"fluence_uj_cm2": fluence, "block_s": block_s} for block_s in blocks_s),
            {"fluence_uj_cm2": (fluence, fluence), "exposure_s": parts.light.exposures_s},
            fluence * 1e-6 * open_s * parts.light.repetition_rate_hz,
            open_s,
            max(blocks_s) + self._longest_s(parts.light),
        )

    def _trigger_counter(self) -> TriggerCounter:
        return cast(TriggerCounter, self.bench.instruments["trigger_counter"])

    def analyse(self, run: Any) -> dict[str, Any]:
        """What is left, in each band, against the pulses that have passed; of a run in any state."""
        return analyse_blocks(run, self, self.report_at or (40.0, 80.0, 300.0))
