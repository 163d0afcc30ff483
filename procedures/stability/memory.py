"""What a stability run has measured so far: dark frames, how bright the last reads were, when the stress began."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.frames import Frames
from labctl.run.record import Acknowledged
from procedures.emission.layout import stored_frame
from procedures.stability.layout import READ

BASELINE, SCATTER, SLOPE = "baseline", "scatter", "slope"


class StabilityMemory:
    """Follows from the stored records alone, so a resumed run goes on as if it had never stopped.

    It holds the last read and the mean of the baseline only: a run of weeks must not fill the memory.

    :param frames: Dark frames.
    """

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        self.earlier_dose_j_cm2 = 0.0
        """Dose of the pump on the spot in the earlier parts of a resumed run, in J/cm²."""
        self.earlier_lamp_dose_j_cm2 = 0.0
        """Dose of the lamp in the earlier parts of a resumed run, in J/cm²."""
        self.lamp_dose_j_cm2 = 0.0
        """Dose of the lamp on the sample so far, in J/cm²."""
        self.stress_began_unix_s = 0.0
        """When the stress began; 0 before."""
        self.shots = 0
        """Pulses that had passed at the end of the last point, from the trigger counter."""
        self.early_reads: list[tuple[str, float, float]] = []
        """Stage, energy in J and intensity of the reads before the stress."""
        self._rates: dict[float, tuple[float, float]] = {}
        self._baseline: list[float] = []

    def rates(self, fluence_uj_cm2: float) -> tuple[float | None, float | None]:
        """Get the rates of the brightest pixel of sample and reference that are expected at a fluence, counts/s."""
        return self._rates.get(round(fluence_uj_cm2, 9), (None, None))

    def relative(self, ratio: float, stage: str) -> float:
        """Get a ratio in units of the mean of the baseline, as far as that is known."""
        known = [*self._baseline, ratio] if stage == BASELINE else self._baseline
        level = float(np.mean(known)) if known else float("nan")
        return ratio / level if level else float("nan")

    def acknowledge(self, entry: Acknowledged) -> None:
        """Learn from the record that has just been stored."""
        row = entry.row
        if row.get("stress_began_unix_s"):
            self.stress_began_unix_s = float(row["stress_began_unix_s"])
        if "lamp_dose_j_cm2" in row:
            self.lamp_dose_j_cm2 = float(row["lamp_dose_j_cm2"])
            self.shots = int(row["shots"])
        if row.get("kind") != READ:
            return
        fluence = round(float(row["fluence_set_uj_cm2"]), 9)
        self._rates[fluence] = (float(row["peak_rate"]), float(row["reference_peak_rate"]) or 1.0)
        if entry.point.stage in (BASELINE, SLOPE):
            intensity = float(row["sample_intensity"])
            self.early_reads.append((entry.point.stage, float(row["pulse_energy_j"]), intensity))
        if entry.point.stage == BASELINE:
            self._baseline.append(float(row["ratio"]))

    def recall(self, entry: Acknowledged, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take a stored frame or row as if it had just been measured."""
        if entry.point.stage == "dark":
            self.frames.add_dark(stored_frame(entry.row, arrays))
            return
        if entry.point.stage == SCATTER:
            row, frame = entry.row, stored_frame(entry.row, arrays)
            self.frames.add_scatter(frame, row["pulse_energy_j"], row["counted_pulses"], row["pulse_energy_error_j"])
            return
        self.acknowledge(entry)
        if "dose_j_cm2" in entry.row:
            self.earlier_lamp_dose_j_cm2 = self.lamp_dose_j_cm2
        if entry.row.get("kind") == READ:
            self.earlier_dose_j_cm2 = float(entry.row["dose_j_cm2"])
