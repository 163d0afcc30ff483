from __future__ import annotations

import copy
import datetime
import pickle
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from labctl.config import registry
from labctl.config.bench import load_bench, parse_bench
from labctl.config.locate import locate
from labctl.config.pump import PumpConfig
from labctl.errors import ConfigError, Problem
from labctl.quantities import Convention, StripeSpot

SHIPPED = locate("benches", "simulated").read_text(encoding="utf-8")


def problems_of(text: str, **options: Any) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        parse_bench(text, "bench.toml", **options)
    return list(caught.value.problems)


def edited(*changes: tuple[str, str]) -> str:
    """The shipped bench with some text replaced; every change must find its text."""
    text = SHIPPED
    for old, new in changes:
        assert text.count(old) >= 1, old
        text = text.replace(old, new, 1)
    return text


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def test_the_shipped_bench() -> None:
    bench = load_bench("simulated", check_drivers=False)
    assert bench.is_simulated
    assert bench.laser is not None and bench.laser.repetition_rate_hz == 1000.0
    assert bench.limits is not None and bench.limits.fluence_uj_cm2 == 1000.0
    assert bench.spectrometer is not None and bench.spectrometer.temperature_c == -60.0
    assert bench.spectrometer.cooling_timeout_s == 1200.0
    assert bench.safe_state.keep_on == ("detector.cooler",)
    assert bench.instruments["detector"].driver == "andor-sdk2"
    assert set(bench.instruments) == {"attenuator", "shutter", "energy_meter", "spectrograph", "detector"}
    assert bench.text == SHIPPED
    assert bench.attenuator_calibration is not None
    assert bench.attenuator_calibration.text.startswith("# Energy at the meter")


def test_the_pump_knows_its_geometry() -> None:
    bench = load_bench("simulated", check_drivers=False)
    assert bench.pump is not None
    geometry = bench.pump.geometry()
    assert geometry.spot == StripeSpot(1.0, 0.15)
    assert geometry.convention is Convention.PEAK_GAUSS
    # F = E sqrt(2/pi) / (L w): 0.1 uJ on 1 mm x 150 um.
    assert geometry.fluence(1e-7).uj_cm2 == pytest.approx(0.1 * 0.797885 / (0.1 * 0.015), rel=1e-5)
    # Ratio 1 %, length 1 %, half width 2 %.
    assert bench.pump.systematic_relative_error == pytest.approx(6**0.5 * 0.01)


@pytest.mark.parametrize(
    ("spot", "error"),
    [
        ({"shape": "stripe", "length": "1 mm", "half_width": "100 um"}, 0.0),
        ({"shape": "gaussian", "radius_x": "1 mm", "radius_y": "2 mm", "radius_y_error": "60 um"}, 0.03),
        ({"shape": "flat_top", "area": "0.5 mm^2", "area_error": "0.02 mm^2"}, 0.04),
        ({"shape": "rectangle", "axis_a": "300 um", "axis_a_error": "9 um", "axis_b": "1 mm"}, 0.03),
    ],
)
def test_the_error_of_the_area_follows_from_the_shape(spot: dict[str, str], error: float) -> None:
    conventions = {"flat_top": "flat_top", "rectangle": "rect_axes_product"}
    pump = PumpConfig.model_validate(
        {"pick_off_ratio": 1.0, "spot": spot, "convention": conventions.get(spot["shape"], "peak_gauss")}
    )
    assert pump.spot.relative_area_error == pytest.approx(error)
    assert pump.systematic_relative_error == pytest.approx(error)


