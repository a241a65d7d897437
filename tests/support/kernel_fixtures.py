"""Fixtures of the way from a command to a page: kernels of their own, artifacts without training."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import anndata
import forked_kernels
import nbformat
import numpy as np
import pytest
from scipy import sparse

ROOT = Path(__file__).parents[2]


KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}


@pytest.fixture(scope="session")
def root() -> Path:
    """Root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built offline with the build backend of the test environment."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, ROOT]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def wheel_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel, to be put on PYTHONPATH."""
    folder = tmp_path_factory.mktemp("wheel_folder")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def own_jupyter_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep kernels and servers away from the Jupyter and IPython folders of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        keep_away(patch, tmp_path_factory.mktemp("jupyter"))
        yield


def keep_away(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Give kernels and servers a folder of their own."""
    for name in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR"):
        patch.setenv(f"JUPYTER_{name}", str(folder / name.lower()))
    patch.setenv("IPYTHONDIR", str(folder / "ipython"))


def begin_kernels_with(code: str) -> None:
    """Make kernels that find the folders of this moment run some code when they start."""
    folder = Path(os.environ["IPYTHONDIR"], "profile_default", "startup")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "of_tests.py").write_text(code)


NO_UMAP = """
from frostline.evaluation import maps
maps.umap_of = lambda found, *, seed: found[:, :2].copy() if min(found.shape) > 4 else None
del maps
"""
"""What `instant_umap` does, for kernels."""
SHORT = f"""
{NO_UMAP}
import dataclasses, frostline.profiles
frostline.profiles.PROFILES["quickstart"] = dataclasses.replace(
    frostline.profiles.PROFILES["quickstart"], head_epochs=2, lora_epochs=1, min_steps=0
)
del dataclasses, frostline
"""
"""An epoch or two, and no UMAP."""


@pytest.fixture(scope="session")
def kernel_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Start the process that kernels are forked from; what the environment of who starts them must say."""
    script = Path(forked_kernels.__file__)
    command = [sys.executable, str(script)]
    spec = {"argv": [*command, "-f", "{connection_file}"], "display_name": "Python 3 (ipykernel)", "language": "python"}
    folder = tmp_path_factory.mktemp("forked")
    (folder / "kernels" / "python3").mkdir(parents=True)
    (folder / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec))
    with tempfile.TemporaryDirectory(prefix="kernels-") as sockets:
        environment = {forked_kernels.WHERE: f"{sockets}/server", "JUPYTER_PATH": str(folder)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(
            [*command, "serve"], env=os.environ | environment, start_new_session=True, **pipes
        ) as server:
            assert server.stdout.readline() == b"ready\n"
            yield environment
            server.stdin.close()


@pytest.fixture(scope="session")
def with_forked_kernels(request: pytest.FixtureRequest):
    """In a block of this all kernels are forked: real ones, that import at once what others have imported.

    Where it matters how a kernel starts, or what it imports, it is started as ever.
    """

    @contextlib.contextmanager
    def fork() -> Iterator[None]:
        from frostline.publishing import kernels

        with pytest.MonkeyPatch.context() as patch:
            for name, value in request.getfixturevalue("kernel_server").items():
                patch.setenv(name, value)
            patch.setattr(kernels, "PROCESS", Path(forked_kernels.__file__))
            yield

    return fork


@pytest.fixture
def quick_kernels(with_forked_kernels) -> Iterator[None]:
    """Kernels of one test are forked."""
    with with_forked_kernels():
        yield


@pytest.fixture
def heard_interrupts() -> Iterator[None]:
    """SIGINT interrupts this process and those it starts, also where a shell in the background had it ignored."""
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, earlier)


@pytest.fixture(scope="session")
def write_notebook():
    """Write a notebook of a title, a parameters cell and further code cells."""

    def write(path: Path, parameters: str, *cells: str) -> Path:
        notebook = nbformat.v4.new_notebook(metadata={"kernelspec": KERNELSPEC})
        first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
        others = [nbformat.v4.new_code_cell(cell) for cell in cells]
        notebook.cells = [nbformat.v4.new_markdown_cell("# A small tutorial"), first, *others]
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, path)
        return path

    return write


@pytest.fixture(scope="session")
def counts_file(pbmc, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled cells as a stranger brings them: an .h5ad with counts in X and labels in the column `kind`."""
    known = pbmc.adata
    shares = np.expm1(known.raw.X.toarray()) / 1e4
    counts = np.rint(shares * known.obs["n_counts"].to_numpy()[:, None]).astype(np.float32)
    adata = anndata.AnnData(sparse.csr_matrix(counts), var=known.raw.var[[]].copy())
    adata.obs_names = [f"{name}-mine" for name in known.obs_names]
    adata.obs["kind"] = known.obs["bulk_labels"].astype(str).to_numpy()
    path = tmp_path_factory.mktemp("counts") / "mine.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.fixture(scope="session")
def drawn() -> dict[tuple[str, ...], bytes]:
    """Pictures that `save_artifacts` has drawn."""
    return {}


@pytest.fixture
def save_artifacts(make_record, pbmc, fresh, drawn):
    """Write the artifacts of a run that never trained, through the package's own `save`.

    Pictures of the same records are drawn once: `test_exports` draws its own.
    """
    from frostline.artifacts import exports, pictures
    from frostline.comparison.comparisons import compare
    from frostline.settings import RunSettings

    draw = pictures.draw

    def save(folder: Path, strategies: tuple[str, ...] = ("pca_logistic", "head"), **changes) -> Path:
        def draw_once(comparison, name: str, source: str) -> bytes:
            key = (name, source, *strategies, repr(changes))
            if key not in drawn:
                drawn[key] = draw(comparison, name, source)
            return drawn[key]

        settings = RunSettings(output_dir=str(folder))
        run = exports.begin(settings, tutorial="tiny")
        changes = {"sizes": {"train": 80, "validation": 30, "test": 40, "genes": 120}} | changes  # of three_kinds
        comparison = compare([make_record(name, **changes) for name in strategies])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pictures, "draw", draw_once)
            return exports.save(run, comparison, fresh(pbmc, name="hand-made", label_key="cell_type"))

    return save


@pytest.fixture(scope="session")
def bytes_of():
    """Hashes of all files below a folder, by name: what must not change when something is refused.

    Hashes, since pytest takes minutes to explain how two pictures differ.
    """

    def read(folder: Path) -> dict[str, str]:
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return read


@pytest.fixture(scope="session")
def edit_json():
    """Change a JSON file through a function that is given its content."""

    def edit(path: Path, change) -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content), encoding="utf-8")

    return edit
