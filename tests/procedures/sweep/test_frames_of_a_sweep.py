"""Saturated frames, coolers that unlock and aborts within a sum, on the simulated bench."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from labctl.bench.bench import Bench
from labctl.clock import VirtualClock
from labctl.config.bench import load_bench
from labctl.config.locate import locate
from labctl.config.sample import load_sample
from labctl.errors import Aborted, InputError, InstrumentError
from labctl.run.plan import Point
from labctl.run.record import Acknowledged
from procedures.fluence_sweep import FluenceSweep

Prepared = Callable[..., tuple[FluenceSweep, Bench]]


@pytest.fixture
def prepared(tmp_path: Path):
    """Open a bench whose simulated camera has other properties and prepare a sweep on it."""
    opened = []

    def prepare(camera: str = "", **parameters) -> tuple[FluenceSweep, Bench]:
        source = locate("benches", "simulated")
        text = source.read_text(encoding="utf-8").replace(
            '"calibrations/', f'"{source.parent.as_posix()}/calibrations/'
        )
        path = tmp_path / "bench.toml"
        path.write_text(f"{text}\n[laboratory.camera]\n{camera}\n", encoding="utf-8")
        config, sample = load_bench(path), load_sample("cdse-cds-zno")
        procedure = FluenceSweep(**parameters)
        procedure.plan(config, sample)
        bench = Bench.open(config, VirtualClock(), sample=sample)
        opened.append(bench)
        procedure.prepare(bench)
        procedure.begin(bench)
        return procedure, bench

    yield prepare
    for bench in opened:
        bench.close()


def dark(procedure: FluenceSweep) -> None:
    for exposure_s in procedure.ladder.exposures_s:
        procedure.measure(Point(0, "dark", {"exposure_s": exposure_s}, 0.0))


def test_a_saturated_dark_frame_is_refused(prepared: Prepared):
    procedure, bench = prepared("offset_adu = 64000.0")
    with pytest.raises(InstrumentError, match=r"dark frame at 0\.01 s is saturated in 1024 pixels"):
        procedure.measure(Point(0, "dark", {"exposure_s": 0.01}, 0.0))
    assert not bench.pump.shutter.is_open


def test_scatter_is_taken_again_until_it_is_not_saturated(prepared: Prepared):
    procedure, _ = prepared("pump_scatter = 3.0")
    dark(procedure)
    record = procedure.measure(Point(1, "scatter", {"fluence_uj_cm2": 28.0, "exposure_s": 2.56}, 0.0))
    assert record.row["exposure_s"] < 2.56
    assert record.row["saturated_pixels"] == 0
    assert record.arrays["mask"].dtype == np.uint8


def test_scatter_that_always_saturates_is_refused(prepared: Prepared):
    procedure, bench = prepared("pump_scatter = 1e5")
    dark(procedure)
    with pytest.raises(InstrumentError, match="pump scatter saturates"):
        procedure.measure(Point(1, "scatter", {"fluence_uj_cm2": 28.0, "exposure_s": 0.16}, 0.0))
    assert not bench.pump.shutter.is_open


def test_rows_hold_the_temperature_of_their_own_time(prepared: Prepared):
    procedure, bench = prepared()
    first = procedure.measure(Point(0, "dark", {"exposure_s": 0.01}, 0.0))
    bench.spectrometer.detector.cool_to(-50.0)
    second = procedure.measure(Point(1, "dark", {"exposure_s": 0.02}, 0.0))
    assert first.row["sensor_c"] == pytest.approx(-60.0, abs=1.5)
    assert second.row["sensor_c"] == pytest.approx(-50.0, abs=1.5)


@pytest.mark.parametrize("stage", ["dark", "scatter", "coarse"])
def test_an_abort_takes_effect_between_the_exposures_of_a_sum(prepared: Prepared, monkeypatch, stage: str):
    procedure, bench = prepared(averages=1000, dark_frames=5, scatter_frames=1000)
    dark(procedure)
    detector, starts = bench.spectrometer.detector, []
    start = detector.start

    def stop_at_the_third() -> None:
        starts.append(start())
        if len(starts) == 3:
            procedure.stop_event.set()

    monkeypatch.setattr(detector, "start", stop_at_the_third)
    fluence = procedure.plan(bench.config, load_sample("cdse-cds-zno")).stages[2].settings[0]["fluence_uj_cm2"]
    point = Point(9, stage, {"fluence_uj_cm2": fluence, "exposure_s": 0.01}, 0.0)
    with pytest.raises(Aborted, match="after 3 of"):
        procedure.measure(point)
    assert len(starts) == 3
    assert not bench.pump.shutter.is_open


def test_the_energy_is_read_while_the_camera_exposes(prepared: Prepared, monkeypatch):
    procedure, bench = prepared()
    dark(procedure)
    calls = []
    for thing, name in ((bench.spectrometer.detector, "start"), (bench.spectrometer.detector, "read")):
        monkeypatch.setattr(thing, name, lambda call=getattr(thing, name), name=name: (calls.append(name), call())[1])
    measure = bench.pump.meter.measure
    monkeypatch.setattr(bench.pump.meter, "measure", lambda pulses: (calls.append("energy"), measure(pulses))[1])
    fluence = procedure.plan(bench.config, load_sample("cdse-cds-zno")).stages[2].settings[0]["fluence_uj_cm2"]
    record = procedure.measure(Point(9, "coarse", {"fluence_uj_cm2": fluence}, 0.0))
    procedure.acknowledge(Acknowledged(Point(9, "coarse", {"fluence_uj_cm2": fluence}, 0.0), record.row))
    assert calls[:3] == ["start", "energy", "read"]


def test_a_band_outside_the_window_costs_no_cooling(prepared: Prepared, monkeypatch):
    monkeypatch.setattr("labctl.bench.spectrometer.Spectrometer.start_cooling", lambda *_: pytest.fail("cools"))
    with pytest.raises(InputError, match="holds 0 pixels"):
        prepared(band="500, 510 nm")
