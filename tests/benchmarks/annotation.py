"""What the promises of a kept model are worth, counted on labelled sets: stated error, unknown cells, other donors.

    python tests/benchmarks/annotation.py [SET ...] [--cells N] [--splits N] [--write]

A set is PATH,LABEL[,GROUP[,CONDITION]]: columns of obs, the last of treatments that are not to be alike. The sets that
ship with frostline come first. `--write` puts the tables into book/annotation.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.annotation import novelty, shifts
from frostline.annotation.adapting import Fit, fit_all
from frostline.annotation.crossfitting import all_labelled, represented
from frostline.cells.datasets import Dataset, load_dataset
from frostline.cells.splits import split
from frostline.evaluation.calibration import scale
from frostline.evaluation.metrics import separation
from frostline.profiles import get_profile
from frostline.strategies import FrozenProbe, HeadTuning, Lora, PcaLogistic, Strategy

PAGE = Path(__file__).parents[2] / "book" / "annotation.md"
MARKS = ("<!-- make annotation: begin -->", "<!-- make annotation: end -->")
SHIPPED = ("pbmc68k-reduced,bulk_labels", "pancreas,cell_type,donor")
STRATEGIES: tuple[Callable[[], Strategy], ...] = (PcaLogistic, FrozenProbe)
TUNED: tuple[Callable[[], Strategy], ...] = tuple(
    partial(kind.from_profile, get_profile("quickstart"), "mini") for kind in (HeadTuning, Lora)
)
"""Of which only the notice is counted: they are distinguished by what they classify from."""
FEWEST = 20
"""Cells that a query has at least."""
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Set:
    """A labelled set, without groups, and which groups and conditions its cells are of."""

    name: str
    dataset: Dataset
    groups: NDArray[np.str_] | None
    group_key: str | None
    conditions: NDArray[np.str_] | None

    @classmethod
    def read(cls, text: str, most: int) -> Set:
        """Read what `PATH,LABEL[,GROUP[,CONDITION]]` names, and draw some of its cells."""
        source, label, group, condition = (*text.split(","), None, None)[:4]
        dataset = load_dataset(source, label)
        draw = np.random.default_rng(0)
        rows = np.sort(draw.permutation(len(dataset))[:most])
        dataset = part(dataset, rows)
        columns = [
            None if key is None else np.asarray(dataset.adata.obs[key].astype(str), str) for key in (group, condition)
        ]
        return cls(Path(source).stem, dataset, columns[0], group, columns[1])


def part(dataset: Dataset, rows: Rows, group_key: str | None = None) -> Dataset:
    """Some cells of a data set, and of what an encoder made of them."""
    cache: dict[Any, Any] = {}
    for key, value in dataset.cache.items():
        if key[0] == "frozen_states":
            cache[key] = type(value)(value.states[rows], value.done[rows], value.seconds[rows])
    return dataclasses.replace(
        dataset,
        adata=dataset.adata[rows].copy(),
        obs=dataset.obs.iloc[rows],
        matrix=dataset.matrix[rows],
        labels=dataset.labels[rows],
        group_key=group_key,
        cache=cache,
    )


def embed_all(dataset: Dataset) -> None:
    """Let the encoder see every cell once."""
    strategy = FrozenProbe().fit(dataset, split(dataset, kind="stratified"))
    strategy.embed(dataset, np.arange(len(dataset)))


# ------------------------------------------------------------------ one model, one query


@dataclass(frozen=True)
class Query:
    """What a model says of labelled cells that it had not seen, some of them of no class of its own."""

    made: Fit
    labels: NDArray[np.str_]
    probabilities: NDArray[np.float64]
    p: NDArray[np.float64]
    """How often a known cell would be as strange."""
    p_confidence: NDArray[np.float64]
    """The same by the largest probability alone."""

    @classmethod
    def of(
        cls, strategy: Strategy, dataset: Dataset, labelled: Rows, rows: Rows, group_key: str | None = None
    ) -> Query:
        """Fit and calibrate on some cells, and label others."""
        known = part(dataset, labelled, group_key)
        made = fit_all(strategy, known, profile=get_profile("quickstart"), seed=42)
        found, calibration = made.strategy.outcome(dataset, rows), made.calibration
        scores = novelty.energies(found.scores), calibration.centroids.distances(represented(found))
        doubt = 1 - made.found.probabilities.max(axis=1)
        return cls(
            made,
            dataset.labels[rows],
            scale(found.probabilities, calibration.temperature),
            novelty.p_known(calibration.energies, calibration.distances, *scores),
            novelty.conformal_p(doubt, 1 - found.probabilities.max(axis=1)),
        )

    @property
    def said(self) -> NDArray[np.str_]:
        """(n,) most probable class."""
        return np.array(self.made.strategy.classes_)[self.probabilities.argmax(axis=1)]

    @property
    def right(self) -> NDArray[np.bool_]:
        return np.asarray(self.said == self.labels)

    @property
    def exact(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which cells are answered with one class, and which of these rightly."""
        threshold = self.made.calibration.certificate.threshold
        answered = self.probabilities.max(axis=1) >= (np.inf if threshold is None else threshold)
        return answered, self.right[answered]

    @property
    def coarser(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_], float]:
        """Which cells are answered with one class or several, which of these rightly, and with how many."""
        calibration = self.made.calibration
        sets = calibration.hierarchy.answers(self.probabilities, calibration.certificate.threshold)
        answered = np.array([len(each) < len(self.made.strategy.classes_) for each in sets])
        right = np.array([label in each for label, each in zip(self.labels, sets, strict=True)])
        sizes = [len(each) for each, yes in zip(sets, answered, strict=True) if yes]
        return answered, right[answered], float(np.mean(sizes)) if sizes else np.nan


