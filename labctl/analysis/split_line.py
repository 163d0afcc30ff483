"""Peak and width of an emission band by a fit of its shape: many spectra of one run at once.

Counts per nanometre become counts per electronvolt with the Jacobian: I_E = I_lambda lambda^2/(hc). The maximum of one
is not that of the other (0.4 nm apart for a band of 28 nm at 641 nm), so both are taken, numerically, from the same
fitted curve, as are the widths. A band has two flanks: a single Gaussian puts its peak 1.5 nm off where the raw maximum
scatters by 1 nm.

Three shapes: a Gaussian split at its peak in energy, the same in wavelength, and a skewed (log-normal) one in energy
(Fraser and Suzuki, Anal. Chem. 41, 37, 1969). One shape holds for a whole run: that with the smallest misfit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import leastsq

from labctl.analysis.estimate import Estimate
from labctl.analysis.single_line import single_line, spectral_input

Array = NDArray[np.float64]
Shape = Literal["split_energy", "split_wavelength", "skewed_energy"]

SHAPES: tuple[Shape, ...] = ("split_energy", "split_wavelength", "skewed_energy")
HC_EV_NM = 1239.841984
_LN2 = float(np.log(2.0))
_COMPARED = 12
"""Spectra, the brightest of a run, by which its shape is chosen."""
_SIGNIFICANT = 5.0
_BAND_WIDTHS = 1.6
"""Half the window about the peak, in full widths: what lies beyond is background, or another band."""
_REACH = 2.0
_NODES = 161
_HALVINGS = 36
_TOGETHER = 200


@dataclass(frozen=True)
class BandLine:
    """Band of one spectrum. ``peak_nm``, ``fwhm_nm`` per wavelength; ``peak_ev``, ``fwhm_mev`` per energy.

    ``area`` is the integral over the fitted curve, counts nm.
    """

    peak_nm: Estimate
    fwhm_nm: Estimate
    peak_ev: Estimate
    fwhm_mev: Estimate
    area: Estimate
    shape: Shape

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {
            "peak_nm": self.peak_nm.as_dict(),
            "fwhm_nm": self.fwhm_nm.as_dict(),
            "peak_ev": self.peak_ev.as_dict(),
            "fwhm_mev": self.fwhm_mev.as_dict(),
            "area": self.area.as_dict(),
            "shape": self.shape,
        }


@dataclass(frozen=True)
class BandLines:
    """Bands of the spectra of a run, arrays [m] with standard deviations; nan where no band stands out.

    ``reduced_chi2`` is that of each fit: about 1 with errors given.
    """

    peak_nm: Array
    peak_error_nm: Array
    fwhm_nm: Array
    fwhm_error_nm: Array
    peak_ev: Array
    peak_error_ev: Array
    fwhm_mev: Array
    fwhm_error_mev: Array
    area: Array
    area_error: Array
    reduced_chi2: Array
    shape: Shape

    @property
    def found(self) -> NDArray[np.bool_]:
        """Get where a band was found, [m]."""
        return np.isfinite(self.peak_nm)

    def line(self, index: int) -> BandLine | None:
        """Return the band of one spectrum, None if there is none."""
        if not self.found[index]:
            return None

        def estimate(value: Array, error: Array, unit: str) -> Estimate:
            return Estimate.from_sd(float(value[index]), float(error[index]), unit)

        return BandLine(
            estimate(self.peak_nm, self.peak_error_nm, "nm"),
            estimate(self.fwhm_nm, self.fwhm_error_nm, "nm"),
            estimate(self.peak_ev, self.peak_error_ev, "eV"),
            estimate(self.fwhm_mev, self.fwhm_error_mev, "meV"),
            estimate(self.area, self.area_error, "counts nm"),
            self.shape,
        )


def energy_spectrum(wavelength_nm: ArrayLike, counts: ArrayLike) -> tuple[Array, Array]:
    """Return energies [n_px], eV, ascending, and counts per eV [..., n_px] from counts per nm at ``wavelength_nm``."""
    x = np.asarray(wavelength_nm, dtype=float)
    y = np.asarray(counts, dtype=float)
    return (HC_EV_NM / x)[::-1], (y * x**2 / HC_EV_NM)[..., ::-1]


def fit_band_lines(
    wavelength_nm: ArrayLike,
    spectra: ArrayLike,
    *,
    counts_error: ArrayLike | None = None,
    window_nm: tuple[float, float] | None = None,
    shape: Shape | Literal["auto"] = "auto",
) -> BandLines:
    """Fit the band of each spectrum; some 2 ms each.

    :param wavelength_nm: [n_px], ascending. :param spectra: [n_px] or [m, n_px], background-subtracted, counts.
    :param counts_error: standard deviations, of the same shape; without, noise is taken as a constant plus shot noise
        with sizes from the residuals. :param window_nm: where the band lies; without, about the strongest one.
    A spectrum whose band is not 5 standard deviations high gives nan; malformed input raises ValueError.
    """
    x, rows = spectral_input(wavelength_nm, spectra)
    error = None if counts_error is None else np.atleast_2d(np.asarray(counts_error, dtype=float))
    if error is not None and (error.shape != rows.shape or not np.all(error > 0)):
        raise ValueError("counts_error must be > 0 and have the shape of spectra")
    total = rows.sum(axis=0)
    inside = np.ones(x.size, dtype=bool) if window_nm is None else (x >= window_nm[0]) & (x <= window_nm[1])
    if np.count_nonzero(inside) < 16:
        raise ValueError(f"fewer than 16 pixels between {window_nm} nm")
    start = single_line(x[inside], total[inside])
    if not start.fwhm_nm > 0:
        raise ValueError("no band with both flanks in the sum of the spectra: check the window and the background")
    if window_nm is None:
        inside = np.abs(x - start.peak_nm) < _BAND_WIDTHS * start.fwhm_nm
    x, rows = x[inside], rows[:, inside]
    error = None if error is None else error[:, inside]
    begin = _Start(start.peak_nm, 0.5 * start.fwhm_nm)
    chosen: Shape = _best_shape(x, rows, error, begin) if shape == "auto" else shape
    found = [_fit(x, row, None if error is None else error[k], chosen, begin) for k, row in enumerate(rows)]
    return BandLines(*_quantities(found, chosen).T, shape=chosen)


@dataclass(frozen=True)
class _Start:
    peak_nm: float
    half_width_nm: float


@dataclass(frozen=True)
class _Fit:
    """Parameters (ln height per nm, place, two logarithms of half widths or width and skew), covariance, chi2, dof."""

    parameters: Array
    covariance: Array
    chi2: float
    dof: int


def _curve(x: Array, p: Array, shape: Shape) -> Array:
    """Return counts per nm at ``x`` nm, [..., n_px], of parameters [..., 4]."""
    height, place, a, b = (p[..., k, None] for k in range(4))
    if shape == "split_wavelength":
        u = x - place
        half = np.where(u < 0, np.exp(a), np.exp(b))
        return height * np.exp(-_LN2 * (u / half) ** 2)
    # Heights are given per nm at the place of the energy's peak, so that they stay of the size of the counts.
    energy = HC_EV_NM / x
    jacobian = (energy * place / HC_EV_NM) ** 2
    u = energy - HC_EV_NM / place
    scale = HC_EV_NM / place**2
    if shape == "split_energy":
        half = np.where(u > 0, np.exp(a), np.exp(b)) * scale
        return height * jacobian * np.exp(-_LN2 * (u / half) ** 2)
    skew = np.where(np.abs(b) < 1e-4, 1e-4, b)
    argument = 1.0 + skew * u / (np.exp(a) * scale)
    logarithm = np.log(np.maximum(argument, 1e-12)) / skew
    return height * jacobian * np.where(argument > 1e-12, np.exp(-_LN2 * logarithm**2), 0.0)


def _fit(x: Array, y: Array, error: Array | None, shape: Shape, start: _Start) -> _Fit | None:
    half = float(np.log(start.half_width_nm))
    near = np.abs(x - start.peak_nm) < 0.3 * start.half_width_nm
    p0 = np.array([float(np.mean(y[near])), start.peak_nm, half, 0.0 if shape == "skewed_energy" else half])
    if error is not None:
        return _solve(x, y, 1.0 / error, shape, p0, known=True)
    first = _solve(x, y, np.ones(x.size), shape, p0, known=False)
    if first is None:
        return None
    # Variance = a + b counts from the squared residuals of the first fit, so that flanks and top count as they should.
    curve = np.maximum(_curve(x, first.parameters, shape), 0.0)
    squares = (y - _curve(x, first.parameters, shape)) ** 2
    basis = np.stack([np.ones(x.size), curve], axis=1)
    dim = curve < 0.1 * curve.max()
    base = float(np.mean(squares[dim])) if np.count_nonzero(dim) > 8 else 0.2 * float(np.mean(squares))
    shot = max(float(np.sum((squares - base) * curve) / np.sum(basis[:, 1] ** 2)), 0.0)
    variance = np.maximum(base + shot * curve, 1e-3 * float(np.mean(squares)) + 1e-300)
    return _solve(x, y, 1.0 / np.sqrt(variance), shape, first.parameters, known=False)


def _solve(x: Array, y: Array, weight: Array, shape: Shape, start: Array, *, known: bool) -> _Fit | None:
    def residual(p: Array) -> Array:
        return (_curve(x, p, shape) - y) * weight

    steps = np.array([1e-4 * max(abs(start[0]), 1e-9), 1e-4, 1e-5, 1e-5])

    def jacobian(p: Array) -> Array:
        moved = np.concatenate([p + np.diag(steps), p - np.diag(steps)])
        curves = _curve(x, moved, shape)
        return ((curves[:4] - curves[4:]) / (2 * steps[:, None])).T * weight[:, None]

    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        solved = leastsq(residual, start, Dfun=jacobian, full_output=True, ftol=1e-8, xtol=1e-7, maxfev=60)
        p, status = np.asarray(solved[0], dtype=float), solved[-1]
        r, j = residual(p), jacobian(p)
    if status not in (1, 2, 3, 4) or not (np.all(np.isfinite(p)) and np.all(np.isfinite(j))):
        return None
    dof = max(x.size - 4, 1)
    chi2 = float(r @ r)
    normal = j.T @ j
    size = np.sqrt(np.maximum(np.diag(normal), 1e-300))
    covariance = np.linalg.pinv(normal / np.outer(size, size), rcond=1e-12) / np.outer(size, size)
    covariance = covariance * (max(chi2 / dof, 1.0) if known else chi2 / dof)
    plausible = x[0] < p[1] < x[-1] and np.exp(p[2]) < x[-1] - x[0]
    if not (plausible and p[0] > _SIGNIFICANT * float(np.sqrt(max(covariance[0, 0], 0.0)))):
        return None
    return _Fit(p, covariance, chi2, dof)


def _best_shape(x: Array, rows: Array, error: Array | None, start: _Start) -> Shape:
    brightest = np.argsort(rows.sum(axis=1))[::-1][:_COMPARED]
    misfit: dict[Shape, float] = {}
    for shape in SHAPES:
        squares = 0.0
        for k in brightest:
            fit = _fit(x, rows[k], None if error is None else error[k], shape, start)
            if fit is None:
                squares += float("inf") if k == brightest[0] else 0.0
                continue
            weight = np.ones(x.size) if error is None else 1.0 / error[k]
            squares += float(np.sum(((_curve(x, fit.parameters, shape) - rows[k]) * weight) ** 2))
        misfit[shape] = squares
    return min(SHAPES, key=lambda shape: misfit[shape])


def _quantities(fits: Sequence[_Fit | None], shape: Shape) -> Array:
    """Return [m, 11]: value and error of peak nm, width nm, peak eV, width meV, area; then chi2/dof. nan if no fit."""
    table = np.full((len(fits), 11), np.nan)
    for first in range(0, len(fits), _TOGETHER):
        chosen = [(first + k, fit) for k, fit in enumerate(fits[first : first + _TOGETHER]) if fit is not None]
        if not chosen:
            continue
        rows = [k for k, _ in chosen]
        p = np.stack([fit.parameters for _, fit in chosen])
        covariance = np.stack([fit.covariance for _, fit in chosen])
        sd = np.sqrt(np.maximum(np.einsum("nkk->nk", covariance), 0.0))
        steps = np.maximum(1e-2 * sd, 1e-9 * np.maximum(np.abs(p), 1.0))
        moved = steps[:, None, :] * np.eye(4)
        stack = np.concatenate([p[:, None, :], p[:, None, :] + moved, p[:, None, :] - moved], axis=1)
        values = _measures(stack.reshape(-1, 4), shape).reshape(len(chosen), 9, 5)
        slopes = (values[:, 1:5] - values[:, 5:9]) / (2 * steps[:, :, None])
        variance = np.einsum("nkq,nkl,nlq->nq", slopes, covariance, slopes)
        table[rows, 0:10:2] = values[:, 0]
        table[rows, 1:10:2] = np.sqrt(np.maximum(variance, 0.0))
        table[rows, 10] = [fit.chi2 / fit.dof for _, fit in chosen]
    return table


def _measures(p: Array, shape: Shape) -> Array:
    """Return [n, 5]: peak nm, width nm, peak eV, width meV, area, by numbers from the curves of parameters [n, 4]."""
    width = np.exp(p[:, 2]) + np.exp(p[:, 2] if shape == "skewed_energy" else p[:, 3])
    x = p[:, 1, None] + _REACH * width[:, None] * np.linspace(-1.0, 1.0, _NODES)

    def per_nm(at: Array) -> Array:
        return _curve(at, p, shape)

    def per_ev(at: Array) -> Array:
        return per_nm(HC_EV_NM / at) * (HC_EV_NM / at) ** 2

    peak_nm, fwhm_nm = _top_and_width(per_nm, x)
    peak_ev, fwhm_ev = _top_and_width(per_ev, (HC_EV_NM / x)[:, ::-1])
    area = np.trapezoid(per_nm(x), x, axis=1)
    return np.stack([peak_nm, fwhm_nm, peak_ev, 1e3 * fwhm_ev, area], axis=1)


def _top_and_width(curve: Callable[[Array], Array], x: Array) -> tuple[Array, Array]:
    """Return the place of the maximum and the full width at half maximum of each row of a curve, from places [n, k]."""
    rows = np.arange(x.shape[0])
    top = np.argmax(curve(x), axis=1)
    low, high = x[rows, np.maximum(top - 1, 0)], x[rows, np.minimum(top + 1, x.shape[1] - 1)]
    golden = 0.5 * (np.sqrt(5.0) - 1.0)
    for _ in range(_HALVINGS):
        a, b = high - golden * (high - low), low + golden * (high - low)
        both = curve(np.stack([a, b], axis=1))
        left = both[:, 0] >= both[:, 1]
        low, high = np.where(left, low, a), np.where(left, b, high)
    peak = 0.5 * (low + high)
    half = 0.5 * curve(peak[:, None])[:, 0]
    inner, outer = np.stack([peak, peak], axis=1), x[:, [0, -1]]
    for _ in range(_HALVINGS):
        middle = 0.5 * (inner + outer)
        above = curve(middle) > half[:, None]
        inner, outer = np.where(above, middle, inner), np.where(above, outer, middle)
    flanks = 0.5 * (inner + outer)
    return peak, flanks[:, 1] - flanks[:, 0]


def mean_line(values: Sequence[float] | Array, errors: Sequence[float] | Array) -> tuple[float, float]:
    """Return the mean of values [k] weighted by their errors, with its standard deviation, widened by their scatter."""
    v, e = np.asarray(values, dtype=float), np.asarray(errors, dtype=float)
    good = np.isfinite(v) & np.isfinite(e) & (e > 0)
    if not good.any():
        return float("nan"), float("nan")
    w = 1.0 / e[good] ** 2
    mean = float(np.sum(w * v[good]) / np.sum(w))
    dof = int(good.sum()) - 1
    scatter = float(np.sum(w * (v[good] - mean) ** 2)) / dof if dof else 1.0
    return mean, float(np.sqrt(max(scatter, 1.0) / np.sum(w)))
