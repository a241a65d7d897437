"""Of remedies in general: which are not followed by a test, how commands in them are quoted, what pip is asked for."""

from __future__ import annotations

import ast
import re
from importlib.metadata import metadata
from pathlib import Path

import pytest

import frostline

pytestmark = pytest.mark.slow

NOT_FOLLOWED = {
    "write one in R with": "there is no R",
    r"pip install \{_NEEDS": "loompy and openpyxl are not installed; with them, by hand, the lines worked",
    "git lfs pull": "there is no Git LFS",
    "aws s3 cp": "there is no cloud",
    "gcloud storage cp": "there is no cloud",
    "h5clear -s": "the tools of HDF5 are not installed",
    "pip install -U anndata": "there is no newer anndata than the newest",
    "ask its owner": "there is nobody else",
    "pip install 'frostline\\[book\\]'": "there is no package index",
}
"""Remedies that no test can follow here (pattern in the source of the package: why); the others are to be followed."""


@pytest.mark.parametrize("pattern", NOT_FOLLOWED)
def test_what_is_not_followed_is_still_said(pattern):
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(frostline.__file__).parent.rglob("*.py"))
    assert re.search(pattern, sources)


COMMAND = re.compile(
    r"(\bfrostline [a-z]+ [^.;:`]*"  # a word of ours, up to the end of a sentence
    r"|\w.* -o "
    r"|\b(rm|mv|cp|cd|pip install|h5clear)( -\w+)* )$"
)


def filled_in(path: Path):
    """What a module fills into the words of a command of the shell, with what stands before it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        said = ""
        for value in node.values if isinstance(node, ast.JoinedStr) else ():
            if isinstance(value, ast.Constant):
                said += value.value
            elif COMMAND.search(said):
                yield said[-40:], ast.unparse(value.value)


def test_what_is_filled_into_a_command_is_quoted_where_it_may_hold_a_space():
    without = {"name", "spec.name", "_NEEDS[ending]"}  # registered names, and those of packages
    package = Path(frostline.__file__).parent
    found = [each for path in package.rglob("*.py") if "vendor" not in path.parts for each in filled_in(path)]
    assert {what for _, what in found} >= without
    quoted = re.compile(r"shlex\.(quote|join)\(|quoted$")
    assert [each for each in found if each[1] not in without and not quoted.search(each[1])] == []


def test_what_pip_is_asked_to_install_with_frostline_is_an_extra_of_it():
    sources = [path.read_text(encoding="utf-8") for path in Path(frostline.__file__).parent.rglob("*.py")]
    extras = {extra for text in sources for extra in re.findall(r"pip install 'frostline\[(\w+)\]'", text)}
    assert extras == {"book", "cluster"}
    assert extras <= set(metadata("frostline").get_all("Provides-Extra"))
