"""What holds for the whole tree: who may import whom, who may know of the simulator, who may look at a clock."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NoReturn

import pytest

from labctl.bench.bench import Bench
from labctl.clock import VirtualClock
from labctl.config.bench import load_bench
from labctl.config.locate import list_shipped, locate
from labctl.config.raw_table import RawTable
from labctl.config.sample import load_sample
from labctl.run.preflight import preflight
from labctl.run.procedure import SweepProcedure
from labctl.run.request import RunRequest, prepare

ROOT = Path(__file__).parents[1]
PACKAGES = ("labctl", "drivers", "procedures")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
DRIVERS = [path for path in MODULES if path.is_relative_to(ROOT / "drivers") and "emulators" not in path.parts]
HEAVY = ("PyQt5", "PyQt6", "PySide6", "qtpy", "pyqtgraph", "h5py", "scipy", "numba", "pint", "pandas")
MOST_LINES = 600
CLOCKS = {"labctl/clock.py", "labctl/run/guard.py"}
"""The guard stands alone, on the standard library; everything else asks labctl.clock."""


RUNS_TEXT = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execv", "os.execvp", "os.startfile"}
UNPICKLES = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml"}
RUNS_MODULES = {"runpy", "imp", "zipimport", "pkgutil", "code", "codeop"}
BY_PATH = {
    "labctl/run/guard.py": "stands alone and loads a module of ours that lies beside it",
    "labctl/transport/vendor_host.py": "a library written in Python, for tests; no resource of a bench leads there",
}
"""Who may import a module by its file, and why. Everything else is imported by its name or by the registry."""
LOADS_LIBRARIES = {
    "labctl/transport/vendor_host.py": "the vendor's library that `sdk:` names, in a process of its own, on purpose",
    "labctl/job_object.py": "kernel32: a guard's engine ends with all that it started",
    "labctl/run/awake.py": "kernel32: no sleep while a run lives",
    "labctl/store/naming.py": "kernel32: whether a drive is on the network",
    "labctl/store/windows_names.py": "ntdll: whether Windows takes long paths",
}
"""Who may load a dynamic library, and why."""
LOADS_ENTRIES = {
    "labctl/bench/bench.py",
    "labctl/bench/bench_sections.py",
    "labctl/cli/catalogue.py",
    "labctl/cli/doctor.py",
    "labctl/cli/sim.py",
    "labctl/config/offered.py",
    "labctl/config/registry.py",
    "labctl/run/request.py",
    "labctl/sim/stand.py",
    "labctl/transport/opening.py",
}
"""Who imports what installed packages have registered."""


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported, at the top or within a function, also by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and called(node) in {"import_module", "importlib.import_module", "__import__"}:
            yield from (
                argument.value
                for argument in node.args
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
            )


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [
                entry
                for entry in node.body
                if not (isinstance(entry, ast.Expr) and isinstance(entry.value, ast.Constant))
            ] or [ast.Pass()]
    return tree


def words_of(tree: ast.Module) -> set[str]:
    """Names, attributes and texts of the code, cut into words."""
    found: set[str] = set()
    for node in ast.walk(without_docstrings(tree)):
        texts = [
            getattr(node, "id", None),
            getattr(node, "attr", None),
            getattr(node, "name", None),
            getattr(node, "arg", None),
            getattr(node, "module", None),
            getattr(node, "value", None) if isinstance(node, ast.Constant) else None,
        ]
        for text in texts:
            if isinstance(text, str):
                found |= set("".join(char if char.isalnum() else " " for char in text.lower()).split())
    return found


def in_a_fresh_interpreter(code: str) -> Any:
    """Run code in a new process; its last line on standard output is JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_there_is_something_to_look_at() -> None:
    assert len(MODULES) > 100
    assert {"sc10.py", "ell14.py", "pm100d.py"} <= {path.name for path in DRIVERS}


