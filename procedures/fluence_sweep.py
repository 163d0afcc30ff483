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
from labctl.analysis.frames import Frames
from labctl.analysis.live import live_threshold
from labctl.analysis.sweep_design import FINE_RANGE, coarse_fluences, gap_fluences, refine_fluences
from labctl.bench.bench import Bench, needs_laboratory
from labctl.bench.bench_sections import meter_reading_s
from labctl.bench.spectral_window import SpectralWindow, filter_position, planned_window, require_window
from labctl.config.bench import BenchConfig, SpectrometerConfig
from labctl.config.sample import SampleConfig
from labctl.errors import InputError, InstrumentError
from labctl.quantities import EnergyReading, Fluence, Spectrum, excitons_per_particle
from labctl.run.parameters import choice, flag, named, quantity, quantity_list, whole
from labctl.run.plan import Plan, Point, Stage
from labctl.run.procedure import Acknowledged, DefaultPlot, Record, Streams, SweepProcedure
from procedures.sweep.analysis import analyse, bench_of
from procedures.sweep.checks import (
    check_band,
    check_line_in_window,
    check_numbers,
    check_pulses,
    excitation_warnings,
    line_refusals,
    listed_warnings,
    operator_warnings,
    order_warnings,
    pulse_warnings,
)
from procedures.sweep.exposure import (
    ExposureLadder,
    default_exposures_s,
    default_reading_pulses,
    predicted_peak_rate,
)
from procedures.sweep.layout import COSMIC, POINT_COLUMNS, SATURATED, frame_layout, point_layout
from procedures.sweep.memory import ComingFluences, SweepMemory, fluences_of
from procedures.sweep.spectra import LiveLines, band_mask, band_sum
from procedures.sweep.stages import (
    PointLight,
    dark_stage,
    fine_stage,
    listed_stage,
    reach_refusals,
    reach_uj_cm2,
    scatter_stage,
)
from procedures.sweep.taking import SpectrumTaker

log = logging.getLogger(__name__)

_COARSE_SPAN = (0.1, 5.0)
_SAME_LINE_NM = 5.0
_PL_ALONE = 0.5


