"""What a kept model makes of queries that it was not made for, on labelled sets that do not ship with frostline.

    python tests/benchmarks/situations.py FOLDER [STRATEGY ...] [--write]

FOLDER holds kang_muscat.h5ad (cluster_id, sample_id, group_id) and pbmc3k_seurat.h5ad (cell_type). Models are made by
`adapt` of one strategy, queries labelled by `annotate`; a table is printed, and what misses its mark ends with 1. Names
and values are changed of 250 cells that the model of pbmc3k_seurat lacks, whose labels as counts under their symbols
are what others are compared with. --write replaces the rows of these strategies in book/annotation.md, and no other's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

import frostline
from frostline.annotation.annotating import Annotation
from frostline.annotation.models import UNKNOWN, Model
from frostline.cells.gene_table import UNKNOWN as NO_GENE
from frostline.cells.gene_table import ensembl_of, gene_table
from frostline.errors import FrostlineError
from frostline.evaluation.metrics import separation

STRATEGIES = ("pca_logistic", "frozen_probe")
LOST = ("QARS", "MATR3", "1-Mar")
"""The model lacks the first two, of which QARS is EPRS1 and QARS1; the last is MARCH1 and MARC1."""
Line = tuple[str, str, bool | None]
"""What was seen, what it should be, and whether it is; None where there is nothing to hold it to."""


def answered(found: Annotation) -> NDArray[np.str_]:
    """(n_cells,) most probable class, of unknown cells too."""
    return np.array(found.classes)[np.nan_to_num(found.probabilities).argmax(axis=1)]


def quarter(adata: AnnData, seed: int = 0) -> tuple[AnnData, AnnData]:
    """Three quarters of the cells, and the others."""
    chosen = np.isin(np.arange(adata.n_obs), np.random.default_rng(seed).permutation(adata.n_obs)[::4])
    return adata[~chosen].copy(), adata[chosen].copy()


def half_of_the_genes(pbmc: AnnData, strategy: str) -> Iterator[Line]:
    """A query that lacks every other gene, drawn at random."""
    labelled, query = quarter(pbmc)
    genes = np.sort(np.random.default_rng(1).permutation(query.n_vars)[::2])
    found = frostline.adapt(labelled, "cell_type", strategies=[strategy]).annotate(query[:, genes].copy())
    accuracy = float((answered(found) == query.obs["cell_type"].astype(str)).mean())
    yield f"accuracy {accuracy:.3f}, {found.report.facts['fit']['done']}", "at least 0.84", accuracy >= 0.84


def b_cells_withheld(kang: AnnData, strategy: str) -> Iterator[Line]:
    """No B cell in the model; the query has a quarter of the others, and all B cells."""
    labelled, query = quarter(kang)
    b = labelled.obs["cluster_id"] == "B cells"
    query = anndata.concat([query, labelled[b]])
    query.var = kang.var
    found = frostline.adapt(labelled[~b].copy(), "cluster_id", strategies=[strategy]).annotate(query)
    hidden = np.asarray(query.obs["cluster_id"] == "B cells")
    auroc = float(separation(-found.obs["frostline_p_known"].to_numpy(), hidden) or np.nan)
    unknown = np.asarray(found.obs["frostline"] == UNKNOWN)
    rejected = float(unknown[~hidden].mean())
    seen = f"AUROC {auroc:.3f}, found {unknown[hidden].mean():.2f}, known called unknown {rejected:.3f}"
    yield seen, "AUROC at least 0.90 at 0.07 at most", auroc >= 0.90 and rejected <= 0.07


def another_donor(kang: AnnData, strategy: str) -> Iterator[Line]:
    """The control cells of donor 107, by a model of those of donor 101."""
    control = kang[kang.obs["group_id"] == "ctrl"]
    one, other = (control[control.obs["sample_id"] == f"ctrl{name}"].copy() for name in (101, 107))
    model = frostline.adapt(one, "cluster_id", strategies=[strategy])
    yield from held(model.annotate(other), other, model.calibration.certificate.target)


def stimulated(kang: AnnData, strategy: str) -> Iterator[Line]:
    """Stimulated cells, by a model of control cells."""
    is_control = np.asarray(kang.obs["group_id"] == "ctrl")
    model = frostline.adapt(kang[is_control].copy(), "cluster_id", group_key="sample_id", strategies=[strategy])
    query = kang[~is_control].copy()
    shift = model.annotate(query).shift
    said = "no notice" if shift is None or not shift.differs else "the notice"
    auroc = "NA" if shift is None or shift.auroc is None else f"{shift.auroc:.2f}"
    yield f"{said} (AUROC {auroc})", "the notice", said == "the notice"


def held(found: Annotation, query: AnnData, target: float) -> Iterator[Line]:
    """Whether the answers at the stated confidence are as often right as was promised, within three points."""
    threshold = found.report.facts["certificate"].get("threshold")
    if threshold is None:
        yield "not certified", "a miss of at most 0.03", None
        return
    sure = found.obs["frostline_confidence"].to_numpy() >= threshold
    right = (answered(found) == query.obs["cluster_id"].astype(str))[sure]
    seen = f"{right.mean():.3f} of {len(right)} answers are right, promised {target:g}"
    yield seen, "a miss of at most 0.03", bool(right.mean() >= target - 0.03)


@dataclass(frozen=True)
class Case:
    """A model of pbmc3k_seurat, some cells that it has not seen, and what it says of them."""

    model: Model
    query: AnnData
    said: NDArray[np.str_]

    @classmethod
    def of(cls, pbmc: AnnData, strategy: str) -> Case:
        labelled, query = quarter(pbmc)
        labelled = labelled[:, ~labelled.var_names.isin(LOST)].copy()
        query = AnnData(sparse.csr_matrix(query.X[:250]), obs=query.obs.iloc[:250, :0], var=query.var[[]])
        model = frostline.adapt(labelled, "cell_type", strategies=[strategy])
        return cls(model, query, answered(model.annotate(query.copy())))

    def compared(self, name: str, query: AnnData, least: float = 1.0) -> Iterator[tuple[str, Line]]:
        """Share of the cells that get the label that they get as they are."""
        found = self.model.annotate(query)
        share = float((answered(found) == self.said).mean())
        seen = f"{share:.3f} of the labels agree, {found.report.facts['fit']['done']}"
        yield name, (seen, "all" if least == 1 else f"at least {least:g}", share >= least)

    def refused(self, name: str, query: AnnData, words: str) -> Iterator[tuple[str, Line]]:
        """Whether it is refused, in words that name what it is."""
        try:
            self.model.annotate(query)
            said = "annotated"
        except FrostlineError as error:
            said = str(error)
        yield name, ("refused" if words in said else said[:80], f"refused: {words}", words in said)


def renamed(query: AnnData, names: list[str], **columns: list[str]) -> AnnData:
    return AnnData(query.X, obs=query.obs.copy(), var=pd.DataFrame(columns, index=names))


def other_names(case: Case) -> Iterator[tuple[str, Line]]:
    """Names of the same genes; of two symbols of one gene the first gets its Ensembl id."""
    query = case.query
    symbols = query.var_names.tolist()
    found = pd.Series(ensembl_of(symbols))
    known = (found != "") & ~found.duplicated()
    ids = [name if some else f"ENSG9{i:010d}" for i, (name, some) in enumerate(zip(found, known, strict=True))]
    mixed = [f"{name}.7" if some else symbol for name, some, symbol in zip(ids, known, symbols, strict=True)]
    yield from case.compared("Ensembl ids with versions", renamed(query, mixed), 0.98)
    strict = renamed(query, [f"{name}.7" for name in ids])
    yield from case.compared(f"the same, {(~known).mean():.0%} unknown to HGNC".replace("%", " %"), strict, 0.98)
    yield from case.compared("CELLxGENE", renamed(query, ids, feature_name=symbols), 0.98)
    yield from case.compared("prefix of the genome", renamed(query, [f"GRCh38_{name}" for name in symbols]))
    both = [f"{symbol}_{name}" for symbol, name in zip(symbols, ids, strict=True)]
    yield from case.compared("symbol and id", renamed(query, both))
    yield from case.compared("symbols of today", renamed(query, today(symbols)))
    half = sparse.csr_matrix(np.floor(query.X.toarray() / 2).astype(np.float32))
    twice = AnnData(
        sparse.hstack([query.X - half, half], format="csr"), obs=query.obs, var=pd.DataFrame(index=symbols * 2)
    )
    yield from case.compared("every gene in two columns", twice)
    rare = int(np.asarray(query.X.sum(axis=0)).ravel().argmin())
    names = [LOST[-1] if i == rare else name for i, name in enumerate(symbols)]
    genes = case.model.annotate(renamed(query, names)).report.facts["genes"]
    listed = [name for name in LOST if name in (*genes["lost_names"], *genes["ambiguous_names"])]
    yield "names of several genes", (f"{', '.join(listed) or 'none'} listed", "all three", len(listed) == 3)


def today(symbols: list[str]) -> list[str]:
    """Symbols that HGNC has now, where one leads to a gene and no other has it already."""
    table, taken = gene_table(), set(symbols)
    found = []
    for name in symbols:
        gene = table.find(name)[0]
        new = table.symbol(gene) if gene > NO_GENE else name
        found.append(name if new in taken else new)
        taken.add(new)
    return found


def scaled(query: AnnData, function: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> AnnData:
    """Values after a function of the shares of a cell."""
    shares = np.asarray(query.X.toarray(), dtype=np.float64)
    shares /= shares.sum(axis=1, keepdims=True)
    return AnnData(sparse.csr_matrix(function(shares).astype(np.float32)), obs=query.obs.copy(), var=query.var.copy())


def other_values(case: Case) -> Iterator[tuple[str, Line]]:
    """Values that can be undone, and values that cannot."""
    query = case.query
    lengths = np.random.default_rng(0).lognormal(size=query.n_vars)
    yield from case.compared("log2", scaled(query, lambda x: np.log2(1e4 * x + 1)))
    yield from case.compared("log10", scaled(query, lambda x: np.log10(1e4 * x + 1)))
    yield from case.compared("CPM", scaled(query, lambda x: 1e6 * x))
    yield from case.compared("log1p of CPM", scaled(query, lambda x: np.log1p(1e6 * x)))
    unit = scaled(query, lambda x: (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-12))
    yield from case.refused("unit variance", unit, "it looks scaled")
    yield from case.refused("RPKM", scaled(query, lambda x: 1e6 * x / lengths), "RPKM")
    bins = scaled(query, lambda x: np.rint(50 * x / x.max(axis=1, keepdims=True)))
    yield from case.refused("bins", bins, "they look binned")


def few_cells(case: Case) -> Iterator[tuple[str, Line]]:
    """One cell, none, and cells without a count."""
    alone = [answered(case.model.annotate(case.query[row].copy()))[0] for row in (0, 100, 249)]
    same = sum(label == case.said[row] for label, row in zip(alone, (0, 100, 249), strict=True))
    yield "one cell", (f"{same} of 3 get their label", "all", same == 3)
    nothing = case.model.annotate(case.query[:0].copy())
    yield "no cell", (f"{len(nothing)} labels, {nothing.obs.shape[1]} columns", "0 labels", len(nothing) == 0)
    query = case.query.copy()
    values = query.X.toarray()
    values[::50] = 0
    query.X = sparse.csr_matrix(values)
    found = case.model.annotate(query)
    empty = np.arange(250) % 50 == 0
    unknown = np.asarray(found.obs["frostline"] == UNKNOWN)[empty]
    share = float((answered(found) == case.said)[~empty].mean())
    seen = f"{unknown.sum()} of {empty.sum()} Unknown, {share:.3f} of the other labels agree"
    yield "cells without a count", (seen, "all", bool(unknown.all()) and share == 1)


def mouse(case: Case) -> Iterator[tuple[str, Line]]:
    """Names as those of mouse genes."""
    names = [name.capitalize() for name in case.query.var_names]
    yield from case.refused("mouse", renamed(case.query, names), "mouse")


def altered(case: Case) -> Iterator[tuple[str, Line]]:
    """One byte of a file of the folder of the model."""
    with tempfile.TemporaryDirectory() as name:
        folder = case.model.save(Path(name) / "model")
        refused = []
        files = sorted(path.name for path in folder.iterdir())
        for file in files:
            content = (folder / file).read_bytes()
            middle = len(content) // 2
            (folder / file).write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
            try:
                frostline.load_model(folder)
            except FrostlineError as error:
                refused += [file] if file in str(error) else []
            (folder / file).write_bytes(content)
    yield "an altered file", (f"{len(refused)} of {len(files)} refused by name", "all", refused == files)


def few_labelled(pbmc: AnnData, strategy: str) -> Iterator[Line]:
    """Fewer than 45 labelled cells."""
    rows = np.concatenate([np.flatnonzero(pbmc.obs["cell_type"] == kind)[:13] for kind in ("B", "NK", "CD8 T")])
    sentence = frostline.adapt(pbmc[rows].copy(), "cell_type", strategies=[strategy]).calibration.certificate.sentence
    yield sentence, "cannot be certified", "cannot be certified" in sentence


SITUATIONS = (
    ("fewer than 45 labelled cells", few_labelled, "pbmc3k_seurat.h5ad"),
    ("half of the genes missing", half_of_the_genes, "pbmc3k_seurat.h5ad"),
    ("B cells withheld", b_cells_withheld, "kang_muscat.h5ad"),
    ("donor 107 after 101", another_donor, "kang_muscat.h5ad"),
    ("stimulated after control", stimulated, "kang_muscat.h5ad"),
)


OF_ONE_MODEL = (other_names, mouse, other_values, few_cells, altered)
BEGIN, END = "<!-- make situations: begin -->", "<!-- make situations: end -->"
HEAD = "| Query | Strategy | Seen | Wanted | |", "| --- | --- | --- | --- | --- |"
PAGE = Path(__file__).parents[2] / "book" / "annotation.md"


def lines_of(folder: Path, strategy: str) -> Iterator[tuple[str, Line]]:
    """All situations, by name."""
    case = Case.of(anndata.read_h5ad(folder / "pbmc3k_seurat.h5ad"), strategy)
    for each in OF_ONE_MODEL:
        yield from each(case)
    for name, situation, file in SITUATIONS:
        yield from ((name, line) for line in situation(anndata.read_h5ad(folder / file), strategy))


def written(text: str, strategies: Sequence[str], rows: list[str]) -> str:
    """A page with these rows, and those of other strategies that it has, in the order of `STRATEGIES`."""
    before, rest = text.split(BEGIN)
    table, after = rest.split(END)
    old = [line for line in table.splitlines() if line.startswith("|")][len(HEAD) :]
    rows = [row for row in old if strategy_of(row) not in strategies] + rows
    rows.sort(key=lambda row: STRATEGIES.index(strategy_of(row)))
    return f"{before}{BEGIN}\n\n{chr(10).join([*HEAD, *rows])}\n\n{END}{after}"


def strategy_of(row: str) -> str:
    return row.split(" | ")[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("strategies", nargs="*", default=STRATEGIES, metavar="STRATEGY", help=", ".join(STRATEGIES))
    parser.add_argument("--write", action="store_true", help="into book/annotation.md")
    asked = parser.parse_args()
    if other := set(asked.strategies) - set(STRATEGIES):
        parser.error(f"{', '.join(sorted(other))}: not one of {', '.join(STRATEGIES)}")
    rows: list[str] = []
    warnings.simplefilter("ignore")
    print(*HEAD, sep="\n")
    for strategy in asked.strategies:
        for name, (seen, wanted, holds) in lines_of(asked.folder, strategy):
            mark = {True: "yes", False: "no", None: "NA"}[holds]
            rows.append(f"| {name} | {strategy} | {seen} | {wanted} | {mark} |")
            print(rows[-1], flush=True)
    if asked.write:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), asked.strategies, rows), encoding="utf-8")
    return int(any(row.endswith("| no |") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
