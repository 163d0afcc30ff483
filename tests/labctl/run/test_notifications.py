"""Messages: sent beside the campaign, kept where they cannot be, with addresses that nobody gets to see."""

from __future__ import annotations

import http.server
import json
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from labctl.clock import RealClock
from labctl.config.campaign import CampaignConfig, load_campaign, parse_campaign
from labctl.errors import ConfigError, InputError
from labctl.run import notifications
from labctl.run.notifications import Message, Messenger, open_messenger, read_unsent, send_by_program

RUN = '[[run]]\nprocedure = "fluence-sweep"\nbench = "simulated"\n'
SECRET = "hunter2-tok3n"


class Service:
    """Stands for a chat service on this computer."""

    def __init__(self) -> None:
        got = self.got = []
        self.status = 200
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                got.append(json.loads(body))
                self.send_response(service.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"json://127.0.0.1:{self._server.server_port}/{SECRET}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


class Post:
    """A way of sending that does as the test says.

    :param failing: How many tries of each message fail; all, if negative.
    """

    def __init__(self, failing: int = 0) -> None:
        self.failing = failing
        self.sent: list[str] = []
        self.tried: list[tuple[str, tuple[str, ...]]] = []
        self.may = threading.Event()
        self.may.set()

    def __call__(self, addresses: Sequence[str], message: Message, patience_s: float) -> list[int]:
        self.may.wait(30.0)
        self.tried.append((message.title, tuple(addresses)))
        if self.failing < 0 or message.tries < self.failing:
            return list(range(len(addresses)))
        self.sent.append(message.title)
        return []


def messenger(folder: Path, post: Post, addresses: Sequence[str] = ("a://",), **options: Any) -> Messenger:
    return Messenger(addresses, folder / "x.notifications.jsonl", send=post, **options)


def test_messages_are_sent_in_order(tmp_path: Path) -> None:
    post = Post()
    mine = messenger(tmp_path, post)
    for number in range(5):
        mine.tell("failure", f"message {number}", "text")
    assert mine.close() == {"unsent": 0}
    assert post.sent == [f"message {number}" for number in range(5)]
    assert read_unsent(tmp_path / "x.notifications.jsonl") == []


def test_only_on_the_occasions_that_are_asked_for(tmp_path: Path) -> None:
    post = Post()
    mine = messenger(tmp_path, post, occasions=("unconfirmed",))
    mine.tell("failure", "a", "")
    mine.tell("unconfirmed", "b", "")
    mine.close()
    assert post.sent == ["b"] and mine.wants("unconfirmed") and not mine.wants("digest")


def test_without_an_address_nothing_happens(tmp_path: Path) -> None:
    mine = messenger(tmp_path, Post(), ())
    mine.tell("failure", "a", "")
    assert not mine.active and mine.close() == {"unsent": 0}
    assert list(tmp_path.iterdir()) == []


def test_what_hangs_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "CLOSE_S", 0.2)
    post = Post()
    post.may.clear()
    mine = messenger(tmp_path, post)
    for number in range(300):
        mine.tell("failure", f"message {number}", "text")
    unsent = mine.close()
    assert post.tried == [], "the first one still hangs"
    assert unsent["unsent"] == 300 and unsent["file"].endswith("x.notifications.jsonl")
    post.may.set()


def test_what_could_not_be_sent_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "_FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(notifications, "_LOOK_S", 0.01)
    post = Post(failing=2)
    mine = messenger(tmp_path, post)
    mine.tell("failure", "a", "")
    give_up_s = RealClock().now() + 20.0
    while not post.sent and RealClock().now() < give_up_s:
        RealClock().sleep(0.01)
    assert mine.close() == {"unsent": 0}
    assert len(post.tried) == 3


def test_who_got_it_does_not_get_it_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "_FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(notifications, "_LOOK_S", 0.01)
    tried: list[tuple[str, ...]] = []

    def send(addresses: Sequence[str], message: Message, patience_s: float) -> list[int]:
        tried.append(tuple(addresses))
        return [1] if len(tried) == 1 else []

    mine = Messenger(("a://", "b://", "c://"), tmp_path / "x.jsonl", send=send)
    mine.tell("failure", "a", "")
    give_up_s = RealClock().now() + 20.0
    while len(tried) < 2 and RealClock().now() < give_up_s:
        RealClock().sleep(0.01)
    mine.close()
    assert tried == [("a://", "b://", "c://"), ("b://",)]


def test_another_process_goes_on_with_what_was_not_sent(tmp_path: Path) -> None:
    failing = Post(failing=-1)
    first = messenger(tmp_path, failing)
    first.tell("failure", "a", "")
    assert first.close()["titles"] == ["a"]
    post = Post()
    second = messenger(tmp_path, post)
    second.tell("finish", "b", "")
    assert second.close() == {"unsent": 0}
    assert sorted(post.sent) == ["a", "b"]
    third = Post()
    messenger(tmp_path, third).close()
    assert third.sent == []


@pytest.mark.parametrize("line", ["{", "3", '{"event": "asked"}', "[" * 10_000, '{"event": "asked", "id": 3}', "\x00"])
def test_a_log_that_says_nonsense_is_passed_over(tmp_path: Path, line: str) -> None:
    (tmp_path / "x.notifications.jsonl").write_text(line + "\n")
    post = Post()
    mine = messenger(tmp_path, post)
    mine.tell("failure", "a", "")
    assert mine.close() == {"unsent": 0} and post.sent == ["a"]