class FluenceSweep(SweepProcedure):
    """Pump fluence sweep with auto-exposure, refinement around the threshold, and a check for photodamage."""

    NAME: ClassVar[str] = "fluence-sweep"
    TITLE: ClassVar[str] = "Fluence sweep: threshold of amplified spontaneous emission"
    ROLES: ClassVar[tuple[str, ...]] = ("attenuator", "shutter", "energy_meter", "spectrograph", "detector")
    OPTIONAL_ROLES: ClassVar[tuple[str, ...]] = ("filter",)
    DEFAULT_PLOT: ClassVar[DefaultPlot] = DefaultPlot("points", "fluence_uj_cm2", "band_intensity", "spectrum")
    DATA_COLUMNS: ClassVar[list[str]] = [column.name for column in POINT_COLUMNS]

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
    averages: int = whole("Exposures summed for a spectrum", minimum=1, maximum=1000, default=3)
    pulses: int | None = whole(
        "Pulses in a reading of the energy meter",
        minimum=2,
        maximum=100000,
        optional=True,
        description="100 if not given, fewer of a laser slower than 40 Hz",
    )
    exposure_min: float | None = quantity(
        "Shortest exposure",
        "s",
        minimum=1e-4,
        maximum=100.0,
        optional=True,
        description="0.01 s if not given, or ten pulses; made a whole number of pulses",
    )
    exposure_max: float | None = quantity(
        "Longest exposure",
        "s",
        minimum=1e-4,
        maximum=100.0,
        optional=True,
        description="2.56 s if not given, or 320 pulses",
    )
    dark_frames: int = whole("Dark frames for each exposure", minimum=1, maximum=1000, default=5)
    scatter_frames: int = whole("Frames of pump scatter, sample out of the beam", minimum=0, maximum=1000, default=4)
    cross_section: float | None = quantity(
        "Absorption cross-section at the pump wavelength",
        "cm^2",
        minimum=1e-20,
        maximum=1e-9,
        optional=True,
        description="For excitons per particle; from the sample file if not given",
    )
    centre_wavelength: float | None = quantity(
        "Centre wavelength of the spectrograph",
        "nm",
        minimum=100.0,
        maximum=20000.0,
        optional=True,
        description="That of the bench if not given",
    )
    band: tuple[float, ...] | None = quantity_list("Band that is integrated (two wavelengths)", "nm", minimum=1.0)
    threshold_model: str = choice("Definition of the threshold", choices=("auto", "knee", "lasing"), default="auto")
    filter: str | None = named(
        "Filter before the slit", description="Name of a position in [filter] of the bench; the one in use if not given"
    )
    zero_meter: bool = flag("Zero the energy meter before the sweep", default=True)

    def plan(self, bench: BenchConfig, sample: SampleConfig | None) -> Plan:
        """Plan all stages with hard bounds; raises InputError if the fluences are out of reach of the attenuator."""
        self._complete(bench, sample)
        form = sample.sample.form if sample is not None else None
        self._model: ThresholdModel = threshold_model(self.threshold_model, form)
        exposure_min_s, exposure_max_s, pulses = self._exposures(bench)
        check_numbers(
            fine_points=self.fine_points,
            exposure_min_s=exposure_min_s,
            exposure_max_s=exposure_max_s,
            fluences=self.fluences,
        )
        check_band(self.band, self.centre_wavelength)
        window_nm = bench.spectrometer.window_nm if bench.spectrometer else None
        without_line = line_refusals(self._line_nm, self.centre_wavelength, window_nm)
        rate_hz = bench.laser.repetition_rate_hz if bench.laser else 0.0
        check_pulses(rate_hz, exposure_min_s)
        ladder = self._ladder = ExposureLadder.of_whole_pulses(exposure_min_s, exposure_max_s, rate_hz)
        chosen = filter_position(bench, self.filter)
        self.filter = chosen.name if chosen is not None else None
        fluences = self._first_fluences()
        reach = reach_uj_cm2(bench)
        unreachable = reach_refusals(fluences, reach)
        meter_s = meter_reading_s(bench, pulses)
        stages = [dark_stage(ladder, self.dark_frames)]
        if self.scatter_frames:
            stages.append(scatter_stage(min(self._middle_uj_cm2(), reach[1]), ladder, self.scatter_frames, meter_s))
        light = PointLight.of(ladder, self.averages, meter_s, rate_hz)
        stages += self._emission_stages(fluences, reach, light, with_fine=not unreachable)
        warnings = [
            *order_warnings(self.order),
            *listed_warnings(self.fluences),
            *pulse_warnings(rate_hz, ladder.shortest_s),
            *excitation_warnings(self._other_line_nm, bench.laser.wavelength_nm if bench.laser else None),
            *operator_warnings(self.scatter_frames, simulated=needs_laboratory(bench)),
        ]
        start_up_s = bench.spectrometer.cooling_timeout_s / 4 if bench.spectrometer else 0.0
        return Plan(tuple(stages), start_up_s, tuple(warnings), (*without_line, *unreachable))

    def spectral_window(self, bench: BenchConfig) -> SpectralWindow | None:
        """The window around the centre wavelength, with the filter of the sweep."""
        if bench.spectrometer is None:
            return None
        centre_nm = self.centre_wavelength or bench.spectrometer.centre_wavelength_nm
        return planned_window(
            bench, centre_nm=centre_nm, filter_name=self.filter, band_nm=self.band, line_nm=self._line_nm
        )

    def prepare(self, bench: Bench) -> None:
        """Cool, home, zero; the shutter is closed before and after."""
        config = bench.config
        pump, spectrometer = bench.pump, bench.spectrometer
        settings = _spectrometer_of(config)
        pump.shutter.shut()
        # The window is known only here: a band that is not in it must not cost the time to cool.
        centre_nm = self.centre_wavelength or settings.centre_wavelength_nm
        spectrometer.prepare(centre_nm, settings.grating, self.filter)
        # Shutter closed: beforehand the window was known in part only.
        if (window := self.spectral_window(config)) is not None:
            axis_nm = spectrometer.wavelength_nm
            spectrometer.warnings += require_window(window, float(axis_nm[0]), float(axis_nm[-1]), config)
        check_line_in_window(self._line_nm, spectrometer.wavelength_nm)
        self._band_mask = band_mask(spectrometer.wavelength_nm, self._band_nm(config))
        spectrometer.start_cooling(settings.temperature_c)
        pump.attenuator.home()
        if self.zero_meter:
            pump.prepare()
        self._bench = bench
        self._cooling_timeout_s = settings.cooling_timeout_s
        self._wait_until_cold()

    def begin(self, bench: Bench) -> None:
        """Nothing has been measured yet."""
        settings = _spectrometer_of(bench.config)
        lines = LiveLines(
            bench.spectrometer.wavelength_nm,
            self._band_mask,
            pl_below_uj_cm2=math.inf if self.order == "ascending" else _PL_ALONE * self._middle_uj_cm2(),
            instrument_fwhm_nm=settings.instrument_fwhm_nm,
        )
        self._memory = SweepMemory(Frames(settings.counts_per_electron), lines)
        self._taker = SpectrumTaker(
            bench,
            self._ladder,
            self._memory,
            self._band_mask,
            averages=self.averages,
            pulses=self._reading_pulses,
            stop=self.stop_event,
        )

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
        self._wait_until_cold()
        if point.stage == "dark":
            return self._measure_dark(point.settings["exposure_s"])
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
        return analyse(run, self._band_nm(bench), bench)

    def _measure_dark(self, exposure_s: float) -> Record:
        self._bench.pump.shutter.shut()
        frame = self._bench.spectrometer.acquire(exposure_s, self.dark_frames, stop=self.stop_event)
        if full := self._full_pixels(frame):
            raise InstrumentError(
                f"the dark frame at {frame.exposure_s:g} s is saturated in {full} pixels of the band",
                role="detector",
                state="shutter closed",
                todo="keep room light out of the spectrograph; cool further; or shorten exposure-max",
            )
        self._memory.frames.add_dark(frame)
        return Record(_frame_row(frame, 0.0, 0.0, 0.0), _arrays_of(frame))

    def _measure_scatter(self, fluence_uj_cm2: float, exposure_s: float) -> Record:
        """Take the pump scatter alone: everything as in the sweep, but no sample in the beam."""
        pump = self._bench.pump
        pump.set_fluence(fluence_uj_cm2)
        self._bench.ask_operator("sample out of beam", "Move the sample out of the pump beam; leave all else as it is.")
        with pump.light(on_sample=False):
            frame, fluence, reading = self._taker.lit(exposure_s, self.scatter_frames)
            while self._full_pixels(frame) and frame.exposure_s > self._ladder.shortest_s * 1.001:
                frame, fluence, reading = self._taker.lit(self._ladder.shorter(frame.exposure_s), self.scatter_frames)
        self._bench.ask_operator("sample into beam", "Move the sample back into the pump beam, to the same spot.")
        if full := self._full_pixels(frame):
            raise InstrumentError(
                f"pump scatter saturates {full} pixels of the band at the shortest exposure",
                role="detector",
                state="shutter closed",
                todo="put a long-pass filter before the slit, choose another band, or allow a shorter exposure-min",
            )
        pulses = self._pulses_in(frame)
        energy_j = fluence.pulse_energy_j
        error_j = energy_j * _relative_energy_error(fluence, reading, pulses)
        self._memory.frames.add_scatter(frame, energy_j, pulses, error_j)
        return Record(_frame_row(frame, energy_j, error_j, pulses), _arrays_of(frame))

    def _measure_emission(self, point: Point) -> Record:
        bench, pump = self._bench, self._bench.pump
        set_fluence = point.settings["fluence_uj_cm2"]
        angle_deg = pump.set_fluence(set_fluence)
        taker = self._taker
        exposure_s = self._ladder.choose(
            predicted_peak_rate(self._memory.rows, set_fluence), bench.spectrometer.detector
        )
        with pump.light() as opening:
            spectrum, fluence, reading = taker.well_exposed(exposure_s)
            peak_rate = self._memory.frames.peak_rate(spectrum, self._band_mask)
            before = taker.overlap(spectrum, taker.exposure_before(spectrum))
            here = {"fluence_uj_cm2": fluence.uj_cm2, "peak_rate": peak_rate}
            following = self._coming.after(point.stage, set_fluence)
            after = taker.overlap(spectrum, taker.exposure_after(following, spectrum, here))
        pulses = self._pulses_in(spectrum)
        error = fluence.uj_cm2 * _relative_energy_error(fluence, reading, pulses)
        signal, variance = self._memory.frames.emission(spectrum, fluence.pulse_energy_j, pulses)
        common = self._memory.frames.scatter_error(fluence.pulse_energy_j, pulses)
        per_exposure = pulses / spectrum.accumulations
        intensity, intensity_error = band_sum(signal, variance, self._band_mask, per_exposure, common)
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
            "saturated_pixels": int((spectrum.saturated & self._band_mask).sum()),
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
        return Record(row, _arrays_of(spectrum))

    def _wait_until_cold(self) -> None:
        self._bench.spectrometer.wait_until_cold(self._cooling_timeout_s, self.stop_event)

    def _full_pixels(self, frame: Spectrum) -> int:
        """Count the pixels of the band that are saturated, not by a cosmic ray."""
        return int((frame.saturated & ~frame.cosmic & self._band_mask).sum())

    def _pulses_in(self, spectrum: Spectrum) -> float:
        """Pulses within the exposures on average: the shutter is open throughout, so rate times exposure."""
        return spectrum.total_exposure_s * self._bench.pump.repetition_rate_hz

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
        if self.centre_wavelength is None and bench.spectrometer is not None:
            self.centre_wavelength = bench.spectrometer.centre_wavelength_nm
        self._other_line_nm: float | None = None
        # Whoever chooses a band may look at something else than the line.
        self._line_nm = sample.sample.expected_ase_nm if sample is not None and self.band is None else None
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

    def _exposures(self, bench: BenchConfig) -> tuple[float, float, int]:
        """Get shortest and longest exposure in s, and pulses in a reading: as given, else as the laser lets choose."""
        rate_hz = bench.laser.repetition_rate_hz if bench.laser else 0.0
        shortest_s, longest_s = default_exposures_s(rate_hz)
        if self.exposure_min is None:
            self.exposure_min = min(shortest_s, self.exposure_max or math.inf)
        if self.exposure_max is None:
            self.exposure_max = max(longest_s, self.exposure_min)
        self._reading_pulses = self.pulses = self.pulses or default_reading_pulses(rate_hz)
        return self.exposure_min, self.exposure_max, self.pulses

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

    def _band_nm(self, bench: BenchConfig) -> tuple[float, float]:
        """The band that is integrated, if none is given all that the filter passes: a narrow band moves the knee."""
        if self.band is not None:
            return self.band[0], self.band[1]
        chosen = filter_position(bench, self.filter)
        return chosen.passed_nm if chosen is not None else (-math.inf, math.inf)

    def _excitons(self, fluence_uj_cm2: float) -> float:
        if self.cross_section is None:
            return math.nan
        return excitons_per_particle(fluence_uj_cm2, self.cross_section, self._bench.pump.wavelength_nm)


