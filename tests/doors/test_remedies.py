"""Remedies fit: what a message says to do is done here, to the letter, and helps."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import metadata
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import frostline
from frostline import cli
from frostline.artifacts import folders, runs
from frostline.cells import saving
from frostline.encoder.catalogue import FILES
from frostline.encoder.checkpoints import load_checkpoint, official_state
from frostline.encoder.training import TrainingSchedule, train_classifier
from frostline.errors import FrostlineError
from frostline.pretraining.corpus import read_corpus
from frostline.publishing import starting, tutorials
from frostline.strategies import FrozenProbe, Majority, PcaLogistic, ProbeObsm
from frostline.strategies.encoder import rows_to_train_on

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

CODE = re.compile(r"adata\[.*\]|frostline\.\w+\(.*?\)(?= |,|;|$)")
KEYWORD = re.compile(r"(kind|seed|group_key)=('[^']*'|\d+)")


def cells(labels, genes=("CD3D", "MS4A1", "LYZ", "NKG7", "GNLY", "CST3"), **columns):
    """AnnData of counts with these labels in `kind`, and further columns of obs."""
    counts = np.random.default_rng(0).poisson(3.0, size=(len(labels), len(genes))) + 1.0
    obs = pd.DataFrame({"kind": list(labels), **columns}, index=[f"c{i:03d}" for i in range(len(labels))])
    return anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=list(genes)))


def refusal(work) -> str:
    """What is said when the work is refused."""
    with pytest.raises(FrostlineError) as caught:
        work()
    return str(caught.value)


def do(message: str, **names):
    """Value of the code that a message holds."""
    code = CODE.search(message)
    assert code, message
    return eval(code[0], {"np": np, "frostline": frostline, **names})


def keywords(message: str) -> list[dict[str, object]]:
    """Each argument that a message says to pass."""
    return [{name: value.strip("'") if "'" in value else int(value)} for name, value in KEYWORD.findall(message)]


@pytest.mark.usefixtures("instant_umap")
class TestSplits:
    """What splits refuse."""

    def test_one_group_only(self):
        adata = cells("ab" * 12, donor="one", batch=["x", "y", "z"] * 8)
        dataset = frostline.load_dataset(adata, "kind", group_key="donor")
        message = refusal(lambda: frostline.split(dataset))
        assert keywords(message) == [{"kind": "stratified"}]
        assert frostline.split(dataset, **keywords(message)[0]).kind == "stratified"
        (columns,) = re.findall(r"another group_key \(columns like groups: (.*)\)", message)
        assert columns == "batch"
        assert frostline.split(frostline.load_dataset(adata, "kind", group_key=columns)).kind == "group"

    def test_one_group_only_and_no_other_column(self):
        dataset = frostline.load_dataset(cells("ab" * 12, donor="one"), "kind", group_key="donor")
        message = refusal(lambda: frostline.split(dataset))
        assert "another group_key" not in message
        assert frostline.split(dataset, **keywords(message)[0]).kind == "stratified"

    @pytest.mark.parametrize("columns", [{"donor": ["p", "q", "r", "s"] * 6}, {"colour": ["p", "q", "r", "s"] * 6}])
    def test_groups_that_were_not_named(self, columns):
        adata = cells("aabb" * 3 + "bbaa" * 3, **columns)
        dataset = frostline.load_dataset(adata, "kind")
        (found,) = keywords(refusal(lambda: frostline.split(dataset, kind="group")))
        if "group_key" in found:
            assert frostline.split(frostline.load_dataset(adata, "kind", **found), kind="group").kind == "group"
        else:
            assert frostline.split(dataset, **found).kind == "stratified"

    @given(st.lists(st.sampled_from(["a1", "a2", "a3", "b1", "b2", "c1", "b4", "a4"]), min_size=12, max_size=40))
    @settings(max_examples=60)
    def test_whatever_is_named_where_nothing_can_be_trained_works(self, drawn):
        """Groups that hold few labels: many splits leave one class to train on."""
        adata = cells([name[0] for name in drawn], donor=[name[1] for name in drawn])
        message = ""
        try:
            dataset = frostline.load_dataset(adata, "kind", group_key="donor")
            frostline.split(dataset, kind="group")
        except FrostlineError as error:
            message = str(error)
        if "training cells" in message:
            for keyword in keywords(message):
                frostline.split(dataset, **{"kind": "group", **keyword})
            assert keywords(message) or "another group_key" in message

    def test_a_donor_a_class(self):
        """No seed helps; random cells do, and another column."""
        adata = cells("aaaabbbb" * 4, donor=list("ppppqqqq") * 4, batch=list("xyzw") * 8)
        dataset = frostline.load_dataset(adata, "kind", group_key="donor")
        message = refusal(lambda: frostline.split(dataset))
        assert keywords(message) == [{"kind": "stratified"}]
        frostline.split(dataset, kind="stratified")
        assert "another group_key" in message
        frostline.split(frostline.load_dataset(adata, "kind", group_key="batch"))

    def test_rare_classes(self):
        adata = cells("aabbccddee", broad=list("xxxxxyyyyy"))
        message = refusal(lambda: frostline.split(frostline.load_dataset(adata, "kind")))
        assert "another label_key" in message
        assert frostline.split(frostline.load_dataset(adata, "broad")).classes == ("x", "y")

    def test_one_set_for_a_split_across_two(self):
        train, test = (frostline.load_dataset(cells("ab" * 10), "kind", name=name) for name in ("one", "two"))
        message = refusal(lambda: frostline.split(train, kind="cross"))
        assert frostline.split(do(message, train=train, test=test), kind="cross").kind == "cross"

    def test_budgets(self):
        dataset = frostline.load_dataset(cells("ab" * 12), "kind")
        cut = frostline.split(dataset)
        least = re.search(r"give at least (\d+)", refusal(lambda: cut.with_budget(dataset, 1)))
        assert cut.with_budget(dataset, int(least[1])).sizes["train"] == 2
        with pytest.raises(ValueError, match=r"at least 2 per class"):
            frostline.RunSettings(budgets=[1])
        assert frostline.RunSettings(budgets=[2]).budgets == [2]

    def test_a_split_of_other_cells(self):
        dataset, other = (frostline.load_dataset(cells(labels), "kind") for labels in ("ab" * 12, "ba" * 13))
        theirs = frostline.split(other)
        for work in (
            lambda cut: cut.with_budget(dataset, 2),
            lambda cut: frostline.evaluate(PcaLogistic(), dataset, cut),
            lambda cut: list(frostline.label_efficiency([PcaLogistic()], dataset, [cut], budgets=[2])),
        ):
            message = refusal(lambda work=work: work(theirs))
            assert work(do(message, dataset=dataset))
        relabelled = frostline.load_dataset(cells("ba" * 12), "kind")
        with pytest.raises(FrostlineError, match=r"drawn from another data set than .* of other cells or labels"):
            frostline.evaluate(PcaLogistic(), relabelled, frostline.split(dataset))


class TestStrategies:
    """What strategies refuse, before they train."""

    @pytest.fixture
    def known(self, small_checkpoint, pbmc):
        """Data on genes that the checkpoint knows, and one that it does not."""
        return cells("ab" * 15, genes=(*pbmc.genes[:8], "nonsense"))

    @pytest.mark.parametrize("part", ["train", "validation"])
    def test_a_class_that_is_on_one_side_only(self, part):
        dataset = frostline.load_dataset(cells("ab" * 15), "kind")
        cut = frostline.split(dataset)
        labels = {name: dataset.labels[getattr(cut, name)] for name in ("train", "validation")}
        only_a = {name: getattr(cut, name)[found == "a"] for name, found in labels.items()}
        broken = {
            "train": dataclasses.replace(cut, train=only_a["train"]),
            "validation": dataclasses.replace(
                cut, train=cut.train[labels["train"] == "b"], validation=only_a["validation"]
            ),
        }
        works = {"train": PcaLogistic().ensure_applicable, "validation": rows_to_train_on}[part]
        message = refusal(lambda: works(dataset, broken[part]))
        works(dataset, do(message, dataset=dataset))

    @pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, pd.DataFrame])
    def test_an_embedding_with_gaps(self, kind):
        adata = cells("ab" * 12)
        values = np.random.default_rng(0).normal(size=(24, 3))
        values[[3, 7], [0, 2]] = np.nan
        adata.obsm["X'mine"] = kind(values) if kind is not pd.DataFrame else pd.DataFrame(values, index=adata.obs_names)
        strategy = ProbeObsm("X'mine")

        def run(adata):
            dataset = frostline.load_dataset(adata, "kind")
            strategy.ensure_applicable(dataset, frostline.split(dataset))
            return dataset

        assert len(run(do(refusal(lambda: run(adata)), adata=adata))) == 22

    @pytest.mark.parametrize("harm", ["text", "deep", "complex", "no column"])
    def test_an_embedding_that_is_no_table(self, harm):
        adata, values = cells("ab" * 12), np.random.default_rng(0).normal(size=(24, 3))
        wrong = {
            "text": values.astype(str),
            "deep": values[:, None],
            "complex": values + 1j,
            "no column": values[:, :0],
        }
        adata.obsm["X_mine"] = wrong[harm]

        def run():
            dataset = frostline.load_dataset(adata, "kind")
            ProbeObsm("X_mine").ensure_applicable(dataset, frostline.split(dataset))
            return dataset

        shape = re.search(r"store an array of floats there, of shape \((\d+), d\)$", refusal(run))
        adata.obsm["X_mine"] = np.random.default_rng(0).normal(size=(int(shape[1]), 2))
        dataset = run()
        cut = frostline.split(dataset)
        assert "pass the data set, too" in refusal(lambda: ProbeObsm("X_mine").planned_parameters(cut))
        assert ProbeObsm("X_mine").planned_parameters(cut, dataset) == 3

    def test_an_embedding_without_a_key(self):
        (name,) = re.findall(r"as in (\S+)$", refusal(lambda: frostline.strategies.build(["probe_obsm:"])))
        assert frostline.strategies.build([name])[0].name == name

    def test_one_gene_only(self):
        dataset = frostline.load_dataset(cells("ab" * 12), "kind")
        cut = frostline.split(dataset)
        message = refusal(
            lambda: PcaLogistic().ensure_applicable(dataset, dataclasses.replace(cut, genes=cut.genes[:1]))
        )
        assert message.endswith("keep more genes of the data set, or leave this strategy out")
        PcaLogistic().ensure_applicable(dataset, dataclasses.replace(cut, genes=cut.genes[:2]))
        Majority().ensure_applicable(dataset, dataclasses.replace(cut, genes=cut.genes[:1]))

    @pytest.mark.parametrize("n", [2, 9])
    @pytest.mark.parametrize("layer", [None, "raw"])
    def test_cells_without_a_known_gene(self, known, small_checkpoint, n, layer):
        """Other genes are counted in them, so that a filter by the number of genes would leave them."""
        matrix = known.X.toarray()
        matrix[:n, :-1] = 0
        known.X = matrix if n == 2 else sparse.csr_matrix(matrix)
        if layer == "raw":
            known.raw = known
            known = known[:, [0, 8]].copy()  # what is known is in raw alone
            known.X = np.ones(known.shape)
        strategy = FrozenProbe(checkpoint=str(small_checkpoint))

        def run(adata):
            dataset = frostline.load_dataset(adata, "kind", layer=layer)
            strategy.ensure_applicable(dataset, frostline.split(dataset))
            return dataset

        loaded = frostline.load_dataset(known, "kind", layer=layer)
        assert len(run(do(refusal(lambda: run(known)), adata=known, dataset=loaded))) == 30 - n

    @pytest.mark.filterwarnings("ignore:8 of 9 genes are in the vocabulary")
    def test_cells_without_a_known_gene_in_embed(self, known, small_checkpoint):
        matrix = known.X.toarray()
        matrix[:9, :-1] = 0
        known.X = matrix
        left = do(refusal(lambda: frostline.embed(known, checkpoint=small_checkpoint)), adata=known).copy()
        assert frostline.embed(left, checkpoint=small_checkpoint).shape[0] == 21


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


def call(command: str, monkeypatch) -> int:
    """Exit status of a command that a message says to run, run in this process."""
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


class TestCheckpoints:
    """What is no checkpoint, and where another may be had."""

    @pytest.mark.filterwarnings("ignore:You are using `torch.load`")
    def test_a_folder_of_the_official_files_by_its_path(self, small_checkpoint, tmp_path):
        """Where there is no network; the files are those of another encoder."""
        message = refusal(lambda: load_checkpoint("whole-human"))
        names, source = re.search(r"fetch (.*?) elsewhere into one folder, from (\S+)", message).groups()
        assert set(names.split(", ")) == set(FILES)
        assert source.startswith("https://")
        known = load_checkpoint(small_checkpoint)
        for name in names.split(", "):
            if name.endswith(".json"):
                shutil.copy(small_checkpoint / name, tmp_path)
            else:
                torch.save(official_state(known.encoder()), tmp_path / name)
        assert load_checkpoint(tmp_path).encoder().config == known.config
        other = re.search(r"and pass its path, or use '(.*)'", message)[1]
        assert load_checkpoint(other).name == "mini"

    def test_an_unknown_name(self, small_checkpoint, tmp_path):
        message = refusal(lambda: load_checkpoint("whole_human"))
        known = re.search(r"known: (.*?)\.", message)[1].split(", ")
        assert {"mini", "whole-human"} <= set(known)
        assert load_checkpoint(known[0]).name == "mini"
        assert "A folder with args.json, vocab.json and weights works too" in message
        assert load_checkpoint(small_checkpoint).encoder()

    @pytest.mark.parametrize("absent", [("args.json",), ("args.json", "vocab.json"), ("model.safetensors",)])
    def test_files_that_a_folder_lacks(self, small_checkpoint, tmp_path, absent):
        folder = shutil.copytree(small_checkpoint, tmp_path / "some")
        for name in absent:
            (folder / name).unlink()
        message = refusal(lambda: load_checkpoint(folder))
        named = re.search(r"(?:lacks|holds no weights) \(?([^()]*?)(?: or [^()]*)?\)?$", message)[1].split(", ")
        assert tuple(named) == absent
        for name in named:
            shutil.copy(small_checkpoint / name, folder)
        assert load_checkpoint(folder).encoder()

    def test_embeddings_of_another_model(self, tmp_path):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
        message = refusal(lambda: load_checkpoint(tmp_path))
        place, strategy = re.search(
            r"embeddings into (adata\.obsm) and use the strategy (probe_obsm:)KEY", message
        ).groups()
        adata = cells("ab" * 12)
        exec(f"{place}['X_other'] = values", {"adata": adata, "values": np.random.default_rng(0).normal(size=(24, 3))})
        dataset = frostline.load_dataset(adata, "kind")
        (built,) = frostline.strategies.build([f"{strategy}X_other"])
        built.ensure_applicable(dataset, frostline.split(dataset))


class TestBook:
    """What stands between a notebook and its page."""

    @pytest.fixture
    def lab(self, tmp_path, monkeypatch):
        starting.init(tmp_path / "lab")
        monkeypatch.chdir(tmp_path / "lab")
        return tmp_path / "lab"

    def source(self, lab):
        (path,) = (lab / "notebooks").glob("*.ipynb")
        return path.relative_to(lab)

    def add_line(self, message):
        """Put the line that a message holds into the file that it names."""
        line, toc = re.search(r"add the line `(.*?)` to (\S+)$", message).groups()
        with open(toc, "a", encoding="utf-8") as file:
            file.write(f"\n  {line}\n")

    def test_no_book_here(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        command = re.search(r"`(frostline init .*?)`", refusal(tutorials.declared_tutorials))[1]
        assert call(command, monkeypatch) == 0
        monkeypatch.chdir(command.split()[-1])
        assert tutorials.declared_tutorials() == ["first_comparison"]

    def test_a_folder_that_holds_something(self, tmp_path):
        (tmp_path / "thesis.txt").write_text("years of work")
        assert refusal(lambda: starting.init(tmp_path)).endswith("is not empty; name a new folder")
        assert starting.init(tmp_path / "new")

    def test_a_notebook_that_is_not_declared(self, lab):
        new = shutil.copy(self.source(lab), "notebooks/new.ipynb")
        message = refusal(lambda: tutorials.refuse_undeclared([lab.relative_to(lab) / new]))
        self.add_line(message)
        tutorials.refuse_undeclared([lab.relative_to(lab) / new])
        assert tutorials.declared_tutorials() == ["first_comparison", "new"]

    @pytest.mark.parametrize("name", ["mine.ipynb", "it's mine.ipynb", "run #2: $HOME.ipynb"])
    def test_a_notebook_of_another_folder(self, lab, tmp_path, name):
        elsewhere = tmp_path / name
        shutil.copy(self.source(lab), elsewhere)
        message = refusal(lambda: tutorials.refuse_undeclared([elsewhere]))
        command = re.search(r"copy it \((.*)\) and add", message)[1]
        subprocess.run(command, shell=True, check=True)
        self.add_line(message)
        here = lab.relative_to(lab) / "notebooks" / name
        tutorials.refuse_undeclared([here])
        assert tutorials.unfit(here) is None

    def test_a_book_that_declares_nothing(self, lab):
        toc = tutorials.TOC
        toc.write_text("format: jb-book\nroot: index\n")
        message = refusal(tutorials.declared_notebooks)
        line = re.search(r"add a line such as `(.*)`", message)[1]
        toc.write_text(toc.read_text() + "chapters:\n  " + line.replace("NAME", "first_comparison") + "\n")
        assert tutorials.declared_notebooks() == [self.source(lab)]

    def test_a_folder_of_this_machine(self, lab):
        there = str(lab / "artifacts" / "x")
        message = refusal(lambda: tutorials.prepare(self.source(lab), {"OUTPUT_DIR": there}))
        assert message.endswith("give it relative to the current folder")
        assert (
            tutorials.prepare(self.source(lab), {"OUTPUT_DIR": os.path.relpath(there)}).values["OUTPUT_DIR"]
            == "artifacts/x"
        )


@pytest.mark.usefixtures("instant_umap")
class TestWithheldClasses:
    """What withholding a class needs."""

    @pytest.fixture
    def three(self):
        dataset = frostline.load_dataset(cells("abc" * 12), "kind")
        return dataset, frostline.split(dataset)

    def withheld(self, dataset, cut, *classes):
        return list(frostline.leave_one_class_out([PcaLogistic()], dataset, [cut], classes=list(classes)))

    def test_a_class_that_is_not_there(self, three):
        dataset, cut = three
        for work in (cut.without_class, lambda dataset, name: self.withheld(dataset, cut, name)):
            message = refusal(lambda work=work: work(dataset, "d"))
            known = message.partition("known: ")[2].split(", ")
            assert known == ["a", "b", "c"]
            for name in known:
                assert work(dataset, name)

    def test_two_classes_only(self):
        adata = cells("ab" * 12, fine=list("pqrs") * 6)
        dataset = frostline.load_dataset(adata, "kind")
        cut = frostline.split(dataset)
        for work in (lambda: self.withheld(dataset, cut, "a"), lambda: cut.without_class(dataset, "a")):
            assert re.search(r"oad with another label_key$", refusal(work))
        finer = frostline.load_dataset(adata, "fine")
        assert [record.unseen for record in self.withheld(finer, frostline.split(finer), "p")] == ["p"]

    def test_an_unknown_kind_of_split(self, three):
        dataset, _ = three
        known = refusal(lambda: frostline.split(dataset, kind="random")).partition("known: ")[2].split(", ")
        assert "stratified" in known
        assert frostline.split(dataset, kind="stratified").kind == "stratified"


class TestSettings:
    """What a run is refused with, before it starts."""

    def stated(self, **given) -> str:
        return refusal(lambda: frostline.RunSettings.from_notebook({"PROFILE": "quickstart", **given}))

    @pytest.mark.parametrize(
        ("name", "wrong"),
        [("PROFILE", "fast"), ("SPLIT", "random"), ("VALUES", "rpkm"), ("CHECKPOINT", "Mini"), ("DATASET", "pbmc")],
    )
    def test_each_known_value_that_is_listed(self, name, wrong):
        message = self.stated(**{name: wrong})
        known = re.match(rf"{name}: unknown .*? '{wrong}'; known: (.*?)(?: \(got|\.)", message)[1].split(", ")
        assert wrong not in known
        for value in known:
            given = {"STRATEGIES": ["pca_logistic"], name: value}
            assert getattr(frostline.RunSettings.from_notebook(given), name.lower()) == value

    def test_each_strategy_that_is_listed(self):
        message = self.stated(STRATEGIES=["pca_logistics"])
        known = re.search(r"known: (.*?) \(got", message)[1].split(", ")
        assert frostline.RunSettings.from_notebook({"STRATEGIES": known}).strategies == known

    def test_each_parameter_that_is_listed(self):
        message = self.stated(SEEDS=3)
        assert message.startswith("SEEDS: unknown parameter")
        known = message.partition("The parameters are: ")[2].split(", ")
        defaults = frostline.RunSettings()
        frostline.RunSettings.from_notebook({name: getattr(defaults, name.lower()) for name in known})

    def test_least_budget(self):
        message = self.stated(BUDGETS=[1, 5])
        least = int(re.search(r"at least (\d+) per class", message)[1])
        assert frostline.RunSettings.from_notebook({"BUDGETS": [least, 5]}).budgets == [2, 5]


class TestNumbers:
    """Numbers that a message bounds: the bound itself is taken."""

    @pytest.mark.parametrize("targets", [{}, {"targets": ("linear1",)}])
    def test_highest_rank(self, small_checkpoint, pbmc, targets):
        dataset = frostline.load_dataset(cells("ab" * 15, genes=pbmc.genes[:8]), "kind")

        def check(rank):
            (strategy,) = frostline.strategies.build(["lora"], checkpoint=str(small_checkpoint))
            dataclasses.replace(strategy, rank=rank, **targets).ensure_applicable(dataset, frostline.split(dataset))
            return rank

        most = int(re.search(r"must be at most (\d+) dimensions", refusal(lambda: check(1_000)))[1])
        assert check(most) == 32
        refusal(lambda: check(most + 1))

    def test_longest_warmup(self, small_checkpoint):
        (strategy,) = frostline.strategies.build(["head"], checkpoint=str(small_checkpoint))
        message = refusal(lambda: dataclasses.replace(strategy, epochs=5, warmup_epochs=6))
        most = int(re.search(r"at most epochs, which is (\d+)", message)[1])
        assert dataclasses.replace(strategy, epochs=5, warmup_epochs=most).warmup_epochs == 5

    def test_a_smaller_learning_rate(self):
        """Of a loss with walls: a step of 1 goes through one, steps of 1/1000 stay between them."""

        def train(rate):
            module = torch.nn.ParameterDict({"w": torch.nn.Parameter(torch.zeros(1))})
            schedule = TrainingSchedule(epochs=12, batch_size=8, learning_rate=rate, seed=0)

            def logits(rows):
                wall = torch.exp(200 * (module["w"] - 5e-4).abs())
                return torch.stack([torch.zeros(1), wall], dim=1).expand(len(rows), 2)

            labels = np.zeros(8, dtype=np.int64)
            rows_of = lambda part, rows: (torch.from_numpy(rows),)  # noqa: E731
            return train_classifier(module, rows_of, logits, {"train": labels, "validation": labels}, schedule)

        assert re.search(r"loss became (nan|inf); try a smaller learning rate$", refusal(lambda: train(1.0)))
        assert np.isfinite([epoch["train_loss"] for epoch in train(1e-3)]).all()

    def test_the_same_hyper_parameters_in_all_repeats(self, make_record):
        mixed = [make_record("lora", parameters={"rank": rank}, repeat=i) for i, rank in enumerate((4, 8))]
        assert refusal(lambda: frostline.compare(mixed)).endswith("evaluate all repeats with the same")
        same = [dataclasses.replace(record, parameters={"rank": 4}) for record in mixed]
        assert frostline.compare(same).strategies == ("lora",)

    def test_least_cells_of_a_class_that_two_sets_share(self):
        def joined(in_both):
            train = frostline.load_dataset(cells("a" * 30 + "b" * 30 + "ce"), "kind", name="one")
            test = frostline.load_dataset(cells("ce" * in_both + "d" * 30), "kind", name="two")
            both = frostline.join_datasets(train, test)
            return frostline.split(both, kind="cross")

        message = refusal(lambda: joined(1))
        least = int(re.search(r"label at least (\d+) cells, in both sets together", message)[1])
        assert len(joined(least - 1).test) == 2 * (least - 1)  # and one of each in the other set


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


@pytest.fixture
def common_user(monkeypatch):
    """A folder of one's own and no right to anything else: root, who may do all, becomes another user for a while."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folders.take(folder / "first")  # imports what it takes, which the other user may have no right to read
        runs.let_go(folder / "first")
        is_root = os.geteuid() == 0
        if is_root:
            os.chown(folder, 65534, 65534)
            os.setresuid(65534, 65534, 0)
        try:
            yield folder
        finally:
            if is_root:
                os.setresuid(0, 0, 0)


