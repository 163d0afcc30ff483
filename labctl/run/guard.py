"""The guard: starts the engine, watches it, ends it when it hangs, and has the bench made safe when it is gone.

Run as a program (``python -I -S guard.py CONFIG``), so that it holds nothing but the standard library and two small
modules of the same kind, which it loads by their files: whatever breaks the engine should not break the guard. CONFIG
is a JSON object with ``engine`` and ``safe`` (command lines), ``liveness_s``, ``start_s``, ``safe_s``, ``record_s``,
``log`` and ``remove`` (files and folders that go at the end).

Engine and safe-state program write JSON lines to their standard output. The guard writes to its own what the front
needs: ``started``, if the engine died ``safe_state``, then one ``final``. Where instruments live outside the engine,
the safe-state program stands by: it imports everything, reads the bench, says ``ready``, and waits for a line on its
standard input. The engine is told of that by a line on its own, and begins no plan before: so it takes moments, not
seconds, from its death to a closed shutter, whenever it dies.

Lines to the program that stands by: ``bench``, what the engine has said of its bench, kept here for each that is
started; ``run``, once the run has a name; then ``order``, to make the bench safe, or ``dismissed``. An end of its input
without either means that the guard is dead; then it looks after the engine itself (:mod:`labctl.run.orphan`). Lines to
the engine: ``standby``; ``unready`` with a reason, if nobody can stand by; and ``end`` with a reason, to end the run
safely.

Guard, engine and safe-state program have sessions of their own, so a Ctrl-C in a terminal reaches only the front.
On Windows each has a console of its own instead, and a job object that ends it with all that it started.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from importlib.util import module_from_spec, spec_from_file_location

TYPE_CHECKING = False  # the module typing costs more start-up time than all the rest
if TYPE_CHECKING:
    from typing import IO, Any

    from labctl.job_object import JobObject


def _beside(name: str) -> Any:
    """Load a module of the package above by its file: as a program of its own the guard has no search path."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - costs start-up time
    spec = spec_from_file_location(f"labctl_guard_{name}", os.path.join(folder, f"{name}.py"))  # noqa: PTH118
    if spec is None or spec.loader is None:
        raise ImportError(f"{name}.py is missing in {folder}")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


processes = _beside("processes")

VERSION = 1
_POLL_S = 0.1
_KILL_WAIT_S = 5.0
_END_S = 10.0
_LOG_TAIL_BYTES = 2000
_STANDBY_STARTS = 3
_STOOD_STILL_S = 2.0
"""A guard that was not run for so long was suspended; a busy computer lets it wait for less."""
_SLEPT_S = 0.5


