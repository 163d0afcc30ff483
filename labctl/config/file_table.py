"""A configuration file that is one table: its model, with the name and text of the file, and how it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import PrivateAttr

from labctl.config.document import TomlDocument
from labctl.config.problems import check_table
from labctl.config.table import Table
from labctl.errors import ConfigError


class FileTable(Table):
    """A table that is a whole file; one made in memory has neither name nor text."""

    _file: str = PrivateAttr("")
    _text: str = PrivateAttr("")

    @property
    def file(self) -> str:
        """Get the name of the file."""
        return self._file

    @property
    def text(self) -> str:
        """Get the text of the file, for the provenance of a run."""
        return self._text

    def came_from(self, document: TomlDocument) -> None:
        """Note where it was read from."""
        self._file, self._text = document.file, document.text


_Read = TypeVar("_Read", bound=FileTable)


def read_table(model: type[_Read], document: TomlDocument, data: Mapping[str, Any]) -> _Read:
    """Check the data of a document; raises ConfigError with every fault, in the order of the lines.

    :param data: Data of the document, with the tables wrapped that others interpret.
    """
    problems = list(document.problems)
    table = None
    if document.readable:
        table, faults = check_table(model, dict(data), document.file, document.lines, complete=not problems)
        problems += faults
    if table is None or problems:
        raise ConfigError(sorted(problems, key=lambda problem: problem.line or 0))
    table.came_from(document)
    return table
