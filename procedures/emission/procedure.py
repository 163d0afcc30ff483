"""The base of the procedures that take emission spectra behind the pump: exposures, dark frames, band, filter."""

from __future__ import annotations

import math
from typing import ClassVar

from labctl.analysis.frames import Frames
from labctl.bench.bench import Bench
from labctl.bench.bench_sections import section
from labctl.bench.spectral_window import SpectralWindow, filter_position, planned_window, require_window
from labctl.config.bench import BenchConfig, SpectrometerConfig
from labctl.config.sample import SampleConfig
from labctl.errors import InputError, InstrumentError
from labctl.quantities import EnergyReading, Fluence, Spectrum
from labctl.run.parameters import flag, named, quantity, quantity_list, whole
from labctl.run.procedure import Record, SweepProcedure
from procedures.emission.band import band_mask
from procedures.emission.checks import check_band, check_line_in_window, check_pulses, line_refusals, pulse_warnings
from procedures.emission.exposure import ExposureLadder, default_exposures_s, default_reading_pulses
from procedures.emission.layout import arrays_of, frame_row
from procedures.emission.taking import SpectrumTaker


class EmissionProcedure(SweepProcedure):
    """Emission spectra with auto-exposure on a ladder for which there are dark frames, and the energy of their pulses.

    A procedure calls :meth:`plan_exposures` in its plan, has a stage ``dark``, and takes spectra with ``self.taker``.
    """

    ROLES: ClassVar[tuple[str, ...]] = ("attenuator", "shutter", "energy_meter", "spectrograph", "detector")
    OPTIONAL_ROLES: ClassVar[tuple[str, ...]] = ("filter",)

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
    centre_wavelength: float | None = quantity(
        "Centre wavelength of the spectrograph",
        "nm",
        minimum=100.0,
        maximum=20000.0,
        optional=True,
        description="That of the bench if not given",
    )
    band: tuple[float, ...] | None = quantity_list("Band that is integrated (two wavelengths)", "nm", minimum=1.0)
    filter: str | None = named(
        "Filter before the slit", description="Name of a position in [filter] of the bench; the one in use if not given"
    )
    zero_meter: bool = flag("Zero the energy meter before the first point", default=True)

    ladder: ExposureLadder
    """Exposures there are dark frames for; set by :meth:`plan_exposures`."""
    frames: Frames
    """Dark and scatter frames; made by :meth:`begin`."""
    taker: SpectrumTaker
    """Takes spectra with the shutter open; made by :meth:`begin`."""

    def plan_exposures(self, bench: BenchConfig, sample: SampleConfig | None) -> tuple[list[str], list[str]]:
        """Settle exposures, centre wavelength and filter; returns what warns and what speaks against the run.

        Parameters that were not given take the values used, which the run stores. Raises InputError for what cannot be.
        """
        if self.centre_wavelength is None and bench.spectrometer is not None:
            self.centre_wavelength = bench.spectrometer.centre_wavelength_nm
        # Whoever chooses a band may look at something else than the line.
        self._line_nm = self.expected_line_nm(sample) if self.band is None else None
        rate_hz = bench.laser.repetition_rate_hz if bench.laser else 0.0
        shortest_s, longest_s = default_exposures_s(rate_hz)
        if self.exposure_min is None:
            self.exposure_min = min(shortest_s, self.exposure_max or math.inf)
        if self.exposure_max is None:
            self.exposure_max = max(longest_s, self.exposure_min)
        if self.exposure_min > self.exposure_max:
            raise InputError("exposure-min is longer than exposure-max")
        self._reading_pulses = self.pulses = self.pulses or default_reading_pulses(rate_hz)
        check_band(self.band, self.centre_wavelength)
        check_pulses(rate_hz, self.exposure_min)
        self.ladder = ExposureLadder.of_whole_pulses(self.exposure_min, self.exposure_max, rate_hz)
        chosen = filter_position(bench, self.filter)
        self.filter = chosen.name if chosen is not None else None
        window_nm = bench.spectrometer.window_nm if bench.spectrometer else None
        return (
            pulse_warnings(rate_hz, self.ladder.shortest_s),
            line_refusals(self._line_nm, self.centre_wavelength, window_nm),
        )

    def expected_line_nm(self, sample: SampleConfig | None) -> float | None:
        """Get the line that must be in the window, in nm; by default that of the sample's ASE."""
        return sample.sample.expected_ase_nm if sample is not None else None

    def spectral_window(self, bench: BenchConfig) -> SpectralWindow | None:
        """The window around the centre wavelength, with the chosen filter."""
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
        settings = spectrometer_settings(config)
        pump.shutter.shut()
        # The window is known only here: a band that is not in it must not cost the time to cool.
        centre_nm = self.centre_wavelength or settings.centre_wavelength_nm
        spectrometer.prepare(centre_nm, settings.grating, self.filter)
        # Shutter closed: beforehand the window was known in part only.
        if (window := self.spectral_window(config)) is not None:
            axis_nm = spectrometer.wavelength_nm
            spectrometer.warnings += require_window(window, float(axis_nm[0]), float(axis_nm[-1]), config)
        check_line_in_window(self._line_nm, spectrometer.wavelength_nm)
        self.band_mask = band_mask(spectrometer.wavelength_nm, self.band_nm(config))
        spectrometer.start_cooling(settings.temperature_c)
        pump.attenuator.home()
        if self.zero_meter:
            pump.prepare()
        self.bench = bench
        self._cooling_timeout_s = settings.cooling_timeout_s
        self.wait_until_cold()

    def begin(self, bench: Bench) -> None:
        """No frame has been taken yet."""
        self.frames = Frames(spectrometer_settings(bench.config).counts_per_electron)
        self.taker = SpectrumTaker(
            bench,
            self.ladder,
            self.frames,
            self.band_mask,
            averages=self.averages,
            pulses=self._reading_pulses,
            stop=self.stop_event,
        )

    def band_nm(self, bench: BenchConfig) -> tuple[float, float]:
        """Get the band that is integrated, if none is given all that the filter passes: a narrow band moves a knee."""
        if self.band is not None:
            return self.band[0], self.band[1]
        chosen = filter_position(bench, self.filter)
        return chosen.passed_nm if chosen is not None else (-math.inf, math.inf)

    def wait_until_cold(self) -> None:
        """Wait until the detector is at its temperature, before the light goes on."""
        self.bench.spectrometer.wait_until_cold(self._cooling_timeout_s, self.stop_event)

    def measure_dark(self, exposure_s: float) -> Record:
        """Take the dark frames of one exposure, shutter closed."""
        self.bench.pump.shutter.shut()
        frame = self.bench.spectrometer.acquire(exposure_s, self.dark_frames, stop=self.stop_event)
        if full := self.full_pixels(frame):
            raise InstrumentError(
                f"the dark frame at {frame.exposure_s:g} s is saturated in {full} pixels of the band",
                role="detector",
                state="shutter closed",
                todo="keep room light out of the spectrograph; cool further; or shorten exposure-max",
            )
        self.frames.add_dark(frame)
        return Record(frame_row(frame, 0.0, 0.0, 0.0), arrays_of(frame))

    def full_pixels(self, frame: Spectrum) -> int:
        """Count the pixels of the band that are saturated, not by a cosmic ray."""
        return int((frame.saturated & ~frame.cosmic & self.band_mask).sum())

    def pulses_in(self, spectrum: Spectrum) -> float:
        """Pulses within the exposures on average: the shutter is open throughout, so rate times exposure."""
        return spectrum.total_exposure_s * self.bench.pump.repetition_rate_hz


def spectrometer_settings(config: BenchConfig) -> SpectrometerConfig:
    """Get the table ``[spectrometer]``; raises InputError if the bench has none."""
    return section(config.spectrometer, "spectrometer", config)


def relative_energy_error(fluence: Fluence, reading: EnergyReading, pulses: float) -> float:
    """Get how well the mean energy of the pulses of an exposure is known, as a share of it.

    The meter and the camera see different pulses of the same laser; both means scatter.
    """
    return math.hypot(fluence.error_uj_cm2 / fluence.uj_cm2, reading.std_j / reading.mean_j / math.sqrt(pulses))
