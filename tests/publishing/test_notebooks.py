"""The tutorial: what its source promises, and what it does when it is really executed."""

from __future__ import annotations

import ast
import json
import re
import shutil
import tempfile
from pathlib import Path

import anndata
import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
from kernel_fixtures import SHORT, begin_kernels_with
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from traitlets.config import Config

import frostline
from frostline.artifacts import checking, exports
from frostline.errors import FrostlineError
from frostline.hashes import file_sha256
from frostline.panels import AnnotationPanel
from frostline.publishing import executions, notebooks, publications, run_checks

NAME = "cell_type_annotation"
ALL = ["pca_logistic", "frozen_probe", "head", "lora"]
WIDGETS = "application/vnd.jupyter.widget-state+json"


@pytest.fixture(scope="module", autouse=True)
def _short_training(own_jupyter_folders) -> None:
    begin_kernels_with(SHORT)


@pytest.fixture(scope="session")
def tutorial(root) -> Path:
    """The source notebook."""
    return root / "notebooks" / f"{NAME}.ipynb"


@pytest.fixture(scope="session")
def source(tutorial):
    return nbformat.read(tutorial, 4)


@pytest.fixture(scope="session")
def parameters(source) -> list[ast.stmt]:
    """Statements of the parameters cell."""
    tagged = [cell for cell in source.cells if "parameters" in cell.metadata.get("tags", ())]
    assert len(tagged) == 1
    return ast.parse(tagged[0].source).body


@pytest.fixture(scope="module")
def small_settings(small_checkpoint) -> dict[str, object]:
    """Parameters of a run of seconds."""
    return {
        "PROFILE": "quickstart",
        "SEED": 7,
        "STRATEGIES": ["pca_logistic", "frozen_probe"],
        "CHECKPOINT": str(small_checkpoint),
        "OUTPUT_DIR": "mine/of seed 7",
    }


def run_papermill(tutorial: Path, settings: dict[str, object]) -> Path:
    """Execute the tutorial as the papermill command does, in the current folder.

    Only the kernel is spoken to over sockets in a folder, since tests that run at once might pick the same port.
    """
    output = Path("out.ipynb")
    with tempfile.TemporaryDirectory(prefix="sockets-") as sockets:
        config = Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}})
        papermill.execute_notebook(str(tutorial), str(output), settings, progress_bar=False, config=config)
    return output


@pytest.fixture(scope="module")
def changed(tutorial, small_settings, with_forked_kernels, tmp_path_factory) -> Path:
    """Folder of a run by papermill with changed parameters; not to be changed."""
    folder = tmp_path_factory.mktemp("changed")
    with pytest.MonkeyPatch.context() as patch, with_forked_kernels():
        patch.chdir(folder)
        run_papermill(tutorial, small_settings)
    return folder


@pytest.fixture(scope="module")
def published(tutorial, small_checkpoint, tmp_path_factory) -> Path:
    """Root of a project in which the tutorial was executed and placed, with its defaults but a small encoder.

    Not to be changed. LoRA on `mini` would take most of a minute.
    """
    folder = tmp_path_factory.mktemp("published")
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / tutorial.name).write_bytes(tutorial.read_bytes())
    shutil.copytree(small_checkpoint, folder / "small")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        notebook = notebooks.find_notebook(NAME)
        publications.publish(
            notebook, {"CHECKPOINT": "small"}, output=Path("artifacts") / notebook.name, show_progress=False
        )
    return folder


@pytest.fixture(scope="module")
def executed(published):
    return nbformat.read(published / "artifacts" / f"{NAME}.ipynb", 4)


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def outputs(notebook, mime: str) -> list[str]:
    """All outputs of one type."""
    every = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return ["".join(output.data[mime]) for output in every if mime in output.get("data", {})]


# ---- the source


