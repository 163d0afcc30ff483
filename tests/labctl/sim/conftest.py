"""The sample that the tests of the simulated laboratory measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from labctl.sim.emulator import LineBuffer, Reply
from labctl.sim.noise import KeyedNoise


@pytest.fixture
def cdse_cds_zno() -> dict[str, Any]:
    """``[truth]`` of a CdSe/CdS@ZnO film."""
    return {
        "kappa": 1.447,
        "sigma_cm2": 2.6e-14,
        "eta_t": 0.03,
        "y0": 0.05,
        "gain_cm1": 134.0,
        "alpha_cm1": 10.0,
        "reference_stripe_mm": 1.0,
        "lambda_pl_nm": 641.0,
        "fwhm_pl_nm": 28.2,
        "lambda_ase_nm": 632.0,
        "fwhm_ase_nm": 6.7,
        "qy": 0.85,
        "x_decay_ns": [39.76, 135.8],
        "x_decay_fractions": [0.806, 0.194],
        "tau_xx_ns": 12.4,
        "auger_share": 0.095,
    }


class ToyLaboratory:
    """As much of a laboratory as the transports touch."""

    def __init__(self, seed: int = 0) -> None:
        self.noise = KeyedNoise(seed)
        self.done: list[tuple[str, float]] = []

    def announce(self, point: int, attempt: int, schedule_s: float) -> None:
        self.noise.announce(point, attempt, schedule_s)

    def operator(self, action: str, t: float | None = None) -> None:
        if action != "wave":
            raise ValueError(f"the simulated operator cannot do {action!r}")
        self.done.append((action, t or 0.0))

    def state(self, t: float) -> dict[str, Any]:
        return {"t": t, "done": [list(entry) for entry in self.done], "point": self.noise.point}


class ToyWire:
    """An instrument with every habit that a link has to cope with."""

    def __init__(self, laboratory: ToyLaboratory, role: str, options: Mapping[str, Any]) -> None:
        self.laboratory = laboratory
        self.value = str(options.get("value", 0))
        self._lines = LineBuffer(b"\n\r")
        self._tick: float | None = None

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        replies: list[Reply] = []
        while self._tick is not None and self._tick <= t:
            replies.append((self._tick, b"tick\n"))
            self._tick += 1.0
        for line in self._lines.feed(data):
            replies += self._answer(t, line.decode())
        return replies

    def next_event(self) -> float | None:
        return self._tick

    def _answer(self, t: float, line: str) -> Sequence[Reply]:
        command, _, argument = line.partition(" ")
        match command:
            case "set":
                self.value = argument
                return []
            case "get":
                return [(t, f"{self.value}\n".encode())]
            case "time":
                return [(t, f"{t!r}\n".encode())]
            case "slow":
                return [(t + float(argument), b"done\n")]
            case "backwards":
                return [(t + 0.3, b"second\n"), (t + 0.2, b"first\n")]
            case "draw":
                return [(t + 0.01, f"{self.laboratory.noise.generator('toy').random()!r}\n".encode())]
            case "large":
                return [(t, b"x" * int(argument) + b"\n")]
            case "tick":
                self._tick = t + 1.0
                return []
            case "quiet":
                self._tick = None
                return []
            case "break":
                raise RuntimeError("the toy broke")
        return [(t, b"?\n")]


class ToyLibrary:
    """A vendor library with every kind of output."""

    def __init__(self, laboratory: ToyLaboratory, role: str, options: Mapping[str, Any]) -> None:
        self.laboratory = laboratory
        self.gain = 1

    def call(self, t: float, function: str, arguments: Sequence[Any]) -> tuple[float, int, Sequence[Any]]:
        match function:
            case "SetGain":
                self.gain = arguments[0]
                return t, 20002, []
            case "GetGain":
                return t, 20002, [np.int64(self.gain)]
            case "GetImage":
                counts = self.laboratory.noise.generator("toy image").poisson(1000.0, arguments[0])
                return t + 0.5, 20002, [counts.astype(np.int32)]
            case "GetName":
                return t, 20002, ["toy µ"]
            case "GetFields":
                return t, 20002, [np.arange(arguments[0])]
            case "Refuse":
                return t, 20066, []
            case "Hang":
                return t + 3600.0, 20002, []
            case "Lie":
                return t, 20002, [1, 2]
        raise RuntimeError(f"the toy has no {function}")


@pytest.fixture
def toy_laboratory() -> type[ToyLaboratory]:
    return ToyLaboratory


@pytest.fixture
def toys() -> dict[str, Any]:
    """Get the classes of a toy instrument and a toy library, by driver name."""
    return {"toy-wire": ToyWire, "toy-library": ToyLibrary}
