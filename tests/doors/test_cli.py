"""The command line: what it prints, how it exits, and that bad input costs one line and no time."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import anndata
import cellxgene_asks
import h5py
import nbformat
import numpy as np
import pandas as pd
import pytest
from typer.main import get_command

import frostline
from frostline import cli
from frostline.artifacts import checking
from frostline.encoder.catalogue import CHECKPOINTS
from frostline.hashes import file_sha256
from frostline.publishing import notebooks, tutorials

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("computed_once")]

PARAMETERS = 'PROFILE: str = "quickstart"\nSEED: int = 42\nOUTPUT_DIR: str = "artifacts/tiny"'


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def call(monkeypatch, capsys):
    """Call the command line in this process."""

    def call(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["frostline", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return Said(int(end.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def project(tmp_path, monkeypatch, root) -> Path:
    """The current folder, with a copy of the tutorial in notebooks/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    source = root / "notebooks" / "cell_type_annotation.ipynb"
    (tmp_path / "notebooks" / source.name).write_bytes(source.read_bytes())
    return tmp_path


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("kept") / "artifacts"


@pytest.fixture
def save_artifacts(save_artifacts, kept):
    """Artifacts are made once; each test has a copy, which it may alter."""

    def copy(folder: Path) -> Path:
        if not kept.exists():
            save_artifacts(kept)
        return Path(shutil.copytree(kept, folder))

    return copy


@pytest.fixture
def no_kernel(monkeypatch):
    """Fail as soon as a notebook would be executed."""
    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: pytest.fail("a kernel was started"))


@pytest.fixture
def few_cells(counts_file, tmp_path) -> Path:
    """An .h5ad file of twelve cells."""
    path = tmp_path / "few.h5ad"
    anndata.read_h5ad(counts_file)[:12].copy().write_h5ad(path)
    return path


def one_line(said: Said) -> str:
    """The only line on stderr, of an error that is the input's; a progress bar may stand above it."""
    lines = [line for line in said.err.splitlines() if "-:--:--" not in line]
    assert (said.code, said.out, len(lines)) == (1, "", 1)
    assert lines[0].startswith("error: ")
    return lines[0]


def test_version(call):
    assert call("--version") == (0, f"{frostline.__version__}\n", "")


def test_help_names_every_command(call):
    said = call("--help")
    assert said.code == 0
    for command in ("run", "check", "publish", "book", "embed", "checkpoints"):
        assert re.search(rf"\b{command}\b", said.out)


def test_without_a_command_the_help_is_shown(call):
    said = call()
    assert "Usage: " in said.out + said.err
    assert "checkpoints" in said.out + said.err


# ---- inspect


def test_inspect_says_what_a_file_holds_and_what_to_type_next(call, counts_file):
    said = call("inspect", counts_file, "--label", "kind")
    assert said.code == 0
    report = frostline.inspect(counts_file, "kind")
    assert " ".join(said.out.split()) == " ".join(str(report).split())
    assert said.out.rstrip().endswith(f"frostline adapt {counts_file} --label kind -o {counts_file.stem}-model")


def test_inspect_of_what_will_be_refused_exits_with_zero(call, counts_file, tmp_path):
    adata = anndata.read_h5ad(counts_file)
    adata.X = adata.X.toarray() - 1
    adata.write_h5ad(tmp_path / "scaled.h5ad")
    said = call("inspect", tmp_path / "scaled.h5ad", "--label", "nothing")
    assert said.code == 0
    assert "X holds negative values" in " ".join(said.out.split())
    assert "'nothing' is not in obs" in " ".join(said.out.split())


