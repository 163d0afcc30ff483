"""JSON data, changed at one place."""

from __future__ import annotations

import json
import random
from typing import Any

STRANGE = (
    *(None, True, 0, -1, 10**30, 1e308, float("nan"), "", "\0", "x" * 70_000, "../../etc/passwd", "é\ud800"),
    *([], {}, [[]], [None], {"": {}}, {"__class__": "os.system", "args": ["true"]}, {"py/object": "os.system"}),
    *({"$ref": "file:///etc/passwd"}, "!!python/object/apply:os.system ['true']", "{{ 7 * 7 }}", "<script>1</script>"),
)


def mutated_text(text: str, chance: random.Random) -> str:
    """JSON text, changed: mostly still JSON."""
    if chance.random() < 0.1:
        return chance.choice((text[: len(text) // 2], "", "[" * 100_000, text + text, "null", "[1]", '"text"', "NaN"))
    return json.dumps(mutated(json.loads(text), chance))


def mutated(data: Any, chance: random.Random) -> Any:
    """A copy of ``data`` in which one value is replaced, removed, moved or wrapped."""
    copy = json.loads(json.dumps(data))
    places: list[tuple[Any, Any]] = []
    _collect(copy, places)
    if not places:
        return chance.choice(STRANGE)
    parent, key = chance.choice(places)
    fate = chance.random()
    if fate < 0.25:
        del parent[key]
    elif fate < 0.4:
        other, name = chance.choice(places)
        parent[key] = json.loads(json.dumps(other.get(name) if isinstance(other, dict) else None))
    elif fate < 0.5:
        parent[key] = [parent[key]]
    elif fate < 0.6 and isinstance(parent, dict):
        parent[str(chance.choice(STRANGE))[:50]] = parent.pop(key)
    elif fate < 0.75 and isinstance(parent[key], int | float):
        parent[key] = -parent[key] * 10.0 ** chance.randint(-300, 300)
    else:
        parent[key] = chance.choice(STRANGE)
    return copy


def _collect(data: Any, places: list[tuple[Any, Any]]) -> None:
    entries = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in entries:
        places.append((data, key))
        _collect(value, places)
