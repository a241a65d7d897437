"""What a small pre-trained encoder is worth: frozen embeddings against a random encoder and PCA.

    python tests/benchmarks/mini_report.py --checkpoint FOLDER ... --labelled FOLDER --corpus FILE ... [--card]

takes one checkpoint for every pre-training seed, the shipped one first, and writes mini_report.json and
mini_report.md; with --card also the MODEL_CARD.md of the first. One and the same probe reads every
representation: logistic regression on standardised features, C = 0.1, untuned. What mini_report.json holds
of the same inputs is not measured again.

Where a test draws half splits, every representation is measured on the same 100 of them. The first 3, the
yardstick while the recipe was looked for, and the first 30 have lines of their own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

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

from frostline.cells.genes import match_genes
from frostline.encoder.checkpoints import Checkpoint, load_checkpoint
from frostline.encoder.embedding import encode, normalise
from frostline.encoder.model import Encoder
from frostline.encoder.tokens import Tokens, tokenize
from frostline.pretraining.corpus import N_SPECIAL, Corpus, read_corpus

CORPUS_PCA, BINS_PCA, OWN_PCA = "PCA of the corpus", "PCA of its bins", "PCA + LR"
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
- Averages over a few half splits of pbmc3k move by more than what is between the frozen embedding and the PCA of the
  corpus: all 100 splits are the least noisy line.
- The recipe was found by comparing several on these same tests, so the numbers flatter it somewhat: the second phase
  on seed 1 and on the first 30 splits. Seed 0 is shipped because it is the first, not because of its scores.
- The corpus is blood from three studies. Outside blood this encoder is out of its depth.
- It makes every step of a tutorial runnable, quickly and offline. To judge scGPT, take its
  official weights."""


N_SPLITS = 100
HALF_SPLITS = {
    "half for training, first 3 splits": slice(3),
    "half for training, first 30 splits": slice(30),
    f"half for training, all {N_SPLITS} splits": slice(N_SPLITS),
}


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
    lines: dict[str, slice] = field(default_factory=lambda: HALF_SPLITS)
    """Lines of the table: what the cuts are -> which."""
    pooled: bool = False
    """One macro-F1 over the predictions of all cuts, where single test sets lack classes."""
    blood: bool = True
    """Whether it counts for the bar."""


def half_splits(labels: NDArray[np.str_]) -> list[tuple[NDArray[np.integer], NDArray[np.integer]]]:
    return list(StratifiedShuffleSplit(N_SPLITS, test_size=0.5, random_state=0).split(labels, labels))


