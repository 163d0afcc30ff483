"""Configuration files with every kind of mistake: a clear error with its place, or a configuration; nothing else."""

from __future__ import annotations

import random
import re
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from labctl.config.bench import load_bench, parse_bench
from labctl.config.calibration import load_calibration
from labctl.config.campaign import load_campaign
from labctl.config.locate import shipped_folder
from labctl.config.sample import load_sample
from labctl.errors import ConfigError, InputError
from labctl.run.campaign_checks import check_runs
from labctl.run.preflight import preflight
from labctl.run.queued_runs import queued_runs
from labctl.run.request import RunRequest, prepare

PATIENCE_S = 20
KINDS = ("benches", "samples", "benches/calibrations", "campaigns")

NUMBERS = (
    *("0", "-0.0", "-1", "1", "9", "1e400", "-1e400", "1e-400", "1e308", "5e-324", "nan", "-nan", "inf", "+inf"),
    *("0x7fffffffffffffffffffffff", "0b1", "0o777", "1_000", "01", "+1", "1.", ".5", "1e", "9" * 400, "9" * 5000),
    *("0x" + "f" * 20_000, "-9223372036854775809", "18446744073709551616", "1.7976931348623159e308", "true", "false"),
)
VALUES = (
    *('""', '" "', "''", "{}", "[]", "[[]]", "[{}]", "{a = {b = {c = 1}}}", "[1, 'a', true]", "[nan, inf]"),
    *("2026-11-21", "2026-11-21T10:00:00Z", "10:00:00", "9999-12-31", "0001-01-01", '"2026-02-30"', '"9999-99-99"'),
    *("[" * 60 + "]" * 60, "[" * 3000 + "]" * 3000, "{a=" * 3000 + "1" + "}" * 3000, "[" + "1," * 20_000 + "]"),
    *('"' + "x" * 200_000 + '"', '"\\u0000"', '"\\ud800"', '"\\U0010ffff"', '"\\x00"', '"""a\nb"""', "'''a\n'''"),
    *('"١ mm"', '"１ mm"', '"∞ mm"', '"\\u202e1 mm"', '"\\u2028"', '"\U0001f4a5"', "bare", "=", "# nothing", "'"),
)
QUANTITIES = (
    *("1e400 mJ/cm^2", "-1e400 mm", "1e-400 mm", "nan nm", "inf nm", "1e308 km", "1e308 um^-9", "0 nm", "-5 nm"),
    *("m**9999999 s", "1 m**9999999 s", "1 m^99999999999999999999", "1 m^9", "1 m^-9 s^9 kg^9", "9**9**9**9 mm"),
    *("1 mm**9**9**9", "(1) mm", "1 mm;import os", "1 __import__('os')", "1 mm mm mm mm mm", "1/mm", "1 /mm", "mm"),
    *("1 degC/m", "1 degC degC", "-300 degC", "1 delta_degC", "1 degF", "1 dB", "1 dBm", "400 dBm", "1 Np", "1 pH"),
    *("1 kilokilometer", "1 mm/", "1 * mm", "1 mm *", "1 ** mm", "1 count", "1 %", "1 % nm", "1 dimensionless", "1 e"),
    *("1 pi", "1 c", "1 hbar nm", "1 nm nm^-1 nm", "1 eV", "1 cm^-1", "1 Hz", "1 dozen mm", "1_0 mm", "0x10 mm"),
    *(
        "1,5 mm",
        "1.5.5 mm",
        "1 mm\\u0000",
        "1\\u00a0mm",
        "1 \\u00b5m",
        "1 \\u212b",
        "1 \\u03a9",
        "+-1 mm",
        "1 µ",
        "1 nm" + "m" * 60,
    ),
)
CONDITIONS = (
    *("detector.temperature", "detector.temperature > 0", "> 0", "detector.temperature > -50 degC and 1", "a.b is c"),
    *(
        "detector.temperature is warm",
        "shutter.interlock > 3 mm",
        "no_role.temperature > 0 degC",
        "x" * 9000 + " > 1 mm",
    ),
    *("detector.temperature > 1e400 degC", "detector.temperature >= 1 m**9999999", "detector.__class__ is open"),
    *(
        ". is .",
        "a.b is",
        "detector.temperature  >  " + " " * 9000 + "x",
        "shutter.open_s is open",
        "bench.disk < 1 GB",
    ),
)
PATHS = (
    *("../../../../../../etc/passwd", "..", ".", "/", "~", "~nobody-of-that-name/x", "a\\u0000b", "x" * 5000, "NUL"),
    *("/dev/zero", "/dev/stdin", "/dev/tty", "calibrations", "calibrations/", "con", "//server/share", "C:\\\\x", "*"),
    *("file:///etc/passwd", "http://localhost/x.toml", "$HOME", "%s%n", "-", "--help", "simulated", "\\u202e.toml"),
    *(
        "os:system",
        "package.module:Class",
        "sdk:../../evil",
        "sim:",
        "sim+tcp://x:99999999",
        "socket://:0",
        "operator:",
    ),
)
KEYS = (
    "a" * 50_000,
    "a." * 40 + "a",
    "a." * 5000 + "a",
    '"\\u0000"',
    '""',
    "'ключ'",
    "ключ",
    "__class__",
    "run",
    "name",
)
HEADERS = (
    *("[instruments]", "[[instruments]]", "[instruments.shutter]", "[[instruments.shutter]]", "[laser]", "[pump.spot]"),
    *(
        "[" + "a." * 5000 + "a]",
        "[" + "[" * 500,
        "[]",
        "[a",
        "[[run]]",
        "[run]",
        "[run.parameters]",
        "[truth]",
        "[sample]",
    ),
    *('["__proto__"]', "[instruments.no_such_role]", "[instruments.shutter.options]", "[laboratory]", "[filter]"),
    *("[[watch]]", "[watch]", "[limits]", "[safe_state]", "[calibrations]", "[laboratory.laser.x.y]", "[excitation]"),
)
BYTES = (
    b"\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\x00",
    b"\x07",
    b"\x7f",
    b"\x1b[2J",
    b"\r",
    b"\r\r\n",
    b"\x0c",
    b"\xf4\x90\x80\x80",
)
INTERLOCKS = """
[limits.roles.detector]
exposure = "60 s"
temperature = { at_least = "-80 degC", at_most = "30 degC" }

[[watch]]
name = "detector warm"
when = "detector.temperature > -50 degC"
grace = "10 s"
action = "pause"
resume_when = "detector.temperature < -55 degC"
longest_pause = "2 hour"
message = "The detector warmed up."

[[watch]]
name = "door"
when = "shutter.interlock is open"
action = "safe"
"""
"""What a bench may have and no shipped one has."""
UNATTENDED = """
retries = 1
retry_wait = "10 min"
order = "sample"
time_zone = "Europe/Berlin"

[quiet]
from = "22:00"
to = "07:00"
weekdays = ["mon", "tue"]

[notify]
urls = ["json://localhost/secret"]
file = "~/addresses"
on = ["failure", "digest"]
digest = "08:00"
stall = "30 min"

[[run]]
name = "first"
procedure = "fluence-sweep"
bench = "simulated"
samples = ["cdse-cds-zno", "cdse-cds"]
positions = ["A1", "A2"]
retries = 2
retry_wait = "1 min"
parameters = { averages = 1 }

[[run]]
name = "second"
procedure = "fluence-sweep"
bench = "simulated"
samples = ["cdse-cds-zno"]
positions = ["A2"]
after = ["first"]
quiet = "wait"
interleave = "long"
leave = "5 min"
fill = true
[run.parameters]
averages = 1
[run.parameters.expected-threshold]
from = "first"
result = "threshold"
field = "ci95.1"
plus = "1 uJ/cm^2"
fallback = "30 uJ/cm^2"
[run.parameters.fluences]
from = "first"
result = "threshold"
times = [0.5, 1, 3]
at_least = "1 uJ/cm^2"
at_most = "300 uJ/cm^2"
if_missing = "skip"
"""
"""What a campaign may have beside its runs."""
_VALUE = re.compile(r"^([^=#\n]+=[ \t]*)([^\n]*)$", re.MULTILINE)
_TEXT = re.compile(r'"[^"\n]*"')
_DIGITS = re.compile(r"[0-9.eE+-]+")


