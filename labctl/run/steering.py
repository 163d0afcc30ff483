"""What an operator wants of a run that goes: to pause, to go on, to have more points or fewer, or at other times."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from labctl.errors import InputError


class Alteration(BaseModel):
    """A change of the points of one stage that have not been measured yet.

    :param stage: Name of the stage; the one that is running if empty.
    :param what: ``extend`` by ``points``, ``shorten`` by ``points``, or ``retime``: the points follow each other every
        ``every_s`` seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: Literal["extend", "shorten", "retime"]
    stage: str = ""
    points: Annotated[int, Field(ge=1, le=100_000)] | None = None
    every_s: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Alteration:
        needed = "every_s" if self.what == "retime" else "points"
        other = "points" if needed == "every_s" else "every_s"
        if getattr(self, needed) is None or getattr(self, other) is not None:
            raise ValueError(f"{self.what} takes {needed} and not {other}")
        return self


def read_alteration(data: Mapping[str, Any]) -> Alteration:
    """Read an alteration as a front sends it; raises InputError."""
    try:
        return Alteration.model_validate(dict(data))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'alteration'}: {one['msg']}" for one in error.errors())
        raise InputError(
            faults, where="alteration of the run", todo="`labctl alter --help` tells what is possible"
        ) from error


class Steering:
    """Takes the wishes of operators from any thread; the run looks at them between its points."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pause_reason = ""
        self._alterations: list[Alteration] = []
        self._disturbance = ""

    @property
    def pause_reason(self) -> str:
        """Get why the run is to pause; empty while it is to go on."""
        return self._pause_reason

    def pause(self, reason: str) -> None:
        """Have the run pause after the present point, with the shutter closed."""
        with self._lock:
            self._pause_reason = reason or "an operator asked for it"

    def go_on(self) -> None:
        """Have a paused run go on."""
        with self._lock:
            self._pause_reason = ""

    def alter(self, alteration: Alteration) -> None:
        """Have the coming points changed after the present one."""
        with self._lock:
            self._alterations.append(alteration)

    def take_alterations(self) -> list[Alteration]:
        """Get and forget the changes asked for since the last time."""
        with self._lock:
            taken, self._alterations = self._alterations, []
        return taken

    def disturb(self, what: str) -> None:
        """Say that something has made the present point worthless, e.g. that the computer slept."""
        with self._lock:
            self._disturbance = self._disturbance or what

    def take_disturbance(self) -> str:
        """Get and forget what has made the present point worthless; empty if nothing has."""
        with self._lock:
            taken, self._disturbance = self._disturbance, ""
        return taken
