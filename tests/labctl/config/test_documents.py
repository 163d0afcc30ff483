"""Whole files: syntax errors, unreadable files, and hypothesis making files worse."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.config.bench import load_bench, parse_bench
from labctl.config.calibration import load_calibration
from labctl.config.document import MAX_BYTES, parse_document, read_document
from labctl.config.locate import locate
from labctl.config.sample import parse_sample
from labctl.errors import ConfigError, Problem

SHIPPED = locate("benches", "simulated").read_text(encoding="utf-8")


def test_a_quantity_without_quotes_is_recognised() -> None:
    (problem,) = parse_document("x = 1\nlength = 1.0 mm  # long\n", "f.toml").problems
    assert (problem.line, problem.key) == (2, "syntax")
    assert "column 14" in problem.found
    assert problem.allowed == 'a quantity in quotes: "1.0 mm"'


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a = 1\nb = \nc = 3", 2, 5),
        ("a = 1\nb", 2, 2),
        ('a = "x', 1, 7),
        ("[a\nb = 1", 1, 3),
        ("a = 1\nb = [1, 2\nc = 3", 3, 1),
        ("a = 2026-13-40", 1, 9),
        ("a = 1\n\tb = 'x' y", 2, 10),
        ("\u00e4 = 1", 1, 1),
    ],
)
def test_a_syntax_error_has_line_and_column(text: str, line: int, column: int) -> None:
    problem = parse_document(text, "f.toml").problems[0]
    assert problem.line == line
    assert f"column {column}" in problem.found


def test_an_open_bracket_says_where_it_begins() -> None:
    document = parse_document("a = 1\nb = [1, 2\nc = 3\n", "f.toml")
    assert not document.readable
    assert "line 2" in document.problems[0].allowed


def test_all_syntax_errors_are_found_and_the_rest_is_read() -> None:
    document = parse_document("a = \nb = 2\n[t\nlost = 1\n[u]\nc = 1 mm\nd = 4\n[u]\nd = 5\n", "f.toml")
    assert [(problem.line, problem.key) for problem in document.problems] == [
        (1, "syntax"),
        (3, "syntax"),
        (6, "syntax"),
        (8, "u"),
    ]
    assert document.readable
    assert document.data == {"b": 2, "u": {"d": 4}}


def test_absent_keys_are_not_reported_beside_a_syntax_error() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_sample('[sample]\nname = x\nmaterial = "CdSe"\n', "s.toml")
    assert [problem.key for problem in caught.value.problems] == ["syntax"]


def reading_problem(path: Path) -> Problem:
    with pytest.raises(ConfigError) as caught:
        read_document(path)
    (problem,) = caught.value.problems
    return problem


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read" in reading_problem(tmp_path / "nowhere.toml").found
    assert "cannot be read" in reading_problem(tmp_path).found
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'a = 1\nb = "\xb5m"\n')
    assert (reading_problem(latin).line, reading_problem(latin).found) == (2, "the byte 0xb5")
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (MAX_BYTES + 1))
    assert str(MAX_BYTES) in reading_problem(large).allowed


def test_windows_line_ends_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1\r\nb = 2\r\n[c]\r\nd = 3\r\n")
    document = read_document(path)
    assert document.data == {"a": 1, "b": 2, "c": {"d": 3}}
    assert document.lines.line_of(("c", "d")) == 4


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "[" * 5000 + "]" * 5000, "a = " + "{x=" * 3000])
def test_deep_nesting_is_a_problem_not_a_crash(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_sample(text, "s.toml")


def test_a_number_too_long_for_python_is_a_problem() -> None:
    with pytest.raises(ConfigError):
        parse_bench(SHIPPED.replace("0.02 ", "9" * 5000), "b.toml")
    with pytest.raises(ConfigError):
        parse_bench(SHIPPED.replace("0.02 ", "9" * 400), "b.toml")


fragments = st.sampled_from(
    [
        *"[]{}='\"#\n.,µ\\\x00\ufeff",
        *('"""', "[[", "]]", "[]", "0x", "1e999", "nan", "-inf", "true", "2026-11-20", '"1 s"', "9" * 330),
        *("[pump]", "[laser]\n", "options = {a=1}\n"),
    ]
)
edits = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(0, 40), st.one_of(fragments, st.text(max_size=5))),
    min_size=1,
    max_size=4,
)


