"""Strategy + data set + split -> Record; many of them, with fewer labels, or with a class withheld."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.classes import over_all_classes
from frostline.encoder.checkpoints import Checkpoint
from frostline.errors import FrostlineError
from frostline.evaluation import checks, maps
from frostline.evaluation.metrics import chosen_metrics, knn_purity, prediction_metrics, silhouette
from frostline.memory import Peak, peak_memory
from frostline.monitor import Monitor
from frostline.records import Cost, Finding, Record, fingerprint_of
from frostline.strategies import Strategy
from frostline.strategies.encoder import EncoderStrategy

NEIGHBOURS = 5
"""Training cells that the distance of a test cell is a mean over."""
BUDGETS = (5, 10, 20, 50)
"""Labelled cells per class of the label-efficiency study, validation included."""


def evaluate(
    strategy: Strategy,
    dataset: Dataset,
    split: Split,
    *,
    monitor: Monitor | None = None,
) -> Record:
    """Fit a strategy on a split and record what it does on the test cells.

    Parameters
    ----------
    strategy
        Hyper-parameters; a fresh copy is fitted, what was passed in stays as it was.
    dataset, split
        What `load_dataset` and `split` returned.
    monitor
        Receives the progress, and is asked between steps whether to stop with `Cancelled`.

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
    monitor = monitor or Monitor()
    split.refuse_other(dataset)
    strategy.ensure_applicable(dataset, split)
    return evaluate_checked(strategy, dataset, split, monitor)


def evaluate_checked(strategy: Strategy, dataset: Dataset, split: Split, monitor: Monitor) -> Record:
    """Evaluate a strategy that has checked the data set and the split, as `evaluate` and a `Job` see to.

    Parameters
    ----------
    strategy, dataset, split
        As for `evaluate`.
    monitor
        Receives every step and epoch; asked whether to stop.
    """
    findings = findings_of(strategy, dataset, split)
    collect = split.budget is None and split.unseen is None
    with peak_memory(collect=collect) as peak, _device_peak(strategy) as on_device:
        fitted = dataclasses.replace(strategy).fit(dataset, split, monitor.part(0.0, 0.85))
        monitor.step(0.85, "predicting and mapping test cells")
        parts = _predicted_cells(split)
        n_cells, done = sum(map(len, parts.values())), 0
        predicted = {}
        for part, cells in parts.items():
            share = monitor.part(0.85 + 0.15 * done / n_cells, 0.85 + 0.15 * (done + len(cells)) / n_cells)
            if len(cells):
                probabilities = fitted.predict_proba(dataset, cells, share)
            else:
                probabilities = np.empty((0, len(fitted.classes_)))
            predicted[part] = over_all_classes(probabilities, fitted.classes_, split.classes)
            done += len(cells)
    cost = dataclasses.replace(
        fitted.cost(),
        peak_memory=_larger(peak.bytes, fitted.embed_peak_),
        device_memory=_larger(on_device.bytes, fitted.embed_device_peak_),
    )
    record = _record(fitted, dataset, split, predicted, cost, findings)
    monitor.progress(1.0, "done")  # without asking: what has finished stays
    return record


def findings_of(strategy: Strategy, dataset: Dataset, split: Split) -> tuple[Finding, ...]:
    """Check data set and split, once for all strategies that share a checkpoint; a study repeats no finding.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> found = findings_of(frostline.strategies.Majority(), pbmc, frostline.split(pbmc))
    >>> "labels-from-clusters" in [finding.code for finding in found]
    True
    """
    if split.budget is not None or split.unseen is not None:
        return ()
    checkpoint = getattr(strategy, "checkpoint", None)
    key = ("checks", split.fingerprint, checkpoint, dataset.label_key, dataset.group_key)
    if key not in dataset.cache:
        dataset.cache[key] = checks.review(dataset, split, checkpoint)
    found: tuple[Finding, ...] = dataset.cache[key]
    return found


def _predicted_cells(split: Split) -> dict[str, NDArray[np.int64]]:
    """Test cells last: what predicting them took is the cost of predicting; a study calibrates nothing."""
    study = split.budget is not None or split.unseen is not None
    return {"test": split.test} if study else {"validation": split.validation, "test": split.test}


def _device_peak(strategy: Strategy) -> AbstractContextManager[Peak]:
    """Of strategies on an encoder: others compute on the CPU."""
    if not isinstance(strategy, EncoderStrategy):
        return nullcontext(Peak())
    from frostline.encoder.devices import device_of, device_peak

    return device_peak(device_of(strategy.device))


