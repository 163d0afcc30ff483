from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import voigt_profile

from labctl.analysis.linewidth import InstrumentResponse, deconvolve_width, line_result

widths = st.floats(0.01, 50.0)


@given(widths, widths)
def test_gaussian_and_lorentzian_undo_their_convolution(own, instrument):
    assert deconvolve_width(np.hypot(own, instrument), instrument) == pytest.approx(own, rel=1e-3, abs=1e-4)
    assert deconvolve_width(own + instrument, instrument, "lorentzian") == pytest.approx(own, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("own", [0.05, 0.147, 0.5, 3.0])
def test_voigt_against_the_exact_profile(own):
    instrument = 0.2
    x = np.linspace(-10, 10, 400_001)
    profile = voigt_profile(x, instrument / 2.354820045, own / 2)
    observed = np.ptp(x[profile > 0.5 * profile.max()])
    assert deconvolve_width(observed, instrument, "voigt") == pytest.approx(own, rel=0.01)


def test_unresolved_line_has_no_width_of_its_own():
    result = line_result(633.0, 0.01, 0.19, 0.01, InstrumentResponse(0.2))
    assert result.fwhm_deconvolved_nm is None and result.q_deconvolved is None
    assert json.loads(json.dumps(result.as_dict(), allow_nan=False))["q_deconvolved"] is None


def test_quality_factor_of_a_cavity_line():
    result = line_result(633.0, 0.02, 0.90, 0.02, InstrumentResponse(0.2))
    assert result.q.value == pytest.approx(703.3, abs=0.1)
    assert result.q_deconvolved is not None and result.q_deconvolved.value == pytest.approx(633 / np.sqrt(0.81 - 0.04))
    assert result.q.ci68 == pytest.approx((633 / 0.92, 633 / 0.88))
    json.dumps(result.as_dict(), allow_nan=False)


@pytest.mark.parametrize("shape", ["gaussian", "lorentzian", "voigt"])
def test_errors_of_the_deconvolved_width(shape):
    rng = np.random.default_rng(0)
    observed, instrument = rng.normal(0.5, 0.01, 20_000), rng.normal(0.3, 0.02, 20_000)
    samples = [deconvolve_width(o, i, shape) for o, i in zip(observed, instrument, strict=True)]
    result = line_result(633.0, 0.0, 0.5, 0.01, InstrumentResponse(0.3, 0.02, shape))
    assert result.fwhm_deconvolved_nm is not None
    assert result.fwhm_deconvolved_nm.sd == pytest.approx(np.std(samples), rel=0.05)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="fwhm_nm > 0"):
        deconvolve_width(-1.0, 0.2)
    with pytest.raises(ValueError, match="shape must be"):
        deconvolve_width(1.0, 0.2, "square")
