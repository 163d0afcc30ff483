"""What an operator wants of a run that goes: to pause, to go on, to have more points or fewer, or at other times."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from labctl.errors import InputError
from labctl.run.plan import Plan


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
        self._plan: Plan | None = None

    def know(self, plan: Plan) -> None:
        """Know the stages of the run, to refuse at once what cannot be."""
        self._plan = plan

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
        """Have the coming points changed after the present one; raises InputError for what no stage allows."""
        if self._plan is not None:
            _check(alteration, self._plan)
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


def _check(alteration: Alteration, plan: Plan) -> None:
    """Refuse a stage that the run has not, and a schedule where there is none; raises InputError."""
    names = [stage.name for stage in plan.stages]
    if alteration.stage and alteration.stage not in names:
        raise InputError(
            f"there is no stage {alteration.stage!r}",
            where="alteration of the run",
            state="the run goes on as it was",
            todo=f"one of {', '.join(names)}",
        )
    meant = [stage for stage in plan.stages if alteration.stage in ("", stage.name)]
    if alteration.what == "retime" and not any(stage.times_s for stage in meant):
        raise InputError(
            "there is no schedule to change: the points follow one another",
            where="alteration of the run",
            state="the run goes on as it was",
        )
