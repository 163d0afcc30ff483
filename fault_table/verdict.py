"""What is thought of a replay: did labctl keep its promises under this fault?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter1d

from fault_table.replay import Report, Row
from labctl.run.outcome import Outcome
from labctl.sim.faults import CONNECT, Kind
from labctl.store.notices import warnings_of
from procedures.emission.layout import COSMIC

_SPREADS = 3.0
"""A number beyond so many times the range over a few runs with other noise is no noise: 8 standard deviations."""
_NEIGHBOURS = 5
_ROUNDING = 1e-9
_METER_SHARE = 0.05
"""What the meter may be off the true mean by the noise of the pulses."""
_COSMIC_SHARE = 0.02
"""No more pixels of a spectrum than this share of them are hit by cosmic rays."""
_TRUE_ANYWAY = frozenset(
    {"open_s", "dose_j_cm2", "stress_s", "stress_began_unix_s", "took_s", "sample_before_s", "reference_before_s"}
)
"""A fault lets light fall for longer, and all that follows come later: that these columns tell it is right."""
_TRUTHS = {
    "temperature_c": ("temperature_c", 0.0, 1.0),
    "reached_c": ("temperature_c", 0.0, 1.0),
    "irradiance_mw_cm2": ("irradiance_mw_cm2", 0.05, 0.5),
    "lamp_dose_j_cm2": ("uv_j_cm2", 0.05, 3.0),
}
"""What is read at another time is another number. It is right if it is the true one then: what the laboratory calls it,
relative and absolute tolerance; the lamp goes on shining while a spectrum is taken."""

UNDETECTABLE = frozenset({Kind.DIGIT})
"""Kinds after which what is received is as good as before: without a second source nobody can know."""
_LASTING = frozenset({Kind.DEAD, Kind.UNPLUGGED, Kind.STUCK})
_END_OF_LIBRARY = frozenset({Kind.SILENCE, Kind.LATE, Kind.DISCONNECT, Kind.RESET})
"""After these a vendor library is gone or wants to be initialised anew, which takes longer than a safe state may."""


class Verdict(StrEnum):
    """What came of a replay; those in capitals break a promise."""

    SAME = "finished, same result"
    NOISE = "finished, within noise"
    AGAIN = "finished after another try"
    SKIPPED = "finished, point skipped and marked"
    ELSEWHERE = "other fluence, measured right"
    WARNED = "stored, with a warning"
    FAILED = "failed, named"
    ABORTED = "aborted"
    UNDETECTABLE = "undetectable, stored"
    STORED = "DETECTABLE, STORED"
    UNNAMED = "FAILED, NOT NAMED"
    UNSAFE = "UNCONFIRMED WITHOUT NEED"
    LIE = "CONFIRMED, BUT LIGHT OR HEAT IS ON"
    HANG = "HANG OR CRASH"
    NOTHING = "nothing to spoil"


BAD = (Verdict.STORED, Verdict.UNNAMED, Verdict.UNSAFE, Verdict.LIE, Verdict.HANG)


@dataclass
class Noise:
    """How far every stored number scatters by itself.

    :param reference: Records of the run without a fault.
    :param others: Those of runs whose noise is another, and nothing else.
    :param warnings: Warnings of the run without a fault.
    """

    reference: Sequence[Row]
    others: Sequence[Sequence[Row]]
    warnings: Sequence[str] = ()
    _allowed: dict[tuple[int, str], Any] = field(default_factory=dict)

    def places(self, rows: Sequence[Row]) -> dict[int, Row]:
        """Get records by their place in the run; raises KeyError unless each has one of its own, in the order given."""
        known = {(row.stream, row.point): index for index, row in enumerate(self.reference)}
        indices = [known[row.stream, row.point] for row in rows]
        if any(later <= earlier for earlier, later in pairwise(indices)):
            raise KeyError("not in the order of the plan")
        return dict(zip(indices, rows, strict=True))

    def wrong(self, index: int, row: Row) -> list[str]:
        """Get the names of columns and arrays of a record that are beyond the noise.

        :param index: Place of the record in the run.
        """
        values = {**row.row, **row.arrays, **self._without_cosmic_rays(index, row)}
        values = {name: value for name, value in values.items() if not _is_true(name, row)}
        return [name for name, value in values.items() if not self._is_noise(index, name, value)]

    def _without_cosmic_rays(self, index: int, row: Row) -> dict[str, Any]:
        """Get what is left of a spectrum where its mask tells of cosmic rays: a later attempt has others."""
        reference = self.reference[index]
        if "mask" not in row.arrays or np.shape(row.arrays["mask"]) != np.shape(reference.arrays.get("mask")):
            return {}
        mask, before = np.asarray(row.arrays["mask"]), np.asarray(reference.arrays["mask"])
        hit = (mask & COSMIC) != (before & COSMIC)
        if not hit.any() or hit.sum() > _COSMIC_SHARE * hit.size:
            return {}
        spectrum = np.where(hit, reference.arrays["spectrum"], row.arrays["spectrum"])
        count = reference.row.get("cosmic_pixels", 0)
        return {"spectrum": spectrum, "mask": np.where(hit, before, mask), "cosmic_pixels": count}

    def is_elsewhere(self, index: int, row: Row) -> bool:
        """Get whether a record holds the fluence that there truly was, which is not the one of the reference.

        A mount that is reset just before it moves ends elsewhere and does not know it; the fluence is measured.
        """
        reference, name = self.reference[index], "fluence_uj_cm2"
        if name not in row.row or name not in row.truth or name not in reference.row:
            return False
        ratio = row.row[name] / row.truth[name]
        expected = reference.row[name] / reference.truth[name]
        moved = abs(row.truth[name] / reference.truth[name] - 1) > _ROUNDING
        return moved and abs(ratio / expected - 1) < _METER_SHARE

    def same(self, index: int, row: Row) -> bool:
        """Get whether a record is that of the run without a fault."""
        values = {**row.row, **row.arrays}
        return all(
            name in _TRUE_ANYWAY or _equal(value, _value(self.reference[index], name)) for name, value in values.items()
        )

    def _is_noise(self, index: int, name: str, value: Any) -> bool:
        expected = _value(self.reference[index], name)
        if name in _TRUE_ANYWAY or _equal(value, expected):
            return True
        if isinstance(expected, str) or np.shape(value) != np.shape(expected):
            return False
        allowed = self._range(index, name)
        off = np.abs(np.asarray(value, dtype=float) - np.asarray(expected, dtype=float))
        # NaN where a number was expected, or the other way round, is not noise unless it comes and goes with the noise.
        return bool(np.all(off <= allowed) or np.all(np.isnan(allowed)))

    def _range(self, index: int, name: str) -> Any:
        key = (index, name)
        if key not in self._allowed:
            runs = [self.reference, *self.others]
            values = np.array([_value(run[index], name) for run in runs if index < len(run)], dtype=float)
            size = np.abs(np.asarray(_value(self.reference[index], name), dtype=float))
            spread = values.max(axis=0) - values.min(axis=0)
            # The range of a single pixel over a few runs may be small by chance: its neighbours are alike, and that
            # of counts grows with their root.
            spread = maximum_filter1d(spread, _NEIGHBOURS) if spread.ndim == 1 and spread.size > _NEIGHBOURS else spread
            root = np.sqrt(np.maximum(size, 1.0))
            least = np.maximum(np.median(spread), np.median(spread / root) * root) if spread.ndim else 0.0
            self._allowed[key] = _SPREADS * np.maximum(spread, least) + _ROUNDING * size
        return self._allowed[key]


@dataclass(frozen=True)
class Judged:
    """A replay and what is thought of it.

    :param why: What was wrong, or the first line of the message.
    """

    report: Report
    verdict: Verdict
    why: str


def judge(report: Report, noise: Noise) -> Judged:
    """Judge a replay."""
    outcome = report.outcome
    if report.hang:
        return Judged(report, Verdict.HANG, report.hang)
    if not report.applied or outcome is None:
        return Judged(report, Verdict.NOTHING, "")
    if lie := _lie(report, outcome):
        return Judged(report, Verdict.LIE, lie)
    if needless := _needless(report):
        return Judged(report, Verdict.UNSAFE, needless)
    try:
        places = noise.places(report.rows)
    except KeyError:
        return Judged(report, Verdict.STORED, "place in the plan")
    wrong = {name for index, row in places.items() for name in noise.wrong(index, row)}
    if wrong and all(noise.is_elsewhere(index, row) for index, row in places.items() if noise.wrong(index, row)):
        return Judged(report, Verdict.ELSEWHERE, ", ".join(sorted(wrong)))
    if wrong and set(outcome.warnings) - set(noise.warnings) - set(warnings_of(report.notices)):
        return Judged(report, Verdict.WARNED, ", ".join(sorted(wrong)))
    if wrong:
        detectable = report.kind not in UNDETECTABLE
        return Judged(report, Verdict.STORED if detectable else Verdict.UNDETECTABLE, ", ".join(sorted(wrong)))
    cut = report.cut and outcome.status == "aborted"
    if outcome.error is not None and not cut:
        if not is_named(report):
            return Judged(report, Verdict.UNNAMED, _what(outcome.error))
        return Judged(report, Verdict.ABORTED if outcome.status == "aborted" else Verdict.FAILED, _what(outcome.error))
    return _judge_finished(report, noise, places)


def _judge_finished(report: Report, noise: Noise, places: Mapping[int, Row]) -> Judged:
    """Judge a replay that finished with no wrong number: is it whole, and does it tell what happened?"""
    incidents = [data for kind, data in report.notices if kind == "incident"]
    skipped = {data["point"] for kind, data in report.notices if kind == "skipped"}
    end = max(places) + 1 if report.cut else len(noise.reference)
    missing = set(range(report.first, end)) - set(places)
    if any(noise.reference[index].point not in skipped for index in missing):
        return Judged(report, Verdict.STORED, "records are missing")
    if incidents and not is_named(report):
        return Judged(report, Verdict.UNNAMED, _what(incidents[0]["error"]))
    if missing:
        return Judged(report, Verdict.SKIPPED, _what(incidents[0]["error"]) if incidents else "")
    if incidents:
        return Judged(report, Verdict.AGAIN, _what(incidents[0]["error"]))
    same = all(noise.same(index, row) for index, row in places.items())
    return Judged(report, Verdict.SAME if same else Verdict.NOISE, "")


def is_named(report: Report) -> bool:
    """Get whether the message of a failed run, or an incident, names the instrument that has the fault."""
    error = report.outcome.error if report.outcome else None
    text = json.dumps([error, [data for kind, data in report.notices if kind == "incident"]], default=str)
    return any(name in text for name in (report.role, report.role.replace("_", " ")))


def _lie(report: Report, outcome: Outcome) -> str:
    """Get what is on although it was confirmed to be off."""
    if report.light and outcome.safe_state == "confirmed":
        return "the true shutter is open"
    unconfirmed = {step["role"] for step in outcome.safe_report.get("steps", ()) if not step["confirmed"]}
    return ", ".join(f"{role} is on" for role in report.left_on if role not in unconfirmed)


def _needless(report: Report) -> str:
    """Get the steps that were not confirmed although the fault does not forbid it."""
    if report.outcome is None or report.outcome.safe_state != "unconfirmed":
        return ""
    opening = report.step is not None and report.step.stage == "opening"
    if report.step is not None and report.step.transaction.command == CONNECT:
        return ""  # what was never reached can confirm nothing
    forbidding = _LASTING | (_END_OF_LIBRARY if report.is_library else frozenset())
    steps = [step for step in report.outcome.safe_report["steps"] if not step["confirmed"]]
    if report.is_library and opening:
        # A library that refused to be initialised answers nothing else.
        steps = [step for step in steps if step["action"] != "reach the instrument"]
    needless = [step for step in steps if step["role"] != report.role or report.kind not in forbidding]
    return "; ".join(f"{step['role']}: {step['action']}: {step['evidence']}" for step in needless)


def _what(error: dict[str, Any]) -> str:
    return f"{error['type']}: {' / '.join(str(error['what']).splitlines())}"


def _is_true(name: str, row: Row) -> bool:
    if name not in _TRUTHS or name not in row.row:
        return False
    of, relative, absolute = _TRUTHS[name]
    return of in row.truth and abs(row.row[name] - row.truth[of]) < absolute + relative * abs(row.truth[of])


def _value(row: Row, name: str) -> Any:
    return row.row[name] if name in row.row else row.arrays[name]


def _equal(value: Any, expected: Any) -> bool:
    if isinstance(expected, str):
        return value == expected
    return np.array_equal(np.asarray(value, dtype=float), np.asarray(expected, dtype=float), equal_nan=True)
