from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from labctl.analysis.knee import loglog_knee
from labctl.analysis.s_curve import SCurve
from labctl.report import style
from labctl.report.figure import draw_figure, figure_png, latest_result
from labctl.report.sweep_data import fitted_curve, read_rows, read_spectra
from labctl.store.run import open_run

Make = Callable[..., Path]


@contextmanager
def drawn(path: Path) -> Iterator[Figure]:
    with open_run(path) as run, style.look():
        yield draw_figure(run)


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text) if isinstance(text, Text))


def edge_is_white(figure: Figure) -> bool:
    """Whether nothing touches the edge of the picture, the banner excepted: a clipped label would."""
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[:, :, :3]  # pyright: ignore[reportAttributeAccessIssue]
    below_banner = pixels[round(0.05 * len(pixels)) :]
    return all(bool((edge == 255).all()) for edge in (below_banner[:, :3], below_banner[:, -3:], pixels[-3:]))


def test_the_figure_of_a_sweep_says_all_that_its_title_needs(make_sweep: Make) -> None:
    path = make_sweep()
    with open_run(path) as run:
        value = latest_result(run)["result"]["threshold"]["value"]
    with drawn(path) as figure:
        text = words(figure)
    assert f"CdSe/CdS@ZnO (film-7): threshold {value:.2f} µJ/cm²  (95 %: " in text
    assert "peak of the Gaussian spot" in text
    assert "0012_fluence-sweep_film-7" in text
    assert "2026-11-21" in text
    for label in ("coarse pass", "fine pass", "return to low fluence", "fit, over its range", "ASE part", "PL part"):
        assert label in text


def test_a_simulated_run_says_so_on_the_banner_and_in_every_panel(make_sweep: Make) -> None:
    with drawn(make_sweep()) as figure:
        assert words(figure).count("SIMULATED") == 2 + 4


def test_a_run_on_instruments_is_not_called_simulated(make_sweep: Make) -> None:
    with drawn(make_sweep(header={"simulated": False})) as figure:
        assert "SIMULATED" not in words(figure).upper()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"status": "failed", "header": {"sample": {"name": "N" * 200, "material": "M" * 200}}},
        {"stages": ()},
        {"bright": 0.0},
        {"saturated_above": 0.0},
        {"stages": (("listed", (28.0,)),), "analysed": False},
        {"stages": (("coarse", (1e-4, 3e4)),), "analysed": False},
    ],
)
def test_no_label_is_clipped(make_sweep: Make, changes: dict[str, Any]) -> None:
    with drawn(make_sweep(**changes)) as figure:
        assert edge_is_white(figure)


def test_saturated_points_are_marked_and_not_fitted(make_sweep: Make) -> None:
    path = make_sweep(saturated_above=70.0)
    with open_run(path) as run:
        data = latest_result(run)
        rows = read_rows(run, data)
    assert data["result"]["threshold"]["n_excluded"]["saturated"] == rows.saturated.sum() > 0
    with drawn(path) as figure:
        text = words(figure)
        marked = [line for axes in figure.axes for line in axes.lines if line.get_label() == "saturated, excluded"]
    assert "saturated pixels are left out" in text
    assert [len(line.get_xdata()) for line in marked] == [rows.saturated.sum()]


def test_the_drawn_curve_is_the_fit(make_sweep: Make) -> None:
    with open_run(make_sweep()) as run:
        data = latest_result(run)
        rows = read_rows(run, data)
    sweep = rows.stage != "return"
    fit = loglog_knee(
        rows.fluence[sweep],
        rows.intensity[sweep],
        fluence_error=rows.fluence_error[sweep],
        intensity_error=rows.intensity_error[sweep],
    )
    grid = np.geomspace(3.0, 90.0, 50)
    curve = fitted_curve(fit.as_dict(), grid)
    assert curve is not None
    np.testing.assert_allclose(curve, fit.curve(grid), rtol=1e-12)


def test_a_laser_is_shown_in_its_own_words_and_units(make_sweep: Make, lasing_result: dict[str, Any]) -> None:
    with drawn(make_sweep(stages=(("listed", tuple(np.geomspace(3e3, 1e5, 12))),), result=lasing_result)) as figure:
        text = words(figure)
        curves = [line for axes in figure.axes for line in axes.lines if line.get_label() == "fit, over its range"]
        assert edge_is_white(figure)
    assert "lasing threshold 25.20 mJ/cm²  (95 %: 24.78 to 25.64)" in text and "S-curve" in text
    assert "Pump fluence, energy over the product of the full axes (mJ/cm²)" in text
    assert "past the modes" in text and "ASE part" not in text and "µJ/cm²" not in text
    assert len(curves) == 1 and np.allclose(np.asarray(curves[0].get_xdata())[[0, -1]], [2.5, 120.0])


def test_the_drawn_s_curve_is_the_fit(lasing_result: dict[str, Any]) -> None:
    threshold = lasing_result["result"]["threshold"]
    grid = np.geomspace(2500.0, 1.2e5, 20)
    curve = fitted_curve(threshold, grid)
    assert curve is not None
    np.testing.assert_allclose(curve, SCurve(**threshold["parameters"]).intensity(np.log(grid)), rtol=1e-12)
    assert fitted_curve({**threshold, "parameters": {"log_beta": -4.6}}, grid) is None


