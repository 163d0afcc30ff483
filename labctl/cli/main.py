"""The command line. Every command imports what it needs when it runs, so that ``labctl --help`` is quick."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

app = typer.Typer(
    name="labctl",
    help="Run the optical experiments of a nanocrystal laboratory. The software is never the laser interlock.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
bench_app = typer.Typer(help="Look after a bench.", no_args_is_help=True)
sim_app = typer.Typer(help="The simulated laboratory.", no_args_is_help=True)
app.add_typer(bench_app, name="bench")
app.add_typer(sim_app, name="sim")

Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on standard output.")]
BenchOption = Annotated[str, typer.Option("--bench", help="A bench file, or the name of a shipped one.")]
BenchArgument = Annotated[str, typer.Argument(metavar="BENCH", help="A bench file, or the name of a shipped one.")]
SetOption = Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="A parameter; may be repeated.")]
SampleOption = Annotated[str | None, typer.Option("--sample", help="A sample file, or the name of a shipped one.")]
OutOption = Annotated[str, typer.Option("--out", help="Folder in which runs are kept.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of the simulated laboratory.")]
StatusOption = Annotated[list[str], typer.Option("--status", help="Only these; may be repeated.")]
ResultOption = Annotated[
    list[str], typer.Option("--result", metavar="CONDITION", help="e.g. 'threshold>20 uJ/cm^2'; may be repeated.")
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run: its file, journal, or name without suffix.")]


@app.command()
def demo(out: OutOption = "runs", seed: SeedOption = 0, as_json: Json = False) -> None:
    """Fluence sweep on the shipped simulated bench, on the virtual clock; threshold and figure at the end."""
    from labctl.cli.run import make_request, run_to_end

    request = make_request("fluence-sweep", "simulated", [], out=out, seed=seed, virtual_time=True)
    raise typer.Exit(run_to_end(request, as_json=as_json))


@app.command()
def run(
    procedure: Annotated[str | None, typer.Argument(help="A procedure; `labctl procedures` lists them.")] = None,
    bench: Annotated[str | None, typer.Option("--bench", help="A bench file, or the name of a shipped one.")] = None,
    sets: SetOption = [],  # noqa: B006 - Typer copies it
    sample: SampleOption = None,
    out: Annotated[
        str | None, typer.Option("--out", help="Folder in which runs are kept; `runs` if not given.")
    ] = None,
    spot: Annotated[str | None, typer.Option(help="Name of the spot on the sample, for the exposure ledger.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the simulated laboratory.")] = None,
    virtual_time: Annotated[bool, typer.Option("--virtual-time", help="Simulated benches only: do not wait.")] = False,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="RUN", help="Go on with a run that broke off.")
    ] = None,
    again: Annotated[
        str | None, typer.Option("--again", metavar="RUN", help="Repeat a run from its provenance.")
    ] = None,
    retries: Annotated[int | None, typer.Option(min=0, max=10, help="Further tries of a point that fails.")] = None,
    on_failure: Annotated[
        str | None, typer.Option(help="After the last try: abort, or skip (and mark) the point.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return once the run has started.")] = False,
    as_json: Json = False,
) -> None:
    """Run a procedure on a bench: check, measure, leave the bench safe, seal, analyse, report.

    `labctl run --resume RUN` goes on with a run at its first point that was not acknowledged; `labctl run --again RUN`
    repeats one.
    """
    from labctl.cli.ask import Asked, request_of
    from labctl.cli.run import run_to_end, start_detached

    request = request_of(
        Asked(procedure, bench, tuple(sets), sample, out, spot, seed, virtual_time, resume, again, retries, on_failure)
    )
    runner = start_detached if detach else run_to_end
    raise typer.Exit(runner(request, as_json=as_json))


@app.command()
def plan(
    procedure: Annotated[str, typer.Argument(help="A procedure; `labctl procedures` lists them.")],
    bench: BenchOption,
    sets: SetOption = [],  # noqa: B006 - Typer copies it
    sample: SampleOption = None,
    out: OutOption = "runs",
    spot: Annotated[str, typer.Option(help="Name of the spot on the sample.")] = "1",
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the simulated laboratory; one that does not drift if not given.")
    ] = None,
    rehearsal: Annotated[
        bool, typer.Option("--rehearsal/--no-rehearsal", help="Rehearse on emulators what the run takes.")
    ] = True,
    live: Annotated[
        bool, typer.Option("--live", help="Open the instruments to ask how they stand; nothing is started.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Preflight only: points, duration, limits, dose, disk, calibrations, warm-up; nothing is moved."""
    from labctl.cli.plan import show_plan
    from labctl.cli.run import make_request

    request = make_request(procedure, bench, sets, sample=sample, out=out, spot=spot, seed=seed or 0)
    raise typer.Exit(show_plan(request, as_json=as_json, rehearsal=rehearsal, live=live, seed=seed))


