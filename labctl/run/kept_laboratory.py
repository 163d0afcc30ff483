"""A simulated laboratory that outlives the runs on it, for runs that take turns on one bench of emulators.

A real bench stays as it is while nobody measures; an emulator within the process of a run is gone with it. Here the
emulators of a bench live in a process of their own, which ends with the one that started it: its standard input closes.
"""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from labctl.clock import RealClock
from labctl.config.bench import load_bench
from labctl.config.locate import locate
from labctl.errors import LabctlError
from labctl.processes import own_session

log = logging.getLogger(__name__)

_START_S = 60.0
_END_S = 10.0
_HEADER = re.compile(r"^\s*\[\[?\s*([A-Za-z0-9_.\"-]+)\s*\]\]?\s*(#.*)?$")
_CALIBRATION = re.compile(r'^(\s*attenuator\s*=\s*)"([^"]+)"', re.MULTILINE)


class KeptLaboratory:
    """The emulators of one bench in a process of their own; use :meth:`start`, end it with :meth:`stop` or ``with``.

    :param bench: Name or path of a bench whose resources are all ``sim:``.
    :param sample: Name or path of the sample; that of the bench if None.
    :param seed: Seed of all simulated randomness.
    :param path: Where the bench file is written that leads to it; one that is there is written anew.
    """

    def __init__(self, bench: str, sample: str | None, seed: int, path: Path) -> None:
        self._bench = bench
        self._sample = sample
        self._seed = seed
        self._path = path
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> str:
        """Start the laboratory; returns the path of the bench file that leads to it.

        :raises LabctlError: It does not start within a minute.
        """
        arguments = ["sim", "serve", self._bench, "--seed", str(self._seed), "--until-eof", "--json"]
        if self._sample is not None:
            arguments += ["--sample", self._sample]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "labctl.cli.main", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # Ctrl-C at the terminal goes to the whole group: the runs need the laboratory until they are safe.
            **own_session(),
        )
        address = str(self._addresses(self._process)["laboratory"]["tcp"])
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(served_text(locate("benches", self._bench), address), encoding="utf-8")
        load_bench(self._path)
        return str(self._path)

    def stop(self) -> None:
        """End the laboratory; nothing happens if it has ended."""
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            log.warning("the simulated laboratory did not end; it is killed")
            process.kill()
            process.wait(_END_S)

    def __enter__(self) -> KeptLaboratory:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _addresses(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        """Read the line in which the server says where it listens."""
        lines: list[str] = []
        come = threading.Event()

        def read() -> None:
            if process.stdout is not None:
                lines.append(process.stdout.readline())
            come.set()

        # Ends with the line, or with the process: its standard output closes.
        threading.Thread(target=read, name="kept laboratory", daemon=True).start()
        if RealClock().wait(come, _START_S) and lines and lines[0].strip():
            return json.loads(lines[0])
        self.stop()
        raise LabctlError(
            f"the simulated laboratory of {self._bench} did not start within {_START_S:.0f} s",
            state="nothing was started",
            todo="`labctl sim serve BENCH` says why",
        )


class KeptLaboratories:
    """The laboratories of a campaign: one for each bench of emulators, and sample, on which runs take turns.

    Started when they are first asked for; ended by leaving the ``with`` block.

    :param folder: Where the bench files are written that lead to them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[tuple[str, str | None], tuple[KeptLaboratory, str]] = {}

    def bench_for(self, bench: str, sample: str | None, seed: int) -> str:
        """Get the bench that a run is to be told, so that it finds what an earlier one has left.

        That is the bench itself, unless it is nothing but emulators within the process that opens it.
        """
        if not load_bench(bench, check_drivers=False).is_in_process:
            return bench
        if (bench, sample) not in self._kept:
            names = [Path(bench).stem, *([Path(sample).stem] if sample else [])]
            laboratory = KeptLaboratory(bench, sample, seed, self._folder / f"{'.'.join(names)}.served.toml")
            self._kept[bench, sample] = laboratory, laboratory.start()
        return self._kept[bench, sample][1]

    def __enter__(self) -> KeptLaboratories:
        return self

    def __exit__(self, *_: object) -> None:
        for laboratory, _path in self._kept.values():
            laboratory.stop()


def served_text(path: Path, address: str) -> str:
    """Write a bench file anew so that it leads to a served laboratory.

    :param path: The bench file.
    :param address: ``host:port`` of the laboratory's framed port.
    """
    kept: list[str] = []
    within_laboratory = False
    for line in path.read_text(encoding="utf-8").splitlines():
        if (header := _HEADER.match(line)) is not None:
            within_laboratory = header[1].partition(".")[0] == "laboratory"
        if not within_laboratory:
            kept.append(re.sub(r'^(\s*resource\s*=\s*)"sim:[^"]*"', rf'\1"sim+tcp://{address}"', line))
    text = _CALIBRATION.sub(lambda found: f'{found[1]}"{(path.parent / found[2]).as_posix()}"', "\n".join(kept))
    return f'{text.rstrip()}\n\n[laboratory]\nserved_at = "{address}"\n'
