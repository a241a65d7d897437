"""Map of a query and table of its unknown cells, on the donors' cells that are installed."""

from __future__ import annotations

import dataclasses

import anndata
import numpy as np
import pytest
from kept_models import islet_model, islets
from scipy import sparse

from frostline.annotation import promises, views
from frostline.annotation.annotating import annotate
from frostline.annotation.promises import promise_figures
from frostline.annotation.saving import save_report
from frostline.errors import FrostlineError

pytestmark = pytest.mark.usefixtures("instant_umap_throughout")


@pytest.fixture(scope="module")
def found():
    """23 cells of a donor: the first two without a count, the next three with their genes shuffled."""
    adata = islets().adata
    adata = adata[adata.obs["donor"] == "human4"]
    counts = adata.X.toarray()
    counts[:2] = 0
    counts[2:5] = np.random.default_rng(0).permutation(counts[2:5], axis=1)
    return annotate(islet_model(), anndata.AnnData(sparse.csr_matrix(counts), obs=adata.obs[[]], var=adata.var))


def test_cells_with_too_few_genes_are_on_no_map(found):
    placed = views.map_cells(found)
    assert placed.rows.tolist() == list(range(2, 23))
    assert placed.query.shape == (21, 2)
    assert placed.reference.shape == (175, 2)
    assert np.isfinite(placed.query).all()


def test_a_seed_of_numpy_is_a_plain_one(found, monkeypatch):
    seen = []
    monkeypatch.setattr(views.maps, "umap_of", lambda _, *, seed: seen.append(seed))
    views.map_cells(found, seed=np.int64(3))
    assert [(seed, type(seed)) for seed in seen] == [(3, int)]


def test_reference_cells_bear_the_labels_that_they_were_given(found):
    given = dict(zip(*np.unique(islets().labels, return_counts=True), strict=True))
    assert dict(zip(*np.unique(found.landmarks.labels, return_counts=True), strict=True)) == given


def test_of_many_cells_some_that_lie_evenly_are_mapped(found, monkeypatch):
    monkeypatch.setattr(views, "MOST", 4)
    assert views.map_cells(found).rows.tolist() == [2, 8, 15, 22]


@pytest.mark.parametrize(("colour", "n_axes"), [("label", 2), ("reason", 1), ("confidence", 2)])
def test_each_colouring_has_its_axes_and_legend(found, colour, n_axes):
    figure = views.map_figure(found, views.map_cells(found), colour)
    assert len(figure.axes) == n_axes  # of confidence the second is the bar
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    wanted = {"label": "Unknown", "reason": "far from training (3)", "confidence": "reference cells"}
    assert wanted[colour] in legend


@pytest.mark.parametrize("colour", views.COLOURINGS)
def test_wide_gaps_are_narrowed_for_both_kinds_of_cells_at_once(found, colour):
    """Query and reference cells are two blocks 1,000 apart."""
    grid = np.stack(np.meshgrid(np.arange(14.0), np.arange(14.0)), axis=-1).reshape(-1, 2)
    placed = views.Placed(np.arange(2, 23), grid[:21] + np.array([1_000, 0]), grid[:175])
    figure = views.map_figure(found, placed, colour)
    axes = figure.axes[1] if colour == "label" else figure.axes[0]
    drawn = np.concatenate([np.asarray(part.get_offsets()) for part in axes.collections if len(part.get_offsets())])
    drawn = np.unique(drawn.round(6), axis=0)
    assert len(drawn) == 196
    right = drawn[np.argsort(drawn[:, 0])][-21:]
    across, down = np.ptp(drawn, axis=0)
    gap = right[:, 0].min() - 13  # the larger block stays where it was
    # Both are 13 wide, the larger 12 high; the gap is four distances between neighbours, more than a sixteenth
    assert (across, down, gap) == pytest.approx((13 + 4 + 13, 12, 4), abs=1e-6)
    assert np.ptp(right, axis=0) == pytest.approx(np.ptp(grid[:21], axis=0))
    assert placed.query[:, 0].min() == 1_000


def test_without_reference_cells_the_query_stands_alone(found):
    alone = dataclasses.replace(found, landmarks=None)
    placed = views.map_cells(alone)
    assert placed.reference.shape == (0, 2)
    assert len(views.map_figure(alone, placed).axes) == 1


def test_too_few_cells_are_said_to_be(found):
    figure = views.map_figure(found, None)
    assert "too few" in figure.texts[0].get_text()
    assert figure.axes == []


def test_unknown_colouring_is_refused(found):
    with pytest.raises(FrostlineError, match=r"unknown colouring 'age'; known: label, confidence, reason"):
        views.map_figure(found, views.map_cells(found), "age")


def test_unknown_cells_begin_with_the_strangest_and_end_with_those_of_too_few_genes(found):
    table = views.unknown_cells(found)
    names = found.obs.index
    assert set(names[:5]) <= set(table["cell"])
    p_known = table["p_known"].dropna()
    assert p_known.is_monotonic_increasing
    assert table["cell"].tolist()[-2:] == names[:2].tolist()
    assert table["reason"].tolist()[-2:] == ["too few genes"] * 2
    assert table["most_like"].isna().tolist()[-2:] == [True, True]
    known = table["most_like"].dropna()
    best = found.probabilities[[names.get_loc(cell) for cell in table["cell"][: len(known)]]].argmax(axis=1)
    assert known.tolist() == [found.classes[i] for i in best]
    assert len(views.unknown_cells(found, 2)) == 2


def test_promises_are_drawn_of_what_was_found(found):
    drawn = {
        heading: (figure, alt)
        for heading, figure, alt in promise_figures(found.calibration, found.shift, found.p_known)
    }
    assert list(drawn) == ["Stated error", "Unknown cells", "Coarser answers", "Like the training data?"]
    strange = found.obs["frostline_p_known"].to_numpy(float)
    n, share = np.isfinite(strange).sum(), (strange[np.isfinite(strange)] < 0.05).mean()
    (axes,) = drawn["Unknown cells"][0].axes
    assert f"query: {share:.1%} of {n} cells unknown" in axes.get_legend_handles_labels()[1]
    assert share >= 3 / 21  # the shuffled ones
    assert f"AUROC {found.shift.auroc:.2f}" in drawn["Like the training data?"][0].axes[0].get_title(loc="left")
    assert all(alt and "\n" not in alt for _, alt in drawn.values())
    untested = promise_figures(found.calibration, None, found.p_known)[-1][1]
    assert "keeps no labelled cells to compare with: NA" in " ".join(untested.texts[0].get_text().split())


@pytest.mark.slow
def test_the_report_shows_the_figures_of_the_promises(found, tmp_path):
    page = save_report(found, tmp_path / "report.html").read_text(encoding="utf-8")
    assert found.report._repr_html_() in page
    for heading, (alt, _) in promises.PROMISES.items():
        assert f'<h4>{heading}</h4><img alt="{alt}"' in page
    assert page.startswith("<!DOCTYPE html>")
    with pytest.raises(FrostlineError, match="could not be written"):
        save_report(found, tmp_path / "none" / "report.html")
