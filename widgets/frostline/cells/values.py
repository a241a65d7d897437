"""What the values of a matrix are: counts, values of a common total, their logarithms; found by evidence or asked for.

Two kinds of evidence, both on up to `SAMPLE` cells that lie evenly over the matrix. Undo a transform, then (1) the
values of a cell are whole multiples of its smallest one, since they come from counts and one factor per cell; this
holds for any selection of genes; (2) the totals of the cells agree, since they were normalised to one; this holds as
long as no genes are taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frostline.cells.matrices import parts_of
from frostline.errors import DatasetError, unknown

if TYPE_CHECKING:
    from scipy import sparse

Floats = NDArray[np.floating]

TARGET = 1e4
"""Total of a cell in the values that strategies read: log1p of counts per ten thousand."""
SAMPLE = 2_000
TOLERANCE = 0.01
"""Totals agree when they lie within this share of their median ..."""
AGREEING = 0.95
"""... in this share of the cells."""
WHOLE = 0.5
"""Multiples are whole in this share of the cells; in others the smallest count is above 1. By chance: below 0.2."""
MOST_SHOWN = 2_000
"""Above this, what the logarithm of a count in single precision is undone to may be no whole number."""
FEWEST = 5
"""Cells without which nothing is concluded, but from totals of `TOTALS` that are exact ..."""
EXACT = 1e-3
"""... within this share; by chance the total of a cell does so less than once in a hundred times."""
LARGEST_LOG = 20.0
"""No logarithm of counts or of counts per million is larger: log2(1,000,001) is 19.93."""
MOST = 1e9
"""More than this was never counted or normalised to."""


@dataclass(frozen=True)
class Transform:
    """What was done to values after they were normalised, if they were."""

    name: str
    undo: Callable[[Floats], Floats]
    formula: str
    """Of what `undo` returns, in messages."""


TRANSFORMS = {
    each.name: each
    for each in (
        Transform("linear", lambda x: x, "values"),
        Transform("log1p", np.expm1, "expm1"),
        Transform("log2", lambda x: np.expm1(x * np.log(2)), "2^x - 1"),
        Transform("log10", lambda x: np.expm1(x * np.log(10)), "10^x - 1"),
        Transform("log1p-twice", lambda x: np.expm1(np.expm1(x)), "expm1 of expm1"),
        Transform("sqrt", np.square, "x^2"),
    )
}
NAMES = ("counts", *TRANSFORMS)
"""What can be said about values."""
DECIMALS = "decimals, not logged (such as ambient-corrected counts)"
PRESENCE = "presence (0 or 1)"
LOG_TOTALS = (1e4, 1e6)
"""What cells are usually normalised to before the logarithm is taken."""
TOTALS = {1.0: "fractions", 100.0: "percent", 1e4: "counts per ten thousand", 1e6: "counts per million"}


@dataclass(frozen=True)
class Values:
    """What the values are, and why."""

    transform: Transform
    name: str
    """In a few words."""
    evidence: str
    """What was seen, in one sentence."""
    total: float | None = None
    """What the cells sum to, once the transform is undone, where they agree."""
    whole: bool = False
    """Whether what the transform is undone to are whole numbers: counts."""

    @property
    def is_done(self) -> bool:
        """Whether they are what strategies read, or as near to it as can be found."""
        near = self.total is None or abs(self.total / TARGET - 1) <= TOLERANCE
        return self.transform.name == "log1p" and near and not self.whole


def describe(matrix: sparse.csr_matrix, said: str | None = None) -> Values:
    """Find what the values of a matrix are, or hold what is said of them against them.

    Parameters
    ----------
    matrix
        Canonical, finite and not negative.
    said
        One of `NAMES`; None to find it out.

    Raises
    ------
    DatasetError
        It is unclear, cells differ in it, or what is said is impossible; the message says what was seen.

    Examples
    --------
    >>> from scipy import sparse
    >>> describe(sparse.csr_matrix(np.random.default_rng(0).poisson(2.0, (20, 9)).astype("f4"))).name
    'counts'
    """
    if said is not None and said not in NAMES:
        raise unknown("kind of values", said, NAMES)
    whole = all(np.array_equal(matrix.data[part], np.rint(matrix.data[part])) for part in parts_of(matrix.data))
    sample = _sample(matrix)
    if said is not None:
        return _as_said(sample, said, whole)
    if whole:
        return _counts(sample)
    return _found(sample)


def _sample(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Up to `SAMPLE` cells with a value, evenly spaced, as float64."""
    rows = np.flatnonzero(np.diff(matrix.indptr))
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(np.int64))]
    return matrix[rows].astype(np.float64)