@pytest.mark.slow
def test_import_contracts() -> None:
    """Those of pyproject.toml, by import-linter."""
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert f"{len(contracts)} kept, 0 broken" in done.stdout


@pytest.mark.parametrize("path", DRIVERS, ids=short)
def test_a_driver_knows_nothing_of_the_simulator(path: Path) -> None:
    tree = tree_of(path)
    forbidden = [
        name
        for name in imports(tree)
        if name.startswith(("labctl.sim", "labctl.bench")) or "emulators" in name.split(".")
    ]
    assert forbidden == []
    assert (
        words_of(tree) & {"sim", "simulated", "simulation", "simulator", "emulator", "emulators", "emulated"} == set()
    )
    asks = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and called(node) in {"isinstance", "type", "hasattr", "getattr"}
        and node.args
        and ast.unparse(node.args[0]).split(".")[-1] in {"adapter", "connection", "link", "channel", "clock", "virtual"}
    ]
    assert asks == []
    assert [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "virtual"] == []


def test_loading_every_driver_loads_nothing_of_the_simulator() -> None:
    found = in_a_fresh_interpreter(
        "import json, sys\n"
        "from importlib.metadata import entry_points\n"
        "names = [entry.load().__name__ for entry in entry_points(group='labctl.drivers')]\n"
        "loaded = [name for name in sys.modules if name.startswith('labctl.sim') or '.emulators' in name]\n"
        "print(json.dumps([names, loaded]))"
    )
    assert len(found[0]) == len(entry_points(group="labctl.drivers")) >= 5
    assert found[1] == []


def test_every_driver_has_an_emulator_of_the_same_name() -> None:
    # One emulator may stand for the drivers of several roles: manual works manual.shutter and manual.attenuator.
    names = {
        group: {entry.name.partition(".")[0] for entry in entry_points(group=group)}
        for group in ("labctl.drivers", "labctl.emulators")
    }
    assert names["labctl.drivers"] == names["labctl.emulators"]


def test_only_the_simulator_reads_the_truth() -> None:
    """Who names the field ``truth`` may pass it on, but not look into it; and nobody else knows the keys."""
    readers = {}
    for path in MODULES:
        if path.is_relative_to(ROOT / "labctl" / "sim") or "emulators" in path.parts:
            continue
        uses = [
            ast.unparse(node)
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Attribute | ast.Subscript)
            and isinstance(node.value, ast.Attribute | ast.Name)
            and (getattr(node.value, "attr", None) or getattr(node.value, "id", None)) in {"truth", "truth_table"}
        ]
        if uses:
            readers[short(path)] = uses
    assert readers == {}
    named = {
        short(path)
        for path in MODULES
        if "truth" in words_of(tree_of(path))
        and not path.is_relative_to(ROOT / "labctl" / "sim")
        and "emulators" not in path.parts
    }
    assert named <= {
        "labctl/config/sample.py",
        "labctl/cli/sim.py",
        "labctl/transport/opening.py",
        "labctl/transport/session.py",
        "labctl/bench/bench.py",
        "labctl/run/preflight.py",
    }


class Poison(dict[str, Any]):
    """The table ``[truth]``, which only the simulator may open."""

    looked: list[str]

    def _look(self) -> None:
        frame = sys._getframe(1)
        stack = []
        while frame is not None:
            stack.append(frame.f_globals.get("__name__", ""))
            frame = frame.f_back  # type: ignore[assignment]
        if not any(name.startswith("labctl.sim") for name in stack):
            raise AssertionError(f"[truth] was opened by {' < '.join(stack[1:6])}")

    def __getitem__(self, key: str) -> Any:
        self._look()
        return super().__getitem__(key)

    def __iter__(self) -> Iterator[str]:
        self._look()
        return super().__iter__()

    def keys(self) -> Any:
        self._look()
        return super().keys()

    def items(self) -> Any:
        self._look()
        return super().items()

    def get(self, key: str, default: Any = None) -> Any:
        self._look()
        return super().get(key, default)

    def __deepcopy__(self, memo: Any) -> NoReturn:
        raise AssertionError("[truth] was copied whole")


