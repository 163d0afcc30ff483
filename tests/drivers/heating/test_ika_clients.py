"""Programs of other people drive the emulator of the hot plate, each from a process of its own, over TCP."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from drivers.heating.emulators.ika import IKAEmulator
from labctl.sim.server import LaboratoryServer

SPEED = 100.0

# Its waits are shortened like the time of the laboratory; the client itself is as its authors wrote it.
MATTERLAB = f"""
import json, sys, time
wait = time.sleep
time.sleep = lambda duration_s: wait(duration_s / {SPEED})
from matterlab_hotplates.ika_hotplate import IKAHotplate

plate = IKAHotplate(com_port=f"socket://{{sys.argv[1]}}")
found = {{"before": plate.temp}}
plate.temp = 60
plate.rpm = 300
time.sleep(120)
found |= {{"after": plate.temp, "rpm": plate.rpm, "set": plate._query_hotplate("IN_SP_1")}}
found["heats"] = plate._query_hotplate("STATUS_1")
plate.stand_by()
found |= {{"then": plate._query_hotplate("STATUS_1"), "stirs": plate._query_hotplate("STATUS_4")}}
print(json.dumps(found))
"""

IKA_CONTROL = """
import asyncio, json, sys
from ika import Hotplate

async def drive():
    async with Hotplate(sys.argv[1]) as plate:
        await plate.set("process", 60)
        await plate.control("heater", True)
        await plate.set("shaker", 300)
        await plate.control("motor", True)
        seen = await plate.get()
        seen["name"] = await plate.query("IN_NAME")
        await plate.reset()
        seen["after reset"] = await plate.query("STATUS_1")
        return seen

print(json.dumps(asyncio.run(drive())))
"""


@contextmanager
def served(speed: float) -> Iterator[str]:
    instrument = SimpleNamespace(driver="ika-hotplate", resource="sim:", options={})
    bench = SimpleNamespace(name="test", laboratory=None, instruments={"heating_stage": instrument})
    with LaboratoryServer(bench, speed=speed, factories={"ika-hotplate": IKAEmulator}) as addresses:
        yield addresses["instruments"]["heating_stage"]["tcp"]


def run_client(client: str, address: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", client, address], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(
    importlib.util.find_spec("matterlab_hotplates") is None, reason="matterlab-hotplates (extra `clients`) is missing"
)
def test_matterlab_heats_and_stirs() -> None:
    with served(SPEED) as address:
        seen = run_client(MATTERLAB, address)
    assert seen["before"] == pytest.approx(25.0, abs=1.0)
    assert 30.0 < seen["after"] < 62.0
    assert seen["rpm"] == 300 and seen["set"] == "60.0"
    assert (seen["heats"], seen["then"], seen["stirs"]) == ("11", "12", "12")


@pytest.mark.skipif(importlib.util.find_spec("ika") is None, reason="ika-control (extra `clients`) is missing")
def test_ika_control_heats_and_stirs() -> None:
    with served(1.0) as address:
        seen = run_client(IKA_CONTROL, address)
    assert seen["name"].strip() == "RCT digital"
    assert seen["process_temp"]["setpoint"] == 60.0 and seen["process_temp"]["active"] is True
    assert 24.0 < seen["process_temp"]["actual"] < 40.0
    assert seen["speed"] == {"setpoint": 300, "actual": 300, "active": True}
    assert seen["after reset"] is False