@pytest.mark.parametrize(
    ("old", "new", "key", "found", "nearest"),
    [
        ('wavelength = "400 nm"', 'wavelenght = "400 nm"', "laser.wavelenght", "unknown key", "wavelength"),
        (
            'repetition_rate = "1 kHz"',
            'repetition_rate = "1 khz"',
            "laser.repetition_rate",
            "unknown unit 'khz'",
            "kHz",
        ),
        (
            'repetition_rate = "1 kHz"',
            "repetition_rate = 1000",
            "laser.repetition_rate",
            "1000, a number without a unit",
            None,
        ),
        (
            'repetition_rate = "1 kHz"',
            'repetition_rate = "1 s"',
            "laser.repetition_rate",
            "does not convert to Hz",
            None,
        ),
        ('"100 fs"', "1e-13", "laser.pulse_duration", "a number without a unit", None),
        ("pick_off_ratio = 0.02", 'pick_off_ratio = "0.02"', "pump.pick_off_ratio", '"0.02"', None),
        ("pick_off_ratio = 0.02", "pick_off_ratio = nan", "pump.pick_off_ratio", "nan", None),
        ("pick_off_ratio = 0.02", "pick_off_ratio = -1", "pump.pick_off_ratio", "-1", None),
        ("pick_off_ratio = 0.02", "pick_off_ratio = true", "pump.pick_off_ratio", "true", None),
        ('"peak_gauss"', '"peak-gaus"', "pump.convention", '"peak-gaus"', "peak_gauss"),
        ('"peak_gauss"', '"flat_top"', "pump.convention", '"flat_top"', None),
        ('shape = "stripe"', 'shape = "strip"', "pump.spot.shape", '"strip"', "stripe"),
        ('shape = "stripe"', "", "pump.spot.shape", "no such key", None),
        ('length = "1.0 mm"', "", "pump.spot.length", "no such key", None),
        ('length = "1.0 mm"', 'length = "1.0 m"', "pump.spot.length", '"1.0 m"', None),
        ('length = "1.0 mm"', 'lenght = "1.0 mm"', "pump.spot.lenght", "unknown key", "length"),
        ("grating = 1 ", "grating = 1.5 ", "spectrometer.grating", "1.5", None),
        ("grating = 1 ", "grating = 0 ", "spectrometer.grating", "0", None),
        ('temperature = "-60 degC"', 'temperature = "-600 degC"', "spectrometer.temperature", '"-600 degC"', None),
        ('fluence = "1 mJ/cm^2"', 'fluence = "1 J/cm^2"', "limits.fluence", "with pulses of 100 fs", None),
        ("[instruments.shutter]", "[instruments.shuter]", "instruments.shuter", "an unknown role", "shutter"),
        ('"thorlabs-sc10"', '"thorlabs-sc-10"', "instruments.shutter.driver", "an unknown driver", "thorlabs-sc10"),
        ('driver = "thorlabs-sc10"', "driver = 10", "instruments.shutter.driver", "10", None),
        ('resource = "sim:"', 'resource = "simm:"', "instruments.attenuator.resource", '"simm:"', "sim"),
        ('resource = "sim:"', 'resource = "/dev/ttyUSB0"', "instruments.attenuator.resource", "ttyUSB0", None),
        ('resource = "sim:"', 'resource = "socket://host"', "instruments.attenuator.resource", "socket", None),
        ('resource = "sim:"', 'resource = "sim:"\noptions = 3', "instruments.attenuator.options", "3", None),
        ('"detector.cooler"', '"detector.coler"', "safe_state.keep_on[0]", '"detector.coler"', "detector.cooler"),
        ('"detector.cooler"', '"shutter"', "safe_state.keep_on[0]", '"shutter"', None),
        ("keep_on = [", 'keep_on = "detector.cooler"  # [', "safe_state.keep_on", '"detector.cooler"', None),
        ("max_age = ", "max_age_ = ", "calibrations.max_age_", "unknown key", "max_age"),
        ('name = "simulated"', 'name = ""', "name", '""', None),
        ('description = "', 'descripton = "', "descripton", "unknown key", "description"),
    ],
)
def test_one_fault_gives_one_problem(old: str, new: str, key: str, found: str, nearest: str | None) -> None:
    text = edited((old, new))
    problems = problems_of(text)
    assert [problem.key for problem in problems] == [key]
    (problem,) = problems
    assert found in problem.found
    assert problem.nearest == nearest
    assert problem.allowed
    assert problem.file == "bench.toml"
    if problem.found == "no such key":
        assert problem.line == line_of(text, "[pump.spot]")
    else:
        assert problem.line == line_of(text, new) + new.count("\n")


