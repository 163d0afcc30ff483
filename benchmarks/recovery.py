"""Whether what the papers print comes back: whole simulated runs, analysed, against rows 9 to 17 of the acceptance.

Every run goes through the real procedure, the drivers and the emulators, in virtual time. Seeds are 0 to N - 1, never
chosen. The slow tests take the same cases.

    python -m benchmarks.recovery [--seeds 8] [--row 10 --row 11] [--directory DIR]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from labctl.config.locate import locate
from labctl.run.engine import Engine
from labctl.run.guard_line import GuardLine
from labctl.run.request import RunRequest, prepare
from labctl.sim import laboratory
from labctl.sim.laboratory import Laboratory

MISCOUNTED = "miscounted"
"""Pulses that the run counted too many: its result ``shots`` less what the laboratory counted from the same moment."""
_PMMA_LOST_PERCENT = 7.29
"""1 - 1/[1 + 0.8 exp(-60 meV/kT)] at 300 K: what the sample's truth says; the paper says less than 10."""
_LASER_LEFT = 0.9298
"""What the law leaves after the pulses that pass in 300 min of blocks and the reads before them, 1.805e7."""
_WEEKS_H = (1, 2, 4, 8, 12, *range(24, 649, 24))


class NoGuard(GuardLine):
    """A line to nobody."""

    def say(self, kind: str, **data: Any) -> None:
        """Nobody hears."""


@dataclass(frozen=True)
class Wanted:
    """One number of the acceptance.

    :param row: Its row. :param name: Name of the result. :param value: What is to come back, within ``tolerance`` in
        every seed; in the unit of the result. :param what: In words.
    :param median: Narrower tolerance for the median over the seeds.
    """

    row: int
    what: str
    name: str
    value: float
    tolerance: float
    median: float | None = None

    def holds(self, found: float) -> bool:
        """Get whether a seed lies within the tolerance."""
        return abs(found - self.value) <= self.tolerance


@dataclass(frozen=True)
class Case:
    """One kind of run and what is to come back from it."""

    name: str
    procedure: str
    bench: str
    sample: str | None
    wanted: tuple[Wanted, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)


def _heat(sample: str, left: Wanted, line_nm: float) -> Case:
    lines = tuple(
        Wanted(11, f"{sample}, {what} (nm)", f"{name}_100min_nm", line_nm, 0.3)
        for what, name in (("red shift", "shift"), ("broadening", "broadening"))
    )
    return Case(f"heat-{sample}", "thermal-stability", "simulated-stability", sample, (left, *lines))


def _uv(sample: str, left: Wanted) -> Case:
    maximum = Wanted(12, f"{sample}, maximum after (h)", "maximum_at", 2.0, 0.4)
    return Case(f"uv-{sample}", "uv-stability", "simulated-stability", sample, (left, maximum))


def _perovskite(stress: str, sample: str, wanted: tuple[Wanted, ...], **parameters: Any) -> Case:
    return Case(
        f"{stress.split('-')[0]}-{sample}", f"{stress}-stability", "simulated-perovskites", sample, wanted, parameters
    )


_HOT: dict[str, Any] = {
    "temperature": "99.85 degC",
    "times": "0, 1, 2, 4, 6, 8, 10, 12, 24, 36, 50 h",
    "report_at": "10, 50 h",
}
_WEEKS = f"{', '.join(map(str, _WEEKS_H))} h"
_RINGS: dict[str, Any] = {"fluences": "92 uJ/cm^2", "expected_gain": "360 /cm"}
_LASER = "vcsel"

