"""The command line: frostline run | tutorials | datasets | check | publish | book | init | embed | ..."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from frostline import __version__
from frostline.errors import Cancelled, FrostlineError
from frostline.escaping import for_terminal
from frostline.interrupts import Ended, clearing_up
from frostline.limits import LONGEST, SEEDS, SHORTEST
from frostline.publishing.terminal import model_lines, progress, result_lines

if TYPE_CHECKING:
    from frostline.cluster.connections import Workers
    from frostline.publishing.publications import Outcome

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Do I need to fine-tune a single-cell foundation model, and how deep?",
)


def _names_of_notebooks(incomplete: str) -> list[str]:
    """For the shell, which completes them."""
    from frostline.publishing.notebooks import known_notebooks

    return sorted(name for name in known_notebooks() if name.startswith(incomplete))


Scheduler = Annotated[
    str | None, typer.Option(help="Address of a Dask scheduler that runs, for OUT.zarr: tcp://10.0.0.1:8786.")
]
Cluster = Annotated[str, typer.Option(help="For OUT.zarr: local, or slurm, pbs, sge, lsf, htcondor, oar, moab.")]
ClusterConfig = Annotated[
    Path | None, typer.Option(help="YAML with what the batch system is asked for: queue, cores, memory, walltime ...")
]
NWorkers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes or jobs, for OUT.zarr; one a core if not given.")
]
Memory = Annotated[str, typer.Option(help="Limit of each process on this machine, for OUT.zarr.")]
Rows = Annotated[int | None, typer.Option(min=1, help="Cells of a part, for OUT.zarr; by their size if not given.")]
Profile = Annotated[str | None, typer.Option("--profile", help="quickstart or full; the notebook's own if not given.")]
Parameters = Annotated[
    list[str] | None, typer.Option("--parameter", "-p", help="KEY=VALUE, a parameter of the notebook; repeatable.")
]


def main() -> None:
    """Run the command line; errors of the input are shown without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # what a terminal of few characters cannot show
    try:
        with clearing_up():
            app()
    except FrostlineError as error:
        print(f"error: {for_terminal(error)}", file=sys.stderr)
        sys.exit(1)
    except Ended as end:
        print("ended by another process", file=sys.stderr)
        sys.exit(end.code)
    except (Cancelled, KeyboardInterrupt):
        print("cancelled", file=sys.stderr)
        sys.exit(130)
    except SystemExit as end:
        if end.code == 130:  # typer's answer to Ctrl-C
            print("cancelled", file=sys.stderr)
        raise


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def _pairs(parameters: list[str] | None, profile: str | None) -> dict[str, str]:
    pairs = {} if profile is None else {"PROFILE": profile}
    for item in parameters or []:
        name, equals, value = item.partition("=")
        if not equals:
            raise FrostlineError(f"-p {item!r} is not KEY=VALUE")
        pairs[name.strip()] = value
    return pairs


def _refuse_bad_values(notebook: Path, pairs: dict[str, str]) -> None:
    """Say at once what the notebook would say after its kernel has started."""
    from frostline.publishing.notebooks import notebook_parameters, typed_parameters
    from frostline.settings import RunSettings

    defaults = {name: spec.default for name, spec in notebook_parameters(notebook).items()}
    values = defaults | typed_parameters(notebook, pairs)
    RunSettings.from_notebook(
        {name: value for name, value in values.items() if name.lower() in RunSettings.model_fields}
    )


