"""Which windows are refused: the pump, other orders, filters that take the signal away."""

from __future__ import annotations

import re

import pytest

from labctl.bench.spectral_window import check_window, planned_window, pump_margin_nm
from labctl.config.bench import BenchConfig, parse_bench
from labctl.config.locate import locate
from labctl.errors import InputError

# Without its statement of the window: each test says what it knows of it.
SHIPPED = re.sub(r"(?m)^window = .*\n", "", locate("benches", "simulated").read_text(encoding="utf-8"))
FILTERS = """
[instruments.filter]
driver = "thorlabs-fw102c"
resource = "sim:"

[filter]
use = "open"
positions = [
  { number = 1, name = "open", kind = "open" },
  { number = 2, name = "LP420", kind = "long_pass", cut_on = "420 nm", edge = "5 nm" },
  { number = 3, name = "LP550", kind = "long_pass", cut_on = "550 nm" },
  { number = 4, name = "OS600", kind = "order_sorting", cut_on = "600 nm", blocking = 2.0 },
  { number = 5, name = "ND1", kind = "neutral_density", optical_density = 1.0 },
  { number = 6, name = "blank", kind = "blank" },
  { number = 7, name = "BP850", kind = "band_pass", cut_on = "825 nm", cut_off = "875 nm" },
]
"""


def bench_with(*, window: str | None = None, laser: str = "400 nm", pulse: str = "100 fs") -> BenchConfig:
    text = SHIPPED.replace('wavelength = "400 nm"', f'wavelength = "{laser}"', 1)
    text = text.replace('pulse_duration = "100 fs"', f'pulse_duration = "{pulse}"')
    if window is not None:
        text = text.replace('slit = "50 um"', f'slit = "50 um"\nwindow = "{window}"')
    return parse_bench(text + FILTERS, "bench.toml")


@pytest.mark.parametrize(
    ("centre_nm", "window", "band", "name", "refusals", "warnings"),
    [
        # Nothing in the way: the shipped window; a neutral density or a long-pass far below changes nothing.
        (632, "140 nm", None, "open", [], []),
        (632, "140 nm", None, "ND1", [], []),
        (632, "140 nm", None, "LP550", [], []),
        (632, None, None, "open", [], []),
        # (a) The pump line in first order, and what takes it away.
        (440, "140 nm", None, "open", ["holds the pump line at 400 nm"], []),
        (440, "140 nm", None, "ND1", ["holds the pump line at 400 nm"], []),
        (440, "140 nm", None, "LP420", [], ["cuts off what is below 420 nm"]),
        (440, "140 nm", (430, 460), "LP420", [], []),
        (440, "40 nm", None, "open", [], []),
        (440, None, (390, 480), "open", ["holds the pump line"], []),
        (402, None, None, "open", ["holds the pump line"], []),
        (440, None, None, "open", [], []),
        # (b) Second order of the pump, and of what is emitted between it and half the window.
        (800, "60 nm", None, "open", ["light of 396 to 415 nm, with the pump line, falls into .* order 2"], []),
        (800, None, None, "open", ["light of 400 nm, with the pump line, .* 800 nm .centre. in order 2"], []),
        (800, "60 nm", None, "LP420", [], []),
        (900, "60 nm", None, "open", ["light of 435 to 465 nm falls into .* order 2"], []),
        (900, "60 nm", None, "LP420", ["light of 435 to 465 nm falls into .* order 2"], []),
        (900, "60 nm", None, "LP550", [], []),
        (900, "60 nm", None, "BP850", [], ["cuts off what is above 875 nm"]),
        (1000, "60 nm", None, "BP850", ["takes away 970 to 1030 nm"], []),
        (700, "140 nm", None, "open", [], []),
        # A filter that lets a hundredth through blocks no laser line.
        (800, "60 nm", None, "OS600", ["order 2"], []),
        # Third order as well, each for itself.
        (1250, "100 nm", None, "LP550", ["600 to 650 nm falls into .* order 2"], []),
        (1250, "100 nm", None, "open", ["600 to 650 nm .* order 2", "400 to 433 nm, with the pump line.* order 3"], []),
        # (c) No light at all. (d) No signal, or only a part.
        (632, "140 nm", None, "blank", ["'blank' .* is in use: no light reaches the detector"], []),
        (500, "60 nm", None, "LP550", ["takes away 470 to 530 nm, where the signal is sought"], []),
        (560, "60 nm", None, "LP550", [], ["cuts off what is below 550 nm"]),
        (560, "60 nm", (535, 545), "LP550", ["takes away 535 to 545 nm"], []),
        (560, "60 nm", (555, 580), "LP550", [], []),
        (540, None, None, "LP550", ["takes away 540 nm"], []),
    ],
)
def test_windows(centre_nm, window, band, name, refusals, warnings):
    bench = bench_with(window=window)
    found = check_window(planned_window(bench, centre_nm=centre_nm, filter_name=name, band_nm=band), bench)
    for said, expected in ((found.refusals, refusals), (found.warnings, warnings)):
        assert len(said) == len(expected), said
        for text, pattern in zip(said, expected, strict=True):
            assert re.search(pattern, text), text