CASES: tuple[Case, ...] = (
    Case(
        "gain-film",
        "vsl-scan",
        "simulated-gain",
        None,
        (Wanted(9, "gain of CdSe/CdS@ZnO at 84 µJ/cm² (1/cm)", "gain", 115.0, 11.5, 5.75),),
    ),
    Case(
        "gain-rings",
        "vsl-scan",
        "simulated-gain-rings",
        None,
        (Wanted(9, "gain of the medium rings at 92 µJ/cm² (1/cm)", "gain", 360.0, 18.0),),
        _RINGS,
    ),
    _heat("cdse-cds", Wanted(10, "cdse-cds, 100 min at 100 °C", "remaining_100min", 0.20, 0.012), 2.0),
    _heat("cdse-cds-zno", Wanted(10, "cdse-cds-zno, 100 min at 100 °C", "remaining_100min", 0.63, 0.015), 0.0),
    _uv("cdse-cds", Wanted(12, "cdse-cds, 17 h of UV light", "remaining_17h", 0.21, 0.015)),
    _uv("cdse-cds-zno", Wanted(12, "cdse-cds-zno, 17 h of UV light", "remaining_17h", 0.90, 0.02)),
    _perovskite("thermal", "cspbbr3", (Wanted(13, "cspbbr3, 10 h at 373 K", "remaining_10h", 0.02, 0.006),), **_HOT),
    _perovskite(
        "thermal", "cspbbr3-zns", (Wanted(13, "cspbbr3-zns, 50 h at 373 K", "remaining_50h", 0.75, 0.015),), **_HOT
    ),
    _perovskite(
        "uv", "cspbbr3", (Wanted(14, "cspbbr3, 648 h of UV light", "remaining_648h", 0.10, 0.01),), times=_WEEKS
    ),
    _perovskite(
        "uv",
        "cspbbr3-zns",
        (Wanted(14, "cspbbr3-zns, 648 h of UV light", "remaining_648h", 0.65, 0.015),),
        times=_WEEKS,
    ),
    _perovskite("water", "cspbbr3", (Wanted(15, "cspbbr3, 12 h in water", "remaining_12h", 0.01, 0.005),)),
    _perovskite(
        "water",
        "cspbbr3-zns",
        (
            Wanted(15, "cspbbr3-zns, 12 h in water", "remaining_12h", 0.95, 0.01),
            Wanted(15, "cspbbr3-zns, 504 h in water", "remaining_504h", 0.10, 0.01),
        ),
    ),
    Case(
        "ase-film",
        "ase-stability",
        "simulated-stability",
        "cdse-cds-zno",
        (
            Wanted(16, "ASE at 3 F_th after 40 min", "remaining_40min", 0.88, 0.02),
            Wanted(16, "ASE at 3 F_th after 80 min", "remaining_80min", 1.10, 0.02),
            Wanted(16, "pulses counted too many, film", MISCOUNTED, 0.0, 1.0),
        ),
    ),
    Case(
        "ase-laser",
        "ase-stability",
        _LASER,
        "vcsel",
        (
            Wanted(16, "laser after 1.8e7 pulses", "remaining_5h", _LASER_LEFT, 0.012),
            Wanted(16, "pulses counted too many, laser", MISCOUNTED, 0.0, 1.0),
        ),
        {"first": "5 min", "every": "5 min", "duration": "300 min"},
    ),
    Case(
        "temperature",
        "temperature-series",
        "simulated-cryostat",
        "cdzns-zns-pmma",
        (
            Wanted(17, "emission lost from 10 to 300 K (%)", "quench", _PMMA_LOST_PERCENT, 1.5),
            Wanted(17, "energy of the line at 300 K (eV)", "energy_at_highest", 2.850, 0.003),
            Wanted(17, "width of the line at 300 K (meV)", "width_at_highest", 118.0, 2.0),
        ),
        {"centre_wavelength": "468 nm"},
    ),
)


