"""``labctl dose``: what every spot of every sample has received, and what is left of its budget."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from labctl.bench.ledger import ExposureLedger, SpotRecord
from labctl.cli.output import print_json, say, show_table
from labctl.clock import RealClock
from labctl.errors import InputError, LabctlError
from labctl.run.light import OwedLight, owed_light


def dose(
    directory: str, *, sample: str | None, spot: str | None, bench: str | None, settle: bool, as_json: bool
) -> int:
    """Show the exposure ledger of a folder of runs.

    :param sample: Only this sample.
    :param spot: Only spots of this name.
    :param bench: A bench whose budget is to be shown.
    :param settle: Whether to enter what runs that died owe; light of which nobody knows the end counts until now.
    """
    folder = Path(directory)
    ledger = ExposureLedger(folder)
    if not ledger.path.is_file():
        raise InputError(
            f"there is no exposure ledger in {directory}",
            where=str(ledger.path),
            todo="name the folder given as --out to `labctl run`; a ledger is made by the first light on a sample",
        )
    limit_j_cm2 = _limit_j_cm2(bench) if bench is not None else None
    owed = [entry for entry in owed_light(folder) if _is_wanted(entry.account, sample, spot)]
    if settle:
        owed = [entry for entry in owed if not _settled(entry)]
    spots = [entry for entry in ledger.spots() if _is_wanted(entry, sample, spot)]
    entries = [_entry(record, owed, limit_j_cm2) for record in spots]
    if as_json:
        print_json({"directory": directory, "limit_j_cm2": limit_j_cm2, "spots": entries, "owed": _described(owed)})
        return 0
    if not entries:
        say(f"no light on {'such a spot' if sample or spot else 'any spot'} in {directory}")
    else:
        _show(entries, limit_j_cm2, f"budget {limit_j_cm2:g} J/cm² a spot ({bench})" if limit_j_cm2 else "")
    for entry in _described(owed):
        what = entry["problem"] or f"at most {entry['pulses']} pulses, {entry['dose_j_cm2']:.3g} J/cm²"
        say(f"not in the ledger yet, {entry['run']} ended without: {what}")
        say("  do: " + (entry["todo"] or f"`labctl dose {directory} --settle` enters it"))
    return 0


def _limit_j_cm2(bench: str) -> float:
    from labctl.bench.bench_sections import pump_limits
    from labctl.config.bench import load_bench

    limit = pump_limits(load_bench(bench)).dose_j_cm2
    if limit is None:
        raise InputError(f"the bench {bench!r} has no budget", todo="write limits.dose_per_spot into the bench file")
    return limit


def _is_wanted(entry: Any, sample: str | None, spot: str | None) -> bool:
    return sample in (None, entry.sample) and spot in (None, entry.spot)


def _settled(owed: OwedLight) -> bool:
    try:
        added = owed.settle(RealClock().wall())
    except LabctlError as error:
        say(f"error: {error}")
        return False
    say(f"entered {added.open_s:.3f} s, {added.pulses} pulses, {added.dose_j_cm2:.3g} J/cm² of {added.run}")
    return True


def _entry(record: SpotRecord, owed: list[OwedLight], limit_j_cm2: float | None) -> dict[str, Any]:
    total = record.total
    entry = {
        "sample": record.sample,
        "spot": record.spot,
        "simulated": record.simulated,
        "runs": total.runs,
        "pulses": total.pulses,
        "mean_fluence_uj_cm2": record.fluence_uj_cm2,
        "highest_fluence_uj_cm2": record.highest_uj_cm2,
        "dose_j_cm2": total.dose_j_cm2,
        "open_s": total.open_s,
        "last_exposure": datetime.fromtimestamp(record.last_wall_s).isoformat(" ", "seconds"),
        "last_wall_s": record.last_wall_s,
    }
    if limit_j_cm2 is not None:
        mine = [one for one in owed if _spot_of(one.account) == _spot_of(record)]
        more = sum(one.bound().dose_j_cm2 for one in mine if one.is_known)
        # The spot of a simulated sample is a fresh one in every run.
        used = 0.0 if record.simulated else total.dose_j_cm2 + more
        known = record.simulated or all(one.is_known for one in mine)
        entry["left_j_cm2"] = max(limit_j_cm2 - used, 0.0) if known else None
    return entry


def _spot_of(entry: Any) -> tuple[str, str, bool]:
    return entry.sample, entry.spot, entry.simulated


def _described(owed: list[OwedLight]) -> list[dict[str, Any]]:
    return [_description(entry) for entry in owed]


def _description(owed: OwedLight) -> dict[str, Any]:
    account = owed.account
    known = owed.is_known
    bound = owed.bound() if known else None
    unknown = None if known else owed.unknown()
    return {
        "run": account.run,
        "sample": account.sample,
        "spot": account.spot,
        "simulated": account.simulated,
        "pulses": bound.pulses if bound else None,
        "open_s": bound.open_s if bound else None,
        "dose_j_cm2": bound.dose_j_cm2 if bound else None,
        "problem": unknown.what if unknown else "",
        "todo": unknown.todo if unknown else "",
    }


def _show(entries: list[dict[str, Any]], limit_j_cm2: float | None, title: str) -> None:
    headings = {"sample": "left", "spot": "left", "runs": "right", "pulses": "right", "mean µJ/cm²": "right"}
    headings |= {"highest µJ/cm²": "right", "dose J/cm²": "right", "open": "right", "last exposure": "left"}
    if limit_j_cm2 is not None:
        headings["left J/cm²"] = "right"
    headings[""] = "left"
    rows = []
    for entry in entries:
        row = [entry["sample"], entry["spot"], str(entry["runs"]), str(entry["pulses"])]
        row += [f"{entry[name]:.4g}" for name in ("mean_fluence_uj_cm2", "highest_fluence_uj_cm2", "dose_j_cm2")]
        row += [f"{entry['open_s']:.1f} s", entry["last_exposure"]]
        if limit_j_cm2 is not None:
            row.append(_left(entry))
        rows.append([*row, "SIMULATED" if entry["simulated"] else ""])
    show_table(headings, rows, title)


def _left(entry: dict[str, Any]) -> str:
    if entry["simulated"]:
        return "fresh each run"
    return "unknown" if entry["left_j_cm2"] is None else f"{entry['left_j_cm2']:.4g}"
