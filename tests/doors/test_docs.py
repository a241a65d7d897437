"""Every example in a docstring runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import io
from pathlib import Path

import pytest

import frostline

pytestmark = pytest.mark.slow

ROOT = Path(frostline.__file__).parent
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules() -> list[str]:
    """Dotted names of the modules that hold an example."""
    paths = [path for path in sorted(ROOT.rglob("*.py")) if ">>>" in path.read_text(encoding="utf-8")]
    names = [".".join(("frostline", *path.relative_to(ROOT).with_suffix("").parts)) for path in paths]
    return [name.removesuffix(".__init__") for name in names]


@pytest.mark.parametrize("name", modules())
def test_examples(name, request, monkeypatch, tmp_path):
    if not name.endswith(".maps"):  # whose example is a map
        request.getfixturevalue("instant_umap")
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for examples in doctest.DocTestFinder(exclude_empty=True).find(module):
        said = io.StringIO()
        runner.run(examples, out=said.write)
        assert runner.failures == 0, said.getvalue()
    assert runner.tries > 0
    assert list(tmp_path.iterdir()) == []


def test_most_modules_hold_an_example():
    assert len(modules()) >= 20