@app.command()
def run(
    notebook: Annotated[
        str,
        typer.Argument(
            help="Name of a notebook in notebooks/ or of a tutorial (frostline tutorials lists them), or a path.",
            autocompletion=_names_of_notebooks,
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
) -> None:
    """Execute a tutorial through papermill and check its artifacts."""
    from frostline.artifacts import checking, folders
    from frostline.publishing import executions, notebooks

    source = notebooks.find_notebook(notebook)
    pairs = _pairs(parameter, profile)
    known = notebooks.notebook_parameters(source)
    if "OUTPUT_DIR" not in known:
        raise FrostlineError(f"{source} has no parameter OUTPUT_DIR, and so no artifacts to check; run it by papermill")
    _refuse_bad_values(source, pairs)
    typed = notebooks.typed_parameters(source, pairs)
    folders.refuse_others(folders.whole_path(str(typed.get("OUTPUT_DIR", known["OUTPUT_DIR"].default))))
    target = output or executions.default_output(source, typed)
    done = executions.execute(source, target, pairs)
    result = checking.check(done.artifacts_folder)
    executions.refuse_other_run(done.artifacts_folder, done.run)
    if result.passed:
        print("\n".join(["", *result_lines(done.artifacts_folder)]))
    print(f"\nnotebook   {done.output}\nartifacts  {done.artifacts_folder}\ncheck      {result}")
    if not result.passed:
        raise typer.Exit(1)


@app.command()
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


@app.command()
def datasets() -> None:
    """List the registered data sets: what they are, their columns, whether they are here."""
    from frostline.cells.datasets import DATASETS

    for spec in DATASETS.values():
        print(f"{spec.name}  [{'here' if spec.is_here else 'not downloaded'}]")
        print(f"    {spec.description}")
        print(f"    labels in {spec.label_key}, groups in {spec.group_key or 'no column'}")


@app.command()
def inspect(
    source: Annotated[str, typer.Argument(metavar="FILE", help="Path of an .h5ad file, or name of a data set.")],
    label: Annotated[
        str | None, typer.Option("--label", help="Column of obs with the labels; the likeliest if not given.")
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", help="Column of obs with donors or batches; the likeliest if not given.")
    ] = None,
    gene_column: Annotated[
        str | None, typer.Option(help="Column of var with the gene symbols; found, where it is needed, if not given.")
    ] = None,
) -> None:
    """Say what a file holds, what will be refused of it, and what to do next; nothing is changed."""
    from frostline.evaluation.inspecting import inspect as look
    from frostline.monitor import Monitor

    with progress(["inspect"]) as bars:
        report = look(source, label, group_key=group, gene_column=gene_column, monitor=Monitor(bars["inspect"]))
    print(report)


@app.command()
def check(folder: Annotated[Path, typer.Argument(help="Folder of artifacts.")]) -> None:
    """Check a folder of artifacts by its content; exit 1 and name what is wrong."""
    from frostline.artifacts import checking

    result = checking.check(folder)
    for problem in result.problems:
        print(for_terminal(problem), file=sys.stderr)
    if not result.passed:
        raise typer.Exit(1)
    print(f"{folder}: {result}")


@app.command()
def publish(
    notebook: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of tutorials; none: all that book/_toc.yml declares.", autocompletion=_names_of_notebooks
        ),
    ] = None,
    profile: Profile = None,
    parameter: Parameters = None,
    force: Annotated[bool, typer.Option("--force", help="Also run what is unchanged.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=2, help="How many run at once.")] = 2,
    timeout: Annotated[float | None, typer.Option(min=1, help="Seconds that each run may take.")] = None,
) -> None:
    """Execute tutorials, check their artifacts, place them in the book and build it."""
    from frostline.publishing import notebooks, publications, tutorials

    pairs = _pairs(parameter, profile)
    names = [notebooks.find_notebook(name) for name in notebook] if notebook else tutorials.declared_notebooks()
    for source in names:
        if tutorials.unfit(source) is None:
            _refuse_bad_values(source, pairs)
    tutorials.refuse_undeclared(names)
    outcomes = publications.publish_all(names, pairs, force=force, jobs=jobs, timeout=timeout)
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


@app.command()
def book(
    release: Annotated[bool, typer.Option("--release", help="Refuse unless every page is passed.")] = False,
) -> None:
    """Build the book from the tutorials that were published before; pages not passed are marked as drafts."""
    from frostline.publishing import publications

    print(f"site       {publications.build_book(release=release) / 'index.html'}")
    for state in publications.recomputed_states():
        if state.is_draft:
            print(f"draft      {state.name}: {state.artifact_check}")


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="New or empty folder.")]) -> None:
    """Make a folder in which a lab publishes tutorials of its own."""
    from frostline.publishing import starting

    for path in starting.init(folder):
        print(path)
    print(f"\ncd {folder} && frostline publish")


@app.command()
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


