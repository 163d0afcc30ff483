"""One module knows the Qt binding, and the rest of labctl none."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[3] / "labctl"


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_only_one_module_names_the_binding() -> None:
    named = {path.name for path in PACKAGE.rglob("*.py") if imported(path) & {"PyQt5", "PyQt6", "PySide6", "pyqtgraph"}}
    assert named == {"qt.py"}


@pytest.mark.parametrize("module", ["view", "follow", "discovery", "standing", "preflight_text"])
def test_what_follows_a_run_needs_no_qt(module: str) -> None:
    code = f"import sys, labctl.gui.{module}; assert 'PyQt5' not in sys.modules and 'pyqtgraph' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("missing", ["PyQt5", "pyqtgraph"])
def test_a_missing_extra_is_named(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from labctl.cli.main import main; main(['gui'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert 'pip install "labctl-bench[gui]"' in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="X and Wayland")
def test_without_a_screen_it_says_so() -> None:
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    code = "from labctl.cli.main import main; main(['gui'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 2
    assert "there is no screen" in done.stderr and "Traceback" not in done.stderr
