"""The wire adapter over links that split, delay, lose, babble and break."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.clock import Clock, RealClock, VirtualClock
from labctl.errors import ConnectionLost, InstrumentError, InstrumentTimeout
from labctl.transport.adapter import WireAdapter
from labctl.transport.settings import WireSettings

_JOIN_S = 20.0


class ScriptedLink:
    """Gives chunks, each after its delay; then silence.

    :param chunks: Delay in s and bytes of each chunk.
    """

    def __init__(self, clock: Clock, chunks: Sequence[tuple[float, bytes]] = ()) -> None:
        self.clock = clock
        self.chunks = list(chunks)
        self.sent: list[bytes] = []
        self.closed = threading.Event()

    def send(self, data: bytes) -> None:
        if self.closed.is_set():
            raise ConnectionLost("closed")
        self.sent.append(data)

    def receive(self, timeout_s: float) -> bytes:
        if self.chunks and self.chunks[0][0] <= timeout_s:
            delay_s, data = self.chunks.pop(0)
            self.clock.sleep(delay_s)
            return data
        self.clock.wait(self.closed, timeout_s)
        if self.closed.is_set():
            raise ConnectionLost("closed")
        return b""

    def clear(self) -> None:
        self.chunks.clear()

    def close(self) -> None:
        self.closed.set()


def adapter_on(
    chunks: Sequence[tuple[float, bytes]] = (), clock: Clock | None = None, **settings: object
) -> tuple[WireAdapter, ScriptedLink]:
    clock = clock or VirtualClock()
    link = ScriptedLink(clock, chunks)
    line = WireSettings(**{"write_termination": b"\r", "read_termination": b"\r\n", "timeout_s": 1.0, **settings})  # type: ignore[arg-type]
    return WireAdapter(lambda: link, line, clock, "test"), link


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if b > a]


@given(st.lists(st.integers(0, 200)))
def test_replies_are_the_same_however_they_are_split(cuts: list[int]) -> None:
    stream = b"first\r\n\r\n\xb5third\r\n\x00\x01\r\n\x02> tail\r\n"
    adapter, _ = adapter_on([(0.1, piece) for piece in pieces(stream, cuts)])
    assert adapter.read() == "first"
    assert adapter.read() == ""
    assert adapter.read() == "µthird"
    assert adapter.read_bytes(5) == b"\x00\x01\r\n\x02"
    assert adapter.read_until(b"> ") == b"> "
    assert adapter.read() == "tail"


def test_text_is_written_with_termination_and_bytes_without() -> None:
    adapter, link = adapter_on()
    adapter.write("GRATING?")
    adapter.write_bytes(b"\x00\r")
    assert link.sent == [b"GRATING?\r", b"\x00\r"]


@pytest.mark.parametrize(
    ("count", "stop", "expected"),
    [(3, False, b"ab\r"), (3, True, b"ab\r"), (9, True, b"ab\r\n"), (-1, True, b"ab\r\n"), (0, False, b"")],
)
def test_bytes_end_at_the_count_or_at_the_terminator(count: int, stop: bool, expected: bytes) -> None:
    adapter, _ = adapter_on([(0.0, b"ab\r\ncd\r\n")])
    assert adapter.read_bytes(count, break_on_termchar=stop) == expected


def test_all_bytes_are_those_until_the_line_is_quiet() -> None:
    adapter, _ = adapter_on([(0.9, b"ab"), (0.9, b"cd"), (1.1, b"late")])
    assert adapter.read_bytes(-1) == b"abcd"


def test_a_time_out_shows_what_came_instead_and_forgets_it() -> None:
    adapter, link = adapter_on([(0.5, b"half a re")])
    adapter.write("POS?")
    with pytest.raises(InstrumentTimeout, match="within 1 s") as caught:
        adapter.read()
    assert caught.value.exchange.sent == r"b'POS?\r'"
    assert caught.value.exchange.received == "b'half a re'"
    assert adapter.clock.now() == 1.0
    link.chunks = [(0.0, b"fresh\r\n")]
    assert adapter.read() == "fresh"


def test_an_instrument_that_never_ends_its_reply_does_not_hold_off_the_time_out() -> None:
    adapter, _ = adapter_on([(0.3, b"x")] * 1000)
    with pytest.raises(InstrumentTimeout):
        adapter.read()
    assert adapter.clock.now() <= 1.0


def test_an_instrument_that_sends_without_end_is_cut_off() -> None:
    adapter, _ = adapter_on([(0.0, b"x" * (1 << 20))] * 10)
    with pytest.raises(ConnectionLost, match="without end"):
        adapter.read()


def test_text_that_cannot_be_encoded_or_decoded_is_an_instrument_error_with_the_bytes() -> None:
    adapter, link = adapter_on([(0.0, b"\xff\xfe\r\n")], encoding="ascii")
    with pytest.raises(InstrumentError, match="cannot be written"):
        adapter.write("1 µm")
    assert link.sent == []
    with pytest.raises(InstrumentError, match="not text") as caught:
        adapter.read()
    assert r"\xff\xfe" in caught.value.exchange.received


def test_patience_holds_for_the_block_and_for_this_thread_only() -> None:
    adapter, _ = adapter_on([(25.0, b"done\r\n")])
    elsewhere: list[float] = []
    with adapter.patience(30.0):
        with adapter.patience(0.5):
            assert adapter.timeout_s == 0.5
        thread = threading.Thread(target=lambda: elsewhere.append(adapter.timeout_s))
        thread.start()
        thread.join(_JOIN_S)
        assert adapter.read() == "done"
    assert elsewhere == [1.0]
    assert adapter.timeout_s == 1.0


def test_flushing_forgets_what_was_received_and_what_the_link_holds() -> None:
    adapter, link = adapter_on([(0.0, b"one\r\nold"), (0.0, b"older\r\n")])
    assert adapter.read() == "one"
    adapter.flush_read_buffer()
    assert link.chunks == []
    link.chunks = [(0.0, b"new\r\n")]
    assert adapter.read() == "new"


def _holder(adapter: WireAdapter, body: Callable[[], None], faults: list[Exception]) -> threading.Thread:
    """Start a thread that holds the adapter while it runs ``body``; returns when it holds it."""
    holds = threading.Event()

    def run() -> None:
        try:
            with adapter.exclusive():
                holds.set()
                body()
        except Exception as error:
            faults.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert holds.wait(_JOIN_S)
    return thread


def _reconnecting(clock: Clock) -> tuple[WireAdapter, list[ScriptedLink]]:
    links: list[ScriptedLink] = []

    def connect() -> ScriptedLink:
        links.append(ScriptedLink(clock))
        return links[-1]

    return WireAdapter(connect, WireSettings(timeout_s=60.0), clock, "shutter"), links


def test_the_safe_state_takes_the_link_from_a_reader_that_hangs() -> None:
    adapter, links = _reconnecting(RealClock())
    faults: list[Exception] = []

    def hang() -> None:
        adapter.write("slow?")
        adapter.read()

    thread = _holder(adapter, hang, faults)
    with adapter.seize():
        adapter.write("close")
        thread.join(_JOIN_S)
        assert not thread.is_alive()
    assert [link.sent for link in links] == [[b"slow?\n"], [b"close\n"]]
    assert len(faults) == 1 and isinstance(faults[0], ConnectionLost)
    with adapter.exclusive():
        adapter.write("after")
    assert links[1].sent == [b"close\n", b"after\n"]


def test_the_old_holder_cannot_write_into_the_exchange_of_the_safe_state() -> None:
    adapter, links = _reconnecting(RealClock())
    faults: list[Exception] = []
    seized = threading.Event()

    def between_exchanges() -> None:
        seized.wait(_JOIN_S)
        adapter.write("open")

    thread = _holder(adapter, between_exchanges, faults)
    with adapter.seize():
        seized.set()
        thread.join(_JOIN_S)
        adapter.write("close")
    assert links[1].sent == [b"close\n"]
    assert len(faults) == 1 and "taken over by the safe state" in str(faults[0])


def test_seizing_a_free_link_keeps_it_and_is_re_entrant() -> None:
    adapter, links = _reconnecting(RealClock())
    with adapter.exclusive(), adapter.seize(), adapter.exclusive(), adapter.seize():
        adapter.write("close")
    assert len(links) == 1
    faults: list[Exception] = []
    _holder(adapter, lambda: adapter.write("next"), faults).join(_JOIN_S)
    assert links[0].sent == [b"close\n", b"next\n"]
    assert faults == []


def test_a_link_that_cannot_be_made_anew_is_an_error_and_not_a_dead_lock() -> None:
    clock = RealClock()
    links = [ScriptedLink(clock)]

    def connect() -> ScriptedLink:
        if not links:
            raise ConnectionLost("unplugged")
        return links.pop()

    adapter = WireAdapter(connect, WireSettings(), clock)
    done = threading.Event()
    thread = _holder(adapter, lambda: done.wait(_JOIN_S) and None, [])
    with pytest.raises(ConnectionLost, match="unplugged"):
        with adapter.seize():
            pytest.fail("must not be reached")
    links.append(ScriptedLink(clock))
    with adapter.seize():
        adapter.reconnect()
        adapter.write("close")
    done.set()
    thread.join(_JOIN_S)


def test_who_waits_for_the_lock_does_not_hold_virtual_time() -> None:
    clock = VirtualClock()
    adapter, _ = adapter_on([(25.0, b"arrived\r\n")], clock=clock, timeout_s=30.0)
    replies: list[str] = []

    def move() -> None:
        replies.append(adapter.read())

    with clock.actor():
        holder_is_actor = threading.Event()

        def act() -> None:
            with clock.actor(), adapter.exclusive():
                holder_is_actor.set()
                move()

        thread = threading.Thread(target=act, daemon=True)
        thread.start()
        assert holder_is_actor.wait(_JOIN_S)
        with adapter.exclusive():
            replies.append("mine")
    thread.join(_JOIN_S)
    assert replies == ["arrived", "mine"]
    assert 25.0 <= clock.now() < 26.0


def test_a_thread_that_never_lets_go_is_named_after_the_patience_of_the_lock() -> None:
    clock = VirtualClock()
    adapter, _ = adapter_on(clock=clock)
    done = threading.Event()
    thread = _holder(adapter, lambda: done.wait(_JOIN_S) and None, [])
    with pytest.raises(InstrumentTimeout, match="another thread"):
        adapter.write("x")
    done.set()
    thread.join(_JOIN_S)


@pytest.mark.parametrize("use", [lambda a: a.write("x"), lambda a: a.read(), lambda a: a.flush_read_buffer()])
def test_a_link_that_breaks_says_whose_it_is(use: Callable[[WireAdapter], object]) -> None:
    class BrokenLink(ScriptedLink):
        def clear(self) -> None:
            raise ConnectionLost("closed")

    clock = VirtualClock()
    link = BrokenLink(clock)
    link.close()
    adapter = WireAdapter(lambda: link, WireSettings(), clock, "attenuator at serial:/dev/none")
    with pytest.raises(ConnectionLost, match="closed") as caught:
        use(adapter)
    assert caught.value.where == "attenuator at serial:/dev/none"
