"""The terminal of a run that will be ended: ``labctl run``, but for an engine that notes what it acknowledges."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from unittest import mock

from labctl.cli.run import run_to_end
from labctl.run import front
from labctl.run.request import RunRequest


def become_foreground() -> None:
    """Take standard input, a terminal, for the own one: what hangs it up sends HUP to this process."""
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


if __name__ == "__main__":
    become_foreground()
    asked = RunRequest.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with mock.patch.object(front, "ENGINE", "kill_table.engine"):
        sys.exit(run_to_end(asked, as_json=True))
