"""Every example in a docstring runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import io
from pathlib import Path

import pytest

import frostline
from frostline.annotation import adapting
from frostline.cells.catalogue import DATASETS
from frostline.evaluation import evaluations

pytestmark = pytest.mark.slow

ROOT = Path(frostline.__file__).parent
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules() -> list[str]:
    """Dotted names of the modules that hold an example."""
    paths = [path for path in sorted(ROOT.rglob("*.py")) if ">>>" in path.read_text(encoding="utf-8")]
    names = [".".join(("frostline", *path.relative_to(ROOT).with_suffix("").parts)) for path in paths]
    return [name.removesuffix(".__init__") for name in names]


@pytest.fixture(scope="module")
def made_once():
    """What many examples begin with, the same record and the same model of a registered data set, is made by the first.

    Both are held to be the same for the same seed elsewhere; a call with anything else is made as it stands.
    """
    evaluate, keep = evaluations.evaluate, adapting.keep
    records, models = {}, {}

    def evaluate_once(strategy, dataset, cut, *others, **options):
        if others or options or dataset.name not in DATASETS:
            return evaluate(strategy, dataset, cut, *others, **options)
        key = (strategy, dataset.fingerprint(), cut.fingerprint, cut.genes, cut.profile)
        if key not in records:
            records[key] = evaluate(strategy, dataset, cut)
        return records[key]

    def keep_once(comparison, dataset, *others, **options):
        key = tuple(id(record) for record in comparison.records)
        if (
            others
            or options
            or not all(any(record is made for made in records.values()) for record in comparison.records)
        ):
            return keep(comparison, dataset, *others, **options)
        if key not in models:
            models[key] = keep(comparison, dataset)
        return models[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frostline, "evaluate", evaluate_once)
        for place in (frostline.annotation, adapting):
            patch.setattr(place, "keep", keep_once)
        yield


@pytest.mark.usefixtures("made_once")
@pytest.mark.parametrize("name", modules())
def test_examples(name, request, monkeypatch, tmp_path):
    if not name.endswith(".maps"):  # whose example is a map
        request.getfixturevalue("instant_umap")
    if not name.startswith("frostline.comparison"):  # whose examples are of figures
        request.getfixturevalue("instant_pictures")
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
