"""Messages about a campaign to people who are not there: sent beside it, so that no network ever holds it up.

A message is put into a short queue and the campaign goes on. A thread sends one after the other, each by a program of
its own (:mod:`labctl.run.notify_program`), which is killed when it takes too long: what hangs in a resolver or a socket
hangs there. What could not be sent is tried again, ever more seldom. Addresses hold secrets: they go to that program
through a pipe, and are neither logged nor written anywhere.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labctl.clock import RealClock
from labctl.config.campaign import CampaignConfig
from labctl.config.notify import MAX_ADDRESSES, OCCASIONS
from labctl.errors import InputError
from labctl.processes import own_session

log = logging.getLogger(__name__)

VARIABLE = "LABCTL_NOTIFY"
"""Environment variable with addresses, separated by spaces."""
CLOSE_S = 5.0
"""Time that is given at the end of a campaign to what is still to be sent."""
SEND_S = 30.0
MAX_WAITING = 100
KEPT_S = 2 * 86400.0
"""A message of an earlier time that was older than this is not sent any more."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 10.0, 1800.0
_MAX_FILE_BYTES = 100_000
_MAX_LOG_BYTES = 10_000_000
_LOOK_S = 0.2
_PROGRAM = "labctl.run.notify_program"


@dataclass
class Message:
    """One message.

    :param id: Tells it from all others of its log.
    :param occasion: ``failure``, ``unconfirmed``, ``stall``, ``finish`` or ``digest``.
    :param at: ISO time.
    :param attach: Paths of pictures.
    :param left: Positions of the addresses that have not got it yet; all, if None.
    """

    id: str
    occasion: str
    title: str
    text: str
    at: str
    attach: list[str] = field(default_factory=list)
    left: list[int] | None = None
    tries: int = 0
    next_s: float = 0.0
    """When it is tried next, by the monotonic clock."""


Send = Callable[[Sequence[str], Message, float], list[int]]
"""Sends a message to addresses within a time in s; returns the positions of those that did not get it."""