@app.command()
def campaign(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A campaign file, or the name of a shipped one.")],
    out: OutOption = "runs",
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of runs that name none.")] = None,
    virtual_time: Annotated[bool, typer.Option("--virtual-time", help="Simulated benches only: do not wait.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a campaign that broke off.")] = False,
    as_json: Json = False,
) -> None:
    """Run many runs, one after another; never on after an unconfirmed safe state."""
    from labctl.cli.campaign import campaign as command

    raise typer.Exit(command(file, out=out, seed=seed, virtual_time=virtual_time, resume=resume, as_json=as_json))


@app.command()
def dose(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Folder in which runs are kept.")] = "runs",
    sample: Annotated[str | None, typer.Option("--sample", help="Only this sample.")] = None,
    spot: Annotated[str | None, typer.Option("--spot", help="Only spots of this name.")] = None,
    bench: Annotated[
        str | None, typer.Option("--bench", help="Show what is left of this bench's dose per spot.")
    ] = None,
    settle: Annotated[bool, typer.Option("--settle", help="Enter the light that runs that died still owe.")] = False,
    as_json: Json = False,
) -> None:
    """Show what every spot of every sample has received: pulses, fluence, dose, time in the light."""
    from labctl.cli.dose import dose as command

    raise typer.Exit(command(directory, sample=sample, spot=spot, bench=bench, settle=settle, as_json=as_json))


@app.command()
def analyse(run: RunArgument, as_json: Json = False) -> None:
    """Analyse a run again and add the result to its file; earlier results stay."""
    from labctl.cli.runs import analyse as command

    raise typer.Exit(command(run, as_json=as_json))


@app.command()
def report(
    run: RunArgument,
    output: Annotated[str | None, typer.Option("-o", "--output", help="File for the page; must not exist.")] = None,
    as_json: Json = False,
) -> None:
    """Write figure and page of a run."""
    from labctl.cli.runs import report as command

    raise typer.Exit(command(run, output, as_json=as_json))


@app.command()
def show(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run, a campaign, or the state file of one (FILE.campaign.jsonl).")
    ],
    out: Annotated[str | None, typer.Option("--out", help="Folder of a campaign's runs; `runs` if not given.")] = None,
    as_json: Json = False,
) -> None:
    """Show a run in any state: status, points, result, safe state, notes; or how far a campaign is."""
    from labctl.cli.campaign import show_campaign, state_file
    from labctl.cli.runs import show_one

    state = state_file(run, out)
    raise typer.Exit(show_one(run, as_json=as_json) if state is None else show_campaign(state, as_json=as_json))


@app.command()
def runs(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Folder in which runs are kept.")] = "runs",
    sample: Annotated[str | None, typer.Option("--sample", help="Only this sample; * stands for any letters.")] = None,
    procedure: Annotated[str | None, typer.Option("--procedure", help="Only this procedure; * as well.")] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="DATE", help="Begun then or later.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="DATE", help="Begun on that day or before.")] = None,
    status: StatusOption = [],  # noqa: B006 - Typer copies it
    result: ResultOption = [],  # noqa: B006 - Typer copies it
    text: Annotated[str | None, typer.Option("--text", help="In names, parameters or notes.")] = None,
    as_json: Json = False,
) -> None:
    """List the runs in a folder, or those of them that are looked for."""
    from labctl.cli.runs import list_runs
    from labctl.store.run_search import ResultCondition, Search

    conditions = tuple(ResultCondition.read(one) for one in result)
    search = Search(sample, procedure, since, until, tuple(status), conditions, text)
    raise typer.Exit(list_runs(directory, search, as_json=as_json))


@app.command()
def note(run: RunArgument, text: Annotated[str, typer.Argument(help="The note.")], as_json: Json = False) -> None:
    """Add a note to a run, while it goes or afterwards; notes are never changed."""
    from labctl.cli.runs import add_note

    raise typer.Exit(add_note(run, text, as_json=as_json))


@app.command()
def abort(run: RunArgument, as_json: Json = False) -> None:
    """End a run that goes on elsewhere: safely, after the present exposure."""
    from labctl.cli.runs import abort as command

    raise typer.Exit(command(run, as_json=as_json))


@app.command()
def pause(
    run: RunArgument,
    reason: Annotated[str, typer.Option(help="Why, for the journal.")] = "",
    as_json: Json = False,
) -> None:
    """Pause a run that goes on elsewhere: after the present point, with the shutter closed."""
    from labctl.cli.steer import pause as command

    raise typer.Exit(command(run, reason, as_json=as_json))


@app.command("continue")
def go_on(run: RunArgument, as_json: Json = False) -> None:
    """Let a paused run go on; every instrument is set up anew first."""
    from labctl.cli.steer import go_on as command

    raise typer.Exit(command(run, as_json=as_json))


