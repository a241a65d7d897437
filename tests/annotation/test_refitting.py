"""How a model reads a query: refitted where genes are missing or cells are shallow, and only then."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from kept_models import islet_model, islets, model_of
from scipy import sparse

from frostline.annotation import refitting
from frostline.annotation.adapting import Fit
from frostline.annotation.refitting import expressed, read_query
from frostline.cells.datasets import load_dataset
from frostline.cells.queries import open_cells
from frostline.errors import DatasetError
from frostline.strategies import FrozenProbe, PcaLogistic


@pytest.fixture(scope="module")
def model():
    return islet_model()


@pytest.fixture
def instead(monkeypatch):
    """No second fit: what it would be made on, and the kept model in its place."""
    seen = []

    def keep(model, reference, monitor):
        seen.append(reference)
        return model.strategy, model.calibration, model.cross_fitted

    monkeypatch.setattr(refitting, "_fitted_again", keep)
    return seen


def reading(model, adata, **how):
    with open_cells(adata, **how) as query:
        return read_query(model, query)


def without(adata, genes):
    return adata[:, ~adata.var_names.isin(genes)].copy()


def unread(model):
    return [gene for gene in model.genes if gene not in set(model.strategy.genes_)]


def test_a_query_with_all_genes_in_another_order_and_others_is_read_as_it_is(model):
    adata = islets().adata[:, ::-1].copy()
    found = reading(model, adata)
    assert found.done == "as kept"
    assert found.strategy is model.strategy
    assert found.genes == model.genes
    with open_cells(adata) as query:
        assert np.allclose(found.read(query.take(np.arange(9))).matrix.toarray(), islets().matrix[:9].toarray())


def test_values_are_normalised_over_the_shared_genes(model):
    """Genes that the model lacks take no part in the totals."""
    adata = islets().adata.copy()
    adata.var_names = [f"other {i}" if i % 2 else name for i, name in enumerate(adata.var_names)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            refitting, "_fitted_again", lambda model, *_: (model.strategy, model.calibration, model.cross_fitted)
        )
        found = reading(model, adata)
    with open_cells(adata) as query:
        values = np.expm1(found.read(query.take(np.arange(9))).matrix.toarray())
    counts = islets().adata.X[:9, ::2].toarray()
    assert np.allclose(values, 1e4 * counts / counts.sum(axis=1, keepdims=True), rtol=1e-4)


def test_one_missing_gene_that_is_read_is_enough_and_reference_cells_are_cut(model, instead):
    gene = model.strategy.genes_[7]
    found = reading(model, without(islets().adata, [gene]))
    assert found.done == "fitted again"
    assert found.needs.missing == 1
    assert "lacks 1 genes that it reads" in found.needs.sentences[0]
    assert gene not in instead[0].genes
    counts = islets().adata[:, list(instead[0].genes)].X.toarray()
    expected = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    assert np.allclose(instead[0].matrix.toarray(), expected, rtol=1e-4)
    assert instead[0].labels.tolist() == islets().labels.tolist()
    assert instead[0].groups.tolist() == islets().groups.tolist()


def test_missing_genes_that_are_not_read_matter_by_their_counts(model, instead):
    assert reading(model, without(islets().adata, unread(model)[:3])).done == "as kept"
    found = reading(model, without(islets().adata, unread(model)))
    assert (found.done, found.needs.missing) == ("fitted again", 0)


def test_shallow_cells_thin_the_reference_cells_to_their_depth(model, instead):
    shallow = islets().adata.copy()
    rng = np.random.default_rng(1)
    shallow.X = sparse.csr_matrix(rng.binomial(shallow.X.toarray().astype(int), 0.2).astype(np.float32))
    found = reading(model, shallow)
    assert found.done == "fitted again"
    assert found.needs.thinned == pytest.approx(0.2, rel=0.05)
    depth = float(np.median(islets().adata.X.toarray().sum(axis=1)))
    assert found.needs.depths[1] == depth
    assert f"those of the model {depth:,.0f}" in found.needs.sentences[0]
    counts = np.expm1(instead[0].matrix.toarray())
    assert (counts > 0).sum() < 0.7 * (islets().matrix.toarray() > 0).sum()


def test_a_few_shallow_cells_change_nothing(model):
    """A shallow cell alone is read as it is among others."""
    shallow = islets().adata[:19].copy()
    shallow.X = sparse.csr_matrix(np.rint(shallow.X.toarray() * 0.2).astype(np.float32))
    assert reading(model, shallow).done == "as kept"


def test_shallow_cells_are_seen_behind_logarithms(model, instead):
    shallow = islets().adata.copy()
    counts = np.random.default_rng(1).binomial(shallow.X.toarray().astype(int), 0.2)
    shallow.X = sparse.csr_matrix(np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True)).astype(np.float32))
    assert reading(model, shallow).needs.thinned == pytest.approx(0.2, rel=0.1)


def test_a_refit_knows_how_many_cells_each_class_had(model, monkeypatch):
    """Reference cells are as many of each class; errors are not counted on as many of each."""
    labels = pd.Series(islets().labels)
    names = labels.value_counts().index
    classes = {name: 1000 if name == names[-1] else 10 for name in names}
    card = {**model.card, "dataset": {**model.card["dataset"], "classes": classes}}
    said = []

    def fit_all(strategy, *_, classes, **__):
        said.append(classes)
        return Fit(strategy, None, model.cross_fitted, model.calibration)

    monkeypatch.setattr(refitting, "fit_all", fit_all)
    found = reading(dataclasses.replace(model, card=card), islets().adata[:, ::2].copy())
    assert said == [classes]
    right = pd.Series(model.cross_fitted.probabilities.argmax(axis=1) == model.cross_fitted.columns)
    of_class = right.groupby(labels).mean()
    expected = sum(of_class[name] * classes[name] for name in names) / sum(classes.values())
    assert found.accuracy == pytest.approx(expected)
    assert found.accuracy != right.mean()


@pytest.mark.parametrize("factor", [0.6, 3])
def test_cells_of_more_than_half_the_depth_change_nothing(model, factor):
    deep = islets().adata.copy()
    deep.X = sparse.csr_matrix(np.rint(deep.X.toarray() * factor).astype(np.float32))
    assert reading(model, deep).done == "as kept"


def test_normalised_reference_cells_are_not_thinned(model):
    reference = dataclasses.replace(model.reference, counted=False)
    shallow = islets().adata.copy()
    shallow.X = sparse.csr_matrix(np.rint(shallow.X.toarray() * 0.1).astype(np.float32))
    found = reading(dataclasses.replace(model, reference=reference), shallow)
    assert (found.done, found.needs.depths) == ("as kept", None)


def test_without_reference_cells_it_is_refused_with_the_remedy(model):
    bare = dataclasses.replace(model, reference=None)
    assert reading(bare, islets().adata.copy()).reference is None
    with pytest.raises(
        DatasetError, match=r"lacks 150 genes that it reads.*keeps no reference cells.*reference_cells=200"
    ):
        reading(bare, without(islets().adata, model.strategy.genes_[:150]))


@pytest.mark.parametrize("kept", [2, 0, "one donor"])
def test_with_too_few_reference_cells_it_is_refused_with_the_remedy(model, kept):
    """As many of each class, or of the only one of two donors without whom nothing can be fitted."""
    old = model.reference
    if kept == "one donor":
        rows = np.flatnonzero(old.groups == old.groups[0])
    else:
        rows = np.concatenate([np.flatnonzero(old.labels == name)[:kept] for name in np.unique(old.labels)])
    rows = rows.astype(int)
    few = dataclasses.replace(old, values=old.values[rows], labels=old.labels[rows], groups=old.groups[rows])
    with pytest.raises(DatasetError) as caught:
        reading(dataclasses.replace(model, reference=few), without(islets().adata, model.strategy.genes_[:150]))
    said = str(caught.value)
    assert "lacks 150 genes that it reads" in said
    assert f"keeps too few reference cells for that: {len(rows)} of {len(rows)} express enough" in said
    assert "frostline.adapt(..., reference_cells=200)" in said
    assert "cell_type" not in said
    assert "group_key" not in said


def test_too_few_shared_genes_are_refused_with_the_numbers(model):
    with pytest.raises(DatasetError, match=r"has 49 of the 2,000 genes .* at least 50 are needed"):
        reading(model, islets().adata[:, :49].copy())


@pytest.mark.slow
def test_a_model_of_selected_genes_reads_values_as_they_were_normalised(pbmc):
    """Totals that differ are not brought to one that the labelled cells did not have."""
    model = model_of(pbmc, PcaLogistic(n_hvg=100, n_components=5), reference_cells=20)
    query = pbmc.adata.raw.to_adata()
    found = reading(model, query)
    assert not found.renormalised
    with open_cells(query) as cells:
        assert np.array_equal(found.read(cells.take(np.arange(5))).matrix.toarray(), pbmc.matrix[:5].toarray())
    assert np.allclose(found.reference().matrix.data, np.log1p(model.reference.values.data), rtol=1e-5)


def test_a_cell_must_express_ten_genes_or_a_tenth_of_few():
    assert expressed(sparse.csr_matrix(np.tri(12, 200, -1)))[[9, 10]].tolist() == [False, True]
    assert expressed(sparse.csr_matrix(np.tri(4, 30, -1))).tolist() == [False, False, False, True]
    assert expressed(sparse.csr_matrix(np.tri(2, 4, -1))).tolist() == [False, True]


@pytest.fixture(scope="module")
def probe(three_kinds, small_checkpoint):
    return model_of(three_kinds, FrozenProbe(checkpoint=str(small_checkpoint)))


def rarest(data, n):
    """Names of the genes of fewest counts."""
    return [data.genes[i] for i in np.argsort(np.expm1(data.matrix.toarray()).sum(axis=0))[:n]]


@pytest.mark.slow
def test_an_encoder_reads_on_where_rare_genes_are_missing(probe, three_kinds):
    rare = rarest(three_kinds, 1)
    found = reading(probe, without(three_kinds.adata, rare))
    assert (found.done, found.needs.missing) == ("as kept", 1)
    assert 0 < found.needs.share < refitting.OF_ENCODER
    assert found.strategy.genes_ == tuple(gene for gene in probe.strategy.genes_ if gene not in rare)
    assert len(probe.strategy.genes_) == 120
    with open_cells(without(three_kinds.adata, rare)) as query:
        outcome = found.strategy.outcome(found.read(query.take(np.arange(150))), np.arange(150))
    own = probe.strategy.outcome(three_kinds, np.arange(150))
    assert (outcome.probabilities.argmax(axis=1) == own.probabilities.argmax(axis=1)).mean() > 0.9


@pytest.mark.slow
def test_a_probe_on_a_frozen_encoder_is_fitted_again_where_many_are_missing(probe, three_kinds):
    query = three_kinds.adata[:, ::2].copy()
    found = reading(probe, query)
    assert (found.done, len(found.reference())) == ("fitted again", 150)
    assert set(found.strategy.genes_) <= set(three_kinds.genes[::2])
    assert found.accuracy > 0.5


@pytest.mark.slow
def test_a_tuned_encoder_is_calibrated_again_and_says_so(three_kinds, small_checkpoint, tiny_profile):
    from frostline.strategies import Lora

    strategy = Lora(checkpoint=str(small_checkpoint), epochs=1, min_steps=0, n_genes=120)
    model = model_of(three_kinds, strategy, profile=tiny_profile)
    found = reading(model, three_kinds.adata[:, ::2].copy())
    assert found.done == "calibrated again"
    assert set(found.strategy.genes_) == set(model.strategy.genes_) & set(three_kinds.genes[::2])
    assert found.strategy._encoder is model.strategy._encoder
    assert len(found.calibration.energies) == 150
    report = model.annotate(three_kinds.adata[:, ::2].copy()).report
    assert "by a model that was fitted on them" in str(report)
    assert report.facts["certificate"]["holds"] in ("no", "not known")


@pytest.mark.parametrize("named", ["Gene{}".format, "Cd{}r".format])
def test_a_model_of_names_that_look_like_those_of_a_mouse_reads_its_own(model, named):
    """Strategies without a checkpoint read any names as they are; those of human genes are then too few."""
    data = islets()
    adata = data.adata[:, :300].copy()
    adata.var_names = [named(i) for i in range(300)]
    made = model_of(load_dataset(adata, "cell_type", group_key="donor"), PcaLogistic(n_hvg=50, n_components=3))
    assert reading(made, adata.copy()).done == "as kept"
    with pytest.raises(DatasetError, match=r"has 0 of the 300 genes"):
        reading(made, data.adata.copy())
    with pytest.raises(DatasetError, match=r"the genes are those of mouse or rat"):
        reading(model, adata.copy())


def test_labelled_cells_that_were_loaded_by_ensembl_id_take_symbols(model):
    from frostline.cells.gene_table import ensembl_of

    data = islets()
    ids = np.array(ensembl_of(data.genes))
    kept = np.flatnonzero(ids != "")[:400]
    adata = data.adata[:, kept].copy()
    adata.var_names = ids[kept]
    named = model_of(load_dataset(adata, "cell_type", group_key="donor"), PcaLogistic(n_hvg=50, n_components=3))
    assert reading(named, data.adata[:, kept].copy()).genes == tuple(ids[kept])
