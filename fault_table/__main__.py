"""``python -m fault_table PROCEDURE``: prints the fault table; exit code 1 if a promise was broken."""

from __future__ import annotations

import argparse
import logging
import sys

from fault_table.plans import PLANS
from fault_table.table import fault_table
from labctl.sim.faults import Kind


def main() -> int:
    """Read the arguments, print the table."""
    parser = argparse.ArgumentParser(prog="python -m fault_table", description=__doc__)
    parser.add_argument("procedure", choices=sorted(PLANS))
    parser.add_argument("--bench", help="another simulated bench than the one of its plan")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--every", type=int, default=1, help="only every so-many-th transaction: a quick look")
    parser.add_argument("--kind", action="append", type=Kind, default=[], help=f"only this kind: {', '.join(Kind)}")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    table = fault_table(chosen.procedure, bench=chosen.bench, jobs=chosen.jobs, every=chosen.every, kinds=chosen.kind)
    sys.stdout.write(table.text() + "\n")
    return 1 if table.bad else 0


if __name__ == "__main__":
    sys.exit(main())