def replaced(pattern: re.Pattern[str], text: str, new: str, draw: random.Random, group: int = 0) -> str:
    found = list(pattern.finditer(text))
    if not found:
        return text + new
    match = draw.choice(found)
    return text[: match.start(group)] + new + text[match.end(group) :]


def any_value(text: str, draw: random.Random) -> str:
    new = draw.choice([*NUMBERS, *VALUES, *(f'"{entry}"' for entry in (*QUANTITIES, *CONDITIONS, *PATHS))])
    return replaced(_VALUE, text, new, draw, 2)


def quantity(text: str, draw: random.Random) -> str:
    return replaced(_TEXT, text, f'"{draw.choice(QUANTITIES)}"', draw)


def condition(text: str, draw: random.Random) -> str:
    return replaced(re.compile(r'"[a-z_]+[.][a-z_]+ [^"\n]*"'), text, f'"{draw.choice(CONDITIONS)}"', draw)


def path(text: str, draw: random.Random) -> str:
    return replaced(_TEXT, text, f'"{draw.choice(PATHS)}"', draw)


def number(text: str, draw: random.Random) -> str:
    return replaced(_DIGITS, text, draw.choice(NUMBERS), draw)


def scaled(text: str, draw: random.Random) -> str:
    """A number that is none the less a number: what is read must then be planned, or refused."""
    return replaced(
        re.compile(r"(?<=[\" ])[0-9][0-9.e-]*"), text, f"{draw.choice((0, 1, -2, 3.7))}e{draw.randint(-30, 30)}", draw
    )


