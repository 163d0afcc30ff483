"""Acton / Princeton Instruments SpectraPro-300i (and 2150i, 2300i, 2356, 2500i, 2750) on RS-232 or USB.

The controller answers when it has carried out a command, which takes up to 20 s. It clamps a wavelength out of range
and passes over a grating that is not installed, both with ` ok`; so both are read back. On RS-232 it echoes after
power-up; the driver switches that off, and an echo that comes back tells that the controller was switched off and on.

Zero order: near 0 nm the undispersed light of everything, pump included, falls on the detector, and a streak
photocathode dies of it. :meth:`SpectraPro.go_to` therefore refuses every wavelength at which the zero order would fall
on the detector, unless it is told ``allow_zero_order=True``. At power-up the spectrograph stands at 0 nm by itself.

Not verified on hardware: the number of blanks before `ok`, whether the 300i answers `MODEL`, the reply to an empty
line, and that a command during a move is buffered.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field
from pymeasure.instruments import Instrument

from labctl.clock import Clock
from labctl.errors import Exchange, InputError, InstrumentError, InstrumentTimeout, LabctlError
from labctl.roles import Grating, Identity, SafeStep, SpectrographGeometry
from labctl.transport.adapter import WireAdapter
from labctl.transport.settings import WireSettings

log = logging.getLogger(__name__)

_MOVE_S = 25.0
_SYNCHRONISE_S = 2.0
_QUIET_S = 0.3
_LINES_AT_MOST = 64
_TOLERANCE_NM = 0.05

_WAVELENGTH = re.compile(r"\s*(-?\d+\.\d{2,3})\s*nm\s*")
_NUMBER = re.compile(r"\s*(\d)\s*")
_GRATING_LINE = re.compile(
    r"[\x1a ]*(?P<number>\d)\s+(?:(?P<lines>\d+(?:\.\d+)?)\s*g/mm\s+BLZ=\s*(?P<blaze>.*?)|(?P<mirror>mirror.*?)"
    r"|not\s+installed)\s*",
    re.IGNORECASE,
)


class SpectraPro(Instrument):
    """A SpectraPro spectrograph.

    :param adapter: The wire.
    :param clock: Clock of the run.
    :param options: See :class:`Options`.
    """

    LINK = WireSettings(write_termination=b"\r", read_termination=b"\r\n", timeout_s=2.0, baud_rate=9600)
    ROLE = "spectrograph"

    class Options(BaseModel):
        """Options of the instrument in the bench file.

        :param focal_length_mm: Focal length.
        :param half_angle_deg: Half of the angle between the arms (15.15 to 15.2 are quoted for the 300i).
        :param detector_angle_deg: Tilt of the detector plane.
        :param detector_width_mm: Width on which the zero order is kept away from.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")

        focal_length_mm: float = Field(default=300.0, gt=0)
        half_angle_deg: float = Field(default=15.2, ge=0, lt=45)
        detector_angle_deg: float = Field(default=1.38, gt=-45, lt=45)
        detector_width_mm: float = Field(default=30.0, ge=0)

    adapter: WireAdapter

    def __init__(
        self, adapter: WireAdapter, name: str = "Acton SpectraPro", *, clock: Clock, **options: object
    ) -> None:
        super().__init__(adapter, name, includeSCPI=False)
        self.clock = clock
        self._chosen = self.Options.model_validate(options)
        self._out_of_step = True
        self._moving = False
        self._gratings: tuple[Grating, ...] = ()
        self._expected_nm: float | None = None

    def start_up(self) -> None:
        """Get in step with the controller, switch its echo off and read what gratings there are; nothing moves."""
        with self.adapter.exclusive():
            self._synchronise()
            self._gratings = self._read_gratings()
            self._expected_nm = self._read_wavelength()
            if self._shows_zero_order(self._expected_nm, self.grating):
                log.info("%s stands at %.3f nm: the zero order is on the detector", self.name, self._expected_nm)

    def identify(self) -> Identity:
        """Get model and serial number, as far as the controller knows these words."""
        return Identity("Acton", self._word_or_nothing("MODEL"), self._word_or_nothing("SERIAL"))

    @property
    def wavelength_nm(self) -> float:
        """Measure the centre wavelength in nm as the device reports it.

        Raises InstrumentError, once, if the spectrograph has moved without order: it was reset, or turned by hand.
        """
        with self.adapter.exclusive():
            found = self._read_wavelength()
            expected, self._expected_nm = self._expected_nm, found
            if expected is not None and abs(found - expected) > _TOLERANCE_NM:
                raise self._error(
                    f"the spectrograph stands at {found:.3f} nm instead of {expected:.3f} nm: "
                    "it was switched off, or moved by hand",
                    state="spectra since the last point are in doubt",
                    todo="select grating and wavelength anew",
                )
            return found

    def go_to(self, wavelength_nm: float, *, allow_zero_order: bool = False) -> float:
        """Control the centre wavelength in nm; returns the wavelength read back.

        :param allow_zero_order: Go there even if the zero order falls on the detector. Keep the light off the detector
            (shutter, MCP gain) before you say so.

        Raises InputError before anything moves, InstrumentError if the device clamped the wavelength.
        """
        if not (math.isfinite(wavelength_nm) and wavelength_nm >= 0):
            raise InputError(f"{wavelength_nm!r} nm is no wavelength", where="spectrograph", todo="give 0 nm or more")
        with self.adapter.exclusive():
            if self._shows_zero_order(wavelength_nm, self.grating) and not allow_zero_order:
                raise InputError(
                    f"at {wavelength_nm:g} nm the zero order falls on the detector",
                    where="spectrograph",
                    todo=f"stay above {self._zero_order_reach_nm(self.grating):.0f} nm with this grating, or keep the "
                    "light off the detector and call go_to(..., allow_zero_order=True)",
                )
            reached = self._move(f"{wavelength_nm:.3f} GOTO")
        if abs(reached - wavelength_nm) > _TOLERANCE_NM:
            raise self._error(
                f"the spectrograph went to {reached:.3f} nm instead of {wavelength_nm:.3f} nm",
                state=f"it stands at {reached:.3f} nm",
                todo="choose a wavelength within the range of the grating",
            )
        return reached

    @property
    def grating(self) -> Grating:
        """Measure which grating is in the beam."""
        number = int(self._match(_NUMBER, "?GRATING"))
        for grating in self.gratings:
            if grating.number == number:
                return grating
        raise self._error(f"grating {number} is in the beam, but not among the installed ones")

    @property
    def gratings(self) -> Sequence[Grating]:
        """Get the installed gratings, as read at start-up."""
        if not self._gratings:
            self._gratings = self._read_gratings()
        return self._gratings

    def select_grating(self, number: int, *, allow_zero_order: bool = False) -> Grating:
        """Control the grating and keep the wavelength; returns the grating read back.

        :param allow_zero_order: Select a mirror, which throws the zero order on the detector.

        Raises InputError if it is not installed or a mirror, InstrumentError if it was not selected.
        """
        chosen = next((grating for grating in self.gratings if grating.number == number), None)
        if chosen is None:
            known = ", ".join(str(grating.number) for grating in self.gratings)
            raise InputError(f"grating {number} is not installed", where="spectrograph", todo=f"choose one of {known}")
        if not chosen.lines_per_mm and not allow_zero_order:
            raise InputError(f"place {number} holds a mirror", where="spectrograph", todo="choose a grating")
        with self.adapter.exclusive():
            if self.grating.number == number:
                return chosen
            before_nm = self._read_wavelength()
            after_nm = self._move(f"{number} GRATING")
            reached = self.grating
            if reached.number != number:
                raise self._error(f"grating {reached.number} is in the beam instead of {number}")
            if abs(after_nm - before_nm) > _TOLERANCE_NM:
                after_nm = self._move(f"{before_nm:.3f} GOTO")
        if abs(after_nm - before_nm) > _TOLERANCE_NM:
            log.warning("grating %d does not reach %.3f nm: it stands at %.3f nm", number, before_nm, after_nm)
        if self._shows_zero_order(after_nm, reached):
            log.warning("with grating %d at %.3f nm the zero order is on the detector", number, after_nm)
        return reached

    @property
    def geometry(self) -> SpectrographGeometry:
        """Get the geometry for the wavelength axis."""
        chosen = self._chosen
        return SpectrographGeometry(chosen.focal_length_mm, chosen.half_angle_deg, chosen.detector_angle_deg)

    def make_safe(self) -> Sequence[SafeStep]:
        """Report where the spectrograph stands: it endangers nothing by itself, and a move ends by itself."""
        action = "leave the spectrograph as it is"
        try:
            with self.adapter.seize():
                # A move is waited for once, not at a second try again.
                patience_s, self._moving = (_MOVE_S if self._moving else _SYNCHRONISE_S), False
                if self._out_of_step:
                    self._synchronise(patience_s)
                wavelength_nm = self._read_wavelength()
                return [SafeStep(action, True, f"{self.adapter.last}: at {wavelength_nm:.3f} nm")]
        except (LabctlError, OSError) as error:
            return [SafeStep(action, False, str(error))]

    def close(self) -> None:
        """Close the connection."""
        self.adapter.close()

    def _zero_order_reach_nm(self, grating: Grating) -> float:
        """Get the wavelength below which the zero order is on the detector: half its width times 10⁶/(G f) nm/mm."""
        if not grating.lines_per_mm:
            return math.inf
        dispersion_nm_mm = 1e6 / (grating.lines_per_mm * self._chosen.focal_length_mm)
        return dispersion_nm_mm * self._chosen.detector_width_mm / 2

    def _shows_zero_order(self, wavelength_nm: float, grating: Grating) -> bool:
        return wavelength_nm <= self._zero_order_reach_nm(grating)

    def _move(self, command: str) -> float:
        """Carry out a command that moves something; get the wavelength afterwards."""
        self._expected_nm = None
        self._moving = True
        self._command(command, _MOVE_S)
        self._moving = False
        self._expected_nm = self._read_wavelength()
        return self._expected_nm

    def _read_wavelength(self) -> float:
        return float(self._match(_WAVELENGTH, "?NM"))

    def _read_gratings(self) -> tuple[Grating, ...]:
        lines = [line for line in self._command("?GRATINGS").splitlines() if line.strip()]
        found = [_GRATING_LINE.fullmatch(line) for line in lines]
        numbers = [int(match["number"]) for match in found if match]
        if numbers != list(range(1, len(lines) + 1)):
            raise self._error("the list of gratings cannot be read")
        gratings = tuple(
            Grating(int(match["number"]), float(match["lines"] or 0.0), match["blaze"] or match["mirror"])
            for match in found
            if match and (match["lines"] or match["mirror"])
        )
        if not gratings:
            raise self._error("no grating is installed", todo="check that the turret is seated")
        return gratings

    def _match(self, pattern: re.Pattern[str], command: str) -> str:
        found = pattern.fullmatch(self._command(command))
        if not found:
            raise self._error(f"the reply to {command} cannot be read")
        return found[1]

    def _word_or_nothing(self, word: str) -> str:
        try:
            return self._command(word).strip()
        except InstrumentError:
            if self._out_of_step:
                raise
            return ""

    def _command(self, command: str, timeout_s: float = LINK.timeout_s) -> str:
        """Send a line and wait for its end; get what was answered before ` ok`.

        Raises InstrumentTimeout, after which the next command first gets in step again, and InstrumentError for a
        word the controller does not know or an echo that should be off.
        """
        with self.adapter.exclusive():
            if self._out_of_step:
                self._synchronise()
            self._out_of_step = True
            reply = self._transact(command, timeout_s)
            if reply.startswith(command) and reply != f"{command}? \r\n":
                self._expected_nm = None
                raise self._error(
                    "the controller echoes again: it was switched off and on",
                    state="it stands at its power-up grating and wavelength, perhaps in zero order",
                    todo="start the instrument up again, select grating and wavelength",
                )
            self._out_of_step = False
        if not reply.endswith(" ok\r\n"):
            raise self._error(f"the controller does not understand {command!r}")
        return reply.removesuffix("ok\r\n")

    def _transact(self, command: str, timeout_s: float) -> str:
        """Send a line and read lines until one ends the reply."""
        self.adapter.write(command)
        reply = b""
        with self.adapter.patience(timeout_s):
            for _ in range(_LINES_AT_MOST):
                try:
                    reply += self.adapter.read_until(b"\r\n")
                except InstrumentTimeout as error:
                    raise self._silence(error, command) from error
                if reply.endswith((b" ok\r\n", b"? \r\n")):
                    return reply.decode(self.LINK.encoding)
        raise self._error(f"the reply to {command!r} does not end")

    def _silence(self, error: InstrumentTimeout, command: str) -> InstrumentTimeout:
        return InstrumentTimeout(
            f"{command or 'an empty line'}: {error.what}",
            exchange=error.exchange,
            where=self.adapter.name,
            state="it may still be moving; the next command first gets in step again",
            todo="check power and cable; look whether the turret is blocked",
        )

    def _synchronise(self, timeout_s: float = _SYNCHRONISE_S) -> None:
        """Throw away garbage, switch the echo off, and read until `?NM` is answered as it should be.

        An empty line first ends what noise may have left in the controller's input. Late replies of earlier commands
        are no wavelength, or the wavelength itself, so they cannot be taken for something else.
        """
        self._out_of_step = True
        exchange = Exchange()
        with self.adapter.exclusive():
            self.adapter.flush_read_buffer()
            deadline = self.clock.now() + timeout_s
            for line in ("", "NO-ECHO"):
                self.adapter.write(line)
                self._listen()
            self.adapter.write("?NM")
            while True:
                heard = self._listen()
                exchange = self.adapter.last
                last_line = heard.removesuffix("ok\r\n").rpartition("\n")[2]
                if heard.endswith(" ok\r\n") and _WAVELENGTH.fullmatch(last_line):
                    break
                if self.clock.now() >= deadline:
                    raise InstrumentTimeout(
                        f"the spectrograph has not answered ?NM within {timeout_s:g} s",
                        exchange=exchange,
                        where=self.adapter.name,
                        state="it may still be moving; the next command tries again",
                        todo="check power, cable and baud rate (9600)",
                    )
        self._out_of_step = False

    def _listen(self) -> str:
        """Read until the line is quiet."""
        with self.adapter.patience(_QUIET_S):
            return self.adapter.read_bytes(-1).decode(self.LINK.encoding)

    def _error(self, what: str, *, state: str = "", todo: str = "") -> InstrumentError:
        return InstrumentError(what, exchange=self.adapter.last, where=self.adapter.name, state=state, todo=todo)