def test_the_remedy_names_the_filters_that_would_do():
    bench = bench_with(window="60 nm")
    (reason,) = check_window(planned_window(bench, centre_nm=900, filter_name=None, band_nm=None), bench).refusals
    assert "use the filter 'LP550' or 'OS600'" not in reason
    assert "use the filter 'LP550' or 'BP850', or another centre wavelength" in reason


def test_without_filters_the_remedy_is_one():
    bench = parse_bench(SHIPPED, "bench.toml")
    window = planned_window(bench, centre_nm=800, filter_name=None, band_nm=None)
    assert window.filter is None and window.as_dict()["filter"] == "none"
    (reason,) = check_window(window, bench).refusals
    assert "put a long-pass filter that blocks it before the slit" in reason


def test_the_true_axis_replaces_what_was_known():
    bench = bench_with()
    planned = planned_window(bench, centre_nm=440, filter_name=None, band_nm=None)
    assert (planned.source, planned.low_nm, planned.high_nm) == ("centre", 440, 440)
    assert not check_window(planned, bench).refusals
    (reason,) = check_window(planned.on_axis(369.6, 510.2), bench).refusals
    assert "370 to 510 nm (axis) holds the pump line" in reason
    kept = planned_window(bench, centre_nm=440, filter_name=None, band_nm=(420, 460)).on_axis(410.0, 470.0)
    assert kept.signal_nm == (420, 460) and not check_window(kept, bench).refusals


def test_the_pump_line_is_as_wide_as_its_pulse_is_short():
    short, long = (bench_with(pulse=pulse).laser for pulse in ("100 fs", "5 ns"))
    assert short is not None and long is not None
    # 0.441 (400 nm)^2 / (c 100 fs) = 2.35 nm.
    assert pump_margin_nm(short) == pytest.approx(1.5 * 2.354, rel=1e-3)
    assert pump_margin_nm(long) == 1.0


def test_a_filter_that_is_not_there():
    with pytest.raises(InputError, match="has no filter 'LP500'") as caught:
        planned_window(bench_with(), centre_nm=632, filter_name="LP500", band_nm=None)
    assert "LP550" in caught.value.todo
    with pytest.raises(InputError, match="has no filters, so no 'LP500'"):
        planned_window(parse_bench(SHIPPED, "b.toml"), centre_nm=632, filter_name="LP500", band_nm=None)


@pytest.mark.parametrize(("line_nm", "refused"), [(540.0, True), (560.0, False), (None, False)])
def test_a_filter_that_takes_the_expected_line_away_is_refused(line_nm, refused):
    bench = bench_with(window="60 nm")
    window = planned_window(bench, centre_nm=560, filter_name="LP550", band_nm=None, line_nm=line_nm)
    refusals = check_window(window, bench).refusals
    assert [f"takes away the line that is expected at {line_nm:g} nm" in reason for reason in refusals] == [
        True
    ] * refused
