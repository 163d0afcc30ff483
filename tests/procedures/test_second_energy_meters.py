"""Another energy meter changes one line of the bench file, and the threshold stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.config.locate import locate
from labctl.store.run import open_run

THRESHOLD_UJ_CM2 = 28.0


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["gentec-maestro", "coherent-labmax"])
def test_the_threshold_does_not_depend_on_the_energy_meter(
    sweep: Callable[..., Any], tmp_path: Path, driver: str
) -> None:
    source = locate("benches", "simulated")
    calibrations = (source.parent / "calibrations").as_posix()
    text = source.read_text(encoding="utf-8").replace('"calibrations/', f'"{calibrations}/')
    assert text.count('driver = "thorlabs-pm100d"') == 1
    path = tmp_path / "bench.toml"
    path.write_text(text.replace("thorlabs-pm100d", driver), encoding="utf-8")
    outcome = sweep(bench=str(path), seed=0)
    assert (outcome.status, outcome.safe_state) == ("finished", "confirmed"), outcome.error
    assert outcome.result["threshold"]["value"] == pytest.approx(THRESHOLD_UJ_CM2, rel=0.08)
    with open_run(outcome.run) as run:
        columns = run.columns()
        error = np.asarray(columns["fluence_error_uj_cm2"]) / np.asarray(columns["fluence_uj_cm2"])
    # 1.6 % from pulse to pulse, over 100 pulses.
    assert np.nanmedian(error) == pytest.approx(0.0016, rel=0.2)
