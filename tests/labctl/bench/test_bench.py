"""Opening a bench: all roles or none, every failure named, nothing left open, nothing moved in the light."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.attenuator.ell14 import ELL14
from drivers.energy_meter.pm100d import PM100D
from drivers.shutter.sc10 import SC10
from labctl.bench import bench as bench_module
from labctl.bench import lock
from labctl.bench.bench import Bench, check_resources
from labctl.bench.bench_sections import malus_law, pump_limits
from labctl.clock import RealClock, VirtualClock
from labctl.config.bench import BenchConfig, load_bench
from labctl.config.locate import locate
from labctl.config.sample import load_sample
from labctl.errors import Aborted, BenchOpenError, InputError, InstrumentError
from labctl.sim.server import LaboratoryServer

SHIPPED = locate("benches", "simulated")
_LABORATORY = tuple(f"laboratory.{part}" for part in ("laser", "wave_plate", "meter", "stripe", "spectrograph"))


@pytest.fixture
def bench_file(tmp_path: Path) -> Callable[..., BenchConfig]:
    """Read the shipped bench with other resources, by role; ``None`` takes a role's table or a section out."""

    def write(drop: tuple[str, ...] = (), **resources: str) -> BenchConfig:
        text = SHIPPED.read_text(encoding="utf-8")
        shipped = (SHIPPED.parent / "calibrations" / "simulated_attenuator.toml").as_posix()
        text = text.replace("calibrations/simulated_attenuator.toml", shipped)
        for role, resource in resources.items():
            pattern = rf'(\[instruments\.{role}\]\ndriver = "[^"]+"\nresource = )"sim:"'
            text, count = re.subn(pattern, rf'\1"{resource}"', text)
            assert count == 1, role
        for header in drop:
            text, count = re.subn(rf"(?ms)^\[{re.escape(header)}\]\n.*?(?=^\[|\Z)", "", text)
            assert count == 1, header
        path = tmp_path / "bench.toml"
        path.write_text(text, encoding="utf-8")
        return load_bench(path)

    return write


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lock, "lock_folder", lambda: tmp_path / "labctl" / "locks")
    return tmp_path / "labctl" / "locks"


@pytest.fixture
def deaf() -> Iterator[Callable[[bytes], str]]:
    """Serve instruments on TCP that answer everything by the same bytes, or not at all; gives their resources."""
    servers: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(answer: bytes) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def talk() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    try:
                        while connection.recv(4096):
                            connection.sendall(answer)
                    except OSError:
                        pass

        threads.append(threading.Thread(target=talk))
        threads[-1].start()
        return f"socket://127.0.0.1:{server.getsockname()[1]}"

    yield serve
    for server in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
    for thread in threads:
        thread.join(5.0)


def test_all_roles_open_and_say_who_they_are() -> None:
    with Bench.open(load_bench("simulated"), VirtualClock(), sample=load_sample("cdse-cds-zno")) as bench:
        assert set(bench.identities) == set(bench.instruments) == set(bench.config.instruments)
        assert bench.identities["attenuator"].model == "ELL14"
        assert bench.simulated
        assert next(iter(bench.instruments)) == "shutter"
        laboratory = bench.laboratory
        assert laboratory is not None
    assert bench.instruments == {}
    assert laboratory.state()["shutter_open"] is False
    bench.close()


def test_only_the_roles_asked_for() -> None:
    with Bench.open(load_bench("simulated"), VirtualClock(), roles=["energy_meter", "shutter"]) as bench:
        assert list(bench.instruments) == ["shutter", "energy_meter"]
        with pytest.raises(InputError, match="has no attenuator"):
            bench.pump  # noqa: B018 - making it is what is refused


def test_roles_that_the_bench_does_not_have(bench_file: Callable[..., BenchConfig]) -> None:
    config = bench_file(drop=("instruments.shutter", "instruments.energy_meter"))
    with pytest.raises(InputError, match="has no shutter, no energy_meter") as caught:
        Bench.open(config, VirtualClock(), roles=["shutter", "energy_meter", "attenuator"])
    assert "[instruments.shutter]" in caught.value.todo


