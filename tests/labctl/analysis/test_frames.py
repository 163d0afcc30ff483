"""What is left of a spectrum without dark and scatter, and whether its variance is what repeats scatter by."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.analysis.frames import Frame, Frames, repaired

PIXELS = 1024
PIXEL = np.arange(PIXELS)
PATTERN = 600.0 + 40.0 * np.random.default_rng(99).standard_normal(PIXELS)
"""Offset of each pixel: ten times the read noise, but always the same."""
LIGHT = 3000.0 * np.exp(-(((PIXEL - 500) / 60) ** 2))
SCATTER = 800.0 * np.exp(-PIXEL / 300)
NONE = np.zeros(PIXELS, dtype=bool)
ENERGY_J = 1e-6


def frame(rng, electrons, sums, exposure_s=0.1, read_counts=4.0, counts_per_electron=1.0) -> Frame:
    """Exposures of a camera, whole counts."""
    charge = rng.poisson(np.tile(electrons, (sums, 1))) * counts_per_electron
    noise = read_counts * rng.standard_normal((sums, PIXELS))
    return Frame(np.rint(PATTERN + charge + noise).sum(axis=0), exposure_s, sums, NONE)


def frames(rng, *, darks=5, scatter=False, counts_per_electron=1.0, read_counts=4.0) -> Frames:
    made = Frames(counts_per_electron)
    for exposure_s in (0.1, 0.2, 0.4):
        made.add_dark(frame(rng, np.zeros(PIXELS), darks, exposure_s, read_counts))
    if scatter:
        made.add_scatter(frame(rng, SCATTER, 4, 0.2, read_counts, counts_per_electron), ENERGY_J, 400)
    return made


@pytest.mark.parametrize("read_counts", [1.0, 4.0, 15.0])
def test_read_noise_is_measured_whatever_the_fixed_pattern(read_counts):
    found = [frames(np.random.default_rng(seed), read_counts=read_counts).dark_noise_counts(0.2) for seed in range(10)]
    assert np.mean(found) == pytest.approx(np.hypot(read_counts, 12**-0.5), rel=0.05)
    assert np.std(found) < 0.1 * read_counts


def test_noise_is_never_less_than_that_of_rounding():
    made = Frames()
    for exposure_s in (0.1, 0.2):
        made.add_dark(Frame(np.full(PIXELS, 3000.0), exposure_s, 5, NONE))
    assert made.dark_noise_counts(0.1) == pytest.approx(12**-0.5)


@pytest.mark.parametrize("counts_per_electron", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("scatter", [False, True])
def test_variance_is_the_scatter_of_repeats(counts_per_electron, scatter):
    """Light, dark and scatter frames are all drawn anew each time."""
    signals, variances = [], []
    electrons = LIGHT + (SCATTER if scatter else 0.0)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        made = frames(rng, scatter=scatter, counts_per_electron=counts_per_electron)
        spectrum = frame(rng, electrons, 3, counts_per_electron=counts_per_electron)
        signal, variance = made.emission(spectrum, ENERGY_J, 300)
        signals.append(signal)
        variances.append(variance)
    assert np.mean(signals, axis=0) == pytest.approx(3 * LIGHT * counts_per_electron, abs=40 * counts_per_electron + 5)
    for part in (slice(0, 200), slice(450, 550), slice(800, 1024)):
        found = np.var(signals, axis=0, ddof=1)[part].mean()
        assert np.mean(variances, axis=0)[part].mean() == pytest.approx(found, rel=0.12)


def test_scatter_is_in_proportion_to_the_pump():
    rng = np.random.default_rng(0)
    made = frames(rng, scatter=True)
    twice, _ = made.emission(frame(rng, 2 * SCATTER, 3), 2 * ENERGY_J, 300)
    assert made.has_scatter
    assert twice.mean() == pytest.approx(0.0, abs=10.0)


def test_cosmic_rays_are_bridged_in_spectra_and_dark_frames():
    hit = NONE.copy()
    hit[500:503] = True
    struck = np.where(hit, 5e4, 600.0)
    made = Frames()
    made.add_dark(Frame(struck, 0.1, 1, hit))
    signal, _ = made.emission(Frame(struck + 100.0, 0.1, 1, hit), 0.0, 1)
    assert signal == pytest.approx(100.0)
    assert (repaired(struck, np.ones(PIXELS, bool)) == struck).all()


def test_what_is_missing_is_said():
    made = frames(np.random.default_rng(0))
    with pytest.raises(LookupError, match=r"no dark frame at 0.3 s \(there are: 0.1, 0.2, 0.4 s\)"):
        made.emission(Frame(PATTERN, 0.3, 1, NONE), 0.0, 1)
    with pytest.raises(ValueError, match="pulses with energy"):
        made.add_scatter(Frame(PATTERN, 0.1, 1, NONE), 0.0, 100)
    with pytest.raises(ValueError, match="counts_per_electron"):
        Frames(0.0)


def test_the_energy_behind_the_scatter_frame_is_an_error_of_all_pixels_alike():
    """The meter errs by 5 % at the scatter frame; the band's sum scatters by what that subtracts too much or little."""
    relative, sums, expected = 0.05, [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        made = frames(rng)
        read_j = ENERGY_J * (1 + relative * rng.standard_normal())
        made.add_scatter(frame(rng, SCATTER, 4, 0.2), read_j, 400, relative * ENERGY_J)
        signal, variance = made.emission(frame(rng, LIGHT + SCATTER, 3), ENERGY_J, 300)
        sums.append(signal.sum())
        expected.append(np.hypot(np.sqrt(variance.sum()), np.sum(made.scatter_error(ENERGY_J, 300))))
    assert np.mean(expected) == pytest.approx(np.std(sums, ddof=1), rel=0.12)
    assert np.sqrt(variance.sum()) < 0.2 * np.mean(expected)


def test_scatter_of_unknown_energy_is_refused_and_no_scatter_has_no_error():
    made = frames(np.random.default_rng(0))
    assert made.scatter_error(ENERGY_J, 300) == 0.0
    for error_j in (-1e-9, np.nan):
        with pytest.raises(ValueError, match="error of the energy"):
            made.add_scatter(Frame(PATTERN, 0.1, 1, NONE), ENERGY_J, 100, error_j)
