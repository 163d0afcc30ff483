"""Attenuator and spectrograph of the simulated laboratory: what light passes where."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from labctl.sim.timeline import Timeline
from labctl.sim.truth import SpectrographTruth, WavePlateTruth


class WavePlate:
    """Half-wave plate in a rotation mount, between polarisers.

    Angles that the mount reports are not those of the plate: the plate lags behind by half the backlash in the
    direction of the last move, and stands on whole steps.
    """

    def __init__(self, truth: WavePlateTruth, forgets: Callable[[float], None] | None = None) -> None:
        self.truth = truth
        self._optical_deg = Timeline(self._optical(truth.initial_deg, 1.0), forgets=forgets)

    def move(self, t0: float, t1: float, from_deg: float, to_deg: float) -> None:
        """Turn from one reported angle at laboratory time ``t0`` to another at ``t1``, deg."""
        direction = 1.0 if to_deg >= from_deg else -1.0
        self._optical_deg.ramp(t0, t1, self._optical(to_deg, direction))

    def optical_deg(self, t: ArrayLike) -> np.ndarray:
        """Get the true angle of the plate at laboratory times ``t``, deg; of the shape of ``t``."""
        return self._optical_deg.sample(t)

    @property
    def kept_from(self) -> float:
        """Oldest laboratory time that is still known, s."""
        return self._optical_deg.kept_from

    def edges(self, t0: float, t1: float) -> np.ndarray:
        """Get the times in [t0, t1] between which the plate stands still or turns evenly, s."""
        return self._optical_deg.edges(t0, t1)

    def transmission(self, t: ArrayLike) -> np.ndarray:
        """Get the transmission at laboratory times ``t``; of the shape of ``t``."""
        return self.transmission_at(self.optical_deg(t))

    def transmission_at(self, optical_deg: ArrayLike) -> np.ndarray:
        """Get the transmission at a true plate angle, deg.

        T = T0 + (1 - T0) [1 - sin2(2x) sin2(delta/2)], x the angle from the best and delta = pi (1 + error) the
        retardance; for a perfect half wave that is Malus' law, T0 + (1 - T0) cos2(2x).
        """
        x = np.deg2rad(np.asarray(optical_deg, dtype=float) - self.truth.theta0_deg)
        retardance = np.pi * (1.0 + self.truth.retardance_error)
        passed = 1.0 - np.sin(2.0 * x) ** 2 * np.sin(0.5 * retardance) ** 2
        return self.truth.leak + (1.0 - self.truth.leak) * passed

    def _optical(self, reported_deg: float, direction: float) -> float:
        step = self.truth.step_deg
        stands = round(reported_deg / step) * step if step else reported_deg
        return stands - 0.5 * direction * self.truth.backlash_deg


class Spectrograph:
    """Czerny-Turner spectrograph: which wavelength falls on which pixel.

    Its own shutter, if it has one, is closed with :meth:`let_in`; it keeps light off the camera, not off the sample.
    """

    def __init__(self, truth: SpectrographTruth) -> None:
        self.truth = truth
        self._open = Timeline(1.0)
        self._centre_nm = Timeline(truth.initial_centre_nm)
        self._lines_per_mm = Timeline(truth.initial_lines_per_mm)

    def set(self, t: float, centre_nm: float, lines_per_mm: float) -> None:
        """Stand at a centre wavelength, nm, with a grating, lines/mm, from laboratory time ``t`` on."""
        self._centre_nm.set(t, centre_nm)
        self._lines_per_mm.set(t, lines_per_mm)

    def slew(self, t0: float, t1: float, centre_nm: float) -> None:
        """Drive evenly from where it stands at ``t0`` to a centre wavelength at ``t1``, nm."""
        self._centre_nm.ramp(t0, t1, centre_nm)

    def let_in(self, t: float, is_open: bool) -> None:
        """Open or close the spectrograph's own shutter at laboratory time ``t``."""
        self._open.set(t, float(is_open))

    def open_share(self, t0: float, t1: float) -> float:
        """Get the share of [t0, t1] in which its own shutter was open."""
        return self._open.mean(t0, t1)

    def at(self, t: float) -> tuple[float, float]:
        """Get centre wavelength as asked for, nm, and grating, lines/mm."""
        return self._centre_nm.at(t), self._lines_per_mm.at(t)

    def wavelengths_nm(self, centre_nm: float, lines_per_mm: float, pixels: int, pixel_um: float) -> np.ndarray:
        """True wavelengths on the pixels, nm, shape (pixels,); negative beyond the zero order.

        Grating equation m lambda = d (sin a + sin b) in first order with a fixed inclusion angle between incident and
        diffracted beam at the centre, and a detector tilted by the detector angle: a pixel at x from the centre is
        seen from the mirror under atan(x cos D/(f + x sin D)).
        """
        truth = self.truth
        pitch_nm = 1e6 / lines_per_mm
        half, tilt = np.deg2rad(truth.half_angle_deg), np.deg2rad(truth.detector_angle_deg)
        turn = np.arcsin((centre_nm + truth.offset_nm) / (2.0 * pitch_nm * np.cos(half)))
        x_mm = (np.arange(pixels) - 0.5 * (pixels - 1)) * pixel_um * 1e-3
        seen = np.arctan(x_mm * np.cos(tilt) / (truth.focal_length_mm + x_mm * np.sin(tilt)))
        return pitch_nm * (np.sin(turn - half) + np.sin(turn + half + seen))

    def psf_sigma_nm(self, lines_per_mm: float) -> float:
        """Standard deviation of the instrument line, nm."""
        fwhm_nm = self.truth.psf_fwhm_nm * self.truth.psf_lines_per_mm / lines_per_mm
        return fwhm_nm / (2.0 * np.sqrt(2.0 * np.log(2.0)))
