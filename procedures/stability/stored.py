"""Reads of a stability run as it has stored them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.frames import Frames
from labctl.analysis.split_line import BandLines, fit_band_lines
from labctl.analysis.stability_reads import StabilityReads
from labctl.errors import InputError
from procedures.emission.band import band_mask
from procedures.emission.layout import stored_frame
from procedures.stability.layout import READ
from procedures.stability.memory import BASELINE, SCATTER

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_BLOCK = 64
"""Records that are read together."""
MOST_READS = 900
"""Beyond this many reads of the sample the cycles of a point are taken together: matrices grow with their square."""


@dataclass(frozen=True)
class StoredReads:
    """The reads of a run, p of them of c cycles each; times in s since the start of the run.

    :param index: Record of each read in its stream, shape (p,).
    :param stage: Stage of each, shape (p,); ``t_s``, when it was stored.
    :param sample_s: When the sample was read, shape (p, c); ``sample``, its emission per pulse; ``sample_error``.
    :param reference_s: The same of the reference, shape (p, c + 1); NaN without one.
    :param energy_j: Energy per pulse of each read of the sample, shape (p, c).
    """

    index: NDArray[np.int64]
    stage: NDArray[np.str_]
    t_s: Array
    sample_s: Array
    sample: Array
    sample_error: Array
    reference_s: Array
    reference: Array
    reference_error: Array
    energy_j: Array
    columns: dict[str, NDArray[Any]]

    @classmethod
    def of(cls, run: Any) -> StoredReads:
        """Read them; raises InputError if the baseline or the rest is missing."""
        count = run.count("points") if "points" in run.streams else 0
        columns = run.columns("points") if count else {}
        index = np.flatnonzero(columns["kind"] == READ) if count else np.zeros(0, dtype=int)
        columns = {name: values[index] for name, values in columns.items()}
        stage = columns["stage"] if count else np.zeros(0, dtype=str)
        if not (stage == BASELINE).any() or (stage == BASELINE).all():
            raise InputError(
                f"{len(index)} reads, {int((stage == BASELINE).sum())} of them before the stress, say nothing yet",
                where=str(run.path),
                todo="measure on: the baseline and one read under stress are the least",
            )
        t_s = np.asarray(columns["t_s"], dtype=float)
        array = {name: np.asarray(run.array(name, "points"), dtype=float)[index] for name in _ARRAYS}
        return cls(
            index,
            stage,
            t_s,
            t_s[:, None] - array["sample_before_s"],
            array["sample_cycles"],
            array["sample_cycles_error"],
            t_s[:, None] - array["reference_before_s"],
            array["reference_cycles"],
            array["reference_cycles_error"],
            array["energy_cycles_j"],
            columns,
        )

    def only(self, wanted: BoolArray) -> StoredReads:
        """Get some of them; ``wanted`` has shape (p,)."""
        columns = {name: values[wanted] for name, values in self.columns.items()}
        arrays = {name: getattr(self, name)[wanted] for name in self.__dataclass_fields__ if name != "columns"}
        return StoredReads(**arrays, columns=columns)

    def with_signal(self, signal: Array, error: Array) -> StoredReads:
        """Get the same reads of one cycle with another signal, shape (p,)."""
        return replace(self, sample=signal[:, None], sample_error=error[:, None])

    @property
    def has_reference(self) -> bool:
        """Get whether there is a reference."""
        return bool(np.isfinite(self.reference).any())

    @property
    def middle_s(self) -> Array:
        """Get the mean time at which each sample was read, shape (p,)."""
        return np.nanmean(self.sample_s, axis=1)

    def stability(
        self,
        clock: Callable[[Array], Array],
        unit: str,
        *,
        hot: Sequence[str] = (),
        pump: Array | None = None,
    ) -> StabilityReads:
        """Get them for the analysis.

        :param clock: Reading of the clock that wears the sample, at times in s.
        :param hot: Stages whose reads were taken at the temperature of the stress.
        :param pump: What the signal is to be divided by, shape (p, c); the energy if None.
        """
        points, cycles = self.sample.shape
        sample_s, sample, error = self.sample_s, self.sample, self.sample_error
        energy = self.energy_j if pump is None else pump
        reference = (self.reference_s, self.reference, self.reference_error)
        if points * cycles > MOST_READS:
            sample_s, energy = (np.nanmean(values, axis=1, keepdims=True) for values in (sample_s, energy))
            sample, error = _means(sample, error)
            middle = np.nanmean(reference[0], axis=1, keepdims=True)
            reference = (middle, *_means(*reference[1:]))
            cycles = 1
        # Points of fewer cycles than others have NaN for the rest.
        taken = np.isfinite(sample_s).ravel()
        when = sample_s.ravel()[taken]
        point = np.repeat(np.arange(points), cycles)[taken]
        baseline = self.stage[point] == BASELINE
        reading = np.where(baseline, 0.0, clock(when))
        known = self.has_reference
        seen_s, seen, seen_error = (values.ravel() for values in reference)
        there = np.isfinite(seen)
        return StabilityReads.of(
            reading,
            sample.ravel()[taken],
            time_s=when,
            signal_error=error.ravel()[taken],
            baseline=baseline,
            point=point,
            hot=np.isin(self.stage, hot)[point],
            reference_time_s=seen_s[there] if known else None,
            reference=seen[there] if known else None,
            reference_error=seen_error[there] if known else None,
            pump_energy=energy.ravel()[taken],
            clock_unit=unit,
        )

    def lines_reads(self, clock: Callable[[Array], Array], unit: str, *, hot: Sequence[str] = ()) -> StabilityReads:
        """Get one read a point, for what its summed spectrum tells."""
        baseline = self.stage == BASELINE
        return StabilityReads.of(
            np.where(baseline, 0.0, clock(self.middle_s)),
            np.nanmean(self.sample, axis=1),
            time_s=self.middle_s,
            baseline=baseline,
            hot=np.isin(self.stage, hot),
            clock_unit=unit,
        )


_ARRAYS = (
    "sample_before_s",
    "sample_cycles",
    "sample_cycles_error",
    "reference_before_s",
    "reference_cycles",
    "reference_cycles_error",
    "energy_cycles_j",
)


def _means(values: Array, errors: Array) -> tuple[Array, Array]:
    """Get the means over the last axis and their errors, shape (p, 1)."""
    count = np.maximum(np.isfinite(values).sum(axis=1, keepdims=True), 1)
    return np.nanmean(values, axis=1, keepdims=True), np.sqrt(np.nansum(errors**2, axis=1, keepdims=True)) / count


def band_lines(
    run: Any, reads: StoredReads, band_nm: tuple[float, float], counts_per_electron: float
) -> BandLines | None:
    """Fit the line of the summed spectrum of each read; None where there is none to fit.

    Dark frames and the light of the stress lamp are subtracted. Raises InputError if a dark frame is missing.
    """
    axis = np.asarray(run.axes["wavelength_nm"].values)
    mask = band_mask(axis, band_nm)
    spectra, errors = spectra_of(run, reads, counts_per_electron)
    try:
        return fit_band_lines(axis[mask], spectra[:, mask], counts_error=errors[:, mask])
    except ValueError:
        return None


def spectra_of(run: Any, reads: StoredReads, counts_per_electron: float) -> tuple[Array, Array]:
    """Get the summed spectra of the reads per pulse with the errors of each pixel, shape (p, pixels) each."""
    frames = Frames(counts_per_electron)
    for entry in _records(run, "dark", range(run.count("dark"))):
        frames.add_dark(stored_frame(*entry))
    if SCATTER in run.streams and run.count(SCATTER):
        scatter = run.columns(SCATTER)
        names = ("pulse_energy_j", "counted_pulses", "pulse_energy_error_j")
        values = (float(scatter[name][-1]) for name in names)
        frames.add_scatter(stored_frame(*next(_records(run, SCATTER, [run.count(SCATTER) - 1]))), *values)
    columns = reads.columns
    pixels = run.array("spectrum", "points").shape[1]
    spectra, errors = np.empty((len(reads.index), pixels)), np.empty((len(reads.index), pixels))
    lamp = run.array("lamp_light", "points")
    lit = np.isfinite(columns["irradiance_mw_cm2"]) & ~columns["stress_paused"].astype(bool)
    try:
        for number, (row, arrays) in enumerate(_records(run, "points", reads.index)):
            pulses = float(columns["counted_pulses"][number])
            energy_j = float(columns["pulse_energy_j"][number])
            signal, variance = frames.emission(stored_frame(row, arrays), energy_j, pulses)
            seconds = row["exposure_s"] * row["accumulations"]
            if lit[number]:
                signal = signal - np.asarray(lamp[int(reads.index[number])], dtype=float) * seconds
            spectra[number] = signal / pulses
            errors[number] = np.sqrt(variance) / pulses
    except LookupError as missing:
        raise InputError(str(missing), where=str(run.path), todo="measure again; the run lacks frames") from missing
    return spectra, errors


def _records(run: Any, stream: str, indices: Any) -> Any:
    """Give row and arrays of some records, indices ascending; read in blocks, which is far faster than one by one."""
    exposure_s, sums = run.column("exposure_s", stream), run.column("accumulations", stream)
    spectrum, mask = run.array("spectrum", stream), run.array("mask", stream)
    wanted = np.asarray(indices, dtype=int)
    for first in range(0, run.count(stream), _BLOCK):
        here = wanted[(wanted >= first) & (wanted < first + _BLOCK)]
        if not here.size:
            continue
        spectra, masks = spectrum[first : first + _BLOCK], mask[first : first + _BLOCK]
        for at in here.tolist():
            yield (
                {"exposure_s": float(exposure_s[at]), "accumulations": int(sums[at])},
                {"spectrum": spectra[at - first], "mask": masks[at - first]},
            )


def stored_log(run: Any, streams: Sequence[str]) -> tuple[Array, Array]:
    """Get the log of the stress of some streams: times in s since the start of the run, ascending, and values."""
    times, values = [], []
    for stream in streams:
        if stream not in run.streams or not run.count(stream):
            continue
        t_s = np.asarray(run.column("t_s", stream), dtype=float)
        before = np.asarray(run.array("log_before_s", stream), dtype=float)
        times.append((t_s[:, None] - before).ravel())
        values.append(np.asarray(run.array("log_value", stream), dtype=float).ravel())
    if not times:
        return np.zeros(0), np.zeros(0)
    when, what = np.concatenate(times), np.concatenate(values)
    known = np.isfinite(when) & np.isfinite(what)
    order = np.argsort(when[known], kind="stable")
    return when[known][order], what[known][order]
