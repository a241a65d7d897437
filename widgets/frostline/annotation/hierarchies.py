"""Coarser answers: classes that a model confuses are merged, and a cell is answered with as few of them as is safe.

No ontology is asked: the hierarchy is learned from what cross-fitted predictions confuse.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from frostline.annotation.certificates import Answers, Certificate, certify, certify_steps
from frostline.classes import class_numbers

THRESHOLDS = 1 - np.geomspace(1e-4, 0.6, 50)
"""Summed probabilities that are tried for coarser answers, falling; the same for all data."""
CONFUSED = 0.01
"""Mean probability that cells of one part are given for the other, below which both are no answer together."""


@dataclass(frozen=True)
class Hierarchy:
    """Classes, merged two by two until all are one, and what coarser answers promise."""

    classes: tuple[str, ...]
    merges: NDArray[np.float64] = field(repr=False)
    """(n_classes - 1, 4) as scipy's `linkage` gives them: two parts, their height, the classes in both."""
    certificate: Certificate = field(repr=False)
    """Of all answers together, exact and coarser: they hold the true class as often as promised."""

    @classmethod
    def learn(
        cls,
        probabilities: NDArray[np.floating],
        labels: NDArray[np.str_],
        classes: Sequence[str],
        exact: Certificate | None = None,
        groups: NDArray[np.str_] | None = None,
        counted: NDArray[np.bool_] | None = None,
    ) -> Self:
        """Merge the classes that are confused most, on average over their members, and certify coarser answers.

        Two classes are as near as the mean probability that cells of one are given for the other.

        Parameters
        ----------
        probabilities
            (n, n_classes) of labelled cells, each by a model that had not seen it.
        labels
            (n,)
        classes
            Of the columns.
        exact
            Certificate of the exact answers, whose promise coarser ones are to hold too; None makes it.
        groups
            (n,) donors, batches, studies.
        counted
            (n,) cells on which answers are certified; None for all. Classes are merged by what all cells say.

        Examples
        --------
        >>> p = np.repeat([[0.6, 0.4, 0.0], [0.4, 0.6, 0.0], [0.0, 0.0, 1.0]], 60, axis=0)
        >>> labels = np.repeat(["CD4 T", "CD8 T", "B"], 60)
        >>> found = Hierarchy.learn(p, labels, ("CD4 T", "CD8 T", "B"))
        >>> found.sets[3]
        ('CD4 T', 'CD8 T')
        """
        from scipy.cluster.hierarchy import linkage
        from scipy.spatial.distance import squareform

        p, columns = np.asarray(probabilities, dtype=np.float64), class_numbers(labels, classes)
        confused = np.zeros((len(classes), len(classes)))
        for i in np.unique(columns):
            confused[i] = p[columns == i].mean(axis=0)
        apart = 1 - (confused + confused.T) / 2
        np.fill_diagonal(apart, 0)
        merges = linkage(squareform(np.clip(apart, 0, 1), checks=False), method="average")
        if counted is not None:
            p, columns, groups = p[counted], columns[counted], None if groups is None else groups[counted]
        exact = exact or certify(p.max(axis=1), p.argmax(axis=1) == columns, groups=groups)
        draft = cls(tuple(classes), merges, exact)
        steps = list(draft._steps(p, columns, exact.threshold, groups))
        return cls(draft.classes, merges, certify_steps(steps, len(p), exact.target, exact.delta, groups))

    @cached_property
    def sets(self) -> tuple[tuple[str, ...], ...]:
        """Classes of every node, in their order: one each first, then as they were merged, all classes last."""
        return tuple(tuple(np.array(self.classes)[row].tolist()) for row in self._members)

    @cached_property
    def _members(self) -> NDArray[np.bool_]:
        """(n_nodes, n_classes) which classes a node holds."""
        rows = list(np.eye(len(self.classes), dtype=bool))
        for first, second in self.merges[:, :2].astype(int):
            rows.append(rows[first] | rows[second])
        return np.array(rows)

    @cached_property
    def offered(self) -> NDArray[np.bool_]:
        """(n_nodes,) whether a node may answer a cell: its parts are confused, and it is not most of the classes."""
        few: NDArray[np.bool_] = self._members.sum(axis=1) <= max(2, len(self.classes) // 2)
        few[len(self.classes) :] &= self.merges[:, 2] <= 1 - CONFUSED
        return few

    @cached_property
    def _ways(self) -> NDArray[np.int64]:
        """(n_classes, longest way) nodes from a class up to the last one, which is repeated."""
        last = len(self._members) - 1
        ways = [np.flatnonzero(column).tolist() for column in self._members.T]
        longest = max(map(len, ways))
        return np.array([way + [last] * (longest - len(way)) for way in ways])

    def answers(self, probabilities: NDArray[np.floating], threshold: float | None) -> list[tuple[str, ...]]:
        """Answer each cell with its most probable class where that is safe, else with what that was merged into.

        From the most probable class it is climbed until the summed probability is at least the certified one. A set of
        more than half of the classes, and of more than two, says little and counts as no answer, as does one of classes
        that the model does not confuse.

        Parameters
        ----------
        probabilities
            (n, n_classes), scaled by the same temperature as those it was learned from.
        threshold
            Certified confidence of one class; None where there is none, and one class needs what a set needs.

        Returns
        -------
        list
            A tuple of classes a cell; all classes for no answer.
        """
        p = np.asarray(probabilities, dtype=np.float64)
        coarse = self.certificate.threshold
        if coarse is None:
            coarse = np.inf
        return [self.sets[node] for node in self._nodes(p, threshold, coarse)[0]]

    def _nodes(
        self, p: NDArray[np.float64], exact: float | None, coarse: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(n,) node that answers each cell, the last for none, and its summed probability."""
        sums = p @ self._members.T
        ways = self._ways[p.argmax(axis=1)]
        along = np.take_along_axis(sums, ways, axis=1)
        enough = along >= coarse
        enough[:, 0] = along[:, 0] >= (coarse if exact is None else exact)
        enough &= self.offered[ways]
        enough[:, -1] = True
        found = np.take_along_axis(ways, enough.argmax(axis=1)[:, None], axis=1)[:, 0]
        return found, sums[np.arange(len(p)), found]

    def _steps(
        self,
        p: NDArray[np.float64],
        columns: NDArray[np.int64],
        exact: float | None,
        groups: NDArray[np.str_] | None,
    ) -> Iterator[Answers]:
        """What would be answered at each summed probability."""
        for coarse in THRESHOLDS:
            nodes, sums = self._nodes(p, exact, float(coarse))
            answered = nodes < len(self._members) - 1
            wrong = ~self._members[nodes, columns]
            yield Answers(float(coarse), sums[answered], wrong[answered], None if groups is None else groups[answered])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it, for saving; texts as UTF-8."""
        text = json.dumps({"classes": self.classes, "certificate": self.certificate.facts()})
        return {"merges": self.merges, "text": np.frombuffer(text.encode(), dtype=np.uint8)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild what `arrays` returned."""
        content = json.loads(arrays["text"].tobytes())
        return cls(tuple(content["classes"]), arrays["merges"], Certificate.from_facts(content["certificate"]))
