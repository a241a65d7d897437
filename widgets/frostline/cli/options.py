"""Options that several commands have, and what is made of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from frostline.errors import Cancelled, FrostlineError
from frostline.interrupts import Ended

if TYPE_CHECKING:
    from frostline.cluster.connections import Workers


OPTIONS = {"layer=...": "--layer ...", "gene_column=...": "--gene-column ..."}
"""Remedies that messages give as arguments of a function, and as options."""
PARAMETERS = {"layer=...": "-p LAYER=...", "gene_column=...": "-p GENE_COLUMN=..."}
"""The same as parameters of a notebook."""
READING = {"adapt": OPTIONS, "annotate": OPTIONS, "run": PARAMETERS, "publish": PARAMETERS}
"""Commands that have these options."""


def in_options(message: str, command: str) -> str:
    """Return a message with the options or parameters of a command in the place of arguments of a function.

    Examples
    --------
    >>> in_options("name one of: raw, counts (layer=...)", "annotate")
    'name one of: raw, counts (--layer ...)'
    >>> in_options("name one of: raw, counts (layer=...)", "run")
    'name one of: raw, counts (-p LAYER=...)'
    """
    for argument, option in READING.get(command, {}).items():
        message = message.replace(argument, option)
    return message


def names_of_notebooks(incomplete: str) -> list[str]:
    """For the shell, which completes them."""
    from frostline.publishing.notebooks import known_notebooks

    return sorted(name for name in known_notebooks() if name.startswith(incomplete))


Profile = Annotated[str | None, typer.Option("--profile", help="quickstart or full; the notebook's own if not given.")]
Parameters = Annotated[
    list[str] | None, typer.Option("--parameter", "-p", help="KEY=VALUE, a parameter of the notebook; repeatable.")
]
Layer = Annotated[str | None, typer.Option(help="Where the values are: a layer, raw, or X if not given.")]
Values = Annotated[
    str | None, typer.Option(help="What the values are, where it is unclear: counts, linear, log1p, log2 ...")
]
GeneColumn = Annotated[
    str | None, typer.Option(help="Column of var with the gene symbols; found, where it is needed, if not given.")
]
CheckpointName = Annotated[str, typer.Option(help="Name or folder of a checkpoint.")]
Scheduler = Annotated[str | None, typer.Option(help="Address of a Dask scheduler that runs: tcp://10.0.0.1:8786.")]
Cluster = Annotated[
    str | None, typer.Option(help="local (if not given), or a batch system: slurm, pbs, sge, lsf, htcondor, oar, moab.")
]
ClusterConfig = Annotated[
    Path | None, typer.Option(help="YAML with what the batch system is asked for: queue, cores, memory, walltime ...")
]
NWorkers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Processes or jobs; if not given, one a core, or one where a GPU computes."),
]
Memory = Annotated[
    str | None, typer.Option(help="Limit of each process on this machine, for OUT.zarr; 4GB if not given.")
]
Rows = Annotated[int | None, typer.Option(min=1, help="Cells of a part, for OUT.zarr; by their size if not given.")]


def pairs(parameters: list[str] | None, profile: str | None) -> dict[str, str]:
    """Parameters of a notebook by name, as they were written."""
    found = {} if profile is None else {"PROFILE": profile}
    for item in parameters or []:
        name, equals, value = item.partition("=")
        if not equals:
            raise FrostlineError(f"-p {item!r} is not KEY=VALUE")
        found[name.strip()] = value
    return found


def workers_of(
    output: Path,
    rows: int | None,
    workers: int | None = None,
    memory: str | None = None,
    scheduler: str | None = None,
    cluster: str | None = None,
    cluster_config: Path | None = None,
) -> Workers | None:
    """Which workers fill an OUT.zarr; None where one process writes another output, for which nothing may be asked.

    Raises
    ------
    FrostlineError
        An option was given that means nothing for this output.

    Examples
    --------
    >>> workers_of(Path("OUT.npy"), rows=2_048, workers=4)
    Traceback (most recent call last):
        ...
    frostline.errors.FrostlineError: --workers, --rows are for OUT.zarr, which workers fill part by part; OUT.npy is ...
    """
    from frostline.cluster.connections import Workers

    asked = {"number": workers, "memory": memory, "scheduler": scheduler, "cluster": cluster, "config": cluster_config}
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if output.suffix == ".zarr":
        return Workers(**given)
    if given or rows is not None:
        options = {"number": "--workers", "config": "--cluster-config"}
        said = [options.get(name, f"--{name}") for name in [*given, *(["rows"] if rows is not None else [])]]
        raise FrostlineError(
            f"{', '.join(said)} {'is' if len(said) == 1 else 'are'} for OUT.zarr, which workers fill part by part; "
            f"{output} is written by one process: leave it out, or name an output that ends in .zarr"
        )
    return None


@contextmanager
def going_on(output: Path) -> Iterator[None]:
    """Say, when it is stopped, that what is finished is kept."""
    try:
        yield
    except (KeyboardInterrupt, Cancelled, Ended):
        print(f"finished parts are kept in {output}.unfinished; the same command goes on from them", file=sys.stderr)
        raise
