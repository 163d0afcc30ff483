"""The lamp that stresses the sample: on and off, and how strongly it shines on the sample."""

from __future__ import annotations

from typing import Any

from labctl.clock import Clock
from labctl.config.surroundings import LampConfig
from labctl.errors import InstrumentError
from labctl.roles import AdjustableLamp, Lamp, PowerMeter

_DARK = 0.02
"""Share of its power at which a lamp that was switched off counts as dark."""
_WEAK = 0.5
"""Share of its power below which a lamp that is on and warm is taken to be broken."""


class StressLamp:
    """The lamp, with the meter that watches it where the bench has one.

    :param lamp: The lamp.
    :param config: The table ``[lamp]``.
    :param clock: Clock of the run.
    :param meter: Power meter that sees a constant share of its light.
    """

    def __init__(self, lamp: Lamp, config: LampConfig, clock: Clock, meter: PowerMeter | None = None) -> None:
        self.lamp = lamp
        self.config = config
        self.clock = clock
        self.meter = meter if config.meter_power_mw is not None else None
        self.warnings: list[str] = []
        self._on_since_s: float | None = None

    def replace(self, old: object, new: Any) -> None:
        """Use another object for an instrument that was connected anew."""
        if self.lamp is old:
            self.lamp = new
        if self.meter is old:
            self.meter = new

    def prepare(self) -> None:
        """Set brightness and the meter's wavelength; the lamp stays as it is."""
        lamp = self.lamp
        if isinstance(lamp, AdjustableLamp) and not self.lamp.is_on:
            lamp.set_brightness(self.config.brightness_percent)
        if self.meter is not None:
            self.meter.wavelength_nm = self.config.wavelength_nm

    def switch_on(self) -> None:
        """Switch on at the brightness of the bench file, if it is off; one connected anew has no brightness yet."""
        if not self.lamp.is_on:
            self.prepare()
            self.lamp.switch_on()
            self._on_since_s = self.clock.now()

    def switch_off(self) -> None:
        """Switch off; raises InstrumentError if the lamp meter still sees light."""
        self.lamp.switch_off()
        self._on_since_s = None
        if self.meter is not None and self._share() > _DARK:
            raise InstrumentError(
                "the lamp was switched off, but its meter still sees light",
                role="lamp",
                state="the lamp may be on",
                todo="look at the lamp and at stray light on its meter",
            )

    @property
    def is_on(self) -> bool:
        """Measure whether the lamp is on."""
        return self.lamp.is_on

    def irradiance_mw_cm2(self) -> float:
        """Measure the irradiance at the sample in mW/cm²; from the meter, else that of the bench file while it is on.

        Raises InstrumentError when a lamp that is on and warm gives less than half of what it should.
        """
        if self.meter is None:
            return self.config.irradiance_mw_cm2 if self.lamp.is_on else 0.0
        share = self._share()
        warm = self._on_since_s is not None and self.clock.now() - self._on_since_s > self.config.warm_up_s
        if warm and share < _WEAK:
            raise InstrumentError(
                f"the lamp is on, but its meter sees {share:.0%} of its light",
                role="lamp_meter",
                todo="look at the lamp, at its shutter and at its meter",
            )
        return share * self.config.irradiance_mw_cm2

    def _share(self) -> float:
        """Measure the light as a share of that at which the irradiance was stated."""
        if self.meter is None or self.config.meter_power_mw is None:
            return 1.0
        return self.meter.power_w * 1e3 / self.config.meter_power_mw
