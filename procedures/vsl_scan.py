"""Variable stripe length: emission from the edge of a pumped stripe against its length, and from it the modal gain.

Order of the run: dark frames; a scan of the far blade over the film's edge at a fluence without gain, which gives the
stripe zero; then for each pump fluence the frame with the slit closed on the edge and the stripes in ascending order;
the first three lengths once more, which tells whether the sample bleached. With a near blade there may follow a run
with a narrow stripe at growing distance from the edge (shifting excitation spot, at the same fluence), which tells how
the collection falls off, and a run with a fixed stripe that moves away from the edge, which tells the loss.

The fluence is that of the whole beam and does not depend on the length; a meter behind the slit checks that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.single_line import single_line
from labctl.analysis.vsl_lengths import SMALLEST_COUNT, lengths_um
from labctl.bench.bench import Bench
from labctl.bench.bench_sections import meter_reading_s, section
from labctl.bench.slit import Slit
from labctl.config.bench import BenchConfig
from labctl.config.sample import SampleConfig
from labctl.errors import InputError
from labctl.quantities import EnergyReading
from labctl.run.parameters import flag, quantity, quantity_list, whole
from labctl.run.plan import Plan, Point
from labctl.run.procedure import Acknowledged, DefaultPlot, Record, Streams
from procedures.emission.band import band_sum
from procedures.emission.exposure import predicted_peak_rate
from procedures.emission.layout import arrays_of, frame_layout
from procedures.emission.light import PointLight, dark_stage, reach_refusals, reach_uj_cm2
from procedures.emission.procedure import EmissionProcedure, relative_energy_error
from procedures.stripe.analysis import analyse
from procedures.stripe.edge import EdgeSearch, scan_positions_mm
from procedures.stripe.layout import STRIPE_COLUMNS, stripe_layout
from procedures.stripe.memory import StripeMemory
from procedures.stripe.stages import stripe_stage

_TIMES_THRESHOLD = 3.0
_EDGE_SHARE = 0.3
"""Fluence of the scan of the edge, in units of the threshold: without gain the light grows in proportion."""
_NOT_KNOWN_GAIN_CM1 = 100.0
_LONGEST_GL = 14.0
"""Far in saturation: longer stripes show nothing new."""
_FIRST_OFFSET_UM = 25.0
"""Where spots and loss run begin: the near blade's own position of the edge is known to some 10 um, and a stripe of
which a part lies before the film is a shorter one than all the others."""


class VslScan(EmissionProcedure):
    """Edge emission against stripe length: modal gain, its spectrum, and what it rests on."""

    NAME: ClassVar[str] = "vsl-scan"
    TITLE: ClassVar[str] = "Variable stripe length: modal gain"
    ROLES: ClassVar[tuple[str, ...]] = (*EmissionProcedure.ROLES, "slit_far")
    OPTIONAL_ROLES: ClassVar[tuple[str, ...]] = (*EmissionProcedure.OPTIONAL_ROLES, "slit_near", "slit_meter")
    DEFAULT_PLOT: ClassVar[DefaultPlot] = DefaultPlot("points", "length_um", "band_intensity", "spectrum")
    DATA_COLUMNS: ClassVar[list[str]] = [column.name for column in STRIPE_COLUMNS]
    RESULTS: ClassVar[Mapping[str, str]] = {"gain": "cm^-1", "peak": "nm", "saturation_length": "um", "loss": "cm^-1"}

    fluences: tuple[float, ...] | None = quantity_list(
        "Pump fluences",
        "uJ/cm^2",
        minimum=1e-9,
        description="One scan of the lengths at each; three times the expected threshold if not given",
    )
    expected_threshold: float | None = quantity(
        "Expected threshold",
        "uJ/cm^2",
        minimum=1e-6,
        maximum=1e6,
        optional=True,
        description="From the sample file if not given; for the fluences and for that of the edge scan",
    )
    edge_fluence: float | None = quantity(
        "Fluence of the edge scan",
        "uJ/cm^2",
        minimum=1e-9,
        maximum=1e6,
        optional=True,
        description="Well below the threshold; 0.3 of it if not given",
    )
    expected_gain: float | None = quantity(
        "Expected net gain",
        "cm^-1",
        minimum=0.1,
        maximum=1e5,
        optional=True,
        description="Places the lengths, dense up to g L = 3; from the sample file if not given",
    )
    lengths: tuple[float, ...] | None = quantity_list(
        "Stripe lengths", "um", minimum=1.0, description="Measure just these instead of lengths by the expected gain"
    )
    longest: float | None = quantity(
        "Longest stripe",
        "um",
        minimum=50.0,
        maximum=1e5,
        optional=True,
        description="As long as the pump is even, but no longer than is needed to see saturation, if not given",
    )
    length_points: int = whole("Stripe lengths", minimum=SMALLEST_COUNT, maximum=500, default=28)
    edge_points: int = whole("Positions of the edge scan", minimum=12, maximum=500, default=31)
    bleach_points: int = whole("First lengths measured again at the end", minimum=0, maximum=20, default=8)
    ses: bool = flag("Shifting excitation spot, a narrow stripe away from the edge (near blade)", default=False)
    ses_width: float = quantity("Width of that spot", "um", minimum=2.0, maximum=1000.0, default=15.0)
    ses_points: int = whole("Positions of that spot", minimum=8, maximum=500, default=24)
    loss: bool = flag("Loss run, a fixed stripe that moves away from the edge (near blade)", default=False)
    loss_length: float = quantity(
        "Length of the stripe of the loss run", "um", minimum=5.0, maximum=5000.0, default=50.0
    )
    loss_reach: float = quantity(
        "Farthest end of that stripe",
        "um",
        minimum=100.0,
        maximum=1e5,
        default=2000.0,
        description="From the edge; no farther than the pump is even. Far out loss and collection can be told apart",
    )
    loss_points: int = whole("Positions of the loss run", minimum=6, maximum=500, default=20)
    known_loss: float | None = quantity(
        "Known propagation loss",
        "cm^-1",
        minimum=0.0,
        maximum=1e4,
        optional=True,
        description="Used instead of that of a loss run",
    )
    known_loss_error: float | None = quantity(
        "Standard error of the known loss",
        "cm^-1",
        minimum=0.0,
        maximum=1e4,
        optional=True,
        description="A tenth of it if not given",
    )

    def plan(self, bench: BenchConfig, sample: SampleConfig | None) -> Plan:
        """Plan all stages with hard bounds; raises InputError for fluences or lengths that are out of reach."""
        self._complete(sample)
        slit = section(bench.slit, "slit", bench)
        few_pulses, without_line = self.plan_exposures(bench, sample)
        fluences, longest_um = self._pump_fluences(), slit.longest_mm * 1e3
        if (self.ses or self.loss) and (slit.near_edge_mm is None or "slit_near" not in bench.instruments):
            raise InputError(
                "ses and loss need a near blade",
                where=f"the bench {bench.name!r}",
                todo="write [instruments.slit_near] and slit.near_edge, or leave ses and loss out",
            )
        self._check_fluences(fluences)
        if self.longest is not None and self.longest > longest_um:
            raise InputError(
                f"stripes up to {self.longest:g} um are asked for; the pump is even up to {longest_um:g} um",
                where="parameter longest",
                todo="choose shorter stripes; slit.longest of the bench file is what a profile of the beam has shown",
            )
        is_listed = self.lengths is not None and self.longest is None
        self._lengths = self._stripe_lengths(longest_um if is_listed else min(longest_um, self._longest_um(longest_um)))
        refusals = [*without_line, *self._too_long_refusals(longest_um)]
        refusals += reach_refusals([*fluences, self._edge_fluence()], reach_uj_cm2(bench))
        meter_s = meter_reading_s(bench, self._reading_pulses)
        # The meter behind the slit is read with the light on, too.
        readings_s = meter_s * (2 if "slit_meter" in bench.instruments else 1)
        rate_hz = bench.laser.repetition_rate_hz if bench.laser else 0.0
        light = PointLight.of(self.ladder, self.averages, readings_s, rate_hz)
        stages = [dark_stage(self.ladder, self.dark_frames)]
        positions = [
            {"far_mm": x, "fluence_uj_cm2": self._edge_fluence()} for x in scan_positions_mm(slit, self.edge_points)
        ]
        stages.append(stripe_stage("edge", positions, light, slit, essential=True))
        for number, fluence in enumerate(fluences, start=1):
            suffix = f"-{number}" if len(fluences) > 1 else ""
            stages.append(stripe_stage(f"closed{suffix}", [_stripe(fluence, 0.0)], light, slit, essential=True))
            stages.append(stripe_stage(f"lengths{suffix}", [_stripe(fluence, x) for x in self._lengths], light, slit))
        highest = max(fluences)
        again = [_stripe(highest, x) for x in self._lengths[: self.bleach_points]]
        if again:
            stages.append(stripe_stage("bleach", again, light, slit))
        if self.ses:
            offsets = np.linspace(_FIRST_OFFSET_UM, self._lengths[-1] - self.ses_width, self.ses_points)
            spots = [_stripe(highest, self.ses_width, float(x)) for x in offsets]
            stages.append(stripe_stage("ses", spots, light, slit))
        if self.loss:
            way_um = self._loss_reach_um(longest_um) - self.loss_length - _FIRST_OFFSET_UM
            # Near the edge the collection falls fastest, and there is the most light.
            offsets = _FIRST_OFFSET_UM + way_um * np.linspace(0.0, 1.0, self.loss_points) ** 1.5
            moved = [_stripe(highest, self.loss_length, float(x)) for x in offsets]
            stages.append(stripe_stage("loss", moved, light, slit))
        start_up_s = bench.spectrometer.cooling_timeout_s / 4 if bench.spectrometer else 0.0
        return Plan(tuple(stages), start_up_s, (*few_pulses, *self._warnings()), tuple(refusals))

    def prepare(self, bench: Bench) -> None:
        """Cool, home all that moves, zero; the shutter is closed before and after."""
        super().prepare(bench)
        slit = bench.slit
        slit.home()
        slit.open_near()
        if slit.meter is not None:
            slit.meter.wavelength_nm = bench.pump.wavelength_nm
            if self.zero_meter:
                slit.meter.zero()
        self._slit: Slit = slit
        if (memory := getattr(self, "_memory", None)) is not None and memory.edge is not None:
            slit.edge_mm = memory.edge.position_mm

    def begin(self, bench: Bench) -> None:
        """Nothing has been measured yet; where the edge is, the bench file says for now."""
        super().begin(bench)
        self._memory = StripeMemory(self.frames, EdgeSearch())

    def streams(self, bench: Bench) -> Streams:
        """Rows of the scan of the lengths, of the edge, and dark frames apart from them."""
        pixels = bench.spectrometer.detector.pixels
        layouts = {
            "points": stripe_layout(pixels),
            "edge": stripe_layout(pixels),
            "dark": frame_layout(pixels),
        }
        return Streams(layouts, {"wavelength_nm": (bench.spectrometer.wavelength_nm, "nm")})

    def measure(self, point: Point) -> Record:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Measure one point of any stage."""
        self.wait_until_cold()
        if point.stage == "dark":
            return self.measure_dark(point.settings["exposure_s"])
        fluence = point.settings["fluence_uj_cm2"]
        angle_deg = self.bench.pump.set_fluence(fluence)
        if point.stage == "edge":
            far_mm = self._slit.place_far(point.settings["far_mm"])
            stripe_um = (max((far_mm - self._slit.edge_mm) * 1e3, 0.0), 0.0)
            expects_um = stripe_um[0]
        else:
            self._slit.edge_mm = self._memory.require_edge().position_mm
            expects_um = point.settings["length_um"]
            stripe_um = self._slit.set_stripe(expects_um, point.settings["offset_um"])
        return self._measure_stripe(point, angle_deg, stripe_um, expects_um)

    def acknowledge(self, entry: Acknowledged) -> None:
        """Remember what steers exposure and stripe zero."""
        self._memory.acknowledge(entry)

    def recall(self, entry: Acknowledged, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take a frame or a row of the earlier part as if it had just been measured."""
        self._memory.recall(entry, arrays)

    def is_better_reference(self, best: Acknowledged | None, entry: Acknowledged) -> bool:
        """The shortest stripe with light: gentle, and without gain proportional to the fluence."""
        length = entry.row.get("length_um", 0.0)
        is_stripe = entry.point.stage.startswith("lengths") and length > 0
        return is_stripe and (best is None or length <= best.row["length_um"])

    def reference_ratio(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> float | None:
        """Compare the band intensity per fluence."""
        then = before["band_intensity"] / before["fluence_uj_cm2"]
        return float(now["band_intensity"] / now["fluence_uj_cm2"] / then) if then else None

    def analyse(self, run: Any) -> dict[str, Any]:
        """Modal gain with its interval and budget, its spectrum, loss, bleaching, from a run in any state."""
        return analyse(run, self)

    def _measure_stripe(
        self, point: Point, angle_deg: float, stripe_um: tuple[float, float], expects_um: float
    ) -> Record:
        bench, pump, slit = self.bench, self.bench.pump, self._slit
        exposure_s = self.ladder.choose(self._expected_rate(point, expects_um), bench.spectrometer.detector)
        expected_j = self._energy_behind_slit_j(point.settings["fluence_uj_cm2"], stripe_um[0])
        behind: list[EnergyReading | None] = [None]
        # No pulse triggers a meter behind a closed slit; and where the edge is, it does not tell.
        metered = point.stage.startswith("lengths")
        with pump.light() as opening:
            spectrum, fluence, reading = self.taker.well_exposed(
                exposure_s,
                lambda: behind.append(slit.read_energy(expected_j, self._reading_pulses) if metered else None),
            )
        pulses = self.pulses_in(spectrum)
        signal, variance = self.frames.emission(spectrum, fluence.pulse_energy_j, pulses)
        intensity, error = band_sum(signal, variance, self.band_mask, pulses / spectrum.accumulations)
        line = single_line(bench.spectrometer.wavelength_nm[self.band_mask], signal[self.band_mask] / pulses)
        edge = self._memory.edge
        row = {
            "stage": point.stage,
            "fluence_set_uj_cm2": point.settings["fluence_uj_cm2"],
            "fluence_uj_cm2": fluence.uj_cm2,
            "fluence_error_uj_cm2": fluence.uj_cm2 * relative_energy_error(fluence, reading, pulses),
            "pulse_energy_j": fluence.pulse_energy_j,
            "pulse_energy_std_j": reading.std_j * pump.pick_off.ratio,
            "angle_deg": angle_deg,
            "length_set_um": point.settings.get("length_um", math.nan),
            "length_um": stripe_um[0],
            "offset_um": stripe_um[1],
            "far_mm": slit.far.position_mm,
            "edge_mm": slit.edge_mm,
            "edge_error_um": edge.error_um if edge is not None and point.stage != "edge" else math.nan,
            "band_intensity": intensity / pulses,
            "band_intensity_error": error / pulses,
            "peak_nm": line.peak_nm,
            "fwhm_nm": line.fwhm_nm,
            "slit_energy_j": last.mean_j if (last := behind[-1]) is not None else math.nan,
            "slit_energy_error_j": last.error_j if last is not None else math.nan,
            "exposure_s": spectrum.exposure_s,
            "accumulations": spectrum.accumulations,
            "counted_pulses": pulses,
            "peak_rate": self.frames.peak_rate(spectrum, self.band_mask),
            "saturated_pixels": int((spectrum.saturated & self.band_mask).sum()),
            "cosmic_pixels": int(spectrum.cosmic.sum()),
            "open_s": opening.open_s,
            "dose_j_cm2": self._memory.earlier_dose_j_cm2 + pump.dose_j_cm2,
            "sensor_c": spectrum.temperature_c,
            "filter": spectrum.filter_name,
            "filter_position": spectrum.filter_position,
        }
        return Record(row, arrays_of(spectrum))

    def _expected_rate(self, point: Point, length_um: float) -> float | None:
        """Predict the rate of the brightest pixel from the stripes of the same fluence and kind so far."""
        kind = point.stage.partition("-")[0]
        alike = [
            row
            for row in self._memory.rows
            if row["stage"].partition("-")[0] == kind and row["fluence_set_uj_cm2"] == point.settings["fluence_uj_cm2"]
        ]
        if length_um <= 0:
            return min((row["peak_rate"] for row in alike), default=None)
        known = [
            {"fluence_uj_cm2": row["length_um"], "peak_rate": row["peak_rate"]} for row in alike if row["length_um"] > 0
        ]
        return predicted_peak_rate(known, length_um)

    def _energy_behind_slit_j(self, fluence_uj_cm2: float, length_um: float) -> float:
        """Get the energy behind the slit: the fluence is that of the beam, whatever passes."""
        pump = self.bench.config.pump
        whole_mm = (
            pump.spot.length_mm if pump is not None and pump.spot.shape == "stripe" else self._slit.config.longest_mm
        )
        return self.bench.pump.geometry.pulse_energy_j(fluence_uj_cm2) * max(length_um * 1e-3 / whole_mm, 1e-3)

    def _stripe_lengths(self, longest_um: float) -> tuple[float, ...]:
        if self.lengths is not None:
            listed = sorted(self.lengths)
            if len(listed) < SMALLEST_COUNT or listed[-1] > longest_um or len(set(listed)) < len(listed):
                raise InputError(
                    f"{len(listed)} lengths up to {listed[-1]:g} um are listed, {len(set(listed))} of them different",
                    where="parameter lengths",
                    todo=f"list {SMALLEST_COUNT} or more, each once, none beyond slit.longest or the parameter longest"
                    f" ({longest_um:g} um)",
                )
            return tuple(listed)
        expected = self.expected_gain or _NOT_KNOWN_GAIN_CM1
        return tuple(float(x) for x in lengths_um(expected, longest_um, self.length_points))

    def _too_long_refusals(self, even_um: float) -> list[str]:
        """Refuse spots and stripes that are as long as the way on which they are to move away from the edge."""
        reach_um = self._loss_reach_um(even_um)
        wanted = (
            (self.ses, "ses-width", self.ses_width, self._lengths[-1], "the longest stripe ends"),
            (self.loss, "loss-length", self.loss_length, reach_um, "the loss run ends (loss-reach, slit.longest)"),
        )
        return [
            f"{name} leaves no room to move away from the edge: {ends} at {room_um:g} um"
            for asked, name, own_um, room_um, ends in wanted
            if asked and _FIRST_OFFSET_UM + own_um >= room_um
        ]

    def _loss_reach_um(self, even_um: float) -> float:
        return min(self.loss_reach, even_um)

    def _longest_um(self, even_um: float) -> float:
        if self.longest is None:
            self.longest = min(even_um, _LONGEST_GL / (self.expected_gain or _NOT_KNOWN_GAIN_CM1) * 1e4)
        return self.longest

    def _pump_fluences(self) -> tuple[float, ...]:
        if self.fluences is None and self.expected_threshold is not None:
            self.fluences = (_TIMES_THRESHOLD * self.expected_threshold,)
        if self.fluences is None:
            raise InputError(
                "the scan does not know how strongly to pump",
                where="parameters of vsl-scan",
                todo="set fluences (e.g. '84 uJ/cm^2') or expected-threshold, or give a sample with expected_threshold",
            )
        return tuple(sorted(self.fluences or ()))

    def _check_fluences(self, fluences: Sequence[float]) -> None:
        if len(set(fluences)) < len(fluences):
            raise InputError("a fluence is listed twice", where="parameter fluences", todo="list each fluence once")
        edge, threshold = self._edge_fluence(), self.expected_threshold
        if threshold is not None and edge >= threshold:
            raise InputError(
                f"the edge would be looked for at {edge:g} uJ/cm^2, where the film amplifies",
                where="parameter edge-fluence",
                todo=f"stay well below the expected threshold of {threshold:g} uJ/cm^2",
            )

    def _edge_fluence(self) -> float:
        if self.edge_fluence is None:
            threshold = self.expected_threshold or min(self._pump_fluences()) / _TIMES_THRESHOLD
            self.edge_fluence = _EDGE_SHARE * threshold
        return self.edge_fluence

    def _complete(self, sample: SampleConfig | None) -> None:
        """Take from the sample what was not given as a parameter; the run stores the values used."""
        if sample is None:
            return
        if self.expected_threshold is None:
            self.expected_threshold = sample.sample.expected_threshold_uj_cm2
        if self.expected_gain is None:
            self.expected_gain = sample.sample.expected_gain_cm1

    def _warnings(self) -> Sequence[str]:
        if self.expected_gain is None and self.lengths is None:
            return [
                f"no gain is expected: the lengths are placed for {_NOT_KNOWN_GAIN_CM1:g} /cm; give expected-gain, or"
                " scan again with what this run shows"
            ]
        return []


def _stripe(fluence_uj_cm2: float, length_um: float, offset_um: float = 0.0) -> dict[str, float]:
    return {"fluence_uj_cm2": fluence_uj_cm2, "length_um": length_um, "offset_um": offset_um}
