"""What drivers offer to be watched and limited is there, in units that can be converted."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from labctl.config.offered import limited_units, offered_readings, offered_settings
from labctl.config.quantity import unit_registry
from labctl.config.registry import driver_entries, role_names
from labctl.roles import SETTINGS_OF_ROLES, Limited, Watched

DRIVERS = {name: entry.load() for name, entry in driver_entries().items() if entry.value.startswith("drivers.")}


@pytest.mark.parametrize("name", sorted(DRIVERS))
def test_what_is_offered_is_there(name: str) -> None:
    driver: Any = DRIVERS[name]
    readings, settings = offered_readings(driver), offered_settings(driver.ROLE, driver)
    for entry in readings.values():
        first = entry.attribute.partition(".")[0]
        assert isinstance(inspect.getattr_static(driver, first), property), entry
        assert bool(entry.unit) != bool(entry.words), entry
    for entry in settings.values():
        assert hasattr(driver, entry.attribute), entry
    for unit in limited_units(driver.ROLE, driver).values():
        unit_registry().parse_units(unit)
    assert len(readings) == len(getattr(driver, "READINGS", {}))


def test_some_offer_something() -> None:
    assert {name for name, driver in DRIVERS.items() if isinstance(driver, Watched)} >= {"thorlabs-sc10", "andor-sdk2"}
    assert set(SETTINGS_OF_ROLES) <= set(role_names())


def test_what_is_no_reading_is_not_offered() -> None:
    class Odd:
        READINGS = {"a": "temperature_c", "b": 3}  # noqa: RUF012 - a driver of somebody who has not read the guide
        SETTINGS = ["temperature"]  # noqa: RUF012 - likewise

    assert offered_readings(Odd) == {}
    assert offered_settings("detector", Odd) == SETTINGS_OF_ROLES["detector"]
    assert offered_settings("detector", lambda: Odd()) == {}
    assert isinstance(Odd, Limited)