def held(target: float, right: NDArray[np.bool_]) -> float:
    """1 where the promise was held, NaN where nothing was answered."""
    return float(right.mean() >= target) if len(right) else np.nan


# ------------------------------------------------------------------ what is counted


def stated(kind: Callable[[], Strategy], data: Set, splits: int) -> Iterator[dict[str, float]]:
    """Random splits: a quarter of the cells is the query."""
    for seed in range(splits):
        cut = split(data.dataset, kind="stratified", seed=seed)
        labelled = np.sort(np.concatenate([cut.train, cut.validation]))
        query = Query.of(kind(), data.dataset, labelled, cut.test)
        (answered, right), (coarse, covered, size) = query.exact, query.coarser
        target = query.made.calibration.certificate.target
        yield {
            "accuracy": float(query.right.mean()),
            "certified": float(query.made.calibration.certificate.threshold is not None),
            "held": held(target, right),
            "answered": float(answered.mean()),
            "right": float(right.mean()) if len(right) else np.nan,
            "sets held": held(target, covered),
            "sets answered": float(coarse.mean()),
            "classes": size,
            "rejected": float((query.p < query.made.calibration.alpha).mean()),
        }


def withheld(kind: Callable[[], Strategy], data: Set) -> Iterator[dict[str, float]]:
    """Each class in turn is taken out of what is fitted and calibrated on."""
    cut = split(data.dataset, kind="stratified", seed=0)
    labelled = np.sort(np.concatenate([cut.train, cut.validation]))
    for name in cut.classes:
        known = labelled[data.dataset.labels[labelled] != name]
        query = Query.of(kind(), data.dataset, known, cut.test)
        hidden = query.labels == name
        unknown = query.p < query.made.calibration.alpha
        yield {
            "AUROC of 1 - probability": float(separation(-query.p_confidence, hidden) or np.nan),
            "AUROC": float(separation(-query.p, hidden) or np.nan),
            "found": float(unknown[hidden].mean()),
            "rejected": float(unknown[~hidden].mean()),
        }


def others(kind: Callable[[], Strategy], data: Set) -> Iterator[tuple[str, dict[str, float]]]:
    """Each group in turn, and each condition, is the query of a model of the others."""
    for what, rows, labelled in apart(data):
        several = data.groups is not None and len(np.unique(data.groups[labelled])) > 1
        query = Query.of(kind(), data.dataset, labelled, rows, data.group_key if several else None)
        _, right = query.exact
        target = query.made.calibration.certificate.target
        yield (
            what,
            {
                "accuracy": float(query.right.mean()),
                "certified": float(query.made.calibration.certificate.threshold is not None),
                "held": held(target, right),
                "missed by": float(max(0.0, target - right.mean())) if len(right) else np.nan,
                "rejected": float((query.p < query.made.calibration.alpha).mean()),
            },
        )


