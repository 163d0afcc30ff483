"""The lamp that stresses the sample: it warms up, drifts and ages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from labctl.sim.history import History, panels
from labctl.sim.noise import KeyedNoise
from labctl.sim.truth_table import Fraction, NotNegative, Positive, Truth

_PANEL_EDGES = np.array([0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 25.0])
_AGEING_S = 100.0 * 3600.0


class LampTruth(Truth):
    """The lamp.

    :param irradiance_mw_cm2: On the sample at full brightness, warmed up and new, mW/cm2.
    :param power_w: At the lamp meter then, W.
    :param warm_up_share: What is missing of the light right after switching on. :param warm_up_tau_s: Time constant
        with which it comes, s; three of them are the ten minutes that one waits.
    :param drift_rms: Slow drift. :param drift_tau_s: Its time, s.
    :param ageing_per_100_h: Share of the light that is lost in 100 h of being on.

    The defaults are those of an LED whose current is regulated; a discharge lamp drifts by 3 % and loses 2 % in 100 h.
    """

    irradiance_mw_cm2: Positive = 75.0
    power_w: Positive = 0.05
    warm_up_share: Fraction = 0.15
    warm_up_tau_s: Positive = 200.0
    drift_rms: NotNegative = 0.005
    drift_tau_s: Positive = 21600.0
    ageing_per_100_h: Fraction = 0.002


@dataclass(frozen=True)
class _Setting:
    """Brightness from a command on, and how warm (0 to 1) and how old, s, the lamp was then."""

    share: float
    warm: float
    on_s: float


class UVLamp:
    """The lamp in laboratory time; off until somebody switches it on.

    :param forgets: See :class:`labctl.sim.history.History`.
    """

    def __init__(self, truth: LampTruth, noise: KeyedNoise, forgets: Callable[[float], None] | None = None) -> None:
        self.truth = truth
        self._noise = noise
        self._settings: History[_Setting] = History(_Setting(0.0, 0.0, 0.0), forgets)

    def set(self, t: float, share: float) -> None:
        """Shine from ``t`` on with ``share`` of the full brightness; 0 is off.

        :raises ValueError: The share is not within 0 ... 1.
        """
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"a lamp cannot shine at {share} of its full brightness")
        since, before = self._settings.at(t)
        if share == before.share:
            self._settings.keep(t)
            return
        warm = float(self._warm(t - since, before))
        self._settings.set(t, _Setting(float(share), warm, self.on_time_s(t)))

    def is_on(self, t: float) -> bool:
        """Whether the lamp shines at ``t``."""
        return self._settings.at(t)[1].share > 0.0

    def on_time_s(self, t: float) -> float:
        """Get for how long the lamp has shone in all, s."""
        since, setting = self._settings.at(t)
        return setting.on_s + (t - since if setting.share else 0.0)

    def irradiance_mw_cm2(self, t: float) -> float:
        """Get the true irradiance on the sample at ``t``, mW/cm2; the drift is that of the announced schedule time."""
        return self.truth.irradiance_mw_cm2 * self._level(t)

    def power_w(self, t: float) -> float:
        """Get the true power at the lamp meter at ``t``, W."""
        return self.truth.power_w * self._level(t)

    @property
    def kept_from(self) -> float:
        """Oldest laboratory time that is still known, s."""
        return self._settings.kept_from

    def dose_j_cm2(self, t0: float, t1: float) -> float:
        """Integrate the irradiance over [t0, t1], J/cm2, with the drift of the announced schedule time."""
        total = 0.0
        for start, end, since, setting in self._settings.pieces(t0, t1):
            if setting.share:
                bends = since + _PANEL_EDGES * self.truth.warm_up_tau_s
                times, weights = panels(np.concatenate([[start], bends[(bends > start) & (bends < end)], [end]]))
                total += float(weights @ self._without_drift(times - since, setting))
        return 1e-3 * self.truth.irradiance_mw_cm2 * total * self._drift() if total else 0.0

    def _drift(self) -> float:
        return 1.0 + self._noise.drift("lamp", self.truth.drift_rms, self.truth.drift_tau_s)

    def _level(self, t: float) -> float:
        since, setting = self._settings.at(t)
        return float(self._without_drift(t - since, setting)) * self._drift() if setting.share else 0.0

    def _warm(self, after_s: ArrayLike, setting: _Setting) -> np.ndarray:
        goal = 1.0 if setting.share else 0.0
        return goal + (setting.warm - goal) * np.exp(-np.asarray(after_s, dtype=float) / self.truth.warm_up_tau_s)

    def _without_drift(self, after_s: ArrayLike, setting: _Setting) -> np.ndarray:
        cold = self.truth.warm_up_share * (1.0 - self._warm(after_s, setting))
        aged = self.truth.ageing_per_100_h * (setting.on_s + np.asarray(after_s, dtype=float)) / _AGEING_S
        return setting.share * (1.0 - cold) * np.maximum(1.0 - aged, 0.0)
