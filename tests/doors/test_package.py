"""The package: who may import whom, what the top holds, and how light it is to import."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

import frostline

pytestmark = pytest.mark.slow

ROOT = Path(frostline.__file__).parent
HOUSE = runpy.run_path(str(Path(__file__).parents[2] / "book" / "draw_house.py"))
ROOMS, GROUND = HOUSE["ROOMS"], HOUSE["GROUND"]
"""Each room may import only rooms above it; `settings` is a module with a place of its own."""
SHARED = ("base", "selection", "probe", "components", "encoder", "head", "tuning")
"""What a strategy may import of its room, for no strategy imports another one."""
HEAVY = {
    "torch",
    "scanpy",
    "anndata",
    "peft",
    "transformers",
    "ipywidgets",
    "sklearn",
    "umap",
    "pandas",
    "matplotlib",
    "dask",
    "distributed",
    "zarr",
}


@functools.cache
def modules() -> list[str]:
    """Dotted names below the package, a folder under the name of its __init__."""
    paths = [path.relative_to(ROOT).with_suffix("") for path in sorted(ROOT.rglob("*.py"))]
    names = [".".join(path.parts).removesuffix(".__init__") for path in paths]
    return [name for name in names if name != "__init__"]


def path_of(name: str) -> Path:
    path = ROOT.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@functools.cache
def imported_by(name: str) -> frozenset[str]:
    """Dotted names below the package that a module imports, in functions and for type checkers too."""
    return frozenset(imports_of(name))


def imports_of(name: str) -> Iterator[str]:
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
            if not dotted.startswith("frostline.") or dotted == "frostline.__version__":
                continue
            inner = dotted.removeprefix("frostline.")
            module = inner if inner in known else inner.rpartition(".")[0]  # else a name inside a module
            assert module in known, f"{name} imports {dotted}, which is no module of the package"
            yield module


def room_of(name: str) -> str:
    top = name.split(".")[0]
    return top if top in ROOMS or (ROOT / top).is_dir() else GROUND


def may_import(importer: str, imported: str) -> bool:
    above, below = room_of(imported), room_of(importer)
    if above == below == "strategies" and importer != "strategies":
        return imported.removeprefix("strategies.") in SHARED
    return above == below or ROOMS.index(above) < ROOMS.index(below)


@pytest.mark.parametrize("name", modules())
def test_a_module_imports_only_rooms_above_it(name):
    assert room_of(name) in ROOMS, f"give {name} a place in the list of rooms"
    wrong = [imported for imported in imported_by(name) if not may_import(name, imported)]
    assert not wrong, f"{name} imports {wrong}"


def test_every_room_is_there():
    assert [room for room in ROOMS if room != GROUND and not path_of(room).is_file()] == []


def test_the_picture_shows_every_module_in_its_room():
    assert {name: HOUSE["room_of"](name) for name in HOUSE["modules"]()} == {
        name: room_of(name) for name in modules() if not (ROOT / name.replace(".", "/")).is_dir()
    }
    picture = HOUSE["PICTURE"].read_text(encoding="utf-8")
    shown = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", picture))))
    assert {name.rpartition(".")[2] for name in HOUSE["modules"]()} <= shown, "draw it again: make house"


def test_no_modules_import_each_other_in_a_circle():
    TopologicalSorter({name: imported_by(name) for name in modules()}).prepare()


def test_the_rules_would_notice_an_import_from_below():
    assert may_import("cells.splits", "errors")
    assert may_import("cells.splits", "cells.datasets")
    assert may_import("comparison.jobs", "evaluation.journal")
    assert not may_import("errors", "cells.splits")
    assert not may_import("cells.splits", "encoder.tokens")
    assert not may_import("artifacts.exports", "panels")
    assert may_import("strategies.adapters", "strategies.encoder")
    assert not may_import("strategies.adapters", "strategies.frozen_probe")
    assert not may_import("strategies.adapters", "strategies")
    assert may_import("strategies", "strategies.adapters")
    assert imported_by("comparison.comparisons") == {
        *("errors", "records", "evaluation.metrics", "evaluation.prediction_sets", "strategies", "strategies.tuning"),
        *(f"comparison.{name}" for name in ("grounds", "likeness", "record_tables", "significance", "tables")),
        "comparison.verdicts",
    }
    assert "encoder.model" in imported_by("encoder.checkpoints")  # inside functions
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()


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


@pytest.mark.skipif(sys.platform != "linux", reason="what GNU's OpenMP says of itself, which torch has on Linux")
@pytest.mark.parametrize(("asked", "rounds"), [({}, "'0'"), ({"OMP_WAIT_POLICY": "active"}, "'30000000000'")])
def test_threads_sleep_while_they_wait_where_nobody_has_asked_otherwise(asked, rounds):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", "import frostline, torch"],
        env={**environment, "OMP_DISPLAY_ENV": "verbose", **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.findall(r"GOMP_SPINCOUNT = (.+)", done.stderr) == [rounds]


def test_what_draws_from_records_needs_no_torch():
    names = [f"frostline.{name}" for name in ("records", "comparison.comparisons", "comparison.report", "profiles")]
    code = f"import sys, {', '.join(names)}; print([name for name in ('torch', 'scanpy') if name in sys.modules])"
    assert in_a_fresh_interpreter(code) == "[]\n"


class TestTop:
    @pytest.mark.parametrize("name", frostline.__all__)
    def test_every_public_name_is_there(self, name):
        assert getattr(frostline, name) is not None
        assert name in dir(frostline)

    def test_what_pages_and_examples_call_is_there_without_another_import(self):
        project = ROOT.parents[1]
        places = [(folder, kind) for folder in ("widgets", "notebooks", "book") for kind in ("py", "md", "ipynb")]
        files = [path for folder, kind in places for path in (project / folder).rglob(f"*.{kind}")]
        called = re.compile(r"(?<![\w./])frostline((?:\.[A-Za-z_]+)+)\(")
        named = sorted({name for path in files for name in called.findall(path.read_text(encoding="utf-8"))})
        assert len(named) > 30
        code = "import frostline; from operator import attrgetter\nfor name in %r: attrgetter(name[1:])(frostline)"
        assert {name.split(".")[1] for name in named} <= set(frostline.__all__)
        in_a_fresh_interpreter(code % named)

    def test_no_public_function_hides_a_room_or_module(self):
        functions = {name for name in frostline.__all__ if not isinstance(getattr(frostline, name), ModuleType)}
        assert not functions & {name.rpartition(".")[2] for name in modules()}

    def test_an_unknown_name_is_an_attribute_error(self):
        with pytest.raises(AttributeError, match="No frostline attribute magic"):
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
