"""SWEEP.yml: what it stands for, and what is wrong with it, by field and value."""

from __future__ import annotations

from pathlib import Path

import pytest

from frostline.errors import FrostlineError
from frostline.sweeps.grids import Grid, read_grid


def read(folder: Path, text: str) -> Grid:
    path = folder / "sweep.yml"
    path.write_text(text, encoding="utf-8")
    return read_grid(path)


def test_a_combination_takes_one_value_of_each_axis(tmp_path):
    grid = read(
        tmp_path,
        """
        datasets: [pancreas, {DATASET: kang.h5ad, LABEL_KEY: cell}]
        strategies: [lora, [head, pca_knn]]
        seeds: [1, 2, 3]
        parameters: {REPEATS: [1], BUDGETS: [[5, 10], []]}
        """,
    )
    found = grid.combinations()
    assert len(found) == 2 * 2 * 3 * 1 * 2
    first = {"DATASET": "pancreas", "STRATEGIES": ["lora"], "SEED": 1, "REPEATS": 1, "BUDGETS": [5, 10]}
    last = {"DATASET": "kang.h5ad", "LABEL_KEY": "cell", "STRATEGIES": ["head", "pca_knn"], "SEED": 3}
    assert found[0] == first
    assert found[-1] == {**last, "REPEATS": 1, "BUDGETS": []}
    assert len({str(each) for each in found}) == len(found)


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ("{SEED: 1}", [("a", 2), ("b", 2)]),
        ("{STRATEGIES: a, SEED: [1, 2]}", [("b", 1), ("b", 2)]),
        ("{STRATEGIES: [a], SEED: 2}", [("a", 1), ("b", 1), ("b", 2)]),
    ],
)
def test_what_has_all_values_of_an_exclusion_is_left_out(tmp_path, exclude, left):
    grid = read(tmp_path, f"strategies: [a, b]\nseeds: [1, 2]\nexclude: [{exclude}]")
    assert [(*each["STRATEGIES"], each["SEED"]) for each in grid.combinations()] == left


def test_a_list_of_strategies_is_excluded_by_each_of_them(tmp_path):
    grid = read(tmp_path, "strategies: [[a, b], c]\nexclude: [{STRATEGIES: b}]")
    assert [each["STRATEGIES"] for each in grid.combinations()] == [["c"]]


def test_an_exclusion_that_excludes_nothing_is_refused(tmp_path):
    grid = read(tmp_path, "seeds: [1, 2]\nexclude: [{SEED: 3}]")
    with pytest.raises(FrostlineError, match=r"exclude\.0: \{'SEED': 3\} matches no combination.*SEED"):
        grid.combinations()


def test_exclusions_that_leave_nothing_are_refused(tmp_path):
    text = "seeds: [1, 2]\nexclude: [{SEED: 1}, {SEED: 2}]"
    with pytest.raises(FrostlineError, match="exclude: leaves out all 2 combinations; leave an entry of it out"):
        read(tmp_path, text).combinations()
    assert read(tmp_path, text.replace(", {SEED: 2}", "")).combinations() == [{"SEED": 2}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seeds: [1, '2']", r"seeds\.1: Input should be a valid integer, got '2'"),
        ("seeds: [true]", r"seeds\.0: .*integer, got True"),
        ("seeds: [1, 1]", "seeds: 1 stands there twice"),
        ("seed: 3", "seed: no field of a sweep, got 3. The fields are: notebook, datasets"),
        ("seeds: [1]\nseeds: [2]", "seeds stands there twice, in line 1"),
        ("parameters: {REPEATS: 3}", r"parameters\.REPEATS: Input should be a valid list, got 3"),
        ("datasets: []", r"datasets: .*at least 1 item.*, got \[\]"),
        ("seeds: []", r"seeds: .*at least 1 item.*, got \[\]"),
        ("datasets: &a [*a]", "is no YAML of a sweep: it is nested too deeply, or an alias holds itself"),
        ("parameters: {REPEATS: []}", r"parameters\.REPEATS: .*at least 1 item"),
        ("parameters: {A: [{b: 1}]}", r"parameters\.A\.0: a value is a text, a number"),
        ("seeds: [1]\nparameters: {SEED: [2]}", "parameters: SEED is set by seeds already"),
        ("datasets: [{DATASET: a, LABEL_KEY: b}]\nparameters: {LABEL_KEY: [c]}", r"LABEL_KEY is set by datasets\.0"),
        ("parameters: {OUTPUT_DIR: [x]}", "OUTPUT_DIR is chosen for each run"),
        ("datasets: [{OUTPUT_DIR: x}]", "datasets: OUTPUT_DIR is chosen for each run"),
        (
            "datasets: [a, {DATASET: b, SEED: 7}]\nseeds: [1]",
            r"seeds: SEED is set by datasets\.1 already; leave one of",
        ),
        ("datasets: [{DATASET: b, STRATEGIES: [c]}]\nstrategies: [d]", r"strategies: STRATEGIES is set by datasets\.0"),
        ("strategies: [[]]", r"strategies\.0: .*at least 1 item"),
        ("strategies: [no]", r"strategies\.0: .*got False"),
        ("[1, 2]", r"holds \[1, 2\], where a sweep has fields"),
        ("", "holds None, where a sweep has fields"),
        ("a: b: c", "is no YAML of a sweep: mapping values"),
        ("datasets: !!python/object/apply:os.system ['true']", "is no YAML of a sweep"),
    ],
)
def test_what_is_wrong_is_named_with_its_field_and_value(tmp_path, text, said):
    with pytest.raises(FrostlineError, match=said) as refused:
        read(tmp_path, text)
    assert str(tmp_path / "sweep.yml") in str(refused.value)


def test_an_empty_grid_is_one_run_of_the_defaults(tmp_path):
    assert read(tmp_path, "notebook: own.ipynb").combinations() == [{}]