def test_command_that_inspect_prints_is_understood_as_it_is_meant(call, counts_file, tmp_path):
    """`test_adapting` runs what it calls."""
    adata = anndata.read_h5ad(counts_file)
    adata.layers["my counts"] = adata.X.copy()
    adata.X = adata.X.toarray() - 1
    adata.var["names"] = adata.var_names
    adata.obs["donor"] = [f"d{i % 4}" for i in range(adata.n_obs)]
    path = tmp_path / "my cells.h5ad"
    adata.write_h5ad(path)
    said = call("inspect", path, "--label", "kind", "--gene-column", "names")
    program, command, *arguments = shlex.split(said.out.splitlines()[-1])
    assert (program, command) == ("frostline", "adapt")
    understood = get_command(cli.app).commands["adapt"].make_context("adapt", arguments).params
    meant = {"label": "kind", "group": "donor", "layer": "my counts", "gene_column": "names"}
    assert {name: understood[name] for name in meant} == meant
    assert (understood["source"], understood["output"]) == (str(path), Path("my cells-model"))


def test_inspect_of_no_file_tells_it_in_one_line(call, tmp_path):
    assert "there is no file" in one_line(call("inspect", tmp_path / "none.h5ad"))


@pytest.mark.parametrize(
    "arguments", [["brew"], ["run"], ["check"], ["embed", "in.h5ad"], ["run", "x", "--speed", "9"]]
)
def test_wrong_usage_is_said_without_a_traceback(call, arguments):
    said = call(*arguments)
    assert said.code == 2
    assert "Usage: " in said.err
    assert "Traceback" not in said.err


# ---- check


def test_check_of_good_artifacts(call, save_artifacts, tmp_path):
    folder = save_artifacts(tmp_path / "good")
    result = checking.check(folder)
    assert (result.passed, result.files, result.numbers) == (True, 16, 2 * 25)
    assert call("check", folder) == (0, f"{folder}: {result}\n", "")


def edit_number(file: str, old: str = "0.", new: str = "0.0"):
    def edit(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))

    return edit


def truncate(file: str):
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:200])


@pytest.mark.parametrize(
    ("alter", "named"),
    [
        (edit_number("report.csv"), "report.csv"),
        (edit_number("report.md"), "report.md"),
        (edit_number("strategy_metrics.csv"), "strategy_metrics.csv"),
        (truncate("predictions.parquet"), "predictions.parquet"),
        (truncate("best_strategy_confusion_matrix.png"), "best_strategy_confusion_matrix.png"),
        (truncate("manifest.json"), "manifest.json"),
        (lambda folder: (folder / "report.md").unlink(), "report.md"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json"),
        (lambda folder: (folder / "thoughts.txt").write_text("mine"), "thoughts.txt"),
        (lambda folder: (folder / "report.csv").write_bytes(b""), "report.csv"),
    ],
)
def test_check_names_the_altered_file(call, save_artifacts, tmp_path, alter, named):
    folder = save_artifacts(tmp_path / "altered")
    alter(folder)
    said = call("check", folder)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"{named}: ")
    assert all(named in line for line in said.err.splitlines())


def test_check_catches_a_number_edited_together_with_its_hash(call, save_artifacts, tmp_path, edit_json):
    folder = save_artifacts(tmp_path / "altered")
    table = pd.read_csv(folder / "report.csv")
    table.loc[1, "accuracy"] = 0.875
    table.to_csv(folder / "report.csv", index=False)
    written = {"sha256": file_sha256(folder / "report.csv"), "bytes": (folder / "report.csv").stat().st_size}
    edit_json(folder / "manifest.json", lambda m: m["files"]["report.csv"].update(written))
    said = call("check", folder)
    assert said.code == 1
    assert said.err.startswith("report.csv: line ")
    assert "the saved records give" in said.err


@pytest.mark.parametrize(
    "change",
    [
        {"ended": "yesterday"},
        {"ended": None},
        {"files": []},
        {"files": {"report.md": "abc"}},
        {"strategies": 3},
        {"strategies": None},
        {"repeats": None},
    ],
)
def test_check_of_a_manifest_of_wrong_types_names_it(call, save_artifacts, tmp_path, edit_json, change):
    folder = save_artifacts(tmp_path / "altered")
    edit_json(folder / "manifest.json", lambda manifest: manifest.update(change))
    said = call("check", folder)
    assert said.code == 1
    assert re.match(r"(manifest\.json|report\.md): ", said.err)


