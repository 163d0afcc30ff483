from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from labctl.errors import StorageError
from labctl.store.journal import Journal
from labctl.store.run import Run, open_run
from labctl.store.seal import seal

MakeRun = Callable[..., Path]


def expected_spectrum(point: int) -> np.ndarray:
    return np.random.default_rng([0, point]).random(32).astype(np.float32)


@pytest.fixture(params=["journal", "journal, grouped", "sealed"])
def run(request: pytest.FixtureRequest, tmp_path: Path, make_run: MakeRun):  # type: ignore[no-untyped-def]
    path = make_run(tmp_path / "a.journal", group_commit_s=0.05 if "grouped" in request.param else 0.0)
    with open_run(seal(path, tmp_path / "a.h5") if request.param == "sealed" else path) as run:
        yield run


def test_a_run_reads_the_same_from_either_form(run: Run) -> None:
    assert (run.status, run.simulated, run.count(), run.default_stream) == ("finished", True, 30, "points")
    assert run.header["parameters"]["limits"] == [1.0, 2.0]
    assert list(run.streams) == ["points", "dark"]
    columns = run.columns()
    assert list(columns)[:5] == ["point", "attempt", "t_s", "wall_s", "fluence_uj_cm2"]
    assert columns["point"].tolist() == list(range(30))
    assert np.array_equal(columns["fluence_uj_cm2"], 1.5 * np.arange(30))
    assert np.isnan(columns["signal_counts"][3])
    assert columns["saturated"].dtype == bool and columns["remark"][29] == "µ29"
    assert run.columns("dark")["t_s"].tolist() == [0.0]
    assert [event.kind for event in run.events()] == ["plan", "instruments", "read-back", "status"]
    assert run.events("read-back")[0].data == {"shutter": "closed", "energy_j": 0.5}
    assert run.axes["wavelength_nm"].unit == "nm" and run.axes["wavelength_nm"].description == "Wavelength"
    assert run.notes == [] and run.results == []


def test_arrays_are_read_when_indexed(run: Run) -> None:
    lazy = run["spectrum"]
    assert lazy.shape == (30, 32) and lazy.dtype == np.float32 and len(lazy) == 30
    everything = np.asarray(lazy)
    assert np.array_equal(everything, [expected_spectrum(point) for point in range(30)])
    for key in (
        0,
        -1,
        29,
        slice(3, 9),
        slice(None, None, 7),
        slice(9, 3),
        [4, 1, 1],
        (5, slice(0, 3)),
        np.arange(30) > 20,
    ):
        assert np.array_equal(lazy[key], everything[key])
    assert np.array_equal(lazy[2:5, 7], everything[2:5, 7])
    assert np.array_equal(lazy[...], everything)
    with pytest.raises(IndexError):
        lazy[30]


def test_a_missing_name_is_an_error_that_lists_what_there_is(run: Run) -> None:
    for action in (lambda: run["fluence"], lambda: run.array("image"), lambda: run.columns("bright")):
        with pytest.raises(StorageError, match="there is"):
            action()


def test_columns_cannot_be_changed_by_accident(run: Run) -> None:
    with pytest.raises(ValueError, match="read-only"):
        run.columns()["pulses"][0] = 7


def test_a_run_becomes_an_xarray_dataset(run: Run) -> None:
    dataset = run.to_xarray()
    assert dataset["spectrum"].dims == ("record", "wavelength_nm")
    assert dataset["spectrum"].sel(wavelength_nm=500.0).shape == (30,)
    assert dataset["fluence_uj_cm2"].attrs["units"] == "uJ/cm^2"
    assert dataset.attrs["status"] == "finished" and dataset.attrs["simulated"] == 1
    assert run.to_xarray("dark").sizes == {"record": 1, "wavelength_nm": 32}


def test_a_live_run_is_followed_into_its_sealed_file(
    tmp_path: Path, make_run: MakeRun, append: Callable[[Journal, int], None]
) -> None:
    path = make_run(tmp_path / "a.journal", count=2, status=None)
    with open_run(tmp_path / "a.h5") as run:
        assert run.path == path and run.status == "crashed"
        journal = Journal.open(path)
        run.refresh()
        assert run.status == "running"
        first = run["pulses"]
        for point in range(2, 40):
            append(journal, point)
        assert run.count() == 2
        run.refresh()
        assert run["pulses"].tolist() == list(range(40)) and first.tolist() == [0, 1]  # type: ignore[union-attr]
        assert np.array_equal(run["spectrum"][39], expected_spectrum(39))
        journal.set_status("finished", t_s=0.0, wall_s=0.0)
        journal.close()
        seal(path, tmp_path / "a.h5")
        run.refresh()
        assert (run.path.name, run.status, run.count()) == ("a.h5", "finished", 40)
    for name in ("a", "a.h5", "a.journal"):
        with open_run(tmp_path / name) as run:
            assert run.path.name == "a.h5"


def test_a_refresh_reads_only_new_blocks(tmp_path: Path, make_run: MakeRun) -> None:
    path = make_run(tmp_path / "a.journal", count=200, status=None)
    with open_run(path) as run:
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE block SET rows = zeroblob(1) WHERE seq < 150")
        connection.close()
        run.refresh()
        assert run.count() == 200
    with pytest.raises(StorageError, match="checksum"):
        open_run(path)


@pytest.mark.parametrize("name", ["a", "a.h5", "a.journal"])
def test_a_missing_run_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError, match=f"there is no run {name}"):
        open_run(tmp_path / name)


