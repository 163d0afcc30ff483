"""A rehearsal: the same procedure with the same parameters on the simulated twin of the bench, on the virtual clock.

It is a whole run of the engine, with journal, sealed file, analysis and report, in a temporary folder that goes at the
end; only a guard and fronts are missing. No instrument is opened: every resource of the twin is an emulator.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from labctl.bench.bench import check_resources
from labctl.clock import RealClock
from labctl.config.bench import BenchConfig
from labctl.errors import InputError, InterlockTripped, LabctlError, LimitError, LimitExceeded
from labctl.run.engine import Engine
from labctl.run.expectation import Expectation, light_of, measured
from labctl.run.guard_line import GuardLine
from labctl.run.request import PreparedRun, as_parameters
from labctl.run.twin import simulated_twin
from labctl.store.run import open_run

REHEARSED = "rehearsed on the emulators"
LIMIT_S = 60.0
"""Real time after which a rehearsal is given up."""
_LEAST_RESERVE_MB = 1.0
_FORBIDS = (LimitError, LimitExceeded, InterlockTripped)


class Forbidden(InputError):
    """The rehearsal came to what a limit or a watch of the bench forbids: so would the run."""


class _Watch(GuardLine):
    """Stands where the guard of a run would: ends it when it takes too long, and sees how large its journal became.

    :param folder: The temporary folder of the runs.
    :param limit_s: Real time that the run may take, in s.
    """

    def __init__(self, folder: Path, limit_s: float) -> None:
        super().__init__()
        self.journal_mb: float | None = None
        self._folder = folder
        self._machine = RealClock()
        self._until_s = self._machine.now() + limit_s

    @property
    def broken(self) -> bool:
        """Get whether the time is up: the engine ends a run whose guard is gone."""
        return self._machine.now() > self._until_s

    def quiet(self, duration_s: float) -> None:
        """Look at the journal: the engine announces the sealing when it has closed it."""
        for journal in self._folder.rglob("*.journal"):
            self.journal_mb = journal.stat().st_size / 1e6


def rehearse(prepared: PreparedRun, *, seed: int | None = None, limit_s: float = LIMIT_S) -> Expectation:
    """Rehearse a run; the procedure of ``prepared`` is left as it is.

    :param seed: Seed of the laboratory, to see the very run that ``--seed`` gives; None for one that does not drift,
        which shows the middle of what may come.
    :param limit_s: Real time that it may take, in s.
    :raises Forbidden: A limit or a watch of the bench ends it; says which.
    :raises InputError: It cannot be rehearsed; says why.
    """
    if prepared.procedure.OWN_INSTRUMENTS:
        raise InputError(f"{prepared.procedure.NAME} opens instruments of its own")
    bench = _for_another_disk(simulated_twin(prepared.bench, steady=seed is None))
    check_resources(bench, virtual=True)
    procedure = type(prepared.procedure)(**as_parameters(prepared.request.parameters))
    with _quiet(), tempfile.TemporaryDirectory(prefix="labctl-rehearsal-") as folder:
        asked = {"virtual_time": True, "seed": seed or 0, "out": folder, "lease": False}
        twin = PreparedRun(prepared.request.model_copy(update=asked), procedure, bench, prepared.sample)
        try:
            return _rehearse(twin, Path(folder), limit_s)
        except Forbidden:
            raise
        except LabctlError as error:
            raise InputError(error.what.strip(), where=error.where) from error
        except Exception as error:  # what a procedure or an emulator breaks must not keep a plan from being shown
            raise InputError(f"{type(error).__name__}: {error}") from error


def _rehearse(twin: PreparedRun, folder: Path, limit_s: float) -> Expectation:
    watch = _Watch(folder, limit_s)
    outcome = Engine(twin, watch).run()
    if outcome.status == "aborted":
        raise InputError(f"it takes more than {limit_s:.0f} s of computing")
    error = outcome.error or {}
    if error.get("type") in {kind.__name__ for kind in _FORBIDS}:
        raise Forbidden(
            f"the rehearsal on the emulators ended after {outcome.points['done']} points: {error['what']}",
            where=str(error["where"]),
            todo=str(error["todo"]),
        )
    if outcome.status != "finished":
        raise InputError(f"the rehearsal {outcome.status}: {error.get('what', '')}")
    with open_run(outcome.run) as run:
        found = measured(run, light_of(folder, Path(outcome.run)), REHEARSED)
    files = [path for path in Path(outcome.run).parent.iterdir() if path.is_file()]
    return replace(found, journal_mb=watch.journal_mb, files_mb=sum(path.stat().st_size for path in files) / 1e6)


def _for_another_disk(bench: BenchConfig) -> BenchConfig:
    """Reserve and watches of the space are meant for the disk of the runs, not for that of temporary files."""
    watched = [(watch, (watch.when, watch.resume_when)) for watch in bench.watch]
    others = [watch for watch, both in watched if not any(one is not None and one.subject == "disk" for one in both)]
    bench = bench.model_copy(update={"watch": tuple(others)})
    if bench.limits is None:
        return bench
    return bench.model_copy(update={"limits": bench.limits.model_copy(update={"disk_reserve_mb": _LEAST_RESERVE_MB})})


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the log of a rehearsal from whoever asked for a plan: nothing in it happened at a bench."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