def test_check_of_a_folder_in_the_place_of_a_file_names_it(call, save_artifacts, tmp_path):
    folder = save_artifacts(tmp_path / "altered")
    (folder / "report.md").unlink()
    (folder / "report.md").mkdir()
    said = call("check", folder)
    assert (said.code, said.err.startswith("report.md: ")) == (1, True)


def test_check_of_a_folder_that_does_not_exist(call, tmp_path):
    said = call("check", tmp_path / "nowhere")
    assert said.code == 1
    assert said.err.startswith("manifest.json: missing in ")


# ---- run and publish


BAD = {
    "profile": (["--profile", "fast"], "PROFILE: unknown profile 'fast'; known: full, quickstart"),
    "profile as parameter": (["-p", "PROFILE=fast"], "PROFILE: unknown profile 'fast'"),
    "parameter": (["-p", "TYPO=1"], "unknown parameter 'TYPO'; known: PROFILE, DATASET"),
    "lower-case parameter": (["-p", "seed=1"], "unknown parameter 'seed'; known: PROFILE, DATASET"),
    "no value": (["-p", "SEED"], "-p 'SEED' is not KEY=VALUE"),
    "seed": (["-p", "SEED=seven"], "parameter SEED is of type int; got 'seven'"),
    "negative seed": (["-p", "SEED=-1"], "SEED: "),
    "strategy": (["-p", "STRATEGIES=head,lara"], "STRATEGIES: unknown strategy 'lara'; known: majority, pca_logistic"),
    "no strategy": (["-p", "STRATEGIES="], "STRATEGIES: name each strategy once, at least one"),
    "checkpoint": (["-p", "CHECKPOINT=maxi"], "CHECKPOINT: unknown checkpoint 'maxi'; known: mini"),
    "data set": (["-p", "DATASET=pbmc4k"], "unknown data set 'pbmc4k'; known: pbmc68k-reduced, pbmc3k"),
    "file": (["-p", "DATASET=gone.h5ad"], "there is no file gone.h5ad"),
}


@pytest.mark.parametrize("command", ["run", "publish"])
@pytest.mark.parametrize("kind", BAD)
def test_unknown_value_is_refused_in_one_line_before_a_kernel_starts(call, project, no_kernel, bytes_of, command, kind):
    arguments, said = BAD[kind]
    before = bytes_of(project)
    assert said in one_line(call(command, "cell_type_annotation", *arguments))
    assert bytes_of(project) == before


def test_unknown_notebook_is_refused_with_those_that_there_are(call, project):
    said = one_line(call("run", "cell_type_anotation"))
    assert "unknown notebook 'cell_type_anotation'; known: cell_type_annotation" in said


def test_notebook_that_fails_is_said_in_one_line(call, project, write_notebook, monkeypatch):
    write_notebook(Path("notebooks/tiny.ipynb"), PARAMETERS, "raise ValueError('no cells in the file')")
    said = call("run", "tiny")
    assert said.code == 1
    assert said.err.splitlines()[-1].startswith("error: tiny.ipynb failed in cell")
    assert "ValueError: no cells in the file (see artifacts/tiny.failed.ipynb)" in said.err
    assert "Traceback" not in said.err


def copy_of(folder: Path) -> str:
    """Cell that leaves the artifacts of a run that was made before, and says which one it was."""
    run = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["run"]
    said = f"run {run} of tiny, 2026-01-01 00:00:00 UTC; files go to artifacts"
    return f"import shutil\nshutil.copytree({str(folder)!r}, OUTPUT_DIR)\nprint({said!r})"


