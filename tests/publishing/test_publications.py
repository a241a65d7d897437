"""From a notebook to its place in the book: parameters, execution, and what is refused on the way."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from tiny_project import PARAMETERS, SAVE_ARTIFACTS, SAVE_RECORDS, TOC

from frostline.artifacts import checking
from frostline.errors import ArtifactError, FrostlineError
from frostline.hashes import file_sha256
from frostline.publishing import executions, inputs, notebooks, publications, run_checks, states, tutorials
from frostline.publishing.executions import Execution, execute
from frostline.publishing.notebooks import typed_parameters
from frostline.publishing.publications import place, publish
from frostline.publishing.run_manifests import seal
from frostline.records import save_records


@pytest.fixture(scope="module", autouse=True)
def _forked(with_forked_kernels) -> Iterator[None]:
    """`test_executions` starts kernels as users do."""
    with with_forked_kernels():
        yield


@pytest.fixture(scope="module")
def project(tmp_path_factory, write_notebook, make_record) -> tuple[Path, Execution]:
    """A project whose notebook was really executed and placed; not to be changed."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        save_records([make_record("pca_logistic", seed=7), make_record("head", seed=7)], Path("records.jsonl"))
        notebook = write_notebook(Path("notebooks/tiny.ipynb"), PARAMETERS, SAVE_RECORDS, SAVE_ARTIFACTS)
        done = publish(notebook, {"SEED": "7"}, output=Path("executed/tiny.ipynb"), show_progress=False)
    return folder, done


@pytest.fixture
def finished(here, tiny, save_artifacts):
    """An execution that left artifacts in the current project, made without a kernel."""

    def finish(**changes) -> Execution:
        notebook = tiny("print(1)")
        started = publications.datetime.now(publications.UTC)
        save_artifacts(Path("artifacts/tiny"), **changes)
        output = Path("executed/tiny.ipynb")
        output.parent.mkdir(exist_ok=True)
        executed = nbformat.read(notebook, 4)
        executed.metadata |= {"language_info": {"name": "python"}, "papermill": {}}
        executed.cells[1].execution_count, executed.cells[2].execution_count = 1, 2
        run = json.loads(Path("artifacts/tiny/manifest.json").read_text(encoding="utf-8"))["run"]
        nbformat.write(executed, output)
        values = {"PROFILE": "quickstart", "SEED": 42, "OUTPUT_DIR": "artifacts/tiny"}
        made_from = inputs.inputs_of(values, here)
        return Execution(notebook, output, values, started, 1.5, file_sha256(notebook), made_from, run)

    return finish


# ---- parameters


def test_parameters_carry_their_types_defaults_and_help(tiny):
    found = notebooks.notebook_parameters(tiny())
    assert list(found) == ["PROFILE", "SEED", "SHARE", "QUICK", "STRATEGIES", "OUTPUT_DIR", "PLAIN", "BUDGETS"]
    assert (found["SEED"].kind, found["SEED"].default, found["SEED"].help) == ("int", 42, "of the run")
    assert found["STRATEGIES"].default == ["pca_logistic", "head"]
    assert found["QUICK"].default is True


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("SEED", "007", 7),
        ("SEED", "-1", -1),
        ("SHARE", "1e-3", 1e-3),
        ("QUICK", "false", False),
        ("QUICK", "True", True),
        ("PROFILE", "007", "007"),
        ("PROFILE", "true", "true"),
        ("PROFILE", "", ""),
        ("STRATEGIES", "head", ["head"]),
        ("STRATEGIES", "head, lora", ["head", "lora"]),
        ("BUDGETS", "5,10", [5, 10]),
        ("BUDGETS", "", []),
    ],
)
def test_text_becomes_a_value_of_the_annotated_type(tiny, name, text, value):
    typed = typed_parameters(tiny(), {name: text})[name]
    assert (typed, type(typed)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("SEED", "seven", "int"),
        ("SEED", "7.5", "int"),
        ("SHARE", "half", "float"),
        ("QUICK", "maybe", "bool"),
        ("BUDGETS", "5,x", "list.int."),
    ],
)
def test_text_that_is_no_value_of_the_type_is_refused(tiny, name, text, kind):
    with pytest.raises(FrostlineError, match=f"^parameter {name} is of type {kind}; got '{text}'$"):
        typed_parameters(tiny(), {name: text})


