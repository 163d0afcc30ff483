"""What `labctl run` was asked for: a new run, one that goes on, or one that is repeated."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.cli.run import make_request
from labctl.errors import InputError
from labctl.run.policy import FailurePolicy
from labctl.run.request import RunRequest


@dataclass(frozen=True)
class Asked:
    """The command line as given; None where nothing was."""

    procedure: str | None
    bench: str | None
    sets: tuple[str, ...]
    sample: str | None
    out: str | None
    spot: str | None
    seed: int | None
    virtual_time: bool
    resume: str | None
    again: str | None
    retries: int | None
    on_failure: str | None


def request_of(asked: Asked) -> RunRequest:
    """Make the request; raises InputError for what does not go together."""
    named = [
        text
        for text, given in (("a procedure", asked.procedure), ("--resume", asked.resume), ("--again", asked.again))
        if given is not None
    ]
    if len(named) != 1:
        raise InputError(
            f"{' and '.join(named) or 'nothing'} to run",
            where="labctl run",
            todo="give one of PROCEDURE, --resume RUN, --again RUN; `labctl procedures` lists the procedures",
        )
    policy = _policy(asked)
    if asked.resume is not None:
        return _resumed(asked, asked.resume, policy)
    if asked.again is not None:
        return _repeated(asked, asked.again, policy)
    if asked.bench is None:
        raise InputError("no bench was named", where="labctl run", todo="give --bench BENCH, e.g. --bench simulated")
    request = make_request(
        asked.procedure or "",
        asked.bench,
        asked.sets,
        sample=asked.sample,
        out="runs" if asked.out is None else asked.out,
        spot="1" if asked.spot is None else asked.spot,
        seed=asked.seed or 0,
        virtual_time=asked.virtual_time,
    )
    return request.model_copy(update={"on_failure": policy})


def _policy(asked: Asked) -> FailurePolicy | None:
    if asked.retries is None and asked.on_failure is None:
        return None
    if asked.on_failure not in {None, "abort", "skip"}:
        raise InputError(f"--on-failure {asked.on_failure!r}", where="labctl run", todo="abort or skip")
    given = {"retries": asked.retries, "then": asked.on_failure}
    return FailurePolicy.model_validate({name: value for name, value in given.items() if value is not None})


def _resumed(asked: Asked, run: str, policy: FailurePolicy | None) -> RunRequest:
    from labctl.run.stored_request import request_to_resume

    _refuse(asked, "--resume", ("sets", "sample", "out", "spot", "seed", "virtual_time"))
    return request_to_resume(run, bench=asked.bench, on_failure=policy)


def _repeated(asked: Asked, run: str, policy: FailurePolicy | None) -> RunRequest:
    from labctl.run.stored_request import request_again

    _refuse(asked, "--again", ("sets", "sample"))
    changes: dict[str, object] = {"out": "runs" if asked.out is None else asked.out}
    changes |= {name: value for name in ("spot", "seed") if (value := getattr(asked, name)) is not None}
    if asked.virtual_time:
        changes["virtual_time"] = True
    if policy is not None:
        changes["on_failure"] = policy
    return request_again(run, bench=asked.bench, changes=changes)


def _refuse(asked: Asked, option: str, names: tuple[str, ...]) -> None:
    """Refuse what the run itself decides."""
    # A seed of 0 is given, too.
    values = {name: getattr(asked, name) for name in names}
    given = [
        f"--{name.removesuffix('s').replace('_', '-')}"
        for name, value in values.items()
        if value is not None and value is not False and value != ()
    ]
    if given:
        raise InputError(
            f"{', '.join(given)} cannot be given with {option}: the run has them already",
            where="labctl run",
            todo="leave them out, or begin a new run",
        )
