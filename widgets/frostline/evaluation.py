"""Strategy + data set + split -> Record."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from frostline.datasets import Dataset
from frostline.metrics import accuracy, macro_f1, silhouette
from frostline.monitor import Monitor
from frostline.records import Record
from frostline.splits import Split
from frostline.strategies import Strategy

MIN_CELLS_FOR_UMAP = 5


def evaluate(
    strategy: Strategy,
    dataset: Dataset,
    split: Split,
    *,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Record:
    """Fit a strategy on a split and record what it does on the test cells.

    Parameters
    ----------
    strategy
        Hyper-parameters; a fresh copy is fitted, what was passed in stays as it was.
    dataset, split
        What `load_dataset` and `split` returned.
    progress
        Called with a fraction and a few words.
    cancelled
        Asked between steps; once it says True, `Cancelled` is raised.

    Raises
    ------
    FrostlineError
        The data set does not suit the strategy; raised before any training.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> record = frostline.evaluate(frostline.strategies.PcaLogistic(), pbmc, frostline.split(pbmc))
    >>> record.sizes["test"]
    176
    """
    monitor = Monitor(**{k: v for k, v in {"progress": progress, "cancelled": cancelled}.items() if v is not None})  # type: ignore[arg-type]
    strategy.check(dataset, split)
    fitted = dataclasses.replace(strategy).fit(dataset, split, monitor.part(0.0, 0.85))
    monitor.step(0.85, "predicting and mapping test cells")
    record = _record(fitted, dataset, split)
    monitor.step(1.0, "done")
    return record


def _record(fitted: Strategy, dataset: Dataset, split: Split) -> Record:
    """Predict the test cells with a fitted strategy, score and map them."""
    probabilities = _all_classes(fitted.predict_proba(dataset, split.test), fitted.classes_, split.classes)
    embedding = np.asarray(fitted.embed(dataset, split.test), dtype=np.float64)
    labels = dataset.labels[split.test].tolist()
    predicted = [split.classes[i] for i in probabilities.argmax(axis=1)]
    return Record(
        strategy=fitted.name,
        parameters=fitted.parameters,
        dataset=dataset.name,
        label_key=dataset.label_key,
        profile=split.profile.name,
        seed=split.seed,
        repeat=split.repeat,
        fingerprint=split.fingerprint,
        test_fingerprint=split.test_fingerprint,
        sizes=split.sizes,
        classes=split.classes,
        cells=tuple(dataset.cells[split.test].tolist()),
        labels=tuple(labels),
        probabilities=probabilities,
        metrics={
            "accuracy": accuracy(labels, predicted),
            "macro_f1": macro_f1(labels, predicted),
            "silhouette": silhouette(embedding, labels),
        },
        cost=fitted.cost(),
        umap=umap_of(embedding, seed=split.training_seed),
        history=fitted.history_,
        notes=(*dataset.notes, *split.notes, *fitted.notes(dataset)),
    )


def evaluate_all(
    strategies: Sequence[Strategy],
    dataset: Dataset,
    splits: Sequence[Split],
    *,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[Record]:
    """Evaluate every strategy on every split, yielding each record as soon as it is there.

    All strategies check all splits before the first one trains.

    Raises
    ------
    FrostlineError
        A split does not suit a strategy.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> records = evaluate_all(frostline.strategies.build(["pca_logistic"]), pbmc, [frostline.split(pbmc)])
    >>> [record.strategy for record in records]
    ['pca_logistic']
    """
    for strategy in strategies:
        for split in splits:
            strategy.check(dataset, split)
    steps = [(strategy, split) for split in splits for strategy in strategies]
    for i, (strategy, split) in enumerate(steps):
        repeat = f", repeat {split.repeat + 1} of {len(splits)}" if len(splits) > 1 else ""
        monitor = Monitor(progress) if progress is not None else Monitor()
        part = monitor.part(i / len(steps), (i + 1) / len(steps), f"{strategy.name}{repeat}: ")
        yield evaluate(strategy, dataset, split, progress=part.progress, cancelled=cancelled)


def _all_classes(
    probabilities: NDArray[np.float64], known: Sequence[str], classes: Sequence[str]
) -> NDArray[np.float64]:
    """Columns for all classes of the split; a class that training lacks gets probability 0."""
    column = {name: i for i, name in enumerate(classes)}
    out = np.zeros((len(probabilities), len(classes)))
    out[:, [column[name] for name in known]] = probabilities
    return out


def umap_of(embedding: NDArray[np.float64], *, seed: int) -> NDArray[np.float64] | None:
    """Two-dimensional UMAP (McInnes et al. 2018), seeded; None for fewer than five cells or one dimension.

    Parameters
    ----------
    embedding
        (n_cells, d)
    seed
        The map is the same for the same seed and data.

    Returns
    -------
    ndarray or None
        (n_cells, 2)
    """
    if len(embedding) < MIN_CELLS_FOR_UMAP or embedding.shape[1] < 2:
        return None
    from umap import UMAP

    neighbours = min(15, len(embedding) - 1)
    mapper = UMAP(n_neighbors=neighbours, min_dist=0.5, random_state=seed, n_jobs=1, init="pca")
    coordinates: NDArray[np.float64] = np.asarray(mapper.fit_transform(embedding), dtype=np.float64)
    return coordinates
