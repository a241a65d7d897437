"""Strategies on an encoder: what is refused before fitting, and what when a saved one is loaded."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys

import pytest
from safetensors.numpy import load_file, save_file
from strategy_checks import IN_EPOCHS, ON_ENCODER

from frostline import strategies
from frostline.encoder.checkpoints import find_folder
from frostline.errors import CheckpointError, DatasetError, FrostlineError
from frostline.strategies import Lora

pytestmark = pytest.mark.slow


class TestSaving:
    @pytest.mark.parametrize("name", ON_ENCODER)
    def test_other_weights_under_the_same_checkpoint_are_refused(
        self, build, pbmc, cut, fresh, small_checkpoint, tmp_path, name
    ):
        folder = shutil.copytree(small_checkpoint, tmp_path / "checkpoint")
        strategy = dataclasses.replace(build(name), checkpoint=str(folder))
        strategy.fit(fresh(pbmc), cut).save(tmp_path / "model")
        state = load_file(folder / "model.safetensors")
        state["encoder.enc_norm.bias"] = state["encoder.enc_norm.bias"] + 1
        save_file(state, folder / "model.safetensors")
        with pytest.raises(CheckpointError, match=rf"'{name}' was fitted on other weights"):
            strategies.load(tmp_path / "model")

    def test_a_strategy_of_another_kind_is_refused(self, fitted_once, tmp_path):
        fitted_once("pca_logistic")[0].save(tmp_path)
        with pytest.raises(FrostlineError, match="holds a 'pca_logistic', not a 'lora'"):
            Lora.load(tmp_path)

    def test_a_strategy_that_is_no_longer_known_is_refused(self, fitted_once, tmp_path):
        fitted_once("pca_logistic")[0].save(tmp_path)
        content = json.loads((tmp_path / "strategy.json").read_text())
        (tmp_path / "strategy.json").write_text(json.dumps({**content, "strategy": "magic"}))
        with pytest.raises(FrostlineError, match="unknown strategy 'magic'; known: majority, pca_logistic"):
            strategies.load(tmp_path)


def test_what_pre_training_saw_is_noted_where_the_checkpoint_is_a_folder_too(pbmc, tmp_path, small_checkpoint):
    folder = shutil.copytree(find_folder("mini"), tmp_path / "mine")
    said = "The checkpoint mini was pre-trained on other cells of the same donor."
    given = ("mini", str(folder), str(small_checkpoint))
    assert [said in Lora(checkpoint=name).notes(pbmc) for name in given] == [True, True, False]


IMPORTS = """
import os, sys
import anndata, numpy as np
import sklearn.base, torch  # which would be imported with modules of theirs or ours, if they were late
import frostline
from frostline.cells.datasets import load_dataset
from frostline.profiles import Profile
from frostline.strategies import STRATEGIES

genes, rng = ["CD3D", "CD3E", "LYZ", "CST3", "NKG7", "GNLY", "MS4A1", "CD79A"], np.random.default_rng(0)
adata = anndata.AnnData(rng.poisson(3, (60, 8)).astype("f4"), obs={"kind": ["a", "b", "c"] * 20})
adata.var_names, adata.obsm["X_pca"] = genes, rng.normal(size=(60, 4))
cells = load_dataset(adata, "kind")
profile = Profile("tiny", 60, 8, 16, 1, 1, 1e-3, 1e-3, 1, min_steps=0)
cut = frostline.split(cells, profile=profile)
for name in sys.argv[1:]:
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0, name
        continue
    strategy = STRATEGIES[name].from_profile(profile, "mini")
    strategy.ensure_applicable(cells, cut)
    before = set(sys.modules)
    strategy.fit(cells, cut)
    late = [each for each in set(sys.modules) - before if each.split(".")[0] not in sys.stdlib_module_names]
    print(name, *sorted(late), flush=True)
    os._exit(0)
"""


class TestCheck:
    def test_what_fitting_imports_is_imported_before_it_is_timed(self):
        """In processes of their own, for whoever comes first pays; torch looks for a profiler when it first trains."""
        names = ["probe_obsm", "pca_knn", "genes_logistic", "head", "lora"]
        command = [sys.executable, "-W", "error", "-c", IMPORTS, *names]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert re.sub(r" torch\.profiler\.\S+", "", done.stdout).splitlines() == names

    @pytest.mark.parametrize("name", ON_ENCODER)
    def test_what_the_encoder_cannot_read_is_refused_before_fitting(self, build, pbmc, cut, fresh, name):
        strategy = build(name)
        strategy.ensure_applicable(pbmc, cut)
        matrix = pbmc.matrix.tolil(copy=True)
        matrix[cut.test[3]] = 0
        with pytest.raises(DatasetError, match=f"1 cell.*{pbmc.cells[cut.test[3]]}"):
            strategy.ensure_applicable(fresh(pbmc, matrix=matrix.tocsr()), cut)
        ensembl = tuple(f"ENSG009{i:08d}" for i in range(len(pbmc.genes)))
        renamed = fresh(pbmc, genes=ensembl)
        with pytest.raises(DatasetError, match="Ensembl ids"):
            strategy.ensure_applicable(renamed, dataclasses.replace(cut, genes=ensembl))
        with pytest.raises(CheckpointError, match="unknown checkpoint 'nothing'"):
            dataclasses.replace(strategy, checkpoint="nothing").ensure_applicable(pbmc, cut)

    @pytest.mark.parametrize("name", IN_EPOCHS)
    def test_validation_cells_of_unknown_classes_only_are_refused(self, build, pbmc, cut, fresh, name):
        labels = pbmc.labels.astype("U40")
        labels[cut.validation] = "unheard"
        with pytest.raises(DatasetError, match="no validation cell has a class that the training cells have"):
            build(name).ensure_applicable(fresh(pbmc, labels=labels), cut)
