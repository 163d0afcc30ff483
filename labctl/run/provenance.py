"""Provenance: what one would need to repeat a run or to doubt it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

_PACKAGES = ("labctl-bench", "pymeasure", "numpy", "scipy", "h5py", "pyvisa", "pyserial", "pydantic")
_GIT_TIMEOUT_S = 5.0
_MAX_DIFF = 200_000


def provenance(configs: dict[str, str], calibrations: dict[str, str], seed: int) -> dict[str, Any]:
    """Collect versions, commit and uncommitted diff, the full text of all files, and the seed."""
    return {
        "versions": {"python": sys.version.split()[0], **{name: _version(name) for name in _PACKAGES}},
        "platform": platform.platform(),
        "host": platform.node(),
        "user": os.environ.get("USER") or os.environ.get("USERNAME") or "",
        "git": _git(Path(__file__).resolve().parents[2]),
        "files": configs,
        "calibrations": calibrations,
        "seed": seed,
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _git(folder: Path) -> dict[str, Any]:
    """Get commit and diff of the checkout labctl runs from; empty when it runs from an installed package."""
    program = shutil.which("git")
    if program is None or not (folder / ".git").exists():
        return {}

    def ask(*arguments: str) -> str:
        done = subprocess.run(
            [program, "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_GIT_TIMEOUT_S,
            check=True,
        )
        return done.stdout

    try:
        diff = ask("diff", "HEAD", "--no-ext-diff", "--no-textconv")
        return {
            "commit": ask("rev-parse", "HEAD").strip(),
            "diff": diff[:_MAX_DIFF],
            "diff_truncated": len(diff) > _MAX_DIFF,
        }
    except (OSError, subprocess.SubprocessError):
        return {}
