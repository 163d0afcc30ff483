"""The chamber around the sample."""

from __future__ import annotations

import pytest

from labctl.sim.vacuum import Vacuum, VacuumTruth


def test_it_holds_air_until_it_is_pumped_down_and_again_when_vented() -> None:
    vacuum = Vacuum(VacuumTruth())
    assert vacuum.pressure_mbar(0.0) == 1013.0
    vacuum.pump_down(10.0)
    assert vacuum.pressure_mbar(10.0) == pytest.approx(1013.0)
    assert vacuum.pressure_mbar(70.0) == pytest.approx(1013.0 / 7.389, rel=1e-3)
    vacuum.pump_down(100.0)
    assert vacuum.pressure_mbar(1000.0) == pytest.approx(1e-6, rel=0.01)
    vacuum.vent(2000.0)
    assert vacuum.pressure_mbar(2000.0) == 1013.0
