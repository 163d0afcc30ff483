"""A laboratory that outlives the runs on it, and the bench file that leads to it."""

from __future__ import annotations

from pathlib import Path

from labctl.bench.bench import Bench
from labctl.clock import VirtualClock
from labctl.config.bench import load_bench, parse_bench
from labctl.config.locate import list_shipped, locate
from labctl.run.kept_laboratory import KeptLaboratory, served_text


def test_every_shipped_bench_can_lead_to_a_served_laboratory() -> None:
    for name in list_shipped("benches"):
        path = locate("benches", name)
        served = parse_bench(served_text(path, "127.0.0.1:4711"), "served.toml")
        own = load_bench(path)
        assert {entry.resource for entry in served.instruments.values()} == {"sim+tcp://127.0.0.1:4711"}
        assert served.laboratory is not None
        assert served.laboratory.data == {"served_at": "127.0.0.1:4711"}
        assert (served.pump, served.limits, served.places) == (own.pump, own.limits, own.places)


def test_what_was_done_in_one_visit_is_there_in_the_next(tmp_path: Path) -> None:
    with KeptLaboratory("simulated-gain", None, 0, tmp_path / "gain.toml") as laboratory:
        config = load_bench(laboratory.start())
        with Bench.open(config, VirtualClock(), roles=["slit_far"]) as bench:
            bench.slit.place_far(2.1)
        with Bench.open(config, VirtualClock(3600.0), roles=["slit_far"]) as bench:
            assert abs(bench.slit.far.position_mm - 2.1) < 0.01


def test_it_ends_with_whoever_started_it(tmp_path: Path) -> None:
    laboratory = KeptLaboratory("simulated", None, 0, tmp_path / "served.toml")
    laboratory.start()
    process = laboratory._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(20.0) == 0
    laboratory.stop()
