"""After the light is off: seal the run, analyse it, write the report."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from labctl.errors import InputError, LabctlError
from labctl.run.outcome import Outcome
from labctl.run.request import PreparedRun, procedure_class
from labctl.store.naming import RunPaths
from labctl.store.results import add_result
from labctl.store.run import open_run
from labctl.store.seal import copy_to_share, seal

log = logging.getLogger(__name__)

Result = TypeVar("Result")


def finish(paths: RunPaths, prepared: PreparedRun, outcome: Outcome) -> None:
    """Seal, analyse and report, then deliver to a share; what fails becomes a warning, the data are in the journal."""
    # A journal that is not beside its run file lies in a local spool, because runs are kept on a network disk.
    local = paths.journal.with_suffix(".h5") if paths.journal.parent != paths.sealed.parent else paths.sealed
    outcome.run = str(
        _attempt(outcome, "the run could not be sealed", lambda: seal(paths.journal, local)) or paths.journal
    )
    run = Path(outcome.run)
    if outcome.points["done"]:
        analysed = _attempt(outcome, "the run was not analysed", lambda: analyse_run(run))
        if analysed is not None:
            outcome.result = analysed["result"]
            outcome.warnings.extend(analysed.get("warnings", []))
            products = _attempt(
                outcome, "a product could not be written", lambda: prepared.procedure.write_products(run, analysed)
            )
            outcome.files.update({name: str(path) for name, path in (products or {}).items()})
    outcome.files.update(_attempt(outcome, "the report could not be written", lambda: report_run(run)) or {})
    if local != paths.sealed:
        _deliver(paths.sealed.parent, outcome)


def _attempt(outcome: Outcome, failed: str, step: Callable[[], Result]) -> Result | None:
    """Do one step; nothing here may turn a finished measurement into a failed one."""
    try:
        return step()
    except LabctlError as error:
        outcome.warnings.append(f"{failed}: {error.what}")
    except Exception as error:
        log.exception("%s", failed)
        outcome.warnings.append(f"{failed}: {type(error).__name__}: {error}")
    return None


def _deliver(folder: Path, outcome: Outcome) -> None:
    """Copy the run and what belongs to it to the share, each copy verified; the local files stay."""
    run = _attempt(outcome, "the run is not on the share", lambda: copy_to_share(outcome.run, folder))
    outcome.run = str(run or outcome.run)
    for name, path in outcome.files.items():
        copy = _attempt(outcome, f"{name} is not on the share", lambda path=path: copy_to_share(path, folder))
        outcome.files[name] = str(copy or path)


def analyse_run(path: Path) -> dict[str, Any]:
    """Analyse a run with its own procedure and add the result to its file."""
    with open_run(path) as run:
        procedure = procedure_of(run.header)
        analysed = procedure.analyse(run)
    add_result(path, procedure.NAME, analysed)
    return analysed


def procedure_of(header: dict[str, Any]) -> Any:
    """Make the procedure of a stored run with the parameters it had; raises InputError if it is not installed."""
    name = header.get("procedure")
    if not isinstance(name, str):
        raise InputError("the run does not say which procedure made it")
    parameters = {key: value for key, value in dict(header.get("parameters", {})).items() if value is not None}
    return procedure_class(name)(**parameters)


def report_run(path: Path, output: Path | None = None) -> dict[str, str]:
    """Write figure and page of a run; returns their paths by name."""
    from labctl.report.page import write_report

    return {name: str(file) for name, file in write_report(path, output).items()}
