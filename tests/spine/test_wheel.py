"""The wheel: the package with its checkpoint and licence, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import frostline

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


def test_wheel_holds_mini_pancreas_and_the_licence(names):
    mini = {f"frostline/data/mini/{n}" for n in ("args.json", "vocab.json", "model.safetensors", "MODEL_CARD.md")}
    assert mini | {"frostline/data/mini/corpus_genes.csv"} <= names
    assert {f"frostline/data/datasets/{n}" for n in ("pancreas_baron_human_175.h5ad", "README.md")} <= names
    assert f"frostline-{frostline.__version__}.dist-info/licenses/LICENSE" in names


def test_wheel_holds_what_a_folder_of_a_lab_is_made_of(names, root):
    book = root / "widgets" / "frostline" / "book"
    files = {path.relative_to(root / "widgets").as_posix() for path in book.rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    assert {f"frostline/book/{name}" for name in ("vendor/html-manager/embed.js", "template/_config.yml")} <= files
    assert files <= names


def test_wheel_holds_nothing_but_the_package(names):
    assert {name.split("/")[0] for name in names} == {"frostline", f"frostline-{frostline.__version__}.dist-info"}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    notebooks = [name for name in names if name.endswith(".ipynb")]
    assert [Path(name).parent.as_posix() for name in notebooks] == ["frostline/book/template/notebooks"]


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