class Messenger:
    """Sends the messages of one campaign.

    Owns a thread, which ends with :meth:`close`; it is a daemon, so that the program never waits for it. If it died,
    messages would be kept and told at the end as not sent.

    :param addresses: Of Apprise; without any, nothing is sent and no thread is started.
    :param log_path: Where is written what was to be sent and what was, so that another process can go on with it.
    :param occasions: Those on which somebody is told.
    :param send: Sends a message.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        log_path: Path,
        occasions: Iterable[str] = OCCASIONS,
        send: Send | None = None,
    ) -> None:
        self._addresses = tuple(addresses)
        self._occasions = frozenset(occasions) if addresses else frozenset()
        self._log_path = log_path
        self._send = send or send_by_program
        self._clock = RealClock()
        self._incoming: queue.Queue[Message] = queue.Queue(MAX_WAITING)
        self._waiting: list[Message] = []
        self._dropped: list[Message] = []
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._give_up_s = float("inf")
        self._number = 0
        self._thread: threading.Thread | None = None
        if addresses:
            self._waiting = [message for message in read_unsent(log_path) if _is_recent(message, self._clock.wall())]
            self._thread = threading.Thread(target=self._work, name="messenger", daemon=True)
            self._thread.start()

    @property
    def active(self) -> bool:
        """Get whether anybody is told of anything."""
        return bool(self._addresses)

    def wants(self, occasion: str) -> bool:
        """Get whether somebody wants to be told on an occasion."""
        return occasion in self._occasions

    def tell(self, occasion: str, title: str, text: str, attach: Sequence[str] = ()) -> None:
        """Have a message sent, if anybody wants it; returns at once, whatever the network does."""
        if not self.wants(occasion):
            return
        at = datetime.fromtimestamp(self._clock.wall(), UTC).isoformat(timespec="milliseconds")
        self._number += 1
        message = Message(f"{at} {os.getpid()} {self._number}", occasion, title, text, at, list(attach))
        try:
            self._incoming.put_nowait(message)
        except queue.Full:
            self._dropped.append(message)
        self._wake.set()

    def close(self) -> dict[str, Any]:
        """Send what is left, for at most :data:`CLOSE_S`; returns ``unsent`` (number), ``titles`` and ``file``."""
        if self._thread is None:
            return {"unsent": 0}
        self._give_up_s = self._clock.now() + CLOSE_S
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_S + 1.0)
        unsent = [*self._waiting, *self._dropped]
        with suppress(queue.Empty):
            while True:
                unsent.append(self._incoming.get_nowait())
        if not unsent:
            return {"unsent": 0}
        return {"unsent": len(unsent), "titles": [message.title for message in unsent], "file": str(self._log_path)}

    def _work(self) -> None:
        while True:
            self._take_in()
            now_s = self._clock.now()
            closing = self._closing.is_set()
            if closing and (not self._waiting or now_s >= self._give_up_s):
                return
            due = [message for message in self._waiting if message.next_s <= now_s or (closing and not message.tries)]
            if not due:
                if closing:
                    return  # what was tried and failed is kept, not tried in haste
                next_s = min((message.next_s for message in self._waiting), default=now_s + 60.0)
                self._clock.wait(self._wake, max(min(next_s - now_s, 60.0), _LOOK_S))
                self._wake.clear()
                continue
            self._try(due[0])

    def _take_in(self) -> None:
        with suppress(queue.Empty):
            while True:
                message = self._incoming.get_nowait()
                self._write({"event": "asked", **_as_data(message)})
                self._waiting.append(message)

    def _try(self, message: Message) -> None:
        left = message.left if message.left is not None else list(range(len(self._addresses)))
        addresses = [self._addresses[position] for position in left if position < len(self._addresses)]
        patience_s = min(SEND_S, max(self._give_up_s - self._clock.now(), 0.5))
        try:
            failed = self._send(addresses, message, patience_s)
        except Exception as error:  # whatever a way of sending does, it does not end the messenger
            log.warning("a message was not sent: %s", type(error).__name__)
            failed = list(range(len(addresses)))
        message.tries += 1
        if failed:
            message.left = [left[position] for position in failed if position < len(left)]
            wait_s = min(_FIRST_WAIT_S * 3 ** (message.tries - 1), _LONGEST_WAIT_S)
            message.next_s = self._clock.now() + wait_s
            return
        self._waiting.remove(message)
        self._write({"event": "sent", "id": message.id})

    def _write(self, entry: Mapping[str, Any]) -> None:
        """Note it; a disk that is full keeps nobody from being told."""
        with suppress(OSError):
            self._log_path.parent.mkdir(parents=True, exist_ok=True)
            with self._log_path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")


def open_messenger(campaign: CampaignConfig, log_path: Path, tell: Callable[[str], None]) -> Messenger:
    """Make the messenger of a campaign; raises InputError if it says that somebody is to be told and nobody can be.

    :param tell: Told of what is unwise.
    """
    notify = campaign.notify
    if notify is None:
        return Messenger((), log_path)
    addresses = [*notify.urls, *os.environ.get(VARIABLE, "").split()]
    if notify.file is not None:
        addresses += _addresses_in(campaign.folder / Path(notify.file).expanduser(), tell)
    addresses = list(dict.fromkeys(addresses))
    where = f"{campaign.file}: notify"
    if not addresses:
        raise InputError(
            "the campaign has a table [notify], and no address to send to",
            where=where,
            state="nothing was started",
            todo=f"name one with urls, or file, or in the environment variable {VARIABLE}; or take the table out",
        )
    if len(addresses) > MAX_ADDRESSES:
        raise InputError(f"{len(addresses)} addresses in all; at most {MAX_ADDRESSES}", where=where)
    found = _ask_program({"check": addresses}, SEND_S)
    if found.get("missing"):
        raise InputError(
            "messages are sent by Apprise, which is not installed",
            where=where,
            state="nothing was started",
            todo='`pip install "labctl-bench[notify]"`, or take the table [notify] out',
        )
    wrong = found.get("wrong", [])
    if wrong:
        names = ", ".join(f"{position + 1} ({addresses[position].partition('://')[0]}://...)" for position in wrong)
        raise InputError(
            f"Apprise knows no such address: number {names}",
            where=where,
            state="nothing was started",
            todo="see Apprise's list of services for how such an address is written",
        )
    return Messenger(addresses, log_path, notify.on)


def _addresses_in(path: Path, tell: Callable[[str], None]) -> list[str]:
    """Read addresses from a file, one in a line."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES).decode("utf-8")
        readable = os.name == "posix" and path.stat().st_mode & 0o077
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise InputError(
            f"the file with the addresses cannot be read ({reason})",
            where=str(path),
            state="nothing was started",
            todo="correct notify.file: a text file with one address in a line",
        ) from error
    if readable:
        tell(f"others of this computer can read {path}, which holds secrets: `chmod 600` keeps them out")
    lines = [line.strip() for line in content.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def send_by_program(addresses: Sequence[str], message: Message, patience_s: float) -> list[int]:
    """Send a message by a program of its own, killed after ``patience_s``; returns who did not get it."""
    late = f"(of {message.at[:16].replace('T', ' ')} UTC) " if message.tries else ""
    asked = {
        "send": list(addresses),
        "title": f"{late}{message.title}",
        "text": message.text,
        "attach": [path for path in message.attach if Path(path).is_file()],
        "kind": {"failure": "failure", "unconfirmed": "failure", "stall": "warning"}.get(message.occasion, "info"),
    }
    answer = _ask_program(asked, patience_s)
    failed = answer.get("failed")
    everyone = list(range(len(addresses)))
    return [int(one) for one in failed if isinstance(one, int)] if isinstance(failed, list) else everyone


def _ask_program(asked: Mapping[str, Any], patience_s: float) -> dict[str, Any]:
    """Run the program that knows Apprise; an empty answer if it gave none in time. What it logs is thrown away."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-X", "utf8", "-m", _PROGRAM],
            input=json.dumps({**asked, "patience_s": patience_s}).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=patience_s,
            check=False,
            **own_session(),
        )
        answer = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        log.warning("the program that sends messages gave no answer: %s", type(error).__name__)
        return {}
    return answer if isinstance(answer, dict) else {}


def read_unsent(log_path: Path) -> list[Message]:
    """Read which messages of a log were never sent; whatever cannot be read is left out."""
    found: dict[str, Message] = {}
    try:
        with log_path.open("rb") as file:
            lines = file.read(_MAX_LOG_BYTES).splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            entry = json.loads(line)
            if entry["event"] == "asked":
                found[str(entry["id"])] = _from_data(entry)
            else:
                found.pop(str(entry["id"]), None)
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return list(found.values())[-MAX_WAITING:]


def _as_data(message: Message) -> dict[str, Any]:
    data = asdict(message)
    return {key: data[key] for key in ("id", "occasion", "title", "text", "at", "attach")}


def _from_data(entry: Mapping[str, Any]) -> Message:
    words = (str(entry[key]) for key in ("id", "occasion", "title", "text", "at"))
    return Message(*words, attach=[str(path) for path in entry.get("attach", [])], tries=1)


def _is_recent(message: Message, now_s: float) -> bool:
    try:
        return now_s - datetime.fromisoformat(message.at).timestamp() < KEPT_S
    except (ValueError, OverflowError, TypeError):
        return False
