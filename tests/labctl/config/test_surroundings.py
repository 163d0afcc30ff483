"""The tables about what surrounds the sample: what they hold, and every fault with its line and key."""

from __future__ import annotations

import pytest

from labctl.config.bench import parse_bench
from labctl.config.locate import locate
from labctl.errors import ConfigError, Problem

SHIPPED = locate("benches", "simulated-stability").read_text(encoding="utf-8")
SLIT_FAR, STAGE, PLATE, LAMP, METER = (
    f'[instruments.{role}]\ndriver = "{driver}"\nresource = "sim:"\n'
    for role, driver in {
        "slit_far": "newport-esp300",
        "sample_stage": "newport-esp300",
        "heating_stage": "ika-hotplate",
        "lamp": "thorlabs-dc2200",
        "lamp_meter": "thorlabs-pm100d-power",
    }.items()
)
NEAR = '[instruments.slit_near]\ndriver = "newport-smc100"\nresource = "sim:"\n'


def problems_of(text: str) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        parse_bench(text, "bench.toml")
    return list(caught.value.problems)


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def changed(old: str, new: str) -> str:
    assert SHIPPED.count(old) == 1, f"{old!r} stands {SHIPPED.count(old)} times in the shipped bench"
    return SHIPPED.replace(old, new)


def test_the_tables_are_read_with_their_units() -> None:
    bench = parse_bench(
        changed('edge = "2.00 mm"   ', 'edge = "2000 um"   ').replace('tolerance = "0.6 K"', 'tolerance = "600 mK"'),
        "b",
    )
    assert bench.slit is not None and bench.places is not None
    assert bench.lamp is not None and bench.heating is not None
    assert (bench.slit.edge_mm, bench.slit.longest_mm, bench.slit.near_out_mm) == pytest.approx((2.0, 3.0, 1.0))
    assert dict(bench.places) == {"sample": 10.0, "reference": 40.0, "dark": 25.0, "A1": 16.0, "A2": 32.0}
    assert (bench.lamp.irradiance_mw_cm2, bench.lamp.meter_power_mw, bench.lamp.warm_up_s) == (75.0, 50.0, 600.0)
    assert (bench.heating.tolerance_k, bench.heating.settle_s, bench.heating.timeout_s) == (0.6, 60.0, 3600.0)
    assert bench.heating.vacuum_below_mbar is None


def test_a_bench_without_these_instruments_has_none_of_these_tables() -> None:
    bench = parse_bench(locate("benches", "simulated").read_text(encoding="utf-8"), "bench.toml")
    assert (bench.slit, bench.places, bench.lamp, bench.heating) == (None, None, None, None)


@pytest.mark.parametrize(
    ("old", "new", "key", "at", "says"),
    [
        ('edge = "2.00 mm"   ', "edge = 2.0   ", "slit.edge", "edge = 2.0", "mm"),
        ('edge = "2.00 mm"   ', 'edge = "2 s"   ', "slit.edge", 'edge = "2 s"', "mm"),
        ('longest = "3.0 mm"', 'longest = "0 mm"', "slit.longest", "longest = ", "more than 0 mm"),
        ('longest = "3.0 mm"', 'longest = "3.0 mm"\nlongst = 1', "slit.longst", "longst", "unknown key"),
        ('near_edge = "2.00 mm"\n', "", "slit.near_edge", "[slit]", "near_edge"),
        ('near_out = "1.00 mm"', "", "slit.near_out", "[slit]", "near_out"),
        ('near_out = "1.00 mm"', 'near_out = "2.00 mm"', "slit.near_out", "near_out", "before near_edge"),
        ('near_edge = "2.00 mm"\nnear_out = "1.00 mm"\n', "", "slit.near_edge", "[slit]", "near_edge"),
        (NEAR, "", "slit.near_edge", "near_edge", "slit_near"),
        ('\nsample = "10 mm"', "", "places.sample", "[places]", "no sample"),
        ('\nsample = "10 mm"', "\nsample = 10", "places.sample", "sample = 10", "mm"),
        ('\nsample = "10 mm"', '\nsample = "10 mm"\n"1st" = "1 mm"', "places.1st", '"1st"', "letter"),
        ('\nsample = "10 mm"', '\nsample = "2000 mm"', "places.sample", 'sample = "2000 mm"', "1000"),
        ('wavelength = "365 nm"\n', "", "lamp.wavelength", "[lamp]", "required"),
        ('irradiance = "75 mW/cm^2"', 'irradiance = "75 mW"', "lamp.irradiance", "irradiance = ", "mW/cm^2"),
        ('meter_power = "50 mW"', 'meter_power = "-1 mW"', "lamp.meter_power", "meter_power", "0"),
        ('warm_up = "10 min"', 'warm_up = "10 min"\nbrightness = 0', "lamp.brightness", "brightness", "greater than 0"),
        (METER, "", "lamp.meter_power", "meter_power", "lamp_meter"),
        ('tolerance = "0.6 K"', 'tolerance = "0 K"', "heating.tolerance", 'tolerance = "0 K"', "more than 0"),
        ('settle_timeout = "60 min"', 'settle_timeout = "0 s"', "heating.settle_timeout", "settle_timeout", "1 s"),
        (
            'settle_time = "60 s"',
            'settle_time = "60 s"\nvacuum_below = "1e-3 mbar"',
            "heating.vacuum_below",
            "vacuum_below",
            "vacuum_gauge",
        ),
    ],
)
def test_each_fault_is_found_at_its_line_and_key(old: str, new: str, key: str, at: str, says: str) -> None:
    text = changed(old, new)
    found = problems_of(text)
    assert [(entry.key, entry.line) for entry in found] == [(key, line_of(text, at))], found
    assert says in f"{found[0].found}; {found[0].allowed}"


@pytest.mark.parametrize(
    ("instrument", "table", "line"),
    [
        (SLIT_FAR, "slit", "[slit]"),
        (STAGE, "places", "[places]"),
        (PLATE, "heating", "[heating]"),
        (LAMP, "lamp", "[lamp]"),
    ],
)
def test_a_table_needs_its_instrument_and_the_instrument_its_table(instrument: str, table: str, line: str) -> None:
    text = changed(instrument, "")
    role = instrument.partition("]")[0].rpartition(".")[2]
    found = [entry for entry in problems_of(text) if entry.key == table]
    assert [entry.line for entry in found] == [line_of(text, line)]
    assert f"no [instruments.{role}]" in found[0].found
    begin = SHIPPED.index(f"\n{line}") + 1
    without = SHIPPED[:begin] + SHIPPED[SHIPPED.index("\n[", begin) + 1 :]
    assert [entry.found for entry in problems_of(without)] == [f"no [{table}]"]


def test_all_faults_are_told_at_once() -> None:
    text = changed('longest = "3.0 mm"', 'longest = "3.0"').replace('tolerance = "0.6 K"', "tolerance = 1")
    assert {entry.key for entry in problems_of(text)} == {"slit.longest", "heating.tolerance"}


def test_places_cannot_be_changed_afterwards() -> None:
    places = parse_bench(SHIPPED, "bench.toml").places
    with pytest.raises(TypeError):
        places["sample"] = 0.0  # type: ignore[index]
    assert list(places or ())[:2] == ["sample", "reference"]