def test_run_prints_the_verdict_the_leaderboard_and_where_things_are(call, project, write_notebook, save_artifacts):
    prepared = save_artifacts(project / "prepared")
    write_notebook(Path("notebooks/tiny.ipynb"), PARAMETERS, copy_of(prepared))
    said = call("run", "tiny", "-p", "OUTPUT_DIR=mine", "-o", "executed/out.ipynb")
    assert said.code == 0
    comparison = frostline.load_comparison("mine")
    assert " ".join(said.out.split()).startswith(" ".join(comparison.verdict.split()))
    lines = said.out.splitlines()
    board = next(i for i, line in enumerate(lines) if line.startswith("Strategy "))
    assert [line.split()[0] for line in lines[board + 1 : board + 3]] == list(comparison.leaderboard()["strategy"])
    assert max(map(len, lines[: board + 3])) <= 100
    lines = [line.split() for line in lines if line]
    assert lines[-3:-1] == [["notebook", "executed/out.ipynb"], ["artifacts", "mine"]]
    assert " ".join(lines[-1]) == f"check {checking.check('mine')}"
    assert (project / "executed" / "out.ipynb").is_file()
    assert "tiny: A small tutorial\n" in said.err  # plain lines, since this is no terminal
    assert "\x1b" not in said.err


def test_run_fails_when_the_artifacts_fail_their_check(call, project, write_notebook, save_artifacts):
    prepared = save_artifacts(project / "prepared")
    (prepared / "report.md").unlink()
    write_notebook(Path("notebooks/tiny.ipynb"), PARAMETERS, copy_of(prepared))
    said = call("run", "tiny")
    assert said.code == 1
    assert "failed: report.md: missing" in said.out
    assert "Strategy" not in said.out


def test_notebook_may_be_given_as_a_path(call, project, write_notebook, save_artifacts):
    prepared = save_artifacts(project / "prepared")
    write_notebook(project / "elsewhere" / "tiny.ipynb", PARAMETERS, copy_of(prepared))
    assert call("run", "elsewhere/tiny.ipynb", "--profile", "quickstart").code == 0
    assert nbformat.read("artifacts/tiny.ipynb", 4).metadata["papermill"]["parameters"]["PROFILE"] == "quickstart"


def test_book_without_a_tutorial_says_what_to_do(call, project):
    assert "make one with `frostline init our-studies`" in one_line(call("book"))
    Path("book").mkdir()
    Path("book/_toc.yml").write_text("root: index\nchapters:\n  - file: published/cell_type_annotation\n")
    assert "run: frostline publish cell_type_annotation" in one_line(call("book"))


# ---- what there is


def test_tutorials_are_listed_and_a_notebook_of_the_folder_goes_first(call, project, write_notebook, tmp_path):
    write_notebook(Path("notebooks/own.ipynb"), PARAMETERS)
    said = call("tutorials")
    assert said.code == 0
    assert "cell_type_annotation  [notebooks/cell_type_annotation.ipynb]\n" in said.out
    assert "embeddings_for_scanpy  [comes with frostline]\n    Embeddings for scanpy: clusters" in said.out
    assert "own  [notebooks/own.ipynb]\n    A small tutorial\n    parameters: PROFILE, SEED, OUTPUT_DIR\n" in said.out


