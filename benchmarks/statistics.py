"""Bias, scatter and coverage of the threshold, and the acceptance of whole simulated sweeps, as tables in Markdown.

``python -m benchmarks.statistics`` takes some minutes. Seeds are 0 to N - 1, never chosen. Truth of a hinge is its own
knee, that of the film the same fit without noise.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from labctl.analysis.hinge import HingeParameters
from labctl.analysis.knee import loglog_knee
from labctl.analysis.lasing import lasing_threshold
from labctl.analysis.s_curve import SCurve
from labctl.analysis.sweep_design import coarse_fluences, refine_fluences
from labctl.analysis.threshold import ThresholdFit
from labctl.config.sample import load_sample
from labctl.sim.sample import EnsembleSample
from labctl.sim.truth import SampleTruth
from labctl.sim.truth_table import read_table

Array = np.ndarray
KNEE = 28.0
LASER = 3.3
"""Threshold of the laser, uJ/cm2."""
ADAPTIVE = np.concatenate([coarse_fluences(KNEE), refine_fluences(KNEE)])
"""8 coarse and 24 fine fluences, uJ/cm2, as the sweep measures them."""


@dataclass(frozen=True)
class Design:
    """What is measured, where, and how well (relative errors). Without ``knee`` the truth is the fit without noise."""

    name: str
    source: Callable[[Array], Array]
    fluence: Array
    sigma_i: float
    sigma_f: float
    knee: float | None

    def fit(self, fluence: Array, intensity: Array) -> ThresholdFit:
        """Fit with the errors of the design."""
        fluence_error, intensity_error = self.sigma_f * fluence, self.sigma_i * intensity
        return loglog_knee(fluence, intensity, fluence_error=fluence_error, intensity_error=intensity_error)

    def measured(self, seed: int) -> ThresholdFit:
        """Measure once: the true fluence scatters about the one that is read, the signal about its own value."""
        rng = np.random.default_rng(seed)
        true = self.fluence * np.exp(rng.normal(0, self.sigma_f, self.fluence.size))
        return self.fit(self.fluence, self.source(true) * np.exp(rng.normal(0, self.sigma_i, self.fluence.size)))


def hinge(softness: float, *, saturation: bool) -> Callable[[Array], Array]:
    """Return a source with slopes 1 and 3.5, and with 0.8 from 3.5 knees on."""
    shape = HingeParameters(np.log(KNEE), 0.0, 1.0, 3.5, softness)
    if saturation:
        shape = HingeParameters(np.log(KNEE), 0.0, 1.0, 3.5, softness, np.log(3.5), 0.8)
    return lambda fluence: np.exp(shape.curve(np.log(fluence)))


def film() -> Callable[[Array], Array]:
    """Return the emission of the shipped film, integrated over its line."""
    truth = read_table(load_sample("cdse-cds-zno").truth, SampleTruth, "truth")
    sample = EnsembleSample(truth)
    wavelength_nm = np.linspace(565.0, 705.0, 512)
    return lambda fluence: sample.emission_spectrum(wavelength_nm, fluence, truth.reference_stripe_mm).sum(axis=1)


def designs() -> Iterator[Design]:
    """Yield what is tabled."""
    light, thirty, twenty = film(), np.geomspace(0.3, 6.0, 30) * KNEE, np.geomspace(0.3, 3.0, 20) * KNEE
    yield Design("film, adaptive, 1 %/1 %", light, ADAPTIVE, 0.01, 0.01, None)
    yield Design("film, adaptive, 3 %/1 %", light, ADAPTIVE, 0.03, 0.01, None)
    soft = hinge(0.15, saturation=True)
    yield Design("soft hinge, saturation, adaptive, 3 %/1 %", soft, ADAPTIVE, 0.03, 0.01, KNEE)
    yield Design("soft hinge, saturation, 30 points, 3 %/1 %", soft, thirty, 0.03, 0.01, KNEE)
    yield Design("soft hinge, 20 points, 5 %/2 %", hinge(0.15, saturation=False), twenty, 0.05, 0.02, KNEE)
    yield Design("sharp hinge, 20 points, 3 %/1 %", hinge(0.005, saturation=False), twenty, 0.03, 0.01, KNEE)


def table_of_designs(seeds: int) -> Iterator[str]:
    """Yield one line per design; all figures but the coverage in per cent of the truth."""
    yield f"| design, noise of intensity/fluence ({seeds} seeds each) | truth | bias | sd | 95 % covers | half-width |"
    yield "|---|---|---|---|---|---|"
    for design in designs():
        truth = design.knee or design.fit(design.fluence, design.source(design.fluence)).value
        fits = [design.measured(seed) for seed in range(seeds)]
        ratio = np.array([fit.value for fit in fits]) / truth
        covered = np.mean([fit.ci95[0] <= truth <= fit.ci95[1] for fit in fits])
        half = np.median([fit.ci95[1] - fit.ci95[0] for fit in fits]) / 2 / truth
        errors = f"{ratio.mean() - 1:+.2%} | {ratio.std():.2%}"
        yield f"| {design.name} | {truth:.2f} | {errors} | {covered:.1%} | {half:.2%} |"


def table_of_lasers(seeds: int) -> Iterator[str]:
    """Yield one line per laser: 24 points, 3 % in the intensity; B F_th is the emission past the mode, S that into it.

    Columns are those of :func:`table_of_designs` and, for beta, the range of 68 % of the fits and the coverage.
    """
    fluence = refine_fluences(LASER)
    yield (
        f"| laser, noise of fluence ({seeds} seeds each) | bias | sd | 95 % covers | beta, 68 % of the fits"
        " | 95 % covers |"
    )
    yield "|---|---|---|---|---|---|"
    for beta, background, sigma_f in product((1e-3, 1e-2, 5e-2), (0.0, 3.0), (0.0, 0.01)):
        shape = SCurve(np.log(LASER), np.log(beta), 1e6 * beta, background * 1e6 * beta / LASER)
        fits = []
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            true = np.log(fluence) + rng.normal(0, sigma_f, fluence.size)
            light = shape.intensity(true) * np.exp(rng.normal(0, 0.03, fluence.size))
            fit = lasing_threshold(
                fluence, light, fluence_error=sigma_f * fluence, intensity_error=0.03 * light, pulse_rms=0.0
            )
            fits.append(fit)
        ratio = np.array([fit.value for fit in fits]) / LASER
        low, high = np.percentile([fit.beta.value / beta for fit in fits], [15.9, 84.1])
        covered = np.mean([fit.ci95[0] <= LASER <= fit.ci95[1] for fit in fits])
        betas = np.mean([fit.beta.ci95[0] <= beta <= fit.beta.ci95[1] for fit in fits])
        name = f"beta {beta:g}, B F_th = {background:g} S, {sigma_f:.0%}"
        errors_text = f"{ratio.mean() - 1:+.2%} | {ratio.std():.2%} | {covered:.1%}"
        yield f"| {name} | {errors_text} | {low - 1:+.0%} to {high - 1:+.0%} | {betas:.1%} |"


def demo(seed: int) -> dict[str, float]:
    """Run ``labctl demo`` in a folder of its own; return the numbers that have an acceptance."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [sys.executable, "-m", "labctl.cli.main", "demo", "--seed", str(seed), "--json"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=True)
    result = json.loads(done.stdout)["result"]
    low, high = result["threshold"]["ci95"]
    return {
        "threshold, uJ/cm^2": result["threshold"]["value"],
        "half-width of its 95 %, uJ/cm^2": (high - low) / 2,
        "ASE peak, nm": result["ase_peak"]["value"],
        "ASE width, nm": result["ase_fwhm"]["value"],
    }


def table_of_sweeps(seeds: int) -> Iterator[str]:
    """Yield one line per quantity over whole simulated sweeps, through drivers and emulators."""
    rows = [demo(seed) for seed in range(seeds)]
    yield f"| whole sweep ({seeds} seeds) | mean | sd | least | largest |"
    yield "|---|---|---|---|---|"
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        yield f"| {name} | {values.mean():.3f} | {values.std():.3f} | {values.min():.3f} | {values.max():.3f} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="noisy data sets per design")
    parser.add_argument("--sweeps", type=int, default=20, help="whole simulated sweeps")
    arguments = parser.parse_args()
    seeds = arguments.seeds
    for table in (table_of_designs(seeds), table_of_lasers(seeds), table_of_sweeps(arguments.sweeps)):
        for line in table:
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
