"""What a kept model makes of queries that it was not made for, on labelled sets that do not ship with frostline.

    python tests/benchmarks/situations.py FOLDER

FOLDER holds kang_muscat.h5ad (cluster_id, sample_id, group_id) and pbmc3k_seurat.h5ad (cell_type). Models are made by
`adapt` of one strategy, queries labelled by `annotate`; a table is printed, and what misses its mark ends with 1.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import anndata
import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

import frostline
from frostline.annotation.annotating import Annotation
from frostline.annotation.models import UNKNOWN
from frostline.evaluation.metrics import separation

STRATEGIES = ("pca_logistic", "frozen_probe")
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


SITUATIONS = (
    ("half of the genes missing", half_of_the_genes, "pbmc3k_seurat.h5ad"),
    ("B cells withheld", b_cells_withheld, "kang_muscat.h5ad"),
    ("donor 107 after 101", another_donor, "kang_muscat.h5ad"),
    ("stimulated after control", stimulated, "kang_muscat.h5ad"),
)


def main() -> int:
    folder, missed = Path(sys.argv[1]), False
    warnings.simplefilter("ignore")
    print("| Query | Strategy | Seen | Wanted | |\n| --- | --- | --- | --- | --- |")
    for name, situation, file in SITUATIONS:
        adata = anndata.read_h5ad(folder / file)
        for strategy in STRATEGIES:
            for seen, wanted, holds in situation(adata, strategy):
                missed |= holds is False
                mark = {True: "yes", False: "no", None: "NA"}[holds]
                print(f"| {name} | {strategy} | {seen} | {wanted} | {mark} |", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
