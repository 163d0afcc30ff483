"""The spectrometer: spectrograph and detector as one thing that gives spectra with a wavelength axis."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from labctl.bench.detection_filters import DetectionFilters
from labctl.clock import Clock
from labctl.config.filters import NO_FILTER
from labctl.errors import Aborted, InstrumentError, InstrumentTimeout, LabctlError
from labctl.quantities import Spectrum
from labctl.roles import CalibratedSpectrograph, Detector, Grating, Spectrograph, SpectrographGeometry

log = logging.getLogger(__name__)

SATURATION_LEVEL = 0.9
"""Share of the ADC ceiling from which a pixel counts as saturated: FVB binning can fill the register below it."""
_COOLER_POLL_S = 5.0
_COSMIC_SIGMA = 8.0
_COSMIC_WINDOW = 9
_SCATTER_WINDOW = 51
_NEIGHBOURS = 4
_DEVIATIONS = 1.4826
"""Standard deviations in the median of absolute deviations of a normal distribution."""
_WAVELENGTH_TOLERANCE_NM = 0.1


def wavelength_axis_nm(
    centre_nm: float, lines_per_mm: float, geometry: SpectrographGeometry, pixels: int, pixel_um: float
) -> NDArray[np.float64]:
    """Get the wavelength of each pixel in nm, shape (pixels,), in first order.

    The grating stands at ψ with sin ψ = G λc / (2 cos γ), γ half the angle between the arms; light enters at ψ − γ and
    leaves for a pixel at distance x from the centre at ψ + γ + ξ, with tan ξ = x cos δ / (f + x sin δ) and δ the tilt
    of the detector (the grating equation; see e.g. Palmer, Diffraction Grating Handbook, ch. 2).
    """
    half_angle = math.radians(geometry.half_angle_deg)
    tilt = math.radians(geometry.detector_angle_deg)
    pitch_nm = 1e6 / lines_per_mm
    rotation = math.asin(centre_nm / (2 * pitch_nm * math.cos(half_angle)))
    x_mm = (np.arange(pixels) - (pixels - 1) / 2) * pixel_um * 1e-3
    deviation = np.arctan2(x_mm * math.cos(tilt), geometry.focal_length_mm + x_mm * math.sin(tilt))
    return pitch_nm * (math.sin(rotation - half_angle) + np.sin(rotation + half_angle + deviation))


def cosmic_rays(frames: NDArray[np.float64], read_noise_counts: float = 6.0) -> NDArray[np.bool_]:
    """Find pixels hit by a cosmic ray in frames of shape (accumulations, pixels); returns shape (pixels,).

    What a frame shows beyond its neighbours in time is smooth, however the light has changed meanwhile, but for the
    rays: a hit stands 8 σ above its surroundings. σ is the greatest of read noise, shot noise and the scatter around.
    A single frame can only be compared with itself: there a line less than 3 pixels wide is taken for a hit, and a hit
    on a steep flank must be stronger.
    """
    suspects = np.zeros(frames.shape[1], dtype=bool)
    for number, frame in enumerate(frames):
        before, after = frames[max(number - _NEIGHBOURS, 0) : number], frames[number + 1 : number + 1 + _NEIGHBOURS]
        others = np.concatenate([before, after])
        if len(others):
            excess, noise = _beyond_reference(frame, np.median(others, axis=0))
        else:
            excess, noise = _beyond_surroundings(frame)
        suspects |= excess > _COSMIC_SIGMA * np.maximum(noise, read_noise_counts)
    return suspects


def _beyond_reference(
    frame: NDArray[np.float64], reference: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Get what a frame has more than a reference and its surroundings, and the noise of that, shape (pixels,) each."""
    excess = frame - reference
    excess -= _running_median(excess, _COSMIC_WINDOW)
    scatter = _DEVIATIONS * _running_median(np.abs(excess), _SCATTER_WINDOW)
    return excess, np.maximum(scatter, _shot_noise(2 * reference))