@app.command()
def embed(
    source: Annotated[Path, typer.Argument(metavar="IN.h5ad", help="Cells; X holds counts or log-values.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="OUT.npy, or OUT.h5ad with obsm['X_scGPT']; OUT.zarr: by many workers, for atlases."
        ),
    ],
    checkpoint: Annotated[str, typer.Option(help="Name or folder of a checkpoint.")] = "mini",
    seed: Annotated[int, typer.Option(min=0, max=SEEDS, help="Of the draws among tied bins.")] = 0,
    max_length: Annotated[
        int, typer.Option(min=SHORTEST, max=LONGEST, help="Longest sequence of tokens, <cls> included.")
    ] = 1200,
    gene_column: Annotated[
        str | None, typer.Option(help="Column of var with the gene symbols; found, where it is needed, if not given.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps; auto takes CUDA where there is one.")] = "auto",
    precision: Annotated[str, typer.Option(help="Of matrix products: fp32, bf16, or auto.")] = "fp32",
    scheduler: Scheduler = None,
    cluster: Cluster = "local",
    cluster_config: ClusterConfig = None,
    workers: NWorkers = None,
    memory: Memory = "4GB",
    rows: Rows = None,
) -> None:
    """Embed cells with a frozen encoder; into OUT.zarr part by part on workers, where the same command goes on."""
    from frostline.cells import saving
    from frostline.cells.genes import match_genes
    from frostline.cells.reading import expanded, read_h5ad
    from frostline.encoder.checkpoints import load_checkpoint
    from frostline.encoder.embedding import embed as embed_cells
    from frostline.encoder.embedding import symbols_of
    from frostline.monitor import Monitor

    source, output = expanded(source), expanded(output)
    how: dict[str, Any] = {"checkpoint": checkpoint, "seed": seed, "max_length": max_length}
    how |= {"gene_column": gene_column, "device": device, "precision": precision}
    if output.suffix == ".zarr":
        from frostline.cluster.atlases import embed as embed_atlas

        asked = _workers(workers, memory, scheduler, cluster, cluster_config)
        with progress(["embed"]) as bars, _going_on(output):
            done = embed_atlas(source, output, **how, rows=rows, workers=asked, monitor=Monitor(bars["embed"]))
        print(f"{output}: {done.n_cells:,} cells")
        return
    saving.refuse_bad_target(source, output)
    adata = read_h5ad(source)
    saving.refuse_unwritable(adata, output)
    with progress(["embed"]) as bars:
        embedding = embed_cells(adata, **how, monitor=Monitor(bars["embed"]))
    saving.save(embedding, adata, output)
    print(f"{output}: {embedding.shape[0]:,} cells x {embedding.shape[1]}")
    symbols = symbols_of(adata, load_checkpoint(checkpoint), gene_column)
    if symbols.note:
        print(symbols.note)
    print(match_genes(symbols.names, load_checkpoint(checkpoint).vocabulary))


def _workers(number: int | None, memory: str, scheduler: str | None, cluster: str, config: Path | None) -> Workers:
    """Which workers fill an OUT.zarr."""
    from frostline.cluster.connections import Workers

    return Workers(number, memory, scheduler, cluster, config)


@contextmanager
def _going_on(output: Path) -> Iterator[None]:
    """Say, when it is stopped, that what is finished is kept."""
    try:
        yield
    except (KeyboardInterrupt, Cancelled, Ended):
        print(f"finished parts are kept in {output}.unfinished; the same command goes on from them", file=sys.stderr)
        raise


@app.command()
def adapt(
    source: Annotated[str, typer.Argument(metavar="FILE", help="Labelled cells: an .h5ad file or a data set's name.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the model.")],
    label: Annotated[str | None, typer.Option("--label", help="Column of obs with the labels.")] = None,
    group: Annotated[str | None, typer.Option("--group", help="Column of obs with donors, batches, studies.")] = None,
    strategies: Annotated[str | None, typer.Option(help="Names, with commas; one for each depth if not given.")] = None,
    profile: Annotated[str, typer.Option(help="quickstart or full.")] = "quickstart",
    checkpoint: Annotated[str, typer.Option(help="Name or folder of a checkpoint.")] = "mini",
    target: Annotated[float, typer.Option(help="Accuracy that is promised for what is answered.")] = 0.95,
    alpha: Annotated[float, typer.Option(help="Share of known cells that may be called unknown.")] = 0.05,
    reference_cells: Annotated[int, typer.Option(help="Cells of each class that the model keeps; 0: none.")] = 200,
    seed: Annotated[int, typer.Option(min=0, max=SEEDS, help="Of the splits and of all training.")] = 42,
    layer: Annotated[str | None, typer.Option(help="raw, or a key of layers; X if not given.")] = None,
    values: Annotated[str | None, typer.Option(help="What the values are; found if not given.")] = None,
    gene_column: Annotated[str | None, typer.Option(help="Column of var with the gene symbols.")] = None,
) -> None:
    """Compare strategies on labelled cells, and keep the winner as a model that labels others."""
    from frostline.annotation import adapting, places
    from frostline.lists import list_of
    from frostline.monitor import Monitor

    place = places.refuse_bad_target(output)
    names = None if strategies is None else list_of(strategies)
    with progress(["adapt"]) as bars:
        model = adapting.adapt(
            source, label, group_key=group, strategies=names, profile=profile, checkpoint=checkpoint, target=target,
            alpha=alpha, reference_cells=reference_cells, seed=seed, layer=layer, values=values,
            gene_column=gene_column, monitor=Monitor(bars["adapt"]),
        )  # fmt: skip
    print("\n".join(model_lines(model, model.save(place), output)))


