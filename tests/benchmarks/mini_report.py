"""What a small pre-trained encoder is worth: frozen embeddings against a random encoder and PCA.

    python tests/benchmarks/mini_report.py --checkpoint FOLDER [--labelled FOLDER] [--corpus FILE ...]

writes mini_report.json and mini_report.md; with --card also into the checkpoint's MODEL_CARD.md. One and the
same probe reads every representation: logistic regression on standardised features, C = 0.1, untuned.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from frostline.checkpoints import Checkpoint, load_checkpoint
from frostline.corpus import Corpus, read_corpus
from frostline.embedding import encode, normalise
from frostline.genes import match_genes
from frostline.model import Encoder
from frostline.tokens import tokenize

COLUMNS = {
    "frozen": "frozen",
    "random": "random encoder",
    "corpus_pca": "PCA of the corpus",
    "pca": "PCA + LR",
}
MARK = "<!-- written by tests/benchmarks/mini_report.py -->"

SOURCES = {
    "pbmc_facs_unlabelled.h5ad": (
        "sorted blood cells of Zheng et al. 2017 (10x Genomics), as in stephenslab/fastTopics",
        "BSD-2-Clause",
    ),
    "pbmc_donor_a_unlabelled.h5ad": (
        "frozen PBMC of donor A (10x Genomics), as in JEFworks/MUDAN",
        "GPL-3 (package)",
    ),
    "pbmc_ifnb_unlabelled.h5ad": (
        "control and interferon-beta PBMC, GEO GSE96583, as in immunogenomics/harmony; the cells of the Kang "
        "test set removed",
        "GPL-3 (package)",
    ),
}

LIMITS = """\
- pbmc68k-reduced comes from the same donor as two of the pre-training sets (other cells), and the donors of
  the Kang test set may be in the interferon-beta set (other cells). No test cell was used in pre-training:
  no count profile occurs in both.
- The labels of pbmc3k, pbmc68k-reduced and Kang derive from expression (clustering or correlation with
  sorted cells), which favours methods close to PCA.
