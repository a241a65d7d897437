"""Situations that must come out right when a kept model labels a query, on the donors' cells that are installed."""

from __future__ import annotations

import re
import weakref

import anndata
import numpy as np
import pandas as pd
import pytest
from kept_models import islet_model, islets, model_of
from scipy import sparse

from frostline.annotation import labelling, refitting
from frostline.annotation.annotating import annotate
from frostline.annotation.refitting import Reading
from frostline.cells import queries
from frostline.cells.datasets import load_dataset
from frostline.cells.gene_table import ensembl_of
from frostline.errors import Cancelled, DatasetError, FrostlineError
from frostline.monitor import Monitor
from frostline.strategies import PcaLogistic

NAMES = ["", "_confidence", "_second", "_set", "_p_known", "_reason"]


@pytest.fixture(scope="module")
def model():
    return islet_model()


@pytest.fixture
def counts() -> anndata.AnnData:
    """The cells that the model was made of, without labels."""
    adata = islets().adata.copy()
    adata.obs = adata.obs[[]]
    return adata


@pytest.fixture(scope="module")
def expected(model):
    """(175, 5) probabilities on the counts."""
    return annotate(model, islets()).probabilities


def renamed(adata, names):
    adata = adata.copy()
    adata.var_names = list(names)
    return adata


def with_values(adata, function):
    """Values of the same cells after a function of shares of a cell."""
    adata = adata.copy()
    shares = np.asarray(adata.X.todense(), dtype=np.float64)
    adata.X = sparse.csr_matrix(function(shares / shares.sum(axis=1, keepdims=True)).astype(np.float32))
    return adata


def test_while_cells_are_annotated_nothing_is_kept_that_only_the_beginning_or_the_end_reads(model, counts, monkeypatch):
    seen, alive = {}, []
    read, outcome, refused, cut = Reading.read, PcaLogistic.outcome, queries.refuse_scaled, refitting._cut

    def watching_sample(sample, *others):
        seen["sample"] = weakref.ref(sample)
        return refused(sample, *others)

    def watching_read(self, cells):
        seen["chunk in all its genes"] = weakref.ref(cells.matrix)
        return read(self, cells)

    def watching_outcome(self, *args):
        alive.append([name for name, each in seen.items() if each() is not None])
        return outcome(self, *args)

    monkeypatch.setattr(queries, "refuse_scaled", watching_sample)
    monkeypatch.setattr(Reading, "read", watching_read)
    monkeypatch.setattr(PcaLogistic, "outcome", watching_outcome)
    monkeypatch.setattr(refitting, "_cut", lambda *args: alive.append("reference cells") or cut(*args))
    annotate(model, anndata.concat([counts, counts], index_unique="-"), chunk=256)
    assert set(seen) == {"sample", "chunk in all its genes"}
    assert alive == ["reference cells", [], [], []]


def test_columns_arrays_and_report_are_written_into_an_anndata(model, counts):
    found = annotate(model, counts, key="type")
    assert list(counts.obs) == [f"type{name}" for name in NAMES]
    assert (counts.obs["type"].astype(str) == islets().labels).mean() >= 0.99
    assert counts.obsm["type_probabilities"].shape == (175, 5)
    assert np.allclose(counts.obsm["type_probabilities"].sum(axis=1), 1, atol=1e-6)
    assert np.array_equal(counts.obsm["X_type"], found.embedding)
    assert counts.uns["type"]["fit"]["done"] == "as kept"
    assert counts.uns["type"]["cells"] == [35] * 5
    assert found.classes == model.classes == tuple(counts.uns["type"]["classes"])


def test_confidence_second_and_reason_follow_from_the_probabilities(model, counts):
    found = annotate(model, counts)
    p, table = found.probabilities, counts.obs
    classes, order = np.array(found.classes), np.argsort(-p, axis=1)
    assert np.allclose(table["frostline_confidence"], p.max(axis=1))
    assert (table["frostline_second"].astype(str) == classes[order[:, 1]]).all()
    low = table["frostline_confidence"] < model.calibration.certificate.threshold
    far = table["frostline_p_known"] < model.calibration.alpha
    reasons = np.where(far, "far from training", np.where(low, "low confidence", ""))
    assert (table["frostline_reason"].astype(str) == reasons).all()
    assert (table["frostline"].astype(str) == np.where(far, "Unknown", classes[order[:, 0]])).all()


