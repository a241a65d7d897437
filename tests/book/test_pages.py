"""What the pages of the book say: their examples run, their commands exist."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from published_project import ROOT
from typer.main import get_command

from frostline import cli, evaluate, split
from frostline.cells import datasets
from frostline.encoder import catalogue

BOOK = ROOT / "book"
PAGES = sorted(path for path in BOOK.rglob("*.md") if "published" not in path.parts)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def name_of(page: Path) -> str:
    return page.relative_to(BOOK).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def own_registries():
    """Let a page add to the lists of data sets and checkpoints without leaving anything there."""
    with mock.patch.dict(datasets.DATASETS), mock.patch.dict(catalogue.CHECKPOINTS):
        yield


@pytest.mark.usefixtures("own_registries", "instant_umap", "instant_pictures")
@pytest.mark.parametrize("page", [page for page in PAGES if ">>>" in page.read_text(encoding="utf-8")], ids=name_of)
def test_examples_of_a_page_run(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    text = "\n".join(blocks(page, "pycon"))
    assert text.count(">>>") == page.read_text(encoding="utf-8").count(">>>")
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    runner.run(doctest.DocTestParser().get_doctest(text, {}, name_of(page), str(page), 0), out=said.append)
    assert runner.failures == 0, "".join(said)


@pytest.mark.usefixtures("instant_umap")
def test_strategy_of_the_page_can_be_compared_and_saved(pbmc: datasets.Dataset, tmp_path: Path) -> None:
    (code,) = blocks(BOOK / "howto" / "strategy.md", "python")
    names: dict[str, object] = {"__name__": "page"}
    exec(compile(code, "strategy.md", "exec", dont_inherit=True), names)
    kind = names["NearestMean"]
    cut = split(pbmc, seed=1)
    record = evaluate(kind(), pbmc, cut)
    assert record.strategy == "nearest_mean"
    assert record.metrics["accuracy"] > 0.5
    fitted = kind().fit(pbmc, cut)
    fitted.save(tmp_path)
    again = kind.load(tmp_path).predict_proba(pbmc, cut.test)
    np.testing.assert_allclose(again.sum(axis=1), 1)
    np.testing.assert_array_equal(again, fitted.predict_proba(pbmc, cut.test))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_of_a_page_exist(page: Path) -> None:
    lines = [line[2:] for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ ")]
    lines = [line.partition(" > ")[0] for line in lines]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    program = get_command(cli.app)
    for command, *words in [shlex.split(line, comments=True) for line in lines]:
        assert command in {"make", "frostline", "papermill", "pip", "python3.11", "source", "cd", "export"}
        if command == "make":
            assert set(words) <= targets
        if command == "frostline":
            group = program.commands[words[0]]
            while hasattr(group, "commands"):
                words = words[1:]
                group = group.commands[words[0]]
            group.make_context(words[0], [word for word in words[1:] if word != "FOLDER"], resilient_parsing=True)
    commands = re.findall(r"`(?:frostline|make) ([a-z-]+)", page.read_text(encoding="utf-8"))
    assert set(commands) <= {*targets, *program.commands}


def test_every_how_to_page_is_linked_from_their_list() -> None:
    pages = {path.name for path in (BOOK / "howto").glob("*.md")} - {"index.md"}
    assert pages == set(re.findall(r"\]\((\w+\.md)\)", (BOOK / "howto" / "index.md").read_text()))


WORKFLOWS = {"publish": {"make publish", "make release"}, "test": {"make lint", "make test"}}


def workflow(name: str) -> str:
    return (ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflow_runs_the_make_targets_and_nothing_else(name: str) -> None:
    import yaml

    assert {path.stem for path in (ROOT / ".github" / "workflows").iterdir()} == WORKFLOWS.keys()
    jobs = yaml.safe_load(workflow(name))["jobs"]
    runs = {line for job in jobs.values() for step in job["steps"] for line in step.get("run", "").splitlines()}
    assert runs == WORKFLOWS[name]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_of_the_workflow_are_pinned_by_commit_and_say_their_version(name: str) -> None:
    used = re.findall(r"uses: (.*)", workflow(name))
    assert len(used) >= 2
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action) for action in used)


def test_api_lists_every_module_of_the_package() -> None:
    package = ROOT / "widgets" / "frostline"
    there = {".".join(path.relative_to(package).with_suffix("").parts) for path in package.rglob("*.py")}
    there = {name.removesuffix(".__init__") for name in there}
    text = "".join(path.read_text(encoding="utf-8") for path in (BOOK / "api").glob("*.md"))
    listed = set(re.findall(r"automodule:: frostline\.(\S+)", text))
    rooms = {path.parent.name for path in package.glob("*/__init__.py")} - {"strategies"}
    inner = {"__init__", *rooms, *(name for name in there if name.startswith(("book.", "cli.")))}
    assert listed == there - inner