def test_title_cell_says_whom_it_is_for_and_what_to_expect(source):
    first = source.cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    for promise in ("**For whom.**", "**Prerequisites.**", "**You will learn**", "**Out of scope.**", "**Outline.**"):
        assert promise in first.source


def test_outline_names_the_sections_in_their_order(source):
    text = "\n".join(cell.source for cell in source.cells if cell.cell_type == "markdown")
    outline = text.partition("**Outline.**")[2].partition("\n\n")[0].lower()
    sections = "\n".join(re.findall(r"^## .*$", text, re.MULTILINE)).lower()
    words = ["parameters", "load", "inspect", "tokenise", "run the strategies", "compare", "interpret", "report"]
    for where in (outline, sections):
        places = [where.find(word) for word in words]
        assert places == sorted(places)
        assert -1 not in places


def test_parameters_are_annotated(parameters, tutorial):
    assert all(isinstance(statement, ast.AnnAssign) for statement in parameters)
    found = notebooks.notebook_parameters(tutorial)
    assert {spec.kind for spec in found.values()} <= {"str", "int", "float", "bool", "list[str]"}


def test_parameters_are_the_settings_of_a_run_with_the_same_defaults(tutorial):
    found = {name.lower(): spec.default for name, spec in notebooks.notebook_parameters(tutorial).items()}
    wanted = frostline.RunSettings().model_dump()
    assert found == {name: wanted[name] for name in found}
    assert {"profile", "dataset", "label_key", "group_key", "strategies", "seed", "repeats"} <= set(found)


def test_source_defines_no_function_and_no_class(source):
    code = "\n".join(cell.source for cell in source.cells if cell.cell_type == "code")
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
    assert not [node for node in ast.walk(ast.parse(code)) if isinstance(node, kinds)]


def test_source_holds_no_output(source):
    for cell in source.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert "widgets" not in source.metadata


@pytest.mark.parametrize(
    "path",
    [
        f"notebooks/{NAME}.ipynb",
        "notebooks/do_i_need_fine_tuning.ipynb",
        "widgets/frostline/book/template/notebooks/first_comparison.ipynb",
    ],
)
def test_cells_below_a_panel_use_nothing_that_was_bound_before_its_last_run(root, path):
    cells = [cell.source for cell in nbformat.read(root / path, 4).cells if cell.cell_type == "code"]
    (panel,) = [i for i, source in enumerate(cells) if "AnnotationPanel(" in source]
    assert len(cells) > panel + 3
    for source in cells[panel + 1 :]:
        names = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)]
        bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        used = {node.id for node in names if isinstance(node.ctx, ast.Load)} - bound
        assert used & {"dataset", "cut", "splits", "records", "comparison", "ran", "checkpoint"} == set()
        asked = set(re.findall(r"settings\.(\w+)", source))
        assert asked <= {"budgets", "withhold", "output_dir"}  # which studies, and where the files go
        assert "panel.latest()" in source


# ---- executed with changed parameters


def test_changed_parameters_reach_every_artifact(changed, small_settings, small_checkpoint):
    folder = changed / "mine" / "of seed 7"
    assert checking.check(folder).problems == []
    manifest = manifest_of(folder)
    weights = file_sha256(small_checkpoint / "model.safetensors")
    ran = {
        "label_key": "bulk_labels",
        "layer": "raw",
        "split": "stratified",
        "checkpoint": f"small-{weights[:8]}",
        "repeats": 1,
    }
    assert manifest["parameters"] == frostline.RunSettings.from_notebook(small_settings).model_dump() | ran
    assert manifest["seed"] == 7
    assert manifest["strategies"] == small_settings["STRATEGIES"]
    assert {path.name for path in folder.iterdir()} == {*checking.declared(manifest["strategies"]), "manifest.json"}


def test_quickstart_is_small_in_time_not_in_meaning(changed):
    predictions = pd.read_parquet(changed / "mine" / "of seed 7" / "predictions.parquet")
    assert predictions.groupby("strategy")["cell"].nunique().min() >= 100
    assert predictions["label"].nunique() == 10


