"""Configuration is data: a file that names code has none of it run, imported or opened.

One thing is meant to name code: ``resource = "sdk:FILE"`` is the vendor's library of an instrument, which its driver
loads in a process of its own when the bench is opened. Reading, checking and planning do not touch it, and a Python
file cannot be named there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.config.bench import parse_bench
from labctl.config.calibration import load_calibration
from labctl.config.campaign import load_campaign
from labctl.config.locate import shipped_folder
from labctl.config.sample import load_sample
from labctl.errors import InputError, LabctlError
from labctl.run.preflight import preflight
from labctl.run.queue import run_queue
from labctl.run.request import RunRequest, prepare
from labctl.transport.settings import LibrarySettings
from labctl.transport.vendor import library_files

CANARY = """\
from pathlib import Path
Path({grave!r}).write_text("dead")
class Driver:
    def __init__(self, *arguments): Path({grave!r}).write_text("dead")
    __call__ = call = load = open = __init__
make = touch = Procedure = Driver
"""
NAMES = (
    *("canary:Driver", "canary:touch", "canary.Driver", "canary", "./canary.py", "../canary.py", "{folder}/canary.py"),
    *("{folder}/canary.py:make", "python:{folder}/canary.py:make", "sdk:python:{folder}/canary.py:make"),
    *("sdk:{folder}/canary.py", "sdk:canary:Driver", "sdk:../../canary", "sim:canary:Driver", "canary://x", "canary:x"),
    *("os:system", "os.system:touch", "builtins:eval", "package.module:Class", "file://{folder}/canary.py"),
    *(
        "__import__('canary')",
        "1 __import__('canary')",
        "1 mm if __import__('canary') else 1",
        "{{{{canary.touch()}}}}",
    ),
    *(
        "${{canary}}",
        "$(touch {grave})",
        "`touch {grave}`",
        "; touch {grave}",
        "| touch {grave}",
        "!!python/name:canary",
    ),
    *("!!python/object/apply:os.system ['touch {grave}']", "%(canary)s", "cos\\nsystem\\n(S'touch {grave}'\\ntR."),
)
ONE_RUN = """\
name = "one run"
on_failure = "stop"
[[run]]
procedure = "fluence-sweep"
bench = "simulated"
sample = "cdse-cds-zno"
[run.parameters]
coarse-points = 6
"""
KINDS = {
    "benches/simulated.toml": (
        "driver",
        "resource",
        "attenuator",
        "default_sample",
        "keep_on",
        "wavelength",
        "grating",
    ),
    "samples/cdse-cds-zno.toml": ("name", "expected_pl", "kappa", "cross_section", "gain_law"),
    "benches/calibrations/simulated_attenuator.toml": ("instrument", "wavelength", "source_run", "date"),
    "campaigns/one-run.toml": ("procedure", "bench", "sample", "on_failure", "coarse-points"),
}


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that could be imported from here, and that leaves a trace if it is; returns where the trace would be."""
    grave = tmp_path / "grave"
    (tmp_path / "canary.py").write_text(CANARY.format(grave=str(grave)), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "canary", raising=False)
    return grave


def named(name: str, grave: Path) -> str:
    return name.format(folder=grave.parent.as_posix(), grave=grave.as_posix())


def alive(grave: Path) -> bool:
    return not grave.exists() and "canary" not in sys.modules


def test_the_canary_would_tell(canary: Path) -> None:
    assert alive(canary)
    __import__("canary")
    assert canary.exists()


def refused(read: Callable[[], object]) -> bool:
    try:
        read()
    except LabctlError:
        return True
    return False


@pytest.mark.parametrize(("file", "keys"), KINDS.items(), ids=lambda part: part if isinstance(part, str) else "")
def test_names_of_code_are_only_names(canary: Path, file: str, keys: tuple[str, ...]) -> None:
    shipped = shipped_folder("benches").parent
    text = ONE_RUN if file.startswith("campaigns") else (shipped / file).read_text(encoding="utf-8")
    calibrations = (shipped / "benches" / "calibrations").as_posix()
    text = text.replace('"calibrations/', f'"{calibrations}/')
    path = canary.with_name("named.toml")
    for key in keys:
        rows = [row for row in text.splitlines() if row.split("=")[0].strip() == key]
        assert rows or key == "gain_law", key
        for name in NAMES:
            value = named(name, canary)
            changed = text.replace(rows[0], f'{key} = "{value}"') if rows else f'{text}\n{key} = "{value}"\n'
            path.write_text(changed, encoding="utf-8")
            assert read_all(file, path, changed) or key in (
                "default_sample",
                "name",
                "instrument",
                "source_run",
                "resource",
            )
            assert alive(canary), (key, value)


def read_all(file: str, path: Path, text: str) -> bool:
    """Read, check and plan with a file; returns whether it was refused anywhere."""
    out = str(path.with_name("runs"))
    if file.startswith("samples"):
        asked = RunRequest(procedure="fluence-sweep", bench="simulated", sample=str(path), out=out)
        return refused(lambda: load_sample(path)) or refused(lambda: preflight(prepare(asked)))
    if "calibrations" in file:
        return refused(lambda: load_calibration(path))
    if file.startswith("campaigns"):

        def run_one(run: object, request: object, on_event: object) -> dict[str, object]:
            return {"status": "finished", "exit": 0, "safe_state": "confirmed", "run": ""}

        return refused(lambda: run_queue(load_campaign(path), out=out, run_one=run_one))
    asked = RunRequest(procedure="fluence-sweep", bench=str(path), out=out)
    return refused(lambda: parse_bench(text, "x", check_drivers=True)) or refused(lambda: preflight(prepare(asked)))


@pytest.mark.parametrize("name", NAMES)
def test_a_procedure_is_one_of_those_that_are_registered(canary: Path, name: str) -> None:
    asked = RunRequest(procedure=named(name, canary), bench="simulated", out=str(canary.with_name("runs")))
    with pytest.raises(InputError, match="there is no procedure"):
        prepare(asked)
    assert alive(canary)


@pytest.mark.parametrize("option", ["canary", "__class__", "__init__", "adapter", "library", "factory"])
def test_options_are_those_of_the_driver(canary: Path, option: str) -> None:
    text = (shipped_folder("benches") / "simulated.toml").read_text(encoding="utf-8")
    text += f'\n[instruments.shutter.options]\n{option} = "canary:Driver"\n'
    assert refused(lambda: parse_bench(text, "x", check_drivers=True))
    assert alive(canary)


@pytest.mark.parametrize("name", ["python:{folder}/canary.py:make", "python:canary.py:make", "python:canary:make"])
def test_a_library_is_no_python_file(canary: Path, name: str) -> None:
    """The process of a library takes ``python:FILE:FACTORY`` from tests; no bench file can have it do so."""
    for settings in (LibrarySettings("Camera", {}, {}), LibrarySettings("Camera", {sys.platform: ("usual.so",)}, {})):
        try:
            files = library_files(settings, f"sdk:{named(name, canary)}")
        except InputError:
            continue
        assert files == ("usual.so",)
    assert alive(canary)