def apart(data: Set) -> Iterator[tuple[str, Rows, Rows]]:
    """(what, rows of the query, rows of the model) of each group of the same condition, and of each condition."""
    for what, column in (("another group", data.groups), ("another condition", data.conditions)):
        for name in np.unique(column) if column is not None else ():
            rows, labelled = np.flatnonzero(column == name), np.flatnonzero(column != name)
            if len(rows) < FEWEST:
                continue
            if what == "another group" and data.conditions is not None:
                labelled = labelled[data.conditions[labelled] == data.conditions[rows[0]]]
            yield what, rows, labelled


def halves(data: Set, splits: int) -> Iterator[tuple[str, Rows, Rows]]:
    """Random halves of the same groups and conditions, in which nothing differs."""
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(data.dataset))
        yield "the same groups", np.sort(order[::2]), np.sort(order[1::2])


def separations(kind: Callable[[], Strategy], data: Set, splits: int) -> Iterator[tuple[str, shifts.Shift]]:
    """What the two-sample test says of cells of the same groups, of each group, and of each condition."""
    for what, rows, labelled in (*halves(data, splits), *apart(data)):
        known, strategy = part(data.dataset, labelled), kind()
        cut = all_labelled(known, strategy, profile=get_profile("quickstart"), seed=42)
        made = strategy.fit(known, cut)
        reference, query = made.outcome(known, np.arange(len(known))), made.outcome(data.dataset, rows)
        kinds = known.labels, np.array(made.classes_)[query.probabilities.argmax(axis=1)]
        groups = None if data.groups is None else data.groups[labelled]
        groups = groups if groups is not None and len(np.unique(groups)) > 1 else None
        yield what, shifts.compare(represented(reference), represented(query), 0, kinds, groups)


def across(first: Set, second: Set) -> shifts.Shift:
    """Whether another set is distinguished from the one that a model was fitted on, both cut to their common genes."""
    there = set(second.dataset.genes)
    common = tuple(gene for gene in first.dataset.genes if gene in there)
    sides = [cut_to(each.dataset, common) for each in (first, second)]
    rows = [np.arange(len(side)) for side in sides]
    strategy = PcaLogistic().fit(sides[0], split(sides[0], kind="stratified"))
    ours, theirs = (strategy.outcome(side, all_rows) for side, all_rows in zip(sides, rows, strict=True))
    said = np.array(strategy.classes_)[theirs.probabilities.argmax(axis=1)]
    return shifts.compare(ours.features, theirs.features, 0, (sides[0].labels, said))


def cut_to(dataset: Dataset, genes: tuple[str, ...]) -> Dataset:
    """Return a data set of some genes only, normalised over them."""
    from sklearn.preprocessing import normalize

    shares = normalize(dataset.expression(np.arange(len(dataset)), genes).expm1(), norm="l1")
    return dataclasses.replace(dataset, matrix=(1e4 * shares).log1p(), genes=genes, cache={})


# ------------------------------------------------------------------ tables


def mean(rows: Sequence[Mapping[str, float]], key: str, form: str = ".2f") -> str:
    """Mean over what was measured; NA where nothing was."""
    values = [row[key] for row in rows if not np.isnan(row[key])]
    return f"{np.mean(values):{form}}" if values else "NA"


def counted(rows: Sequence[Mapping[str, float]], key: str) -> str:
    """How often, of how many."""
    values = [row[key] for row in rows if not np.isnan(row[key])]
    return f"{int(np.sum(values))} of {len(values)}"


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines))


HEADS = {
    "stated": (
        "Set", "Strategy", "Accuracy", "Certified", "Promise held", "Answered", "Right among these",
        "Coarser: held", "answered", "classes in an answer", "Called unknown",
    ),
    "withheld": ("Set", "Strategy", "AUROC of probability", "AUROC of the rule", "Found", "Known called unknown"),
    "others": (
        "Set", "Query", "Strategy", "Accuracy", "Certified", "Promise held", "missed by", "Called unknown",
    ),
    "separation": ("Set", "Query", "Strategy", "Separation (AUROC)", "Notice"),
    "across": ("Model of", "Query", "Separation (AUROC)", "Interval", "Notice"),
}  # fmt: skip


