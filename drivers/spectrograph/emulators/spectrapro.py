"""Emulator of an Acton SpectraPro-300i on RS-232, over the simulated laboratory.

The controller is a small Forth: words separated by blanks, numbers before the verb, a reply when the last word of the
line has been carried out. It echoes every character until `NO-ECHO`. A wavelength out of range is clamped and a grating
that is not installed is passed over, both with an unmoved ` ok`. What arrives during a move waits for its end.

Constructed or assumed, because the sources leave it open: two blanks before `ok`, the reply `  ok` to an empty line,
that a command during a move is buffered, the error form after a verb without its number, the range of 1400 nm at 1200
lines/mm. Service words (INSTALL, INIT-..., MONO-EESTATUS, slits) are not emulated and answered like unknown ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labctl.sim.emulator import Reply

_GRATINGS = {1: "600 g/mm BLZ=  500NM", 2: "150 g/mm BLZ=  500NM", 3: "1200 g/mm BLZ=  500NM"}
_PLACES = 9
# The sine drive turns up to a fixed angle, so that range times groove density is constant.
_RANGE_NM_LINES_PER_MM = 1400.0 * 1200.0
_POWER_UP_GARBAGE = b"\r\nAddress Error \r\nA=3F4F4445 PC=81444"
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)")


@dataclass(frozen=True, slots=True)
class _Drive:
    """A drive from one wavelength to another between two moments, in s and nm."""

    start_s: float
    end_s: float
    from_nm: float
    to_nm: float

    def at(self, t: float) -> float:
        if t >= self.end_s:
            return self.to_nm
        share = max(t - self.start_s, 0.0) / (self.end_s - self.start_s)
        return self.from_nm + share * (self.to_nm - self.from_nm)


class SpectraProEmulator:
    """A SpectraPro-300i on its wire.

    Options (those of the driver are ignored; times default to those of the simulated laboratory):

    - ``installed``: text of each grating by number, as `?GRATINGS` writes it.
    - ``slew_nm_s``: speed of GOTO. ``grating_change_s``, ``reset_s``, ``reply_s``: s.
    - ``grating_shift_nm``: by how much a grating change leaves the wavelength off.
    - ``echo``: whether it is one that echoes (RS-232) or not (USB). ``knows_model``: whether it answers MODEL.
    - ``awkward``: start with garbage on the line and half a word in its input.
    """

    def __init__(self, laboratory: Any, role: str, options: Mapping[str, Any]) -> None:
        truth = laboratory.truth.spectrograph
        self._laboratory = laboratory
        self._installed = {int(number): str(text) for number, text in options.get("installed", _GRATINGS).items()}
        self._slew_nm_s = float(options.get("slew_nm_s", truth.slew_nm_s))
        self._grating_change_s = float(options.get("grating_change_s", truth.grating_change_s))
        self._grating_shift_nm = float(options.get("grating_shift_nm", 0.0))
        self._reset_s = float(options.get("reset_s", 5.0))
        self._reply_s = float(options.get("reply_s", 2e-3))
        self._echoes = bool(options.get("echo", True))
        self._knows_model = bool(options.get("knows_model", True))
        self._words = self._word_table()
        self.stuck = False
        self._power_up_state()
        self._garbage = b""
        if options.get("awkward", False):
            self._garbage, self._line = _POWER_UP_GARBAGE, "XY"

    def power_up(self, t: float) -> None:
        """Switch off and on at ``t``: echo on again, grating 1, 0 nm."""
        self._power_up_state()
        self._tell_laboratory(t)

    def power_cycle(self, t: float) -> None:
        """Switch off and on at ``t``."""
        self.power_up(t)

    def refuse(self, t: float, data: bytes) -> Sequence[Reply]:
        """Answer a line as if it did not know its first word."""
        line, self._line = (self._line + data.decode("latin-1")).strip(), ""
        echo = f"{line} " if self._echo and line else ""
        return [(t + self._reply_s, f"{echo}{line.partition(' ')[0]}? \r\n".encode("latin-1"))]

    def _power_up_state(self) -> None:
        self._line = ""
        self._echo = self._echoes
        self._grating = 1
        self._turret = 1
        self._rate_nm_min = 100.0
        self._drive = _Drive(-math.inf, -math.inf, 0.0, 0.0)
        self._free_at = -math.inf
        self._stack: list[float] = []
        self._output = ""

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        """Take bytes at ``t``; see :class:`labctl.sim.emulator.WireEmulator`."""
        replies: list[Reply] = []
        if self._garbage:
            replies.append((t, self._garbage))
            self._garbage = b""
        for character in data.decode("latin-1"):
            now = max(t, self._free_at)
            if character == "\r":
                line, self._line = self._line, ""
                answer = self._carry_out(now + self._reply_s, line)
                replies.append((self._free_at, answer.encode("latin-1")))
            elif character != "\n":
                self._line += character
                if self._echo:
                    replies.append((now, character.encode("latin-1")))
        return replies

    def next_event(self) -> float | None:
        """Get None: it never speaks unasked."""
        return None

    def _carry_out(self, t: float, line: str) -> str:
        """Carry out a line from ``t`` on; get the answer, and in ``_free_at`` its moment."""
        separator = " " if self._echo and line.strip() else ""
        self._stack, self._output = [], ""
        self._free_at = t
        for word in line.split():
            if _NUMBER.fullmatch(word):
                self._stack.append(float(word))
                continue
            try:
                end = self._words[word.upper()](self._free_at)
            except (KeyError, IndexError):
                return f"{separator}{word}? \r\n"
            self._free_at = max(self._free_at, end)
        return f"{self._output}  ok\r\n"

    def _word_table(self) -> dict[str, Callable[[float], float]]:
        return {
            "GOTO": self._go_to,
            "<GOTO>": self._go_to,
            "NM": self._scan,
            "<NM>": self._scan,
            ">NM": self._start_scan,
            "MONO-?DONE": lambda t: self._say(t, "1" if t >= self._drive.end_s else "0"),
            "MONO-STOP": self._stop,
            "?NM": lambda t: self._say(t, f"{self._drive.at(t):.3f} nm"),
            "NM/MIN": self._set_rate,
            "?NM/MIN": lambda t: self._say(t, f"{self._rate_nm_min:.3f} nm/min"),
            "GRATING": self._select_grating,
            "?GRATING": lambda t: self._say(t, str(self._grating)),
            "?GRATINGS": self._list_gratings,
            "TURRET": self._set_turret,
            "?TURRET": lambda t: self._say(t, str(self._turret)),
            "EXIT-MIRROR": lambda t: t,
            "ENT-MIRROR": lambda t: t,
            "FRONT": lambda t: self._say(t, "no motor"),
            "SIDE": lambda t: self._say(t, "no motor"),
            "?MIRROR": lambda t: self._say(t, "no motor"),
            "MODEL": self._say_model,
            "SERIAL": lambda t: self._say(t, "30012345"),
            "MONO-RESET": self._reset,
            "NO-ECHO": lambda t: self._set_echo(t, False),
            "ECHO": lambda t: self._set_echo(t, True),
        }

    def _say(self, t: float, text: str) -> float:
        self._output += f" {text}"
        return t

    def _set_echo(self, t: float, on: bool) -> float:
        self._echo = on and self._echoes
        return t

    def _say_model(self, t: float) -> float:
        if not self._knows_model:
            raise KeyError("MODEL")
        return self._say(t, "SP-300i")

    @property
    def _lines_per_mm(self) -> float:
        found = re.match(r"\s*(\d+(?:\.\d+)?)\s*g/mm", self._installed.get(self._grating, ""))
        return float(found[1]) if found else 0.0

    def _within_range(self, wavelength_nm: float) -> float:
        longest = _RANGE_NM_LINES_PER_MM / self._lines_per_mm if self._lines_per_mm else 0.0
        return min(max(wavelength_nm, 0.0), longest)

    def _start_drive(self, t: float, wavelength_nm: float, speed_nm_s: float) -> float:
        start = self._drive.at(t)
        target = start if self.stuck else self._within_range(wavelength_nm)
        end = t + abs(target - start) / speed_nm_s
        self._drive = _Drive(t, end, start, target)
        self._laboratory.spectrograph.slew(t, end, target)
        return end

    def _go_to(self, t: float) -> float:
        return self._start_drive(t, self._stack.pop(), self._slew_nm_s)

    def _scan(self, t: float) -> float:
        return self._start_drive(t, self._stack.pop(), self._rate_nm_min / 60.0)

    def _start_scan(self, t: float) -> float:
        self._scan(t)
        return t

    def _stop(self, t: float) -> float:
        here = self._drive.at(t)
        self._drive = _Drive(t, t, here, here)
        self._tell_laboratory(t)
        return t

    def _set_rate(self, t: float) -> float:
        self._rate_nm_min = min(max(self._stack.pop(), 0.01), 666.666)
        return t

    def _select_grating(self, t: float) -> float:
        number = int(self._stack.pop())
        if number not in self._installed or number == self._grating:
            return t
        end = t + self._grating_change_s
        self._grating = number
        here = self._within_range(self._drive.at(t) + self._grating_shift_nm)
        self._drive = _Drive(end, end, here, here)
        self._tell_laboratory(end)
        return end

    def _set_turret(self, t: float) -> float:
        self._turret = int(self._stack.pop())
        return t

    def _list_gratings(self, t: float) -> float:
        last = max(_PLACES, *self._installed)
        for number in range(1, last + 1):
            mark = "\x1a" if number == self._grating else " "
            self._output += f"\r\n{mark}{number}  {self._installed.get(number, 'Not Installed')} "
        self._output += "\r\n"
        return t

    def _reset(self, t: float) -> float:
        end = t + self._reset_s
        self._power_up_state()
        self._tell_laboratory(end)
        return end

    def _tell_laboratory(self, t: float) -> None:
        self._laboratory.spectrograph.set(t, self._drive.at(t), self._lines_per_mm)
