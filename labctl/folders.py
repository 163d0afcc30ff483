"""Folders that need not exist yet, and the disk they lie on."""

from __future__ import annotations

import shutil
from pathlib import Path


def nearest_existing(folder: Path) -> Path:
    """Get the folder itself, or what exists of the way to it; absolute. The root, where nothing of it exists."""
    existing = folder.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    return existing


def free_mb(folder: Path) -> float:
    """Get the free space, in MB, of the disk that a folder lies on, or would; raises OSError."""
    return shutil.disk_usage(nearest_existing(folder)).free / 1e6
