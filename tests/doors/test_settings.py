"""The parameters of a run are checked before any work, whoever names them."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from pydantic import ValidationError

from frostline.cells.datasets import load_dataset
from frostline.cells.splits import split
from frostline.errors import DatasetError, FrostlineError
from frostline.panels.annotation import AnnotationPanel
from frostline.panels.controls import RunControls
from frostline.settings import RunSettings

CORRECT = {
    "PROFILE": "full",
    "DATASET": "pbmc3k",
    "LABEL_KEY": "kind",
    "LAYER": "umi",
    "VALUES": "counts",
    "GENE_COLUMN": "symbol",
    "STRATEGIES": ["lora", "pca_logistic"],
    "GROUP_KEY": "donor",
    "TEST_DATASET": "pancreas",
    "TEST_LABEL_KEY": "cell_type",
    "TEST_LAYER": "X",
    "TEST_VALUES": "log1p",
    "TEST_GENE_COLUMN": "var_names",
    "SPLIT": "cross",
    "DEVICE": "cpu",
    "PRECISION": "bf16",
    "SEED": 7,
    "REPEATS": 2,
    "BUDGETS": [5, 10],
    "WITHHOLD": True,
    "RESUME": True,
    "HELD_OUT": "donor7",
    "TARGET": 0.9,
    "OUTPUT_DIR": "somewhere",
}


def test_the_defaults_are_those_of_a_run_without_a_network():
    settings = RunSettings()
    assert (settings.profile, settings.dataset, settings.checkpoint) == ("quickstart", "pbmc68k-reduced", "mini")
    assert settings.strategies == ["pca_logistic", "frozen_probe", "head", "lora"]
    assert settings.output_dir == "artifacts/scgpt_cell_type_annotation"


@pytest.mark.parametrize("door", [split, RunControls.__init__])
def test_every_door_has_the_seed_and_the_profile_of_the_settings(door):
    assert RunSettings().seed == 42
    defaults = {name: spec.default for name, spec in inspect.signature(door).parameters.items()}
    assert {name: defaults[name] for name in ("seed", "profile")} == {"seed": 42, "profile": "quickstart"}


def test_the_panel_begins_with_the_settings():
    panel = AnnotationPanel(strategies=["majority", "lora"], device="cpu", precision="bf16", profile="full", seed=7)
    shown = panel.runner.plan.controls.values
    assert {name: shown[name] for name in ("device", "precision", "profile", "seed")} == {
        "device": "cpu",
        "precision": "bf16",
        "profile": "full",
        "seed": 7,
    }
    majority, lora = panel.runner.plan.controls.build(["majority", "lora"])
    assert (lora.device, lora.precision) == ("cpu", "bf16")
    assert not hasattr(majority, "device")


def test_settings_tell_the_encoder_where_to_compute():
    built = RunSettings(strategies=["pca_knn", "frozen_probe", "head"], device="cpu", precision="bf16").build()
    assert [(each.device, each.precision) for each in built[1:]] == [("cpu", "bf16")] * 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"DEVICE": "gpu"}, "DEVICE: device is 'gpu', and must be one of auto, cpu, cuda, mps"),
        ({"PRECISION": "fp16"}, "PRECISION: precision is 'fp16', and must be one of auto, fp32, bf16"),
        ({"DEVICE": "cuda"}, "DEVICE: device is 'cuda', and torch .* sees none here; take device='cpu'"),
    ],
)
def test_a_device_that_cannot_compute_is_refused_before_any_work(given, said, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(FrostlineError, match=said):
        RunSettings.from_notebook(given)


def test_upper_case_variables_of_a_notebook_are_read(small_checkpoint):
    settings = RunSettings.from_notebook({**CORRECT, "CHECKPOINT": str(small_checkpoint)})
    assert settings.model_dump() == {
        **{name.lower(): value for name, value in CORRECT.items()},
        "checkpoint": str(small_checkpoint),
    }


def test_strategies_may_be_one_text_as_a_command_line_gives_them():
    assert RunSettings.from_notebook({"STRATEGIES": "head, lora"}).strategies == ["head", "lora"]


def test_everything_else_in_a_notebook_is_passed_over():
    import frostline

    names = {
        "frostline": frostline,
        "Path": Path,
        "In": ["..."],
        "Out": {},
        "_": 3,
        "__name__": "__main__",
        "_PRIVATE": 1,
        "seed": "lower case",
        "Seed": "mixed case",
        "RUN": RunSettings(),
        "X": np.eye(3),
        "N": np.int64(3),
    }
    assert RunSettings.from_notebook(names) == RunSettings()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"PROFILE": "fast"}, r"PROFILE: unknown profile 'fast'; known: full, quickstart"),
        ({"CHECKPOINT": "whole-mouse"}, r"CHECKPOINT: unknown checkpoint 'whole-mouse'; known: .*mini"),
        ({"STRATEGIES": ["magic"]}, r"STRATEGIES: unknown strategy 'magic'; known: majority, pca_logistic"),
        ({"STRATEGIES": []}, r"STRATEGIES: name each strategy once, at least one"),
        ({"STRATEGIES": ["head", "head"]}, r"STRATEGIES: name each strategy once"),
        ({"STRATEGIES": "head,magic"}, r"STRATEGIES: unknown strategy 'magic'"),
        ({"STRATEGIES": ""}, r"STRATEGIES: name each strategy once, at least one"),
        ({"STRATEGIES": 3}, r"STRATEGIES: .*list.*got 3"),
        ({"STRATEGIES": [1]}, r"STRATEGIES\.0: .*string.*got 1"),
        ({"SEED": "7"}, r"SEED: .*integer.*got '7'"),
        ({"SEED": 7.5}, r"SEED: .*integer.*got 7\.5"),
        ({"SEED": True}, r"SEED: .*integer.*got True"),
        ({"SEED": -1}, r"SEED: .*greater than or equal to 0.*got -1"),
        ({"REPEATS": -1}, r"REPEATS: .*greater than or equal to 0.*got -1"),
        ({"BUDGETS": [1]}, r"BUDGETS: a budget holds training and validation cells, so at least 2 per class"),
        ({"BUDGETS": "5,few"}, r"BUDGETS\.1: .*integer.*got 'few'"),
        ({"WITHHOLD": "yes"}, r"WITHHOLD: .*boolean.*got 'yes'"),
        ({"SPLIT": "random"}, r"SPLIT: unknown kind of split 'random'; known: stratified, group, cross"),
        ({"TEST_DATASET": "nowhere.h5ad"}, r"TEST_DATASET: there is no file nowhere\.h5ad"),
        ({"SEED": 2**32}, r"SEED: .*less than 4294967296"),
        ({"DATASET": 3}, r"DATASET: .*string.*got 3"),
        ({"OUTPUT_DIR": " "}, r"OUTPUT_DIR: name a folder"),
        ({"EPOCHS": 3}, r"EPOCHS: unknown parameter"),
        ({"PROFIL": "full"}, r"PROFIL: unknown parameter"),
    ],
)
def test_a_wrong_parameter_is_named_with_the_value_and_the_known_ones(names, message):
    with pytest.raises(FrostlineError, match=message) as caught:
        RunSettings.from_notebook(names)
    assert re.search(r"The parameters are: PROFILE, DATASET, LABEL_KEY, .*SEED, .*OUTPUT_DIR", str(caught.value))


def test_all_wrong_parameters_are_listed_at_once():
    with pytest.raises(FrostlineError, match=r"(?s)PROFILE: .*SEED: .*EPOCHS: "):
        RunSettings.from_notebook({"PROFILE": "fast", "SEED": -1, "EPOCHS": 3})


@pytest.mark.parametrize("value", [None, Path("folder"), {"a"}], ids=repr)
@pytest.mark.parametrize("name", ["CHECKPOINT", "SEED", "OUTPUT_DIR"])
def test_a_parameter_of_a_wrong_type_is_never_passed_over_in_silence(name, value):
    with pytest.raises(FrostlineError, match=rf"{name}: "):
        RunSettings.from_notebook({name: value})


def test_values_of_numpy_and_pandas_are_taken_as_pythons_own():
    given = {
        "SEED": np.int64(7),
        "REPEATS": np.array(3),
        "TARGET": np.float32(0.5),
        "BUDGETS": np.array([5, 10]),
        "WITHHOLD": np.bool_(True),
        "STRATEGIES": pd.Index(["majority", "pca_knn"]),
        "LABEL_KEY": np.array(["kind"])[0],
    }
    settings = RunSettings.from_notebook(given)
    assert settings == RunSettings(
        seed=7,
        repeats=3,
        target=0.5,
        budgets=[5, 10],
        withhold=True,
        strategies=["majority", "pca_knn"],
        label_key="kind",
    )
    assert type(settings.seed) is int
    assert RunSettings.from_notebook({"BUDGETS": [np.int64(5)]}).budgets == [5]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SEED", np.float64(7.5), r"valid integer.* \(got 7\.5\)"),
        ("SEED", object(), r"valid integer \(got an object of type object\)"),
        ("LABEL_KEY", pd.Series(["kind"]), r"valid string \(got \['kind'\]\)"),
        ("DATASET", np.eye(2), r"valid string \(got an object of type ndarray\)"),
        (
            "DATASET",
            AnnData(np.eye(2)),
            r"valid string \(got an object of type AnnData; .*, DATASET\.write_h5ad\(path\), and give",
        ),
        ("STRATEGIES", frozenset({"head"}), r"valid list \(got an object of type frozenset\)"),
    ],
)
def test_no_variable_that_is_named_as_a_parameter_is_passed_over(name, value, said):
    with pytest.raises(FrostlineError, match=rf"^{name}: Input should be a {said}"):
        RunSettings.from_notebook({name: value})


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError, match="frozen"):
        RunSettings().seed = 3


def test_unknown_fields_are_refused_in_python_too():
    with pytest.raises(ValueError, match="epochs"):
        RunSettings(epochs=3)


def test_budgets_may_be_one_text_and_come_sorted_and_once():
    assert RunSettings.from_notebook({"BUDGETS": "20, 5,5"}).budgets == [5, 20]
    assert RunSettings.from_notebook({"BUDGETS": ""}).budgets == []


def test_a_checkpoint_that_is_not_here_is_demanded_only_by_strategies_that_start_from_it():
    settings = RunSettings(strategies=["pca_logistic", "majority"], checkpoint="whole-human")
    assert settings.used_checkpoint is None
    assert RunSettings(strategies=["majority", "lora"]).used_checkpoint == "mini"
    with pytest.raises(FrostlineError, match=r"CHECKPOINT: .*'whole-human' is not downloaded"):
        RunSettings.from_notebook({"STRATEGIES": "pca_logistic,head", "CHECKPOINT": "whole-human"})
    for name in ("whole-mouse", "no/such/folder", "", "x" * 5_000, "a\0b", __file__):
        for strategies in ("pca_logistic", "head", "no_such_strategy"):
            with pytest.raises(FrostlineError, match=r"CHECKPOINT: (unknown checkpoint|.*checkpoint is)"):
                RunSettings.from_notebook({"STRATEGIES": strategies, "CHECKPOINT": name})


class TestWhatFollows:
    def test_columns_of_symbols_go_to_their_data_sets(self, pbmc, tmp_path):
        adata = pbmc.adata.raw.to_adata()
        adata.obs = pbmc.adata.obs[["bulk_labels"]].copy()
        adata.var = adata.var[[]].assign(mine=[f"x{name}" for name in adata.var_names])
        adata.write_h5ad(tmp_path / "one.h5ad")
        adata.obs_names, adata.var = (
            [f"{name}-2" for name in adata.obs_names],
            adata.var.rename(columns={"mine": "his"}),
        )
        adata.write_h5ad(tmp_path / "two.h5ad")
        settings = RunSettings(
            dataset=str(tmp_path / "one.h5ad"),
            label_key="bulk_labels",
            gene_column="mine",
            test_dataset=str(tmp_path / "two.h5ad"),
            test_gene_column="his",
        )
        assert settings.load().genes == tuple(f"x{name}" for name in pbmc.genes)

    def test_groups_of_a_registered_data_set_are_held_out_in_every_repeat(self):
        settings = RunSettings(dataset="pancreas", repeats=4)
        cuts = settings.splits(settings.load())
        assert [cut.repeat for cut in cuts] == [0, 1, 2, 3]
        assert {cut.kind for cut in cuts} == {"group"}
        assert sorted(name for cut in cuts for name in cut.groups["test"]) == ["human1", "human2", "human3", "human4"]

    def test_the_kind_of_split_can_be_asked_for(self):
        settings = RunSettings(dataset="pancreas", split="stratified")
        assert [cut.kind for cut in settings.splits(settings.load())] == ["stratified"]

    def test_zero_repeats_are_the_profiles(self):
        settings = RunSettings(profile="full")
        assert len(settings.splits(settings.load())) == 3

    @pytest.mark.parametrize("profile", ["quickstart", "full"])
    def test_zero_repeats_test_every_group_once(self, profile):
        settings = RunSettings(dataset="pancreas", profile=profile)
        cuts = settings.splits(settings.load())
        assert sorted(name for cut in cuts for name in cut.groups["test"]) == ["human1", "human2", "human3", "human4"]

    def test_a_second_data_set_is_tested_on(self, pbmc, tmp_path):
        other = pbmc.adata.raw.to_adata()[:200]
        other.obs = pbmc.adata.obs[["bulk_labels"]][:200].rename(columns={"bulk_labels": "kind"})
        other.obs_names = [f"{name}-mine" for name in other.obs_names]
        other.write_h5ad(tmp_path / "mine.h5ad")
        settings = RunSettings(test_dataset=str(tmp_path / "mine.h5ad"), test_label_key="kind")
        dataset = settings.load()
        (cut,) = settings.splits(dataset)
        assert cut.kind == "cross"
        assert len(dataset) == 900
        assert all(cell.endswith("-mine") for cell in dataset.cells[cut.test])

    def test_strategies_are_built_for_the_profile_and_checkpoint(self, small_checkpoint):
        settings = RunSettings(strategies=["head"], profile="full", checkpoint=str(small_checkpoint))
        (strategy,) = settings.build()
        assert (strategy.epochs, strategy.checkpoint) == (200, str(small_checkpoint))


class TestWhatWasLoaded:
    """A manifest has the data set that was compared on, and not the one that was meant when the notebook began."""

    def test_a_registered_data_set_brings_its_columns_and_its_layer(self, pbmc):
        ran = RunSettings(dataset="pancreas", group_key="donor").of_dataset(pbmc)
        assert (ran.dataset, ran.label_key, ran.layer, ran.group_key) == ("pbmc68k-reduced", "bulk_labels", "raw", "")
        back = ran.of_dataset(RunSettings(dataset="pancreas").load())
        assert (back.dataset, back.label_key, back.layer, back.group_key) == ("pancreas", "cell_type", "", "donor")

    def test_a_file_is_loaded_again_as_it_was(self, pbmc, tmp_path):
        path = tmp_path / "mine.h5ad"
        mine = pbmc.adata.raw.to_adata()
        mine.var["symbol"] = mine.var_names
        mine.write_h5ad(path)
        loaded = load_dataset(path, "louvain", values="log1p", gene_column="symbol")
        ran = RunSettings().of_dataset(loaded)
        assert (ran.dataset, ran.label_key, ran.layer) == (str(path), "louvain", "")
        assert (ran.values, ran.gene_column) == ("log1p", "symbol")
        assert ran.load().fingerprint() == loaded.fingerprint()

    def test_two_sets_are_both_said(self):
        joined = RunSettings(dataset="pbmc68k-reduced", test_dataset="pbmc68k-reduced").load()
        ran = RunSettings(dataset="pancreas").of_dataset(joined)
        assert (ran.dataset, ran.test_dataset, ran.test_layer) == ("pbmc68k-reduced", "pbmc68k-reduced", "raw")
        assert ran.load().fingerprint() == joined.fingerprint()


def test_the_cells_held_out_are_those_of_the_group():
    settings = RunSettings(dataset="pancreas", held_out="human4")
    dataset = settings.load()
    cells = settings.held_out_cells(dataset)
    assert set(dataset.groups[cells]) == {"human4"}
    assert len(cells) == (dataset.groups == "human4").sum()


def test_without_a_group_the_test_cells_are_held_out():
    settings = RunSettings(dataset="pancreas")
    dataset = settings.load()
    assert settings.held_out_cells(dataset).tolist() == settings.splits(dataset)[0].test.tolist()


@pytest.mark.parametrize(
    ("dataset", "said"), [("pancreas", "donor has: human1, human2"), ("pbmc68k-reduced", "there are no groups")]
)
def test_a_group_that_is_not_there_is_refused(dataset, said):
    settings = RunSettings(dataset=dataset, held_out="donor7")
    with pytest.raises(DatasetError, match=f"HELD_OUT is 'donor7', and {said}"):
        settings.held_out_cells(settings.load())