def test_all_faults_at_once_each_with_its_line() -> None:
    text = """\
name = "bad"
colour = "red"
[laser]
wavelenght = "400 nm"
repetition_rate = "1 khz"
pulse_duration = 100
[pump]
pick_off_ratio = "0.02"
convention = "peak-gauss"
[pump.spot]
shape = "strip"
length = "1.0 s"
halfwidth = "150 um"
[limits]
fluence = 1 mJ/cm^2
pulse_energy = "5 uJ"
pulse_energy = "6 uJ"
dose_per_spot = "inf J/cm^2"
[instruments.attenuater]
driver = "thorlabs-ell14"
resource = "sim:"
[instruments.shutter]
driver = "thorlabs-sc01"
resource = "simm:"
options = 3
[instruments.detector]
driver = "andor-sdk2"
resouce = "sim:"
[safe_state]
keep_on = [
  "detector.coler",
  "shutter.emission",
]
[laser]
again = 1
[nope
x = 2
"""
    assert [(problem.line, problem.key) for problem in problems_of(text)] == [
        (2, "colour"),
        (4, "laser.wavelenght"),
        (5, "laser.repetition_rate"),
        (6, "laser.pulse_duration"),
        (8, "pump.pick_off_ratio"),
        (9, "pump.convention"),
        (11, "pump.spot.shape"),
        (12, "pump.spot.length"),
        (13, "pump.spot.halfwidth"),
        (15, "syntax"),
        (17, "limits.pulse_energy"),
        (18, "limits.dose_per_spot"),
        (19, "instruments.attenuater"),
        (23, "instruments.shutter.driver"),
        (24, "instruments.shutter.resource"),
        (25, "instruments.shutter.options"),
        (28, "instruments.detector.resouce"),
        (31, "safe_state.keep_on[0]"),
        (32, "safe_state.keep_on[1]"),
        (34, "laser"),
        (36, "syntax"),
    ]


def test_missing_tables_are_named() -> None:
    assert [problem.key for problem in problems_of("")] == ["name", "instruments"]
    text = edited().replace("[limits]", "[other]")
    problems = problems_of(text)
    assert [(problem.key, problem.line) for problem in problems] == [
        ("limits", 1),
        ("other", line_of(text, "[other]")),
    ]
    assert problems[0].found == "no [limits]"


def test_a_pump_needs_a_laser() -> None:
    (problem,) = problems_of(SHIPPED[: SHIPPED.index("[laser]")] + SHIPPED[SHIPPED.index("[pump]") :])
    assert (problem.key, problem.found) == ("pump", "no [laser]")


def test_what_may_stay_on_must_be_on_the_bench() -> None:
    start, end = SHIPPED.index("[instruments.detector]"), SHIPPED.index("[safe_state]")
    (problem,) = problems_of(SHIPPED[:start] + SHIPPED[end:])
    assert problem.key == "safe_state.keep_on[0]"
    assert "attenuator" in problem.allowed and "detector" not in problem.allowed


@pytest.mark.parametrize(
    "resource",
    [
        "sim:",
        "sim+tcp://127.0.0.1:7001",
        "socket://[::1]:4001",
        "serial:/dev/ttyUSB0",
        "serial:COM3",
        "serial:com12",
        r"serial:\\.\COM12",
        "ASRL3::INSTR",
        "ASRLCOM3::INSTR",
        r"ASRL\\.\COM12::INSTR",
        r"sdk:C:\Program Files\Andor SDK\atmcd64d.dll",
        "sdk:C:/Program Files/Andor SDK/atmcd64d.dll",
        r"sdk:\\server\share\x.dll",
        "sdk:/usr/local/lib/my andor/libandor.so",
        "USB0::0x1313::0x8078::P0012345::INSTR",
        "ASRL/dev/ttyS0::INSTR",
        "TCPIP::192.168.0.7::5025::SOCKET",
        "sdk:andor-sdk2",
    ],
)
def test_forms_of_a_resource(resource: str) -> None:
    bench = parse_bench(edited(('resource = "sim:"', f"resource = '{resource}'")), "bench.toml")
    assert bench.instruments["attenuator"].resource == resource
    assert bench.instruments["attenuator"].is_simulated == resource.startswith("sim")


