"""What a front asks of the engine: one JSON document that says everything about a run."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from labctl.errors import ConfigError, InputError, LabctlError, Problem
from labctl.folders import nearest_existing
from labctl.installed import entry_points
from labctl.run.policy import FailurePolicy
from labctl.store.windows_names import check_names

if TYPE_CHECKING:
    from labctl.config.bench import BenchConfig
    from labctl.config.sample import SampleConfig
    from labctl.run.earlier import Earlier
    from labctl.run.plan import Plan
    from labctl.run.procedure import SweepProcedure

PROCEDURES = "labctl.procedures"
MAX_SEED = 2**63 - 1


class RunRequest(BaseModel):
    """A run as asked for.

    :param procedure: Name in the registry, dashes or underscores.
    :param parameters: Values by parameter name; text with units, or plain JSON values.
    :param bench: Name of a shipped bench, or a path.
    :param sample: Name of a shipped sample, or a path; None for none.
    :param out: Folder for the run; made absolute here, so that it stays the same whoever reads the request where.
    :param spot: Name of the spot on the sample, for the exposure ledger.
    :param seed: Seed of a simulated laboratory.
    :param virtual_time: Whether to run on the virtual clock.
    :param lease: Whether the death of the front that started it ends the run.
    :param on_failure: What is done when a point fails; what procedure and stage say if None.
    :param resume: Path of the run that goes on; the other fields are then those it was begun with.
    :param leave_if_idle_s: Time in s of waiting for the next point at which the run rather leaves the bench to others,
        with the status ``waiting``; it goes on when it is resumed. None: it stays.
    :param virtual_start_s: Where the virtual clock begins, in s; with ``virtual_wall_s``, the Unix time of that moment,
        for runs that share one simulated laboratory.
    :param origin: Where parameters came from that others measured, by parameter; kept with the run.
    :param again: Path of the run that is repeated from its own provenance.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    procedure: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    bench: str
    sample: str | None = None
    out: str = Field(default="runs", validate_default=True)
    spot: str = "1"
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    virtual_time: bool = False
    lease: bool = True
    on_failure: FailurePolicy | None = None
    leave_if_idle_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    virtual_start_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    virtual_wall_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    origin: dict[str, Any] = Field(default_factory=dict)
    resume: str | None = None
    again: str | None = None

    @field_validator("out")
    @classmethod
    def _make_absolute(cls, out: str) -> str:
        try:
            return str(Path(out).absolute())
        except FileNotFoundError as error:
            raise ValueError("the working directory is gone; give an absolute path") from error


@dataclass(frozen=True)
class PreparedRun:
    """A request that was read and checked; nothing has been opened yet."""

    request: RunRequest
    procedure: SweepProcedure
    bench: BenchConfig
    sample: SampleConfig | None
    earlier: Earlier | None = None
    warnings: tuple[str, ...] = ()

    def plan(self) -> Plan:
        """Plan the run, or what is left of it if it is resumed; raises InputError.

        The set-points of a resumed run are those it was begun with, whatever its bench file says now.
        """
        plan = self.procedure.plan(self.bench, self.sample)
        if self.earlier is None:
            return replace(plan, warnings=(*self.warnings, *plan.warnings))
        from labctl.run.earlier import require_same_course

        # A plan that is refused may lack stages for the very reason that it is refused for: that one is to be told.
        if not plan.refusals:
            require_same_course(self.earlier, plan)
        return replace(self.earlier.remaining(), warnings=(*self.warnings, *plan.warnings), refusals=plan.refusals)

    @property
    def simulated(self) -> bool:
        """Get whether emulators take part; never for a procedure that opens instruments of its own."""
        from labctl.bench.bench import needs_laboratory

        return needs_laboratory(self.bench) and not self.procedure.OWN_INSTRUMENTS


