"""The instruments that stand around one simulated laboratory, whoever drives them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, TypeGuard, cast

from labctl.errors import InputError
from labctl.sim.emulator import LibraryEmulator, WireEmulator
from labctl.sim.incidents import LooseWire

EMULATORS = "labctl.emulators"

Emulator = WireEmulator | LibraryEmulator
EmulatorFactory = Callable[[Any, str, Mapping[str, Any]], Emulator]


@dataclass
class Place:
    """One emulator on the bench.

    :param driver: Name of the driver that it answers.
    :param emulator: The emulator; powered from the start, whoever connects.
    :param latest_t: Latest time that it was told, laboratory seconds.
    :param opened: Whether somebody has ever connected to it.
    """

    driver: str
    emulator: Emulator
    latest_t: float = 0.0
    opened: bool = False

    def connect(self, t: float) -> float:
        """Begin a connection at ``t``; return the time that the emulator took it for.

        What an instrument said while its port was closed is lost; what it said before the first opening is there.
        """
        t = self.clamp(t)
        if self.opened and is_wire(self.emulator):
            self.emulator.respond(t, b"")
        self.opened = True
        return t

    def clamp(self, t: float) -> float:
        """Get ``t``, but never earlier than the emulator has seen already: a new client's clock may be behind."""
        self.latest_t = max(self.latest_t, t)
        return self.latest_t


@dataclass
class Stand:
    """A simulated laboratory and the emulators around it.

    :param laboratory: The physics they share (labctl.sim.laboratory).
    :param factories: Emulators by driver name; those of the installed packages if not given.
    :param lock: Held for every call into an emulator or the laboratory, since they share its state.
    """

    laboratory: Any
    factories: Mapping[str, EmulatorFactory] | None = None
    places: dict[str, Place] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def put(self, role: str, driver: str, options: Mapping[str, Any]) -> Place:
        """Put the emulator that answers ``driver`` at ``role``, unless it stands there already.

        Raises InputError if no emulator is installed for it, or another one stands there.
        """
        with self.lock:
            place = self.places.get(role)
            if place is None:
                emulator = emulator_factory(driver, self.factories)(self.laboratory, role, dict(options))
                truth = getattr(self.laboratory, "truth", None)
                drop_offs = [entry for entry in getattr(truth, "drop_offs", ()) if entry.role == role]
                if drop_offs and is_wire(emulator):
                    emulator = LooseWire(emulator, drop_offs)
                place = self.places[role] = Place(driver, emulator)
            elif place.driver != driver:
                raise InputError(f"the simulated {role} is a {place.driver}, not a {driver}", where=f"role {role}")
            return place

    def operator(self, action: str, t: float) -> None:
        """Have the simulated operator act at ``t``; raises InputError for an action that is not known."""
        with self.lock:
            try:
                self.laboratory.operator(action, t)
            except ValueError as error:
                raise InputError(str(error), where="simulated operator") from error


def has_emulator(driver: str) -> bool:
    """Get whether an emulator is installed for a driver."""
    return any(entry.name == driver for entry in entry_points(group=EMULATORS))


def emulator_factory(driver: str, factories: Mapping[str, EmulatorFactory] | None = None) -> EmulatorFactory:
    """Get what makes the emulator for a driver; raises InputError if there is none."""
    if factories is not None:
        if driver in factories:
            return factories[driver]
    else:
        for entry in entry_points(group=EMULATORS):
            if entry.name == driver:
                return cast(EmulatorFactory, entry.load())
    raise InputError(
        f"no installed package has an emulator for the driver {driver!r}",
        todo="use a driver that has one (`labctl drivers` lists them), or install the package that offers it",
    )


def is_wire(emulator: Emulator) -> TypeGuard[WireEmulator]:
    """Get whether an emulator speaks on a wire; the others are vendor libraries."""
    return hasattr(emulator, "respond")