- One seed of pre-training; how much another seed would change is not known.
- The corpus is blood from three studies. Outside blood this encoder is out of its depth.
- It makes every step of a tutorial runnable, quickly and offline. To judge scGPT, take its
  official weights."""


@dataclass(frozen=True)
class Task:
    """One labelled set with the cuts it is tested on."""

    name: str
    values: sparse.csr_matrix
    """(n_cells, n_genes) counts or log-normalised values, for tokens."""
    logged: sparse.csr_matrix
    """(n_cells, n_genes) log1p of counts per ten thousand, for PCA."""
    genes: list[str]
    labels: NDArray[np.str_]
    cuts: list[tuple[NDArray[np.integer], NDArray[np.integer]]]
    """Training and test rows."""
    pooled: bool = False
    """One macro-F1 over the predictions of all cuts, where single test sets lack classes."""


def half_splits(labels: NDArray[np.str_]) -> list[tuple[NDArray[np.integer], NDArray[np.integer]]]:
    return list(StratifiedShuffleSplit(3, test_size=0.5, random_state=0).split(labels, labels))


def log_normalise(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    totals = np.asarray(counts.sum(axis=1)).ravel()
    return sparse.csr_matrix(sparse.diags(1e4 / totals) @ counts).log1p()


def tasks(labelled: Path | None) -> Iterator[Task]:
    yield from pbmc68k()
    if labelled is None:
        return
    pbmc3k = anndata.read_h5ad(labelled / "pbmc3k_seurat.h5ad")
    labels = pbmc3k.obs["cell_type"].astype(str).to_numpy()
    yield from_counts("pbmc3k, half for training, 3 splits", pbmc3k, labels, half_splits(labels))

    kang = anndata.read_h5ad(labelled / "kang_muscat.h5ad")
    labels = kang.obs["cluster_id"].astype(str).to_numpy()
    sample = kang.obs["sample_id"].astype(str)
    for name, source, target in (
        ("donor 101 to 107", "101", "107"),
        ("control to stimulated", "ctrl", "stim"),
    ):
        cut = (np.flatnonzero(sample.str.contains(source)), np.flatnonzero(sample.str.contains(target)))
        yield from_counts(f"Kang, {name}", kang, labels, [cut])

    pancreas = anndata.read_h5ad(labelled / "pancreas_baron_human_175.h5ad")
    donor = pancreas.obs["donor"].astype(str).to_numpy()
    cuts = [(np.flatnonzero(donor != d), np.flatnonzero(donor == d)) for d in np.unique(donor)]
    labels = pancreas.obs["cell_type"].astype(str).to_numpy()
    yield from_counts("pancreas, donors left out one by one", pancreas, labels, cuts, pooled=True)


def pbmc68k() -> Iterator[Task]:
    import scanpy as sc

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file is of an old format
        adata = sc.datasets.pbmc68k_reduced()
    logged = sparse.csr_matrix(adata.raw.X).astype(np.float32)
    labels = adata.obs["bulk_labels"].astype(str).to_numpy()
    name = "pbmc68k-reduced, half for training, 3 splits"
    yield Task(name, logged, logged, list(adata.raw.var_names), labels, half_splits(labels))


def from_counts(name, adata, labels, cuts, *, pooled=False) -> Task:
    counts = sparse.csr_matrix(adata.X).astype(np.float32)
    return Task(name, counts, log_normalise(counts), list(adata.var_names), labels, cuts, pooled)


def probe(task: Task, features) -> tuple[float, float]:
    """Mean macro-F1 over the cuts and its standard deviation; `features` gives those of a training cut."""
    predicted, scores = [], []
    for train, test in task.cuts:
        x = features(train)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=5000))
        predicted.append(model.fit(x[train], task.labels[train]).predict(x[test]))
        scores.append(f1_score(task.labels[test], predicted[-1], average="macro", zero_division=0))
    if task.pooled:
        truth = np.concatenate([task.labels[test] for _, test in task.cuts])
        return float(f1_score(truth, np.concatenate(predicted), average="macro", zero_division=0)), 0.0
    return float(np.mean(scores)), float(np.std(scores))


def embeddings(task: Task, encoder: Encoder, checkpoint: Checkpoint) -> NDArray[np.float32]:
    tokens = tokenize(task.values, match_genes(task.genes, checkpoint.vocabulary).ids)
    return normalise(encode(encoder, tokens))


def corpus_components(task: Task, corpus: Corpus) -> NDArray[np.float32]:
    """Project on 50 components fitted on the pre-training cells, on the genes that both have."""
    shared = sorted(set(task.genes) & set(corpus.genes))
    here = {gene: i for i, gene in enumerate(task.genes)}
    there = {gene: i for i, gene in enumerate(corpus.genes)}
    fitted = PCA(50, svd_solver="arpack", random_state=0)
    fitted.fit(corpus.log_normalised()[:, [there[gene] for gene in shared]])
    return fitted.transform(task.logged[:, [here[gene] for gene in shared]])


def own_components(task: Task, train: NDArray[np.integer]) -> NDArray[np.float32]:
    """Project on up to 50 components fitted on the training cells."""
    fitted = PCA(min(50, len(train) - 1), svd_solver="arpack", random_state=0).fit(task.logged[train])
    return fitted.transform(task.logged)


def random_encoder(checkpoint: Checkpoint, seed: int) -> Encoder:
    torch.manual_seed(seed)
    return Encoder(checkpoint.config).eval()


def measure(task: Task, checkpoint: Checkpoint, corpus: Corpus | None, n_random: int) -> dict:
    """Macro-F1 of every representation on one task."""
    row = {"task": task.name, "cells": len(task.labels), "classes": len(set(task.labels))}
    row["genes"] = str(match_genes(task.genes, checkpoint.vocabulary)).split(";")[0]
    x = embeddings(task, checkpoint.encoder(), checkpoint)
    row["frozen"], row["frozen_sd"] = probe(task, lambda _: x)
    drawn = []
    for seed in range(n_random):
        z = embeddings(task, random_encoder(checkpoint, seed), checkpoint)
        drawn.append(probe(task, lambda _, z=z: z)[0])
    row["random"], row["random_sd"] = float(np.mean(drawn)), float(np.std(drawn))
    if corpus:
        c = corpus_components(task, corpus)
        row["corpus_pca"], row["corpus_pca_sd"] = probe(task, lambda _: c)
    row["pca"], row["pca_sd"] = probe(task, lambda train: own_components(task, train))
    return row


def cell(row: dict, column: str) -> str:
    if column not in row:
        return "-"
    spread = row[f"{column}_sd"]
    return f"{row[column]:.3f}" + (f" ± {spread:.3f}" if spread else "")


def table(rows: list[dict], n_random: int) -> str:
    lines = [f"| macro-F1 | cells | {' | '.join(COLUMNS.values())} |", "|---" * (2 + len(COLUMNS)) + "|"]
    for row in rows:
        lines.append(f"| {row['task']} | {row['cells']:,} | {' | '.join(cell(row, c) for c in COLUMNS)} |")
    return "\n".join(
        [
            *lines,
            "",
            "Probe: logistic regression on standardised features, C = 0.1, untuned. *frozen*: L2-normalised",
            f"`<cls>` states; *random encoder*: the same, never trained ({n_random} drawn, ± their standard",
            "deviation); *PCA of the corpus*: 50 components fitted on the pre-training cells;",
            "*PCA + LR*: up to 50 components fitted on the training cells. Other ±: standard deviation over",
            "splits. Pancreas: one macro-F1 over the predictions for all left-out donors.",
        ]
    )


def verdicts(rows: list[dict]) -> str:
    """Say test by test where a PCA is better."""
    lines = []
    for row in rows:
        better = [f"{COLUMNS[c]} ({row[c]:.3f})" for c in ("corpus_pca", "pca") if row.get(c, 0) > row["frozen"]]
        if better:
            lines.append(f"- {row['task']}: {' and '.join(better)} against {row['frozen']:.3f} frozen.")
    return "\n".join(lines) or "- On none of the tests above."


def sources(checkpoint: Checkpoint) -> str:
    files = json.loads((checkpoint.folder / "args.json").read_text(encoding="utf-8"))["corpus"]
    lines = ["| file | cells | from | licence of the repository |", "|---|---|---|---|"]
    for file in files:
        origin, licence = SOURCES.get(file["file"], ("not stated", "not stated"))
        lines.append(f"| {file['file']} | {file['cells']:,} | {origin} | {licence} |")
    return "\n".join(lines)


def write_card(checkpoint: Checkpoint, rows: list[dict], n_random: int) -> None:
    path = checkpoint.folder / "MODEL_CARD.md"
    card = path.read_text(encoding="utf-8").split(MARK)[0].rstrip()
    sections = [
        MARK,
        "## Where the cells come from",
        sources(checkpoint),
        "## Results on cells never used in pre-training",
        table(rows, n_random),
        "## Where PCA is better",
        verdicts(rows),
        "## Limits",
        LIMITS,
    ]
    path.write_text("\n\n".join([card, *sections]) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--checkpoint", default="mini", help="name or folder")
    parser.add_argument("--labelled", type=Path, help="folder of the labelled .h5ad files")
    parser.add_argument("--corpus", type=Path, nargs="*", default=[], help="the pre-training .h5ad files")
    parser.add_argument("--random", type=int, default=1, help="random encoders to average")
    parser.add_argument("--output", type=Path, default=Path("artifacts/mini_report"))
    parser.add_argument("--card", action="store_true", help="write the results into MODEL_CARD.md too")
    options = parser.parse_args()

    checkpoint = load_checkpoint(options.checkpoint)
    corpus = read_corpus(options.corpus).frequent(0.01) if options.corpus else None
    rows = []
    for task in tasks(options.labelled):
        rows.append(measure(task, checkpoint, corpus, options.random))
        print(rows[-1]["task"], *(f"{COLUMNS[c]} {cell(rows[-1], c)}" for c in COLUMNS), sep="; ", flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    report = {"weights_sha256": checkpoint.weights_sha256, "random_encoders": options.random, "rows": rows}
    (options.output / "mini_report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    text = table(rows, options.random) + "\n\nWhere PCA is better:\n\n" + verdicts(rows) + "\n\n" + LIMITS + "\n"
    (options.output / "mini_report.md").write_text(text, encoding="utf-8")
    if options.card:
        write_card(checkpoint, rows, options.random)


if __name__ == "__main__":
    main()
