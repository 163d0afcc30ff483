"""Programs of other people drive the emulators of the APT mounts, each from a process of its own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from drivers.attenuator.emulators.apt_rotation import K10CR1Emulator, KDC101Emulator
from labctl.sim.server import LaboratoryServer

EMULATORS = {"thorlabs-kdc101": KDC101Emulator, "thorlabs-k10cr1": K10CR1Emulator}

APT_DEVICE = """
import json, sys, time
from thorlabs_apt_device import KDC101

def wait(done):
    for _ in range(400):
        if done(stage.status):
            return
        time.sleep(0.05)
    raise SystemExit(f"never came: {stage.status}")

stage = KDC101(serial_port=sys.argv[1], serial_number=None, home=False)
found = {}
wait(lambda status: status["channel_enabled"])
stage.set_velocity_params(acceleration=14561, max_velocity=1000000)
stage.set_move_params(0)
time.sleep(0.3)
stage.home()
wait(lambda status: status["homing"])
wait(lambda status: status["homed"] and not status["homing"])
found["homed at"] = stage.status["position"]
stage.move_absolute(5000)
wait(lambda status: abs(status["position"] - 5000) <= 2 and status["settled"])
found["moved to"] = stage.status["position"]
stage.move_relative(-2000)
wait(lambda status: abs(status["position"] - 3000) <= 4 and status["settled"])
stage.move_velocity("forward")
wait(lambda status: status["moving_forward"] or status["moving_reverse"])
stage.stop()
wait(lambda status: status["settled"])
found["velocity"] = stage.velparams["max_velocity"]
found["backlash"] = stage.genmoveparams["backlash_distance"]
found["jog step"] = stage.jogparams["step_size"]
found["home velocity"] = stage.homeparams["home_velocity"]
stage.set_enabled(False)
wait(lambda status: not status["channel_enabled"])
errors = []
stage.register_error_callback(lambda **error: errors.append(error))
stage.move_absolute(0)
time.sleep(0.3)
found["still at"] = abs(stage.status["position"]) > 4
stage.close()
print(json.dumps(found))
"""

PYLABLIB = """
import json, sys, warnings
from pylablib.devices import Thorlabs

stage = Thorlabs.KinesisMotor(("serial", sys.argv[1]), scale="stage")
info = stage.get_device_info()
found = {"model": info.model_no, "serial": info.serial_no, "units": stage.get_scale_units(), "stage": stage.get_stage()}
stage.setup_velocity(acceleration=25, max_velocity=25)
found["velocity"] = stage.get_velocity_parameters()
stage.setup_gen_move(backlash_distance=0)
found["homed before"] = stage.is_homed()
stage.home(timeout=60)
found["homed at"] = stage.get_position()
for angle_deg in (15.0, 12.5):
    stage.move_to(angle_deg)
    stage.wait_move(timeout=30)
    found[str(angle_deg)] = stage.get_position()
stage.move_by(-2.5)
stage.wait_move(timeout=30)
found["moved by"] = stage.get_position()
stage.jog("+")
found["jogs"] = stage.is_moving()
stage.stop(timeout=30)
found["stopped"] = not stage.is_moving()
found["status"] = stage.get_status()
found["home velocity"] = stage.get_homing_parameters().velocity
found["limit"] = stage.get_limit_switch_parameters().sw_kind
stage.set_position_reference(-40.0)
found["counter set"] = stage.get_position()
stage.close()
print(json.dumps(found))
"""


def serve(driver: str) -> LaboratoryServer:
    instrument = SimpleNamespace(driver=driver, resource="sim:", options={"velocity_deg_s": 25.0})
    laboratory = {"wave_plate": {"initial_deg": 5.0}}
    bench = SimpleNamespace(name="test", laboratory=laboratory, instruments={"attenuator": instrument})
    return LaboratoryServer(bench, factories={driver: EMULATORS[driver]}, speed=4.0)


def drive(program: str, address: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", program, address], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Invalid" not in done.stderr and "unrecognised" not in done.stderr, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform == "win32", reason="a pty is needed")
@pytest.mark.skipif(importlib.util.find_spec("thorlabs_apt_device") is None, reason="extra `clients` is missing")
def test_thorlabs_apt_device_on_a_pty():
    with serve("thorlabs-kdc101") as addresses:
        found = drive(APT_DEVICE, addresses["instruments"]["attenuator"]["pty"])
    assert found.pop("moved to") == pytest.approx(5000, abs=2)
    assert found == {
        "homed at": 0,
        "velocity": 1000000,
        "backlash": 0,
        "jog step": 9600,
        "home velocity": 1073542,
        "still at": True,
    }


@pytest.mark.skipif(importlib.util.find_spec("pylablib") is None, reason="extra `clients` is missing")
@pytest.mark.parametrize(
    ("driver", "model", "stage", "accuracy_deg"),
    [("thorlabs-kdc101", "KDC101", "PRM1-Z8", 0.002), ("thorlabs-k10cr1", "K10CR1", "K10CR1", 2e-5)],
)
def test_pylablib_on_tcp(driver, model, stage, accuracy_deg):
    with serve(driver) as addresses:
        found = drive(PYLABLIB, f"socket://{addresses['instruments']['attenuator']['tcp']}")
    assert (found["model"], found["stage"], found["units"]) == (model, stage, "deg")
    assert found["velocity"] == pytest.approx([0, 25, 25], rel=3e-3)
    assert found["homed before"] is False and found["homed at"] == 0
    assert found["15.0"] == pytest.approx(15.0, abs=accuracy_deg)
    assert found["12.5"] == pytest.approx(12.5, abs=accuracy_deg)
    assert found["moved by"] == pytest.approx(10.0, abs=2 * accuracy_deg)
    assert found["jogs"] and found["stopped"]
    assert {"connected", "homed", "settled", "enabled"} <= set(found["status"])
    assert found["home velocity"] == pytest.approx(25.0, rel=1e-3) and found["limit"] == "ignore"
    assert found["counter set"] == pytest.approx(-40.0, abs=2e-3)