def borrowed(text: str, draw: random.Random) -> str:
    """A value that stands elsewhere in the file."""
    values = [match.group(2) for match in _VALUE.finditer(text)]
    return replaced(_VALUE, text, draw.choice(values), draw, 2) if values else text


def without_table(text: str, draw: random.Random) -> str:
    tables = re.split(r"(?m)^(?=\[)", text)
    del tables[draw.randrange(len(tables))]
    return "".join(tables)


def characters(text: str, draw: random.Random) -> str:
    letters = list(text)
    for _ in range(draw.randint(1, 12)):
        place = draw.randrange(len(letters) + 1)
        if draw.random() < 0.3:
            del letters[place : place + draw.randint(1, 5)]
        else:
            letters.insert(place, draw.choice("[]{}=\"'\\#,.\n\t -+_0189aeEµ°²é漢\u202e\x00"))
    return "".join(letters)


def swapped_letters(text: str, draw: random.Random) -> str:
    place = draw.randrange(1, len(text))
    return text[: place - 1] + text[place : place + 1] + text[place - 1] + text[place + 1 :]


def lines(text: str, draw: random.Random) -> str:
    rows = text.split("\n")
    for _ in range(draw.randint(1, 4)):
        here, there = draw.randrange(len(rows)), draw.randrange(len(rows))
        what = draw.randrange(3)
        if what == 0 and len(rows) > 1:
            del rows[here]
        elif what == 1:
            rows.insert(there, rows[here])
        else:
            rows[here], rows[there] = rows[there], rows[here]
    return "\n".join(rows)


def header(text: str, draw: random.Random) -> str:
    rows = text.split("\n")
    rows.insert(draw.randrange(len(rows) + 1), draw.choice(HEADERS))
    return "\n".join(rows)


def key(text: str, draw: random.Random) -> str:
    rows = text.split("\n")
    rows.insert(draw.randrange(len(rows) + 1), f"{draw.choice(KEYS)} = {draw.choice((*NUMBERS[:8], *VALUES[:8]))}")
    return "\n".join(rows)


def cut(text: str, draw: random.Random) -> str:
    return text[: draw.randrange(len(text) + 1)]


def doubled(text: str, draw: random.Random) -> str:
    return text + text


def long_line(text: str, draw: random.Random) -> str:
    place = draw.randrange(len(text) + 1)
    return text[:place] + draw.choice("x #[=1 \t") * draw.choice((300, 5000, 300_000)) + text[place:]


def many_lines(text: str, draw: random.Random) -> str:
    return text + draw.choice(("x\n", "x = 1\n", "[x]\n", "[[run]]\n", "\n", "a.b = {}\n")) * draw.choice((30, 3000))


TEXTUAL: tuple[Callable[[str, random.Random], str], ...] = (
    *(any_value, any_value, any_value, quantity, quantity, path, number, characters, characters, swapped_letters),
    *(condition, scaled, scaled, scaled, borrowed, borrowed, without_table),
    *(lines, lines, header, key, cut, doubled, long_line, many_lines),
)


def encoded(text: str, draw: random.Random) -> bytes:
    content = text.encode("utf-8", "surrogatepass")
    what = draw.randrange(12)
    if what == 0:
        return text.replace("\n", draw.choice(("\r\n", "\r"))).encode()
    if what == 1:
        return draw.choice((b"\xef\xbb\xbf" + content, text.encode("utf-16"), content.decode("latin-1").encode()))
    if what == 2:
        place = draw.randrange(len(content) + 1)
        return content[:place] + draw.choice(BYTES) + content[place:]
    return content


