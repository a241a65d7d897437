"""Fixtures of all tests: the golden files, a small data set, a small encoder, records made by hand."""

from __future__ import annotations

import atexit
import copy
import dataclasses
import gc
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# Small matrices only lose time to a second thread. Must be said before torch and numba are imported; numba, which
# scanpy and UMAP start, would otherwise set the number of threads of torch to that of all cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", os.environ["OMP_NUM_THREADS"])

# Looked for as often as Python does by itself, garbage takes a twentieth of the time of all tests; at the end, among
# all modules, a second or two. A test that asks whether something goes says when.
gc.set_threshold(50_000, 20, 10)
atexit.register(gc.freeze)

settings.register_profile("frostline", deadline=None, derandomize=True, max_examples=50, database=None)
settings.load_profile("frostline")

pytest_plugins = ["kernel_fixtures", "no_network"]

TOGETHER = {
    "the built book": ("test_site.py", "test_site_in_browser.py"),
    "a real UMAP": (
        "test_commands.py",
        "test_docs.py",
        "test_maps.py",
        "test_clusters.py",
        "test_embeddings_tutorial.py",
    ),
    "forked kernels": (
        "test_lab.py",
        "test_launcher.py",
        "test_notebooks.py",
        "test_publications.py",
        "test_executions.py",
    ),
}
"""Files for one worker, which then starts what they share once."""


FIRST = (
    "test_site.py",
    "test_lab.py",
    "test_notebooks.py",
    "test_commands.py",
    "test_run.py",
    "test_atlases.py",
    "test_sweeping.py",
    "test_publications.py",
    "test_docs.py",
    "test_exports.py",
    "test_memory.py",
    "test_launcher.py",
    "test_starting.py",
    "test_protocol_tutorial.py",
)
"""Files that take longest: begun last, one of them would run alone in the end."""


