"""How a kept model reads a query: which genes they share, how deep its cells are, and what must be fitted again.

The rules. Fewer than 50 shared genes are refused. Values are log-normalised over the shared genes; a gene that the
query lacks is never taken for zero. A strategy without an encoder is fitted again, on the reference cells cut to the
shared genes, where any gene that it reads is missing, or genes with more than 5 % of the reference cells' counts are;
one on a frozen encoder, where genes with more than 1 % of the counts that it reads are; one that trained its encoder
reads what is there, and is calibrated again. Where the query's cells, 20 or more, have less than half of the counts,
reference cells are thinned to them, and the model fitted again on those.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frostline.annotation import novelty
from frostline.annotation.adapting import calibrate, fit_all
from frostline.annotation.crossfitting import CrossFitted, cells_stood_for, centroids_of, represented
from frostline.annotation.models import Calibration, Model, Reference
from frostline.annotation.shifts import FEWEST
from frostline.cells.datasets import Dataset
from frostline.cells.draws import MIN_CELLS
from frostline.cells.gene_mapping import GeneMap, map_genes, other_species, refuse_other_species
from frostline.cells.queries import Query
from frostline.cells.totals import as_counts, renormalise
from frostline.encoder.vocabulary import gene_totals
from frostline.errors import DatasetError
from frostline.monitor import Monitor
from frostline.profiles import Profile
from frostline.strategies.base import Strategy
from frostline.strategies.encoder import EncoderStrategy

if TYPE_CHECKING:
    from scipy import sparse

SHARED = 50
"""Genes that a query and a model must share, or all where it reads fewer."""
OF_ENCODER, OF_TOTALS = 0.01, 0.05
"""Share of the counts on missing genes above which an encoder's embedding, and totals of cells, are others."""
SHALLOW = 0.5
"""Of the depth of the reference cells; below it they are thinned."""
EXPRESSED = 10
"""Genes of those that are read that a cell must express, or a tenth of them where fewer than 100 are read."""


@dataclass(frozen=True)
class Needs:
    """Why a model does not do as it was kept."""

    missing: int
    """Genes that it reads and the query lacks."""
    share: float
    """Share of the reference cells' counts on them; of the genes, where there are no reference cells."""
    genes: bool
    """Whether they matter."""
    depths: tuple[float, float] | None
    """Median counts of a cell of the query and of a reference cell, on shared genes; None where one is not known, and
    with fewer than 20 cells: a shallow cell alone is to get the label that it gets among others."""

    @property
    def thinned(self) -> float | None:
        """What reference cells are thinned to; None where they are not."""
        shallow = self.depths is not None and self.depths[0] < SHALLOW * self.depths[1]
        return self.depths[0] / self.depths[1] if self.depths is not None and shallow else None

    @property
    def sentences(self) -> tuple[str, ...]:
        """Why, in words."""
        words = []
        if self.genes:
            words.append(
                f"the query lacks {self.missing:,} genes that it reads, with {_percent(self.share)} of the counts"
            )
        if self.thinned is not None and self.depths is not None:
            words.append(
                f"its cells have {self.depths[0]:,.0f} counts, those of the model {self.depths[1]:,.0f} (medians)"
            )
        return tuple(words)


@dataclass(frozen=True)
class Reading:
    """A model as it reads a query."""

    strategy: Strategy
    calibration: Calibration
    mapping: GeneMap = field(repr=False)
    """From the query's genes to the model's."""
    places: NDArray[np.int64] = field(repr=False)
    """(n_shared,) of the shared genes among the model's, ascending."""
    renormalised: bool
    """Whether values are brought to ten thousand over the shared genes."""
    needs: Needs
    done: str
    """`as kept`, `fitted again` or `calibrated again`."""
    reference: Callable[[], Dataset] | None = field(repr=False)
    """Gives the reference cells as the query is read; thinned, where they were."""
    accuracy: float | None
    """Of reference cells under what was fitted or calibrated again, each class weighted by its labelled cells: an upper
    bound; None as kept."""

    @functools.cached_property
    def genes(self) -> tuple[str, ...]:
        """Shared genes, by the model's names."""
        return tuple(self.mapping.target[place] for place in self.places)

    def read(self, cells: Dataset) -> Dataset:
        """Cells of the query in the shared genes, by the model's names."""
        matrix = self.mapping.apply(cells.matrix, logged=True)[:, self.places]
        if self.renormalised:
            renormalise(matrix)
        return replace(cells, matrix=matrix, genes=self.genes, cache={})

    def readable(self, cells: Dataset) -> NDArray[np.bool_]:
        """(n_cells,) whether enough is expressed of what is read."""
        reads = self.strategy.genes_ or self.genes
        return expressed(cells.expression(np.arange(len(cells)), reads))


