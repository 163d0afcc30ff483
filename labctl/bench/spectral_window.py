"""What else the detector would see: the pump line and other orders of the grating in the spectral window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from labctl.config.filters import NO_FILTER, AnyPosition, BandPassPosition, EdgePosition
from labctl.errors import InputError
from labctl.quantities import LIGHT_SPEED_M_S

if TYPE_CHECKING:
    from labctl.config.bench import BenchConfig
    from labctl.config.pump import LaserConfig

_LEAST_MARGIN_NM = 1.0
_MARGIN_WIDTHS = 1.5
_TIME_BANDWIDTH = 0.441
"""Product of the widths at half maximum of a Gaussian pulse in time and frequency, at the transform limit."""

_OTHER = "choose another filter or centre wavelength"

Range = tuple[float, float]


@dataclass(frozen=True)
class SpectralWindow:
    """What a run looks at, as far as it is known.

    :param low_nm: Shortest wavelength that the detector sees in first order. :param high_nm: Longest.
    :param source: Where that comes from: ``axis``, ``spectrometer.window``, ``band`` or ``centre``.
    :param band_nm: The band that is integrated, if one is given.
    :param filter: The filter before the slit; None on a bench without.
    :param line_nm: Where the signal is expected, if that is known.
    """

    low_nm: float
    high_nm: float
    source: str
    band_nm: Range | None = None
    filter: AnyPosition | None = None
    line_nm: float | None = None

    @property
    def signal_nm(self) -> Range:
        """Get where the signal is: the band that is integrated, else the whole window."""
        return self.band_nm or (self.low_nm, self.high_nm)

    def on_axis(self, low_nm: float, high_nm: float) -> SpectralWindow:
        """Get the same with the window that the wavelength axis shows."""
        return replace(self, low_nm=low_nm, high_nm=high_nm, source="axis")

    def __str__(self) -> str:
        seen = f"{self.filter.name}: {self.filter.text}" if self.filter else NO_FILTER
        return f"{_span(self)}; filter {seen}"

    def as_dict(self) -> dict[str, Any]:
        """The window as JSON-serialisable data."""
        return {
            "low_nm": self.low_nm,
            "high_nm": self.high_nm,
            "source": self.source,
            "filter": self.filter.name if self.filter else NO_FILTER,
            "filter_position": self.filter.number if self.filter else 0,
            "filter_text": self.filter.text if self.filter else "",
        }


@dataclass(frozen=True)
class WindowFindings:
    """Why a window is refused, and what the experimenter should know of it."""

    refusals: tuple[str, ...]
    warnings: tuple[str, ...]


def planned_window(
    bench: BenchConfig,
    *,
    centre_nm: float,
    filter_name: str | None,
    band_nm: Sequence[float] | None,
    line_nm: float | None = None,
) -> SpectralWindow:
    """Get the window as far as it is known before the grating has been asked.

    :param filter_name: Name of the filter; that of the bench file if None.
    :param line_nm: Where the signal is expected, if that is known.
    :raises InputError: no such filter.
    """
    chosen = filter_position(bench, filter_name)
    width_nm = bench.spectrometer.window_nm if bench.spectrometer else None
    band = (band_nm[0], band_nm[1]) if band_nm is not None else None
    if width_nm is not None:
        window, source = (centre_nm - width_nm / 2, centre_nm + width_nm / 2), "spectrometer.window"
    elif band is not None:
        window, source = band, "band"
    else:
        window, source = (centre_nm, centre_nm), "centre"
    return SpectralWindow(*window, source, band, chosen, line_nm)


def filter_position(bench: BenchConfig, name: str | None) -> AnyPosition | None:
    """Get the filter of that name, the one in use if None; None on a bench without filters.

    :raises InputError: no such filter.
    """
    if bench.filter is None:
        if name in (None, NO_FILTER):
            return None
        raise InputError(
            f"the bench {bench.name!r} has no filters, so no {name!r}",
            where="parameter filter",
            todo="leave it out, or write [filter] and [instruments.filter]",
        )
    try:
        return bench.filter.position(bench.filter.use if name is None else name)
    except KeyError:
        raise InputError(
            f"the bench {bench.name!r} has no filter {name!r}",
            where="parameter filter",
            todo=f"choose one of {', '.join(bench.filter.names)}",
        ) from None


def check_window(window: SpectralWindow, bench: BenchConfig) -> WindowFindings:
    """Look for the pump line and for other orders in a window, and whether the filter leaves the signal alone.

    Light can be at the pump line, which is scattered, and at any longer wavelength, which is emitted. What a filter
    blocks by an optical density of at least 3 is taken to be gone.
    """
    refusals = _pump_line(window, bench.laser) + _higher_orders(window, bench.laser)
    if refusals:
        refusals = [f"{reason}; {_remedy(window, bench)}" for reason in refusals]
    cut, warnings = _signal(window)
    return WindowFindings((*refusals, *cut), tuple(warnings))


def require_window(window: SpectralWindow, low_nm: float, high_nm: float, bench: BenchConfig) -> list[str]:
    """Check a window again now that the wavelength axis is known; get the warnings that were not given before.

    :raises InputError: all reasons against it at once.
    """
    known, found = check_window(window, bench), check_window(window.on_axis(low_nm, high_nm), bench)
    if found.refusals:
        raise InputError(
            "the spectral window is refused:\n" + "\n".join(f"  - {reason}" for reason in found.refusals),
            where=f"the wavelength axis, {low_nm:.1f} to {high_nm:.1f} nm",
            state="the shutter is closed; no light was on",
            todo="state spectrometer.window in the bench file, and the plan finds it beforehand",
        )
    return [] if known.warnings else list(found.warnings)


def pump_margin_nm(laser: LaserConfig) -> float:
    """Get how far the pump line reaches to either side, in nm: 1.5 times its width, and no less than 1 nm.

    The width is that of a Gaussian pulse at its transform limit, 0.441 λ² / (c τ).
    """
    light_nm_fs = LIGHT_SPEED_M_S * 1e-6
    width_nm = _TIME_BANDWIDTH * laser.wavelength_nm**2 / (light_nm_fs * laser.pulse_duration_fs)
    return max(_LEAST_MARGIN_NM, _MARGIN_WIDTHS * width_nm)


def _pump_line(window: SpectralWindow, laser: LaserConfig | None) -> list[str]:
    if laser is None:
        return []
    margin_nm = pump_margin_nm(laser)
    line = (laser.wavelength_nm - margin_nm, laser.wavelength_nm + margin_nm)
    if line[1] < window.low_nm or line[0] > window.high_nm or not _unblocked(line, window.filter):
        return []
    return [f"the window of {_span(window)} holds the pump line at {laser.wavelength_nm:g} nm"]


def _higher_orders(window: SpectralWindow, laser: LaserConfig | None) -> list[str]:
    """Every order m ≥ 2 shows light of λ at m λ."""
    if laser is None:
        return []
    shortest_nm = laser.wavelength_nm - pump_margin_nm(laser)
    reasons: list[str] = []
    order = 2
    while window.high_nm / order >= shortest_nm:
        light = (max(window.low_nm / order, shortest_nm), window.high_nm / order)
        for low_nm, high_nm in _unblocked(light, window.filter):
            line = ", with the pump line," if low_nm <= laser.wavelength_nm <= high_nm else ""
            where = f"falls into the window of {_span(window)} in order {order} of the grating"
            reasons.append(f"light of {_text(low_nm, high_nm)}{line} {where}")
        order += 1
    return reasons


def _signal(window: SpectralWindow) -> tuple[list[str], list[str]]:
    """Get reasons against a filter that takes the signal away, and warnings of one that takes a part of it."""
    position, (low_nm, high_nm) = window.filter, window.signal_nm
    if position is None:
        return [], []
    named = f"the filter {position.name!r} ({position.text})"
    if not position.passes_light:
        return [f"{named} is in use: no light reaches the detector; choose another filter"], []
    refusals: list[str] = []
    warnings: list[str] = []
    line_nm = window.line_nm
    if line_nm is not None and not position.passed_nm[0] <= line_nm <= position.passed_nm[1]:
        return [f"{named} takes away the line that is expected at {line_nm:g} nm; {_OTHER}"], []
    place = "window" if window.band_nm is None else "band"
    if isinstance(position, EdgePosition | BandPassPosition) and position.cut_on_nm > low_nm:
        if position.cut_on_nm > high_nm:
            refusals.append(f"{named} takes away {_text(low_nm, high_nm)}, where the signal is sought; {_OTHER}")
        else:
            warnings.append(f"{named} cuts off what is below {position.cut_on_nm:g} nm of the {place}")
    if isinstance(position, BandPassPosition) and position.cut_off_nm < high_nm:
        if position.cut_off_nm < low_nm:
            refusals.append(f"{named} takes away {_text(low_nm, high_nm)}, where the signal is sought; {_OTHER}")
        else:
            warnings.append(f"{named} cuts off what is above {position.cut_off_nm:g} nm of the {place}")
    return refusals, warnings


def _unblocked(light: Range, position: AnyPosition | None) -> list[Range]:
    """Get the parts of a range of wavelengths that a filter does not block."""
    parts = [light]
    for start_nm, end_nm in position.blocked_nm if position is not None else ():
        left: list[Range] = []
        for low_nm, high_nm in parts:
            if end_nm <= low_nm or start_nm >= high_nm:
                left.append((low_nm, high_nm))
                continue
            if low_nm < start_nm:
                left.append((low_nm, start_nm))
            if high_nm > end_nm:
                left.append((end_nm, high_nm))
        parts = left
    return parts


def _remedy(window: SpectralWindow, bench: BenchConfig) -> str:
    """Say what to do: name the filters of the bench that would do, else what filter is wanted."""
    would_do: list[str] = []
    for position in bench.filter.positions if bench.filter else ():
        other = replace(window, filter=position)
        if not (_pump_line(other, bench.laser) + _higher_orders(other, bench.laser) + _signal(other)[0]):
            would_do.append(position.name)
    if would_do:
        return f"use the filter {' or '.join(map(repr, would_do))}, or another centre wavelength"
    return (
        "put a long-pass filter that blocks it before the slit ([filter] of the bench), or move the centre wavelength"
    )


def _span(window: SpectralWindow) -> str:
    return f"{_text(window.low_nm, window.high_nm)} ({window.source})"


def _text(low_nm: float, high_nm: float) -> str:
    return f"{low_nm:.0f} nm" if low_nm == high_nm else f"{low_nm:.0f} to {high_nm:.0f} nm"
