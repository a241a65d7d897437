"""The package: who may import whom, what the top holds, and how light it is to import."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import frostline

pytestmark = pytest.mark.slow

ROOT = Path(frostline.__file__).parent
LAYERS = (
    "errors",
    "escaping",
    "scratch",
    "manifests",
    "runs",
    "lists",
    "interrupts",
    "kernel_process",
    "bounds",
    "monitor",
    "memory",
    "records",
    "profiles",
    "genes",
    "columns",
    "words",
    "symbols",
    "groups",
    "matrices",
    "values",
    "reading",
    "datasets",
    "joining",
    "draws",
    "previews",
    "splits",
    "cases",
    "tokens",
    "model",
    "torch_archives",
    "weight_files",
    "layouts",
    "checkpoints",
    "folders",
    "sources",
    "downloads",
    "vocabulary",
    "embedding",
    "saving",
    "leakage",
    "label_checks",
    "clusterings",
    "checks",
    "training",
    "corpus",
    "recipes",
    "model_cards",
    "pretraining",
    "calibration",
    "metrics",
    "significance",
    "verdicts",
    "strategies",
    "settings",
    "estimates",
    "evaluation",
    "likeness",
    "comparison",
    "journal",
    "jobs",
    "archive",
    "lettering",
    "figures",
    "report",
    "pictures",
    "clusters",
    "plans",
    "audits",
    "annotation",
    "artifacts",
    "book",
    "panels",
    "terminal",
    "notebooks",
    "kernels",
    "executions",
    "tutorials",
    "publishing",
    "starting",
    "cluster",
    "cli",
)
"""Each module may import only modules above it."""
FOUNDATIONS = {
    "strategies": ("base", "selection", "probe", "components", "encoder", "head", "tuning"),
    "book": ("inputs", "page_checks", "run_checks", "states", "status_box"),
}
"""Modules of a folder that its other modules may import, each only those above it."""
HEAVY = {"torch", "scanpy", "anndata", "peft", "transformers", "ipywidgets", "sklearn", "umap", "pandas", "matplotlib"}


def modules() -> list[str]:
    """Dotted names below the package, a folder under the name of its __init__."""
    paths = [path.relative_to(ROOT).with_suffix("") for path in sorted(ROOT.rglob("*.py"))]
    names = [".".join(path.parts).removesuffix(".__init__") for path in paths]
    return [name for name in names if name != "__init__"]


def path_of(name: str) -> Path:
    path = ROOT.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imported_by(name: str) -> Iterator[str]:
    """Dotted names below the package that a module imports, in functions and for type checkers too."""
    known = set(modules())
    for node in ast.walk(ast.parse(path_of(name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively in line {node.lineno}"
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for dotted in found:
            if dotted == "frostline" or not dotted.startswith("frostline."):
                continue
            inner = dotted.removeprefix("frostline.")
            if inner in known:
                yield inner
            elif "." in inner:  # a name inside a module
                yield inner.rpartition(".")[0]
            elif inner in frostline._HOMES:  # a name that the top of the package resolves
                yield frostline._HOMES[inner]
            else:
                assert inner == "__version__", f"{name} imports {inner} from the top of the package"


def may_import(importer: str, imported: str) -> bool:
    above, below = imported.split(".")[0], importer.split(".")[0]
    if above != below:
        return LAYERS.index(above) < LAYERS.index(below)
    if importer == below:  # only the __init__ of a folder has modules below it
        return imported != below
    order = FOUNDATIONS.get(below)
    if order is None:
        return imported != below
    place = {f"{below}.{name}": i for i, name in enumerate(order)}
    return imported in place and place[imported] < place.get(importer, len(order))


@pytest.mark.parametrize("name", modules())
def test_a_module_imports_only_modules_above_it(name):
    assert name.split(".")[0] in LAYERS, f"give {name} a place in the list of layers"
    wrong = [imported for imported in imported_by(name) if not may_import(name, imported)]
    assert not wrong, f"{name} imports {wrong}"


def test_the_rule_would_notice_an_import_from_below():
    assert may_import("splits", "datasets")
    assert not may_import("datasets", "splits")
    assert not may_import("splits", "splits")
    assert may_import("strategies.lora", "strategies.encoder")
    assert not may_import("strategies.encoder", "strategies.lora")
    assert not may_import("strategies.lora", "strategies.frozen_probe")
    assert not may_import("strategies.lora", "strategies")
    assert may_import("strategies", "strategies.lora")
    assert set(imported_by("comparison")) == {
        *("errors", "escaping", "likeness", "metrics", "records", "significance", "verdicts"),
    }
    assert "model" in set(imported_by("checkpoints"))  # inside functions


def test_the_top_of_the_package_imports_nothing_of_it_when_it_is_run():
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            assert not str(getattr(node, "module", "")).startswith("frostline"), names
            assert not any(name.startswith("frostline") for name in names), names


def in_a_fresh_interpreter(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_takes_less_than_half_a_second_and_nothing_heavy():
    code = "import frostline, json, sys, time; print(json.dumps([time.process_time(), list(sys.modules)]))"
    runs = [json.loads(in_a_fresh_interpreter(code)) for _ in range(3)]
    assert min(seconds for seconds, _ in runs) < 0.5  # of the processor, the interpreter's own start included
    loaded = {name.split(".")[0] for name in runs[0][1]}
    assert not loaded & HEAVY


@pytest.mark.parametrize("name", ["records", "comparison", "report", "profiles"])
def test_what_draws_from_records_needs_no_torch(name):
    code = f"import frostline.{name}, sys; print('torch' in sys.modules, 'scanpy' in sys.modules)"
    assert in_a_fresh_interpreter(code).split() == ["False", "False"]


class TestTop:
    @pytest.mark.parametrize("name", frostline.__all__)
    def test_every_public_name_is_there(self, name):
        assert getattr(frostline, name) is not None
        assert name in dir(frostline)

    def test_public_names_are_sorted_and_stand_there_once(self):
        assert list(frostline.__all__) == sorted(set(frostline.__all__))

    def test_every_public_name_is_resolved_on_first_use(self):
        assert set(frostline.__all__) == set(frostline._HOMES) | set(frostline._MODULES)

    def test_no_function_hides_its_module(self):
        assert not set(frostline._HOMES) & set(LAYERS)

    def test_an_unknown_name_is_an_attribute_error(self):
        with pytest.raises(AttributeError, match="module 'frostline' has no attribute 'magic'"):
            _ = frostline.magic

    def test_the_version_is_that_of_the_distribution(self):
        assert frostline.__version__ == importlib.metadata.version("frostline")


class TestErrors:
    def test_every_error_of_the_package_is_a_value_error_but_the_cancel_is_none(self):
        from frostline import errors

        kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
        assert {kind.__name__ for kind in kinds if not issubclass(kind, ValueError)} == {"Cancelled"}
        assert all(issubclass(kind, errors.FrostlineError) for kind in kinds if kind is not errors.Cancelled)

    def test_an_unknown_name_lists_the_known_ones_and_the_remedy(self):
        from frostline.errors import unknown

        assert str(unknown("profile", "fast", ["a", "b"], remedy="Or write one")) == (
            "unknown profile 'fast'; known: a, b. Or write one"
        )


class TestMonitor:
    def test_fractions_are_kept_between_zero_and_one_and_parts_are_mapped(self):
        from frostline.monitor import Monitor

        heard = []
        monitor = Monitor(lambda *said: heard.append(said))
        for fraction in (-1.0, 0.5, 2.0):
            monitor.part(0.2, 0.6, "part: ").step(fraction, "step")
        assert [message for _, message in heard] == ["part: step"] * 3
        assert [fraction for fraction, _ in heard] == pytest.approx([0.2, 0.4, 0.6])

    def test_a_part_is_cancelled_with_the_whole(self):
        from frostline.errors import Cancelled
        from frostline.monitor import Monitor

        with pytest.raises(Cancelled, match="now"):
            Monitor(cancelled=lambda: True).part(0.0, 0.5).step(0.1, "now")
