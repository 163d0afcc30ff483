"""The two live plots: the newest spectrum, and the signal against what was set, with its threshold."""

from __future__ import annotations

from typing import Any

import numpy as np

from labctl.gui.label import ElidedLabel
from labctl.gui.qt import QtCore, QtGui, QtWidgets, pg
from labctl.gui.theme import LIGHT, Theme
from labctl.gui.ticks import LogAxis, plain_axis
from labctl.gui.view import Curve, NewestSpectrum, ThresholdView

_SYMBOL_PX = 7
_LINE_Z, _BAND_Z = 20, -10


class SpectrumPlot(QtWidgets.QFrame):
    """The newest spectrum, raw; saturated pixels are crossed and counted in words."""

    def __init__(self) -> None:
        super().__init__()
        self.caption = ElidedLabel("", "muted")
        self.saturation = QtWidgets.QLabel()
        self.saturation.setProperty("role", "warning")
        self.saturation.setVisible(False)
        self.readout = ElidedLabel("", "muted")
        self.plot = _plot(plain_axis("bottom"), plain_axis("left"))
        # One pixel wide and without antialiasing: anything thicker costs ten times the time.
        self.line = self.plot.plot([], [])
        self.crosses = self.plot.plot([], [], pen=None, symbol="x", symbolSize=_SYMBOL_PX)
        self.heading = QtWidgets.QLabel("Newest spectrum")
        _arrange(self, self.heading, self.caption, self.plot, [self.readout, self.saturation])
        self.dress(LIGHT)
        self.show_spectrum(None)

    def dress(self, theme: Theme) -> None:
        """Take the colours of a theme."""
        _dress(self.plot, theme)
        self.line.setPen(pg.mkPen(theme.curve, width=1))
        self.crosses.setSymbolPen(pg.mkPen(theme.saturated, width=1))
        self.crosses.setSymbolBrush(None)

    def show_spectrum(self, spectrum: NewestSpectrum | None) -> None:
        """Show a spectrum, or say that there is none yet."""
        _show_axes(self.plot, spectrum is not None)
        if spectrum is None:
            self.line.setData([], [])
            self.crosses.setData([], [])
            self.caption.say("none yet")
            self.readout.say("")
            self.saturation.setVisible(False)
            return
        full = spectrum.saturated
        self.line.setData(spectrum.x, spectrum.y, connect="finite")
        self.crosses.setData(spectrum.x[full], spectrum.y[full])
        self.plot.setLabel("bottom", spectrum.x_label)
        self.plot.setLabel("left", spectrum.y_label)
        self.caption.say(spectrum.caption)
        self.readout.say(spectrum.readout)
        self.saturation.setText(f"▲ {spectrum.saturation}")
        self.saturation.setVisible(bool(spectrum.saturation))


