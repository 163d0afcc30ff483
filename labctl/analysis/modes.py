"""Modes of a laser cavity in a spectrum: where they are, how wide the strongest is, how far apart they lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.optimize import leastsq
from scipy.special import voigt_profile

from labctl.analysis.estimate import Estimate
from labctl.analysis.linewidth import InstrumentResponse, Shape
from labctl.analysis.single_line import single_line

Array = NDArray[np.float64]
_LN2 = float(np.log(2.0))
_BACKGROUND_SHARE = 12
"""The background under the modes is a running median over this part of the window: wider than a few modes."""
_FAINTEST = 0.1
"""A mode below this share of the strongest one is not counted: it may be a tail, or a second family of modes."""
_NOISES = 8.0
_FIT_WIDTHS = 3.0
"""Modes are fitted within this many of their widths on either side."""
_NEIGHBOURS = 6
"""As many modes on either side are fitted along, with the same width: the wings of all reach under the line."""
_MIN_PIXELS = 7
_EQUAL_STEPS = 0.15


@dataclass(frozen=True)
class ModeFit:
    """One mode: peak and full width at half maximum as seen, nm, with standard deviations; ``misfit`` in counts^2."""

    peak_nm: float
    peak_sd_nm: float
    fwhm_nm: float
    fwhm_sd_nm: float
    shape: Shape
    misfit: float


def find_modes(wavelength_nm: Array, counts: Array) -> Array:
    """Return the peaks of all modes, nm, ascending; empty if there is none above noise and background.

    :param wavelength_nm: [n_px], ascending. :param counts: [n_px], background-subtracted.
    """
    # It brings all of scipy.stats along: whoever plans a run, or is refused one, need not wait for that.
    from scipy.signal import find_peaks

    size = max(counts.size // _BACKGROUND_SHARE, 15)
    background = median_filter(counts, size=size, mode="nearest")
    above = counts - background
    noise = float(np.median(np.abs(np.diff(counts, 2)))) / 0.6745 / np.sqrt(6.0)
    # Photon noise grows with the light: the median is that of the middling pixels.
    middle = max(float(np.median(background)), 1e-300)
    least = np.maximum(_NOISES * noise * np.sqrt(np.maximum(background / middle, 1.0)), _FAINTEST * float(above.max()))
    if not np.any(above > least):
        return np.empty(0)
    # A running median cuts the top off any curved line; what is left there is much wider than a mode.
    places, _ = find_peaks(above, height=least, prominence=0.5 * least, distance=3, width=(0, size / 4))
    return np.array([_vertex(wavelength_nm, above, int(place)) for place in places])


def _vertex(x: Array, y: Array, place: int) -> float:
    """Return the maximum of the parabola through a peak and its two neighbours."""
    around = slice(place - 1, place + 2)
    a, b, _ = np.polyfit(x[around] - x[place], y[around], 2)
    return float(x[place] - 0.5 * b / a) if a < 0 else float(x[place])


def strongest(wavelength_nm: Array, counts: Array, modes_nm: Array) -> float:
    """Return which of the modes is the brightest, nm."""
    return float(modes_nm[np.argmax(np.interp(modes_nm, wavelength_nm, counts))])


def fit_mode(
    wavelength_nm: Array,
    counts: Array,
    mode_nm: float,
    modes_nm: Array,
    response: InstrumentResponse,
    shapes: tuple[Shape, ...] = ("gaussian", "voigt", "lorentzian"),
) -> ModeFit | None:
    """Fit the mode near ``mode_nm``, and its neighbours along with it, with each shape; return the one that fits best.

    ``gaussian`` and ``lorentzian`` are lines of that shape; ``voigt`` is a Lorentzian seen through the Gaussian of the
    instrument, whose width is known. All have the same number of parameters. None if the mode is too few pixels wide,
    cut by the window, or no fit succeeds.
    """
    start = single_line(wavelength_nm, np.where(_near(wavelength_nm, mode_nm, modes_nm), counts, 0.0))
    if not start.fwhm_nm > 0 or not start.peak_counts > 0:
        return None
    place = int(np.argmin(np.abs(modes_nm - mode_nm)))
    along = modes_nm[max(place - _NEIGHBOURS, 0) : place + _NEIGHBOURS + 1]
    # The mode itself first.
    offsets = np.concatenate([[0.0], along[np.abs(along - mode_nm) > 1e-6] - mode_nm])
    reach = _FIT_WIDTHS * start.fwhm_nm
    chosen = (wavelength_nm > along[0] - reach) & (wavelength_nm < along[-1] + reach)
    if chosen.sum() < _MIN_PIXELS + 2 * (offsets.size - 1):
        return None
    x, y = wavelength_nm[chosen] - mode_nm, counts[chosen]
    fits = [
        fit
        for shape in shapes
        if (fit := _fit(x, y, mode_nm, offsets, start.fwhm_nm, shape, response.fwhm_nm)) is not None
    ]
    return min(fits, key=lambda fit: fit.misfit, default=None)


def _near(wavelength_nm: Array, mode_nm: float, modes_nm: Array) -> NDArray[np.bool_]:
    """Get the pixels that are nearer to this mode than to any other."""
    others = modes_nm[np.abs(modes_nm - mode_nm) > 1e-6]
    if not others.size:
        return np.ones(wavelength_nm.size, bool)
    nearest = np.abs(wavelength_nm[:, None] - others[None, :]).min(axis=1)
    return np.abs(wavelength_nm - mode_nm) <= nearest


def _fit(
    x: Array, y: Array, mode_nm: float, offsets: Array, fwhm_nm: float, shape: Shape, instrument_nm: float
) -> ModeFit | None:
    """Fit modes at ``offsets`` from ``mode_nm``, all of one width, on a straight background."""
    line = _lines(shape, instrument_nm)
    own = max(fwhm_nm - instrument_nm, 0.2 * fwhm_nm) if shape == "voigt" else fwhm_nm
    count = offsets.size

    def residual(p: Array) -> Array:
        width = float(np.exp(np.clip(p[-1], -20, 20)))
        return p[:count] @ line(x[None, :] - p[count : 2 * count, None], width) + p[-3] + p[-2] * x - y

    floor = float(np.min(y))
    p0 = np.concatenate([np.interp(offsets, x, y) - floor, offsets, [floor, 0.0, np.log(own)]])
    with np.errstate(over="ignore", invalid="ignore"):
        p, covariance, *_ = leastsq(residual, p0, full_output=True, maxfev=2000)
    misfit = float(np.sum(residual(p) ** 2))
    if covariance is None or not np.isfinite(misfit) or not p[0] > 0 or not x[0] < p[count] < x[-1]:
        return None
    sd = np.sqrt(np.maximum(np.diag(covariance), 0.0) * misfit / max(x.size - p.size, 1))
    width = float(np.exp(np.clip(p[-1], -20, 20)))
    seen = _seen_width(shape, width, instrument_nm)
    # To first order in ln(width) of the line itself.
    share = (_seen_width(shape, 1.001 * width, instrument_nm) - seen) / 0.001
    return ModeFit(mode_nm + float(p[count]), float(sd[count]), seen, float(sd[-1]) * share, shape, misfit)


def _lines(shape: Shape, instrument_nm: float) -> Callable[[Array, float], Array]:
    """Return the line of unit height as a function of the offset and its own width, nm."""
    if shape == "gaussian":
        return lambda u, width: np.exp(-4.0 * _LN2 * (u / width) ** 2)
    if shape == "lorentzian" or not instrument_nm > 0:
        return lambda u, width: 1.0 / (1.0 + (2.0 * u / width) ** 2)
    sigma = instrument_nm / np.sqrt(8.0 * _LN2)
    return lambda u, width: voigt_profile(u, sigma, 0.5 * width) / voigt_profile(0.0, sigma, 0.5 * width)


def _seen_width(shape: Shape, width_nm: float, instrument_nm: float) -> float:
    """Return the full width as seen of a line of its own width; Olivero and Longbothum for a Voigt line."""
    if shape != "voigt":
        return width_nm
    return 0.5346 * width_nm + float(np.sqrt(0.2166 * width_nm**2 + instrument_nm**2))


def mode_spacing(modes_nm: Array, mode_nm: float) -> Estimate | None:
    """Return the spacing of neighbouring modes at ``mode_nm``, nm; None for one mode or unequal steps.

    Modes are counted in steps of the median distance, so that a missing one does no harm; the spacing grows slowly
    with the wavelength, which a parabola follows when there are enough of them.
    """
    if modes_nm.size < 2:
        return None
    step = float(np.median(np.diff(modes_nm)))
    order = np.round((modes_nm - mode_nm) / step)
    if np.unique(order).size < order.size:
        return None
    degree = 2 if order.size >= 5 else 1
    basis = np.vander(order, degree + 1, increasing=True)
    solution, *_ = np.linalg.lstsq(basis, modes_nm, rcond=None)
    scatter = modes_nm - basis @ solution
    if np.max(np.abs(scatter)) > _EQUAL_STEPS * step:
        return None
    dof = order.size - degree - 1
    # Two modes leave no scatter: a tenth of the step is what is not known then.
    variance = float(scatter @ scatter) / dof if dof > 0 else (0.1 * step) ** 2
    covariance = np.linalg.pinv(basis.T @ basis) * variance
    return Estimate.from_sd(float(solution[1]), float(np.sqrt(covariance[1, 1])), "nm")
