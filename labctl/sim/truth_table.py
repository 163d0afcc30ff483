"""How the simulator reads its tables: strict, with file, line and key of every fault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labctl.errors import ConfigError, Problem

_Model = TypeVar("_Model", bound=BaseModel)

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
# TOML knows arrays only; in strict mode pydantic would refuse them as tuples.
Positives = Annotated[tuple[Positive, ...], Field(strict=False)]


@runtime_checkable
class Table(Protocol):
    """A table of an input file that knows file and lines of its keys (``labctl.config`` provides it)."""

    def validate(self, model: type[_Model]) -> _Model:
        """Read the table into ``model``; raise ``ConfigError`` naming file, line and key of every fault."""
        ...


def read_table(raw: Table | Mapping[str, Any] | None, model: type[_Model], name: str) -> _Model:
    """Read a table of an input file, or a plain mapping from a test or a notebook.

    :param name: Name of the table, for messages about a plain mapping.
    :raises ConfigError: Unknown keys, wrong types, values out of range; all of them at once.
    """
    if isinstance(raw, Table):
        return raw.validate(model)
    try:
        return model.model_validate(dict(raw or {}))
    except ValidationError as error:
        problems = [
            Problem(
                file=f"[{name}]",
                line=None,
                key=".".join(str(part) for part in fault["loc"]),
                found=repr(fault["input"]),
                allowed=fault["msg"],
            )
            for fault in error.errors()
        ]
        raise ConfigError(problems) from error


class Truth(BaseModel):
    """A table of the truth: frozen, unknown keys are faults, nothing is converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
