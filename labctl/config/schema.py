"""JSON schemas of the bench and sample files, for editors that check TOML while it is typed."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from labctl.config.bench import BenchConfig
from labctl.config.registry import driver_names, role_names
from labctl.config.sample import SampleConfig


def bench_schema() -> dict[str, Any]:
    """Get the JSON schema of a bench file; quantities are text with a unit, drivers those installed."""
    schema = _schema(BenchConfig, "labctl bench")
    schema["$defs"]["InstrumentConfig"]["properties"]["driver"]["enum"] = driver_names()
    schema["$defs"]["InstrumentConfig"]["required"].remove("options")
    schema["properties"]["instruments"]["propertyNames"] = {"type": "string", "enum": sorted(role_names())}
    return schema


def sample_schema() -> dict[str, Any]:
    """Get the JSON schema of a sample file; ``truth`` is left open."""
    return _schema(SampleConfig, "labctl sample")


def _schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    schema = _as_toml(model.model_json_schema(by_alias=True, mode="validation"))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}


def _as_toml(node: Any) -> Any:
    """Describe the file instead of the Python object: TOML has no null, and a default quantity is text."""
    if isinstance(node, list):
        return [_as_toml(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    node = {key: _as_toml(value) for key, value in node.items()}
    members = [member for member in node.get("anyOf", ()) if member != {"type": "null"}]
    if "anyOf" in node and len(members) == 1:
        del node["anyOf"]
        node = {**members[0], **node}
    default = node.get("default")
    if "default" in node and default is None:
        del node["default"]
    elif "x-unit" in node and isinstance(default, float):
        node["default"] = f"{default:g} {node['x-unit']}"
    return node
