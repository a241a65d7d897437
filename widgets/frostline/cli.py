"""The command line: frostline run | check | publish | book | init | embed | pretrain | checkpoints."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from frostline import __version__
from frostline.errors import Cancelled, FrostlineError

if TYPE_CHECKING:
    from frostline.publishing import Outcome

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Do I need to fine-tune a single-cell foundation model, and how deep?",
)
console = Console(soft_wrap=True, highlight=False)

Profile = Annotated[str, typer.Option("--profile", help="quickstart or full.")]
Parameters = Annotated[
    list[str] | None, typer.Option("--parameter", "-p", help="KEY=VALUE, a parameter of the notebook; repeatable.")
]


def main() -> None:
    """Run the command line; what the input is to blame for is told without a traceback."""
    try:
        app()
    except FrostlineError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except (Cancelled, KeyboardInterrupt):
        print("cancelled", file=sys.stderr)
        sys.exit(130)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def _pairs(parameters: list[str] | None, profile: str) -> dict[str, str]:
    pairs = {"PROFILE": profile}
    for item in parameters or []:
        name, equals, value = item.partition("=")
        if not equals:
            raise FrostlineError(f"-p {item!r} is not KEY=VALUE")
        pairs[name.strip()] = value
    return pairs


def _refuse_bad_values(notebook: Path, pairs: dict[str, str]) -> None:
    """Say at once what the notebook would say after its kernel has started."""
    from frostline.notebooks import typed_parameters
    from frostline.settings import RunSettings

    typed = typed_parameters(notebook, pairs)
    RunSettings.from_notebook(
        {name: value for name, value in typed.items() if name.lower() in RunSettings.model_fields}
    )


def _show_leaderboard(folder: Path) -> None:
    import pandas as pd

    console.print("\nLeaderboard")
    board = pd.read_csv(folder / "report.csv")
    console.print(board.to_string(index=False, na_rep="NA", float_format="{:.4f}".format))


@app.command()
def run(
    notebook: Annotated[str, typer.Argument(help="Name of a notebook in notebooks/, or a path.")],
    profile: Profile = "quickstart",
    parameter: Parameters = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where the executed notebook goes.")] = None,
) -> None:
    """Execute a tutorial through papermill and check its artifacts."""
    from frostline import artifacts, publishing

    source = publishing.find_notebook(notebook)
    pairs = _pairs(parameter, profile)
    _refuse_bad_values(source, pairs)
    done = publishing.execute(source, output or Path("artifacts") / source.name, pairs)
    result = artifacts.check(done.artifacts_folder)
    if result.passed:
        _show_leaderboard(done.artifacts_folder)
    console.print(f"\nnotebook   {done.output}\nartifacts  {done.artifacts_folder}\ncheck      {result}")
    if not result.passed:
        raise typer.Exit(1)


@app.command()
def check(folder: Annotated[Path, typer.Argument(help="Folder of artifacts.")]) -> None:
    """Check a folder of artifacts by its content; exit 1 and name what is wrong."""
    from frostline import artifacts

    result = artifacts.check(folder)
    for problem in result.problems:
        print(problem, file=sys.stderr)
    if not result.passed:
        raise typer.Exit(1)
    print(f"{folder}: {result}")


@app.command()
def publish(
    notebook: Annotated[
        list[str] | None, typer.Argument(help="Names of tutorials; none: all that book/_toc.yml declares.")
    ] = None,
    profile: Profile = "quickstart",
    parameter: Parameters = None,
    force: Annotated[bool, typer.Option("--force", help="Also run what is unchanged.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=2, help="How many run at once.")] = 2,
    timeout: Annotated[float | None, typer.Option(min=1, help="Seconds that each run may take.")] = None,
) -> None:
    """Execute tutorials, check their artifacts, place them in the book and build it."""
    from frostline import publishing, tutorials

    pairs = _pairs(parameter, profile)
    names = [publishing.find_notebook(name) for name in notebook] if notebook else tutorials.declared_notebooks()
    for source in names:
        if tutorials.unfit(source) is None:
            _refuse_bad_values(source, pairs)
    tutorials.refuse_undeclared(names)
    outcomes = publishing.publish_all(names, pairs, force=force, jobs=jobs, timeout=timeout)
    _show_outcomes(outcomes)
    if any((publishing.PUBLISHED / f"{source.stem}.run.json").is_file() for source in names):
        console.print("\nBuilding the book ...")
        _show_pages(outcomes, publishing.build_book())
    if any(outcome.result == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def _show_outcomes(outcomes: Sequence[Outcome]) -> None:
    """One line for each tutorial, and the leaderboards."""
    for outcome in outcomes:
        if outcome.artifacts is not None and (outcome.artifacts / "report.csv").is_file():
            _show_leaderboard(outcome.artifacts)
    width = max(len(outcome.name) for outcome in outcomes)
    console.print()
    for outcome in outcomes:
        took = f"{outcome.seconds:8.1f} s" if outcome.seconds else " " * 10
        console.print(f"{outcome.name:{width}}  {outcome.result:9}{took}  {outcome.said}".rstrip(), markup=False)


def _show_pages(outcomes: Sequence[Outcome], site: Path) -> None:
    for outcome in outcomes:
        if outcome.artifacts is not None:
            console.print(f"\nnotebook   {outcome.output}\nartifacts  {outcome.artifacts}")
            console.print(f"page       {site / 'published' / outcome.name}.html")
    console.print(f"\nsite       {site / 'index.html'}")


@app.command()
def book(
    release: Annotated[bool, typer.Option("--release", help="Refuse unless every page is passed.")] = False,
) -> None:
    """Build the book from the tutorials that were published before; pages not passed are marked as drafts."""
    from frostline import publishing

    console.print(f"site       {publishing.build_book(release=release) / 'index.html'}")
    for state in publishing.current_states():
        if state.is_draft:
            console.print(f"draft      {state.name}: {state.check}", markup=False)


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="New or empty folder.")]) -> None:
    """Make a folder in which a lab publishes tutorials of its own."""
    from frostline import starting

    for path in starting.init(folder):
        print(path)
    print(f"\ncd {folder} && frostline publish")


@app.command()
def embed(
    source: Annotated[Path, typer.Argument(metavar="IN.h5ad", help="Cells; X holds counts or log-values.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="OUT.npy, or OUT.h5ad with obsm['X_scGPT'].")],
    checkpoint: Annotated[str, typer.Option(help="Name or folder of a checkpoint.")] = "mini",
    seed: Annotated[int, typer.Option(help="Of the draws among tied bins.")] = 0,
    max_length: Annotated[int, typer.Option(help="Longest sequence, <cls> included.")] = 1200,
    gene_column: Annotated[
        str | None, typer.Option(help="Column of var with the gene symbols; found, where it is needed, if not given.")
    ] = None,
) -> None:
    """Embed cells with a frozen encoder."""
    import numpy as np

    from frostline.checkpoints import load_checkpoint
    from frostline.datasets import read_h5ad
    from frostline.embedding import embed as embed_cells
    from frostline.embedding import symbols_of

    if output.suffix not in {".npy", ".h5ad"}:
        raise FrostlineError(f"-o {output}: the name must end in .npy or .h5ad")
    if not output.parent.is_dir():
        raise FrostlineError(f"-o {output}: there is no folder {output.parent}")
    adata = read_h5ad(source)
    with _progress_bar() as (bar, task):
        embedding = embed_cells(
            adata,
            checkpoint=checkpoint,
            seed=seed,
            max_length=max_length,
            gene_column=gene_column,
            progress=_advance(bar, task),
        )
        bar.update(task, completed=1.0)
    partial = output.with_name(f".{output.stem}.partial{output.suffix}")
    if output.suffix == ".npy":
        np.save(partial, embedding)
    else:
        adata.obsm["X_scGPT"] = embedding
        adata.write_h5ad(partial)
    partial.replace(output)
    print(f"{output}: {embedding.shape[0]:,} cells x {embedding.shape[1]}")
    if note := symbols_of(adata, load_checkpoint(checkpoint), gene_column).note:
        print(note)


@app.command()
def pretrain(
    corpus: Annotated[list[Path], typer.Argument(metavar="CORPUS.h5ad...", help="Counts of unlabelled cells.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new checkpoint.")],
    seed: Annotated[int, typer.Option(help="Of initial weights, subsets and batches.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps; as many as made mini if not given.")] = None,
) -> None:
    """Pre-train a small encoder on unlabelled cells; interrupted, the same command goes on."""
    from frostline.monitor import Monitor
    from frostline.pretraining import pretrain as pretrain_encoder

    with _progress_bar() as (bar, task):
        done = pretrain_encoder(corpus, output, seed=seed, steps=steps, monitor=Monitor(progress=_advance(bar, task)))
    print(f"{done.folder}: {done.n_cells:,} cells, {done.n_genes:,} genes, {done.steps:,} steps")


@contextmanager
def _progress_bar() -> Iterator[tuple[Progress, TaskID]]:
    with Progress(console=Console(stderr=True)) as bar:
        yield bar, bar.add_task("starting", total=1.0)


def _advance(bar: Progress, task: TaskID) -> Callable[[float, str], None]:
    return lambda fraction, message: bar.update(task, completed=fraction, description=message)


checkpoints_app = typer.Typer(no_args_is_help=True, help="The checkpoints that frostline knows.")
app.add_typer(checkpoints_app, name="checkpoints")


@checkpoints_app.command("list")
def list_checkpoints() -> None:
    """List the checkpoints: name, whether it is here, size, what it is, where it comes from."""
    from frostline.checkpoints import CHECKPOINTS, cache_folder

    for spec in CHECKPOINTS.values():
        here = spec.folder is not None or (cache_folder() / spec.name).is_dir()
        print(f"{spec.name}  [{'here' if here else 'not downloaded'}, {spec.megabytes} MB]")
        print(f"    {spec.description}\n    {spec.source}")


@checkpoints_app.command()
def download(name: str) -> None:
    """Download a checkpoint into the cache; interrupted, the same command goes on."""
    from frostline.downloads import download as fetch
    from frostline.monitor import Monitor

    with _progress_bar() as (bar, task):
        folder = fetch(name, monitor=Monitor(progress=_advance(bar, task)))
        bar.update(task, completed=1.0, description=name)
    print(folder)


@checkpoints_app.command()
def verify(name: Annotated[str, typer.Argument(help="Name or folder.")]) -> None:
    """Compare a checkpoint with the sha256 recorded at its download, and load it strictly."""
    from frostline.checkpoints import load_checkpoint
    from frostline.downloads import verify as damages

    problems = damages(name)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise typer.Exit(1)
    print(f"{name}: {load_checkpoint(name).encoder().load_report}")


@checkpoints_app.command("path")
def checkpoint_path(name: Annotated[str, typer.Argument(help="Name or folder.")]) -> None:
    """Print the folder of a checkpoint."""
    from frostline.checkpoints import find_folder

    print(find_folder(name))
