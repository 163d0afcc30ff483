"""What the frames of a laboratory in another process say: requests of the client, replies of the server."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from labctl.sim.frames import FrameError


class Message(BaseModel):
    """One frame.

    Times are those of the client. A virtual clock is the laboratory's clock; for a real one the server translates.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Hello(Message):
    """First frame of a connection: to one instrument, or, without role, to the laboratory itself.

    :param speed: Seconds of the client's clock per real second; None if that clock is virtual.
    """

    op: Literal["hello"] = "hello"
    version: int
    role: str | None = None
    driver: str | None = None
    t: FiniteFloat
    speed: Annotated[FiniteFloat, Field(gt=0)] | None


class Wire(Message):
    """Bytes that arrive at a wire emulator."""

    op: Literal["wire"] = "wire"
    t: FiniteFloat
    data: bytes


class NextEvent(Message):
    """When will the emulator next speak unasked?"""

    op: Literal["next_event"] = "next_event"
    t: FiniteFloat


class Call(Message):
    """A call of a library function."""

    op: Literal["call"] = "call"
    t: FiniteFloat
    function: str
    arguments: list[Any]


class Announce(Message):
    """Which point of the plan is measured next."""

    op: Literal["announce"] = "announce"
    point: int
    attempt: int
    schedule_s: FiniteFloat


class Operator(Message):
    """Something done by hand."""

    op: Literal["operator"] = "operator"
    t: FiniteFloat
    action: str


class State(Message):
    """What is true in the laboratory?"""

    op: Literal["state"] = "state"
    t: FiniteFloat


Request = Annotated[Hello | Wire | NextEvent | Call | Announce | Operator | State, Field(discriminator="op")]


class Welcome(Message):
    """Answer to Hello: the time to which a virtual clock must move on, and which laboratory it is."""

    t: FiniteFloat
    bench: str
    seed: int
    roles: list[str]


class WireReply(Message):
    """Answer to Wire."""

    replies: list[Annotated[tuple[FiniteFloat, bytes], Field(strict=False)]]


class EventReply(Message):
    """Answer to NextEvent."""

    next_event: FiniteFloat | None


class CallReply(Message):
    """Answer to Call."""

    t: FiniteFloat
    code: int
    outputs: list[Any]


class StateReply(Message):
    """Answer to State."""

    state: dict[str, Any]


class Done(Message):
    """Answer to Announce and Operator."""

    done: Literal[True] = True


class Refusal(Message):
    """Answer to a request that cannot be met.

    :param input_error: True if the request was well-formed but asks for what there is not; the connection goes on.
    """

    error: str
    input_error: bool


_request: TypeAdapter[Any] = TypeAdapter(Request)
ReplyType = TypeVar("ReplyType", bound=Message)


def parse_request(message: dict[str, Any]) -> Any:
    """Check a request; raises FrameError."""
    return _checked(_request.validate_python, message)


def parse_reply(message: dict[str, Any], model: type[ReplyType]) -> ReplyType | Refusal:
    """Check a reply; raises FrameError."""
    return _checked((Refusal if "error" in message else model).model_validate, message)


def _checked(validate: Any, message: dict[str, Any]) -> Any:
    try:
        return validate(message)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:3])
        raise FrameError(f"the frame with the keys {sorted(message)[:8]} is not understood: {faults}") from error
