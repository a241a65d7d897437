"""Change the code at random, one point at a time, and say which changes no test notices: `make mutants`.

Each change is made in a copy of the package, in a folder of its own; the tests of the module that it is in run on it
until one fails: those named after the module or its room, its examples, and those that import it.
"""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE, TESTS = ROOT / "widgets" / "frostline", ROOT / "tests"
ROOMS = ("cells", "encoder", "pretraining", "strategies", "evaluation", "comparison", "artifacts", "annotation")
"""Rooms that compute."""
TOGETHER = {"strategies"}
"""Rooms all of whose tests are those of each module: they are held to one contract, by their list."""
DRAWN = {"figures", "lettering", "pictures"}
"""Modules whose numbers are widths and sizes of what is drawn."""
ENOUGH = 0.9
"""Share of the changes that tests must notice."""
LONGEST = 300
"""Seconds of a test after which it has failed: a change may make it run for ever."""
OTHERS = {
    **{ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt)},
    **{ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,)},
    **{ast.In: (ast.NotIn,), ast.NotIn: (ast.In,), ast.And: (ast.Or,), ast.Or: (ast.And,)},
    **{ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult,)},
}
NEVER_READ = {"annotation", "returns", "decorator_list", "type_comment"}
HARMLESS = {"strict", "repr", "encoding"}
"""Arguments that change nothing where all is well, or where UTF-8 is the default; their values are not changed."""


class Mutant(NamedTuple):
    """A module with one change."""

    path: Path
    line: int
    source: str

    @property
    def name(self) -> str:
        """Where it is, as editors understand it."""
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    @property
    def diff(self) -> str:
        """What was changed, without lines around it."""
        before = self.path.read_text(encoding="utf-8").splitlines()
        return "\n".join([*difflib.unified_diff(before, self.source.splitlines(), n=0, lineterm="")][3:])


def walked(node: ast.AST) -> Iterator[ast.AST]:
    """All below a node that is computed; what stands in an f-string has no place of its own."""
    yield node
    if isinstance(node, ast.keyword) and node.arg in HARMLESS:
        return
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if name not in NEVER_READ and isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr):
                yield from walked(child)


def changed(node: ast.AST) -> Iterator[ast.AST]:
    """What a node may be changed to."""
    match node:
        case ast.BinOp() if any(_is_text(side) for side in (node.left, node.right)):
            return
        case ast.Compare(ops=[op]) | ast.BinOp(op=op) | ast.BoolOp(op=op):
            for other in OTHERS.get(type(op), ()):
                yield _with(node, **({"ops": [other()]} if isinstance(node, ast.Compare) else {"op": other()}))
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            yield ast.Constant(node.value + 1)
        case ast.Return(value=ast.expr()) if not (isinstance(node.value, ast.Constant) and node.value.value is None):
            yield ast.Return(ast.Constant(None))
        case ast.Call():
            for keyword in node.keywords:
                if keyword.arg not in HARMLESS:
                    yield _with(node, keywords=[other for other in node.keywords if other is not keyword])


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _with(node: ast.AST, **fields: object) -> ast.AST:
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def mutants(path: Path) -> Iterator[Mutant]:
    """Every change of a module."""
    source = path.read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node in walked(ast.parse(source)):
        for other in changed(node):
            start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
            text = ast.unparse(other)
            text = f"({text})" if isinstance(other, ast.BinOp | ast.BoolOp | ast.Compare) else text
            yield Mutant(path, node.lineno, (source[:start] + text.encode() + source[end:]).decode())


