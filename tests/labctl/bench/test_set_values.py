"""Limits held at the instrument itself: whoever sets a value, however."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pymeasure.adapters import ProtocolAdapter
from pymeasure.instruments import Instrument

from labctl.bench import bench as bench_module
from labctl.bench.bench import Bench
from labctl.bench.set_values import QuantityLimit, held_to_limits, reading_limits, set_limits, unknown_limits
from labctl.clock import VirtualClock
from labctl.config.bench import BenchConfig, load_bench
from labctl.config.limits import Bounds
from labctl.config.locate import locate
from labctl.errors import BenchOpenError, ConfigError, ExitCode, LimitError
from labctl.roles import Identity, Reading, SafeStep, Setting


class Intensifier:
    """An instrument of a role that labctl does not have: gain by a property, count rate read, a stage moved."""

    ROLE = "streak_camera"
    READINGS: ClassVar = {
        "count_rate": Reading("count_rate_hz", "Hz", overshoot=10.0),
        "gate": Reading("gate", words=("shut", "open")),
    }
    SETTINGS: ClassVar = {"mcp_gain": Setting("mcp_gain"), "travel": Setting("move_to", "mm")}

    def __init__(self, start_gain: float = 0.0) -> None:
        self.sent: list[object] = []
        self.count_rate_hz = 0.0
        self.gate = "shut"
        self._gain = 0.0
        self.mcp_gain = start_gain

    @property
    def mcp_gain(self) -> float:
        """Control the gain, 0 to 63."""
        return self._gain

    @mcp_gain.setter
    def mcp_gain(self, value: float) -> None:
        self.sent.append(("gain", value))
        self._gain = value

    def move_to(self, position_mm: float, speed: float = 1.0) -> float:
        """Control the position."""
        self.sent.append(("move", position_mm, speed))
        return position_mm

    def wind_down(self) -> None:
        self.mcp_gain = 50.0

    def make_safe(self) -> Sequence[SafeStep]:
        """Lower the gain; for this instrument that is 0, whatever the limits say."""
        self.mcp_gain = 0.0
        return [SafeStep("lower gain", self._gain == 0.0, "")]

    def identify(self) -> Identity:
        return Identity("toy", "intensifier")

    def close(self) -> None:
        self.mcp_gain = 0.0


BOUNDS = {
    "mcp_gain": Bounds("5", "40"),
    "travel": Bounds("-10 mm", "2 cm"),
    "count_rate": Bounds(None, "1 kHz"),
}


def held(bounds: dict[str, Bounds] = BOUNDS) -> Any:
    limited = held_to_limits(Intensifier, set_limits("streak_camera", Intensifier, bounds))
    return limited(start_gain=10.0)


def test_a_property_is_refused_beyond_its_limit_before_anything_is_sent() -> None:
    camera = held()
    camera.mcp_gain = 40.0
    for value in (40.1, 4.9, math.inf, math.nan, "many", None, [1, 2]):
        with pytest.raises(LimitError) as caught:
            camera.mcp_gain = value
        assert caught.value.where == "limits.roles.streak_camera.mcp_gain of the bench"
        assert caught.value.exit_code == ExitCode.BAD_INPUT
    assert camera.mcp_gain == 40.0
    assert camera.sent == [("gain", 10.0), ("gain", 40.0)]


@pytest.mark.parametrize("call", [((21.0,), {}), ((), {"position_mm": 21.0}), ((-11.0, 2.0), {}), ((math.nan,), {})])
def test_a_method_is_refused_beyond_its_limit_however_it_is_called(call: tuple[Any, Any]) -> None:
    camera = held()
    camera.sent.clear()
    with pytest.raises(LimitError, match=r"travel = .* lies beyond the limit: at least -10 mm, at most 20 mm"):
        camera.move_to(*call[0], **call[1])
    assert camera.sent == []
    assert camera.move_to(20.0, speed=3.0) == 20.0
    assert camera.sent == [("move", 20.0, 3.0)]
    with pytest.raises(TypeError):
        camera.move_to()


def test_what_the_driver_does_by_itself_is_held_too() -> None:
    camera = held()
    with pytest.raises(LimitError):
        camera.wind_down()
    with pytest.raises(LimitError):
        held_to_limits(Intensifier, set_limits("streak_camera", Intensifier, BOUNDS))(start_gain=50.0)


def test_a_safe_state_is_never_refused() -> None:
    camera = held()
    (step,) = camera.make_safe()
    assert step.confirmed
    camera.mcp_gain = 10.0
    camera.close()
    assert camera.mcp_gain == 0.0
    with pytest.raises(LimitError):
        camera.mcp_gain = 0.0


def test_the_class_is_still_the_drivers() -> None:
    camera = held()
    assert isinstance(camera, Intensifier)
    assert type(camera).__name__ == "Intensifier"
    assert type(camera).READINGS is Intensifier.READINGS
    assert held_to_limits(Intensifier, []) is Intensifier
    Intensifier(start_gain=63.0).move_to(1e6)


def test_a_control_of_pymeasure_is_held() -> None:
    class Lamp(Instrument):
        SETTINGS: ClassVar = {"current": Setting("current_a", "A")}
        current_a = Instrument.control("CURR?", "CURR %g", "Control the current in A.")

        def make_safe(self) -> list[SafeStep]:
            return []

        def close(self) -> None:
            pass

    limited = held_to_limits(Lamp, set_limits("lamp", Lamp, {"current": Bounds(None, "500 mA")}))
    adapter = ProtocolAdapter([(b"CURR 0.5", None), (b"CURR?", b"0.5")])
    lamp = limited(adapter, "lamp", includeSCPI=False)
    lamp.current_a = 0.5
    with pytest.raises(LimitError, match=r"at most 0\.5 A"):
        lamp.current_a = 0.6
    assert lamp.current_a == 0.5


def test_limits_of_readings_and_what_nothing_would_hold() -> None:
    assert reading_limits("streak_camera", Intensifier, BOUNDS) == [
        QuantityLimit("streak_camera", "count_rate", "Hz", None, 1000.0, overshoot=10.0)
    ]
    assert unknown_limits(
        "streak_camera", Intensifier, BOUNDS | {"gate": Bounds(None, "1"), "bias": Bounds("1", None)}
    ) == [
        "bias",
        "gate",
    ]


@pytest.fixture
def bench_with(tmp_path: Path) -> Callable[[str], BenchConfig]:
    shipped = locate("benches", "simulated")

    def write(limits: str) -> BenchConfig:
        text = shipped.read_text(encoding="utf-8")
        text = text.replace('"calibrations/', f'"{(shipped.parent / "calibrations").as_posix()}/')
        path = tmp_path / "bench.toml"
        path.write_text(text.replace("[calibrations]", f"{limits}\n[calibrations]", 1), encoding="utf-8")
        return load_bench(path)

    return write


def test_nobody_sets_more_than_the_bench_allows(bench_with: Callable[[str], BenchConfig]) -> None:
    config = bench_with(
        '[limits.roles.detector]\nexposure = "2 s"\ntemperature = { at_least = "-50 degC" }\n'
        '[limits.roles.spectrograph]\nwavelength = "700 nm"\n[limits.roles.attenuator]\nangle = "90 deg"'
    )
    with Bench.open(config, VirtualClock()) as bench:
        detector, spectrograph = bench.spectrometer.detector, bench.spectrometer.spectrograph
        detector.set_exposure(2.0)
        for refused in (
            lambda: detector.set_exposure(2.1),
            lambda: bench.instruments["detector"].set_exposure(2.1),  # pyright: ignore[reportAttributeAccessIssue]
            lambda: detector.cool_to(-60),
            lambda: bench.spectrometer.prepare(701.0, 1),
            lambda: spectrograph.go_to(701.0),
            lambda: bench.pump.turn_to(91.0),
        ):
            with pytest.raises(LimitError):
                refused()
        assert detector.exposure_s == pytest.approx(2.0, rel=1e-3)
        assert not detector.cooler.on
    assert type(bench).__name__ == "Bench"


def test_a_bench_opened_to_be_made_safe_has_no_limits_in_its_way(bench_with: Callable[[str], BenchConfig]) -> None:
    config = bench_with('[limits.roles.detector]\nexposure = { at_least = "10 s" }')
    with Bench.open(config, VirtualClock(), roles=["detector"], only_to_make_safe=True) as bench:
        bench.instruments["detector"].set_exposure(0.1)  # pyright: ignore[reportAttributeAccessIssue]


def test_a_limit_that_nothing_would_hold_keeps_the_bench_closed(
    bench_with: Callable[[str], BenchConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = '[limits.roles.shutter]\nopening = "1 s"'
    with pytest.raises(ConfigError, match="unknown quantity of shutter"):
        bench_with(limits)
    config = bench_with('[limits.roles.detector]\nexposure = "2 s"')
    monkeypatch.setattr(bench_module, "unknown_limits", lambda *_: ["exposure"])
    with pytest.raises(BenchOpenError, match="offers no exposure to limit"):
        Bench.open(config, VirtualClock(), roles=["detector"])
