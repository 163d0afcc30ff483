from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest

from labctl.config.locate import list_shipped, locate
from labctl.config.schema import bench_schema, sample_schema


def matches(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> list[str]:
    """Check the part of JSON Schema that the two schemas use; return what does not match."""
    if "$ref" in schema:
        return matches(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "oneOf" in schema:
        results = [matches(value, member, root) for member in schema["oneOf"]]
        return [] if sum(not faults for faults in results) == 1 else [f"{value!r}: no member of oneOf"]
    kinds = {"object": dict, "string": str, "number": (int, float), "integer": int, "array": list, "boolean": bool}
    faults: list[str] = []
    if "type" in schema and not isinstance(value, kinds[schema["type"]]):
        return [f"{value!r} is no {schema['type']}"]
    if "const" in schema and value != schema["const"]:
        faults.append(f"{value!r} is not {schema['const']!r}")
    if "enum" in schema and value not in schema["enum"]:
        faults.append(f"{value!r} is not in {schema['enum']}")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        faults.append(f"{value!r} does not match")
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        faults += [f"{key} is absent" for key in schema.get("required", []) if key not in value]
        for key, inner in value.items():
            if "propertyNames" in schema:
                faults += matches(key, schema["propertyNames"], root)
            if key in properties:
                faults += matches(inner, properties[key], root)
            elif others is False:
                faults.append(f"{key} is unknown")
            elif isinstance(others, dict):
                faults += matches(inner, others, root)
    return faults


def read(kind: str, name: str) -> dict[str, Any]:
    return tomllib.loads(locate(kind, name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", list_shipped("benches"))
def test_shipped_benches_match(name: str) -> None:
    schema = bench_schema()
    assert matches(read("benches", name), schema, schema) == []


@pytest.mark.parametrize("name", list_shipped("samples"))
def test_shipped_samples_match(name: str) -> None:
    schema = sample_schema()
    assert matches(read("samples", name), schema, schema) == []


def test_the_schema_finds_faults() -> None:
    schema = bench_schema()
    bench = read("benches", "simulated")
    bench["laser"]["wavelength"] = 400
    bench["pump"]["spot"]["lenght"] = "1 mm"
    bench["instruments"]["shuter"] = bench["instruments"].pop("shutter")
    bench["instruments"]["detector"]["driver"] = "andor"
    bench["spectrometer"]["temperature"] = "-60"
    assert len(matches(bench, schema, schema)) == 5


def test_quantities_are_text_with_unit_and_example() -> None:
    laser = bench_schema()["$defs"]["LaserConfig"]["properties"]
    assert laser["wavelength"]["type"] == "string"
    assert laser["wavelength"]["x-unit"] == "nm"
    assert laser["repetition_rate"]["examples"] == ["1 kHz"]
    assert "wavelength_nm" not in laser


def test_the_schema_describes_toml() -> None:
    for schema in (bench_schema(), sample_schema()):
        text = json.dumps(schema)
        assert '"null"' not in text
        assert '"default": null' not in text
    spectrometer = bench_schema()["$defs"]["SpectrometerConfig"]["properties"]
    assert spectrometer["cooling_timeout"]["default"] == "1200 s"
    assert spectrometer["slit"]["x-unit"] == "um"
