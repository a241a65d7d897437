"""Controls of how cells are read: what they offer after a look at the cells, and when they are locked."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from frostline.panels.reading import ReadingControls


def look(*names, recommended=None):
    """What `inspect` found, as far as the controls ask."""
    matrices = [SimpleNamespace(name=name) for name in names]
    return SimpleNamespace(matrices=matrices, recommended=recommended, default=names[0])


@pytest.mark.parametrize(
    ("wanted", "recommended", "chosen"),
    [(None, None, "X"), (None, "counts", "counts"), ("raw", "counts", "raw"), ("gone", "counts", "X")],
)
def test_a_layer_is_chosen_by_the_caller_else_as_recommended(wanted, recommended, chosen):
    controls = ReadingControls("key", wanted, None, None)
    assert controls.offer(look("X", "raw", "counts", recommended=recommended), ["symbol"]) == chosen
    assert controls.options == {"layer": chosen, "values": None, "gene_column": None}
    assert controls.each["gene_column"].options == ("symbol",)


def test_other_cells_get_what_is_recommended_of_them():
    controls = ReadingControls("key", "raw", None, None)
    controls.offer(look("X", "raw"), [])
    assert controls.offer(look("X", "raw"), []) == "X"


@pytest.mark.parametrize(
    ("true", "locked"),
    [
        ("running", {"key", "layer", "values", "gene_column", "overwrite"}),
        ("looking", {"layer", "gene_column"}),
        ("loaded", {"layer", "values", "gene_column"}),
        (None, set()),
    ],
)
def test_what_cannot_be_chosen_is_locked(true, locked):
    controls = ReadingControls("key", None, None, None)
    controls.enable(**{name: name == true for name in ("running", "looking", "loaded")})
    assert {name for name, control in controls.each.items() if control.disabled} == locked