def test_split_of_the_notebook_is_that_of_the_function(changed, pbmc):
    cut = frostline.split(pbmc, seed=7, profile="quickstart")
    predictions = pd.read_parquet(changed / "mine" / "of seed 7" / "predictions.parquet")
    assert set(predictions["cell"]) == set(pbmc.cells[cut.test])
    assert manifest_of(changed / "mine" / "of seed 7")["splits"] == {"0": cut.fingerprint}


@pytest.mark.usefixtures("without_kernel", "instant_umap", "instant_pictures")
def test_same_seed_gives_the_same_predictions_by_either_command(
    changed, tutorial, small_settings, tmp_path, monkeypatch
):
    """By papermill in a kernel, and by frostline, which reads text, with the cells executed here."""
    monkeypatch.chdir(tmp_path)
    as_text = {**small_settings, "SEED": "007", "STRATEGIES": "pca_logistic,frozen_probe"}
    executions.execute(tutorial, Path("out.ipynb"), as_text, show_progress=False)
    first, second = (folder / "mine" / "of seed 7" / "predictions.parquet" for folder in (changed, tmp_path))
    pd.testing.assert_frame_equal(pd.read_parquet(first), pd.read_parquet(second), check_exact=True)


@pytest.mark.usefixtures("without_kernel", "instant_umap", "instant_pictures")
def test_another_labelled_data_set_is_given_as_a_path(counts_file, tutorial, small_settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = {"DATASET": str(counts_file), "LABEL_KEY": "kind", "OUTPUT_DIR": "mine"}
    executions.execute(tutorial, Path("out.ipynb"), {**small_settings, **mine}, show_progress=False)
    assert checking.check("mine").problems == []
    described = manifest_of(Path("mine"))["dataset"]
    assert (described["name"], described["label_key"], described["values"]) == ("mine", "kind", "counts")
    assert (described["cells"], described["genes"]) == (700, 765)
    scores = pd.read_csv("mine/report.csv").set_index("strategy")["macro_f1"]
    assert sorted(scores.index) == ["frozen_probe", "pca_logistic"]
    assert 0.5 < scores["pca_logistic"] <= 1
    assert 0.2 < scores["frozen_probe"] <= 1  # of random weights; the largest class alone gives 0.05
    predictions = pd.read_parquet("mine/predictions.parquet")
    assert predictions["cell"].str.endswith("-mine").all()
    assert predictions["cell"].nunique() >= 100
    cells = nbformat.read("out.ipynb", 4).cells
    printed = "".join(o.text for cell in cells for o in cell.get("outputs", ()) if "text" in o)
    assert "mine: 700 cells x 765 genes" in printed
    assert "values are counts" in printed


# ---- executed with its defaults, but a small encoder


def test_published_tutorial_meets_the_rules_of_the_book(published):
    assert run_checks.find_problems(published / "book" / "published", NAME, published) == []


def test_defaults_leave_all_declared_artifacts(published):
    folder = published / "artifacts" / "scgpt_cell_type_annotation"
    assert checking.check(folder).problems == []
    assert {path.name for path in folder.iterdir()} == {
        "report.md",
        "report.csv",
        "strategy_metrics.csv",
        "class_metrics.csv",
        "paired_tests.csv",
        "prediction_sets.csv",
        "frozen_embedding_umap.png",
        "lora_embedding_umap.png",
        "best_strategy_confusion_matrix.png",
        "macro_f1_intervals.png",
        "reliability.png",
        "risk_coverage.png",
        "predictions.parquet",
        "validation_predictions.parquet",
        "umap.parquet",
        "records.jsonl",
        "manifest.json",
    }
    assert manifest_of(folder)["notebook"]["sha256"] == file_sha256(published / "notebooks" / f"{NAME}.ipynb")


def test_leaderboard_holds_the_strategies_and_a_probe_like_lora_in_order(published):
    board = pd.read_csv(published / "artifacts" / "scgpt_cell_type_annotation" / "report.csv")
    assert list(board.columns[:4]) == ["strategy", "macro_f1", "macro_f1_low", "macro_f1_high"]
    assert {"accuracy", "auroc", "ece", "silhouette", "seconds", "trainable_parameters"} <= set(board.columns)
    assert (board["macro_f1_low"] <= board["macro_f1"]).all()
    assert (board["macro_f1"] <= board["macro_f1_high"]).all()
    assert sorted(board["strategy"]) == sorted([*ALL, "frozen_probe:500"])  # like LoRA
    order = list(zip(-board["macro_f1"], -board["accuracy"], strict=True))
    assert order == sorted(order)
    assert board["macro_f1"].between(0, 1).all()


def test_executed_notebook_holds_the_panel_as_it_stood_at_the_end(executed):
    states = executed.metadata["widgets"][WIDGETS]["state"].values()
    panels = [s for s in states if "frostline-annotation-panel" in s["state"].get("_dom_classes", ())]
    assert len(panels) == 1
    shown = "\n".join(str(s["state"].get("value", "")) for s in states)
    assert '<span role="status" aria-live="polite">Done' in shown
    assert 'role="alert"' not in shown
    assert len(re.findall(r"<table[^>]*frostline-leaderboard", shown)) == 1
    pictures = re.findall(r"<img [^>]*>", shown)
    assert len(pictures) == 4  # intervals, confusion, reliability, risk and coverage
    assert len([s for s in states if s["model_name"] == "AnyModel" and "_facts" in s["state"]]) == 1  # the maps
    assert all(re.search(r'alt="[^"]{20,}"', picture) for picture in pictures)
    progress = [s["state"] for s in states if s["model_name"] == "FloatProgressModel"]
    done = [p["bar_style"] for p in progress if p["value"] == 1.0]
    assert done == ["success"] * (1 + len(ALL))  # of all, and of each that ran
    assert {p["value"] for p in progress} == {0.0, 1.0}
    assert "No results yet" not in shown


def test_executed_notebook_repeats_the_results_as_plain_outputs(executed):
    html = outputs(executed, "text/html")
    assert any(all(f"<td>{name}</td>" in table for name in ALL) for table in html)
    pictures = [picture for text in html for picture in re.findall(r"<img [^>]*>", text)]
    assert len(pictures) == 3
    assert all(re.search(r'alt="[^"]{20,}"', picture) for picture in pictures)


def test_executed_notebook_says_that_mini_is_no_official_checkpoint(executed):
    text = " ".join("\n".join(cell.source for cell in executed.cells if cell.cell_type == "markdown").split())
    assert "**small model for demonstration**" in text
    assert "not the official scGPT weights" in text


def test_executed_notebook_is_free_of_warnings_and_of_paths_of_the_machine(executed, published):
    streams = [o for cell in executed.cells for o in cell.get("outputs", ()) if o.output_type == "stream"]
    assert [stream.text for stream in streams if stream.name == "stderr"] == []
    text = (published / "artifacts" / f"{NAME}.ipynb").read_text(encoding="utf-8")
    assert str(published) not in text
    assert str(Path.home()) not in text
    assert "site-packages" not in text


# ---- bad input


@pytest.fixture
def earlier(tmp_path, monkeypatch, save_artifacts, bytes_of):
    """Artifacts of an earlier run in the current folder, and a look at their bytes."""
    monkeypatch.chdir(tmp_path)
    save_artifacts(Path("artifacts/earlier"))
    before = bytes_of(tmp_path / "artifacts")
    yield "artifacts/earlier"
    after = bytes_of(tmp_path / "artifacts")
    after.pop(".earlier.lock", None)  # of a kernel that took too long to end, and was killed
    assert after == before


@pytest.mark.usefixtures("quick_kernels")
def test_executed_notebook_refuses_bad_input_before_training(tutorial, small_settings, earlier):
    said = "DatasetError: label column 'cell_type' is not in obs, which has: bulk_labels"
    with pytest.raises(PapermillExecutionError, match=said):
        run_papermill(tutorial, {**small_settings, "OUTPUT_DIR": earlier, "LABEL_KEY": "cell_type"})
    text = Path("out.ipynb").read_text(encoding="utf-8")
    assert "frostline-annotation-panel" not in text


@pytest.mark.parametrize("name", ["TYPO", "seed"])
def test_first_cell_refuses_an_unknown_parameter(tutorial, small_settings, earlier, name):
    """The cells as papermill parameterises them, executed here."""
    given = parameterize_notebook(load_notebook_node(str(tutorial)), {**small_settings, "OUTPUT_DIR": earlier, name: 1})
    declared, injected, first = [cell.source for cell in given.cells if cell.cell_type == "code"][:3]
    names: dict[str, object] = {"In": ["", declared, injected, first]}  # what a kernel was given to run
    for cell in (declared, injected):
        exec(cell, names)
    with pytest.raises(FrostlineError, match=f"^(?i:{name}): unknown parameter.* The parameters are: PROFILE, DATASET"):
        exec(first, names)


@pytest.mark.usefixtures("quick_kernels")
def test_truncated_file_is_refused_by_the_executed_notebook(tutorial, small_settings, earlier, counts_file):
    Path("truncated.h5ad").write_bytes(counts_file.read_bytes()[:20_000])
    bad = {"DATASET": "truncated.h5ad", "LABEL_KEY": "kind", "OUTPUT_DIR": earlier}
    with pytest.raises(FrostlineError, match=r"truncated\.h5ad cannot be read as \.h5ad \(truncated or not an AnnData"):
        executions.execute(tutorial, Path("out.ipynb"), {**small_settings, **bad}, show_progress=False)
    assert not Path("out.ipynb").exists()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"PROFILE": "fast"}, "PROFILE: unknown profile 'fast'; known: full, quickstart"),
        ({"PROFILE": 3}, "PROFILE: .*string"),
        ({"STRATEGIES": ["head", "lara"]}, "STRATEGIES: unknown strategy 'lara'; known: majority, pca_logistic"),
        ({"STRATEGIES": ["head", "head"]}, "STRATEGIES: name each strategy once"),
        ({"CHECKPOINT": "maxi"}, "CHECKPOINT: unknown checkpoint 'maxi'; known: mini"),
        ({"SEED": -1}, "SEED: .*greater than or equal to 0"),
        ({"SEED": 1.5}, "SEED: .*integer"),
        ({"SEED": None}, "SEED: "),
        ({"OUTPUT_DIR": " "}, "OUTPUT_DIR: name a folder"),
        ({"TYPO": 1, "PROFILE": "fast"}, "PROFILE: unknown profile 'fast'.*TYPO: unknown parameter"),
    ],
)
def test_settings_refuse_a_bad_value(small_settings, bad, said):
    own = "PROFILE, STRATEGIES, CHECKPOINT, SEED, OUTPUT_DIR"
    with pytest.raises(FrostlineError, match=f"{said}.*The parameters are: {own}$"):
        frostline.RunSettings.from_notebook({**small_settings, **bad})


