"""What the window reads from a run."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.gui.view import NewestSpectrum, read_view
from labctl.store.results import add_result
from labctl.store.run import open_run


def test_a_run_without_points_shows_nothing_rather_than_nonsense(live) -> None:
    with open_run(live().path) as run:
        view = read_view(run)
    assert view.done == 0 and view.planned == 30
    assert view.spectrum is None
    assert view.curve is not None and len(view.curve.x) == 0
    assert view.threshold is not None and view.threshold.text == "no threshold in range yet (0 points)"
    assert view.simulated and view.status == "running" and view.safe_state is None


def test_the_newest_spectrum_names_its_point_and_counts_what_is_saturated(live) -> None:
    run = live()
    run.add(3)
    run.add(1, saturated=5)
    with open_run(run.path) as stored:
        spectrum = read_view(stored).spectrum
    assert spectrum is not None
    assert spectrum.y[0] == 3.0 and spectrum.x[0] == 600.0
    assert spectrum.caption.startswith("point 4, ") and "0.1 s × 3" in spectrum.caption
    assert spectrum.saturation == "5 of 32 pixels SATURATED"
    assert spectrum.readout == "highest pixel 1000 counts at 630.97 nm"
    assert (spectrum.x_label, spectrum.y_label) == ("Wavelength (nm)", "Raw counts")


@pytest.mark.parametrize("values", [[], [np.nan, np.nan]])
def test_a_spectrum_of_nothing_has_a_readout(values: list[float]) -> None:
    y = np.array(values)
    spectrum = NewestSpectrum(y, y, np.zeros(len(y), bool), "", "", "", "", "")
    assert spectrum.readout == "no finite pixel"
    assert spectrum.saturation == ""


def test_no_threshold_is_claimed_below_it(live) -> None:
    run = live()
    run.add(12)
    with open_run(run.path) as stored:
        view = read_view(stored)
    assert view.threshold is not None and view.threshold.value is None
    assert view.threshold.text == "no threshold in range yet (12 points)"


def test_a_provisional_threshold_has_an_interval_around_it(live) -> None:
    run = live()
    run.add(30)
    with open_run(run.path) as stored:
        found = read_view(stored).threshold
    assert found is not None and found.value == pytest.approx(28.0, rel=0.15)
    assert found.low is not None and found.high is not None and found.low < found.value < found.high
    assert found.text.startswith("provisional threshold 2") and "µJ/cm²" in found.text


def test_saturated_points_are_marked_and_not_fitted(live) -> None:
    run = live()
    run.add(15)
    run.add(15, saturated=4)
    with open_run(run.path) as stored:
        view = read_view(stored)
    assert view.curve is not None and view.curve.saturated.sum() == 15
    assert view.threshold is not None and view.threshold.value is None


def test_the_stored_result_replaces_the_provisional_one(live) -> None:
    run = live()
    run.add(30)
    with open_run(run.path) as stored:
        before = read_view(stored)
        entry = {"value": 28.4, "unit": "uJ/cm^2", "ci95": [27.9, 28.9]}
        peak = {"value": 632.0, "unit": "nm"}
        run.end()
        add_result(run.path, "fluence-sweep", {"result": {"threshold": entry, "peak": peak}, "warnings": []})
        stored.refresh()
        view = read_view(stored, before)
    assert view.threshold is not None
    assert (view.threshold.value, view.threshold.low, view.threshold.high) == (28.4, 27.9, 28.9)
    assert view.threshold.text == "threshold 28.40 µJ/cm²   95 %: 27.90 to 28.90"
    assert view.results == ("peak 632.0 nm",)
    assert view.curve is before.curve, "the points are the same: they were not read again"


def test_a_result_without_a_threshold_says_why(live) -> None:
    run = live()
    run.add(30)
    run.end()
    reason = "the slope does not change"
    add_result(run.path, "fluence-sweep", {"result": {"threshold": {"value": None, "reason": reason}}, "warnings": []})
    with open_run(run.path) as stored:
        found = read_view(stored).threshold
    assert found is not None and found.value is None and found.text == f"no threshold: {reason}"


def test_the_log_tells_what_happened(live) -> None:
    run = live()
    run.say("operator", {"asked": "Move it.", "confirmed": True})
    run.say("incident", {"error": {"what": "the lamp went out"}, "reason": "SIGTERM"})
    run.say("unheard-of", {"x": 1})
    run.end("aborted", "unconfirmed")
    with open_run(run.path) as stored:
        lines = [line.split("  ", 1)[1] for line in read_view(stored).log]
    assert lines == [
        "coarse: 30 points",
        "operator, done: Move it.",
        "incident: the lamp went out (SIGTERM)",
        "safe state unconfirmed; shutter: close shutter UNCONFIRMED",
        "aborted",
    ]
