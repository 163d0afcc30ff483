"""What the simulated laboratory knows and the user does not: the tables ``[truth]`` and ``[laboratory]``.

A sample file's ``[truth]`` holds the parameters of the model in :mod:`labctl.sim.sample`; a bench file's
``[laboratory]`` holds what the simulated optics really are, including the errors that calibrations have to find.
Only :mod:`labctl.sim` reads either.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from labctl.sim.carriage import StageTruth
from labctl.sim.degradation import (
    HeatTruth,
    SecondBandTruth,
    ShotsTruth,
    TemperatureTruth,
    UVTruth,
    WaterTruth,
)
from labctl.sim.filters import FilterTruth
from labctl.sim.incidents import CoolingTruth, DropOffTruth, InterlockTruth
from labctl.sim.lamp import LampTruth
from labctl.sim.places import PlacesTruth
from labctl.sim.slit import SlitTruth
from labctl.sim.spot import Illuminated, SpotTruth, StripeTruth
from labctl.sim.thermal import ThermalTruth
from labctl.sim.truth_table import Fraction, NotNegative, Positive, Positives, Truth
from labctl.sim.vacuum import VacuumTruth

LineNm = Annotated[float, Field(ge=100, le=20_000)]
WidthNm = Annotated[float, Field(ge=0.01, le=2000)]


class SampleTruth(Truth):
    """Parameters of an ensemble sample (film or solution) of nanocrystals.

    :param kappa: Film factor in N = kappa sigma F / (h nu): reflection, absorption depth, Auger loss during build-up.
    :param sigma_cm2: Absorption cross-section at the pump wavelength, cm2.
    :param eta_t: Share of the spontaneous emission that is there while the gain lives, and is amplified.
    :param y0: Loss through photo-induced absorption, in units of the inversion.
    :param gain_cm1: Modal gain at full inversion and no loss (G), 1/cm. 0: a sample without gain.
    :param alpha_cm1: Propagation loss, 1/cm.
    :param reference_stripe_mm: Stripe length for which ``saturation_gl`` and the ASE line are stated, mm.
    :param saturation_gl: Small-signal gain-length product at which the saturation intensity is reached there.
    :param gain_law: Law of the inversion; ``biexciton`` is y(N) = 1 - exp(-N)(2 + N).
    :param lambda_pl_nm: Peak of the PL line, nm. :param fwhm_pl_nm: Its full width at half maximum, nm.
    :param asymmetry_pl: Ratio of the red to the blue half width of the PL line.
    :param lambda_ase_nm: Peak of the ASE line, nm. :param fwhm_ase_nm: Its full width at half maximum, nm; see
        :class:`labctl.sim.sample.EnsembleSample` for the pump at which they are meant.
    :param ase_line_pump: That pump, in units of the fluence of transparency.
    :param qy: Quantum yield of the single exciton.
    :param x_decay_ns: Lifetimes of the single exciton, ns.
    :param x_decay_fractions: Their fractional intensities; as many, with the sum 1.
    :param tau_xx_ns: Lifetime of the biexciton, ns.
    :param auger_share: Share w of the Auger process in the biexciton's decay.
    :param damage_fluence_uj_cm2: Photodamage: brightness falls as exp(-D/F_dam), where D is the peak fluence summed
        over all pulses that hit the spot, uJ/cm2. 0: no damage.
    :param heat: :param uv: :param water: :param shots: How it wears; not at all by what is left out.
    :param temperature: What its temperature does to it. :param second_band: A second band at high pump.
    """

    kind: Literal["ensemble"] = "ensemble"
    kappa: Positive = 1.0
    sigma_cm2: Positive
    eta_t: Fraction = 0.03
    y0: NotNegative = 0.05
    gain_cm1: NotNegative = 0.0
    alpha_cm1: NotNegative = 10.0
    reference_stripe_mm: Annotated[float, Field(ge=1e-3, le=1000)] = 1.0
    saturation_gl: Positive = 9.5
    gain_law: Literal["biexciton"] = "biexciton"
    lambda_pl_nm: LineNm
    fwhm_pl_nm: WidthNm
    asymmetry_pl: Positive = 1.0
    lambda_ase_nm: LineNm | None = None
    fwhm_ase_nm: WidthNm | None = None
    ase_line_pump: Annotated[float, Field(gt=1)] = 3.0
    qy: Fraction
    x_decay_ns: Positives = ()
    x_decay_fractions: Positives = ()
    tau_xx_ns: Positive | None = None
    auger_share: Fraction = 0.0
    damage_fluence_uj_cm2: NotNegative = 0.0
    heat: HeatTruth | None = None
    uv: UVTruth | None = None
    water: WaterTruth | None = None
    shots: ShotsTruth | None = None
    temperature: TemperatureTruth | None = None
    second_band: SecondBandTruth | None = None

    @model_validator(mode="after")
    def _consistent(self) -> SampleTruth:
        if self.gain_cm1 > 0 and (self.lambda_ase_nm is None or self.fwhm_ase_nm is None):
            raise ValueError("a sample with gain_cm1 > 0 needs lambda_ase_nm and fwhm_ase_nm")
        if self.gain_cm1 > 0 and self.gain_cm1 * (1 - self.y0) <= self.alpha_cm1:
            raise ValueError("gain_cm1 (1 - y0) must exceed alpha_cm1: this sample never reaches net gain")
        if len(self.x_decay_ns) != len(self.x_decay_fractions):
            raise ValueError("x_decay_ns and x_decay_fractions must have the same length")
        if self.x_decay_fractions and abs(sum(self.x_decay_fractions) - 1) > 1e-3:
            raise ValueError("x_decay_fractions must add up to 1")
        return self


class LaserTruth(Truth):
    """The pump laser.

    :param energy_uj: Mean pulse energy at the energy meter with the attenuator fully open, uJ.
    :param pulse_duration_ns: Duration of a pulse, ns.
    :param rms: Pulse-to-pulse fluctuation. :param drift_rms: Slow drift. :param drift_tau_s: Its time, s.
    :param ageing_per_100_h: Share of its energy that is lost in 100 h of a run.
    """

    wavelength_nm: Positive = 400.0
    repetition_rate_hz: Positive = 1000.0
    pulse_duration_ns: Positive = 1e-4
    energy_uj: Positive = 38.0
    rms: NotNegative = 0.015
    drift_rms: NotNegative = 0.02
    drift_tau_s: Positive = 1200.0
    ageing_per_100_h: Fraction = 0.0


class WavePlateTruth(Truth):
    """Half-wave plate between polarisers.

    :param theta0_deg: Angle of largest transmission. :param leak: Least transmission T0.
    :param retardance_error: Relative error of the half wave.
    :param backlash_deg: Optical angle reached from below minus that reached from above, same reported angle.
    :param step_deg: Smallest step of the mount. :param speed_deg_s: Speed of a move.
    :param initial_deg: Reported angle when the laboratory is switched on.
    """

    theta0_deg: float = 7.3
    leak: Fraction = 1e-3
    retardance_error: float = 0.005
    backlash_deg: NotNegative = 0.03
    step_deg: NotNegative = 0.01
    speed_deg_s: Positive = 430.0
    initial_deg: float = 0.0


class ShutterTruth(Truth):
    """The pump shutter: delay between command and light, s; whether it is open at switch-on."""

    open_s: NotNegative = 0.008
    close_s: NotNegative = 0.008
    initially_open: bool = False


class MeterTruth(Truth):
    """Energy meter behind the pick-off.

    :param ratio: Energy at the sample divided by energy at the meter.
    :param noise: Relative noise of one reading. :param drift_rms: Drift of its sensitivity. :param drift_tau_s: s.
    :param response_s: Time constant of a thermal head, s; 0 for a photodiode or a pyroelectric head.
    """

    ratio: Positive = 0.02
    noise: NotNegative = 0.005
    drift_rms: NotNegative = 0.002
    drift_tau_s: Positive = 3600.0
    response_s: NotNegative = 0.0


class SpectrographTruth(Truth):
    """Czerny-Turner spectrograph.

    :param half_angle_deg: Half the inclusion angle. :param detector_angle_deg: Tilt of the focal plane.
    :param offset_nm: True wavelength at the centre of the camera minus the one asked for.
    :param psf_fwhm_nm: Instrument width with the grating of ``psf_lines_per_mm``; other gratings scale inversely.
    :param slew_nm_s: Speed of a wavelength drive. :param grating_change_s: Time to turn the turret, s.
    """

    focal_length_mm: Positive = 300.0
    half_angle_deg: float = 15.2
    detector_angle_deg: float = 1.38
    offset_nm: float = 0.03
    psf_fwhm_nm: Positive = 0.2
    psf_lines_per_mm: Positive = 600.0
    slew_nm_s: Positive = 100.0
    grating_change_s: NotNegative = 12.0
    initial_centre_nm: float = 0.0
    initial_lines_per_mm: Positive = 600.0


class CameraTruth(Truth):
    """CCD camera read out as one line.

    :param collection: Photons on the detector per emitted photon of the model (which counts per dot and cm).
    :param quantum_efficiency: At its peak, :param efficiency_peak_nm: which lies here, nm; :param efficiency_width_nm:
        how far from there it has fallen to 1/e, nm.
    :param dark_e_s: Dark current at ``dark_reference_c``, electrons/s; doubles every ``dark_doubling_k``.
    :param prnu: Fixed relative spread of the pixels' sensitivity. :param bleed: Share of the charge above full well
        that goes to each neighbour. :param stray: Share of the light that the spectrograph spreads over all pixels.
    :param pump_scatter: Scattered pump light, photons per pixel and pulse for 1 uJ/cm2 on the sample.
    :param pump_line: Pump photons per pulse for 1 uJ/cm2 in the line itself, in first order.
    """

    pixels: Annotated[int, Field(gt=8)] = 1024
    pixel_um: Positive = 26.0
    offset_adu: NotNegative = 600.0
    read_noise_e: NotNegative = 4.0
    gain_e_per_adu: Positive = 1.0
    full_scale_adu: Positive = 65535.0
    bleed: Fraction = 0.01
    collection: Positive = 2.5e4
    quantum_efficiency: Fraction = 0.9
    efficiency_peak_nm: Positive = 620.0
    efficiency_width_nm: Positive = 400.0
    dark_e_s: NotNegative = 0.05
    dark_reference_c: float = -60.0
    dark_doubling_k: Positive = 6.5
    cosmics_per_s: NotNegative = 0.05
    prnu: NotNegative = 0.005
    stray: Fraction = 1e-4
    pump_scatter: NotNegative = 0.01
    pump_line: NotNegative = 20.0


class ReadingTruth(Truth):
    """What is not the same from one reading of the emission to the next, relative errors.

    :param flicker: Of each exposure. :param arrival: Of each arrival of the sample stage.
    :param remount: Of the sample whenever the operator has mounted it anew.
    """

    flicker: NotNegative = 0.0
    arrival: NotNegative = 0.0
    remount: NotNegative = 0.02


class LaboratoryTruth(Truth):
    """The simulated optics, all with defaults: a bench without ``[laboratory]`` is a good one.

    The pump falls on the sample as ``stripe`` or as ``spot``; as the default stripe if neither is given.

    :param stages: By role, where carriages stand at switch-on. :param places: What the sample stage carries.
    :param wears: Whether the laws of laser pulses and the second band of a sample act. Off by default: benches for
        fluence sweeps state their thresholds for a film that neither has.
    """

    laser: LaserTruth = LaserTruth()
    wave_plate: WavePlateTruth = WavePlateTruth()
    shutter: ShutterTruth = ShutterTruth()
    meter: MeterTruth = MeterTruth()
    stripe: StripeTruth | None = None
    spot: SpotTruth | None = None
    spectrograph: SpectrographTruth = SpectrographTruth()
    camera: CameraTruth = CameraTruth()
    filter: FilterTruth = FilterTruth()
    interlock: InterlockTruth = InterlockTruth()
    cooling: CoolingTruth = CoolingTruth()
    drop_offs: Annotated[tuple[DropOffTruth, ...], Field(strict=False)] = ()
    stages: dict[str, StageTruth] = Field(default_factory=dict)
    slit: SlitTruth = SlitTruth()
    places: PlacesTruth | None = None
    readings: ReadingTruth = ReadingTruth()
    wears: bool = False
    thermal: ThermalTruth = ThermalTruth()
    lamp: LampTruth = LampTruth()
    vacuum: VacuumTruth = VacuumTruth()

    @model_validator(mode="after")
    def _one_spot(self) -> LaboratoryTruth:
        if self.stripe is not None and self.spot is not None:
            raise ValueError("the pump has one shape on the sample: give [laboratory.stripe] or [laboratory.spot]")
        return self

    @property
    def illuminated(self) -> Illuminated:
        """Get what the pump lights on the sample."""
        return self.spot or self.stripe or StripeTruth()
