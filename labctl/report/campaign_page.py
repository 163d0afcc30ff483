"""One page about a campaign that needs nothing but itself."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labctl.report.result_names import result_name
from labctl.report.wording import CONVENTIONS, DEFINITIONS, Reading, label_text, reading

_TEMPLATE = "campaign.html"
_MOST_RESULTS = 12
_STATUS = {
    "finished": "every run has finished",
    "failed": "every run was tried, and some did not finish",
    "paused": "ended after a run that did not finish: somebody has to decide how it goes on",
    "stopped": "ended after a run that did not finish, as its file says",
    "aborted": "ended on request before it was done",
    "unsafe": "ended because the safe state of a bench could not be confirmed",
}


@dataclass(frozen=True)
class ResultRow:
    """One result as printed; ``remark`` says by which definition and convention."""

    reading: Reading
    remark: str


@dataclass(frozen=True)
class RunEntry:
    """One run of the campaign, as the page tells it.

    :param level: ``good``, ``bad`` or ``unknown``, for its colour.
    :param why: Why it did not finish, or was skipped.
    :param asked: Parameters and their values.
    :param taken: Parameters that came from earlier runs: name, value, source.
    :param figure: PNG; empty where there is none.
    :param page: Where its own report lies, from here; ``run`` its file.
    """

    number: int
    name: str
    procedure: str
    sample: str
    status: str
    level: str
    why: str = ""
    safe_state: str = ""
    attempts: int = 0
    began: str = ""
    points: str = ""
    spot: str = ""
    asked: tuple[tuple[str, str], ...] = ()
    taken: tuple[tuple[str, str, str], ...] = ()
    results: tuple[ResultRow, ...] = ()
    warnings: tuple[str, ...] = ()
    incidents: tuple[str, ...] = ()
    figure: bytes = b""
    page: str = ""
    run: str = ""
    simulated: bool = False

    @property
    def anchor(self) -> str:
        """Get its name within the page."""
        return f"run-{self.number}"

    @property
    def picture(self) -> str:
        """Get its figure as it stands in a page."""
        return base64.b64encode(self.figure).decode()


@dataclass(frozen=True)
class Section:
    """The runs of one sample."""

    sample: str
    runs: tuple[RunEntry, ...]


@dataclass(frozen=True)
class CampaignPage:
    """All that the page says. Times are text; ``sections`` hold the same runs as ``runs``, by sample."""

    name: str
    description: str
    status: str
    todo: str
    began: str
    ended: str
    resumed: tuple[str, ...]
    simulated: bool
    virtual: bool
    sections: tuple[Section, ...]
    runs: tuple[RunEntry, ...]
    state: str
    file: str
    seed: str

    @property
    def level(self) -> str:
        """Get the colour of its status."""
        return {"finished": "good"}.get(self.status, "bad")

    @property
    def meaning(self) -> str:
        """Get what its status means."""
        return _STATUS.get(self.status, "")

    @property
    def tally(self) -> str:
        """Get how many runs came to what."""
        counts = {status: sum(run.status == status for run in self.runs) for status in dict.fromkeys(_of(self.runs))}
        return ", ".join(f"{count} {status}" for status, count in counts.items())

    @property
    def troubles(self) -> tuple[RunEntry, ...]:
        """Get the runs that a reader should look at: not finished, tried again, or with incidents."""
        return tuple(run for run in self.runs if run.status != "finished" or run.attempts > 1 or run.incidents)


def _of(runs: tuple[RunEntry, ...]) -> list[str]:
    return [run.status for run in runs]


def result_rows(results: Mapping[str, Mapping[str, Any]]) -> tuple[ResultRow, ...]:
    """Write the first results of a run; what stands in another by other conventions is left to the run's own page."""
    plain = {name: entry for name, entry in results.items() if "." not in name}
    return tuple(
        ResultRow(reading(result_name(name), entry), _remark(entry))
        for name, entry in list(plain.items())[:_MOST_RESULTS]
    )


def _remark(entry: Mapping[str, Any]) -> str:
    definition, convention = str(entry.get("definition") or ""), str(entry.get("convention") or "")
    said = [DEFINITIONS.get(definition, definition), CONVENTIONS.get(convention, convention)]
    said.append("not to be trusted, see its own page" if entry.get("trusted") is False else "")
    return ", ".join(label_text(word) for word in said if word)


def render_campaign(page: CampaignPage) -> str:
    """Fill the template; everything that comes from files is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("labctl.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE).render(campaign=page)
