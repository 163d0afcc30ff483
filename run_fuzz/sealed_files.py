"""Mutated sealed files: damaged bytes, and HDF5 that is well-formed but not what labctl wrote."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from run_fuzz.json_data import STRANGE, mutated_text
from run_fuzz.raw_bytes import damaged

_TEXTS = ("entry/provenance/header_json", "entry/provenance/header_json", "entry/provenance/streams_json")
_TEXT = h5py.string_dtype("utf-8")


def mutate_sealed(original: Path, target: Path, seed: int) -> str:
    """Write a mutated copy of a sealed file; returns what was done. ``bytes`` means that damage was done."""
    chance = random.Random(seed)
    shutil.copyfile(original, target)
    if chance.random() < 0.6:
        kind, content = damaged(target.read_bytes(), chance)
        target.write_bytes(content)
        return f"bytes: {kind}"
    with h5py.File(target, "r+") as file:
        name, mutate = chance.choice(list(_MUTATIONS.items()))
        try:
            where = mutate(file, chance)
        except (ValueError, TypeError, RuntimeError, KeyError, OSError) as error:
            return f"objects: {name}: refused by HDF5: {error}"
        return f"objects: {name}: {where}"


def _objects(file: h5py.File, kind: type) -> list[str]:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, kind) else None)
    return sorted(name for name in names if name.startswith("entry/"))


def _remove(file: Any, chance: random.Random) -> str:
    name = chance.choice(_objects(file, h5py.HLObject))
    del file[name]
    return name


def _replace(file: Any, chance: random.Random) -> str:
    """Another dataset, or none, in the place of one."""
    name = chance.choice(_objects(file, h5py.Dataset))
    count = file["entry/data/point"].shape[0]
    del file[name]
    new = chance.randrange(12)
    if new == 0:
        file.create_group(name)
    elif new == 1:
        file[name] = np.zeros(count, np.complex128)
    elif new == 2:
        file.create_dataset(name, data=np.array(["x"] * count, object), dtype=_TEXT)
    elif new == 3:
        file.create_dataset(name, (count,), h5py.special_dtype(ref=h5py.Reference))
    elif new == 4:
        file.create_dataset(name, (10**12,), "<f8", chunks=(1024,), compression="gzip")
    elif new == 5:
        file[name] = h5py.Empty("f8")
    elif new == 6:
        file[name] = np.zeros((count, 3), [("a", "<i4"), ("b", "S5")])
    elif new == 7:
        file.create_dataset(name, (count,), h5py.vlen_dtype(np.dtype("<i4")))
    elif new == 8:
        file[name] = np.dtype("<f8")
    elif new == 9:
        file[name] = np.arange(count + 1.0)
    elif new == 10:
        file[name] = np.array([b"\xff\xfe"] * count)
    else:
        file.create_dataset(name, data=np.zeros((count, 64)), chunks=(1, 64), **hdf5plugin.Zstd())
    return f"{name} ({new})"


def _link(file: Any, chance: random.Random) -> str:
    name = chance.choice(_objects(file, h5py.HLObject))
    kind = chance.choice(("soft", "hard", "external", "loop"))
    other = chance.choice(_objects(file, h5py.HLObject))
    del file[name]
    if kind == "soft":
        file[name] = h5py.SoftLink(f"/{other}")
    elif kind == "hard" and other in file:
        file[name] = file[other]
    elif kind == "external":
        file[name] = h5py.ExternalLink("secret.h5", "/entry/data/point")
    else:
        file[name] = file["entry"]
    return f"{name} ({kind})"


def _elsewhere(file: Any, chance: random.Random) -> str:
    """A dataset whose values lie in another file."""
    name = chance.choice(_objects(file, h5py.Dataset))
    count = file["entry/data/point"].shape[0]
    del file[name]
    if chance.random() < 0.5:
        file.create_dataset(name, (count,), "<f8", external=[("secret.h5", 0, h5py.h5f.UNLIMITED)])
        return f"{name} (external)"
    layout = h5py.VirtualLayout((count,), "<f8")
    layout[:] = h5py.VirtualSource("secret.h5", "secret", (count,))
    file.create_virtual_dataset(name, layout)
    return f"{name} (virtual)"


def _attribute(file: Any, chance: random.Random) -> str:
    item = chance.choice([file, *(file[name] for name in _objects(file, h5py.HLObject))])
    names = sorted(item.attrs)
    if not names:
        return "none there"
    name = chance.choice(names)
    del item.attrs[name]
    value = chance.choice((*STRANGE, "gone", np.zeros(3), np.array(["a", "b"], object), h5py.Empty("S1"), b"\xff", 2.5))
    if isinstance(value, str | bytes | int | float | np.ndarray | h5py.Empty) and value != "gone":
        item.attrs[name] = value
    return f"{item.name}@{name}"


def _text(file: Any, chance: random.Random) -> str:
    results = [f"entry/process/{name}/result_json" for name in file["entry/process"]]
    name = chance.choice((*_TEXTS, *results))
    new = mutated_text(file[name][()].decode(), chance)
    del file[name]
    file.create_dataset(name, data=new, dtype=_TEXT)  # without the checksum, as an older labctl wrote it
    return name


def _events(file: Any, chance: random.Random) -> str:
    texts = file["entry/events/data_json"]
    number = chance.randrange(len(texts))
    texts[number] = mutated_text(texts[number].decode(), chance)
    if chance.random() < 0.7:
        del file["entry/events"].attrs["crc32"]
    return f"event {number}"


_MUTATIONS: dict[str, Callable[[Any, random.Random], str]] = {
    "removed": _remove,
    "replaced": _replace,
    "linked": _link,
    "elsewhere": _elsewhere,
    "attribute": _attribute,
    "text": _text,
    "more text": _text,
    "event": _events,
}