class CurvePlot(QtWidgets.QFrame):
    """The signal against what was set, on logarithmic axes where the procedure finds a threshold."""

    def __init__(self) -> None:
        super().__init__()
        self.caption = ElidedLabel("", "muted")
        self.words = ElidedLabel("", "heading")
        self._theme = LIGHT
        self._logarithmic = False
        self._axes(logarithmic=True)
        self.heading = QtWidgets.QLabel()
        _arrange(self, self.heading, self.caption, self.plot, [self.words])
        self.show_curve(None, None, ())

    def _axes(self, *, logarithmic: bool) -> None:
        """Make the plot with its kind of axes."""
        self._logarithmic = logarithmic
        make: Any = LogAxis if logarithmic else plain_axis
        self.plot = _plot(make("bottom"), make("left"))
        self.points = self.plot.plot([], [], pen=None, symbol="o", symbolSize=_SYMBOL_PX)
        self.crosses = self.plot.plot([], [], pen=None, symbol="x", symbolSize=_SYMBOL_PX + 3)
        self.threshold = pg.InfiniteLine(angle=90, movable=False)
        self.interval = pg.LinearRegionItem(movable=False)
        self.threshold.setZValue(_LINE_Z)
        self.interval.setZValue(_BAND_Z)
        for item in (self.threshold, self.interval):
            item.setVisible(False)
            self.plot.addItem(item, ignoreBounds=True)
        self.dress(self._theme)

    def dress(self, theme: Theme) -> None:
        """Take the colours of a theme."""
        self._theme = theme
        _dress(self.plot, theme)
        self.points.setSymbolBrush(theme.curve)
        self.points.setSymbolPen(None)
        self.crosses.setSymbolPen(pg.mkPen(theme.saturated, width=2))
        self.crosses.setSymbolBrush(None)
        self.threshold.setPen(pg.mkPen(theme.threshold, width=1, style=QtCore.Qt.PenStyle.DashLine))
        band = QtGui.QColor(theme.threshold)
        band.setAlpha(60)
        self.interval.setBrush(band)
        for edge in self.interval.lines:
            edge.setPen(pg.mkPen(None))

    def show_curve(self, curve: Curve | None, threshold: ThresholdView | None, results: tuple[str, ...]) -> None:
        """Show the points so far and what they say of the threshold.

        :param results: Other results, in words; shown where the procedure has no threshold.
        """
        if curve is not None and curve.logarithmic != self._logarithmic:
            old = self.plot
            self._axes(logarithmic=curve.logarithmic)
            layout = self.layout()
            if layout is not None:
                layout.replaceWidget(old, self.plot)
            old.deleteLater()
        self.heading.setText("L–L curve" if self._logarithmic else "Points")
        self._show_points(curve)
        self._show_threshold(threshold)
        if threshold is not None and curve is not None:
            self.words.say(threshold.text)
        else:
            self.words.say("   ".join(results))

    def _show_points(self, curve: Curve | None) -> None:
        _show_axes(self.plot, curve is not None and len(curve.x) > 0)
        if curve is None:
            self.points.setData([], [])
            self.crosses.setData([], [])
            self.caption.say("none yet")
            return
        with np.errstate(invalid="ignore", divide="ignore"):
            x, y = (np.log10(values) if curve.logarithmic else values for values in (curve.x, curve.y))
        drawn = np.isfinite(x) & np.isfinite(y)
        used, full = drawn & ~curve.saturated, drawn & curve.saturated
        self.points.setData(x[used], y[used])
        self.crosses.setData(x[full], y[full])
        self.plot.setLabel("bottom", curve.x_label)
        self.plot.setLabel("left", curve.y_label)
        count = int(used.sum())
        parts = [f"● {count} point{'' if count == 1 else 's'}"]
        if full.any():
            parts.append(f"× {int(full.sum())} saturated, not fitted")
        if hidden := len(x) - int(drawn.sum()):
            parts.append(f"{hidden} not above zero, not drawn")
        self.caption.say("   ".join(parts))

    def _show_threshold(self, threshold: ThresholdView | None) -> None:
        value = threshold.value if threshold is not None and self._logarithmic else None
        self.threshold.setVisible(bool(value and value > 0))
        if value and value > 0:
            self.threshold.setValue(float(np.log10(value)))
        low, high = (threshold.low, threshold.high) if value and threshold is not None else (None, None)
        self.interval.setVisible(bool(low and high and low > 0))
        if low and high and low > 0:
            self.interval.setRegion((float(np.log10(low)), float(np.log10(high))))


def _plot(bottom: Any, left: Any) -> Any:
    plot = pg.PlotWidget(axisItems={"bottom": bottom, "left": left})
    plot.setMinimumSize(220, 150)
    plot.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
    plot.showGrid(x=True, y=True, alpha=0.12)
    plot.hideButtons()
    return plot


def _show_axes(plot: Any, shown: bool) -> None:
    """Show axes only where there is something to read off."""
    for side in ("bottom", "left"):
        plot.showAxis(side, shown)


def _dress(plot: Any, theme: Theme) -> None:
    plot.setBackground(theme.panel)
    for side in ("bottom", "left"):
        axis = plot.getAxis(side)
        axis.setPen(pg.mkPen(theme.muted))
        axis.setTextPen(pg.mkPen(theme.ink))


def _arrange(
    panel: QtWidgets.QFrame, heading: QtWidgets.QLabel, caption: QtWidgets.QWidget, plot: Any, foot: list[Any]
) -> None:
    """Lay out a panel: heading and caption, plot, foot."""
    panel.setObjectName("panel")
    heading.setProperty("role", "heading")
    rows = QtWidgets.QVBoxLayout(panel)
    rows.setContentsMargins(10, 8, 10, 8)
    rows.setSpacing(4)
    for widgets in ([heading, caption], [plot], foot):
        if len(widgets) == 1 and widgets[0] is plot:
            rows.addWidget(plot, 1)
            continue
        line = QtWidgets.QHBoxLayout()
        line.setSpacing(10)
        for widget in widgets:
            line.addWidget(widget, 1 if isinstance(widget, ElidedLabel) else 0)
        rows.addLayout(line)
