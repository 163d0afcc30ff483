"""A TOML file as read: values, the line of each key, and every syntax error in it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.config.fault import printable
from labctl.config.toml_lines import Monstrous, TomlLines, dotted, scan_lines
from labctl.errors import ConfigError, Problem

MAX_BYTES = 300_000
"""A campaign of 1000 runs has some 200 kB."""
MAX_SYNTAX_PROBLEMS = 20
_LONGEST_QUANTITY_LINE = 120

_STAND_IN = "labctl-faulty-header-in-line-"
_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_UNQUOTED_QUANTITY = re.compile(r"""^[^='"#]*=\s*([-+0-9.eE]+\s*[A-Za-zµμ°%][^#"']*?)\s*(?:#.*)?$""")


@dataclass(frozen=True)
class TomlDocument:
    """What a TOML file says.

    :param file: Name of the file for messages.
    :param text: Its text, for the provenance of a run.
    :param data: Its values; of a text with syntax errors those that could be read.
    :param lines: The line of each key.
    :param problems: Syntax errors.
    :param readable: False if the rest of a faulty text cannot be trusted to stand where it was meant to.
    """

    file: str
    text: str
    data: Mapping[str, Any]
    lines: TomlLines
    problems: tuple[Problem, ...] = ()
    readable: bool = True


def read_document(path: Path) -> TomlDocument:
    """Read a TOML file.

    :raises ConfigError: the file cannot be opened, is no UTF-8 text, or is larger than a configuration file can be.
    """
    file = str(path)
    try:
        if path.exists() and not path.is_file():  # a pipe or a terminal would be waited for
            found = "what cannot be read as a file (a folder, a device or a pipe)"
            raise ConfigError([Problem(file, None, "file", found, "a TOML file")])
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        found = f"a file that cannot be read ({reason})"
        raise ConfigError([Problem(file, None, "file", found, "a TOML file")]) from error
    if len(content) > MAX_BYTES:
        raise ConfigError([Problem(file, None, "file", f"more than {MAX_BYTES} bytes", f"at most {MAX_BYTES} bytes")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"the byte 0x{content[error.start]:02x}"
        raise ConfigError([Problem(file, line, "text", found, "UTF-8 text; save the file as UTF-8")]) from error
    return parse_document(text, file)


def parse_document(text: str, file: str) -> TomlDocument:
    """Parse TOML text; syntax errors are collected in the result, not raised."""
    text = text.replace("\r\n", "\n")
    try:
        lines = scan_lines(text)
        data, problems, readable = _parse_past_errors(text, file, lines)
    except Monstrous as monster:
        problem = Problem(file, monster.line, "syntax", monster.found, monster.allowed)
        return TomlDocument(file, text, {}, TomlLines({}, (), ()), (problem,), readable=False)
    except RecursionError:
        problem = Problem(file, None, "syntax", "arrays or tables nested too deeply", "a few levels")
        return TomlDocument(file, text, {}, TomlLines({}, (), ()), (problem,), readable=False)
    return TomlDocument(file, text, data, lines, tuple(problems), readable)


def _parse_past_errors(text: str, file: str, lines: TomlLines) -> tuple[dict[str, Any], list[Problem], bool]:
    """Parse; at a syntax error note it, leave that statement out, and go on, so that all errors are seen at once."""
    kept = text.split("\n")
    problems: list[Problem] = []
    while True:
        try:
            data = tomllib.loads("\n".join(kept))
            return {key: value for key, value in data.items() if not key.startswith(_STAND_IN)}, problems, True
        except tomllib.TOMLDecodeError as error:
            line, column = _place(error, kept)
            problems.append(_syntax_problem(file, str(error), line, column, kept, lines))
        except ValueError as error:
            problems.append(Problem(file, None, "syntax", str(error), "TOML"))
            return {}, problems, False
        statement = kept[line - 1].strip()
        stand_in = f"{_STAND_IN}{line}"
        skippable = (line, line) in lines.statements and statement and stand_in not in statement
        if not skippable or len(problems) == MAX_SYNTAX_PROBLEMS:
            return {}, problems, False
        # What follows a faulty header belongs to no table that is known: it goes to one that is thrown away.
        kept[line - 1] = f"[{stand_in}]" if statement.startswith("[") else ""


def _place(error: tomllib.TOMLDecodeError, kept: list[str]) -> tuple[int, int]:
    match = _PLACE.search(str(error))
    if match is None or match.group(1) is None:
        return len(kept), len(kept[-1]) + 1
    line, column = int(match.group(1)), int(match.group(2))
    if column == 1 and line > 1 and not kept[line - 1].strip():
        return line - 1, len(kept[line - 2]) + 1
    return line, column


def _syntax_problem(file: str, message: str, line: int, column: int, kept: list[str], lines: TomlLines) -> Problem:
    written = kept[line - 1].strip()
    duplicate = next((d for d in lines.duplicates if d.line == line), None)
    if duplicate is not None:
        key = dotted(duplicate.path)
        return Problem(file, line, key, f"the key a second time, first given in line {duplicate.first_line}", "once")
    reason = _PLACE.sub("", message)
    found = f"`{printable(written)}` ({reason}, column {column})" if written else f"{reason}, column {column}"
    # In a long line the pattern would try every way of taking it apart.
    quantity = _UNQUOTED_QUANTITY.match(written) if len(written) <= _LONGEST_QUANTITY_LINE else None
    if quantity is not None:
        return Problem(file, line, "syntax", found, f'a quantity in quotes: "{quantity.group(1)}"')
    if "\\" in message:
        return Problem(file, line, "syntax", found, r"in a path / or, in single quotes, \: 'C:\data\run.toml'")
    start = next((first for first, last in lines.statements if first < line <= last), None)
    allowed = f"valid TOML; the value begins in line {start}" if start else "valid TOML, such as key = value"
    return Problem(file, line, "syntax", found, allowed)
