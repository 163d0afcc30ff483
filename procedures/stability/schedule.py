"""When the reads of a stability run are due: listed, or close together at first and then at regular intervals."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from labctl.errors import InputError

MINUTE_S, HOUR_S = 60.0, 3600.0
_GROWTH = 10**0.2
"""Factor from one read to the next at the beginning: five reads a decade."""
_MOST = 20_000
_SAME = 1e-9


@dataclass(frozen=True)
class Rhythm:
    """How reads follow each other; all in minutes, None where nobody said.

    :param times: These and no others.
    :param first: The first read after the beginning.
    :param dense_every: Interval up to ``dense_until``; without it the first reads lie evenly on a logarithmic scale.
    :param every: Interval afterwards.
    :param duration: When the last one is due.
    """

    times: tuple[float, ...] | None = None
    first: float | None = None
    dense_every: float | None = None
    dense_until: float | None = None
    every: float | None = None
    duration: float | None = None

    def due_s(self, usual: Sequence[float]) -> tuple[float, ...]:
        """Get when reads are due, in s since the stress began, ascending; raises InputError.

        :param usual: The usual times of the procedure in minutes, where nothing else is asked for; with a ``duration``
            alone they are cut there, or go on as they end.
        """
        if self.times is not None:
            found = self._listed()
        elif self.every is None and self.dense_every is None and self.first is None:
            found = tuple(usual) if self.duration is None else tuple(_fitted(usual, self.duration))
        else:
            found = tuple(self._regular())
        if not found:
            raise InputError("the schedule holds no read", where="parameters duration and first", todo="a longer one")
        return tuple(round(minutes * MINUTE_S, 6) for minutes in found)

    def _listed(self) -> tuple[float, ...]:
        times = self.times or ()
        if any(b <= a for a, b in itertools.pairwise(times)) or min(times, default=0.0) < 0:
            raise InputError("times do not rise from one to the next", where="parameter times", todo="list them so")
        return times

    def _regular(self) -> Iterator[float]:
        every, duration = self.every, self.duration
        if every is None or duration is None:
            raise InputError(
                "a schedule needs `every` and `duration`",
                where="parameters of the procedure",
                todo="give both, or times",
            )
        if (self.dense_every is None) != (self.dense_until is None):
            raise InputError("dense-every and dense-until go together", where="parameters of the procedure")
        if duration / min(every, self.dense_every or every) > _MOST:
            raise InputError(
                f"the schedule holds more than {_MOST} reads",
                where="parameters of the procedure",
                todo="read less often",
            )
        yield 0.0
        end = duration * (1 + _SAME)
        at = 0.0
        if self.dense_every is not None and self.dense_until is not None:
            while at + self.dense_every <= min(self.dense_until, duration) * (1 + _SAME):
                at += self.dense_every
                yield at
        else:
            at = self.first if self.first is not None else min(1.0, every)
            if at <= end:
                yield at
            while at * (_GROWTH - 1) < every and at * _GROWTH <= end:
                at *= _GROWTH
                yield at
            if at * (_GROWTH - 1) < every:
                return
        # On whole intervals from the beginning, so that reads of several runs can be compared.
        number = int(at / every + _SAME) + 1
        while number * every <= end:
            yield number * every
            number += 1


def _fitted(usual: Sequence[float], duration: float) -> Iterator[float]:
    kept = [time for time in usual if time <= duration * (1 + _SAME)]
    yield from kept
    if len(kept) == len(usual) > 1:
        step = usual[-1] - usual[-2]
        at = usual[-1] + step
        while at <= duration * (1 + _SAME):
            yield at
            at += step


def time_name(minutes: float) -> str:
    """Get a time as it stands in the names of results: ``20min``, ``17h``."""
    hours = minutes / 60
    if hours >= 2 and abs(hours - round(hours)) < 1e-6:
        return f"{round(hours)}h"
    return f"{minutes:.6g}min".replace(".", "_")
