"""The temperature of plate and sample: one body that follows what its controller wants.

The body follows the controller's set-point with a first-order lag, goes past a target that it reaches by a little, and
ripples around it slowly. All of that is a closed form of the commands, so the temperature at any time costs the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from pydantic import model_validator

from labctl.sim.history import History, panels
from labctl.sim.noise import KeyedNoise
from labctl.sim.truth_table import NotNegative, Positive, Truth

ZERO_C_K = 273.15
BOLTZMANN_EV_K = 8.617333262e-5
# -exp(-x) + a x exp(-x) has the maximum 1 for this a: what is left of the lag, and the overshoot that begins there.
_OVERSHOOT = 3.59112
# A step below this overshoots in proportion.
_FULL_OVERSHOOT_STEP_K = 10.0
_RIPPLE_PERIODS_S = (97.0, 41.0)
_RIPPLE_SHARES = (0.6, 0.4)
# After so many time constants nothing is left of a transient.
_SETTLED = 25.0
_PANEL_EDGES = np.array([0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, _SETTLED])


class ThermalTruth(Truth):
    """The heated (or cooled) body that carries the sample.

    :param ambient_c: Temperature of the room, and of a body that nobody controls, C.
    :param tau_s: Time constant with which it follows its controller, s. :param drift_tau_s: That of its way back to
        ambient when nobody controls it, s.
    :param overshoot_k: How far it goes past a target, K. :param ripple_k: Amplitude of its ripple around it, K.
    :param lowest_c: Lowest temperature it can be brought to, C; ambient if left out, since a hot plate cannot cool.
    :param highest_c: Highest, C.
    """

    ambient_c: float = 25.0
    tau_s: Positive = 180.0
    drift_tau_s: Positive = 600.0
    overshoot_k: NotNegative = 1.0
    ripple_k: NotNegative = 0.3
    lowest_c: float | None = None
    highest_c: float = 600.0

    @model_validator(mode="after")
    def _possible(self) -> ThermalTruth:
        lowest_c = self.ambient_c if self.lowest_c is None else self.lowest_c
        if not -ZERO_C_K < lowest_c <= self.ambient_c <= self.highest_c:
            raise ValueError("-273.15 < lowest_c <= ambient_c <= highest_c must hold")
        return self


@dataclass(frozen=True)
class _Command:
    """What the body does from a command on: it begins at ``start_c``, the set-point at ``from_c``.

    ``rate_k_s`` is the slope of the set-point until it reaches ``target_c`` (None: not controlled), 0 for a step.
    """

    start_c: float
    from_c: float
    target_c: float | None
    rate_k_s: float


class ThermalBody:
    """The body that carries the sample, in laboratory time. Nobody controls it until somebody does.

    :param forgets: See :class:`labctl.sim.history.History`.
    """

    def __init__(self, truth: ThermalTruth, noise: KeyedNoise, forgets: Callable[[float], None] | None = None) -> None:
        self.truth = truth
        self.ambient_c = truth.ambient_c
        self._lowest_c = truth.ambient_c if truth.lowest_c is None else truth.lowest_c
        self._phases = noise.fixed("thermal/ripple").uniform(0.0, 2.0 * np.pi, len(_RIPPLE_PERIODS_S))
        self._bends: tuple[_Command, np.ndarray] | None = None
        self._commands: History[_Command] = History(_Command(self.ambient_c, self.ambient_c, None, 0.0), forgets)

    def set(self, t: float, target_c: float | None, rate_k_min: float | None = None) -> None:
        """Control the temperature from ``t`` on.

        It replaces what earlier commands had foreseen for later times. One that changes nothing else is none: a
        controller may repeat it.

        :param target_c: Temperature to go to, C, as far as the body can; None: not controlled, drifts to ambient.
        :param rate_k_min: Slope of the set-point on its way there, K/min; None or 0: at once.
        :raises ValueError: The rate is negative or not a number.
        """
        rate_k_s = (rate_k_min or 0.0) / 60.0
        if not 0.0 <= rate_k_s < math.inf:
            raise ValueError(f"a temperature cannot be ramped at {rate_k_min} K/min")
        if target_c is not None:
            target_c = min(max(float(target_c), self._lowest_c), self.truth.highest_c)
        since, before = self._commands.at(t)
        if target_c == before.target_c and (target_c is None or rate_k_s == before.rate_k_s):
            self._commands.keep(t)
            return
        start_c = float(self._without_ripple(t - since, before))
        from_c = start_c if before.target_c is None else self._set_point(t - since, before)
        self._commands.set(t, _Command(start_c, from_c, target_c, rate_k_s if target_c is not None else 0.0))

    def temperature_c(self, t: float) -> float:
        """Get the true temperature of plate and sample at ``t``, C."""
        since, command = self._commands.at(t)
        if command.start_c == self.ambient_c and command.target_c is None:
            return self.ambient_c
        return float(self._without_ripple(t - since, command)) + self._ripple(t - since, command)

    def is_controlled(self, t: float) -> bool:
        """Whether somebody controls the temperature at ``t``."""
        return self._commands.at(t)[1].target_c is not None

    @property
    def kept_from(self) -> float:
        """Oldest laboratory time that is still known, s."""
        return self._commands.kept_from

    def integral(self, t0: float, t1: float, rate: Callable[[np.ndarray], np.ndarray]) -> float:
        """Integrate a smooth function of the temperature over [t0, t1].

        The ripple is left out: over its periods a rate of 0.8 eV changes by less than 1e-4 of itself.

        :param rate: From temperatures, C, to the integrand.
        :returns: In units of the integrand times s.
        """
        total = 0.0
        for start, end, since, command in self._commands.pieces(t0, t1):
            bends = since + self._bends_s(command)
            edges = np.concatenate([[start], bends[(bends > start) & (bends < end)], [end]])
            times, weights = panels(edges)
            # What nobody has touched yet began long before any time that can be told apart from its beginning.
            since = max(since, -1e9)
            total += float(weights @ rate(self._without_ripple(times - since, command)))
        return total

    def _bends_s(self, command: _Command) -> np.ndarray:
        """Times after a command between which the temperature is smooth enough for a panel."""
        known = self._bends
        if known is None or known[0] is not command:
            known = self._bends = (command, self._find_bends_s(command))
        return known[1]

    def _find_bends_s(self, command: _Command) -> np.ndarray:
        if command.target_c is None:
            return _PANEL_EDGES * self.truth.drift_tau_s
        ramp_s = self._ramp_s(command)
        reached_s = self._reached_s(command)
        ramp = np.linspace(0.0, ramp_s, 1 + min(64, math.ceil(ramp_s / self.truth.tau_s))) if ramp_s else np.zeros(1)
        settling = [begin + _PANEL_EDGES * self.truth.tau_s for begin in (ramp_s, reached_s)]
        return np.unique(np.concatenate([ramp, *settling]))

    def _ramp_s(self, command: _Command) -> float:
        if command.target_c is None or not command.rate_k_s:
            return 0.0
        return abs(command.target_c - command.from_c) / command.rate_k_s

    def _set_point(self, after_s: float, command: _Command) -> float:
        assert command.target_c is not None  # noqa: S101
        ramp_s = self._ramp_s(command)
        if after_s >= ramp_s:
            return command.target_c
        return command.from_c + (command.target_c - command.from_c) * after_s / ramp_s

    def _end_of_ramp_c(self, command: _Command) -> float:
        ramp_s = self._ramp_s(command)
        return float(self._on_ramp(np.array(ramp_s), command, ramp_s)) if ramp_s else command.start_c

    def _on_ramp(self, after_s: np.ndarray, command: _Command, ramp_s: float) -> np.ndarray:
        """First-order answer to a set-point that goes up evenly: it lags behind by rate times tau."""
        assert command.target_c is not None  # noqa: S101
        tau_s = self.truth.tau_s
        slope = (command.target_c - command.from_c) / ramp_s
        left = command.start_c - command.from_c + slope * tau_s
        return command.from_c + slope * (after_s - tau_s) + left * np.exp(-after_s / tau_s)

    def _overshoot_k(self, command: _Command) -> float:
        """How far it will go past the target, with the sign of the way there, K."""
        assert command.target_c is not None  # noqa: S101
        step_k = command.target_c - command.start_c
        return self.truth.overshoot_k * min(max(step_k / _FULL_OVERSHOOT_STEP_K, -1.0), 1.0)

    def _reached_s(self, command: _Command) -> float:
        """Time after a command at which the lag has shrunk to the overshoot, s."""
        assert command.target_c is not None  # noqa: S101
        left_k = abs(command.target_c - self._end_of_ramp_c(command))
        overshoot_k = abs(self._overshoot_k(command))
        wait = math.log(left_k / overshoot_k) if overshoot_k and left_k > overshoot_k else 0.0
        return self._ramp_s(command) + self.truth.tau_s * wait

    def _without_ripple(self, after_s: ArrayLike, command: _Command) -> np.ndarray:
        after = np.maximum(np.asarray(after_s, dtype=float), 0.0)
        if command.target_c is None:
            return self.ambient_c + (command.start_c - self.ambient_c) * np.exp(-after / self.truth.drift_tau_s)
        tau_s, ramp_s = self.truth.tau_s, self._ramp_s(command)
        left_k = command.target_c - self._end_of_ramp_c(command)
        settling = command.target_c - left_k * np.exp(-np.maximum(after - ramp_s, 0.0) / tau_s)
        result = np.where(after < ramp_s, self._on_ramp(after, command, ramp_s), settling) if ramp_s else settling
        x = np.maximum(after - self._reached_s(command), 0.0) / tau_s
        return result + self._overshoot_k(command) * _OVERSHOOT * x * np.exp(-x)

    def _ripple(self, after_s: float, command: _Command) -> float:
        if command.target_c is None:
            return 0.0
        angles = 2.0 * np.pi * after_s / np.array(_RIPPLE_PERIODS_S) + self._phases
        grown = -math.expm1(-after_s / self.truth.tau_s)
        return self.truth.ripple_k * grown * float(np.array(_RIPPLE_SHARES) @ np.sin(angles))