def spoilt(text: str, changes: list[tuple[int, int, str]]) -> str:
    for place, length, new in changes:
        start = place % (len(text) + 1)
        text = text[:start] + new + text[start + length :]
    return text


def check_problems(error: ConfigError, text: str) -> None:
    lines = text.count("\n") + 1
    assert error.problems
    for problem in error.problems:
        assert problem.line is None or 1 <= problem.line <= lines
        assert problem.key and problem.found and problem.allowed
        assert "\n" not in str(problem)


@settings(deadline=None)
@given(edits)
def test_a_spoilt_bench_gives_a_model_or_problems(changes: list[tuple[int, int, str]]) -> None:
    text = spoilt(SHIPPED, changes)
    try:
        bench = parse_bench(text, "b.toml")
    except ConfigError as error:
        check_problems(error, text)
    else:
        assert bench.instruments


@settings(deadline=None)
@given(edits)
def test_a_spoilt_sample_gives_a_model_or_problems(changes: list[tuple[int, int, str]]) -> None:
    text = spoilt(locate("samples", "cdse-cds-zno").read_text(encoding="utf-8"), changes)
    try:
        sample = parse_sample(text, "s.toml")
    except ConfigError as error:
        check_problems(error, text)
    else:
        assert sample.sample.name


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_file_gives_a_model_or_problems(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "any.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        load_calibration(path)
    with pytest.raises(ConfigError):
        load_bench(path, check_drivers=False)


values = st.recursive(
    st.one_of(st.text(max_size=8), st.integers(), st.floats(), st.booleans()),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("abc"), inner, max_size=2)),
    max_leaves=4,
)
places = st.sampled_from([index for index, line in enumerate(SHIPPED.split("\n")) if " = " in line and line[0] != "#"])


def literal(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {literal(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(char):08X}" if not 0xD800 <= ord(char) < 0xE000 else "?" for char in value) + '"'
    return str(value).lower()


@settings(deadline=None)
@given(places, values)
def test_a_value_of_any_type_gives_a_model_or_a_problem_in_its_line(place: int, value: object) -> None:
    lines = SHIPPED.split("\n")
    lines[place] = f"{lines[place].partition(' = ')[0]} = {literal(value)}"
    text = "\n".join(lines)
    try:
        parse_bench(text, "b.toml")
    except ConfigError as error:
        check_problems(error, text)
        assert place + 1 in [problem.line for problem in error.problems]


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ("a = 1\nb = " + "[" * 3000 + "]" * 3000, 2, "levels deep"),
        ("a = 1\nb = " + "{a=" * 3000 + "1" + "}" * 3000, 2, "levels deep"),
        ("a = 1\n\n" + "a." * 300_000 + "a = 1", 3, "levels deep"),
        ("\n[" + "a." * 300_000 + "a]", 2, "levels deep"),
        ("[" + "a." * 20 + "a]\n" + "b." * 20 + "b = 1", 2, "levels deep"),
        ("a = [1,\n" + "9" * 5000 + "]", 2, "5000 digits"),
        ("a = 0x" + "f" * 20_000, 1, "20002 digits"),
        ("a = 1\nb = -" + "1_" * 3000 + "1", 2, "digits"),
    ],
)
def test_what_would_exhaust_a_parser_has_a_line(text: str, line: int, found: str) -> None:
    document = parse_document(text, "x.toml")
    (problem,) = document.problems
    assert (problem.line, document.readable, found in problem.found) == (line, False, True)


def test_a_long_line_of_blanks_is_taken_apart_in_no_time() -> None:
    document = parse_document("a = 0a.0" + "\t" * 100_000, "x.toml")
    assert [problem.line for problem in document.problems] == [1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/tty"), tmp_path / ("x" * 5000), tmp_path / "\0"):
        with pytest.raises(ConfigError) as caught:
            read_document(path)
        assert "file" in str(caught.value)