def test_nobody_opens_the_truth_while_a_bench_is_planned_and_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = load_sample("cdse-cds-zno")
    assert sample.truth is not None
    poisoned = RawTable(sample.truth.file, sample.truth.path, sample.truth.lines, Poison(sample.truth.data))
    object.__setattr__(sample, "truth", poisoned)
    with pytest.raises(AssertionError, match="was opened by"):
        poisoned.data  # noqa: B018 - the poison works
    monkeypatch.setattr("labctl.config.sample.load_sample", lambda name: sample)
    request = RunRequest(procedure="fluence-sweep", bench="simulated", sample="x", out=str(tmp_path), virtual_time=True)
    prepared = prepare(request)
    assert prepared.sample is sample
    assert preflight(prepared).refusals == ()
    with Bench.open(prepared.bench, VirtualClock(), sample=sample) as bench:
        assert bench.laboratory is not None
        bench.laboratory.state()


@pytest.mark.parametrize("procedure", ["fluence-sweep", "attenuator-calibration"])
def test_the_truth_changes_no_plan(tmp_path: Path, procedure: str) -> None:
    text = locate("samples", "cdse-cds-zno").read_text(encoding="utf-8")
    assert "kappa = 1.447" in text and "lambda_ase_nm = 632.0" in text
    other = text.replace("kappa = 1.447", "kappa = 0.9").replace("lambda_ase_nm = 632.0", "lambda_ase_nm = 600.0")
    plans = []
    for name, content in (("a", text), ("b", other)):
        path = tmp_path / name / "film.toml"
        path.parent.mkdir()
        path.write_text(content, encoding="utf-8")
        request = RunRequest(
            procedure=procedure, bench="simulated", sample=str(path), out=str(tmp_path), virtual_time=True
        )
        prepared = prepare(request)
        found = preflight(prepared).as_dict()
        found.pop("disk_free_mb")
        assert prepared.sample is not None
        plans.append((found, prepared.sample.sample.model_dump(mode="json"), prepared.procedure.parameter_values()))
    assert plans[0] == plans[1]