def test_two_dead_instruments_are_one_error_that_names_both(
    bench_file: Callable[..., BenchConfig],
    deaf: Callable[[bytes], str],
    own_locks: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made_safe: list[str] = []
    closed: list[str] = []
    for role, driver in (("attenuator", ELL14), ("shutter", SC10), ("energy_meter", PM100D)):
        plain_safe, plain_close = driver.make_safe, driver.close

        def safe(self: Any, role: str = role, plain: Any = plain_safe) -> Any:
            made_safe.append(role)
            return plain(self)

        def close(self: Any, role: str = role, plain: Any = plain_close) -> None:
            closed.append(role)
            plain(self)

        monkeypatch.setattr(driver, "make_safe", safe)
        monkeypatch.setattr(driver, "close", close)
    dead, garbled = deaf(b""), deaf(b"\xff\xfe rubbish\n")
    config = bench_file(
        drop=("instruments.spectrograph", "instruments.detector", "safe_state"),
        energy_meter=garbled,
        attenuator=dead,
    )
    with pytest.raises(BenchOpenError) as caught:
        Bench.open(config, RealClock())
    error = caught.value
    assert [failure.role for failure in error.failures] == ["attenuator", "energy_meter"]
    text = str(error)
    assert f"attenuator: thorlabs-ell14 at {dead}" in text
    assert f"energy_meter: thorlabs-pm100d at {garbled}" in text
    assert "sent b'0gj'" in text
    assert "sent b'*IDN?" in text and "rubbish" in text
    tree = error.as_dict()["failures"]
    assert isinstance(tree, list) and [branch["role"] for branch in tree] == ["attenuator", "energy_meter"]
    assert sorted(set(made_safe)) == sorted(closed) == ["attenuator", "energy_meter", "shutter"]
    # What is dead here can harm nothing, and the shutter is confirmed closed.
    assert error.safe_report.state == "confirmed"
    assert [text.partition(" ")[0] for text in error.safe_report.unheard] == ["attenuator", "energy_meter"]
    assert "made safe" in error.state
    assert list(own_locks.glob("*.owner")) == []


def test_an_instrument_that_is_not_there_and_one_that_is_made_safe(bench_file: Callable[..., BenchConfig]) -> None:
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    config = bench_file(energy_meter=f"socket://127.0.0.1:{port}")
    with pytest.raises(BenchOpenError) as caught:
        Bench.open(config, VirtualClock())
    (failure,) = caught.value.failures
    assert failure.role == "energy_meter"
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert caught.value.safe_report.state == "confirmed"
    assert {entry.role for entry in caught.value.safe_report.steps} == {
        "shutter",
        "detector",
        "attenuator",
        "spectrograph",
    }
    assert "made safe and closed" in caught.value.state


def test_nothing_is_homed_behind_a_shutter_that_is_stuck_open(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_bench("simulated")
    moves: list[str] = []
    monkeypatch.setattr(ELL14, "home", lambda mount: moves.append("home"))
    monkeypatch.setattr(SC10, "start_up", _stuck)
    with pytest.raises(BenchOpenError) as caught:
        Bench.open(config, VirtualClock())
    assert [failure.role for failure in caught.value.failures] == ["shutter"]
    assert moves == []


@pytest.mark.parametrize("roles", [["attenuator"], ["shutter", "attenuator"]])
def test_nothing_is_homed_on_a_bench_that_is_only_made_safe(monkeypatch: pytest.MonkeyPatch, roles: list[str]) -> None:
    moves: list[str] = []
    monkeypatch.setattr(ELL14, "home", lambda mount: moves.append("home"))
    monkeypatch.setattr(ELL14, "move_to", lambda mount, angle: moves.append("move"))
    bench = Bench.open(load_bench("simulated"), VirtualClock(), roles=roles, only_to_make_safe=True)
    report = bench.make_safe()
    bench.close()
    assert (report.state, {entry.role for entry in report.steps}) == ("confirmed", set(roles))
    assert moves == []


@pytest.mark.parametrize(
    ("kept", "option", "only_safe", "warm"),
    [
        (True, "", False, False),
        (False, "", False, True),
        (False, "", True, False),
        (True, "warm_up = true", False, True),
        (False, "warm_up = false", False, False),
    ],
)
def test_what_is_not_kept_on_is_off_after_closing(
    bench_file: Callable[..., BenchConfig], kept: bool, option: str, only_safe: bool, warm: bool
) -> None:
    path = Path(bench_file(drop=() if kept else ("safe_state",)).file)
    if option:
        path.write_text(f"{path.read_text()}\n[instruments.detector.options]\n{option}\n")
    clock = VirtualClock()
    bench = Bench.open(load_bench(path), clock, roles=["detector"], only_to_make_safe=only_safe)
    detector: Any = bench.instruments["detector"]
    detector.cool_to(-60.0)
    while not detector.cooler.locked:
        clock.sleep(5.0)
    laboratory: Any = bench.laboratory
    cooler = laboratory.stand.places["detector"].emulator.cooler
    closing_s = bench.closing_s
    before_s = clock.now()
    bench.close()
    took_s = clock.now() - before_s
    assert took_s < closing_s
    assert (took_s > 60.0) is warm
    assert cooler.on is not warm


def _stuck(shutter: SC10) -> None:
    raise InstrumentError("the blade did not close", state="LIGHT MAY BE ON")


def test_a_shutter_that_does_not_close_is_told_as_unconfirmed(bench_file: Callable[..., BenchConfig]) -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    assert text.count("[laboratory.laser]") == 1
    path = Path(bench_file().file)
    path.write_text(
        path.read_text().replace(
            "[laboratory.laser]", "[laboratory.shutter]\ninitially_open = true\n\n[laboratory.laser]"
        )
    )
    config = load_bench(path)
    plain = bench_module.open_laboratory

    def with_stuck_shutter(session: Any) -> Any:
        laboratory = plain(session)
        laboratory.stand.places["shutter"].emulator.stuck = True
        return laboratory

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_module, "open_laboratory", with_stuck_shutter)
        with pytest.raises(BenchOpenError) as caught:
            Bench.open(config, VirtualClock())
    assert caught.value.safe_report.state == "unconfirmed"
    assert "UNCONFIRMED" in caught.value.state and "shutter" in caught.value.state
    assert "LIGHT MAY BE ON" in str(caught.value)


@pytest.mark.parametrize("where", ["__init__", "start_up", "identify"])
def test_a_driver_that_fails_in_any_way_is_one_of_the_failures(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def broken(*arguments: Any, **options: Any) -> None:
        raise ZeroDivisionError("oops")

    closed: list[str] = []
    close = SC10.close
    monkeypatch.setattr(SC10, "close", lambda shutter: (closed.append("shutter"), close(shutter)))
    monkeypatch.setattr(PM100D, where, broken)
    with pytest.raises(BenchOpenError) as caught:
        Bench.open(load_bench("simulated"), VirtualClock())
    assert [failure.role for failure in caught.value.failures] == ["energy_meter"]
    assert "ZeroDivisionError: oops" in str(caught.value)
    assert closed == ["shutter"]


def test_an_interrupt_while_opening_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    make_safe, close = SC10.make_safe, SC10.close
    monkeypatch.setattr(SC10, "make_safe", lambda shutter: (done.append("safe"), make_safe(shutter))[1])
    monkeypatch.setattr(SC10, "close", lambda shutter: (done.append("close"), close(shutter)))

    def interrupt(meter: PM100D) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PM100D, "start_up", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Bench.open(load_bench("simulated"), VirtualClock())
    assert done == ["safe", "close"]


def test_an_instrument_that_cannot_be_closed_keeps_no_other_open(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    def broken(shutter: SC10) -> None:
        raise RuntimeError("stuck in the library")

    close = ELL14.close
    monkeypatch.setattr(SC10, "close", broken)
    monkeypatch.setattr(ELL14, "close", lambda mount: (closed.append("attenuator"), close(mount)))
    Bench.open(load_bench("simulated"), VirtualClock()).close()
    assert closed == ["attenuator"]


@pytest.mark.slow
def test_a_bench_in_another_process_is_locked_by_its_owner(bench_file: Callable[..., BenchConfig]) -> None:
    plain = load_bench("simulated")
    with LaboratoryServer(plain, load_sample("cdse-cds-zno")) as addresses:
        at = addresses["laboratory"]["tcp"]
        roles = dict.fromkeys(("shutter", "attenuator", "energy_meter", "spectrograph", "detector"), f"sim+tcp://{at}")
        config = bench_file(drop=_LABORATORY, **roles)
        with Bench.open(config, VirtualClock(), roles=["shutter"], owner="the first run"):
            with pytest.raises(InputError, match="in use by the first run"):
                Bench.open(config, VirtualClock(), roles=["shutter"])
        Bench.open(config, VirtualClock(), roles=["shutter"]).close()


def test_the_operator_is_asked_where_there_is_no_simulated_one() -> None:
    with Bench.open(load_bench("simulated"), VirtualClock(), roles=["shutter"]) as bench:
        bench.ask_operator("block beam behind pick-off", "Block the beam.")
        assert bench.laboratory is not None and bench.laboratory.state()["beam_blocked"] is True
        with pytest.raises(InputError, match="make coffee"):
            bench.ask_operator("make coffee", "Make coffee.")
        session = bench._session
        laboratory, session.laboratory = session.laboratory, None
        with pytest.raises(InputError, match="an operator is needed: Block the beam"):
            bench.ask_operator("block beam behind pick-off", "Block the beam.")
        asked: list[str] = []

        def obey(text: str, wants: str = "") -> str:
            asked.append(text)
            return ""

        def refuse(text: str, wants: str = "") -> str:
            raise Aborted(text)

        session.operator = obey
        bench.ask_operator("block beam behind pick-off", "Block the beam.")
        assert asked == ["Block the beam."]
        session.operator = refuse
        with pytest.raises(Aborted):
            bench.ask_operator("block beam behind pick-off", "Block the beam.")
        session.laboratory = laboratory


def test_what_the_bench_file_leaves_out_is_named(bench_file: Callable[..., BenchConfig]) -> None:
    without = bench_file(drop=("calibrations",))
    with pytest.raises(InputError, match="no calibration of the attenuator"):
        malus_law(without)
    bare = bench_file(drop=("calibrations", "limits", "pump", "pump.spot", "spectrometer"))
    with pytest.raises(InputError, match=r"has no \[limits\]"):
        pump_limits(bare)
    with Bench.open(bare, VirtualClock()) as bench:
        with pytest.raises(InputError, match=r"has no \[pump\]"):
            bench.pump  # noqa: B018 - as above
        with pytest.raises(InputError, match=r"has no \[spectrometer\]"):
            bench.spectrometer  # noqa: B018 - as above


def test_the_law_of_the_shipped_calibration() -> None:
    law = malus_law(load_bench("simulated"))
    assert law.maximum_j == pytest.approx(38e-6, rel=0.06)
    assert law.minimum_j / law.maximum_j == pytest.approx(1.06e-3, rel=0.05)
    limits = pump_limits(load_bench("simulated"))
    assert (limits.fluence_uj_cm2, limits.pulse_energy_j, limits.dose_j_cm2) == (1000.0, pytest.approx(5e-6), 200.0)


def test_virtual_time_is_for_emulators(bench_file: Callable[..., BenchConfig]) -> None:
    config = bench_file(shutter="serial:/dev/ttyUSB0", energy_meter="sim+tcp://127.0.0.1:4000")
    check_resources(config, virtual=False)
    with pytest.raises(InputError, match="shutter: serial:/dev/ttyUSB0") as caught:
        check_resources(config, virtual=True)
    assert "energy_meter" not in caught.value.what