def pytest_collection_modifyitems(items):
    """Take the files of minutes first, the others in the order of their names."""
    place = {name: i for i, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.path.name, len(FIRST)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A worker takes whole files, and those of `TOGETHER` together."""
    from xdist.scheduler import LoadFileScheduling

    together = {file: scope for scope, files in TOGETHER.items() for file in files}

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return together.get(Path(file).name, file)

    return Files(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="module", autouse=True)
def _imports_stay():
    """Garbage is looked for among the objects of the file that is being tested, and not in all that was imported.

    Each measurement of memory, one an evaluation, does so; half a million objects take a quarter of a second.
    """
    freeze()


@pytest.fixture(autouse=True)
def _imports_of_tests_stay(_imports_stay):
    """Nor among what an earlier test of the file has imported."""
    if len(sys.modules) > FROZEN[0] + 50:
        freeze()


FROZEN = [0]
"""Modules that had been imported then."""


def freeze() -> None:
    """Let no search for garbage look at what is there now."""
    gc.collect()
    gc.freeze()
    FROZEN[0] = len(sys.modules)


@pytest.fixture(scope="session", autouse=True)
def _empty_cache(tmp_path_factory):
    """No test reads or writes what a user has downloaded or embedded, and none finds what another one embedded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FROSTLINE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("FROSTLINE_EMBEDDINGS_MB", "0")
        yield


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of what the official code computed."""
    return Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def pbmc():
    """The registered data set that needs no network; not to be changed."""
    from frostline.cells.datasets import load_dataset

    return load_dataset("pbmc68k-reduced")


@pytest.fixture(scope="session")
def three_kinds(pbmc):
    """A data set of 150 cells of three classes and 120 genes, on which everything trains in a second."""
    from frostline.cells.datasets import load_dataset

    adata = pbmc.adata.raw.to_adata()
    adata.obs = pbmc.adata.obs[["bulk_labels"]].astype(str)
    kinds = adata.obs["bulk_labels"].value_counts().index[:3]
    rows = np.concatenate([np.flatnonzero(adata.obs["bulk_labels"] == kind)[:50] for kind in kinds])
    expressed = np.argsort(-np.asarray(adata.X.sum(axis=0)).ravel())[:120]
    return load_dataset(adata[rows][:, expressed].copy(), "bulk_labels", name="three kinds")


@pytest.fixture(scope="session")
def tiny_profile():
    """Sizes that train in a second or two."""
    from frostline.profiles import Profile

    return Profile(
        "tiny",
        max_cells=160,
        max_genes=120,
        batch_size=16,
        head_epochs=6,
        lora_epochs=2,
        head_lr=5e-3,
        lora_lr=5e-3,
        repeats=1,
        tuning_genes=60,
        min_steps=0,
    )


@pytest.fixture(scope="session")
def cut(pbmc, tiny_profile):
    """A split of a few cells and genes."""
    from frostline.cells.splits import split

    return split(pbmc, seed=3, profile=tiny_profile)


@pytest.fixture(scope="session")
def small_checkpoint(pbmc, tmp_path_factory) -> Path:
    """Folder of an encoder with random weights that knows the genes of the data set."""
    import torch

    from frostline.encoder.checkpoints import SPECIAL_TOKENS, save_checkpoint
    from frostline.encoder.model import Encoder, EncoderConfig

    vocabulary = {name: i for i, name in enumerate((*SPECIAL_TOKENS, *pbmc.genes))}
    config = EncoderConfig(len(vocabulary), d_model=32, n_heads=4, d_hid=48, n_layers=2, dropout=0.1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = Encoder(config)
    folder = tmp_path_factory.mktemp("checkpoint") / "small"
    save_checkpoint(folder, encoder, vocabulary)
    return folder


@pytest.fixture(scope="session")
def fresh():
    """Copy a data set with changed fields and without what strategies have computed on it."""

    def copied(dataset, **changes):
        cells = {"obs": changes["adata"].obs.copy()} if "adata" in changes else {}
        return dataclasses.replace(dataset, **{"cache": {}, **cells, **changes})

    return copied


def two_columns() -> Iterator[None]:
    """Two columns of the embedding in place of a UMAP."""
    from frostline.evaluation import maps

    def first_two_columns(embedding, *, seed):
        mapped = len(embedding) >= maps.MIN_CELLS_FOR_UMAP and embedding.shape[1] >= 2
        return np.array(embedding[:, :2]) if mapped else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maps, "umap_of", first_two_columns)
        yield


def small_png() -> Iterator[None]:
    """A small PNG with the facts of the picture in place of its pixels; figures are made as ever, and not painted.

    `test_figures` and `test_exports` paint each of them.
    """
    from PIL import Image, PngImagePlugin

    from frostline.artifacts import pictures

    small = Image.new("L", (200, 200))
    small.putpixel((0, 0), 255)

    def save(_figure, target, *, metadata=None, **_):
        facts = PngImagePlugin.PngInfo()
        for name, text in (metadata or {}).items():
            facts.add_text(name, text)
        small.save(target, "png", pnginfo=facts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", save)
        patch.setattr(pictures, "_drawn", {})
        yield


instant_umap, instant_pictures = pytest.fixture(two_columns), pytest.fixture(small_png)
"""In one test."""
instant_umap_throughout = pytest.fixture(scope="module")(two_columns)
instant_pictures_throughout = pytest.fixture(scope="module")(small_png)
"""In all tests of a file, and in what they share."""


def once(function: Callable) -> Callable:
    """Compute a function once for the same arguments, to the last bit: altered predictions are others."""
    known: dict[bytes, object] = {}

    def look_up(*given, **options):
        key = pickle.dumps((given, options))
        if key not in known:
            known[key] = function(*given, **options)
        return copy.copy(known[key])

    return look_up


def once_of_records(function: Callable) -> Callable:
    """Compute a function of a comparison once for the same records."""
    from frostline.comparison.comparisons import Comparison

    look_up = once(lambda *records: function(Comparison(*records)))
    return lambda comparison: look_up(comparison.records, comparison.budget_records, comparison.unseen_records)


def once_of_content(function: Callable) -> Callable:
    """Compute a function of a file once for the same name and bytes; of a file that cannot be read, each time."""
    known: dict[tuple, object] = {}

    def look_up(path: Path, *given):
        try:
            key = (path.name, path.read_bytes(), *given)
        except OSError:
            return function(path, *given)
        if key not in known:
            known[key] = function(path, *given)
        return copy.copy(known[key])

    return look_up


@pytest.fixture(scope="module")
def computed_once() -> Iterator[None]:
    """Functions of their arguments alone, in which a check of artifacts spends most of its time, are computed once."""
    from frostline.artifacts import audits, pictures, texts
    from frostline.comparison import comparisons, report

    with pytest.MonkeyPatch.context() as patch:
        for name in ("prediction_metrics", "chosen_metrics"):
            patch.setattr(audits, name, once(getattr(audits, name)))
        for name in ("paired_tests", "score_intervals"):
            patch.setattr(comparisons, name, once(getattr(comparisons, name)))
        for tables in (texts.ALWAYS, texts.OF_STUDIES):
            for name, table in tables.items():
                patch.setitem(tables, name, once_of_records(table))
        patch.setattr(pictures, "problems", once_of_content(pictures.problems))
        patch.setattr(report, "report_markdown", once_of_records(report.report_markdown))
        yield


@pytest.fixture(scope="session")
def make_record():
    """Build a record without training: 40 test cells of three classes, predictions from a seeded stream."""
    from frostline.evaluation.metrics import chosen_metrics, prediction_metrics
    from frostline.records import Cost, Record, fingerprint_of

    classes = ("B cell", "NK", "T cell")

    def predict(noise, labels, skill):
        logits = noise.normal(size=(len(labels), 3)) + skill * (labels[:, None] == np.array(classes))
        return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    def build(strategy="head", *, repeat=0, skill=2.0, n=40, **changes):
        truth = np.random.default_rng(repeat)
        labels = truth.choice(classes, size=n)
        known = truth.choice(classes, size=30)
        cells = tuple(f"cell-{repeat}-{i:03d}" for i in range(n))
        noise = np.random.default_rng([repeat, *strategy.encode()])
        probabilities = predict(noise, labels, skill)
        validation = predict(noise, known, skill)
        content = {
            "strategy": strategy,
            "parameters": {},
            "dataset": "hand-made",
            "label_key": "cell_type",
            "profile": "quickstart",
            "seed": 42,
            "repeat": repeat,
            "fingerprint": f"split-{repeat}",
            "sizes": {"train": 90, "validation": 30, "test": n, "genes": 500},
            "classes": classes,
            "cells": cells,
            "labels": tuple(labels.tolist()),
            "probabilities": probabilities,
            "metrics": {
                **prediction_metrics(labels, probabilities, classes),
                **chosen_metrics(labels, probabilities, known, validation, classes),
                "silhouette": 0.125,
                "knn_purity": 0.75,
            },
            "cost": Cost({"load": 0.5, "embed": 1.0, "fit": 2.0, "predict": 0.25}, 1234, 56789, 3 * 2**20, 4096),
            "validation_cells": tuple(f"known-{repeat}-{i:03d}" for i in range(30)),
            "validation_labels": tuple(known.tolist()),
            "validation_probabilities": validation,
            "umap": noise.normal(size=(n, 2)),
            "history": ({"epoch": 1, "train_loss": 0.7},),
            "notes": ("Made by hand.",),
        }
        content |= changes
        labels = content["labels"][: len(content["cells"])]
        own = {"test_fingerprint": fingerprint_of(content["cells"][: len(labels)], labels)}
        return Record(**{**own, **content})

    return build


@pytest.fixture
def encoded_cells(monkeypatch):
    """Number of cells in every batch that an encoder sees."""
    from frostline.encoder.model import Encoder

    seen: list[int] = []
    original = Encoder.forward

    def forward(self, gene_ids, values, **options):
        seen.append(len(gene_ids))
        return original(self, gene_ids, values, **options)

    monkeypatch.setattr(Encoder, "forward", forward)
    return seen