class Program:
    """A child process that writes JSON lines; one thread reads them and ends with it, another writes those to it.

    :param command: Command line.
    :param log: Binary file for its standard error.
    :param listens: Whether it reads its standard input.
    """

    def __init__(self, command: list[str], log: IO[bytes], *, listens: bool = False) -> None:
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._told: queue.Queue[bytes | None] = queue.Queue()
        self.process: subprocess.Popen[bytes] = processes.start_apart(
            command,
            stdin=subprocess.PIPE if listens else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        self._job = _job_of(self.process)
        threading.Thread(target=self._read, name="output of a program", daemon=True).start()
        if self.process.stdin is not None:
            told = (self.process.stdin,)
            threading.Thread(target=self._write, args=told, name="input of a program", daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                message = None
            if isinstance(message, dict):
                self._messages.put(message)
            else:
                sys.stderr.write(f"labctl guard: not a message: {line[:200]!r}\n")
        self._messages.put(None)

    def _write(self, pipe: IO[bytes]) -> None:
        """Write what there is to tell: a full pipe waits for its reader, for whom the guard must not wait."""
        with pipe:
            try:
                while (line := self._told.get()) is not None:
                    while line:
                        line = line[os.write(pipe.fileno(), line) :]
            except OSError:
                pass  # it is gone

    def next_message(self, timeout_s: float) -> dict[str, Any] | None:
        """Return the next message, ``None`` at the end of the output, however often; raises queue.Empty."""
        message = self._messages.get(timeout=max(timeout_s, 0.0))
        if message is None:
            self._messages.put(None)
        return message

    def await_message(self, *kinds: str, timeout_s: float) -> dict[str, Any] | None:
        """Return the next message of one of the kinds, or ``None`` if none comes in time."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                message = self.next_message(deadline - time.monotonic())
            except queue.Empty:
                return None
            if message is None or message.get("m") in kinds:
                return message

    def tell(self, message: dict[str, Any]) -> None:
        """Have one line written to a program that listens; one that is gone does not hear it."""
        self._told.put(json.dumps(message).encode() + b"\n")

    def close_input(self) -> None:
        """Have the input of a program that listens closed: it has nothing to wait for any more."""
        self._told.put(None)

    def has_ended(self, within_s: float) -> bool:
        """Return whether the process ends within a time."""
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End the program and whatever it started; one that is stuck in the kernel is left to it."""
        try:
            if self._job is not None:
                self._job.terminate()
            elif os.name == "posix":
                os.killpg(self.process.pid, signal.SIGKILL)
        except OSError:
            pass
        try:
            self.process.kill()
        except OSError:
            pass
        self.has_ended(_KILL_WAIT_S)


class Watch:
    """What the engine has said of its run so far, and by when it must speak again.

    Liveness (``alive`` from a thread of its own) and progress (``expect`` from the run) are apart: a run that waits
    long says so beforehand, a run that is stuck does not. ``quiet`` announces work that may hold the interpreter for
    longer than the liveness limit (imports, sealing, fits), always with the shutter closed; the next ``expect`` ends
    it.
    """

    def __init__(self, liveness_s: float, start_s: float) -> None:
        self.run = ""
        self.endpoint = ""
        self.bench: dict[str, Any] | None = None
        self.simulated = False
        self.points = {"done": 0, "planned": 0}
        self.instruments_open = False
        self.were_open = False
        self.safe_state = ""
        self.wants_standby = False
        self.final: dict[str, Any] | None = None
        self._liveness_s = liveness_s
        self._limit_s = start_s
        self._alive_by = self._progress_by = time.monotonic() + start_s
        self._quiet_until = 0.0
        self._stood_still = ""

    def take(self, message: dict[str, Any]) -> None:
        """Take note of one message of the engine; raises KeyError or TypeError if it makes no sense."""
        now = time.monotonic()
        kind = message["m"]
        if kind == "alive":
            self._limit_s = self._liveness_s
            self._alive_by = now + self._liveness_s
        elif kind == "expect":
            self._progress_by = now + message["s"]
            self._quiet_until = 0.0
        elif kind == "quiet":
            self._quiet_until = now + message["s"]
        elif kind == "started":
            self.run, self.endpoint, self.simulated = message["run"], message["endpoint"], message["simulated"]
            say({**message, "standby": self.wants_standby})
        elif kind == "instruments":
            self.instruments_open = message["open"]
            self.were_open = self.were_open or self.instruments_open
            self.safe_state = message.get("safe_state", "")
            self.wants_standby = message["standby"]
        elif kind == "bench":
            self.bench = message
        elif kind == "points":
            self.points = message["points"]
        elif kind == "final" and isinstance(message["exit"], int) and isinstance(message["report"], dict):
            self.final = message

    def overdue(self) -> str:
        """Return what the engine owes, or an empty text."""
        now = time.monotonic()
        if now > max(self._alive_by, self._quiet_until):
            return f"{self._stood_still}the engine gave no sign of life for {self._limit_s:.1f} s"
        if now > max(self._progress_by, self._quiet_until):
            return f"{self._stood_still}the run made no progress within the time it had declared"
        return ""

    def begin_anew(self, stood_still_s: float, what: str) -> None:
        """Count no time in which the guard itself was not run: all that it judges by was late."""
        self._stood_still = f"{what}; after that "
        self._alive_by = max(self._alive_by, time.monotonic() + self._limit_s)
        self._progress_by += stood_still_s
        self._quiet_until += stood_still_s


class SleepWatch:
    """Notices that this process was not run for a while: the computer slept, or somebody stopped its processes."""

    def __init__(self) -> None:
        self._seen_s = time.monotonic()
        self._slept_s = _slept_s()

    def look(self) -> tuple[float, str]:
        """Return for how long the guard was not run since the last look, and that in words; 0 if it was."""
        now_s, slept_s = time.monotonic(), _slept_s()
        stood_s, asleep_s = now_s - self._seen_s, slept_s - self._slept_s
        self._seen_s, self._slept_s = now_s, slept_s
        if asleep_s > _SLEPT_S:
            return stood_s, f"the computer was asleep for {asleep_s:.0f} s"
        if stood_s > _STOOD_STILL_S:
            return (
                stood_s,
                f"the guard was not run for {stood_s:.0f} s: the computer slept, or somebody stopped it",
            )
        return 0.0, ""


def _slept_s() -> float:
    """Return the time in s that the computer has slept, where the system counts it apart from the rest."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    return 0.0


class Standby:
    """The safe-state program that stands by beside the engine; one that dies is started anew, a few times.

    :param command: Command line of the program.
    :param log: Binary file for its standard error.
    """

    def __init__(self, command: list[str], log: IO[bytes]) -> None:
        self.program: Program | None = None
        self.ready = False
        self._command = command
        self._log = log
        self._starts = 0
        self._told_run = False

    def attend(self, watch: Watch) -> dict[str, Any] | None:
        """Start what is not there, tell it what there is to know; return what the engine is to hear of it, if anything.

        One that cannot read the bench says so and ends; nothing is gained by starting it anew.
        """
        program = self.program or self._start(watch)
        if watch.run and not self._told_run:
            program.tell({"m": "run", "run": watch.run, "endpoint": watch.endpoint})
            self._told_run = True
        try:
            message = program.next_message(0.0)
        except queue.Empty:
            return None
        if message is None:
            return self._start_anew(watch, program.process.poll())
        if message.get("m") == "ready":
            self.ready = True
            return {"m": "standby"}
        if message.get("m") == "unready":
            self._starts = _STANDBY_STARTS + 1
            return message
        return None

    def start_another(self, bench: dict[str, Any] | None) -> Program:
        """Start the program and tell it which bench it is for."""
        program = Program(self._command, self._log, listens=True)
        if bench is not None:
            program.tell(bench)
        return program

    def _start(self, watch: Watch) -> Program:
        self.program = program = self.start_another(watch.bench)
        self.ready = self._told_run = False
        self._starts += 1
        return program

    def _start_anew(self, watch: Watch, code: int | None) -> dict[str, Any] | None:
        """Replace a program that has ended; return what the engine is to hear if that has been tried often enough."""
        if code is None or self._starts > _STANDBY_STARTS:
            return None
        if self._starts < _STANDBY_STARTS:
            self._start(watch)
            return None
        self.ready = False
        self._starts += 1
        status = processes.status_text(code)
        return {"m": "unready", "reason": f"it ended {_STANDBY_STARTS} times, the last time with exit status {status}"}

    def dismiss(self) -> None:
        """End it: it has touched nothing yet."""
        if self.program is not None:
            self.program.tell({"m": "dismissed"})
            self.program.close_input()
            self.program.kill()


def _job_of(process: subprocess.Popen[bytes]) -> JobObject | None:
    """Put a program into a job object of its own, to end it with all that it starts; None where that cannot be.

    The job does not end with the guard: an engine whose guard is gone ends its run by itself, safely.
    """
    if os.name == "posix":
        return None
    try:
        return _beside("job_object").job_with(process.pid, kill_on_close=False)
    except OSError as error:
        sys.stderr.write(f"labctl guard: {error}; only process {process.pid} itself can be ended\n")
        return None


def say(message: dict[str, Any]) -> None:
    """Write one JSON line to the front; a front that is gone is none of our business."""
    line = json.dumps({"v": VERSION, **message}).encode() + b"\n"
    try:
        while line:
            line = line[os.write(1, line) :]
    except OSError:
        pass


def follow(engine: Program, watch: Watch, standby: Standby) -> str:
    """Follow the engine until it has ended or must be ended; return why it must be, or an empty text."""
    sleep = SleepWatch()
    while True:
        if watch.wants_standby and (heard := standby.attend(watch)) is not None:
            engine.tell(heard)
        silent, message = False, None
        try:
            message = engine.next_message(_POLL_S)
        except queue.Empty:
            silent = True
        stood_still_s, what = sleep.look()
        if what:
            watch.begin_anew(stood_still_s, what)
            engine.tell({"m": "end", "reason": what})
        if silent:
            if watch.overdue():
                return watch.overdue()
            if engine.process.poll() is not None:
                return ""
            continue
        if message is None:
            return ""
        try:
            watch.take(message)
        except (KeyError, TypeError) as error:
            sys.stderr.write(f"labctl guard: {error!r} in {str(message)[:200]}\n")
        if watch.final is not None:
            return ""


def make_safe(
    standby: Standby, bench: dict[str, Any] | None, order: dict[str, Any], config: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Have the bench made safe and the death recorded; return the safe report, and what was recorded or ``None``.

    The program that stands by is asked first; if it does not hear, or fails, a new one is started.
    """
    report = {"state": "unconfirmed", "steps": [], "error": "the safe-state program gave no report"}
    for program in (standby.program, None):
        try:
            asked = program or standby.start_another(bench)
        except OSError as error:
            return {**report, "error": f"the safe-state program cannot be started: {error}"}, None
        asked.tell({"m": "order", **order})
        asked.close_input()
        waits = program is not None and standby.ready
        heard = asked.await_message("heard", timeout_s=config["liveness_s"] if waits else config["safe_s"])
        found = asked.await_message("safe", timeout_s=config["safe_s"]) if heard is not None else None
        if found is None:
            asked.kill()
            if program is None:
                break
            continue
        report = found["report"]
        say({"m": "safe_state", "state": report["state"]})
        # A disk that hung the engine may hang this program, too: only one that answers gets the time for sealing.
        recorded = asked.await_message("noted", "recorded", timeout_s=config["safe_s"])
        if recorded is not None and recorded["m"] == "noted":
            recorded = asked.await_message("recorded", timeout_s=config["record_s"])
        if recorded is None or not asked.has_ended(_END_S):
            asked.kill()
        return report, recorded
    return report, None


def report_death(
    watch: Watch, what: str, safe: dict[str, Any], recorded: dict[str, Any] | None, log_text: str
) -> dict[str, Any]:
    """Compose the final message of a run whose engine did not live to write it."""
    state = safe["state"]
    report: dict[str, Any] = {
        "run": watch.run,
        "status": "crashed",
        "safe_state": state,
        "points": watch.points,
        "result": {},
        "warnings": [],
        "simulated": watch.simulated,
        "files": {},
        "safe_report": safe,
        "error": {
            "type": "EngineDied",
            "what": what,
            "where": "engine",
            "state": f"safe state: {state}; every acknowledged point is kept",
            "todo": "look at the run with `labctl show`; check the bench before the next run",
            "log": log_text,
        },
    }
    if recorded is not None:
        recorded_points = {**watch.points, "done": recorded["points"]}
        report |= {"run": recorded["run"], "points": recorded_points, "warnings": recorded["warnings"]}
        report["status"] = recorded.get("status", "crashed")
        if report["status"] == "finished" and recorded.get("sealed") and state != "unconfirmed":
            said = f"{what}, after the run had finished and the bench was safe; it is sealed: `labctl analyse` it"
            report |= {"error": None, "warnings": [*recorded["warnings"], said]}
            return {"m": "final", "exit": 0, "report": report}
    elif watch.were_open:
        report["warnings"] = ["the death of the run could not be recorded in time: see whether its disk answers"]
    return {"m": "final", "exit": 4 if state == "unconfirmed" else 1, "report": report}


def tail(path: str) -> str:
    """Return the end of the log."""
    try:
        with open(path, "rb") as log:  # noqa: PTH123 - pathlib costs start-up time
            log.seek(0, os.SEEK_END)
            log.seek(max(log.tell() - _LOG_TAIL_BYTES, 0))
            return log.read().decode("utf-8", "replace")
    except OSError:
        return ""


def guard_run(config: dict[str, Any], log: IO[bytes]) -> int:
    """Start the engine, watch it to its end, have made safe what it left; return the exit code of the run."""
    watch = Watch(config["liveness_s"], config["start_s"])
    engine = Program(config["engine"], log, listens=True)
    standby = Standby(config["safe"], log)
    try:
        reason = follow(engine, watch, standby)
    except Exception as error:  # whatever is wrong with the guard, the engine must not go on alone
        reason = f"the guard failed: {type(error).__name__}: {error}"
    if reason or not engine.has_ended(_END_S):
        engine.kill()
    final = watch.final
    if final is None:
        code = engine.process.returncode
        what = reason or f"the engine ended unexpectedly (exit status {processes.status_text(code)})"
        log_text = tail(config["log"])
        safe, recorded = {"state": "not-needed", "steps": []}, None
        if watch.were_open:
            order: dict[str, Any] = {"run": watch.run, "what": what, "log": log_text}
            if not watch.instruments_open and watch.safe_state:
                order["safe"] = {"state": watch.safe_state, "steps": []}
            if engine.process.poll() is None:
                order["stuck"] = engine.process.pid
            safe, recorded = make_safe(standby, watch.bench, order, config)
        else:
            standby.dismiss()
        final = report_death(watch, what, safe, recorded, log_text)
        remove(traces_of(watch.endpoint))
    else:
        standby.dismiss()
    say(final)
    return final["exit"]


def main(config: dict[str, Any]) -> int:
    """Guard one run; return its exit code."""
    for number in processes.end_signals():
        signal.signal(number, signal.SIG_IGN)
    with open(config["log"], "ab") as log:  # noqa: PTH123 - pathlib costs start-up time
        os.dup2(log.fileno(), 2)
        code = guard_run(config, log)
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 2)  # Windows keeps a file that anybody has open
    remove(config["remove"])
    return code


def traces_of(endpoint: str) -> list[str]:
    """Get what a dead engine's endpoint leaves: its socket, or on Windows the file of its token, and their folder."""
    file = endpoint if endpoint.startswith("/") else endpoint.partition("#")[2]
    return [file, os.path.dirname(file)] if file else []  # noqa: PTH120 - pathlib costs start-up time


def remove(paths: list[str]) -> None:
    """Remove files and empty folders; what cannot be removed stays."""
    for path in paths:
        try:
            os.rmdir(path) if os.path.isdir(path) else os.unlink(path)  # noqa: PTH106, PTH108, PTH112
        except OSError:
            pass


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
