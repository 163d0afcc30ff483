from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from labctl.config.locate import list_shipped, locate, shipped_folder
from labctl.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]


def test_shipped_files_of_the_source_tree() -> None:
    assert shipped_folder("benches") == ROOT / "configs" / "benches"
    assert "simulated" in list_shipped("benches")
    assert {"cdse-cds-zno", "cdse-cds-zno-fragile"} <= set(list_shipped("samples"))
    assert locate("benches", "simulated") == ROOT / "configs" / "benches" / "simulated.toml"


def test_a_path_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.toml"
    path.write_text("", encoding="utf-8")
    assert locate("benches", path) == path
    assert locate("benches", str(path)) == path
    monkeypatch.chdir(tmp_path)
    assert locate("benches", "own.toml") == Path("own.toml")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert locate("benches", "~/own.toml") == path


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("simulatd", "simulated"), ("some/where/simulate.toml", "simulated"), ("xyz", None), ("", None)],
)
def test_what_is_not_there(name: str, nearest: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        locate("benches", name)
    (problem,) = caught.value.problems
    assert problem.nearest == nearest
    assert "simulated" in problem.allowed


@pytest.mark.parametrize("name", ["\x00", "a" * 5000, "../benches", "~nobody-of-that-name/x.toml", "~", "/dev/null"])
def test_names_that_are_no_paths(name: str) -> None:
    with pytest.raises(ConfigError):
        locate("benches", name)


@pytest.mark.slow
def test_shipped_files_of_a_wheel(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="the build backend is not installed")
    tree = tmp_path / "tree"
    ignore = shutil.ignore_patterns(".git", "__pycache__", ".*_cache", "dist", "runs", "tests")
    shutil.copytree(ROOT, tree, ignore=ignore)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel"], cwd=tree, check=True, capture_output=True
    )
    (wheel,) = (tree / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import labctl.config.locate as l; from labctl.config.bench import load_bench;"
        "from labctl.config.sample import load_sample;"
        "print(l.shipped_folder('benches')); print(load_bench('simulated', check_drivers=False).name);"
        "print(*[load_sample(name).sample.name for name in l.list_shipped('samples')]);"
        "from labctl.config.campaign import load_campaign; print(load_campaign('simulated-films').name)"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    folder, bench, samples, campaign = run.stdout.splitlines()
    assert Path(folder) == tmp_path / "site" / "labctl" / "configs" / "benches"
    assert bench == "simulated"
    assert samples.split() == list_shipped("samples")
    assert campaign == "simulated films"
