"""The stages of a fluence sweep with their hard bounds on points, fluence, light and dose."""

from __future__ import annotations

from labctl.analysis.sweep_design import FINE_RANGE, refine_fluences
from labctl.run.plan import Stage
from procedures.emission.exposure import ExposureLadder
from procedures.emission.light import MOVE_S, PointLight, Settings, point_s


def scatter_stage(fluence_uj_cm2: float, ladder: ExposureLadder, frames: int, meter_s: float) -> Stage:
    """One frame of pump scatter; the sample is out of the beam, so it gets no dose."""
    settings = ({"fluence_uj_cm2": fluence_uj_cm2, "exposure_s": ladder.middle_s},)
    bounds = {"fluence_uj_cm2": (fluence_uj_cm2, fluence_uj_cm2), "exposure_s": (ladder.middle_s, ladder.middle_s)}
    point_s = MOVE_S + meter_s + frames * ladder.middle_s
    return Stage("scatter", "scatter", 1, point_s, settings, bounds, essential=True)


def listed_stage(name: str, settings: Settings, light: PointLight) -> Stage:
    """Points at fluences that are known beforehand."""
    fluences = [entry["fluence_uj_cm2"] for entry in settings]
    bounds = {"fluence_uj_cm2": (min(fluences), max(fluences)), "exposure_s": light.exposures_s}
    open_s = light.open_s * len(fluences)
    dose = light.dose_j_cm2(fluences)
    return Stage(name, "points", len(fluences), point_s(light), settings, bounds, dose, open_s, MOVE_S + light.open_s)


def fine_stage(points: int, reach: tuple[float, float], light: PointLight) -> Stage:
    """Points around a threshold that is not known yet, anywhere within reach.

    Of all thresholds it may find, the highest gives the highest dose.
    """
    low, top = reach
    dose = light.dose_j_cm2([float(value) for value in refine_fluences(top / FINE_RANGE[1], points, low, top)])
    bounds = {"fluence_uj_cm2": reach, "exposure_s": light.exposures_s}
    return Stage(
        "fine", "points", points, point_s(light), None, bounds, dose, light.open_s * points, MOVE_S + light.open_s
    )
