"""Remedies for what is wrong with cells, genes, values and labels: what a message says to do helps."""

from __future__ import annotations

import re

import anndata
import numpy as np
import pandas as pd
import pytest
from remedy_parts import cells, do, keywords, refusal

import frostline
from frostline.strategies import FrozenProbe, PcaLogistic

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("instant_umap")
class TestData:
    """What data sets refuse, where the remedy is code."""

    @pytest.mark.parametrize("key", ["kind", "donor", "it's"])
    def test_cells_without_a_label_or_a_group(self, key):
        adata = cells("ab" * 12, donor=["p", "q"] * 12, **{"it's": ["x", "y"] * 12})
        adata.obs[key] = adata.obs[key].astype("category").where(np.arange(24) > 2)
        label, group = ("it's", None) if key == "it's" else ("kind", "donor")
        message = refusal(lambda: frostline.load_dataset(adata, label, group_key=group))
        dataset = frostline.load_dataset(do(message, adata=adata), label, group_key=group)
        cut = frostline.split(dataset, kind="stratified")
        assert len(dataset) == 21
        assert frostline.evaluate(PcaLogistic(), dataset, cut).sizes["test"] == cut.sizes["test"]

    @pytest.mark.parametrize("axis", ["obs", "var"])
    def test_names_that_are_not_unique(self, axis):
        adata = cells("ab" * 12)
        names = list(getattr(adata, f"{axis}_names"))
        setattr(adata, f"{axis}_names", ["same", "same", *names[2:]])
        message = refusal(lambda: frostline.load_dataset(adata, "kind"))
        exec(re.search(r"adata\.\w+\(\)", message)[0], {"adata": adata})
        assert len(frostline.load_dataset(adata, "kind")) == 24

    def test_another_layer(self):
        adata = cells("ab" * 12)
        adata.layers["counts"] = adata.X.copy()
        adata.X = np.asarray(adata.X.todense()) - 4.0
        (names,) = re.findall(r"name one of: (.*) \(layer=", refusal(lambda: frostline.load_dataset(adata, "kind")))
        for layer in names.split(", "):
            assert frostline.load_dataset(adata, "kind", layer=layer).values_name == "counts"


class TestFindings:
    """What the checks find is gone once their remedy is followed."""

    def found(self, dataset, cut, code):
        return [finding for finding in frostline.checks.review(dataset, cut, None) if finding.code == code]

    @pytest.mark.parametrize("code", ["optimistic-split", "shared-group"])
    def test_donors_on_both_sides(self, code):
        adata = cells("aabb" * 15, donor=list("pqrstu") * 10, plate=list("pqrstu") * 10)
        group = {"group_key": "plate"} if code == "shared-group" else {}
        adata.obs["plate"] = np.roll(adata.obs["plate"].to_numpy(), 30) if code == "shared-group" else "one"
        adata.obs.loc[adata.obs_names[:20], "plate"] = "p" if code == "shared-group" else "one"
        dataset = frostline.load_dataset(adata, "kind", **group)
        (finding, *_) = self.found(dataset, frostline.split(dataset), code)
        named = {key: value for each in keywords(finding.remedy) for key, value in each.items()}
        assert set(named) == {"group_key", "kind"}
        mended = frostline.load_dataset(adata, "kind", group_key=named["group_key"])
        left = self.found(mended, frostline.split(mended, kind=named["kind"]), code)
        assert [each.title for each in left if named["group_key"] in each.title] == []

    def test_a_class_that_one_donor_alone_has(self):
        adata = cells("ab" * 20 + "c" * 10, donor=list("ppqqrrss") * 5 + ["t"] * 10)
        dataset = frostline.load_dataset(adata, "kind", group_key="donor")
        cut = next(cut for seed in range(2, 40) if (cut := frostline.split(dataset, seed=seed)).untrained)
        (finding,) = self.found(dataset, cut, "class-not-in-training")
        mended = frostline.load_dataset(do(finding.remedy, adata=adata), "kind", group_key="donor")
        assert self.found(mended, frostline.split(mended, seed=cut.seed), "class-not-in-training") == []


