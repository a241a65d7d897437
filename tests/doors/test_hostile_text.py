"""Text of the user's stays text: one hostile name goes through every door."""

from __future__ import annotations

import re
import sys

import anndata
import numpy as np
import pandas as pd
import pytest
from hostile import BROKEN, NAME, Read
from markdown_it import MarkdownIt

import frostline
from frostline import cli, figures, report
from frostline.artifacts import checking, exports
from frostline.artifacts.archive import load_comparison
from frostline.cells.datasets import load_dataset
from frostline.errors import FrostlineError
from frostline.escaping import one_line
from frostline.panels.base import walk
from frostline.records import Finding

pytestmark = pytest.mark.slow

CLASSES = [f"{BROKEN} {i}" for i in "ABC"]
KEY = f"X {NAME}"
STRATEGIES = ["majority", "pca_logistic", f"probe_obsm:{KEY}"]
MARKUP = {"html_block", "html_inline", "link_open", "image", "fence", "code_block", "hr", "blockquote_open", "em_open"}


@pytest.fixture(scope="module")
def dataset(three_kinds):
    """Hostile in every name: classes, columns, groups, cells, genes, embedding, the data set itself."""
    adata = three_kinds.adata.copy()
    classes = dict(zip(sorted(set(three_kinds.labels)), CLASSES, strict=True))
    donors = [f"{BROKEN} donor {i % 4}" for i in range(len(adata))]
    obs = pd.DataFrame({f"label {NAME}": list(map(classes.get, three_kinds.labels)), f"donor {NAME}": donors})
    obs.index = [f"{BROKEN}{i}" for i in range(len(adata))]
    genes = [f"{NAME}{name}" if i < 9 else name for i, name in enumerate(adata.var_names)]
    made = anndata.AnnData(adata.X, obs=obs, var=pd.DataFrame(index=genes))
    made.obsm[KEY] = np.random.default_rng(0).normal(size=(len(adata), 5))
    return load_dataset(made, f"label {NAME}", group_key=f"donor {NAME}", name=BROKEN)


@pytest.fixture(scope="module")
def comparison(dataset, tiny_profile):
    cut = frostline.split(dataset, kind="stratified", profile=tiny_profile)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "frostline.evaluation.maps.umap_of", lambda embedding, *, seed: embedding[:, [0, -1]].astype(float)
        )
        built = frostline.strategies.build(STRATEGIES, profile=tiny_profile)
        records = [frostline.evaluate(each, dataset, cut) for each in built]
        records += frostline.label_efficiency(built[:1], dataset, [cut], budgets=[3])
        records += frostline.leave_one_class_out(built[2:], dataset, [cut])
    return frostline.compare(records)


def tokens_of(markdown):
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    return [part for token in tokens for part in (token, *(token.children or ()))]


def test_what_is_exported_passes_and_its_report_holds_nothing_but_text(comparison, dataset, tmp_path):
    folder = exports.export(tmp_path / NAME.replace("/", "-"), comparison, dataset)
    assert checking.check(folder).problems == []
    assert load_comparison(folder).classes == comparison.classes
    text = (folder / "report.md").read_text(encoding="utf-8")
    tokens = tokens_of(text)
    assert not MARKUP & {token.type for token in tokens}
    said = ["".join(child.content for child in token.children) for token in tokens if token.type == "inline"]
    assert said[0] == f"Cell type annotation of {one_line(BROKEN)}"
    assert {one_line(wanted) for wanted in (*CLASSES, *STRATEGIES)} <= set(said)
    assert any(line.startswith(f"Label column label {NAME}, 3 classes.") for line in said)
    assert "pwned" in text
    assert not re.search(r"<[A-Za-z/!]", text)
    assert {t.tag for t in tokens if t.type == "heading_open"} == {"h1", "h2"}


def html_of_notebook(comparison, dataset):
    yield comparison._repr_html_()
    yield report.shown(dataset.summary(), index=True)._repr_html_()
    yield report.shown(report.class_metrics_table(comparison))._repr_html_()
    yield report.words(report.reading(comparison))._repr_html_()
    yield report.words(BROKEN, BROKEN)._repr_html_()
    yield report.found([Finding("x", "warning", BROKEN, BROKEN, BROKEN)])._repr_html_()
    yield figures.image_html(figures.interval_figure(comparison), BROKEN)


def test_html_of_a_notebook_holds_nothing_but_text(comparison, dataset):
    for html in html_of_notebook(comparison, dataset):
        assert Read(html).active == []
        assert "<img src=x" not in html
    for name in STRATEGIES:
        assert Read(comparison._repr_html_()).shows(one_line(name))
    shown = report.shown(dataset.summary(), index=True)
    assert all(Read(shown._repr_html_()).shows(one_line(name)) for name in CLASSES)
    assert not set("\x1b\u202e") & set(repr(shown))


def refuse(*_):
    raise FrostlineError(BROKEN)


@pytest.mark.usefixtures("instant_umap")
def test_html_of_the_panel_holds_nothing_but_text(dataset, monkeypatch, tmp_path):
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path))
    monkeypatch.setattr("frostline.panels.costs.estimate", refuse)  # it times the encoder
    panel = frostline.panels.AnnotationPanel(dataset, strategies=STRATEGIES, split="stratified")
    panel.run(wait=True)
    values = [widget.value for widget in walk(panel) if type(widget).__name__ == "HTML"]
    read = [Read(value) for value in values]
    assert [found for each in read for found in each.active] == []
    everything = Read(" ".join(values))
    assert all(everything.shows(one_line(name)) for name in (*CLASSES, *STRATEGIES, dataset.name))
    assert not any("cannot be drawn" in value for value in values)
    labels = [widget for widget in walk(panel) if type(widget).__name__ == "Checkbox"]
    assert not any(widget.description_allow_html for widget in labels)
    panel.close()


@pytest.mark.parametrize(
    "draw",
    [
        *(figures.interval_figure, figures.reliability_figure, figures.risk_coverage_figure),
        *(figures.label_efficiency_figure, figures.unknown_cells_figure),
        lambda comparison: figures.umap_figure(comparison, STRATEGIES[2]),
        lambda comparison: figures.umaps_figure(comparison, STRATEGIES[1:], "prediction"),
        lambda comparison: figures.confusion_figure(comparison, STRATEGIES[1], percent=True),
    ],
)
def test_every_picture_is_drawn(comparison, draw):
    assert len(figures.png(draw(comparison))) > 2_000


def test_an_error_cannot_move_the_cursor(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["frostline", "checkpoints", "path", "\x1b[2Jnothing"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "\x1b" not in capsys.readouterr().err