def test_probabilities_are_those_of_the_strategy_after_temperature(model, expected):
    own = model.strategy.predict_proba(islets(), np.arange(175)) ** (1 / model.calibration.temperature)
    assert np.allclose(expected, own / own.sum(axis=1, keepdims=True), atol=1e-5)


ENSEMBL = np.array(ensembl_of(islets().genes))


def named_by_ensembl(adata):
    """As CELLxGENE has it, but for the column of symbols; genes without an id are left out."""
    adata = adata[:, ENSEMBL != ""].copy()
    return renamed(adata, ENSEMBL[ENSEMBL != ""])


@pytest.mark.parametrize(
    "names",
    [
        [f"{name}.7" if name else symbol for name, symbol in zip(ENSEMBL, islets().genes, strict=True)],
        [f"GRCh38_{symbol}" for symbol in islets().genes],
        [f"{symbol}_{name}" if name else symbol for name, symbol in zip(ENSEMBL, islets().genes, strict=True)],
    ],
    ids=["ensembl with versions", "prefix of the genome", "symbol and id"],
)
def test_other_names_of_the_same_genes_give_the_same_labels(model, counts, expected, names):
    found = annotate(model, renamed(counts, names))
    assert found.report.facts["fit"]["done"] == "as kept"
    assert np.allclose(found.probabilities, expected, atol=1e-4)


def test_the_column_of_symbols_of_cellxgene_is_found(model, counts, expected):
    counts.var["feature_name"] = counts.var_names
    found = annotate(model, renamed(counts, [name or f"ENSG9{i:010d}" for i, name in enumerate(ENSEMBL)]))
    assert np.allclose(found.probabilities, expected, atol=1e-6)
    assert "feature_name" in str(found.report)


