"""The report of a run: one figure and one page that needs nothing but itself."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from labctl.errors import InputError, StorageError
from labctl.report.figure import figure_png
from labctl.report.summary import Summary, summarise
from labctl.store.durable import write_new
from labctl.store.naming import find_run
from labctl.store.run import open_run
from labctl.store.windows_names import check_names

_SUFFIXES = (".html", ".htm")
_TEMPLATE = "run.html"


def write_report(run_path: Path, output: Path | None = None) -> dict[str, Path]:
    """Write figure and page of a run in any state; nothing is ever overwritten.

    :param run_path: Journal, sealed file, or the path without suffix.
    :param output: Name of the page; the figure gets the same name with ``.png``. By default they lie beside the run
        under its name, with ``-2``, ``-3``... added if there is a report already.
    :return: Paths of ``figure`` and ``page``.
    :raises InputError: If ``output`` cannot be a new page.
    :raises StorageError: If the run cannot be read or the report not be written.
    """
    if output is not None:
        _check_output(output)
    with open_run(run_path) as run:
        png = figure_png(run)
        html = render_page(summarise(run), png).encode()
    if output is not None:
        return _write(output.with_suffix(".png"), png, output, html)
    files = find_run(run_path)
    base = files.sealed or files.journal or Path(run_path)
    number = 1
    while True:
        stem = base.stem if number == 1 else f"{base.stem}-{number}"
        figure, page = base.with_name(f"{stem}.png"), base.with_name(f"{stem}.html")
        if not os.path.lexists(figure) and not os.path.lexists(page):
            try:
                return _write(figure, png, page, html)
            except InputError:
                pass  # another report took the name meanwhile
        number += 1


def render_page(summary: Summary, png: bytes) -> str:
    """Fill the template; everything that comes from a run is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("labctl.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE).render(run=summary, figure=base64.b64encode(png).decode())


def _check_output(output: Path) -> None:
    """Refuse a name before any work is done for it."""
    check_names(output, "-o")
    if output.suffix.lower() not in _SUFFIXES:
        raise InputError(
            f"the report is an HTML page, {output.name!r} is no name for one",
            where=str(output),
            state="nothing was written",
            todo="give a name that ends in .html; the figure gets the same name with .png",
        )
    if not output.parent.is_dir():
        raise InputError(
            f"there is no folder {output.parent}",
            where=str(output),
            state="nothing was written",
            todo="make the folder first, or give another name",
        )
    for path in (output, output.with_suffix(".png")):
        if os.path.lexists(path):
            raise _taken(path)


def _taken(path: Path) -> InputError:
    return InputError(
        f"{path.name} exists already; nothing is ever overwritten",
        where=str(path),
        state="nothing was written",
        todo="give another name, or move the existing file away",
    )


def _write(figure: Path, png: bytes, page: Path, html: bytes) -> dict[str, Path]:
    """Write both files or none."""
    written: list[Path] = []
    try:
        for path, content in ((figure, png), (page, html)):
            written.append(path)
            write_new(path, content)
    except FileExistsError as error:
        taken = written.pop()
        _remove(written)
        raise _taken(taken) from error
    except OSError as error:
        _remove([path for path in written if os.path.lexists(path)])
        raise StorageError(
            f"the report could not be written: {error}",
            where=str(written[-1]),
            state="the run is as it was",
            todo="check free space and permissions, or give another name with -o",
        ) from error
    return {"figure": figure, "page": page}


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
