"""Every command that a page, a notebook or a template prints runs as it is printed there, on a few cells.

A command that is collected and is neither run nor listed with a reason fails. Notebooks are executed in this process:
kernels are tested by `test_executions` and `test_notebooks`.
"""

from __future__ import annotations

import ast
import functools
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import anndata
import click.testing
import nbformat
import numpy as np
import papermill.cli
import pytest
import yaml
from papermill.engines import papermill_engines
from printed_commands import collected
from runs_here import sweep_here
from typer.main import get_command
from typer.testing import CliRunner
from without_kernel import InThisProcess

from frostline import cli, profiles
from frostline.comparison import jobs
from frostline.evaluation import evaluations
from frostline.evaluation.estimates import Estimate
from frostline.pretraining import runs
from frostline.publishing import kernels, publications
from frostline.sweeps import sweeping
from frostline.sweeps.grids import Grid

pytestmark = pytest.mark.usefixtures("computed_once")

ROOT = Path(__file__).parents[2]
COMMANDS = collected(ROOT)
FILLED_IN = {
    "frostline check FOLDER": {"FOLDER": "artifacts/scgpt_cell_type_annotation"},
    "frostline init FOLDER": {"FOLDER": "another-folder"},
    "frostline publish NAME": {"NAME": "first_comparison"},
    "frostline pretrain CORPUS.h5ad -o FOLDER --seed 0": {"CORPUS.h5ad": "corpus.h5ad", "FOLDER": "own1"},
    "frostline pretrain CORPUS.h5ad... -o FOLDER --seed 0": {"CORPUS.h5ad...": "corpus.h5ad", "FOLDER": "own1"},
    "frostline run cell_type_annotation -p CHECKPOINT=whole-human": {"whole-human": "small"},
}
"""What stands for something of the reader's, and what it is here; two that are then the same run once."""
NOT_HERE = {
    "cd our-studies": "a step of the shell; what follows runs in that folder",
    "frostline checkpoints download whole-human": "fetches 200 MB; test_downloads has a server of its own",
    "frostline lab": "opens a browser; test_launcher drives a JupyterLab",
    "frostline lab mine.h5ad": "opens a browser; test_launcher drives a JupyterLab",
    "jupyter-book build book --config _config.yml --path-output build/site -W -n --keep-going --all": "tests/book",
    "make annotation": "measures for the better part of an hour; tests of the annotation room look at its rules",
    "make bench-memory": "labels cells for minutes",
    "make bench": "measures for half an hour; test_performance holds the page to what was measured",
    "make bench ONLY=part": "measures for minutes",
    "make bench ONLY=peers": "measures for minutes, beside software that it installs",
    "make browser": "installs a browser",
    "make colab": "changes the notebooks; test_repository looks at the cell",
    "make dropout FIELD=lora_dropout": "trains for half an hour",
    "python tests/benchmarks/graphs.py": "measures for minutes on a GPU",
    "python tests/benchmarks/decompositions.py": "measures for minutes, beside a program that keeps a core busy",
    "python tests/benchmarks/waiting.py --rounds 2": "measures for minutes, beside programs that keep all cores busy",
    "make dropout KANG=kang_muscat.h5ad": "trains for half an hour, on data that is not shipped",
    "python tests/benchmarks/long_cells.py": "fits probes for minutes",
    "make bench ONLY=cluster": "measures for a quarter of an hour",
    "make bench ONLY=gpu_training": "measures for minutes on a GPU",
    "python tests/benchmarks/performance_costs.py": "test_performance compares what it prints with the guide",
    "frostline embed atlas.h5ad -o embedded.zarr --scheduler tcp://10.0.0.1:8786": "test_atlases has one of its own",
    "frostline embed atlas.h5ad -o embedded.zarr --cluster slurm --cluster-config slurm.yml --workers 8": (
        "needs SLURM; test_connections looks at what it is asked for"
    ),
    "make kills": "kills commands for half an hour",
    "make test-gpu": "the tests themselves",
    "make house": "draws a picture of the package; test_package looks at it",
    "make clean": "removes the environment that the tests run in",
    "make lab": "opens a browser; test_lab drives a JupyterLab",
    "make lint": "a job of its own",
    "make mini-report": "computes for hours, on data that is not shipped",
    "make situations LABELLED=FOLDER": "annotates for minutes, on data that is not shipped",
    "make statistics": "simulates thousands of comparisons; test_worlds looks at a few",
    "make test": "runs these tests",
    "make tuning KANG=kang_muscat.h5ad": "trains for hours, on data that is not shipped",
    "make test-fast": "runs some of these tests",
    "export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu": "chooses where packages are fetched from",
    "pip install": "the name of a command",
    "pip install -c constraints.txt -e .": "fetches packages",
    'pip install "frostline[cluster]"': "fetches packages",
    'pip install -c constraints.txt ".[book]"': "fetches packages",
    "python3.11 -m venv --upgrade-deps .venv": "makes an environment",
    "python3.11 -m venv --upgrade-deps .venv && source .venv/bin/activate": "makes an environment",
    "source .venv/bin/activate": "a step of the shell",
}
MADE_OF_OTHERS = {"make quickstart", "make publish", "make book", "make release"}
"""Targets whose recipes are among the commands."""
NAMES = {"frostline", "frostline check", "frostline embed", "frostline run"}
"""Named in a sentence, without what they need."""
IN_A_LAB = {"frostline publish", "frostline publish NAME", "frostline book", "frostline book --release"}
"""Run in the folder that `frostline init our-studies` makes."""


