"""Asking the experimentalist to do something by hand: prompt, confirm, record."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from labctl.clock import RealClock
from labctl.errors import Aborted

PATIENCE_S = 1800.0
"""Time an operator is given; then the run is aborted with the shutter closed."""
_POLL_S = 0.2


class OperatorDesk:
    """Puts questions to the fronts of a run and waits for the answer of one of them.

    :param publish: Sends an event to every front.
    :param record: Writes down what was asked and answered.
    :param stop: Set when the run is to end; an open question is then given up.
    """

    def __init__(
        self, publish: Callable[[dict[str, Any]], None], record: Callable[[dict[str, Any]], None], stop: threading.Event
    ) -> None:
        self._publish = publish
        self._record = record
        self._stop = stop
        self._clock = RealClock()
        self._answered = threading.Event()
        self._number = 0
        self._done = False
        self._text = ""
        self._wants = ""
        self._said = ""

    @property
    def question(self) -> dict[str, Any] | None:
        """Get the open question, for a front that attaches late; None if there is none."""
        return {"id": self._number, "text": self._text, "wants": self._wants} if self._text else None

    def ask(self, text: str, wants: str = "") -> str:
        """Ask, and return when it is done; raises Aborted when it is refused or nobody answers in time.

        :param wants: What is to be typed when it is done; empty: nothing.
        :returns: What was typed.
        """
        self._number += 1
        self._answered.clear()
        self._done, self._said = False, ""
        self._text, self._wants = text, wants
        self._publish({"event": "prompt", **(self.question or {})})
        deadline_s = self._clock.now() + PATIENCE_S
        try:
            while not self._clock.wait(self._answered, _POLL_S):
                if self._stop.is_set() or self._clock.now() > deadline_s:
                    break
        finally:
            self._text = ""
        self._record({"asked": text, "confirmed": self._done, "said": self._said})
        if not self._done:
            why = "it was refused" if self._answered.is_set() else "nobody confirmed it"
            raise Aborted(f"the operator was asked: {text} But {why}.", todo="start again with somebody at the bench")
        return self._said

    def on_answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Take a front's answer: ``id`` of the question, ``done`` true or false, and ``said``, what was typed."""
        question = self.question
        if question is None or message.get("id") != question["id"]:
            return {"error": "no such question is open"}
        self._done, self._said = message.get("done") is True, str(message.get("said", "")).strip()
        self._answered.set()
        return {"answered": question["id"]}
