"""Roles and drivers by name: what is installed, and whether a driver takes its role and its options."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

from pydantic import BaseModel

from labctl.config.fault import unknown_name
from labctl.config.problems import check_table
from labctl.config.toml_lines import TomlLines, dotted
from labctl.errors import Problem
from labctl.installed import entry_points
from labctl.roles import ROLES

DRIVERS = "labctl.drivers"
TRANSPORTS = "labctl.transports"
ROLE_PROTOCOLS = "labctl.roles"
"""Entry-point group of a package that adds a role: its name, and the Protocol that a driver for it must satisfy."""


def driver_entries() -> dict[str, EntryPoint]:
    """Get the installed drivers by name; none of them is imported."""
    return {entry.name: entry for entry in entry_points(group=DRIVERS)}


def role_names() -> list[str]:
    """Get the roles that a bench file may fill: those of labctl, then those that installed packages add."""
    added = {entry.name for entry in entry_points(group=ROLE_PROTOCOLS)} - set(ROLES)
    return [*ROLES, *sorted(added)]


def role_protocol(role: str) -> type:
    """Get the Protocol of a role; imports the package that adds it.

    :raises KeyError: No installed package knows the role.
    """
    if role in ROLES:
        return ROLES[role]
    for entry in entry_points(group=ROLE_PROTOCOLS):
        if entry.name == role:
            return entry.load()
    raise KeyError(role)


def driver_names() -> list[str]:
    """Get the names that a bench file may give: of ``manual.shutter``, ``manual.attenuator``... that is ``manual``."""
    return sorted({name.partition(".")[0] for name in driver_entries()})


def driver_entry(role: str, name: str) -> EntryPoint:
    """Get the driver of a name for a role; one name may stand for several drivers, one for each role.

    :raises KeyError: There is none for this role.
    """
    entries = driver_entries()
    return entries[name] if name in entries else entries[f"{name}.{role}"]


def transport_names() -> list[str]:
    """Get the schemes that installed packages add to the resource grammar."""
    return sorted({entry.name for entry in entry_points(group=TRANSPORTS)} - {"laboratory"})


def check_driver(
    role: str, name: str, options: dict[str, Any], file: str, lines: TomlLines, *, resource: str = ""
) -> list[Problem]:
    """Import a driver and check that it fits its role, takes its options, and can be reached at its resource.

    A driver may have a pydantic model ``Options``; without one it takes no options. A factory function instead of a
    class is taken as it is.
    """
    table = ("instruments", role)

    def problem(key: str, found: str, allowed: str) -> Problem:
        path = (*table, key)
        return Problem(file, lines.line_of(path), dotted(path), found, allowed)

    try:
        entry = driver_entry(role, name)
    except KeyError:
        served = [entry.partition(".")[2] for entry in driver_entries() if entry.startswith(f"{name}.")]
        return [
            problem("driver", f'"{name}", which serves {", ".join(sorted(served))}', f"a driver for the role {role}")
        ]
    try:
        driver = entry.load()
    except Exception as error:  # a driver of another package may fail in any way at its import
        found = f'"{name}", whose import fails ({type(error).__name__}: {error})'
        return [problem("driver", found, "an installed driver whose requirements are installed too")]
    if not isinstance(driver, type):
        return []
    problems: list[Problem] = []
    said = getattr(driver, "ROLE", role)
    if not _serves(said, role):
        problems.append(problem("driver", f'"{name}", whose ROLE is {said!r}', f"a driver for the role {role}"))
    by_hand = getattr(getattr(driver, "LINK", None), "by_hand", False)
    if resource.startswith("operator:") and not by_hand:
        found = f'"{resource}" for "{name}", which has a wire'
        problems.append(problem("resource", found, "where its wire leads; operator: is for the driver manual"))
    elif by_hand and not resource.startswith(("operator:", "sim:", "sim+tcp:")):
        found = f'"{resource}" for "{name}", which has no wire'
        problems.append(problem("resource", found, "operator:"))
    absent = [method for method in _methods(role) if not callable(getattr(driver, method, None))]
    if absent:
        found = f'"{name}", which has no {", ".join(absent)}'
        problems.append(problem("driver", found, f"a driver for the role {role}"))
    model = getattr(driver, "Options", None)
    if isinstance(model, type) and issubclass(model, BaseModel):
        problems += check_table(model, options, file, lines, prefix=(*table, "options"))[1]
    elif options:
        problems.append(problem("options", f"options ({', '.join(options)})", f"none: {name} has no options"))
    return problems


def _serves(said: object, role: str) -> bool:
    """Get whether a driver that says it is for one role does for another: their Protocols are the same."""
    return said == role or (
        isinstance(said, str) and said in role_names() and role_protocol(said) is role_protocol(role)
    )


def _methods(role: str) -> Iterator[str]:
    """Get the methods of a role; its properties may be made by a driver's constructor and cannot be asked for here."""
    for base in role_protocol(role).__mro__:
        for name, member in vars(base).items():
            if not name.startswith("_") and callable(member) and base.__module__ != "typing":
                yield name


def require_driver(name: str) -> str:
    """Check a driver's name.

    :raises Fault: no such driver is installed.
    """
    names = driver_names()
    if name not in names:
        raise unknown_name("driver", name, names)
    return name


def require_role(name: str) -> str:
    """Check a role's name.

    :raises Fault: No installed package knows such a role.
    """
    names = role_names()
    if name not in names:
        raise unknown_name("role", name, names)
    return name