def test_a_threshold_stored_without_its_curve_draws_none() -> None:
    grid = np.geomspace(3.0, 90.0, 5)
    assert fitted_curve({"value": 28.0, "slope_below": 1.0, "slope_above": 3.5, "softness": 0.1}, grid) is None
    assert fitted_curve({"value": 28.0, "parameters": {"log_threshold": 3.3}}, grid) is None


def test_the_spectra_are_freed_of_dark_scatter_and_cosmics(make_sweep: Make) -> None:
    with open_run(make_sweep()) as run:
        rows = read_rows(run, {})
        spectra = read_spectra(run, rows)
    assert spectra is not None
    assert spectra.left_out == ()
    assert np.all(np.diff(spectra.fluence) >= 0)
    empty = (spectra.wavelength_nm < 585) | (spectra.wavelength_nm > 690)
    brightest = spectra.emission.max(axis=1)
    assert np.all(np.abs(spectra.emission[:, empty].mean(axis=1)) < 0.02 * brightest)
    assert np.all(spectra.emission[:, 7] < 0.2 * brightest)


def test_spectra_without_dark_frames_are_left_out_in_words(make_sweep: Make) -> None:
    with drawn(make_sweep(frames=False)) as figure:
        assert "no emission spectra" in words(figure)


def test_many_spectra_are_thinned_out(make_sweep: Make) -> None:
    path = make_sweep(stages=(("listed", tuple(np.geomspace(2.8, 140.0, 150))),), analysed=False)
    with open_run(path) as run:
        spectra = read_spectra(run, read_rows(run, {}))
    assert spectra is not None
    assert 40 <= len(spectra.fluence) <= 60
    assert spectra.fluence[-1] / spectra.fluence[0] > 45


def test_mathematics_in_a_name_stays_text(make_sweep: Make) -> None:
    name = r"$\frac{broken"
    with drawn(make_sweep(header={"sample": {"name": name}})) as figure:
        figure.draw_without_rendering()
        assert name in words(figure)


def test_a_name_in_a_script_that_the_font_lacks_is_no_warning(make_sweep: Make) -> None:
    with open_run(make_sweep(header={"sample": {"name": "量子点"}})) as run:
        assert figure_png(run).startswith(b"\x89PNG")


def test_the_users_settings_do_not_reach_the_figure_nor_ours_the_users(make_sweep: Make) -> None:
    import matplotlib

    with matplotlib.rc_context({"text.usetex": True, "font.size": 40.0}):
        with open_run(make_sweep()) as run:
            assert figure_png(run).startswith(b"\x89PNG")
        assert matplotlib.rcParams["text.usetex"] is True
        assert matplotlib.rcParams["font.size"] == 40.0


def test_another_procedure_gets_signal_against_x(make_plain: Make) -> None:
    path = make_plain({"x_mm": np.arange(1.0, 9.0), "counts": np.arange(8) + 1.0})
    with drawn(path) as figure:
        assert edge_is_white(figure)
        text = words(figure)
        (line,) = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 8]
        np.testing.assert_array_equal(line.get_ydata(), np.arange(8) + 1.0)
    assert "Position (mm)" in text
    assert "Variable stripe" in text


@pytest.mark.parametrize("counts", [np.full(3, np.nan), np.zeros(0)])
def test_another_procedure_without_points_says_so(make_plain: Make, counts: np.ndarray) -> None:
    path = make_plain({"x_mm": np.arange(float(len(counts))), "counts": counts})
    with drawn(path) as figure:
        assert "no points" in words(figure)


def test_a_run_that_names_no_signal_says_so(make_plain: Make) -> None:
    values = {"x_mm": np.arange(3.0), "counts": np.arange(3.0)}
    path = make_plain(values, signal="nothing")
    with drawn(path) as figure:
        assert "names no column as its signal" in words(figure)


def test_an_attenuator_calibration_shows_malus_law_through_its_points(make_plain: Make) -> None:
    angle = np.linspace(0.0, 90.0, 25)
    energy = 38e-6 * (0.001 + 0.999 * np.cos(2 * np.radians(angle - 7.3)) ** 2)
    names = {"theta0": 7.3, "full_energy": 38e-6, "minimum_energy": 38e-9}
    path = make_plain(
        {"angle_deg": angle, "energy_j": energy, "energy_error_j": 0.01 * energy},
        procedure="attenuator-calibration",
        x="angle_deg",
        signal="energy_j",
        result={"result": {name: {"value": value, "unit": ""} for name, value in names.items()}},
    )
    with drawn(path) as figure:
        axes = figure.axes[0]
        (curve,) = [line for line in axes.lines if "Malus" in str(line.get_label())]
        x, y = np.asarray(curve.get_xdata(), float), np.asarray(curve.get_ydata(), float)
        bars = axes.collections
    np.testing.assert_allclose(np.interp(angle, x, y), energy, atol=2e-8)
    assert len(bars) == 1