def _beyond_surroundings(frame: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Get what a frame has more than its surroundings, and the noise of that, shape (pixels,) each."""
    windows = _windows(frame, _COSMIC_WINDOW)
    surroundings = np.median(windows, axis=1)
    scatter = _DEVIATIONS * np.median(np.abs(windows - surroundings[:, None]), axis=1)
    return frame - surroundings, np.hypot(scatter, _shot_noise(surroundings))


def _shot_noise(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shot noise for one electron per count; the offset of the ADC, taken to be the least of the frame, has none."""
    return np.sqrt(np.maximum(counts - np.percentile(counts, 1), 0.0))


def _running_median(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Get the median of the surroundings of every pixel, as :func:`_windows` gives them, without composing them."""
    return ndimage.median_filter(values, size=width, mode="mirror")


def _windows(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Get the surroundings of every pixel, shape (pixels, width); at the ends reflected.

    Not repeated: copies of the last pixel would outvote its neighbours.
    """
    return np.lib.stride_tricks.sliding_window_view(np.pad(values, width // 2, mode="reflect"), width)


class Spectrometer:
    """Takes spectra; refuses to expose before the cooler has locked.

    The wavelengths are those that the spectrograph states, if it can (:class:`labctl.roles.CalibratedSpectrograph`),
    else those of the grating equation. They always rise: if they fall from the first pixel to the last, axis and
    frames are turned round.

    :param spectrograph: Grating spectrograph.
    :param detector: Line detector behind it.
    :param clock: Clock of the run.
    :param wavelength_offset_nm: Calibration: added to the wavelengths.
    :param filters: Filters before the slit; None where there are none.
    """

    def __init__(
        self,
        spectrograph: Spectrograph,
        detector: Detector,
        clock: Clock,
        *,
        wavelength_offset_nm: float = 0.0,
        filters: DetectionFilters | None = None,
    ) -> None:
        self.spectrograph = spectrograph
        self.detector = detector
        self.clock = clock
        self.wavelength_offset_nm = wavelength_offset_nm
        self.filters = filters
        self.wavelength_nm: NDArray[np.float64] = np.array([])
        self.warnings: list[str] = []
        self._falling = False
        self._locked = False
        self._centre_nm: float | None = None
        self._true_exposures_s: dict[float, float] = {}

    def replace(self, old: object, new: Any) -> None:
        """Use another object for an instrument that was connected anew."""
        for owner, name in ((self, "spectrograph"), (self, "detector"), (self.filters, "wheel")):
            if owner is not None and getattr(owner, name) is old:
                setattr(owner, name, new)

    def prepare(self, centre_nm: float, grating: int, filter_name: str | None = None) -> None:
        """Select filter, grating and centre wavelength, read them back, and build the wavelength axis.

        :param filter_name: Name of the filter; the one in use of the bench file if None.
        """
        if self.filters is not None:
            self.filters.select(filter_name)
        chosen = self.spectrograph.select_grating(grating)
        reached = self.spectrograph.go_to(centre_nm)
        if abs(reached - centre_nm) > _WAVELENGTH_TOLERANCE_NM:
            raise InstrumentError(
                f"the spectrograph stands at {reached} nm instead of {centre_nm} nm",
                role="spectrograph",
                todo="start the spectrograph anew; check the limits of the grating",
            )
        self._centre_nm = reached
        axis = self._wavelengths_nm(reached, chosen)
        self._falling = bool(axis[0] > axis[-1])
        self.wavelength_nm = (axis[::-1] if self._falling else axis) + self.wavelength_offset_nm

    def start_cooling(self, temperature_c: float) -> None:
        """Set the cooler; returns at once. :meth:`wait_until_cold` waits."""
        self.detector.cool_to(temperature_c)
        self._locked = False

    def wait_until_cold(self, timeout_s: float, stop: threading.Event | None = None) -> None:
        """Wait until the cooler has locked, also once again; raises InstrumentTimeout, or Aborted on ``stop``.

        Takes one question when it is locked: to be called before the light goes on, since it may wait for long.
        """
        stop = stop or threading.Event()
        deadline = self.clock.now() + timeout_s
        while not (state := self.detector.cooler).locked:
            if self.clock.now() > deadline:
                raise InstrumentTimeout(
                    f"the cooler has not locked within {timeout_s:g} s: {state.text}, {state.temperature_c:.1f} degC",
                    role="detector",
                    state="no exposure was made",
                    todo="check cooling water or fan; choose a warmer set-point in the bench file",
                )
            if self.clock.wait(stop, _COOLER_POLL_S):
                raise Aborted("stopped while waiting for the cooler")
        if not self._locked:
            log.info("cooler locked at %.1f degC", state.temperature_c)
        self._locked = True

    def acquire(
        self,
        exposure_s: float,
        accumulations: int,
        during: Callable[[], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Spectrum:
        """Take ``accumulations`` exposures and sum them; whatever fails, no exposure is left under way.

        Raises InstrumentError when the cooler is not locked: another temperature has another dark current; and when
        the filter before the slit is not the one chosen, before or after the exposures, or the spectrograph no longer
        stands where it was set: one that was switched off and on shows the zero order.

        :param exposure_s: Exposure asked for; the true one is in the result.
        :param during: Called once, after the first exposure has started (e.g. to read the energy meter).
        :param stop: Set from outside to end after the present exposure; raises Aborted.
        """
        temperature_c = self._locked_temperature_c()
        self._filter_in_beam()
        detector = self.detector
        if not math.isclose(detector.exposure_s, exposure_s, rel_tol=1e-3):
            self._check_exposure(exposure_s, detector.set_exposure(exposure_s))
        frames = np.empty((accumulations, detector.pixels))
        for number in range(accumulations):
            if stop is not None and stop.is_set():
                raise Aborted(f"stopped after {number} of {accumulations} exposures")
            try:
                detector.start()
                if number == 0 and during is not None:
                    during()
                frame = detector.read()
                frames[number] = frame[::-1] if self._falling else frame
            except BaseException:
                self._abort_exposure()
                raise
        filter_name, filter_position = self._filter_in_beam()
        self._check_wavelength()
        return Spectrum(
            wavelength_nm=self.wavelength_nm,
            counts=frames.sum(axis=0),
            exposure_s=detector.exposure_s,
            accumulations=accumulations,
            saturated=np.any(frames >= SATURATION_LEVEL * detector.full_scale_counts, axis=0),
            cosmic=cosmic_rays(frames),
            temperature_c=temperature_c,
            full_scale_counts=float(detector.full_scale_counts),
            filter_name=filter_name,
            filter_position=filter_position,
        )

    def _filter_in_beam(self) -> tuple[str, int]:
        """Get name and position of the filter, read back; raises InstrumentError if it is not the one chosen."""
        if self.filters is None:
            return NO_FILTER, 0
        position = self.filters.in_beam()
        return position.name, position.number

    def _check_exposure(self, asked_s: float, true_s: float) -> None:
        """Raise InstrumentError if the detector makes another exposure of the one asked for than it did before."""
        before_s = self._true_exposures_s.setdefault(asked_s, true_s)
        if not math.isclose(true_s, before_s, rel_tol=1e-3):
            raise InstrumentError(
                f"the detector makes an exposure of {true_s:g} s where {asked_s:g} s was asked for; before, it made"
                f" {before_s:g} s of it",
                role="detector",
                state="no exposure was made",
                todo="see whether another program uses the detector; start a new run",
            )

    def _check_wavelength(self) -> None:
        """Raise InstrumentError if the spectrograph is not where the wavelength axis says."""
        if self._centre_nm is None:
            return
        found_nm = self.spectrograph.wavelength_nm
        if abs(found_nm - self._centre_nm) > _WAVELENGTH_TOLERANCE_NM:
            raise InstrumentError(
                f"the spectrograph stands at {found_nm:g} nm instead of {self._centre_nm:g} nm",
                role="spectrograph",
                state="the spectrum was not stored",
                todo="see whether it was switched off or turned by hand; start a new run",
            )

    def _wavelengths_nm(self, centre_nm: float, grating: Grating) -> NDArray[np.float64]:
        """Get the wavelength of each pixel in nm, shape (pixels,), in the order of the detector."""
        spectrograph, detector = self.spectrograph, self.detector
        if isinstance(spectrograph, CalibratedSpectrograph):
            return spectrograph.wavelengths_nm(detector.pixels, detector.pixel_um)
        return wavelength_axis_nm(
            centre_nm, grating.lines_per_mm, spectrograph.geometry, detector.pixels, detector.pixel_um
        )

    def _locked_temperature_c(self) -> float:
        """Measure the temperature of the sensor; raises InstrumentError unless the cooler is locked."""
        state = self.detector.cooler if self._locked else None
        if state is not None and state.locked:
            return state.temperature_c
        self._locked = False
        now = f", {state.text}, {state.temperature_c:.1f} degC" if state is not None else ""
        raise InstrumentError(
            f"refused to expose: the cooler has not locked{now}",
            role="detector",
            state="no exposure was made",
            todo="call wait_until_cold() first; if it was locked before, check cooling water or fan",
        )

    def _abort_exposure(self) -> None:
        """End an exposure after a failure, without hiding what failed."""
        try:
            self.detector.abort()
        except LabctlError:
            log.exception("the exposure could not be aborted")
