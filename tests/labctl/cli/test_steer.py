"""``labctl pause``, ``continue`` and ``alter``: what is asked of a run that goes, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.run.endpoint import Endpoint
from labctl.store.journal import Journal

Commands = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def going(tmp_path: Path) -> Any:
    """A run whose engine answers; get its path and what it was asked."""
    asked: Commands = []

    def hear(command: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def answer(message: dict[str, Any]) -> dict[str, Any]:
            asked.append((command, {key: value for key, value in message.items() if key not in {"v", "command"}}))
            return {f"{command} heard": True}

        return answer

    endpoint = Endpoint({name: hear(name) for name in ("pause", "continue", "alter")}, lambda: None)
    path = tmp_path / "0001_fluence-sweep_A.journal"
    with Journal.create(path, {"run": "0001"}) as journal:
        journal.event("endpoint", {"address": endpoint.address}, t_s=0.0, wall_s=0.0)
        yield str(path), asked
    endpoint.close()


def test_a_pause_with_its_reason(labctl: Callable[..., Any], going: tuple[str, Commands]) -> None:
    run, asked = going
    said = labctl("pause", run, "--reason", "filter swapped", "--json")
    assert (said.code, said.json) == (0, {"run": run, "pause heard": True})
    assert asked == [("pause", {"reason": "filter swapped"})]


def test_going_on(labctl: Callable[..., Any], going: tuple[str, Commands]) -> None:
    run, asked = going
    said = labctl("continue", run)
    assert said.code == 0
    assert "set up anew" in said.out + said.err
    assert asked == [("continue", {})]


@pytest.mark.parametrize(
    ("options", "alteration"),
    [
        (("--extend", "3"), {"what": "extend", "stage": "", "points": 3, "every_s": None}),
        (("--shorten", "2", "--stage", "fine"), {"what": "shorten", "stage": "fine", "points": 2, "every_s": None}),
        (("--every", "10 min"), {"what": "retime", "stage": "", "points": None, "every_s": 600.0}),
    ],
)
def test_an_alteration(
    labctl: Callable[..., Any], going: tuple[str, Commands], options: tuple[str, ...], alteration: dict[str, Any]
) -> None:
    run, asked = going
    said = labctl("alter", run, *options, "--json")
    assert (said.code, said.json) == (0, {"run": run, "alter heard": True})
    assert asked == [("alter", {"alteration": alteration})]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "nothing was asked for"),
        (("--extend", "3", "--shorten", "1"), "--extend, --shorten was asked for"),
        (("--every", "10 mm"), "10 mm"),
        (("--every", "-1 s"), "-1 s"),
        (("--every", "soon"), "soon"),
    ],
)
def test_what_is_no_alteration(
    labctl: Callable[..., Any], going: tuple[str, Commands], options: tuple[str, ...], words: str
) -> None:
    run, asked = going
    said = labctl("alter", run, *options, "--json")
    assert said.code == 2
    assert words in said.json["error"]["what"]
    assert asked == []


@pytest.mark.parametrize("command", [("pause",), ("continue",), ("alter", "--extend", "1")])
def test_a_run_that_does_not_go_is_not_steered(
    labctl: Callable[..., Any], tmp_path: Path, command: tuple[str, ...]
) -> None:
    path = tmp_path / "0001_fluence-sweep_A.journal"
    with Journal.create(path, {"run": "0001"}) as journal:
        journal.set_status("aborted", t_s=0.0, wall_s=0.0)
    said = labctl(command[0], str(path), *command[1:], "--json")
    assert said.code == 2
    assert said.json["error"]["todo"]
