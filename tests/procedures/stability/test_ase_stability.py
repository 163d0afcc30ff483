"""A film and a laser under their own pump on the simulated bench: pulses by the counter, what is left, two bands."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from labctl.errors import InputError
from labctl.run.outcome import Outcome
from labctl.store.run import open_run


def test_blocks_count_every_pulse(sweep: Callable[..., Outcome]) -> None:
    outcome = sweep(
        "ase-stability",
        bench="simulated-stability",
        sample="cdse-cds-zno",
        times="10, 20, 30, 40 min",
        report_at="40 min",
        second_band="567, 590 nm",
    )
    result = outcome.result
    assert outcome.status == "finished"
    assert result["remaining_40min"]["value"] == pytest.approx(0.88, abs=0.04)
    assert result["second_remaining_40min"]["value"] == pytest.approx(0.91, abs=0.03)
    with open_run(outcome.run) as run:
        shots, open_s = run.column("shots"), run.column("open_s")
        assert shots[-1] == result["shots"]["value"] == run.column("block_shots").sum()
        # Counted, not computed; but the shutter's own times agree with the count.
        assert np.diff(shots) == pytest.approx(1e3 * open_s[1:], abs=60)


def test_blocks_beyond_the_dose_of_the_spot_are_refused(sweep: Callable[..., Outcome]) -> None:
    with pytest.raises(InputError, match="dose_per_spot"):
        outcome = sweep(
            "ase-stability", bench="simulated-stability", sample="cdse-cds-zno", duration="20 h", every="1 h"
        )
        raise InputError(str(outcome.error))
