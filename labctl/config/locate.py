"""Finds configuration files: a path, or the name of a file that ships with labctl or another installed package."""

from __future__ import annotations

from contextlib import suppress
from importlib.resources import files
from pathlib import Path

from labctl.config.fault import as_toml, nearest_name
from labctl.errors import ConfigError, Problem
from labctl.installed import entry_points

CONFIGS = "labctl.configs"
"""Entry-point group of a package that ships benches and samples: the package with the folders of these names in it."""


def shipped_folder(kind: str) -> Path:
    """Get the folder of labctl's own ``benches``, ``samples`` or ``campaigns``.

    A wheel carries them inside the package; a source tree has them beside it.
    """
    package = Path(str(files("labctl")))
    inside = package / "configs" / kind
    return inside if inside.is_dir() else package.parent / "configs" / kind


def list_shipped(kind: str) -> list[str]:
    """Get the names of the shipped files of a kind, sorted."""
    return sorted(_shipped(kind))


def _shipped(kind: str) -> dict[str, Path]:
    """Get the shipped files of a kind by name; one of labctl's own hides another package's of the same name."""
    folders = [Path(str(files(entry.value))) / kind for entry in entry_points(group=CONFIGS)]
    paths = [path for folder in (*folders, shipped_folder(kind)) for path in sorted(folder.glob("*.toml"))]
    return {path.stem: path for path in paths}


def locate(kind: str, name_or_path: str | Path) -> Path:
    """Find a file by the name of a shipped one or by its path; a bare name that is shipped means the shipped file.

    :raises ConfigError: there is no such file; names the nearest shipped one.
    """
    text = str(name_or_path)
    shipped = _shipped(kind)
    if text in shipped:
        return shipped[text]
    path = Path(name_or_path)
    with suppress(OSError, ValueError, RuntimeError):  # no name for a file; a home that nobody has
        path = path.expanduser()
        if path.is_file():
            return path
    allowed = f"the path of a TOML file, or one of the shipped {kind}: {', '.join(sorted(shipped)) or 'none'}"
    near = nearest_name(path.stem, shipped)
    raise ConfigError([Problem(text, None, kind, f"{as_toml(text)}, which is no file", allowed, near)])
