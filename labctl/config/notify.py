"""Who is told what of a campaign: the table ``[notify]``. Its addresses hold secrets and are never shown or stored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from labctl.config.fault import Fault, as_toml
from labctl.config.quantity import InUnit
from labctl.config.table import PathText, Table
from labctl.config.times import TimeOfDay

MAX_ADDRESSES = 20
MAX_ADDRESS = 2000

Occasion = Literal["failure", "unconfirmed", "stall", "finish", "digest"]
OCCASIONS: tuple[Occasion, ...] = ("failure", "unconfirmed", "stall", "finish", "digest")
_SHOWN = "an address (not shown: it may hold a secret)"
_WANTED = 'an address as Apprise writes it, e.g. "mailto://..." or "slack://..."'


class NotifyTable(Table):
    """Where messages go and on which occasions.

    ``urls`` are addresses of Apprise; ``file`` names a text file with one address in a line, which belongs outside any
    repository. The environment variable ``LABCTL_NOTIFY`` adds more, separated by spaces.
    """

    urls: Annotated[tuple[str, ...], Field(repr=False, exclude=True, strict=False)] = ()
    file: Annotated[PathText | None, Field(description="a path in quotes")] = None
    on: Annotated[
        tuple[Occasion, ...],
        Field(strict=False, min_length=1, max_length=len(OCCASIONS), description="an array of occasions"),
    ] = OCCASIONS
    digest: Annotated[TimeOfDay, Field(description='a time of day, e.g. "08:00"')] = TimeOfDay(8, 0)
    """When the daily digest is made, by the clock of the campaign's time zone."""
    stall_s: Annotated[float, InUnit("s", at_least=60, at_most=30 * 86400, example="30 min"), Field(alias="stall")] = (
        1800.0
    )
    """How much longer than its plan says a run may give no sign before somebody is told."""

    @field_validator("urls", mode="before")
    @classmethod
    def _addresses(cls, urls: Any) -> Any:
        """Check by hand: what pydantic finds wrong it would show."""
        if not isinstance(urls, list):
            raise Fault(_SHOWN if isinstance(urls, str) else as_toml(urls), "an array of addresses")
        if len(urls) > MAX_ADDRESSES:
            raise Fault(f"{len(urls)} addresses", f"at most {MAX_ADDRESSES}")
        for number, url in enumerate(urls):
            if not isinstance(url, str):
                raise Fault(as_toml(url), _WANTED, key=(number,))
            if "://" not in url or len(url) > MAX_ADDRESS or not url.isprintable():
                raise Fault(_SHOWN, _WANTED, key=(number,))
        return tuple(urls)
