"""Commands about encoders: checkpoints, pre-training, kept embeddings; and the strategies that use them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from frostline.limits import SEEDS
from frostline.publishing.terminal import progress


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


def strategies(name: Annotated[str | None, typer.Argument(help="Name of a strategy.")] = None) -> None:
    """List the strategies; of one, its hyper-parameters with default, bounds, unit and meaning."""
    from frostline.strategies import parameter_table, show

    if name is None:
        for each, row in show().iterrows():
            print(f"{each}\n    {row['title']}: trains {row['trains']}\n    {row['reference']}")
        return
    table = parameter_table(name)
    for field, row in table.iterrows():
        print(f"{field} = {row['default']}\n    {row['meaning']}\n    {row['bounds']} ({row['unit']})")
    if table.empty:
        print(f"{name} has no hyper-parameters")


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


def clear_cache() -> None:
    """Forget all embeddings that are kept; downloaded checkpoints stay."""
    from frostline.encoder import caches

    print(f"{caches.clear() / 1e6:.1f} MB freed in {caches.folder()}")


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


def checkpoint_path(name: Annotated[str, typer.Argument(help="Name or folder.")]) -> None:
    """Print the folder of a checkpoint."""
    from frostline.encoder.checkpoints import find_folder

    print(find_folder(name))