def measured(case: Case, seed: int, directory: Path) -> dict[str, float]:
    """Run a case and get what came back, by the names of its results; raises RuntimeError if the run did not finish."""
    request = RunRequest(
        procedure=case.procedure,
        parameters=dict(case.parameters),
        bench=_laser_bench(directory) if case.bench == _LASER else case.bench,
        sample=case.sample,
        out=str(directory / "runs"),
        seed=seed,
        virtual_time=True,
    )
    with _laboratories() as laboratories:
        outcome = Engine(prepare(request), NoGuard()).run()
    if outcome.status != "finished" or outcome.safe_state != "confirmed":
        raise RuntimeError(f"{case.name}, seed {seed}: {outcome.status}, {outcome.safe_state}: {outcome.error}")
    found = {name: float(entry["value"]) for name, entry in outcome.result.items() if _has_value(entry)}
    if "shots" in found:
        found[MISCOUNTED] = found["shots"] - laboratories[-1].pulses_passed(_AFTER_ALL_S)
    return {wanted.name: found[wanted.name] for wanted in case.wanted}


_AFTER_ALL_S = 1e9
"""Laboratory time when no run goes any more; its shutter is closed."""


def _has_value(entry: Any) -> bool:
    return isinstance(entry, Mapping) and entry.get("value") is not None


@contextmanager
def _laboratories() -> Iterator[list[Laboratory]]:
    """Keep hold of the laboratories that runs of this process create."""
    made: list[Laboratory] = []
    create = laboratory.create

    def kept(*arguments: Any) -> Laboratory:
        made.append(create(*arguments))
        return made[-1]

    with mock.patch.object(laboratory, "create", kept):
        yield made


def _laser_bench(directory: Path) -> str:
    """Write the bench of the laser with a trigger counter, a longer dose and pulses that wear; returns its path."""
    shipped = locate("benches", "simulated-vcsel")
    text = shipped.read_text(encoding="utf-8")
    for old, new in (
        ('"calibrations/', f'"{shipped.parent.as_posix()}/calibrations/'),
        ('dose_per_spot = "50 J/cm^2"', 'dose_per_spot = "1 kJ/cm^2"'),
        ("[laboratory.laser]", "[laboratory]\nwears = true\n\n[laboratory.laser]"),
    ):
        if old not in text:
            raise RuntimeError(f"{old} does not stand in {shipped.name}")
        text = text.replace(old, new)
    path = directory / "simulated-vcsel-wearing.toml"
    counter = '[instruments.trigger_counter]\ndriver = "keysight-53220a"\nresource = "sim:"'
    path.write_text(f"{text}\n{counter}\n", encoding="utf-8")
    return str(path)


def line(wanted: Wanted, values: Sequence[float]) -> str:
    """Write a row of the table, in Markdown."""
    digits = 1 if wanted.value >= 20 else 0 if wanted.name == MISCOUNTED else 3
    inside = sum(map(wanted.holds, values))
    aim = f"{wanted.value:g} ± {wanted.tolerance:g}"
    median = ""
    if wanted.median is not None:
        aim += f", median ± {wanted.median:g}"
        median = f", median {np.median(values):.{digits}f}"
    return (
        f"| {wanted.row} | {wanted.what} | {aim} | {min(values):.{digits}f} to {max(values):.{digits}f}"
        f" | {np.mean(values):.{digits}f}{median} | {inside} of {len(values)} |"
    )


def main() -> None:
    """Run and print, each case as soon as it is known."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recovery", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=8, help="runs of each case, with seeds 0 to N - 1")
    parser.add_argument("--row", type=int, action="append", help="only this row of the acceptance; may be repeated")
    parser.add_argument("--directory", type=Path, help="for the runs; default: the temporary directory")
    arguments = parser.parse_args()
    rows = set(arguments.row or range(9, 18))
    print("| row | what | wanted | found, least to largest | mean | inside |\n|---|---|---|---|---|---|")
    began_s = time.process_time()
    for case in CASES:
        chosen = [wanted for wanted in case.wanted if wanted.row in rows]
        if not chosen:
            continue
        found: list[dict[str, float]] = []
        for seed in range(arguments.seeds):
            with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
                found.append(measured(case, seed, Path(name)))
        for wanted in chosen:
            print(line(wanted, [values[wanted.name] for values in found]), flush=True)
    print(f"\nseeds 0 to {arguments.seeds - 1}; {time.process_time() - began_s:.0f} s of processor time")


if __name__ == "__main__":
    main()
