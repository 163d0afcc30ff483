"""The simulated operator: does what the question says, after the time a hand needs, and answers.

He goes by the numbers in ``act``, not by the sentence. What he types is what a person would: a rounded dial, a number
with its unit; ``mumble`` makes him a difficult one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from labctl.sim.emulator import LineBuffer, Reply
from labctl.sim.laboratory import Laboratory


class OperatorOptions(BaseModel):
    """How the simulated operator works; options of the driver are not looked at.

    :param hand_s: Time he needs for anything, s.
    :param mumble: He answers every question with this, having done nothing.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    hand_s: Annotated[float, Field(ge=0)] = 2.0
    mumble: str | None = None


class SimulatedOperator:
    """Stands at one instrument of the simulated laboratory.

    :param laboratory: What he works on.
    :param role: The instrument's role.
    :param options: See :class:`OperatorOptions`.
    """

    def __init__(self, laboratory: Laboratory, role: str, options: Mapping[str, object]) -> None:
        self.options = OperatorOptions.model_validate(dict(options))
        self._laboratory = laboratory
        self._role = role
        self._input = LineBuffer(b"\n")
        self._angle_deg = laboratory.truth.wave_plate.initial_deg
        self.asked: list[str] = []

    def respond(self, t: float, data: bytes) -> Sequence[Reply]:
        return [self._reply(t, json.loads(line)) for line in self._input.feed(data)]

    def next_event(self) -> float | None:
        return None

    def _reply(self, t: float, question: Mapping[str, Any]) -> Reply:
        self.asked.append(question["ask"])
        if self.options.mumble is not None:
            return t + self.options.hand_s, _line({"said": self.options.mumble})
        done_s, said = getattr(self, f"_at_{self._role}")(t, question["act"])
        return done_s, _line({"said": said} if isinstance(said, str) else said)

    def _at_shutter(self, t: float, act: Mapping[str, Any]) -> tuple[float, str]:
        done_s = t + self.options.hand_s
        self._laboratory.shutter.set(done_s, act["open"])
        return done_s, ""

    def _at_attenuator(self, t: float, act: Mapping[str, Any]) -> tuple[float, str]:
        done_s = t + self.options.hand_s
        if "angle_deg" in act:
            reached = round(act["angle_deg"], 1)
            self._laboratory.wave_plate.move(t, done_s, self._angle_deg, reached)
            self._angle_deg = reached
        return done_s, f"{self._angle_deg:.1f} deg"

    def _at_energy_meter(self, t: float, act: Mapping[str, Any]) -> tuple[float, str]:
        done_s = t + self.options.hand_s
        if "pulses" not in act:
            return done_s, ""
        energies = self._laboratory.meter_energy_j(t, act["pulses"])
        return done_s + act["pulses"] * self._laboratory.pulse_period_s, (
            f"{1e6 * float(energies.mean()):.4g} uJ" if energies.size else "0 uJ"
        )

    def _at_spectrograph(self, t: float, act: Mapping[str, Any]) -> tuple[float, str]:
        done_s = t + self.options.hand_s
        centre_nm, lines_per_mm = self._laboratory.spectrograph.at(t)
        if act.get("read_grating"):
            return done_s, "1"
        centre_nm, lines_per_mm = act.get("wavelength_nm", centre_nm), act.get("lines_per_mm", lines_per_mm)
        self._laboratory.spectrograph.set(done_s, centre_nm, lines_per_mm)
        return done_s, f"{centre_nm:.2f} nm" if "wavelength_nm" in act or act.get("read") else ""

    def _at_filter(self, t: float, act: Mapping[str, Any]) -> tuple[float, str]:
        done_s = t + self.options.hand_s
        if "position" in act:
            self._laboratory.filters.move(t, done_s, act["position"])
        return done_s, str(self._laboratory.filters.position(done_s))

    def _at_vacuum_gauge(self, t: float, act: Mapping[str, Any]) -> tuple[float, str]:
        done_s = t + self.options.hand_s
        return done_s, f"{self._laboratory.pressure_mbar(done_s):.3g} mbar"

    def _at_detector(self, t: float, act: Mapping[str, Any]) -> tuple[float, str | dict[str, Any]]:
        if "exposure_s" not in act:
            return t + self.options.hand_s, ""
        frame = self._laboratory.expose(t, act["exposure_s"], act["cooled_to"])
        return t + act["exposure_s"] + self.options.hand_s, {"said": "spectrum.txt", "counts": frame.tolist()}


def _line(reply: Mapping[str, Any]) -> bytes:
    return json.dumps(reply).encode() + b"\n"
