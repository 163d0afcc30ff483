"""The figure and the page of a stripe-length scan of a film that saturates and has late light."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from labctl.analysis.vsl import SpectralScan, analyse_vsl
from labctl.analysis.vsl_fit import StripeCurve
from labctl.analysis.vsl_shapes import EvenStripe
from labctl.report import style
from labctl.report.figure import draw_figure
from labctl.report.page import render_page
from labctl.report.stripe_data import read_scans, read_stripes
from labctl.report.summary import summarise
from labctl.report.titles import subtitle, title
from labctl.report.wording import reading
from labctl.store.journal import Journal
from labctl.store.layout import ArrayField, Column, RowLayout
from labctl.store.results import add_result
from labctl.store.run import open_run
from labctl.store.seal import seal

Make = Callable[..., Path]

WAVELENGTH_NM = np.linspace(600.0, 664.0, 129)
LENGTHS_UM = np.concatenate([np.linspace(25.0, 300.0, 14), np.linspace(360.0, 1200.0, 12)])
PULSES, DARK = 1000.0, 500.0
STARTED = 1.795e9
FLUENCE = 84.0
_NAMES = (
    "fluence_set_uj_cm2 length_um offset_um far_mm band_intensity band_intensity_error exposure_s accumulations"
    " counted_pulses pulse_energy_j saturated_pixels open_s dose_j_cm2"
)
LAYOUT = RowLayout(
    (Column("stage", "text", "", "Stage", width=16), *(Column(name, "float", "") for name in _NAMES.split())),
    (
        ArrayField("spectrum", (WAVELENGTH_NM.size,), "<f4", "counts", "Raw counts", "wavelength_nm"),
        ArrayField("mask", (WAVELENGTH_NM.size,), "|u1", "", "Flags", "wavelength_nm"),
    ),
)


@dataclass
class Scan:
    """What the made run is to look like."""

    status: str | None = "finished"
    lengths_um: tuple[float, ...] = tuple(LENGTHS_UM)
    analysed: bool = True
    changes: dict[str, Any] = field(default_factory=dict)
    edge: bool = True
    moved: bool = False
    saturated: bool = False
    bright: float = 1.0
    header: dict[str, Any] = field(default_factory=dict)


def light(length_um: float) -> np.ndarray:
    """Counts per pulse and pixel of a stripe: a narrow amplified line on a broad one."""
    narrow = np.exp(-4 * np.log(2) * ((WAVELENGTH_NM - 632.0) / 16.0) ** 2)
    broad = np.exp(-4 * np.log(2) * ((WAVELENGTH_NM - 636.0) / 30.0) ** 2)
    length = np.array([1e-4 * length_um])
    gains = 115.0 * narrow
    spectrum = [
        StripeCurve(float(g), float(9.0 / max(g, 1e-9) / 800.0), 0.0, 9.0, 90.0, 0.0).values(EvenStripe(length))[0]
        for g in gains
    ]
    return np.array(spectrum) * broad


@cache
def _stripe(length_um: float) -> np.ndarray:
    return light(length_um)


@cache
def analysed() -> dict[str, Any]:
    """What the analysis of the whole scan stores."""
    rng = np.random.default_rng(0)
    spectra = np.array([_stripe(x) * rng.normal(1.0, 0.02) for x in LENGTHS_UM])
    found = analyse_vsl(WAVELENGTH_NM, SpectralScan(LENGTHS_UM, spectra, 0.01 * np.ones_like(spectra)))
    assert found.gain is not None and found.small_signal
    result = {
        "gain": found.gain.as_dict(),
        "pump_fluence": {"value": FLUENCE, "unit": "uJ/cm^2"},
        "gain_small_signal": found.small_signal[0].as_dict(),
    }
    return {
        "result": result,
        "scans": [{"fluence_uj_cm2": FLUENCE, **found.as_dict()}],
        "edge": {"value": 2000.0, "unit": "um", "ci68": [1999.6, 2000.4], "ci95": [1999.2, 2000.8]},
        "warnings": list(found.warnings),
    }


def write_scan(path: Path, scan: Scan, header: dict[str, Any]) -> Path:
    """Write a stripe-length scan through the store; returns the file to open."""
    rng = np.random.default_rng(0)
    with Journal.create(path, header | scan.header) as journal:
        for name in ("points", "edge", "dark"):
            journal.add_stream(name, LAYOUT)
        journal.set_axis("wavelength_nm", WAVELENGTH_NM, "nm")
        number = _append(journal, "dark", 0, "dark", 0.0, 0.0, np.zeros(WAVELENGTH_NM.size), rng)
        if scan.edge:
            for far_mm in np.linspace(1.9, 2.1, 15):
                bright = _stripe(25.0) * max(far_mm - 2.0, 0.0) * 40
                number = _append(journal, "edge", number, "edge", 0.0, 0.0, bright, rng, far_mm=float(far_mm))
        settings = [("lengths", x, 0.0) for x in scan.lengths_um]
        settings = [("closed", 0.0, 0.0), *settings] if settings else []
        settings += [("bleach", x, 0.0) for x in scan.lengths_um[:3]]
        if scan.moved:
            settings += [("ses", 15.0, x) for x in np.linspace(15.0, 1000.0, 8)]
            settings += [("loss", 100.0, x) for x in np.linspace(2.0, 1000.0, 8)]
        for stage, length_um, offset_um in settings:
            bright = _stripe(float(length_um)) * np.exp(-1e-4 * 10 * offset_um) * scan.bright if length_um else 0.0
            number = _append(
                journal, "points", number, stage, length_um, offset_um, bright + np.zeros(WAVELENGTH_NM.size), rng,
                full=scan.saturated,
            )  # fmt: skip
        if scan.status is not None:
            journal.set_status(scan.status, t_s=900.0, wall_s=STARTED + 900.0)
    written = seal(path, path.with_suffix(".h5"))
    if scan.analysed:
        data = analysed()
        add_result(written, "vsl-scan", {**data, **scan.changes})
    return written


def _append(
    journal: Journal,
    stream: str,
    number: int,
    stage: str,
    length_um: float,
    offset_um: float,
    bright: np.ndarray,
    rng: np.random.Generator,
    *,
    far_mm: float = 2.0,
    full: bool = False,
) -> int:
    total = float(bright.sum()) * rng.normal(1.0, 0.02)
    row = dict.fromkeys(_NAMES.split(), 0.0) | {
        "stage": stage,
        "fluence_set_uj_cm2": FLUENCE,
        "length_um": length_um,
        "offset_um": offset_um,
        "far_mm": far_mm,
        "band_intensity": total,
        "band_intensity_error": 0.01 * total + 0.01,
        "exposure_s": 0.1,
        "accumulations": 3.0,
        "counted_pulses": PULSES,
        "pulse_energy_j": 1e-7,
        "saturated_pixels": 5.0 if full else 0.0,
    }
    counts = bright * PULSES * rng.normal(1.0, 0.02) + 3 * DARK + rng.normal(0, 3, bright.size)
    arrays = {"spectrum": counts.astype(np.float32), "mask": np.full(bright.size, int(full), np.uint8)}
    t_s = 5.0 * number
    journal.append(stream, point=number, attempt=0, t_s=t_s, wall_s=STARTED + t_s, row=row, arrays=arrays)
    return number + 1


@pytest.fixture
def make_scan(tmp_path: Path, make_header: Callable[..., dict[str, Any]]) -> Make:
    """Make a stripe-length scan; keywords change what :class:`Scan` says."""

    def make(**changes: Any) -> Path:
        scan = Scan(**changes)
        told = {"procedure": "vsl-scan", "x": "length_um", "signal": "band_intensity", "plan": _PLAN}
        return write_scan(tmp_path / "0003_vsl-scan_film-7.journal", scan, make_header(**told))

    return make


_STRIPES = [{"fluence_uj_cm2": FLUENCE, "length_um": float(x), "offset_um": 0.0} for x in LENGTHS_UM]
_PLAN = {
    "max_points": 60,
    "stages": [
        {"name": "dark", "max_points": 1},
        {"name": "edge", "max_points": 15, "settings": [{"far_mm": 1.9, "fluence_uj_cm2": 8.4}]},
        {"name": "closed", "max_points": 1, "settings": [{"fluence_uj_cm2": FLUENCE, "length_um": 0.0}]},
        {"name": "lengths", "max_points": 26, "settings": _STRIPES},
        {"name": "bleach", "max_points": 3, "settings": _STRIPES[:3]},
    ],
}


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


def test_the_figure_shows_model_and_the_doubted_simple_fit(make_scan: Make) -> None:
    gain = reading("", analysed()["result"]["gain"]).value
    figure = drawn(make_scan())
    text = words(figure)
    assert f"film-7: net modal gain {gain} cm⁻¹  (95 %: " in text.replace("(film-7)", "film-7")
    assert "; all errors: " in text, "an interval beside an interval, not a standard deviation"
    assert "not to be trusted" in text and "Why the simple fit is not to be trusted" in text
    assert "fit: saturation + late light" in text and "of it late light, not amplified" in text
    assert "edge 2000.0" in text and "measured again at the end" in text
    assert text.count("SIMULATED") == 2 + 6
    assert edge_is_white(figure)


def test_the_drawn_curve_goes_through_the_light_that_was_fitted(make_scan: Make) -> None:
    with open_run(make_scan()) as run:
        scans = read_scans(analysed())
        stripes = read_stripes(run, scans)
    used = stripes.of("lengths", FLUENCE)
    curve = scans[-1].curve(stripes.length_um[used])
    assert curve is not None and used.sum() == LENGTHS_UM.size
    assert np.all(np.abs(stripes.light[used] / curve - 1) < 0.12)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lengths_um": (), "edge": False, "analysed": False}, ("no stripes with light", "no scan of the edge")),
        ({"lengths_um": (300.0,), "analysed": False}, ("not analysed", "no fit to compare with", "no gain spectrum")),
        ({"saturated": True}, ("all 26 stripes saturated", "below saturation")),
        ({"bright": float("nan"), "analysed": False}, ("no stripes with light",)),
        ({"moved": True, "status": "aborted"}, ("shifted spot", "moved stripe", "aborted")),
        (
            {"changes": {"result": {"gain": {"value": None}}, "scans": [{"fluence_uj_cm2": 84.0, "no_gain": "dim"}]}},
            ("no net modal gain", "no gain: dim"),
        ),
    ],
)
def test_a_scan_in_any_state_says_what_is_missing(make_scan: Make, changes: dict[str, Any], said: tuple[str]) -> None:
    figure = drawn(make_scan(**changes))
    text = words(figure)
    assert all(part in text for part in said), text
    assert edge_is_white(figure)


def test_the_page_says_what_was_done_and_how_far_to_trust_it(make_scan: Make) -> None:
    with open_run(make_scan()) as run:
        found = summarise(run)
        page = render_page(found, b"")
    assert found.headline is not None and found.headline.label == "Net modal gain"
    assert found.systematic.startswith("±") and "both together" in found.systematic_note
    assert any("26 lengths at 84 µJ/cm², 25 to 1200 µm" in sentence for sentence in found.story)
    by_subject = {remark.about: remark for remark in found.remarks}
    assert by_subject["the papers' simple fit"].level == "bad"
    assert "usually too small" in by_subject["the papers' simple fit"].text
    assert {"late light", "saturation", "collection", "bleaching", "fluence at all lengths"} <= set(by_subject)
    assert [table.title for table in found.tables] == ["Systematic budget", "Models compared"]
    simple = next(entry for entry in found.results if entry.label.startswith("Gain by the papers"))
    assert simple.meaning.startswith("not to be trusted")
    for heading in ("What was done", "How far to trust it", "Systematic budget", "Models compared"):
        assert f"<h2>{heading}</h2>" in page


def test_no_other_result_stands_in_for_a_gain_that_was_not_found(make_scan: Make) -> None:
    result = {"gain": {"value": None, "unit": "1/cm"}, "pump_fluence": {"value": 84.0, "unit": "uJ/cm^2"}}
    with open_run(make_scan(lengths_um=(), edge=False, analysed=False)) as run:
        assert title(run, {"result": result, "scans": []}).endswith(": no net modal gain")
        assert subtitle(run, {"result": result, "scans": []}).startswith("VSL scan")
