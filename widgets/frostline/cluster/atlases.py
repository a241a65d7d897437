"""Atlases larger than memory, embedded or labelled part by part: by many workers as by one, to the last bit."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from frostline import __version__
from frostline.bounds import MaxLength, Precision, Seed, hold
from frostline.cells.queries import checked, open_matrices
from frostline.cells.saving import KEY
from frostline.cells.stores import CellNames, is_store, opened_store, refuse_no_store
from frostline.cluster import labels, parts
from frostline.cluster.connections import Workers, connecting, cores, gpu_of, refuse_missing
from frostline.cluster.loops import RETRIES, Pace, alone, run
from frostline.cluster.parts import OutputPlan, Unfinished
from frostline.cluster.sources import Source, fingerprint, refuse_undivided, rows_of
from frostline.cluster.works import Embedding, Labelling, Work, compute, kept
from frostline.encoder.tokens import MAX_LENGTH
from frostline.errors import DatasetError, FrostlineError
from frostline.monitor import Monitor
from frostline.plain_files import expanded
from frostline.strategies.encoder import EncoderStrategy

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client

    from frostline.annotation.reports import Report

Facts = Mapping[int, Mapping[str, Any]]
Reach: TypeAlias = "Callable[[], AbstractContextManager[Client]]"


class PartsFailed(FrostlineError):
    """Some parts could not be computed; all others are kept, and the same command tries these again.

    Parameters
    ----------
    reasons
        Why, by the number of the part.
    plan
        Of the output.
    """

    def __init__(self, reasons: Mapping[int, str], plan: OutputPlan) -> None:
        self.reasons, self.plan = dict(reasons), plan
        lines = [f"  rows {plan.span(p)[0]:,} to {plan.span(p)[1] - 1:,}: {why}" for p, why in sorted(reasons.items())]
        super().__init__(
            f"{len(reasons):,} of {len(plan):,} parts failed, each tried {1 + RETRIES} times; the others are kept, and "
            "the same command tries these again:\n" + "\n".join(lines)
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reasons, self.plan)


@dataclass(frozen=True)
class Result:
    """An output that is whole."""

    path: Path
    n_cells: int
    parts: int
    earlier: int
    """Parts that an earlier run had computed."""

    @property
    def said(self) -> dict[str, Any]:
        """What it says of itself, by the name in uns."""
        found = parts.said_of(self.path)
        return {} if found is None else dict(found["said"])


@dataclass(frozen=True)
class _Job:
    """An atlas, and what is done with it."""

    source: Source
    names: pd.Index | CellNames = field(repr=False)
    work: Work
    plan: OutputPlan
    device: str
    finish: Callable[[Unfinished, Facts], dict[str, Any]]
    """Writes what is made of all parts, and returns what is said of the whole, by its name in uns."""
    later: int = 0
    """So many workers are started when they are worth it, and this process computes until then; 0: from the start."""


def embed(
    source: str | Path,
    output: str | Path,
    *,
    checkpoint: str | Path = "mini",
    seed: int = 0,
    max_length: int = MAX_LENGTH,
    gene_column: str | None = None,
    device: str = "auto",
    precision: str = "fp32",
    rows: int | None = None,
    workers: Workers | None = None,
    monitor: Monitor | None = None,
) -> Result:
    """Embed an atlas with a frozen encoder, on workers; the embedding is that of `frostline.embed`, to the last bit.

    Interrupted, the same call goes on. The output holds obs and var of the atlas and the embedding in
    obsm["X_scGPT"]; the values stay where they are.

    Parameters
    ----------
    source
        An .h5ad file or a zarr folder of anndata; X holds counts or log-values, dense or CSR.
    output
        Folder of zarr that is made; it is there when it is whole.
    checkpoint, seed, max_length, gene_column, device, precision
        As for `frostline.embed`; the device is that of the workers, and the precision is not `auto`, which each of them
        would decide for itself.
    rows
        Cells of a part, rounded up to whole blocks of 1,024; by the size of the cells if None.
    workers
        Who does it; processes on this machine if None: one a core, or a single one where a GPU computes.
    monitor
        Receives the progress, and is asked whether to stop with `Cancelled`; finished parts are kept.

    Raises
    ------
    DatasetError
        The atlas cannot be read, or its genes are none that the checkpoint knows.
    PartsFailed
        Parts that failed each time they were tried, with the reason of each.
    FrostlineError
        The output is of something else or of other settings; the disk is full; the scheduler is gone.
    """
    from frostline.encoder.catalogue import CHECKPOINTS
    from frostline.encoder.checkpoints import load_checkpoint

    monitor, path, target = monitor or Monitor(), _absolute(source), _absolute(output)
    settings = {"seed": hold(Seed, "seed", seed), "max_length": hold(MaxLength, "max_length", max_length)}
    if hold(Precision, "precision", precision) == "auto":
        raise FrostlineError("precision 'auto' may be another one on each worker: name fp32 or bf16")
    _refuse(path, target)
    monitor.step(0.0, "looking at the atlas")
    opened = load_checkpoint(checkpoint)
    with connecting((workers or Workers()).suited(device), monitor) as reach, open_matrices(path) as found:
        reader, genes = labels.token_reader(found, opened, gene_column, **settings)
        where = str(checkpoint) if str(checkpoint) in CHECKPOINTS else str(_absolute(checkpoint))
        work = Embedding(reader, where, opened.weights_sha256, opened.config.d_model, genes, KEY, device, precision)
        said = {"checkpoint": opened.name, "weights": opened.weights_sha256, "gene_column": gene_column}
        identity = _identity("embed", encodes=True, device=device, precision=precision, **settings, **said)
        identity |= {"input": fingerprint(found, genes), "rows": rows_of(path, None, found, rows)}
        plan = OutputPlan(identity, found.rows.shape[0], identity["rows"], work.arrays)
        job = _Job(Source(path, None, found.rows.shape), found.obs_names, work, plan, device, _embedded)
        return _carried_out(job, target, reach, monitor)


def annotate(
    model: str | Path,
    source: str | Path,
    output: str | Path,
    key: str = "frostline",
    *,
    layer: str | None = None,
    values: str | None = None,
    gene_column: str | None = None,
    checkpoint: str | Path | None = None,
    rows: int | None = None,
    overwrite: bool = False,
    workers: Workers | None = None,
    monitor: Monitor | None = None,
) -> tuple[Result, Report]:
    """Label an atlas with a kept model, part by part; the labels are those of `frostline.annotation.annotate`.

    Interrupted, the same call goes on. The output holds obs and var of the atlas and what `annotate` writes into obs,
    obsm and uns; the values stay where they are.

    Parameters
    ----------
    model, checkpoint
        As for `frostline.load_model`.
    source, output, rows, monitor
        As for `embed`.
    workers
        Who does it. If nothing but a number is asked for, this process labels by a model without an encoder until as
        many workers are worth starting (`frostline.cluster.loops.alone`), which one never is.
    key, layer, values, gene_column, overwrite
        As for `frostline.annotation.annotate`.

    Raises
    ------
    DatasetError, PartsFailed, FrostlineError
        As of `embed` and `frostline.annotation.annotate`.
    """
    from frostline.annotation.facts import read_facts
    from frostline.annotation.folders import load_model
    from frostline.annotation.outputs import refuse_taken
    from frostline.annotation.refitting import read_query
    from frostline.annotation.reports import Report

    monitor, path, target = monitor or Monitor(), _absolute(source), _absolute(output)
    _refuse(path, target, layer)
    refuse_taken(path, key, overwrite=overwrite)
    monitor.step(0.0, "looking at the atlas")
    loaded, content = load_model(model, checkpoint=checkpoint), read_facts(expanded(model)).content_sha256
    encodes = isinstance(loaded.strategy, EncoderStrategy)
    device = getattr(loaded.strategy, "device", "cpu")
    with connecting((workers or Workers()).suited(device), monitor) as reach, open_matrices(path, layer) as found:
        query = checked(found, layer, values, gene_column)
        reading = read_query(loaded, query, monitor.part(0.0, 0.0, "fitting again: "))
        work = Labelling(replace(reading, reference=None), labels.light(query), len(query), key)
        said = {"model": content, "key": key, "layer": layer, "values": values, "gene_column": gene_column}
        identity = _identity("annotate", encodes=encodes, **said)
        identity |= {"input": fingerprint(found, query.genes), "rows": rows_of(path, layer, found, rows)}
        plan = OutputPlan(identity, len(query), identity["rows"], work.arrays)
        finish = functools.partial(labels.finish, loaded, query, reading, key)
        asked = workers or Workers()
        later = 0 if encodes or replace(asked, number=None) != Workers() else asked.number or cores()
        job = _Job(Source(path, layer, found.rows.shape), found.obs_names, work, plan, device, finish, later)
        result = _carried_out(job, target, reach, monitor)
    return result, Report(result.said[key])


def _absolute(path: str | Path) -> Path:
    """As workers find it, whose current folder is another."""
    return expanded(path).absolute()


def _refuse(path: Path, output: Path, layer: str | None = None) -> None:
    """Refuse what cannot work, before anything is computed."""
    refuse_missing()
    refuse_no_store(path)
    said = f"-o {output}"
    if output.suffix != ".zarr":
        raise FrostlineError(f"{said}: the name must end in .zarr")
    if not output.parent.is_dir():
        raise FrostlineError(f"{said}: there is no folder {output.parent}; make it first")
    if output.is_symlink() and not output.exists():
        raise FrostlineError(f"{said} is a link to {os.readlink(output)}, which is not there: name that, or another")
    if is_store(path) and output.exists() and output.samefile(path):
        raise FrostlineError(f"{said} is the atlas that is read: choose another name")
    refuse_undivided(path, layer)


def _identity(command: str, *, encodes: bool, **settings: Any) -> dict[str, Any]:
    """All that decides a result but its input."""
    computed = import_module("torch" if encodes else "numpy")
    return {"command": command, **settings, "frostline": __version__, computed.__name__: str(computed.__version__)}


def _embedded(unfinished: Unfinished, facts: Facts) -> dict[str, Any]:
    """What is said of an embedding as a whole."""
    said = {name: value for name, value in unfinished.plan.identity.items() if value is not None}
    devices = sorted({each["device"] for each in facts.values()})
    return {f"{KEY}_made": {**said, "unreadable": sum(f["unreadable"] for f in facts.values()), "devices": devices}}


def _carried_out(job: _Job, output: Path, reach: Reach, monitor: Monitor) -> Result:
    """Compute what is not there yet, and put the whole into its place."""
    plan = job.plan
    if not plan.n_cells:
        raise DatasetError(f"{job.source.path} holds no cell")
    if parts.is_whole(output, plan):
        parts.remove_rest(output, plan)
        return Result(output, plan.n_cells, len(plan), len(plan))
    with parts.written(output), parts.held(output, plan) as unfinished:
        if parts.is_whole(output, plan):  # by another process, which held it until now
            parts.remove(unfinished)
            return Result(output, plan.n_cells, len(plan), len(plan))
        monitor.step(0.0, "tables of the output")
        with opened_store(job.source.path) as file, parts.written(output):
            parts.prepared(unfinished, job.names, {name: file[name] for name in ("obs", "var")})
        done = parts.whole(unfinished, range(len(plan)))
        missing = {part: plan.span(part)[1] - plan.span(part)[0] for part in range(len(plan)) if part not in done}
        if missing:
            _computed(job, unfinished, missing, reach, monitor)
        facts = parts.whole(unfinished, range(len(plan)))
        if lost := sorted(set(range(len(plan))) - set(facts)):
            raise PartsFailed(dict.fromkeys(lost, "what was written is not there any more, or was altered"), plan)
        monitor.step(1.0, "columns and summary")
        parts.finished(unfinished, job.finish(unfinished, facts))
    return Result(output, plan.n_cells, len(plan), len(done))


def _computed(job: _Job, unfinished: Unfinished, missing: Mapping[int, int], reach: Reach, monitor: Monitor) -> None:
    """Compute parts in this process, or let workers do it."""
    function, total = functools.partial(compute, unfinished, job.source, kept(job.work, unfinished)), job.plan.n_cells
    if job.later:
        missing = alone(function, missing, Pace(total, total - sum(missing.values())), job.later, monitor)
    if not missing:
        return
    with reach() as client:
        pace, resources = Pace(total, total - sum(missing.values())), gpu_of(client, job.device)
        failed = run(client, function, missing, pace, resources=resources, monitor=monitor)
    if failed:
        raise PartsFailed(failed, job.plan)
