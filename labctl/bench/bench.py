"""An opened bench: the instruments by role, the composites made of them, and the way to leave them safe."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from labctl.bench.bench_sections import malus_law, pump_limits, section
from labctl.bench.dead_man import DeadMen
from labctl.bench.detection_filters import DetectionFilters
from labctl.bench.light import ComingLight, LightOnSample
from labctl.bench.lock import ResourceLocks
from labctl.bench.places import Places
from labctl.bench.pump_beam import PickOff, PumpBeam
from labctl.bench.safe import RoleStep, SafeReport, make_safe
from labctl.bench.set_values import held_to_limits, reading_limits, set_limits, unknown_limits
from labctl.bench.slit import Slit
from labctl.bench.spectrometer import Spectrometer
from labctl.bench.stress_lamp import StressLamp
from labctl.bench.thermostat import Thermostat
from labctl.bench.watch import Watch
from labctl.clock import Clock
from labctl.config.bench import BenchConfig
from labctl.config.fault import Fault
from labctl.config.offered import limited_units
from labctl.config.registry import driver_entry
from labctl.config.sample import SampleConfig
from labctl.errors import BenchOpenError, InputError, InstrumentError, LabctlError, OpenFailure
from labctl.roles import (
    SAFE_ORDER,
    Attenuator,
    Detector,
    EnergyMeter,
    FilterWheel,
    HeatingStage,
    Identity,
    Instrument,
    Lamp,
    LinearStage,
    PowerMeter,
    SafeStep,
    Shutter,
    Spectrograph,
    VacuumGauge,
)
from labctl.transport.adapter import WireAdapter
from labctl.transport.opening import is_simulated, open_laboratory, open_link
from labctl.transport.session import LaboratoryLink, OpenRequest, Operator, Session
from labctl.transport.settings import LibrarySettings, WireSettings

log = logging.getLogger(__name__)

_TURNS_UP_THE_LIGHT = ("attenuator",)
_CLOSING_S = 60.0
_WARMING_UP_S = 2400.0
_PART_KEPT = {"lamp": "lamp", "heating_stage": "heater"}
"""Instruments that a bench may leave on as a whole, by the part that ``keep_on`` names."""
_Part = TypeVar("_Part")


class Bench:
    """The instruments of a bench, opened by role. Use :meth:`open`; close it with :meth:`close` or ``with``.

    :param config: The bench file.
    :param session: What the connections share.
    :param instruments: Opened instruments by role.
    :param identities: What each said it is.
    :param locks: Held as long as the bench is open.
    :param spot_dose_j_cm2: Dose in J/cm² that the sample spot has received before; a simulated spot is always fresh.
    :param on_light: Told of each opening of the shutter on the sample before its light comes.
    :param folder: Folder of the runs, for the watch of the space on its disk; the present one if None.
    """

    def __init__(
        self,
        config: BenchConfig,
        session: Session,
        instruments: dict[str, Instrument],
        identities: dict[str, Identity],
        locks: ResourceLocks,
        spot_dose_j_cm2: float = 0.0,
        on_light: Callable[[ComingLight], None] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.config = config
        self.instruments = instruments
        self.identities = identities
        self._session = session
        self._locks = locks
        self._spot_dose_j_cm2 = spot_dose_j_cm2
        self._on_light = on_light
        self._folder = folder
        self._closing_s = _CLOSING_S
        self._pump: PumpBeam | None = None
        self._spectrometer: Spectrometer | None = None
        self._parts: dict[type, Any] = {}
        self._watch: Watch | None = None
        self._dead_men: DeadMen | None = None
        self._safe_report = SafeReport(())

    @classmethod
    def open(
        cls,
        config: BenchConfig,
        clock: Clock,
        *,
        roles: Sequence[str] | None = None,
        sample: SampleConfig | None = None,
        seed: int = 0,
        owner: str = "labctl",
        spot_dose_j_cm2: float = 0.0,
        folder: Path | None = None,
        only_to_make_safe: bool = False,
        operator: Operator | None = None,
        record_by_hand: Callable[[Mapping[str, Any]], None] | None = None,
        on_light: Callable[[ComingLight], None] | None = None,
        run_is_alive: Callable[[], bool] | None = None,
        dead_owner: int = 0,
        locks: ResourceLocks | None = None,
    ) -> Bench:
        """Open the instruments of a bench.

        Every role is tried. If any fails, those that did open are made safe and closed, and one BenchOpenError names
        all failures as a tree. Behind a shutter that failed, and so may be open, the attenuator is not started: homing
        it may pass the full energy.

        :param roles: Roles to open; all of the bench if None.
        :param sample: The sample, for a simulated laboratory.
        :param seed: Seed of all simulated randomness.
        :param owner: Who opens it, for the message to the next who wants it.
        :param spot_dose_j_cm2: Dose in J/cm² that the sample spot has received before.
        :param folder: Folder of the runs, for the watch of the space on its disk; the present one if None.
        :param only_to_make_safe: Whether the bench is opened to be made safe and for nothing else: the attenuator is
            then not started, since the shutter may be open, and no detector is warmed up at closing.
        :param operator: Does by hand what no instrument can; None where nobody can be asked.
        :param record_by_hand: Writes down what a simulated operator did.
        :param on_light: Told of each opening of the shutter on the sample before its light comes; what it raises keeps
            the shutter closed.
        :param run_is_alive: Whether the run is within the time that it has declared; as long as it is, instruments
            with a dead man are fed. None: none is armed, nor in virtual time, which no device knows.
        :param dead_owner: Process that was killed and cannot run again, though the kernel has not let it go; its locks
            are passed over.
        :param locks: Locks of these roles by :func:`bench_locks`, where they are held already; the bench gives them
            back when it is closed. ``owner`` and ``dead_owner`` are then theirs.
        """
        wanted = _roles_to_open(config, roles)
        session = Session(
            bench=config.name,
            clock=clock,
            laboratory_table=config.laboratory,
            truth_table=sample.truth if sample else None,
            seed=seed,
            drivers={role: (entry.driver, entry.options.data) for role, entry in config.instruments.items()},
            operator=operator,
            record_by_hand=record_by_hand,
        )
        locks = bench_locks(config, wanted, owner, dead_owner) if locks is None else locks
        locks.acquire()
        bench = cls(config, session, {}, {}, locks, spot_dose_j_cm2, on_light, folder)
        try:
            if needs_laboratory(config):
                open_laboratory(session)
            failures = [
                *bench._connect_all(wanted, still=only_to_make_safe),
                *bench._start_all(wanted, still=only_to_make_safe),
            ]
            if run_is_alive is not None and not failures and not clock.virtual:
                failures = bench._arm_dead_men(run_is_alive)
        except BaseException:
            bench.make_safe()
            bench.close()
            raise
        if failures:
            report = bench.make_safe()
            bench.close()
            raise BenchOpenError(config.name, failures, report)
        return bench

    @property
    def clock(self) -> Clock:
        """Get the clock of the run."""
        return self._session.clock

    @property
    def laboratory(self) -> LaboratoryLink | None:
        """Get the link to the simulated laboratory, if there is one."""
        return self._session.laboratory

    @property
    def simulated(self) -> bool:
        """Get whether anything on the bench is an emulator."""
        return self._session.laboratory is not None or self.config.is_simulated

    def announce(self, point: int, attempt: int, schedule_s: float) -> None:
        """Tell a simulated laboratory which point comes next; nothing on a real bench."""
        if self._session.laboratory is not None:
            self._session.laboratory.announce(point, attempt, schedule_s)

    def ask_operator(self, action: str, text: str) -> None:
        """Have something done by hand, e.g. the sample moved out of the beam; returns when it is confirmed.

        A simulated laboratory does it by itself. Raises InputError when nobody can be asked.
        """
        if self._session.laboratory is not None:
            self._session.laboratory.operator(action)
        elif self._session.operator is not None:
            self._session.operator(text)
        else:
            raise InputError(f"an operator is needed: {text}", todo="run it in a terminal or window, or switch it off")

    @property
    def pump(self) -> PumpBeam:
        """Get the pump beam; without a calibration of the attenuator it reads energies but sets no fluence."""
        if self._pump is None:
            self._pump = self._make_pump()
        return self._pump

    @property
    def watch(self) -> Watch:
        """Get the watch: the ``[[watch]]`` conditions of the bench file and the limits of readings.

        Made when it is first asked for, so that a condition that an instrument cannot answer is found before the first
        light: raises InputError.
        """
        if self._watch is None:
            limits = self.config.limits.roles if self.config.limits is not None else {}
            open_ = [role for role in limits if role in self.instruments]
            self._watch = Watch(
                self.config.watch,
                [entry for role in open_ for entry in reading_limits(role, type(self.instruments[role]), limits[role])],
                self.instruments,
                self.clock,
                light=lambda: self._pump,
                folder=self._folder,
            )
        return self._watch

    @property
    def spectrometer(self) -> Spectrometer:
        """Get the spectrometer, with the filters before its slit where the bench has some."""
        if self._spectrometer is None:
            settings = section(self.config.spectrometer, "spectrometer", self.config)
            positions = self.config.filter
            self._spectrometer = Spectrometer(
                cast(Spectrograph, self._role("spectrograph")),
                cast(Detector, self._role("detector")),
                self.clock,
                wavelength_offset_nm=settings.wavelength_offset_nm,
                filters=DetectionFilters(cast(FilterWheel, self._role("filter")), positions) if positions else None,
            )
        return self._spectrometer

    @property
    def slit(self) -> Slit:
        """Get the slit that cuts the pumped stripe."""
        near = cast(LinearStage, self.instruments["slit_near"]) if "slit_near" in self.instruments else None
        meter = cast(EnergyMeter | None, self.instruments.get("slit_meter"))
        return self._part(
            Slit,
            lambda: Slit(
                cast(LinearStage, self._role("slit_far")), near, section(self.config.slit, "slit", self.config), meter
            ),
        )

    @property
    def places(self) -> Places:
        """Get the sample stage with its places."""
        return self._part(
            Places,
            lambda: Places(
                cast(LinearStage, self._role("sample_stage")), section(self.config.places, "places", self.config)
            ),
        )

    @property
    def thermostat(self) -> Thermostat:
        """Get the heating stage, with the vacuum gauge where the bench has one."""
        gauge = cast(VacuumGauge | None, self.instruments.get("vacuum_gauge"))
        return self._part(
            Thermostat,
            lambda: Thermostat(
                cast(HeatingStage, self._role("heating_stage")),
                section(self.config.heating, "heating", self.config),
                self.clock,
                gauge,
            ),
        )

    @property
    def stress_lamp(self) -> StressLamp:
        """Get the lamp, with the meter that watches it where the bench has one."""
        meter = cast(PowerMeter | None, self.instruments.get("lamp_meter"))
        return self._part(
            StressLamp,
            lambda: StressLamp(
                cast(Lamp, self._role("lamp")), section(self.config.lamp, "lamp", self.config), self.clock, meter
            ),
        )

    def make_safe(self) -> SafeReport:
        """Bring every open instrument into its safe state and confirm it."""
        try:
            kept = {
                role for role in self.instruments if f"{role}.{_PART_KEPT.get(role)}" in self.config.safe_state.keep_on
            }
            others = {role: instrument for role, instrument in self.instruments.items() if role not in kept}
            made = make_safe(others, inline=self.clock.virtual)
            as_asked = SafeStep("leave as it is", True, "safe_state.keep_on of the bench file")
            self._safe_report = SafeReport((*made.steps, *(RoleStep(role, as_asked) for role in sorted(kept))))
        finally:
            self.account_light_left_on()
        if self._dead_men is not None:
            self._dead_men.judge(self._safe_report)
        return self._safe_report

    def account_light_left_on(self) -> None:
        """Count the light after a shutter did not close at once, now that it is closed."""
        if self._pump is not None:
            self._pump.account_light_left_on()

    def reopen(self, role: str) -> Instrument:
        """Connect an instrument anew, e.g. a vendor library whose process is gone; returns it, not started yet.

        Pump and spectrometer use the new one from then on. Raises what a driver raises; the old one then stays, closed.
        """
        old: Any = self.instruments[role]
        old.adapter.close()
        new = self._connect_role(role, still=False)
        self.instruments[role] = new
        for part in (self._pump, self._spectrometer, *self._parts.values()):
            if part is not None:
                part.replace(old, new)
        return new

    def take_light(self) -> list[LightOnSample]:
        """Get and forget the light on the sample since the last call, for the exposure ledger."""
        return self._pump.take_light() if self._pump is not None else []

    @property
    def warnings(self) -> list[str]:
        """Get what the experimenter should know of how the bench behaved."""
        parts = (self._pump, self._spectrometer, *self._parts.values(), self._dead_men)
        return [warning for part in parts if part is not None for warning in part.warnings]

    @property
    def closing_s(self) -> float:
        """Get how long :meth:`close` may take in s: a detector that is not kept cold is warmed up first."""
        return self._closing_s

    def close(self) -> None:
        """Close all connections; what fails is logged and does not keep the others open."""
        if self._dead_men is not None:
            self._dead_men.leave(self._safe_report)
        for role, instrument in self.instruments.items():
            try:
                instrument.close()
            except Exception:  # a driver that breaks its promise must not keep the others open
                log.exception("%s could not be closed", role)
        self.instruments = {}
        try:
            if self._session.laboratory is not None:
                self._session.laboratory.close()
        finally:
            self._locks.release()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.make_safe()
        self.close()

    def _connect_all(self, roles: Sequence[str], *, still: bool) -> list[OpenFailure]:
        """Connect every role; what keeps light off the sample comes first. Get those that failed.

        :param still: Whether closing must leave the instruments as they are.
        """
        failures: list[OpenFailure] = []
        for role in roles:
            try:
                self.instruments[role] = self._connect_role(role, still=still)
            except Exception as error:  # drivers of other packages may fail in any way
                entry = self.config.instruments[role]
                failures.append(OpenFailure(role, entry.driver, entry.resource, _told(error)))
        return failures

    def _connect_role(self, role: str, *, still: bool) -> Instrument:
        entry = self.config.instruments[role]
        off_at_close = not still and f"{role}.cooler" not in self.config.safe_state.keep_on
        driver_class: Any = driver_entry(role, entry.driver).load()
        if not still:
            driver_class = self._held_to_limits(role, driver_class)
        options = _with_warm_up(driver_class, entry.options.data, off_at_close)
        if options.get("warm_up"):
            self._closing_s = _WARMING_UP_S
        request = OpenRequest(role, entry.driver, entry.resource, driver_class.LINK, options, self._session)
        return _connect(driver_class, request)

    def _held_to_limits(self, role: str, driver_class: Any) -> Any:
        """Get the driver's class with its settings held to ``[limits.roles]``; raises InputError for unknown ones."""
        bounds = self.config.limits.roles.get(role, {}) if self.config.limits is not None else {}
        if unknown := unknown_limits(role, driver_class, bounds):
            raise InputError(
                f"the driver of the {role} offers no {', '.join(unknown)} to limit",
                where=f"limits.roles.{role} of the bench file",
                todo=f"it offers {', '.join(sorted(limited_units(role, driver_class))) or 'nothing'}",
            )
        try:
            return held_to_limits(driver_class, set_limits(role, driver_class, bounds)) if bounds else driver_class
        except Fault as fault:
            raise InputError(str(fault), where=f"limits.roles.{role} of the bench file") from fault

    def _start_all(self, roles: Sequence[str], *, still: bool) -> list[OpenFailure]:
        """Bring every connected instrument into its working state and ask who it is. Get those that failed.

        :param still: Whether nothing may be started that turns up the light on its way.
        """
        failures: list[OpenFailure] = []
        dark = not still and ("shutter" not in roles or "shutter" in self.instruments)
        for role, instrument in self.instruments.items():
            entry = self.config.instruments[role]
            try:
                start_up = getattr(instrument, "start_up", None)
                if start_up is not None and (dark or role not in _TURNS_UP_THE_LIGHT):
                    start_up()
                self.identities[role] = _identity_of(instrument)
            except Exception as error:  # as above
                dark = dark and role != "shutter"
                if isinstance(error, InstrumentError):
                    error.role = error.role or role
                failures.append(OpenFailure(role, entry.driver, entry.resource, _told(error)))
        return failures

    def _arm_dead_men(self, run_is_alive: Callable[[], bool]) -> list[OpenFailure]:
        """Arm every instrument that goes safe by itself when nobody feeds it. Get those that failed."""
        self._dead_men = DeadMen(self.instruments, run_is_alive)
        entries = self.config.instruments
        failed = self._dead_men.arm().items()
        return [OpenFailure(role, entries[role].driver, entries[role].resource, _told(error)) for role, error in failed]

    def _role(self, role: str) -> Instrument:
        try:
            return self.instruments[role]
        except KeyError:
            raise InputError(f"the bench {self.config.name!r} has no {role}") from None

    def _part(self, kind: type[_Part], make: Callable[[], _Part]) -> _Part:
        """Get a composite device of this bench, made when it is first asked for."""
        if kind not in self._parts:
            self._parts[kind] = make()
        return self._parts[kind]

    def _make_pump(self) -> PumpBeam:
        laser = section(self.config.laser, "laser", self.config)
        pump = section(self.config.pump, "pump", self.config)
        return PumpBeam(
            cast(Attenuator, self._role("attenuator")),
            cast(Shutter, self._role("shutter")),
            cast(EnergyMeter, self._role("energy_meter")),
            malus=malus_law(self.config) if self.config.attenuator_calibration is not None else None,
            pick_off=PickOff(pump.pick_off_ratio, pump.pick_off_ratio_error),
            geometry=pump.geometry(),
            wavelength_nm=laser.wavelength_nm,
            repetition_rate_hz=laser.repetition_rate_hz,
            limits=pump_limits(self.config),
            clock=self.clock,
            spot_dose_j_cm2=0.0 if self.simulated else self._spot_dose_j_cm2,
            on_light=self._on_light,
        )


