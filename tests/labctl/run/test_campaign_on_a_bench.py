"""A campaign on a simulated bench whose energy meter falls silent once: engine and files are the real ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.config.campaign import load_campaign
from labctl.run.campaign_status import campaign_status
from labctl.run.engine import Engine
from labctl.run.guard_line import GuardLine
from labctl.run.queue import run_queue
from labctl.run.queued_runs import QueuedRun
from labctl.run.request import RunRequest, prepare
from labctl.sim.faults import Fault, Kind, Transaction, injected
from labctl.store.catalogue import list_runs
from labctl.store.run import open_run

CAMPAIGN = """\
name = "threshold and above"
on_failure = "stop"
retries = 1
retry_wait = "10 min"

[[run]]
name = "threshold"
procedure = "fluence-sweep"
bench = "simulated"
samples = ["cdse-cds-zno", "cdse-cds"]
parameters = { coarse-points = 6, fine-points = 12, averages = 1 }

[[run]]
name = "above"
procedure = "fluence-sweep"
bench = "simulated"
samples = ["cdse-cds-zno", "cdse-cds"]

[run.parameters]
averages = 1
return-points = 0
fluences = { from = "threshold", result = "threshold", times = [0.5, 1, 2, 3], at_most = "200 uJ/cm^2" }
"""


class NoGuard(GuardLine):
    """A line to nobody."""

    def say(self, kind: str, **data: Any) -> None:
        pass


class Bench:
    """Carries runs out in this process, so that a fault can be put into one.

    :param spoilt: Name of the run whose energy meter no longer reads in its first attempt.
    """

    def __init__(self, spoilt: str) -> None:
        self.spoilt = spoilt
        self.ran: list[str] = []

    def __call__(self, run: QueuedRun, request: RunRequest, on_event: Callable[[Any], None]) -> dict[str, Any]:
        self.ran.append(run.name)
        readings = 0

        def silence(transaction: Transaction) -> Fault | None:
            nonlocal readings
            readings += transaction.role == "energy_meter"
            silent = transaction.role == "energy_meter" and "READ" in transaction.command and readings > 60
            return Fault(Kind.SILENCE) if silent else None

        broken = run.name == self.spoilt and self.ran.count(run.name) == 1
        with injected(silence if broken else lambda transaction: None):
            outcome = Engine(prepare(request.model_copy(update={"lease": False})), NoGuard()).run()
        on_event({"event": "started", "run": outcome.run})
        return {**outcome.as_dict(), "exit": outcome.exit_code}


@pytest.mark.slow
def test_it_hands_results_on_and_survives_an_instrument(tmp_path: Path) -> None:
    path = tmp_path / "above.toml"
    path.write_text(CAMPAIGN, encoding="utf-8")
    bench = Bench("above, cdse-cds-zno")
    outcome = run_queue(load_campaign(path), out=str(tmp_path / "runs"), virtual_time=True, run_one=bench)
    assert (outcome["status"], outcome["exit"], outcome["left"]) == ("finished", 0, [])
    assert [run["attempts"] for run in outcome["runs"]] == [1, 1, 2, 1]
    assert {run["safe_state"] for run in outcome["runs"]} == {"confirmed"}
    found = {summary.path.stem: summary for summary in list_runs(tmp_path / "runs")}
    assert len(found) == 4, "the run that failed went on in its own file"
    for before, after in ((0, 2), (1, 3)):
        threshold = found[Path(outcome["runs"][before]["run"]).stem].results["threshold"]["value"]
        with open_run(outcome["runs"][after]["run"]) as run:
            asked = run.header["parameters"]["fluences"]
            assert asked == pytest.approx([0.5 * threshold, threshold, 2 * threshold, 3 * threshold], rel=1e-4)
            origin = run.header["request"]["origin"]["fluences"]
            assert origin["run"] == outcome["runs"][before]["name"]
    with open_run(outcome["runs"][2]["run"]) as run:
        (resumed,) = run.events("resumed")
        assert resumed.data["gap_s"] == pytest.approx(600.0, abs=60.0), "on the clock of the campaign"
    page = Path(outcome["report"]).read_text(encoding="utf-8")
    for words in ("begun 2 times", "attempt that failed", "Taken from earlier runs", "SIMULATED", "data:image/png"):
        assert words in page
    status = campaign_status(Path(outcome["state"]))
    assert status["status"] == "finished" and json.dumps(status)
    assert [run["key_result"]["name"] for run in status["runs"][:2]] == ["threshold"] * 2
