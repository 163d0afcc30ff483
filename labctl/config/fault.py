"""What is wrong with one value, before it is known in which file and line it stands."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class Fault(ValueError):
    """A value that cannot be accepted.

    :param found: What was found, as written.
    :param allowed: What would be accepted.
    :param nearest: The nearest valid name, if the fault looks like a slip of the pen.
    :param key: Keys below the value at fault, e.g. ``("keep_on", 0)``.
    """

    def __init__(self, found: str, allowed: str, *, nearest: str | None = None, key: Sequence[str | int] = ()) -> None:
        text = f"found {found}; allowed: {allowed}"
        super().__init__(f"{text}; did you mean {nearest!r}?" if nearest else text)
        self.found = found
        self.allowed = allowed
        self.nearest = nearest
        self.key = tuple(key)


class Absent(Fault):
    """Something required that is not there; means nothing where part of the file could not be read."""


class Faults(ValueError):
    """Several faults found by one check."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


def nearest_name(name: str, valid: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Get the valid name most like ``name``, whatever the case, or None if none is near."""
    by_lower: dict[str, str] = {}
    for candidate in valid:
        by_lower.setdefault(candidate.lower(), candidate)
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[close[0]] if close else None


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> Fault:
    """Make the fault for a name that is not among the valid ones."""
    names = sorted(valid)
    return Fault(f"{as_toml(name)}, an unknown {kind}", ", ".join(names) or "none", nearest=nearest_name(name, names))


def as_toml(value: Any) -> str:
    """Write a value as it would stand in a TOML file, shortened to one line of at most 80 characters."""
    if isinstance(value, Mapping):
        text = f"a table ({', '.join(str(key) for key in value) or 'empty'})"
    elif isinstance(value, list | tuple):
        text = f"an array of {len(value)}"
    elif isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        text = f'"{printable(escaped)}"'
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, int):
        text = str(value) if value.bit_length() < 256 else "an integer of more than 77 digits"
    else:
        text = str(value)
    return printable(text)


def printable(text: str) -> str:
    """Show text on one line of at most 80 characters."""
    shown = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text[:100])
    return shown if len(shown) <= 80 else shown[:77] + "..."