SYMBOLS = ("CD3D", "MS4A1", "LYZ", "NKG7", "GNLY", "CST3")
IDS = tuple(f"ENSG{i:011d}" for i in range(6))


class TestJoining:
    """What two data sets that do not fit together are refused with."""

    def pair(self, labels="ab" * 12, genes=IDS):
        return cells("ab" * 12, genes=SYMBOLS), cells(labels, genes=genes)

    def joined(self, one, other, **options):
        sets = (
            frostline.load_dataset(one, "kind", name="one"),
            frostline.load_dataset(other, "kind", name="other", **options),
        )
        return frostline.join_datasets(*sets)

    @pytest.mark.parametrize("way", ["names", "column"])
    def test_symbols_on_one_side_and_ids_on_the_other(self, way):
        one, other = self.pair()
        message = refusal(lambda: self.joined(one, other))
        assert "put gene symbols into adata.var_names of both, or name columns of var" in message
        if way == "names":
            other.var_names = list(SYMBOLS)
            assert self.joined(one, other).genes == SYMBOLS
        else:
            assert "(gene_column=...; GENE_COLUMN and TEST_GENE_COLUMN of a notebook)" in message
            other.var["mine"] = list(SYMBOLS)
            assert self.joined(one, other, gene_column="mine").genes == SYMBOLS

    def test_ids_in_raw(self):
        one, other = self.pair()
        other.raw = other
        other.var_names = list(SYMBOLS)
        message = refusal(lambda: self.joined(one, other, layer="raw"))
        exec(
            re.search(r"for layer='raw' (.*?)\)", message)[1] + " = list(SYMBOLS)", {"adata": other, "SYMBOLS": SYMBOLS}
        )
        assert self.joined(one, other, layer="raw").genes == SYMBOLS

    def test_the_variables_of_a_notebook_that_are_named_do_it(self, tmp_path):
        one, other = self.pair()
        # ids on both sides, and symbols that are no known ones, so that nothing takes them by itself
        symbols = [f"own{i}" for i in range(6)]
        one.var["mine"], other.var["theirs"] = symbols, symbols
        for adata, name in ((one, "one"), (other, "other")):
            adata.write_h5ad(tmp_path / f"{name}.h5ad")
        given = {"DATASET": str(tmp_path / "one.h5ad"), "LABEL_KEY": "kind", "STRATEGIES": ["pca_logistic"]}
        given |= {"TEST_DATASET": str(tmp_path / "other.h5ad"), "TEST_LABEL_KEY": "kind"}
        message = refusal(frostline.RunSettings.from_notebook(given).load)
        names = dict(zip(re.findall(r"\w*GENE_COLUMN", message), ("mine", "theirs"), strict=True))
        assert frostline.RunSettings.from_notebook(given | names).load().genes == tuple(symbols)

    def test_other_names_of_the_same_classes(self):
        one, other = self.pair("xy" * 12, SYMBOLS)
        message = refusal(lambda: self.joined(one, other))
        listed = re.search(r"'one' has (.*?); .* 'other' has (.*?)\. Give the same cell types the same names", message)
        same = dict(zip(listed[2].split(", "), listed[1].split(", "), strict=True))
        other.obs["kind"] = other.obs["kind"].map(same)
        assert set(self.joined(one, other).labels) == {"a", "b"}


