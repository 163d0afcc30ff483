"""Taking a run elsewhere: CSV, a copy of the NeXus file, netCDF for xarray. An existing file is never touched."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from labctl.errors import StorageError
from labctl.store.durable import rename_new, sync_file
from labctl.store.nexus import write_run
from labctl.store.results import partial_path
from labctl.store.run import Run

NETCDF3_MAX_BYTES = (1 << 32) - 4


def export_csv(run: Run, path: Path | str, *, stream: str | None = None) -> Path:
    """Write the columns of a stream as CSV (UTF-8, one header line, full precision); arrays are left out.

    :param stream: The stream; that of the points, if none is named.
    :raises StorageError: If ``path`` exists or cannot be written.
    """
    columns = run.columns(stream)

    def write(partial: Path) -> None:
        with partial.open("x", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*(values.tolist() for values in columns.values()), strict=True))

    return _write_new(Path(path), write)


def export_nexus(run: Run, path: Path | str) -> Path:
    """Write the run as a NeXus-style HDF5 file: a copy of the sealed file, or made from the journal.

    :raises StorageError: If ``path`` exists, cannot be written, or the run still goes.
    """
    if run.status == "running":
        raise StorageError("the run still goes", where=str(run.path), todo="export it when it has ended")

    def write(partial: Path) -> None:
        if run.path.suffix == ".h5":
            shutil.copyfile(run.path, partial)
        else:
            write_run(partial, run.source, run.status, run.results)

    return _write_new(Path(path), write)


def export_xarray(run: Run, path: Path | str, *, stream: str | None = None) -> Path:
    """Write a stream, arrays included, as netCDF (version 3, 64-bit offsets), which ``xarray.open_dataset`` reads.

    That version has no 64-bit or unsigned integers: what does not fit into its types becomes float64 where this is
    exact, and is refused otherwise.

    :raises StorageError: If ``path`` exists or cannot be written, or a variable is beyond 4 GiB or exactness.
    """
    dataset = run.to_xarray(stream)
    for name, variable in dataset.variables.items():
        dataset[name] = (variable.dims, _netcdf3(str(name), variable.values, run.path), variable.attrs)
    return _write_new(Path(path), lambda partial: dataset.to_netcdf(partial, engine="scipy", format="NETCDF3_64BIT"))


def _netcdf3(name: str, values: np.ndarray[Any, Any], where: Path) -> np.ndarray[Any, Any]:
    if values.dtype.kind in "iu" and values.dtype.newbyteorder("=") not in (np.int8, np.int16, np.int32):
        small = values.astype(np.int32)
        values = small if np.array_equal(small, values) else _exact_floats(name, values, where)
    if values.dtype.kind == "c":
        raise StorageError(f"{name!r} is complex, which netCDF cannot hold", where=str(where), todo="export as nexus")
    if values.nbytes > NETCDF3_MAX_BYTES:
        raise StorageError(
            f"{name!r} needs {values.nbytes} bytes; netCDF 3 holds 4 GiB for each variable",
            where=str(where),
            todo="export as nexus",
        )
    return values


def _exact_floats(name: str, values: np.ndarray[Any, Any], where: Path) -> np.ndarray[Any, Any]:
    if len(values) and max(abs(int(values.max())), abs(int(values.min()))) > 2**53:
        raise StorageError(
            f"{name!r} holds integers beyond 2**53, which netCDF 3 cannot hold",
            where=str(where),
            todo="export as nexus",
        )
    return values.astype(np.float64)


def _write_new(path: Path, write: Callable[[Path], Any]) -> Path:
    """Write under a temporary name, sync, and rename to a name that is free."""
    if path.exists():
        raise StorageError(
            f"{path.name} exists already; nothing is ever overwritten", where=str(path), todo="give another path"
        )
    partial = partial_path(path)
    try:
        partial.unlink(missing_ok=True)
        write(partial)
        sync_file(partial)
        rename_new(partial, path)
    except (OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise StorageError(
            f"{path.name} could not be written: {error}",
            where=str(path),
            state="the run is unchanged",
            todo="check that the directory exists, is writable and has free space",
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return path
