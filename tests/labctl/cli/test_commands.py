"""Every command for real, for people and as an object."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from labctl.cli.main import app, main

COMMANDS = ["demo", "run", "plan", "analyse", "report", "show", "runs", "note", "abort", "export", "procedures"]
COMMANDS += ["pause", "continue", "alter", "campaign", "dose"]
COMMANDS += ["drivers", "samples", "doctor", "init", "gui", "bench check", "bench safe", "bench schema", "sim serve"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(labctl, command):
    said = labctl(*command.split(), "--help")
    assert said.code == 0
    assert "Usage: labctl" in said.out


def test_all_commands_are_tested():
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert names == {command for command in COMMANDS if " " not in command}


@pytest.mark.parametrize("arguments", [[], ["bench"], ["sim"]])
def test_help_is_shown_where_a_command_is_wanted(labctl, arguments):
    said = labctl(*arguments)
    assert (said.code, said.err) == (0, "")
    assert "Commands:" in said.out


def test_demo_and_what_can_be_done_with_its_run(labctl):
    said = labctl("demo", "--json")
    assert said.code == 0, said.err
    outcome = said.json
    assert {"run", "status", "safe_state", "points", "result", "warnings", "simulated"} <= set(outcome)
    assert (outcome["status"], outcome["safe_state"], outcome["simulated"]) == ("finished", "confirmed", True)
    assert outcome["result"]["threshold"]["value"] == pytest.approx(28.0, rel=0.08)
    assert said.err == ""
    run = outcome["run"]

    shown = labctl("show", run)
    assert shown.out.startswith("threshold")
    assert "µJ/cm²" in shown.out
    assert " ± " in shown.out
    assert "SIMULATED" in shown.out
    assert "finished: 45 of 45 points; safe state confirmed" in shown.out
    assert not [line for line in shown.out.splitlines() if line.endswith(" 1")], "a pure number has no unit"
    assert labctl("show", run, "--json").json["status"] == "finished"

    assert labctl("note", run, "the lamp was on").code == 0
    assert labctl("show", run, "--json").json["notes"][0]["text"] == "the lamp was on"
    assert labctl("note", run, " ", "--json").code != 0

    before = Path(run).read_bytes()
    assert labctl("export", run, "--to", "csv", "-o", "points.csv").code == 0
    exported = Path("points.csv").read_bytes()
    for arguments in (["export", run, "--to", "csv", "-o", "points.csv"], ["report", run, "-o", "points.csv"]):
        assert labctl(*arguments, "--json").code == 2
    assert labctl("export", run, "--to", "parquet", "-o", "points.parquet", "--json").code == 2
    assert Path("points.csv").read_bytes() == exported
    assert Path(run).read_bytes() == before

    assert labctl("report", run, "-o", "page.html", "--json").json["files"]["page"].endswith("page.html")
    again = labctl("analyse", run, "--json").json
    assert again["result"]["threshold"]["value"] == outcome["result"]["threshold"]["value"]
    listed = labctl("runs", "--json").json["runs"]
    assert [(entry["status"], entry["points"]) for entry in listed] == [("finished", 35)]
    assert "fluence-sweep" in labctl("runs").out
    assert labctl("abort", run, "--json").code == 2, "it has ended"


def test_a_run_shown_to_people(labctl):
    said = labctl("run", "fluence_sweep", "--bench", "simulated", "--virtual-time", "--set", "fine_points=0")
    lines = said.out.splitlines()
    assert lines[0] == "SIMULATED: emulators, not instruments"
    assert lines[1].startswith("threshold")
    assert "finished: 21 of 21 points; safe state confirmed" in lines
    assert lines[-1].startswith("run ")
    assert "coarse (10 of at most 21 points)" in said.err


def test_lists_of_what_there_is(labctl):
    (sweep,) = [p for p in labctl("procedures", "--json").json["procedures"] if p["name"] == "fluence-sweep"]
    assert sweep["parameters"]["expected-threshold"]["units"] == "uJ/cm^2"
    assert "thorlabs-sc10" in labctl("drivers").out
    assert {driver["role"] for driver in labctl("drivers", "--json").json["drivers"]} >= {"shutter", "detector"}
    assert "cdse-cds-zno" in labctl("samples", "--json").json["samples"]
    assert labctl("doctor", "--json").json["healthy"] is True
    assert json.loads(labctl("bench", "schema").out)["properties"]


def test_plan_opens_nothing_and_says_what_would_happen(labctl):
    said = labctl("plan", "fluence-sweep", "--bench", "simulated")
    assert "at most 45 points" in said.out
    assert labctl("plan", "fluence-sweep", "--bench", "simulated", "--json").json["plan"]["max_points"] == 45
    assert not Path("runs").exists()


def test_bench_check_and_safe(labctl):
    checked = labctl("bench", "check", "simulated", "--json").json
    assert checked["safe_state"] == "confirmed"
    assert checked["instruments"]["shutter"]["model"] == "SC10"
    safe = labctl("bench", "safe", "simulated")
    assert (safe.code, safe.out.splitlines()[-1]) == (0, "safe state not-needed")


def test_init_makes_a_folder_that_runs_and_leaves_files_alone(labctl):
    assert labctl("init", "mine", "--json").json["kept"] == []
    Path("mine/sample.toml").write_text("mine")
    assert labctl("init", "mine", "--json").json["written"] == []
    assert Path("mine/sample.toml").read_text() == "mine"
    assert labctl("plan", "fluence-sweep", "--bench", "mine/bench.toml", "--json").code == 0
    assert labctl("init", "mine/sample.toml", "--json").code == 2


def test_a_fault_of_labctl_itself_is_still_one_object(labctl, monkeypatch):
    def fail(*_: object, **__: object) -> int:
        raise ZeroDivisionError("made on purpose")

    monkeypatch.setattr("labctl.cli.catalogue.drivers", fail)
    said = labctl("drivers", "--json")
    assert (said.code, said.json["exit"]) == (1, 1)
    assert "made on purpose" in said.json["error"]["what"]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_sim_serve_serves_until_it_is_ended():
    command = [sys.executable, "-m", "labctl.cli.main", "sim", "serve", "simulated", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        served = json.loads(server.stdout.readline())
        assert set(served["instruments"]) == {"attenuator", "shutter", "energy_meter", "spectrograph", "detector"}
        assert served["instruments"]["shutter"]["tcp"].startswith("127.0.0.1:")
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=20) == 0


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_whoever_stops_reading_does_no_harm(tmp_path):
    command = [sys.executable, "-m", "labctl.cli.main", "bench", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 0


def test_main_exits(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code in (0, None)
