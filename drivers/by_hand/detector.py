"""A detector that another program reads out: the operator takes each spectrum there and names the file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from drivers.by_hand.instrument import ByHand
from labctl.clock import Clock
from labctl.errors import InstrumentError
from labctl.roles import CoolerState, Identity
from labctl.transport.adapter import WireAdapter

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TRIES = 3


class DetectorByHand(ByHand):
    """A camera in the hands of its own program; spectra come as text files, their last column the counts.

    :param options: See :class:`Options`.
    """

    ROLE = "detector"

    class Options(BaseModel):
        """Options in the bench file.

        :param pixels: Pixels along the wavelength axis; a file with another number of lines is refused.
        :param pixel_um: Width of a pixel, in µm: the wavelength axis rests on it.
        :param full_scale_counts: Ceiling of the ADC.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")

        pixels: Annotated[int, Field(gt=8)] = 1024
        pixel_um: Annotated[float, Field(gt=0)] = 26.0
        full_scale_counts: Annotated[int, Field(gt=0)] = 65535

    def __init__(
        self, adapter: WireAdapter, name: str = "detector by hand", *, clock: Clock, **options: object
    ) -> None:
        super().__init__(adapter, name, clock=clock)
        self._chosen = self.Options.model_validate(options)
        self._exposure_s = 0.1
        self._temperature_c: float | None = None

    def identify(self) -> Identity:
        """Get that another program reads it out."""
        return Identity("", "detector read out by another program")

    @property
    def pixels(self) -> int:
        """Get the number of pixels along the wavelength axis."""
        return self._chosen.pixels

    @property
    def pixel_um(self) -> float:
        """Get the width of a pixel in µm."""
        return self._chosen.pixel_um

    @property
    def full_scale_counts(self) -> int:
        """Get the ceiling of the ADC for one exposure, in counts."""
        return self._chosen.full_scale_counts

    @property
    def cooler(self) -> CoolerState:
        """Get the state of the cooler as the operator reported it."""
        if self._temperature_c is None:
            return CoolerState(False, float("nan"), False, "nobody has set it")
        return CoolerState(True, self._temperature_c, True, "stable, the operator says")

    def cool_to(self, temperature_c: float) -> None:
        """Have the cooler set and its lock awaited; returns when the operator says that it is stable."""
        self._temperature_c = None
        self.tell(
            f"Cool the detector to {temperature_c:g} degC and wait until it is stable.", temperature_c=temperature_c
        )
        self._temperature_c = temperature_c

    @property
    def exposure_s(self) -> float:
        """Get the exposure in s that the operator will be asked for."""
        return self._exposure_s

    def set_exposure(self, exposure_s: float) -> float:
        """Control the exposure in s of the spectra to come; returns it."""
        self._exposure_s = exposure_s
        return exposure_s

    @property
    def cycle_s(self) -> float:
        """Get the exposure in s: the time that an operator needs is not known."""
        return self._exposure_s

    def start(self) -> None:
        """Nothing yet: the operator is asked when the spectrum is wanted."""

    def read(self) -> NDArray[np.int32]:
        """Have one exposure taken and saved; returns the last column of the file, shape (pixels,), counts."""
        ask = f"Take one exposure of {self._exposure_s:g} s, without subtracting anything, and save it as text."
        wants = "the path of the file"
        question, said = ask, ""
        for _ in range(_TRIES):
            reply = self._exchange(question, wants, {"exposure_s": self._exposure_s, "cooled_to": self._temperature_c})
            said = str(reply["said"])
            try:
                counts = np.asarray(reply["counts"]) if "counts" in reply else _last_column(Path(said))
                return self._checked(counts)
            except (OSError, ValueError) as error:
                question = f"{said!r} does not do: {error}. {ask}"
        raise InstrumentError(
            f"no spectrum of {self.pixels} pixels in {said!r}",
            where=self.name,
            todo="save one spectrum per file, a line per pixel with the counts last; see `pixels` in the options",
        )

    def abort(self) -> None:
        """Nothing to stop: no exposure is under way while nobody is asked for one."""

    def _checked(self, counts: NDArray[np.float64]) -> NDArray[np.int32]:
        if counts.shape != (self.pixels,):
            raise ValueError(f"it holds {counts.size} values instead of {self.pixels}")
        if not np.isfinite(counts).all() or (np.abs(counts) > np.iinfo(np.int32).max).any():
            raise ValueError("it holds values that are no counts")
        return np.rint(counts).astype(np.int32)


def _last_column(path: Path) -> NDArray[np.float64]:
    """Read the last number of each line; lines that begin with a letter or ``#`` are headings."""
    lines = path.read_text(encoding="utf-8", errors="replace").replace(";", " ").replace(",", " ").splitlines()
    rows = [
        line.split() for line in lines if line.strip() and not (line.strip()[0].isalpha() or line.strip()[0] == "#")
    ]
    return np.array([float(row[-1]) for row in rows])
