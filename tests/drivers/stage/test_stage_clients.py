"""Programs of other people drive the emulators of the stages, each from a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from drivers.stage.emulators.esp300 import ESP300Emulator
from drivers.stage.emulators.smc100 import SMC100Emulator
from labctl.sim.server import LaboratoryServer

QMI_PYTHON = os.environ.get("LABCTL_QMI_PYTHON", sys.executable)
PYMEASURE = """
import json, sys, time
from pymeasure.instruments.newport import ESP300

controller = ESP300(sys.argv[1], read_termination="\\r\\n", write_termination="\\r", visa_library="@py")
axis = controller.x
found = {"units": axis.units, "limits": [axis.left_limit, axis.right_limit], "enabled": [axis.enabled]}
axis.position = 3.2
found["errors"] = [str(error) for error in controller.errors]
axis.enable()
found["enabled"].append(axis.enabled)
axis.home()
time.sleep(0.1)
found["done"] = [axis.motion_done]
axis.wait_for_stop()
found["done"].append(axis.motion_done)
axis.position = 0.4
axis.wait_for_stop(delay=0.1)
found["positions"] = [axis.position]
axis.define_position(7)
found["positions"].append(axis.position)
axis.right_limit = 9
axis.position = 10
found["errors"] += [str(error) for error in controller.errors]
controller.clear_errors()
axis.disable()
found["enabled"].append(axis.enabled)
print(json.dumps(found))
"""
QMI = """
import json, sys, time
import qmi
from qmi.core.exceptions import QMI_InstrumentException
from qmi.instruments.newport import Newport_Smc100Cc
from qmi.instruments.newport.actuators import UTS100PP

qmi.start("labctl-test", None)
stage = qmi.make_instrument("stage", Newport_Smc100Cc, f"tcp:{sys.argv[1]}", "1234", {1: UTS100PP})
stage.open()
identity = stage.get_idn()
found = {"id": [identity.model, identity.version], "states": [stage.get_positioner_error_and_state()]}
try:
    stage.move_absolute(1.5)
except QMI_InstrumentException as error:
    found["not homed"] = str(error)
stage.home_search()
for _ in range(100):
    if (state := stage.get_positioner_error_and_state())[1].startswith("READY"):
        break
    time.sleep(0.1)
found["states"].append(state)
stage.move_absolute(1.5)
time.sleep(1.5)
found["position"] = [stage.get_position(), stage.get_setpoint()]
stage.move_relative(-0.5)
time.sleep(1.0)
found["position"].append(stage.get_position())
found["velocity"] = stage.get_velocity()
found["limits"] = [stage.get_negative_software_limit(), stage.get_positive_software_limit()]
try:
    stage.move_relative(99)
except QMI_InstrumentException as error:
    found["beyond"] = str(error)
stage.stop_motion()
stage.close()
qmi.stop()
print("FOUND " + json.dumps(found))
"""


def run(program: str, address: str, *, python: str = sys.executable, where: Path, mark: str = "") -> dict[str, Any]:
    environment = {**os.environ, "HOME": str(where), "USERPROFILE": str(where)}
    done = subprocess.run(
        [python, "-c", program, address],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=where,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith(mark or "{"))
    return json.loads(line.removeprefix(mark))


def bench(role: str, driver: str, emulator: Callable[..., Any], speed: float) -> LaboratoryServer:
    instrument = SimpleNamespace(driver=driver, resource="sim:", options={})
    config = SimpleNamespace(name="test", laboratory=None, instruments={role: instrument})
    return LaboratoryServer(config, factories={driver: emulator}, speed=speed)


@pytest.mark.parametrize("wire", ["tcp", pytest.param("pty", marks=pytest.mark.slow)])
def test_pymeasure_drives_an_esp300(wire: str, tmp_path: Path) -> None:
    with bench("slit_far", "newport-esp300", ESP300Emulator, 2.0) as addresses:
        address = addresses["instruments"]["slit_far"][wire]
        if address is None:
            pytest.skip("there are no ptys here")
        host, _, port = address.rpartition(":")
        resource = f"TCPIP::{host}::{port}::SOCKET" if wire == "tcp" else f"ASRL{address}::INSTR"
        found = run(PYMEASURE, resource, where=tmp_path)
    assert found["units"] == "millimeter" and found["limits"] == [-5.0, 50.0]
    assert found["enabled"] == [False, True, False] and found["done"] == [False, True]
    assert found["positions"] == [0.4, 7.0]
    refused, beyond = found["errors"]
    assert "axis 1" in refused and "MOTOR NOT ENABLED" in refused and "POSITIVE SOFTWARE LIMIT" in beyond


@pytest.mark.slow
@pytest.mark.skipif(
    sys.executable == QMI_PYTHON and find_spec("qmi") is None,
    reason="LABCTL_QMI_PYTHON names no environment with qmi (extra clients-qmi)",
)
def test_qmi_drives_an_smc100(tmp_path: Path) -> None:
    with bench("slit_far", "newport-smc100", SMC100Emulator, 1.0) as addresses:
        address = addresses["instruments"]["slit_far"]["tcp"]
        found = run(QMI, address, python=QMI_PYTHON, where=tmp_path, mark="FOUND ")
    assert found["id"] == ["SMC100CC", "2.0.1"]
    assert found["states"][0] == [[], "NOT REFERENCED from RESET"] and found["states"][1] == [[], "READY from HOMING."]
    assert "READY" in found["not homed"] or "NOT REFERENCED" in found["not homed"]
    assert found["position"] == [1.5, 1.5, 1.0] and found["velocity"] == 2.0 and found["limits"] == [-5.0, 50.0]
    assert found["beyond"].startswith("Error G: Displacement out of limits")