def log_normalise(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    totals = np.asarray(counts.sum(axis=1)).ravel()
    return sparse.csr_matrix(sparse.diags(1e4 / totals) @ counts).log1p()


def tasks(labelled: Path) -> Iterator[Task]:
    yield from pbmc68k()
    pbmc3k = anndata.read_h5ad(labelled / "pbmc3k_seurat.h5ad")
    labels = pbmc3k.obs["cell_type"].astype(str).to_numpy()
    yield from_counts("pbmc3k", pbmc3k, labels, half_splits(labels))

    kang = anndata.read_h5ad(labelled / "kang_muscat.h5ad")
    labels = kang.obs["cluster_id"].astype(str).to_numpy()
    sample = kang.obs["sample_id"].astype(str)
    pairs = (("101", "107"), ("ctrl", "stim"))
    cuts = [tuple(np.flatnonzero(sample.str.contains(part)) for part in pair) for pair in pairs]
    lines = {"donor 101 to 107": slice(0, 1), "control to stimulated": slice(1, 2)}
    yield replace(from_counts("Kang", kang, labels, cuts), lines=lines)

    pancreas = anndata.read_h5ad(labelled / "pancreas_baron_human_175.h5ad")
    donor = pancreas.obs["donor"].astype(str).to_numpy()
    cuts = [(np.flatnonzero(donor != d), np.flatnonzero(donor == d)) for d in np.unique(donor)]
    labels = pancreas.obs["cell_type"].astype(str).to_numpy()
    task = from_counts("pancreas", pancreas, labels, cuts)
    yield replace(task, lines={"donors left out one by one": slice(None)}, pooled=True, blood=False)


def pbmc68k() -> Iterator[Task]:
    import scanpy as sc

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file is of an old format
        adata = sc.datasets.pbmc68k_reduced()
    logged = sparse.csr_matrix(adata.raw.X).astype(np.float32)
    labels = adata.obs["bulk_labels"].astype(str).to_numpy()
    yield Task("pbmc68k-reduced", logged, logged, list(adata.raw.var_names), labels, half_splits(labels))


def from_counts(name, adata, labels, cuts) -> Task:
    counts = sparse.csr_matrix(adata.X).astype(np.float32)
    return Task(name, counts, log_normalise(counts), list(adata.var_names), labels, cuts)


def probe(task: Task, features: Callable[[NDArray[np.integer]], NDArray[Any]]) -> list[float]:
    """Macro-F1 of every cut, or one of all; `features` gives those of a training cut."""
    predicted = []
    for train, test in task.cuts:
        x = features(train)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=5000))
        predicted.append((task.labels[test], model.fit(x[train], task.labels[train]).predict(x[test])))
    if task.pooled:
        predicted = [tuple(np.concatenate(parts) for parts in zip(*predicted, strict=True))]
    return [float(f1_score(*pair, average="macro", zero_division=0)) for pair in predicted]


def read_tokens(task: Task, checkpoint: Checkpoint) -> Tokens:
    """Of the genes that the vocabulary has by the same name, as the official code reads them."""
    match = match_genes(task.genes, checkpoint.vocabulary)
    return tokenize(task.values, np.where(match.map.kinds == "exact", match.ids, -1))


def embeddings(task: Task, encoder: Encoder, checkpoint: Checkpoint) -> NDArray[np.float32]:
    return normalise(encode(encoder, read_tokens(task, checkpoint)))


def shared_genes(task: Task, corpus: Corpus) -> tuple[list[int], list[int]]:
    """Return the columns that both have: those of the task, those of the corpus."""
    here = {gene: i for i, gene in enumerate(task.genes)}
    both = [(here[gene], i) for i, gene in enumerate(corpus.genes) if gene in here]
    return [i for i, _ in both], [i for _, i in both]


def corpus_components(task: Task, corpus: Corpus) -> NDArray[np.float32]:
    """Project on 50 components fitted on the pre-training cells, on the genes that both have."""
    here, there = shared_genes(task, corpus)
    fitted = PCA(50, svd_solver="arpack", random_state=0).fit(corpus.log_normalised()[:, there])
    return fitted.transform(task.logged[:, here])


def bin_components(task: Task, corpus: Corpus, checkpoint: Checkpoint) -> NDArray[np.float32]:
    """Project on the same of bins: what the encoder reads."""
    _, there = shared_genes(task, corpus)

    def matrix(tokens: Tokens) -> sparse.csr_matrix:
        entries = (tokens.bins.astype(np.float32), tokens.gene_ids - N_SPECIAL, tokens.offsets)
        return sparse.csr_matrix(entries, shape=(len(tokens), len(corpus.genes)))[:, there]

    fitted = PCA(50, svd_solver="arpack", random_state=0).fit(matrix(corpus.tokens(seed=0)))
    return fitted.transform(matrix(read_tokens(task, checkpoint)))


def own_components(task: Task, train: NDArray[np.integer]) -> NDArray[np.float32]:
    """Project on up to 50 components fitted on the training cells."""
    fitted = PCA(min(50, len(train) - 1), svd_solver="arpack", random_state=0).fit(task.logged[train])
    return fitted.transform(task.logged)


def random_encoder(checkpoint: Checkpoint, seed: int) -> Encoder:
    torch.manual_seed(seed)
    return Encoder(checkpoint.config).eval()


