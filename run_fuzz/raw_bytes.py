"""A file, damaged as disks and copies damage files."""

from __future__ import annotations

import random


def damaged(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    """What was done, and the content after it."""
    data = bytearray(content)
    block = chance.choice((512, 4096, 8192))
    blocks = max(1, len(data) // block)
    kind = chance.choice(
        ("flip", "flip", "flip", "overwrite", "truncate", "zero", "swap", "insert", "remove", "extend")
    )
    if kind == "flip":
        for _ in range(chance.choice((1, 1, 1, 2, 8, 64))):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == "overwrite":
        start = chance.randrange(len(data))
        data[start : start + 16] = chance.randbytes(len(data[start : start + 16]))
    elif kind == "truncate":
        del data[chance.randrange(len(data)) :]
    elif kind == "zero":
        start = chance.randrange(blocks) * block
        data[start : start + block] = bytes(len(data[start : start + block]))
    elif kind == "swap":
        one, other = (chance.randrange(blocks) * block for _ in range(2))
        first, second = data[one : one + block], data[other : other + block]
        if len(first) == len(second):
            data[one : one + block], data[other : other + block] = second, first
    elif kind == "insert":
        start = chance.randrange(len(data))
        data[start:start] = chance.randbytes(chance.randint(1, block))
    elif kind == "remove":
        start = chance.randrange(len(data))
        del data[start : start + chance.randint(1, block)]
    else:
        data += chance.randbytes(block)
    return kind, bytes(data)