def test_parameter_without_annotation_has_the_type_of_its_default(tiny):
    assert typed_parameters(tiny(), {"PLAIN": "5"}) == {"PLAIN": 5}


def test_values_that_are_no_text_are_handed_on(tiny):
    assert typed_parameters(tiny(), {"STRATEGIES": ["lora"], "SEED": 3}) == {"STRATEGIES": ["lora"], "SEED": 3}


@pytest.mark.parametrize("name", ["TYPO", "seed", "Seed", ""])
def test_unknown_parameter_is_refused_with_the_known_ones(tiny, name):
    with pytest.raises(FrostlineError, match=f"unknown parameter '{name}'; known: PROFILE, SEED, .*tiny.ipynb"):
        typed_parameters(tiny(), {name: "1"})


def test_notebook_without_parameters_cell_is_refused(here):
    nbformat.write(nbformat.v4.new_notebook(), here / "bare.ipynb")
    with pytest.raises(FrostlineError, match="no cell tagged 'parameters'"):
        typed_parameters(Path("bare.ipynb"), {})


def test_notebook_that_names_no_kernel_is_refused(here):
    cell = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), here / "bare.ipynb")
    with pytest.raises(FrostlineError, match=r"parameters of bare\.ipynb cannot be read: No kernel name"):
        typed_parameters(Path("bare.ipynb"), {})


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cells": 3}'])
def test_file_that_is_no_notebook_is_refused(here, content):
    (here / "broken.ipynb").write_text(content)
    with pytest.raises(FrostlineError, match=r"broken\.ipynb cannot be read as a notebook"):
        typed_parameters(Path("broken.ipynb"), {})


def test_notebook_is_found_by_name_and_by_path(tiny):
    tiny()
    assert notebooks.find_notebook("tiny") == notebooks.find_notebook("notebooks/tiny.ipynb")
    with pytest.raises(
        FrostlineError, match=r"unknown notebook 'huge'; known: cell_type_annotation, .*, tiny, your_own"
    ):
        notebooks.find_notebook("huge")


# ---- execution


def test_execution_knows_what_ran_and_leaves_nothing_else(project):
    folder, done = project
    assert done.parameters["SEED"] == 7
    assert done.parameters["PROFILE"] == "quickstart"
    assert done.artifacts_folder == Path("artifacts/tiny")
    assert done.seconds > 0
    assert [path.name for path in (folder / "executed").iterdir()] == ["tiny.ipynb"]
    assert [path.name for path in (folder / "artifacts").iterdir()] == ["tiny"]
    assert json.loads((folder / "artifacts" / "tiny" / "manifest.json").read_text())["seed"] == 7


def test_source_notebook_is_not_touched(project):
    folder, _ = project
    source = nbformat.read(folder / "notebooks" / "tiny.ipynb", 4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in source.cells)
    assert "papermill" not in source.metadata


def test_executed_notebook_names_itself_and_no_folder_of_the_machine(project):
    folder, _ = project
    executed = nbformat.read(folder / "executed" / "tiny.ipynb", 4)
    assert executed.metadata["papermill"]["output_path"] == "tiny.ipynb"
    assert executed.metadata["papermill"]["input_path"] == "tiny.ipynb"
    assert str(folder) not in (folder / "executed" / "tiny.ipynb").read_text()


def test_unknown_parameter_is_refused_before_a_kernel_starts(tiny, bytes_of, here, monkeypatch):
    notebook = tiny()
    before = bytes_of(here)
    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: pytest.fail("a kernel was started"))
    with pytest.raises(FrostlineError, match="unknown parameter 'TYPO'"):
        execute(notebook, Path("executed/tiny.ipynb"), {"TYPO": 1})
    assert bytes_of(here) == before


