"""The slit that cuts the pump beam into a stripe: two blades, the film's edge, and what the spectrograph collects.

Positions along the stripe are those of the blades' controllers, mm; distances count from the edge of the film, into it.
The near blade and the far blade let the beam pass between them. What lies before the edge of the film is no film.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydantic import model_validator
from scipy import special

from labctl.sim.carriage import Carriage
from labctl.sim.noise import KeyedNoise
from labctl.sim.truth_table import NotNegative, Positive, Truth


class SlitTruth(Truth):
    """The slit; it acts on benches that have a blade (``slit_near``, ``slit_far``).

    :param edge_mm: Where a blade's controller is said to stand when the blade lies on the edge of the film, mm.
    :param zero_error_um: Standard deviation by which that is wrong, for each blade, um; one draw per seed.
    :param edge_blur_um: Standard deviation of the edge of the film, um.
    :param beam_from_mm: Where the beam begins, mm; at the edge of the film if left out. :param beam_mm: How far it
        reaches, evenly, mm.
    :param length_noise: Relative error of the emission, drawn anew whenever a blade arrives.
    :param collection_length_um: x0 of the collection 1/(1 + (x/x0)^2) of light from a distance x to the edge, um; all
        is collected alike if left out.
    :param pump_half_length_mm: 1/e2 half length of a Gaussian profile of the pump along the stripe, mm, which begins
        at its peak at the edge of the film; even if left out.
    :param fresnel_distance_mm: Distance from the far blade to the film, mm: its edge throws a diffraction pattern; 0
        for a blade that is imaged onto the film.
    :param meter_share: Energy at the meter behind the slit divided by the energy behind the slit.
    :param meter_noise: Relative noise of one reading of that meter.
    """

    edge_mm: float = 2.0
    zero_error_um: NotNegative = 3.0
    edge_blur_um: Positive = 1.5
    beam_from_mm: float | None = None
    beam_mm: Positive = 5.0
    length_noise: NotNegative = 0.0
    collection_length_um: Positive | None = None
    pump_half_length_mm: Positive | None = None
    fresnel_distance_mm: NotNegative = 0.0
    meter_share: Positive = 1.0
    meter_noise: NotNegative = 0.005

    @model_validator(mode="after")
    def _one_of_them(self) -> SlitTruth:
        if self.collection_length_um is not None and (self.pump_half_length_mm or self.fresnel_distance_mm):
            raise ValueError("give collection_length_um or an uneven pump, not both: they are not modelled together")
        return self


@dataclass(frozen=True)
class Stripe:
    """The pumped part of the film.

    :param length_mm: Its length, mm. :param distance_mm: From the edge of the film to where it begins, mm.
    :param collection_length_mm: See :class:`SlitTruth`; infinite where all is collected alike.
    :param profile: Fluence at distances from the edge, mm, in units of that of the even beam; None for an even beam.
    """

    length_mm: float
    distance_mm: float = 0.0
    collection_length_mm: float = math.inf
    profile: Callable[[np.ndarray], np.ndarray] | None = None


class Slit:
    """The blades in the beam.

    :param blade: Gets the carriage of a blade by its role, or None if the bench has no such blade.
    """

    def __init__(self, truth: SlitTruth, noise: KeyedNoise, blade: Callable[[str], Carriage | None]) -> None:
        self.truth = truth
        self._blade = blade
        zero = 1e-3 * truth.zero_error_um * noise.fixed("slit/zero").standard_normal(2)
        self._zero_mm = {"slit_near": float(zero[0]), "slit_far": float(zero[1])}
        self._beam_from_mm = (truth.edge_mm if truth.beam_from_mm is None else truth.beam_from_mm) - truth.edge_mm
        self._beam_to_mm = self._beam_from_mm + truth.beam_mm

    @property
    def is_there(self) -> bool:
        """Get whether the bench has a blade."""
        return any(self._blade(role) is not None for role in self._zero_mm)

    def zero_mm(self, role: str) -> float:
        """Get where a blade's controller really stands when the blade lies on the edge of the film, mm."""
        return self.truth.edge_mm - self._zero_mm[role]

    def open_mm(self, t: float) -> tuple[float, float]:
        """Get from where to where light passes at ``t``, as distances from the edge of the film, mm."""
        near = self._distance_mm("slit_near", t, self._beam_from_mm)
        far = self._distance_mm("slit_far", t, self._beam_to_mm)
        return max(near, self._beam_from_mm), min(far, self._beam_to_mm)

    def open_length_mm(self, t: float) -> float:
        """Get the length of the beam that passes at ``t``, mm."""
        near, far = self.open_mm(t)
        return max(0.0, far - near)

    def stripe(self, t: float) -> Stripe | None:
        """Get the pumped part of the film at ``t``; None if nothing is pumped."""
        near, far = self.open_mm(t)
        if far <= near:
            return None
        blur = 1e-3 * self.truth.edge_blur_um
        begin, end = _film_mm(near, blur), _film_mm(far, blur)
        if end - begin < 1e-9:
            return None
        collection_um = self.truth.collection_length_um
        collection_mm = math.inf if collection_um is None else 1e-3 * collection_um
        return Stripe(end - begin, begin, collection_mm, self._profile(far))

    def luck(self, t: float) -> float:
        """Get the relative error of the emission with the blades where they stand at ``t``."""
        blades = [self._blade(role) for role in self._zero_mm]
        return self.truth.length_noise * sum(blade.luck(t) for blade in blades if blade is not None)

    def _distance_mm(self, role: str, t: float, without: float) -> float:
        blade = self._blade(role)
        return without if blade is None else blade.at(t) - self.zero_mm(role)

    def _profile(self, far_mm: float) -> Callable[[np.ndarray], np.ndarray] | None:
        half_mm, distance_mm = self.truth.pump_half_length_mm, self.truth.fresnel_distance_mm
        if half_mm is None and not distance_mm:
            return None

        def profile(x_mm: np.ndarray) -> np.ndarray:
            share = np.ones_like(x_mm)
            if half_mm is not None:
                share = share * np.exp(-2.0 * (x_mm / half_mm) ** 2)
            if distance_mm:
                share = share * straight_edge(far_mm - x_mm, distance_mm)
            return share

        return profile


def straight_edge(inside_mm: np.ndarray, distance_mm: float, wavelength_nm: float = 400.0) -> np.ndarray:
    """Get the intensity behind a straight edge, in units of the one without it (Fresnel).

    I = [(1/2 + C(v))^2 + (1/2 + S(v))^2]/2 with v = x sqrt(2/(lambda z)).

    :param inside_mm: How far the place lies on the lit side of the edge's shadow, mm; negative in the shadow.
    :param distance_mm: Distance z behind the edge, mm.
    """
    v = np.asarray(inside_mm, dtype=float) * math.sqrt(2.0 / (1e-6 * wavelength_nm * distance_mm))
    sine, cosine = special.fresnel(v)
    return 0.5 * ((0.5 + cosine) ** 2 + (0.5 + sine) ** 2)


def _film_mm(x_mm: float, blur_mm: float) -> float:
    """Length of film before ``x_mm``, with an edge that is not sharp, mm: the integral of its coverage."""
    x = x_mm / blur_mm
    if x > 30.0:
        return x_mm
    density = math.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    return blur_mm * (x * 0.5 * math.erfc(-x / math.sqrt(2.0)) + density)