def test_data_sets_are_listed(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = call("datasets")
    assert said.code == 0
    assert "pbmc68k-reduced  [here]\n    700 blood cells x 765 genes" in said.out
    assert "labels in cell_type, groups in donor" in said.out


def test_packaged_tutorial_is_not_published_without_a_book_and_it_is_said_what_to_do(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "make one with `frostline init our-studies`" in one_line(call("publish", "embeddings_for_scanpy"))
    assert call("init", "our lab").out.endswith("\ncd 'our lab' && frostline publish\n")
    monkeypatch.chdir(tmp_path / "our lab")
    said = one_line(call("publish", "embeddings_for_scanpy"))
    copy = re.search(r"\(mkdir -p notebooks && (cp .* notebooks/)\)", said)[1]
    subprocess.run(copy, shell=True, check=True)
    line = re.search(r"`(- file: .*?)`", said)[1]
    toc = Path("book/_toc.yml")
    toc.write_text(toc.read_text() + f"      {line}\n")
    assert tutorials.unfit(notebooks.find_notebook("embeddings_for_scanpy")) is None
    tutorials.refuse_undeclared([Path("notebooks/embeddings_for_scanpy.ipynb")])


def test_profile_and_values_are_refused_with_the_notebooks_own_parameters(call, project, no_kernel):
    said = one_line(call("run", "embeddings_for_scanpy", "--profile", "fast"))
    own = "PROFILE, DATASET, LABEL_KEY, LAYER, VALUES, GENE_COLUMN, CHECKPOINT, DEVICE, PRECISION, SEED, OUTPUT_DIR"
    assert said.endswith(f"The parameters are: {own}")
    assert "known: full, quickstart" in said


@pytest.mark.parametrize("text", ["pca_logistic,nobody", '["pca_logistic","nobody"]', "['pca_logistic', 'nobody']"])
def test_list_is_read_in_every_notation(call, project, no_kernel, text):
    assert "unknown strategy 'nobody'" in one_line(call("run", "cell_type_annotation", "-p", f"STRATEGIES={text}"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["embed", "few.h5ad", "-o", "x.npy", "--seed", "-1"],
        ["embed", "few.h5ad", "-o", "x.npy", "--seed", str(2**32)],
        ["embed", "few.h5ad", "-o", "x.npy", "--max-length", "1"],
        ["pretrain", "few.h5ad", "-o", "own", "--seed", "-1"],
        ["publish", "--jobs", "3"],
    ],
)
def test_option_out_of_bounds_is_refused_with_them(call, arguments):
    said = call(*arguments)
    assert said.code == 2
    assert re.search(r"should be (greater|less) than or equal to", " ".join(said.err.replace("│", " ").split()))


def test_shell_completes_commands_and_names_of_tutorials(project, monkeypatch):
    monkeypatch.setenv("_FROSTLINE_COMPLETE", "complete_bash")
    for words, expected in (("frostline tuto", "tutorials"), ("frostline run emb", "embeddings_for_scanpy")):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        assert frostline_program(cwd=project).stdout.split() == [expected]


# ---- options that mean something for one kind of output


@pytest.mark.parametrize(
    "option",
    [
        ("--scheduler", "tcp://10.0.0.1:8786"),
        ("--cluster", "slurm"),
        ("--cluster-config", "slurm.yml"),
        ("--workers", "2"),
        ("--memory", "2GB"),
        ("--rows", "2048"),
    ],
)
@pytest.mark.parametrize("command", [("embed",), ("annotate", "model")])
def test_an_option_of_atlases_is_refused_for_another_output(call, few_cells, tmp_path, command, option):
    said = one_line(call(*command, few_cells, "-o", tmp_path / "out.h5ad", *option))
    assert said.startswith(f"error: {option[0]} is for OUT.zarr, which workers fill part by part")
    assert not (tmp_path / "out.h5ad").exists()


def test_an_option_of_one_process_is_refused_for_an_atlas(call, few_cells, tmp_path):
    said = one_line(call("annotate", "model", few_cells, "-o", tmp_path / "out.zarr", "--chunk", "512"))
    assert said == "error: --chunk is for an OUT.h5ad; leave it out: --rows is what a worker reads at once"


# ---- embed


def test_embed_writes_what_the_function_returns(call, few_cells, small_checkpoint, tmp_path):
    expected = frostline.embed(anndata.read_h5ad(few_cells), checkpoint=small_checkpoint, seed=5)
    options = ["--checkpoint", small_checkpoint, "--seed", 5]
    assert call("embed", few_cells, "-o", tmp_path / "out.npy", *options).code == 0
    said = call("embed", few_cells, "-o", tmp_path / "out.h5ad", *options)
    genes = "765 of 765 genes are in the vocabulary\n765 exact\n"
    assert said.out == f"{tmp_path / 'out.h5ad'}: 12 cells x 32\n{genes}"
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)
    written, read = anndata.read_h5ad(tmp_path / "out.h5ad"), anndata.read_h5ad(few_cells)
    np.testing.assert_array_equal(written.obsm["X_scGPT"], expected)
    assert written.obs.equals(read.obs)
    assert cellxgene_asks.refusals(tmp_path / "out.h5ad") == []
    assert (written.X != read.X).nnz == 0
    assert {path.name for path in tmp_path.iterdir()} == {"few.h5ad", "out.npy", "out.h5ad"}


def test_embed_finds_the_symbols_or_takes_the_column_that_is_named(call, few_cells, small_checkpoint, tmp_path):
    adata = anndata.read_h5ad(few_cells)
    expected = frostline.embed(adata, checkpoint=small_checkpoint)
    adata.var["feature_name"] = adata.var_names
    adata.var_names = [f"ENSG009{i:08d}" for i in range(adata.n_vars)]
    adata.write_h5ad(tmp_path / "ids.h5ad")
    arguments = ("embed", tmp_path / "ids.h5ad", "-o", tmp_path / "out.npy", "--checkpoint", small_checkpoint)
    said = call(*arguments)
    assert "Gene symbols are from adata.var['feature_name']" in said.out
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)
    assert call(*arguments, "--gene-column", "feature_name").code == 0
    assert "gene column 'symbol' is not in adata.var" in one_line(call(*arguments, "--gene-column", "symbol"))


