"""What is found when the power is back: nothing that was acknowledged may be missing, and the run must go on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from labctl.errors import StorageError
from labctl.store.journal import Journal
from labctl.store.payload import PayloadReference, read_payload
from labctl.store.run import Run, open_run
from labctl.store.seal import seal
from power_loss.writer import NAME, PAYLOAD, PIXELS, photons, spectrum


def problems(folder: Path, known: Mapping[str, Any]) -> list[str]:
    """What is lost, unreadable or cannot go on in the files of ``folder``, in plain words; empty if all is well.

    :param known: What the program had been told is stored when the power went; empty if nothing yet.
    """
    if not known:
        return _promised_nothing(folder)
    try:
        found = _lost(folder, known)
    except (StorageError, OSError) as error:
        return [f"unreadable: {error}"]
    if found:
        return found
    try:
        return _going_on(folder)
    except (StorageError, OSError) as error:
        return [f"cannot go on: {error}"]


def _lost(folder: Path, known: Mapping[str, Any]) -> list[str]:
    with open_run(folder / NAME) as run:
        if "points" not in run.streams:
            return ["lost: the run has no stream of points"]
        count = run.count()
        kept = {"points": count, "events": len(run.events()), "notes": len(run.notes), "results": len(run.results)}
        found = [f"lost: {kept[name]} of {known[name]} {name}" for name in kept if kept[name] < known.get(name, 0)]
        if known["status"] == "finished" != run.status:
            found.append(f"lost: the status is {run.status}")
        columns = run.columns()
        if not np.array_equal(columns["point"], np.arange(count)):
            found.append("wrong: the numbers of the points")
        if not np.array_equal(
            np.asarray(run.array("spectrum")), np.array([spectrum(n) for n in range(count)]).reshape(count, PIXELS)
        ):
            found.append("wrong: the spectra")
        if columns["remark"].tolist() != [f"µ{n}" for n in range(count)]:
            found.append("wrong: the remarks")
        return found + _lost_payload(folder, run)


def _lost_payload(folder: Path, run: Run) -> list[str]:
    columns = run.columns()
    for point in range(run.count()):
        where = PayloadReference(*(int(columns[name][point]) for name in ("offset", "length", "crc")))
        try:
            if read_payload(folder / PAYLOAD, where) != photons(point):
                return [f"wrong: the payload of point {point}"]
        except StorageError as error:
            return [f"lost: the payload of point {point}: {error.what}"]
    return []


def _promised_nothing(folder: Path) -> list[str]:
    """A run that never began may be unreadable, with a clear error, and must not stand in the way of the next."""
    try:
        open_run(folder / NAME).close()
    except StorageError:
        pass
    Journal.create(folder / "0002_next.journal", {}).close()
    return []


def _going_on(folder: Path) -> list[str]:
    """Resume the run for a few points, as ``--resume`` does, and seal it."""
    path, sealed = folder / f"{NAME}.journal", folder / f"{NAME}.h5"
    if not path.exists():
        return [] if sealed.exists() else ["lost: neither journal nor sealed file"]
    with Journal.open(path) as journal:
        count, status = journal.acknowledged("points"), journal.status
        if status == "running":
            row = {"signal_counts": 0.0, "offset": 0, "length": 0, "crc": 0, "remark": "resumed"}
            for point in range(count, count + 3):
                arrays = {"spectrum": spectrum(point)}
                journal.append("points", point=point, attempt=0, t_s=0.0, wall_s=0.0, row=row, arrays=arrays)
            journal.event("resume", {"from": count}, t_s=0.0, wall_s=0.0)
    with open_run(seal(path, sealed)) as run:
        expected = count + 3 if status == "running" else count
        if run.count() != expected or not np.array_equal(run["point"], np.arange(expected)):
            return [f"wrong: {run.count()} points after the run went on, instead of {expected}"]
    return []


def last_known(marks: list[bytes]) -> dict[str, Any]:
    """What the traced program remarked last; empty before it was told anything."""
    return json.loads(marks[-1]) if marks else {}