def _counts(sample: sparse.csr_matrix) -> Values:
    highest = _per_cell(np.maximum, sample, sample.data)
    top = float(highest.max())
    if top >= FEWEST and len(highest) >= FEWEST and np.mean(highest == top) >= AGREEING:
        raise DatasetError(
            f"the values are whole numbers, and the largest of nearly every cell is {top:g}: they look binned, not "
            f"counted. Load the counts instead; if these are counts, {_how_to_say('counts')}",
            values="binned",
        )
    name = PRESENCE if top == 1 else "counts"
    return Values(TRANSFORMS["linear"], name, f"whole numbers up to {top:g}", whole=True)


def _found(sample: sparse.csr_matrix) -> Values:
    undone = {name: _undone(sample, each) for name, each in TRANSFORMS.items()}
    totals = {name: _per_cell(np.add, sample, data) for name, data in undone.items()}
    multiples = _multiples(sample, undone)
    fitting = _fitting(multiples)
    found = _of_one_total(totals, fitting) or next((name for name in undone if _are_counts(undone[name])), None)
    found = found or _of_usual_total(totals)
    if found is None:
        _refuse_mixture(multiples)
        if not fitting and sample.data.max() <= LARGEST_LOG:
            raise DatasetError(_question(sample, totals), values="unknown")
        found = fitting[0] if fitting else "linear"
    _refuse_two_totals(totals[found], TRANSFORMS[found])
    return _named(TRANSFORMS[found], totals[found], undone[found], found in fitting)


def _of_one_total(totals: dict[str, Floats], fitting: Collection[str]) -> str | None:
    """Transform under which the cells have one total; None where there is none, or several are as good."""
    agreeing = sorted((name for name in totals if _agree(totals[name])), key=lambda name: _spread(totals[name]))
    agreeing = [name for name in agreeing if name in fitting] or agreeing
    return agreeing[0] if agreeing and _is_closest(*(totals[name] for name in agreeing[:2])) else None


def _of_usual_total(totals: dict[str, Floats]) -> str | None:
    """Transform under which each of a few cells has a usual total, exactly; None where not just one does."""
    found = [name for name, sums in totals.items() if _usual(sums, TOTALS if name == "linear" else LOG_TOTALS)]
    return found[0] if len(found) == 1 else None


def _usual(totals: Floats, usual: Collection[float]) -> float | None:
    """What a few cells were usually normalised to, if all of them were; None where there are enough to see it."""
    found = (total for total in usual if np.allclose(totals, total, rtol=EXACT, atol=0))
    return next(found, None) if len(totals) < FEWEST else None


def _are_counts(data: Floats) -> bool:
    """Whether all are whole numbers, as far as single precision can show it, and most of them small enough for that."""
    small = data[data < MOST_SHOWN]
    return len(small) > len(data) / 2 and bool(np.allclose(small, np.rint(small), rtol=1e-5, atol=1e-4))


def _undone(sample: sparse.csr_matrix, transform: Transform) -> Floats:
    with np.errstate(over="ignore"):
        return transform.undo(sample.data)


def _per_cell(how: np.ufunc, sample: sparse.csr_matrix, data: Floats) -> Floats:
    """One number a cell; every cell of a sample has a value."""
    with np.errstate(over="ignore", invalid="ignore"):
        found: Floats = how.reduceat(data, sample.indptr[:-1])
    return found


