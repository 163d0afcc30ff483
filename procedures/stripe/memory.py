"""What a stripe scan has measured so far: frames to subtract, rows that steer the exposure, the film's edge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from labctl.analysis.frames import Frames
from labctl.errors import InstrumentError
from labctl.run.record import Acknowledged
from procedures.emission.layout import stored_frame
from procedures.stripe.edge import Edge, EdgeSearch


class StripeMemory:
    """Follows from the stored records alone, so a resumed run goes on as if it had never stopped.

    :param frames: Dark frames.
    :param search: Takes the points of the edge scan.
    """

    def __init__(self, frames: Frames, search: EdgeSearch) -> None:
        self.frames = frames
        self.rows: list[Mapping[str, Any]] = []
        self.earlier_dose_j_cm2 = 0.0
        """Dose on the spot in the earlier parts of a resumed run, in J/cm²."""
        self._search = search
        self._edge: Edge | None = None

    @property
    def edge(self) -> Edge | None:
        """Get the film's edge, once a stripe has been measured from it."""
        return self._edge

    def require_edge(self) -> Edge:
        """Find the film's edge in what the scan has shown; raises InstrumentError if it shows none."""
        if self._edge is None:
            try:
                self._edge = self._search.find()
            except ValueError as reason:
                raise InstrumentError(
                    f"the film's edge was not found: {reason}",
                    where="edge scan",
                    state="shutter closed; no stripe was measured",
                    todo="look where the edge is, correct slit.edge and slit.edge_scan in the bench file",
                ) from reason
        return self._edge

    def acknowledge(self, entry: Acknowledged) -> None:
        """Learn from the record that has just been stored."""
        if entry.point.stage == "dark":
            return
        self.rows.append(entry.row)
        if entry.point.stage == "edge":
            self._search.add(entry.row["far_mm"], entry.row["band_intensity"], entry.row["band_intensity_error"])

    def recall(self, entry: Acknowledged, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take a stored frame or row as if it had just been measured."""
        if entry.point.stage == "dark":
            self.frames.add_dark(stored_frame(entry.row, arrays))
            return
        self.acknowledge(entry)
        self.earlier_dose_j_cm2 = entry.row["dose_j_cm2"]
