"""Serves the simulated laboratory of a bench to other processes: what `labctl sim serve` does.

Addresses are loopback unless told otherwise: nobody is asked who they are.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

from labctl.errors import InputError, LabctlError
from labctl.processes import end_signals
from labctl.sim.serving import LaboratoryService
from labctl.sim.stand import EmulatorFactory, Stand
from labctl.sim.transport import table_values, without_served_at

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
_START_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 10.0


def build_stand(
    bench: Any, sample: Any = None, seed: int = 0, factories: Mapping[str, EmulatorFactory] | None = None
) -> Stand:
    """Build the laboratory of a bench and all its emulators.

    :param bench: Bench configuration (labctl.config): ``name``, ``instruments``, ``laboratory`` are read.
    :param sample: Sample configuration, whose ``truth`` is read; None for an empty sample holder.
    :param factories: Emulators by driver name; those of the installed packages if not given.

    Raises InputError for a bench that is not wholly simulated in process.
    """
    from labctl.sim.laboratory import create

    elsewhere = [
        f"{role} at {instrument.resource}"
        for role, instrument in bench.instruments.items()
        if instrument.resource.partition(":")[0] != "sim"
    ]
    if elsewhere:
        raise InputError(
            f"the bench {bench.name!r} cannot be served: {', '.join(elsewhere)} is not simulated here",
            where="instruments.ROLE.resource",
            todo='serve a bench whose resources are all "sim:"',
        )
    laboratory = create(without_served_at(bench.laboratory), getattr(sample, "truth", None), seed)
    stand = Stand(laboratory, factories)
    for role, instrument in bench.instruments.items():
        stand.put(role, instrument.driver, table_values(instrument.options))
    return stand


def run_server(
    bench: Any,
    sample: Any = None,
    *,
    ready: Callable[[dict[str, Any]], None],
    seed: int = 0,
    speed: float = 1.0,
    host: str = LOOPBACK,
    port: int = 0,
    factories: Mapping[str, EmulatorFactory] | None = None,
    started: Callable[[LaboratoryService], None] | None = None,
) -> None:
    """Serve a bench until a signal asks it to end (or, from another thread, the service's ``stop``); close everything.

    :param ready: Called once all ports listen, with the addresses: ``{"bench": NAME, "instruments": {ROLE: {"driver":
        ..., "tcp": "127.0.0.1:PORT", "pty": "/dev/pts/N" or None}}, "laboratory": {"tcp": "127.0.0.1:PORT"}}``. The
        ``tcp`` of an instrument that is a vendor library is the framed port of the laboratory.
    :param speed: Laboratory seconds per real second for raw clients.
    :param port: Framed port; any free one if 0.
    :param started: Called with the service before it listens.

    Other parameters as for :func:`build_stand`. Raises InputError for a bench that cannot be served, a speed that is
    not positive, or a port that is taken.
    """
    if not speed > 0:
        raise InputError(f"found {speed:g} as speed; allowed: a number above 0", where="--speed")
    stand = build_stand(bench, sample, seed, factories)
    asyncio.run(_serve(LaboratoryService(bench.name, stand, seed=seed, speed=speed, host=host), port, ready, started))


class LaboratoryServer:
    """A bench served in a child process, for tests and for whoever needs a laboratory that outlives their process.

    A context manager: gives the addresses (see :func:`run_server`), ends the child on leaving. The child ends by
    itself when its parent dies. Bench and sample must be picklable; a script that uses this needs the usual
    ``if __name__ == "__main__"``.

    :param start_timeout_s: Real time allowed for the child to listen.
    """

    def __init__(
        self,
        bench: Any,
        sample: Any = None,
        *,
        seed: int = 0,
        speed: float = 1.0,
        port: int = 0,
        factories: Mapping[str, EmulatorFactory] | None = None,
        start_timeout_s: float = _START_TIMEOUT_S,
    ) -> None:
        options = {"seed": seed, "speed": speed, "port": port, "factories": factories}
        context = multiprocessing.get_context("spawn")
        self._ours, self._theirs = context.Pipe()
        self._process = context.Process(
            target=_serve_as_child, args=(bench, sample, options, self._theirs), name="labctl laboratory", daemon=True
        )
        self._start_timeout_s = start_timeout_s

    @property
    def pid(self) -> int | None:
        """Get the process id of the child, None before the start."""
        return self._process.pid

    def __enter__(self) -> dict[str, Any]:
        self._process.start()
        self._theirs.close()
        try:
            if not self._ours.poll(self._start_timeout_s):
                raise LabctlError(f"the laboratory did not start within {self._start_timeout_s:g} s")
            addresses = self._ours.recv()
        except EOFError as error:
            self._end()
            raise LabctlError(f"the laboratory died at its start (exit code {self._process.exitcode})") from error
        except BaseException:
            self._end()
            raise
        if isinstance(addresses, LabctlError):
            self._end()
            raise addresses
        return addresses

    def __exit__(self, *exception: object) -> None:
        self._end()

    def kill(self) -> None:
        """Kill the child at once, as a fault."""
        self._process.kill()
        self._process.join(_END_TIMEOUT_S)

    def _end(self) -> None:
        self._ours.close()
        self._process.terminate()
        self._process.join(_END_TIMEOUT_S)
        if self._process.is_alive():
            log.error("the laboratory (process %s) did not end and is killed", self._process.pid)
            self._process.kill()
            self._process.join(_END_TIMEOUT_S)


async def _serve(
    service: LaboratoryService,
    port: int,
    ready: Callable[[dict[str, Any]], None],
    started: Callable[[LaboratoryService], None] | None,
) -> None:
    if started is not None:
        started(service)
    if threading.current_thread() is threading.main_thread():
        _stop_on_signals(service)
    try:
        await service.run(ready, port)
    except OSError as error:
        raise InputError(
            f"cannot listen on {service.host}, port {port}: {error}", todo="choose another port"
        ) from error


def _stop_on_signals(service: LaboratoryService) -> None:
    loop = asyncio.get_running_loop()
    for number in end_signals():
        try:
            loop.add_signal_handler(number, service.stop)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: service.stop())


def _serve_as_child(bench: Any, sample: Any, options: dict[str, Any], parent: Connection) -> None:
    def watch_parent(service: LaboratoryService) -> None:
        def wait_for_its_end() -> None:
            try:
                parent.recv()
            except (EOFError, OSError):
                service.stop()

        # Ends with the process at the latest: a daemon.
        threading.Thread(target=wait_for_its_end, name="parent watch", daemon=True).start()

    try:
        run_server(bench, sample, ready=parent.send, started=watch_parent, **options)
    except LabctlError as error:
        parent.send(error)