class TestGenes:
    """What is said of columns of var."""

    @pytest.mark.parametrize("layer", [None, "raw"])
    def test_a_column_that_is_not_there(self, layer):
        adata = cells("ab" * 12, genes=IDS)
        adata.var["feature_name"] = list(SYMBOLS)
        adata.raw = adata
        message = refusal(lambda: frostline.load_dataset(adata, "kind", layer=layer, gene_column="symbol"))
        assert f"'symbol' is not in adata.{'raw.' if layer else ''}var; it has: feature_name; 'var_names'" in message
        for name, genes in (("feature_name", SYMBOLS), ("var_names", IDS)):
            assert frostline.load_dataset(adata, "kind", layer=layer, gene_column=name).genes == genes

    @pytest.fixture
    def ids_in_raw(self, pbmc):
        """Symbols in X, ids in raw, and a checkpoint that knows symbols alone."""
        adata = pbmc.adata.raw.to_adata()[:, :300]
        adata = anndata.AnnData(adata.X.copy(), obs=pbmc.adata.obs[["bulk_labels"]].copy(), var=adata.var[[]].copy())
        whole = adata.copy()
        whole.var_names = [f"ENSG009{i:08d}" for i in range(300)]
        whole.var["mine"] = list(adata.var_names)
        return adata, whole

    @pytest.mark.parametrize("there", ["column", "nowhere"])
    def test_symbols_beside_ids_in_raw(self, ids_in_raw, small_checkpoint, there):
        adata, whole = ids_in_raw
        symbols = list(adata.var_names)
        if there == "nowhere":
            del whole.var["mine"]
        adata.raw = whole
        strategy = FrozenProbe(checkpoint=str(small_checkpoint))

        def run(**options):
            dataset = frostline.load_dataset(adata, "bulk_labels", layer="raw", **options)
            strategy.ensure_applicable(dataset, frostline.split(dataset))
            return dataset

        if there == "column":
            message = refusal(lambda: run(gene_column="var_names"))
            (column,) = re.findall(r"Load with gene_column='(.*)' \(GENE_COLUMN", message)
            assert run(gene_column=column).genes == run().genes == tuple(symbols)
            return
        message = refusal(run)
        assert (
            "put the symbols into a column of adata.raw.var and load with gene_column=..., or put them into" in message
        )
        adata.raw.var["mine"] = symbols
        assert run(gene_column="mine").genes == tuple(symbols)
        del adata.raw.var["mine"]
        target = re.search(r"or put them into (adata\.[\w.]+\w)", message)[1]
        exec(f"{target} = symbols", {"adata": adata, "symbols": symbols})
        assert run().genes == tuple(symbols)

    def test_categorical_names(self):
        adata = cells("ab" * 12)
        adata.obs.index = pd.CategoricalIndex(adata.obs_names)
        adata.var.index = pd.CategoricalIndex(["same", "same", *adata.var_names[2:]])
        message = refusal(lambda: frostline.load_dataset(adata, "kind"))
        exec(re.search(r"; call (.*) first", message)[1], {"adata": adata})
        assert len(frostline.load_dataset(adata, "kind").genes) == 6


@pytest.mark.parametrize("kind", ["string[pyarrow]", "string[python]"])
def test_text_that_lacks_values(kind):
    adata = cells("ab" * 12)
    adata.obs["kind"] = pd.Series(["n/a", None, *"ab" * 11], index=adata.obs_names, dtype=kind)
    left = do(refusal(lambda: frostline.load_dataset(adata, "kind")), adata=adata)
    dataset = frostline.load_dataset(left, "kind")
    (finding,) = TestFindings().found(dataset, frostline.split(dataset), "missing-as-text")
    names = {"adata": left.copy()}
    exec(re.search(r"`(adata.*?)`", finding.remedy)[1], names)
    assert set(frostline.load_dataset(names["adata"], "kind").labels) == {"a", "b"}


