"""Program messages of SCPI: headers in long or short form and any case, compound messages, numbers.

Rules from SCPI-1999 volume 1 and IEEE 488.2: `;` separates units of a message, a header without leading colon continues
at the level of the one before, a common command (`*IDN?`) leaves that level alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of a program message.

    :param header: Nodes in capitals as they were sent, without `?`, from the root.
    :param query: Whether the header ended in `?`.
    :param argument: What followed the header, stripped.
    """

    header: tuple[str, ...]
    query: bool
    argument: str


def split_message(line: str, known: Iterable[str]) -> list[Unit]:
    """Split a line into its units.

    :param known: Patterns of all headers (see :func:`matches`). A unit that is unknown below the level of its
        predecessor but known at the root is taken from the root: clients often leave the colon out.
    """
    patterns = tuple(known)
    units: list[Unit] = []
    level: tuple[str, ...] = ()
    for text in line.split(";"):
        head, _, argument = text.strip().partition(" ")
        if not head:
            continue
        nodes = tuple(head.upper().rstrip("?").lstrip(":").split(":"))
        if not head.startswith(("*", ":")):
            deeper = (*level, *nodes)
            if level and any(matches(pattern, deeper) for pattern in patterns):
                nodes = deeper
        units.append(Unit(nodes, head.endswith("?"), argument.strip()))
        if not head.startswith("*"):
            level = nodes[:-1]
    return units


def matches(pattern: str, nodes: tuple[str, ...]) -> bool:
    """Get whether nodes in capitals fit a pattern such as ``SENSe:ENERgy:RANGe[:UPPer]``.

    Of each node only the long form (all of it) and the short form (its capitals) are legal; brackets mark what may be
    left out.
    """
    return _expression(pattern).fullmatch(":".join(nodes)) is not None


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    def node(found: re.Match[str]) -> str:
        word = found.group()
        short = "".join(letter for letter in word if not letter.islower())
        return f"(?:{re.escape(short)}|{re.escape(word.upper())})"

    text = re.sub(r"[*A-Za-z0-9]+", node, pattern)
    return re.compile(text.replace("[", "(?:").replace("]", ")?"))
