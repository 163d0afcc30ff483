"""Progress of a run in a terminal: phase, points, time left; plain lines where there is no terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from labctl.cli.output import say
from labctl.clock import RealClock

_TELLING_SHARE = 0.02
_TELLING_S = 2.0


class TimeLeft:
    """Estimates the time left from the plan, scaled by the pace so far.

    :param stages: Name to ``max_points`` and ``point_s``, in the order of the plan.
    :param start_up_s: Planned time before the first point, in s.
    :param virtual_time: Whether planned seconds say nothing about real ones.
    """

    def __init__(self, stages: Mapping[str, Mapping[str, float]], start_up_s: float, *, virtual_time: bool) -> None:
        self.points = {name: int(stage["max_points"]) for name, stage in stages.items()}
        self._point_s = {name: stage["point_s"] for name, stage in stages.items()}
        self._start_up_s = start_up_s
        self._virtual_time = virtual_time

    @property
    def total_s(self) -> float:
        """Get the planned duration in s, as far as it is known by now."""
        return self._start_up_s + sum(count * self._point_s[name] for name, count in self.points.items())

    def planned_s(self, done: int) -> float:
        """Get the planned time up to the end of point number ``done``, in s; 0 while preparing."""
        if done == 0:
            return 0.0
        passed_s = self._start_up_s
        for name, count in self.points.items():
            here = min(done, count)
            passed_s += here * self._point_s[name]
            done -= here
        return passed_s

    def left_s(self, done: int, elapsed_s: float) -> float | None:
        """Get the time left in s, None while that would be a guess."""
        passed_s, total_s = self.planned_s(done), self.total_s
        if total_s == 0:
            return None
        if passed_s > _TELLING_SHARE * total_s and elapsed_s > _TELLING_S:
            return elapsed_s * (total_s - passed_s) / passed_s
        return None if self._virtual_time else max(total_s - elapsed_s, 0.0)


class RunProgress:
    """Shows the events of a run. Use it with ``with``.

    A procedure that counts its points for itself says how far it is in percent; its plan holds only a bound.

    :param quiet: Show nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._clock = RealClock()
        self._start_s = self._clock.now()
        self._terminal = sys.stderr.isatty() and not quiet
        self._quiet = quiet
        self._phase = ""
        self._done = 0
        self._percent: float | None = None
        self._time: TimeLeft | None = None
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> RunProgress:
        if self._terminal:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.description:<22}"),
                BarColumn(),
                TextColumn("{task.fields[points]}"),
                TextColumn("{task.fields[left]}"),
                console=Console(file=sys.stderr),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("starting", total=None, points="", left="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, event: Mapping[str, Any]) -> None:
        """Show one event of a run."""
        if self._quiet:
            return
        kind = event["event"]
        if kind == "aborting":
            self._line(f"aborting ({event['reason']}): the run ends as soon as it can, then the bench is made safe")
            return
        if kind == "safe_state":
            self._line(f"the engine is gone; safe state {event['state']}")
            return
        if kind == "started":
            self._time = TimeLeft(event["stages"], event["start_up_s"], virtual_time=event["virtual_time"])
            if event["simulated"]:
                self._line("SIMULATED bench: emulators, not instruments")
        elif kind == "stage" and self._time is not None:
            self._time.points[event["phase"]] = event["points"]
        self._done = int(event.get("done", self._done))
        self._percent = event.get("percent", self._percent)
        self._update(str(event.get("phase") or self._phase))

    def prompt(self, text: str, answer: Callable[[bool], None]) -> None:
        """Ask the operator at the terminal; without one the answer is no.

        The keyboard is read in a thread, so that an abort is not held up by a question; the thread ends with an answer
        or with the process.
        """
        if not sys.stdin.isatty():
            self._line(f"an operator is needed, and there is no terminal to ask at: {text}")
            answer(False)
            return
        self._line(f"OPERATOR: {text}\n  Enter when it is done; anything else and Enter aborts the run.")

        def read() -> None:
            answer(sys.stdin.readline().strip() == "")

        threading.Thread(target=read, name="operator", daemon=True).start()

    def _update(self, phase: str) -> None:
        changed, self._phase = phase != self._phase, phase
        if self._time is None:
            return
        total = sum(self._time.points.values())
        if self._bar is not None:
            self._bar.update(
                self._task,
                description=phase,
                total=self._time.total_s if self._percent is None else 100.0,
                completed=self._time.planned_s(self._done) if self._percent is None else self._percent,
                points=f"{self._done} of {total} points" if self._percent is None else f"{self._done} points",
                left=self._left(),
            )
        elif changed:
            self._line(f"{phase} ({self._done} of at most {total} points)")

    def _left(self) -> str:
        if self._time is None:
            return ""
        left_s = self._time.left_s(self._done, self._clock.now() - self._start_s)
        if left_s is None:
            return ""
        minutes, seconds = divmod(round(left_s), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d} left" if hours else f"{minutes}:{seconds:02d} left"

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            say(text)
