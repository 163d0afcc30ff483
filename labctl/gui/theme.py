"""The look of the window, light and dark: calm greys; colour only for what needs the eye, and never alone."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.gui.qt import QtGui, QtWidgets

MOST_POINTS = 10.0
"""Greatest size of the font, in points: platforms without a desktop come with 12."""


@dataclass(frozen=True)
class Theme:
    """Colours of one look; text on each background has a contrast of at least 4.5 to 1."""

    name: str
    window: str
    panel: str
    field: str
    ink: str
    muted: str
    border: str
    accent: str
    on_accent: str
    good: str
    warn: str
    on_warn: str
    alarm: str
    on_alarm: str
    alarm_text: str
    curve: str
    saturated: str
    threshold: str


LIGHT = Theme(
    name="light",
    window="#EEF0F2",
    panel="#FFFFFF",
    field="#FFFFFF",
    ink="#1B2127",
    muted="#56616C",
    border="#C9D0D6",
    accent="#0B5CA8",
    on_accent="#FFFFFF",
    good="#1D6B43",
    warn="#F0B323",
    on_warn="#1B1500",
    alarm="#B3001B",
    on_alarm="#FFFFFF",
    alarm_text="#A30018",
    curve="#0072B2",
    saturated="#C2410C",
    threshold="#7A4A00",
)
DARK = Theme(
    name="dark",
    window="#15181B",
    panel="#1D2125",
    field="#262B30",
    ink="#E4E8EB",
    muted="#9CA7B1",
    border="#3B434B",
    accent="#2B77BD",
    on_accent="#FFFFFF",
    good="#7FD1A3",
    warn="#E0A21B",
    on_warn="#1B1500",
    alarm="#C1121F",
    on_alarm="#FFFFFF",
    alarm_text="#FF8A8A",
    curve="#56B4E9",
    saturated="#FF8A4C",
    threshold="#F0C36A",
)


def apply(app: QtWidgets.QApplication, theme: Theme) -> None:
    """Dress the application."""
    app.setStyle("Fusion")
    font = app.font()
    font.setPointSizeF(min(font.pointSizeF(), MOST_POINTS))
    app.setFont(font)
    palette = QtGui.QPalette()
    roles = QtGui.QPalette.ColorRole
    for role, color in (
        (roles.Window, theme.window),
        (roles.WindowText, theme.ink),
        (roles.Base, theme.field),
        (roles.AlternateBase, theme.panel),
        (roles.Text, theme.ink),
        (roles.Button, theme.panel),
        (roles.ButtonText, theme.ink),
        (roles.ToolTipBase, theme.panel),
        (roles.ToolTipText, theme.ink),
        (roles.PlaceholderText, theme.muted),
        (roles.Highlight, theme.accent),
        (roles.HighlightedText, theme.on_accent),
    ):
        palette.setColor(role, QtGui.QColor(color))
    for role in (roles.Text, roles.WindowText, roles.ButtonText):
        palette.setColor(QtGui.QPalette.ColorGroup.Disabled, role, QtGui.QColor(theme.muted))
    app.setPalette(palette)
    app.setStyleSheet(style_sheet(theme))


def style_sheet(theme: Theme) -> str:
    """Write the style sheet; tones of chips and labels are set by the property ``tone``."""
    t = theme
    return f"""
    QToolTip {{ color: {t.ink}; background: {t.panel}; border: 1px solid {t.border}; padding: 3px; }}
    QFrame#panel {{ background: {t.panel}; border: 1px solid {t.border}; border-radius: 6px; }}
    QFrame#panel QLabel, QFrame#chip QLabel, QFrame#prompt QLabel {{ background: transparent; border: none; }}
    QScrollArea, QWidget#clear {{ background: transparent; border: none; }}
    QScrollBar {{ background: transparent; border: none; width: 10px; height: 10px; margin: 0; }}
    QScrollBar::handle {{ background: {t.border}; border-radius: 4px; min-height: 24px; min-width: 24px; }}
    QScrollBar::handle:hover {{ background: {t.muted}; }}
    QScrollBar::add-line, QScrollBar::sub-line {{ width: 0; height: 0; }}
    QScrollBar::add-page, QScrollBar::sub-page {{ background: transparent; }}
    QLabel[role="heading"] {{ font-weight: 600; }}
    QLabel[role="muted"] {{ color: {t.muted}; }}
    QLabel[role="error"] {{ color: {t.alarm_text}; font-weight: 600; }}
    QLabel[role="warning"] {{ color: {t.on_warn}; background: {t.warn}; border-radius: 3px; padding: 1px 6px;
        font-weight: 600; }}
    QLineEdit, QPlainTextEdit, QListWidget {{ background: {t.field}; color: {t.ink};
        border: 1px solid {t.border}; border-radius: 4px; padding: 3px 5px; }}
    QLineEdit:focus {{ border: 1px solid {t.accent}; }}
    QLineEdit[fault="true"] {{ border: 2px solid {t.alarm_text}; }}
    QPushButton {{ background: {t.panel}; color: {t.ink}; border: 1px solid {t.border}; border-radius: 4px;
        padding: 5px 12px; }}
    QPushButton:hover {{ border-color: {t.accent}; }}
    QPushButton:focus {{ border: 1px solid {t.accent}; }}
    QPushButton:disabled {{ color: {t.muted}; }}
    QPushButton#start:enabled {{ background: {t.accent}; color: {t.on_accent}; border-color: {t.accent};
        font-weight: 600; }}
    QPushButton#flat {{ border: none; background: transparent; color: {t.muted}; padding: 2px 8px; }}
    QPushButton#flat:hover {{ color: {t.ink}; }}
    QPushButton#abort {{ background: {t.alarm}; color: {t.on_alarm}; border: 2px solid {t.alarm}; border-radius: 6px;
        font-weight: 700; padding: 4px 18px; }}
    QPushButton#abort:hover {{ border-color: {t.ink}; }}
    QPushButton#abort[idle="true"] {{ background: transparent; color: {t.alarm_text}; }}
    QFrame#chip {{ background: {t.panel}; border: 1px solid {t.border}; border-radius: 6px; }}
    QFrame#chip QLabel[role="name"], QFrame#chip QLabel[role="detail"] {{ color: {t.muted}; }}
    QFrame#chip QLabel[role="word"] {{ font-weight: 700; }}
    QFrame#chip[tone="busy"] {{ border: 2px solid {t.accent}; }}
    QFrame#chip[tone="good"] QLabel[role="word"] {{ color: {t.good}; }}
    QFrame#chip[tone="warn"], QFrame#prompt {{ background: {t.warn}; border: 2px solid {t.on_warn}; }}
    QFrame#chip[tone="warn"] QLabel, QFrame#prompt QLabel {{ color: {t.on_warn}; }}
    QFrame#chip[tone="alarm"] {{ background: {t.alarm}; border: 2px solid {t.ink}; }}
    QFrame#chip[tone="alarm"] QLabel {{ color: {t.on_alarm}; }}
    QProgressBar {{ background: {t.field}; border: 1px solid {t.border}; border-radius: 3px; max-height: 6px; }}
    QProgressBar::chunk {{ background: {t.accent}; border-radius: 2px; }}
    QFrame#prompt {{ border-radius: 6px; }}
    QSplitter::handle {{ background: transparent; }}
    QStatusBar {{ color: {t.muted}; }}
    QStatusBar::item {{ border: none; }}
    """


def set_property(widget: QtWidgets.QWidget, name: str, value: object) -> None:
    """Set a property that the style sheet looks at, and have it looked at."""
    if widget.property(name) == value:
        return
    widget.setProperty(name, value)
    style = widget.style()
    if style is not None:
        for child in (widget, *widget.findChildren(QtWidgets.QLabel)):
            style.unpolish(child)
            style.polish(child)
