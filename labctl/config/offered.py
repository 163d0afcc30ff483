"""What the instruments of a bench offer to be watched and limited, asked of their drivers before any is opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labctl.config.registry import driver_entry
from labctl.roles import SETTINGS_OF_ROLES, Reading, Setting


def offered_readings(driver: Any) -> dict[str, Reading]:
    """Get the readings that a driver's class offers, by the names that a bench file uses."""
    offered = getattr(driver, "READINGS", None)
    return _of_kind(offered, Reading)


def offered_settings(role: str, driver: Any) -> dict[str, Setting]:
    """Get what an instrument can be set to, by the names that a bench file uses.

    What any driver for the role has, and what this one adds; nothing where the driver is no class, whose settings
    could not be held to limits.
    """
    if not isinstance(driver, type):
        return {}
    return {**SETTINGS_OF_ROLES.get(role, {}), **_of_kind(getattr(driver, "SETTINGS", None), Setting)}


def limited_units(role: str, driver: Any) -> dict[str, str]:
    """Get the unit of each quantity of an instrument that can be limited: a number that is set, or read, or both."""
    read = {name: entry.unit for name, entry in offered_readings(driver).items() if not entry.words}
    return {**read, **{name: entry.unit for name, entry in offered_settings(role, driver).items()}}


def drivers_of(instruments: Any) -> dict[str, Any]:
    """Get the drivers by role that the table ``[instruments]`` names, as far as they can be imported."""
    drivers: dict[str, Any] = {}
    for role, entry in instruments.items() if isinstance(instruments, Mapping) else ():
        name = entry.get("driver") if isinstance(entry, Mapping) else None
        try:
            drivers[role] = driver_entry(role, str(name)).load()
        except Exception:  # told as a fault of `driver` itself
            continue
    return drivers


def _of_kind(offered: Any, kind: type) -> dict[str, Any]:
    if not isinstance(offered, Mapping):
        return {}
    return {str(name): entry for name, entry in offered.items() if isinstance(entry, kind)}
