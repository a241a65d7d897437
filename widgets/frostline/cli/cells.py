"""Commands about cells: what a file holds, their embedding, a model of them, labels for others."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from frostline.cli.options import (
    CheckpointName,
    Cluster,
    ClusterConfig,
    GeneColumn,
    Layer,
    Memory,
    NWorkers,
    Rows,
    Scheduler,
    Values,
    going_on,
    workers_of,
)
from frostline.errors import FrostlineError
from frostline.escaping import for_terminal
from frostline.limits import LONGEST, SEEDS, SHORTEST
from frostline.publishing.terminal import model_lines, progress

if TYPE_CHECKING:
    from frostline.annotation.annotating import Annotation


def datasets() -> None:
    """List the registered data sets: what they are, their columns, whether they are here."""
    from frostline.cells.catalogue import DATASETS

    for spec in DATASETS.values():
        print(f"{spec.name}  [{'here' if spec.is_here else 'not downloaded'}]")
        print(f"    {spec.description}")
        print(f"    labels in {spec.label_key}, groups in {spec.group_key or 'no column'}")


def inspect(
    source: Annotated[str, typer.Argument(metavar="FILE", help="Path of an .h5ad file, or name of a data set.")],
    label: Annotated[
        str | None, typer.Option("--label", help="Column of obs with the labels; the likeliest if not given.")
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", help="Column of obs with donors or batches; the likeliest if not given.")
    ] = None,
    gene_column: GeneColumn = None,
) -> None:
    """Say what a file holds, what will be refused of it, and what to do next; nothing is changed."""
    from frostline.evaluation.inspecting import inspect as look
    from frostline.monitor import Monitor

    with progress(["inspect"]) as bars:
        report = look(source, label, group_key=group, gene_column=gene_column, monitor=Monitor(bars["inspect"]))
    print(report)


def embed(
    source: Annotated[Path, typer.Argument(metavar="IN.h5ad", help="Cells; X holds counts or log-values.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="OUT.npy, or OUT.h5ad with obsm['X_scGPT']; OUT.zarr: by many workers, for atlases."
        ),
    ],
    checkpoint: CheckpointName = "mini",
    seed: Annotated[int, typer.Option(min=0, max=SEEDS, help="Of the draws among tied bins.")] = 0,
    max_length: Annotated[
        int, typer.Option(min=SHORTEST, max=LONGEST, help="Longest sequence of tokens, <cls> included.")
    ] = 1200,
    gene_column: GeneColumn = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps; auto takes CUDA where there is one.")] = "auto",
    precision: Annotated[str, typer.Option(help="Of matrix products: fp32, bf16, or auto.")] = "fp32",
    scheduler: Scheduler = None,
    cluster: Cluster = None,
    cluster_config: ClusterConfig = None,
    workers: NWorkers = None,
    memory: Memory = None,
    rows: Rows = None,
) -> None:
    """Embed cells with a frozen encoder; into OUT.zarr part by part on workers, where the same command goes on."""
    from frostline.cells import saving
    from frostline.cells.genes import match_genes
    from frostline.cells.reading import read_h5ad
    from frostline.encoder.checkpoints import load_checkpoint
    from frostline.encoder.embedding import embed as embed_cells
    from frostline.encoder.embedding import symbols_of
    from frostline.monitor import Monitor
    from frostline.plain_files import expanded

    source, output = expanded(source), expanded(output)
    how: dict[str, Any] = {"checkpoint": checkpoint, "seed": seed, "max_length": max_length}
    how |= {"gene_column": gene_column, "device": device, "precision": precision}
    asked = workers_of(output, rows, workers, memory, scheduler, cluster, cluster_config)
    if asked is not None:
        from frostline.cluster.atlases import embed as embed_atlas

        with progress(["embed"]) as bars, going_on(output):
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


def adapt(
    source: Annotated[str, typer.Argument(metavar="FILE", help="Labelled cells: an .h5ad file or a data set's name.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the model.")],
    label: Annotated[str | None, typer.Option("--label", help="Column of obs with the labels.")] = None,
    group: Annotated[str | None, typer.Option("--group", help="Column of obs with donors, batches, studies.")] = None,
    strategies: Annotated[str | None, typer.Option(help="Names, with commas; one for each depth if not given.")] = None,
    profile: Annotated[str, typer.Option(help="quickstart or full.")] = "quickstart",
    checkpoint: CheckpointName = "mini",
    target: Annotated[float, typer.Option(help="Accuracy that is promised for what is answered.")] = 0.95,
    alpha: Annotated[float, typer.Option(help="Share of known cells that may be called unknown.")] = 0.05,
    reference_cells: Annotated[int, typer.Option(help="Cells of each class to keep; 0: none, else 3 or more.")] = 200,
    seed: Annotated[int, typer.Option(min=0, max=SEEDS, help="Of the splits and of all training.")] = 42,
    layer: Layer = None,
    values: Values = None,
    gene_column: GeneColumn = None,
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


def annotate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a model that was kept.")],
    query: Annotated[Path, typer.Argument(metavar="QUERY.h5ad", help="Cells to label; they need no labels.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="OUT.h5ad: a copy of the query with the labels; OUT.zarr: part by part, for atlases, by workers "
            "where they are asked for or worth their start.",
        ),
    ],
    key: Annotated[str, typer.Option(help="Name of the columns that are written.")] = "frostline",
    layer: Layer = None,
    values: Values = None,
    gene_column: GeneColumn = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Folder of the model's checkpoint, where it is not where it was.")
    ] = None,
    chunk: Annotated[
        int | None, typer.Option(min=1, help="Cells that are read at once, for OUT.h5ad; 256 if not given.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="OUT.html", help="Also a page of the report, with figures.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands under the key.")] = False,
    scheduler: Scheduler = None,
    cluster: Cluster = None,
    cluster_config: ClusterConfig = None,
    workers: NWorkers = None,
    memory: Memory = None,
    rows: Rows = None,
) -> None:
    """Label cells with a kept model; says which are unknown, of which the label is unsure, and why."""
    from frostline.annotation.annotating import annotate as label
    from frostline.annotation.folders import load_model
    from frostline.annotation.outputs import refuse_folder, refuse_little_room
    from frostline.annotation.saving import save_report
    from frostline.cells.saving import refuse_bad_target
    from frostline.monitor import Monitor
    from frostline.plain_files import expanded

    query, output = expanded(query), expanded(output)
    how: dict[str, Any] = {"layer": layer, "values": values, "gene_column": gene_column, "overwrite": overwrite}
    asked = workers_of(output, rows, workers, memory, scheduler, cluster, cluster_config)
    if asked is not None:
        from frostline.cluster.atlases import annotate as label_atlas

        _refuse_for_atlas(chunk, report)
        with progress(["annotate"]) as bars, going_on(output):
            monitor = Monitor(bars["annotate"])
            how |= {"checkpoint": checkpoint, "rows": rows, "workers": asked}
            _, said = label_atlas(model, query, output, key, **how, monitor=monitor)
        print(f"{for_terminal(said)}\n\n{output}")
        return
    how |= {} if chunk is None else {"chunk": chunk}
    refuse_bad_target(query, output, (".h5ad",))
    refuse_folder(query)
    refuse_little_room(query, output)
    if report is not None:
        refuse_bad_target(query, expanded(report), (".html",), "--report")
    with progress(["annotate"]) as bars:
        found = label(load_model(model, checkpoint=checkpoint), query, key, monitor=Monitor(bars["annotate"]), **how)
        try:
            found.save(output)
        except FrostlineError as error:
            raise FrostlineError(f"{error}. {_kept(found, output, report)}") from error
    print(f"{for_terminal(found)}\n\n{output}")
    if report is not None:
        print(save_report(found, report))


def _kept(found: Annotation, output: Path, report: Path | None) -> str:
    """Write labels and report, of which the copy could not be written, and say where they are."""
    from frostline.annotation.saving import save_report
    from frostline.cells.saving import keep

    table = keep(found.obs.to_csv, output, "labels", ".csv")
    said = "The labels could not be kept either" if table is None else f"The labels are kept in {table}"
    if report is not None:
        with contextlib.suppress(FrostlineError):
            said += f", the report in {save_report(found, report)}"
    return said


def _refuse_for_atlas(chunk: int | None, report: Path | None) -> None:
    """Refuse what `annotate` takes for an OUT.h5ad only."""
    if chunk is not None:
        raise FrostlineError("--chunk is for an OUT.h5ad; leave it out: --rows is what a worker reads at once")
    if report is not None:
        raise FrostlineError("--report draws labels of an OUT.h5ad; leave it out: that of OUT.zarr is printed")
