"""Progress of a run in a terminal: phase, points, time left; plain lines where there is no terminal."""

from __future__ import annotations

import sys
from typing import Any

from labctl.cli.output import say
from labctl.run.plan import Plan


class RunProgress:
    """Shows the events of a run. Use it with ``with``.

    :param plan: The plan, for the number of points and the time left.
    :param quiet: Show nothing.
    """

    def __init__(self, plan: Plan, *, quiet: bool) -> None:
        self._plan = plan
        self._planned = plan.max_points
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
            self._task = self._bar.add_task("starting", total=self._planned)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, event: dict[str, Any]) -> None:
        """Show one event of the endpoint."""
        if self._quiet:
            return
        if event["event"] == "started" and event.get("simulated"):
            say("SIMULATED bench")
        if event["event"] == "stage":
            self._planned -= self._bound(event["name"]) - event["points"]
        phase = str(event.get("phase") or self._phase)
        if self._bar is not None:
            self._bar.update(self._task, description=phase, completed=event.get("done", 0), total=self._planned)
        elif phase != self._phase:
            say(f"{phase} ({event.get('done', 0)} of at most {self._planned} points)")
        self._phase = phase

    def _bound(self, name: str) -> int:
        return next((stage.max_points for stage in self._plan.stages if stage.name == name), 0)