def write_earlier(path: Path) -> None:
    """Write a notebook that papermill has executed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(metadata={"papermill": {}}), path)


FAILURES = {
    "cell that raises": ("1 / 0", "ZeroDivisionError: division by zero"),
    "kernel that dies": ("import os; os._exit(1)", "kernel died"),
    "cell that leaves early": ("raise SystemExit(0)", "SystemExit"),
    "error inside a widget": (
        "import ipywidgets\nout = ipywidgets.Output()\ndisplay(out)\nwith out:\n    raise KeyError('hidden')",
        "hidden",
    ),
    "cell without end": ("import time; time.sleep(60)", "the whole run may take 4 s; --timeout"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_failure_is_said_and_keeps_the_earlier_output(tiny, here, monkeypatch, kind):
    code, said = FAILURES[kind]
    # nbclient now and then overlooks a reply while it serves an Output widget, and finds it when the time is over
    monkeypatch.setattr(executions, "TIMEOUT", 4 if kind == "cell without end" else 20)
    notebook = tiny("print('reached')", code)
    output = Path("executed/tiny.ipynb")
    write_earlier(output)
    before = output.read_bytes()
    with pytest.raises(FrostlineError, match=f"(?is)tiny.ipynb.*{said}.*tiny.failed.ipynb"):
        execute(notebook, output, show_progress=False)
    assert output.read_bytes() == before
    assert sorted(path.name for path in output.parent.iterdir()) == ["tiny.failed.ipynb", "tiny.ipynb"]
    assert "reached" in output.with_name("tiny.failed.ipynb").read_text()


def test_next_success_removes_what_a_failure_left(tiny, here):
    output = Path("executed/tiny.ipynb")
    write_earlier(output.with_name("tiny.failed.ipynb"))
    execute(tiny("print(SEED + 1)"), output, {"SEED": "41"}, show_progress=False)
    assert [path.name for path in output.parent.iterdir()] == ["tiny.ipynb"]
    assert nbformat.read(output, 4).cells[-1].outputs[0]["text"] == "42\n"


def test_fractions_and_lists_reach_the_notebook_as_such(tiny, here):
    output = Path("tiny.out.ipynb")
    values = {"SHARE": "0.25", "STRATEGIES": "lora,head", "QUICK": "false", "PROFILE": "007"}
    execute(tiny("print([SHARE, STRATEGIES, QUICK, PROFILE])"), output, values, show_progress=False)
    assert nbformat.read(output, 4).cells[-1].outputs[0]["text"] == "[0.25, ['lora', 'head'], False, '007']\n"


# ---- placing in the book


def test_published_page_meets_the_rules_of_the_book(project):
    folder, _ = project
    published = folder / "book" / "published"
    assert run_checks.find_problems(published, "tiny", folder) == []
    assert sorted(path.name for path in published.iterdir()) == ["tiny", "tiny.ipynb", "tiny.run.json"]


def test_published_files_are_those_of_the_run(project, bytes_of):
    folder, done = project
    published = folder / "book" / "published"
    manifest = json.loads((published / "tiny.run.json").read_text())
    assert bytes_of(published / "tiny") == bytes_of(folder / "artifacts" / "tiny")
    assert (published / "tiny.ipynb").read_bytes() == (folder / done.output).read_bytes()
    assert manifest["executed_sha256"] == file_sha256(published / "tiny.ipynb")
    assert manifest["source_sha256"] == file_sha256(folder / "notebooks" / "tiny.ipynb")
    assert manifest["artifacts"] == {p.name: file_sha256(p) for p in sorted((published / "tiny").iterdir())}


def test_run_manifest_says_what_the_status_box_shows(project):
    folder, done = project
    manifest = json.loads((folder / "book" / "published" / "tiny.run.json").read_text())
    assert manifest["source_notebook"] == "notebooks/tiny.ipynb"
    assert (manifest["mode"], manifest["profile"], manifest["seed"]) == ("static executed tutorial", "quickstart", 7)
    assert manifest["parameters"] == done.parameters
    result = checking.check(folder / "artifacts" / "tiny")
    assert manifest["artifact_check"] == {"result": "passed", "files": result.files, "numbers": result.numbers}
    assert result.files == len(checking.declared(["pca_logistic", "head"])) + 1
    assert result.numbers >= 12  # two strategies, two metrics, three tables
    assert manifest["started"] <= manifest["ended"]
    assert manifest["started"].endswith("+00:00")


def test_page_without_a_kernel_is_placed_too(finished, here):
    place(finished())
    assert run_checks.find_problems(here / "book" / "published", "tiny", here) == []


def test_system_files_among_the_artifacts_are_not_published(finished, here):
    done, folder = finished(), here / "artifacts" / "tiny"
    (folder / ".DS_Store").touch()
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "report-checkpoint.csv").touch()
    place(done)
    published = here / "book" / "published"
    assert run_checks.find_problems(published, "tiny", here) == []
    assert {path.name for path in (published / "tiny").iterdir()} == {
        path.name for path in folder.iterdir() if not path.name.startswith(".")
    }


def test_system_files_beside_the_artifacts_are_none_of_the_page(finished, here):
    execution = finished()
    (here / "artifacts" / "tiny" / ".DS_Store").touch()
    place(execution)
    published = here / "book" / "published"
    (published / "Thumbs.db").touch()
    assert [(state.name, state.result) for state in states.states_of(published, ["tiny"], here)] == [("tiny", "passed")]


def test_new_page_replaces_the_earlier_one_whole(finished, here):
    place(finished(strategies=("frozen_probe", "head")))
    published = here / "book" / "published"
    assert (published / "tiny" / "frozen_embedding_umap.png").is_file()
    (published / "tiny" / "left_over.png").write_bytes(b"of an earlier version")
    place(finished(strategies=("pca_logistic",)))
    assert not (published / "tiny" / "frozen_embedding_umap.png").exists()
    assert run_checks.find_problems(published, "tiny", here) == []
    assert sorted(path.name for path in published.iterdir()) == ["tiny", "tiny.ipynb", "tiny.run.json"]


def alter(folder: Path) -> None:
    report = folder / "report.csv"
    report.write_text(report.read_text().replace("0.", "0.9", 1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (alter, "report.csv: altered"),
        (lambda folder: (folder / "report.md").unlink(), "report.md: missing"),
        (lambda folder: (folder / "notes.txt").write_text("mine"), "notes.txt: unexpected"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json: "),
    ],
    ids=["altered", "missing", "unexpected", "unreadable"],
)
def test_artifacts_that_fail_their_check_are_not_published(finished, here, bytes_of, change, said):
    place(finished())
    before = bytes_of(here / "book")
    execution = finished()
    change(here / "artifacts" / "tiny")
    with pytest.raises(ArtifactError, match=f"{said}.*nothing was published"):
        place(execution)
    assert bytes_of(here / "book") == before


def test_notebook_with_a_cell_that_was_not_executed_is_not_published(finished, here, bytes_of, edit_json):
    place(finished())
    before = bytes_of(here / "book")
    execution = finished()
    edit_json(execution.output, lambda notebook: notebook["cells"][2].update(execution_count=None))
    with pytest.raises(FrostlineError, match=r"tiny\.ipynb: cell 3 was not executed; nothing was published"):
        place(execution)
    assert bytes_of(here / "book") == before


def test_missing_artifacts_are_not_published(finished, here):
    execution = finished()
    (here / "artifacts" / "tiny").rename(here / "elsewhere")
    with pytest.raises(ArtifactError, match=r"manifest\.json: missing"):
        place(execution)
    assert not (here / "book").exists()


def test_artifacts_of_another_run_are_not_published(finished, here, bytes_of):
    place(finished())
    before = bytes_of(here / "book")
    execution = finished()
    finished()  # writes the same folder, a moment later
    with pytest.raises(ArtifactError, match="artifacts/tiny holds artifacts of another run"):
        place(execution)
    with pytest.raises(ArtifactError, match="began no run"):
        place(dataclasses.replace(execution, run=None))
    assert bytes_of(here / "book") == before


def test_failed_notebook_is_not_published(tiny, here, bytes_of, finished):
    place(finished())
    before = bytes_of(here / "book")
    with pytest.raises(FrostlineError, match="ZeroDivisionError"):
        publish(tiny("1 / 0"), output=Path("executed/tiny.ipynb"), show_progress=False)
    assert bytes_of(here / "book") == before


def test_notebook_that_leaves_no_artifacts_is_not_published(tiny, here):
    with pytest.raises(ArtifactError, match=r"manifest\.json: missing"):
        publish(tiny("print(1)"), output=Path("executed/tiny.ipynb"), show_progress=False)
    assert not (here / "book").exists()


@pytest.mark.parametrize("name", ["OUTPUT_DIR", "PROFILE"])
def test_page_that_would_name_a_folder_of_the_machine_is_refused_before_a_kernel_starts(tiny, here, monkeypatch, name):
    notebook = tiny()
    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: pytest.fail("a kernel was started"))
    with pytest.raises(FrostlineError, match=f"{name}.*{here}"):
        publish(notebook, {name: str(here / "mine")}, output=Path("executed/tiny.ipynb"))


# ---- several at once


def test_one_failure_does_not_lose_the_result_of_the_others(lab):
    found = publications.publish_all(tutorials.declared_notebooks(), {"PROFILE": "quickstart"}, show_progress=False)
    outcomes = {outcome.name: outcome for outcome in found}
    assert {name: outcome.result for name, outcome in outcomes.items()} == {
        "tiny": "published",
        "broken": "failed",
        "gone": "failed",
    }
    assert "broken.ipynb failed in cell 3: ZeroDivisionError" in outcomes["broken"].said
    assert "see artifacts/broken.failed.ipynb" in outcomes["broken"].said
    assert "gone.ipynb cannot be read" in outcomes["gone"].said
    assert run_checks.find_problems(lab / "book" / "published", "tiny", lab) == []
    found = {state.name: state.result for state in publications.recomputed_states()}
    assert found == {"tiny": "passed", "broken": "failed", "gone": "failed"}
    with pytest.raises(FrostlineError, match=r"(?s)cannot be released:\n  published/broken: failed.*published/gone"):
        publications.build_book(release=True)


def test_unchanged_tutorial_does_not_run_again_unless_asked(lab, without_kernel, monkeypatch):
    notebook = Path("notebooks/tiny.ipynb")
    assert publish_of(notebook) == "published"
    with monkeypatch.context() as patch:
        patch.setattr("papermill.execute_notebook", lambda *_, **__: pytest.fail("a kernel was started"))
        assert publish_of(notebook) == "unchanged"
        assert not plan_of(SEED=7).is_unchanged
        (lab / "constraints.txt").write_text("numpy==1.0")
        assert not plan_of().is_unchanged
        (lab / "constraints.txt").unlink()
        assert plan_of().is_unchanged
        report = lab / "book" / "published" / "tiny" / "report.csv"
        report.write_text(report.read_text() + "\n")
        assert not plan_of().is_unchanged
    assert publish_of(notebook, force=True) == "published"
    assert plan_of().is_unchanged


def publish_of(notebook: Path, **options) -> str:
    (outcome,) = publications.publish_all([notebook], {"PROFILE": "quickstart"}, show_progress=False, **options)
    # those that the page shows: where it wrote, or as they are kept, whatever another run has written there since
    kept = outcome.result == "unchanged"
    assert outcome.artifacts == Path("book/published/tiny" if kept else "artifacts/tiny")
    assert outcome.output == Path("book/published/tiny.ipynb" if kept else "artifacts/tiny.ipynb")
    assert outcome.artifacts.is_dir()
    assert outcome.output.is_file()
    return outcome.result


def plan_of(**parameters):
    return tutorials.prepare(Path("notebooks/tiny.ipynb"), {"PROFILE": "quickstart", **parameters})


def test_two_run_at_once_and_each_has_its_time(here, tiny, write_notebook):
    cell = "import time; time.sleep(60)"
    names = ("one", "two")
    sources = [
        write_notebook(Path(f"notebooks/{name}.ipynb"), PARAMETERS.replace("/tiny", f"/{name}"), cell) for name in names
    ]
    started = time.perf_counter()
    outcomes = publications.publish_all(sources, {}, timeout=4, show_progress=False)
    assert [outcome.result for outcome in outcomes] == ["failed", "failed"]
    said = "as it timed out: the whole run may take 4 s; --timeout SECONDS gives it more"
    assert all(said in outcome.said for outcome in outcomes)
    assert time.perf_counter() - started < 30


INTERRUPTED = """
from pathlib import Path
from frostline.publishing import publications

