"""The framed port: our own drivers and the engine, each frame with the client's time."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

from labctl.errors import InputError
from labctl.sim.emulator import LibraryEmulator
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
    State,
    StateReply,
    Welcome,
    Wire,
    WireReply,
    parse_request,
)
from labctl.sim.stand import is_wire

if TYPE_CHECKING:
    from labctl.sim.serving import LaboratoryService

log = logging.getLogger(__name__)


class FramedProtocol(asyncio.Protocol):
    """One framed connection: to an instrument, or to the laboratory itself."""

    def __init__(self, service: LaboratoryService) -> None:
        self._service = service
        self._reader = FrameReader()
        self._greeted = False
        self._speed: float | None = None
        self._role: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._service.connections.add(self._transport)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._reader.feed(data):
                self._transport.write(encode(dict(self._answer(parse_request(message)))))
        except FrameError as error:
            log.warning("a connection from %s is closed: %s", self._transport.get_extra_info("peername"), error)
            self._give_up(str(error))
        except Exception as error:
            log.exception("the emulator of %s failed; the connection is closed", self._role or "the laboratory")
            self._give_up(f"{type(error).__name__}: {error}")

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._role is not None:
            self._service.framed_roles.remove(self._role)
        self._service.connections.discard(self._transport)

    def _give_up(self, reason: str) -> None:
        self._transport.write(encode(dict(Refusal(error=reason, input_error=False))))
        self._transport.close()

    def _answer(self, request: Message) -> Message:
        try:
            if self._greeted is isinstance(request, Hello):
                raise FrameError("a connection begins with one hello, and only that")
            if isinstance(request, Hello):
                return self._welcome(request)
            return self._of_laboratory(request) if self._role is None else self._of_instrument(self._role, request)
        except InputError as error:
            return Refusal(error=error.what, input_error=True)

    def _welcome(self, hello: Hello) -> Welcome:
        service, places = self._service, self._service.stand.places
        if hello.version != VERSION:
            raise FrameError(f"this server speaks version {VERSION}, the client {hello.version}")
        self._speed = hello.speed
        t = max(self._laboratory_time(hello.t), service.latest_t())
        if hello.role is not None:
            place = places.get(hello.role)
            if place is None or (hello.driver is not None and hello.driver != place.driver):
                here = ", ".join(f"{role} ({place.driver})" for role, place in places.items())
                raise InputError(f"the bench {service.bench!r} has no {hello.role} ({hello.driver}); it has {here}")
            t = place.connect(t)
            service.framed_roles.append(hello.role)
            self._role = hello.role
        self._greeted = True
        return Welcome(t=t, bench=service.bench, seed=service.seed, roles=list(places))

    def _laboratory_time(self, t: float) -> float:
        """Get the laboratory time of a request that the client sent at ``t``."""
        return t if self._speed is None else self._service.raw_now()

    def _client_time(self, moment: float, now: float, t: float) -> float:
        """Get the client's time of a ``moment``, when it is ``now`` in the laboratory and ``t`` at the client."""
        return moment if self._speed is None else t + (moment - now) * self._speed / self._service.speed

    def _of_laboratory(self, request: Message) -> Message:
        stand = self._service.stand
        match request:
            case Announce(point=point, attempt=attempt, schedule_s=schedule_s):
                stand.laboratory.announce(point, attempt, schedule_s)
                return Done()
            case Operator(t=t, action=action):
                stand.operator(action, max(self._laboratory_time(t), self._service.latest_t()))
                return Done()
            case State(t=t):
                now = max(self._laboratory_time(t), self._service.latest_t())
                return StateReply(state=dict(stand.laboratory.state(now)))
        raise FrameError(f"the laboratory itself takes no {type(request).__name__}")

    def _of_instrument(self, role: str, request: Message) -> Message:
        place = self._service.stand.places[role]
        emulator = place.emulator
        if is_wire(emulator):
            match request:
                case Wire(t=t, data=data):
                    now = place.clamp(self._laboratory_time(t))
                    replies = emulator.respond(now, data)
                    return WireReply(replies=[(self._client_time(due, now, t), bytes(text)) for due, text in replies])
                case NextEvent(t=t):
                    event, now = emulator.next_event(), self._laboratory_time(t)
                    return EventReply(next_event=None if event is None else self._client_time(event, now, t))
        elif isinstance(request, Call):
            now = place.clamp(self._laboratory_time(request.t))
            done, code, outputs = cast(LibraryEmulator, emulator).call(now, request.function, request.arguments)
            return CallReply(t=self._client_time(done, now, request.t), code=int(code), outputs=list(outputs))
        raise FrameError(f"the {role} ({place.driver}) takes no {type(request).__name__}")
