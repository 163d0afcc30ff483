"""Raw ports: the bytes of one wire emulator on TCP or a pty, in the time of the server's clock."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from labctl.sim.emulator import WireEmulator
from labctl.sim.stand import Place

if TYPE_CHECKING:
    from labctl.sim.serving import LaboratoryService

log = logging.getLogger(__name__)

_PTY_BACKLOG = 1 << 20
_READ_SIZE = 1 << 16
_XON_XOFF = b"\x11\x13"


class RawChannel:
    """Bytes between one raw client and an emulator; replies leave at their moment.

    :param write: Sends bytes to the client at once.
    :param fail: Ends the connection after the emulator failed.
    """

    def __init__(
        self,
        service: LaboratoryService,
        role: str,
        place: Place,
        write: Callable[[bytes], None],
        fail: Callable[[], None],
    ) -> None:
        self.fail = fail
        self._service = service
        self._role = role
        self._place = place
        self._write = write
        self._loop = asyncio.get_running_loop()
        self._pending: list[tuple[float, int, bytes]] = []
        self._tickets = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    def arrived(self, data: bytes) -> None:
        """Give bytes of the client to the emulator."""
        t = self._place.clamp(self._service.raw_now())
        try:
            replies = cast(WireEmulator, self._place.emulator).respond(t, data)
        except Exception:
            log.exception("the emulator of %s failed at %r; the client is cut off", self._role, data)
            self.fail()
            return
        self.deliver(t, replies)
        self._service.watch_events()

    def deliver(self, t: float, replies: Sequence[tuple[float, bytes]]) -> None:
        """Send each reply when its moment has come, in the order of the moments; now is ``t``."""
        now = self._loop.time()
        for moment, data in replies:
            due = now + max(moment - t, 0.0) / self._service.speed
            heapq.heappush(self._pending, (due, next(self._tickets), data))
        self._send_due(now)

    def close(self) -> None:
        """Drop what has not been sent."""
        self._pending.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _send_due(self, now: float) -> None:
        while self._pending and self._pending[0][0] <= now:
            self._write(heapq.heappop(self._pending)[2])
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending:
            due = self._pending[0][0]
            self._timer = self._loop.call_at(due, lambda: self._send_due(max(due, self._loop.time())))


class RawProtocol(asyncio.Protocol):
    """One raw client on TCP."""

    def __init__(self, service: LaboratoryService, role: str, place: Place) -> None:
        self._service = service
        self._role = role
        self._place = place

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._channel = RawChannel(self._service, self._role, self._place, self._transport.write, self._transport.abort)
        self._service.connections.add(self._transport)
        self._place.connect(self._service.raw_now())
        self._service.attach(self._role, self._channel)

    def data_received(self, data: bytes) -> None:
        self._channel.arrived(data)

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._channel.close()
        self._service.detach(self._role, self._channel)
        self._service.connections.discard(self._transport)


class Pty:
    """A pty in raw mode, 8N1. Its slave end stays open here, so clients can come and go."""

    def __init__(self, service: LaboratoryService, role: str, place: Place, loop: asyncio.AbstractEventLoop) -> None:
        import termios
        import tty

        self._software_flow = lambda: termios.tcgetattr(self._slave)[0] & (termios.IXON | termios.IXOFF)
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self._loop = loop
        self._service = service
        self._role = role
        self._unsent = bytearray()
        self._channel = RawChannel(service, role, place, self._write, lambda: None)
        loop.add_reader(self._master, self._readable)

    def close(self) -> None:
        self._loop.remove_reader(self._master)
        self._loop.remove_writer(self._master)
        self._channel.close()
        os.close(self._master)
        os.close(self._slave)

    def _readable(self) -> None:
        try:
            data = os.read(self._master, _READ_SIZE)
        except BlockingIOError:
            return
        if self._software_flow():
            data = data.translate(None, _XON_XOFF)
        # Nothing tells that a client has opened a pty before it speaks.
        self._service.attach(self._role, self._channel)
        self._channel.arrived(data)

    def _write(self, data: bytes) -> None:
        if len(self._unsent) + len(data) > _PTY_BACKLOG:
            log.warning("%s: nobody reads %s; %d bytes are lost", self._role, self.path, len(data))
            return
        self._unsent += data
        self._writable()

    def _writable(self) -> None:
        try:
            del self._unsent[: os.write(self._master, self._unsent)]
        except BlockingIOError:
            pass
        if self._unsent:
            self._loop.add_writer(self._master, self._writable)
        else:
            self._loop.remove_writer(self._master)
