"""What the README promises exists: commands, paths, names."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

import frostline
from frostline import cli
from frostline.publishing import notebooks

pytestmark = pytest.mark.slow

FIRST_SCREEN = 40
"""Lines."""


@pytest.fixture(scope="session")
def readme(root) -> str:
    return (root / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def commands(readme) -> list[list[str]]:
    """Every command after a `$` in the README, without its comment."""
    lines = [line[2:] for block in blocks(readme, "console") for line in block.splitlines() if line.startswith("$ ")]
    return [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]


@pytest.fixture(scope="session")
def snippet(readme) -> ast.Module:
    (code,) = blocks(readme, "python")
    return ast.parse(code)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def call_names(tree: ast.Module) -> list[tuple[str, ast.Call]]:
    """Calls of frostline's functions, by their dotted names."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [(name, call) for call in calls if (name := ast.unparse(call.func)).startswith("frostline.")]


def make_n(root: Path, target: str) -> subprocess.CompletedProcess[str]:
    """What make would do."""
    return subprocess.run(["make", "-n", target], cwd=root, capture_output=True, text=True, check=False)


def test_first_screen_shows_the_two_commands(readme):
    first = "\n".join(readme.splitlines()[:FIRST_SCREEN])
    assert "$ make quickstart" in first
    assert "$ make test" in first
    assert "pip install -c constraints.txt -e ." in first
    assert "$ papermill notebooks/cell_type_annotation.ipynb" in first


def test_every_make_target_exists(readme, root):
    targets = set(re.findall(r"\bmake ([a-z-]+)(?=`|\s+#|$)", readme, re.MULTILINE))
    assert {"quickstart", "test", "test-fast", "lab", "lint", "book", "browser", "clean"} <= targets
    for target in sorted(targets):
        done = make_n(root, target)
        assert done.returncode == 0, f"{target}: {done.stderr}"


def test_lint_reads_the_folders_of_the_project_and_nothing_that_a_command_left_beside_them(readme, root):
    """`papermill notebooks/... out.ipynb` leaves an executed notebook, whose cells are not formatted."""
    lines = [shlex.split(line) for line in make_n(root, "lint").stdout.splitlines() if "/ruff " in line]
    read = [{word for word in words[2:] if not word.startswith("-")} for words in lines]
    code = {"book", "notebooks", "tests", "widgets"}
    assert read == [code, code]
    left = re.findall(r"papermill \S+ (\S+\.ipynb)", readme)
    assert left
    assert not any((root / name).is_relative_to(root / folder) for name in left for folder in code)


def test_quickstart_publishes_the_tutorial_of_the_readme(root):
    assert "frostline publish cell_type_annotation --profile quickstart" in make_n(root, "quickstart").stdout


def test_test_targets_run_pytest(root):
    assert "-m pytest" in make_n(root, "test").stdout
    assert '-m "not slow"' in make_n(root, "test-fast").stdout


def test_every_target_is_explained_by_make_help(root):
    rules = re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    said = subprocess.run(["make", "help"], cwd=root, capture_output=True, text=True, check=True).stdout
    assert {rule for rule in rules if rule != "help"} == set(re.findall(r"^make ([a-z-]+) ", said, re.MULTILINE))


def test_every_command_is_one_that_the_project_knows(commands, root):
    known = {"make", "frostline", "papermill", "pip", "python3.11", "source"}
    assert {command[0] for command in commands} <= known
    for command in commands:
        for word in command[1:]:
            if word.startswith("notebooks/") or word == "constraints.txt":
                assert (root / word).is_file(), word


def test_frostline_commands_parse_and_their_parameters_exist(commands, root):
    typer_app = get_command(cli.app)
    for _, name, *arguments in [command for command in commands if command[0] == "frostline"]:
        context = typer_app.commands[name].make_context(name, list(arguments))
        pairs = dict(item.split("=", 1) for item in context.params.get("parameter") or [])
        if name in {"run", "publish"}:
            notebook = root / "notebooks" / f"{context.params['notebook']}.ipynb"
            notebooks.typed_parameters(notebook, pairs)


def test_papermill_commands_name_parameters_of_the_notebook(commands, root):
    for command in [command for command in commands if command[0] == "papermill"]:
        given = {command[i + 1] for i, word in enumerate(command) if word == "-p"}
        assert given <= set(notebooks.notebook_parameters(root / command[1]))


def test_every_link_leads_to_a_file(readme, root):
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", readme) if "://" not in link]
    assert links
    assert [link for link in links if not (root / link).exists()] == []


def test_python_snippet_uses_names_that_exist(snippet):
    assert len(call_names(snippet)) >= 5
    for name, call in call_names(snippet):
        function = frostline
        for part in name.split(".")[1:]:
            function = getattr(function, part)
        keywords = {keyword.arg: None for keyword in call.keywords}
        inspect.signature(function).bind(*call.args, **keywords)


def test_python_snippet_runs(snippet, counts_file, tmp_path, monkeypatch, instant_umap):
    """With the strategy that needs seconds, and cells whose label column has the name of the snippet."""
    import anndata

    monkeypatch.chdir(tmp_path)
    adata = anndata.read_h5ad(counts_file)
    adata.obs = adata.obs.rename(columns={"kind": "cell_type"})
    adata.write_h5ad("mine.h5ad")
    build = frostline.strategies.build
    monkeypatch.setattr(frostline.strategies, "build", lambda: build(["pca_logistic"]))
    *statements, last = snippet.body
    names: dict[str, object] = {}
    exec(compile(ast.Module(statements, []), "README.md", "exec"), names)
    shown = eval(compile(ast.Expression(last.value), "README.md", "eval"), names)
    assert shown.best == "pca_logistic"
