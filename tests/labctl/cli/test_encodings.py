"""What the commands print where the output knows no µ, ± or ², and what a keyboard that ends means."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from labctl.cli import output
from labctl.cli.progress import given

LABCTL = [sys.executable, "-m", "labctl.cli.main"]
LETTERS = "28 µJ/cm² ± 0.3 – λ ≤ 632 nm, Ångström, 量子"


def run(encoding: str, *arguments: str, folder: Path) -> tuple[bytes, bytes]:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run([*LABCTL, *arguments], capture_output=True, cwd=folder, env=environment, timeout=100)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr and b"UnicodeEncodeError" not in done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    "encoding", ["ascii", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cp1252", "utf-8"))]
)
def test_every_command_prints_in_every_encoding(encoding: str, tmp_path: Path) -> None:
    """Paths and numbers of the JSON object arrive whole; on a screen what the encoding lacks becomes a ?."""
    folder = tmp_path / "Messungen Ä 量子"
    folder.mkdir()
    stdout, _ = run(encoding, "demo", "--json", folder=folder)
    assert stdout.count(b"\n") == 1
    outcome = json.loads(stdout.decode("utf-8" if encoding == "utf-8" else "ascii"))
    assert Path(outcome["run"]).is_file()
    for command in (["show", outcome["run"]], ["runs"], ["plan", "fluence-sweep", "--bench", "simulated"]):
        shown, _ = run(encoding, *command, folder=folder)
        assert shown.decode(encoding)


@pytest.mark.parametrize(
    "command", [["procedures"], ["drivers"], ["samples"], ["doctor"], ["--help"], ["run", "--help"]]
)
def test_the_lists_print_in_ascii(command: list[str], tmp_path: Path) -> None:
    shown, _ = run("ascii", *command, folder=tmp_path)
    assert shown.decode("ascii")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8", "UTF8"])
def test_a_json_object_is_utf_8_or_plain_ascii(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    output.print_json({"text": LETTERS})
    written = stream.buffer.getvalue()  # type: ignore[attr-defined]
    assert json.loads(written.decode("utf-8")) == {"text": LETTERS}
    assert written.isascii() != encoding.lower().startswith("utf")


def test_a_program_without_a_console_prints_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    output.show(LETTERS)
    output.say(LETTERS)
    output.print_json({"a": 1})


@pytest.mark.parametrize(
    ("line", "wanted", "answer"),
    [
        ("\n", False, True),
        ("\r\n", False, True),
        ("no\n", False, False),
        ("", False, False),
        ("", True, False),
        ("\n", True, False),
        (" 12.5 \n", True, "12.5"),
        ("12.", True, False),
    ],
)
def test_a_keyboard_that_ends_says_no(line: str, wanted: bool, answer: bool | str) -> None:
    """On Windows Ctrl-C ends the line that is being read: nobody has done what was asked for."""
    assert given(line, wanted) == answer
