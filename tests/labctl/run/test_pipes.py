"""The engine's line to the guard where pipes block: no reader who does not read holds up the run for long."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from labctl.run import guard_line
from labctl.run.guard_line import GuardLine
from labctl.run.pipe_writer import PatientWriter

MORE_THAN_A_PIPE_HOLDS = b"x" * (1 << 22)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            pass


def drain(reader: int) -> bytes:
    """Read to the end."""
    received = b""
    while data := os.read(reader, 1 << 20):
        received += data
    return received


def test_lines_come_whole_and_in_order(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    line = GuardLine(writer, platform="nt")
    for number in range(50):
        line.say("points", number=number)
    assert not line.broken
    line.close()
    os.close(writer)
    assert [json.loads(text)["number"] for text in drain(reader).splitlines()] == list(range(50))


def test_deadlines_do_not_flood_the_guard(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline for storing, earlier than that of the point, is declared again and again; slow points all say it."""
    reader, writer = pipe
    line, now_s = GuardLine(writer), 0.0
    monkeypatch.setattr(line._clock, "now", lambda: now_s)
    for _ in range(1000):
        for duration_s in (100.0, 30.0):
            now_s += 1e-4
            line.expect(duration_s)
    assert line.in_time()
    for _ in range(3):
        for duration_s in (100.0, 30.0):
            now_s += 0.2
            line.expect(duration_s)
    line.close()
    os.close(writer)
    said = [json.loads(text)["s"] for text in drain(reader).splitlines()]
    assert said[-6:] == 3 * [100.0, 30.0]
    assert len(said) < 15


def test_a_guard_that_is_gone_is_noticed(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    line = GuardLine(writer, platform="nt")
    assert not line.broken
    line.say("alive")
    assert line.broken
    line.close()


def test_a_guard_that_does_not_read_is_not_waited_for(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_line, "_PATIENCE_WITH_LONG_LINES_S", 0.1)
    reader, writer = pipe
    line = GuardLine(writer, platform="nt")
    line.say("final", report=MORE_THAN_A_PIPE_HOLDS.decode())
    assert line.broken
    line.say("alive")
    os.close(reader)  # its thread, which still writes, ends with the pipe
    line.close()


def test_a_writer_says_what_went_wrong(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    patient = PatientWriter(writer)
    patient.write(b"first", 5.0)
    assert os.read(reader, 100) == b"first"
    os.close(reader)
    with pytest.raises(OSError):
        patient.write(b"second", 5.0)
    patient.close()