@app.command()
def annotate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a model that was kept.")],
    query: Annotated[Path, typer.Argument(metavar="QUERY.h5ad", help="Cells to label; they need no labels.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="OUT.h5ad: a copy of the query with the labels; OUT.zarr: by many workers, for atlases.",
        ),
    ],
    key: Annotated[str, typer.Option(help="Name of the columns that are written.")] = "frostline",
    layer: Annotated[str | None, typer.Option(help="Where the values are: a layer, raw, or X if not given.")] = None,
    values: Annotated[
        str | None, typer.Option(help="What the values are, where it is unclear: counts, linear, log1p, log2 ...")
    ] = None,
    gene_column: Annotated[
        str | None, typer.Option(help="Column of var with the gene symbols; found, where it is needed, if not given.")
    ] = None,
    chunk: Annotated[int, typer.Option(min=1, help="Cells that are read at once.")] = 256,
    report: Annotated[
        Path | None, typer.Option(metavar="OUT.html", help="Also a page of the report, with figures.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands under the key.")] = False,
    scheduler: Scheduler = None,
    cluster: Cluster = "local",
    cluster_config: ClusterConfig = None,
    workers: NWorkers = None,
    memory: Memory = "4GB",
    rows: Rows = None,
) -> None:
    """Label cells with a kept model; says which are unknown, of which the label is unsure, and why."""
    from frostline.annotation.annotating import annotate as label
    from frostline.annotation.folders import load_model
    from frostline.annotation.saving import save_report
    from frostline.cells.reading import expanded
    from frostline.cells.saving import refuse_bad_target
    from frostline.monitor import Monitor

    query, output = expanded(query), expanded(output)
    how: dict[str, Any] = {"layer": layer, "values": values, "gene_column": gene_column, "overwrite": overwrite}
    if output.suffix == ".zarr":
        from frostline.cluster.atlases import annotate as label_atlas

        if report is not None:
            raise FrostlineError("--report draws labels of an OUT.h5ad; leave it out: that of OUT.zarr is printed")
        asked = _workers(workers, memory, scheduler, cluster, cluster_config)
        with progress(["annotate"]) as bars, _going_on(output):
            monitor = Monitor(bars["annotate"])
            _, said = label_atlas(model, query, output, key, rows=rows, workers=asked, monitor=monitor, **how)
        print(f"{for_terminal(said)}\n\n{output}")
        return
    refuse_bad_target(query, output, (".h5ad",))
    if report is not None:
        refuse_bad_target(query, expanded(report), (".html",), "--report")
    with progress(["annotate"]) as bars:
        monitor = Monitor(bars["annotate"])
        found = label(load_model(model), query, key, chunk=chunk, monitor=monitor, **how)
        found.save(output)
    print(f"{for_terminal(found)}\n\n{output}")
    if report is not None:
        print(save_report(found, report))


@app.command()
def pretrain(
    corpus: Annotated[list[Path], typer.Argument(metavar="CORPUS.h5ad...", help="Counts of unlabelled cells.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new checkpoint.")],
    seed: Annotated[int, typer.Option(min=0, max=SEEDS, help="Of initial weights, subsets and batches.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps; as many as made mini if not given.")] = None,
) -> None:
    """Pre-train a small encoder on unlabelled cells; interrupted, the same command goes on."""
    from frostline.monitor import Monitor
    from frostline.pretraining.runs import pretrain as pretrain_encoder

    with progress(["pretrain"]) as bars:
        monitor = Monitor(progress=bars["pretrain"])
        done = pretrain_encoder(corpus, output, seed=seed, steps=steps, monitor=monitor)
    print(f"{done.folder}: {done.n_cells:,} cells, {done.n_genes:,} genes, {done.steps:,} steps")


