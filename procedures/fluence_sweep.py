"""Fluence sweep: emission spectra against pump fluence, and from them the threshold of amplified spontaneous emission.

Order of the run: dark frames at every exposure of the ladder; pump scatter with the sample out of the beam; a coarse
ascending pass; a fine pass around the threshold that the coarse pass showed; a return to the lowest fluences, which
tells whether the sample was damaged. The fluence of a point is what the energy meter read while the spectrum was taken;
the calibration of the attenuator only sets the angle.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.ase import ThresholdModel, threshold_model
from labctl.analysis.live import live_threshold
from labctl.analysis.sweep_design import FINE_RANGE, coarse_fluences, gap_fluences, refine_fluences
from labctl.bench.bench import Bench, needs_laboratory
from labctl.bench.bench_sections import meter_reading_s
from labctl.config.bench import BenchConfig
from labctl.config.sample import SampleConfig
from labctl.errors import InputError, InstrumentError
from labctl.quantities import excitons_per_particle
from labctl.run.parameters import choice, quantity, quantity_list, whole
from labctl.run.plan import Plan, Point, Stage
from labctl.run.procedure import Acknowledged, DefaultPlot, Record, Streams
from procedures.emission.band import band_sum
from procedures.emission.exposure import predicted_peak_rate
from procedures.emission.layout import arrays_of, frame_layout, frame_row
from procedures.emission.light import PointLight, dark_stage, reach_refusals, reach_uj_cm2
from procedures.emission.procedure import EmissionProcedure, relative_energy_error, spectrometer_settings
from procedures.emission.stored import bench_of
from procedures.sweep.analysis import analyse
from procedures.sweep.checks import (
    check_numbers,
    excitation_warnings,
    listed_warnings,
    operator_warnings,
    order_warnings,
)
from procedures.sweep.layout import POINT_COLUMNS, point_layout
from procedures.sweep.memory import ComingFluences, SweepMemory, fluences_of
from procedures.sweep.overlaps import Overlaps
from procedures.sweep.spectra import LiveLines
from procedures.sweep.stages import fine_stage, listed_stage, scatter_stage

log = logging.getLogger(__name__)

_COARSE_SPAN = (0.1, 5.0)
_SAME_LINE_NM = 5.0
_PL_ALONE = 0.5


class FluenceSweep(EmissionProcedure):
    """Pump fluence sweep with auto-exposure, refinement around the threshold, and a check for photodamage."""

    NAME: ClassVar[str] = "fluence-sweep"
    TITLE: ClassVar[str] = "Fluence sweep: threshold of amplified spontaneous emission"
    DEFAULT_PLOT: ClassVar[DefaultPlot] = DefaultPlot("points", "fluence_uj_cm2", "band_intensity", "spectrum")
    DATA_COLUMNS: ClassVar[list[str]] = [column.name for column in POINT_COLUMNS]
    RESULTS: ClassVar[Mapping[str, str]] = {"threshold": "uJ/cm^2"}

    expected_threshold: float | None = quantity(
        "Expected threshold",
        "uJ/cm^2",
        minimum=1e-6,
        maximum=1e6,
        optional=True,
        description="Centre of the coarse pass; from the sample file if not given",
    )
    fluences: tuple[float, ...] | None = quantity_list(
        "Listed fluences",
        "uJ/cm^2",
        minimum=1e-9,
        description="Measure just these instead of a coarse and a fine pass",
    )
    order: str = choice("Order of the fluences", choices=("ascending", "descending"), default="ascending")
    coarse_points: int = whole("Points of the coarse pass", minimum=5, maximum=200, default=8)
    fine_points: int = whole("Points of the fine pass (0 or at least 5)", minimum=0, maximum=1000, default=24)
    return_points: int = whole("Lowest fluences measured again at the end", minimum=0, maximum=20, default=3)
    scatter_frames: int = whole("Frames of pump scatter, sample out of the beam", minimum=0, maximum=1000, default=4)
    cross_section: float | None = quantity(
        "Absorption cross-section at the pump wavelength",
        "cm^2",
        minimum=1e-20,
        maximum=1e-9,
        optional=True,
        description="For excitons per particle; from the sample file if not given",
    )
    threshold_model: str = choice("Definition of the threshold", choices=("auto", "knee", "lasing"), default="auto")

    def plan(self, bench: BenchConfig, sample: SampleConfig | None) -> Plan:
        """Plan all stages with hard bounds; raises InputError if the fluences are out of reach of the attenuator."""
        self._complete(bench, sample)
        form = sample.sample.form if sample is not None else None
        self._model: ThresholdModel = threshold_model(self.threshold_model, form)
        check_numbers(fine_points=self.fine_points, fluences=self.fluences)
        few_pulses, without_line = self.plan_exposures(bench, sample)
        ladder, rate_hz = self.ladder, bench.laser.repetition_rate_hz if bench.laser else 0.0
        fluences = self._first_fluences()
        reach = reach_uj_cm2(bench)
        unreachable = reach_refusals(fluences, reach)
        meter_s = meter_reading_s(bench, self._reading_pulses)
        stages = [dark_stage(ladder, self.dark_frames)]
        if self.scatter_frames:
            stages.append(scatter_stage(min(self._middle_uj_cm2(), reach[1]), ladder, self.scatter_frames, meter_s))
        light = PointLight.of(ladder, self.averages, meter_s, rate_hz)
        stages += self._emission_stages(fluences, reach, light, with_fine=not unreachable)
        warnings = [
            *order_warnings(self.order),
            *listed_warnings(self.fluences),
            *few_pulses,
            *excitation_warnings(self._other_line_nm, bench.laser.wavelength_nm if bench.laser else None),
            *operator_warnings(self.scatter_frames, simulated=needs_laboratory(bench)),
        ]
        start_up_s = bench.spectrometer.cooling_timeout_s / 4 if bench.spectrometer else 0.0
        return Plan(tuple(stages), start_up_s, tuple(warnings), (*without_line, *unreachable))

    def begin(self, bench: Bench) -> None:
        """Nothing has been measured yet."""
        super().begin(bench)
        lines = LiveLines(
            bench.spectrometer.wavelength_nm,
            self.band_mask,
            pl_below_uj_cm2=math.inf if self.order == "ascending" else _PL_ALONE * self._middle_uj_cm2(),
            instrument_fwhm_nm=spectrometer_settings(bench.config).instrument_fwhm_nm,
        )
        self._memory = SweepMemory(self.frames, lines)
        self._overlaps = Overlaps(bench, self.ladder, self._memory, self.band_mask, self.stop_event)

    def streams(self, bench: Bench) -> Streams:
        """Rows of the sweep, and dark and scatter frames apart from them."""
        pixels = bench.spectrometer.detector.pixels
        layouts = {"points": point_layout(pixels), "dark": frame_layout(pixels), "scatter": frame_layout(pixels)}
        return Streams(layouts, {"wavelength_nm": (bench.spectrometer.wavelength_nm, "nm")})

    def next_settings(self, stage: Stage, rows: Sequence[Acknowledged]) -> Sequence[Mapping[str, Any]]:
        """Place the fine pass around the threshold that the coarse pass shows."""
        coarse = [entry.row for entry in rows if entry.point.stage == "coarse"]
        column = {name: np.array([row[name] for row in coarse]) for name in ("fluence_uj_cm2", "band_intensity")}
        low, high = stage.bounds["fluence_uj_cm2"]
        try:
            found = live_threshold(
                column["fluence_uj_cm2"],
                column["band_intensity"],
                saturated=np.array([row["saturated_pixels"] > 0 for row in coarse]),
                model=self._model,
            ).value
            settings = self._settings(refine_fluences(found, stage.max_points, low, high))
        except ValueError as reason:  # no threshold in the coarse pass, or none the bench can reach around
            log.warning("the fine pass is spread evenly: %s", reason)
            settings = self._even_settings(stage)
        self._coming.set(stage.name, settings)
        return settings

    def measure(self, point: Point) -> Record:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Measure one point of any stage."""
        self.wait_until_cold()
        if point.stage == "dark":
            return self.measure_dark(point.settings["exposure_s"])
        if point.stage == "scatter":
            return self._measure_scatter(point.settings["fluence_uj_cm2"], point.settings["exposure_s"])
        return self._measure_emission(point)

    def acknowledge(self, entry: Acknowledged) -> None:
        """Remember the rows of the sweep."""
        self._memory.acknowledge(entry)

    def recall(self, entry: Acknowledged, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take a frame or a spectrum of the earlier part as if it had just been measured."""
        self._memory.recall(entry, arrays)
        self._memory.acknowledge(entry)

    def is_better_reference(self, best: Acknowledged | None, entry: Acknowledged) -> bool:
        """The weakest light is the gentlest, and below the threshold the signal is proportional to it."""
        name = "fluence_uj_cm2"
        return name in entry.row and (best is None or entry.row[name] <= best.row[name])

    def reference_ratio(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> float | None:
        """Compare the band intensity per fluence: the laser may have drifted, and the fluence is measured."""
        then = before["band_intensity"] / before["fluence_uj_cm2"]
        return float(now["band_intensity"] / now["fluence_uj_cm2"] / then) if then else None

    def more_settings(
        self, stage: Stage, settings: Sequence[Mapping[str, Any]], count: int
    ) -> Sequence[Mapping[str, Any]]:
        """Further fluences in the widest gaps between those that the stage has."""
        if stage.stream != "points":
            raise InputError(f"the stage {stage.name!r} takes frames, not points", where="alteration of the run")
        return self._settings(gap_fluences(fluences_of(settings), count))

    def course_altered(self, stage: Stage, settings: Sequence[Mapping[str, Any]]) -> None:
        """Know the next fluence beforehand: the exposures of neighbours overlap."""
        self._coming.set(stage.name, settings)

    def analyse(self, run: Any) -> dict[str, Any]:
        """Threshold with interval, other definitions, line, photodamage, from a run in any state."""
        bench = bench_of(run)
        return analyse(run, self.band_nm(bench), bench)

    def _measure_scatter(self, fluence_uj_cm2: float, exposure_s: float) -> Record:
        """Take the pump scatter alone: everything as in the sweep, but no sample in the beam."""
        pump = self.bench.pump
        pump.set_fluence(fluence_uj_cm2)
        self.bench.ask_operator("sample out of beam", "Move the sample out of the pump beam; leave all else as it is.")
        with pump.light(on_sample=False):
            frame, fluence, reading = self.taker.lit(exposure_s, self.scatter_frames)
            while self.full_pixels(frame) and frame.exposure_s > self.ladder.shortest_s * 1.001:
                frame, fluence, reading = self.taker.lit(self.ladder.shorter(frame.exposure_s), self.scatter_frames)
        self.bench.ask_operator("sample into beam", "Move the sample back into the pump beam, to the same spot.")
        if full := self.full_pixels(frame):
            raise InstrumentError(
                f"pump scatter saturates {full} pixels of the band at the shortest exposure",
                role="detector",
                state="shutter closed",
                todo="put a long-pass filter before the slit, choose another band, or allow a shorter exposure-min",
            )
        pulses = self.pulses_in(frame)
        energy_j = fluence.pulse_energy_j
        error_j = energy_j * relative_energy_error(fluence, reading, pulses)
        self.frames.add_scatter(frame, energy_j, pulses, error_j)
        return Record(frame_row(frame, energy_j, error_j, pulses), arrays_of(frame))

    def _measure_emission(self, point: Point) -> Record:
        bench, pump = self.bench, self.bench.pump
        set_fluence = point.settings["fluence_uj_cm2"]
        angle_deg = pump.set_fluence(set_fluence)
        taker, overlaps = self.taker, self._overlaps
        exposure_s = self.ladder.choose(
            predicted_peak_rate(self._memory.rows, set_fluence), bench.spectrometer.detector
        )
        with pump.light() as opening:
            spectrum, fluence, reading = taker.well_exposed(exposure_s)
            peak_rate = self.frames.peak_rate(spectrum, self.band_mask)
            before = overlaps.overlap(spectrum, overlaps.exposure_before(spectrum))
            here = {"fluence_uj_cm2": fluence.uj_cm2, "peak_rate": peak_rate}
            following = self._coming.after(point.stage, set_fluence)
            after = overlaps.overlap(spectrum, overlaps.exposure_after(following, spectrum, here))
        pulses = self.pulses_in(spectrum)
        error = fluence.uj_cm2 * relative_energy_error(fluence, reading, pulses)
        signal, variance = self.frames.emission(spectrum, fluence.pulse_energy_j, pulses)
        common = self.frames.scatter_error(fluence.pulse_energy_j, pulses)
        per_exposure = pulses / spectrum.accumulations
        intensity, intensity_error = band_sum(signal, variance, self.band_mask, per_exposure, common)
        line = self._memory.measure_line(signal / pulses, fluence.uj_cm2)
        row = {
            "stage": point.stage,
            "fluence_set_uj_cm2": set_fluence,
            "fluence_uj_cm2": fluence.uj_cm2,
            "fluence_error_uj_cm2": error,
            "pulse_energy_j": fluence.pulse_energy_j,
            "pulse_energy_std_j": reading.std_j * pump.pick_off.ratio,
            "angle_deg": angle_deg,
            "band_intensity": intensity / pulses,
            "band_intensity_error": intensity_error / pulses,
            **line.columns(),
            "excitons_per_particle": self._excitons(fluence.uj_cm2),
            "exposure_s": spectrum.exposure_s,
            "accumulations": spectrum.accumulations,
            "counted_pulses": pulses,
            "peak_rate": peak_rate,
            "saturated_pixels": int((spectrum.saturated & self.band_mask).sum()),
            "cosmic_pixels": int(spectrum.cosmic.sum()),
            "overlap_exposure_s": before[0],
            "overlap_ratio": before[1],
            "overlap_next_exposure_s": after[0],
            "overlap_next_ratio": after[1],
            "open_s": opening.open_s,
            "dose_j_cm2": self._memory.earlier_dose_j_cm2 + pump.dose_j_cm2,
            "sensor_c": spectrum.temperature_c,
            "filter": spectrum.filter_name,
            "filter_position": spectrum.filter_position,
        }
        return Record(row, arrays_of(spectrum))

    def _emission_stages(
        self, fluences: tuple[float, ...], reach: tuple[float, float], light: PointLight, *, with_fine: bool
    ) -> list[Stage]:
        if self.fluences is not None:
            stages = [listed_stage("listed", self._settings(fluences), light)]
        else:
            stages = [listed_stage("coarse", self._settings(fluences), light)]
            if self.fine_points and with_fine:
                # A threshold at the top of the coarse pass asks for fluences beyond it.
                top = min(reach[1], FINE_RANGE[1] * max(fluences))
                stages.append(fine_stage(self.fine_points, (reach[0], top), light))
        if self.return_points:
            lowest = sorted(fluences)[: self.return_points]
            stages.append(listed_stage("return", self._settings(lowest), light))
        # An adaptive stage is entered when its points are known; its place is kept.
        self._coming = ComingFluences({stage.name: fluences_of(stage.settings or ()) for stage in stages})
        return stages

    def _settings(self, fluences: Sequence[float] | NDArray[np.float64]) -> tuple[Mapping[str, Any], ...]:
        ordered = sorted((float(value) for value in fluences), reverse=self.order == "descending")
        return tuple({"fluence_uj_cm2": value} for value in ordered)

    def _even_settings(self, stage: Stage) -> Sequence[Mapping[str, Any]]:
        """No threshold was seen: spend the fine pass evenly over what the coarse pass covered."""
        measured = [row["fluence_set_uj_cm2"] for row in self._memory.rows]
        return self._settings(np.geomspace(min(measured), max(measured), stage.max_points))

    def _complete(self, bench: BenchConfig, sample: SampleConfig | None) -> None:
        """Take from bench and sample what was not given as a parameter; the run stores the values used."""
        self._other_line_nm: float | None = None
        if sample is None:
            return
        if self.expected_threshold is None:
            self.expected_threshold = sample.sample.expected_threshold_uj_cm2
        excitation = sample.sample.excitation
        same_line = (
            excitation is not None
            and bench.laser is not None
            and abs(excitation.wavelength_nm - bench.laser.wavelength_nm) < _SAME_LINE_NM
        )
        if self.cross_section is None and excitation is not None and same_line:
            self.cross_section = excitation.cross_section_cm2
        if self.cross_section is None and excitation is not None:
            self._other_line_nm = excitation.wavelength_nm

    def _first_fluences(self) -> tuple[float, ...]:
        if self.fluences is not None:
            return tuple(self.fluences)
        if self.expected_threshold is None:
            raise InputError(
                "the sweep does not know where to look",
                where="parameters of fluence-sweep",
                todo="set expected-threshold (e.g. '28 uJ/cm^2') or fluences, or give a sample with expected_threshold",
            )
        return tuple(coarse_fluences(self.expected_threshold, self.coarse_points, _COARSE_SPAN))

    def _middle_uj_cm2(self) -> float:
        """The threshold that is expected, else the middle of the fluences."""
        return self.expected_threshold or float(np.median(self._first_fluences()))

    def _excitons(self, fluence_uj_cm2: float) -> float:
        if self.cross_section is None:
            return math.nan
        return excitons_per_particle(fluence_uj_cm2, self.cross_section, self.bench.pump.wavelength_nm)
