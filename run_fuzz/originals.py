"""The runs that are mutated: one short sweep, as a sealed file, as a journal, and as a journal with a log beside it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labctl.run.front import run_to_end
from labctl.run.request import RunRequest
from labctl.store.journal import Journal
from labctl.store.layout import RECORD_FIELDS, RowLayout
from labctl.store.results import add_note, add_result
from labctl.store.run import Run, open_run

_PARAMETERS = {"fine_points": 5, "return_points": 0, "coarse_points": 6}


@dataclass(frozen=True)
class Originals:
    """Paths of the three forms."""

    sealed: Path
    journal: Path
    logged: Path


def make_originals(folder: Path) -> Originals:
    """Take the run on the simulated bench, and write its forms."""
    request = RunRequest(
        procedure="fluence-sweep",
        bench="simulated",
        parameters=_PARAMETERS,
        out=str(folder / "runs"),
        virtual_time=True,
    )
    outcome = run_to_end(request)
    originals = Originals(folder / "a.h5", folder / "a.journal", folder / "b.journal")
    shutil.copyfile(outcome["run"], originals.sealed)
    add_note(originals.sealed, "the lamp was on", wall_s=1.0)
    with open_run(originals.sealed) as run:
        journal = Journal.create(originals.journal, run.header)
        _copy(run, journal)
        for result in run.results:
            add_result(originals.journal, result.name, result.data, wall_s=result.wall_s)
        add_note(originals.journal, "the lamp was on", wall_s=1.0)
        journal.set_status("failed", t_s=0.0, wall_s=0.0)
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{originals.journal}{suffix}", f"{originals.logged}{suffix}")
        journal.close()
    return originals


def _copy(run: Run, journal: Journal) -> None:
    for name, layout in run.streams.items():
        journal.add_stream(name, layout)
    for axis in run.axes.values():
        journal.set_axis(axis.name, axis.values, axis.unit, axis.description)
    for event in run.events():
        journal.event(event.kind, event.data, t_s=event.t_s, wall_s=event.wall_s)
    for name, layout in run.streams.items():
        _copy_stream(run, journal, name, layout)


def _copy_stream(run: Run, journal: Journal, stream: str, layout: RowLayout) -> None:
    columns = run.columns(stream)
    arrays = {array.name: np.asarray(run.array(array.name, stream)) for array in layout.arrays}
    for number in range(run.count(stream)):
        point, attempt, t_s, wall_s = (columns[name][number].item() for name in RECORD_FIELDS)
        row = {column.name: columns[column.name][number].item() for column in layout.columns}
        values = {name: array[number] for name, array in arrays.items()}
        journal.append(stream, point=point, attempt=attempt, t_s=t_s, wall_s=wall_s, row=row, arrays=values)
