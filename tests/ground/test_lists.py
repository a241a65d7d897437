"""Lists as text: every way in which people write one gives the same items."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline import RunSettings
from frostline.errors import FrostlineError
from frostline.lists import list_of

NAMES = st.lists(st.from_regex(r"[a-z][a-z_]{0,8}(:X_[A-Za-z]{1,4}( \(1\))?)?", fullmatch=True), max_size=5)


@given(NAMES, st.sampled_from([",", ", ", " , "]))
def test_ways_to_write_a_list_give_the_same_items(names, comma):
    quoted = [f"'{name}'" for name in names]
    for text in (comma.join(names), f"[{comma.join(names)}]", f"[{comma.join(quoted)}]", f"({comma.join(quoted)})"):
        assert list_of(text) == names
    assert list_of(json.dumps(names)) == list_of(repr(names)) == list_of(f" {names!r} ") == names


@given(st.lists(st.text("ab,'\"[]() \\", min_size=1).filter(lambda text: text == text.strip()), max_size=4))
def test_quoted_items_may_hold_anything(items):
    assert list_of(repr(items)) == items


@pytest.mark.parametrize("text", ['["a"', "(a]", '"a', "['a'b]", "[", '["a" "b"]'])
def test_what_is_no_list_is_refused(text):
    with pytest.raises(FrostlineError, match=r"no list|no closing bracket"):
        list_of(text)


def test_settings_take_lists_as_text():
    """As `papermill -p STRATEGIES ...` hands them on."""
    settings = RunSettings.from_notebook({"STRATEGIES": '["head", "lora"]', "BUDGETS": "5, 10"})
    assert (settings.strategies, settings.budgets) == (["head", "lora"], [5, 10])
    with pytest.raises(FrostlineError, match=r"BUDGETS\.0: .*five"):
        RunSettings.from_notebook({"BUDGETS": "five"})


def test_settings_of_a_notebook_list_its_own_parameters():
    names = {"PROFILE": "fast", "SEED": 1, "OUTPUT_DIR": "artifacts/mine"}
    with pytest.raises(
        FrostlineError, match=r"known: full, quickstart.*The parameters are: PROFILE, SEED, OUTPUT_DIR$"
    ):
        RunSettings.from_notebook(names)
