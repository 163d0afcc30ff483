"""Bad input: one clear message, exit code 2, nothing moved, nothing lost, no trace."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCH_FAULTS = [
    pytest.param([("[laser]", "[laser]\ncolour = 1")], "laser.colour", id="unknown key"),
    pytest.param([('wavelength = "400 nm"', 'wavelength = "400 J"')], "laser.wavelength", id="wrong unit"),
    pytest.param([('wavelength = "400 nm"', "wavelength = 400")], "laser.wavelength", id="number without unit"),
    pytest.param([('"thorlabs-sc10"', '"thorlabs-sc11"')], "thorlabs-sc10", id="unknown driver"),
    pytest.param([("[laser]", "[laser")], "bench.toml", id="no TOML"),
    pytest.param([("simulated_attenuator.toml", "none.toml")], "none.toml", id="no calibration"),
    pytest.param(
        [('[instruments.shutter]\ndriver = "thorlabs-sc10"\nresource = "sim:"', "")],
        "[instruments.shutter]",
        id="missing role",
    ),
    pytest.param([('disk_reserve = "200 MB"', 'disk_reserve = "1000000 TB"')], "limits.disk_reserve", id="disk full"),
    pytest.param([('fluence = "1 mJ/cm^2"', 'fluence = "10 uJ/cm^2"')], "limits.fluence", id="beyond the limit"),
    pytest.param([("energy_uj = 38.0", 'energy_uj = "much"')], "energy_uj", id="laboratory: text for a number"),
]


@pytest.mark.parametrize(("replacements", "named"), BENCH_FAULTS)
def test_faults_of_a_bench(labctl, bench_with, replacements, named):
    said = labctl("plan", "fluence-sweep", "--bench", bench_with(*replacements), "--json")
    assert said.code == 2
    assert named in said.out
    assert "Traceback" not in said.err
    assert not Path("runs").exists()


SAMPLE_FAULTS = [
    pytest.param([('expected_threshold = "28 uJ/cm^2"', 'expected_threshold = "high"')], "threshold", id="sample"),
    pytest.param([("kappa = 1.447", 'kappa = "big"')], "kappa", id="truth"),
    pytest.param([("kappa = 1.447", "kapa = 1.447")], "kapa", id="truth: unknown key"),
]


@pytest.mark.parametrize(("replacements", "named"), SAMPLE_FAULTS)
def test_faults_of_a_sample(labctl, sample_with, replacements, named):
    sample = sample_with(*replacements)
    said = labctl("plan", "fluence-sweep", "--bench", "simulated", "--sample", sample, "--json")
    assert (said.code, said.json["exit"]) == (2, 2)
    assert named in said.out
    assert "sample.toml" in said.out


PLAN = ["plan", "fluence-sweep", "--bench", "simulated"]
ARGUMENTS = [
    pytest.param(["plan", "fluence-swep", "--bench", "simulated"], "fluence-sweep", id="procedure"),
    pytest.param(["plan", "fluence-sweep", "--bench", "simulatd"], "simulated", id="bench"),
    pytest.param([*PLAN, "--sample", "cdse-cds-zn"], "cdse-cds-zno", id="sample"),
    pytest.param([*PLAN, "--set", "averagse=3"], "averages", id="parameter"),
    pytest.param([*PLAN, "--set", "expected-threshold=28"], "unit", id="value without unit"),
    pytest.param([*PLAN, "--set", "averages"], "NAME=VALUE", id="no value"),
    pytest.param([*PLAN, "--set", "averages=3", "--set", "averages=4"], "a second time", id="twice"),
    pytest.param(["demo", "--seed", "-1"], "--seed", id="negative seed"),
    pytest.param(["demo", "--seed", "9" * 30], "seed", id="huge seed"),
    pytest.param(["nonsense"], "nonsense", id="command"),
    pytest.param(["show", "nothing"], "nothing", id="run"),
    pytest.param(["note", "nothing", "text"], "nothing", id="run to note"),
    pytest.param(["analyse", "nothing"], "nothing", id="run to analyse"),
    pytest.param(["report", "nothing"], "nothing", id="run to report"),
    pytest.param(["abort", "nothing"], "nothing", id="run to abort"),
    pytest.param(["runs", "nothing"], "nothing", id="folder"),
    pytest.param(["sim", "serve", "simulated", "--speed", "0"], "speed", id="speed"),
]


@pytest.mark.parametrize(("arguments", "named"), ARGUMENTS)
def test_faults_of_a_command_line(labctl, arguments, named):
    as_object = labctl(*arguments, "--json")
    assert (as_object.code, as_object.json["exit"]) == (2, 2)
    assert named in as_object.out
    for_people = labctl(*arguments)
    assert for_people.code == 2
    assert for_people.out == ""
    assert named in for_people.err
    assert "Traceback" not in for_people.err + as_object.err


def test_a_plan_beyond_the_reach_of_the_bench_is_shown_and_refused(labctl):
    arguments = [*PLAN, "--set", "fluences=10, 20, 5000 uJ/cm^2"]
    as_object = labctl(*arguments, "--json")
    assert (as_object.code, as_object.json["exit"]) == (2, 2)
    unreachable, beyond_the_limit = as_object.json["refusals"][:2]
    assert "cannot be set" in unreachable and "limits.fluence" in beyond_the_limit
    for_people = labctl(*arguments)
    assert for_people.code == 2 and "listed" in for_people.out
    assert unreachable in for_people.err and beyond_the_limit in for_people.err


@pytest.mark.parametrize("detach", [[], ["--detach"]], ids=["foreground", "detached"])
def test_a_refused_run_leaves_nothing_behind(labctl, bench_with, detach):
    bench = bench_with(("[laser]", "[laser]\ncolour = 1"))
    said = labctl("run", "fluence-sweep", "--bench", bench, "--virtual-time", "--json", *detach)
    assert (said.code, said.json["status"], said.json["safe_state"]) == (2, "refused", "not-needed")
    assert "laser.colour" in said.json["error"]["what"]
    assert not Path("runs").exists()


def test_virtual_time_needs_emulators(labctl, bench_with):
    bench = bench_with(('driver = "thorlabs-sc10"\nresource = "sim:"', 'driver = "thorlabs-sc10"\nresource = "COM7::"'))
    assert labctl("run", "fluence-sweep", "--bench", bench, "--virtual-time", "--json").code == 2


def test_out_that_is_a_file_is_left_alone(labctl):
    Path("runs").write_text("mine")
    said = labctl("demo", "--json")
    assert (said.code, said.json["status"]) == (2, "refused")
    assert Path("runs").read_text() == "mine"


@pytest.mark.parametrize("command", [("show",), ("abort",), ("analyse",), ("run", "--resume"), ("run", "--again")])
@pytest.mark.parametrize("run", ["", ".", "notes.txt", "notes.h5"])
def test_what_is_no_run(labctl, tmp_path, command, run):
    (tmp_path / "notes.txt").write_text("no run")
    (tmp_path / "notes.h5").write_text("no run")
    said = labctl(*command, run)
    if command[0] == "run" or not run.endswith(".h5"):
        assert said.code == 2
        assert "nothing was moved" in said.err
    else:
        assert said.code in (1, 2)
    assert "Traceback" not in said.err and "fault in labctl" not in said.err
