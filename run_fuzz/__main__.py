"""``python -m run_fuzz [MUTANTS]``: mutate run files, read each in every way, and print a table."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from run_fuzz.campaign import campaign
from run_fuzz.originals import make_originals

OUTCOMES = ("read", "error", "wrong", "fault", "crash", "hang")


def table(seeds: range) -> int:
    """Print one line for each form and kind of mutation; returns 1 if a promise was broken."""
    folder = Path(tempfile.mkdtemp(prefix="run-fuzz-")).resolve()
    mutants = list(campaign(make_originals(folder), folder / "mutants", seeds))
    sys.stdout.write(f"| form | mutation | mutants | {' | '.join(OUTCOMES)} |\n|---|---|---|{'---|' * len(OUTCOMES)}\n")
    groups = Counter((mutant.form, mutant.mutation.split(":")[0], mutant.outcome) for mutant in mutants)
    for form, kind in sorted({key[:2] for key in groups}):
        counts = [groups[form, kind, outcome] for outcome in OUTCOMES]
        sys.stdout.write(f"| {form} | {kind} | {sum(counts)} | {' | '.join(map(str, counts))} |\n")
    broken = [mutant for mutant in mutants if not mutant.kept]
    for mutant in broken:
        sys.stdout.write(f"\nseed {mutant.seed}, {mutant.form}, {mutant.mutation}: {mutant.outcome}\n{mutant.detail}\n")
    sys.stdout.write(f"broken promises: {len(broken)}{f', kept in {folder}' if broken else ''}\n")
    if not broken:
        shutil.rmtree(folder)
    return 1 if broken else 0


if __name__ == "__main__":
    bounds = [int(argument) for argument in sys.argv[1:]] or [2000]
    sys.exit(table(range(*bounds)))
