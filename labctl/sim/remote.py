"""A simulated laboratory in another process: the client's side of ``sim+tcp``.

Every frame carries the time of the client's clock, so virtual time works across the connection: while a client waits
for a frame it is not waiting on its clock, and the clock stands still. A client with a real or scaled clock lives in
the server's own time, together with those on the raw ports.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from labctl.clock import Clock, VirtualClock
from labctl.errors import ConnectionLost, InputError
from labctl.sim.frames import VERSION, FrameError, FrameReader, encode
from labctl.sim.messages import (
    Announce,
    Call,
    CallReply,
    Done,
    EventReply,
    Hello,
    Message,
    NextEvent,
    Operator,
    Refusal,
    ReplyType,
    State,
    StateReply,
    Welcome,
    Wire,
    WireReply,
    parse_reply,
)

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 3.0
# A reply takes as long as the server computes, which is far below a second.
_REPLY_TIMEOUT_S = 30.0
_RECEIVE_SIZE = 1 << 16


class Connection:
    """One framed connection to a laboratory in another process; one request at a time.

    :param address: Host and port of the framed port.
    :param name: Role, for messages.
    """

    def __init__(self, address: tuple[str, int], name: str) -> None:
        self.lock = threading.RLock()
        self._where = f"{name} at sim+tcp://{address[0]}:{address[1]}"
        self._reader = FrameReader()
        try:
            self._socket = socket.create_connection(address, timeout=_CONNECT_TIMEOUT_S)
        except OSError as error:
            raise ConnectionLost(
                f"cannot reach the laboratory: {error}", where=self._where, todo="start it with `labctl sim serve`"
            ) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(_REPLY_TIMEOUT_S)

    def request(self, message: Message, reply: type[ReplyType]) -> ReplyType:
        """Send a request and wait for its reply.

        Raises InputError if the laboratory refuses it, ConnectionLost if the connection breaks or makes no sense.
        """
        with self.lock:
            try:
                self._socket.sendall(encode(dict(message)))
                answer = parse_reply(self._receive(), reply)
            except (OSError, FrameError) as error:
                self.close()
                raise ConnectionLost(f"the laboratory is lost: {error}", where=self._where) from error
        if isinstance(answer, Refusal):
            if answer.input_error:
                raise InputError(answer.error, where=self._where)
            self.close()
            raise ConnectionLost(f"the laboratory failed: {answer.error}", where=self._where)
        return answer

    def close(self) -> None:
        """Close, and wake a thread that waits for a reply; may be called twice."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()

    def _receive(self) -> dict[str, Any]:
        while True:
            data = self._socket.recv(_RECEIVE_SIZE)
            if not data:
                raise ConnectionResetError("the other process closed the connection")
            for message in self._reader.feed(data):
                return message


class RemoteLaboratory:
    """The link of the engine to a laboratory in another process.

    :param address: Host and port of its framed port.
    :param clock: Clock of the run. A virtual clock is moved on to the laboratory's latest time; with a real one the
        client shares the time of the server's raw clients, so that both kinds may stand on one bench.
    :param seed: Seed of the run; the randomness is the server's, so a different seed there is logged as a warning.
    """

    def __init__(self, address: tuple[str, int], clock: Clock, seed: int) -> None:
        self.address = address
        self.clock = clock
        self._connection = Connection(address, "laboratory")
        welcome = self.greet(self._connection, None, None)
        self.seed = welcome.seed
        if welcome.seed != seed:
            log.warning("the laboratory at %s:%d has seed %d, the run has %d", *address, welcome.seed, seed)

    def greet(self, connection: Connection, role: str | None, driver: str | None) -> Welcome:
        """Say on a new connection what it is for; raises InputError if the laboratory has no such instrument."""
        speed = None if self.clock.virtual else getattr(self.clock, "speed", 1.0)
        hello = Hello(version=VERSION, role=role, driver=driver, t=self.clock.now(), speed=speed)
        try:
            welcome = connection.request(hello, Welcome)
        except Exception:
            connection.close()
            raise
        if isinstance(self.clock, VirtualClock):
            self.clock.advance_to(welcome.t)
        return welcome

    def connect(self, role: str, driver: str) -> Connection:
        """Open a connection to one instrument."""
        connection = Connection(self.address, role)
        self.greet(connection, role, driver)
        return connection

    def announce(self, point: int, attempt: int, schedule_s: float) -> None:
        self._connection.request(Announce(point=point, attempt=attempt, schedule_s=schedule_s), Done)

    def operator(self, action: str) -> None:
        self._connection.request(Operator(t=self.clock.now(), action=action), Done)

    def state(self) -> Mapping[str, Any]:
        return self._connection.request(State(t=self.clock.now()), StateReply).state

    def close(self) -> None:
        self._connection.close()


class RemoteWire:
    """A wire emulator in another process.

    :param connection: Greeted connection to it.
    :param clock: Clock of the run.
    """

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock

    def respond(self, t: float, data: bytes) -> Sequence[tuple[float, bytes]]:
        return self._connection.request(Wire(t=t, data=data), WireReply).replies

    def next_event(self) -> float | None:
        return self._connection.request(NextEvent(t=self._clock.now()), EventReply).next_event


class RemoteLibrary:
    """A vendor library emulator in another process.

    :param connection: Greeted connection to it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def call(self, t: float, function: str, arguments: Sequence[Any]) -> tuple[float, int, Sequence[Any]]:
        answer = self._connection.request(Call(t=t, function=function, arguments=list(arguments)), CallReply)
        return answer.t, answer.code, answer.outputs