def procedure_class(name: str) -> type[SweepProcedure]:
    """Get a procedure by name (dashes or underscores); raises InputError with the nearest name.

    A procedure that was written for pymeasure alone comes as a class that runs it here.
    """
    wanted = name.replace("_", "-")
    entries = {entry.name: entry for entry in entry_points(group=PROCEDURES)}
    if wanted not in entries:
        near = difflib.get_close_matches(wanted, list(entries), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(
            f"there is no procedure {name!r}", todo=f"{hint}`labctl procedures` lists: {', '.join(sorted(entries))}"
        )
    try:
        loaded = entries[wanted].load()
    except Exception as error:  # a procedure of another package may fail in any way at its import
        raise InputError(
            f"the procedure {wanted!r} cannot be imported: {type(error).__name__}: {error}",
            where=entries[wanted].value,
            todo="repair or uninstall the package that registers it",
        ) from error
    return _as_ours(loaded, entries[wanted])


def _as_ours(loaded: Any, entry: EntryPoint) -> type[SweepProcedure]:
    from pymeasure.experiment import Procedure

    from labctl.run.foreign_procedure import adapted
    from labctl.run.procedure import SweepProcedure

    if not isinstance(loaded, type) or not issubclass(loaded, Procedure):
        raise InputError(
            f"the procedure {entry.name!r} is not a pymeasure Procedure", where=entry.value, todo="register the class"
        )
    return loaded if issubclass(loaded, SweepProcedure) else adapted(loaded, entry.name)


def prepare(request: RunRequest, procedure: SweepProcedure | None = None) -> PreparedRun:
    """Read and check everything a run needs; raises one error that names every fault, before anything is opened.

    :param procedure: The procedure, if it is made already; else the one that the request names.
    """
    # A front only writes requests: it should not wait for what is imported to read one.
    from labctl.bench.bench import check_resources
    from labctl.config.bench import load_bench
    from labctl.config.sample import load_sample
    from labctl.run.stored_request import stored_files

    stored = stored_files(request)
    if stored.earlier is not None:
        # The light of a run is booked in one ledger: the one beside its journal.
        request = request.model_copy(update={"out": str(stored.earlier.directory)})
    problems: list[Problem] = []
    others: list[LabctlError] = []
    loaded: dict[str, Any] = {}
    loaders = {
        "procedure": lambda: (
            procedure_class(request.procedure)(**request.parameters) if procedure is None else procedure
        ),
        "bench": lambda: stored.bench or load_bench(request.bench),
        "sample": lambda: stored.sample or (load_sample(request.sample) if request.sample else None),
        "out": lambda: check_folder(Path(request.out)),
    }
    for name, loader in loaders.items():
        try:
            loaded[name] = loader()
        except ConfigError as error:
            problems.extend(error.problems)
        except LabctlError as error:
            others.append(error)
    if problems:
        others.insert(0, ConfigError(problems))
    if len(others) == 1:
        raise others[0]
    if others:
        raise InputError("\n".join(str(error) for error in others))
    bench: BenchConfig = loaded["bench"]
    if loaded["sample"] is None and bench.default_sample is not None and not stored.is_stored:
        loaded["sample"] = load_sample(bench.default_sample)
    prepared = PreparedRun(
        request, loaded["procedure"], bench, loaded["sample"], stored.earlier, stored.warnings(bench)
    )
    if stored.earlier is not None and prepared.procedure.OWN_INSTRUMENTS:
        raise InputError(
            f"{prepared.procedure.NAME} takes its points by itself and cannot go on in the middle",
            todo="repeat the run with `labctl run --again RUN`",
        )
    check_roles(prepared.procedure, prepared.bench)
    check_resources(prepared.bench, virtual=request.virtual_time)
    if request.virtual_time and prepared.procedure.OWN_INSTRUMENTS:
        raise InputError(
            f"{prepared.procedure.NAME} opens instruments of its own; they know real time only",
            todo="leave out --virtual-time",
        )
    return prepared


def check_roles(procedure: SweepProcedure, bench: BenchConfig) -> None:
    """Check that the bench has every role the procedure needs; raises InputError naming all that are missing."""
    missing = [role for role in procedure.ROLES if role not in bench.instruments]
    if missing:
        raise InputError(
            f"{procedure.NAME} needs {', '.join(procedure.ROLES)}; the bench {bench.name!r} has no "
            f"{', no '.join(missing)}",
            where=bench.file,
            todo="; ".join(f"write [instruments.{role}]" for role in missing),
        )


def check_folder(folder: Path) -> Path:
    """Check that runs can be written into a folder, which need not exist yet; raises InputError."""
    check_names(folder, "--out")
    existing = nearest_existing(folder)
    if not existing.exists():
        raise InputError(
            f"{folder} cannot be reached: there is no {existing}",
            where="--out",
            todo="connect that drive or share, or name another folder",
        )
    if not existing.is_dir():
        raise InputError(
            f"{folder} is not a folder: {existing} is a file",
            where="--out",
            todo="name a folder; nothing is ever overwritten",
        )
    return folder.absolute()


def as_parameters(values: Mapping[str, Any]) -> dict[str, Any]:
    """Get parameter values with underscores in their names."""
    return {name.replace("-", "_"): value for name, value in values.items()}