def _larger(own: int | None, shared: int | None) -> int | None:
    """Peak of a strategy that took an embedding from others, as if it had computed it itself."""
    return own if own is None or shared is None else max(own, shared)


def _record(
    fitted: Strategy,
    dataset: Dataset,
    split: Split,
    predicted: Mapping[str, NDArray[np.float64]],
    cost: Cost,
    findings: tuple[Finding, ...],
) -> Record:
    """Score and map the test cells that a fitted strategy predicted."""
    embedding = np.asarray(fitted.embed(dataset, split.test), dtype=np.float64)
    labels = dataset.labels[split.test].tolist()
    opened: Checkpoint | None = getattr(fitted, "opened_", None)
    of_validation = _of_validation(dataset, split, predicted)
    metrics = prediction_metrics(labels, predicted["test"], split.classes)
    if of_validation:
        known, groups = of_validation["validation_labels"], of_validation["validation_groups"]
        metrics |= chosen_metrics(labels, predicted["test"], known, predicted["validation"], split.classes, groups)
        metrics |= {"silhouette": silhouette(embedding, labels), "knn_purity": knn_purity(embedding, labels)}
    return Record(
        strategy=fitted.name,
        parameters=_parameters(fitted),
        searched=fitted.search,
        chosen=fitted.chosen,
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
        probabilities=predicted["test"],
        metrics=metrics,
        cost=cost,
        umap=maps.umap_of(embedding, seed=split.training_seed) if of_validation else None,
        history=fitted.history_,
        notes=(*dataset.notes, *split.notes, *fitted.notes(dataset)),
        split_kind=split.kind,
        group_key=split.group_key,
        groups=_groups(dataset, split.test, 1),
        untrained=split.untrained,
        findings=findings,
        budget=split.budget,
        unseen=split.unseen,
        distances=_distances(fitted, dataset, split, embedding) if split.unseen is not None else None,
        training_fingerprint=_training_fingerprint(dataset, split),
        weights_sha256=opened.weights_sha256 if opened is not None else None,
        data_sha256=_data_sha256(dataset),
        n_train_groups=len(split.groups["train"]) if _has_groups(dataset, 0) else None,
        genes_read=len(fitted.genes_) or None,
        left_out=split.left_out,
        **of_validation,
    )


def _of_validation(dataset: Dataset, split: Split, predicted: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Fields of a record about the validation cells; none of a study, which predicts no validation cell."""
    if "validation" not in predicted:
        return {}
    there = len(split.validation) > 0
    return {
        "validation_cells": tuple(dataset.cells[split.validation].tolist()),
        "validation_labels": tuple(dataset.labels[split.validation].tolist()),
        "validation_probabilities": predicted["validation"] if there else None,
        "validation_groups": _groups(dataset, split.validation, 0) if there else None,
    }


def _groups(dataset: Dataset, cells: NDArray[np.int64], side: int) -> tuple[str, ...] | None:
    """Group of each cell, on the side that trains (0) or tests (1); None where that has none."""
    return tuple(dataset.groups[cells].tolist()) if dataset.groups is not None and _has_groups(dataset, side) else None


def _has_groups(dataset: Dataset, side: int) -> bool:
    """Whether groups are known; of two joined sets, of the one that trains (0) or tests (1), which may have none."""
    return dataset.groups is not None and (not dataset.sets or dataset.set_columns[side][1] is not None)


def _parameters(fitted: Strategy) -> dict[str, object]:
    """Hyper-parameters as they are read back from a file, a checkpoint by its label: folders move."""
    opened: Checkpoint | None = getattr(fitted, "opened_", None)
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in fitted.parameters.items()}
    return {**plain, **({} if opened is None else {"checkpoint": opened.label})}


def _training_fingerprint(dataset: Dataset, split: Split) -> str:
    """Hash of all that fitting was given: training and validation cells, their labels, genes."""
    parts = [fingerprint_of(dataset.cells[rows], dataset.labels[rows]) for rows in (split.train, split.validation)]
    return hashlib.sha256("\n".join([*parts, *split.genes]).encode()).hexdigest()


def _data_sha256(dataset: Dataset) -> str:
    """Computed once for the data set, whose cache changed copies share: they have another matrix or other labels."""
    matrix, labels, found = dataset.cache.get("sha256", (None, None, ""))
    if matrix is not dataset.matrix or labels is not dataset.labels:
        found = dataset.fingerprint()
        dataset.cache["sha256"] = dataset.matrix, dataset.labels, found
    return str(found)


def _distances(fitted: Strategy, dataset: Dataset, split: Split, embedding: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean Euclidean distance of each test cell to its nearest training cells, in the representation."""
    from sklearn.neighbors import NearestNeighbors

    train = np.asarray(fitted.embed(dataset, split.train), dtype=np.float64)
    nearest = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(train))).fit(train)
    distances: NDArray[np.float64] = nearest.kneighbors(embedding)[0].mean(axis=1)
    return distances


