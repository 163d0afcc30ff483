"""How a run stands, in words, shape and tone: what the strip, the title and the log say of it."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.gui.follow import Following
from labctl.report.wording import label_text
from labctl.run.time_left import TimeLeft, left_text

NEUTRAL, BUSY, GOOD, WARN, ALARM = "neutral", "busy", "good", "warn", "alarm"


@dataclass(frozen=True)
class Word:
    """One state: a shape and a word that carry it without colour, a tone, and a second line."""

    shape: str
    text: str
    tone: str = NEUTRAL
    detail: str = ""

    @property
    def line(self) -> str:
        """Get shape and word as one text."""
        return f"{self.shape} {self.text}".strip()


_ENDED = {
    "finished": Word("✓", "FINISHED", GOOD),
    "aborted": Word("■", "ABORTED", WARN),
    "failed": Word("▲", "FAILED", ALARM),
    "crashed": Word("✕", "CRASHED", ALARM, "every acknowledged point is kept"),
}
_SAFE = {
    "confirmed": Word("✓", "CONFIRMED", GOOD, "read back from the instruments"),
    "not-needed": Word("–", "NOT NEEDED", NEUTRAL, "nothing had been opened"),
    "lost-with-run": Word("▲", "LOST WITH RUN", WARN, "the bench was simulated in the engine"),
    "unconfirmed": Word("▲", "UNCONFIRMED", ALARM, "go to the bench and look"),
}


def is_live(now: Following | None) -> bool:
    """Whether a run goes on, or may do so, or its engine is dead and nobody has said yet how the bench was left."""
    if now is None or now.over:
        return False
    return now.view is None or now.engine.connected or now.view.status in {"running", "crashed"}


def goes_on(now: Following | None) -> bool:
    """Whether an engine is at work on the run, as far as one can tell."""
    return now is not None and now.view is not None and (now.engine.connected or now.view.status == "running")


def run_word(now: Following | None) -> Word:
    """Say whether the run goes on, and how it ended."""
    if now is None:
        return Word("–", "no run", NEUTRAL, "check and start one, or attach")
    if now.view is None:
        return Word("…", "LOOKING", NEUTRAL, now.trouble)
    engine, phase = now.engine, label_text(now.engine.phase)
    if engine.connected:
        if engine.aborting:
            return Word("■", "ABORTING", WARN, phase or "ends as soon as it can")
        if engine.abort_asked:
            return Word("■", "ABORT ASKED", WARN, "the engine has not answered yet")
        if engine.pausing and not engine.paused:
            return Word("❚❚", "PAUSE ASKED", WARN, "after the present point")
        if engine.paused:
            return Word("❚❚", "PAUSED", WARN, "between two points, shutter closed")
        return Word("▶", "RUNNING", BUSY, phase)
    status = str((engine.final or {}).get("status", now.view.status))
    if status == "running" and not engine.gone:
        return Word("?", "NOT REACHED", WARN, "the engine does not answer")
    if status == "running" or (status == "crashed" and not now.over):
        return Word("✕", "ENGINE GONE", ALARM, "the guard makes the bench safe")
    ended = _ENDED.get(status, Word("?", status.upper(), WARN))
    return ended if ended.detail else Word(ended.shape, ended.text, ended.tone, now.view.name)


def safe_word(now: Following | None) -> Word:
    """Say in which state the bench was left; nothing is claimed before somebody reported it."""
    if now is None or now.view is None:
        return Word("", "–")
    state = now.view.safe_state
    if state is None and now.engine.final is not None:
        state = str(now.engine.final.get("safe_state", "unconfirmed"))
    if state is not None:
        return _SAFE.get(state, Word("?", state.upper(), WARN))
    if now.engine.connected:
        return Word("–", "RUN GOES ON", NEUTRAL, "known when it ends")
    if now.view.status == "running" and not now.engine.gone:
        return Word("?", "UNKNOWN", WARN, "the engine does not answer")
    return Word(
        "▲", "UNCONFIRMED", ALARM, "nothing reported: look at the bench" if now.over else "nothing reported yet"
    )


def shutter_word(now: Following | None) -> Word:
    """Say what was last reported of the shutter. No event tells of it while a run goes, and none is invented."""
    if now is None or now.view is None:
        return Word("", "–")
    reported = now.view.safe_steps or ((now.engine.final or {}).get("safe_report") or {}).get("steps", ())
    steps = [step for step in reported if step.get("role") == "shutter"]
    if steps:
        if all(step.get("confirmed") for step in steps):
            return Word("✓", "CLOSED", GOOD, "read back at the end of the run")
        return Word("▲", "UNCONFIRMED", ALARM, "use the beam stop")
    if is_live(now):
        return Word("?", "NOT REPORTED", NEUTRAL, "moves with every point")
    return Word("?", "NOT REPORTED", NEUTRAL, "no read-back in this run")


def progress_of(now: Following | None, wall_s: float) -> tuple[float, Word]:
    """Say how far a run is: a share from 0 to 1, and points and time left in words; never 1 before it is over.

    :param wall_s: Unix time.
    """
    if now is None or now.view is None:
        return 0.0, Word("", "–")
    view, engine = now.view, now.engine
    done = max(engine.done, view.done) if engine.connected else view.done
    planned = engine.planned if engine.connected and engine.planned else view.planned
    live = is_live(now)
    if engine.percent is not None:
        share, points = engine.percent / 100, f"{done} points"
    else:
        share, points = done / planned if planned else 0.0, f"{done} / {planned} points"
    if not live:
        return min(share, 1.0), Word("", points, NEUTRAL, view.procedure)
    left_s = None
    if engine.percent is None and not engine.aborting:
        time = TimeLeft(view.stages, view.start_up_s, virtual_time=view.virtual_time)
        left_s = time.left_s(done, wall_s - view.started_s)
    return min(share, 0.99), Word("", points, BUSY, left_text(left_s) if left_s is not None else "")


def title_of(now: Following | None) -> str:
    """Write the title of the window."""
    if now is None or now.view is None:
        return "labctl"
    marks = [now.view.name, run_word(now).text.lower(), *(["SIMULATED"] if now.view.simulated else [])]
    return "  ·  ".join([*marks, "labctl"])