def test_what_was_not_sent_for_days_is_not_sent_any_more(tmp_path: Path) -> None:
    old = {
        "event": "asked",
        "id": "1",
        "occasion": "failure",
        "title": "old",
        "text": "",
        "at": "2020-01-01T00:00:00+00:00",
    }
    (tmp_path / "x.notifications.jsonl").write_text(json.dumps(old) + "\n")
    post = Post()
    messenger(tmp_path, post).close()
    assert post.sent == []


def test_a_way_of_sending_may_fail_in_any_way(tmp_path: Path) -> None:
    def send(addresses: Sequence[str], message: Message, patience_s: float) -> list[int]:
        raise RuntimeError(SECRET)

    mine = Messenger(("a://",), tmp_path / "x.jsonl", send=send)
    mine.tell("failure", "a", "")
    assert mine.close()["unsent"] == 1


def test_apprise_brings_a_message_to_a_service(tmp_path: Path, service: Service) -> None:
    picture = tmp_path / "curve.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    mine = Messenger((service.url,), tmp_path / "x.jsonl")
    mine.tell("digest", "daily digest", "3 of 8 runs done", [str(picture), str(tmp_path / "gone.png")])
    give_up_s = RealClock().now() + 60.0
    while not service.got and RealClock().now() < give_up_s:
        RealClock().sleep(0.02)
    assert mine.close() == {"unsent": 0}
    (got,) = service.got
    assert (got["title"], got["message"]) == ("daily digest", "3 of 8 runs done")
    assert len(got["attachments"]) == 1


def test_a_service_that_refuses_and_one_that_is_not_there(tmp_path: Path, service: Service) -> None:
    service.status = 500
    message = Message("1", "failure", "a", "b", "2026-11-21T10:00:00+00:00")
    nobody = "json://127.0.0.1:9/x?cto=1&rto=1"
    assert send_by_program([service.url, nobody], message, 30.0) == [0, 1]
    service.status = 200
    assert send_by_program([nobody, service.url], message, 30.0) == [0]


def test_a_program_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    message = Message("1", "failure", "a", "b", "2026-11-21T10:00:00+00:00")
    assert send_by_program(["json://192.0.2.1/x?cto=60"], message, 1.0) == [0]


def campaign(text: str) -> CampaignConfig:
    return parse_campaign(f'name = "x"\n{text}\n{RUN}', "c.toml")


def test_addresses_come_from_file_and_environment_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: Service
) -> None:
    (tmp_path / "addresses").write_text(f"# mine\n{service.url}/file\n\n")
    (tmp_path / "addresses").chmod(0o644)
    monkeypatch.setenv(notifications.VARIABLE, f"{service.url}/one  {service.url}/two")
    (tmp_path / "c.toml").write_text(f'name = "x"\n[notify]\nurls = ["{service.url}"]\nfile = "addresses"\n{RUN}')
    said: list[str] = []
    mine = open_messenger(load_campaign(tmp_path / "c.toml"), tmp_path / "x.jsonl", said.append)
    mine.tell("finish", "over", "done")
    give_up_s = RealClock().now() + 60.0
    while len(service.got) < 4 and RealClock().now() < give_up_s:
        RealClock().sleep(0.02)
    mine.close()
    assert len(service.got) == 4
    assert "chmod 600" in said[0] and SECRET not in said[0]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[notify]", "no address to send to"),
        ('[notify]\nfile = "/no/such/file"', "cannot be read"),
        (f'[notify]\nurls = ["nosuchthing://{SECRET}", "json://localhost"]', r"number 1 \(nosuchthing://...\)"),
    ],
)
def test_what_cannot_be_sent_to_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, why: str
) -> None:
    monkeypatch.delenv(notifications.VARIABLE, raising=False)
    with pytest.raises(InputError, match=why) as caught:
        open_messenger(campaign(text), tmp_path / "x.jsonl", lambda text: None)
    assert SECRET not in str(caught.value)


def test_without_apprise_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "_ask_program", lambda *_: {"missing": True})
    with pytest.raises(InputError, match="not installed") as caught:
        open_messenger(campaign('[notify]\nurls = ["json://localhost"]'), tmp_path / "x.jsonl", lambda text: None)
    assert "labctl-bench[notify]" in caught.value.todo


@pytest.mark.parametrize(
    "urls", [f'"json://{SECRET}"', f'["{SECRET}"]', f'["json://{SECRET}", 3]', f'["json://{SECRET}{"x" * 3000}"]']
)
def test_an_address_is_never_shown(urls: str) -> None:
    with pytest.raises(ConfigError) as caught:
        campaign(f"[notify]\nurls = {urls}")
    assert SECRET not in json.dumps(caught.value.as_dict())
    shown = campaign(f'[notify]\nurls = ["json://{SECRET}"]')
    assert SECRET not in repr(shown) and SECRET not in shown.model_dump_json()


def test_nothing_of_an_address_is_kept_or_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    mine = Messenger((f"json://127.0.0.1:9/{SECRET}?cto=1&rto=1",), tmp_path / "x.jsonl")
    mine.tell("failure", "a", "b")
    assert mine.close()["unsent"] == 1
    assert SECRET not in caplog.text
    assert all(SECRET not in path.read_text() for path in tmp_path.iterdir())
