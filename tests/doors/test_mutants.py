"""What `make mutants` changes, and which tests it runs."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

MUTANTS = runpy.run_path(str(Path(__file__).parents[1] / "mutants.py"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = a < b", ["x = (a <= b)", "x = (a >= b)"]),
        ("x = a is None and not (b or c)", ["x = (a is None or not (b or c))", "x = (a is not None) and not (b or c)"]),
        ("x = é + 2 * b", ["x = (é - 2 * b)", "x = é + (2 / b)", "x = é + 3 * b"]),
        ("def f(n: int = 3) -> int:\n    return n", ["def f(n: int = 4) -> int:", "    return None"]),
        ("def f():\n    return None", []),
        ("f(a, b=c, strict=True)", ["f(a, strict=True)"]),
        ("f(a, encoding='utf-8', repr=False)", []),
        ('"""Doc."""\nx = f"{a + 1}" + "b"', []),
    ],
)
def test_one_point_is_changed_at_a_time(before, after, tmp_path):
    module = tmp_path / "module.py"
    module.write_text(before, encoding="utf-8")
    found = [mutant.source for mutant in MUTANTS["mutants"](module)]
    assert all(any(wanted in source for source in found) for wanted in after)
    assert (not found) == (not after)
    assert module.read_text(encoding="utf-8") == before


def test_tests_of_a_module_are_those_named_after_it_its_examples_and_those_that_import_it():
    package = MUTANTS["PACKAGE"]
    first, examples, *rest = MUTANTS["tests_of"](package / "cells" / "splits.py")
    assert first.endswith("test_splits.py")
    assert examples.endswith("test_docs.py::test_examples[frostline.cells.splits]")
    assert all("frostline.cells" in Path(file).read_text(encoding="utf-8") for file in rest)
    of_one = {Path(file).name for file in MUTANTS["tests_of"](package / "strategies" / "pca_knn.py")}
    assert {"test_base.py", "test_baselines.py"} <= of_one
    paths = [path for room in MUTANTS["ROOMS"] for path in (package / room).glob("*.py")]
    assert [path for path in paths if path.stem != "__init__" and not MUTANTS["tests_of"](path)] == []


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            "..F\nFAILED tests/cells/test_genes.py::test_a - assert 1 == 2\n1 failed",
            "tests/cells/test_genes.py::test_a",
        ),
        ("ERROR tests/cells/test_genes.py\n", "tests/cells/test_genes.py"),
        ("ImportError while loading conftest '/a/tests/cells/conftest.py'.\nE  TypeError", "tests/cells/conftest.py"),
        ("no tests ran", ""),
    ],
)
def test_what_failed_is_named(output, expected):
    assert MUTANTS["failed_in"](output) == expected