def tests_of(path: Path) -> list[str]:
    """Arguments for pytest: the tests of a module, the nearest first."""
    room, module = path.parent.name, path.stem
    files = [
        file
        for file in sorted(TESTS.rglob("test_*.py"))
        if file.parent.name in ("doors", "ground" if room == PACKAGE.name else room)
    ]
    named = [file for name in (module, room) for file in files if file.stem == f"test_{name}"]
    if room in TOGETHER:
        named += [file for file in files if file.parent.name == room]
    imports = rf"frostline\.{room}(\.{module}\b| import [^\n]*\b{module}\b)"
    importing = [file for file in files if re.search(imports, file.read_text(encoding="utf-8"))]
    if not importing and not named:
        importing = [file for file in files if f"frostline.{room}" in file.read_text(encoding="utf-8")]
    found = [str(file) for file in dict.fromkeys([*named, *importing])]
    if ">>>" in path.read_text(encoding="utf-8"):
        dotted = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        found.insert(1, f"{next(TESTS.rglob('test_docs.py'))}::test_examples[{dotted}]")
    return found


def run_tests(package: Path, tests: list[str]) -> subprocess.CompletedProcess[str]:
    """Run tests on the package in a folder until one fails."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"--timeout={LONGEST}", *tests]
    env = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def fate(mutant: Mutant) -> str:
    """Put a mutant into a copy of the package, and return the test that notices it; empty when none does."""
    with tempfile.TemporaryDirectory() as folder:
        copied = shutil.copytree(PACKAGE, Path(folder) / PACKAGE.name, ignore=shutil.ignore_patterns("vendor"))
        (copied / mutant.path.relative_to(PACKAGE)).write_text(mutant.source, encoding="utf-8")
        done = run_tests(Path(folder), tests_of(mutant.path))
    if not done.returncode:
        return ""
    failed = failed_in(done.stdout + done.stderr)
    if not failed:
        raise RuntimeError(f"pytest could not run on {mutant.name}:\n{done.stdout}{done.stderr}")
    # a test that is not there has another name under the change
    again, fails = ([failed], {1}) if "::" in failed else (["--collect-only", *tests_of(mutant.path)], {1, 2, 3, 4})
    if run_tests(PACKAGE.parent, again).returncode in fails:
        raise RuntimeError(f"{failed} fails without any change: first make all tests pass")
    return failed


def failed_in(output: str) -> str:
    """Name the test that failed, or the file that could not even be imported; empty where pytest says neither."""
    conftest = r"^ImportError while loading conftest '(?:.*/)?(tests/.+?)'"
    found = re.search(rf"{conftest}|^(?:FAILED|ERROR) (.+?)(?: - |$)", output, re.MULTILINE)
    return (found[1] or found[2]) if found else ""


def main() -> int:
    """Draw changes and tell the fate of each; 1 when too many survive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", "-N", type=int, default=50, help="changes to draw")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the draw")
    parser.add_argument("--rooms", nargs="+", default=ROOMS, help="rooms to draw from")
    parser.add_argument("--jobs", "-n", type=int, default=2, help="changes tested at a time")
    asked = parser.parse_args()
    paths = [path for room in asked.rooms for path in sorted((PACKAGE / room).glob("*.py")) if path.stem not in DRAWN]
    every = [mutant for path in paths for mutant in mutants(path)]
    drawn = random.Random(asked.seed).sample(every, asked.number)
    print(f"{asked.number} of {len(every):,} changes, seed {asked.seed}", flush=True)
    survivors, started = [], time.monotonic()
    with ThreadPool(asked.jobs) as pool:
        for mutant, noticed_by in zip(drawn, pool.imap(fate, drawn), strict=True):
            said = f"noticed by {noticed_by}" if noticed_by else "SURVIVES"
            print(f"{time.monotonic() - started:6.0f} s  {mutant.name}  {said}", flush=True)
            survivors += [] if noticed_by else [mutant]
    for mutant in survivors:
        print(f"\n{mutant.name}\n{mutant.diff}")
    noticed = asked.number - len(survivors)
    print(f"\n{noticed} of {asked.number} changes are noticed; seed {asked.seed}")
    return int(noticed < ENOUGH * asked.number)


if __name__ == "__main__":
    sys.exit(main())
