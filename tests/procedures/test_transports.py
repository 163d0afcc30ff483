"""The same sweep over every way to the emulators gives the same rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labctl.config.bench import load_bench
from labctl.config.locate import locate
from labctl.config.sample import load_sample
from labctl.run.front import run_to_end
from labctl.run.request import RunRequest
from labctl.sim.server import LaboratoryServer
from labctl.store.run import open_run

# Read off the client's clock: the same in virtual time, a fraction of it where the laboratory runs faster than we do.
MEASURED_TIMES = {"t_s", "wall_s", "open_s", "dose_j_cm2"}


def bench_at(folder: Path, addresses: dict, *, raw: bool) -> str:
    """Write the shipped bench with its resources elsewhere and nothing else changed; returns the path."""
    framed = addresses["laboratory"]["tcp"]
    source = locate("benches", "simulated")
    text = source.read_text(encoding="utf-8").split("[laboratory.laser]")[0]
    for role, entry in addresses["instruments"].items():
        # The camera is a vendor library: its calls go over the framed port.
        resource = f"socket://{entry['tcp']}" if raw and role != "detector" else f"sim+tcp://{framed}"
        line = f'driver = "{entry["driver"]}"\nresource = "sim:"'
        assert line in text
        text = text.replace(line, line.replace("sim:", resource))
    calibrations = (source.parent / "calibrations").as_posix()
    text = text.replace('"calibrations/', f'"{calibrations}/') + f'\n[laboratory]\nserved_at = "{framed}"\n'
    path = folder / f"bench-{'raw' if raw else 'framed'}.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def assert_same_rows(path: str, other: str, *, except_for: set[str]) -> None:
    with open_run(path) as run, open_run(other) as again:
        assert set(run.streams) == set(again.streams)
        for stream in run.streams:
            columns, others = run.columns(stream), again.columns(stream)
            for name in columns:
                if name not in except_for:
                    assert np.array_equal(columns[name], others[name], equal_nan=columns[name].dtype.kind == "f"), name
            spectra = [np.asarray(one.array("spectrum", stream)) for one in (run, again)]
            assert np.array_equal(*spectra)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_rows_do_not_depend_on_the_transport(sweep, tmp_path):
    bench, sample = load_bench("simulated"), load_sample("cdse-cds-zno")
    here = sweep(seed=0)
    with LaboratoryServer(bench, sample, seed=0) as addresses:
        elsewhere = sweep(bench=bench_at(tmp_path, addresses, raw=False), seed=0)
    assert elsewhere.status == "finished", elsewhere.error
    assert_same_rows(here.run, elsewhere.run, except_for={"wall_s", "t_s"})
    with LaboratoryServer(bench, sample, seed=0, speed=20.0) as addresses:
        scaled = sweep(bench=bench_at(tmp_path, addresses, raw=True), seed=0, virtual_time=False)
    assert scaled.status == "finished", scaled.error
    assert scaled.safe_state == "confirmed"
    assert_same_rows(here.run, scaled.run, except_for=MEASURED_TIMES)
    assert scaled.result["threshold"]["value"] == here.result["threshold"]["value"]


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("confirm", [True, False])
def test_an_operator_is_asked_where_no_laboratory_can_help(tmp_path, confirm):
    """Plain sockets and no [laboratory]: to labctl a real bench, whose operator has to block the beam."""
    asked = []

    def on_prompt(text: str, answer, wants: str = "") -> None:
        asked.append(text)
        answer(confirm)

    with LaboratoryServer(load_bench("simulated"), load_sample("cdse-cds-zno"), speed=20.0) as addresses:
        path = Path(bench_at(tmp_path, addresses, raw=True))
        text = path.read_text(encoding="utf-8").split("[instruments.detector]")[0]
        path.write_text(text, encoding="utf-8")
        request = RunRequest(
            procedure="attenuator-calibration",
            bench=str(path),
            out=str(tmp_path / "runs"),
            parameters={"points": 9, "pulses": 50},
        )
        outcome = run_to_end(request, on_prompt=on_prompt)
    assert outcome["safe_state"] == "confirmed"
    assert not outcome["simulated"]
    assert outcome["status"] == ("finished" if confirm else "aborted"), outcome["error"]
    assert len(asked) == (2 if confirm else 1)
    with open_run(outcome["run"]) as run:
        assert [event.data["confirmed"] for event in run.events("operator")] == [confirm] * len(asked)
