"""From a comparison to a model that is kept: the winner, fitted on all labelled cells and calibrated on unseen ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Interval, Unit

from frostline.annotation.cards import Origin, card_of
from frostline.annotation.certificates import certify
from frostline.annotation.crossfitting import (
    CrossFitted,
    all_labelled,
    cells_stood_for,
    centroids_of,
    cross_fit,
    folds_of,
)
from frostline.annotation.hierarchies import Hierarchy
from frostline.annotation.models import BETWEEN, UNKNOWN, Calibration, Model
from frostline.annotation.references import reference_of
from frostline.bounds import Real, Seed, Whole, hold
from frostline.cells.datasets import Dataset, load_dataset
from frostline.cells.draws import MIN_CELLS
from frostline.cells.gene_table import ensembl_of
from frostline.cells.partitions import Split
from frostline.cells.splits import repeats_of, split
from frostline.comparison.comparisons import Comparison
from frostline.comparison.jobs import Job, alone
from frostline.comparison.verdicts import to_keep
from frostline.encoder.catalogue import CHECKPOINTS
from frostline.encoder.checkpoints import load_checkpoint
from frostline.errors import CheckpointError, DatasetError, FrostlineError
from frostline.evaluation.calibration import fit_temperature, scale
from frostline.monitor import Monitor
from frostline.profiles import Profile, get_profile
from frostline.records import Record, kind_of
from frostline.strategies import STRATEGIES, ProbeObsm, Strategy, build, refuse_unusable_checkpoint, with_like_probes

if TYPE_CHECKING:
    from anndata import AnnData

    from frostline.annotation.novelty import Centroids

LEAST_TEMPERATURE = 1.0
"""Below it a strategy would be made surer than it is, on the strength of few cells without an error."""
COMPARED, FITTED = 0.5, 0.2
"""Share of the work until the comparison is done; of the rest, until the strategy is fitted on all cells."""

Target = Annotated[Real, Interval(ge=0.5, lt=1.0), Unit("share of the answers")]
Alpha = Annotated[Real, Interval(ge=0.0, le=0.5), Unit("share of the known cells")]
ReferenceCells = Annotated[Whole, Interval(ge=0, le=100_000), Unit("cells of each class")]


@dataclass(frozen=True)
class Promise:
    """What a model is to promise, and what it keeps; held to its bounds when it is made."""

    target: float = 0.95
    alpha: float = 0.05
    reference_cells: int = 200

    def __post_init__(self) -> None:
        hold(Target, "target", self.target)
        hold(Alpha, "alpha", self.alpha)
        hold(ReferenceCells, "reference_cells", self.reference_cells)
        if 0 < self.reference_cells < MIN_CELLS:
            raise FrostlineError(
                f"reference_cells is {self.reference_cells}, and must be 0, which keeps none, or at least {MIN_CELLS} "
                "(cells of each class): on fewer a model cannot be fitted again"
            )


@dataclass(frozen=True)
class Fit:
    """A strategy that was fitted on all labelled cells, and what its confidence means."""

    strategy: Strategy
    split: Split
    found: CrossFitted
    calibration: Calibration


def adapt(
    source: str | Path | AnnData | Dataset,
    label_key: str | None = None,
    *,
    group_key: str | None = None,
    strategies: Sequence[str] | None = None,
    profile: str = "quickstart",
    checkpoint: str | Path = "mini",
    target: float = 0.95,
    alpha: float = 0.05,
    reference_cells: int = 200,
    seed: int = 42,
    layer: str | None = None,
    values: str | None = None,
    gene_column: str | None = None,
    monitor: Monitor | None = None,
) -> Model:
    """Compare strategies on labelled cells, and make a model of the winner that labels others.

    The winner is the strategy that the verdict recommends; where it supports no choice, the one of the highest
    macro-F1, of equals the cheapest. With the hyper-parameters of the comparison it is fitted on all labelled cells,
    but 15 % of each class where it needs them to tell when to stop: `max_cells` of a profile limits the comparison, and
    no fit after it. What its confidence means is found on cells that were left out of a fit: whole groups where there
    are groups, else a fifth of the cells at a time.

    Parameters
    ----------
    source, label_key, group_key, layer, values, gene_column
        As for `load_dataset`; of a loaded data set all but the first stay None.
    strategies, profile, checkpoint, seed
        As for `strategies.build` and `split`.
    target
        Accuracy that is promised for what is answered.
    alpha
        Share of known cells that may be called unknown.
    reference_cells
        Cells of each class that the model keeps, as counts: it can then be fitted again on the genes and the depth of
        other cells, and tell whether these differ. They are the donors' data; 0 keeps none, 1 and 2 are too few.
    monitor
        Receives the progress, and is asked between steps whether to stop with `Cancelled`.

    Raises
    ------
    DatasetError
        As of `load_dataset` and `split`; before anything is fitted.
    CheckpointError
        The checkpoint is unknown or cannot be opened.
    FrostlineError
        A name or a number is out of bounds; all strategies failed; nothing was learned beyond the most common class.

    Examples
    --------
    >>> import frostline
    >>> model = frostline.adapt("pbmc68k-reduced", strategies=["pca_knn", "majority"])
    >>> model.strategy.name, len(model.classes)
    ('pca_knn', 10)
    """
    promise, monitor = Promise(target, alpha, reference_cells), monitor or Monitor()
    seed = hold(Seed, "seed", seed)
    built = build(strategies, profile=profile, checkpoint=str(checkpoint))
    refuse_unusable_checkpoint(str(checkpoint), built)
    for each in built:
        _refuse_foreign_embedding(each)
    columns = {"group_key": group_key, "layer": layer, "values": values, "gene_column": gene_column}
    dataset = _loaded(source, label_key, columns)
    _refuse_double_meanings(dataset)
    built = with_like_probes(built, dataset)
    folds_of(dataset, profile=get_profile(profile), seed=seed)  # refused before the comparison, if at all
    comparison = _compared(dataset, built, profile, seed, monitor.part(0.0, COMPARED, "comparing: "))
    name = winner(comparison)
    strategy = next(each for each in built if each.name == name)
    return _kept(strategy, name, comparison, dataset, promise, monitor.part(COMPARED, 1.0))


def _loaded(source: str | Path | AnnData | Dataset, label_key: str | None, columns: dict[str, str | None]) -> Dataset:
    if not isinstance(source, Dataset):
        return load_dataset(source, label_key, **columns)
    said = [name for name, value in {"label_key": label_key, **columns}.items() if value is not None]
    if said:
        raise DatasetError(
            f"{source.name!r} is loaded already, and {', '.join(said)} would have no effect; leave it out, or pass "
            "what it was loaded from"
        )
    return source


def _compared(
    dataset: Dataset, strategies: Sequence[Strategy], profile: str, seed: int, monitor: Monitor
) -> Comparison:
    cuts = [split(dataset, seed=seed, profile=profile, repeat=i) for i in range(repeats_of(dataset, profile=profile))]

    def tell(job: Job) -> None:
        began = [each for each in job.progress.values() if each.state == "running"]
        running = next((each for each in began if not each.message.endswith("done")), None)  # others wait for a repeat
        if running is not None:
            monitor.progress(job.fraction, f"{running.strategy}: {running.message}")

    job = Job(strategies, dataset, cuts, changed=tell)
    job.run(monitor.cancelled)
    if job.comparison is None:
        raise next(iter(job.failures.values()))
    return job.comparison


def keep(
    comparison: Comparison,
    dataset: Dataset,
    strategy: str | None = None,
    *,
    checkpoint: str | Path | None = None,
    target: float = 0.95,
    alpha: float = 0.05,
    reference_cells: int = 200,
    monitor: Monitor | None = None,
) -> Model:
    """Make a model of a strategy that was compared, as `adapt` does of the winner.

    Parameters
    ----------
    comparison, dataset
        What `compare` returned, and what it was made on.
    strategy
        Name of one that was compared; None for the winner.
    checkpoint
        Where its checkpoint is, for one that is a folder.
    target, alpha, reference_cells, monitor
        As for `adapt`.

    Raises
    ------
    DatasetError
        The data set is not the one of the comparison, or groups cannot be left out one after the other.
    CheckpointError
        The checkpoint is not there, or holds other weights.
    FrostlineError
        The strategy was not compared, or learns nothing but the most common class; a number is out of bounds.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> record = frostline.evaluate(frostline.strategies.PcaLogistic(), pbmc, frostline.split(pbmc))
    >>> keep(frostline.compare([record]), pbmc).calibration.temperature >= 1
    True
    """
    promise = Promise(target, alpha, reference_cells)
    record = comparison.of(strategy or winner(comparison))[0]
    _refuse_other_data(record, dataset)
    _refuse_double_meanings(dataset)
    strategy_to_keep = _strategy_of(record, checkpoint)
    return _kept(strategy_to_keep, record.strategy, comparison, dataset, promise, monitor or Monitor())


def winner(comparison: Comparison) -> str:
    """Name the strategy to keep, by the verdict's own rule.

    Raises
    ------
    FrostlineError
        None was learned beyond the most common class.
    """
    name = to_keep(comparison.evidence)
    if name is None:
        raise FrostlineError(
            f"no strategy scores higher than the most common class, so there is nothing to keep: {comparison.verdict}"
        )
    return name


def _refuse_foreign_embedding(strategy: Strategy) -> None:
    if isinstance(strategy, ProbeObsm):
        raise FrostlineError(
            f"{strategy.name} reads adata.obsm[{strategy.obsm_key!r}], which frostline cannot compute for other cells; "
            "leave it out, and keep another strategy"
        )


def _refuse_double_meanings(dataset: Dataset) -> None:
    """Refuse labels that would stand for something else in what a model answers: no label, or several classes."""
    names, column = set(dataset.labels.tolist()), f"adata.obs[{dataset.label_key!r}]"
    if UNKNOWN in names:
        left = f"adata[{column} != {UNKNOWN!r}].copy()"
        raise DatasetError(
            f"some cells have the label {UNKNOWN!r}, which is what a model calls cells of no class that it knows; "
            f"leave them out ({left}), or give them another label",
            line=f"adata = {left}",
        )
    double = next((name for name in sorted(names) if BETWEEN in name and set(name.split(BETWEEN)) <= names), None)
    if double is not None:
        renamed = f"{column} = {column}.astype(str).replace({double!r}, {double.replace(BETWEEN, ' or ')!r})"
        raise DatasetError(
            f"the label {double!r} is how a model answers with several classes at once; rename it: {renamed}",
            line=renamed,
        )


def _refuse_other_data(record: Record, dataset: Dataset) -> None:
    same = record.data_sha256 == dataset.fingerprint() and record.label_key == dataset.label_key
    if not same or record.group_key != dataset.group_key:
        raise DatasetError(
            f"the comparison was made on other cells, labels, groups or values than {dataset.name!r} holds now; "
            "compare on this data set, or load it as it was loaded then"
        )


def _strategy_of(record: Record, checkpoint: str | Path | None) -> Strategy:
    """Hyper-parameters of what was compared."""
    parameters: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in record.parameters.items()
    }
    label = parameters.get("checkpoint")
    if label is not None and label not in CHECKPOINTS:  # a folder, which records name and do not place
        if checkpoint is None:
            raise CheckpointError(
                f"{record.strategy} began from checkpoint {label!r}, a folder; say where it is: "
                "keep(..., checkpoint=FOLDER)"
            )
        parameters["checkpoint"] = str(checkpoint)
        if load_checkpoint(checkpoint).weights_sha256 != record.weights_sha256:
            raise CheckpointError(
                f"{record.strategy} began from {label!r}, and {str(checkpoint)!r} holds other weights"
            )
    return STRATEGIES[kind_of(record.strategy)](**parameters)


def _kept(
    strategy: Strategy, name: str, comparison: Comparison, dataset: Dataset, promise: Promise, monitor: Monitor
) -> Model:
    if strategy.name == "majority":
        raise FrostlineError("majority learns nothing but the most common class; keep another strategy")
    _refuse_foreign_embedding(strategy)
    first, ensembl = comparison.records[0], ensembl_of(dataset.genes)
    with alone():
        made = fit_all(
            strategy, dataset, profile=get_profile(first.profile), seed=first.seed, target=promise.target,
            alpha=promise.alpha, monitor=monitor,
        )  # fmt: skip
    reference = reference_of(dataset, made.found.rows, promise.reference_cells, seed=first.seed)
    card = card_of(Origin(made.strategy, dataset, made.split, made.found, comparison, name))
    monitor.step(1.0, "done")
    return Model(made.strategy, dataset.genes, ensembl, made.calibration, reference, card, made.found)


def fit_all(
    strategy: Strategy,
    dataset: Dataset,
    *,
    profile: Profile,
    seed: int,
    target: float = 0.95,
    alpha: float = 0.05,
    classes: Mapping[str, int] | None = None,
    monitor: Monitor | None = None,
) -> Fit:
    """Fit a strategy on all labelled cells, and calibrate it on fits without some of them.

    Parameters
    ----------
    strategy
        Hyper-parameters; fresh copies are fitted.
    dataset, profile, seed
        As for `split`; the number of cells is not limited by the profile.
    target, alpha, monitor
        As for `adapt`.
    classes
        As for `calibrate`.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> from frostline.strategies import PcaKnn
    >>> pbmc = load_dataset("pbmc68k-reduced")
    >>> fit_all(PcaKnn(), pbmc, profile=get_profile("quickstart"), seed=42).split.sizes["train"]
    700
    """
    monitor = monitor or Monitor()
    folds = folds_of(dataset, profile=profile, seed=seed)
    cut = all_labelled(dataset, strategy, profile=profile, seed=seed)
    strategy.ensure_applicable(dataset, cut)
    fitted = replace(strategy).fit(dataset, cut, monitor.part(0.0, FITTED, "fitting on all labelled cells: "))
    found = cross_fit(strategy, dataset, folds, monitor=monitor.part(FITTED, 1.0, "calibrating: "))
    centroids = centroids_of(fitted, dataset, cut.train)
    return Fit(fitted, cut, found, calibrate(found, centroids, target=target, alpha=alpha, classes=classes))


def calibrate(
    found: CrossFitted,
    centroids: Centroids,
    *,
    target: float = 0.95,
    alpha: float = 0.05,
    classes: Mapping[str, int] | None = None,
) -> Calibration:
    """Say what the confidence of a model means, from cells that fits without them predicted.

    Parameters
    ----------
    found
        What `cross_fit` returned for the strategy of the model.
    centroids
        Classes in the representation of the model itself, as `centroids_of` gives them.
    target
        Accuracy that is promised for what is answered.
    alpha
        Share of known cells that may be called unknown.
    classes
        Labelled cells of each class, where those in `found` are a sample with other shares of the classes: errors are
        then counted on some of them, drawn so that the shares are these.
    """
    counted = np.full(len(found.rows), True)
    if classes is not None:
        weights = cells_stood_for(found.labels, classes)
        counted = np.random.default_rng(0).random(len(weights)) < weights / weights.max()
    groups = None if found.groups is None else found.groups[counted]
    temperature = max(LEAST_TEMPERATURE, fit_temperature(found.probabilities, found.columns) or LEAST_TEMPERATURE)
    scaled = scale(found.probabilities, temperature)
    right = np.asarray(scaled.argmax(axis=1) == found.columns)
    exact = certify(scaled.max(axis=1)[counted], right[counted], target=target, groups=groups)
    return Calibration(
        temperature=temperature,
        certificate=exact,
        energies=found.energies,
        distances=found.distances,
        centroids=centroids,
        hierarchy=Hierarchy.learn(scaled, found.labels, found.classes, exact, found.groups, counted),
        alpha=alpha,
    )