SMALL = {
    "CHECKPOINT": "small",
    "STRATEGIES": ["pca_logistic", "frozen_probe"],
    "REPEATS": 1,
    "BUDGETS": [5],
    "WITHHOLD": False,
}
"""Defaults of the clone's notebooks: `test_protocol_tutorial` and `test_notebooks` execute them with their own."""


def two_coordinates(embedding, *, seed):
    """In the place of a UMAP; none of one dimension, as there."""
    return np.array(embedding[:, :2]) if embedding.shape[1] >= 2 else None


def umap_of_two_coordinates(adata, **_) -> None:
    """What scanpy leaves; `test_embeddings_tutorial` computes it."""
    adata.obsm["X_umap"] = np.array(adata.obsm["X_scGPT"][:, :2])


def write_small_sweep(folder: Path) -> None:
    """The grid of the guide: one run of it, on cells of the reader's."""
    text = (ROOT / "book" / "howto" / "sweep.md").read_text(encoding="utf-8")
    grid = yaml.safe_load(re.search(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[1])
    assert set(grid) == set(Grid.model_fields)
    assert len(Grid.model_validate(grid).combinations()) == 2 * 2 * 2 - 1
    for name in ("datasets", "strategies", "seeds"):
        grid[name] = grid[name][-1:] if name == "datasets" else grid[name][:1]
    (folder / "depth.yml").write_text(yaml.safe_dump({**grid, "exclude": []}), encoding="utf-8")


def make_small(notebook: Path) -> None:
    """Give the parameters cell the values of `SMALL`."""
    source = nbformat.read(notebook, 4)
    (cell,) = [cell for cell in source.cells if "parameters" in cell.metadata.get("tags", ())]
    tree = ast.parse(cell.source)
    for statement in tree.body:
        if statement.target.id in SMALL:
            statement.value = ast.Constant(SMALL[statement.target.id])
    cell.source = ast.unparse(tree)
    nbformat.write(source, notebook)


def trained_once(evaluate):
    """Many commands run the same strategies on the same cells: the first one trains them."""
    known = {}

    def look_up(strategy, dataset, cut, monitor):
        data = (dataset.fingerprint(), dataset.name, dataset.label_key, dataset.group_key)
        key = (strategy, *data, cut.fingerprint, cut.genes, cut.profile, cut.seed, cut.repeat, cut.budget, cut.unseen)
        if key not in known:
            known[key] = evaluate(strategy, dataset, cut, monitor)
        return known[key]

    return look_up


@pytest.fixture(scope="module")
def quick(instant_pictures_throughout, computed_once):
    """Few cells, short training, no strategy timed beforehand, two coordinates for a UMAP, nothing painted or built."""
    with pytest.MonkeyPatch.context() as patch:
        for name in profiles.PROFILES:
            small = profiles.Profile(name, 60, 60, 32, 2, 1, 1e-3, 1e-3, 1, tuning_genes=20)
            patch.setitem(profiles.PROFILES, name, small)
        patch.setattr("frostline.evaluation.maps.umap_of", two_coordinates)
        patch.setattr("scanpy.tl.umap", umap_of_two_coordinates)
        patch.setattr("frostline.panels.costs.estimate", lambda *_: Estimate(1.0))
        checked = trained_once(evaluations.evaluate_checked)
        for place in (evaluations, jobs):
            patch.setattr(place, "evaluate_checked", checked)
        for name in (None, kernels.ENGINE):
            patch.setitem(papermill_engines._engines, name, InThisProcess)
        built = subprocess.CompletedProcess([], 0, "", "")
        patch.setattr(sweeping, "run", sweep_here)
        patch.setattr(publications, "subprocess", SimpleNamespace(run=lambda *_, **__: built))
        long = runs.pretrain
        patch.setattr(runs, "pretrain", lambda *given, **options: long(*given, **{**options, "steps": 2}))
        yield patch


@pytest.fixture(scope="module")
def project(tmp_path_factory, quick, counts_file, small_checkpoint) -> Path:
    """A clone's notebooks and table of contents, cells of the reader's in mine.h5ad, and a first run."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    for notebook in (folder / "notebooks").glob("*.ipynb"):
        make_small(notebook)
    (folder / "book").mkdir()
    shutil.copy(ROOT / "book" / "_toc.yml", folder / "book")
    shutil.copytree(small_checkpoint, folder / "small")
    shutil.copy(counts_file, folder / "corpus.h5ad")
    cells = anndata.read_h5ad(counts_file)
    common = cells.obs["kind"].isin(cells.obs["kind"].value_counts().index[:2])
    mine = cells[common][:80].copy()
    mine.obs = mine.obs.rename(columns={"kind": "cell_type"})
    mine.obs["donor"] = [f"donor {i % 4}" for i in range(mine.n_obs)]
    mine.write_h5ad(folder / "mine.h5ad")
    mine.obs = mine.obs[[]]
    mine.write_h5ad(folder / "new.h5ad")
    mine.write_h5ad(folder / "atlas.h5ad")
    write_small_sweep(folder)
    quick.chdir(folder)
    run("frostline init our-studies")
    run("frostline run cell_type_annotation -p STRATEGIES=pca_logistic")
    return folder


def run(command: str) -> str:
    """Run a command in this process, and return what it prints."""
    command, _, file = command.partition(" > ")
    program, *arguments = shlex.split(command)
    if program == "papermill":
        done = click.testing.CliRunner().invoke(papermill.cli.papermill, arguments)
    else:
        assert program == "frostline"
        done = CliRunner().invoke(cli.app, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    if file:
        Path(file).write_text(done.stdout, encoding="utf-8")
    return done.output


@functools.cache
def once(command: str) -> str:
    """As `run`; a command that is printed with different placeholders need not run twice."""
    return run(command)


def kind_of(command: str) -> str:
    """How a command is dealt with; empty when nobody has thought of it."""
    if command in NOT_HERE:
        return "not here"
    if command in MADE_OF_OTHERS:
        return "make"
    if command.split()[0] in ("frostline", "papermill"):
        return "name" if command in NAMES else "run"
    return ""


def test_every_command_is_run_or_listed_with_a_reason():
    assert [command for command in COMMANDS if not kind_of(command)] == []
    assert len(COMMANDS) > 30


def test_lists_name_no_command_that_is_printed_nowhere():
    listed = {*NOT_HERE, *FILLED_IN, *MADE_OF_OTHERS, *IN_A_LAB, *NAMES}
    assert listed - set(COMMANDS) == set()


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(command for command in COMMANDS if kind_of(command) == "run"))
def test_command_runs_as_it_is_printed(command, project, monkeypatch):
    monkeypatch.chdir(project / "our-studies" if command in IN_A_LAB else project)
    if command.startswith("frostline book"):
        run("frostline publish")
    if "my-model" in command and not command.startswith("frostline adapt"):
        once(next(each for each in COMMANDS if each.startswith("frostline adapt ") and each.endswith("-o my-model")))
    if command.endswith("--collect"):
        run(command.removesuffix(" --collect"))
    filled = command
    for placeholder, real in FILLED_IN.get(command, {}).items():
        filled = filled.replace(placeholder, real)
    if filled == "frostline init our-studies":
        monkeypatch.chdir(shutil.copytree(project / "book", project / "elsewhere"))
    said = once(filled)
    if " run " in filled:
        assert "check      passed" in said


@pytest.mark.parametrize("command", sorted(command for command in COMMANDS if kind_of(command) == "name"))
def test_named_command_exists(command):
    assert "Usage: " in run(f"{command} --help")


@pytest.mark.parametrize("command", sorted(MADE_OF_OTHERS))
def test_target_runs_commands_that_are_tested(command):
    done = subprocess.run(["make", "-n", command.split()[1]], cwd=ROOT, capture_output=True, text=True, check=True)
    recipes = re.findall(r"^\S*bin/(frostline .*)$", done.stdout, re.MULTILINE)
    assert recipes
    assert [recipe for recipe in recipes if kind_of(recipe) != "run"] == []


def test_commands_that_help_names_exist():
    """`--help` of every command, where it points to another one."""
    helps = [run("frostline --help")] + [run(f"frostline {name} --help") for name in typer_commands()]
    named = {name for text in helps for name in re.findall(r"\(frostline ([a-z]+)", " ".join(text.split()))}
    assert {"tutorials"} <= named
    assert named - set(typer_commands()) == set()


def typer_commands() -> list[str]:
    return sorted(get_command(cli.app).commands)
