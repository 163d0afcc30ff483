"""What Newport's motion controllers have in common as linear stages: range, approach from below, read-back, stopping.

None of their controllers acknowledges a motion, and a position is a bare number. So a motion is polled until it has
ended, errors are asked for afterwards, and every number is believed only when two replies in a row say the same.
"""

from __future__ import annotations

import logging
import math
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NoReturn, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pymeasure.instruments import Instrument

from labctl.clock import Clock
from labctl.errors import NOTHING_MOVED, InstrumentError, InstrumentTimeout
from labctl.roles import Readiness, Reading, SafeStep
from labctl.transport.adapter import WireAdapter

log = logging.getLogger(__name__)

_POLL_S = 0.02
_LONGEST_POLL_S = 0.25
_LOOKS_IN_A_MOVE = 4
_SETTLE_S = 1.0
_SETTLE_POLL_S = 0.05
_MOVE_MARGIN_S = 5.0
_MOVE_FACTOR = 1.5
_LONGEST_MOVE_S = 600.0
_BEGINS_S = 1.0
_READINGS_AT_MOST = 6
_READINGS_ALIKE = 2
_SAFE_TRIES = 2
_SAFE_REPLY_S = 0.25
_SAFE_STOP_S = 1.5
_STOP_TIMEOUT_S = 10.0
_DECIMALS = 6
_ROUNDING_MM = 1e-9
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?(?:E[+-]?\d{1,2})?", re.IGNORECASE)


