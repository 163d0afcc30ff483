"""Requests made from runs: going on with one that broke off, and repeating one from its own provenance."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from labctl.bench.ledger import LEDGER_NAME
from labctl.errors import InputError, StorageError
from labctl.run.policy import FailurePolicy
from labctl.run.request import RunRequest

if TYPE_CHECKING:
    from labctl.config.bench import BenchConfig
    from labctl.config.sample import SampleConfig
    from labctl.run.earlier import Earlier

_SHOWN_LINES = 12


@dataclass(frozen=True)
class StoredFiles:
    """What a request takes from a run instead of from files; all empty for a new run.

    :param bench: The bench as it was, of a simulated run that is repeated. A real bench is always read as it is now:
        its limits and calibrations of today hold.
    :param sample: The sample as it was.
    :param earlier: The earlier part, of a run that is resumed.
    :param bench_text: Text of the bench file as it was.
    """

    bench: BenchConfig | None = None
    sample: SampleConfig | None = None
    earlier: Earlier | None = None
    bench_text: str | None = None

    @property
    def is_stored(self) -> bool:
        """Get whether anything comes from a run."""
        return self.bench_text is not None

    def warnings(self, bench: BenchConfig) -> tuple[str, ...]:
        """Get what differs between then and now: the bench file, and the folder of a run that is resumed."""
        return (*self._of_the_bench(bench), *self._of_the_folder())

    def _of_the_folder(self) -> tuple[str, ...]:
        """The ledger goes with the run. Where the folder was copied, the other ledger does not learn of the light."""
        if self.earlier is None:
            return ()
        here, then = self.earlier.directory, Path(str(self.earlier.header.get("request", {}).get("out", "")))
        if not (then.is_absolute() and (then / LEDGER_NAME).is_file()) or (here.is_dir() and then.samefile(here)):
            return ()
        return (
            f"the run was begun in {then} and lies in {here} now: its light is entered in the exposure ledger there;"
            f" that of {then} does not learn of it",
        )

    def _of_the_bench(self, bench: BenchConfig) -> tuple[str, ...]:
        if self.bench_text is None or bench.text == self.bench_text:
            return ()
        then, now = self.bench_text.splitlines(), bench.text.splitlines()
        changed = [
            line for line in difflib.unified_diff(then, now, "then", "now", lineterm="", n=0) if line[:1] in "+-"
        ]
        lines = [line for line in changed if not line.startswith(("+++", "---"))]
        more = f" and {len(lines) - _SHOWN_LINES} more" if len(lines) > _SHOWN_LINES else ""
        return (f"the bench file has changed since; as it is now it holds: {' | '.join(lines[:_SHOWN_LINES])}{more}",)


def request_to_resume(
    path: str, *, bench: str | None = None, on_failure: FailurePolicy | None = None, lease: bool = True
) -> RunRequest:
    """Make the request that goes on with a run; raises InputError if it cannot be resumed.

    :param path: Its journal, its sealed file, or the path without suffix.
    :param bench: The bench file, if it is not where it was.
    :param on_failure: Another failure policy from here on.
    """
    from labctl.run.earlier import read_earlier

    with _no_run_if_unreadable():
        earlier = read_earlier(path)
    asked = _request_of(earlier.header, earlier.journal)
    changes: dict[str, Any] = {
        "bench": bench or _bench_file(earlier.header, asked),
        "resume": str(earlier.journal),
        "again": None,
        "lease": lease,
        "out": str(earlier.directory),
    }
    if on_failure is not None:
        changes["on_failure"] = on_failure
    return asked.model_copy(update=changes)


def request_again(path: str, *, bench: str | None = None, changes: Mapping[str, Any] | None = None) -> RunRequest:
    """Make the request that repeats a run with all that it was begun with; raises InputError.

    :param bench: Another bench; it is then read as it is now.
    :param changes: Other values for fields of the request, e.g. ``out`` or ``spot``.
    """
    with _no_run_if_unreadable():
        header = _header(path)
    asked = _request_of(header, Path(path))
    return asked.model_copy(
        update={
            "bench": bench or _bench_file(header, asked),
            "resume": None,
            "again": str(Path(path).absolute()) if bench is None else None,
            "lease": True,
            **(changes or {}),
        }
    )


@contextmanager
def _no_run_if_unreadable() -> Iterator[None]:
    """A file that cannot be read as a run is a request that cannot be carried out."""
    try:
        yield
    except StorageError as error:
        raise InputError(error.what, where=error.where, todo=error.todo) from error


def stored_files(request: RunRequest) -> StoredFiles:
    """Get what a request takes from a run; raises InputError or ConfigError if it cannot be read."""
    if request.resume is None and request.again is None:
        return StoredFiles()
    from labctl.config.sample import parse_sample

    earlier = None
    if request.resume is not None:
        from labctl.run.earlier import read_earlier

        earlier = read_earlier(request.resume)
    header = earlier.header if earlier is not None else _header(str(request.again))
    provenance = header.get("provenance", {})
    texts = provenance.get("files", {})
    sample = (
        parse_sample(texts["sample"], str(header.get("sample", {}).get("name", "sample")))
        if texts.get("sample")
        else None
    )
    bench_text = str(texts.get("bench", ""))
    bench = None if earlier is not None else _simulated_bench(header, bench_text)
    return StoredFiles(bench, sample, earlier, bench_text)


def _simulated_bench(header: Mapping[str, Any], text: str) -> BenchConfig | None:
    """Read the bench as it was, if all of it is simulated: then nothing of today can be harmed."""
    from labctl.config.bench import parse_bench

    if not header.get("simulated"):
        return None
    calibration = header.get("provenance", {}).get("calibrations", {}).get("attenuator")
    bench = parse_bench(
        text, str(header.get("bench", {}).get("file", "bench")), check_drivers=True, attenuator_calibration=calibration
    )
    return bench if bench.is_in_process else None


def _header(path: str) -> dict[str, Any]:
    from labctl.store.naming import find_run
    from labctl.store.run import open_run

    files = find_run(path)
    if not any(file is not None and file.is_file() for file in (files.journal, files.sealed)):
        raise InputError(f"there is no run {path}", where="--again", todo="`labctl runs DIR` lists what there is")
    with open_run(path) as run:
        return run.header


def _request_of(header: Mapping[str, Any], path: Path) -> RunRequest:
    """Read the request of a run, with the values of all parameters as they were completed."""
    try:
        asked = RunRequest.model_validate(header["request"])
        parameters = {name: value for name, value in dict(header["parameters"]).items() if value is not None}
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise InputError(
            f"the run does not say what was asked for: {type(error).__name__}",
            where=str(path),
            todo="begin a new run with `labctl run PROCEDURE --bench BENCH`",
        ) from error
    return asked.model_copy(update={"parameters": parameters})


def _bench_file(header: Mapping[str, Any], asked: RunRequest) -> str:
    """Get where the bench file is now: where it was, else by the name that was given."""
    file = str(dict(header.get("bench", {})).get("file", ""))
    return file if file and Path(file).is_file() else asked.bench
