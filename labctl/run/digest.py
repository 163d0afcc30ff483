"""The daily digest of a campaign: what has ended, what goes on, what is left, and the curves of the runs that go on.

``python -m labctl.run.digest`` makes one in a process of its own: a JSON object in (``state``, ``since_s``, ``now_s``,
``picture``), a JSON object out (``title``, ``text``, ``picture``).
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.errors import LabctlError, StorageError
from labctl.report.curves_figure import Curve, curves_png
from labctl.report.wording import clipped, label_text, reading
from labctl.run.campaign_status import campaign_status, local_text
from labctl.store.run import open_run

log = logging.getLogger(__name__)

MOST_CURVES = 6
_MOST_LINES = 40
_GOES = ("running", "waiting", "broken off")


@dataclass(frozen=True)
class Digest:
    """A digest.

    :param title: One line, to follow the name of the campaign.
    :param png: The figure; empty where there is no curve to draw.
    """

    title: str
    text: str
    png: bytes


def make_digest(state: Path, since_s: float, now_s: float) -> Digest:
    """Make a digest of what has happened between two Unix times, by the clock of the campaign.

    :raises StorageError: the state of the campaign cannot be read.
    """
    status = campaign_status(state)
    runs = status["runs"]
    ended = [run for run in runs if run["done"] and (run.get("ended_s") or 0.0) >= since_s]
    going = [run for run in runs if run["status"] in _GOES]
    lines = [f"since {local_text(since_s)}:"]
    lines += [f"  {_line(run)}" for run in ended[:_MOST_LINES]] or ["  no run has ended"]
    lines += [f"  and {len(ended) - _MOST_LINES} more"] if len(ended) > _MOST_LINES else []
    if going:
        lines += ["going on:", *(f"  {_line(run)}" for run in going[:_MOST_LINES])]
    troubles = [(run["name"], failure) for run in runs for failure in run["failures"]]
    if troubles:
        lines += ["failed attempts so far:"]
        lines += [f"  {name}: {clipped(failure['what'], 120)}" for name, failure in troubles[-_MOST_LINES:]]
    if status["waiting"]:
        lines.append(f"waiting until {local_text(status['waiting']['until_s'])}: {status['waiting']['why']}")
    if status["next_due"]:
        lines.append(f"next point due {local_text(status['next_due']['due_s'])}, of {status['next_due']['name']}")
    left = status["left"]
    lines.append(f"left: {len(left)} of {len(runs)} runs" + (f", first {left[0]}" if left else ""))
    title = f"{len(runs) - len(left)} of {len(runs)} runs done"
    return Digest(title, "\n".join(lines), draw([*going, *reversed(ended)], status["campaign"], local_text(now_s)))


def draw(runs: Sequence[Mapping[str, Any]], campaign: str, when: str) -> bytes:
    """Draw the curves of the first runs that have some; empty if none has."""
    with ExitStack() as stack:
        curves: list[Curve] = []
        for entry in runs:
            with suppress(LabctlError):
                curve = Curve.of(str(entry["name"]), stack.enter_context(open_run(entry["run"])))
                if curve is not None:
                    curves.append(curve)
            if len(curves) == MOST_CURVES:
                break
        return curves_png(curves, f"Campaign {campaign}", f"as of {when}") if curves else b""


def _line(run: Mapping[str, Any]) -> str:
    points = run["points"] or {}
    progress = run.get("progress") or {}
    done, planned = (progress or points).get("done"), (progress or points).get("planned")
    parts = [f"{run['name']}: {run['status']}"]
    if done is not None:
        parts.append(f"{done}{f' of {planned}' if planned else ''} points")
    key = run["key_result"]
    if key is not None:
        shown = reading(label_text(key["name"]), key)
        parts.append(f"{shown.label} {shown.value} {shown.unit}{f' ({shown.ci95})' if shown.ci95 else ''}")
    if run["why"] and run["status"] != "finished":
        parts.append(clipped(run["why"], 120))
    return ", ".join(parts)


def main() -> int:
    """Make the digest that is asked for; returns the exit code."""
    asked = json.load(sys.stdin)
    out, sys.stdout = sys.stdout, sys.stderr
    try:
        digest = make_digest(Path(asked["state"]), float(asked["since_s"]), float(asked["now_s"]))
    except StorageError as error:
        log.error("%s", error)
        return 1
    picture = Path(asked["picture"])
    if digest.png:
        picture.write_bytes(digest.png)
    out.write(json.dumps({"title": digest.title, "text": digest.text, "picture": bool(digest.png)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
