"""What a Lake Shore temperature controller stores: registers that are set by a command and read by its query.

``NAME key,field,...`` sets, ``NAME? key`` reads. Fields left blank, or left out at the end, keep what they hold.

UNVERIFIED: the digits of replies, and what stands in the registers when the controller is new.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Field = Callable[[str], str]
"""Turns what was sent into what is stored; raises ValueError for what is out of range."""


class UnknownKey(Exception):
    """There is no such input, output, curve..."""


def whole(low: int, high: int) -> Field:
    """A whole number within bounds; ``2.0`` counts as one."""

    def parse(text: str) -> str:
        value = float(text)
        if value != int(value) or not low <= value <= high:
            raise ValueError(text)
        return str(int(value))

    return parse


def number(low: float, high: float, form: str = "+.3f") -> Field:
    """A number within bounds."""

    def parse(text: str) -> str:
        value = float(text)
        if not low <= value <= high:
            raise ValueError(text)
        return format(value, form)

    return parse


def words(width: int) -> Field:
    """A text, with or without quotation marks, padded with blanks."""

    def parse(text: str) -> str:
        return text.strip().strip('"')[:width].ljust(width)

    return parse


def one_of(*allowed: str) -> Field:
    """One of a few words."""

    def parse(text: str) -> str:
        if text.upper() not in allowed:
            raise ValueError(text)
        return text.upper()

    return parse


@dataclass(frozen=True)
class Register:
    """One kind of register.

    :param keys: Which there are, or a number of them from 1; nothing for a single one. A second key is part of the
        first: ``1,3``.
    :param fields: What may stand in each field. :param new: What stands there when the controller is new.
    """

    keys: tuple[str, ...]
    fields: tuple[Field, ...]
    new: str


_SWITCH = whole(0, 1)
_NAME = words(15)


def registers(inputs: str, outputs: str, model: str) -> dict[str, Register]:
    """Get the registers of a model.

    :param inputs: Letters of its inputs. :param outputs: Digits of its outputs.
    """
    letters, digits, none = tuple(inputs), tuple(outputs), ()
    sources = whole(0, len(inputs))
    curves = tuple(str(curve) for curve in range(1, 60))
    points = tuple(f"{curve},{point}" for curve in range(21, 60) for point in range(1, 201))
    zones = tuple(f"{output},{zone}" for output in outputs for zone in range(1, 11))
    percent, gains = number(0, 100), (number(0.1, 1000, "+.1f"), number(0.1, 1000, "+.1f"), number(0, 200, "+.0f"))
    common = {
        "PID": Register(digits, gains, "+50.0,+20.0,+0"),
        "RAMP": Register(digits, (_SWITCH, number(0, 100, ".1f")), "0,1.0"),
        "MOUT": Register(digits, (percent,), "+0.000"),
        "OUTMODE": Register(digits, (whole(0, 5), sources, _SWITCH), "1,1,0"),
        "HTRSET": Register(("1", "2"), (whole(1, 2), whole(0, 4), number(0, 2, "+.3f"), whole(1, 2)), "2,1,+0.000,1"),
        "INTYPE": Register(letters, (whole(0, 4), _SWITCH, whole(0, 8), _SWITCH, whole(1, 3)), "2,1,0,1,1"),
        "INNAME": Register(letters, (_NAME,), "Input".ljust(15)),
        "INCRV": Register(letters, (whole(0, 59),), "6"),
        "TLIMIT": Register(letters, (number(0, 1500, "+.4f"),), "+400.0000"),
        "FILTER": Register(letters, (_SWITCH, whole(2, 64), whole(1, 10)), "0,8,10"),
        "DIOCUR": Register(letters, (_SWITCH,), "0"),
        "ALARM": Register(
            letters,
            (_SWITCH, number(-1e4, 1e4), number(-1e4, 1e4), number(0, 1e4), _SWITCH, _SWITCH, _SWITCH),
            "0,+1000.000,+0.000,+0.000,0,0,0",
        ),
        "RELAY": Register(("1", "2"), (whole(0, 2), one_of(*letters), whole(0, 2)), "0,A,2"),
        "ZONE": Register(
            zones,
            (number(0, 1500), *gains, percent, whole(0, 3), sources, number(0, 100, ".1f")),
            "+0.000,+50.0,+20.0,+0,+0.000,0,0,0.1",
        ),
        "CRVHDR": Register(
            curves, (_NAME, words(10), whole(1, 4), number(0, 1500), whole(1, 2)), "User,0,2,+325.000,1"
        ),
        "CRVPT": Register(points, (number(-1e5, 1e5), number(0, 1500)), "+0.000,+0.000"),
        "WARMUP": Register(digits, (_SWITCH, percent), "1,+0.000"),
        "MODE": Register(none, (whole(0, 2),), "0"),
        "DISPLAY": Register(none, (whole(0, 7), whole(0, 2), whole(1, 4)), "4,0,1"),
        "DISPFLD": Register(tuple("12345678"), (whole(0, 7), whole(1, 6)), "1,1"),
        "BRIGT": Register(none, (whole(0, 32),), "28"),
        "LEDS": Register(none, (_SWITCH,), "1"),
        "LOCK": Register(none, (_SWITCH, whole(0, 999)), "0,123"),
        "IEEE": Register(none, (whole(1, 30),), "12"),
        "INTSEL": Register(none, (whole(0, 2),), "1"),
        "OPSTE": Register(none, (whole(0, 255),), "0"),
        "*ESE": Register(none, (whole(0, 255),), "0"),
        "*SRE": Register(none, (whole(0, 255),), "0"),
    }
    if model == "335":
        return {**common, "EMUL": Register(none, (_SWITCH, whole(0, 30)), "0,12")}
    address = words(15)
    network = (_SWITCH, _SWITCH, address, address, address, address, address, _NAME, words(64), words(32))
    return {
        **common,
        "ANALOG": Register(
            ("3", "4"), (sources, whole(1, 3), number(-1e4, 1e4), number(-1e4, 1e4), _SWITCH), "1,1,+100.000,+0.000,0"
        ),
        "NET": Register(none, network, "1,1,192.168.0.12,255.255.255.0,0.0.0.0,0.0.0.0,0.0.0.0,LSCI-336,,"),
        "WEBLOG": Register(none, (_NAME, _NAME), "user,password"),
    }


class Memory:
    """The registers of one controller with what they hold."""

    def __init__(self, kinds: dict[str, Register]) -> None:
        self._kinds = kinds
        self._held: dict[tuple[str, str], list[str]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._kinds

    def read(self, name: str, key: str = "") -> list[str]:
        """Get the fields of a register; raises UnknownKey."""
        kind = self._kinds[name]
        if (kind.keys and key not in kind.keys) or (not kind.keys and key):
            raise UnknownKey(f"{name} {key}")
        return self._held.setdefault((name, key), kind.new.split(","))

    def write(self, name: str, arguments: list[str]) -> str:
        """Set a register from the arguments of its command; get its key.

        Raises UnknownKey, ValueError for a field out of range, or IndexError for too many fields; nothing is changed
        then.
        """
        kind = self._kinds[name]
        length = kind.keys[0].count(",") + 1 if kind.keys else 0
        key, sent = ",".join(arguments[:length]).upper(), arguments[length:]
        held = self.read(name, key)
        if len(sent) > len(kind.fields):
            raise IndexError(f"{name} takes {len(kind.fields)} fields")
        changed = [kind.fields[place](text) if text else held[place] for place, text in enumerate(sent)]
        held[: len(changed)] = changed
        return key
