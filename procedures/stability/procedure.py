"""The base of the stability procedures: reads of a sample against a reference, and a schedule."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from labctl.analysis.stress_clock import HC_J_M
from labctl.bench.bench import Bench
from labctl.bench.bench_sections import meter_reading_s, section
from labctl.bench.places import Places, require_place
from labctl.config.bench import BenchConfig
from labctl.config.sample import SampleConfig
from labctl.config.surroundings import DARK_PLACE, REFERENCE_PLACE, SAMPLE_PLACE
from labctl.errors import InputError
from labctl.run.parameters import choice, named, quantity, quantity_list, whole
from labctl.run.plan import Plan, Point, Stage
from labctl.run.policy import FailurePolicy
from labctl.run.procedure import Acknowledged, DefaultPlot, Record, Streams
from procedures.emission.layout import arrays_of, frame_layout, frame_row
from procedures.emission.light import (
    MOVE_S,
    READOUT_S,
    SHUTTER_S,
    PointLight,
    dark_stage,
    reach_refusals,
    reach_uj_cm2,
)
from procedures.emission.procedure import EmissionProcedure, relative_energy_error
from procedures.stability.layout import LOG_ENTRIES, READ, READ_COLUMNS, log_arrays, read_layout
from procedures.stability.memory import BASELINE, SCATTER, StabilityMemory
from procedures.stability.reading import Reader
from procedures.stability.schedule import Rhythm

_CARRIAGE_S = 12.0
"""Expected time to bring sample or reference into the beam."""
_MARGIN_NM = 15.0
"""A line nearer than this to the edge of the window is not seen as a whole."""
_WEAK_EXCITONS = 0.05
"""Mean number of excitons in a particle at which a read is weak."""
_REFERENCE_ADVICE = "without a reference the drift of laser and optics stays in the curve"


@dataclass(frozen=True)
class PlanParts:
    """What all stages of reads have in common.

    :param read_s: Expected duration of a read.
    """

    light: PointLight
    read_s: float
    start_up_s: float
    warnings: tuple[str, ...]
    refusals: tuple[str, ...]

    def plan(self, stages: Sequence[Stage], *warnings: str) -> Plan:
        """Compose the plan."""
        return Plan(tuple(stages), self.start_up_s, (*self.warnings, *warnings), self.refusals)


class StabilityProcedure(EmissionProcedure):
    """How the emission of a sample changes under stress, read at weak light against a reference that does not change.

    A procedure plans its stages around :meth:`read_stage`, and measures those that are no reads in
    :meth:`measure_stage`. The excitation is on only while a spectrum is taken; the stress goes on between points.
    """

    OPTIONAL_ROLES: ClassVar[tuple[str, ...]] = (*EmissionProcedure.OPTIONAL_ROLES, "sample_stage")
    FAILURES: ClassVar[FailurePolicy] = FailurePolicy(retries=3, then="skip", patience_s=7200.0, quarantine_after=20)
    DATA_COLUMNS: ClassVar[list[str]] = [column.name for column in READ_COLUMNS]
    DEFAULT_PLOT: ClassVar[DefaultPlot] = DefaultPlot("points", "stress_s", "relative_intensity", "spectrum")
    POINT_BYTES: ClassVar[int] = 2048 + 2048 * 13 + LOG_ENTRIES * 12
    STRESS_STAGES: ClassVar[tuple[str, ...]] = ()
    """Stages during which the sample is stressed."""
    USUAL_MIN: ClassVar[tuple[float, ...]] = ()
    """When reads are due where nobody says otherwise, in minutes since the stress began."""

    fluence: float | None = quantity(
        "Fluence of a read",
        "uJ/cm^2",
        minimum=1e-9,
        maximum=1e6,
        optional=True,
        description="Weak; if not given a tenth of the expected threshold, else 0.05 excitons in a particle",
    )
    cycles: int = whole("Reads of the sample in a point, each between two of the reference", minimum=1, default=3)
    baseline_reads: int = whole("Reads before the stress", minimum=1, maximum=1000, default=3)
    after_reads: int = whole("Reads after it", minimum=0, maximum=1000, default=3)
    place: str | None = named("Place of the sample on the stage", description="`sample` if not given")
    use_reference: str = choice(
        "Read the reference too", choices=("auto", "yes", "no"), default="auto", description="auto: if there is one"
    )
    scatter: str = choice(
        "Pump scatter, measured without the sample",
        choices=("auto", "by hand", "none"),
        default="auto",
        description="auto: at the dark place of the sample stage, or by hand where there is none",
    )
    scatter_frames: int = whole("Frames of pump scatter", minimum=1, maximum=1000, default=5)
    dark_frames: int = whole("Dark frames for each exposure", minimum=1, maximum=1000, default=10)
    atmosphere: str = choice(
        "Atmosphere around the sample, recorded",
        choices=("not stated", "air", "nitrogen", "argon", "vacuum", "water"),
        default="not stated",
    )
    times: tuple[float, ...] | None = quantity_list(
        "Times of the reads", "min", minimum=0.0, description="Since the stress began; instead of the usual ones"
    )
    duration: float | None = quantity(
        "Duration", "min", minimum=1e-3, maximum=1e6, optional=True, description="The usual schedule, cut or extended"
    )
    every: float | None = quantity(
        "Interval of the reads",
        "min",
        minimum=1e-3,
        maximum=1e6,
        optional=True,
        description="After the dense beginning",
    )
    first: float | None = quantity(
        "First read",
        "min",
        minimum=1e-3,
        maximum=1e6,
        optional=True,
        description="The next ones on a logarithmic scale",
    )
    dense_every: float | None = quantity(
        "Interval at the beginning",
        "min",
        minimum=1e-3,
        maximum=1e6,
        optional=True,
        description="Instead of a logarithmic scale; up to dense-until",
    )
    dense_until: float | None = quantity("End of the dense beginning", "min", minimum=1e-3, maximum=1e6, optional=True)
    report_at: tuple[float, ...] | None = quantity_list(
        "Times at which the result is wanted", "min", minimum=0.0, description="Beside the end of the run"
    )

    def plan_reads(self, bench: BenchConfig, sample: SampleConfig | None) -> PlanParts:
        """Settle fluence, window, exposures, place and reference; raises InputError for what cannot be."""
        self._complete(bench, sample)
        few_pulses, without_line = self.plan_exposures(bench, sample)
        self._has_stage = bench.places is not None and "sample_stage" in bench.instruments
        warnings = [*few_pulses, *self._settle_places(bench)]
        if self.fluence is None:
            raise InputError(
                "it is not said how strongly to excite",
                where=f"parameters of {self.NAME}",
                todo="set fluence, e.g. '1 uJ/cm^2', or give a sample with expected_threshold",
            )
        meter_s = meter_reading_s(bench, self._reading_pulses)
        rate_hz = bench.laser.repetition_rate_hz if bench.laser else 0.0
        light = PointLight.of(self.ladder, self.averages, meter_s, rate_hz)
        refusals = [*without_line, *reach_refusals([self.fluence], reach_uj_cm2(bench))]
        start_up_s = bench.spectrometer.cooling_timeout_s / 4 if bench.spectrometer else 0.0
        return PlanParts(light, self._read_s(light, self.cycles), start_up_s, tuple(warnings), tuple(refusals))

    def read_stage(
        self,
        name: str,
        parts: PlanParts,
        settings: Sequence[Mapping[str, Any]],
        *,
        times_s: tuple[float, ...] | None = None,
        more_s: float = 0.0,
        wait_s: float = 0.0,
        essential: bool = False,
        bounds: Mapping[str, tuple[float, float]] | None = None,
    ) -> Stage:
        """Points that are reads.

        :param more_s: Expected time of a point beside its read. :param wait_s: The longest that it may wait.
        :param bounds: Of what it sets beside the light.
        """
        fluences = [entry["fluence_uj_cm2"] for entry in settings]
        open_s = self._open_s(parts.light)
        found: dict[str, tuple[float, float]] = {
            "fluence_uj_cm2": (min(fluences), max(fluences)),
            "exposure_s": parts.light.exposures_s,
            **(bounds or {}),
        }
        return Stage(
            name,
            "points",
            len(settings),
            parts.read_s + more_s,
            tuple(settings),
            found,
            float(sum(fluences)) * 1e-6 * open_s * parts.light.repetition_rate_hz,
            open_s * len(settings),
            self._longest_s(parts.light) + wait_s / 4,
            times_s=times_s,
            essential=essential,
        )

    def first_stages(self, parts: PlanParts) -> list[Stage]:
        """Dark frames, pump scatter, and the baseline."""
        settings = [{"fluence_uj_cm2": self.fluence}] * self.baseline_reads
        stages = [dark_stage(self.ladder, self.dark_frames)]
        if self.scatter != "none" and self.fluence is not None:
            meter_s = parts.light.meter_s
            stages.append(_scatter_stage(self.fluence, self.ladder.longest_s, self.scatter_frames, meter_s))
        return [*stages, self.read_stage(BASELINE, parts, settings, essential=True)]

    def scheduled(self, parts: PlanParts, times_s: Sequence[float], **more: Any) -> list[dict[str, Any]]:
        """Get the settings of reads that are due at some times; fewer cycles where the next one is due soon.

        :param more: Settings of all of them.
        """
        settings = []
        for number, due_s in enumerate(times_s):
            free_s = times_s[number + 1] - due_s if number + 1 < len(times_s) else math.inf
            fitting = [count for count in range(1, self.cycles + 1) if self._read_s(parts.light, count) <= free_s]
            settings.append({"fluence_uj_cm2": self.fluence, "cycles": max(fitting, default=1), **more})
        return settings

    def late_warnings(self, parts: PlanParts, times_s: Sequence[float]) -> list[str]:
        """Warn of reads that are due before the one before can be over."""
        shortest_s = self._read_s(parts.light, 1)
        late = sum(b - a < shortest_s for a, b in itertools.pairwise(times_s))
        if not late:
            return []
        return [
            f"{late} reads are due less than {shortest_s:.0f} s after the one before, which is what a read takes: they"
            " come late, and count at the time at which they are taken"
        ]

    def schedule_s(self) -> tuple[float, ...]:
        """Get when reads are due, in s since the stress began."""
        rhythm = Rhythm(self.times, self.first, self.dense_every, self.dense_until, self.every, self.duration)
        return rhythm.due_s(self.USUAL_MIN)

    def expected_line_nm(self, sample: SampleConfig | None) -> float | None:
        """The sample's photoluminescence must be in the window."""
        return sample.sample.expected_pl_nm if sample is not None else None

    def prepare(self, bench: Bench) -> None:
        """Cool, home, zero; the shutter is closed before and after. What stresses the sample stays as it is."""
        super().prepare(bench)
        if self._has_stage and not bench.places.stage.is_homed:
            bench.places.stage.home()

    def begin(self, bench: Bench) -> None:
        """Nothing has been measured yet."""
        super().begin(bench)
        self.memory = StabilityMemory(self.frames)
        self.reader = Reader(
            bench,
            self.taker,
            self.frames,
            self.ladder,
            self.band_mask,
            places=self._places,
            place=self._place,
            use_reference=self._with_reference,
            averages=self.averages,
            stop=self.stop_event,
        )

    def streams(self, bench: Bench) -> Streams:
        """Rows of the reads, and dark frames apart from them."""
        pixels = bench.spectrometer.detector.pixels
        layouts = {"points": read_layout(pixels, self.cycles), "dark": frame_layout(pixels)}
        if self.scatter != "none":
            layouts["scatter"] = frame_layout(pixels)
        return Streams(layouts, {"wavelength_nm": (bench.spectrometer.wavelength_nm, "nm")})

    def measure(self, point: Point) -> Record:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Measure one point of any stage."""
        self.wait_until_cold()
        if point.stage == "dark":
            return self.measure_dark(point.settings["exposure_s"])
        if point.stage == SCATTER:
            return self._measure_scatter(point)
        return self.measure_stage(point)

    def measure_stage(self, point: Point) -> Record:
        """Measure a point that is no dark frame; by default a read."""
        return self.read(point)

    def read(
        self,
        point: Point,
        *,
        lamp_is_on: Callable[[], bool] | None = None,
        after: Callable[[], Mapping[str, Any]] = dict,
        log: Callable[[], Sequence[tuple[float, float]]] = tuple,
    ) -> Record:
        """Read sample and reference.

        :param lamp_is_on: Tells whether the stress lamp shines on sample and detector meanwhile.
        :param after: Gets further columns when the read is over. :param log: Gets what was read of the stress, with it.
        """
        fluence = point.settings["fluence_uj_cm2"]
        began_unix_s = self.stress_began_unix_s(point)
        reads = self.reader.take(
            fluence, point.settings.get("cycles", self.cycles), self.memory.rates(fluence), lamp_is_on=lamp_is_on
        )
        ratio = float(reads.ratios()[0].mean())
        columns = {
            **self.stress_columns(point, began_unix_s),
            "kind": READ,
            "place": self._place if self._has_stage else "",
            "fluence_set_uj_cm2": fluence,
            "relative_intensity": self.memory.relative(ratio, point.stage),
            "dose_j_cm2": self.memory.earlier_dose_j_cm2 + self.bench.pump.dose_j_cm2,
            **after(),
        }
        arrays = log_arrays(log(), self.bench.clock.now())
        # The record is stored now: times within it are told from here.
        reads = reads.until(self.bench.clock.now())
        return reads.record(self.bench, self.frames, self.band_mask, self.cycles, columns, arrays)

    def stress_began_unix_s(self, point: Point) -> float:
        """Get when the stress began, in Unix time; now, for the first point of its stage, and 0 before."""
        if self.memory.stress_began_unix_s or point.stage not in self.STRESS_STAGES:
            return self.memory.stress_began_unix_s
        return self.bench.clock.wall()

    def stress_columns(self, point: Point, began_unix_s: float) -> dict[str, Any]:
        """Get the columns that tell the stress, where a procedure does not know them better."""
        stressed_s = self.bench.clock.wall() - began_unix_s if began_unix_s else 0.0
        return {
            "stage": point.stage,
            "stress_s": stressed_s,
            "stress_began_unix_s": began_unix_s,
            "temperature_c": math.nan,
            "irradiance_mw_cm2": math.nan,
            "lamp_dose_j_cm2": self.memory.lamp_dose_j_cm2,
            "stress_paused": False,
            "shots": self.memory.shots,
            "pressure_mbar": math.nan,
        }

    def acknowledge(self, entry: Acknowledged) -> None:
        """Remember what steers exposures and clocks."""
        self.memory.acknowledge(entry)

    def recall(self, entry: Acknowledged, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take a frame or a row of the earlier part as if it had just been measured."""
        self.memory.recall(entry, arrays)

    def is_better_reference(self, best: Acknowledged | None, entry: Acknowledged) -> bool:
        """The first read of the baseline: it stresses nothing, and nothing had stressed the sample before it."""
        return best is None and entry.point.stage == BASELINE

    def reference_ratio(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> float | None:
        """Compare the reference per energy: the sample is meant to change."""
        name = "reference_intensity" if math.isfinite(before["reference_intensity"]) else "sample_intensity"
        then = before[name] / before["pulse_energy_j"]
        return float(now[name] / now["pulse_energy_j"] / then) if then else None

    def _measure_scatter(self, point: Point) -> Record:
        """Take what the pump alone gives, on the dark place or with the sample moved out by hand."""
        pump, places = self.bench.pump, self._places()
        pump.set_fluence(point.settings["fluence_uj_cm2"])
        dark = places is not None and places.has_dark and self.scatter == "auto"
        if places is not None:
            places.go_to(DARK_PLACE if dark else self._place)
        if not dark:
            self.bench.ask_operator("sample out of beam", "Move the sample out of the pump beam; leave all else as is.")
        with pump.light(on_sample=False):
            frame, fluence, reading = self.taker.lit(point.settings["exposure_s"], self.scatter_frames)
            while self.full_pixels(frame) and frame.exposure_s > self.ladder.shortest_s * 1.001:
                frame, fluence, reading = self.taker.lit(self.ladder.shorter(frame.exposure_s), self.scatter_frames)
        if not dark:
            self.bench.ask_operator("sample into beam", "Move the sample back into the pump beam, to the same spot.")
        pulses, energy_j = self.pulses_in(frame), fluence.pulse_energy_j
        error_j = energy_j * relative_energy_error(fluence, reading, pulses)
        self.frames.add_scatter(frame, energy_j, pulses, error_j)
        return Record(frame_row(frame, energy_j, error_j, pulses), arrays_of(frame))

    def _places(self) -> Places | None:
        return self.bench.places if self._has_stage else None

    def _complete(self, bench: BenchConfig, sample: SampleConfig | None) -> None:
        """Take from the sample what was not given as a parameter; the run stores the values used."""
        threshold = sample.sample.expected_threshold_uj_cm2 if sample is not None else None
        if self.fluence is None and threshold is not None:
            self.fluence = 0.1 * threshold
        if self.fluence is None and sample is not None and sample.sample.excitation is not None and bench.laser:
            photon_uj = 1e6 * HC_J_M / (bench.laser.wavelength_nm * 1e-9)
            weak = _WEAK_EXCITONS * photon_uj / sample.sample.excitation.cross_section_cm2
            # The weakest that the attenuator can set is weak enough, or is refused by what the plan says of it.
            self.fluence = max(weak, 1.05 * reach_uj_cm2(bench)[0])
        line_nm, spectrometer = self.expected_line_nm(sample), bench.spectrometer
        if self.centre_wavelength is not None or self.band is not None or line_nm is None or spectrometer is None:
            return
        half_nm = 0.5 * (spectrometer.window_nm or math.inf)
        if abs(line_nm - spectrometer.centre_wavelength_nm) > half_nm - _MARGIN_NM:
            self.centre_wavelength = line_nm

    def _settle_places(self, bench: BenchConfig) -> list[str]:
        """Settle place and reference; get what to warn of."""
        positions = section(bench.places, "places", bench) if self._has_stage else {}
        self._place = self.place = self.place or SAMPLE_PLACE
        if self._place in (REFERENCE_PLACE, DARK_PLACE):
            raise InputError(
                f"{self._place!r} is no place of a sample",
                where="parameter place",
                todo=f"its samples are at {', '.join(p for p in positions if p not in (REFERENCE_PLACE, DARK_PLACE))}",
            )
        if self._has_stage:
            require_place(self._place, positions)
        elif self._place != SAMPLE_PLACE:
            raise InputError(
                f"there is no sample stage to bring {self._place!r} into the beam", where="parameter place"
            )
        has_reference = REFERENCE_PLACE in positions
        if self.use_reference == "yes" and not has_reference:
            raise InputError(
                "there is no reference to read",
                where=f"the bench {bench.name!r}",
                todo="write places.reference and [instruments.sample_stage], or leave use-reference out",
            )
        self._with_reference = has_reference and self.use_reference != "no"
        return [] if self._with_reference else [f"no reference is read: {_REFERENCE_ADVICE}"]

    def _read_s(self, light: PointLight, cycles: int) -> float:
        """Expected duration of a read: exposures of weak light are long, though not the longest."""
        one_s = SHUTTER_S + light.meter_s + self.averages * (self.ladder.middle_s + READOUT_S)
        return MOVE_S + self._shots(cycles) * (one_s + (_CARRIAGE_S if self._with_reference else 0.0))

    def _longest_s(self, light: PointLight) -> float:
        carriage_s = _CARRIAGE_S if self._with_reference else 0.0
        frame_s = self.averages * (self.ladder.longest_s + READOUT_S)
        one_s = SHUTTER_S + light.meter_s + 2 * frame_s + carriage_s
        return MOVE_S + 2 * light.open_s + self._shots(self.cycles) * one_s

    def _open_s(self, light: PointLight) -> float:
        """Upper bound of the light on the sample in a read: only the first spectrum is taken again."""
        one_s = SHUTTER_S + light.meter_s + self.averages * (self.ladder.longest_s + READOUT_S)
        return light.open_s + (self.cycles - 1) * one_s

    def _shots(self, cycles: int) -> int:
        return 2 * cycles + 1 if self._with_reference else cycles


def _scatter_stage(fluence_uj_cm2: float, exposure_s: float, frames: int, meter_s: float) -> Stage:
    """One frame of pump scatter, as long as may be: it is weak, and the noise of its dark frame counts less.

    The sample is out of the beam, so it gets no dose.
    """
    settings = ({"fluence_uj_cm2": fluence_uj_cm2, "exposure_s": exposure_s},)
    bounds = {"fluence_uj_cm2": (fluence_uj_cm2, fluence_uj_cm2), "exposure_s": (exposure_s, exposure_s)}
    return Stage(
        SCATTER, "scatter", 1, MOVE_S + _CARRIAGE_S + meter_s + frames * exposure_s, settings, bounds, essential=True
    )
