"""Fixtures of pre-training: two small sets, a finished run on them, and `mini`."""

from __future__ import annotations

import pytest
import torch
from small_pretraining import SMALL, STEPS, counts

from frostline.encoder.checkpoints import load_checkpoint
from frostline.pretraining.runs import pretrain


@pytest.fixture(autouse=True)
def one_thread():
    """Small matrices only lose time to a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for seed, first_gene in ((0, 0), (1, 20)):
        counts(seed, first_gene=first_gene).write_h5ad(folder / f"set{seed}.h5ad")
    return [folder / "set0.h5ad", folder / "set1.h5ad"]


@pytest.fixture(scope="session")
def finished(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    result = pretrain(corpus, folder, steps=STEPS, settings=SMALL)
    torch.set_num_threads(threads)
    return result


@pytest.fixture(scope="session")
def mini():
    """The checkpoint that ships with the package."""
    return load_checkpoint("mini")
