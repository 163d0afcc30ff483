"""Progress of a run in a terminal: phase, points, time left; plain lines where there is no terminal."""

from __future__ import annotations

import sys
from typing import Any

from labctl.cli.output import say


class RunProgress:
    """Shows the events of a run. Use it with ``with``.

    :param quiet: Show nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._max_points: dict[str, int] = {}
        self._planned = 0
        self._terminal = sys.stderr.isatty() and not quiet
        self._quiet = quiet
        self._phase = ""
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> RunProgress:
        if self._terminal:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description:<22}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("points,"),
                TimeRemainingColumn(compact=True),
                TextColumn("left"),
                console=Console(file=sys.stderr),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("starting", total=None)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, event: dict[str, Any]) -> None:
        """Show one event of the endpoint."""
        if self._quiet:
            return
        if event["event"] == "started":
            self._max_points = event["max_points"]
            self._planned = sum(self._max_points.values())
            if event["simulated"]:
                say("SIMULATED bench")
        if event["event"] == "stage":
            self._planned -= self._max_points[event["name"]] - event["points"]
        phase = str(event.get("phase") or self._phase)
        if self._bar is not None:
            self._bar.update(self._task, description=phase, completed=event.get("done", 0), total=self._planned)
        elif phase != self._phase:
            say(f"{phase} ({event.get('done', 0)} of at most {self._planned} points)")
        self._phase = phase
