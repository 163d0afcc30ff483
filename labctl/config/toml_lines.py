"""Where each key of a TOML document stands: key path to line number.

The standard library's parser gives values without places. This scanner walks the same text for places only; it takes
any text, because a document with a syntax error is scanned as well. What it finds in a valid document are exactly the
paths of the parsed document (a test holds that).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field

from labctl.config.fault import as_toml

Path = tuple[str | int, ...]

_BLANK = re.compile(r"[ \t\r\n]*(?:#[^\n]*)?")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRINGS = (
    re.compile(r'"""((?:[^\\]|\\.)*?)"{3,5}', re.DOTALL),
    re.compile(r"'''(.*?)'{3,5}", re.DOTALL),
    re.compile(r'"((?:[^"\\\n]|\\.)*)"'),
    re.compile(r"'([^'\n]*)'"),
)
_SCALAR = re.compile(r"[^,\]}#\n]*")
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))")
MAX_DEPTH = 32
"""Keys, tables and arrays within each other; a file of ours needs six."""
_ENDLESS_NUMBER = re.compile(r"[+-]?[0-9](?:[xob]?[0-9A-Fa-f_]{1000,})\s*")
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}


@dataclass(frozen=True)
class Duplicate:
    """A key or table that is given twice; lines from 1."""

    path: Path
    line: int
    first_line: int


@dataclass(frozen=True)
class TomlLines:
    """Line of every key, table and array element of a document.

    :param lines: Key path (array elements by number from 0) to line from 1; a table has the line of its header.
    :param statements: First and last line of each header and each ``key = value``.
    :param duplicates: What is given more than once.
    """

    lines: Mapping[Path, int]
    statements: tuple[tuple[int, int], ...]
    duplicates: tuple[Duplicate, ...]

    def line_of(self, path: Path) -> int:
        """Get the line of a path, or of the nearest table around it that has one; 1 for the document."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 1


class Monstrous(Exception):
    """A text that a parser would spend minutes or gigabytes on, or that Python refuses to convert.

    :param line: Where, from 1.
    :param found: What is there.
    :param allowed: What would be accepted.
    """

    def __init__(self, line: int, found: str, allowed: str) -> None:
        super().__init__(f"line {line}: found {found}; allowed: {allowed}")
        self.line = line
        self.found = found
        self.allowed = allowed


def scan_lines(text: str) -> TomlLines:
    """Find the line of every key of a TOML text, valid or not.

    :raises Monstrous: it is nested deeper than :data:`MAX_DEPTH`, or holds a number of more than 1000 digits.
    """
    scanner = _Scanner(text)
    scanner.document()
    return TomlLines(scanner.lines, tuple(scanner.statements), tuple(scanner.duplicates))


def dotted(path: Path) -> str:
    """Write a key path as in TOML: ``instruments.shutter.options`` or ``keep_on[0]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = len(part) <= 80 and _BARE_KEY.fullmatch(part)
            text += ("." if text else "") + (part if plain else as_toml(part))
    return text


class _Stray(Exception):
    """The text at this place is not TOML; the rest of the line is skipped."""