def test_embed_uses_mini_when_no_checkpoint_is_named(call, few_cells, tmp_path):
    assert call("embed", few_cells, "-o", tmp_path / "out.npy").code == 0
    expected = frostline.embed(anndata.read_h5ad(few_cells), checkpoint="mini")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone.h5ad", "-o", "out.npy"], "there is no file gone.h5ad"),
        (["few.h5ad", "-o", "out.csv"], "-o out.csv: the name must end in .npy or .h5ad"),
        (["few.h5ad", "-o", "out.npy", "--checkpoint", "maxi"], "unknown checkpoint 'maxi'"),
        (["truncated.h5ad", "-o", "out.npy"], "truncated.h5ad cannot be read as .h5ad (truncated"),
        (["negative.h5ad", "-o", "out.npy"], "counts or log-normalised values are needed"),
        (["ensembl.h5ad", "-o", "out.npy"], "The names look like human Ensembl ids"),
        (["few.h5ad", "-o", "nowhere/out.npy"], "nowhere"),
        (["few.h5ad", "-o", "few.h5ad"], "-o few.h5ad is the file that is read"),
        (["mixed.h5ad", "-o", "out.h5ad"], "refuses to write it: '_index' is a reserved name"),
    ],
)
def test_embed_refuses_bad_input_in_one_line(call, few_cells, monkeypatch, tmp_path, arguments, said):
    monkeypatch.chdir(tmp_path)
    Path("truncated.h5ad").write_bytes(few_cells.read_bytes()[:5000])
    adata = anndata.read_h5ad(few_cells)
    adata.X.data[0] = -1
    adata.write_h5ad("negative.h5ad")
    adata.X.data[0] = 1
    adata.var_names = [f"ENSG009{i:08d}" for i in range(adata.n_vars)]
    adata.write_h5ad("ensembl.h5ad")
    with h5py.File("ensembl.h5ad") as file, h5py.File("mixed.h5ad", "w") as other:
        for key in file:
            file.copy(key, other)
        other.attrs.update(file.attrs)
        table = other["obs"]
        other.copy(table[table.attrs["_index"]], table, "names")
        table.attrs["column-order"] = [*table.attrs["column-order"], "_index"]
        table.attrs["_index"] = "names"
    assert said in one_line(call("embed", *arguments))
    assert not list(tmp_path.glob("*out*"))


# ---- checkpoints


def test_strategies_are_listed_and_one_with_its_hyper_parameters(call):
    from frostline.strategies import STRATEGIES

    done = call("strategies")
    assert done.code == 0
    assert [line for line in done.out.splitlines() if not line.startswith(" ")] == list(STRATEGIES)
    for name, kind in STRATEGIES.items():
        assert {kind.title, kind.trains, kind.reference} <= set(
            done.out.replace(": trains ", "\n").replace("    ", "").splitlines()
        )
        shown = call("strategies", name).out
        for field, setting in kind.settings().items():
            assert f"{field} = " in shown
            assert f"{setting.extent} ({setting.unit})" in shown


def test_hyper_parameters_of_an_unknown_strategy_are_refused_with_those_that_there_are(call):
    done = call("strategies", "lorra")
    assert done.code == 1
    assert "unknown strategy 'lorra'; known: majority, " in done.err