class TestFolders:
    """Where results may not be written, or files not be read."""

    @pytest.mark.parametrize("way", ["make it writable", "another"])
    def test_one_that_is_not_writable(self, common_user, way):
        (common_user / "closed").mkdir(mode=0o555)
        out = common_user / "closed" / "out"
        message = refusal(lambda: folders.take(out))
        made = re.search(
            r"cannot be written \(Permission denied\); make (.*) writable, or name another folder$", message
        )
        if way == "another":
            out = common_user / "another"
        else:
            Path(made[1]).chmod(0o755)
        assert folders.take(out)
        runs.let_go(out)

    @pytest.mark.parametrize("way", ["moved", "another"])
    @pytest.mark.parametrize("protected", [False, True])
    def test_one_that_holds_something(self, common_user, way, protected):
        out = common_user / "out"
        out.mkdir()
        (out / "thesis.txt").write_text("years of work")
        out.chmod(0o555 if protected else 0o755)
        message = refusal(lambda: folders.take(out))
        assert ("is write-protected" if protected else "no folder of artifacts (thesis.txt)") in message
        assert message.endswith("it would be replaced whole: move it, or name another folder")
        if way == "another":
            out = common_user / "another"
        else:
            out.rename(common_user / "moved")
        assert folders.take(out)
        runs.let_go(out)

    @pytest.mark.parametrize("name", ["afile/out", ".", ".."])
    def test_one_that_cannot_be_replaced(self, tmp_path, monkeypatch, name):
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        Path("afile").touch()
        assert re.search(r"name a folder (in it|that is not below a file)$", refusal(lambda: folders.whole_path(name)))
        assert folders.whole_path("out").parent == Path.cwd()

    def test_a_file_that_may_not_be_read(self, common_user):
        path = common_user / "it's mine.h5ad"
        cells("ab" * 12).write_h5ad(path)
        path.chmod(0)
        message = refusal(lambda: frostline.load_dataset(path, "kind"))
        command = re.search(r"may not be read by you: (chmod .*), or ask its owner$", message)[1]
        subprocess.run(command, shell=True, check=True)
        assert len(frostline.load_dataset(path, "kind")) == 24

    def test_where_an_embedding_goes(self, tmp_path):
        source, output = tmp_path / "in.h5ad", tmp_path / "it's new" / "out.npy"
        source.touch()
        message = refusal(lambda: saving.refuse_bad_target(source, output))
        subprocess.run(re.search(r"make it first \((.*)\)$", message)[1], shell=True, check=True)
        saving.refuse_bad_target(source, output)

    def test_an_embedding_that_cannot_be_written_there(self, common_user):
        (common_user / "closed").mkdir(mode=0o555)
        message = refusal(lambda: saving.refuse_bad_target(Path("in.h5ad"), common_user / "closed" / "out.npy"))
        assert message.endswith("name another one")
        saving.refuse_bad_target(Path("in.h5ad"), common_user / "out.npy")