@app.command()
def sweep(
    source: Annotated[Path, typer.Argument(metavar="SWEEP.yml", help="Data sets, strategies, seeds and the rest.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of runs and results; sweeps/NAME if not given.")
    ] = None,
    number: Annotated[int | None, typer.Option("--workers", min=1, help="Runs at once; one for each core.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of a scheduler of Dask that runs already.")] = None,
    cluster: Annotated[str, typer.Option(help="local, or a batch system: slurm, pbs, sge, lsf ...")] = "local",
    cluster_config: Annotated[
        Path | None, typer.Option(help="YAML file of what the batch system is asked for.")
    ] = None,
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
        workers = Workers(number, scheduler=scheduler, cluster=cluster, config=cluster_config)
        if not commands.run_plan(planned, None if collect else workers):
            raise typer.Exit(1)


@app.command("strategies")
def list_strategies(name: Annotated[str | None, typer.Argument(help="Name of a strategy.")] = None) -> None:
    """List the strategies; of one, its hyper-parameters with default, bounds, unit and meaning."""
    from frostline.strategies import parameter_table, show

    if name is None:
        for strategy, row in show().iterrows():
            print(f"{strategy}\n    {row['title']}: trains {row['trains']}\n    {row['reference']}")
        return
    table = parameter_table(name)
    for field, row in table.iterrows():
        print(f"{field} = {row['default']}\n    {row['meaning']}\n    {row['bounds']} ({row['unit']})")
    if table.empty:
        print(f"{name} has no hyper-parameters")


cache_app = typer.Typer(no_args_is_help=True, help="Embeddings that are kept on this machine.")
app.add_typer(cache_app, name="cache")


@cache_app.command("list")
def list_cache() -> None:
    """List the embeddings that are kept: megabytes, last use, file; last used first."""
    from datetime import UTC, datetime

    from frostline.encoder import caches

    found = caches.entries()
    for path, size in found:
        used = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        print(f"{size / 1e6:8.1f} MB  {used:%Y-%m-%d %H:%M} UTC  {path.name}")
    total = sum(size for _, size in found)
    print(f"{total / 1e6:8.1f} MB of {caches.limit() / 1e6:,.0f} in {caches.folder()}")


@cache_app.command("clear")
def clear_cache() -> None:
    """Forget all embeddings that are kept; downloaded checkpoints stay."""
    from frostline.encoder import caches

    print(f"{caches.clear() / 1e6:.1f} MB freed in {caches.folder()}")


checkpoints_app = typer.Typer(no_args_is_help=True, help="The checkpoints that frostline knows.")
app.add_typer(checkpoints_app, name="checkpoints")


@checkpoints_app.command("list")
def list_checkpoints() -> None:
    """List the checkpoints: name, whether it is here, size, what it is, where it is from, why it is trusted."""
    from frostline.encoder.catalogue import CHECKPOINTS, FILES

    for spec in CHECKPOINTS.values():
        print(f"{spec.name}  [{'here' if spec.is_here else 'not downloaded'}, {spec.megabytes} MB]")
        print(f"    {spec.description}")
        for source in spec.sources or (spec.folder,):
            print(f"    {source}")
        for file in FILES if spec.sources else ():
            print(f"    {file}: {spec.trust(file)}")


@checkpoints_app.command()
def download(name: str) -> None:
    """Download a checkpoint into the cache; interrupted, the same command goes on."""
    from frostline.encoder.downloads import download as fetch
    from frostline.encoder.downloads import origin
    from frostline.monitor import Monitor

    with progress([name]) as bars:
        folder = fetch(name, monitor=Monitor(progress=bars[name]))
    for what, said in origin(name).items():
        print(f"{what}: {said}", file=sys.stderr)
    print(folder)


@checkpoints_app.command()
def verify(name: Annotated[str, typer.Argument(help="Name or folder.")]) -> None:
    """Compare a checkpoint with the sha256 recorded at its download, and load it strictly."""
    from frostline.encoder.checkpoints import load_checkpoint
    from frostline.encoder.downloads import origin
    from frostline.encoder.downloads import verify as damages

    problems = damages(name)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise typer.Exit(1)
    print(f"{name}: {load_checkpoint(name).encoder().load_report}")
    for file, trust in origin(name).items():
        print(f"    {file}: {trust}")


@checkpoints_app.command("path")
def checkpoint_path(name: Annotated[str, typer.Argument(help="Name or folder.")]) -> None:
    """Print the folder of a checkpoint."""
    from frostline.encoder.checkpoints import find_folder

    print(find_folder(name))
