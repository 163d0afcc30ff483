"""Instruments without a wire in a run: simulated operator, and one who is asked through a front."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from drivers.attenuator.ell14 import ELL14
from labctl.clock import RealClock
from labctl.config.bench import load_bench
from labctl.config.locate import locate
from labctl.config.sample import load_sample
from labctl.run.front import run_to_end
from labctl.run.request import RunRequest
from labctl.sim.server import LaboratoryServer
from labctl.store.run import open_run
from labctl.transport.adapter import WireAdapter
from labctl.transport.wire import SocketLink


def at_addresses(folder: Path, addresses: dict, by_hand: str) -> str:
    """Write a bench of plain sockets, one of its instruments without a wire; returns the path."""
    source = locate("benches", "simulated")
    text = source.read_text(encoding="utf-8").split("[laboratory.laser]")[0].split("[instruments.detector]")[0]
    for role, entry in addresses["instruments"].items():
        line = f'driver = "{entry["driver"]}"\nresource = "sim:"'
        wire = f'driver = "{entry["driver"]}"\nresource = "socket://{entry["tcp"]}"'
        text = text.replace(line, 'driver = "manual"\nresource = "operator:"' if role == by_hand else wire)
    path = folder / "bench.toml"
    path.write_text(
        text.replace('"calibrations/', f'"{(source.parent / "calibrations").as_posix()}/'), encoding="utf-8"
    )
    return str(path)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_attenuator_without_a_wire_is_calibrated_by_asking(tmp_path):
    clock, asked = RealClock(), []
    with LaboratoryServer(load_bench("simulated"), load_sample("cdse-cds-zno"), speed=20.0) as addresses:
        host, port = addresses["instruments"]["attenuator"]["tcp"].split(":")
        # The hand that turns the mount: nobody but the operator knows that it has a motor.
        adapter = WireAdapter(lambda: SocketLink(host, int(port)), ELL14.LINK, clock, "hand")
        hand = ELL14(adapter, clock=clock)
        hand.start_up()

        def on_prompt(text: str, answer, wants: str = "") -> None:
            asked.append(text)
            turn = re.search(r"Turn the attenuator to ([\d.]+) deg", text)
            if turn:
                answer(f"{hand.move_to(float(turn[1])):.2f} deg")
            else:
                answer("0.0 deg" if wants else True)

        request = RunRequest(
            procedure="attenuator-calibration",
            bench=at_addresses(tmp_path, addresses, "attenuator"),
            out=str(tmp_path / "runs"),
            parameters={"points": 9, "pulses": 50},
        )
        outcome = run_to_end(request, on_prompt=on_prompt)
        hand.close()
    assert outcome["status"] == "finished", outcome["error"]
    assert outcome["safe_state"] == "confirmed"
    with open_run(outcome["run"]) as run:
        said = [event.data for event in run.events("operator")]
    assert [entry["asked"] for entry in said] == asked
    turned = [entry for entry in said if entry["asked"].startswith("Turn")]
    assert len(turned) >= 9 and all(re.fullmatch(r"[\d.]+ deg", entry["said"]) for entry in turned)


def test_a_simulated_operator_works_the_shutter_and_every_act_is_in_the_run(sweep, tmp_path):
    source = locate("benches", "simulated")
    text = source.read_text(encoding="utf-8").replace('"thorlabs-sc10"', '"manual"')
    path = tmp_path / "bench.toml"
    path.write_text(
        text.replace('"calibrations/', f'"{(source.parent / "calibrations").as_posix()}/'), encoding="utf-8"
    )
    outcome = sweep(bench=str(path), coarse_points=5, fine_points=0, return_points=0)
    assert outcome.status == "finished" and outcome.safe_state == "confirmed"
    with open_run(outcome.run) as run:
        acts = [event.data for event in run.events("operator")]
        points = run.count("points")
    opened = [act for act in acts if "Open the shutter" in act["asked"]]
    assert len(opened) == points + 1 and all(act["by"] == "simulated operator" for act in acts)
