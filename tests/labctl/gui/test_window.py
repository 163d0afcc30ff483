"""The window over a run that somebody else takes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labctl.gui.qt import Qt, QtCore, QtGui, QtWidgets
from labctl.gui.standing import is_live, run_word
from labctl.gui.theme import DARK, LIGHT, Theme
from labctl.gui.window import Window

from .conftest import LiveRun, until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Unix sockets")


def attached(window: Window, run: LiveRun) -> None:
    """Wait until the window shows a run and its engine answers."""
    until(lambda: window.tick() or (window.now is not None and window.now.engine.phase))
    assert window.now is not None and window.now.view is not None
    assert window.now.view.name == run.paths.name


def press(widget: QtWidgets.QWidget, key: Qt.Key) -> None:
    for kind in (QtCore.QEvent.Type.KeyPress, QtCore.QEvent.Type.KeyRelease):
        QtWidgets.QApplication.sendEvent(widget, QtGui.QKeyEvent(kind, key, Qt.KeyboardModifier.NoModifier))


def test_it_attaches_by_itself_to_the_only_run_that_goes_on(window: Window, live: Callable[..., LiveRun]) -> None:
    run = live()
    run.add(30)
    attached(window, run)
    until(lambda: window.tick() or window.curve.words.whole.startswith("provisional threshold"))
    assert "SIMULATED" in window.windowTitle() and "running" in window.windowTitle()
    assert window.strip.run.word.whole == "▶ RUNNING" and window.strip.run.detail.whole == "coarse"
    assert window.strip.points.word.whole == "30 / 30 points"
    assert not window.strip.simulated.isHidden()
    assert window.spectrum.caption.whole.startswith("point 30, ")
    x, y = window.curve.points.getData()
    assert len(x) == 30 and 10 ** x[0] == pytest.approx(2.8) and 10 ** y[0] == pytest.approx(280.0)
    assert window.curve.threshold.isVisible() and window.curve.interval.isVisible()
    assert 10 ** window.curve.threshold.value() == pytest.approx(28.0, rel=0.15)
    assert "coarse: 30 points" in window.log.toPlainText()


def test_a_real_run_is_not_marked_as_simulated(window: Window, live: Callable[..., LiveRun]) -> None:
    run = live(simulated=False)
    attached(window, run)
    assert window.strip.simulated.isHidden() and "SIMULATED" not in window.windowTitle()


def test_saturated_pixels_are_said_in_words(window: Window, live: Callable[..., LiveRun]) -> None:
    run = live()
    run.add(2, saturated=3)
    attached(window, run)
    until(lambda: window.tick() or not window.spectrum.saturation.isHidden())
    assert window.spectrum.saturation.text() == "▲ 3 of 32 pixels SATURATED"
    x, _ = window.spectrum.crosses.getData()
    assert len(x) == 3
    assert window.curve.caption.whole == "● 0 points   × 2 saturated, not fitted"
    run.add(1)
    until(lambda: window.tick() or window.spectrum.saturation.isHidden())


def test_several_runs_are_offered_and_none_is_taken(
    request: pytest.FixtureRequest, live: Callable[..., LiveRun]
) -> None:
    first, second = live(), live()
    window: Window = request.getfixturevalue("window")
    until(lambda: window.tick() or window.going.count() == 2)
    assert window.follower is None and not window.going.isHidden()
    window.going.itemClicked.emit(window.going.item(1))
    attached(window, second)
    assert first.asked == second.asked == []


@pytest.mark.parametrize("how", ["button", "Esc", "F12"])
def test_abort(window: Window, live: Callable[..., LiveRun], how: str) -> None:
    run = live()
    attached(window, run)
    if how == "button":
        window.strip.abort.click()
    else:
        press(window.setup.form, Qt.Key.Key_Escape if how == "Esc" else Qt.Key.Key_F12)
    until(lambda: window.tick() or window.strip.run.word.whole == "■ ABORTING")
    assert [message["reason"] for message in run.asked] == ["ABORT in the window"], "asked once"
    run.end("aborted")
    until(lambda: window.tick() or window.strip.run.word.whole == "■ ABORTED")
    assert window.strip.safe.word.whole == "✓ CONFIRMED" and window.strip.shutter.word.whole == "✓ CLOSED"
    assert "ABORTED" in window.log.toPlainText() and "the film looks tired" in window.log.toPlainText()


def test_pause_and_go_on(window: Window, live: Callable[..., LiveRun]) -> None:
    assert not window.strip.pause.isEnabled()
    run = live()
    attached(window, run)
    until(lambda: window.tick() or window.strip.pause.isEnabled())
    window.strip.pause.click()
    until(lambda: window.tick() or window.strip.run.word.whole == "❚❚ PAUSE ASKED")
    run.status["paused"] = True
    run.endpoint.publish({"event": "noticed", **run.status})
    until(lambda: window.tick() or window.strip.run.word.whole == "❚❚ PAUSED")
    assert window.strip.pause.text() == "▶  Continue"
    window.strip.pause.click()
    until(lambda: window.tick() or window.strip.run.word.whole == "▶ RUNNING")
    assert [message["command"] for message in run.asked] == ["pause", "continue"]
    run.end()
    until(lambda: window.tick() or not window.strip.pause.isEnabled())


def test_esc_without_a_run_is_left_to_others(window: Window) -> None:
    press(window.setup.form, Qt.Key.Key_Escape)
    assert "ABORT" not in window.log.toPlainText()
    window.strip.abort.click()
    assert "nothing to end" in window.log.toPlainText()


def test_esc_aborts_while_a_list_is_open(window: Window, live: Callable[..., LiveRun]) -> None:
    run = live()
    attached(window, run)
    window.setup.procedure.showPopup()
    popup = QtWidgets.QApplication.activePopupWidget() or window.setup.procedure.view()
    assert popup is not None
    press(popup, Qt.Key.Key_Escape)
    until(lambda: run.asked)
    window.setup.procedure.hidePopup()


def test_an_unconfirmed_safe_state_is_loud(window: Window, live: Callable[..., LiveRun]) -> None:
    run = live()
    attached(window, run)
    run.end("failed", "unconfirmed")
    until(lambda: window.tick() or window.strip.safe.word.whole == "▲ UNCONFIRMED")
    assert window.strip.safe.property("tone") == "alarm"
    assert window.strip.shutter.word.whole == "▲ UNCONFIRMED"
    assert window.strip.run.word.whole == "▲ FAILED"


@pytest.mark.parametrize("done", [True, False])
def test_an_operator_is_asked_in_a_bar(window: Window, live: Callable[..., LiveRun], done: bool) -> None:
    run = live()
    attached(window, run)
    run.ask("Move the sample.")
    until(lambda: window.tick() or not window.prompt.isHidden())
    assert window.prompt.text.text() == "OPERATOR:  Move the sample." and window.prompt.said.isHidden()
    (window.prompt.done if done else window.prompt.refuse).click()
    assert window.prompt.isHidden(), "at once"
    until(lambda: run.asked)
    assert (run.asked[0]["id"], run.asked[0]["done"]) == (7, done)
    window.tick()
    assert window.prompt.isHidden()


def test_what_an_operator_is_to_read_off_must_be_typed(window: Window, live: Callable[..., LiveRun]) -> None:
    run = live()
    attached(window, run)
    run.ask("Swap the filter.", wants="its number")
    until(lambda: window.tick() or not window.prompt.isHidden())
    window.prompt.done.click()
    assert run.asked == [] and not window.prompt.isHidden()
    window.prompt.said.setText("OD2")
    window.prompt.done.click()
    until(lambda: run.asked)
    assert run.asked[0]["said"] == "OD2"


def test_a_question_that_another_front_answered_goes_away(window: Window, live: Callable[..., LiveRun]) -> None:
    run = live()
    attached(window, run)
    run.ask("Move the sample.")
    until(lambda: window.tick() or not window.prompt.isHidden())
    run.status["question"] = None
    until(lambda: window.tick() or window.prompt.isHidden())


def test_no_start_while_a_run_goes_on(window: Window, live: Callable[..., LiveRun]) -> None:
    run = live()
    attached(window, run)
    window.setup._accepted = window.setup.run_arguments()
    window.setup._refresh()
    assert not window.setup.start.isEnabled() and "a run goes on" in window.setup.start.toolTip()
    run.end()
    until(lambda: window.tick() or not is_live(window.now))
    window.tick()
    assert window.setup.start.isEnabled()


def test_closing_tells_of_the_run_that_goes_on(window: Window, live: Callable[..., LiveRun]) -> None:
    run = live()
    attached(window, run)
    window.close()
    assert window.last_run == str(run.path)
    assert run.asked == [] and not run.endpoint.leased.is_set()


def test_closing_after_the_end_tells_nothing(window: Window, live: Callable[..., LiveRun]) -> None:
    run = live()
    attached(window, run)
    run.end()
    until(lambda: window.tick() or not is_live(window.now))
    window.close()
    assert window.last_run == ""


def test_the_engine_may_die(window: Window, live: Callable[..., LiveRun]) -> None:
    run = live()
    attached(window, run)
    run.die()
    until(lambda: window.tick() or run_word(window.now).text == "ENGINE GONE")
    assert window.strip.safe.word.whole == "▲ UNCONFIRMED"
    assert "ENGINE GONE" in window.log.toPlainText()
    window.strip.abort.click()
    assert "cannot be reached" in window.log.toPlainText()


def test_nothing_is_drawn_that_was_drawn_before(
    window: Window, live: Callable[..., LiveRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = live()
    run.add(2)
    attached(window, run)
    drawn: list[object] = []
    now = window.now
    assert window.follower is not None and now is not None
    monkeypatch.setattr(window.spectrum, "show_spectrum", drawn.append)
    monkeypatch.setattr(window.follower, "newest", lambda: replace(now, sequence=now.sequence + 1))
    window.tick()
    window.tick()
    assert len(drawn) == 1


@pytest.mark.parametrize("size", [(1366, 740), (1100, 640), (1920, 1050)])
def test_everything_has_room(window: Window, live: Callable[..., LiveRun], size: tuple[int, int]) -> None:
    """No long name may widen the window, and ABORT is in sight at every size."""
    run = live()
    run.add(3, saturated=2)
    attached(window, run)
    window.resize(*size)
    window.setup._say("✕ refused", ["a very long word: " + "x" * 300])
    window.strip.run.detail.say("a phase with a very long name " * 10)
    QtWidgets.QApplication.processEvents()
    assert (window.width(), window.height()) == size
    corner = window.strip.abort.mapTo(window, window.strip.abort.rect().bottomRight())
    assert window.rect().contains(corner) and window.strip.abort.isVisible()
    for label in window.strip.findChildren(QtWidgets.QLabel):
        if label.isVisible():
            assert label.height() >= label.minimumSizeHint().height()


def test_both_looks(window: Window, live: Callable[..., LiveRun]) -> None:
    attached(window, live())
    for dark in (True, False):
        window.set_dark(dark)
        shade = window.grab().toImage().pixelColor(3, 3).lightness()
        assert (shade < 100) == dark


def contrast(first: str, second: str) -> float:
    """Contrast of two colours by WCAG 2."""

    def luminance(text: str) -> float:
        color = QtGui.QColor(text)
        parts = np.array([color.redF(), color.greenF(), color.blueF()])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ np.array([0.2126, 0.7152, 0.0722]))

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_text_can_be_read(theme: Theme) -> None:
    pairs = [(text, theme.panel) for text in (theme.ink, theme.muted, theme.good, theme.alarm_text, theme.curve)]
    pairs += [(theme.on_warn, theme.warn), (theme.on_alarm, theme.alarm), (theme.ink, theme.field)]
    pairs += [(theme.on_accent, theme.accent), (theme.alarm_text, theme.window)]
    assert {pair: round(contrast(*pair), 1) for pair in pairs if contrast(*pair) < 4.5} == {}


def test_a_folder_that_does_not_exist_yet_has_no_runs(window: Window, tmp_path: Path) -> None:
    until(lambda: window.discovery.found() == ())
    window.tick()
    assert window.follower is None and not (tmp_path / "runs").exists()
