"""The wheel: the package with its checkpoint and licence, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from kernel_fixtures import NO_UMAP, begin_kernels_with

import frostline
from frostline.publishing.inputs import code_sha256, tree_sha256

pytestmark = pytest.mark.slow

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def names(wheel) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_is_pure_python_and_of_this_version(wheel):
    assert wheel.name == f"frostline-{frostline.__version__}-py3-none-any.whl"


def test_wheel_holds_every_module(names, root):
    package = root / "widgets"
    modules = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    assert modules <= names


def test_wheel_holds_mini_pancreas_genes_and_the_licence(names):
    mini = {f"frostline/data/mini/{n}" for n in ("args.json", "vocab.json", "model.safetensors", "MODEL_CARD.md")}
    assert mini | {"frostline/data/mini/corpus_genes.csv"} <= names
    assert {f"frostline/data/datasets/{n}" for n in ("pancreas_baron_human_175.h5ad", "README.md")} <= names
    assert {f"frostline/data/genes/{n}" for n in ("hgnc.tsv.xz", "README.md")} <= names
    assert f"frostline-{frostline.__version__}.dist-info/licenses/LICENSE" in names


def test_wheel_holds_what_a_folder_of_a_lab_is_made_of(names, root):
    book = root / "widgets" / "frostline" / "book"
    files = {path.relative_to(root / "widgets").as_posix() for path in book.rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    assert {f"frostline/book/{name}" for name in ("vendor/html-manager/embed.js", "template/_config.yml")} <= files
    assert files <= names


def test_wheel_holds_nothing_but_the_package(names):
    version = f"frostline-{frostline.__version__}"
    assert {name.split("/")[0] for name in names} == {"frostline", f"{version}.dist-info", f"{version}.data"}
    card = {
        f"{version}.data/data/share/jupyter/labextensions/frostline/{name}"
        for name in ("package.json", "static/card.js")
    }
    assert {name for name in names if ".data/" in name} == card
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    notebooks = {Path(name).parent.as_posix() for name in names if name.endswith(".ipynb")}
    assert notebooks == {"frostline/book/template/notebooks", "frostline/data/tutorials"}


def test_wheel_holds_the_tutorials_as_they_are_in_the_repository(wheel, root):
    with zipfile.ZipFile(wheel) as archive:
        folder = "frostline/data/tutorials/"
        held = {name.removeprefix(folder): archive.read(name) for name in archive.namelist() if folder in name}
    assert held == {path.name: path.read_bytes() for path in (root / "notebooks").glob("*.ipynb")}


def test_tutorial_runs_by_name_in_any_folder(wheel_folder, small_checkpoint, tmp_path):
    """From the wheel alone, with cells of one's own; the installed files stay as they are, also for the page's sake."""
    begin_kernels_with(NO_UMAP)
    paths = [str(wheel_folder), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

    def call(code: str, *arguments: str) -> str:
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    before = tree_sha256(wheel_folder / "frostline")
    program = "from frostline.cli import main; main()"
    assert "do_i_need_fine_tuning  [comes with frostline]" in call(program, "tutorials")
    given = ["-p", "DATASET=pancreas", "-p", f"CHECKPOINT={small_checkpoint}", "-p", 'STRATEGIES=["pca_logistic"]']
    said = call(program, "run", "cell_type_annotation", *given, "-p", "OUTPUT_DIR=mine")
    assert "check      passed" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "mine.ipynb"]
    assert tree_sha256(wheel_folder / "frostline") == before
    code = "from frostline.publishing.inputs import code_sha256; print(code_sha256())"
    assert call(code).strip() == code_sha256()


def test_wheel_is_small(wheel):
    assert wheel.stat().st_size < 12 * MEGABYTE


def test_command_is_declared(wheel):
    with zipfile.ZipFile(wheel) as archive:
        entry = archive.read(f"frostline-{frostline.__version__}.dist-info/entry_points.txt").decode()
    assert "frostline = frostline.cli:main" in entry


def test_package_works_from_the_wheel_alone(wheel_folder, tmp_path):
    code = "import frostline; print(frostline.__file__); print(frostline.load_checkpoint('mini').encoder().load_report)"
    environment = {**os.environ, "PYTHONPATH": str(wheel_folder)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    file, report = done.stdout.splitlines()
    assert Path(file).is_relative_to(wheel_folder)
    assert "encoder tensors matched" in report
