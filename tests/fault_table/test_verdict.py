"""What a replay is judged to be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from fault_table.plans import PLANS
from fault_table.replay import Report, Row, Step
from fault_table.verdict import Noise, Verdict, judge
from labctl.run.outcome import Outcome
from labctl.run.request import procedure_class
from labctl.sim.faults import CONNECT, Kind, Transaction
from procedures.emission.layout import COSMIC

STEP = Step(Transaction(7, "shutter", "b'ens?\\r'", 1.0, False, ()), "coarse", 3)
CONNECTING = Step(Transaction(0, "shutter", CONNECT, 0.0, False, ()), "opening", 0)


def record(point: int = 0, *, energy: float = 1.0, spectrum: float = 100.0, open_s: float = 1.0) -> Row:
    counts = np.full(16, spectrum)
    return Row("points", point, {"energy_j": energy, "stage": "coarse", "open_s": open_s}, {"spectrum": counts}, {})


def noise() -> Noise:
    others = [[record(0, energy=1.0 + 0.01 * n, spectrum=100.0 + n), record(1)] for n in range(1, 4)]
    return Noise([record(0), record(1)], others, ["always warned"])


def report(
    kind: Kind = Kind.GARBLED,
    rows: list[Row] | None = None,
    *,
    role: str = "shutter",
    step: Step = STEP,
    applied: bool = True,
    library: bool = False,
    light: bool = False,
    notices: Sequence[tuple[str, dict[str, Any]]] = (),
    **outcome: Any,
) -> Report:
    came = Outcome(True, status="finished", safe_state="confirmed", warnings=["always warned"])
    for name, value in outcome.items():
        setattr(came, name, value)
    rows = [record(0), record(1)] if rows is None else rows
    return Report(step, kind, role, library, applied, came, rows, 0, light, notices=list(notices))


def tried_again(role: str = "shutter", action: str = "retry") -> tuple[str, dict[str, Any]]:
    error = {"type": "InstrumentError", "what": "no answer", "where": "", "role": role}
    return "incident", {"error": error, "role": role, "point": 0, "attempt": 0, "action": action}


LEFT_OUT = ("skipped", {"point": 0, "stage": "coarse", "why": "3 attempts failed: no answer"})
TOLD = "the shutter failed once during a point; `labctl show` lists the incidents"


def failed(what: str, role: str = "") -> dict[str, Any]:
    return {"status": "failed", "error": {"type": "InstrumentError", "what": what, "where": "", "role": role}}


def unconfirmed(role: str) -> dict[str, Any]:
    steps = [{"role": role, "action": "close", "confirmed": False, "evidence": "no answer"}]
    return {"safe_state": "unconfirmed", "safe_report": {"steps": steps}}


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (report(), Verdict.SAME),
        (report(rows=[record(0, open_s=9.0), record(1)]), Verdict.SAME),
        (report(rows=[record(0, energy=1.05), record(1)]), Verdict.NOISE),
        (report(rows=[record(0, spectrum=107.0), record(1)]), Verdict.NOISE),
        (report(rows=[record(0, energy=1.2), record(1)]), Verdict.STORED),
        (report(rows=[record(0, spectrum=150.0), record(1)]), Verdict.STORED),
        (report(rows=[record(0, energy=float("nan")), record(1)]), Verdict.STORED),
        (report(rows=[record(0)]), Verdict.STORED),
        (report(rows=[record(1), record(0)]), Verdict.STORED),
        (report(Kind.DIGIT, [record(0, energy=1.2), record(1)]), Verdict.UNDETECTABLE),
        (report(rows=[record(0, energy=1.2), record(1)], warnings=["the energy is off"]), Verdict.WARNED),
        (report(rows=[record(0, energy=1.2)], **failed("shutter")), Verdict.STORED),
        (report(rows=[], **failed("no answer", "shutter")), Verdict.FAILED),
        (report(rows=[], role="energy_meter", **failed("no pulse reached the energy meter")), Verdict.FAILED),
        (report(rows=[], **failed("something is wrong", "detector")), Verdict.UNNAMED),
        (report(rows=[], applied=False), Verdict.NOTHING),
        (report(light=True), Verdict.LIE),
        (report(Kind.STUCK, light=True, **unconfirmed("shutter")), Verdict.SAME),
        (report(Kind.GARBLED, **unconfirmed("shutter")), Verdict.UNSAFE),
        (report(Kind.UNPLUGGED, **unconfirmed("detector")), Verdict.UNSAFE),
        (report(Kind.SILENCE, **unconfirmed("shutter")), Verdict.UNSAFE),
        (report(Kind.SILENCE, library=True, **unconfirmed("shutter")), Verdict.SAME),
        (report(Kind.DISCONNECT, step=CONNECTING, **unconfirmed("shutter")), Verdict.SAME),
        (Report(STEP, Kind.LATE, "shutter", hang="5 s beyond"), Verdict.HANG),
        (report(notices=[tried_again()]), Verdict.AGAIN),
        (report(rows=[record(0, energy=1.05), record(1)], notices=[tried_again()]), Verdict.AGAIN),
        (report(notices=[tried_again("detector")]), Verdict.UNNAMED),
        (report(rows=[record(0, energy=1.2), record(1)], notices=[tried_again()]), Verdict.STORED),
        (
            report(rows=[record(0, energy=1.2), record(1)], notices=[tried_again()], warnings=["always warned", TOLD]),
            Verdict.STORED,
        ),
        (report(rows=[record(0), record(0), record(1)], notices=[tried_again()]), Verdict.STORED),
        (report(rows=[record(1)], notices=[tried_again(action="skip"), LEFT_OUT]), Verdict.SKIPPED),
        (report(rows=[record(0)], notices=[tried_again(action="skip"), LEFT_OUT]), Verdict.STORED),
        (report(rows=[record(1)], notices=[tried_again(action="skip")]), Verdict.STORED),
        (report(rows=[], notices=[tried_again()], **failed("something is wrong", "detector")), Verdict.FAILED),
    ],
)
def test_verdicts(given: Report, verdict: Verdict) -> None:
    assert judge(given, noise()).verdict is verdict


def test_a_replay_that_was_ended_because_it_had_recovered_is_judged_by_what_it_stored() -> None:
    aborted = {"status": "aborted", "error": {"type": "Aborted", "what": "the run was stopped on request"}}
    given = report(rows=[record(0)], notices=[tried_again()], **aborted)
    assert judge(given, noise()).verdict is Verdict.ABORTED
    given.cut = True
    assert judge(given, noise()).verdict is Verdict.AGAIN
    given.rows = [record(1)]
    assert judge(given, noise()).verdict is Verdict.STORED
    given.rows = [record(0, energy=1.2)]
    assert judge(given, noise()).verdict is Verdict.STORED


def test_a_fluence_that_is_another_but_true_is_told_from_a_wrong_one() -> None:
    def at(measured: float, true: float) -> Row:
        return Row("points", 0, {"fluence_uj_cm2": measured}, {}, {"fluence_uj_cm2": true})

    noise = Noise([at(10.1, 10.0)], [[at(10.0, 10.0)], [at(10.2, 10.0)]], ["always warned"])
    for measured, true, verdict in ((15.0, 15.0, Verdict.ELSEWHERE), (15.0, 10.0, Verdict.STORED)):
        assert judge(report(Kind.RESET, [at(measured, true)], role="attenuator"), noise).verdict is verdict


def test_a_temperature_that_is_another_but_true_is_told_from_a_wrong_one() -> None:
    def at(measured: float, true: float, took_s: float = 60.0) -> Row:
        return Row("heating", 0, {"reached_c": measured, "took_s": took_s}, {}, {"temperature_c": true})

    noise = Noise([at(32.1, 32.0)], [[at(32.0, 32.0)], [at(32.2, 32.0)]], ["always warned"])
    for measured, true, verdict in ((29.0, 29.1, Verdict.AGAIN), (29.0, 32.0, Verdict.STORED)):
        given = report(rows=[at(measured, true, 90.0)], notices=[tried_again()])
        assert judge(given, noise).verdict is verdict


def test_a_pixel_that_is_marked_as_hit_by_a_cosmic_ray_is_no_wrong_number() -> None:
    def seen(hits: Sequence[int], marked: Sequence[int]) -> Row:
        spectrum, mask = np.full(200, 100.0), np.zeros(200, np.uint8)
        spectrum[list(hits)] += 5000.0
        mask[list(marked)] = COSMIC
        return Row("points", 0, {"cosmic_pixels": len(marked)}, {"spectrum": spectrum, "mask": mask}, {})

    others = [
        [Row("points", 0, {"cosmic_pixels": 0}, {**seen((), ()).arrays, "spectrum": np.full(200, 100.0 + n)}, {})]
        for n in range(1, 4)
    ]
    noise = Noise([seen((), ())], others, ["always warned"])
    for hits, marked, verdict in (
        ((7, 8), (7, 8), Verdict.AGAIN),
        ((7, 8), (7,), Verdict.STORED),
        (range(50), range(50), Verdict.STORED),
    ):
        assert judge(report(rows=[seen(hits, marked)], notices=[tried_again()]), noise).verdict is verdict


@pytest.mark.parametrize("role", ["heating_stage", "lamp"])
def test_what_stresses_the_sample_must_not_be_on_where_it_was_confirmed_to_be_off(role: str) -> None:
    hot = report(Kind.STUCK, role=role)
    hot.left_on = (role,)
    assert judge(hot, noise()).verdict is Verdict.LIE
    told = report(Kind.STUCK, role=role, **unconfirmed(role))
    told.left_on = (role,)
    assert judge(told, noise()).verdict is Verdict.SAME
    elsewhere = report(Kind.UNPLUGGED, **unconfirmed("shutter"))
    elsewhere.left_on = (role,)
    assert judge(elsewhere, noise()).verdict is Verdict.LIE


def test_commands_are_alike_whatever_their_numbers() -> None:
    def word(command: str) -> str:
        return Step(Transaction(0, "attenuator", command, 0.0, False, ()), "coarse", 0).word

    assert word("b'0ma00001A2B'") == word("b'0ma00023FFF'") == "b'#ma#'"
    assert word("b'SENS:ENER:RANG 1.5E-07\\n'") == word("b'SENS:ENER:RANG 2E-05\\n'")
    assert word("b'ens?\\r'") == "b'ens?\\r'"


def test_every_procedure_with_a_table_exists() -> None:
    for name in PLANS:
        assert name == procedure_class(name).NAME