def test_help_is_light() -> None:
    found = in_a_fresh_interpreter(
        "import json, sys\n"
        "sys.argv = ['labctl', '--help']\n"
        "from labctl.cli.main import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as ended:\n"
        "    assert not ended.code, ended.code\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    assert found == []


@pytest.mark.parametrize(
    "package",
    [
        "labctl",
        *sorted(".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "labctl").glob("*/__init__.py")),
    ],
)
def test_a_package_brings_nothing_of_its_own(package: str) -> None:
    """Importing a package alone must cost nothing: its ``__init__`` is empty or a docstring."""
    path = ROOT.joinpath(*package.split(".")) / "__init__.py"
    tree = without_docstrings(tree_of(path))
    heavy = [name for name in imports(tree) if name.split(".")[0] in {*HEAVY, "numpy", "pymeasure"}]
    assert heavy == []


def test_nothing_looks_at_a_clock_but_the_clock() -> None:
    offenders = []
    for path in MODULES:
        if short(path) in CLOCKS:
            continue
        tree = tree_of(path)
        for name in imports(tree):
            if name == "time" or name.startswith("time."):
                offenders.append(f"{short(path)} imports {name}")
        offenders += [
            f"{short(path)}:{node.lineno} {called(node)}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and called(node) in {"time.sleep", "time.time", "time.monotonic", "datetime.now"}
        ]
    assert offenders == []


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    lengths = {short(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_nothing_prints_but_the_command_line() -> None:
    printing = [
        short(path)
        for path in MODULES
        if not path.is_relative_to(ROOT / "labctl" / "cli")
        and any(isinstance(node, ast.Call) and called(node) == "print" for node in ast.walk(tree_of(path)))
    ]
    assert printing == []


@pytest.mark.parametrize("entry", entry_points(group="labctl.procedures"), ids=lambda entry: entry.name)
def test_procedures_are_named_as_they_are_registered(entry: Any) -> None:
    procedure = entry.load()
    assert issubclass(procedure, SweepProcedure)
    assert entry.name == procedure.NAME
    assert any(set(procedure.ROLES) <= set(load_bench(name).instruments) for name in list_shipped("benches"))


def attribute(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else ""


def foreign_code(tree: ast.Module) -> list[str]:
    """What could run code that is no code of ours, or unpack objects of strangers."""
    found = [name for name in imports(tree) if name.split(".")[0] in UNPICKLES | RUNS_MODULES]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name, keywords = called(node), {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            bare = name.removeprefix("builtins.")
            if bare in RUNS_TEXT or name in {"np.load", "numpy.load"}:
                found.append(name)
            if keywords.get("shell", "False") != "False" or "allow_pickle" in keywords:
                found.append(f"{name}({keywords})")
            if attribute(node) in {"read_pickle", "to_pickle"}:
                found.append(name)
            if name in {"sys.path.append", "sys.path.insert", "site.addsitedir", "sys.path.extend"}:
                found.append(name)
        elif isinstance(node, ast.Assign) and any(ast.unparse(target) == "sys.path" for target in node.targets):
            found.append("sys.path =")
    return found


def test_no_text_becomes_code() -> None:
    """Nothing is evaluated or unpickled, no shell reads what we compose, and the search path is as Python made it."""
    assert {short(path): found for path in MODULES if (found := foreign_code(tree_of(path)))} == {}


@pytest.mark.parametrize(
    "text",
    [
        *("eval('1')", "builtins.exec(x)", "compile(x, '', 'exec')", "__import__(x)", "os.system(x)", "import pickle"),
        *("from pickle import loads", "import yaml", "from runpy import run_path", "np.load(f, allow_pickle=True)"),
        *("subprocess.run(x, shell=True)", "Popen(x, shell=flag)", "sys.path.insert(0, x)", "sys.path = [x]"),
        *("def f():\n    import marshal", "import_module('shelve')"),
    ],
)
def test_what_runs_foreign_code_would_be_found(text: str) -> None:
    assert foreign_code(ast.parse(text)) != []


def test_a_module_is_imported_by_its_name_or_by_the_registry() -> None:
    """importlib beyond the metadata of packages: only where it is stated with its reason."""
    allowed = ("importlib.metadata", "importlib.resources")
    users = {
        short(path): names
        for path in MODULES
        if (
            names := {
                name
                for name in imports(tree_of(path))
                if name.startswith("importlib") and not name.startswith(allowed) and name != "importlib"
            }
        )
    }
    assert set(users) == set(BY_PATH)
    whole = [short(path) for path in MODULES if "importlib" in imports(tree_of(path))]
    assert whole == []
    by_name = [
        short(path)
        for path in MODULES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and called(node).split(".")[-1] == "import_module"
    ]
    assert by_name == []


def test_entry_points_are_loaded_where_it_is_stated() -> None:
    """What a file of the user's names is looked up among these; it never says itself what to import."""
    users = {
        short(path)
        for path in MODULES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and attribute(node) == "load" and not node.args and not node.keywords
    }
    assert users == LOADS_ENTRIES


def test_dynamic_libraries_are_loaded_where_it_is_stated() -> None:
    loaders = {"CDLL", "WinDLL", "OleDLL", "PyDLL", "cdll", "windll", "oledll", "LoadLibrary", "LibraryLoader"}
    users = {short(path) for path in MODULES if loaders & attributes_of(tree_of(path))}
    assert users == set(LOADS_LIBRARIES)


def attributes_of(tree: ast.Module) -> set[str]:
    """Attributes and names that are used, also by getattr with a text."""
    found = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node) == "getattr" and len(node.args) > 1:
            name = node.args[1]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                found.add(name.value)
    return found