def arguments_of(checkpoint: Checkpoint) -> dict:
    return json.loads((checkpoint.folder / "args.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Row:
    """One line of the table: macro-F1 by cut."""

    name: str
    n_cells: int
    blood: bool
    frozen: NDArray[np.float64]
    """(n_seeds, n_cuts)"""
    random: NDArray[np.float64]
    """(n_encoders, n_cuts)"""
    pcas: dict[str, NDArray[np.float64]]
    """Name -> (n_cuts,)"""

    @property
    def mean(self) -> float:
        return float(np.mean(self.frozen))


class Scores:
    """Macro-F1 by representation, task and cut, kept in a file so that nothing is measured twice."""

    def __init__(self, path: Path, inputs: str) -> None:
        """`inputs` stands for all that the scores depend on, the weights apart."""
        self.path, self.inputs = path, inputs
        old = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self.values: dict[str, dict[str, list[float]]] = old["scores"] if old.get("inputs") == inputs else {}

    def add(self, representation: str, task: Task, score: Callable[[], list[float]]) -> NDArray[np.float64]:
        """Return the macro-F1 of every cut, measured now or earlier."""
        row = self.values.setdefault(representation, {})
        if task.name not in row:
            row[task.name] = score()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            content = {"inputs": self.inputs, "scores": self.values}
            self.path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(f"{task.name}; {representation[:24]}: {np.mean(row[task.name]):.4f}", flush=True)
        return np.array(row[task.name])


def frozen_score(task: Task, encoder: Encoder, checkpoint: Checkpoint) -> list[float]:
    x = embeddings(task, encoder, checkpoint)
    return probe(task, lambda _train: x)


def fixed_score(task: Task, components: Callable[..., NDArray[np.float32]], *arguments: object) -> list[float]:
    x = components(task, *arguments)
    return probe(task, lambda _train: x)


def measure(task: Task, checkpoints: list[Checkpoint], corpus: Corpus, n_random: int, scores: Scores) -> Iterator[Row]:
    """Macro-F1 of every representation on one task, line by line."""
    first = checkpoints[0]
    frozen = [
        scores.add(each.weights_sha256, task, lambda c=each: frozen_score(task, c.encoder(), c)) for each in checkpoints
    ]
    drawn = [
        scores.add(f"random encoder {seed}", task, lambda s=seed: frozen_score(task, random_encoder(first, s), first))
        for seed in range(n_random)
    ]
    pcas = {
        CORPUS_PCA: lambda: fixed_score(task, corpus_components, corpus),
        BINS_PCA: lambda: fixed_score(task, bin_components, corpus, first),
        OWN_PCA: lambda: probe(task, lambda train: own_components(task, train)),
    }
    measured = {name: scores.add(name, task, score) for name, score in pcas.items()}
    for name, cuts in task.lines.items():
        parts = (np.array(values)[:, cuts] for values in (frozen, drawn))
        of_pcas = {key: values[cuts] for key, values in measured.items()}
        yield Row(f"{task.name}, {name}", len(task.labels), task.blood, *parts, of_pcas)


def spread(values: NDArray[np.float64]) -> str:
    """Mean and standard deviation (n - 1) over encoders."""
    by_encoder = values.mean(axis=1)
    text = f"{np.mean(by_encoder):.3f}"
    return text + (f" ± {np.std(by_encoder, ddof=1):.3f}" if len(by_encoder) > 1 else "")


def table(rows: list[Row], seeds: list[int]) -> str:
    names = ["frozen", *(f"seed {seed}" for seed in seeds), "random encoder", CORPUS_PCA, BINS_PCA, OWN_PCA]
    lines = [f"| macro-F1 | cells | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for row in rows:
        numbers = [f"**{spread(row.frozen)}**", *(f"{value:.3f}" for value in row.frozen.mean(axis=1))]
        numbers += [spread(row.random), *(f"{row.pcas[name].mean():.3f}" for name in names[-3:])]
        lines.append(f"| {row.name} | {row.n_cells:,} | {' | '.join(numbers)} |")
    return "\n".join(
        [
            *lines,
            "",
            "Probe: logistic regression on standardised features, C = 0.1, untuned. *frozen*: L2-normalised",
            f"`<cls>` states, mean ± standard deviation over pre-training seeds ({len(seeds)}); seed {seeds[0]} is the",
            f"one that is shipped. *random encoder*: the same, never trained ({len(rows[0].random)} drawn);",
            f"*{CORPUS_PCA}*: 50 components fitted on the pre-training cells; *{BINS_PCA}*: the same of the bins that",
            f"the encoder reads instead of log-normalised counts; *{OWN_PCA}*: up to 50 components fitted on the",
            "training cells. Each number is a mean over the splits named. Pancreas: one macro-F1 over the",
            "predictions for all left-out donors.",
        ]
    )


def bar(rows: list[Row]) -> str:
    """Say line by line whether the bar holds for the mean over seeds."""
    lines = [f"| test | {CORPUS_PCA} | {OWN_PCA} - 0.02 | random + 0.10 |", "|---|---|---|---|"]
    for row in rows:
        if row.blood:
            limits = (row.pcas[CORPUS_PCA].mean(), row.pcas[OWN_PCA].mean() - 0.02, row.random.mean() + 0.10)
            cells = [f"{'met' if row.mean >= x else '**missed**'} ({row.mean - x:+.4f})" for x in limits]
            lines.append(f"| {row.name} | {' | '.join(cells)} |")
    intro = (
        "On blood the frozen embedding is to reach each of these, as the mean over the pre-training seeds that\n"
        f"were measured ({len(rows[0].frozen)}); in brackets, the distance to the limit."
    )
    return "\n".join([intro, "", *lines])


def verdicts(rows: list[Row]) -> str:
    """Say test by test where a PCA is better."""
    lines = []
    for row in rows:
        means = {name: values.mean() for name, values in row.pcas.items()}
        better = [f"{name} ({mean:.3f})" for name, mean in means.items() if mean > row.mean]
        if better:
            lines.append(f"- {row.name}: {' and '.join(better)} against {row.mean:.3f} frozen.")
    return "\n".join(lines) or "- On none of the tests above."


def differences(rows: list[Row]) -> str:
    """Say how much single splits differ."""
    lines = [
        f"Frozen (mean over seeds) minus {CORPUS_PCA}, split by split; of both the same cells are tested. The splits",
        "overlap, so the standard deviation is a description, not a test.",
        "",
        f"| test | mean difference | standard deviation | frozen ahead in | deviation of {CORPUS_PCA} alone |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        if row.frozen.shape[1] == N_SPLITS:
            control = row.pcas[CORPUS_PCA]
            d = row.frozen.mean(axis=0) - control
            numbers = f"{d.mean():+.4f} | {d.std(ddof=1):.4f} | {np.sum(d > 0)} of {len(d)}"
            lines.append(f"| {row.name} | {numbers} | {control.std(ddof=1):.4f} |")
    return "\n".join(lines)


def limits(seeds: list[int]) -> str:
    if len(seeds) == 1:
        return "- One seed of pre-training; how much another seed would change is not known.\n" + LIMITS
    if len(seeds) == 2:
        return "- Two seeds of pre-training: their spread is a rough guess.\n" + LIMITS
    return LIMITS


def sources(checkpoint: Checkpoint) -> str:
    lines = ["| file | cells | from | licence of the repository |", "|---|---|---|---|"]
    for file in arguments_of(checkpoint)["corpus"]:
        origin, licence = SOURCES.get(file["file"], ("not stated", "not stated"))
        lines.append(f"| {file['file']} | {file['cells']:,} | {origin} | {licence} |")
    return "\n".join(lines)


def curve(checkpoints: list[Checkpoint], seeds: list[int]) -> str:
    """Total loss of every seed along the run."""
    columns = [np.genfromtxt(c.folder / "history.csv", delimiter=",", names=True) for c in checkpoints]
    width = 10  # rows, of ten steps each
    lines = [f"| phase | step | {' | '.join(f'seed {seed}' for seed in seeds)} |", "|---" * (2 + len(seeds)) + "|"]
    for phase in np.unique(columns[0]["phase"]):
        rows = np.flatnonzero(columns[0]["phase"] == phase)
        for end in rows[0] + np.unique(np.linspace(min(width, len(rows)), len(rows), 5).astype(int)):
            losses = [f"{column['loss'][max(rows[0], end - width) : end].mean():.3f}" for column in columns]
            lines.append(f"| {phase:.0f} | {columns[0]['step'][end - 1]:,.0f} | {' | '.join(losses)} |")
    intro = "Total loss, means over the 100 steps that end there. Phases ask for different things: compare within one."
    return "\n".join([intro, "", *lines])


def sections(checkpoints: list[Checkpoint], rows: list[Row], seeds: list[int]) -> str:
    parts = [
        "## Where the cells come from",
        sources(checkpoints[0]),
        "## Loss by pre-training seed",
        curve(checkpoints, seeds),
        "## Results on cells never used in pre-training",
        table(rows, seeds),
        "## The bar",
        bar(rows),
        "## Split by split",
        differences(rows),
        "## Where PCA is better",
        verdicts(rows),
        "## Limits",
        limits(seeds),
    ]
    return "\n\n".join(parts) + "\n"


def check_seeds(checkpoints: list[Checkpoint]) -> list[int]:
    """Return the seeds of checkpoints that differ in nothing else."""
    recipes = [arguments_of(checkpoint) for checkpoint in checkpoints]
    for checkpoint, args in zip(checkpoints, recipes, strict=True):
        differing = [n for n in ("corpus", "steps", "settings") if args[n] != recipes[0][n]]
        if differing:
            raise SystemExit(f"{checkpoint.folder} differs from {checkpoints[0].folder} in {', '.join(differing)}")
    seeds = [int(args["seed"]) for args in recipes]
    if len(set(seeds)) < len(seeds):
        raise SystemExit(f"one checkpoint for every seed, please; these have the seeds {seeds}")
    return seeds


def inputs(options: argparse.Namespace, checkpoint: Checkpoint) -> str:
    """Fingerprint of the data sets and of what the encoders share."""
    files = [*options.corpus, *sorted(options.labelled.glob("*.h5ad"))]
    parts = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files]
    text = json.dumps([parts, repr(checkpoint.config), dict(checkpoint.vocabulary)])
    return hashlib.sha256(text.encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--checkpoint", nargs="+", default=["mini"], help="name or folder, one for every seed")
    parser.add_argument("--labelled", type=Path, required=True, help="folder of the labelled .h5ad files")
    parser.add_argument("--corpus", type=Path, nargs="+", required=True, help="the pre-training .h5ad files")
    parser.add_argument("--random", type=int, default=3, help="random encoders to average")
    parser.add_argument("--output", type=Path, default=Path("artifacts/mini_report"))
    parser.add_argument("--card", action="store_true", help="write the results into the first MODEL_CARD.md too")
    options = parser.parse_args()

    checkpoints = [load_checkpoint(name) for name in options.checkpoint]
    seeds = check_seeds(checkpoints)
    scores = Scores(options.output / "mini_report.json", inputs(options, checkpoints[0]))
    corpus = read_corpus(options.corpus).frequent(arguments_of(checkpoints[0])["settings"]["min_fraction"])
    rows = [
        row for task in tasks(options.labelled) for row in measure(task, checkpoints, corpus, options.random, scores)
    ]
    text = sections(checkpoints, rows, seeds)
    (options.output / "mini_report.md").write_text("# What mini is worth\n\n" + text, encoding="utf-8")
    if options.card:
        path = checkpoints[0].folder / "MODEL_CARD.md"
        card = path.read_text(encoding="utf-8").split(MARK)[0].rstrip()
        path.write_text(f"{card}\n\n{MARK}\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
