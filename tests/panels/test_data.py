"""The choice of data: sources, columns, and what is wrong with them."""

from __future__ import annotations

import html

import numpy as np
import pytest
from panel_parts import button, control, html_of

import frostline
from frostline.errors import DatasetError
from frostline.panels import DataPanel

pytestmark = pytest.mark.usefixtures("instant_umap_throughout", "instant_pictures_throughout", "short_training")


class TestDataPanel:
    """Sources, columns, and what is wrong with them."""

    @pytest.fixture
    def make(self):
        made = []

        def build(*arguments, **options) -> DataPanel:
            made.append(DataPanel(*arguments, **options))
            made[-1].settle(60)
            return made[-1]

        yield build
        for panel in made:
            panel.close()

    def test_empty_it_asks_for_data(self, make):
        panel = make()
        assert (panel.state, panel.dataset) == ("empty", None)
        assert "Choose a data set." in html_of(panel)

    def test_a_file_is_judged_as_its_path_is_typed(self, make, counts_file):
        panel = make(names={})
        source = control(panel, "Data")
        source.value = next(value for text, value in source.options if text.startswith("A file"))
        path = control(panel, "File")
        assert path.continuous_update
        for typed, words in (
            (str(counts_file.parent), "is a folder; in it: mine.h5ad"),
            (str(counts_file)[:-2], "is no .h5ad file"),
            (str(counts_file.with_name("yours.h5ad")), "there is no file"),
        ):
            path.value = typed
            assert words in html_of(panel)
            assert panel.dataset is None
        path.value = str(counts_file)
        panel.settle(60)
        assert panel.state == "failed"  # nothing in the name `kind` says that it holds labels
        assert "choose the column of obs that holds the cell types" in html_of(panel)
        control(panel, "Labels").value = "kind"
        panel.settle(60)
        assert (panel.state, panel.dataset.name, panel.dataset.label_key) == ("ready", "mine", "kind")

    def test_it_says_the_same_as_the_functions(self, make, pbmc):
        panel = make("pbmc68k-reduced")
        assert panel.dataset.fingerprint() == pbmc.fingerprint()
        text = html_of(panel)
        assert "700 cells x 765 genes" in text
        assert "752 of 765 genes are in the vocabulary of checkpoint mini, with more than 99 % of the counts" in text
        for name, n in pbmc.summary()["cells"].items():
            assert f"<td>{html.escape(name)}</td>" in text
            assert f"</span> {n}</td>" in text
        assert panel.findings == tuple(frostline.checks.review(pbmc, frostline.split(pbmc), "mini"))
        assert all(html.escape(finding.title) in text for finding in panel.findings)

    def test_a_checkpoint_that_is_not_here_is_stated_and_the_other_checks_are_made(self, make, pbmc):
        panel = make("pbmc68k-reduced", checkpoint="whole-human")
        assert "is not downloaded" in html_of(panel)
        assert panel.findings == tuple(frostline.checks.review(pbmc, frostline.split(pbmc)))

    def test_too_little_vocabulary_is_said(self, make, three_kinds, fresh):
        nobody_knows = fresh(three_kinds, genes=tuple(f"gene_{i}" for i in range(120)))
        panel = make(nobody_knows)
        text = html_of(panel)
        assert "0 of 120 genes are in the vocabulary of checkpoint mini" in text
        assert "numbered names, which tell nothing of the genes" in text

    def test_an_anndata_of_the_notebook_is_offered_by_its_name(self, make, pbmc):
        names = {"mine": pbmc.adata, "_old": pbmc.adata, "other": 3}
        panel = make(names=names)
        source = control(panel, "Data")
        texts = [text for text, _ in source.options]
        assert [text for text in texts if "mine" in text or "_old" in text] == ["mine (700 x 765)"]
        source.value = next(value for text, value in source.options if text.startswith("mine"))
        panel.settle(60)
        assert "raw" in html_of(panel).partition('role="alert"')[2]  # X of it holds scaled values
        control(panel, "Layer").value = "raw"
        panel.settle(60)
        assert (panel.dataset.name, panel.dataset.label_key) == ("mine", "bulk_labels")
        names["later"] = pbmc.adata.copy()
        button(panel, "Look again").click()
        assert "later (700 x 765)" in [text for text, _ in source.options]
        assert panel.dataset.name == "mine"

    def test_what_is_in_the_file_is_said_whether_it_could_be_loaded_or_not(self, make, pbmc):
        names = {"mine": pbmc.adata}
        panel = make(names=names)
        source = control(panel, "Data")
        source.value = next(value for text, value in source.options if text.startswith("mine"))
        panel.settle(60)
        assert panel.state == "failed"
        report = frostline.inspect(pbmc.adata, "bulk_labels")._repr_html_()
        assert f"<details><summary>What is in this file</summary>{report}</details>" in html_of(panel)
        assert "layer=&#x27;raw&#x27;" in report
        control(panel, "Labels").value = "louvain"
        panel.settle(60)
        assert frostline.inspect(pbmc.adata, "louvain")._repr_html_() in html_of(panel)
        source.value = "nothing"
        assert "What is in this file" not in html_of(panel)

    def test_a_wrong_label_column_is_said_with_those_that_there_are(self, make):
        panel = make("pbmc68k-reduced", label_key="cell_typ")
        assert panel.state == "failed"
        alert = html_of(panel).partition('role="alert"')[2]
        assert "cell_typ" in alert
        assert "bulk_labels" in alert
        control(panel, "Labels").value = "louvain"
        panel.settle(60)
        assert (panel.state, panel.error, panel.dataset.label_key) == ("ready", None, "louvain")
        assert 'role="alert"' not in html_of(panel)

    def test_a_wrong_group_column_is_said_with_those_that_there_are(self, make):
        panel = make("pancreas", group_key="donr")
        assert (panel.state, type(panel.error)) == ("failed", DatasetError)
        alert = html_of(panel).partition('role="alert"')[2]
        assert "group column &#x27;donr&#x27; is not in obs" in alert
        assert "What is in this file" in html_of(panel)

    def test_groups_are_offered_and_taken(self, make):
        panel = make("pancreas")
        assert panel.dataset.group_key == "donor"
        assert "4 groups in donor" in html_of(panel)
        control(panel, "Groups").value = None
        panel.settle(60)
        assert panel.dataset.group_key is None

    def test_donors_are_no_labels_that_are_offered_first(self, make, pbmc):
        adata = pbmc.adata.copy()
        adata.obs["donor_label"] = np.where(np.arange(adata.n_obs) % 2, "d1", "d2")
        adata.obs = adata.obs[["donor_label", "louvain"]]
        panel = make(adata, layer="raw")
        offered = [value for _, value in control(panel, "Labels").options]
        assert offered == ["", "louvain", "donor_label"]
        assert panel.dataset.label_key == "louvain"
        adata.obs = adata.obs[["donor_label"]]
        panel = make(adata, layer="raw")
        assert (control(panel, "Labels").value, panel.dataset) == ("", None)

    def test_what_is_of_the_old_file_is_out_of_use_until_the_new_one_is_read(self, make, pbmc, tmp_path):
        pbmc.adata.write_h5ad(tmp_path / "ours.h5ad")
        panel = make(str(tmp_path / "ours.h5ad"), label_key="bulk_labels", layer="raw")
        old = [control(panel, name) for name in ("Labels", "Groups", "Layer", "Values", "Gene names")]
        assert (panel.state, [w.disabled for w in old]) == ("ready", [False] * 5)
        control(panel, "File").value = str(tmp_path / "our")
        assert (panel.state, [w.disabled for w in old]) == ("empty", [True] * 5)
        control(panel, "File").value = f' "{tmp_path / "ours.h5ad"}" '
        panel.settle(60)
        assert [w.disabled for w in old] == [False] * 5

    def test_values_and_gene_names_can_be_said(self, make, pbmc):
        adata = pbmc.adata.raw.to_adata()
        adata.X = adata.X.toarray() * np.linspace(0.7, 1.3, adata.n_obs)[:, None]
        adata.obs = pbmc.adata.obs[["bulk_labels"]]
        adata.var["symbol"] = adata.var_names
        adata.var_names = [f"g{i}" for i in range(adata.n_vars)]
        panel = make(adata, label_key="bulk_labels")
        control(panel, "Values").value = "linear"
        control(panel, "Gene names").value = "symbol"
        panel.settle(60)
        assert panel.state == "ready"
        assert panel.dataset.given["values"] == "linear"
        assert (panel.dataset.given["gene_column"], panel.dataset.genes[0]) == ("symbol", adata.var["symbol"].iloc[0])
        assert control(panel, "Gene names").options[-1] == "symbol"

    def test_a_loaded_data_set_keeps_its_values_when_its_labels_change(self, make, three_kinds):
        panel = make(three_kinds)
        assert panel.dataset is three_kinds
        assert control(panel, "Layer").disabled