class TestOtherSteps:
    """What pre-training and strategies on components refuse."""

    def test_cells_without_counts_in_a_corpus(self, tmp_path):
        adata = cells("ab" * 12, genes=[f"G{i}" for i in range(250)])
        adata.X = adata.X.toarray()
        adata.X[3] = 0
        adata.write_h5ad(tmp_path / "one.h5ad")
        line = re.search(r"for example with (scanpy\..*\))$", refusal(lambda: read_corpus([tmp_path / "one.h5ad"])))[1]
        exec(f"import scanpy; {line}", {"adata": adata})
        adata.write_h5ad(tmp_path / "one.h5ad")
        assert read_corpus([tmp_path / "one.h5ad"]).counts.shape == (23, 250)

    def test_columns_of_one_name(self):
        adata = cells("ab" * 12, other="x")
        adata.obs.columns = ["kind", "kind"]
        message = refusal(lambda: frostline.load_dataset(adata, "kind"))
        exec(message.partition("of each name: ")[2], {"adata": adata})
        assert frostline.load_dataset(adata, "kind").summary()["cells"].tolist() == [12, 12]

    def test_a_data_set_that_cannot_be_downloaded(self, monkeypatch):
        def refuse():
            raise OSError("no route")

        monkeypatch.setattr("scanpy.datasets.pbmc3k_processed", refuse)
        message = refusal(lambda: frostline.load_dataset("pbmc3k"))
        assert len(frostline.load_dataset(re.search(r"Without a network use '(.*?)',", message)[1])) == 700

    @pytest.mark.parametrize("key", ["", "types"])
    def test_each_column_that_is_listed(self, key):
        adata = cells("ab" * 12, fine=list("pqrs") * 6)
        for name in re.search(r"has: (.*)$", refusal(lambda: frostline.load_dataset(adata, key)))[1].split(", "):
            assert frostline.load_dataset(adata, name).label_key == name


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
