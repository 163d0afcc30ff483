"""Emission spectra: the PL line, and PL and ASE together.

Above the threshold a narrow ASE line grows out of the broad PL line. The width of the sum at half maximum jumps from
one to the other; to follow both, the PL shape is frozen from the lowest fluences and only its height is left free.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import leastsq
from scipy.special import gamma

from labctl.analysis.single_line import single_line, spectral_input

Array = NDArray[np.float64]
_LN2 = float(np.log(2.0))
_MAX_WIDTH_SHARE = 0.6
"""An ASE line wider than this share of the PL line is not told apart from it."""
_MIN_WIDTH_PIXELS = 4.0
"""Narrower than the lines told apart here: a cosmic ray, which hits up to three pixels, or a noise spike."""
EXPONENT_RANGE = (1.2, 6.0)
"""Allowed range of the exponent of an ASE line."""
SIGNIFICANCE = 4.0
"""An ASE area below this many standard deviations counts as absent: it has no peak and no width."""


@dataclass(frozen=True)
class PLShape:
    """Split Gaussian of unit height: centre and the half widths at half maximum on either side, nm.

    ``centre_error_nm`` is the standard deviation of the centre, 0 for a shape that was not fitted.
    """

    centre_nm: float
    half_width_blue_nm: float
    half_width_red_nm: float
    centre_error_nm: float = 0.0

    @property
    def fwhm_nm(self) -> float:
        """Get the full width at half maximum, nm."""
        return self.half_width_blue_nm + self.half_width_red_nm

    @property
    def area_nm(self) -> float:
        """Get the area under the shape of unit height, nm."""
        return 0.5 * float(np.sqrt(np.pi / _LN2)) * self.fwhm_nm

    def __call__(self, wavelength_nm: ArrayLike) -> Array:
        """Return the shape at ``wavelength_nm``, same shape as the input."""
        u = np.asarray(wavelength_nm, dtype=float) - self.centre_nm
        half = np.where(u < 0, self.half_width_blue_nm, self.half_width_red_nm)
        return np.exp(-_LN2 * (u / half) ** 2)


@dataclass(frozen=True)
class ASELine:
    """Generalised Gaussian exp(-ln 2 |2 (x - centre)/fwhm|^exponent): centre and full width, nm.

    Amplification narrows a line and saturation flattens its top: the exponent of ASE goes from 1.8 near the threshold
    to 2.5 at three times it. A Gaussian, or a pseudo-Voigt line, is too narrow by up to 7 % there, and takes its
    missing height from the PL.
    """

    centre_nm: float
    fwhm_nm: float
    exponent: float = 2.0

    @property
    def area_nm(self) -> float:
        """Get the area under the line of unit height, nm."""
        return self.fwhm_nm * _area_per_width(self.exponent)

    def __call__(self, wavelength_nm: ArrayLike) -> Array:
        """Return the line of unit height at ``wavelength_nm``, same shape as the input."""
        v = np.abs(np.asarray(wavelength_nm, dtype=float) - self.centre_nm) / (0.5 * self.fwhm_nm)
        return np.exp(-_LN2 * v**self.exponent)


def _area_per_width(exponent: float) -> float:
    return float(gamma(1.0 + 1.0 / exponent)) * _LN2 ** (-1.0 / exponent)


@dataclass(frozen=True)
class TwoComponents:
    """PL and ASE parts of one spectrum. Areas in counts nm; errors are standard deviations.

    Without a significant ASE line its ``ase_area`` is the amplitude found for the expected line (may be negative), and
    peak and width are nan.
    """

    pl_area: float
    pl_area_error: float
    ase_area: float
    ase_area_error: float
    ase_peak_nm: float
    ase_peak_error_nm: float
    ase_fwhm_nm: float
    ase_fwhm_error_nm: float
    line: ASELine | None
    pl_height: float
    ase_height: float

    @property
    def significant(self) -> bool:
        """Get whether an ASE line was found."""
        return self.line is not None

    def curve(self, wavelength_nm: ArrayLike, pl_shape: PLShape) -> Array:
        """Return the fitted spectrum, counts."""
        pl = self.pl_height * pl_shape(wavelength_nm)
        return pl if self.line is None else pl + self.ase_height * self.line(wavelength_nm)


@dataclass(frozen=True)
class _LineFit:
    """Values (PL height, ASE height, centre, ln width, angle of the exponent), their covariance, the weighted chi2."""

    values: Array
    covariance: Array
    chi2: float


def fit_pl_shape(wavelength_nm: ArrayLike, spectra: ArrayLike) -> PLShape:
    """Fit a split Gaussian to the sum of the spectra of the lowest fluences.

    :param wavelength_nm: shape [n_px], ascending. :param spectra: background-subtracted, [n_px] or [m, n_px].
    Raises ValueError when there is no line in the sum.
    """
    x, rows = spectral_input(wavelength_nm, spectra)
    y = rows.sum(axis=0)
    start = single_line(x, y)
    noise = _noise(y)
    if not (start.fwhm_nm > 0 and start.peak_counts > 5 * noise):
        raise ValueError(
            "no PL line in the spectra of the lowest fluences: expose longer or check the wavelength range"
        )
    half = 0.5 * start.fwhm_nm

    def shape(p: Array) -> PLShape:
        return PLShape(float(p[1]), float(np.exp(p[2])), float(np.exp(p[3])))

    def residual(p: Array) -> Array:
        return p[0] * shape(p)(x) - y

    p0 = np.array([start.peak_counts, start.peak_nm, np.log(half), np.log(half)])
    solved = _least_squares(residual, p0)
    return replace(shape(solved), centre_error_nm=_centre_error(residual, solved))


def _centre_error(residual: Callable[[Array], Array], solved: Array) -> float:
    """Return the standard deviation of the second parameter, from the scatter of the residuals."""
    at = residual(solved)
    steps = 1e-5 * np.maximum(np.abs(solved), 1.0)
    jacobian = np.stack(
        [(residual(solved + step) - at) / size for step, size in zip(np.diag(steps), steps, strict=True)], axis=1
    )
    covariance = np.linalg.pinv(jacobian.T @ jacobian, rcond=1e-13) * float(at @ at) / max(at.size - solved.size, 1)
    return float(np.sqrt(max(covariance[1, 1], 0.0)))


def fit_two_components(
    wavelength_nm: ArrayLike,
    counts: ArrayLike,
    pl_shape: PLShape,
    *,
    expected: ASELine | None = None,
    counts_error: ArrayLike | None = None,
) -> TwoComponents:
    """Split one spectrum into PL (frozen shape, free height) and ASE (generalised Gaussian); about 4 ms.

    :param wavelength_nm: [n_px], ascending. :param counts: [n_px], background-subtracted.
    :param expected: the ASE line at a neighbouring fluence, as a second start and as the shape that is looked for
        below the threshold.
    :param counts_error: [n_px] standard deviations; without, the noise is taken as the same in every pixel and
        estimated from the residuals. With or without, errors are widened if the residuals ask for it.
    """
    x, rows = spectral_input(wavelength_nm, counts)
    y = rows[0]
    weight = np.ones_like(y)
    if counts_error is not None:
        sigma = np.asarray(counts_error, dtype=float)
        if sigma.shape != y.shape or not np.all(sigma > 0):
            raise ValueError("counts_error must be > 0 and have the shape of counts")
        weight = 1.0 / sigma
    pl = pl_shape(x)
    own = _start_line(x, y, pl, pl_shape)
    # A line that does not fit leads into a minimum of its own; the spectrum's own start finds the way out.
    starts = (own,) if expected is None else (expected, own)
    fits = [_fit_line(x, y, pl, weight, start, pl_shape, known=counts_error is not None) for start in starts]
    for fit in sorted(fits, key=lambda fit: fit.chi2):
        found = _with_line(x, fit, pl_shape)
        if found is not None:
            return found
    return _without_line(x, y, pl, weight, expected or own, pl_shape, counts_error is not None)


def _noise(y: Array) -> float:
    """Return the standard deviation of the noise from second differences, which a smooth line does not feel."""
    return float(np.median(np.abs(np.diff(y, 2)))) / 0.6745 / np.sqrt(6.0)


def _start_line(x: Array, y: Array, pl: Array, pl_shape: PLShape) -> ASELine:
    inside = pl > 0.2
    # The median ratio follows the PL as long as the narrow line covers less than half of it.
    height = float(np.median(y[inside] / pl[inside])) if inside.any() else 0.0
    rest = single_line(x, y - height * pl)
    width = rest.fwhm_nm if np.isfinite(rest.fwhm_nm) else 0.3 * pl_shape.fwhm_nm
    centre = rest.peak_nm if np.isfinite(rest.peak_nm) else pl_shape.centre_nm
    return ASELine(centre, float(np.clip(width, 2 * np.median(np.diff(x)), 0.6 * pl_shape.fwhm_nm)))


def _line_of(p: Array, x: Array, pl_shape: PLShape) -> ASELine:
    pixel = float(np.median(np.diff(x)))
    width = float(np.clip(np.exp(np.clip(p[3], -20, 20)), pixel, 3 * pl_shape.fwhm_nm))
    low, high = EXPONENT_RANGE
    return ASELine(float(p[2]), width, float(low + (high - low) * 0.5 * (1 + np.sin(p[4]))))


def _exponent_slope(z: float) -> float:
    return 0.5 * (EXPONENT_RANGE[1] - EXPONENT_RANGE[0]) * float(np.cos(z))


def _fit_line(
    x: Array, y: Array, pl: Array, weight: Array, start: ASELine, pl_shape: PLShape, *, known: bool
) -> _LineFit:
    """Fit (PL height, ASE height, centre, ln width, angle of the exponent)."""

    def residual(p: Array) -> Array:
        return (p[0] * pl + p[1] * _line_of(p, x, pl_shape)(x) - y) * weight

    def jacobian(p: Array) -> Array:
        line = _line_of(p, x, pl_shape)
        half, shape = 0.5 * line.fwhm_nm, line(x)
        # At the centre the derivatives vanish, or are cusps that no pixel sees.
        v = np.maximum(np.abs(x - line.centre_nm) / half, 1e-9)
        power = _LN2 * v**line.exponent
        fall = line.exponent * power * shape
        columns = [
            pl,
            shape,
            p[1] * fall / (v * half) * np.sign(x - line.centre_nm),
            p[1] * fall,
            -p[1] * power * np.log(v) * shape * _exponent_slope(p[4]),
        ]
        return np.stack(columns, axis=1) * weight[:, None]

    shapes = np.stack([pl, start(x)], axis=1) * weight[:, None]
    heights, *_ = np.linalg.lstsq(shapes, y * weight, rcond=None)
    low, high = EXPONENT_RANGE
    angle = np.arcsin(np.clip(2 * (start.exponent - low) / (high - low) - 1, -0.9, 0.9))
    p0 = np.array([heights[0], heights[1], start.centre_nm, np.log(start.fwhm_nm), angle])
    solved = _least_squares(residual, p0, jacobian)
    r, j = residual(solved), jacobian(solved)
    chi2 = float(r @ r)
    variance = chi2 / max(y.size - 5, 1)
    # At a bound of the exponent its column vanishes; the pseudo-inverse then leaves that direction out.
    covariance = np.linalg.pinv(j.T @ j, rcond=1e-13) * (max(variance, 1.0) if known else variance)
    return _LineFit(solved, covariance.astype(float), chi2)


def _with_line(x: Array, fit: _LineFit, pl_shape: PLShape) -> TwoComponents | None:
    """Return PL and ASE line of a fit, or None if its line is not significant or none that a film could emit."""
    line = _line_of(fit.values, x, pl_shape)
    height_pl, height = float(fit.values[0]), float(fit.values[1])
    area = height * line.area_nm
    gradient = np.zeros(5)
    gradient[1], gradient[3] = line.area_nm, area  # the width is fitted as its logarithm
    step = 1e-4
    per_exponent = (_area_per_width(line.exponent + step) - _area_per_width(line.exponent - step)) / (2 * step)
    gradient[4] = height * line.fwhm_nm * per_exponent * _exponent_slope(fit.values[4])
    area_error = float(np.sqrt(max(gradient @ fit.covariance @ gradient, 0.0)))
    narrowest = _MIN_WIDTH_PIXELS * float(np.median(np.diff(x)))
    plausible = narrowest < line.fwhm_nm < _MAX_WIDTH_SHARE * pl_shape.fwhm_nm and x[0] < line.centre_nm < x[-1]
    sd = np.sqrt(np.maximum(np.diag(fit.covariance), 0.0))
    if not (area > SIGNIFICANCE * area_error and plausible and np.all(np.isfinite(sd)) and area_error > 0):
        return None
    return TwoComponents(
        pl_area=height_pl * pl_shape.area_nm,
        pl_area_error=float(sd[0]) * pl_shape.area_nm,
        ase_area=area,
        ase_area_error=area_error,
        ase_peak_nm=line.centre_nm,
        ase_peak_error_nm=float(sd[2]),
        ase_fwhm_nm=line.fwhm_nm,
        ase_fwhm_error_nm=float(sd[3]) * line.fwhm_nm,
        line=line,
        pl_height=height_pl,
        ase_height=height,
    )


def _least_squares(
    residual: Callable[[Array], Array], start: Array, jacobian: Callable[[Array], Array] | None = None
) -> Array:
    # leastsq also forms a covariance, which may overflow when the line is absent; the callers form their own.
    with np.errstate(over="ignore", invalid="ignore"):
        return leastsq(residual, start, Dfun=jacobian, full_output=True, ftol=1e-9, xtol=1e-7, maxfev=200)[0]


def _without_line(
    x: Array, y: Array, pl: Array, weight: Array, line: ASELine, pl_shape: PLShape, known: bool
) -> TwoComponents:
    """Return PL and the amplitude of the expected ASE line, both linear, where no line stands out."""
    basis = np.stack([pl, line(x)], axis=1) * weight[:, None]
    heights, *_ = np.linalg.lstsq(basis, y * weight, rcond=None)
    residual = basis @ heights - y * weight
    variance = float(residual @ residual) / max(y.size - 2, 1)
    sd = np.sqrt(np.diag(np.linalg.pinv(basis.T @ basis)) * (max(variance, 1.0) if known else variance))
    nan = float("nan")
    return TwoComponents(
        pl_area=float(heights[0]) * pl_shape.area_nm,
        pl_area_error=float(sd[0]) * pl_shape.area_nm,
        ase_area=float(heights[1]) * line.area_nm,
        ase_area_error=float(sd[1]) * line.area_nm,
        ase_peak_nm=nan,
        ase_peak_error_nm=nan,
        ase_fwhm_nm=nan,
        ase_fwhm_error_nm=nan,
        line=None,
        pl_height=float(heights[0]),
        ase_height=float(heights[1]),
    )
