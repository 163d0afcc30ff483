"""The filters before the slit: one is chosen, and asked for again around every spectrum."""

from __future__ import annotations

from labctl.config.filters import AnyPosition, FilterConfig
from labctl.errors import InputError, InstrumentError
from labctl.roles import FilterWheel


class DetectionFilters:
    """Filter wheel and what stands in its positions.

    :param wheel: The wheel, or a holder that is set by hand.
    :param config: What stands where, from the bench file.
    """

    def __init__(self, wheel: FilterWheel, config: FilterConfig) -> None:
        self.wheel = wheel
        self.config = config
        self._chosen: AnyPosition | None = None

    def select(self, name: str | None = None) -> AnyPosition:
        """Bring a filter into the beam, the one in use if no name is given; returns it when it was read back.

        Raises InputError if the wheel has fewer positions than the bench file names, or no filter has that name.
        """
        self._chosen = None
        beyond = [position for position in self.config.positions if position.number > self.wheel.positions]
        if beyond:
            raise InputError(
                f"the filter wheel has {self.wheel.positions} positions; the bench file names "
                + ", ".join(f"{position.number} ({position.name})" for position in beyond),
                where="filter.positions of the bench file",
                todo="correct the numbers, or the type of the wheel",
            )
        if name is not None and name not in self.config.names:
            raise InputError(f"no filter is named {name!r}", todo=f"choose one of {', '.join(self.config.names)}")
        wanted = self.config.position(self.config.use if name is None else name)
        self._require(wanted, self.wheel.select(wanted.number))
        self._chosen = wanted
        return wanted

    def in_beam(self) -> AnyPosition:
        """Ask the wheel whether the filter chosen is still in the beam, and get it.

        Raises InstrumentError if it is another one: spectra of two filters would be mixed.
        """
        if self._chosen is None:
            raise InstrumentError(
                "no filter was chosen", role="filter", todo="prepare the spectrometer before it takes spectra"
            )
        self._require(self._chosen, self.wheel.position)
        return self._chosen

    def _require(self, wanted: AnyPosition, number: int) -> None:
        if number == wanted.number:
            return
        found = next((other.name for other in self.config.positions if other.number == number), "not in the bench file")
        raise InstrumentError(
            f"the filter in position {number} ({found}) is in the beam instead of {wanted.number} ({wanted.name})",
            role="filter",
            state="the spectrum taken with it was thrown away",
            todo="keep hands off the wheel during a run, and its trigger input unconnected; then resume",
        )
