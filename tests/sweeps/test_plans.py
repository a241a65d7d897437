"""From a grid to runs: parameters, folders, commands, and keys that change with all that decides a result."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path

import pytest
from tiny_sweep import PARAMETERS, SAVE

from frostline.errors import FrostlineError
from frostline.publishing import inputs
from frostline.publishing.notebooks import typed_parameters
from frostline.sweeps.grids import Grid
from frostline.sweeps.plans import plan


def test_runs_have_parameters_folders_and_commands_of_their_own(grid_of):
    found = grid_of("datasets: [a.h5ad]\nstrategies: [majority, [majority, pca_knn]]\nseeds: [1, 2]")
    assert found.folder == Path("sweeps/sweep")
    assert [run.name.rpartition("-")[0] for run in found.runs] == [
        "a-quickstart-mini-majority-seed1",
        "a-quickstart-mini-majority-seed2",
        "a-quickstart-mini-majority+pca_knn-seed1",
        "a-quickstart-mini-majority+pca_knn-seed2",
    ]
    assert len({run.folder for run in found.runs}) == 4
    run = found.runs[0]
    assert run.folder == Path("sweeps/sweep/runs") / run.name
    assert run.values["RESUME"] is False
    assert "OUTPUT_DIR" not in run.values
    program, verb, notebook, *rest = shlex.split(run.command)
    assert (program, verb, notebook) == ("frostline", "run", "own.ipynb")
    assert rest[-2:] == ["-o", f"{run.folder}/notebook.ipynb"]
    assert f"OUTPUT_DIR={run.folder}/artifacts" in rest


def test_the_command_gives_the_notebook_the_very_values(grid_of):
    found = grid_of(
        """
datasets: [{DATASET: "a b'c.h5ad", LABEL_KEY: "cell \\" type, or ü"}]
strategies: [["majority", "pca_knn"]]
parameters: {TARGET: [0.55, 0.6], RESUME: [true]}
"""
    )
    words = shlex.split(found.runs[0].command)
    pairs = dict(word.split("=", 1) for flag, word in itertools.pairwise(words) if flag == "-p")
    output = pairs.pop("OUTPUT_DIR")
    assert output == str(found.runs[0].artifacts)
    assert typed_parameters(Path("own.ipynb"), pairs) == found.runs[0].given
    assert found.runs[0].given["TARGET"] == 0.55


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("parameters: {REPEATS: [3]}", r"sweep\.yml: parameters\.REPEATS: own\.ipynb has no parameter REPEATS; it has"),
        ("parameters: {TARGET: [high]}", r"parameters\.TARGET: TARGET is of type float, got 'high'"),
        ("parameters: {RESUME: [1]}", r"RESUME is of type bool, got 1"),
        ("datasets: [{DATASET: a, LABEL_KEY: 3}]", r"datasets\.0: LABEL_KEY is of type str, got 3"),
        ("seeds: [-1]", r"SEED: .*greater than or equal to 0 \(got -1\)"),
        ("profiles: [fast]", r"PROFILE: unknown profile 'fast'; known: full, quickstart"),
        ("strategies: [loar]", r"STRATEGIES: unknown strategy 'loar'"),
        ("strategies: [frozen_probe]\ncheckpoints: [nowhere]", r"CHECKPOINT: .*nowhere"),
        ("seeds: [1]\nexclude: [{SEED: 2}]", r"sweep\.yml: exclude\.0"),
    ],
)
def test_what_the_notebook_would_refuse_is_refused_before_anything_runs(grid_of, here, text, said):
    with pytest.raises(FrostlineError, match=said):
        grid_of(text)
    assert not (here / "sweeps").exists()


def test_a_data_set_that_is_not_there_is_a_matter_of_its_runs(grid_of):
    assert len(grid_of("datasets: [nowhere.h5ad, pancreas]").runs) == 2


def test_a_notebook_without_a_place_for_artifacts_is_refused(here, write_notebook):
    write_notebook(Path("bare.ipynb"), "SEED: int = 1", "print(SEED)")
    with pytest.raises(FrostlineError, match=r"bare\.ipynb has no parameter OUTPUT_DIR"):
        plan(Grid(notebook="bare.ipynb"), "x")


def test_a_grid_that_is_no_file_needs_a_folder(own):
    with pytest.raises(FrostlineError, match="say in which folder"):
        plan(Grid(notebook="own.ipynb"))


def keys(found) -> list[str]:
    return [run.key for run in found.runs]


def test_the_key_of_a_run_is_the_same_until_something_changes_that_decides_it(grid_of, monkeypatch):
    text = "datasets: [a.h5ad, b.h5ad]\nstrategies: [majority]\nseeds: [1]"
    before = keys(grid_of(text))
    assert keys(grid_of(text)) == before
    assert keys(grid_of(text.replace("[1]", "[1, 2]")))[::2] == before  # a larger grid holds the same runs
    assert keys(grid_of(text, folder="elsewhere")) == before
    Path("b.h5ad").write_bytes(b"cells")
    now = keys(grid_of(text))
    assert now[0] == before[0]
    assert now[1] != before[1]
    Path("b.h5ad").write_bytes(b"other cells")
    assert keys(grid_of(text))[1] not in (before[1], now[1])
    with Path("own.ipynb").open("a") as file:
        file.write("\n")
    assert not set(keys(grid_of(text))) & set(before)
    edited = keys(grid_of(text))
    monkeypatch.setattr(inputs, "code_sha256", lambda: "of another version")
    assert not set(keys(grid_of(text))) & set(edited)


def test_a_checkpoint_that_is_not_read_makes_no_run_of_its_own(grid_of, small_checkpoint):
    found = grid_of(f"strategies: [majority, frozen_probe]\ncheckpoints: [mini, '{small_checkpoint}']\nseeds: [1, 2]")
    assert found.alike == 2
    read = [(run.values["STRATEGIES"][0], Path(run.values["CHECKPOINT"]).name) for run in found.runs]
    assert sorted(set(read)) == [("frozen_probe", "mini"), ("frozen_probe", "small"), ("majority", "mini")]
    assert len(read) == 6
    assert "2 more would differ only in a checkpoint that they do not read" in str(found)


def test_runs_that_share_an_embedding_are_known(grid_of):
    found = grid_of("datasets: [a.h5ad, b.h5ad]\nstrategies: [majority, frozen_probe, head, lora]\nseeds: [1, 2]")
    shared = {(run.values["DATASET"], run.values["STRATEGIES"][0]): run.embedding for run in found.runs}
    assert shared["a.h5ad", "majority"] is None
    assert shared["a.h5ad", "lora"] is None  # it trains inside the encoder
    assert shared["a.h5ad", "frozen_probe"] == shared["a.h5ad", "head"] == ("a.h5ad", "mini")
    assert shared["b.h5ad", "head"] == ("b.h5ad", "mini")


def test_a_run_computes_on_the_processor_unless_it_reads_an_encoder(grid_of, write_notebook):
    write_notebook(Path("own.ipynb"), PARAMETERS + 'DEVICE: str = "auto"  # of the encoder\n', SAVE)
    found = grid_of("strategies: [pca_logistic, frozen_probe, lora]\nparameters: {DEVICE: [auto, cpu]}")
    devices = {(run.values["STRATEGIES"][0], run.values["DEVICE"]): run.device for run in found.runs}
    assert devices == {
        (strategy, asked): "cpu" if strategy == "pca_logistic" else asked
        for strategy in ("pca_logistic", "frozen_probe", "lora")
        for asked in ("auto", "cpu")
    }