def bench_locks(
    config: BenchConfig, roles: Sequence[str] | None = None, owner: str = "labctl", dead_owner: int = 0
) -> ResourceLocks:
    """Make the locks on the instruments of a bench, not taken yet; raises InputError for a role that it has not.

    :param roles: Roles whose instruments are locked; all of the bench if None.
    """
    wanted = _roles_to_open(config, roles)
    return ResourceLocks([config.instruments[role].resource for role in wanted], owner, dead_owner)


def needs_laboratory(config: BenchConfig) -> bool:
    """Get whether a simulated laboratory stands behind this bench."""
    return config.laboratory is not None or config.is_simulated


def _roles_to_open(config: BenchConfig, roles: Sequence[str] | None) -> list[str]:
    wanted = list(config.instruments) if roles is None else list(roles)
    missing = [role for role in wanted if role not in config.instruments]
    if missing:
        raise InputError(
            f"the bench {config.name!r} has no {', no '.join(missing)}",
            where=config.file,
            todo="; ".join(f"write [instruments.{role}]" for role in missing),
        )
    return sorted(wanted, key=lambda role: (SAFE_ORDER.index(role) if role in SAFE_ORDER else len(SAFE_ORDER), role))


def _with_warm_up(driver_class: Any, options: dict[str, Any], warm_up: bool) -> dict[str, Any]:
    """Have a cooler that is not to stay on between runs turned off at closing; an option in the bench file prevails."""
    known = getattr(getattr(driver_class, "Options", None), "model_fields", {})
    return {"warm_up": warm_up, **options} if "warm_up" in known else options