def tables(sets: Sequence[Set], splits: int) -> dict[str, list[list[str]]]:
    """Lines of every table; each is printed as soon as it is known."""
    out: dict[str, list[list[str]]] = {key: [] for key in HEADS}

    def add(key: str, line: list[str]) -> None:
        out[key].append(line)
        print(key, *line, sep=" | ", flush=True)

    for data in sets:
        for kind in STRATEGIES:
            if kind is FrozenProbe:  # parts of a set share what the encoder makes of its cells
                embed_all(data.dataset)
            rows = list(stated(kind, data, splits))
            times = (
                counted(rows, "certified"),
                counted(rows, "held"),
                mean(rows, "answered"),
                mean(rows, "right", ".3f"),
            )
            sizes = (counted(rows, "sets held"), mean(rows, "sets answered"), mean(rows, "classes"))
            first = [data.name, kind.name, mean(rows, "accuracy")]
            add("stated", [*first, *times, *sizes, mean(rows, "rejected")])
            rows = list(withheld(kind, data))
            keys = ("AUROC of 1 - probability", "AUROC", "found", "rejected")
            add("withheld", [data.name, kind.name, *(mean(rows, key) for key in keys)])
            named = list(others(kind, data))
            for what in dict.fromkeys(what for what, _ in named):
                rows = [row for name, row in named if name == what]
                numbers = [mean(rows, "accuracy"), counted(rows, "certified"), counted(rows, "held")]
                numbers += [mean(rows, "missed by", ".3f"), mean(rows, "rejected")]
                add("others", [data.name, what, kind.name, *numbers])
        for kind in (*STRATEGIES, *(TUNED if data.groups is not None else ())):
            shown = list(separations(kind, data, splits))
            for what in dict.fromkeys(what for what, _ in shown):
                found = [shift for name, shift in shown if name == what]
                notices = f"{sum(shift.differs for shift in found)} of {len(found)}"
                add("separation", [data.name, what, kind().name, span(found), notices])
    for first, second in ((a, b) for a in sets for b in sets if a is not b):
        found = across(first, second)
        if found.auroc is not None:
            interval = f"{found.low:.2f} to {found.high:.2f}"
            add("across", [first.name, second.name, f"{found.auroc:.2f}", interval, "yes" if found.differs else "no"])
    return out


def span(found: Sequence[shifts.Shift]) -> str:
    """Smallest and largest AUROC of the two-sample test."""
    values = [shift.auroc for shift in found if shift.auroc is not None]
    return f"{min(values):.2f} to {max(values):.2f}" if values else "NA"


TITLES = {
    "stated": "Random splits: a quarter of the cells is the query, the others are what the model has.",
    "withheld": "Each class withheld in turn, means over classes.",
    "others": "Another donor, or another treatment, than the model has.",
    "separation": "The notice, of random halves, another donor, another treatment; `head` and `lora` where there are "
    "groups.",
    "across": "Another laboratory or technology, with pca_logistic on common genes.",
}


def written(page: str, lines: Mapping[str, Sequence[Sequence[str]]], said: str) -> str:
    """Put the tables into the page, between its marks."""
    before, rest = page.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    blocks = [f"{TITLES[key]}\n\n{markdown(HEADS[key], lines[key])}" for key in HEADS if lines[key]]
    return "\n\n".join([f"{before}{MARKS[0]}", *blocks, said, f"{MARKS[1]}{after}"])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("sets", nargs="*", help="PATH,LABEL[,GROUP[,CONDITION]]")
    parser.add_argument("--cells", type=int, default=1000, help="of a set, at most")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the tables into book/annotation.md")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    sets = [Set.read(text, options.cells) for text in (*SHIPPED, *options.sets)]
    found = tables(sets, options.splits)
    if options.write:
        said = f"At most {options.cells:,} cells of a set, {options.splits} random splits."
        PAGE.write_text(written(PAGE.read_text("utf-8"), found, said), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