def test_output_folder_with_files_of_others_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("thesis").mkdir()
    Path("thesis/chapter.txt").write_text("years of work")
    with pytest.raises(FrostlineError, match="holds files but no manifest"):
        exports.begin(frostline.RunSettings(output_dir="thesis"), tutorial=NAME)


def one_class(adata):
    adata.obs["kind"] = "T cell"


def negative(adata):
    adata.X[3, 4] = -2.0


def scaled(adata):
    adata.X = (adata.X - 1.0) / 2.0


def missing_value(adata):
    adata.X[3, 4] = np.nan


def missing_label(adata):
    adata.obs.loc[adata.obs_names[:3], "kind"] = None


BAD_DATA = {
    "one class": (one_class, "label column 'kind' has only 'T cell'; a comparison needs two classes"),
    "negative value": (negative, "negative values .*Counts or log-normalised values are needed"),
    "scaled values": (scaled, "looks scaled or batch-corrected"),
    "missing value": (missing_value, r"1 values are missing, infinite \(or .*\) or negative, the first is nan in cell"),
    "missing label": (missing_label, "missing for 3 of 700 cells"),
}


@pytest.mark.parametrize("kind", BAD_DATA)
def test_bad_data_is_refused_when_it_is_loaded(counts_file, tmp_path, kind):
    spoil, said = BAD_DATA[kind]
    adata = anndata.read_h5ad(counts_file)
    adata.X = adata.X.toarray()
    spoil(adata)
    adata.write_h5ad(tmp_path / "bad.h5ad")
    with pytest.raises(FrostlineError, match=said):
        frostline.load_dataset(str(tmp_path / "bad.h5ad"), "kind")


