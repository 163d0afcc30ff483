"""Light on the sample, and its way into the exposure ledger."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.bench.ledger import Exposure, ExposureLedger
from labctl.bench.light import LightOnSample

if TYPE_CHECKING:
    from labctl.run.request import PreparedRun


def write_ledger(prepared: PreparedRun, run: str, light: Sequence[LightOnSample]) -> None:
    """Enter light into the ledger beside the runs, under the sample and spot of the request; raises StorageError.

    :param run: Name of the run.
    """
    sample = prepared.sample.sample.name if prepared.sample else "no-sample"
    spot, simulated = prepared.request.spot, prepared.simulated
    exposures = [
        Exposure(sample, spot, run, entry.wall_s, entry.open_s, entry.pulses, entry.fluence_uj_cm2, simulated)
        for entry in light
    ]
    ExposureLedger(Path(prepared.request.out)).write(exposures)
