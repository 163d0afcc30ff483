"""What every instrument can do and say, whatever its role: who it is, its safe state, its readings, its dead man."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an instrument says it is; empty strings where it cannot say."""

    vendor: str
    model: str
    serial: str = ""
    firmware: str = ""


@dataclass(frozen=True, slots=True)
class SafeStep:
    """One step towards the safe state.

    :param action: What was done, e.g. ``close shutter``.
    :param confirmed: True if the instrument's own read-back says so; False if it does not or cannot.
    :param evidence: What was sent and what was read back; line breaks become ``; ``.
    """

    action: str
    confirmed: bool
    evidence: str

    def __post_init__(self) -> None:
        # Steps are printed one to a line, while an error that serves as evidence may have many.
        lines = [line.strip() for line in self.evidence.splitlines() if line.strip()]
        object.__setattr__(self, "evidence", "; ".join(lines))


@runtime_checkable
class Instrument(Protocol):
    """What every instrument can do, whatever its role."""

    def identify(self) -> Identity:
        """Get vendor, model, serial number and firmware from the instrument."""
        ...

    def make_safe(self) -> Sequence[SafeStep]:
        """Bring the instrument into its safe state and verify it by read-back; idempotent, never raises half-way."""
        ...

    def close(self) -> None:
        """Release the connection; the instrument is left as it is."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """A quantity that an instrument can be asked for between two points without disturbing a measurement.

    :param attribute: What reads it: a property of the instrument, or a path such as ``cooler.temperature_c``. It gives
        a number in ``unit``, or one of ``words``; False and True stand for the first and the second of two words. It
        raises InstrumentError when it cannot be read.
    :param unit: Unit of the number, as pint writes it; ``""`` where there are words, and for a plain number.
    :param words: The states it can be in; none for a number.
    :param overshoot: By how much, in ``unit``, it may pass a limit that its set value reached: the ripple of a
        controller, the scatter of a sensor.
    """

    attribute: str
    unit: str = ""
    words: tuple[str, ...] = ()
    overshoot: float = 0.0


@dataclass(frozen=True, slots=True)
class Setting:
    """A quantity that an instrument can be set to, for the limits of a bench.

    :param attribute: The method that sets it, whose first argument is the value; or the property that controls it.
    :param unit: Unit of the value, as pint writes it; ``""`` for a plain number.
    """

    attribute: str
    unit: str = ""


@runtime_checkable
class Watched(Protocol):
    """What an instrument offers whose readings may be watched (``[[watch]]``) and held to limits (``[limits.roles]``).

    Not derived from :class:`Instrument`: it is asked of the class, before there is any instrument.
    """

    READINGS: ClassVar[Mapping[str, Reading]]
    """Quantities by the names that a bench file uses."""


@runtime_checkable
class Limited(Protocol):
    """What an instrument offers that can be set to more than its role says, so that the bench can limit it."""

    SETTINGS: ClassVar[Mapping[str, Setting]]
    """Quantities by the names that a bench file uses, beyond those in ``SETTINGS_OF_ROLES``."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """One thing that a run needs of an instrument, as it is now.

    :param name: What it is, e.g. ``interlock``.
    :param ok: Whether it is as a run needs it.
    :param text: What was read, and what to do when it is not as it should be.
    :param waits: Whether a run waits until it is (a detector that cools); else it cannot do without.
    """

    name: str
    ok: bool
    text: str
    waits: bool = False


@runtime_checkable
class TellsReadiness(Protocol):
    """What an instrument offers that can say whether it is ready for a run."""

    def readiness(self) -> Sequence[Readiness]:
        """Measure whether it is ready; moves nothing, and raises InstrumentError when it cannot be asked."""
        ...


@runtime_checkable
class DeadMan(Protocol):
    """What an instrument offers beyond its role when it goes safe by itself once nobody feeds it (a watchdog, a lease).

    Armed when a bench is opened for a run, fed in real time as long as the run keeps to the times it declares, and
    disarmed once its safe state is confirmed. Each call is an exchange of its own with the device.
    """

    def arm(self, timeout_s: float) -> float:
        """Have the instrument go safe after ``timeout_s`` without food; returns the time in s that it will wait.

        That is the nearest the device can do, as read back. Also feeds it.
        """
        ...

    def feed(self) -> None:
        """Begin the time anew; raises when the device does not take it, or has acted already."""
        ...

    def disarm(self) -> None:
        """Have the instrument wait for nobody any more."""
        ...