def _spectrometer_of(config: BenchConfig) -> SpectrometerConfig:
    if config.spectrometer is None:
        raise InputError(f"the bench {config.name!r} has no [spectrometer]", where=config.file)
    return config.spectrometer


def _relative_energy_error(fluence: Fluence, reading: EnergyReading, pulses: float) -> float:
    """Get how well the mean energy of the pulses of an exposure is known, as a share of it.

    The meter and the camera see different pulses of the same laser; both means scatter.
    """
    return math.hypot(fluence.error_uj_cm2 / fluence.uj_cm2, reading.std_j / reading.mean_j / math.sqrt(pulses))


def _frame_row(frame: Spectrum, energy_j: float, energy_error_j: float, pulses: float) -> dict[str, Any]:
    return {
        "exposure_s": frame.exposure_s,
        "accumulations": frame.accumulations,
        "pulse_energy_j": energy_j,
        "pulse_energy_error_j": energy_error_j,
        "counted_pulses": pulses,
        "saturated_pixels": int(frame.saturated.sum()),
        "cosmic_pixels": int(frame.cosmic.sum()),
        "sensor_c": frame.temperature_c,
        "filter": frame.filter_name,
        "filter_position": frame.filter_position,
    }


def _arrays_of(spectrum: Spectrum) -> dict[str, NDArray[Any]]:
    """Raw counts, and the mask of pixels that cannot be used as they are."""
    mask = np.where(spectrum.saturated, SATURATED, 0) | np.where(spectrum.cosmic, COSMIC, 0)
    return {"spectrum": spectrum.counts.astype(np.float32), "mask": mask.astype(np.uint8)}