@dataclass
class _Scanner:
    text: str
    position: int = 0
    lines: dict[Path, int] = field(default_factory=dict)
    statements: list[tuple[int, int]] = field(default_factory=list)
    duplicates: list[Duplicate] = field(default_factory=list)
    given: set[Path] = field(default_factory=set)
    lengths: dict[Path, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.starts = [0, *(match.end() for match in re.finditer("\n", self.text))]

    def line(self) -> int:
        return bisect_right(self.starts, self.position)

    def document(self) -> None:
        table: Path = ()
        self.skip_blank()
        while self.position < len(self.text):
            first = self.line()
            try:
                if self.text.startswith("[", self.position):
                    table = self.header()
                else:
                    self.pair(table)
            except _Stray:
                newline = self.text.find("\n", self.position)
                self.position = len(self.text) if newline < 0 else newline
            self.statements.append((first, self.line()))
            self.skip_blank()

    def header(self) -> Path:
        line = self.line()
        brackets = 2 if self.text.startswith("[[", self.position) else 1
        self.position += brackets
        keys = self.dotted_key()
        self.expect("]" * brackets)
        parent: Path = ()
        for key in keys[:-1]:
            parent = (*parent, key)
            self.lines.setdefault(parent, line)
            if parent in self.lengths:
                parent = (*parent, self.lengths[parent] - 1)
        path = (*parent, keys[-1])
        if brackets == 2:
            self.lines.setdefault(path, line)
            self.lengths[path] = self.lengths.get(path, 0) + 1
            path = (*path, self.lengths[path] - 1)
        self.give(path, line)
        return path

    def pair(self, table: Path) -> None:
        line = self.line()
        keys = self.dotted_key()
        self.expect("=")
        for length in range(1, len(keys)):
            self.lines.setdefault((*table, *keys[:length]), line)
        path = (*table, *keys)
        self.give(path, line)
        self.value(path)

    def require_shallow(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            found = f"keys, tables or arrays more than {MAX_DEPTH} levels deep"
            raise Monstrous(self.line(), found, "a few levels")

    def give(self, path: Path, line: int) -> None:
        if path in self.given:
            self.duplicates.append(Duplicate(path, line, self.lines[path]))
        else:
            self.given.add(path)
            self.lines[path] = line

    def value(self, path: Path) -> None:
        self.require_shallow(len(path))
        self.skip_space()
        start = self.text[self.position : self.position + 1]
        if start == "[":
            self.array(path)
        elif start == "{":
            self.inline_table(path)
        elif start in ("'", '"'):
            self.string()
        else:
            match = _SCALAR.match(self.text, self.position)
            if match is None or not match.group().strip():
                raise _Stray
            if _ENDLESS_NUMBER.fullmatch(match.group()):
                raise Monstrous(self.line(), f"a number of {len(match.group().strip())} digits", "at most 1000 digits")
            self.position = match.end()

    def array(self, path: Path) -> None:
        self.position += 1
        number = 0
        while not self.at("]"):
            self.require_shallow(len(path) + 1)
            self.lines[(*path, number)] = self.line()
            self.value((*path, number))
            number += 1
            if not self.at(",", "]"):
                raise _Stray
            if self.text[self.position] == ",":
                self.position += 1
        self.position += 1

    def inline_table(self, path: Path) -> None:
        self.position += 1
        while not self.at("}"):
            self.pair(path)
            if not self.at(",", "}"):
                raise _Stray
            if self.text[self.position] == ",":
                self.position += 1
        self.position += 1

    def at(self, *characters: str) -> bool:
        """Whether one of the characters comes next, behind blanks, line ends and comments."""
        self.skip_blank()
        if self.position >= len(self.text):
            raise _Stray
        return self.text[self.position] in characters

    def dotted_key(self) -> tuple[str, ...]:
        keys = [self.key()]
        self.skip_space()
        while self.text.startswith(".", self.position):
            self.position += 1
            keys.append(self.key())
            self.require_shallow(len(keys))
            self.skip_space()
        return tuple(keys)

    def key(self) -> str:
        self.skip_space()
        if self.text[self.position : self.position + 1] in ("'", '"'):
            return self.string()
        match = _BARE_KEY.match(self.text, self.position)
        if match is None:
            raise _Stray
        self.position = match.end()
        return match.group()

    def string(self) -> str:
        for pattern in _STRINGS:
            match = pattern.match(self.text, self.position)
            if match is not None:
                literal = match.group().startswith("'")
                self.position = match.end()
                return match.group(1) if literal else _ESCAPE.sub(_unescape, match.group(1))
        raise _Stray

    def expect(self, word: str) -> None:
        self.skip_space()
        if not self.text.startswith(word, self.position):
            raise _Stray
        self.position += len(word)

    def skip_space(self) -> None:
        match = _SPACE.match(self.text, self.position)
        self.position = match.end() if match else self.position

    def skip_blank(self) -> None:
        while (match := _BLANK.match(self.text, self.position)) and match.end() > self.position:
            self.position = match.end()


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1) or match.group(2)
    if code is None:
        return _ESCAPED.get(match.group(3), match.group(3))
    return chr(int(code, 16)) if int(code, 16) < 0x110000 else ""
