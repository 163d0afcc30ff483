"""Cost of the simulated laboratory. Run: python benchmarks/simulation.py"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import numpy as np

from labctl.sim.laboratory import Laboratory, create
from labctl.sim.sample import EnsembleSample

_TRUTH = {
    "kappa": 1.447,
    "sigma_cm2": 2.6e-14,
    "gain_cm1": 134.0,
    "alpha_cm1": 10.0,
    "lambda_pl_nm": 641.0,
    "fwhm_pl_nm": 28.2,
    "lambda_ase_nm": 632.0,
    "fwhm_ase_nm": 6.7,
    "qy": 0.85,
    "auger_share": 0.095,
    "damage_fluence_uj_cm2": 4e6,
}


def milliseconds(action: Callable[[], object], repeats: int = 300) -> float:
    """Median time of one call."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return 1e3 * float(np.median(taken))


def report() -> dict[str, float]:
    """Milliseconds per action of a laboratory that runs a sweep."""
    laboratory = create({}, _TRUTH, 0)
    sample = laboratory.sample
    if sample is None:
        raise RuntimeError("the laboratory was created without its sample")
    laboratory.spectrograph.set(0.0, 632.0, 600.0)
    wavelengths = laboratory.spectrograph.wavelengths_nm(632.0, 600.0, 1024, 26.0)
    laboratory.wave_plate.move(0.0, 0.5, 0.0, 44.0)
    laboratory.shutter.set(0.5, True)
    electrons = np.full(1024, 1000.0)
    moments = itertools.count(10.0, 0.3)
    return {
        "build sample": milliseconds(lambda: EnsembleSample(sample.truth), 20),
        "edge spectrum, 1024 px": milliseconds(lambda: sample.emission_spectrum(wavelengths, 40.0, 1.0)),
        "camera noise, 1024 px": milliseconds(lambda: laboratory.camera.read_out(electrons, 0.1, -60.0)),
        "meter, 100 pulses": milliseconds(lambda: laboratory.meter_energy_j(1.0, 100)),
        "point of a sweep, all in all": milliseconds(lambda: _point(laboratory, next(moments))),
    }


def _point(laboratory: Laboratory, t: float) -> None:
    """One point of a sweep from time ``t`` on: shutter, exposure, shutter, next angle."""
    laboratory.announce(round(t / 0.3), 0, t)
    laboratory.shutter.set(t, True)
    laboratory.expose(t + 0.01, 0.1, -60.0)
    laboratory.shutter.set(t + 0.15, False)
    laboratory.wave_plate.move(t + 0.15, t + 0.2, 44.0, 43.0)


if __name__ == "__main__":
    for name, cost in report().items():
        print(f"{name:28s} {cost:7.3f} ms")