class StageOptions(BaseModel):
    """What the table ``[instruments.ROLE.options]`` of any of these stages may say.

    :param home_at_start: Find the reference mark when a bench is opened, if the zero cannot be trusted.
    :param lowest_mm: Lowest position to which the stage may go; none leaves the controller's own limit.
    :param highest_mm: Highest one.
    :param approach_mm: Every position is reached from below over this distance, so that backlash does not matter; 0
        takes the straight way. Nearer than that to the lowest position the way from below is shorter.
    :param tolerance_mm: How far from its target the stage may come to rest.
    :param resolution_mm: Smallest step of the stage, from its data sheet.
    :param velocity_mm_s: Velocity of moves; none leaves the controller's.
    :param home_timeout_s: Longest time for finding the reference mark.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    home_at_start: bool = True
    lowest_mm: float | None = None
    highest_mm: float | None = None
    approach_mm: float = Field(default=0.02, ge=0, le=1)
    tolerance_mm: float = Field(default=0.002, gt=0)
    resolution_mm: float = Field(default=1e-4, gt=0)
    velocity_mm_s: float | None = Field(default=None, gt=0)
    home_timeout_s: float = Field(default=120.0, gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.lowest_mm is not None and self.highest_mm is not None and self.lowest_mm >= self.highest_mm:
            raise ValueError("lowest_mm must be less than highest_mm")
        return self


class NewportStage(Instrument):
    """A linear stage at one of Newport's motion controllers; positions in mm.

    :param adapter: The wire.
    :param name: Name for messages.
    :param clock: The clock on which it waits.
    :param options: How the stage is used.
    """

    ROLE = "sample_stage"
    READINGS: ClassVar[Mapping[str, Reading]] = {"position": Reading("position_mm", "mm")}

    adapter: WireAdapter

    def __init__(self, adapter: WireAdapter, name: str, clock: Clock, options: StageOptions) -> None:
        super().__init__(adapter, name, includeSCPI=False)
        self.clock = clock
        self._options = options
        self._in_step = False
        self._timed_out = False
        self._range: tuple[float, float] | None = None
        self._velocity_mm_s = 0.0
        self._acceleration_mm_s2 = 0.0
        # Target and read-back of the last move that ended well; None during and after one that did not.
        self._arrived: tuple[float, float] | None = None
        self._untouched = True
        # Whether the last move took up the backlash, so that a move further up may be short.
        self._from_below = False

    @property
    def position_mm(self) -> float:
        """Measure the position in mm; raises InstrumentError if the controller does not know where the stage stands."""
        with self.adapter.exclusive():
            position_mm = self._position()
            # Asked for afterwards: the counter of a controller that was reset meanwhile begins anew.
            self._require_homed()
            return position_mm

    @property
    def range_mm(self) -> tuple[float, float]:
        """Get the lowest and the highest position in mm: the controller's limits, narrowed by those of the options."""
        with self.adapter.exclusive():
            if self._range is None:
                self._require_homed()
                self._range = self._read_motion_settings()
            return self._range

    @property
    def resolution_mm(self) -> float:
        """Get the smallest step in mm, as the option ``resolution_mm`` says."""
        return self._options.resolution_mm

    @property
    def is_homed(self) -> bool:
        """Measure whether the controller knows where the stage stands."""
        with self.adapter.exclusive():
            return self._why_not_homed() is None

    def readiness(self) -> Sequence[Readiness]:
        """Measure whether the stage could move: whether it is homed; moves nothing."""
        with self.adapter.exclusive():
            why_not = self._why_not_homed()
        return (Readiness("homed", why_not is None, "yes" if why_not is None else f"{why_not}: home the stage"),)

    def move_to(self, position_mm: float) -> float:
        """Control the position in mm; returns the position read back when the motion has ended.

        Raises InstrumentError before anything moves for a stage that is not homed and a position beyond
        :attr:`range_mm`; later, if the controller reports an error or the stage rests elsewhere; InstrumentTimeout if
        the motion does not end in time. A stage that rests there already, also since before the bench was opened, is
        left in peace: a run that goes on must find its sample where it was.
        """
        with self.adapter.exclusive():
            low, high = self.range_mm
            if not low <= position_mm <= high:
                raise self._error(
                    f"the position {position_mm:g} mm lies outside {low:g} mm to {high:g} mm",
                    state=NOTHING_MOVED,
                    todo="choose another position; limits in the controller and the options make the range",
                )
            self._require_homed()
            self._end_motion()
            self._clear_errors()
            start_mm = here_mm = self._position()
            rests = self._arrived is not None and abs(here_mm - self._arrived[1]) < self._options.resolution_mm
            if self._stays(here_mm, position_mm):
                self._arrived = (position_mm, here_mm)
                return here_mm
            self._arrived, self._untouched = None, False
            follows = self._from_below and rests and position_mm > here_mm
            stops_mm = (position_mm,) if follows else _way(here_mm, position_mm, low, self._options.approach_mm)
            self._require_soon(start_mm, stops_mm)
            try:
                for stop_mm in stops_mm:
                    here_mm = self._travel(here_mm, stop_mm)
            except InstrumentError as error:
                low_mm, high_mm = min(start_mm, *stops_mm), max(start_mm, *stops_mm)
                error.state = error.state or f"the stage may stand anywhere from {low_mm:.4f} mm to {high_mm:.4f} mm"
                raise
            last_mm = stops_mm[-2] if len(stops_mm) > 1 else start_mm
            self._from_below = follows or position_mm - last_mm >= self._options.approach_mm - _ROUNDING_MM
            self._arrived = (position_mm, here_mm)
            return here_mm

    def stop(self) -> None:
        """Stop a motion; nothing happens when the stage stands.

        A move that another thread waits for fails then. Raises InstrumentTimeout if the stage does not come to rest.
        """
        with self.adapter.seize():
            self._send_stop()
            self._wait_for_rest(_STOP_TIMEOUT_S)

    def make_safe(self) -> Sequence[SafeStep]:
        """Stop the motion and confirm that the stage stands; where it stands is of no danger."""
        evidence: list[str] = []
        for _ in range(_SAFE_TRIES):
            try:
                with self.adapter.seize(), self.adapter.patience(_SAFE_REPLY_S):
                    self._in_step = self._timed_out = False
                    self._send_stop()
                    evidence.append(self._wait_for_rest(_SAFE_STOP_S))
                    return [SafeStep("stop the stage", True, "; ".join(evidence))]
            except Exception as error:  # whatever happens here, the steps of the other instruments must still be taken
                evidence.append(str(error))
                evidence += filter(None, [self.adapter.try_to_reconnect()])
        return [SafeStep("stop the stage", False, "; ".join(evidence))]

    def close(self) -> None:
        """Release the connection; the stage stays where it is."""
        self.adapter.close()

    @abstractmethod
    def _synchronise(self) -> None:
        """Send a question that is asked for nothing else, and pass over all that comes before its answer."""

    @abstractmethod
    def _why_not_homed(self) -> str | None:
        """Measure why the controller cannot know where the stage stands; None if it does."""

    @abstractmethod
    def _is_still(self) -> bool:
        """Measure whether no motion is under way."""

    @abstractmethod
    def _position_reply(self) -> float:
        """Measure the position once, in mm."""

    @abstractmethod
    def _read_motion_settings(self) -> tuple[float, float]:
        """Measure velocity and acceleration, and the range, which is returned, in mm."""

    @abstractmethod
    def _send_move(self, position_mm: float) -> None:
        """Have the stage begin to move; nothing answers."""

    @abstractmethod
    def _send_stop(self) -> None:
        """Have the stage stop; nothing answers."""

    @abstractmethod
    def _clear_errors(self) -> None:
        """Read the errors of earlier commands, and log them."""

    @abstractmethod
    def _raise_errors(self) -> None:
        """Raise InstrumentError if the controller reports an error since they were last read."""

    def _require_homed(self) -> None:
        if (why_not := self._why_not_homed()) is not None:
            raise self._error(
                f"the stage is not homed: {why_not}",
                state=NOTHING_MOVED,
                todo="open the bench again with home_at_start = true, or call home()",
            )

    def _narrowed(self, low_mm: float, high_mm: float) -> tuple[float, float]:
        """Get the controller's limits, narrowed by those of the options; raises InstrumentError if nothing is left."""
        options = self._options
        low = low_mm if options.lowest_mm is None else max(low_mm, options.lowest_mm)
        high = high_mm if options.highest_mm is None else min(high_mm, options.highest_mm)
        if not low < high:
            raise self._error(
                f"no position is allowed: the controller allows {low_mm:g} mm to {high_mm:g} mm, the options "
                f"{options.lowest_mm} mm to {options.highest_mm} mm",
                todo="correct lowest_mm and highest_mm of the bench file, or the limits in the controller",
            )
        return low, high

    def _stays(self, here_mm: float, position_mm: float) -> bool:
        """Get whether the stage rests where a move to ``position_mm`` would bring it."""
        if self._arrived is None:
            return self._untouched and abs(here_mm - position_mm) <= self._options.tolerance_mm
        target_mm, rested_mm = self._arrived
        return target_mm == position_mm and abs(here_mm - rested_mm) < self._options.resolution_mm

    def _require_soon(self, start_mm: float, stops_mm: Sequence[float]) -> None:
        way_mm = abs(stops_mm[-1] - start_mm)
        if (duration_s := self._duration_s(way_mm)) > _LONGEST_MOVE_S:
            raise self._error(
                f"at {self._velocity_mm_s:g} mm/s a move over {way_mm:g} mm would take {duration_s:.0f} s",
                state=NOTHING_MOVED,
                todo="set velocity_mm_s in the bench file",
            )

    def _set_profile(self, velocity_mm_s: float, acceleration_mm_s2: float) -> None:
        """Keep with what velocity and acceleration the stage moves; raises InstrumentError if it cannot."""
        if velocity_mm_s <= 0 or acceleration_mm_s2 <= 0:
            raise self._error(
                f"the stage cannot move with {velocity_mm_s:g} mm/s and {acceleration_mm_s2:g} mm/s2",
                state=NOTHING_MOVED,
                todo="set velocity_mm_s in the bench file, and the acceleration in the controller",
            )
        self._velocity_mm_s, self._acceleration_mm_s2 = velocity_mm_s, acceleration_mm_s2

    def _duration_s(self, way_mm: float) -> float:
        """Get the time for a move with a trapezoidal profile."""
        velocity, acceleration = self._velocity_mm_s, self._acceleration_mm_s2
        if way_mm * acceleration < velocity * velocity:
            return 2.0 * math.sqrt(way_mm / acceleration)
        return way_mm / velocity + velocity / acceleration

    def _travel(self, start_mm: float, target_mm: float) -> float:
        """Go straight to a position; returns the one read back."""
        duration_s = self._duration_s(abs(target_mm - start_mm))
        self._send_move(target_mm)
        self._wait_until_still(
            self.clock.now() + duration_s,
            _MOVE_FACTOR * duration_s + _MOVE_MARGIN_S,
            "the motion has not ended",
            longest_poll_s=max(_LONGEST_POLL_S, duration_s / _LOOKS_IN_A_MOVE),
        )
        self._raise_errors()
        reached_mm = self._settled(target_mm)
        self._require_homed()
        if abs(reached_mm - target_mm) > self._options.tolerance_mm:
            raise self._error(
                f"the stage stands at {reached_mm:.5f} mm instead of {target_mm:.5f} mm",
                state=f"the stage stands at {reached_mm:.5f} mm",
                todo="see whether something blocks it or stopped it; try again",
            )
        return reached_mm

    def _wait_until_still(
        self, expected_s: float, timeout_s: float, what: str, longest_poll_s: float = _LONGEST_POLL_S
    ) -> None:
        """Wait until no motion is under way.

        :param expected_s: Reading of the clock at which it should have ended: from then on it is asked often.
        :param longest_poll_s: How seldom it may be asked before.
        """
        started_s = self.clock.now()
        while True:
            left_s = expected_s - self.clock.now()
            self.clock.sleep(min(max(left_s, _POLL_S), longest_poll_s))
            if self._is_still():
                return
            if self.clock.now() - started_s > timeout_s:
                raise InstrumentTimeout(
                    f"{what} within {timeout_s:.1f} s",
                    exchange=self.adapter.last,
                    where=self.name,
                    state="THE STAGE MAY STILL MOVE",
                    todo="stop it at the controller; see whether something blocks it, and at its velocity",
                )

    def _wait_for_rest(self, timeout_s: float) -> str:
        """Wait until no motion is under way and two positions, a moment apart, are the same; get the evidence.

        A controller whose homing was stopped may say that nothing moves while the stage still slows down.
        """
        self._wait_until_still(self.clock.now(), timeout_s, "the stage does not stop")
        evidence = str(self.adapter.last)
        deadline = self.clock.now() + timeout_s
        before = self._position_reply()
        while True:
            self.clock.sleep(_SETTLE_POLL_S)
            after = self._position_reply()
            if abs(after - before) <= self._options.tolerance_mm:
                return f"{evidence}; {self.adapter.last} (it stands, position reads {after})"
            if self.clock.now() > deadline:
                raise self._error(f"the stage does not stop within {timeout_s:g} s", state="THE STAGE MAY STILL MOVE")
            before = after

    def _wait_until_begun(self) -> None:
        """Wait until a motion is under way; raises InstrumentError if none begins."""
        deadline = self.clock.now() + _BEGINS_S
        while self._is_still():
            if self.clock.now() > deadline:
                self._raise_errors()
                raise self._error(
                    "the stage did not begin to look for its reference mark",
                    state="the stage is not homed",
                    todo="home it again",
                )
            self.clock.sleep(_POLL_S)

    def _wait_for_mark(self) -> None:
        timeout_s = self._options.home_timeout_s
        self._wait_until_still(self.clock.now() + timeout_s, timeout_s, "the reference mark was not found")

    def _end_motion(self) -> None:
        if not self._is_still():
            log.warning("%s: a motion left over from before is stopped", self.name)
            self._send_stop()
            self._wait_for_rest(_STOP_TIMEOUT_S)

    def _settled(self, target_mm: float) -> float:
        """Get the position; a servo is given a moment to settle at its target."""
        deadline = self.clock.now() + _SETTLE_S
        while abs((reached := self._position()) - target_mm) > self._options.tolerance_mm:
            if self.clock.now() > deadline:
                break
            self.clock.sleep(_SETTLE_POLL_S)
        return reached

    def _position(self) -> float:
        return self._steady(self._position_reply)

    def _steady(self, read: Callable[[], float]) -> float:
        """Get a number that two replies in a row agree upon: one that lost a digit is a number, too.

        A servo that holds its place trembles by a count or two; then the middle of the last readings counts, if all of
        them lie within the tolerance.
        """
        readings = [read()]
        while len(readings) < _READINGS_AT_MOST:
            readings.append(read())
            if readings[-1] == readings[-_READINGS_ALIKE]:
                return readings[-1]
        if max(readings) - min(readings) > self._options.tolerance_mm:
            self._in_step = False
            raise self._error(
                f"readings in a row differ: {', '.join(f'{reading:g}' for reading in readings)}",
                todo="see whether the stage is moved by hand, or the cable is bad",
            )
        return sorted(readings)[len(readings) // 2]

    def _number(self, text: str, what: str) -> float:
        """Get the number that ``text`` is; raises InstrumentError if it is none."""
        if not _NUMBER.fullmatch(text):
            self._misunderstood(text, what)
        return float(text)

    def _misunderstood(self, text: str, what: str) -> NoReturn:
        self._in_step = False
        raise self._error(f"{text!r} is no answer to {what!r}", todo="check the cable and its speed; try again")

    def _exchange(self, command: str) -> str:
        """Send a question and get its answer."""
        with self.adapter.exclusive():
            self._get_in_step()
            self._in_step = False
            self.adapter.flush_read_buffer()
            self.adapter.write(command)
            answer = self._read()
            self._in_step = True
            return answer

    def _tell(self, command: str) -> None:
        """Send a command that nothing answers."""
        with self.adapter.exclusive():
            self._get_in_step()
            self.adapter.write(command)

    def _get_in_step(self) -> None:
        if self._in_step:
            return
        if self._timed_out:
            # The reply that did not come in time may come yet, and would be taken for the next one.
            self.clock.sleep(self.adapter.timeout_s)
        self._synchronise()
        self._in_step, self._timed_out = True, False

    def _read(self) -> str:
        try:
            return self.adapter.read().strip()
        except InstrumentTimeout:
            self._timed_out = True
            raise

    def _pass_over(self, question: str, is_answer: Callable[[str], bool], most: int = 40) -> None:
        """Ask, and read lines until one is the answer; raises InstrumentTimeout if none is."""
        for _ in range(2):
            self.adapter.flush_read_buffer()
            self.adapter.write(question)
            try:
                if any(is_answer(self._read()) for _ in range(most)):
                    return
            except InstrumentTimeout as error:
                log.debug("%s: no answer while getting in step: %s", self.name, error)
        raise InstrumentTimeout(
            "the motion controller does not answer",
            exchange=self.adapter.last,
            where=self.name,
            todo="check power, cable, `resource` and the speed of the line in the bench file",
        )

    def _error(self, what: str, *, state: str = "", todo: str = "") -> InstrumentError:
        return InstrumentError(what, exchange=self.adapter.last, where=self.name, state=state, todo=todo)


def _way(start_mm: float, target_mm: float, lowest_mm: float, approach_mm: float) -> tuple[float, ...]:
    """Get the positions at which to halt on the way to a target that is reached from below, the target last."""
    below_mm = max(target_mm - approach_mm, lowest_mm)
    # A way that begins a hair above would not take up the backlash.
    if start_mm <= below_mm or below_mm == target_mm:
        return (target_mm,)
    return (below_mm, target_mm)


def as_text(value: float) -> str:
    """Write a number without needless zeros; six decimals are finer than any encoder."""
    return f"{round(value, _DECIMALS) + 0.0:.{_DECIMALS}f}".rstrip("0").rstrip(".")
