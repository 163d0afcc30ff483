"""Run files from strangers: opening one executes nothing, loads nothing, and reads no other file."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from labctl.errors import InputError, LabctlError, StorageError
from labctl.run.finish import procedure_of
from labctl.store.journal import Journal
from labctl.store.layout import Column, RowLayout
from labctl.store.results import add_note
from labctl.store.run import open_run
from labctl.store.seal import seal

MakeRun = Callable[..., Path]
SECRET = 123456789.0
UNKNOWN_FILTER = 32099

WATCHED = textwrap.dedent(
    """
    import json, sys
    from pathlib import Path
    import numpy as np
    from labctl.errors import LabctlError
    from labctl.store.catalogue import summarise
    from labctl.store.run import open_run

    FORBIDDEN = (
        "exec", "compile", "import", "pickle.find_class", "marshal.loads", "os.system", "os.exec", "os.posix_spawn",
        "os.fork", "subprocess.Popen", "ctypes.dlopen", "sqlite3.load_extension", "sqlite3.enable_load_extension",
        "socket.connect", "urllib.Request", "shutil.copyfile", "code.__new__", "function.__new__",
    )
    seen, watching, ours = [], False, ()

    def watch(event, arguments):
        if not watching:
            return
        if event in FORBIDDEN:
            seen.append(f"{event} {arguments}"[:200])
        elif event == "open" and not str(arguments[0]).startswith(ours):
            seen.append(f"open {arguments}"[:200])

    def read(path):
        try:
            summarise(path.with_suffix(""))
            with open_run(path) as run:
                _ = run.events(), run.notes, run.results, run.axes
                for stream, layout in run.streams.items():
                    run.columns(stream)
                    for array in layout.arrays:
                        np.asarray(run.array(array.name, stream))
                run.to_xarray()
            return "read"
        except LabctlError as error:
            return error.what

    harmless, stranger = Path(sys.argv[1]), Path(sys.argv[2])
    read(harmless)  # imports what it takes to read
    Path(sys.argv[3]).unlink(missing_ok=True)
    # The run itself, and where labctl notes that the journal of a run on a share lies elsewhere.
    spool = stranger.parent.parent / "directory.txt"
    ours = str(stranger.with_suffix("")), str(stranger.parent / ".numbers"), str(spool)
    sys.addaudithook(watch)
    watching = True
    said = read(stranger)
    watching = False
    print(json.dumps({"said": said, "seen": seen}))
    """
)


def read_watched(harmless: Path, stranger: Path, trace: Path, **environment: str) -> dict[str, Any]:
    """Read a run in a process that watches itself: what it said, and what it did that it should not.

    :param harmless: Read before it, so that everything is imported. A trace that this leaves is removed: hdf5plugin
        looks through the folder of plugins when it is imported, whatever is read.
    """
    command = [sys.executable, "-c", WATCHED, str(harmless), str(stranger), str(trace)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Bomb:
    """Unpickled, it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = str(trace)

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.trace),)


