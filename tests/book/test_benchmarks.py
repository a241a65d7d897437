"""Scripts of tests/benchmarks/, which no test runs: what they import is there."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(FOLDER.glob("*.py"))
PEERS = {"scdlkit"}
"""Software that a script installs for itself."""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_what_a_script_imports_is_there(script):
    own = {path.stem: path for path in SCRIPTS}
    imports = [node for node in ast.walk(ast.parse(script.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)]
    for node in imports:
        names = {alias.name for alias in node.names}
        if node.module.partition(".")[0] == "frostline":
            module = importlib.import_module(node.module)
            missing = {name for name in names if not hasattr(module, name) and not is_module(node.module, name)}
        elif node.module in own:
            missing = names - defined_in(own[node.module])
        else:
            top = node.module.partition(".")[0]
            missing = set() if top in PEERS or importlib.util.find_spec(top) else names
        assert not missing, f"line {node.lineno}: {node.module}"


def is_module(package: str, name: str) -> bool:
    return importlib.util.find_spec(f"{package}.{name}") is not None


def defined_in(path: Path) -> set[str]:
    """Names at the top of a script."""
    body = ast.parse(path.read_text("utf-8")).body
    assigned = {
        name.id
        for node in body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for name in ast.walk(node)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    }
    return assigned | {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