publications.publish_all([Path("notebooks/slow.ipynb")], {})
"""


@pytest.mark.usefixtures("heard_interrupts")
def test_interrupt_ends_the_kernel_too(here, write_notebook):
    slow = "open('started', 'w')\nimport time; time.sleep(90)"
    write_notebook(Path("notebooks/slow.ipynb"), PARAMETERS, slow)
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED], stderr=subprocess.PIPE, text=True) as running:
        deadline = time.perf_counter() + 60
        while not Path("started").exists() and time.perf_counter() < deadline:
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        try:
            _, said = running.communicate(timeout=30)
        except subprocess.TimeoutExpired:  # a callback may swallow one on a loaded machine; people press again
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=30)
    assert "KeyboardInterrupt" in said
    assert not list(here.rglob("*.running.ipynb"))


def test_wrong_parameter_stops_all_before_a_kernel_starts(lab, monkeypatch):
    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: pytest.fail("a kernel was started"))
    with pytest.raises(FrostlineError, match="unknown parameter 'TYPO'"):
        publications.publish_all([Path("notebooks/tiny.ipynb")], {"TYPO": "1"})
    sources = [Path("notebooks/tiny.ipynb"), Path("notebooks/broken.ipynb")]
    with pytest.raises(FrostlineError, match="would both write artifacts/same"):
        publications.publish_all(sources, {"OUTPUT_DIR": "artifacts/same"})


@pytest.mark.parametrize(
    ("file", "said"),
    [("report.csv", "published/tiny/report.csv: altered"), ("manifest.json", "published/tiny/manifest.json: altered")],
)
def test_altered_page_is_not_built(finished, here, file, said):
    place(finished())
    (here / "book" / "_toc.yml").write_text(TOC)
    altered = here / "book" / "published" / "tiny" / file
    altered.write_text(altered.read_text() + " ")
    with pytest.raises(FrostlineError, match=said):
        publications.build_book()


def test_number_edited_together_with_all_its_hashes_is_found_by_recomputing(finished, here, edit_json):
    place(finished())
    (here / "book" / "_toc.yml").write_text(TOC)
    published = here / "book" / "published"
    report = published / "tiny" / "report.md"
    digits = next(cell.strip() for cell in report.read_text().split("|") if cell.strip().startswith("0."))
    report.write_text(report.read_text().replace(f"| {digits} |", "| 0.9999 |", 1))
    inner = published / "tiny" / "manifest.json"
    edit_json(inner, lambda m: m["files"]["report.md"].update(sha256=file_sha256(report)))

    def reseal(manifest):
        manifest["artifacts"].update({p.name: file_sha256(p) for p in (report, inner)})
        manifest["manifest_sha256"] = seal(manifest)

    edit_json(published / "tiny.run.json", reseal)
    assert states.state_of(published, "tiny", here).result == "passed"
    with pytest.raises(FrostlineError, match=r"tiny/report\.md: .*0\.9999.*, the saved records give"):
        publications.build_book()


def test_book_is_not_built_without_a_published_tutorial(lab):
    with pytest.raises(FrostlineError, match="holds no executed tutorial; run: frostline publish"):
        publications.build_book()


def test_execution_time_is_measured(tiny):
    started = time.perf_counter()
    done = execute(tiny("import time; time.sleep(0.5)"), Path("out.ipynb"), show_progress=False)
    assert 0.5 < done.seconds < time.perf_counter() - started + 1
