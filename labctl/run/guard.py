"""The guard: starts the engine, watches it, ends it when it hangs, and makes the bench safe when it is gone.

Run as a program (``python -I -S guard.py CONFIG``), so that it holds nothing but the standard library: whatever breaks
the engine should not break the guard. CONFIG is a JSON object with ``engine`` and ``safe`` (command lines),
``liveness_s``, ``start_s``, ``safe_s`` and ``log``. The engine writes JSON lines to its standard output; the guard
writes to its own what the front needs: ``started``, then one ``final``.

Guard and engine have sessions of their own, so a Ctrl-C in a terminal reaches only the front.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time

VERSION = 1
_POLL_S = 0.1
_KILL_WAIT_S = 5.0


class Engine:
    """The engine process and what it last said of itself."""

    def __init__(self, command, log):
        self.run = ""
        self.instruments_open = False
        self.points = {"done": 0, "planned": 0}
        self.final = None
        self.simulated = False
        self._lines = queue.Queue()
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, **own_session()
        )
        threading.Thread(target=self._read, name="engine output", daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            try:
                self._lines.put(json.loads(line))
            except ValueError:
                sys.stderr.write(f"labctl guard: the engine said {line!r}\n")
        self._lines.put(None)

    def next_line(self, timeout_s):
        """Return the next message, ``None`` at the end of the output; raises queue.Empty."""
        return self._lines.get(timeout=timeout_s)

    def kill(self):
        """End the engine and whatever it started."""
        try:
            if os.name == "posix":
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()
        except OSError:
            pass
        self.process.wait(_KILL_WAIT_S)


def own_session():
    """Arguments for Popen that detach a child from the terminal's signals."""
    if os.name == "posix":
        return {"start_new_session": True}
    return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}


def say(message):
    """Write one JSON line to the front; a front that is gone is none of our business."""
    try:
        sys.stdout.write(json.dumps({"v": VERSION, **message}) + "\n")
        sys.stdout.flush()
    except (OSError, ValueError):
        pass


def watch(engine, liveness_s, start_s):
    """Follow the engine until it has ended; return why it was ended, or "" if it ended by itself.

    Liveness (``alive`` from a thread of its own) and progress (``expect`` from the run) are apart: a run that waits
    long says so beforehand, a run that is stuck does not. ``quiet`` announces work that may hold the interpreter for
    longer than the liveness limit (imports, sealing, fits), always with the shutter closed; ``expect`` ends it.
    """
    alive_by = time.monotonic() + start_s
    progress_by = alive_by
    quiet_until = 0.0
    seen_alive = False
    while True:
        try:
            message = engine.next_line(_POLL_S)
        except queue.Empty:
            now = time.monotonic()
            if now > max(alive_by, quiet_until):
                return f"the engine gave no sign of life for {liveness_s if seen_alive else start_s:.1f} s"
            if now > max(progress_by, quiet_until):
                return "the run made no progress within the time it had declared"
            continue
        if message is None:
            return ""
        kind = message.get("m")
        now = time.monotonic()
        if kind == "alive":
            seen_alive = True
            alive_by = now + liveness_s
        elif kind == "expect":
            progress_by = now + message["s"]
            quiet_until = 0.0
        elif kind == "quiet":
            quiet_until = now + message["s"]
        elif kind == "started":
            engine.run = message["run"]
            engine.simulated = message["simulated"]
            say(message)
        elif kind == "instruments":
            engine.instruments_open = message["open"]
        elif kind == "points":
            engine.points = message["points"]
        elif kind == "final":
            engine.final = message


def make_safe(command, timeout_s, log):
    """Run the safe-state program on new connections; return its report."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, timeout=timeout_s, **own_session()
        )
        return json.loads(done.stdout.decode().strip().splitlines()[-1])
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
        return {"state": "unconfirmed", "steps": [], "error": f"{type(error).__name__}: {error}"}


def report_death(engine, reason, safe):
    """Compose the final message of a run whose engine did not live to write it."""
    code = engine.process.returncode
    state = safe["state"]
    what = reason or f"the engine ended unexpectedly (exit status {code})"
    report = {
        "run": engine.run,
        "status": "crashed",
        "safe_state": state,
        "points": engine.points,
        "result": {},
        "warnings": [],
        "simulated": engine.simulated,
        "safe_report": safe,
        "error": {
            "type": "EngineDied",
            "what": what,
            "where": "engine",
            "state": f"safe state: {state}; every acknowledged point is in the journal",
            "todo": "look at the run with `labctl show`; check the bench before the next run",
        },
    }
    return {"m": "final", "exit": 4 if state == "unconfirmed" else 1, "report": report}


def main(config):
    """Guard one run; return the exit code of the run."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    with open(config["log"], "ab") as log:  # noqa: PTH123 - pathlib costs start-up time
        return guard_run(config, log)


def guard_run(config, log):
    """Start the engine, watch it to its end, make safe what it left; return the exit code of the run."""
    engine = Engine(config["engine"], log)
    reason = watch(engine, config["liveness_s"], config["start_s"])
    if reason:
        engine.kill()
    engine.process.wait()
    if engine.final is not None and not reason:
        say(engine.final)
        return engine.final["exit"]
    safe = {"state": "not-needed", "steps": []}
    if engine.instruments_open:
        safe = make_safe([*config["safe"], engine.run], config["safe_s"], log)
    final = report_death(engine, reason, safe)
    say(final)
    return final["exit"]


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
