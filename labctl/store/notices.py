"""What happened during a run besides its points, in words: failed attempts, skipped points, pauses, alterations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

_WEAKER, _STRONGER = 0.8, 1.25
"""A reference point outside these has changed by more than lasers drift in a day."""


def in_words(kind: str, data: Mapping[str, Any]) -> str:
    """Get one line that says what happened."""
    writer = _WRITERS.get(kind)
    return writer(data) if writer is not None else kind


def warnings_of(noticed: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Get what the outcome of a run says of it: each skipped point, failures summed up by instrument, the reference."""
    found = []
    failures = Counter(
        str(data.get("role") or "an instrument") for kind, data in noticed if kind == "incident" and data.get("action")
    )
    for role, count in failures.items():
        times = "once" if count == 1 else f"{count} times"
        found.append(f"the {role.replace('_', ' ')} failed {times} during a point; `labctl show` lists the incidents")
    found += [in_words(kind, data) for kind, data in noticed if kind in {"skipped", "refused"}]
    found += [in_words(kind, data) for kind, data in noticed if kind == "reference" and _is_far_off(data)]
    return found


def _is_far_off(data: Mapping[str, Any]) -> bool:
    ratio = data.get("ratio")
    return data.get("point") is not None and (ratio is None or not _WEAKER <= ratio <= _STRONGER)


def _incident(data: Mapping[str, Any]) -> str:
    error = data.get("error") or {}
    what = str(error.get("what", "an error")).splitlines()[0]
    if "point" not in data:
        return what
    role = str(data.get("role") or "an instrument").replace("_", " ")
    follows = {
        "retry": "tried again",
        "skip": "given up",
        "not brought back": "could not be brought back",
    }.get(str(data.get("action")), str(data.get("action")))
    place = f"point {data['point']} ({data.get('stage', '')}), attempt {data.get('attempt', 0) + 1}"
    return f"{place}: {role}: {what}; {follows}"


def _skipped(data: Mapping[str, Any]) -> str:
    return f"point {data['point']} ({data.get('stage', '')}) was skipped: {data.get('why', '')}"


def _paused(data: Mapping[str, Any]) -> str:
    return f"paused before point {data['before']} by {data.get('by', 'somebody')}: {data.get('reason', '')}"


def _continued(data: Mapping[str, Any]) -> str:
    return f"continued before point {data['before']} after {data.get('paused_s', 0.0):.0f} s"


def _altered(data: Mapping[str, Any]) -> str:
    alteration = data.get("alteration") or {}
    every_s = alteration.get("every_s")
    amount = f"to one point every {every_s:g} s" if every_s else f"by {alteration.get('points')} points"
    what = f"{alteration.get('what', 'alter')} {amount}"
    return f"stage {alteration.get('stage', '')}: {what}, {data.get('takes_effect', '')}"


def _refused(data: Mapping[str, Any]) -> str:
    return f"an alteration was refused: {(data.get('error') or {}).get('what', '')}"


def _resumed(data: Mapping[str, Any]) -> str:
    ended = f"the run having {data.get('status', 'ended')}: {data.get('cause', '')}"
    return f"resumed after {data.get('gap_s', 0.0):.0f} s, {ended}"


def _reference(data: Mapping[str, Any]) -> str:
    if data.get("point") is None:
        return f"no reference point was measured: {data.get('why', '')}"
    ratio = data.get("ratio")
    if ratio is None:
        return f"the reference point {data['point']} had no signal before"
    return f"the reference point {data['point']}, measured again after the gap, gives {ratio:.3f} of its signal before"


_WRITERS = {
    "incident": _incident,
    "skipped": _skipped,
    "paused": _paused,
    "continued": _continued,
    "altered": _altered,
    "refused": _refused,
    "resumed": _resumed,
    "reference": _reference,
}
NOTICES = tuple(_WRITERS)
"""Kinds of events that :func:`in_words` can tell."""
