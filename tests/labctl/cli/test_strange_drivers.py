"""Drivers of other packages that are wrong in one way or another, and instruments that cannot be left safe."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.shutter.emulators.sc10 import SC10Emulator
from drivers.shutter.sc10 import SC10

BENCH = 'name = "strange"\n[instruments.shutter]\ndriver = "strange"\nresource = "sim:"\n'


class NamedByText(SC10):
    """Says who it is in a text."""

    def identify(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return "SC10"


class OfAnotherRole(SC10):
    """Says that it is something else."""

    ROLE = "shuter"


class WithoutLink(SC10):
    """Does not say what its wire needs."""

    LINK = None  # pyright: ignore[reportAssignmentType]


class JammedOpen(SC10Emulator):
    """A shutter that was left open and jammed."""

    def __init__(self, laboratory, role, options) -> None:
        super().__init__(laboratory, role, {**options, "enabled": True, "stuck": True})


class Faulty(SC10Emulator):
    """An emulator with a fault of its own."""

    def respond(self, t, data):
        raise KeyError("no such command")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Announce a driver ``strange`` with its emulator as an installed package would; writes a bench that uses it."""

    def install(driver: str, emulator: str = f"{SC10Emulator.__module__}:SC10Emulator") -> Path:
        folder = tmp_path / "site" / "strange-1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(
            textwrap.dedent(f"""
            [labctl.drivers]
            strange = {driver}
            [labctl.emulators]
            strange = {emulator}
            """)
        )
        (tmp_path / "site" / "strange_drivers.py").write_text(Path(__file__).read_text(encoding="utf-8"))
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        (tmp_path / "bench.toml").write_text(BENCH)
        return tmp_path / "bench.toml"

    return install


@pytest.mark.parametrize("target", ["not_there:Driver", "drivers.shutter.sc10:SC11"])
def test_one_broken_driver_does_not_hide_the_others(labctl, installed, target):
    installed(target)
    listed = labctl("drivers")
    assert listed.code == 0 and "thorlabs-sc10" in listed.out
    assert f"strange cannot be loaded from {target}" in listed.err
    assert [failure["name"] for failure in labctl("drivers", "--json").json["failures"]] == ["strange"]
    assert f"strange ({target})" in labctl("doctor").out


@pytest.mark.parametrize(
    ("driver", "said", "code"),
    [
        ("NamedByText", "identify() returned 'SC10'", 4),
        ("WithoutLink", "LINK of WithoutLink is None", 4),
        ("OfAnotherRole", "whose ROLE is 'shuter'", 2),
    ],
)
def test_what_is_wrong_with_a_driver_is_said(labctl, installed, driver, said, code):
    bench = installed(f"strange_drivers:{driver}")
    checked = labctl("bench", "check", str(bench))
    assert (checked.code, said in checked.err) == (code, True), checked.err
    assert "fault in labctl" not in checked.err


def test_a_fault_in_an_emulator_is_placed(labctl, installed):
    checked = labctl("bench", "check", str(installed(f"{SC10.__module__}:SC10", "strange_drivers:Faulty")))
    assert "KeyError: 'no such command'" in checked.err and "strange_drivers.py, line" in checked.err


def test_a_shutter_that_is_open_and_does_not_close_is_exit_4(labctl, installed):
    checked = labctl("bench", "check", str(installed(f"{SC10.__module__}:SC10", "strange_drivers:JammedOpen")))
    assert checked.code == 4
    assert "SAFE STATE UNCONFIRMED, go to the bench and look" in checked.err


def test_an_unconfirmed_run_says_so_when_it_is_shown(labctl, bench_with):
    bench = bench_with(("thorlabs-sc10", "uniblitz-vcm-d1"))
    parameters = ("--set", "coarse-points=5", "--set", "fine-points=0", "--set", "return-points=0")
    run = labctl("run", "fluence-sweep", "--bench", bench, "--virtual-time", "--json", *parameters)
    assert (run.code, run.json["safe_state"]) == (4, "unconfirmed")
    shown = labctl("show", run.json["run"])
    assert "SAFE STATE UNCONFIRMED: go to the bench and look" in shown.err and "cannot report its blade" in shown.err


def test_the_result_of_a_run_that_failed_is_marked(labctl, bench_with):
    """The laser is stronger than at the calibration: the last point of the coarse pass comes out beyond the limit."""
    limit, laser = 'fluence = "1 mJ/cm^2"', "energy_uj = 38.0"
    bench = bench_with((limit, 'fluence = "150 uJ/cm^2"'), (laser, "energy_uj = 45.0"))
    failed = labctl("run", "fluence-sweep", "--bench", bench, "--virtual-time")
    assert failed.code == 1, failed.err
    assert "from an incomplete run, failed:" in failed.out
    assert "from an incomplete run, failed:" in labctl("show", failed.out.split("run      ")[1].strip()).out