@app.command()
def alter(
    run: RunArgument,
    stage: Annotated[str, typer.Option(help="Name of the stage; the one that is running if not given.")] = "",
    extend: Annotated[int | None, typer.Option(min=1, help="So many points more.")] = None,
    shorten: Annotated[int | None, typer.Option(min=1, help="So many of the coming points fewer.")] = None,
    every: Annotated[str | None, typer.Option(metavar="TIME", help="Time between points, e.g. '10 min'.")] = None,
    as_json: Json = False,
) -> None:
    """Extend, shorten or re-time a run that goes on elsewhere; the change is journalled."""
    from labctl.cli.steer import alter as command

    raise typer.Exit(command(run, stage, extend=extend, shorten=shorten, every=every, as_json=as_json))


@app.command()
def export(
    run: RunArgument,
    to: Annotated[str, typer.Option("--to", help="csv, nexus or xarray.")],
    output: Annotated[str, typer.Option("-o", "--output", help="File to write; must not exist.")],
    as_json: Json = False,
) -> None:
    """Export a run to another format."""
    from labctl.cli.runs import export as command

    raise typer.Exit(command(run, to, output, as_json=as_json))


@app.command()
def gui(
    bench: Annotated[str, typer.Option("--bench", help="A bench file, or the name of a shipped one.")] = "simulated",
    out: OutOption = "runs",
) -> None:
    """Open the window: check, start, watch and abort runs. Attaches to a run that goes on; closing it ends no run."""
    from labctl.cli.gui import gui as command

    raise typer.Exit(command(bench, out))


@bench_app.command("check")
def bench_check(bench: BenchArgument, as_json: Json = False) -> None:
    """Open every instrument, ask who it is, leave it safe."""
    from labctl.cli.bench import check

    raise typer.Exit(check(bench, as_json=as_json))


@bench_app.command("safe")
def bench_safe(bench: BenchArgument, as_json: Json = False) -> None:
    """Bring every instrument that can be reached into its safe state and confirm it."""
    from labctl.cli.bench import safe

    raise typer.Exit(safe(bench, as_json=as_json))


@bench_app.command("schema")
def bench_schema(as_json: Json = False) -> None:
    """Print the JSON schema of a bench file; ``--json`` changes nothing."""
    from labctl.cli.bench import schema

    raise typer.Exit(schema())


@sim_app.command("serve")
def sim_serve(
    bench: BenchArgument,
    speed: Annotated[float, typer.Option(help="Laboratory seconds per second.")] = 1.0,
    sample: SampleOption = None,
    seed: SeedOption = 0,
    until_eof: Annotated[bool, typer.Option("--until-eof", help="End when the standard input closes.")] = False,
    as_json: Json = False,
) -> None:
    """Serve every emulator of a bench on TCP and, on POSIX, a pty, until it is ended."""
    from labctl.cli.sim import serve

    raise typer.Exit(serve(bench, speed, sample, seed, until_eof=until_eof, as_json=as_json))


@app.command()
def procedures(as_json: Json = False) -> None:
    """List the procedures with their parameters, units and limits."""
    from labctl.cli.catalogue import procedures as command

    raise typer.Exit(command(as_json=as_json))


@app.command()
def drivers(as_json: Json = False) -> None:
    """List the drivers by role."""
    from labctl.cli.catalogue import drivers as command

    raise typer.Exit(command(as_json=as_json))


@app.command()
def samples(as_json: Json = False) -> None:
    """List the shipped samples and benches."""
    from labctl.cli.catalogue import samples as command

    raise typer.Exit(command(as_json=as_json))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check the installation: versions, drivers, VISA, a durable disk."""
    from labctl.cli.doctor import doctor as command

    raise typer.Exit(command(as_json=as_json))


@app.command()
def init(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Folder to make.")], as_json: Json = False
) -> None:
    """Make a folder with a bench and a sample to start from; existing files are left alone."""
    from labctl.cli.start import init as command

    raise typer.Exit(command(directory, as_json=as_json))


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit with its code (design, section 7)."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows no µ must not end a run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.exit(_run(arguments, as_json="--json" in arguments))


def _run(arguments: list[str], *, as_json: bool) -> int:
    try:
        return app(args=arguments or ["--help"], prog_name="labctl", standalone_mode=False) or 0
    except (typer.Abort, KeyboardInterrupt):
        return 3
    except Exception as error:
        from labctl.cli.output import fail, fail_unforeseen, fail_usage
        from labctl.errors import LabctlError

        # Usage errors are click's, or those of the copy of click that newer versions of Typer carry.
        usage = getattr(error, "format_message", None)
        if type(error).__name__ == "NoArgsIsHelpError" and usage is not None and not as_json:
            sys.stdout.write(usage() + "\n")
            return 0
        if isinstance(error, LabctlError):
            return fail(error, as_json=as_json)
        if usage is not None:
            return fail_usage(usage(), as_json=as_json)
        return fail_unforeseen(error, as_json=as_json)


if __name__ == "__main__":
    main()
