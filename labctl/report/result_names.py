"""Results by the names that analyses give them, in words that a physicist uses."""

from __future__ import annotations

import re

from labctl.report.wording import label_text

RESULT_NAMES = {
    "excitons_at_threshold": "Excitons per particle at the threshold",
    "effective_population": "Excitons at a time, long pulse",
    "threshold_energy": "Threshold, energy per pulse at the sample",
    "beta": "β, share of the emission into the mode",
    "pl_peak": "PL peak",
    "ase_shift": "ASE peak minus PL peak",
    "lasing_peak": "Laser line, strongest mode",
    "lasing_fwhm": "FWHM of the mode, as measured",
    "lasing_fwhm_deconvolved": "FWHM of the mode, spectrograph removed",
    "mode_spacing": "Spacing of the modes",
    "ase_peak": "ASE peak",
    "ase_fwhm": "ASE FWHM, as measured",
    "ase_fwhm_deconvolved": "ASE FWHM, spectrograph removed",
    "q": "Q, as measured",
    "q_deconvolved": "Q, spectrograph removed",
    "gain": "Net modal gain",
    "gain_with_systematic": "Net modal gain, systematic errors included",
    "gain_small_signal": "Gain by the papers' simple fit, all lengths",
    "pump_fluence": "Pump fluence of the scan",
    "peak": "Peak of the amplified light",
    "saturation_length": "Saturation length: a tenth of the light lost",
    "loss": "Propagation loss",
    "bleach_ratio": "First lengths again at the end, after / before",
    "edge": "Edge of the film, position of the far blade",
    "remaining": "Emission left at the end",
    "t80": "T80, time to 80 %",
    "t50": "T50, time to 50 %",
    "ts80": "TS80, time to 80 % after the burn-in",
    "maximum": "Largest emission, its start being 1",
    "maximum_at": "When it was largest",
    "quench": "Hot over cold emission, reversible",
    "shift_nm": "Shift of the peak at the end",
    "broadening_nm": "Change of the FWHM at the end",
    "shift": "Shift of the peak",
    "broadening": "Change of the FWHM",
    "heating_up": "Heating up, as time at the temperature",
    "temperature": "Temperature of the stress, mean",
    "dose": "Dose",
    "quench_activation": "Activation energy of the quench",
    "energy_at_highest": "Peak energy, warmest",
    "energy_e0": "E₀, peak energy at 0 K",
    "energy_s": "S, coupling to phonons",
    "energy_hw": "ħω, mean phonon energy from the peak",
    "width_at_highest": "FWHM, warmest",
    "width_g0": "Γ₀, FWHM at 0 K",
    "width_s": "σ, FWHM per kelvin from acoustic phonons",
    "width_g_lo": "Γ_LO, FWHM from optical phonons",
    "width_e_lo": "E_LO, optical phonon energy from the FWHM",
    "return_ratio": "Emission at the warmest, again at the end / at first",
    "d80": "D80, dose to 80 %",
    "d50": "D50, dose to 50 %",
    "n80": "N80, pulses to 80 %",
    "n50": "N50, pulses to 50 %",
    "shots": "Laser pulses, counted",
    "photons": "Photons of the lamp per area",
    "irradiance": "Irradiance of the lamp, median",
    "maximum_at_dose": "Dose at which it was largest",
    "pump_exponent": "Power with which the emission follows the pump",
}
_OF_PROCEDURES = {("temperature-series", "quench"): "Thermal quench, coldest to warmest"}
"""Names that mean something else in one procedure."""
LAW_NAMES = {
    "exponential_floor": "exponential with a floor",
    "exponential_down_to_floor": "exponential down to a floor",
    "bi_exponential": "two exponentials",
    "rise_and_fall": "rise and fall",
    "consecutive": "consecutive reactions",
    "stretched": "stretched exponential",
    "none of the laws": "none fits, smoothed",
}
"""Laws of degradation by the names that the analysis gives them."""
_SHARES = {"remaining": "Emission left"}
_TAKEN_AT = re.compile(r"_(\d+(?:_\d+)?)(s|min|h|d|shots|j_cm2|k|c)$")
_UNITS = {"j_cm2": "J/cm²", "k": "K", "c": "°C"}
_FLUENCE = re.compile(r"^gain_at_(.+)_uj_cm2$")


def result_name(name: str, procedure: str = "") -> str:
    """Write the name of a result, of a procedure, as the heading of a line."""
    if (procedure, name) in _OF_PROCEDURES:
        return _OF_PROCEDURES[procedure, name]
    if (found := _FLUENCE.match(name)) is not None:
        return f"Net modal gain at {found[1]} µJ/cm²"
    if name in RESULT_NAMES:
        return RESULT_NAMES[name]
    if name.startswith("second_"):
        return f"Second band: {result_label(name.removeprefix('second_'))}"
    text, at, plain = label_text(name), "", name.removesuffix("_nm")
    if (taken := _TAKEN_AT.search(plain)) is not None:
        head = plain[: taken.start()]
        text = _SHARES.get(head) or RESULT_NAMES.get(head, label_text(head))
        at = f" at {taken[1].replace('_', '.')} {_UNITS.get(taken[2], taken[2])}"
    return text[:1].upper() + text[1:] + at


def result_label(name: str, procedure: str = "") -> str:
    """Write the name of a result within a sentence."""
    text = result_name(name, procedure)
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
