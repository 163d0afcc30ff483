"""Progress of a run in a terminal: phase, points, time left; plain lines where there is no terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from labctl.cli.output import say
from labctl.clock import RealClock
from labctl.run.time_left import TimeLeft, left_text


def given(line: str, wanted: bool) -> bool | str:
    """Take a line from the keyboard for an answer: what was wanted, or whether it is done.

    An input that ends without a line is no answer: Ctrl-D, Ctrl-Z, and on Windows also Ctrl-C.
    """
    typed = line.strip()
    if not line.endswith("\n"):
        return False
    return (typed or False) if wanted else typed == ""


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
        if kind == "noticed":
            self._line(str(event["text"]))
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

    def prompt(self, text: str, answer: Callable[[bool | str], None], wants: str = "") -> None:
        """Ask the operator at the terminal; without one the answer is no.

        The keyboard is read in a thread, so that an abort is not held up by a question; the thread ends with an answer
        or with the process.
        """
        if not sys.stdin.isatty():
            self._line(f"an operator is needed, and there is no terminal to ask at: {text}")
            answer(False)
            return
        if wants:
            how = f"When it is done, type {wants}, and Enter; Enter alone aborts the run."
        else:
            how = "Enter when it is done; anything else and Enter aborts the run."
        self._line(f"OPERATOR: {text}\n  {how}")

        threading.Thread(
            target=lambda: answer(given(sys.stdin.readline(), bool(wants))), name="operator", daemon=True
        ).start()

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
        return "" if left_s is None else left_text(left_s)

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            say(text)
