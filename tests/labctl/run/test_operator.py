"""Prompts to the operator."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from labctl.errors import Aborted
from labctl.run import operator
from labctl.run.operator import OperatorDesk


class Front:
    """Answers prompts from a thread of its own, as a real front does."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.recorded: list[dict[str, Any]] = []
        self.replies: list[dict[str, Any]] = []
        self.stop = threading.Event()
        self.desk = OperatorDesk(self.publish, self.recorded.append, self.stop)
        self.threads: list[threading.Thread] = []
        self.typed = ""

    def publish(self, event: dict[str, Any]) -> None:
        assert event["event"] == "prompt"
        thread = threading.Thread(target=self.reply, args=(event["id"],))
        self.threads.append(thread)
        thread.start()

    def reply(self, number: int) -> None:
        if self.answer == "stop":
            self.stop.set()
        elif self.answer is not None:
            self.replies.append(self.desk.on_answer({"id": number, "done": self.answer, "said": self.typed}))

    def ask(self, text: str = "Move the sample.", wants: str = "") -> str:
        try:
            return self.desk.ask(text, wants)
        finally:
            for thread in self.threads:
                thread.join()


def test_returns_when_it_is_done_and_records_it():
    front = Front(True)
    front.ask()
    front.ask("Move it back.")
    assert [entry["asked"] for entry in front.recorded] == ["Move the sample.", "Move it back."]
    assert all(entry["confirmed"] for entry in front.recorded)
    assert front.desk.question is None


@pytest.mark.parametrize("answer", [False, "yes", 1])
def test_anything_but_a_plain_yes_aborts(answer):
    front = Front(answer)
    with pytest.raises(Aborted, match="refused"):
        front.ask()
    assert front.recorded == [{"asked": "Move the sample.", "confirmed": False, "said": ""}]


def test_a_stopped_run_does_not_wait_for_the_operator():
    with pytest.raises(Aborted, match="nobody confirmed"):
        Front("stop").ask()


def test_nobody_there_ends_the_run_in_time(monkeypatch):
    monkeypatch.setattr(operator, "PATIENCE_S", 0.3)
    with pytest.raises(Aborted, match="nobody confirmed"):
        Front(None).ask()


def test_an_answer_to_another_question_is_refused():
    front = Front(True)
    front.ask()
    assert "error" in front.desk.on_answer({"id": 1, "done": True})
    assert "error" in front.desk.on_answer({})


def test_what_was_typed_is_returned_and_recorded():
    front = Front(True)
    front.typed = " 23.4 deg "
    assert front.ask("Turn it.", "the angle, e.g. 23.4 deg") == "23.4 deg"
    assert front.recorded == [{"asked": "Turn it.", "confirmed": True, "said": "23.4 deg"}]