@pytest.mark.parametrize("strategies", [["head"], ["frozen_probe", "lora"]])
def test_genes_that_no_vocabulary_knows_are_refused_before_training(counts_file, small_checkpoint, strategies):
    adata = anndata.read_h5ad(counts_file)
    adata.var_names = [f"ENSG009{i:08d}" for i in range(adata.n_vars)]
    panel = AnnotationPanel(
        frostline.load_dataset(adata, "kind"), strategies=strategies, checkpoint=str(small_checkpoint)
    )
    with pytest.raises(FrostlineError, match="look like human Ensembl ids"):
        panel.run(wait=True)
    assert panel.records == ()


@pytest.mark.parametrize(
    ("strategies", "checkpoint", "said"),
    [
        (["majority", "pca_knn"], "whole-human", "none of these strategies starts from a checkpoint"),
        (["pca_knn", "frozen_probe"], "mini", "0 of 765 genes are in the vocabulary\n"),
    ],
)
def test_cells_above_the_panel_need_no_known_gene_and_no_checkpoint_that_nobody_uses(
    source, counts_file, monkeypatch, tmp_path, capsys, strategies, checkpoint, said
):
    monkeypatch.chdir(tmp_path)
    adata = anndata.read_h5ad(counts_file)
    adata.var_names = [f"ENSG009{i:08d}" for i in range(adata.n_vars)]
    adata.write_h5ad("ids.h5ad")
    code = [cell.source for cell in source.cells if cell.cell_type == "code"]
    names = {}
    exec(code[0], names)
    names |= {"DATASET": "ids.h5ad", "LABEL_KEY": "kind", "STRATEGIES": strategies, "CHECKPOINT": checkpoint}
    for cell in code[1 : next(i for i, text in enumerate(code) if "AnnotationPanel(" in text)]:
        exec(cell, names)
    assert said in capsys.readouterr().out


def test_cell_without_a_known_gene_is_refused_before_training(counts_file, small_checkpoint):
    adata = anndata.read_h5ad(counts_file)
    dense = adata.X.toarray()
    dense[5] = 0
    adata.X = dense
    panel = AnnotationPanel(
        frostline.load_dataset(adata, "kind"), strategies=["pca_logistic", "head"], checkpoint=str(small_checkpoint)
    )
    with pytest.raises(FrostlineError, match=rf"1 cell\(s\) express no gene .*{adata.obs_names[5]}"):
        panel.run(wait=True)
    assert [record.strategy for record in panel.records] == ["pca_logistic"]


def test_what_macos_leaves_beside_a_notebook_is_none(tiny):
    notebook = tiny("print(1)")
    notebook.with_name("._tiny.ipynb").touch()
    assert {"tiny", "._tiny"} & notebooks.known_notebooks().keys() == {"tiny"}
