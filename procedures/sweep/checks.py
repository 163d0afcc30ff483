"""What a fluence sweep refuses, or warns of, before anything is opened."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.knee import MIN_POINTS
from labctl.errors import InputError
from procedures.sweep.exposure import FEW_PULSES

MIN_FINE_POINTS = 5
_WIDEST_WINDOW = 1 / 3
"""No grating shows more than this share of the centre wavelength on either side."""


def check_numbers(
    *, fine_points: int, exposure_min_s: float, exposure_max_s: float, fluences: Sequence[float] | None
) -> None:
    """Refuse parameters that contradict each other; raises InputError."""
    if 0 < fine_points < MIN_FINE_POINTS:
        raise InputError(f"a fine pass of {fine_points} points is too short", todo="set fine-points to 0 or 5 and more")
    if exposure_min_s > exposure_max_s:
        raise InputError("exposure-min is longer than exposure-max")
    if fluences is not None and any(a == b for a, b in pairwise(sorted(fluences))):
        raise InputError("a fluence is listed twice", todo="list each fluence once")


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


def excitation_warnings(known_nm: float | None, pump_nm: float | None) -> list[str]:
    """Say that excitons cannot be computed, where the sample's cross-section is for another line than the pump.

    :param known_nm: Wavelength of the cross-section that is not used; None if there is none.
    """
    if known_nm is None or pump_nm is None:
        return []
    return [
        f"the sample's cross-section is for {known_nm:g} nm, the pump has {pump_nm:g} nm: excitons per particle are not"
        " computed; give cross-section if you know it"
    ]


def order_warnings(order: str) -> list[str]:
    """Warn of an order in which photodamage moves the threshold."""
    if order == "ascending":
        return []
    return ["descending order: photodamage at high fluence shifts the threshold (+13 % at 10 % loss)"]


def listed_warnings(fluences: Sequence[float] | None) -> list[str]:
    """Warn of a list too short for a threshold."""
    if fluences is None or len(fluences) >= MIN_POINTS:
        return []
    return [f"{len(fluences)} listed fluences give no threshold: its fit needs at least {MIN_POINTS} different ones"]


def check_pulses(repetition_rate_hz: float, exposure_min_s: float) -> None:
    """Refuse exposures that hold no pulse; raises InputError. A bench without a laser (0 Hz) is refused elsewhere."""
    if 0 < repetition_rate_hz * exposure_min_s < 1:
        raise InputError(
            f"the shortest exposure of {exposure_min_s:g} s holds no pulse at {repetition_rate_hz:g} Hz",
            where="parameters of fluence-sweep",
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


def operator_warnings(scatter_frames: int, *, simulated: bool) -> list[str]:
    """Say that somebody must be there; a simulated laboratory helps itself."""
    if simulated or not scatter_frames:
        return []
    return ["an operator is asked to move the sample out of the beam and back; scatter-frames=0 does without"]
