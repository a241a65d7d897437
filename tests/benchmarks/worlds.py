"""What a verdict is worth: worlds whose truth is known are simulated, compared, and the claims counted.

    python tests/benchmarks/worlds.py [--runs N] [--seed N] [--only TEXT] [--write]

prints a table: how often a strategy is called better that is not (at most 5 % is promised), how often the 95 %
intervals hold the truth, how often a true difference is found. `--write` puts it into book/protocol.md. The exit status
is 1 when a promise is broken by more than the simulation's own noise. Another seed gives fresh worlds.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.comparison.comparisons import Comparison, compare
from frostline.records import Cost, Record

PAGE = Path(__file__).parents[2] / "book" / "protocol.md"
MARKS = ("<!-- make statistics: begin -->", "<!-- make statistics: end -->")
FALSE_ALARMS, COVERAGE = 0.06, 0.93
"""Promises, with a little room; two standard errors of the simulation are added."""
TRUTH_STUDIES = 150
"""Studies whose mean is taken for the truth."""
Numbers = NDArray[np.int64]


@dataclass
class Split:
    """One repeat of a study; classes are numbers."""

    labels: Numbers
    said: dict[str, Numbers]
    cells: list[str]
    n_train: int
    groups: list[str] | None = None
    n_train_groups: int | None = None


@dataclass
class Study:
    """What one laboratory would see."""

    kind: str
    splits: list[Split]
    truth: dict[str, float] = field(default_factory=dict)
    """Macro-F1 of the fitted models, where the claim is of them."""


def macro_f1(labels: Numbers, said: Numbers) -> float:
    """By plain counts, apart from the package."""
    names = np.unique(labels)
    hits = np.array([((labels == name) & (said == name)).sum() for name in names])
    return float((2 * hits / [(labels == name).sum() + (said == name).sum() for name in names]).mean())


# ------------------------------------------------------------------ worlds


@dataclass
class Laboratories:
    """Nearest-centroid learners, each on features of its own, in one geometry: equally good where `noise` is 1.

    Groups shift all cells and each class of theirs, some groups more than others. What learners share of every effect
    is `shared`; they share the training cells anyway.
    """

    seed: int
    geometry: int = 99
    noise: tuple[float, ...] = (1.0, 1.0)
    cells: int = 60
    shift: float = 0.7
    class_shift: float = 0.5
    unlike: float = 0.4
    distance: float = 1.5
    classes: int = 6
    dims: int = 8
    shared: float = 0.8

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.names = tuple(f"s{i}" for i in range(len(self.noise)))
        self.centres = np.random.default_rng(self.geometry).normal(size=(self.classes, self.dims)) * self.distance
        self.shares = np.geomspace(1, 0.04, self.classes) / np.geomspace(1, 0.04, self.classes).sum()

    def drawn(self, n: int, shares: NDArray[Any], size: float = 0.0, at_least: int = 0) -> tuple[Numbers, list[Any]]:
        """Labels of cells of one group, and the features of every learner."""
        labels = self.rng.choice(self.classes, size=n, p=shares)
        for name in range(self.classes):
            if (labels == name).sum() < at_least:
                labels[np.flatnonzero(labels == 0)[:at_least]] = name
        parts = len(self.names) + 1
        shift = self.rng.normal(size=(parts, self.dims)) * self.shift * size
        of_class = self.rng.normal(size=(parts, self.classes, self.dims)) * self.class_shift * size
        noise = self.rng.normal(size=(parts, n, self.dims))

        def mixed(effect: NDArray[Any], i: int) -> NDArray[Any]:
            return np.sqrt(self.shared) * effect[-1] + np.sqrt(1 - self.shared) * effect[i]

        return labels, [
            self.centres[labels] + mixed(shift, i) + mixed(of_class, i)[labels] + mixed(noise, i) * k
            for i, k in enumerate(self.noise)
        ]

    def predict(self, labels: Numbers, x: NDArray[Any], x_test: NDArray[Any]) -> Numbers:
        """Train on some cells, predict others."""
        one_hot = np.eye(self.classes)[labels]
        counts = one_hot.sum(axis=0)
        means = one_hot.T @ x / np.maximum(counts, 1)[:, None]
        scores = x_test @ means.T - (means**2).sum(axis=1) / 2 + np.log(np.maximum(counts, 0.5) / counts.sum())
        scores[:, counts == 0] = -np.inf
        return scores.argmax(axis=1)

    def by_group(self, n_groups: int, repeats: int | None = None) -> Study:
        """A quarter of the groups tests and 15 % validate, in turn, until each has tested."""
        sizes = np.clip(self.rng.lognormal(np.log(self.cells), 0.4, n_groups), 20, 2000).astype(int)
        spread = self.rng.lognormal(0, self.unlike, n_groups)
        data = [self.drawn(n, self.rng.dirichlet(self.shares * 25), s) for n, s in zip(sizes, spread, strict=True)]
        n_test, n_validation = max(1, round(n_groups / 4)), max(1, round(0.15 * n_groups)) if n_groups > 2 else 0
        order, splits = self.rng.permutation(n_groups), []
        for repeat in range(repeats or -(-n_groups // n_test)):
            turn = np.roll(order, -n_test * repeat)
            test, train = turn[:n_test], turn[n_test + n_validation :]
            splits.append(self._split(data, test, train))
        return Study("group", splits)

    def _split(self, data: list[Any], test: Numbers, train: Numbers) -> Split:
        known = np.concatenate([data[i][0] for i in train])
        said = {
            name: np.concatenate(
                [self.predict(known, np.concatenate([data[i][1][s] for i in train]), data[j][1][s]) for j in test]
            )
            for s, name in enumerate(self.names)
        }
        groups = [f"d{j:02d}" for j in test for _ in data[j][0]]
        cells = [f"d{j:02d}-{i}" for j in test for i in range(len(data[j][0]))]
        return Split(np.concatenate([data[j][0] for j in test]), said, cells, len(known), groups, len(train))

    def at_random(self, n: int, repeats: int, *, external: bool = False) -> Study:
        """Random splits of the cells of one group; `external`: the same test cells each time."""
        labels, x = self.drawn(n, self.shares, at_least=4)
        splits: list[Split] = []
        fixed: tuple[Numbers, Numbers] | None = None
        for _ in range(repeats):
            test, train = self._stratified(labels) if fixed is None else fixed
            if external:
                fixed = (test, np.setdiff1d(np.arange(n), test))
                train = self.rng.choice(fixed[1], size=int(0.8 * len(fixed[1])), replace=False)
            said = {s: self.predict(labels[train], x[i][train], x[i][test]) for i, s in enumerate(self.names)}
            splits.append(Split(labels[test], said, [f"c{i}" for i in test], len(train)))
        return Study("cross" if external else "stratified", splits)

    def _stratified(self, labels: Numbers) -> tuple[Numbers, Numbers]:
        test, train = [], []
        for name in range(self.classes):
            rows = self.rng.permutation(np.flatnonzero(labels == name))
            a, b = max(1, round(0.25 * len(rows))), max(1, round(0.15 * len(rows)))
            test.append(rows[:a])
            train.append(rows[a + b :])
        return np.concatenate(test), np.concatenate(train)


@dataclass
class FittedModels:
    """Two fitted models on some cells of each class, right with a probability by class, and often on the same cells."""

    seed: int
    sizes: tuple[int, ...]
    right: tuple[float, float] = (0.9, 0.6)
    """Of the first class and of the last one."""
    gap: float = 0.0
    """By which the second model is right less often."""
    other_classes: bool = False
    """Whether the second model is good at the classes at which the first is bad, at the same macro-F1."""
    shared: float = 0.6

    def __post_init__(self) -> None:
        self.rng, n = np.random.default_rng(self.seed), len(self.sizes)
        first = np.linspace(*self.right, n)
        self.accuracy = [first, first - self.gap]
        wrong = np.tile(np.sqrt(self.sizes), (n, 1))
        np.fill_diagonal(wrong, 0)
        self.wrong = wrong / wrong.sum(axis=1, keepdims=True)
        if self.other_classes:
            self.accuracy[1] = self._even(np.linspace(0.65, 0.9, n))

    def population(self, accuracy: NDArray[Any]) -> float:
        """Macro-F1 on endless cells of these shares."""
        sizes, hits = np.array(self.sizes), np.array(self.sizes) * accuracy
        claimed = hits + ((sizes * (1 - accuracy))[:, None] * self.wrong).sum(axis=0)
        return float((2 * hits / (sizes + claimed)).mean())

    def _even(self, accuracy: NDArray[Any]) -> NDArray[Any]:
        """Moved on the logit scale until the macro-F1 is that of the first model."""
        from scipy.optimize import brentq
        from scipy.special import expit, logit

        def apart(by: float) -> float:
            return self.population(self.accuracy[0]) - self.population(expit(logit(accuracy) + by))

        found: NDArray[Any] = expit(logit(accuracy) + brentq(apart, -5, 5))
        return found

    def study(self) -> Study:
        from scipy.stats import norm

        labels = np.repeat(np.arange(len(self.sizes)), self.sizes)
        n, luck = len(labels), self.rng.normal(size=len(labels))

        def mistaken() -> Numbers:
            places = (self.rng.random(n)[:, None] > self.wrong.cumsum(axis=1)[labels]).sum(axis=1)
            return np.minimum(places, len(self.sizes) - 1)

        first = mistaken()
        errors, said = (first, np.where(self.rng.random(n) < 0.6, first, mistaken())), {}
        for i, (accuracy, error) in enumerate(zip(self.accuracy, errors, strict=True)):
            u = norm.cdf(np.sqrt(self.shared) * luck + np.sqrt(1 - self.shared) * self.rng.normal(size=n))
            said[f"s{i}"] = np.where(u < accuracy[labels], labels, error)
        truth = {f"s{i}": self.population(accuracy) for i, accuracy in enumerate(self.accuracy)}
        return Study("stratified", [Split(labels, said, [f"c{i}" for i in range(n)], int(2.4 * n))], truth)


# ------------------------------------------------------------------ what frostline says of a study


def compared(study: Study) -> Comparison:
    """Compare records of a study, as if strategies had been evaluated."""
    return compare(list(_records(study)))


def _records(study: Study) -> Iterator[Record]:
    seen = {int(i) for part in study.splits for numbers in (part.labels, *part.said.values()) for i in numbers}
    classes = tuple(f"class{i:02d}" for i in sorted(seen))
    place = {number: i for i, number in enumerate(sorted(seen))}
    for repeat, part in enumerate(study.splits):
        labels = tuple(f"class{i:02d}" for i in part.labels)
        for i, (name, said) in enumerate(part.said.items()):
            probabilities = np.full((len(labels), len(classes)), 0.01)
            probabilities[np.arange(len(labels)), [place[int(number)] for number in said]] = 0.9
            probabilities /= probabilities.sum(axis=1, keepdims=True)
            yield Record(
                strategy=name,
                parameters={},
                dataset="simulated",
                label_key="label",
                profile="full",
                seed=42,
                repeat=repeat,
                fingerprint=f"split-{repeat}",
                test_fingerprint=hashlib.sha256(repr((part.cells, labels)).encode()).hexdigest(),
                sizes={"train": part.n_train, "validation": 0, "test": len(labels), "genes": 100},
                classes=classes,
                cells=tuple(part.cells),
                labels=labels,
                probabilities=probabilities,
                metrics={"macro_f1": macro_f1(part.labels, said), "accuracy": float((part.labels == said).mean())},
                cost=Cost({"fit": 1.0 + i}, 100 * (i + 1), 1000),
                split_kind=study.kind,
                group_key=None if part.groups is None else "donor",
                groups=None if part.groups is None else tuple(part.groups),
                n_train_groups=part.n_train_groups,
            )


# ------------------------------------------------------------------ counting


@dataclass(frozen=True)
class Scenario:
    """A design, in a world."""

    design: str
    world: str
    make: Callable[[], Study]
    learners: Laboratories | None = None
    """Where the truth is the mean over studies of it; None where each study brings its own."""
    marginal: bool = True
    """Whether the intervals claim to hold that truth; those of fitted models do not."""

    @property
    def name(self) -> str:
        return f"{self.design}, {self.world}"


@dataclass(frozen=True)
class Row:
    """How often what happened."""

    scenario: Scenario
    runs: int
    difference: float
    """True difference of the first two strategies."""
    false: float
    """Studies with a claim that is not true."""
    found: float | None
    """Pairs with a true difference that were called rightly."""
    held: float | None
    """Intervals of differences that held the truth."""
    held_single: float | None
    untested: float
    """Pairs without a test."""
    half: float | None
    """Median half width of the interval of a difference."""

    @property
    def problems(self) -> list[str]:
        """Promises that are broken by more than the noise of the simulation."""
        noise = [2 * np.sqrt(p * (1 - p) / self.runs) for p in (FALSE_ALARMS, COVERAGE)]
        found = ["false claims"] if self.false > FALSE_ALARMS + noise[0] else []
        held = {"differences": self.held, "strategies": self.held_single} if self.scenario.marginal else {}
        return found + [f"intervals of {k}" for k, v in held.items() if v is not None and v < COVERAGE - noise[1]]


def true_scores(learners: Laboratories, make: Callable[[], Study]) -> dict[str, dict[str, float]]:
    """Estimand -> strategy -> macro-F1, mean over many studies; the same where strategies are alike by construction."""
    pooled, groups = [], []
    for study in (make() for _ in range(TRUTH_STUDIES)):
        pooled.append(np.mean([[macro_f1(s.labels, x) for x in s.said.values()] for s in study.splits], axis=0))
        for s in study.splits if study.kind == "group" else []:
            for rows in (np.array(s.groups) == name for name in dict.fromkeys(s.groups or ())):
                groups.append([macro_f1(s.labels[rows], x[rows]) for x in s.said.values()])
    found = {"pooled": np.mean(pooled, axis=0)}
    found["donors"] = np.mean(groups, axis=0) if groups else found["pooled"]
    if len(set(learners.noise)) == 1:
        found = {key: np.full(len(learners.names), value.mean()) for key, value in found.items()}
    return {key: dict(zip(learners.names, value.tolist(), strict=True)) for key, value in found.items()}


def counted(scenario: Scenario, runs: int) -> Row:
    """Compare as many studies and count."""
    truths = None if scenario.learners is None else true_scores(scenario.learners, scenario.make)
    false, right, held, single, untested, half, apart = [], [], [], [], [], [], 0.0
    for study in (scenario.make() for _ in range(runs)):
        comparison = compared(study)
        truth = study.truth if truths is None else truths[comparison.ground.estimand]
        wrong = False
        for test in comparison.tests:
            true = truth[test.first] - truth[test.second]
            says = {"better": 1, "worse": -1}.get(test.claim, 0)
            wrong |= (says * true < 1e-9 and says != 0) or (test.claim == "equivalent" and abs(true) >= 0.0499)
            right += [says * true > 0] if abs(true) > 1e-9 else []
            untested.append(test.p_adjusted is None)
            if test.interval is not None:
                held.append(test.interval.low - 1e-9 <= true <= test.interval.high + 1e-9)
                half.append((test.interval.high - test.interval.low) / 2)
        false.append(wrong)
        ends = {name: interval for name, interval in comparison.intervals.items() if interval is not None}
        single += [interval.low - 1e-9 <= truth[name] <= interval.high + 1e-9 for name, interval in ends.items()]
        apart = truth["s0"] - truth["s1"]

    def mean(values: Sequence[bool]) -> float | None:
        return float(np.mean(values)) if values else None

    width = float(np.median(half)) if half else None
    numbers = (mean(right), mean(held), mean(single))
    return Row(scenario, runs, apart, float(np.mean(false)), *numbers, float(np.mean(untested)), width)


def scenarios(seed: int) -> Iterator[Scenario]:
    """All designs, with strategies that are alike and with some that are not."""
    seeds, geometry = iter(range(seed, seed + 1000)), 99 + seed
    for n_groups, n in ((2, 2), (3, 2), (4, 2), (4, 4), (6, 2), (8, 4), (12, 2), (20, 4)):
        world = Laboratories(next(seeds), geometry, (1.0,) * n)
        make = lambda w=world, g=n_groups: w.by_group(g)  # noqa: E731
        yield Scenario(f"{n_groups} groups", f"{n} alike", make, world)
    for n_groups in (4, 6, 8, 10, 20):
        world = Laboratories(
            next(seeds), geometry, (1.0, 1.25), 200, shift=0.3, class_shift=0.2, unlike=0.25, distance=1.2
        )
        make = lambda w=world, g=n_groups: w.by_group(g)  # noqa: E731
        yield Scenario(f"{n_groups} groups", "one worse", make, world)
    world = Laboratories(next(seeds), geometry, cells=120)
    yield Scenario("4 groups, 1 repeat", "2 alike", lambda w=world: w.by_group(4, 1), world)
    for repeats, noise in ((1, 1.0), (3, 1.0), (5, 1.0), (10, 1.0), (3, 1.25), (5, 1.25), (10, 1.25)):
        world = Laboratories(next(seeds), geometry, (1.0, noise))
        make = lambda w=world, r=repeats: w.at_random(1000, r)  # noqa: E731
        said = "2 alike" if noise == 1 else "one worse"
        yield Scenario(f"{repeats} random split{'s' * (repeats > 1)}", said, make, world, marginal=repeats > 1)
    world = Laboratories(next(seeds), geometry)
    make = lambda w=world: w.at_random(1000, 3, external=True)  # noqa: E731
    yield Scenario("one external set, 3 repeats", "2 alike", make, world, marginal=False)
    for sizes in ((60, 60, 60), (100, 30, 10, 3), (60, 20, 5, 2, 1, 1)):
        design = f"{sum(sizes)} cells ({', '.join(map(str, sizes))})"
        yield Scenario(design, "2 alike", FittedModels(next(seeds), sizes).study)
        yield Scenario(design, "good at other classes", FittedModels(next(seeds), sizes, other_classes=True).study)
        yield Scenario(design, "97 % right", FittedModels(next(seeds), sizes, (0.97, 0.97)).study)
        yield Scenario(design, "one worse", FittedModels(next(seeds), sizes, (0.85, 0.85), 0.1).study)


def table(rows: Sequence[Row]) -> str:
    """Markdown of all rows."""

    def shown(value: float | None, form: str = ".2f") -> str:
        return "-" if value is None else f"{value:{form}}"

    head = ["Design", "Strategies", "True difference", "False claims", "Intervals hold it", "of one strategy", "Found"]
    head += ["Not tested", "Half width"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        numbers = [row.false, row.held, row.held_single, row.found, row.untested, row.half]
        difference = shown(row.difference, ".3f") if row.found is not None else "0"
        lines.append([row.scenario.design, row.scenario.world, difference, *map(shown, numbers)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def written(page: str, rows: Sequence[Row], seed: int) -> str:
    """Put the table into the page, between its marks."""
    before, rest = page.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    runs = sorted({row.runs for row in rows})
    said = f"{' to '.join(map(str, runs))} studies a row, seed {seed}; two standard errors of .05 are "
    said += f"{2 * np.sqrt(0.05 * 0.95 / runs[0]):.2f}."
    return f"{before}{MARKS[0]}\n\n{table(rows)}\n\n{said}\n\n{MARKS[1]}{after}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="designs and worlds whose name contains this")
    parser.add_argument("--write", action="store_true", help="put the table into book/protocol.md")
    options = parser.parse_args()
    rows = []
    for scenario in scenarios(options.seed):
        if options.only in scenario.name:
            rows.append(counted(scenario, options.runs))
            print(table(rows[-1:]).splitlines()[-1], *rows[-1].problems, flush=True)
    if options.write:
        PAGE.write_text(written(PAGE.read_text("utf-8"), rows, options.seed), "utf-8")
    return int(any(row.problems for row in rows))


if __name__ == "__main__":
    sys.exit(main())
