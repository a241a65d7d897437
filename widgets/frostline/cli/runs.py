"""Commands that execute notebooks, check what they wrote, and make the book of them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from frostline.cli.options import (
    Cluster,
    ClusterConfig,
    NWorkers,
    Parameters,
    Profile,
    Scheduler,
    names_of_notebooks,
    pairs,
)
from frostline.errors import FrostlineError
from frostline.escaping import for_terminal
from frostline.publishing.terminal import result_lines

if TYPE_CHECKING:
    from frostline.publishing.publications import Outcome


def _refuse_bad_values(notebook: Path, values: dict[str, str]) -> None:
    """Say at once what the notebook would say after its kernel has started."""
    from frostline.publishing.notebooks import notebook_parameters, typed_parameters
    from frostline.settings import RunSettings

    defaults = {name: spec.default for name, spec in notebook_parameters(notebook).items()}
    all_values = defaults | typed_parameters(notebook, values)
    RunSettings.from_notebook(
        {name: value for name, value in all_values.items() if name.lower() in RunSettings.model_fields}
    )


def run(
    notebook: Annotated[
        str,
        typer.Argument(
            help="Name of a notebook in notebooks/ or of a tutorial (frostline tutorials lists them), or a path.",
            autocompletion=names_of_notebooks,
        ),
    ],
    profile: Profile = None,
    parameter: Parameters = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where the executed notebook goes, if not to artifacts/, or beside an OUTPUT_DIR that you name.",
        ),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=1, help="Seconds that the run may take; by default a week.")
    ] = None,
) -> None:
    """Execute a tutorial through papermill and check its artifacts."""
    from frostline.artifacts import checking, folders
    from frostline.publishing import executions, notebooks

    source = notebooks.find_notebook(notebook)
    values = pairs(parameter, profile)
    known = notebooks.notebook_parameters(source)
    if "OUTPUT_DIR" not in known:
        raise FrostlineError(f"{source} has no parameter OUTPUT_DIR, and so no artifacts to check; run it by papermill")
    _refuse_bad_values(source, values)
    typed = notebooks.typed_parameters(source, values)
    folders.refuse_others(folders.whole_path(str(typed.get("OUTPUT_DIR", known["OUTPUT_DIR"].default))))
    target = output or executions.default_output(source, typed)
    done = executions.execute(source, target, values, timeout=timeout)
    result = checking.check(done.artifacts_folder)
    executions.refuse_other_run(done.artifacts_folder, done.run)
    if result.passed:
        print("\n".join(["", *result_lines(done.artifacts_folder)]))
    print(f"\nnotebook   {done.output}\nartifacts  {done.artifacts_folder}\ncheck      {result}")
    if not result.passed:
        raise typer.Exit(1)


def tutorials() -> None:
    """List the notebooks that run by name: title, where each is, its main parameters."""
    from frostline.publishing import notebooks, states

    for name, path in sorted(notebooks.known_notebooks().items()):
        packaged = path.parent == notebooks.packaged_folder() and path.parent != notebooks.FOLDER
        print(f"{name}  [{'comes with frostline' if packaged else path}]")
        print(f"    {for_terminal(states.source_title(path))}")
        print(f"    parameters: {_parameters_of(path)}")


def _parameters_of(notebook: Path) -> str:
    from frostline.publishing.notebooks import notebook_parameters

    try:
        return ", ".join(notebook_parameters(notebook))
    except FrostlineError as error:
        return for_terminal(f"none that can be read ({error})")


def check(folder: Annotated[Path, typer.Argument(help="Folder of artifacts.")]) -> None:
    """Check a folder of artifacts by its content; exit 1 and name what is wrong."""
    from frostline.artifacts import checking

    result = checking.check(folder)
    for problem in result.problems:
        print(for_terminal(problem), file=sys.stderr)
    if not result.passed:
        raise typer.Exit(1)
    print(f"{folder}: {result}")


def publish(
    notebook: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of tutorials; none: all that book/_toc.yml declares.", autocompletion=names_of_notebooks
        ),
    ] = None,
    profile: Profile = None,
    parameter: Parameters = None,
    force: Annotated[bool, typer.Option("--force", help="Also run what is unchanged.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=2, help="How many run at once.")] = 2,
    timeout: Annotated[
        float | None, typer.Option(min=1, help="Seconds that each run may take; by default a week.")
    ] = None,
) -> None:
    """Execute tutorials, check their artifacts, place them in the book and build it."""
    from frostline.publishing import notebooks, publications, tutorials

    values = pairs(parameter, profile)
    names = [notebooks.find_notebook(name) for name in notebook] if notebook else tutorials.declared_notebooks()
    for source in names:
        if tutorials.unfit(source) is None:
            _refuse_bad_values(source, values)
    tutorials.refuse_undeclared(names)
    outcomes = publications.publish_all(names, values, force=force, jobs=jobs, timeout=timeout)
    _show_outcomes(outcomes)
    if any((tutorials.PUBLISHED / f"{source.stem}.run.json").is_file() for source in names):
        print("\nBuilding the book ...", flush=True)
        _show_pages(outcomes, publications.build_book())
    if any(outcome.result == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def _show_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Verdicts and leaderboards, and one line for each tutorial."""
    from frostline.publishing.tutorials import PUBLISHED

    for outcome in outcomes:
        if outcome.artifacts is not None:
            print("\n".join(["", outcome.name, *result_lines(PUBLISHED / outcome.name)]))
    width = max(len(outcome.name) for outcome in outcomes)
    print()
    for outcome in outcomes:
        took = f"{outcome.seconds:8.1f} s" if outcome.seconds else " " * 10
        print(f"{outcome.name:{width}}  {outcome.result:9}{took}  {outcome.said}".rstrip())


