"""The bench file: laser, pump beam, spectrometer, limits, calibrations, and an instrument for each role."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    PrivateAttr,
    ValidationInfo,
    field_validator,
)

from labctl.config.calibration import (
    SAME_WAVELENGTH_NM,
    AttenuatorCalibration,
    load_calibration,
    parse_calibration,
)
from labctl.config.document import TomlDocument, parse_document, read_document
from labctl.config.fault import Absent, Fault, Faults, as_toml, nearest_name
from labctl.config.file_table import FileTable
from labctl.config.filters import FilterConfig
from labctl.config.limits import LimitsConfig, limit_faults, require_pump_limits
from labctl.config.locate import locate
from labctl.config.offered import drivers_of, limited_units, offered_readings
from labctl.config.problems import check_table
from labctl.config.pump import LaserConfig, PumpConfig, check_fluence_limit
from labctl.config.quantity import InUnit
from labctl.config.raw_table import RawTable
from labctl.config.registry import check_driver, driver_names, require_driver, require_role, role_names, transport_names
from labctl.config.surroundings import HeatingConfig, LampConfig, Places, SlitConfig
from labctl.config.table import (
    LineWidthNm,
    LongText,
    PathText,
    ShortText,
    Table,
    WavelengthErrorNm,
    WavelengthNm,
)
from labctl.config.toml_lines import dotted
from labctl.config.watch import BENCH_READINGS, NEEDS_LIGHT, WatchTables, check_watches, watch_faults
from labctl.errors import ConfigError, Problem

KEEPABLE_PARTS = ("cooler", "lamp", "heater")
"""What a bench may leave on between runs. Shutters, emission and MCP gain are never among them."""

_INSTRUMENT_OF = {
    "slit": ("slit_far", " with edge and longest"),
    "places": ("sample_stage", ' with the position of the sample, e.g. sample = "10 mm"'),
    "lamp": ("lamp", " with wavelength and irradiance"),
    "heating": ("heating_stage", "; it may be empty"),
}
"""Which instrument each table about the surroundings of the sample belongs to, and what it must hold."""
_SECOND_INSTRUMENT_OF = {
    "slit": ("slit_near", "near_edge"),
    "lamp": ("lamp_meter", "meter_power"),
    "heating": ("vacuum_gauge", "vacuum_below"),
}
"""Which key of such a table says how a second instrument is used."""

_RESOURCE_FORMS = (
    "sim:, sim+tcp://host:port, a VISA name such as USB0::0x1313::0x8078::P0012345::INSTR, "
    "serial:/dev/ttyUSB0 or serial:COM3, socket://host:port, sdk:NAME or sdk:FILE, operator:"
)
_RESOURCES = (
    r"sim:[^\s]*",
    r"(?:sim\+tcp|socket)://(?:\[[0-9A-Fa-f:]+\]|[A-Za-z0-9_.-]+):[0-9]{1,5}",
    r"serial:[^\s]+",
    r"sdk:(?:/|~/|[A-Za-z]:[\\/]|\\\\)[^\x00-\x1f<>\"|?*]*[^\x00-\x20<>\"|?*]",  # a file, blanks in its path
    r"operator:",
    r"sdk:[A-Za-z0-9_.:/-]+",
    r"(?i:ASRL|GPIB|USB|TCPIP|VXI|PXI|FIREWIRE)[A-Za-z0-9/\\_.-]*(?:::[^\s:]+)*::(?i:INSTR|SOCKET|RAW|INTFC)",
)


class SpectrometerConfig(Table):
    """Spectrograph and detector as one instrument."""

    centre_wavelength_nm: WavelengthNm = Field(alias="centre_wavelength")
    grating: Annotated[int, Field(ge=1, le=9, description="position on the turret, from 1")] = 1
    window_nm: Annotated[float, InUnit("nm", above=0, at_most=2000, example="140 nm")] | None = Field(
        alias="window", default=None
    )
    """Width of what the detector sees, for the preflight; the true window follows from the grating."""
    slit_um: Annotated[float, InUnit("um", at_least=1, at_most=5000, example="50 um")] | None = Field(
        alias="slit", default=None
    )
    instrument_fwhm_nm: LineWidthNm = Field(alias="instrument_fwhm")
    counts_per_electron: Annotated[
        float, Field(gt=0, le=1000, description="gain of the camera, for the weight of shot noise")
    ] = 1.0
    wavelength_offset_nm: Annotated[float, InUnit("nm", at_least=-50, at_most=50, example="0.12 nm")] = Field(
        alias="wavelength_offset", default=0.0
    )
    wavelength_error_nm: WavelengthErrorNm | None = Field(alias="wavelength_error", default=None)
    """One standard deviation of the axis that all wavelengths share; None if nobody has stated it."""
    instrument_fwhm_error_nm: WavelengthErrorNm = Field(alias="instrument_fwhm_error", default=0.0)
    temperature_c: Annotated[float, InUnit("degC", at_least=-150, at_most=40, example="-60 degC")] = Field(
        alias="temperature"
    )
    cooling_timeout_s: Annotated[float, InUnit("s", at_least=1, at_most=7200, example="20 min")] = Field(
        alias="cooling_timeout", default=1200.0
    )


class CalibrationsConfig(Table):
    """Calibration files, by paths relative to the bench file."""

    attenuator: PathText | None = None
    max_age_day: Annotated[float, InUnit("day", above=0, at_most=36500, example="365 day")] | None = Field(
        alias="max_age", default=None
    )


class SafeStateConfig(Table):
    """What may stay on between runs."""

    keep_on: Annotated[tuple[str, ...], Field(strict=False, max_length=100)] = ()

    @field_validator("keep_on", mode="after")
    @classmethod
    def _known_parts(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        valid = [f"{role}.{part}" for role in role_names() for part in KEEPABLE_PARTS]
        faults: list[Fault] = []
        for number, name in enumerate(names):
            if name not in valid:
                allowed = f"ROLE.PART with PART one of {', '.join(KEEPABLE_PARTS)}"
                near = nearest_name(name, valid) if "." in name else None
                faults.append(Fault(as_toml(name), allowed, nearest=near, key=(number,)))
        if faults:
            raise Faults(faults)
        return names


def _require_resource(resource: str) -> str:
    if any(re.fullmatch(form, resource) for form in _RESOURCES):
        return resource
    scheme = resource.partition(":")[0]
    if scheme in transport_names() and scheme not in ("sim", "sim+tcp") and len(resource) > len(scheme) + 1:
        return resource
    schemes = {"sim", "sim+tcp", "serial", "socket", "sdk", *transport_names()}
    near = None if scheme in schemes else nearest_name(scheme, schemes)
    raise Fault(as_toml(resource), _RESOURCE_FORMS, nearest=near)


class InstrumentConfig(Table):
    """The instrument that fills a role: its driver and where it is found."""

    driver: Annotated[str, AfterValidator(require_driver), Field(description="the name of a driver")]
    resource: Annotated[str, AfterValidator(_require_resource), Field(description=_RESOURCE_FORMS)]
    options: RawTable

    @property
    def is_simulated(self) -> bool:
        """Get whether the bytes go to an emulator."""
        return self.resource.startswith(("sim:", "sim+tcp:"))

    @property
    def is_in_process(self) -> bool:
        """Get whether its emulator lives in the process that opens it, and ends with it."""
        return self.resource.startswith("sim:")


Role = Annotated[str, AfterValidator(require_role)]


@dataclass(frozen=True)
class ByRole(Mapping[str, InstrumentConfig]):
    """The instruments of a bench by role; cannot be changed."""

    _instruments: Mapping[str, InstrumentConfig]

    def __getitem__(self, role: str) -> InstrumentConfig:
        return self._instruments[role]

    def __iter__(self) -> Iterator[str]:
        return iter(self._instruments)

    def __len__(self) -> int:
        return len(self._instruments)


class BenchConfig(FileTable):
    """A bench file. A section that a bench does not have is None."""

    name: ShortText
    description: LongText = ""
    default_sample: Annotated[ShortText | None, Field(description="the sample when none is named")] = None
    laser: LaserConfig | None = None
    instruments: Annotated[
        Mapping[Role, InstrumentConfig],
        Field(min_length=1, description="one table [instruments.ROLE] per role"),
        AfterValidator(ByRole),
        PlainSerializer(dict),
    ]
    filter: FilterConfig | None = Field(default=None, validate_default=True)
    pump: PumpConfig | None = Field(default=None, validate_default=True)
    spectrometer: SpectrometerConfig | None = None
    slit: SlitConfig | None = Field(default=None, validate_default=True)
    places: Places | None = Field(default=None, validate_default=True)
    lamp: LampConfig | None = Field(default=None, validate_default=True)
    heating: HeatingConfig | None = Field(default=None, validate_default=True)
    limits: LimitsConfig | None = Field(default=None, validate_default=True)
    watch: WatchTables = ()
    calibrations: CalibrationsConfig = CalibrationsConfig()
    safe_state: SafeStateConfig = SafeStateConfig()
    laboratory: RawTable | None = None

    _attenuator_calibration: AttenuatorCalibration | None = PrivateAttr(None)

    @property
    def attenuator_calibration(self) -> AttenuatorCalibration | None:
        """Get the calibration that ``[calibrations] attenuator`` names."""
        return self._attenuator_calibration

    @property
    def is_simulated(self) -> bool:
        """Get whether any instrument is an emulator, so that the run must be marked SIMULATED.

        A ``[laboratory]`` says so as well: its instruments may be emulators behind plain sockets.
        """
        return self.laboratory is not None or any(instrument.is_simulated for instrument in self.instruments.values())

    @property
    def is_in_process(self) -> bool:
        """Get whether nothing on it is but emulators within the process that opens it: nothing can be harmed."""
        return all(instrument.is_in_process for instrument in self.instruments.values())

    def stale_calibrations(self, today: datetime.date) -> tuple[Problem, ...]:
        """Get the calibrations that are older than ``max_age`` or dated in the future; none on a simulated bench."""
        calibration, max_age_day = self._attenuator_calibration, self.calibrations.max_age_day
        if calibration is None or max_age_day is None or self.is_simulated:
            return ()
        age_days = calibration.age_days(today)
        if 0 <= age_days <= max_age_day:
            return ()
        found = f"a calibration of {calibration.date}, {age_days} days old"
        return (Problem(calibration.file, None, "date", found, f"an age of 0 to {max_age_day:g} days"),)

    @field_validator("filter", mode="after")
    @classmethod
    def _filter_has_a_wheel(cls, filters: FilterConfig | None, info: ValidationInfo) -> FilterConfig | None:
        instruments = info.data.get("instruments")
        if instruments is not None and ("filter" in instruments) != (filters is not None):
            if filters is None:
                raise Absent("no [filter]", "a bench with [instruments.filter] has [filter] with positions and use")
            raise Absent("no [instruments.filter]", "a bench with [filter] has an instrument for the role filter")
        return filters

    @field_validator("slit", "places", "lamp", "heating", mode="after")
    @classmethod
    def _has_its_instrument(cls, table: Any, info: ValidationInfo) -> Any:
        role, example = _INSTRUMENT_OF[str(info.field_name)]
        instruments = info.data.get("instruments")
        if instruments is None or (role in instruments) == (table is not None):
            return table
        if table is None:
            raise Absent(
                f"no [{info.field_name}]", f"a bench with [instruments.{role}] has [{info.field_name}]{example}"
            )
        raise Absent(f"no [instruments.{role}]", f"a bench with [{info.field_name}] has an instrument for the {role}")

    @field_validator("slit", "lamp", "heating", mode="after")
    @classmethod
    def _has_its_second_instrument(cls, table: Any, info: ValidationInfo) -> Any:
        role, key = _SECOND_INSTRUMENT_OF[str(info.field_name)]
        instruments = info.data.get("instruments")
        if table is None or instruments is None:
            return table
        is_stated = key in table.model_dump(by_alias=True, exclude_none=True)
        if is_stated and role not in instruments:
            raise Fault(f"no [instruments.{role}]", f"a bench with {key} has an instrument for the {role}", key=(key,))
        if role == "slit_near" and role in instruments and not is_stated:
            raise Absent(f"no {key}", f"a bench with [instruments.{role}] says where it stands", key=(key,))
        return table

    @field_validator("limits", mode="after")
    @classmethod
    def _limits_fit_the_pump(cls, limits: LimitsConfig | None, info: ValidationInfo) -> LimitsConfig | None:
        laser = info.data.get("laser")
        if limits is None:
            if info.data.get("pump") is not None:
                raise Absent(
                    "no [limits]", "a bench with [pump] has [limits] with fluence, pulse_energy, dose_per_spot"
                )
            return None
        if info.data.get("pump") is not None:
            require_pump_limits(limits)
        if laser is not None and limits.fluence_uj_cm2 is not None:
            check_fluence_limit(limits.fluence_uj_cm2, laser)
        absent = [role for role in limits.roles if role not in info.data.get("instruments", limits.roles)]
        if absent:
            raise Faults(Fault(as_toml(role), "a role of this bench", key=("roles", role)) for role in absent)
        return limits

    @field_validator("watch", mode="after")
    @classmethod
    def _watches_end(cls, watch: WatchTables) -> WatchTables:
        check_watches(watch)
        return watch

    @field_validator("pump", mode="after")
    @classmethod
    def _pump_has_a_laser(cls, pump: PumpConfig | None, info: ValidationInfo) -> PumpConfig | None:
        if pump is not None and "laser" in info.data and info.data["laser"] is None:
            raise Absent("no [laser]", "a bench with [pump] has a [laser]")
        return pump

    @field_validator("safe_state", mode="after")
    @classmethod
    def _kept_on_is_there(cls, safe_state: SafeStateConfig, info: ValidationInfo) -> SafeStateConfig:
        instruments = info.data.get("instruments", role_names())
        faults: list[Fault] = []
        for number, name in enumerate(safe_state.keep_on):
            if name.partition(".")[0] not in instruments:
                allowed = f"a part of an instrument of this bench: {', '.join(instruments)}"
                faults.append(Fault(as_toml(name), allowed, key=("keep_on", number)))
        if faults:
            raise Faults(faults)
        return safe_state

    @field_validator("laboratory", mode="after")
    @classmethod
    def _laboratory_is_simulated(cls, laboratory: RawTable | None, info: ValidationInfo) -> RawTable | None:
        instruments = info.data.get("instruments")
        served = laboratory is not None and "served_at" in laboratory.data
        if (
            laboratory is not None
            and not served
            and instruments
            and not any(one.is_simulated for one in instruments.values())
        ):
            raise Fault(
                "a simulated laboratory", 'a bench with an instrument at sim: or sim+tcp:, or served_at = "host:port"'
            )
        return laboratory


def load_bench(name_or_path: str | Path, *, check_drivers: bool = True) -> BenchConfig:
    """Read a bench file with the calibrations it names.

    :param name_or_path: Name of a shipped bench, or a path.
    :param check_drivers: Import the drivers and check that they fit their roles and take their options.
    :raises ConfigError: every fault of the bench file and of its calibration files.
    """
    path = locate("benches", name_or_path)
    return _bench(read_document(path), path.parent, check_drivers)


def parse_bench(
    text: str, file: str, *, check_drivers: bool = False, attenuator_calibration: str | None = None
) -> BenchConfig:
    """Read a bench from text, e.g. as stored in a run; its calibration files are not opened.

    :param attenuator_calibration: Text of the calibration that belongs to it.
    :raises ConfigError: every fault.
    """
    bench = _bench(parse_document(text, file), None, check_drivers)
    if attenuator_calibration is not None:
        bench._attenuator_calibration = parse_calibration(attenuator_calibration, bench.calibrations.attenuator or file)
    return bench


def _bench(document: TomlDocument, folder: Path | None, check_drivers: bool) -> BenchConfig:
    problems = list(document.problems)
    if not document.readable:
        raise ConfigError(problems)
    data = _with_raw_tables(document)
    bench, faults = check_table(BenchConfig, data, document.file, document.lines, complete=not problems)
    problems += faults
    if check_drivers:
        problems += _driver_problems(document)
    problems += _offer_problems(document, check_drivers)
    calibration = None
    if folder is not None:
        calibration, faults = _attenuator_calibration(document, folder, bench)
        problems += faults
    if bench is None or problems:
        raise ConfigError(sorted(problems, key=lambda problem: (problem.file != document.file, problem.line or 0)))
    bench.came_from(document)
    bench._attenuator_calibration = calibration
    return bench


def _with_raw_tables(document: TomlDocument) -> dict[str, Any]:
    """Get the data with the tables that others interpret wrapped, so that they keep their file and lines."""
    data = dict(document.data)

    def wrap(table: object, *path: str) -> object:
        return RawTable(document.file, path, document.lines, table) if isinstance(table, Mapping) else table

    if "laboratory" in data:
        data["laboratory"] = wrap(data["laboratory"], "laboratory")
    instruments = data.get("instruments")
    if isinstance(instruments, Mapping):
        data["instruments"] = {
            role: {**entry, "options": wrap(entry.get("options", {}), "instruments", role, "options")}
            if isinstance(entry, Mapping)
            else entry
            for role, entry in instruments.items()
        }
    return data


def _driver_problems(document: TomlDocument) -> list[Problem]:
    instruments = document.data.get("instruments")
    problems: list[Problem] = []
    if isinstance(instruments, Mapping):
        for role, entry in instruments.items():
            if role not in role_names() or not isinstance(entry, Mapping):
                continue
            driver, options = entry.get("driver"), entry.get("options", {})
            if isinstance(driver, str) and driver in driver_names() and isinstance(options, Mapping):
                resource = str(entry.get("resource", ""))
                problems += check_driver(role, driver, dict(options), document.file, document.lines, resource=resource)
    return problems


def _offer_problems(document: TomlDocument, check_drivers: bool) -> list[Problem]:
    """Check watch conditions and limits against what the bench, and its drivers, offer to be read and set."""
    if document.problems:
        return []  # what a faulty statement hides may be what is asked for
    instruments = document.data.get("instruments")
    drivers = drivers_of(instruments) if check_drivers else {}
    offered = {**{role: offered_readings(driver) for role, driver in drivers.items()}, **BENCH_READINGS}
    units = {role: limited_units(role, driver) for role, driver in drivers.items()}
    limits = document.data.get("limits")
    subjects = [*instruments] if isinstance(instruments, Mapping) else []
    subjects += [subject for subject in BENCH_READINGS if "pump" in document.data or subject not in NEEDS_LIGHT]
    faults = [(("watch",), fault) for fault in watch_faults(document.data.get("watch"), subjects, offered)]
    if isinstance(limits, Mapping):
        faults += [(("limits", "roles"), fault) for fault in limit_faults(limits.get("roles"), units)]
    problems: list[Problem] = []
    for prefix, fault in faults:
        path = (*prefix, *fault.key)
        line = document.lines.line_of(path)
        problems.append(Problem(document.file, line, dotted(path), fault.found, fault.allowed, fault.nearest))
    return problems


def _attenuator_calibration(
    document: TomlDocument, folder: Path, bench: BenchConfig | None
) -> tuple[AttenuatorCalibration | None, list[Problem]]:
    table = document.data.get("calibrations")
    name = table.get("attenuator") if isinstance(table, Mapping) else None
    if not isinstance(name, str) or not name:
        return None, []
    key = "calibrations.attenuator"
    line = document.lines.line_of(("calibrations", "attenuator"))
    try:
        calibration = load_calibration(folder / name)
    except ConfigError as error:
        if any(problem.line is None for problem in error.problems):
            found, allowed = error.problems[0].found, "the path of a calibration file, relative to the bench file"
            return None, [Problem(document.file, line, key, f"{as_toml(name)}, {found}", allowed)]
        return None, list(error.problems)
    laser = bench.laser if bench else None
    if laser is not None and abs(laser.wavelength_nm - calibration.wavelength_nm) > SAME_WAVELENGTH_NM:
        found, allowed = f"a calibration at {calibration.wavelength_nm:g} nm", f"one at {laser.wavelength_nm:g} nm"
        return calibration, [Problem(document.file, line, key, found, f"{allowed}, the line of the laser")]
    return calibration, []
