"""Tutorials: those that the table of contents declares, and what a notebook must have to be one."""

from __future__ import annotations

from pathlib import Path

import pytest

from frostline.errors import FrostlineError
from frostline.publishing import tutorials


def test_tutorials_are_those_of_the_table_of_contents(lab):
    assert tutorials.declared_tutorials() == ["tiny", "broken", "gone"]


def test_notebook_without_the_parameters_of_a_tutorial_is_refused_with_what_it_lacks(here, tiny):
    problem = tutorials.unfit(tiny(parameters="SEED: int = 1"))
    assert "tiny.ipynb has no parameter PROFILE: str" in str(problem)


def test_undeclared_notebook_is_refused_with_the_line_to_add(lab):
    with pytest.raises(FrostlineError, match=r"add the line `- file: published/new` to book/_toc\.yml"):
        tutorials.refuse_undeclared([Path("notebooks/new.ipynb")])