def library_that_leaves_a_trace(folder: Path, trace: Path) -> Path:
    """A shared library whose mere loading leaves a trace."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform == "win32":
        pytest.skip("no C compiler")
    source = folder / "trace.c"
    source.write_text(
        f'#include <stdio.h>\n__attribute__((constructor)) static void leave(void) {{ fopen("{trace}", "w"); }}\n'
    )
    library = folder / "libtrace.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True, capture_output=True)
    return library


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON note BEGIN SELECT load_extension('{library}'); END",
        "CREATE TEMP TRIGGER t AFTER INSERT ON note BEGIN SELECT load_extension('{library}'); END",
        "CREATE VIEW points AS SELECT load_extension('{library}')",
        "ALTER TABLE run RENAME TO old; CREATE VIEW run AS SELECT id, load_extension('{library}') AS header, status"
        " FROM old",
        "ALTER TABLE run ADD COLUMN more TEXT AS (hex(header))",
        "CREATE TABLE more(x DEFAULT (load_extension('{library}')))",
        "CREATE TABLE more(x CHECK (load_extension('{library}') = 1))",
        "CREATE INDEX i ON note(text) WHERE text > 'a'",
        "CREATE VIRTUAL TABLE v USING fts5(x)",
        "PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql = replace(sql, 'header TEXT NOT NULL',"
        " 'header TEXT NOT NULL DEFAULT (load_extension(''{library}''))') WHERE name='run'",
        "PRAGMA writable_schema=ON; INSERT INTO sqlite_schema SELECT 'view', 'note', 'note', 0, 'CREATE VIEW note AS"
        " SELECT 1 AS id'",
        "PRAGMA writable_schema=ON; INSERT INTO sqlite_schema SELECT type, name, tbl_name, rootpage, sql FROM"
        " sqlite_schema WHERE name='note'",
    ],
)
def test_a_schema_that_is_not_exactly_ours_is_refused(tmp_path: Path, make_run: MakeRun, statement: str) -> None:
    path = make_run(tmp_path / "a.journal")
    connection = sqlite3.connect(path)
    connection.executescript(statement.replace("{library}", "/tmp/no/library"))
    connection.commit()
    connection.close()
    temporary = "TEMP" in statement  # it is not in the file
    for action in (lambda: open_run(path).close(), lambda: Journal.open(path).close(), lambda: add_note(path, "x")):
        if temporary:
            action()
        else:
            with pytest.raises(StorageError, match=r"not a journal|cannot be read"):
                action()


def test_sqlite_acts_on_nothing_in_a_journal(tmp_path: Path, make_run: MakeRun) -> None:
    """Were the check of the schema not there, its functions would still not run."""
    path = make_run(tmp_path / "a.journal")
    trace = tmp_path / "trace"
    library = library_that_leaves_a_trace(tmp_path, trace)
    loader = sqlite3.connect(path)
    loader.execute(f"CREATE VIEW evil AS SELECT load_extension('{library}')")
    loader.close()
    from labctl.store.journal_format import connect

    connection = connect(path)
    with pytest.raises(sqlite3.Error):
        connection.execute("SELECT * FROM evil").fetchall()
    with pytest.raises(sqlite3.Error):
        connection.execute("SELECT load_extension(?)", (str(library),)).fetchall()
    connection.close()
    assert not trace.exists()
    if hasattr(sqlite3.Connection, "enable_load_extension"):
        loader = sqlite3.connect(path)
        loader.enable_load_extension(True)
        with pytest.raises(sqlite3.Error):
            loader.execute("SELECT * FROM evil").fetchall()
        loader.close()
        assert trace.exists(), "the library would have been loaded by a connection that trusts the file"


def evil_header(trace: Path) -> dict[str, Any]:
    """A header with everything that some reader somewhere would act on."""
    return {
        "run": "{{ cycler.__init__.__globals__.os.system('true') }}",
        "procedure": "os:system",
        "default_stream": "points",
        "sample": {"name": "<script>alert(1)</script>", "__class__": "os.system"},
        "parameters": {"py/object": "os.system", "$ref": "file:///etc/passwd", "!!python/object/apply": "os.system"},
        "pickled": pickle.dumps(Bomb(trace)).hex(),
        "raw": pickle.dumps(Bomb(trace)).decode("latin-1"),
        "bench": "`touch trace` $(touch trace) ; touch trace",
        "simulated": True,
    }


def make_evil(folder: Path, trace: Path) -> Path:
    """A run by a stranger, with nothing wrong in its form."""
    path = folder / "evil.journal"
    with Journal.create(path, evil_header(trace)) as journal:
        journal.add_stream("points", RowLayout((Column("x", "float"), Column("text", "text", width=500))))
        text = pickle.dumps(Bomb(trace)).decode("latin-1")
        row = {"x": 1.0, "text": text + "."}
        journal.append("points", point=0, attempt=0, t_s=0.0, wall_s=0.0, row=row)
        journal.event("endpoint", {"address": "/tmp/evil.sock"}, t_s=0.0, wall_s=0.0)
        journal.event("instruments", {"../../x": {"driver": "os:system"}}, t_s=0.0, wall_s=0.0)
        journal.set_status("failed", t_s=0.0, wall_s=0.0)
    return path


@pytest.mark.parametrize("form", ["journal", "h5"])
def test_opening_a_run_does_nothing_but_read_it(tmp_path: Path, make_run: MakeRun, form: str) -> None:
    trace = tmp_path / "trace"
    harmless, evil = make_run(tmp_path / "a.journal"), make_evil(tmp_path, trace)
    if form == "h5":
        harmless, evil = (seal(path, path.with_suffix(".h5")) for path in (harmless, evil))
        (tmp_path / "evil.journal").unlink()
    found = read_watched(harmless, evil, trace)
    assert found == {"said": "read", "seen": []}
    with open_run(evil) as run:
        assert run.header == evil_header(trace)
        assert all(type(value) in (str, bool, dict) for value in run.header.values())
    assert not trace.exists()


@pytest.mark.slow
def test_the_watch_would_have_seen_it(tmp_path: Path, make_run: MakeRun) -> None:
    """The proof above can fail: a reader that unpickles, imports or starts a program is seen."""
    program = WATCHED.replace("summarise(path", "__import__('pickle').loads(b'cos\\ngetcwd\\n(tR.'); summarise(path")
    path = make_run(tmp_path / "a.journal")
    command = [sys.executable, "-c", program, str(path), str(path), str(tmp_path / "trace")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert any("pickle.find_class" in event for event in json.loads(done.stdout)["seen"])


def in_place_of(file: Any, name: str, kind: str, secret: Path) -> None:
    """Let an object of a sealed file lead to another file."""
    count = file["entry/data/point"].shape[0]
    del file[name]
    if kind == "external link":
        file[name] = h5py.ExternalLink(str(secret), "/secret")
    elif kind == "soft link":
        file["hidden"] = h5py.ExternalLink(str(secret), "/secret")
        file[name] = h5py.SoftLink("/hidden")
    elif kind == "virtual dataset":
        layout = h5py.VirtualLayout((count,), "<f8")
        layout[:] = h5py.VirtualSource(str(secret), "secret", (count,))
        file.create_virtual_dataset(name, layout)
    else:
        file.create_dataset(name, (count,), "<f8", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


@pytest.mark.parametrize("kind", ["external link", "soft link", "virtual dataset", "external storage"])
@pytest.mark.parametrize(
    "name", ["entry/data/signal_counts", "entry/axes/wavelength_nm", "entry/notes/wall_s", "entry/data", "entry"]
)
def test_no_other_file_is_read(tmp_path: Path, make_run: MakeRun, kind: str, name: str) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["secret"] = np.full(30, SECRET)
    path = seal(make_run(tmp_path / "a.journal"), tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        in_place_of(file, name, kind, secret)
    with pytest.raises(StorageError, match=r"elsewhere|not a group"):
        with open_run(path) as run:
            for stream, layout in run.streams.items():
                run.columns(stream)
                for array in layout.arrays:
                    np.asarray(run.array(array.name, stream))
            _ = run.axes, run.notes


def with_unknown_filter(path: Path) -> None:
    """Let a column of a sealed file need a filter that only a plugin could bring."""
    with h5py.File(path, "r+") as file:
        column: Any = file["entry/data/signal_counts"]
        values = column[()]
        del file["entry/data/signal_counts"]
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk(values.shape)
        plan.set_filter(UNKNOWN_FILTER, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple(values.shape)
        parent: Any = file["entry/data"]
        made = h5py.h5d.create(parent.id, b"signal_counts", h5py.h5t.IEEE_F64LE, space, plan)
        made.write_direct_chunk((0,), values.tobytes())


@pytest.mark.slow
def test_no_filter_plugin_is_loaded(tmp_path: Path, make_run: MakeRun) -> None:
    """A file may ask for any filter by its number; HDF5 would load every library in the folder of plugins for it."""
    trace = tmp_path / "trace"
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    library_that_leaves_a_trace(plugins, trace)
    harmless = seal(make_run(tmp_path / "a.journal"), tmp_path / "a.h5")
    path = Path(shutil.copyfile(harmless, tmp_path / "b.h5"))
    with_unknown_filter(path)
    found = read_watched(harmless, path, trace, HDF5_PLUGIN_PATH=str(plugins))
    assert "filter that labctl does not write" in found["said"] and not found["seen"]
    assert not trace.exists()
    read = "import h5py, sys; h5py.File(sys.argv[1])['entry/data/signal_counts'][()]"
    environment = {**os.environ, "HDF5_PLUGIN_PATH": str(plugins)}
    subprocess.run([sys.executable, "-c", read, str(path)], capture_output=True, env=environment, check=False)
    assert trace.exists(), "a reader that does not look at the filters would have loaded it"


@pytest.mark.parametrize("name", ["os:system", "labctl.run.engine:main", "../evil", "evil.py", "__import__('os')", ""])
def test_a_procedure_is_found_by_its_registered_name_only(name: str) -> None:
    with pytest.raises(InputError, match="there is no procedure"):
        procedure_of({"procedure": name})


@pytest.mark.parametrize("kind", ["object", "reference", "variable length", "pickled bytes", "compound"])
def test_odd_types_are_refused(tmp_path: Path, make_run: MakeRun, kind: str) -> None:
    trace = tmp_path / "trace"
    path = seal(make_run(tmp_path / "a.journal"), tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file["entry/data/signal_counts"]
        group: Any = file["entry/data"]
        if kind == "object":
            group.create_dataset(
                "signal_counts", data=np.array([b"x"] * 30, object), dtype=h5py.special_dtype(vlen=bytes)
            )
        elif kind == "reference":
            group.create_dataset("signal_counts", (30,), h5py.special_dtype(ref=h5py.RegionReference))
        elif kind == "variable length":
            group.create_dataset("signal_counts", (30,), h5py.vlen_dtype(np.dtype("f8")))
        elif kind == "pickled bytes":
            group["signal_counts"] = np.array([np.void(pickle.dumps(Bomb(trace)))] * 30)
        else:
            group["signal_counts"] = np.zeros(30, [("a", "f8"), ("b", "S3")])
    with open_run(path) as run, pytest.raises(StorageError, match="has shape"):
        run.columns()
    assert not trace.exists()


@pytest.mark.slow
def test_a_page_shows_what_a_stranger_wrote_as_text(tmp_path: Path) -> None:
    from labctl.report.page import write_report

    path = make_evil(tmp_path, tmp_path / "trace")
    add_note(path, "<img src=x onerror=alert(1)>")
    try:
        files = write_report(path)
    except LabctlError:
        return
    page = files["page"].read_text(encoding="utf-8")
    assert "<script>alert" not in page and "<img src=x" not in page
    assert "&lt;img src=x" in page
    assert not (tmp_path / "trace").exists()
