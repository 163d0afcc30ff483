"""``python -m power_loss [IMAGES]``: cut the power of a run, and of runs with a sync left out, and print a table."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from power_loss.cut import cuts, traced
from power_loss.trace import can_trace
from power_loss.writer import UNSAFE


def table(images: int) -> int:
    """Print one line for each kind of run; returns 1 if a run with all its syncs has lost anything."""
    sys.stdout.write(
        "| left out | images | complete | lost | unreadable | wrong or stuck |\n|---|---|---|---|---|---|\n"
    )
    bad = 0
    for unsafe in ("", *UNSAFE):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name).resolve()
            found = list(cuts(traced(folder, unsafe), folder / "run", folder / "images", range(images)))
        words = [image.problems[0].split(":")[0] if image.problems else "" for image in found]
        counts = [words.count(""), words.count("lost"), words.count("unreadable")]
        counts.append(len(words) - sum(counts))
        sys.stdout.write(f"| {unsafe or 'nothing'} | {len(found)} | {' | '.join(map(str, counts))} |\n")
        if not unsafe:
            bad = len(found) - counts[0]
            for image in found:
                if image.problems:
                    sys.stdout.write(f"{image}\n")
    return 1 if bad else 0


if __name__ == "__main__":
    if reason := can_trace():
        sys.exit(reason)
    sys.exit(table(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
