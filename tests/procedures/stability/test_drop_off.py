"""Instruments that are gone for an hour, or lose power, while a sample is stressed: they are waited for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.config.locate import locate
from labctl.run.engine import Engine
from labctl.run.guard_line import GuardLine
from labctl.run.outcome import Outcome
from labctl.run.request import RunRequest, prepare
from labctl.sim.faults import Fault, Kind, Transaction, injected
from labctl.store.run import open_run

HOUR_S = 3600.0
AWAY_S = (2.1 * HOUR_S, 3.1 * HOUR_S)
IRRADIANCE_W_CM2 = 0.075
UV = {"every": "20 min", "dense_every": "20 min", "dense_until": "1 h", "duration": "5 h", "after_reads": 1}


def away(role: str, begin_s: float, end_s: float) -> Callable[[Transaction], Fault | None]:
    """An instrument whose cable is out from one laboratory time to another."""
    now_s = 0.0

    def watch(transaction: Transaction) -> Fault | None:
        nonlocal now_s
        # A connection is made at no time of its own.
        now_s = max(now_s, transaction.t)
        return Fault(Kind.DISCONNECT) if transaction.role == role and begin_s <= now_s < end_s else None

    return watch


def without_power(role: str, at_s: float) -> Callable[[Transaction], Fault | None]:
    """An instrument that is switched off and on once."""
    done = False

    def watch(transaction: Transaction) -> Fault | None:
        nonlocal done
        if done or transaction.role != role or transaction.t < at_s:
            return None
        done = True
        return Fault(Kind.RESET)

    return watch


def run(
    out: Path,
    watch: Callable[[Transaction], Fault | None],
    procedure: str = "uv-stability",
    bench: str = "",
    **more: Any,
) -> Outcome:
    parameters = {"fluence": "0.7 uJ/cm^2", **(more or UV)}
    asked = RunRequest(
        procedure=procedure,
        bench=bench or "simulated-perovskites",
        sample="cspbbr3-zns",
        parameters=parameters,
        out=str(out),
        virtual_time=True,
        lease=False,
    )
    with injected(watch):
        return Engine(prepare(asked), GuardLine()).run()


def under_stress(path: str, stage: str) -> dict[str, np.ndarray]:
    with open_run(path) as stored:
        columns = stored.columns("points")
        kept = columns["stage"] == stage
        return {name: np.asarray(values)[kept] for name, values in columns.items()}


def notices(path: str, kind: str) -> list[dict[str, Any]]:
    with open_run(path) as stored:
        return [event.data for event in stored.events(kind)]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("role", ["detector", "sample_stage", "lamp", "lamp_meter", "spectrograph", "energy_meter"])
def test_an_instrument_that_is_gone_for_an_hour_is_waited_for(tmp_path: Path, role: str) -> None:
    outcome = run(tmp_path, away(role, *AWAY_S))
    assert (outcome.status, outcome.safe_state) == ("finished", "confirmed")
    incidents = notices(outcome.run, "incident")
    assert incidents
    assert {entry["role"] for entry in incidents} == {role}
    assert any(f"the {role.replace('_', ' ')} failed" in warning for warning in outcome.warnings), "the report says so"
    skipped = notices(outcome.run, "skipped")
    assert skipped, "reads were due meanwhile"
    assert {entry["why"] for entry in skipped} == {"its time went by while the run was away"}
    reads = under_stress(outcome.run, "uv")
    late_s = np.diff(reads["t_s"]).max()
    assert HOUR_S < late_s < 1.6 * HOUR_S
    assert outcome.points["done"] == outcome.points["planned"]
    # The lamp shone all the while, and nobody switched it off to look after another instrument.
    lit_s = reads["t_s"][-1] - reads["t_s"][0]
    assert reads["lamp_dose_j_cm2"][-1] == pytest.approx(IRRADIANCE_W_CM2 * lit_s, rel=0.02)
    assert outcome.result["remaining"]["value"] == pytest.approx(0.99, abs=0.02)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_lamp_that_lost_its_power_is_lit_again_and_the_report_says_so(tmp_path: Path) -> None:
    outcome = run(tmp_path, without_power("lamp", AWAY_S[0]))
    assert (outcome.status, outcome.safe_state) == ("finished", "confirmed")
    (found,) = [warning for warning in outcome.warnings if "the lamp was found off" in warning]
    assert "lit again" in found
    reads = under_stress(outcome.run, "uv")
    assert reads["irradiance_mw_cm2"][-1] == pytest.approx(75.0, rel=0.02)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hot_plate_that_is_gone_for_an_hour_is_waited_for_and_heats_again(tmp_path: Path) -> None:
    """On a bench that sets no limit to its temperature: one that cannot be read counts as exceeded."""
    source = locate("benches", "simulated-perovskites")
    text = source.read_text(encoding="utf-8")
    limit = '[limits.roles.heating_stage]\ntemperature = { at_most = "150 degC" }\n'
    assert limit in text
    calibrations = (source.parent / "calibrations").as_posix()
    bench = tmp_path / "bench.toml"
    text = text.replace(limit, "").replace('"calibrations/', f'"{calibrations}/')
    bench.write_text(text, encoding="utf-8")
    outcome = run(
        tmp_path,
        away("heating_stage", *AWAY_S),
        "thermal-stability",
        str(bench),
        temperature="60 degC",
        every="20 min",
        duration="5 h",
        after_reads=1,
    )
    assert (outcome.status, outcome.safe_state) == ("finished", "confirmed")
    assert {entry["role"] for entry in notices(outcome.run, "incident")} == {"heating_stage"}
    reads = under_stress(outcome.run, "hot")
    assert reads["temperature_c"][-1] == pytest.approx(60.0, abs=1.0)
    assert notices(outcome.run, "skipped")
