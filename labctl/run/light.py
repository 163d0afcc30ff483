"""The light of a run, on its way into journal and ledger; and what is owed to the ledger when a run died.

Each opening on the sample is journalled as an event ``light`` before its light comes, with all that fell before it. The
ledger gets what has fallen from time to time. So a run that dies with the shutter open leaves an open account in the
ledger, and in its journal enough to tell what fell at most: see :class:`OwedLight`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.bench.ledger import Account, Exposure, ExposureLedger
from labctl.bench.light import ComingLight, LightOnSample
from labctl.bench.safe import SafeReport
from labctl.clock import RealClock
from labctl.errors import InputError, LabctlError, StorageError
from labctl.store.journal_format import lock_path
from labctl.store.naming import find_run
from labctl.store.ownership import is_owned
from labctl.store.run import Run, open_run

if TYPE_CHECKING:
    from labctl.run.request import PreparedRun

log = logging.getLogger(__name__)

EVENT = "light"
_LEAST_S = 1e-6
"""Less than this is the rounding of Unix times."""


def write_ledger(prepared: PreparedRun, run: str, light: Sequence[LightOnSample]) -> None:
    """Enter light into the ledger beside the runs, under the sample and spot of the request; raises StorageError.

    :param run: Name of the run.
    """
    ExposureLedger(Path(prepared.request.out)).write(_exposures(prepared, run, light))


class RunLight:
    """The light of one run.

    :param prepared: The run.
    :param sealed: The file that it will have; its name, with the day, is that of the run in the ledger.
    :param record: Writes an event of kind :data:`EVENT` durably into the journal, at the time given.
    """

    def __init__(self, prepared: PreparedRun, sealed: Path, record: Callable[[Mapping[str, Any], float], None]) -> None:
        self._prepared = prepared
        self._sealed = sealed
        self._run = run_name(sealed)
        self._record = record
        # Runs lie in a folder of their day.
        self._ledger = ExposureLedger(sealed.parent.parent)
        self._account: Account | None = None
        self._unwritten: list[LightOnSample] = []

    def announce(self, light: ComingLight) -> None:
        """Write down light before it comes; raises StorageError, and then it must not come."""
        if self._account is None:
            # The light of an earlier part of this run, after which nobody confirmed the shutter, has ended by now.
            for owed in owed_light(self._ledger.path.parent, self._sealed):
                owed.settle(light.wall_s)
            spot = _spot(self._prepared)
            self._account = self._ledger.open_account(
                *spot, self._run, simulated=self._prepared.simulated, wall_s=light.wall_s
            )
        self._record({"account": self._account.number, **asdict(light)}, light.wall_s)

    def write(self, light: Sequence[LightOnSample]) -> None:
        """Enter light that has fallen into the ledger; what it refuses is tried again later. Raises StorageError."""
        self._unwritten += light
        self._ledger.write(self._exposures(), self._account)
        self._unwritten.clear()

    def end(self, light: Sequence[LightOnSample], report: SafeReport) -> None:
        """Enter the last light, and settle the account if no more can come; raises StorageError.

        :param report: The safe state: behind a shutter that nobody confirmed closed light may go on.
        """
        if self._account is None or not shutter_is_shut(report.as_dict()):
            self.write(light)
            return
        self._unwritten += light
        self._ledger.settle(self._account, self._exposures())
        self._unwritten.clear()
        self._account = None

    def _exposures(self) -> list[Exposure]:
        return _exposures(self._prepared, self._run, self._unwritten)


@dataclass(frozen=True)
class OwedLight:
    """Light of a run that died, which the ledger may not hold.

    :param directory: Folder of the runs.
    :param account: Its open account.
    :param last: The last opening that was written down; None if it died before its first light.
    :param ended_s: Unix time by which that opening is known to have ended; None if nobody knows that the light is off.
    :param problem: Why its files cannot tell; empty if they can.
    """

    directory: Path
    account: Account
    last: ComingLight | None = None
    ended_s: float | None = None
    problem: str = ""

    @property
    def is_known(self) -> bool:
        """Get whether it is known what fell at most."""
        return not self.problem and (self.last is None or self.ended_s is not None)

    def bound(self, closed_wall_s: float | None = None) -> Exposure:
        """Get what is to be added to the ledger: what fell at most, less what the ledger holds already.

        The time is an upper bound; the fluence is as it was measured before or in that opening, else as it was set.
        Raises InputError if nobody knows that the light is off or the files of the run are gone, StorageError.

        :param closed_wall_s: Unix time at which the shutter was confirmed closed, where the run does not tell.
        """
        account = self.account
        who = (account.sample, account.spot, account.run)
        ended_s = self.ended_s if self.ended_s is not None else closed_wall_s
        if self.problem or (self.last is not None and ended_s is None):
            raise self.unknown()
        if self.last is None or ended_s is None:
            return Exposure(*who, account.wall_s, 0.0, 0, 0.0, account.simulated)
        rest = self.last.until(ended_s)
        open_s = max(self.last.open_s + rest.open_s - account.open_s, 0.0)
        pulses = max(self.last.pulses + rest.pulses - account.pulses, 0)
        dose = max(self.last.dose_j_cm2 + rest.dose_j_cm2 - account.dose_j_cm2, 0.0)
        return Exposure(*who, ended_s, open_s, pulses, dose * 1e6 / pulses if pulses else 0.0, account.simulated)

    def settle(self, closed_wall_s: float | None = None) -> Exposure:
        """Add what is owed to the ledger and close the account; get what was added. Otherwise as :meth:`bound`."""
        owed = self.bound(closed_wall_s)
        ExposureLedger(self.directory).settle(self.account, [owed] if owed.open_s > _LEAST_S else [])
        log.warning("%s: %.3f s of light (%d pulses) added to the ledger", owed.run, owed.open_s, owed.pulses)
        return owed

    def unknown(self) -> InputError:
        """Compose the error that says why nobody knows what fell."""
        where = f"{self.account.run} in {ExposureLedger(self.directory).path}"
        spot = f"the spot {self.account.spot!r} of {self.account.sample!r}"
        if self.problem:
            return InputError(
                f"a run died with light on {spot}, and its files cannot tell how much: {self.problem}",
                where=where,
                todo="put the files of the run back beside the ledger, or use a fresh spot",
            )
        return InputError(
            f"a run died with light on {spot}, and nobody has confirmed since that the shutter is closed",
            where=where,
            todo=f"`labctl run --resume {self.directory / self.account.run}`; or make the bench safe, then"
            f" `labctl dose {self.directory} --settle`, which counts the light until then",
        )


def owed_light(directory: Path, run: Path | None = None) -> list[OwedLight]:
    """Get the light that is owed to the ledger of a folder by runs that died; raises StorageError.

    Nothing is written, and no journal is opened that this or another living process writes.

    :param directory: Folder of the runs.
    :param run: Only this run; the caller answers for nobody going on with it.
    """
    found = []
    for account in ExposureLedger(directory).open_accounts():
        files = find_run(directory / account.run)
        if run is not None and account.run != run_name(run):
            continue
        if run is None and files.journal is not None and is_owned(lock_path(files.journal)):
            continue
        existing = next((path for path in (files.journal, files.sealed) if path is not None and path.is_file()), None)
        if existing is None:
            found.append(OwedLight(directory, account, problem="they are gone"))
            continue
        try:
            with open_run(existing) as opened:
                found.append(_owed(directory, account, opened))
        except StorageError as error:
            found.append(OwedLight(directory, account, problem=error.what))
    return found


def settle_dead_run(sealed: Path) -> list[str]:
    """Settle what a run that died owes to the ledger; get what kept it from that, as warnings. Never raises.

    :param sealed: The file of the run, which need not exist yet; its journal has the safe state by now.
    """
    try:
        for owed in owed_light(sealed.parent.parent, sealed):
            owed.settle()
    except LabctlError as error:
        log.error("%s", error)
        return [f"the exposure ledger lacks the last light of the run: {error.what}; do: {error.todo}"]
    return []


@dataclass(frozen=True)
class EarlierLight:
    """What the spot of a run has received before.

    :param dose_j_cm2: Dose in J/cm², an upper bound where runs died.
    :param own_j_cm2: How much of it the earlier part of the run itself gave, where one is resumed.
    :param unknown: Why more may have fallen of which nobody knows how much; one text a run.
    """

    dose_j_cm2: float
    own_j_cm2: float = 0.0
    unknown: tuple[str, ...] = ()


def earlier_light(prepared: PreparedRun) -> EarlierLight:
    """Get what the spot of a run has received before, with the light of runs that died; raises StorageError.

    Of a run that is resumed a shutter that nobody has confirmed closed counts as open until now: resuming closes it.
    """
    directory = Path(prepared.request.out)
    sample, spot = _spot(prepared)
    own = run_name(prepared.earlier.journal) if prepared.earlier is not None else ""
    ledger = ExposureLedger(directory)
    dose_j_cm2 = ledger.total(sample, spot, simulated=prepared.simulated).dose_j_cm2
    own_j_cm2 = ledger.total(sample, spot, simulated=prepared.simulated, run=own).dose_j_cm2 if own else 0.0
    unknown = []
    for owed in owed_light(directory):
        account = owed.account
        if (account.sample, account.spot, account.simulated) != (sample, spot, prepared.simulated):
            continue
        if not owed.is_known and (owed.problem or account.run != own):
            unknown.append(str(owed.unknown()))
            continue
        more_j_cm2 = owed.bound(RealClock().wall()).dose_j_cm2
        dose_j_cm2 += more_j_cm2
        own_j_cm2 += more_j_cm2 if account.run == own else 0.0
    return EarlierLight(dose_j_cm2, own_j_cm2, tuple(unknown))


def run_name(path: Path) -> str:
    """Get the name of a run in the ledger, e.g. ``2026-11-21/0012_fluence-sweep_A12``: numbers begin anew each day."""
    name = path.stem if path.suffix in (".h5", ".journal") else path.name
    return f"{path.parent.name}/{name}"


def shutter_is_shut(report: Mapping[str, Any]) -> bool:
    """Get whether a report on a safe state confirms that no light comes to the sample any more."""
    if report.get("state") == "lost-with-run":
        return True
    steps = [step for step in report.get("steps", ()) if step.get("role") == "shutter"]
    return bool(steps) and all(step.get("confirmed") is True for step in steps)


def _owed(directory: Path, account: Account, run: Run) -> OwedLight:
    events = [event for event in run.events(EVENT) if event.data.get("account") == account.number]
    if not events:
        return OwedLight(directory, account, None, None)
    last = events[-1]
    names = ComingLight.__dataclass_fields__
    light = ComingLight(**{name: last.data[name] for name in names})
    if run.header.get("request", {}).get("virtual_time"):
        # Its clock ran apart from all others and its laboratory ended with it.
        return OwedLight(directory, account, light, light.wall_s)
    # The light is off when a point is stored, and when somebody has confirmed it.
    ends = [float(wall_s) for name in run.streams for wall_s in run.column("wall_s", name) if wall_s > light.wall_s]
    states = [event for event in run.events("safe_state") if event.seq > last.seq and shutter_is_shut(event.data)]
    ends += [max(event.wall_s, light.wall_s) for event in states]
    return OwedLight(directory, account, light, min(ends, default=None))


def _spot(prepared: PreparedRun) -> tuple[str, str]:
    return prepared.sample.sample.name if prepared.sample else "no-sample", prepared.request.spot


def _exposures(prepared: PreparedRun, run: str, light: Sequence[LightOnSample]) -> list[Exposure]:
    spot, simulated = _spot(prepared), prepared.simulated
    return [
        Exposure(*spot, run, entry.wall_s, entry.open_s, entry.pulses, entry.fluence_uj_cm2, simulated)
        for entry in light
    ]