def _distances(totals: Floats) -> Floats:
    """How far the totals are from their median, as shares of it; nan where that means nothing."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.abs(totals / np.median(totals) - 1)


def _spread(totals: Floats) -> float:
    return float(np.median(_distances(totals)))


def _share_near(totals: Floats) -> float:
    return float(np.mean(_distances(totals) <= TOLERANCE))


def _agree(totals: Floats) -> bool:
    return len(totals) >= FEWEST and _share_near(totals) >= AGREEING


def _is_closest(first: Floats, second: Floats | None = None) -> bool:
    """Whether the totals agree much better than the next best ones."""
    return second is None or 3 * _spread(first) + 1e-9 < _spread(second)


def _multiples(sample: sparse.csr_matrix, undone: dict[str, Floats]) -> dict[str, Floats]:
    """For each transform and cell whether its values are whole multiples of its smallest; nan where few can show it."""
    lengths = np.diff(sample.indptr)
    found = {}
    for name, data in undone.items():
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            ratio = data / np.repeat(_per_cell(np.minimum, sample, data), lengths)
            wide = (ratio > 1.05) & (ratio < 10.5)  # larger ones lie near a whole number by rounding alone
            near = wide & (np.abs(ratio - np.rint(ratio)) < 0.05)
        votes = _per_cell(np.add, sample, wide.astype(float))
        fits = (_per_cell(np.add, sample, near.astype(float)) >= 0.9 * votes).astype(float)
        found[name] = np.where(votes >= 3, fits, np.nan)
    return found


def are_multiples(sample: sparse.csr_matrix, undone: Floats) -> bool:
    """Whether the values of enough cells, each with one, are whole multiples of its smallest."""
    return bool(_fitting(_multiples(sample, {"": undone})))


def _fitting(multiples: dict[str, Floats]) -> list[str]:
    """Transforms under which the values of enough cells are whole multiples, about as many as under the best one."""
    known = {name: cells[~np.isnan(cells)] for name, cells in multiples.items()}
    shares = {name: float(cells.mean()) for name, cells in known.items() if len(cells) >= FEWEST}
    best = max(shares.values(), default=0.0)
    return [name for name, share in shares.items() if share >= max(WHOLE, best - 0.05)]


def _refuse_mixture(multiples: dict[str, Floats]) -> None:
    """Refuse cells of which most fit one transform, and nearly all that do not fit it fit another one.

    A cell may fit any transform by chance, the likelier the fewer values it has; nearly all of many do not.
    """
    table = np.array(list(multiples.values()))
    names, leader = list(multiples), int(np.nansum(table, axis=1).argmax())
    others = table[:, (table[leader] != 1) & ~np.isnan(table).all(axis=0)]
    if others.shape[1] < max(FEWEST, 0.05 * table.shape[1]):
        return
    shares = np.nan_to_num(others).mean(axis=1)
    other = int(shares.argmax())
    if shares[other] >= WHOLE:
        raise DatasetError(
            f"the cells hold different kinds of values: some look {names[leader]}, others {names[other]}; were sets "
            "joined that had been normalised differently? Bring them to one kind first, or load counts (layer=...)",
            values="mixed",
        )


def _refuse_two_totals(totals: Floats, transform: Transform) -> None:
    """Refuse cells of which some were normalised to one total and the others to another one."""
    near = np.isclose(totals, totals[0], rtol=2 * TOLERANCE, atol=0)
    parts = totals[near], totals[~near]
    if not _agree(totals) and all(_agree(part) for part in parts if len(part)) and min(map(len, parts)) >= FEWEST:
        one, other = (_number(float(np.median(part))) for part in parts)
        raise DatasetError(
            f"the cells were normalised to different totals: row sums of {transform.formula} are {one} in "
            f"{near.mean():.0%} of cells and {other} in the others. Normalise them alike, or load counts (layer=...)",
            values="mixed",
        )


def _named(transform: Transform, totals: Floats, undone: Floats, multiples: bool) -> Values:
    total = float(np.median(totals)) if _agree(totals) else _usual(totals, TOTALS)
    near = np.rint(undone)
    whole = bool((near >= 1).all() and np.allclose(undone, near, rtol=1e-4, atol=1e-3))
    if total is not None:
        share = f"{TOLERANCE:.0%} in {_share_near(totals):.0%} of cells"
        seen = f"row sums of {transform.formula} are {_number(total)} within {share}"
    else:
        low, high = np.quantile(totals, (0.05, 0.95))
        seen = f"row sums of {transform.formula} differ: {_number(low)} to {_number(high)} in 90 % of cells"
    if multiples:
        seen += f"; {transform.formula} are whole multiples of the smallest in a cell, as counts are"
    return Values(transform, _name(transform, total, whole, multiples), seen, total, whole)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


def _name(transform: Transform, total: float | None, whole: bool, multiples: bool) -> str:
    """What the values are, in a few words; 'normalised' is said only where the totals agree."""
    if transform.name == "linear":
        if total is None:
            return "counts times a factor per cell" if multiples else DECIMALS
        unit = next((unit for known, unit in TOTALS.items() if abs(total / known - 1) <= TOLERANCE), "normalised")
        return f"{unit}, not logged"
    if whole:
        return f"{transform.name} of counts"
    if total is None:
        return f"{transform.name}, row sums differ"
    if transform.name == "log1p":
        near = abs(total / TARGET - 1) <= TOLERANCE
        return "log-normalised" if near else f"log-normalised to {_number(total)}"
    return f"{transform.name} of {_number(total)} a cell"


def _question(sample: sparse.csr_matrix, totals: dict[str, Floats]) -> str:
    low, high = float(sample.data.min()), float(sample.data.max())
    sums = totals["linear"]
    return (
        f"what the values are is unclear: they go from {low:.3g} to {high:.3g} with decimals, sum to "
        f"{_number(float(sums.min()))} to {_number(float(sums.max()))} a cell, and look like counts or values of a "
        f"common total under no transform that is known ({', '.join(TRANSFORMS)}), or under several. Load the counts "
        f"(layer=...), or {_how_to_say('log1p')}, or another of {', '.join(NAMES)}"
    )


def _how_to_say(name: str) -> str:
    return (
        f"say what they are: load_dataset(..., values={name!r}), in a notebook VALUES = {name!r}, "
        f"for frostline annotate --values {name}"
    )


def _as_said(sample: sparse.csr_matrix, said: str, whole: bool) -> Values:
    if said == "counts" or (said == "linear" and whole):
        if not whole:
            seen = sample.data[sample.data != np.rint(sample.data)][:1]
            example = f", such as {seen[0]:.4g}" if len(seen) else ""
            raise DatasetError(
                f"values='counts' was said, but not all are whole numbers{example}; counts with decimals, and what "
                "was normalised and not logged, is values='linear'"
            )
        top = sample.data.max()
        return Values(TRANSFORMS["linear"], "counts", f"said to be {said}; whole numbers up to {top:g}", whole=True)
    transform = TRANSFORMS[said]
    undone = _undone(sample, transform)
    if said != "linear" and (whole or undone.max() > MOST):
        seen = (
            "all are whole numbers" if whole else f"{sample.data.max():.4g} would stand for {undone.max():.3g} counts"
        )
        raise DatasetError(f"values={said!r} was said, but {seen}; what else they can be: {', '.join(NAMES)}")
    found = _named(transform, _per_cell(np.add, sample, undone), undone, False)
    return replace(found, evidence=f"said to be {said}; {found.evidence}")


def log_normalise(matrix: sparse.csr_matrix, values: Values) -> None:
    """Turn values into log1p of counts per ten thousand, in place.

    Where no total is known, because genes were selected after the cells had been normalised, the scale stays as it is.

    Examples
    --------
    >>> from scipy import sparse
    >>> cells = sparse.csr_matrix(np.array([[1.0, 3.0], [2.0, 2.0]], dtype="f4"))
    >>> log_normalise(cells, describe(cells))
    >>> np.expm1(cells.toarray()).round().tolist()
    [[2500.0, 7500.0], [5000.0, 5000.0]]
    """
    if values.is_done:
        return
    if values.transform.name != "linear":
        for part in parts_of(matrix.data):
            matrix.data[part] = values.transform.undo(matrix.data[part].astype(np.float64))
    if values.transform.name == "linear" or values.whole:
        totals = np.asarray(matrix.sum(axis=1)).ravel()
        scale = np.divide(TARGET, totals, where=totals > 0, out=np.zeros_like(totals))
        for part in parts_of(matrix.data):
            values_of_each = np.diff(np.clip(matrix.indptr, part.start, part.stop))
            matrix.data[part] *= np.repeat(scale, values_of_each)
    elif values.total is not None:
        matrix.data *= np.float32(TARGET / values.total)
    np.log1p(matrix.data, out=matrix.data)
