"""The command that labels a file: what it writes, what it says, and what it refuses before any work."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import anndata
import cellxgene_asks
import pandas as pd
import pytest
import zarr
from anndata.io import write_elem
from kept_models import islet_model, islets
from typer.testing import CliRunner

from frostline import cli
from frostline.errors import FrostlineError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return islet_model().save(tmp_path_factory.mktemp("models") / "islets")


@pytest.fixture
def query(tmp_path):
    islets().adata[::5].write_h5ad(tmp_path / "in.h5ad")
    return tmp_path / "in.h5ad"


def run(*arguments):
    """What is printed; errors come through."""
    result = CliRunner().invoke(cli.app, ["annotate", *map(str, arguments)])
    if isinstance(result.exception, FrostlineError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_labelled_copy_is_written_and_the_report_printed(model, query, tmp_path):
    printed = run(model, query, "-o", tmp_path / "out.h5ad", "--key", "type", "--chunk", 10)
    read = anndata.read_h5ad(tmp_path / "out.h5ad")
    own = islets().adata[::5].copy()
    islet_model().annotate(own, "type")
    assert read.obs["type"].tolist() == own.obs["type"].tolist()
    assert "35 of in" in printed
    assert "stated error: At a confidence of" in printed
    assert printed.rstrip().endswith("out.h5ad")
    assert cellxgene_asks.refusals(tmp_path / "out.h5ad") == []


def test_a_page_of_the_report_is_written_where_it_is_asked_for(model, query, tmp_path):
    printed = run(model, query, "-o", tmp_path / "out.h5ad", "--report", tmp_path / "report.html")
    assert printed.rstrip().endswith("report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count("<img") == 4
    assert "At a confidence of" in page
    for bad in (tmp_path / "report.pdf", tmp_path / "none" / "report.html"):
        with pytest.raises(FrostlineError, match=f"--report {bad}"):
            run(tmp_path / "no model", query, "-o", tmp_path / "again.h5ad", "--report", bad)


def test_values_can_be_said(model, query, tmp_path):
    with pytest.raises(FrostlineError, match="values='log1p' was said, but all are whole numbers"):
        run(model, query, "-o", tmp_path / "out.h5ad", "--values", "log1p")
    with pytest.raises(FrostlineError, match="layer 'counts' does not exist"):
        run(model, query, "-o", tmp_path / "out.h5ad", "--layer", "counts")
    assert not (tmp_path / "out.h5ad").exists()


def test_a_remedy_is_an_option_of_the_command_and_works(model, query, tmp_path, monkeypatch, capsys):
    adata = anndata.read_h5ad(query)
    adata.layers["umi"], adata.X = adata.X, -adata.X
    adata.write_h5ad(query)
    command = ["frostline", "annotate", *map(str, (model, query, "-o", tmp_path / "out.h5ad"))]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    said = capsys.readouterr().err
    assert "name one of: umi (--layer ...)" in said
    monkeypatch.setattr("sys.argv", [*command, "--layer", "umi"])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    assert "frostline" in anndata.read_h5ad(tmp_path / "out.h5ad").obs


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("in.h5ad", "is the file that is read"),
        ("out.csv", "must end in .h5ad"),
        ("none/out.h5ad", "there is no folder"),
    ],
)
def test_bad_targets_are_refused_before_a_model_is_read(query, tmp_path, output, said):
    with pytest.raises(FrostlineError, match=said):
        run(tmp_path / "no model", query, "-o", tmp_path / output)


def test_labels_and_report_are_kept_where_the_copy_cannot_be_written(model, query, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("frostline.annotation.outputs._fill", full)
    with pytest.raises(FrostlineError, match=r"out\.h5ad could not be written \(.*No space left") as error:
        run(model, query, "-o", tmp_path / "out.h5ad", "--report", tmp_path / "report.html")
    table, page = re.search(r"labels are kept in (\S+), the report in (\S+)$", str(error.value)).groups()
    kept = pd.read_csv(table, index_col=0)
    own = islets().adata[::5].copy()
    islet_model().annotate(own)
    assert kept["frostline"].tolist() == own.obs["frostline"].tolist()
    assert kept.index.tolist() == own.obs_names.tolist()
    assert Path(page).is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"in.h5ad", "out.labels.csv", "report.html"}


def test_a_folder_without_room_for_the_copy_is_refused_before_a_model_is_read(query, tmp_path, monkeypatch):
    size = query.stat().st_size
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=size - 1))
    with pytest.raises(FrostlineError, match=r"out\.h5ad: .* GB are free there, and a copy of .* takes .* GB"):
        run(tmp_path / "no model", query, "-o", tmp_path / "out.h5ad")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=size))
    with pytest.raises(FrostlineError, match="no model"):
        run(tmp_path / "no model", query, "-o", tmp_path / "out.h5ad")


def test_a_zarr_folder_is_refused_before_a_model_is_read_and_labelled_as_said(model, query, tmp_path):
    write_elem(zarr.open_group(tmp_path / "my cells.zarr", mode="w", zarr_format=2), "/", anndata.read_h5ad(query))
    with pytest.raises(FrostlineError, match=r"is a zarr folder, .* -o OUT\.zarr") as error:
        run(tmp_path / "no model", tmp_path / "my cells.zarr", "-o", tmp_path / "out.h5ad")
    said = re.search(r"frostline annotate (.* -o OUT\.zarr)", str(error.value))[1]
    places = {"MODEL": model, "OUT.zarr": tmp_path / "out.zarr"}
    run(*(places.get(word, word) for word in shlex.split(said)))
    assert "frostline" in zarr.open_group(tmp_path / "out.zarr", mode="r")["obs"]


def test_a_taken_key_is_refused_unless_it_may_be_replaced(model, query, tmp_path):
    run(model, query, "-o", tmp_path / "once.h5ad")
    with pytest.raises(FrostlineError, match="--key frostline_2"):
        run(model, tmp_path / "once.h5ad", "-o", tmp_path / "twice.h5ad")
    run(model, tmp_path / "once.h5ad", "-o", tmp_path / "twice.h5ad", "--overwrite")


def test_a_folder_that_is_no_model_is_refused_by_name(query, tmp_path):
    with pytest.raises(FrostlineError, match="no model"):
        run(tmp_path / "no model", query, "-o", tmp_path / "out.h5ad")


def test_what_no_label_needs_is_not_imported(model, query, tmp_path):
    """Each takes tens of megabytes; torch is for models on an encoder, of which this is none."""
    code = (
        "import sys; from frostline.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "print('loaded:', *sorted({name.split('.')[0] for name in sys.modules} | {'scipy.stats'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, "annotate", model, query, "-o", tmp_path / "out.h5ad"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split("loaded:")[1].split())
    assert "anndata" in loaded
    heavy = {"torch", "sklearn", "scanpy", "peft", "transformers", "matplotlib", "statsmodels", "ipywidgets", "IPython"}
    assert not loaded & (heavy | {"umap", "numba", "igraph", "huggingface_hub", "distributed", "scipy.stats"})