def test_repeated_genes_are_summed_and_lost_ones_listed(model, counts, expected):
    """Half of the counts of one gene stand under its Ensembl id; names of nothing are added."""
    first = int(np.flatnonzero(ENSEMBL != "")[0])
    column = counts.X[:, [first]].toarray()
    counts.X = sparse.csr_matrix(counts.X.toarray() - np.eye(1, 2000, first) * (column // 2))
    more = sparse.csr_matrix(np.hstack([column // 2, np.ones((175, 3))]).astype(np.float32))
    names = [*counts.var_names, ENSEMBL[first], "1-Mar", "no gene", "neither"]
    query = anndata.AnnData(
        sparse.hstack([counts.X, more], format="csr"), obs=counts.obs, var=pd.DataFrame(index=names)
    )
    found = annotate(model, query)
    genes = found.report.facts["genes"]
    assert genes["shadowed"] + genes["summed"] >= 1
    assert "no gene" in genes["lost_names"]
    assert "no gene" in str(found.report)
    assert (found.probabilities.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.98


def test_a_gene_that_stands_twice_is_summed(model, counts, expected):
    """Part of the counts of a gene in a column of the same name, as files of joined references have them."""
    place = int(np.flatnonzero(np.isin(counts.var_names, model.strategy.genes_))[0])
    column = counts.X[:, [place]].toarray() // 2
    rest = counts.X - sparse.csr_matrix(np.eye(1, counts.n_vars, place) * column)
    table = pd.DataFrame(index=[*counts.var_names, counts.var_names[place]])
    with pytest.warns(UserWarning, match="Variable names are not unique"):
        query = anndata.AnnData(sparse.hstack([rest, column], format="csr").astype("f4"), obs=counts.obs, var=table)
    found = annotate(model, query)
    assert found.report.facts["genes"]["summed"] == 2
    assert found.report.facts["fit"]["done"] == "as kept"
    assert np.allclose(found.probabilities, expected, atol=1e-5)


def test_mouse_genes_are_refused_with_the_species(model, counts):
    with pytest.raises(DatasetError, match="the genes are those of mouse or rat"):
        annotate(model, renamed(counts, [name.capitalize() for name in counts.var_names]))


@pytest.mark.parametrize(
    "function",
    [lambda x: np.log2(x * 1e4 + 1), lambda x: np.log10(x * 1e4 + 1), lambda x: x * 1e6, lambda x: np.log1p(x * 1e6)],
    ids=["log2", "log10", "CPM", "log1p of CPM"],
)
def test_other_scales_give_the_labels_of_the_counts(model, counts, expected, function):
    found = annotate(model, with_values(counts, function))
    assert np.allclose(found.probabilities, expected, atol=1e-3)


def test_values_that_cannot_be_recognised_are_asked_about_or_refused(model, counts):
    lengths = np.random.default_rng(0).lognormal(size=2000)
    with pytest.raises(DatasetError, match="it looks scaled"):
        annotate(model, with_values(counts, lambda x: (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-9)))
    with pytest.raises(DatasetError, match="--values log1p"):
        annotate(model, with_values(counts, lambda x: np.log1p(x * 1e6 / lengths)))
    with pytest.raises(DatasetError, match=r"or RPKM, which cannot be distinguished.*--values linear"):
        annotate(model, with_values(counts, lambda x: x * 1e6 / lengths))
    with pytest.raises(DatasetError, match="they look binned"):
        annotate(model, with_values(counts, lambda x: np.rint(50 * x / x.max(axis=1, keepdims=True))))


@pytest.fixture(scope="module")
def halved(model):
    """Labels of cells that have every second gene."""
    query = islets().adata[:, ::2].copy()
    return query, annotate(model, query)


def test_half_of_the_genes_is_said_to_be_refitted_and_right(halved):
    _, found = halved
    assert found.report.facts["fit"]["done"] == "fitted again"
    assert "fitted again on 175 reference cells cut to the shared genes" in str(found.report)
    assert (np.array(found.classes)[found.probabilities.argmax(axis=1)] == islets().labels).mean() >= 0.95
    assert 0.9 <= found.report.facts["fit"]["accuracy"] <= 1
    assert "an upper bound" in str(found.report)


def test_a_cell_alone_gets_the_label_that_it_gets_among_others(model, counts, expected):
    for row in (0, 90):
        alone = annotate(model, counts[row].copy())
        assert np.allclose(alone.probabilities[0], expected[row], atol=1e-5)
    logged = with_values(counts, lambda x: np.log1p(x * 1e4))
    assert np.allclose(annotate(model, logged[3].copy()).probabilities[0], expected[3], atol=1e-4)
    assert "too few to tell" in annotate(model, counts[:4].copy()).report.facts["shift"]["sentence"]


def test_no_cell_gives_an_empty_result_with_all_columns(model, counts):
    nothing = counts[:0].copy()
    found = annotate(model, nothing)
    assert len(found) == 0
    assert list(nothing.obs) == [f"frostline{name}" for name in NAMES]
    assert nothing.obsm["X_frostline"].shape == (0, 10)
    assert "none: there is no cell" in str(found)


def test_cells_without_counts_are_unknown_and_the_others_annotated(model, counts, expected):
    values = counts.X.toarray()
    values[7] = 0
    values[9, np.flatnonzero(values[9])[5:]] = 0
    counts.X = sparse.csr_matrix(values)
    found = annotate(model, counts)
    table = counts.obs.iloc[[7, 9]]
    assert table["frostline"].tolist() == table["frostline_set"].tolist() == ["Unknown"] * 2
    assert table["frostline_reason"].tolist() == ["too few genes"] * 2
    assert table[["frostline_confidence", "frostline_p_known"]].isna().all(axis=None)
    assert table["frostline_second"].tolist() == ["", ""]
    others = np.setdiff1d(np.arange(175), [7, 9])
    assert np.allclose(found.probabilities[others], expected[others], atol=1e-5)
    assert found.report.facts["reasons"]["too few genes"] == 2


def test_nothing_but_empty_cells_is_annotated_as_unknown(model, counts):
    counts.X = sparse.csr_matrix(counts.shape, dtype=np.float32)
    annotate(model, counts)
    assert set(counts.obs["frostline"]) == {"Unknown"}


@pytest.fixture(scope="module")
def without_macrophages():
    data = islets()
    kept = data.adata[data.labels != "macrophage"].copy()
    return model_of(load_dataset(kept, "cell_type", group_key="donor"), PcaLogistic(n_hvg=300, n_components=10))


def test_a_class_that_was_withheld_stands_out(without_macrophages):
    from sklearn.metrics import roc_auc_score

    annotate(without_macrophages, query := islets().adata.copy())
    new = islets().labels == "macrophage"
    assert roc_auc_score(new, -query.obs["frostline_p_known"]) >= 0.9
    assert (query.obs["frostline"].astype(str) == "Unknown")[~new].mean() <= 0.07


@pytest.mark.slow
def test_few_labelled_cells_certify_nothing(without_macrophages):
    data = islets()
    rows = np.concatenate([np.flatnonzero(data.labels == name)[:10] for name in ("alpha", "beta", "delta")])
    few = load_dataset(data.adata[rows].copy(), "cell_type")
    found = annotate(model_of(few, PcaLogistic(n_hvg=50, n_components=3)), data.adata.copy())
    assert "cannot be certified: 30 labelled cells" in str(found.report)
    assert found.report.facts["certificate"]["holds"] == "no"
    assert found.report.facts["reasons"]["low confidence"] == 0


def test_cells_of_another_kind_are_said_to_differ(model, counts):
    """Ambient counts in every cell, as another chemistry would bring."""
    rng = np.random.default_rng(0)
    ambient = np.asarray(counts.X.sum(axis=0)).ravel()
    counts.X = sparse.csr_matrix(counts.X.toarray() + rng.poisson(4_000 * ambient / ambient.sum(), counts.shape))
    found = annotate(model, counts)
    assert "the stated error does not hold" in found.report.facts["shift"]["sentence"]
    assert found.report.facts["certificate"]["holds"] == "no"
    assert "For this query that does not hold" in str(found.report)


@pytest.mark.parametrize("kind", [bool, int])
def test_presence_beside_counts_is_said(model, counts, kind):
    """Whether a gene is expressed is not how much."""
    present = anndata.AnnData((counts.X.toarray() > 0).astype(kind), obs=counts.obs, var=counts.var)
    said = "The values of the query are presence (0 or 1), those of the labelled cells counts: how much"
    assert said in str(annotate(model, present).report)
    assert "The values of the query are" not in str(annotate(model, counts).report)


@pytest.mark.slow
def test_counts_beside_presence_are_said_and_the_remedy_works(counts):
    present = islets().adata.copy()
    present.X = (present.X > 0).astype("float32")
    data = load_dataset(present, "cell_type", group_key="donor")
    of_presence = model_of(data, PcaLogistic(n_hvg=50, n_components=3))
    said = str(annotate(of_presence, counts).report)
    assert "are counts, those of the labelled cells presence (0 or 1): labels may be wrong" in said
    remedy = re.search(r"\((adata\.X = .*)\)\.", said)[1]
    exec(remedy, {"adata": counts})
    assert "The values of the query are" not in str(annotate(of_presence, counts, overwrite=True).report)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_file_gives_the_same_in_runs_of_any_size(model, counts, expected, tmp_path, monkeypatch, size):
    monkeypatch.setattr(labelling, "PIECE", 3)
    counts = counts[:40].copy()
    counts.write_h5ad(tmp_path / "in.h5ad")
    found = model.annotate(tmp_path / "in.h5ad", chunk=size)
    assert np.allclose(found.probabilities, expected[:40], atol=1e-6)
    at_once = model.annotate(tmp_path / "in.h5ad", chunk=40)
    assert np.array_equal(found.probabilities, at_once.probabilities)  # to the last bit
    assert np.array_equal(found.embedding, at_once.embedding)
    assert found.embedding.shape == (40, 10)
    read = anndata.read_h5ad(found.save(tmp_path / "out.h5ad"))
    assert list(read.obs) == [f"frostline{name}" for name in NAMES]
    assert np.array_equal(read.obsm["X_frostline"], found.embedding)


def test_nothing_is_written_when_it_is_cancelled(model, counts, tmp_path):
    calls = []

    def cancelled():
        calls.append(1)
        return len(calls) > 2

    with pytest.raises(Cancelled):
        annotate(model, counts, monitor=Monitor(cancelled=cancelled))
    assert list(counts.obs) == []
    assert not counts.obsm
    assert not counts.uns


@pytest.mark.parametrize("fits_again", [False, True])
def test_progress_rises_to_one(model, counts, fits_again):
    seen, said = [], []
    query = counts[:, ::2].copy() if fits_again else counts
    annotate(model, query, monitor=Monitor(lambda *step: (seen.append(step[0]), said.append(step[1]))))
    assert any(words.startswith("fitting again: ") for words in said) == fits_again
    assert seen == sorted(seen)
    assert seen[-1] == 1


def test_what_stands_under_the_key_is_kept_unless_it_may_be_replaced(model, counts):
    counts.obs["frostline_set"] = "mine"
    with pytest.raises(DatasetError, match=r"obs\['frostline_set'\] stands there already; .*key='frostline_2'"):
        annotate(model, counts)
    assert list(counts.obs) == ["frostline_set"]
    annotate(model, counts, overwrite=True)
    assert "mine" not in set(counts.obs["frostline_set"])
    annotate(model, counts, key="frostline_2")


@pytest.mark.parametrize("key", ["", "a/b", " a", "_index"])
def test_keys_that_are_no_names_of_columns_are_refused(model, counts, key):
    with pytest.raises(DatasetError, match="cannot be the name of columns"):
        annotate(model, counts, key)


@pytest.mark.parametrize("kind", ["AnnData", "data set", "name"])
def test_what_was_in_memory_has_no_file_to_copy_and_is_saved_as_said(model, counts, tmp_path, kind):
    cells = {"AnnData": counts, "data set": islets(), "name": "pancreas"}[kind]
    annotation = annotate(model, cells)
    with pytest.raises(FrostlineError, match="were in memory") as error:
        annotation.save(tmp_path / "out.h5ad")
    line = str(error.value).rpartition(": ")[2]
    exec(line, {"annotation": annotation, "cells": cells})
    assert anndata.read_h5ad(tmp_path / "out.h5ad").obs["frostline"].tolist() == annotation.obs["frostline"].tolist()


def test_a_copy_with_another_ending_is_refused(model, counts, tmp_path):
    counts.write_h5ad(tmp_path / "in.h5ad")
    with pytest.raises(FrostlineError, match=r"out\.csv' does not end in \.h5ad"):
        annotate(model, tmp_path / "in.h5ad").save(tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_the_file_that_was_read_is_not_written_to(model, counts, tmp_path):
    counts.write_h5ad(tmp_path / "in.h5ad")
    with pytest.raises(FrostlineError, match="is the file that was read"):
        annotate(model, tmp_path / "in.h5ad").save(tmp_path / "in.h5ad")


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_cells_that_are_read_from_their_file_are_labelled_in_memory_and_a_part_of_them_is_refused(
    model, counts, expected, tmp_path, mode
):
    counts.write_h5ad(tmp_path / "cells.h5ad")
    before = (tmp_path / "cells.h5ad").read_bytes()
    adata = anndata.read_h5ad(tmp_path / "cells.h5ad", backed=mode)
    with pytest.raises(DatasetError, match=r"load them first \(adata = adata.to_memory\(\)\)"):
        annotate(model, adata[:20])
    annotate(model, adata[:20].to_memory())
    annotate(model, adata)
    assert adata.obsm["frostline_probabilities"] == pytest.approx(expected, abs=1e-6)
    adata.file.close()
    if mode == "r":
        assert (tmp_path / "cells.h5ad").read_bytes() == before


def test_a_view_becomes_cells_of_its_own(model, counts):
    view = counts[:30]
    annotate(model, view)
    assert "frostline" in view.obs
    assert "frostline" not in counts.obs