def real_bench() -> str:
    return SHIPPED[: SHIPPED.index("[laboratory.laser]")].replace('"sim:"', '"serial:/dev/ttyUSB0"')


def test_a_real_bench_is_not_simulated_and_has_no_laboratory() -> None:
    bench = parse_bench(real_bench(), "bench.toml")
    assert not bench.is_simulated
    assert bench.laboratory is None
    (problem,) = problems_of(real_bench() + "\n[laboratory]\nx = 1\n")
    assert problem.key == "laboratory"


def test_the_laboratory_is_handed_on_unread() -> None:
    bench = parse_bench(edited(("theta0_deg = 7.3", "anything = [1, { at = 'all' }]")), "bench.toml")
    assert bench.laboratory is not None
    assert bench.laboratory.data["wave_plate"]["anything"] == [1, {"at": "all"}]

    class WavePlate(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True)
        leak: str
        backlash_deg: float

    class Laboratory(BaseModel):
        wave_plate: WavePlate

    with pytest.raises(ConfigError) as caught:
        bench.laboratory.validate(Laboratory)
    assert {(problem.line, problem.key) for problem in caught.value.problems} == {
        (line_of(bench.text, "leak ="), "laboratory.wave_plate.leak"),
        (line_of(bench.text, "anything ="), "laboratory.wave_plate.anything"),
    }


def test_nothing_can_be_changed() -> None:
    bench = load_bench("simulated", check_drivers=False)
    assert bench.limits is not None
    assert bench.laboratory is not None
    with pytest.raises(ValidationError):
        bench.limits.fluence_uj_cm2 = 1e9
    with pytest.raises(ValidationError):
        bench.limits = None
    with pytest.raises(TypeError):
        bench.instruments["shutter"] = bench.instruments["detector"]  # pyright: ignore[reportIndexIssue]
    bench.laboratory.data["laser"]["rms"] = 1.0
    assert bench.laboratory.data["laser"]["rms"] == 0.015


def test_a_bench_goes_to_another_process_and_back() -> None:
    bench = load_bench("simulated", check_drivers=False)
    assert pickle.loads(pickle.dumps(bench)) == bench
    assert copy.deepcopy(bench) == bench
    assert bench.model_dump(mode="json", by_alias=True)["pump"]["spot"]["half_width"] == "0.15 mm"


