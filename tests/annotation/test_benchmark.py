"""The benchmarks behind `make annotation` and `make situations`: what they count and write; the page has it."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from frostline.strategies import PcaLogistic


@contextmanager
def loaded(name):
    """A module of tests/benchmarks/."""
    path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{name}_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def benchmark():
    with loaded("annotation") as module:
        yield module


def test_rows_of_one_strategy_are_written_beside_those_of_the_other():
    with loaded("situations") as situations:
        page = situations.PAGE.read_text("utf-8")
        rows = [line for line in page.splitlines() if line.startswith("| ")]
        shown = {
            name: [row for row in rows if row.startswith("| mouse |") and f" {name} " in row]
            for name in situations.STRATEGIES
        }
        assert {name: len(found) for name, found in shown.items()} == dict.fromkeys(situations.STRATEGIES, 1)
        new = "| mouse | frozen_probe | annotated | refused | no |"
        again = situations.written(page, ["frozen_probe"], [new])
        assert again.count("| frozen_probe |") == page.count("| frozen_probe |") - 24
        assert new in again
        assert again.index(shown["pca_logistic"][0]) < again.index(new)
        assert situations.written(again, ["frozen_probe"], [new]) == again


def test_the_page_holds_every_table_and_both_sets_that_ship(benchmark):
    page = benchmark.PAGE.read_text("utf-8")
    before, after = (page.index(mark) for mark in benchmark.MARKS)
    shown = page[before:after]
    for key, head in benchmark.HEADS.items():
        assert f"{benchmark.TITLES[key]}\n\n| {' | '.join(head)} |" in shown
    for name in ("pbmc68k-reduced", "pancreas"):
        assert shown.count(f"| {name} | pca_logistic |") == shown.count(f"| {name} | frozen_probe |") == 2


def test_tables_are_written_between_the_marks_and_nowhere_else(benchmark):
    first, last = benchmark.MARKS
    lines = {key: [["x"] * len(head)] for key, head in benchmark.HEADS.items()}
    page = benchmark.written(f"Above\n\n{first}\nstale numbers\n{last}\nbelow", {**lines, "across": []}, "As said.")
    assert page.startswith("Above")
    assert page.endswith("below")
    assert "stale" not in page
    assert page.count("\n| ---") == 4
    assert benchmark.written(page, {**lines, "across": []}, "As said.") == page


@pytest.mark.slow
def test_a_small_set_is_counted(benchmark, three_kinds, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "STRATEGIES", (PcaLogistic,))
    monkeypatch.setattr(benchmark, "TUNED", ())
    donors = np.array([f"d{i % 2}" for i in range(len(three_kinds))])
    data = benchmark.Set("small", three_kinds, donors, None, None)
    found = benchmark.tables([data], 1)
    assert [line[:2] for line in found["stated"]] == [["small", "pca_logistic"]]
    assert float(found["stated"][0][2]) > 0.6
    assert found["others"][0][:3] == ["small", "another group", "pca_logistic"]
    alike = {line[1]: line[3:] for line in found["separation"]}
    assert set(alike) == {"the same groups", "another group"}  # and these are alike, too
    assert all(float(numbers[0].split(" to ")[1]) < 0.7 for numbers in alike.values())
    assert alike["another group"][1] == "0 of 2"
    assert len(found["withheld"]) == 1
    assert "stated | small" in capsys.readouterr().out
