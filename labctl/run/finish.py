"""After the light is off: seal the run, analyse it, write the report."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from labctl.errors import InputError, LabctlError
from labctl.run.outcome import Outcome
from labctl.run.request import PreparedRun, procedure_class
from labctl.store.naming import RunPaths
from labctl.store.results import add_result
from labctl.store.run import open_run
from labctl.store.seal import seal

log = logging.getLogger(__name__)


def finish(paths: RunPaths, prepared: PreparedRun, outcome: Outcome) -> None:
    """Seal, analyse and report; what fails here becomes a warning, the data are safe in the journal."""
    try:
        outcome.run = str(seal(paths.journal, paths.sealed))
    except (LabctlError, OSError) as error:
        log.exception("sealing failed")
        outcome.run = str(paths.journal)
        outcome.warnings.append(f"the run could not be sealed: {error}; the journal holds everything")
    try:
        analysed = analyse_run(Path(outcome.run))
        outcome.result = analysed["result"]
        outcome.warnings.extend(analysed.get("warnings", []))
    except Exception as error:  # an analysis must never turn a finished measurement into a failed one
        log.exception("analysis failed")
        outcome.warnings.append(f"analysis failed: {error}")
        return
    try:
        products = prepared.procedure.write_products(Path(outcome.run), analysed)
        outcome.files.update({name: str(path) for name, path in products.items()})
    except Exception as error:
        log.exception("a product of the run could not be written")
        outcome.warnings.append(f"a product of the run could not be written: {error}")
    try:
        outcome.files.update(report_run(Path(outcome.run)))
    except Exception as error:
        log.exception("report failed")
        outcome.warnings.append(f"the report could not be written: {error}")


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
