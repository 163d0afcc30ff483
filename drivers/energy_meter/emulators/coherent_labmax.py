"""Emulator of a Coherent LabMax-TOP or LabMax-Pro with a pyroelectric energy head, over the simulated laboratory.

Lines end with CR, LF or both; replies with CR LF. With handshaking on, an accepted command is followed by a line `OK`.
While the service byte is on, stray 0x05 bytes come with the replies. Commands other than `SYST:` take effect only in
remote control. After a command without a reply the meter is deaf for a moment, for it is said to need pauses.

Constructed, because no source was at hand: what is not accepted gets no answer; all of the identity after the maker,
the ranges of the head, the settings at power-up, the bits of the status, the time of zeroing (during which it answers
nothing); that `INIT` empties the buffer and fetching takes records out of it; that the Pro takes `INIT` and `FETC` too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from drivers.energy_meter.emulators.pyro_head import PyroHead
from drivers.scpi.emulators.messages import Unit, matches, split_message
from labctl.sim.emulator import LineBuffer, Reply

_IDENTITIES = {
    "TOP": "Coherent, Inc - LabMax-TOP - V1.60 - Mar 04 2011",
    "Pro": "Coherent, Inc - LabMax-Pro SSIM - V1.10 - Jun 17 2016",
}
_ITEMS = {"TOP": ("PRI", "UNIT", "PER"), "Pro": ("PRI", "QUAD", "FLAG", "SEQ", "PER")}
_STATUS = "00000884"
_OVER_RANGE = "9.9E37"
_SERVICE = b"\x05"
_ZEROING_PULSES = 16
_BITS_PER_BYTE = 10


class CoherentLabMaxEmulator:
    """A LabMax on its wire.

    Options (those of the driver are ignored):

    - ``model``: ``TOP`` or ``Pro``. ``handshake``: whether handshaking is on at power-up.
    - ``ranges_j``: full scales of the head, ascending, J. ``trigger_percent``: level at power-up, % of the range.
    - ``zero_offset_j``, ``zero_drift_j``: offset of the electronics and rms of its drift within an hour, J.
    - ``baud_rate``: speed of the wire, bit/s. ``reply_s``: time to answer, s. ``deaf_s``: time after a command without
      reply in which what arrives is lost, s. ``zeroing_s``: time to zero, s. ``buffer_records``: size of the buffer.
    - ``awkward``: start with handshaking on, someone's collection of single values under way, records left over.
    """

    def __init__(self, laboratory: Any, role: str, options: Mapping[str, Any]) -> None:
        self._laboratory = laboratory
        self._model = str(options.get("model", "TOP"))
        self._ranges_j = sorted(float(value) for value in options.get("ranges_j", (1e-7, 1e-6, 1e-5, 1e-4)))
        offset_j = float(options.get("zero_offset_j", 3e-8))
        drift_j = float(options.get("zero_drift_j", 2e-3 * self._ranges_j[0]))
        self._head = PyroHead(laboratory, role, offset_j, drift_j)
        self._power_up_handshake = bool(options.get("handshake", False))
        self._power_up_trigger = float(options.get("trigger_percent", 2.0))
        self._byte_s = _BITS_PER_BYTE / float(options.get("baud_rate", 115200))
        self._reply_s = float(options.get("reply_s", 1e-3))
        self._deaf_s = float(options.get("deaf_s", 0.05))
        self._zeroing_s = float(options.get("zeroing_s", 2.0))
        self._buffer_records = int(options.get("buffer_records", 2048))
        self._commands = self._command_table()
        self.unknown: list[str] = []
        self.power_up()
        if options.get("awkward", False):
            self._handshake, self._remote = True, True
            self._measure, self._content = "J", "LAST"
            self._stored = [(1, 7.5e-5, 1000)]
            self._start_collection(0.0)

    def power_up(self) -> None:
        """Switch off and on: settings, the zero and the records are lost."""
        self._lines = LineBuffer(b"\r\n")
        self._handshake = self._power_up_handshake
        self._service = True
        self._remote = False
        self._measure = "W"
        self._auto_range = True
        self._range_j = self._ranges_j[-1]
        self._corrects = False
        self._wavelength_nm = 1064.0
        self._items = ["PRI"]
        self._header = True
        self._content = "LAST"
        self._trigger_source = "INT"
        self._trigger_percent = self._power_up_trigger
        self._collecting = False
        self._since = 0.0
        self._times = self._energies_j = np.empty(0)
        self._stored: list[tuple[int, float, int]] = []
        self._removed_j = 0.0
        self._free_at = 0.0
        self._deaf_until = 0.0

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        """Take bytes at ``t``; see :class:`labctl.sim.emulator.WireEmulator`."""
        replies: list[Reply] = []
        arrived = max(t, self._free_at) + len(data) * self._byte_s
        if arrived < self._deaf_until:
            return []
        self._free_at = arrived
        for line in self._lines.feed(data):
            if self._free_at < self._deaf_until:
                continue
            for unit in split_message(line.decode("latin-1"), self._commands):
                lines = self._execute(self._free_at, unit)
                if lines is None:
                    continue
                self._free_at += self._reply_s
                for text in (*lines, *(("OK",) if self._handshake else ())):
                    content = text.encode("latin-1") + b"\r\n"
                    content = _SERVICE + content if self._service else content
                    self._free_at += len(content) * self._byte_s
                    replies.append((self._free_at, content))
                if not lines and not self._handshake:
                    self._deaf_until = self._free_at + self._deaf_s
        return replies

    def next_event(self) -> float | None:
        """Get None: the meter says nothing unasked."""
        return None

    def _execute(self, t: float, unit: Unit) -> list[str] | None:
        """Carry out a unit; get its lines of data, or None if it was not accepted."""
        for pattern, action in self._commands.items():
            if matches(pattern, unit.header):
                allowed = unit.query or self._remote or unit.header[0].startswith("SYST")
                return action(t, unit) if allowed else None
        self.unknown.append(":".join(unit.header))
        return None

    def _command_table(self) -> dict[str, Callable[[float, Unit], list[str] | None]]:
        top = self._model == "TOP"
        measure = "CONFigure:MEASure" if top else "CONFigure:MEASure:MODe"
        items = "CONFigure:READings:SEND" if top else "CONFigure:ITEMselect"
        return {
            "*IDN": _answer(lambda: _IDENTITIES[self._model]),
            "SYSTem:REMote": self._do(lambda: setattr(self, "_remote", True)),
            "SYSTem:LOCal": self._do(lambda: setattr(self, "_remote", False)),
            "SYSTem:COMMunicate:HANDshaking": self._switch("_handshake"),
            "SYSTem:COMMunicate:SERial:SERVice": self._switch("_service"),
            "SYSTem:STATus": _answer(lambda: _STATUS),
            "SYSTem:INFormation:PROBe:TYPE": _answer(lambda: "PYRO"),
            measure: self._choice("_measure", ("J", "W", "DBM")),
            items: self._select_items,
            "CONFigure:READings:HEADer": self._switch("_header"),
            "CONFigure:READings:CONTinuous": self._choice("_content", ("LAST", "STRE")),
            "CONFigure:RANGe:AUTO": self._switch("_auto_range"),
            "CONFigure:RANGe:SELect": self._select_range,
            "CONFigure:WAVElength:CORRection": self._switch("_corrects"),
            "CONFigure:WAVElength:WAVElength": self._number("_wavelength_nm", 190.0, 12000.0),
            "CONFigure:ZERO": self._zero,
            "TRIGger:SOURce": self._choice("_trigger_source", ("INT", "EXT")),
            "TRIGger:PERCent:LEVel": self._number("_trigger_percent", 0.1, 30.0),
            "INITiate": self._initiate,
            "ABORt": self._abort,
            "FETCh:NRECord": self._count,
            "FETCh:NEXT": self._fetch_next,
            "FETCh:ALL": self._fetch_all,
        }

    def _do(self, command: Callable[[], None]) -> Callable[[float, Unit], list[str] | None]:
        def action(t: float, unit: Unit) -> list[str] | None:
            if unit.query:
                return None
            command()
            return []

        return action

    def _choice(self, name: str, words: Sequence[str]) -> Callable[[float, Unit], list[str] | None]:
        def action(t: float, unit: Unit) -> list[str] | None:
            if unit.query:
                return [getattr(self, name)]
            if unit.argument.upper() not in words:
                return None
            setattr(self, name, unit.argument.upper())
            return []

        return action

    def _switch(self, name: str) -> Callable[[float, Unit], list[str] | None]:
        def action(t: float, unit: Unit) -> list[str] | None:
            if unit.query:
                return ["ON" if getattr(self, name) else "OFF"]
            if unit.argument.upper() not in ("ON", "OFF"):
                return None
            setattr(self, name, unit.argument.upper() == "ON")
            return []

        return action

    def _number(self, name: str, lowest: float, highest: float) -> Callable[[float, Unit], list[str] | None]:
        """Make a number that is clamped to what the meter can do."""

        def action(t: float, unit: Unit) -> list[str] | None:
            if unit.query:
                return [f"{getattr(self, name):g}"]
            try:
                setattr(self, name, min(max(float(unit.argument), lowest), highest))
            except ValueError:
                return None
            return []

        return action

    def _select_items(self, t: float, unit: Unit) -> list[str] | None:
        if unit.query:
            return [",".join(self._items)]
        items = [item.strip().upper() for item in unit.argument.split(",")]
        if not set(items) <= set(_ITEMS[self._model]):
            return None
        self._items = items
        return []

    def _select_range(self, t: float, unit: Unit) -> list[str] | None:
        if unit.query:
            named = {"MIN": self._ranges_j[0], "MAX": self._ranges_j[-1]}
            return [f"{named.get(unit.argument.upper()[:3], self._range_j):.3E}"]
        try:
            wanted = float(unit.argument)
        except ValueError:
            return None
        self._range_j = next((value for value in self._ranges_j if value >= wanted * (1 - 1e-6)), self._ranges_j[-1])
        return []

    def _initiate(self, t: float, unit: Unit) -> list[str] | None:
        if unit.query:
            return None
        self._stored = []
        self._start_collection(t)
        return []

    def _start_collection(self, t: float) -> None:
        self._collecting, self._since = True, t
        self._times = self._energies_j = np.empty(0)

    def _abort(self, t: float, unit: Unit) -> list[str] | None:
        if unit.query:
            return None
        self._stored = self._records(t)
        self._collecting = False
        return []

    def _count(self, t: float, unit: Unit) -> list[str] | None:
        return [f"{len(self._records(t))}"] if unit.query else None

    def _fetch_next(self, t: float, unit: Unit) -> list[str] | None:
        self._stored = self._records(t)
        return [self._written(self._stored.pop(0))] if unit.query and self._stored else None

    def _fetch_all(self, t: float, unit: Unit) -> list[str] | None:
        records, self._stored = self._records(t), []
        return [self._written(record) for record in records] if unit.query and records else None

    def _records(self, t: float) -> list[tuple[int, float, int]]:
        """Get the records in the buffer at ``t``: number, energy in J, period in us.

        The laboratory draws once for a collection, when light first comes, and nothing in the dark; so the values do
        not depend on when they are asked for.
        """
        if not self._collecting or self._measure != "J":
            return self._stored
        if not self._times.size and (start := self._head.first_pulse(self._since, t)) is not None:
            self._energies_j = self._head.pulses_j(start, self._buffer_records, self._calibrated_nm())
            self._times = start + self._laboratory.pulse_period_s * np.arange(self._energies_j.size)
        arrived = self._times <= t
        arrived[arrived] = self._head.lit(self._times[arrived])
        shown_j = self._energies_j[arrived]
        if self._auto_range and shown_j.size:
            self._range_j = next((value for value in self._ranges_j if value >= shown_j.max()), self._ranges_j[-1])
        if self._head.mean_j(t, self._calibrated_nm()) < self._range_j * self._trigger_percent / 100:
            return self._stored
        period_us = round(1e6 * self._laboratory.pulse_period_s)
        records = [(number, float(energy), period_us) for number, energy in enumerate(shown_j, 1)]
        return (self._stored + records)[-1:] if self._content == "LAST" else self._stored + records

    def _calibrated_nm(self) -> float:
        return self._wavelength_nm if self._corrects else 1064.0

    def _written(self, record: tuple[int, float, int]) -> str:
        number, energy_j, period_us = record
        shown = _OVER_RANGE if energy_j > self._range_j else f"{energy_j - self._removed_j:.3E}"
        fields = {"PRI": shown, "UNIT": "J", "PER": f"{period_us}", "SEQ": f"{number}", "FLAG": "0", "QUAD": "0,0"}
        return ",".join(fields[item] for item in self._items)

    def _zero(self, t: float, unit: Unit) -> list[str] | None:
        if unit.query:
            return None
        # The drift is taken as at the start of the run, so that zeroing again in a resumed run gives the same rows.
        self._removed_j = self._head.zero_j(schedule_s=0.0)
        if self._laboratory.shutter.is_open(t):
            self._removed_j += float(self._head.energies_j(t, _ZEROING_PULSES).mean())
        self._free_at = t + self._zeroing_s
        return []


def _answer(text: Callable[[], str]) -> Callable[[float, Unit], list[str] | None]:
    def action(t: float, unit: Unit) -> list[str] | None:
        return [text()] if unit.query else None

    return action
