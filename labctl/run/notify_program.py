"""Sends one message by Apprise: ``python -m labctl.run.notify_program``, a JSON object in, a JSON object out.

``{"check": [address...]}`` gives ``{"wrong": [position...]}``. ``{"send": [address...], "title", "text", "attach",
"kind"}`` gives ``{"failed": [position...]}``: those that did not get it. Either may have ``patience_s``: then it ends
by itself after so long, whether or not somebody is left to end it. A program of its own, so that whatever hangs or dies
here does so without the campaign, and so that neither memory nor secrets of it stay there.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

PATIENCE_S = 60.0


def wrong_addresses(addresses: Sequence[str]) -> list[int]:
    """Get the positions of addresses that Apprise does not know."""
    import apprise

    return [position for position, address in enumerate(addresses) if not apprise.Apprise().add(address)]


def send(addresses: Sequence[str], title: str, text: str, attach: Sequence[str], kind: str) -> list[int]:
    """Send a message to each address; returns the positions of those that did not get it."""
    import apprise

    failed: list[int] = []
    for position, address in enumerate(addresses):
        service = apprise.Apprise()
        known = service.add(address)
        sent = known and service.notify(
            body=text, title=title, notify_type=apprise.NotifyType(kind), attach=list(attach) or None
        )
        if not sent:
            failed.append(position)
    return failed


def answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Do what is asked; ``{"missing": true}`` where Apprise is not installed."""
    try:
        import apprise  # noqa: F401
    except ImportError:
        return {"missing": True}
    if "check" in asked:
        return {"wrong": wrong_addresses(asked["check"])}
    return {"failed": send(asked["send"], asked["title"], asked["text"], asked["attach"], asked["kind"])}


def main() -> NoReturn:
    """Answer one question, and end."""
    logging.disable(logging.CRITICAL)  # Apprise logs addresses
    given = json.load(sys.stdin)
    clock = threading.Timer(float(given.pop("patience_s", PATIENCE_S)), os._exit, (1,))
    clock.daemon = True
    clock.start()
    # What a plugin prints must not be taken for the answer.
    out, sys.stdout = sys.stdout, sys.stderr
    out.write(json.dumps(answer(given)))
    out.flush()
    os._exit(0)  # threads of a plugin that still try are not waited for


if __name__ == "__main__":
    main()
