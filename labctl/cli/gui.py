"""``labctl gui``."""

from __future__ import annotations

import logging

from labctl.cli.output import say


def gui(bench: str, folder: str) -> int:
    """Open the window; when it is closed, tell of a run that goes on."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    from labctl.gui.app import open_window

    run = open_window(bench, folder)
    if run:
        say(f"the run goes on without the window: {run}")
        say(
            f"`labctl show {run}` tells how far it is; `labctl abort {run}` ends it safely; `labctl gui` attaches again"
        )
    return 0
