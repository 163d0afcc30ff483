"""The resource grammar and the registry of transports."""

from __future__ import annotations

import socket
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from labctl.clock import VirtualClock
from labctl.errors import InputError
from labctl.transport import opening
from labctl.transport.opening import is_simulated, open_laboratory, open_link, scheme_of
from labctl.transport.session import OpenRequest, Session
from labctl.transport.settings import LibrarySettings, LinkSettings, WireSettings
from labctl.transport.wire import SocketLink

_LIBRARY = LibrarySettings("a library", {}, {})


def request_for(resource: str, settings: LinkSettings) -> OpenRequest:
    return OpenRequest("shutter", "thorlabs-sc10", resource, settings, {}, Session("bench", VirtualClock()))


@pytest.mark.parametrize(
    ("resource", "scheme"),
    [
        ("sim:", "sim"),
        ("sim+tcp://127.0.0.1:4000", "sim+tcp"),
        ("serial:/dev/ttyUSB0", "serial"),
        ("serial:COM3", "serial"),
        ("socket://bench:4000", "socket"),
        ("sdk:atmcd", "sdk"),
        ("USB0::0x1313::0x8078::P0000001::INSTR", "visa"),
        ("asrl3::instr", "visa"),
        ("GPIB0::9::INSTR", "visa"),
        ("TCPIP::127.0.0.1::4000::SOCKET", "visa"),
    ],
)
def test_every_form_of_resource_has_its_scheme(resource: str, scheme: str) -> None:
    assert scheme_of(resource) == scheme
    assert is_simulated(resource) is scheme.startswith("sim")


@pytest.mark.parametrize(
    "resource", ["", "sim", "COM3", "/dev/ttyUSB0", "laboratory:", "http://x", "USB0", "GPIB0:9", ":"]
)
def test_a_resource_of_no_known_form_is_refused_with_the_forms_there_are(resource: str) -> None:
    with pytest.raises(InputError, match="no known form") as caught:
        scheme_of(resource)
    assert "sim+tcp:" in caught.value.todo and "serial:" in caught.value.todo


@pytest.mark.parametrize(
    ("resource", "settings"),
    [("serial:COM3", _LIBRARY), ("socket://bench:4000", _LIBRARY), ("sdk:atmcd", WireSettings())],
)
def test_wires_and_libraries_are_not_mixed(resource: str, settings: LinkSettings) -> None:
    with pytest.raises(InputError, match="thorlabs-sc10") as caught:
        open_link(request_for(resource, settings))
    assert caught.value.where == "instruments.shutter.resource"


def test_a_socket_is_opened() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = open_link(request_for(f"socket://127.0.0.1:{server.getsockname()[1]}", WireSettings()))
        assert isinstance(link, SocketLink)
        link.close()


def test_other_packages_add_transports_and_laboratories(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []

    def registered(name: str) -> EntryPoint:
        return SimpleNamespace(name=name, load=lambda: lambda what: opened.append(what) or "opened")  # type: ignore[return-value]

    installed = {"labctl.transports": [registered("mine")], "labctl.laboratory": [registered("open")]}
    monkeypatch.setattr(opening, "entry_points", lambda group: installed[group])
    request = request_for("mine:anything", WireSettings())
    assert open_link(request) == "opened"
    assert open_laboratory(request.session) == "opened"
    assert request.session.laboratory == "opened"
    assert opened == [request, request.session]


def test_a_laboratory_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "entry_points", lambda group: [])
    with pytest.raises(InputError, match=r"labctl\.laboratory"):
        open_laboratory(Session("bench", VirtualClock()))
