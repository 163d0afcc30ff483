"""Looks after a campaign for those who are not there: tells of failures, of stalls, of its end; once a day of all."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from labctl.clock import RealClock
from labctl.config.campaign import CampaignConfig
from labctl.config.times import zone_of
from labctl.errors import LabctlError
from labctl.processes import own_session
from labctl.run.notifications import Messenger
from labctl.run.queue_clock import QueueClock
from labctl.run.queue_history import SUFFIX
from labctl.run.queued_runs import QueuedRun
from labctl.run.quiet_hours import next_moment_s
from labctl.store.run import open_run

log = logging.getLogger(__name__)

_LOOK_S = 2.0
_DIGEST_S = 120.0
"""A digest that takes longer is given up."""
_CLOSE_S = 5.0
_PROGRAM = "labctl.run.digest"
_START_UP_S = 1800.0
"""Longest plausible time before the first point: a detector that cools, a stage that homes."""


class QueueWatch:
    """Watches a campaign at work. Use it with ``with``.

    Owns a thread while there is somebody to tell; it ends with the block, and is a daemon. The digest is made by a
    program of its own, so that neither its memory nor its faults are the campaign's.

    :param state: The state file of the campaign.
    :param clock: The clock of the campaign: it tells when the digest is due.
    """

    def __init__(self, campaign: CampaignConfig, state: Path, clock: QueueClock, messenger: Messenger) -> None:
        self._campaign = campaign
        self._state = state
        self._clock = clock
        self._messenger = messenger
        self._real = RealClock()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._run: QueuedRun | None = None
        self._path = ""
        self._simulated = False
        self._silent_after_s = 0.0
        self._last_sign_s = 0.0
        self._stages: dict[str, float] = {}
        self._told = False
        self._next_digest_s = self._digest_after(clock.wall_s())
        self._digests_from_s = clock.wall_s()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> QueueWatch:
        if self._messenger.active:
            self._thread = threading.Thread(target=self._look, name="campaign watch", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)

    def begun(self, run: QueuedRun) -> None:
        """Take note that a run begins."""
        with self._lock:
            self._run, self._path, self._told = run, "", False
            self._stages = {}
            self._last_sign_s, self._silent_after_s = self._real.now(), _START_UP_S

    def sign(self, run: QueuedRun, event: dict[str, Any]) -> None:
        """Take note of a sign of progress of the run that goes; a question to an operator is told at once."""
        kind = event["event"]
        with self._lock:
            self._last_sign_s, self._told = self._real.now(), False
            if kind == "started":
                self._path, self._simulated = str(event.get("run") or ""), bool(event.get("simulated"))
                self._silent_after_s = _START_UP_S + float(event.get("start_up_s") or 0.0)
                self._stages = {name: float(one["point_s"]) for name, one in (event.get("stages") or {}).items()}
            elif kind in ("stage", "point"):
                self._silent_after_s = 4.0 * self._stages.get(str(event.get("phase") or ""), 0.0)
        if kind == "prompt":
            self.person(f"{run.name} waits for an operator: {event.get('text', '')}")

    def person(self, question: str) -> None:
        """Tell that the campaign waits for a person."""
        self._tell("stall", "waits for somebody", question)

    def failed(self, run: QueuedRun, why: str) -> None:
        """Tell that a run failed for good."""
        then = {"continue": "The next run follows.", "pause": "Somebody is asked whether to go on."}
        follows = then.get(run.on_failure, "The campaign ends here.")
        self._tell("failure", f"{run.name} failed", f"{why}\n{follows}")

    def unconfirmed(self, run: QueuedRun, outcome: dict[str, Any]) -> None:
        """Tell that a bench was left in a state that nobody has confirmed."""
        steps = [
            f"{step['role']}: {step['action']}: {step['evidence']}"
            for step in (outcome.get("safe_report") or {}).get("steps", [])
            if not step.get("confirmed")
        ]
        text = "\n".join(["Go to the bench and look. The campaign has ended.", *steps])
        self._tell("unconfirmed", f"SAFE STATE UNCONFIRMED after {run.name}", text)

    def over(self, outcome: dict[str, Any]) -> None:
        """Tell how the campaign ended."""
        lines = [
            f"{run['name']}: {run['status']}{': ' + run['why'] if run.get('why') else ''}" for run in outcome["runs"]
        ]
        left = outcome["left"]
        lines += [f"left: {', '.join(left)}"] if left else []
        lines += [f"do: {outcome['todo']}"] if outcome["todo"] else []
        lines += [f"report: {outcome['report']}"] if outcome["report"] else []
        self._tell("finish", f"{outcome['status']}, {len(left)} runs left", "\n".join(lines))

    def ended(self) -> None:
        """Take note that no run goes now."""
        with self._lock:
            self._run = None

    def _look(self) -> None:
        while not self._real.wait(self._closed, _LOOK_S):
            try:
                self._look_for_a_stall()
                self._digest_if_due()
            except Exception as error:  # whatever it stumbles over, it goes on looking
                log.warning("the watch of the campaign: %s: %s", type(error).__name__, error)

    def _look_for_a_stall(self) -> None:
        notify = self._campaign.notify
        with self._lock:
            run, path, told = self._run, self._path, self._told
            silent_s = self._real.now() - self._last_sign_s
            patience_s = self._silent_after_s + (notify.stall_s if notify is not None else 0.0)
        if run is None or told or silent_s <= patience_s or silent_s <= patience_s + longest_gap_s(path):
            return
        with self._lock:
            self._told = True
        text = f"No sign of progress for {silent_s / 60:.0f} min; its plan allows {patience_s / 60:.0f} min.\n{path}"
        self._tell("stall", f"{run.name} makes no progress", text)

    def _digest_after(self, moment_s: float) -> float:
        notify = self._campaign.notify
        if notify is None:
            return float("inf")
        zone = None if self._campaign.time_zone is None else zone_of(self._campaign.time_zone)
        return next_moment_s(moment_s, notify.digest, zone)

    def _digest_if_due(self) -> None:
        now_s = self._clock.wall_s()
        if not self._messenger.wants("digest") or now_s < self._next_digest_s:
            return
        since_s, self._digests_from_s = self._digests_from_s, now_s
        self._next_digest_s = self._digest_after(now_s)
        day = f"{datetime.fromtimestamp(now_s):%Y-%m-%d}"
        picture = self._state.with_name(f".{self._state.name.removesuffix(SUFFIX)}.digest-{day}.png")
        asked = {"state": str(self._state), "since_s": since_s, "now_s": now_s, "picture": str(picture)}
        found = _ask_program(asked)
        text = str(found.get("text") or "The digest could not be made; `labctl show` tells how far the campaign is.")
        drawn = [str(picture)] if found.get("picture") else []
        self._tell("digest", f"daily digest, {found.get('title', 'not made')}", text, drawn)

    def _tell(self, occasion: str, title: str, text: str, attach: list[str] | None = None) -> None:
        simulated = "SIMULATED: " if self._simulated else ""
        self._messenger.tell(occasion, f"{simulated}campaign {self._campaign.name}: {title}", text, attach or [])


def longest_gap_s(path: str) -> float:
    """Get the longest time between two points of a run by its schedule, in s; 0 for one without."""
    gaps = [0.0]
    with suppress(LabctlError, KeyError, TypeError, ValueError), open_run(path) as run:
        for stage in run.header["plan"]["stages"]:
            times_s = stage.get("times_s") or []
            gaps += [after - before for before, after in pairwise(times_s)]
    return max(gaps)


def _ask_program(asked: dict[str, Any]) -> dict[str, Any]:
    """Run the program that makes digests; an empty answer if it gave none."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-X", "utf8", "-m", _PROGRAM],
            input=json.dumps(asked).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_DIGEST_S,
            check=False,
            **own_session(),
        )
        answer = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        log.warning("the digest was not made: %s", type(error).__name__)
        return {}
    return answer if isinstance(answer, dict) else {}
