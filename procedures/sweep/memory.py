"""What a sweep has measured so far: frames to subtract, rows that steer the exposure, the shape of the PL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.frames import Frames
from labctl.run.record import Acknowledged
from procedures.emission.layout import stored_frame
from procedures.sweep.spectra import LineColumns, LiveLines


class SweepMemory:
    """Follows from the stored records alone, so a resumed run goes on as if it had never stopped.

    What a spectrum teaches is learnt when its record is stored: one that is thrown away, or that only compares a
    reference point, must leave no trace. Frames replace those of the same exposure.

    :param frames: Dark and scatter frames.
    :param lines: Lines of the spectra, for the eye.
    """

    def __init__(self, frames: Frames, lines: LiveLines) -> None:
        self.frames = frames
        self.rows: list[Mapping[str, Any]] = []
        self.earlier_dose_j_cm2 = 0.0
        """Dose on the spot in the earlier parts of a resumed run, in J/cm²."""
        self._lines = lines
        self._lines_then = lines

    def measure_line(self, emission: NDArray[np.float64], fluence_uj_cm2: float) -> LineColumns:
        """Measure the line of a spectrum of shape (pixels,), per pulse; its shape is learnt once it is stored."""
        self._lines_then = self._lines.copy()
        return self._lines_then.measure(emission, fluence_uj_cm2)

    def recall(self, entry: Acknowledged, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take a stored frame or spectrum as if it had just been measured."""
        row, frame = entry.row, stored_frame(entry.row, arrays)
        if entry.point.stage == "dark":
            self.frames.add_dark(frame)
        elif entry.point.stage == "scatter":
            self.frames.add_scatter(frame, row["pulse_energy_j"], row["counted_pulses"], row["pulse_energy_error_j"])
        else:
            signal, _ = self.frames.emission(frame, row["pulse_energy_j"], row["counted_pulses"])
            self.measure_line(signal / row["counted_pulses"], row["fluence_uj_cm2"])
            self.earlier_dose_j_cm2 = row["dose_j_cm2"]

    def acknowledge(self, entry: Acknowledged) -> None:
        """Learn from the record that has just been stored, and remember its row: auto-exposure follows from rows."""
        if entry.point.stage not in {"dark", "scatter"}:
            self._lines = self._lines_then
            self.rows.append(entry.row)


class ComingFluences:
    """The fluences of each stage in order, as far as they are known: exposures of neighbours overlap.

    :param stages: Name to fluences in uJ/cm^2; empty for a stage that is not planned yet.
    """

    def __init__(self, stages: Mapping[str, tuple[float, ...]]) -> None:
        self._stages = dict(stages)

    def set(self, stage: str, settings: Any) -> None:
        """Enter the points of a stage; frames have no neighbours."""
        if stage in self._stages:
            self._stages[stage] = fluences_of(settings)

    def after(self, stage: str, fluence_uj_cm2: float) -> float | None:
        """Get the fluence of the next point, or None where it is not known yet."""
        names = list(self._stages)
        coming = self._stages[stage]
        number = coming.index(fluence_uj_cm2) + 1
        if number < len(coming):
            return coming[number]
        place = names.index(stage) + 1
        following = self._stages[names[place]] if place < len(names) else ()
        return following[0] if following else None


def fluences_of(settings: Any) -> tuple[float, ...]:
    """Get the fluences of points in uJ/cm^2."""
    return tuple(entry["fluence_uj_cm2"] for entry in settings)