class Rotator:
    """A driver with options."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
        address: int = 0
        backlash_deg: float = 0.0

    def identify(self) -> None: ...
    def make_safe(self) -> None: ...
    def close(self) -> None: ...
    def home(self) -> None: ...
    def move_to(self, angle_deg: float) -> None: ...


def only_driver(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    entries = {"rotator": EntryPoint("rotator", target, registry.DRIVERS)}
    monkeypatch.setattr(registry, "driver_entries", lambda: entries)
    monkeypatch.setitem(sys.modules, "made_up_driver", sys.modules[__name__])


ROTATOR = """\
name = "rotator"
[instruments.attenuator]
driver = "rotator"
resource = "serial:/dev/ttyUSB0"
[instruments.attenuator.options]
"""


def test_options_are_checked_by_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    only_driver(monkeypatch, "made_up_driver:Rotator")
    bench = parse_bench(ROTATOR + "address = 3\n", "bench.toml", check_drivers=True)
    assert bench.instruments["attenuator"].options.validate(Rotator.Options).address == 3
    problems = problems_of(ROTATOR + "adress = 3\nbacklash_deg = 'much'\n", check_drivers=True)
    assert [(problem.line, problem.key, problem.nearest) for problem in problems] == [
        (6, "instruments.attenuator.options.adress", "address"),
        (7, "instruments.attenuator.options.backlash_deg", None),
    ]


def test_a_driver_must_fit_its_role(monkeypatch: pytest.MonkeyPatch) -> None:
    only_driver(monkeypatch, "made_up_driver:Rotator")
    (problem,) = problems_of(ROTATOR.replace("attenuator", "shutter"), check_drivers=True)
    assert (problem.line, problem.key) == (3, "instruments.shutter.driver")
    assert "has no open, shut" in problem.found


def test_a_driver_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    only_driver(monkeypatch, "made_up_driver_that_is_not_there:Rotator")
    (problem,) = problems_of(ROTATOR, check_drivers=True)
    assert "ModuleNotFoundError" in problem.found


def test_a_driver_without_options_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    only_driver(monkeypatch, "made_up_driver:Rotator")
    monkeypatch.delattr(Rotator, "Options")
    (problem,) = problems_of(ROTATOR + "address = 3\n", check_drivers=True)
    assert (problem.line, problem.key) == (5, "instruments.attenuator.options")


def write_bench(folder: Path, text: str, calibration: str | None) -> Path:
    path = folder / "bench.toml"
    path.write_text(text, encoding="utf-8")
    if calibration is not None:
        (folder / "calibrations").mkdir()
        (folder / "calibrations" / "simulated_attenuator.toml").write_text(calibration, encoding="utf-8")
    return path


def calibration_text() -> str:
    bench = load_bench("simulated", check_drivers=False)
    assert bench.attenuator_calibration is not None
    return bench.attenuator_calibration.text


def loading_problems(path: Path) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load_bench(path, check_drivers=False)
    return caught.value.problems


def test_a_calibration_that_is_not_there(tmp_path: Path) -> None:
    (problem,) = loading_problems(write_bench(tmp_path, SHIPPED, None))
    assert problem.key == "calibrations.attenuator"
    assert problem.line == line_of(SHIPPED, "attenuator = ")
    assert "cannot be read" in problem.found


def test_faults_of_the_calibration_come_with_those_of_the_bench(tmp_path: Path) -> None:
    calibration = re.sub(r'^(theta0 = "[\d.]+) deg"', r'\1"', calibration_text(), flags=re.MULTILINE)
    first, second = loading_problems(
        write_bench(tmp_path, edited(('repetition_rate = "1 kHz"', 'repetition_rate = "1 khz"')), calibration)
    )
    assert (Path(first.file).name, first.key) == ("bench.toml", "laser.repetition_rate")
    assert (Path(second.file).name, second.key) == ("simulated_attenuator.toml", "theta0")
    assert second.line == line_of(calibration, "theta0 =")


def test_a_calibration_for_another_line_of_the_laser(tmp_path: Path) -> None:
    calibration = calibration_text().replace('"400.0 nm"', '"800 nm"')
    (problem,) = loading_problems(write_bench(tmp_path, SHIPPED, calibration))
    assert problem.found == "a calibration at 800 nm"


def test_age_of_a_calibration(tmp_path: Path) -> None:
    bench = load_bench(write_bench(tmp_path, real_bench(), calibration_text()), check_drivers=False)
    assert bench.stale_calibrations(datetime.date(2027, 11, 21)) == ()
    for today in (datetime.date(2027, 11, 22), datetime.date(2026, 11, 20)):
        (problem,) = bench.stale_calibrations(today)
        assert "0 to 365 days" in problem.allowed
    simulated = load_bench("simulated", check_drivers=False)
    assert simulated.stale_calibrations(datetime.date(2099, 1, 1)) == ()


def test_reading_a_bench_needs_no_numerics_until_there_is_a_quantity() -> None:
    code = "import sys, labctl.config.bench; print([m for m in ('pint', 'numpy', 'scipy', 'h5py') if m in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("driver", "resource", "found"),
    [
        ("thorlabs-sc10", "operator:", 'for "thorlabs-sc10", which has a wire'),
        ("manual", "serial:/dev/ttyUSB0", 'for "manual", which has no wire'),
    ],
)
def test_an_operator_answers_for_what_has_no_wire_alone(driver: str, resource: str, found: str) -> None:
    text = f'name = "b"\n[instruments.shutter]\ndriver = "{driver}"\nresource = "{resource}"\n'
    (problem,) = problems_of(text, check_drivers=True)
    assert (problem.key, problem.line) == ("instruments.shutter.resource", 4) and found in problem.found
