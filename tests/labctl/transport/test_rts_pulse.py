"""RTS is switched at the opening of serial ports that want it, and nowhere else."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from labctl.transport.settings import WireSettings
from labctl.transport.wire import SerialLink

PULSED = WireSettings(baud_rate=115200, rtscts=True, rts_pulse=True)


class Port:
    """A serial port that remembers what was done to it."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.settings = settings
        self.done: list[str] = []
        self.is_open = True

    @property
    def rts(self) -> bool:
        raise AssertionError("nobody asks")

    @rts.setter
    def rts(self, raised: bool) -> None:
        self.done.append("rts on" if raised else "rts off")

    def reset_input_buffer(self) -> None:
        self.done.append("input dropped")

    def reset_output_buffer(self) -> None:
        self.done.append("output dropped")

    def close(self) -> None:
        self.is_open = False


@pytest.mark.parametrize(
    ("settings", "done"),
    [(PULSED, ["rts off", "rts on", "input dropped", "output dropped"]), (WireSettings(), [])],
)
def test_rts_is_switched_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, settings: WireSettings, done: list[str]
) -> None:
    ports: list[Port] = []

    def open_port(url: str, **line: Any) -> Port:
        ports.append(Port(url, **line))
        return ports[-1]

    monkeypatch.setattr("serial.serial_for_url", open_port)
    SerialLink("/dev/none", settings).close()
    (port,) = ports
    assert port.done == done
    assert port.settings["rtscts"] is settings.rtscts


@pytest.mark.skipif(sys.platform == "win32", reason="a pty is needed")
def test_a_port_without_rts_is_opened_all_the_same() -> None:
    master, slave = os.openpty()
    link = SerialLink(os.ttyname(slave), PULSED)
    os.write(master, b"hello")
    assert link.receive(2.0) == b"hello"
    link.close()
    os.close(master)
    os.close(slave)
