"""Tables of a configuration file that labctl.config keeps but does not read."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from labctl.config.fault import Fault, as_toml
from labctl.config.problems import check_table
from labctl.config.toml_lines import Path, TomlLines
from labctl.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class RawTable:
    """A table that labctl.config keeps without reading it; whoever knows its meaning validates it.

    :param file: Name of the file, for messages.
    :param path: Keys from the document to this table.
    :param lines: The line of each key of the whole document.
    """

    file: str
    path: Path
    lines: TomlLines = field(repr=False, compare=False)
    _data: Mapping[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        """Get the values of the table, as a copy."""
        return copy.deepcopy(dict(self._data))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Give itself: it cannot be changed, and its lines are those of a whole file."""
        return self

    def validate(self, model: type[Model]) -> Model:
        """Read the table as ``model``.

        :raises ConfigError: every fault, with file, line and key, as for the tables that labctl.config reads itself.
        """
        checked, problems = check_table(model, self.data, self.file, self.lines, prefix=self.path)
        if checked is None:
            raise ConfigError(problems)
        return checked

    @classmethod
    def _require(cls, value: object) -> Self:
        if not isinstance(value, cls):
            raise Fault(as_toml(value), "a table")
        return value

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        plain = core_schema.plain_serializer_function_ser_schema(lambda table: table.data)
        return core_schema.no_info_plain_validator_function(cls._require, serialization=plain)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "object"}
