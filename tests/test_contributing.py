"""The guide is true: it quotes the example package as it is, and the package does what the guide says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "tests" / "neighbour"
QUOTES = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", GUIDE, flags=re.DOTALL)
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"```console\n(.*?)```", GUIDE, flags=re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.parametrize(("path", "text"), QUOTES, ids=[path for path, _ in QUOTES])
def test_the_guide_quotes_the_file_as_it_is(path, text):
    assert text.rstrip() == (ROOT / path).read_text(encoding="utf-8").rstrip()


def test_the_guide_quotes_the_whole_package():
    code = {path for path in PACKAGE.rglob("*") if path.suffix in {".py", ".toml"} and path.name != "__init__.py"}
    assert {ROOT / path for path, _ in QUOTES} == {path for path in code if "build" not in path.parts}


def test_the_guide_links_to_what_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", GUIDE)
    assert links and [link for link in links if not (ROOT / link).exists()] == []


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> dict[str, str]:
    """Install the package into a folder of its own; returns the environment in which it is found."""
    folder = tmp_path_factory.mktemp("neighbour")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(folder), str(PACKAGE)], check=True, timeout=100, capture_output=True)
    return {**os.environ, "PYTHONPATH": str(folder)}


def test_the_tests_of_the_package_pass(installed):
    pytest_here = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", "."]
    done = subprocess.run(
        [*pytest_here, "tests"], cwd=PACKAGE, env=installed, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_commands_of_the_guide_work(installed, tmp_path):
    assert COMMANDS[0][:2] == ["pip", "install"]
    said = {}
    for program, *arguments in COMMANDS[1:]:
        assert program == "labctl"
        command = [sys.executable, "-m", "labctl.cli.main", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=installed, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        said[" ".join(arguments)] = done.stdout
    assert "acme-hygro" in said["drivers"]
    assert "ACME, Hygro 2, A-17" in said["bench check neighbour"] and "confirmed" in said["bench check neighbour"]
    (humidity,) = (text for command, text in said.items() if command.startswith("run humidity-log"))
    assert re.search(r"humidity +43\.\d+ ± 0\.0\d+ %", humidity)
    assert "humidity-log" in said["runs"]
