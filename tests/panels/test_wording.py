"""What a panel says names its controls and no Python."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest

import frostline
from frostline.cells.values import _how_to_say
from frostline.errors import FrostlineError
from frostline.evaluation.checks import review
from frostline.panels.base import alert, findings_html
from frostline.panels.wording import ANNOTATING, COMPARING, SAVING, for_panel, held_out, held_out_of

KEYWORD = re.compile(r"\b(group_key|label_key|kind|seed|layer|values|gene_column|key|overwrite)=")


def cells(labels, values=None, **columns) -> anndata.AnnData:
    counts = np.random.default_rng(0).poisson(3.0, size=(len(labels), 6)) + 1.0
    obs = pd.DataFrame({"kind": list(labels), **columns}, index=[f"c{i}" for i in range(len(labels))])
    genes = pd.DataFrame(index=["CD3D", "MS4A1", "LYZ", "NKG7", "GNLY", "CST3"])
    return anndata.AnnData(counts if values is None else values, obs=obs, var=genes)


def refusal(work) -> str:
    with pytest.raises(FrostlineError) as caught:
        work()
    return str(caught.value)


def test_the_remedy_of_a_random_split_across_donors_names_the_list():
    dataset = frostline.load_dataset("pancreas").relabelled("cell_type")
    found = [f for f in review(dataset, frostline.split(dataset, kind="stratified")) if f.code == "optimistic-split"]
    assert [f.remedy for f in found] == ["Load with group_key='donor' and split with kind='group'."]
    shown = findings_html(found)
    assert "<em>Choose donor under Groups, and group under Split.</em>" in shown
    assert not KEYWORD.search(shown)


def one_group():
    dataset = frostline.load_dataset(
        cells("ab" * 12, donor="one", batch=["x", "y", "z"] * 8), "kind", group_key="donor"
    )
    frostline.split(dataset)


def no_group():
    frostline.split(frostline.load_dataset(cells("ab" * 12, donor=["p", "q"] * 12), "kind"), kind="group")


def a_donor_a_class():
    dataset = frostline.load_dataset(cells("aaaabbbb" * 4, donor=list("ppppqqqq") * 4), "kind", group_key="donor")
    frostline.split(dataset)


def one_class():
    frostline.load_dataset(cells("a" * 24), "kind")


def unclear():
    frostline.load_dataset(cells("ab" * 12, np.random.default_rng(0).random((24, 6)) * 9 + 0.1), "kind")


def scaled():
    adata = cells("ab" * 12, np.random.default_rng(0).normal(size=(24, 6)))
    adata.layers["umi"] = np.ones((24, 6))
    frostline.load_dataset(adata, "kind")


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (
            one_group,
            "choose stratified under Split, or choose another column under Groups (columns like groups: batch)",
        ),
        (no_group, "choose donor under Groups"),
        (a_donor_a_class, "choose stratified under Split"),
        (one_class, "choose another column under Labels"),
        (unclear, "choose counts under Layer, or choose log1p under Values"),
        (scaled, "choose one of these under Layer: umi"),
    ],
)
def test_a_refusal_names_controls_and_no_keyword(work, said):
    message = refusal(work)
    assert KEYWORD.search(message) or "group_key" in message or "label_key" in message
    shown = for_panel(message)
    assert said in shown
    assert not KEYWORD.search(shown)
    assert said in alert(FrostlineError(message)).partition("<details>")[0]


def said_with_arguments():
    """Texts of the package that name an argument of a function, what they fill in left out."""
    package = Path(frostline.__file__).parent
    for path in sorted(file for room in ("cells", "annotation") for file in (package / room).glob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        inner = {part for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in filter(lambda node: node not in inner, nodes):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in parts)
            if KEYWORD.search(text) and "=..." in text:
                yield text


def test_a_cell_file_without_values_names_the_control_of_the_layer():
    empty = anndata.AnnData(obs=cells("ab" * 12).obs, var=cells("ab" * 12).var)
    shown = for_panel(refusal(lambda: frostline.load_dataset(empty, "kind")))
    assert shown == "this AnnData has no X; choose another under Layer, or set adata.X = adata.layers[...]"


def test_all_that_is_said_of_cells_has_words_of_a_panel():
    said = list(said_with_arguments())
    assert len(said) >= 10
    wrong = [text for text in said for rules in (COMPARING, ANNOTATING) if KEYWORD.search(for_panel(text, rules))]
    assert wrong == []


def test_names_with_quotes_are_read_as_python_wrote_them():
    name = 'the donor\'s "own" \\ {0}'
    assert for_panel(f"load it with group_key={name!r}") == f"choose {name} under Groups"
    assert for_panel(_how_to_say("log2")) == "choose log2 under Values"


def test_other_panels_have_words_of_their_own():
    taken = "write under another key (key='x_2', --key x_2), or replace it (overwrite=True, --overwrite)"
    assert for_panel(taken, ANNOTATING).endswith(
        "choose another Key, such as x_2, or tick Replace labels under this key"
    )
    assert for_panel("name another file, or let it be replaced (overwrite=True)", SAVING).endswith(
        "tick Replace a file that is there"
    )


def test_what_needs_python_is_left_as_it_is():
    line = "adata[adata.obs['kind'].astype(str) != 'x']"
    assert for_panel(f"compare without the class: {line}.") == f"compare without the class: {line}."


class TestHeldOut:
    def test_each_repeat_names_its_groups(self):
        assert (
            held_out("donor", {1: ["d2"], 0: ["d1"]})
            == "Held out for the test, by donor: d1 (repeat 1); d2 (repeat 2)."
        )
        assert held_out("donor", {0: ["d1", "d2"]}) == "Held out for the test, by donor: d1, d2."

    def test_of_many_the_first_are_named(self):
        assert held_out("donor", {0: [f"d{i}" for i in range(20)]}, most=2).endswith("d0, d1 and 18 more.")

    def test_without_groups_nothing_is_said(self):
        assert held_out(None, {0: []}) == held_out("donor", {0: []}) == ""

    @pytest.mark.parametrize(
        ("kind", "said"), [("group", "by donor: a, b (repeat 1); c (repeat 2)."), ("stratified", "")]
    )
    def test_of_a_comparison_they_are_those_of_its_test_cells(self, kind, said):
        records = [
            SimpleNamespace(repeat=i, groups=groups, split_kind=kind, group_key="donor")
            for i, groups in enumerate([("b", "a", "a"), ("c", "c")])
        ]
        assert held_out_of(SimpleNamespace(records=records)).endswith(said)
