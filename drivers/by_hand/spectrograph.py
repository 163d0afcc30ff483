"""A spectrograph that is set by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from drivers.by_hand.instrument import ByHand
from labctl.clock import Clock
from labctl.errors import InputError
from labctl.roles import Grating, Identity, SpectrographGeometry
from labctl.transport.adapter import WireAdapter


class SpectrographByHand(ByHand):
    """A spectrograph with a crank and a counter; the operator turns and reads off.

    :param options: See :class:`Options`.
    """

    ROLE = "spectrograph"

    class Options(BaseModel):
        """Options in the bench file.

        :param lines_per_mm: Groove density of each grating of the turret, in the order of its positions.
        :param focal_length_mm: Focal length.
        :param half_angle_deg: Half of the angle between entrance and exit arm at the grating.
        :param detector_angle_deg: Tilt of the detector plane.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")

        lines_per_mm: Annotated[tuple[Annotated[float, Field(ge=0, le=6000)], ...], Field(min_length=1)] = (600.0,)
        focal_length_mm: Annotated[float, Field(gt=0)] = 300.0
        half_angle_deg: Annotated[float, Field(ge=0, lt=45)] = 15.2
        detector_angle_deg: Annotated[float, Field(gt=-45, lt=45)] = 1.38

    def __init__(
        self, adapter: WireAdapter, name: str = "spectrograph by hand", *, clock: Clock, **options: object
    ) -> None:
        super().__init__(adapter, name, clock=clock)
        self._chosen = self.Options.model_validate(options)
        self._wavelength_nm: float | None = None
        self._grating: Grating | None = None

    def identify(self) -> Identity:
        """Get that it is set by hand."""
        return Identity("", "spectrograph set by hand")

    @property
    def wavelength_nm(self) -> float:
        """Get the centre wavelength in nm that was last read off; asked for if none was."""
        if self._wavelength_nm is None:
            self._wavelength_nm = self._read_off("Read the wavelength of the spectrograph; leave it.", read=True)
        return self._wavelength_nm

    def go_to(self, wavelength_nm: float) -> float:
        """Have the centre wavelength set; returns what the operator reads off."""
        self._wavelength_nm = None
        self._wavelength_nm = self._read_off(
            f"Set the spectrograph to {wavelength_nm:g} nm.",
            wavelength_nm=wavelength_nm,
            lines_per_mm=self.grating.lines_per_mm,
        )
        return self._wavelength_nm

    @property
    def gratings(self) -> Sequence[Grating]:
        """Get the installed gratings, from the bench file."""
        return [Grating(number, lines, "") for number, lines in enumerate(self._chosen.lines_per_mm, start=1)]

    @property
    def grating(self) -> Grating:
        """Get which grating is in the beam; asked for if nobody has said it."""
        if self._grating is None:
            self._grating = self.select_grating(1) if len(self.gratings) == 1 else self._read_grating()
        return self._grating

    def select_grating(self, number: int) -> Grating:
        """Have a grating turned into the beam; raises InputError if there is none of this number."""
        found = [grating for grating in self.gratings if grating.number == number]
        if not found:
            raise InputError(
                f"the spectrograph has {len(self.gratings)} grating(s), none at position {number}",
                where=self.name,
                todo="see spectrometer.grating, and lines_per_mm in the options of the spectrograph",
            )
        if self._grating != found[0]:
            self.tell(
                f"Turn grating {number} ({found[0].lines_per_mm:g} lines/mm) into the beam.",
                lines_per_mm=found[0].lines_per_mm,
            )
            self._grating = found[0]
        return found[0]

    @property
    def geometry(self) -> SpectrographGeometry:
        """Get the geometry for the wavelength axis, from the bench file."""
        chosen = self._chosen
        return SpectrographGeometry(chosen.focal_length_mm, chosen.half_angle_deg, chosen.detector_angle_deg)

    def _read_grating(self) -> Grating:
        count = len(self.gratings)
        number = self.read_off(
            "Look which grating stands in the beam of the spectrograph.",
            f"its position, 1 to {count}",
            {"": 1.0},
            lambda value: value in range(1, count + 1),
            read_grating=True,
        )
        return self.gratings[int(number) - 1]

    def _read_off(self, ask: str, **act: float | bool) -> float:
        units = {"": 1.0, "nm": 1.0}
        return self.read_off(ask, "the wavelength it shows, e.g. 632.0 nm", units, lambda nm: 0 <= nm < 1e5, **act)
