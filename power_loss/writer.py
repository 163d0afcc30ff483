"""The program that is traced: a run as the engine writes it, with a remark for everything it is told is stored.

``python -m power_loss.writer FOLDER take|resume [--unsafe KIND]``: *take* makes a run and dies in the middle of it
without closing anything; *resume* goes on with it, ends it, seals it, and adds a result and a note.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from labctl.store.journal import Journal
from labctl.store.layout import ArrayField, Column, RowLayout
from labctl.store.payload import Payload
from labctl.store.results import add_note, add_result
from labctl.store.run import open_run
from labctl.store.seal import seal
from power_loss.disk import MARK

NAME = "0001_power-loss"
PAYLOAD = f"{NAME}.photons.payload"
PIXELS = 512
UNSAFE = ("off", "normal", "payload", "directory")
"""What may be left out, to prove that it is missed: syncs of SQLite, all or some, of payload files, of directories."""

_TAKEN, _RESUMED = 60, 200
_CHECKPOINT_PAGES = 40
_LAYOUT = RowLayout(
    (
        Column("signal_counts", "float"),
        Column("offset", "int"),
        Column("length", "int"),
        Column("crc", "int"),
        Column("remark", "text", width=16),
    ),
    (ArrayField("spectrum", (PIXELS,), "float32", "counts", axis="wavelength_nm"),),
)


def spectrum(point: int) -> np.ndarray[Any, Any]:
    """The spectrum of a point."""
    return (np.arange(PIXELS) + 1000.0 * point).astype(np.float32)


def photons(point: int) -> bytes:
    """The payload of a point."""
    return np.random.default_rng([0, point]).bytes(300 + 37 * point % 5000)


class Run:
    """The journal and its payload file, and what of them is known to be stored."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self.journal = journal
        self.payload = Payload(folder / PAYLOAD)
        journal.add_payload(self.payload)
        self.known: dict[str, Any] = {"points": journal.acknowledged("points"), "events": 0, "status": "running"}

    def mark(self, **known: Any) -> None:
        """Remark what is stored by now."""
        self.known |= {"points": self.journal.acknowledged("points"), **known}
        os.write(2, MARK + json.dumps(self.known).encode())

    def take(self, point: int) -> None:
        """Store one point."""
        where = self.payload.append(photons(point))
        row = {"signal_counts": 1.5 * point, "offset": where.offset, "length": where.length, "crc": where.crc32}
        row["remark"] = f"µ{point}"
        arrays = {"spectrum": spectrum(point)}
        self.journal.append("points", point=point, attempt=0, t_s=0.1 * point, wall_s=0.0, row=row, arrays=arrays)
        if point % 7 == 0:
            self.journal.event("incident", {"point": point, "text": "x" * 50}, t_s=0.1 * point, wall_s=0.0)
            self.known["events"] += 1
        self.mark()


def take(folder: Path, unsafe: str) -> None:
    """Begin a run, and die."""
    journal = Journal.create(folder / f"{NAME}.journal", {"run": NAME, "default_stream": "points"})
    _leave_out(journal, unsafe)
    journal.add_stream("points", _LAYOUT)
    journal.set_axis("wavelength_nm", np.linspace(500.0, 560.0, PIXELS), "nm")
    run = Run(folder, journal)
    run.mark()
    for point in range(_TAKEN):
        run.take(point)
    os._exit(0)


def resume(folder: Path, unsafe: str) -> None:
    """Go on with the run, with a reader that has it open, end it, seal it, add to it."""
    path, sealed = folder / f"{NAME}.journal", folder / f"{NAME}.h5"
    with Journal.open(path, group_commit_s=0.02) as journal, open_run(path) as reader:
        _leave_out(journal, unsafe)
        run = Run(folder, journal)
        run.known["events"] = len(reader.events())
        for point in range(journal.acknowledged("points"), _RESUMED):
            run.take(point)
        journal.commit()
        run.mark()
        journal.set_status("finished", t_s=1.0, wall_s=0.0)
        run.mark(status="finished", events=run.known["events"] + 1)
        add_note(path, "while it was open")
        run.payload.close()
        journal.close()
        run.mark(notes=1)
        seal(path, sealed, process={"threshold": {"value": 1.0}}, wall_s=0.0)
        run.mark(sealed=True, results=1)
    add_result(sealed, "threshold", {"value": 2.0}, wall_s=1.0)
    run.mark(results=2)
    add_note(sealed, "afterwards", wall_s=2.0)
    run.mark(notes=2)


def _leave_out(journal: Journal, unsafe: str) -> None:
    journal._connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
    if unsafe in ("off", "normal"):
        journal._connection.execute(f"PRAGMA synchronous={unsafe}")
    elif unsafe == "payload":
        Payload.sync = lambda self: None  # type: ignore[method-assign]


def main(folder: str, part: str, unsafe: str = "") -> None:
    """Run one part."""
    if unsafe == "directory":
        import labctl.store.durable
        import labctl.store.seal

        labctl.store.durable.sync_directory = labctl.store.seal.sync_directory = lambda path: None
    {"take": take, "resume": resume}[part](Path(folder), unsafe)


if __name__ == "__main__":
    main(*sys.argv[1:])
