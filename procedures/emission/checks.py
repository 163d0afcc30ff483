"""What procedures refuse that take emission spectra, or warn of, before anything is opened."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labctl.errors import InputError
from procedures.emission.exposure import FEW_PULSES

_WIDEST_WINDOW = 1 / 3
"""No grating shows more than this share of the centre wavelength on either side."""


def check_band(band_nm: Sequence[float] | None, centre_nm: float | None) -> None:
    """Refuse a band far from the centre wavelength; whether it is in the window, only the grating can tell."""
    if band_nm is None:
        return
    if len(band_nm) != 2 or band_nm[0] >= band_nm[1]:
        raise InputError("the band needs two wavelengths, the shorter first", todo="e.g. band='600, 680 nm'")
    if centre_nm is None:
        return
    low, high = _widest_window_nm(centre_nm)
    if band_nm[1] < low or band_nm[0] > high:
        raise InputError(
            f"the band {band_nm[0]:g} to {band_nm[1]:g} nm is not in the window of the spectrograph",
            where=f"the centre wavelength is {centre_nm:g} nm",
            todo="choose another band or another centre-wavelength",
        )


def line_refusals(line_nm: float | None, centre_nm: float | None, window_nm: float | None) -> list[str]:
    """Refuse a centre wavelength at which the line cannot be in the window; get the reason, if there is one.

    :param window_nm: Width of the window, if the bench states it; else what no grating exceeds.
    """
    if line_nm is None or centre_nm is None:
        return []
    low, high = _widest_window_nm(centre_nm)
    if window_nm is not None:
        low, high = centre_nm - window_nm / 2, centre_nm + window_nm / 2
    if low <= line_nm <= high:
        return []
    refusal = _not_in_window(line_nm, f"the centre wavelength is {centre_nm:g} nm")
    return [f"{refusal.what}: {refusal.where}; {refusal.todo}"]


def check_line_in_window(line_nm: float | None, wavelength_nm: NDArray[np.float64]) -> None:
    """Refuse a window without the line; raises InputError.

    :param wavelength_nm: Wavelength of each pixel, shape (pixels,), ascending.
    """
    if line_nm is not None and not wavelength_nm[0] <= line_nm <= wavelength_nm[-1]:
        window = f"the window of the spectrograph is {wavelength_nm[0]:.1f} to {wavelength_nm[-1]:.1f} nm"
        raise _not_in_window(line_nm, window)


def _widest_window_nm(centre_nm: float) -> tuple[float, float]:
    return centre_nm * (1 - _WIDEST_WINDOW), centre_nm * (1 + _WIDEST_WINDOW)


def _not_in_window(line_nm: float, where: str) -> InputError:
    return InputError(
        f"the line that is expected of the sample, {line_nm:g} nm, is not in the window of the spectrograph",
        where=where,
        todo=f"set centre-wavelength near {line_nm:g} nm, or a band, if you look elsewhere on purpose",
    )


def check_pulses(repetition_rate_hz: float, exposure_min_s: float) -> None:
    """Refuse exposures that hold no pulse; raises InputError. A bench without a laser (0 Hz) is refused elsewhere."""
    if 0 < repetition_rate_hz * exposure_min_s < 1:
        raise InputError(
            f"the shortest exposure of {exposure_min_s:g} s holds no pulse at {repetition_rate_hz:g} Hz",
            where="parameters of the procedure",
            todo=f"set exposure-min to {FEW_PULSES / repetition_rate_hz:g} s or more",
        )


def pulse_warnings(repetition_rate_hz: float, shortest_s: float) -> list[str]:
    """Warn of exposures with few pulses."""
    pulses = repetition_rate_hz * shortest_s
    if pulses >= FEW_PULSES * 0.999:
        return []
    return [
        f"the shortest exposure holds {pulses:.3g} pulses only: one more or less is an error of {100 / pulses:.0f} %;"
        f" set exposure-min to {FEW_PULSES / repetition_rate_hz:g} s or more"
    ]