class TestCopies:
    """Cells that are there twice, under other names."""

    def found(self, adata, code, **options):
        dataset = frostline.load_dataset(adata, "kind", **options)
        kind = "group" if options else "stratified"
        return [
            each for each in frostline.checks.review(dataset, frostline.split(dataset, kind=kind)) if each.code == code
        ]

    @pytest.fixture
    def barcodes(self):
        """Two libraries of the same cells: their barcodes are the same."""
        noise = np.random.default_rng(1)
        once = ["".join(noise.choice(list("ACGT"), 16)) for _ in range(30)]
        adata = cells("ab" * 30, donor=list("pqrstu") * 10)
        adata.obs_names = [f"lib{library}_{each}" for library in "12" for each in once]
        return adata

    def test_each_barcode_kept_once(self, barcodes):
        (finding,) = self.found(barcodes, "same-barcode")
        assert finding.remedy.startswith("Keep each cell once before splitting")
        one, other = re.search(r"\('(.*)' and '(.*)', for example\)", finding.title).groups()
        assert one.split("_")[1] == other.split("_")[1]
        once = barcodes[~barcodes.obs_names.str.split("_").str[1].duplicated()].copy()
        assert once.n_obs == 30
        assert self.found(once, "same-barcode") == []

    def test_copies_kept_together_by_a_column(self, barcodes):
        (finding,) = self.found(barcodes, "same-barcode")
        assert "or load with a group_key that keeps its copies together" in finding.remedy
        barcodes.obs["donor"] = np.tile(np.repeat(list("pqrstu"), 5), 2)
        assert self.found(barcodes, "same-barcode", group_key="donor") == []

    def test_copies_of_a_profile(self):
        adata = cells("ab" * 30, genes=[f"g{i}" for i in range(40)])
        adata.X[30:] = adata.X[:30]
        (finding,) = self.found(adata, "same-profile")
        for one, other in re.findall(r"(c\d+) = (c\d+)", finding.explanation):
            assert (adata[one].X != adata[other].X).nnz == 0
        assert finding.remedy.startswith("Remove the copies before splitting")
        copies = pd.DataFrame(adata.X.toarray()).duplicated().to_numpy()
        assert copies.sum() == 30
        assert self.found(adata[~copies].copy(), "same-profile") == []


class TestGroups:
    """Findings of label and group columns, and the columns that they say to choose."""

    CODES = ("labels-are-groups", "one-group", "groups-are-cells")

    def codes(self, adata, label, group):
        dataset = frostline.load_dataset(adata, label, group_key=group)
        cut = frostline.split(dataset, kind="stratified")
        return {each.code: each.remedy for each in frostline.checks.review(dataset, cut) if each.code in self.CODES}

    @pytest.mark.parametrize(
        ("label", "group", "code"),
        [("kind", "same", CODES[0]), ("kind", "one", CODES[1]), ("kind", "cell", CODES[2]), ("donor", None, CODES[0])],
    )
    def test_another_column(self, label, group, code):
        one = {"same": list("xy") * 24, "one": "one", "cell": [f"n{i}" for i in range(48)]}
        adata = cells("ab" * 24, donor=list("ppqqrrss") * 6, **one)
        (remedy,) = (text for name, text in self.codes(adata, label, group).items() if name == code)
        assert re.match(r"Choose (the|a) column of (cell types as label_key, and )?donors", remedy)
        assert self.codes(adata, "kind", "donor") == {}
        if remedy.endswith("or none."):
            assert code not in self.codes(adata, "kind", None)


