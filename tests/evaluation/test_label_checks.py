"""Labels and groups: what means missing, what is one name twice and what is no group are found, and can be mended."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from frostline.cells.datasets import load_dataset
from frostline.cells.joining import join_datasets
from frostline.cells.splits import split
from frostline.errors import DatasetError
from frostline.evaluation.checks import review

CODES = ("missing-as-text", "similar-names", "labels-are-groups", "one-group", "groups-are-cells")


def cells(n: int = 120, *, seed: int = 0, **obs) -> AnnData:
    """Counts of cells of three classes in turn."""
    values = np.random.default_rng(seed).poisson(2.0, (n, 40)).astype(np.float32)
    table = pd.DataFrame({"kind": ["B", "NK", "T"] * (n // 3), **obs}, index=[f"{seed}x{i}y" for i in range(n)])
    return AnnData(values, obs=table)


def found(dataset, kind="stratified") -> dict:
    findings = review(dataset, split(dataset, kind=kind))
    return {finding.code: finding for finding in findings if finding.code in CODES}


def found_in(adata, **options) -> dict:
    return found(load_dataset(adata, "kind", **options))


def mended(remedy: str, name: str, adata: AnnData) -> AnnData:
    """What the code in a remedy makes of a data set."""
    (line,) = re.findall(rf"`(adata[^`]*)`{f' for {name}' if name else ''}", remedy)
    names = {"adata": adata.copy()}
    exec(line, names)
    return names["adata"]


def test_clean_labels_and_groups_say_nothing():
    assert found_in(cells(donor=[f"d{i // 3 % 4}" for i in range(120)]), group_key="donor") == {}


class TestMissing:
    def labels(self) -> list[str]:
        return ["nan" if i % 12 == 0 else "Unknown cells" if i % 30 == 1 else "BNT"[i % 3] for i in range(120)]

    @pytest.mark.parametrize("kind", [list, pd.Categorical])
    def test_labels_that_mean_missing_are_counted_and_the_code_leaves_them_out(self, kind):
        adata = cells(kind=kind(self.labels()))
        finding = found_in(adata)["missing-as-text"]
        assert finding.severity == "warning"
        assert "label column 'kind' has 'nan' (10 cells), 'Unknown cells' (4 cells)" in finding.title
        left = mended(finding.remedy, "", adata)
        assert left.n_obs == 106
        assert "missing-as-text" not in found_in(left)

    def test_groups_too_and_one_line_mends_both(self):
        donors = ["?" if i % 40 == 5 else f"d{i // 3 % 4}" for i in range(120)]
        adata = cells(kind=self.labels(), donor=donors)
        finding = found_in(adata, group_key="donor")["missing-as-text"]
        assert "group column 'donor' has '?' (3 cells)" in finding.title
        assert "missing-as-text" not in found_in(mended(finding.remedy, "", adata), group_key="donor")
        assert "group column" not in found_in(adata)["missing-as-text"].title

    def test_one_cell_is_one_cell(self):
        assert "'none' (1 cell)" in found_in(cells(kind=["none", *["B", "T"] * 59, "B"]))["missing-as-text"].title


class TestSpelling:
    @pytest.mark.parametrize("other", ["T cell ", "T cells", "t_cell", "T-cell", "T\u00a0cell", "T  cell", "'T' cell"])
    def test_names_in_several_spellings_are_counted_and_the_code_makes_them_one(self, other):
        adata = cells(kind=[("B", "T cell", other)[i % 3] if i % 6 else "B" for i in range(120)])
        finding = found_in(adata)["similar-names"]
        assert finding.severity == "warning"
        assert "differ only in spelling" in finding.title
        assert f"{other!r} (40 cells)" in finding.title
        after = mended(finding.remedy, "", adata)
        assert after.n_obs == 120
        assert load_dataset(after, "kind").summary()["cells"].tolist() == [80, 40]
        assert found_in(after) == {}

    def test_groups_in_several_spellings(self):
        adata = cells(donor=[("d1", "D1", "d2", "d3")[i // 3 % 4] for i in range(120)])
        finding = found_in(adata, group_key="donor")["similar-names"]
        assert "'D1' (30 cells) and 'd1' (30 cells) in group column 'donor'" in finding.title
        assert found_in(mended(finding.remedy, "", adata), group_key="donor") == {}

    def test_signs_make_different_cells(self):
        assert found_in(cells(kind=["CD4+ T", "CD4- T", "CD4 T"] * 40)) == {}


class TestJoined:
    def pair(self, ours, theirs, **columns):
        one = cells(kind=ours, **columns)
        other = cells(seed=1, **columns)
        other.obs["type"] = theirs
        del other.obs["kind"]
        return one, other

    def joined(self, one, other, **options):
        sets = load_dataset(one, "kind", name="ours", **options), load_dataset(other, "type", name="theirs", **options)
        return join_datasets(*sets)

    def test_spellings_of_the_two_sets_are_compared_and_the_code_is_for_each(self):
        one, other = self.pair(["B cell", "NK", "T"] * 40, ["B cells", "NK", "T"] * 40)
        finding = found(self.joined(one, other), "cross")["similar-names"]
        assert "label column 'kind' of ours and label column 'type' of theirs" in finding.title
        after = self.joined(one, mended(finding.remedy, "theirs", other))
        assert found(after, "cross") == {}
        assert set(after.labels) == {"B cell", "NK", "T"}

    def test_missing_labels_are_said_of_the_set_that_has_them(self):
        one, other = self.pair(["B", "NK", "T"] * 40, ["nan", "NK", "T"] * 40)
        finding = found(self.joined(one, other), "cross")["missing-as-text"]
        assert "label column 'type' of theirs has 'nan' (40 cells)" in finding.title
        assert "ours" not in finding.title
        assert mended(finding.remedy, "theirs", other).n_obs == 80

    def test_donors_of_the_two_sets_too(self):
        one, other = self.pair(["B", "NK", "T"] * 40, ["B", "NK", "T"] * 40, donor=["P1", "P2", "P3", "P4"] * 30)
        other.obs["donor"] = other.obs["donor"].str.lower()
        finding = found(self.joined(one, other, group_key="donor"), "cross")["similar-names"]
        assert "'P1' (30 cells) and 'p1' (30 cells) in group column 'donor' of ours" in finding.title

    def test_sets_that_share_no_spelling_are_refused_with_the_code_that_helps(self):
        one, other = self.pair(["B cell", "NK cell", "T cell"] * 40, ["B cells", "NK_cell", "t-cell"] * 40)
        with pytest.raises(DatasetError, match=r"share 0 label") as caught:
            self.joined(one, other)
        after = self.joined(one, mended(str(caught.value), "'theirs'", other))
        assert set(after.labels) == {"B cell", "NK cell", "T cell"}


class TestGroups:
    @pytest.mark.parametrize("options", [{"group_key": "donor"}, {}])
    def test_labels_that_are_the_groups_under_other_names(self, options):
        adata = cells(donor=["d7", "d8", "d9"] * 40)
        finding = found_in(adata, **options)["labels-are-groups"]
        assert finding.severity == "error"
        expected = "The label column 'kind' divides the cells as the group column 'donor' does, under other names"
        assert finding.title == expected

    def test_labels_that_nearly_are(self):
        donors = ["d7", "d8", "d9"] * 40
        assert found_in(cells(donor=["d8", *donors[1:]]))["labels-are-groups"].title.endswith("Rand index 0.97)")
        assert found_in(cells(donor=["d8", "d9", "d7"] * 3 + donors[9:])) == {}

    def test_groups_of_one_class_each(self):
        finding = found_in(cells(donor=[f"{'BNT'[i % 3]}{i // 3 % 4}" for i in range(120)]), group_key="donor")
        assert finding["labels-are-groups"].severity == "warning"
        assert finding["labels-are-groups"].title.startswith(
            "Each of the 12 groups of the group column 'donor' has one"
        )

    def test_donors_that_are_known_of_some_cells_are_not_set_against_all_labels(self):
        donors = np.array([None] * 120, dtype=object)
        donors[0:36:3], donors[1:37:3] = "p1", "p2"  # twelve B cells, twelve NK cells
        assert found_in(cells(tumour_patient=donors)) == {}

    def test_a_column_of_donors_for_labels(self):
        adata = cells(donor=["a", "b", "c", "d"] * 30)
        assert found(load_dataset(adata, "donor"))["labels-are-groups"].severity == "error"
        with pytest.raises(DatasetError, match="'donor' is given for labels and for groups"):
            load_dataset(adata, "donor", group_key="donor")

    def test_cell_types_in_a_column_that_names_people(self):
        adata = cells()
        adata.obs["subject_cell_type"] = adata.obs["kind"]
        assert found(load_dataset(adata, "subject_cell_type")) == {}

    @pytest.mark.parametrize(("size", "severity"), [(1, "error"), (2, "error"), (3, "warning"), (6, "")])
    def test_nearly_as_many_groups_as_cells(self, size, severity):
        findings = found_in(cells(library=[f"l{i // size}" for i in range(120)]), group_key="library")
        assert ("groups-are-cells" in findings) == bool(severity)
        if severity:
            assert findings["groups-are-cells"].severity == severity
            assert findings["groups-are-cells"].title.endswith(f"has {120 // size} groups for 120 cells")

    def test_one_group(self):
        finding = found_in(cells(batch=["only"] * 120), group_key="batch")["one-group"]
        assert finding.title == "Group column 'batch' has one group only, 'only'"