def mutated(seed: int) -> tuple[str, str, bytes]:
    """Get kind, name and content of a shipped file with a few mistakes."""
    draw = random.Random(seed)
    kind = KINDS[seed % len(KINDS)]
    source = draw.choice(sorted((shipped_folder("benches").parent / kind).glob("*.toml")))
    text = source.read_text(encoding="utf-8")
    if kind == "benches" and draw.random() < 0.5:
        text += INTERLOCKS
    if kind == "campaigns" and draw.random() < 0.7:
        text = 'name = "alone"\n' + UNATTENDED
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        text = draw.choice(TEXTUAL)(text, draw) if text else text
    return kind, source.name, encoded(text, draw)


@contextmanager
def patience() -> Iterator[None]:
    """Break what hangs, where the system can."""
    if sys.platform == "win32":
        yield
        return

    def hangs(number: int, frame: Any) -> None:
        raise RuntimeError(f"hangs for {PATIENCE_S} s")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Files:
    """A folder with the calibrations that benches name, in which one mutated file is written after another."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(shipped_folder("benches") / "calibrations", folder / "calibrations")
        self.path = folder / "mutated.toml"

    def load(self, seed: int) -> tuple[str, Any]:
        """Read the file of a seed; returns what it is, or ``refused`` with the error. Raises what must not happen."""
        kind, name, content = mutated(seed)
        self.path.write_bytes(content)
        try:
            with patience():
                return kind, self._read(kind, content, check_drivers=seed % 8 != 0)
        except InputError as error:
            self._check(error)
            return "refused", error
        except Exception as error:
            error.add_note(f"seed {seed}: {kind}/{name}")
            raise

    def _read(self, kind: str, content: bytes, *, check_drivers: bool) -> Any:
        if kind == "benches":
            if not check_drivers and b"\xff" not in content:
                parse_bench(content.decode("utf-8", "replace"), str(self.path))
            return load_bench(self.path, check_drivers=check_drivers)
        loaders = {"samples": load_sample, "benches/calibrations": load_calibration, "campaigns": load_campaign}
        return loaders[kind](self.path)

    def _check(self, error: InputError) -> None:
        assert isinstance(error, ConfigError), error
        assert error.problems
        assert len(str(error)) < 2_000_000
        for problem in error.problems:
            assert problem.file.startswith(str(self.path.parent)), problem
            assert problem.key and problem.found and problem.allowed, problem
            whole_file = problem.key == "file" and "more than" in problem.found
            assert whole_file or (problem.line is not None and problem.line >= 1), problem
            assert len(problem.found) < 1000, problem


def plan(loaded: Any, kind: str, files: Files, out: Path) -> str:
    """Plan with a file that could be read, as `labctl plan` does; returns ``planned`` or ``refused``."""
    bench, sample, procedure = "simulated", None, "fluence-sweep"
    if kind == "benches":
        bench = str(files.path)
    elif kind == "samples":
        sample = str(files.path)
    elif kind == "benches/calibrations":
        text = (shipped_folder("benches") / "simulated.toml").read_text(encoding="utf-8")
        assert "calibrations/simulated_attenuator.toml" in text
        place = files.path.with_name("bench.toml")
        place.write_text(text.replace("calibrations/simulated_attenuator.toml", files.path.name), encoding="utf-8")
        bench = str(place)
    try:
        with patience():
            if kind == "campaigns":
                check_runs(loaded, queued_runs(loaded, out=str(out)))
                return "planned"
            for procedure in ("fluence-sweep", "attenuator-calibration"):
                asked = RunRequest(procedure=procedure, bench=bench, sample=sample, out=str(out))
                found = preflight(prepare(asked))
                if found.refusals:
                    return "refused"
    except InputError as error:
        assert error.what
        return "refused"
    return "planned"


def fuzz(folder: Path, seeds: range, *, plans: int = 0) -> Counter[str]:
    files = Files(folder)
    counted: Counter[str] = Counter()
    for seed in seeds:
        kind, loaded = files.load(seed)
        counted["refused" if kind == "refused" else "read"] += 1
        if kind != "refused" and counted["planned"] + counted["plan refused"] < plans:
            try:
                counted["planned" if plan(loaded, kind, files, folder / "runs") == "planned" else "plan refused"] += 1
            except Exception as error:
                error.add_note(f"plan of seed {seed}: {mutated(seed)[:2]}")
                raise
    return counted


def test_mutated_files(tmp_path: Path) -> None:
    counted = fuzz(tmp_path, range(400), plans=60)
    assert counted["refused"] > 100 and counted["read"] > 40
    assert counted["planned"] > 10 and counted["plan refused"] > 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_thousand_mutated_files(tmp_path: Path) -> None:
    counted = fuzz(tmp_path, range(10_000), plans=400)
    assert counted["refused"] + counted["read"] == 10_000
    assert counted["planned"] + counted["plan refused"] == 400
