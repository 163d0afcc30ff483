"""The figures and the page of stability runs and temperature series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from labctl.analysis.stability import analyse_stability
from labctl.analysis.stability_reads import StabilityReads
from labctl.analysis.temperature_line import analyse_temperature_series
from labctl.report import style
from labctl.report.figure import draw_figure
from labctl.report.page import render_page
from labctl.report.stability_data import read_curve, read_points, read_reads
from labctl.report.summary import summarise
from labctl.store.journal import Journal
from labctl.store.layout import ArrayField, Column, RowLayout
from labctl.store.results import add_result
from labctl.store.run import open_run
from labctl.store.seal import seal

Make = Callable[..., Path]
WAVELENGTH_NM = np.linspace(600.0, 680.0, 96)
STARTED, PULSES, DARK = 1.795e9, 1000.0, 500.0
TIMES_MIN = tuple(float(t) for t in (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 60, 80, 100))
_NAMES = (
    "stress_s temperature_c irradiance_mw_cm2 lamp_dose_j_cm2 shots relative_intensity ratio ratio_error"
    " sample_intensity sample_intensity_error reference_intensity reference_intensity_error second_intensity"
    " second_intensity_error peak_nm fwhm_nm pulse_energy_j exposure_s accumulations counted_pulses"
    " saturated_pixels open_s dose_j_cm2"
)
LAYOUT = RowLayout(
    (
        Column("stage", "text", "", "Stage", width=16),
        Column("kind", "text", "", "Kind", width=8),
        *(Column(name, "float", "") for name in _NAMES.split()),
    ),
    (
        ArrayField("spectrum", (WAVELENGTH_NM.size,), "<f4", "counts", "Raw counts", "wavelength_nm"),
        ArrayField("mask", (WAVELENGTH_NM.size,), "|u1", "", "Flags", "wavelength_nm"),
        ArrayField("log_before_s", (4,), "<f8", "s"),
        ArrayField("log_value", (4,), "<f4", ""),
    ),
)


@dataclass
class Course:
    """What the made run is to look like; ``left`` is the emission at each time in minutes."""

    procedure: str = "thermal-stability"
    status: str | None = "finished"
    times_min: tuple[float, ...] = TIMES_MIN
    baseline: int = 3
    stage: str = "wet"
    left: Callable[[float], float] = lambda t: float(np.exp(-((t / 36.0) ** 0.47)))
    columns: dict[str, Callable[[float], float]] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


def write_course(path: Path, course: Course, header: dict[str, Any]) -> Path:
    """Write a stability run through the store; returns the file to open."""
    rng = np.random.default_rng(0)
    with Journal.create(path, header) as journal:
        for name in ("points", "dark"):
            journal.add_stream(name, LAYOUT)
        journal.set_axis("wavelength_nm", WAVELENGTH_NM, "nm")
        _append(journal, "dark", 0, {"stage": "dark", "kind": ""}, np.zeros(WAVELENGTH_NM.size))
        reads = [("baseline", 0.0)] * course.baseline + [(course.stage, t) for t in course.times_min]
        for number, (stage, t_min) in enumerate(reads, start=1):
            left = 1.0 if stage == "baseline" else course.left(t_min)
            ratio = 2.0 * left * rng.normal(1.0, 0.01)
            row = {
                "stage": stage,
                "kind": "read",
                "stress_s": 60.0 * t_min,
                "temperature_c": np.nan,
                "irradiance_mw_cm2": np.nan,
                "relative_intensity": ratio / 2.0,
                "ratio": ratio,
                "ratio_error": 0.01 * ratio,
                "sample_intensity": 100 * ratio,
                "sample_intensity_error": ratio,
                "reference_intensity": rng.normal(50.0, 0.5),
                "reference_intensity_error": 0.5,
                "second_intensity": np.nan,
                "second_intensity_error": np.nan,
                "peak_nm": 641.0 + 2 * (1 - left),
                "fwhm_nm": 28.0 + 2 * (1 - left),
            }
            row |= {name: value(t_min) for name, value in course.columns.items()}
            line = np.exp(-4 * np.log(2) * ((WAVELENGTH_NM - 641.0) / 28.0) ** 2)
            _append(journal, "points", number, row, np.nan_to_num(left) * line)
        if course.status is not None:
            journal.set_status(course.status, t_s=9e3, wall_s=STARTED + 9e3)
    written = seal(path, path.with_suffix(".h5"))
    if course.result is not None:
        add_result(written, course.procedure, course.result)
    return written


def _append(journal: Journal, stream: str, number: int, row: dict[str, Any], bright: np.ndarray) -> None:
    exposed = {"exposure_s": 0.1, "accumulations": 3.0, "counted_pulses": PULSES, "pulse_energy_j": 1e-9}
    row = dict.fromkeys(_NAMES.split(), 0.0) | exposed | row
    t_s = 60.0 * number + float(row["stress_s"])
    arrays = {
        "spectrum": (bright * PULSES + 3 * DARK).astype(np.float32),
        "mask": np.zeros(bright.size, np.uint8),
        "log_before_s": np.full(4, np.nan),
        "log_value": np.full(4, np.nan, np.float32),
    }
    journal.append(stream, point=number, attempt=0, t_s=t_s, wall_s=STARTED + t_s, row=row, arrays=arrays)


def analysed(course: Course, unit: str = "h", scale: float = 1 / 60, *, stored: bool = False) -> dict[str, Any]:
    """What the analysis stores; ``stored``: with points and curve."""
    rng = np.random.default_rng(1)
    clock = np.array([0.0] * course.baseline + [scale * t for t in course.times_min])
    left = np.array([1.0] * course.baseline + [course.left(t) for t in course.times_min])
    ratio = 2.0 * left * rng.normal(1.0, 0.01, left.size)
    baseline = np.arange(clock.size) < course.baseline
    reads = StabilityReads.of(clock, ratio, signal_error=0.01 * ratio, baseline=baseline, clock_unit=unit)
    found = analyse_stability(reads, at=(float(clock[-1]),), lamp_drift=0.001)
    told = {name: value for name, value in found.as_dict().items() if stored or name not in ("points", "curve")}
    return {"result": {"remaining": found.end.as_dict()}, "course": told, "warnings": list(found.warnings)}


@pytest.fixture
def make_course(tmp_path: Path, make_header: Callable[..., dict[str, Any]]) -> Make:
    """Make a stability run; keywords change what :class:`Course` says."""

    def make(**changes: Any) -> Path:
        course = Course(**changes)
        stages = [
            {"name": "baseline", "max_points": course.baseline},
            {"name": course.stage, "max_points": len(course.times_min), "times_s": [60 * t for t in course.times_min]},
        ]
        told = {
            "procedure": course.procedure,
            "x": "stress_s",
            "signal": "relative_intensity",
            "parameters": {"cycles": 3, "atmosphere": "nitrogen", "fluence": 2.7, **course.parameters},
            "plan": {"max_points": 20, "stages": stages},
        }
        return write_course(tmp_path / "0004_course_film-7.journal", course, make_header(**told))

    return make


def drawn(path: Path) -> Figure:
    with open_run(path) as run, style.look():
        return draw_figure(run)


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text) if isinstance(text, Text))


def edge_is_white(figure: Figure) -> bool:
    with style.look():
        figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[:, :, :3]  # pyright: ignore[reportAttributeAccessIssue]
    below_banner = pixels[round(0.05 * len(pixels)) :]
    return all(bool((edge == 255).all()) for edge in (below_banner[:, :3], below_banner[:, -3:], pixels[-3:]))


def test_the_course_is_drawn_with_its_law_and_lifetimes(make_course: Make) -> None:
    data = analysed(Course())
    figure = drawn(make_course(procedure="water-stability", result=data))
    text = words(figure)
    assert "(film-7): emission left at the end 0." in text and "(95 %: " in text
    assert "stretched exponential" in text and "Time in water (h)" in text
    assert "T80 " in text and "T50 " in text and "left, 95 %" in text
    assert "Reference − 1 (%)" in text and "Peak shift (nm)" in text
    assert text.count("SIMULATED") == 2 + 6
    assert edge_is_white(figure)


@pytest.mark.parametrize("law", ["exponential", "stretched", "bi_exponential", "rise_and_fall", "consecutive"])
def test_the_curve_follows_from_what_is_stored_of_a_law(law: str) -> None:
    from labctl.analysis.degradation_laws import BY_NAME

    found = BY_NAME[law]
    low_high = np.array(found.bounds(1.0, 100.0))
    theta = low_high[:, 0] + 0.4 * (low_high[:, 1] - low_high[:, 0])
    named = zip(found.parameters, found.report(theta), strict=True)
    curve = read_curve({"law": law, "parameters": {name: {"value": value} for name, value in named}}, 100.0)
    assert curve is not None
    np.testing.assert_allclose(curve.intensity, found.shape(curve.clock, theta), rtol=1e-9)


def test_stored_points_and_band_are_drawn_as_they_are(make_course: Make) -> None:
    data = analysed(Course(), stored=True)
    path = make_course(procedure="water-stability", result=data)
    with open_run(path) as run:
        points = read_points(run, read_reads(run, data), data)
    assert points.intensity.tolist() == data["course"]["points"]["intensity"]
    assert "stretched exponential, 95 % band" in words(drawn(path))


def test_points_and_curve_have_the_same_start(make_course: Make) -> None:
    data = analysed(Course())
    with open_run(make_course(procedure="water-stability", result=data)) as run:
        reads = read_reads(run, data)
        points = read_points(run, reads, data)
    curve = read_curve(data["course"], float(points.clock.max()))
    assert curve is not None
    missed = points.intensity / np.interp(points.clock, curve.clock, curve.intensity) - 1
    assert abs(missed.mean()) < 0.01 and np.abs(missed).max() < 0.06


def test_a_lifetime_that_was_not_reached_is_an_arrow_and_a_limit(make_course: Make) -> None:
    stable = Course(left=lambda t: 1.0 - 5e-4 * t)
    data = analysed(stable)
    path = make_course(procedure="water-stability", left=stable.left, result=data)
    text = words(drawn(path))
    assert "T80 > " in text and "one-sided 95 %" in text
    with open_run(path) as run:
        remarks = {remark.about: remark.text for remark in summarise(run).remarks}
    assert "with 95 % confidence it takes longer than" in remarks["T50"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"times_min": (), "baseline": 0}, ("no reads", "no line was found", "no spectra")),
        ({"times_min": (), "baseline": 1}, ("thermal stability, not analysed", "baseline")),
        ({"times_min": (5.0,), "baseline": 0, "status": "aborted"}, ("Emission / first read", "aborted")),
        ({"left": lambda t: float("nan"), "baseline": 0}, ("no reads with a value",)),
        ({"columns": {"reference_intensity": lambda t: float("nan")}}, ("no reference: the pump energy",)),
        ({"stage": "hot", "columns": {"temperature_c": lambda t: 100.0}}, ("read hot", "Temperature (°C)")),
    ],
)
def test_a_run_in_any_state_is_drawn(make_course: Make, changes: dict[str, Any], said: tuple[str, ...]) -> None:
    figure = drawn(make_course(**changes))
    text = words(figure)
    assert all(part in text for part in said), text
    assert edge_is_white(figure)


def test_a_running_journal_is_drawn_without_analysis(make_course: Make, tmp_path: Path) -> None:
    sealed = make_course(status=None)
    assert "Time in the heat (min)" in words(drawn(sealed.with_suffix(".journal")))


def test_a_lamp_is_shown_with_its_dose(make_course: Make) -> None:
    columns = {"irradiance_mw_cm2": lambda t: 75.0, "lamp_dose_j_cm2": lambda t: 4.5 * t}
    text = words(drawn(make_course(procedure="uv-stability", columns=columns)))
    assert "Dose (J/cm²)" in text and "Irradiance (mW/cm²)" in text


def test_amplified_light_is_drawn_against_shots_in_both_bands(make_course: Make) -> None:
    columns = {
        "shots": lambda t: 6e4 * t,
        "dose_j_cm2": lambda t: 5.0 * t,
        "second_intensity": lambda t: 10.0 - 0.01 * t,
        "second_intensity_error": lambda t: 0.1,
    }
    data = analysed(Course(), "shots", 6e4)
    figure = drawn(make_course(procedure="ase-stability", columns=columns, result=data))
    text = words(figure)
    assert "Laser shots on the spot" in text and "second band" in text and "N80 " in text
    assert edge_is_white(figure)


def test_a_temperature_series_is_drawn_with_its_fits(make_course: Make) -> None:
    kelvin = np.array([300.0, 10, 25, 50, 75, 100, 125, 150, 180, 210, 240, 270, 300])
    intensity = 1 / (1 + 0.8 * np.exp(-60 / (0.08617 * kelvin)))
    energy = 2.916 - 2.0 * 0.022 * (1 / np.tanh(0.022 / (2 * 8.617e-5 * kelvin)) - 1)
    width = 88 + 0.03 * kelvin + 70 / np.expm1(38 / (0.08617 * kelvin))
    found = analyse_temperature_series(
        kelvin,
        intensity=intensity,
        intensity_error=0.005 * intensity,
        energy_ev=energy,
        energy_error_ev=np.full(13, 1e-4),
        width_mev=width,
        width_error_mev=np.full(13, 0.5),
    )
    assert found.quench is not None
    points = {"temperature_k": kelvin, "intensity": intensity, "error": 0.005 * intensity, "peak_ev": energy}
    points |= {"peak_error_ev": np.full(13, 1e-4), "fwhm_mev": width, "fwhm_error_mev": np.full(13, 0.5)}
    data = {
        "result": {"quench": found.quench.percent.as_dict()},
        "series": found.as_dict(),
        "points": {name: values.tolist() for name, values in points.items()},
    }
    path = make_course(procedure="temperature-series", columns={"temperature_c": lambda t: t - 200.0}, result=data)
    figure = drawn(path)
    text = words(figure)
    assert "thermal quench, coldest to warmest" in text and "fit: E₀ = 2.916" in text and "E_LO" in text
    curves = [line for axes in figure.axes for line in axes.lines if "fit" in str(line.get_label())]
    assert len(curves) == 3
    x, y = (np.asarray(values, float) for values in curves[1].get_data())
    np.testing.assert_allclose(np.interp(200.0, x, y), np.interp(200.0, np.sort(kelvin[1:]), energy[1:]), atol=2e-3)
    assert edge_is_white(figure)


def test_a_temperature_series_that_has_just_begun(make_course: Make) -> None:
    assert "no reads" in words(drawn(make_course(procedure="temperature-series", times_min=(), baseline=0)))


def test_the_page_of_a_stability_run(make_course: Make) -> None:
    path = make_course(procedure="thermal-stability", parameters={"temperature": 100.0}, result=analysed(Course()))
    with open_run(path) as run:
        found = summarise(run)
        page = render_page(found, b"")
    assert found.headline is not None and found.headline.label == "Emission left at the end"
    assert "held at 100 °C" in found.story[0]
    assert "Atmosphere: nitrogen, as stated for the run." in found.story
    assert any("14 points, the first at once, the last after 1 h 40 min" in sentence for sentence in found.story)
    assert [table.title for table in found.tables] == ["Laws compared"]
    assert "It is a description, no mechanism." in page
