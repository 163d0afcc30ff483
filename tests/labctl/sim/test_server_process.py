"""A serving process: how it ends by a signal, and with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

_WAIT_S = 20.0


@pytest.mark.skipif(sys.platform == "win32", reason="signals to another process end it at once there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_in_order(number: signal.Signals) -> None:
    program = textwrap.dedent("""
        from types import SimpleNamespace
        from labctl.sim.server import run_server
        shutter = SimpleNamespace(driver="thorlabs-sc10", resource="sim:", options={})
        bench = SimpleNamespace(name="b", instruments={"shutter": shutter}, laboratory={})
        run_server(bench, ready=lambda addresses: print("ready", flush=True))
        print("ended in order", flush=True)
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == "ended in order\n"
        assert process.wait(_WAIT_S) == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="orphans are not adopted there")
def test_a_child_does_not_outlive_a_parent_that_is_killed() -> None:
    program = textwrap.dedent("""
        import time
        from types import SimpleNamespace
        from labctl.sim.server import LaboratoryServer
        if __name__ == "__main__":
            shutter = SimpleNamespace(driver="thorlabs-sc10", resource="sim:", options={})
            bench = SimpleNamespace(name="b", instruments={"shutter": shutter}, laboratory={})
            server = LaboratoryServer(bench)
            with server:
                print(server.pid, flush=True)
                time.sleep(600)
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
        process.wait(_WAIT_S)
        deadline = time.monotonic() + _WAIT_S
        while _lives(child) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _lives(child)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