@pytest.mark.parametrize("arguments", [("--seed", "-1"), ("--max-length", "1"), ("--max-length", "100001")])
def test_embed_holds_its_options_to_the_bounds_of_the_hyper_parameters(call, few_cells, tmp_path, arguments):
    done = call("embed", str(few_cells), "-o", str(tmp_path / "out.npy"), *arguments)
    assert done.code == 2
    assert f"Invalid value for '{arguments[0]}'" in done.err


def test_checkpoints_are_listed_with_what_they_are(call):
    said = call("checkpoints", "list")
    assert said.code == 0
    for spec in CHECKPOINTS.values():
        assert spec.name in said.out
        assert spec.description in said.out
    assert "not the official weights" in said.out


def test_path_of_a_checkpoint(call):
    folder = Path(call("checkpoints", "path", "mini").out.strip())
    assert {"args.json", "vocab.json", "model.safetensors", "MODEL_CARD.md"} <= {p.name for p in folder.iterdir()}
    assert "unknown checkpoint 'maxi'" in one_line(call("checkpoints", "path", "maxi"))


# ---- as an installed program


def frostline_program(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("frostline")
    return subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_program_is_installed(tmp_path):
    done = frostline_program("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{frostline.__version__}\n", "")


def test_program_looks_for_no_garbage_at_its_end(tmp_path):
    """Among the modules of torch and scanpy that takes longer than most commands."""
    code = "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 1000)); "
    command = [sys.executable, "-c", code + "from frostline.cli import main; main()", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [frostline.__version__, "True"]


def test_program_tells_an_error_in_one_line(project):
    done = frostline_program("run", "cell_type_annotation", "-p", "TYPO=1", cwd=project)
    assert "unknown parameter 'TYPO'" in one_line(Said(done.returncode, done.stdout, done.stderr))


def test_program_checks_without_the_packages_that_train(save_artifacts, tmp_path):
    folder = save_artifacts(tmp_path / "altered")
    (folder / "report.csv").write_text("strategy,accuracy,macro_f1\n")
    done = frostline_program("check", str(folder), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("report.csv: altered")
    assert all("report.csv" in line for line in done.stderr.splitlines())


class TestAdapt:
    def test_labelled_cells_become_a_folder_that_is_loaded_and_the_next_command_is_said(
        self, call, three_kinds, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        three_kinds.adata.write_h5ad(tmp_path / "mine.h5ad")
        said = call(
            "adapt", "mine.h5ad", "--label", "bulk_labels", "--strategies", "majority,pca_logistic", "-o", "kept"
        )
        assert said.code == 0, said.err
        model = frostline.load_model(tmp_path / "kept")
        assert model.strategy.name == "pca_logistic"
        out = " ".join(said.out.split())
        assert model.card["verdict"] in out
        assert "Kept: pca_logistic, fitted on 150 cells of mine." in out
        assert model.calibration.certificate.sentence in out
        assert re.search(rf"model {re.escape(str(tmp_path / 'kept'))} \(0\.\d MB\)", out)
        assert out.endswith("next frostline annotate kept QUERY.h5ad -o OUT.h5ad")

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("-o", "thesis"), r"holds thesis.txt and is not overwritten"),
            (("-o", "kept", "--target", "1.5"), r"target is 1.5, and must be a number from 0.5 to below 1"),
            (("-o", "kept", "--strategies", "pca"), r"unknown strategy 'pca'"),
            (("-o", "kept", "--group", "donor"), r"group column 'donor' is not in obs"),
            (("-o", "."), r"is the current folder"),
        ],
    )
    def test_bad_input_costs_one_line_and_leaves_nothing(self, call, tmp_path, monkeypatch, arguments, said):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "thesis.txt").touch()
        done = call("adapt", "pbmc68k-reduced", *arguments)
        assert done.code == 1
        assert re.search(said, done.err)
        assert len(done.err.splitlines()) == 1
        assert [path.name for path in tmp_path.iterdir()] == ["thesis"]
