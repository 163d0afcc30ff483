"""Serves a simulated laboratory: one event loop, no threads.

Two ways lead to the same emulators. *Raw*, for strangers: each wire emulator on a TCP port and a pty of its own, in
real or scaled time. *Framed*, for our own drivers: one port for all instruments and the laboratory itself. A framed
client with a real or scaled clock lives in the same time as the raw ones. One with a virtual clock brings its own
time: that and other clients at once are allowed but not coherent. Raw time then goes on from the latest virtual time,
and a virtual clock that is behind an instrument is answered as if it were not.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any, cast

from labctl.clock import ScaledClock
from labctl.sim.emulator import WireEmulator
from labctl.sim.framed_port import FramedProtocol
from labctl.sim.raw_port import Pty, RawChannel, RawProtocol
from labctl.sim.stand import Place, Stand, is_wire

log = logging.getLogger(__name__)

_SOONEST_EVENT_S = 1e-3


class LaboratoryService:
    """A laboratory with its listening ports, within a running event loop.

    :param bench: Name of the bench.
    :param stand: The laboratory and its emulators.
    :param seed: Seed of the laboratory, told to clients.
    :param speed: Laboratory seconds per real second for raw clients, > 0.
    :param host: Address to listen on.
    """

    def __init__(self, bench: str, stand: Stand, *, seed: int, speed: float = 1.0, host: str = "127.0.0.1") -> None:
        self.bench = bench
        self.stand = stand
        self.seed = seed
        self.speed = speed
        self.host = host
        self.connections: set[asyncio.Transport] = set()
        self.framed_roles: list[str] = []
        self._clock = ScaledClock(speed)
        self._ahead_s = 0.0
        self._listeners: dict[str, set[RawChannel]] = {role: set() for role in stand.places}
        self._servers: list[asyncio.Server] = []
        self._ptys: list[Pty] = []
        self._event_timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()

    async def run(self, ready: Callable[[dict[str, Any]], None], port: int = 0) -> None:
        """Listen, tell ``ready`` the addresses, and serve until :meth:`stop`; then close everything.

        :param port: Framed port; any free one if 0.
        """
        self._loop = asyncio.get_running_loop()
        try:
            addresses = await self._listen(port)
            ready(addresses)
            await self._stopped.wait()
        finally:
            await self._close()

    def stop(self) -> None:
        """End :meth:`run`; may be called from any thread, and twice."""
        if self._loop is None:
            self._stopped.set()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopped.set)

    def latest_t(self) -> float:
        """Get the latest laboratory time that any emulator was told, s."""
        return max((place.latest_t for place in self.stand.places.values()), default=0.0)

    def raw_now(self) -> float:
        """Get the laboratory time of raw clients; framed clients may have moved it on."""
        t = self._clock.now() + self._ahead_s
        behind = max(self.latest_t() - t, 0.0)
        self._ahead_s += behind
        return t + behind

    def attach(self, role: str, channel: RawChannel) -> None:
        """Let ``channel`` hear what the instrument says unasked."""
        self._listeners[role].add(channel)
        self.watch_events()

    def detach(self, role: str, channel: RawChannel) -> None:
        self._listeners[role].discard(channel)

    def watch_events(self) -> None:
        """Set the timer for the next moment at which an instrument with raw clients speaks unasked."""
        if self._event_timer is not None:
            self._event_timer.cancel()
            self._event_timer = None
        events = [event for role in self._heard() if (event := self._next_event(role)) is not None]
        if events:
            delay_s = max((min(events) - self.raw_now()) / self.speed, _SOONEST_EVENT_S)
            self._event_timer = asyncio.get_running_loop().call_later(delay_s, self._speak)

    def _heard(self) -> list[str]:
        # What a framed client's instrument says unasked belongs to that client, in its own time.
        return [role for role, channels in self._listeners.items() if channels and role not in self.framed_roles]

    def _next_event(self, role: str) -> float | None:
        return cast(WireEmulator, self.stand.places[role].emulator).next_event()

    def _speak(self) -> None:
        for role in self._heard():
            now = self.raw_now()
            event = self._next_event(role)
            if event is None or event > now:
                continue
            place = self.stand.places[role]
            try:
                replies = cast(WireEmulator, place.emulator).respond(place.clamp(now), b"")
            except Exception:
                log.exception("the emulator of %s failed; its clients are cut off", role)
                for channel in list(self._listeners[role]):
                    channel.fail()
                self._listeners[role].clear()
                continue
            for channel in self._listeners[role]:
                channel.deliver(place.latest_t, replies)
        self.watch_events()

    async def _listen(self, port: int) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        framed = await loop.create_server(lambda: FramedProtocol(self), self.host, port)
        self._servers.append(framed)
        framed_address = _address(framed)
        instruments: dict[str, Any] = {}
        for role, place in self.stand.places.items():
            entry: dict[str, Any] = {"driver": place.driver, "tcp": framed_address, "pty": None}
            if is_wire(place.emulator):
                server = await loop.create_server(self._raw_protocol(role, place), self.host, 0)
                self._servers.append(server)
                entry["tcp"] = _address(server)
                if hasattr(os, "openpty"):
                    pty = Pty(self, role, place, loop)
                    self._ptys.append(pty)
                    entry["pty"] = pty.path
            instruments[role] = entry
        return {"bench": self.bench, "instruments": instruments, "laboratory": {"tcp": framed_address}}

    def _raw_protocol(self, role: str, place: Place) -> Callable[[], RawProtocol]:
        return lambda: RawProtocol(self, role, place)

    async def _close(self) -> None:
        if self._event_timer is not None:
            self._event_timer.cancel()
        for pty in self._ptys:
            pty.close()
        for server in self._servers:
            server.close()
        for transport in list(self.connections):
            transport.abort()
        for server in self._servers:
            await server.wait_closed()
        # Aborted transports close their sockets in the next round of the loop.
        await asyncio.sleep(0)


def _address(server: asyncio.Server) -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