@pytest.mark.parametrize("suffix", ["h5", "journal"])
@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"\x89HDF\r\n\x1a\n" + b"\0" * 3000, b"SQLite format 3\0" + b"\1" * 5000]
)
def test_a_file_that_is_no_run_is_an_error(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(StorageError):
        open_run(path)
    assert path.read_bytes() == content


def read_everything(path: Path) -> None:
    with open_run(path) as run:
        run.events(), run.notes, run.results, run.axes
        for stream, layout in run.streams.items():
            run.columns(stream)
            for array in layout.arrays:
                np.asarray(run.array(array.name, stream))


@pytest.mark.parametrize("form", ["h5", "journal"])
def test_a_truncated_file_is_an_error(tmp_path: Path, make_run: MakeRun, form: str) -> None:
    path = make_run(tmp_path / "a.journal")
    if form == "h5":
        path = seal(path, tmp_path / "a.h5")
    data = path.read_bytes()
    # The last page of this journal belongs to an empty table.
    for part in range(1, 15):
        damaged = tmp_path / f"part{part}.{form}"
        damaged.write_bytes(data[: len(data) * part // 16])
        with pytest.raises(StorageError):
            read_everything(damaged)


@pytest.mark.parametrize("form", ["h5", "journal"])
def test_flipped_bytes_in_the_data_are_found(tmp_path: Path, make_run: MakeRun, form: str) -> None:
    path = make_run(tmp_path / "a.journal", group_commit_s=0.05)
    if form == "h5":
        path = seal(path, tmp_path / "a.h5")
    data = path.read_bytes()
    pulses = np.arange(5, 25, dtype="<i8").tobytes() if form == "h5" else expected_spectrum(7).tobytes()
    assert pulses in data
    damaged = tmp_path / f"damaged.{form}"
    damaged.write_bytes(data.replace(pulses, pulses[:20] + b"\xff" + pulses[21:]))
    with pytest.raises(StorageError, match="checksum"):
        read_everything(damaged)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["h5", "journal"])
@pytest.mark.parametrize("seed", range(60))
def test_random_damage_never_gives_anything_but_a_storage_error(
    tmp_path: Path, make_run: MakeRun, form: str, seed: int
) -> None:
    path = make_run(tmp_path / "a.journal")
    if form == "h5":
        path = seal(path, tmp_path / "a.h5")
    rng = np.random.default_rng(seed)
    data = bytearray(path.read_bytes())
    for position in rng.integers(0, len(data), 1 + seed):
        data[position] = rng.integers(0, 256)
    path.write_bytes(data)
    try:
        read_everything(path)
    except StorageError:
        pass


def test_a_hostile_journal_is_refused(tmp_path: Path, make_run: MakeRun) -> None:
    good = make_run(tmp_path / "good.journal", count=3)
    attacks = [
        "CREATE VIEW v AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c",
        "CREATE TRIGGER t AFTER INSERT ON note BEGIN DELETE FROM block; END",
        "DROP TABLE event",
        "PRAGMA user_version=99",
        "PRAGMA application_id=0",
        "UPDATE run SET header='[1]'",
        "UPDATE run SET header='{'",
        "UPDATE run SET status='superb'",
        "DELETE FROM run",
        "UPDATE stream SET layout='{}'",
        "UPDATE block SET stream=77",
        "UPDATE block SET first=1000000000 WHERE seq=4",
        "UPDATE block SET count=1000000000000 WHERE seq=4",
        "UPDATE block SET rows='text' WHERE seq=4",
        "UPDATE event SET data='nonsense'",
    ]
    for number, attack in enumerate(attacks):
        path = tmp_path / f"{number}.journal"
        shutil.copyfile(good, path)
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute(attack)
        connection.close()
        with pytest.raises(StorageError):
            read_everything(path)


def test_a_hostile_sealed_file_reaches_nothing_outside(tmp_path: Path, make_run: MakeRun) -> None:
    good = seal(make_run(tmp_path / "good.journal", count=3), tmp_path / "good.h5")
    secret = tmp_path / "secret"
    secret.write_bytes(np.arange(3, dtype="<i8").tobytes())

    def external_link(file: h5py.File) -> None:
        file["entry/data/pulses"] = h5py.ExternalLink(str(good), "entry/data/pulses")

    def soft_link(file: h5py.File) -> None:
        file["entry/data/pulses"] = h5py.SoftLink("/entry/data/point")

    def external_storage(file: h5py.File) -> None:
        dataset = file["entry/data"].create_dataset("pulses", (3,), "<i8", external=[(str(secret), 0, 24)])
        dataset.attrs["crc32"] = 0

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((3,), "<i8")
        layout[:] = h5py.VirtualSource(str(good), "entry/data/pulses", (3,))
        file["entry/data"].create_virtual_dataset("pulses", layout)

    def huge(file: h5py.File) -> None:
        file["entry/data"].create_dataset("pulses", (10**12,), "<i8", chunks=(1000,))

    def other_type(file: h5py.File) -> None:
        file["entry/data/pulses"] = np.zeros(3)

    def group(file: h5py.File) -> None:
        file["entry/data"].create_group("pulses")

    def nothing(_: h5py.File) -> None:
        pass

    for number, attack in enumerate(
        (external_link, soft_link, external_storage, virtual, huge, other_type, group, nothing)
    ):
        path = tmp_path / f"{number}.h5"
        shutil.copyfile(good, path)
        with h5py.File(path, "r+") as file:
            del file["entry/data/pulses"]
            attack(file)
        with pytest.raises(StorageError):
            read_everything(path)