def expressed(matrix: sparse.csr_matrix) -> NDArray[np.bool_]:
    """(n_cells,) whether at least 10 of the genes have a value, or a tenth of them where they are fewer than 100.

    Examples
    --------
    >>> from scipy import sparse
    >>> expressed(sparse.csr_matrix(np.tri(3, 20, 0)))
    array([False,  True,  True])
    """
    least = min(EXPRESSED, max(1, matrix.shape[1] // 10))
    return np.asarray(np.diff(matrix.indptr) >= least)


def read_query(model: Model, query: Query, monitor: Monitor | None = None) -> Reading:
    """Find out how a model reads a query, and fit it again where that is needed.

    Parameters
    ----------
    model
        What `adapt` or `load_model` returned.
    query
        What `open_cells` gave.
    monitor
        Receives the progress, and is asked between steps whether to stop with `Cancelled`.

    Raises
    ------
    DatasetError
        The genes are of another species; too few are shared; it must be fitted again and keeps no reference cells,
        or too few.
    """
    if not other_species(model.genes):  # else it was made of such names, and reads its own
        refuse_other_species(query.genes)
    sample = query.sample
    mapping = map_genes(query.genes, model.genes, gene_totals(sample.matrix))
    places = np.sort(mapping.kept)
    _refuse_few(model, places, mapping)
    needs = _needs(model, mapping, places, sample)
    if needs.sentences:
        return _adjusted(model, mapping, places, needs, monitor or Monitor())
    scaled = bool(model.card["dataset"]["scaled"])
    # cut when it is asked for, and not kept while cells of the query are read
    reference = None if model.reference is None else functools.partial(_cut, model, model.reference, places, scaled)
    strategy = _narrowed(model.strategy, model, places)
    return Reading(strategy, model.calibration, mapping, places, scaled, needs, "as kept", reference, None)


def _refuse_few(model: Model, places: NDArray[np.int64], mapping: GeneMap) -> None:
    """An encoder reads what its vocabulary knows; other strategies can be fitted again on any gene."""
    mine = _read(model) if isinstance(model.strategy, EncoderStrategy) else np.arange(len(model.genes))
    least, n = min(SHARED, len(mine)), int(np.isin(mine, places).sum())
    if n < least:
        raise DatasetError(
            f"the query has {n:,} of the {len(mine):,} genes that model {model.strategy.name!r} could read, and at "
            f"least {least:,} are needed ({', '.join(mapping.names[:3])} in the query, {', '.join(model.genes[:3])} in "
            "the model); name the column of var with the symbols (gene_column=...), or adapt a model to these genes"
        )


def _read(model: Model) -> NDArray[np.int64]:
    """Places among the model's genes of those that its strategy reads."""
    place = {gene: i for i, gene in enumerate(model.genes)}
    return np.array([place[gene] for gene in model.strategy.genes_], dtype=np.int64)


def _needs(model: Model, mapping: GeneMap, places: NDArray[np.int64], sample: Dataset) -> Needs:
    read, encoder = _read(model), isinstance(model.strategy, EncoderStrategy)
    missing = np.setdiff1d(read, places)
    share = _share(model, missing, read if encoder else np.arange(len(model.genes)))
    if encoder:
        matters = share > OF_ENCODER
    else:
        rest = _share(model, np.setdiff1d(np.arange(len(model.genes)), places), np.arange(len(model.genes)))
        matters = bool(len(missing)) or (bool(model.card["dataset"]["scaled"]) and bool(len(read)) and rest > OF_TOTALS)
    return Needs(len(missing), share, matters, _depths(model, mapping, places, sample))


def _share(model: Model, some: NDArray[np.int64], of: NDArray[np.int64]) -> float:
    """Share of the counts of reference cells on some genes; share of the genes where there are no such cells."""
    if model.reference is None:
        return len(some) / max(1, len(of))
    values = model.reference.values
    totals = np.asarray(values.sum(axis=1), dtype=np.float64).ravel()
    weights = np.divide(1.0, totals, where=totals > 0, out=np.zeros_like(totals))  # every cell has the same
    shares = values.data * np.repeat(weights, np.diff(values.indptr))
    sums = np.bincount(values.indices, shares, minlength=values.shape[1])
    return float(sums[some].sum() / max(sums[of].sum(), 1e-300))


def _depths(model: Model, mapping: GeneMap, places: NDArray[np.int64], sample: Dataset) -> tuple[float, float] | None:
    counts = as_counts(sample.matrix)
    if counts is None or model.reference is None or not model.reference.counted:
        return None
    found = []
    for part in (mapping.apply(counts, logged=False), model.reference.values):
        shared = part[:, places]
        totals = np.asarray(shared.sum(axis=1), dtype=np.float64).ravel()[expressed(shared)]
        if len(totals) < FEWEST:
            return None
        found.append(float(np.median(totals)))
    return found[0], found[1]


def _adjusted(model: Model, mapping: GeneMap, places: NDArray[np.int64], needs: Needs, monitor: Monitor) -> Reading:
    """Fit or calibrate again on the reference cells, as the query is."""
    if model.reference is None:
        raise DatasetError(
            f"{' and '.join(needs.sentences)}; the model must be fitted again, and keeps no reference cells. Keep "
            "them: frostline.adapt(..., reference_cells=200); or give a query with these genes"
        )
    kept = model.reference if needs.thinned is None else _thinned(model.reference, needs.thinned)
    reference = _cut(model, kept, places, scaled=True)
    too_few = DatasetError(
        f"{' and '.join(needs.sentences)}; the model must be fitted again, and keeps too few reference cells for that: "
        f"{len(reference):,} of {len(kept.labels):,} express enough of the shared genes. Keep more of them: "
        "frostline.adapt(..., reference_cells=200); or give a query with these genes"
    )
    if (np.unique(reference.labels, return_counts=True)[1] >= MIN_CELLS).sum() < 2:
        raise too_few
    if model.strategy.on_embedding:
        try:
            strategy, calibration, found = _fitted_again(model, reference, monitor)
        except DatasetError as error:  # of its labels and groups: nothing that whoever has a query could change
            raise too_few from error
        done = "fitted again"
    else:
        strategy = _narrowed(model.strategy, model, places)
        found = _seen(strategy, reference)
        calibration = _calibrated(model, found, strategy, reference)
        done = "calibrated again"
    right = found.probabilities.argmax(axis=1) == found.columns
    accuracy = float(np.average(right, weights=cells_stood_for(found.labels, _classes(model))))
    return Reading(strategy, calibration, mapping, places, True, needs, done, lambda: reference, accuracy)


def _fitted_again(model: Model, reference: Dataset, monitor: Monitor) -> tuple[Strategy, Calibration, CrossFitted]:
    old = model.calibration
    fit = model.card["fit"]
    again = fit_all(
        model.strategy,
        reference,
        profile=Profile(**fit["profile"]),
        seed=fit["seed"],
        target=old.certificate.target,
        alpha=old.alpha,
        classes=_classes(model),
        monitor=monitor,
    )
    return again.strategy, again.calibration, again.found


def _seen(strategy: Strategy, reference: Dataset) -> CrossFitted:
    """Outcomes of reference cells under the kept model, which has seen them: its errors are fewer than on new cells."""
    rows = np.arange(len(reference))
    found = strategy.outcome(reference, rows)
    centroids = centroids_of(strategy, reference, rows)
    return CrossFitted(
        rows=rows,
        labels=reference.labels,
        classes=strategy.classes_,
        folds=np.zeros(len(rows), dtype=np.int64),
        probabilities=found.probabilities,
        energies=novelty.energies(found.scores),
        distances=centroids.distances(represented(found)),
        groups=reference.groups,
    )


def _calibrated(model: Model, found: CrossFitted, strategy: Strategy, reference: Dataset) -> Calibration:
    old, rows = model.calibration, np.arange(len(reference))
    centroids = centroids_of(strategy, reference, rows)
    return calibrate(found, centroids, target=old.certificate.target, alpha=old.alpha, classes=_classes(model))


def _classes(model: Model) -> Mapping[str, int]:
    """Labelled cells of each class: of a common one, a smaller share of them are reference cells."""
    found: Mapping[str, int] = model.card["dataset"]["classes"]
    return found


def _narrowed(strategy: Strategy, model: Model, places: NDArray[np.int64]) -> Strategy:
    """The strategy itself, or one on an encoder that reads the shared genes only."""
    if not isinstance(strategy, EncoderStrategy):
        return strategy
    return strategy.on_genes([model.genes[place] for place in places])


def _thinned(reference: Reference, share: float) -> Reference:
    """Reference cells of which each count was kept with some probability."""
    values = reference.values.copy()
    values.data = np.random.default_rng(0).binomial(values.data.astype(np.int64), share).astype(values.dtype)
    values.eliminate_zeros()
    return replace(reference, values=values)


def _cut(model: Model, reference: Reference, places: NDArray[np.int64], scaled: bool) -> Dataset:
    """Reference cells as a data set of the shared genes, those that express too few of them left out."""
    import pandas as pd
    from anndata import AnnData

    matrix, data = reference.values[:, places].astype(np.float32), model.card["dataset"]
    read = np.isin(places, _read(model)) if isinstance(model.strategy, EncoderStrategy) else np.ones(len(places), bool)
    enough = expressed(matrix[:, np.flatnonzero(read)])
    matrix.data = np.log1p(matrix.data)
    if scaled:
        renormalise(matrix)
    columns: Mapping[str, NDArray[np.str_] | None] = {
        data["label_key"]: reference.labels,
        **({} if data["group_key"] is None else {data["group_key"]: reference.groups}),
    }
    names = [f"reference-{i}" for i in range(len(reference.labels))]
    genes = tuple(model.genes[place] for place in places)
    obs = pd.DataFrame(columns, index=names)[enough]
    return Dataset(
        name=f"reference cells of {data['name']}",
        adata=AnnData(obs=obs, var=pd.DataFrame(index=list(genes))),
        label_key=data["label_key"],
        matrix=matrix[np.flatnonzero(enough)],
        genes=genes,
        labels=reference.labels[enough],
        values_name="counts" if reference.counted else "normalised values",
        group_key=data["group_key"],
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
