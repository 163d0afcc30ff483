"""What the tests of wire drivers share: an emulator with a tap on its wire, and a pty for strangers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from labctl.clock import VirtualClock
from labctl.sim.emulator import Reply, WireEmulator
from labctl.sim.link import EmulatorLink
from labctl.sim.server import LaboratoryServer
from labctl.transport.adapter import WireAdapter
from labctl.transport.settings import WireSettings


@dataclass
class Tap:
    """An emulator whose wire is recorded, and damaged on request.

    :param emulator: What stands behind.
    :param sent: All that the host sent, one entry per write.
    :param damage_command: Turns what the host sends into what arrives.
    :param damage_reply: Turns one reply into the replies that arrive.
    """

    emulator: WireEmulator
    sent: list[bytes] = field(default_factory=list)
    damage_command: Callable[[bytes], bytes] = lambda data: data
    damage_reply: Callable[[float, bytes], Sequence[Reply]] = lambda t, data: [(t, data)]

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        if data:
            self.sent.append(data)
        replies = self.emulator.respond(t, self.damage_command(data))
        return [arrives for moment, reply in replies for arrives in self.damage_reply(moment, reply)]

    def next_event(self) -> float | None:
        return self.emulator.next_event()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(start_s=1.0, wall_start=1.7e9)


@pytest.fixture
def adapter_to(clock: VirtualClock) -> Callable[[WireEmulator, WireSettings], WireAdapter]:
    """Get a function that connects an adapter to an emulator, on virtual time."""

    def connect(emulator: WireEmulator, settings: WireSettings) -> WireAdapter:
        return WireAdapter(lambda: EmulatorLink(emulator, clock), settings, clock, "test")

    return connect


@pytest.fixture
def tap() -> type[Tap]:
    return Tap


@pytest.fixture
def serve_on_pty() -> Callable[[str, str, type], AbstractContextManager[str]]:
    """Get a context manager that serves one emulator from a process of its own and gives the path of its pty."""

    @contextmanager
    def serve(role: str, driver: str, emulator: type) -> Iterator[str]:
        instrument = SimpleNamespace(driver=driver, resource="sim:", options={})
        bench = SimpleNamespace(name="test", laboratory=None, instruments={role: instrument})
        with LaboratoryServer(bench, factories={driver: emulator}) as addresses:
            yield addresses["instruments"][role]["pty"]

    return serve
