"""What instruments set by hand have in common: a question to the operator, and the answer.

The "wire" is a line of JSON to whoever stands beside the instrument and a line of JSON back. A question has ``ask``,
the sentence he reads; ``wants``, what he is to type, or nothing; and ``act``, the same in numbers, which a program
in his place goes by. In a run every question and answer is written into the journal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from pymeasure.instruments import Instrument

from labctl.clock import Clock
from labctl.errors import InstrumentError
from labctl.roles import Identity, SafeStep
from labctl.transport.adapter import WireAdapter
from labctl.transport.settings import WireSettings

PATIENCE_S = 3600.0
"""Longer than any front gives an operator: it is for the front to give up."""
_TRIES = 3
_QUANTITY = re.compile(r"([-+]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][-+]?\d+)?)\s*([a-zA-Zµμ]*)")

BY_HAND = WireSettings(
    write_termination=b"\n", read_termination=b"\n", timeout_s=PATIENCE_S, encoding="utf-8", by_hand=True
)


class ByHand(Instrument):
    """An instrument that an operator sets, reads and reports on.

    :param adapter: The line to the operator.
    :param name: Name for messages.
    :param clock: The clock of the run.
    """

    LINK = BY_HAND

    adapter: WireAdapter

    def __init__(self, adapter: WireAdapter, name: str, *, clock: Clock) -> None:
        super().__init__(adapter, name, includeSCPI=False)
        self.clock = clock
        self.on_confirmed: Callable[[str, str], None] | None = None
        """Told what was asked and what was said, where no front of the run records it; set by the bench."""

    def identify(self) -> Identity:
        """Get that it is worked by hand; nothing else is known of it."""
        return Identity("", "set by hand")

    def make_safe(self) -> list[SafeStep]:
        """Nothing to do: what moves by hand alone moves by nobody else."""
        return []

    def close(self) -> None:
        """Release the line; the instrument stays as it is."""
        self.adapter.close()

    def tell(self, ask: str, **act: Any) -> None:
        """Have something done; returns when the operator says so, raises Aborted when he refuses."""
        self._exchange(ask, "", act)

    def read_off(
        self, ask: str, wants: str, units: Mapping[str, float], check: Callable[[float], bool], **act: Any
    ) -> float:
        """Have something done and a number typed; asks again when it makes no sense.

        :param units: Factor of each unit that may be typed; ``""`` if it may be left out.
        :param check: Whether a value is possible.
        :returns: The number times the factor of its unit.
        """
        said, question = "", ask
        for _ in range(_TRIES):
            said = str(self._exchange(question, wants, act)["said"])
            value = read_quantity(said, units)
            if value is not None and check(value):
                return value
            question = f"{said!r} is not {wants}. {ask}"
        raise InstrumentError(f"the operator said {said!r} where {wants} was wanted", where=self.name)

    def _exchange(self, ask: str, wants: str, act: Mapping[str, Any]) -> dict[str, Any]:
        with self.adapter.exclusive():
            self.adapter.write(json.dumps({"ask": ask, "wants": wants, "act": dict(act)}))
            answer = self.adapter.read()
        try:
            reply = json.loads(answer)
        except ValueError:
            reply = None
        if not isinstance(reply, dict) or "said" not in reply:
            raise InstrumentError("the answer of the operator does not parse", exchange=self.adapter.last)
        if self.on_confirmed is not None:
            self.on_confirmed(ask, str(reply["said"]))
        return reply


def read_quantity(text: str, units: Mapping[str, float]) -> float | None:
    """Read e.g. ``12.3 uJ``; None if it is not a number with one of the units."""
    found = _QUANTITY.fullmatch(text.strip())
    if found is None or found[2].replace("µ", "u").replace("μ", "u") not in units:
        return None
    return float(found[1].replace(",", ".")) * units[found[2].replace("µ", "u").replace("μ", "u")]
