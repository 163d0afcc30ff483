"""Whether the instruments of an opened bench are ready for a run: asked, never moved."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, cast

from labctl.bench.bench import Bench
from labctl.errors import Aborted, LabctlError
from labctl.roles import Detector, Instrument, Readiness, TellsReadiness

_NEAR_K = 1.0
"""Distance from its set-point at which a locked detector is at it."""


@dataclass(frozen=True, slots=True)
class RoleReadiness:
    """One thing that a run needs, with the role it belongs to."""

    role: str
    readiness: Readiness

    def as_dict(self) -> dict[str, Any]:
        """The entry as JSON-serialisable data."""
        return {"role": self.role, **asdict(self.readiness)}


def read_readiness(bench: Bench) -> list[RoleReadiness]:
    """Ask every open instrument that can tell whether it is ready, and the detector for its temperature.

    One that does not answer is not ready; only Aborted is raised. Open the bench with ``only_to_make_safe=True`` to
    ask without homing the attenuator.
    """
    found: list[RoleReadiness] = []
    for role, instrument in bench.instruments.items():
        try:
            entries = [*_told(instrument), *_cooling(bench, role, instrument)]
        except Aborted:
            raise
        except Exception as error:  # a driver of another package may fail in any way
            what = error.what if isinstance(error, LabctlError) else f"{type(error).__name__}: {error}"
            entries = [Readiness("answers", False, what)]
        found += [RoleReadiness(role, entry) for entry in entries]
    return found


def _told(instrument: Instrument) -> list[Readiness]:
    return list(instrument.readiness()) if isinstance(instrument, TellsReadiness) else []


def _cooling(bench: Bench, role: str, instrument: Instrument) -> list[Readiness]:
    """Compare the detector's temperature with the set-point of the bench file; a run waits until it is reached."""
    settings = bench.config.spectrometer
    if role != "detector" or settings is None:
        return []
    cooler, wanted_c = cast(Detector, instrument).cooler, settings.temperature_c
    ready = cooler.on and cooler.locked and abs(cooler.temperature_c - wanted_c) <= _NEAR_K
    text = f"{cooler.temperature_c:.1f} degC, set-point {wanted_c:g} degC, {cooler.text}"
    if not ready:
        text += f": a run waits for it, at most {settings.cooling_timeout_s:g} s"
    return [Readiness("temperature", ready, text, waits=True)]