def _show_pages(outcomes: Sequence[Outcome], site: Path) -> None:
    for outcome in outcomes:
        if outcome.artifacts is not None:
            print(f"\nnotebook   {outcome.output}\nartifacts  {outcome.artifacts}")
            print(f"page       {site / 'published' / outcome.name}.html")
    print(f"\nsite       {site / 'index.html'}")


def book(
    release: Annotated[bool, typer.Option("--release", help="Refuse unless every page is passed.")] = False,
) -> None:
    """Build the book from the tutorials that were published before; pages not passed are marked as drafts."""
    from frostline.publishing import publications

    print(f"site       {publications.build_book(release=release) / 'index.html'}")
    for state in publications.recomputed_states():
        if state.is_draft:
            print(f"draft      {state.name}: {state.artifact_check}")


def init(folder: Annotated[Path, typer.Argument(help="New or empty folder.")]) -> None:
    """Make a folder in which a lab publishes tutorials of its own."""
    from frostline.publishing import starting

    for path in starting.init(folder):
        print(path)
    print(f"\ncd {shlex.quote(str(folder))} && frostline publish")


def lab(
    source: Annotated[
        Path | None, typer.Argument(metavar="FILE.h5ad", help="Labelled cells; the tutorial if not given.")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open a window of the browser.")] = True,
) -> None:
    """Open JupyterLab on the tutorial, or on a notebook with the panel on a file; none that is there is replaced."""
    from frostline.publishing import labs

    notebook = labs.notebook_for(source)
    print(f"notebook   {notebook}", flush=True)
    raise typer.Exit(labs.open_lab(notebook, browser=browser))


def sweep(
    source: Annotated[Path, typer.Argument(metavar="SWEEP.yml", help="Data sets, strategies, seeds and the rest.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of runs and results; sweeps/NAME if not given.")
    ] = None,
    workers: NWorkers = None,
    scheduler: Scheduler = None,
    cluster: Cluster = None,
    cluster_config: ClusterConfig = None,
    plan: Annotated[bool, typer.Option("--plan", help="List the runs and where each stands; run nothing.")] = False,
    collect: Annotated[bool, typer.Option("--collect", help="Write the tables of what is done; run nothing.")] = False,
    export: Annotated[str | None, typer.Option(help="Print it as a workflow: snakemake or nextflow.")] = None,
) -> None:
    """Run a grid of data sets, strategies and seeds, one process each; interrupted, the same command goes on."""
    from frostline.cluster.connections import Workers
    from frostline.sweeps import commands, plans, workflows

    planned = plans.plan(source, output)
    if export is not None:
        print(workflows.workflow(planned, export, source), end="")
    elif plan:
        commands.show_plan(planned)
    else:
        asked = Workers(workers, scheduler=scheduler, cluster=cluster or "local", config=cluster_config)
        if not commands.run_plan(planned, None if collect else asked):
            raise typer.Exit(1)
