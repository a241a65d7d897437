"""Every rule that keeps a tutorial from being published, each shown to catch one alteration."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from published_project import (
    NAME,
    SOURCE,
    code_cell,
    executed_notebook,
    markdown_cell,
    png,
    stream,
    write_manifest,
)

from frostline.publishing import inputs, run_checks
from frostline.publishing.run_manifests import RunManifest, seal

Change = Callable[[dict[str, Any]], None]


def published(root: Path) -> Path:
    return root / "book" / "published"


def problems(root: Path) -> list[str]:
    return run_checks.find_problems(published(root), NAME, root)


def change_manifest(root: Path, change: Change) -> None:
    file = published(root) / f"{NAME}.run.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    if "manifest_sha256" in manifest:
        manifest["manifest_sha256"] = seal(manifest)
    file.write_text(json.dumps(manifest))


def publish_notebook(root: Path, change: Change) -> None:
    """Write a changed executed notebook, with a source and a manifest that fit it."""
    notebook = executed_notebook()
    change(notebook)
    for file in (published(root) / f"{NAME}.ipynb", root / SOURCE):
        file.write_text(json.dumps(notebook))
    write_manifest(root)


def test_a_run_that_meets_every_rule_has_no_problem(root: Path) -> None:
    assert problems(root) == []


def test_missing_manifest(root: Path) -> None:
    (published(root) / f"{NAME}.run.json").unlink()
    assert problems(root) == [f"{NAME}.run.json: missing"]


@pytest.mark.parametrize(
    ("text", "said"), [("{", "not valid JSON"), ("[]", "not a JSON object"), ("", "not valid JSON")]
)
def test_unreadable_manifest(root: Path, text: str, said: str) -> None:
    (published(root) / f"{NAME}.run.json").write_text(text)
    assert said in problems(root)[0]


@pytest.mark.parametrize("key", RunManifest.model_fields)
def test_manifest_without_a_key(root: Path, key: str) -> None:
    change_manifest(root, lambda m: m.pop(key))
    assert problems(root) == [f"{NAME}.run.json: lacks {key}"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update(seed=True), "seed: Input should be a valid integer, got True"),
        (lambda m: m.update(seconds=True), "seconds: Input should be a valid number, got True"),
        (lambda m: m.update(seconds=float("nan")), "seconds: Input should be a finite number, got nan"),
        (lambda m: m.update(executed_sha256="0"), "executed_sha256: String should match"),
        (lambda m: m.update(tutorial="other"), "describes the tutorial 'other'"),
        (lambda m: m.update(ended="2026-11-22T10:11:01"), "ended: Input should have timezone info, got '2026-11-22T"),
        (lambda m: m.update(started="yesterday"), "started: Input should be a valid datetime"),
        (lambda m: m["artifact_check"].update(result="failed"), "result: Input should be 'passed', got 'failed'"),
        (lambda m: m["artifact_check"].update(result="stale"), "result: Input should be 'passed', got 'stale'"),
        (lambda m: m["artifact_check"].pop("result"), "lacks artifact_check.result"),
        (lambda m: m["artifact_check"].pop("numbers"), "lacks artifact_check.numbers"),
        (lambda m: m["artifact_check"].update(files=5), "5 files were checked, but 4 are listed"),
        (lambda m: m["inputs"].pop("lock"), "lacks inputs.lock"),
        (lambda m: m["inputs"].update(time="0"), "inputs.time: Extra inputs are not permitted"),
    ],
)
def test_manifest_that_says_something_wrong(root: Path, change: Change, said: str) -> None:
    change_manifest(root, change)
    assert [said in problem for problem in problems(root)] == [True]


def test_manifest_edited_by_hand(root: Path) -> None:
    file = published(root) / f"{NAME}.run.json"
    file.write_text(file.read_text().replace('"numbers": 24', '"numbers": 240'))
    assert problems(root) == [f"{NAME}.run.json: altered: its content is not what the run wrote; run it again"]


def test_manifest_with_everything_wrong_names_every_entry(root: Path) -> None:
    (published(root) / f"{NAME}.run.json").write_text('{"seed": "one"}')
    assert len(problems(root)) == len(RunManifest.model_fields)


def test_sealed_manifest_that_disagrees(root: Path) -> None:
    change_manifest(root, lambda m: m.update(seed=7))
    assert problems(root) == [f"{NAME}.run.json: says seed 7, the artifacts are of 42"]


def test_manifest_with_other_parameters_than_the_notebook_was_given(root: Path) -> None:
    publish_notebook(root, lambda n: n["metadata"].update(papermill={"parameters": {"SEED": 7}}))
    assert problems(root) == [f"{NAME}.run.json: says SEED=42, the executed notebook was given 7"]


@pytest.mark.parametrize("change", ["edited", "gone"])
def test_data_file_that_is_not_the_one_of_the_run_is_stale(root: Path, change: str) -> None:
    (root / "mine.h5ad").write_bytes(b"cells")
    recorded = inputs.inputs_of({"DATASET": "mine.h5ad", "OUTPUT_DIR": "book"}, root)
    assert list(recorded["data"]) == ["mine.h5ad"]
    change_manifest(root, lambda m: m.update(inputs=recorded))
    assert problems(root) == []
    (root / "mine.h5ad").write_bytes(b"other cells") if change == "edited" else (root / "mine.h5ad").unlink()
    said = "mine.h5ad has changed since" if change == "edited" else "mine.h5ad is no longer there"
    assert problems(root) == [f"{NAME}: stale: {said}; run it again"]


def test_system_files_below_a_folder_of_cells_do_not_change_it(tmp_path: Path) -> None:
    cells = tmp_path / "__MACOSX" / "mine.zarr"
    (cells / "obs" / ".ipynb_checkpoints").mkdir(parents=True)
    (cells / "obs" / "kind").write_bytes(b"T")
    before = inputs.tree_sha256(cells)
    for name in (".DS_Store", "obs/.nfs0001", "obs/.ipynb_checkpoints/kind"):
        (cells / name).touch()
    assert inputs.tree_sha256(cells) == before
    (cells / "obs" / "kind").write_bytes(b"B")
    assert inputs.tree_sha256(cells) != before


def test_run_with_other_packages_is_stale(root: Path) -> None:
    (root / "constraints.txt").write_text("scanpy==1.0")
    assert problems(root) == [f"{NAME}: stale: the versions of the packages have changed since; run it again"]


def test_run_with_other_code_is_stale(root: Path) -> None:
    change_manifest(root, lambda m: m["inputs"].update(code="0" * 64))
    assert problems(root) == [f"{NAME}: stale: frostline's code has changed since; run it again"]


def test_edited_source_notebook_is_stale(root: Path) -> None:
    (root / SOURCE).write_text('{"cells": [1]}')
    assert problems(root) == [f"{SOURCE}: stale: the source notebook has changed since; run it again"]


def test_missing_source_notebook(root: Path) -> None:
    (root / SOURCE).unlink()
    assert problems(root) == [f"{SOURCE}: the source notebook is missing"]


@pytest.mark.parametrize("path", ["../elsewhere.ipynb", "notebooks/../../elsewhere.ipynb"])
def test_source_notebook_outside_the_repository(root: Path, path: str) -> None:
    change_manifest(root, lambda m: m.update(source_notebook=path))
    assert "must lie inside the repository" in problems(root)[0]


def test_edited_executed_notebook(root: Path) -> None:
    file = published(root) / f"{NAME}.ipynb"
    file.write_text(file.read_text() + "\n")
    assert problems(root) == [f"{NAME}.ipynb: altered: its sha256 is not the one of the run; run it again"]


def test_missing_executed_notebook(root: Path) -> None:
    (published(root) / f"{NAME}.ipynb").unlink()
    assert problems(root) == [f"{NAME}.ipynb: missing"]


ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "no labels", "traceback": []}
OUTSIDE_WIDGET = {run_checks.WIDGET_STATE: {"state": {"a": {"model_module": "anywidget"}}}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda n: n["cells"].append(code_cell("f()", ERROR)), "cell 3 holds an error output: ValueError"),
        (lambda n: n["cells"].append(code_cell("f()", count=None)), "cell 3 was not executed"),
        (lambda n: n["metadata"].pop("language_info"), "metadata.language_info is missing"),
        (lambda n: n["metadata"].update(papermill={"exception": True}), "papermill recorded an exception"),
        (lambda n: n["cells"].pop(0), "no Markdown cell has a title"),
        (lambda n: n["metadata"].update(widgets=OUTSIDE_WIDGET), "widgets of 'anywidget'"),
    ],
)
def test_notebook_that_is_not_fit_to_read(root: Path, change: Change, said: str) -> None:
    publish_notebook(root, change)
    assert [said in problem for problem in problems(root)] == [True]


def test_empty_code_cell_need_not_be_executed(root: Path) -> None:
    publish_notebook(root, lambda n: n["cells"].append(code_cell(" \n", count=None)))
    assert problems(root) == []


def test_missing_artifact(root: Path) -> None:
    (published(root) / NAME / "report.csv").unlink()
    assert problems(root) == [f"{NAME}/report.csv: missing"]


def test_missing_folder_of_artifacts(root: Path) -> None:
    (published(root) / NAME).rename(root / "moved")
    assert len(problems(root)) == 4


@pytest.mark.parametrize("file", ["report.csv", "frozen_embedding_umap.png", "manifest.json"])
def test_truncated_artifact(root: Path, file: str) -> None:
    artifact = published(root) / NAME / file
    artifact.write_bytes(artifact.read_bytes()[:-1])
    assert problems(root) == [f"{NAME}/{file}: altered: its sha256 is not the one of the run"]


def test_edited_number_in_the_report(root: Path) -> None:
    report = published(root) / NAME / "report.csv"
    report.write_text(report.read_text().replace("0.5", "0.9"))
    assert "report.csv: altered" in problems(root)[0]


def test_swapped_artifacts(root: Path) -> None:
    folder = published(root) / NAME
    first, second = (folder / "report.md").read_bytes(), (folder / "report.csv").read_bytes()
    (folder / "report.md").write_bytes(second)
    (folder / "report.csv").write_bytes(first)
    assert len(problems(root)) == 2


def test_swapped_pictures(root: Path) -> None:
    folder = published(root) / NAME
    (folder / "lora_embedding_umap.png").write_bytes(png(3, 3))
    write_manifest(root)
    first, second = folder / "frozen_embedding_umap.png", folder / "lora_embedding_umap.png"
    first.rename(root / "aside.png")
    second.rename(first)
    (root / "aside.png").rename(second)
    said = "altered: its sha256 is not the one of the run"
    assert problems(root) == [f"{NAME}/frozen_embedding_umap.png: {said}", f"{NAME}/lora_embedding_umap.png: {said}"]


@pytest.mark.parametrize("file", ["old_umap.png", "sub/report.md", ".hidden"])
def test_extra_artifact(root: Path, file: str) -> None:
    extra = published(root) / NAME / file
    extra.parent.mkdir(exist_ok=True)
    extra.write_bytes(b"left over")
    assert problems(root) == [f"{NAME}/{file}: unexpected: the run did not write it"]


def test_artifact_that_is_a_link(root: Path) -> None:
    report = published(root) / NAME / "report.md"
    report.rename(root / "report.md")
    report.symlink_to(root / "report.md")
    assert "report.md: altered" in problems(root)[0]


@pytest.mark.parametrize(
    "text",
    [
        "saved to /home/someone/artifacts",
        "UserWarning: /usr/lib/python3.11/warnings.py:3",
        "file:///Users/someone/report.md",
        "'/tmp/ipykernel_7/1.py'",
        r"C:\Users\someone\report.md",
    ],
)
def test_path_of_a_machine_in_an_output(root: Path, text: str) -> None:
    publish_notebook(root, lambda n: n["cells"].append(code_cell("f()", stream(text))))
    assert f"{NAME}.ipynb: absolute path of a machine" in problems(root)[0]


def test_path_of_this_repository_in_an_output(root: Path) -> None:
    text = f"saved to {root.resolve()}/artifacts"
    publish_notebook(root, lambda n: n["cells"].append(code_cell("f()", stream(text))))
    assert f"{root.resolve()}/artifacts" in problems(root)[0]


def test_path_of_a_machine_in_an_artifact_and_in_the_manifest(root: Path) -> None:
    (published(root) / NAME / "report.md").write_text("from /home/someone/cells.h5ad")
    write_manifest(root)
    change_manifest(root, lambda m: m["parameters"].update(DATASET="/home/someone/cells.h5ad"))
    found = problems(root)
    assert [p.split(":")[0] for p in found] == [f"{NAME}.run.json", f"{NAME}/report.md"]


@pytest.mark.parametrize(
    "text",
    [
        "see https://example.org/home/someone/page",
        "artifacts/report.md",
        "~/data",
        "and/or",
        "<img src='data:image/png;base64,iVBOR/tmp/abc/home/abc+' alt='figure'>",
    ],
)
def test_text_that_only_resembles_a_path(root: Path, text: str) -> None:
    publish_notebook(root, lambda n: n["cells"].append(markdown_cell(text)))
    assert problems(root) == []


def test_encoded_data_is_not_searched_for_paths(root: Path) -> None:
    image = {"output_type": "display_data", "metadata": {}, "data": {"image/png": "AAAA /tmp/abc"}}
    buffers = [{"path": ["value"], "encoding": "base64", "data": " /tmp/abc"}]
    state = {"state": {"a": {"model_module": "@jupyter-widgets/base", "buffers": buffers}}}

    def change(notebook: dict[str, Any]) -> None:
        notebook["cells"].append(code_cell("f()", image))
        notebook["metadata"]["widgets"] = {run_checks.WIDGET_STATE: state}

    publish_notebook(root, change)
    assert problems(root) == []


def test_all_problems_are_named_at_once(root: Path) -> None:
    (root / SOURCE).write_text("{}")
    (published(root) / NAME / "report.md").unlink()
    (published(root) / NAME / "extra.md").write_text("extra")
    assert len(problems(root)) == 3


TABLE = "| Strategy | Macro-F1 | Accuracy |\n| --- | --- | --- |\n| lora | 0.9123 | 0.8500 |\n| a\\|b | NA | 0.5000 |\n"


def table_html(*rows: tuple[str, ...], head: tuple[str, ...] = ("Strategy", "Macro-F1", "Accuracy")) -> str:
    lines = [
        "".join(f"<{tag}>{cell}</{tag}>" for cell in row) for tag, row in [("th", head), *(("td", r) for r in rows)]
    ]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def displayed(**data: str) -> dict[str, Any]:
    data = {name.replace("_", "/"): text for name, text in data.items()}
    return {"output_type": "display_data", "data": data, "metadata": {}}


@pytest.fixture
def reported(root: Path) -> Path:
    """The project, with a report that holds a table."""
    (published(root) / NAME / "report.md").write_text(f"# Report\n\nHighest: 0.9123.\n\n{TABLE}")
    write_manifest(root)
    return root


def said_of(root: Path, *outputs: dict[str, Any], change: Change = lambda _: None) -> list[str]:
    def add(notebook: dict[str, Any]) -> None:
        notebook["cells"].append(code_cell("comparison", *outputs))
        change(notebook)

    publish_notebook(root, add)
    return problems(root)


@pytest.mark.parametrize(
    "outputs",
    [
        [displayed(text_html=table_html(("lora", "0.9123", "0.8500"), ("a|b", "NA", "0.5000")))],
        [displayed(text_html=table_html(("a", "1"), head=("Class", "Cells")))],
        [displayed(text_markdown="Highest: 0.9123."), displayed(text_plain="Comparison of lora\n0.9123 0.85")],
    ],
)
def test_page_that_shows_what_its_report_says(reported: Path, outputs: list[dict[str, Any]]) -> None:
    assert said_of(reported, *outputs) == []


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (displayed(text_html=table_html(("lora", "0.9923", "0.8500"))), "row that is not in report.md: lora | 0.9923"),
        (displayed(text_html=table_html(("lora", "NA", "0.5000"))), "row that is not in report.md"),
        (displayed(text_html=table_html(("head", "0.9123", "0.8500"))), "row that is not in report.md"),
        (
            displayed(text_html=table_html(("lora", "0.99", "1"), head=("strategy", "Macro-F1", "accuracy"))),
            "leaderboard with columns",
        ),
        (displayed(text_markdown="Highest: 0.9923."), "the number 0.9923"),
        (displayed(text_plain="Comparison of lora\n0.9923"), "the number 0.9923"),
    ],
)
def test_page_that_shows_something_else_than_its_report(reported: Path, output: dict[str, Any], said: str) -> None:
    (problem,) = said_of(reported, output)
    assert problem.startswith(f"{NAME}.ipynb: ")
    assert said in problem


def test_table_of_a_widget_that_is_not_in_the_report(reported: Path) -> None:
    model = {"model_module": "@jupyter-widgets/controls", "state": {"value": table_html(("lora", "1.0000", "1.0000"))}}
    state = {run_checks.WIDGET_STATE: {"state": {"a": model}}}
    (problem,) = said_of(reported, change=lambda n: n["metadata"].update(widgets=state))
    assert "lora | 1.0000" in problem


def other_code(root: Path, change: Change) -> list[str]:
    """Problems of an executed notebook whose source is the one without the change."""
    notebook = executed_notebook()
    change(notebook)
    (published(root) / f"{NAME}.ipynb").write_text(json.dumps(notebook))
    write_manifest(root)
    return problems(root)


def injected(code: str) -> dict[str, Any]:
    return {**code_cell(code), "metadata": {"tags": ["injected-parameters"]}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda n: n["cells"][1].update(source=["print('better')"]), "code cell 1 is not that of the source"),
        (lambda n: n["cells"].append(code_cell("patch()")), "has 2 code cells, the source has 1"),
        (lambda n: n["cells"].pop(1), "has 0 code cells, the source has 1"),
        (lambda n: n["cells"].insert(1, injected("# Parameters\nSEED = 42\nimport cheat")), "cell of its parameters"),
        (lambda n: n["cells"].insert(1, injected("SEED = 7")), "cell of its parameters"),
    ],
)
def test_executed_code_that_is_not_the_source(root: Path, change: Change, said: str) -> None:
    assert [said in problem for problem in other_code(root, change)] == [True]


def test_parameters_of_papermill_are_no_other_code(root: Path) -> None:
    def inject(notebook: dict[str, Any]) -> None:
        notebook["cells"].insert(1, injected("# Parameters\nSEED = 42"))
        notebook["metadata"]["papermill"] = {"parameters": {"SEED": 42}}

    assert other_code(root, inject) == []


@pytest.mark.parametrize(("run", "n"), [("a" * 32, 0), ("b" * 32, 1)])
def test_page_and_artifacts_of_different_runs(root: Path, run: str, n: int) -> None:
    (published(root) / NAME / "manifest.json").write_text(json.dumps({"seed": 42, "run": "a" * 32}))
    line = f"run {run} of {NAME}, 2026-11-22 10:10:00 UTC; files go to artifacts/x\n"
    said = said_of(root, stream(line))
    assert [f"{NAME}.ipynb: is of run {run}" in problem for problem in said] == [True] * n


def test_system_files_are_no_artifacts(root: Path) -> None:
    folder = published(root) / NAME
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "report-checkpoint.md").write_text("x")
    assert problems(root) == []


def test_artifacts_of_another_profile_than_the_page_says(root: Path) -> None:
    said = {"seed": 42, "parameters": {"profile": "full"}, "checkpoints": {"mini": "0" * 64}}
    (published(root) / NAME / "manifest.json").write_text(json.dumps(said))
    write_manifest(root)
    assert problems(root) == [f"{NAME}.run.json: says PROFILE='quickstart', the artifacts are of 'full'"]


def test_widgets_of_the_package_on_anywidget_may_be_on_a_page() -> None:
    state = {"model_module": "anywidget", "state": {"_anywidget_id": "frostline.panels.cellmap.CellMap"}}
    assert run_checks.is_own_widget(state)
    assert not run_checks.is_own_widget({**state, "model_module": "ipydatagrid"})
    assert not run_checks.is_own_widget({**state, "state": {"_anywidget_id": "elsewhere.Map"}})
