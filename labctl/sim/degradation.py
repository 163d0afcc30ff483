"""How a sample wears: laws of heat, UV light, water and laser pulses, as pure functions of what has come together.

Each law has a clock of its own. Heat counts hours at the law's reference temperature (Arrhenius), UV light the dose,
water the hours under water, the laser its pulses. What the laws leave is multiplied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from labctl.sim.thermal import BOLTZMANN_EV_K, ZERO_C_K
from labctl.sim.truth_table import Fraction, NotNegative, Positive, Truth


class HeatTruth(Truth):
    """Heat: exp(-(t/tau)^stretch), never below ``floor``, with t in hours at the reference temperature.

    At ambient temperature nothing wears: a film keeps for longer than any run.

    :param tau_h: tau, h. :param stretch: b; 1 is the plain exponential. :param floor: What always stays.
    :param activation_ev: Activation energy of the clock, eV. :param reference_c: Temperature of the law, C.
    :param shift_nm: Shift of the line to the red when all is lost, nm; in proportion to the loss.
    :param broadening_nm: The same for its width, nm.
    """

    tau_h: Positive
    stretch: Positive = 1.0
    floor: Fraction = 0.0
    activation_ev: Positive = 0.8
    reference_c: float = 100.0
    shift_nm: float = 0.0
    broadening_nm: NotNegative = 0.0


class UVTruth(Truth):
    """UV light: [1 + B (1 - exp(-D/D_b))] exp(-(D/tau)^stretch), with the dose D in J/cm2.

    :param tau_j_cm2: tau, J/cm2. :param stretch: Exponent p. :param brightening: B, how much brighter it would become.
    :param brightening_j_cm2: D_b, J/cm2.
    """

    tau_j_cm2: Positive
    stretch: Positive = 1.0
    brightening: NotNegative = 0.0
    brightening_j_cm2: Positive = 150.0


class WaterTruth(Truth):
    """Water: exp(-(t/tau)^stretch), never below ``floor``, with t in hours since water was added."""

    tau_h: Positive
    stretch: Positive = 1.0
    floor: Fraction = 0.0


class ShotsTruth(Truth):
    """Laser pulses: 1 - loss n - dip (1 - exp(-n/n_dip)) + rise s(n), s a logistic step at n_rise, 0 for n = 0.

    It acts on the emitted light, as a run at one pump shows it, and leaves the gain alone.

    n counts pulses, or where the law states a fluence, pulses of that fluence: weaker ones wear in proportion.

    :param fluence_uj_cm2: Fluence of the pulses that n counts, uJ/cm2; 0: every pulse counts.
    :param loss_per_shot: Loss, per pulse. :param dip: Depth of a dip. :param dip_shots: n_dip.
    :param rise: Height of the rise that follows. :param rise_shots: n_rise. :param rise_width_shots: Its width.
    """

    fluence_uj_cm2: NotNegative = 0.0
    loss_per_shot: NotNegative = 0.0
    dip: Fraction = 0.0
    dip_shots: Positive = 1.0
    rise: NotNegative = 0.0
    rise_shots: NotNegative = 0.0
    rise_width_shots: Positive = 1.0


class TemperatureTruth(Truth):
    """What temperature does to the line, for good or not: all of it goes back with the temperature.

    E(T) = E0 - S hw [coth(hw/2kT) - 1] (O'Donnell and Chen), width G0 + s T + G_LO/(exp(E_LO/kT) - 1), and yield
    1/(1 + C exp(-Ea/kT)), in units of that at 25 C. Without ``energy_ev`` the line stays as the sample states it.

    :param energy_ev: E0, eV. :param huang_rhys: S. :param phonon_mev: hw, meV.
    :param width_mev: G0, meV. :param acoustic_mev_k: s, meV/K. :param optical_mev: G_LO, meV.
    :param optical_phonon_mev: E_LO, meV. :param quench: C. :param quench_mev: Ea, meV.
    """

    energy_ev: Positive | None = None
    huang_rhys: NotNegative = 0.0
    phonon_mev: Positive = 22.0
    width_mev: Positive = 80.0
    acoustic_mev_k: NotNegative = 0.0
    optical_mev: NotNegative = 0.0
    optical_phonon_mev: Positive = 38.0
    quench: NotNegative = 0.0
    quench_mev: Positive = 60.0


class SecondBandTruth(Truth):
    """A second band that grows at high pump: its photons go with the share of dots with three excitons or more.

    :param lambda_nm: Its peak, nm. :param fwhm_nm: Its width, nm. :param share: Photons per such dot and pulse.
    :param shots: How laser pulses wear it.
    """

    lambda_nm: Annotated[float, Field(ge=100, le=20_000)]
    fwhm_nm: Annotated[float, Field(ge=0.01, le=2000)]
    share: NotNegative
    shots: ShotsTruth | None = None


REFERENCE_C = 25.0
"""Temperature at which a sample's truth states its line and its yield, C."""


@dataclass(frozen=True)
class SampleState:
    """What has happened to the illuminated spot, and how warm it is.

    :param accumulated_fluence_uj_cm2: Peak fluence summed over all pulses so far, uJ/cm2. :param shots: Their number.
    :param heat_h: Hours at the reference temperature of the sample's law of heat. :param uv_j_cm2: UV dose, J/cm2.
    :param water_h: Hours under water. :param temperature_c: Temperature, C.
    """

    accumulated_fluence_uj_cm2: float = 0.0
    shots: float = 0.0
    heat_h: float = 0.0
    uv_j_cm2: float = 0.0
    water_h: float = 0.0
    temperature_c: float = REFERENCE_C


FRESH = SampleState()


class Wearing(Protocol):
    """The truth of whatever wears."""

    @property
    def damage_fluence_uj_cm2(self) -> float: ...
    @property
    def heat(self) -> HeatTruth | None: ...
    @property
    def uv(self) -> UVTruth | None: ...
    @property
    def water(self) -> WaterTruth | None: ...
    @property
    def temperature(self) -> TemperatureTruth | None: ...


def arrhenius(temperature_c: ArrayLike, law: HeatTruth, ambient_c: float = REFERENCE_C) -> np.ndarray:
    """Get the rate of the clock of a law of heat: 1 at its reference temperature, 0 at ambient and below."""
    kelvin = np.asarray(temperature_c, dtype=float) + ZERO_C_K
    reference_k = law.reference_c + ZERO_C_K

    def rate(k: ArrayLike) -> np.ndarray:
        return np.exp(-law.activation_ev / BOLTZMANN_EV_K * (1.0 / np.asarray(k) - 1.0 / reference_k))

    ambient = rate(ambient_c + ZERO_C_K)
    return np.maximum(0.0, (rate(np.maximum(kelvin, 1.0)) - ambient) / (1.0 - ambient))


def left_by_heat(law: HeatTruth | None, heat_h: float) -> float:
    """Get what heat has left of the emitters."""
    return 1.0 if law is None else max(law.floor, float(np.exp(-((heat_h / law.tau_h) ** law.stretch))))


def left_by_uv(law: UVTruth | None, dose_j_cm2: float) -> float:
    """Get what UV light has left of the brightness; more than 1 where it brightens."""
    if law is None:
        return 1.0
    brighter = 1.0 - law.brightening * np.expm1(-dose_j_cm2 / law.brightening_j_cm2)
    return float(brighter * np.exp(-((dose_j_cm2 / law.tau_j_cm2) ** law.stretch)))


def left_by_water(law: WaterTruth | None, water_h: float) -> float:
    """Get what water has left of the emitters."""
    return 1.0 if law is None else max(law.floor, float(np.exp(-((water_h / law.tau_h) ** law.stretch))))


def left_by_shots(law: ShotsTruth | None, state: SampleState) -> float:
    """Get what laser pulses have made of the emitted light."""
    if law is None:
        return 1.0
    shots = state.accumulated_fluence_uj_cm2 / law.fluence_uj_cm2 if law.fluence_uj_cm2 else state.shots
    if not shots:
        return 1.0

    def step(n: float) -> float:
        return 0.5 * (1.0 + np.tanh(0.5 * (n - law.rise_shots) / law.rise_width_shots))

    dip = law.dip * np.expm1(-shots / law.dip_shots)
    return max(0.0, float(1.0 - law.loss_per_shot * shots + dip + law.rise * (step(shots) - step(0.0))))


def left_by_fluence(damage_fluence_uj_cm2: float, state: SampleState) -> float:
    """Get what photodamage has left: exp(-D/F_dam), D the accumulated fluence; 1 for F_dam = 0, no damage."""
    if not damage_fluence_uj_cm2:
        return 1.0
    return float(np.exp(-state.accumulated_fluence_uj_cm2 / damage_fluence_uj_cm2))


def wear(truth: Wearing, state: SampleState) -> float:
    """Get what all stresses together have left of the brightness; more than 1 where UV light brightens."""
    left = left_by_fluence(truth.damage_fluence_uj_cm2, state)
    if state.heat_h or state.uv_j_cm2 or state.water_h:
        left *= left_by_heat(truth.heat, state.heat_h)
        left *= left_by_uv(truth.uv, state.uv_j_cm2) * left_by_water(truth.water, state.water_h)
    return left


def thermal_yield(law: TemperatureTruth | None, temperature_c: float) -> float:
    """Get the yield at a temperature in units of that at 25 C."""
    if law is None or not law.quench or temperature_c == REFERENCE_C:
        return 1.0
    lost = [
        law.quench * np.exp(-1e-3 * law.quench_mev / (BOLTZMANN_EV_K * (celsius + ZERO_C_K)))
        for celsius in (REFERENCE_C, temperature_c)
    ]
    return float((1.0 + lost[0]) / (1.0 + lost[1]))


def line_energy_ev(law: TemperatureTruth, temperature_c: float) -> float:
    """Get the energy of the line, eV; ``law`` must state ``energy_ev``."""
    if law.energy_ev is None:
        raise ValueError("this law says nothing about the energy of the line")
    half = 0.5e-3 * law.phonon_mev / (BOLTZMANN_EV_K * (temperature_c + ZERO_C_K))
    return law.energy_ev - 1e-3 * law.huang_rhys * law.phonon_mev * float(1.0 / np.tanh(half) - 1.0)


def line_width_mev(law: TemperatureTruth, temperature_c: float) -> float:
    """Get the full width of the line at half maximum, meV."""
    kelvin = temperature_c + ZERO_C_K
    phonons = 1.0 / np.expm1(1e-3 * law.optical_phonon_mev / (BOLTZMANN_EV_K * kelvin))
    return law.width_mev + law.acoustic_mev_k * kelvin + law.optical_mev * float(phonons)


_EV_NM = 1239.841984


def line_nm(truth: Wearing, lambda_pl_nm: float, fwhm_pl_nm: float, state: SampleState) -> tuple[float, float]:
    """Get peak and width of the spontaneous line in a state, nm."""
    law = truth.temperature
    if law is not None and law.energy_ev is not None:
        lambda_pl_nm = _EV_NM / line_energy_ev(law, state.temperature_c)
        fwhm_pl_nm = 1e-3 * line_width_mev(law, state.temperature_c) * lambda_pl_nm**2 / _EV_NM
    heat = truth.heat
    if heat is None or not state.heat_h:
        return lambda_pl_nm, fwhm_pl_nm
    lost = 1.0 - left_by_heat(heat, state.heat_h)
    return lambda_pl_nm + lost * heat.shift_nm, fwhm_pl_nm + lost * heat.broadening_nm