def evaluate_all(
    strategies: Sequence[Strategy],
    dataset: Dataset,
    splits: Sequence[Split],
    *,
    monitor: Monitor | None = None,
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
    monitor = monitor or Monitor()
    for strategy in strategies:
        for split in splits:
            split.refuse_other(dataset)
            strategy.ensure_applicable(dataset, split)
    steps = [(strategy, split) for split in splits for strategy in strategies]
    repeats = len({split.repeat for split in splits})
    for i, (strategy, split) in enumerate(steps):
        part = monitor.part(i / len(steps), (i + 1) / len(steps), f"{strategy.name}{_which(split, repeats)}: ")
        yield evaluate_checked(strategy, dataset, split, part)


def _which(split: Split, repeats: int) -> str:
    text = f", {split.budget} cells per class" if split.budget is not None else ""
    text += f", {split.unseen} withheld" if split.unseen is not None else ""
    return text + (f", repeat {split.repeat + 1} of {repeats}" if repeats > 1 else "")


def label_efficiency(
    strategies: Sequence[Strategy],
    dataset: Dataset,
    splits: Sequence[Split],
    *,
    budgets: Sequence[int] = BUDGETS,
    monitor: Monitor | None = None,
) -> Iterator[Record]:
    """Evaluate every strategy on every split with fewer labelled cells per class.

    The test cells stay. Training and validation cells together keep to the budget, and a smaller budget's cells
    are among those of a larger one. Budgets that every class of every split already keeps to are passed over: there
    is nothing to take away. Others are measured on all splits, so that each budget is tested on the same cells.

    Parameters
    ----------
    strategies, dataset, splits
        As for `evaluate_all`.
    budgets
        Labelled cells per class.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> cuts = [frostline.split(pbmc)]
    >>> records = label_efficiency(frostline.strategies.build(["pca_logistic"]), pbmc, cuts, budgets=[5, 10])
    >>> [record.budget for record in records]
    [5, 10]
    """
    largest = max((_largest_class(dataset, cut) for cut in splits), default=0)
    smaller = [
        cut.with_budget(dataset, budget) for budget in sorted(set(budgets)) for cut in splits if budget < largest
    ]
    return evaluate_all(strategies, dataset, smaller, monitor=monitor)


def _largest_class(dataset: Dataset, split: Split) -> int:
    """Labelled cells, training and validation, of the class that has the most."""
    split.refuse_other(dataset)
    labelled = dataset.labels[np.concatenate([split.train, split.validation])]
    return int(np.unique(labelled, return_counts=True)[1].max())


def leave_one_class_out(
    strategies: Sequence[Strategy],
    dataset: Dataset,
    splits: Sequence[Split],
    *,
    classes: Sequence[str] | None = None,
    monitor: Monitor | None = None,
) -> Iterator[Record]:
    """Withhold one class after the other from fitting, to see how its cells stand out among the test cells.

    Parameters
    ----------
    strategies, dataset, splits
        As for `evaluate_all`.
    classes
        To be withheld; by default every class that has test cells. Splits on which not even two others would be left
        to train on are passed over: there is nothing to withhold.

    Raises
    ------
    FrostlineError
        A class that was named is unknown, or fewer than three classes have training cells.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> strategies = frostline.strategies.build(["pca_logistic"])
    >>> records = leave_one_class_out(strategies, pbmc, [frostline.split(pbmc)], classes=["Dendritic"])
    >>> [record.unseen for record in records]
    ['Dendritic']
    """
    withheld = []
    for cut in splits:
        cut.refuse_other(dataset)
        trained, tested = set(dataset.labels[cut.train]), set(dataset.labels[cut.test])
        if len(trained) < 3:
            if classes is None:
                continue
            raise FrostlineError(
                f"withholding a class needs three classes with training cells; seen: {', '.join(sorted(trained))}. "
                "Load with another label_key"
            )
        unknown = [name for name in classes or () if name not in trained]
        if unknown:
            raise FrostlineError(
                f"class {str(unknown[0])!r} has no training cell to withhold; known: {', '.join(sorted(trained))}"
            )
        wanted = sorted(trained & tested) if classes is None else classes
        withheld += [cut.without_class(dataset, str(name)) for name in wanted]
    return evaluate_all(strategies, dataset, withheld, monitor=monitor)
