from __future__ import annotations

import datetime
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.config.toml_lines import Path, dotted, scan_lines

TEXT = """\
# a comment with [brackets] and = signs
title = "a # b"

a.b."c d" = 1
[laser]  # header
"quoted key" = '''
[not a header]
x = 1
'''
list = [
  1,   # one
  [2, 3],
  # one more
  { deep = true, 'lit' = "}" },
]
[pump.spot]
inline = { x = 1, y.z = [ "]", 2 ] }
[[steps]]
name = 'first'
[[steps]]
name = "second"
[steps.more]
when = 2026-11-20T10:00:00
[[steps.parts]]
n = 1
["\\u00b5"]
k = \"\"\"quote \\\"\"\" and "" inside\"\"\"
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("a",), 4),
        (("a", "b", "c d"), 4),
        (("laser",), 5),
        (("laser", "quoted key"), 6),
        (("laser", "list"), 10),
        (("laser", "list", 0), 11),
        (("laser", "list", 1, 1), 12),
        (("laser", "list", 2), 14),
        (("laser", "list", 2, "lit"), 14),
        (("pump",), 16),
        (("pump", "spot", "inline", "y", "z", 1), 17),
        (("steps",), 18),
        (("steps", 0), 18),
        (("steps", 0, "name"), 19),
        (("steps", 1, "name"), 21),
        (("steps", 1, "more", "when"), 23),
        (("steps", 1, "parts", 0, "n"), 25),
        (("µ", "k"), 27),
    ],
)
def test_line_of_each_kind_of_key(path: Path, line: int) -> None:
    assert scan_lines(TEXT).lines[path] == line


def paths_of(value: Any, path: Path = ()) -> set[Path]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return (
        {path, *(found for key, inner in entries for found in paths_of(inner, (*path, key)))}
        if path
        else {found for key, inner in entries for found in paths_of(inner, (key,))}
    )


def test_the_paths_are_those_of_the_parser() -> None:
    assert set(scan_lines(TEXT).lines) == paths_of(tomllib.loads(TEXT))


def test_an_unknown_path_has_the_line_of_the_nearest_table_around_it() -> None:
    lines = scan_lines(TEXT)
    assert lines.line_of(("pump", "spot", "length")) == 16
    assert lines.line_of(("nowhere",)) == 1


def test_a_super_table_takes_the_line_of_its_own_header() -> None:
    lines = scan_lines("[a.b]\nx = 1\n[a]\ny = 1\n")
    assert lines.lines[("a",)] == 3
    assert not lines.duplicates


def test_duplicates_with_both_lines() -> None:
    found = scan_lines("a = 1\n[t]\nx = 1\nx = 2\n[t]\n").duplicates
    assert [(one.path, one.line, one.first_line) for one in found] == [(("t", "x"), 4, 3), (("t",), 5, 2)]


def test_dotted_quotes_what_has_to_be_quoted() -> None:
    assert dotted(("keep_on", 0)) == "keep_on[0]"
    assert dotted(("a", "b c", "d")) == 'a."b c".d'


keys = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=6)
strings = st.text(st.characters(codec="utf-8", exclude_characters="\x7f"), max_size=12)
scalars = st.one_of(
    strings,
    st.integers(-(2**60), 2**60),
    st.floats(),
    st.booleans(),
    st.dates(min_value=datetime.date(1, 1, 1)),
)
tables = st.recursive(
    st.dictionaries(keys, scalars, max_size=4),
    lambda inner: st.dictionaries(keys, st.one_of(scalars, inner, st.lists(st.one_of(scalars, inner), max_size=3))),
    max_leaves=12,
)


def basic(text: str) -> str:
    return (
        '"'
        + "".join(f"\\U{ord(char):08X}" if char in '"\\' or char < " " or char == "\x7f" else char for char in text)
        + '"'
    )


def literal(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{basic(key)} = {literal(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[\n  " + ",\n  ".join(map(literal, value)) + " # end\n]"
    if isinstance(value, str):
        return basic(value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def write(table: dict[str, Any], path: tuple[str, ...] = ()) -> str:
    inner = {key: value for key, value in table.items() if isinstance(value, dict) and value}
    text = f"[{'.'.join(map(basic, path))}]\n" if path else ""
    text += "".join(f"{basic(key)} = {literal(value)}\n" for key, value in table.items() if key not in inner)
    return text + "".join(write(value, (*path, key)) for key, value in inner.items())


@settings(deadline=None)
@given(tables)
def test_any_document_has_a_line_for_every_path_of_the_parser(table: dict[str, Any]) -> None:
    text = write(table)
    parsed = tomllib.loads(text)
    scanned = scan_lines(text)
    assert set(scanned.lines) == paths_of(parsed)
    assert not scanned.duplicates
    for path, line in scanned.lines.items():
        last = path[-1]
        if isinstance(last, str):
            assert basic(last) in text.split("\n")[line - 1]


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_can_be_scanned(text: str) -> None:
    scanned = scan_lines(text)
    assert all(1 <= line <= text.count("\n") + 1 for line in scanned.lines.values())
