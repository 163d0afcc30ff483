"""Cutting the power of a traced run at random moments, and looking at what is left."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from power_loss.disk import MARK, Disk
from power_loss.trace import Call, text_of, trace
from power_loss.verify import last_known, problems

PARTS = ("take", "resume")
_ENDING = 6
"""Remarks that the traced run makes after its last point."""


@dataclass(frozen=True)
class Image:
    """One power cut.

    :param cut: After how many calls of all programs.
    :param points: How many points had been acknowledged.
    :param pending: How many changes were not sure to be on the disk.
    :param problems: What was found wrong.
    """

    seed: int
    cut: int
    points: int
    pending: int
    problems: tuple[str, ...]


def traced(folder: Path, unsafe: str = "") -> list[list[Call]]:
    """Trace the run of :mod:`power_loss.writer`, each of its programs.

    :param folder: An empty directory for the run.
    """
    run = folder / "run"
    run.mkdir()
    command = [sys.executable, "-m", "power_loss.writer", str(run)]
    return [trace([*command, part, unsafe], folder / f"{part}.strace") for part in PARTS]


def cuts(programs: Sequence[Sequence[Call]], root: Path, scratch: Path, seeds: Iterable[int]) -> Iterator[Image]:
    """Cut the power once for each seed: right after something was acknowledged, while the run ends, or at any moment.

    :param root: Where the traced run was.
    :param scratch: A directory for the images; each is removed after the look at it.
    """
    marked = _marked(programs)
    total = sum(len(calls) for calls in programs)
    for seed in seeds:
        chance = random.Random(seed)
        moments = (chance.choice(marked) + 1, chance.randint(marked[-_ENDING] + 1, total), chance.randint(1, total))
        yield cut_at(programs, root, scratch, chance.choices(moments, (5, 2, 3))[0], seed)


def renamings(programs: Sequence[Sequence[Call]]) -> list[int]:
    """The moments right after a name was made, changed or removed."""
    calls = [call for program in programs for call in program]
    return [number + 1 for number, call in enumerate(calls) if call.name.startswith(("rename", "link", "unlink"))]


def cut_at(programs: Sequence[Sequence[Call]], root: Path, scratch: Path, cut: int, seed: int) -> Image:
    """Cut the power after so many calls, and look at what is left."""
    disk, left = Disk(root), cut
    for calls in programs:
        disk.run(calls[:left])
        left -= min(left, len(calls))
        if left == 0:
            break
        disk.end_process()
    known = last_known(disk.marks)
    folder = scratch / "image"
    folder.mkdir(parents=True)
    for name, content in disk.image(random.Random(seed)).items():
        (folder / name).write_bytes(content)
    image = Image(seed, cut, known.get("points", 0), disk.unsure, tuple(problems(folder, known)))
    shutil.rmtree(folder)
    return image


def _marked(programs: Sequence[Sequence[Call]]) -> list[int]:
    """Which calls are remarks, counted over all programs."""
    calls = [call for program in programs for call in program]
    return [
        number
        for number, call in enumerate(calls)
        if call.name == "write" and text_of(call.arguments[1]).startswith(MARK)
    ]
