"""``python -m kill_table``: end runs in every way, print the table; exit code 1 if a promise was broken."""

from __future__ import annotations

import argparse
import os
import sys

from kill_table.table import Trial, kill_table, text_of
from kill_table.ways import WAYS


def main() -> int:
    """Read the arguments, print the table."""
    parser = argparse.ArgumentParser(prog="python -m kill_table", description=__doc__)
    parser.add_argument("--way", choices=[*WAYS, "all"], default="all", help="how runs are ended")
    parser.add_argument("--count", type=int, default=100, help="runs of each way; of all ways: of the first alone")
    parser.add_argument("--others", type=int, default=10, help="runs of each other way")
    chosen = parser.parse_args()
    ways = list(WAYS) if chosen.way == "all" else [chosen.way]
    trials: list[Trial] = []
    try:
        for trial in kill_table(ways, chosen.count, others=chosen.others):
            trials.append(trial)
            sys.stderr.write(f"{trial}\n")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the table so far:\n")
    sys.stdout.write(text_of(trials) + "\n")
    return 1 if any(trial.problems for trial in trials) else 0


if __name__ == "__main__":
    if os.name != "posix":
        sys.exit("signals and terminals: the kill table needs POSIX")
    sys.exit(main())
