"""``labctl pause``, ``continue`` and ``alter``: what an operator may ask of a run that goes."""

from __future__ import annotations

from typing import Any

from labctl.cli.output import print_json, show
from labctl.cli.runs import ask_engine
from labctl.config.fault import Fault
from labctl.config.quantity import InUnit
from labctl.errors import InputError
from labctl.run.steering import Alteration


def pause(run: str, reason: str, *, as_json: bool) -> int:
    """Have a run pause after the present point, with the shutter closed."""
    answer = ask_engine(run, "pause", reason=reason)
    _tell(run, answer, "pausing: after the present point, with the shutter closed", as_json=as_json)
    return 0


def go_on(run: str, *, as_json: bool) -> int:
    """Have a paused run go on; every role is set up anew."""
    answer = ask_engine(run, "continue")
    _tell(run, answer, "continuing: every instrument is set up anew first", as_json=as_json)
    return 0


def alter(run: str, stage: str, *, extend: int | None, shorten: int | None, every: str | None, as_json: bool) -> int:
    """Have a run take more points or fewer, or at other times."""
    answer = ask_engine(run, "alter", alteration=_alteration(stage, extend, shorten, every).model_dump())
    _tell(run, answer, "altering: after the present point; `labctl show` tells what came of it", as_json=as_json)
    return 0


def _alteration(stage: str, extend: int | None, shorten: int | None, every: str | None) -> Alteration:
    given = [name for name, value in (("--extend", extend), ("--shorten", shorten), ("--every", every)) if value]
    if len(given) != 1:
        raise InputError(
            f"{', '.join(given) or 'nothing'} was asked for",
            where="labctl alter",
            state="the run goes on as it was",
            todo="give one of --extend N, --shorten N, --every 'TIME'",
        )
    if every is not None:
        try:
            every_s = InUnit("s", above=0, at_most=1e9, example="10 min").parse(every)
        except Fault as fault:
            raise InputError(f"--every: {fault}", where="labctl alter", state="the run goes on as it was") from fault
        return Alteration(what="retime", stage=stage, every_s=every_s)
    return Alteration(what="extend" if extend else "shorten", stage=stage, points=extend or shorten)


def _tell(run: str, answer: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"run": run, **{key: value for key, value in answer.items() if key != "v"}})
    else:
        show(text)