def _connect(driver_class: Any, request: OpenRequest) -> Instrument:
    clock = request.session.clock
    if not isinstance(driver_class.LINK, WireSettings | LibrarySettings):
        raise LabctlError(
            f"LINK of {driver_class.__name__} is {driver_class.LINK!r}; WireSettings or LibrarySettings were expected",
            todo="correct the driver",
        )
    if isinstance(driver_class.LINK, WireSettings):
        adapter: Any = WireAdapter(
            lambda: cast(Any, open_link(request)), driver_class.LINK, clock, f"{request.role} at {request.resource}"
        )
    else:
        adapter = open_link(request)
    instrument = driver_class(adapter, name=f"{request.role} ({request.driver})", clock=clock, **request.options)
    if hasattr(instrument, "on_confirmed") and is_simulated(request.resource):
        instrument.on_confirmed = partial(_record_by_hand, request.session)
    return instrument


def _identity_of(instrument: Instrument) -> Identity:
    identity = instrument.identify()
    if not isinstance(identity, Identity):
        raise LabctlError(
            f"identify() returned {identity!r}; a labctl.roles.Identity was expected", todo="correct the driver"
        )
    return identity


def _record_by_hand(session: Session, asked: str, said: str) -> None:
    """Write down what a simulated operator did; a real one is asked through the fronts, which record it."""
    if session.record_by_hand is not None:
        session.record_by_hand({"asked": asked, "confirmed": True, "said": said, "by": "simulated operator"})


def _told(error: Exception) -> Exception:
    """Get an error that says what it is when printed: many of Python's own are only a word."""
    if isinstance(error, LabctlError | OSError):
        return error
    log.error("a driver failed in a way it should not", exc_info=error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
    return LabctlError(
        f"{type(error).__name__}: {error}",
        where=place,
        todo="this is a fault in the program at that place; mend it there",
    )


def check_resources(config: BenchConfig, *, virtual: bool) -> None:
    """Refuse virtual time with a real resource; raises InputError naming every such resource."""
    instruments = config.instruments.items()
    real = [f"{role}: {entry.resource}" for role, entry in instruments if not is_simulated(entry.resource)]
    if virtual and real:
        raise InputError(
            "virtual time needs a bench of emulators; these resources are real: " + ", ".join(real),
            where=config.file,
            todo="leave out --virtual-time",
        )
