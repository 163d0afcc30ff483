from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray

from labctl.errors import StorageError
from labctl.store.export import export_csv, export_nexus, export_xarray
from labctl.store.journal import Journal
from labctl.store.layout import ArrayField, Column, RowLayout
from labctl.store.run import open_run
from labctl.store.seal import seal

MakeRun = Callable[..., Path]


def test_csv_keeps_every_digit(tmp_path: Path, make_run: MakeRun) -> None:
    with open_run(make_run(tmp_path / "a.journal")) as run:
        path = export_csv(run, tmp_path / "a.csv")
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [float(row["t_s"]) for row in rows] == run["t_s"].tolist()  # type: ignore[union-attr]
        assert [row["remark"] for row in rows] == run["remark"].tolist()  # type: ignore[union-attr]
        assert len(export_csv(run, tmp_path / "dark.csv", stream="dark").read_text().splitlines()) == 2


@pytest.mark.parametrize("sealed", [False, True])
def test_nexus_export_is_a_run_of_its_own(tmp_path: Path, make_run: MakeRun, sealed: bool) -> None:
    path = make_run(tmp_path / "a.journal")
    with open_run(seal(path, tmp_path / "a.h5") if sealed else path) as run:
        with open_run(export_nexus(run, tmp_path / "b.h5")) as copy:
            assert (copy.status, copy.count()) == ("finished", 30)
            assert np.array_equal(np.asarray(copy.array("spectrum")), np.asarray(run.array("spectrum")))


def test_a_run_that_goes_is_not_exported_as_nexus(tmp_path: Path, make_run: MakeRun) -> None:
    path = make_run(tmp_path / "a.journal", status=None)
    with Journal.open(path), open_run(path) as run, pytest.raises(StorageError, match="still goes"):
        export_nexus(run, tmp_path / "b.h5")


def test_xarray_export_reads_back(tmp_path: Path, make_run: MakeRun) -> None:
    with open_run(make_run(tmp_path / "a.journal")) as run:
        path = export_xarray(run, tmp_path / "a.nc")
        with xarray.open_dataset(path, engine="scipy") as dataset:
            expected = run.to_xarray()
            for name in expected.variables:
                assert np.array_equal(
                    dataset[name].values.astype(expected[name].dtype), expected[name].values, equal_nan=name != "remark"
                )
            assert dataset["spectrum"].dims == ("record", "wavelength_nm")
            assert dataset["fluence_uj_cm2"].attrs["units"] == "uJ/cm^2"


def test_integers_that_netcdf_cannot_hold_are_kept_exact_or_refused(tmp_path: Path) -> None:
    layout = RowLayout((Column("n", "int"),), (ArrayField("counts", (2,), "uint32"),))
    for name, n in (("exact", 2**53), ("beyond", 2**53 + 1)):
        with Journal.create(tmp_path / f"{name}.journal", {}) as journal:
            journal.add_stream("points", layout)
            arrays = {"counts": np.array([0, 2**32 - 1], np.uint32)}
            journal.append("points", point=0, attempt=0, t_s=0.0, wall_s=0.0, row={"n": n}, arrays=arrays)
    with open_run(tmp_path / "exact") as run, xarray.open_dataset(export_xarray(run, tmp_path / "a.nc")) as dataset:
        assert dataset["n"].values.tolist() == [2.0**53]
        assert dataset["counts"].values.tolist() == [[0.0, 2.0**32 - 1]]
    with open_run(tmp_path / "beyond") as run, pytest.raises(StorageError, match="beyond 2\\*\\*53"):
        export_xarray(run, tmp_path / "b.nc")


@pytest.mark.parametrize("export", [export_csv, export_nexus, export_xarray])
def test_nothing_is_overwritten(tmp_path: Path, make_run: MakeRun, export: Callable[..., Path]) -> None:
    with open_run(make_run(tmp_path / "a.journal", count=2)) as run:
        (tmp_path / "there").write_text("mine")
        with pytest.raises(StorageError, match="exists already"):
            export(run, tmp_path / "there")
        with pytest.raises(StorageError, match="could not be written"):
            export(run, tmp_path / "no such directory" / "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.journal", "there"]
    assert (tmp_path / "there").read_text() == "mine"
