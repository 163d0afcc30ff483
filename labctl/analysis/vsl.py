"""Analysis of a whole variable-stripe-length measurement: gain, what it rests on, what may be wrong with it.

The gain is that of a narrow band about the peak of the amplified light (`labctl.analysis.vsl_bands`): the net modal
gain at the peak. The light of a whole line has an effective gain a tenth lower, which is no property of the film; see
docs/decisions/0021-what-the-gain-means.md. If shifted spots and a loss were measured, the gain is that with the
collection taken out, else that of an evenly collected stripe.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from labctl.analysis.estimate import Estimate
from labctl.analysis.vsl_amplification import Array, Mask
from labctl.analysis.vsl_bands import BAND_WIDTH_NM, Band, amplified_band, band_mean, floor, floor_of_one_line
from labctl.analysis.vsl_budget import PUMP_PROFILE_SHARE, Budget, BudgetPart, budget
from labctl.analysis.vsl_checks import BLEACH_LIMIT, Bleach, ConstantFluence, bleach, constant_fluence
from labctl.analysis.vsl_fit import GainPrior
from labctl.analysis.vsl_gain import GainFit, NoGain, fit_gain
from labctl.analysis.vsl_loss import LossFit, fit_loss
from labctl.analysis.vsl_ses import ShiftedSpotGain, shifted_spot_gain, spot_curve
from labctl.analysis.vsl_small_signal import SmallSignalFit, small_signal_fits
from labctl.analysis.vsl_spectral import GainSpectrum, display_ratio, gain_spectrum

__all__ = ["NoGain", "SpectralScan", "VSLAnalysis", "analyse_vsl"]
Method = Literal["stripe", "stripe and shifted spots"]
_DISPLAY_GL = 1.0
_SPOT_SCATTER = 0.03
"""Relative error of a spot, for its weight beside the others; how large it is their scatter tells."""
_FLOOR_LEFT = 0.003
"""Share of the floor under the line of a run with spots that may be left: pixels are not alike."""
_OWN_SCATTER_FROM = 12
"""Points of a loss run from which on they tell their scatter."""


@dataclass(frozen=True)
class SpectralScan:
    """Spectra against a length or a distance.

    :param position_um: [n]. :param spectra: [n, pixels], per pulse or for one exposure: comparable with each other.
    :param errors: Standard deviations of counting and read-out, [n, pixels], or None. :param saturated: [n], True where
        the detector was at full scale within the line.
    """

    position_um: Array
    spectra: Array
    errors: Array | None = None
    saturated: Mask | None = None

    def checked(self, pixels: int, name: str) -> SpectralScan:
        """Return the scan as float arrays; raises ValueError if their shapes do not fit together."""
        position, spectra = np.asarray(self.position_um, dtype=float), np.asarray(self.spectra, dtype=float)
        errors = None if self.errors is None else np.asarray(self.errors, dtype=float)
        saturated = np.zeros(position.shape, dtype=bool)
        if self.saturated is not None:
            saturated = np.asarray(self.saturated, dtype=bool)
        wanted = (position.size, pixels)
        if position.ndim != 1 or spectra.shape != wanted or saturated.shape != position.shape:
            raise ValueError(
                f"{name}: spectra {spectra.shape} do not fit positions {position.shape} and {pixels} pixels"
            )
        if errors is not None and errors.shape != wanted:
            raise ValueError(f"{name}: errors {errors.shape} do not fit spectra {spectra.shape}")
        return SpectralScan(position, spectra, errors, saturated)

    @property
    def unsaturated(self) -> Mask:
        """Get which spectra were taken below full scale, [n]."""
        if self.saturated is None:
            return np.ones(self.position_um.shape, dtype=np.bool_)
        return np.logical_not(self.saturated)

    def without(self, background: Array) -> SpectralScan:
        """Return the scan with a background taken off, [pixels] or [n, pixels]."""
        return replace(self, spectra=self.spectra - background)


@dataclass(frozen=True)
class VSLAnalysis:
    """Everything a stripe-length measurement says. ``gain`` is None with ``no_gain`` saying why.

    :param gain: Net modal gain at the peak, statistical interval; ``method`` says how it was had.
    :param fit: Fit of the evenly collected stripe. :param budget: The systematic parts, and the gain with them.
    :param small_signal: The papers' fits. :param display: (length µm, ln(I(2L)/I(L) - 1)/L [pixels]) or None.
    """

    gain: Estimate | None
    no_gain: str | None
    method: Method
    band: Band
    fit: GainFit | None
    budget: Budget | None
    small_signal: tuple[SmallSignalFit, ...]
    spectrum: GainSpectrum | None
    display: tuple[float, Array] | None
    shifted_spots: ShiftedSpotGain | None
    loss: LossFit | None
    bleach: Bleach
    constant_fluence: ConstantFluence | None
    warnings: tuple[str, ...]

    @property
    def saturation_length_um(self) -> float | None:
        """Get the length at which saturation has taken a tenth of the light; None if none is seen."""
        return None if self.fit is None else self.fit.saturation_length_um

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {
            "gain": None if self.gain is None else self.gain.as_dict(),
            "no_gain": self.no_gain,
            "method": self.method,
            "band": self.band.as_dict(),
            "fit": None if self.fit is None else self.fit.as_dict(),
            "budget": None if self.budget is None else self.budget.as_dict(),
            "saturation_length_um": self.saturation_length_um,
            "small_signal": [fit.as_dict() for fit in self.small_signal],
            "spectrum": None if self.spectrum is None else self.spectrum.as_dict(),
            "shifted_spots": None if self.shifted_spots is None else self.shifted_spots.as_dict(),
            "loss": None if self.loss is None else self.loss.as_dict(),
            "bleach": self.bleach.as_dict(),
            "constant_fluence": None if self.constant_fluence is None else self.constant_fluence.as_dict(),
            "warnings": list(self.warnings),
        }


def analyse_vsl(
    wavelength_nm: ArrayLike,
    stripes: SpectralScan,
    *,
    zero_um: float = 0.0,
    zero_error_um: float = 3.0,
    baseline: ArrayLike | None = None,
    baseline_error: ArrayLike | None = None,
    relative_error: float | None = None,
    length_error_um: float = 0.0,
    band: Band | None = None,
    band_width_nm: float = BAND_WIDTH_NM,
    repeated: SpectralScan | None = None,
    spots: SpectralScan | None = None,
    spot_width_um: float = 0.0,
    loss_run: SpectralScan | None = None,
    loss_stripe_um: float = 0.0,
    loss: Estimate | None = None,
    slit_energy: ArrayLike | None = None,
    slit_energy_error: ArrayLike | None = None,
    pump_profile_share: float = PUMP_PROFILE_SHARE,
) -> VSLAnalysis:
    """Analyse a stripe-length scan and what was measured with it.

    :param wavelength_nm: [pixels]. :param stripes: The scan; its positions are stripe lengths as read.
    :param zero_um: Reading at which the stripe has no length, with its standard deviation (`labctl.analysis.vsl_edge`).
    :param baseline: Spectrum without stripe, [pixels], in the unit of the spectra; taken off the stripes. Spots and
        loss run do without: the blurred edge of the film shines a little before a closed slit, not before them.
        ``baseline_error``, its standard deviation, becomes the prior of what it misses in the band.
    :param relative_error: Scatter from length to length beyond the errors given; estimated if None.
    :param length_error_um: Standard deviation of each length by itself. :param band: Found from the scan if None.
    :param repeated: The first lengths once more. :param spots: Shifted spots, positions of their near ends, each
        ``spot_width_um`` wide. Without a loss run they serve as one.
    :param loss_run: A short stripe, ``loss_stripe_um`` long, moved away from the edge; positions of its near end.
        :param loss: The loss, 1/cm, if known; else that of the run.
    :param slit_energy: Pulse energy behind the slit at each length, any unit, [n], with ``slit_energy_error``.
    :param pump_profile_share: Relative error of the gain from the unevenness of the pump.

    A scan without gain to be had is a result: ``gain`` is then None. Malformed input raises ValueError.
    """
    wavelength = np.asarray(wavelength_nm, dtype=float)
    base = np.zeros_like(wavelength) if baseline is None else np.asarray(baseline, dtype=float)
    if wavelength.ndim != 1 or base.shape != wavelength.shape:
        raise ValueError(f"the baseline {base.shape} does not fit {wavelength.shape} wavelengths")
    scan = stripes.checked(wavelength.size, "stripes").without(base)
    scan = scan.without(floor(wavelength, scan.spectra))
    usable = _usable(scan, zero_um)
    chosen = band
    if chosen is None:
        chosen = amplified_band(scan.position_um[usable] - zero_um, wavelength, scan.spectra[usable], band_width_nm)
    light, own = band_mean(chosen, wavelength, scan.spectra, scan.errors)
    offset_error = 0.0
    if baseline_error is not None:
        unsure = np.broadcast_to(np.asarray(baseline_error, dtype=float), wavelength.shape)
        offset_error = float(band_mean(chosen, wavelength, unsure, unsure)[1] or 0.0)
    prior = GainPrior(1e-4 * zero_um, 1e-4 * zero_error_um, 0.0, offset_error)
    warnings: list[str] = []
    fit, verdict = _fit(scan, light, own, prior, relative_error, length_error_um)
    scatter = None if fit is None else fit.relative_error * fit.error_scale
    loss_fit = None
    if loss_run is not None:
        moved, left = _of_one_line(loss_run.checked(wavelength.size, "loss run"), wavelength, chosen)
        loss_fit = _loss(moved, wavelength, chosen, loss_stripe_um, scatter, left, warnings)
    shone, left_of_spots = None, 0.0
    if spots is not None:
        shone, left_of_spots = _of_one_line(spots.checked(wavelength.size, "spots"), wavelength, chosen)
    if shone is not None and loss_run is None and loss is None:
        loss_fit = _loss(shone, wavelength, chosen, spot_width_um, scatter, left_of_spots, warnings)
        warnings.append(
            "the loss is that of the shifted spots themselves: a loss run, which reaches further, knows it better"
        )
    known_loss = loss if loss is not None or loss_fit is None else loss_fit.loss
    shifted = None
    if shone is not None and fit is not None:
        centred = replace(shone, position_um=shone.position_um + 0.5 * spot_width_um)
        shifted = _spots(centred, wavelength, chosen, fit, prior, known_loss, relative_error, length_error_um, warnings)
    method: Method = "stripe"
    gain, source = (None, None) if fit is None else (fit.gain, fit)
    if shifted is not None and shifted.gain is not None:
        method, gain, source = "stripe and shifted spots", shifted.gain, shifted.fit
    whole = None
    if gain is not None and source is not None:
        further = () if shifted is None or shifted.gain is None else _spot_parts(shifted)
        whole = budget(gain, source, prior, pump_profile_share=pump_profile_share, further=further)
    falling = method == "stripe" and loss_fit is not None and loss_fit.collection == "falling"
    if falling and loss_fit is not None:
        warnings.append(
            f"the collection falls with the distance (half of it at {loss_fit.collection_um:.0f} um): the gain of the"
            " stripe alone is wrong for it; measure shifted spots as well"
        )
    spectrum = None
    if source is not None:
        spectrum = gain_spectrum(
            source,
            chosen,
            scan.position_um[usable],
            wavelength,
            scan.spectra[usable],
            None if scan.errors is None else scan.errors[usable],
            loss=None if falling else known_loss,
        )
    if source is not None:
        scatter = source.relative_error * source.error_scale
    bleached = _bleach(repeated, wavelength, base, chosen, scan, light, scatter)
    fluence = None
    if slit_energy is not None:
        fluence = constant_fluence(scan.position_um, slit_energy, zero_um=zero_um, error=slit_energy_error)
    warnings += _warnings(fit, bleached, fluence)
    return VSLAnalysis(
        gain=gain,
        no_gain=verdict,
        method=method,
        band=chosen,
        fit=fit,
        budget=whole,
        small_signal=() if fit is None else small_signal_fits(fit, prior),
        spectrum=spectrum,
        display=_display(fit, scan, usable),
        shifted_spots=shifted,
        loss=loss_fit,
        bleach=bleached,
        constant_fluence=fluence,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _usable(scan: SpectralScan, zero_um: float) -> Mask:
    """Return which spectra [n] show a stripe and no saturated detector; raises ValueError if fewer than two do."""
    usable = scan.unsaturated & np.isfinite(scan.spectra).all(axis=1) & (scan.position_um > zero_um)
    if usable.sum() < 2:
        raise ValueError(f"of {usable.size} spectra {int(usable.sum())} show a stripe with an unsaturated detector")
    return usable


def _of_one_line(run: SpectralScan, wavelength: Array, band: Band) -> tuple[SpectralScan, float]:
    """Return the run without the floor under its line, and the standard deviation of what is left of that."""
    below = floor_of_one_line(wavelength, run.spectra)
    left = _FLOOR_LEFT * abs(float(np.median(band_mean(band, wavelength, below)[0])))
    return run.without(below), left


def _fit(
    scan: SpectralScan,
    light: Array,
    own: Array | None,
    prior: GainPrior,
    relative_error: float | None,
    length_error_um: float,
) -> tuple[GainFit | None, str | None]:
    try:
        return fit_gain(
            scan.position_um,
            light,
            error=own,
            relative_error=relative_error,
            length_error_um=length_error_um,
            zero_um=1e4 * prior.zero_cm,
            zero_error_um=1e4 * prior.zero_error_cm,
            offset_error=prior.offset_error,
            excluded=scan.saturated,
        ), None
    except NoGain as verdict:
        return None, str(verdict)


def _loss(
    run: SpectralScan,
    wavelength: Array,
    band: Band,
    stripe_um: float,
    scatter: float | None,
    offset_error: float,
    warnings: list[str],
) -> LossFit | None:
    light, own = band_mean(band, wavelength, run.spectra, run.errors)
    use = run.unsaturated
    try:
        fit = fit_loss(
            run.position_um[use],
            light[use],
            error=None if own is None else own[use],
            # Two blades move here, one in the scan of the lengths: the run's own scatter is another one.
            relative_error=None if use.sum() >= _OWN_SCATTER_FROM else scatter,
            offset_error=offset_error,
            stripe_um=stripe_um,
        )
    except NoGain as verdict:
        warnings.append(f"no loss: {verdict}")
        return None
    warnings += fit.warnings
    return fit


def _spots(
    spots: SpectralScan,
    wavelength: Array,
    band: Band,
    fit: GainFit,
    prior: GainPrior,
    loss: Estimate | None,
    relative_error: float | None,
    length_error_um: float,
    warnings: list[str],
) -> ShiftedSpotGain | None:
    light, own = band_mean(band, wavelength, spots.spectra, spots.errors)
    use = spots.unsaturated
    error = np.hypot(_SPOT_SCATTER * np.abs(light), 0.0 if own is None else own)
    if loss is None:
        warnings.append("the shifted spots give gain plus loss only: a loss run would give the gain without collection")
    try:
        curve = spot_curve(spots.position_um[use], light[use], error[use])
        # The even stripe misses what falls: its scatter is not that of the lengths.
        shifted = shifted_spot_gain(
            fit.points, prior, curve, loss=loss, relative_error=relative_error, length_error_cm=1e-4 * length_error_um
        )
    except NoGain as verdict:
        warnings.append(f"the shifted spots were not used: {verdict}")
        return None
    warnings += shifted.warnings
    return shifted


def _spot_parts(shifted: ShiftedSpotGain) -> tuple[BudgetPart, ...]:
    return (
        BudgetPart("loss", shifted.loss_error_cm1, "standard deviation of the loss, taken off gain plus loss"),
        BudgetPart("late light", shifted.late_spread_cm1, "whether late light is absorbed on its way, weighted by BIC"),
        BudgetPart(
            "shifted spots", shifted.spot_error_cm1, "scatter of the spots; the interval holds it", counted=False
        ),
    )


def _bleach(
    repeated: SpectralScan | None,
    wavelength: Array,
    base: Array,
    band: Band,
    scan: SpectralScan,
    light: Array,
    scatter: float | None,
) -> Bleach:
    if repeated is None:
        return bleach([], [], [], [])
    again = repeated.checked(wavelength.size, "repeated lengths").without(base)
    again = again.without(floor(wavelength, again.spectra))
    return bleach(scan.position_um, light, again.position_um, band_mean(band, wavelength, again.spectra)[0], scatter)


def _display(fit: GainFit | None, scan: SpectralScan, usable: Mask) -> tuple[float, Array] | None:
    if fit is None or fit.gain.value <= 0:
        return None
    wanted = 1e4 * _DISPLAY_GL / fit.gain.value
    return display_ratio(scan.position_um[usable], scan.spectra[usable], wanted, fit.zero_um)


def _warnings(fit: GainFit | None, bleached: Bleach, fluence: ConstantFluence | None) -> list[str]:
    warnings = [] if fit is None else list(fit.warnings)
    if bleached.ratio is None:
        warnings.append("bleaching not checked: no length was measured again")
    elif bleached.bleached:
        warnings.append(
            f"the film changed: the first lengths emit {100 * (bleached.ratio.value - 1):+.1f} % afterwards;"
            " use a fresh spot"
        )
    elif not bleached.conclusive:
        warnings.append(
            f"the check for bleaching cannot see {100 * BLEACH_LIMIT:.0f} %: ratio {bleached.ratio.value:.3f} known to"
            f" {100 * bleached.ratio.sd:.1f} %"
        )
    if fluence is not None and not fluence.constant:
        warnings.append(
            f"the fluence was not the same at all lengths: the energy behind the slit departs by"
            f" {100 * fluence.worst:+.1f} % at {fluence.worst_um:.0f} um"
        )
    return warnings