class TestValues:
    """Values that are not what was said, or not alike."""

    def test_counts_with_decimals(self):
        adata = cells("ab" * 12)
        adata.X = adata.X * 1.5
        said = refusal(lambda: frostline.load_dataset(adata, "kind", values="counts")).rpartition("is ")[2]
        assert said == "values='linear'"
        assert len(frostline.load_dataset(adata, "kind", **eval(f"dict({said})"))) == 24

    def test_each_kind_that_is_listed(self):
        adata = cells("ab" * 12)
        message = refusal(lambda: frostline.load_dataset(adata, "kind", values="log1p"))
        known = message.rpartition("what else they can be: ")[2].split(", ")
        assert "counts" in known
        assert frostline.load_dataset(adata, "kind", values="counts").values_name == "counts"

    @pytest.mark.parametrize(
        ("harm", "wrong"),
        [("scaled", None), *((harm, wrong) for harm in ("zeros", "ones") for wrong in (None, "mine", "raw"))],
    )
    def test_values_that_tell_nothing(self, harm, wrong):
        """Each other layer that is named can be loaded; also where one has a name by which none is found."""
        adata = cells("ab" * 12)
        empty = {"zeros": np.zeros, "ones": np.ones, "scaled": lambda shape: np.full(shape, -1.0)}[harm](adata.shape)
        adata.raw, adata.layers["mine"], adata.layers["X"] = adata.copy(), adata.X.copy(), adata.X.copy()
        if wrong is None:
            adata.X = empty
        elif wrong == "raw":
            adata.raw = anndata.AnnData(empty, obs=adata.obs, var=adata.var)
        else:
            adata.layers[wrong] = empty
        message = refusal(lambda: frostline.load_dataset(adata, "kind", layer=wrong))
        known = re.search(r"; name one of: (.*) \(layer=\.\.\.\)$", message)[1].split(", ")
        assert set(known) == {"X", "raw", "mine"} - {wrong or "X"}
        for name in known:
            assert frostline.load_dataset(adata, "kind", layer=name).values_name == "counts"

    def test_values_that_tell_nothing_and_no_others(self):
        adata = cells("ab" * 12)
        measured, adata.X = adata.X, np.zeros(adata.shape)
        assert refusal(lambda: frostline.load_dataset(adata, "kind")).endswith("; load a file of what was measured")
        adata.X = measured
        assert len(frostline.load_dataset(adata, "kind")) == 24

    def test_no_raw(self):
        adata = cells("ab" * 12)
        adata.layers["mine"], adata.layers["raw"] = adata.X.copy(), adata.X.copy()
        known = refusal(lambda: frostline.load_dataset(adata, "kind", layer="raw")).partition("it has: ")[2].split(", ")
        assert known == ["X", "mine"]
        for name in known:
            assert frostline.load_dataset(adata, "kind", layer=name).values_name == "counts"

    @pytest.mark.parametrize("key", ["same", "cell"])
    def test_labels_that_are_no_classes(self, key):
        adata = cells("ab" * 30, same="x", cell=[f"n{i}" for i in range(60)])
        assert refusal(lambda: frostline.load_dataset(adata, key)).endswith("load with another label_key")
        assert len(frostline.load_dataset(adata, "kind")) == 60

    @pytest.mark.parametrize("way", ["layer", "X"])
    def test_no_x(self, way):
        adata = cells("ab" * 12)
        adata.layers["mine"] = adata.X
        adata.X = None
        message = refusal(lambda: frostline.load_dataset(adata, "kind"))
        line = re.search(r"or set (adata\.X = .*)$", message)[1]
        if way == "X":
            exec(line.replace("...", "'mine'"), {"adata": adata})
        assert len(frostline.load_dataset(adata, "kind", layer="mine" if way == "layer" else None)) == 24

    def test_each_layer_that_is_listed(self):
        adata = cells("ab" * 12)
        adata.layers["mine"] = adata.X
        message = refusal(lambda: frostline.load_dataset(adata, "kind", layer="yours"))
        for name in message.partition("has: ")[2].split(", "):
            assert len(frostline.load_dataset(adata, "kind", layer=name)) == 24
        assert frostline.load_dataset(adata, "kind", layer="mine").values_name == "counts"

    @pytest.mark.parametrize("harm", ["two totals", "two kinds"])
    def test_sets_that_were_normalised_differently(self, harm):
        adata = cells("ab" * 60, genes=[f"g{i}" for i in range(60)])
        counts = adata.X.toarray()
        adata.layers["counts"] = counts.copy()
        scaled = counts / counts.sum(axis=1, keepdims=True) * 1e4
        other = np.log1p(scaled / 10 if harm == "two totals" else scaled)
        mixed = np.log1p(scaled) if harm == "two totals" else counts
        mixed[60:] = other[60:]
        adata.X = mixed
        message = refusal(lambda: frostline.load_dataset(adata, "kind"))
        assert "oad counts (layer=...)" in message
        assert frostline.load_dataset(adata, "kind", layer="counts").values_name == "counts"
        adata.X = np.log1p(scaled)
        assert frostline.load_dataset(adata, "kind").values_name.startswith("log")
