"""AnnotatePanel without a browser: what is offered, every way in which a run can end, and what is shown and saved."""

from __future__ import annotations

import dataclasses
import html
import threading

import anndata
import numpy as np
import pytest
from ipywidgets import HTML, Widget
from kept_models import islet_model, islets, model_of
from panel_parts import control
from scipy import sparse

from frostline.annotation import annotating
from frostline.cells.gene_table import ensembl_of
from frostline.errors import Cancelled, DatasetError, FrostlineError, ModelError
from frostline.panels import AnnotatePanel
from frostline.panels import annotate as module
from frostline.panels.base import walk
from frostline.strategies import PcaLogistic

pytestmark = pytest.mark.usefixtures("instant_umap_throughout", "instant_pictures_throughout")


@pytest.fixture(scope="module")
def model():
    return islet_model()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return model.save(tmp_path_factory.mktemp("models") / "islets")


@pytest.fixture
def cells():
    """Cells of one donor, without labels."""
    adata = islets().adata
    adata = adata[adata.obs["donor"] == "human4"].copy()
    adata.obs = adata.obs[[]]
    return adata


@pytest.fixture
def make_panel():
    made = []

    def make(*given, names=None, **options) -> AnnotatePanel:
        made.append(AnnotatePanel(*given, names=names or {}, **options))
        made[-1].settle(60)
        return made[-1]

    yield make
    for panel in made:
        panel.cancel()
        panel._task.join(60)
        panel.settle(60)
        panel.close()


@pytest.fixture
def gate(monkeypatch):
    """Holds every annotation back until it is set; a cancel is heard then."""
    event, annotate = threading.Event(), module.annotate

    def wait_and_annotate(*given, **options):
        assert event.wait(60)
        return annotate(*given, **options)

    monkeypatch.setattr(module, "annotate", wait_and_annotate)
    yield event
    event.set()


def shown(panel) -> str:
    return html.unescape("\n".join(widget.value for widget in walk(panel) if isinstance(widget, HTML)))


def tab(panel, name: str) -> str:
    panel.settle(60)
    return html.unescape(panel.results._shown[name].value)


def test_new_panel_says_what_is_missing(make_panel):
    panel = make_panel()
    assert (panel.state, panel.annotation, panel.error, panel.model) == ("idle", None, None, None)
    assert control(panel, "Annotate").disabled
    assert control(panel, "Annotate").tooltip == "Choose from the list Model."
    with pytest.raises(FrostlineError, match="Choose from the list Model"):
        panel.run(wait=True)


def test_anndata_of_the_notebook_gets_labels_in_place(make_panel, model, cells):
    panel = make_panel(names={"islets": model, "donor": cells, "other": 3})
    control(panel, "Model").value = "notebook islets"
    control(panel, "Cells").value = "notebook donor"
    found = panel.run(wait=True)
    assert panel.state == "done"
    assert found is panel.annotation
    assert cells.obs["frostline"].astype(str).tolist() == found.obs["frostline"].astype(str).tolist()
    expected = annotating.annotate(model, islets()).obs.loc[cells.obs_names]
    assert found.obs["frostline"].astype(str).tolist() == expected["frostline"].astype(str).tolist()
    assert "Done: 23 cells have labels; they are in obs['frostline']." in shown(panel)


def test_a_loaded_data_set_is_read_as_it_was_loaded(make_panel, model):
    panel = make_panel(model, islets())
    assert all(control(panel, name).disabled for name in ("Layer", "Values", "Gene names"))
    assert len(panel.run(wait=True)) == 175


def test_folder_and_file_give_the_same_labels_and_leave_the_file_as_it_is(make_panel, model, folder, cells, tmp_path):
    cells.write_h5ad(tmp_path / "new.h5ad")
    before = (tmp_path / "new.h5ad").read_bytes()
    panel = make_panel(folder, tmp_path / "new.h5ad", key="type")
    found = panel.run(wait=True)
    assert found.obs["type"].tolist() == annotating.annotate(model, cells, "type").obs["type"].tolist()
    assert "the tab Save writes them into a file" in shown(panel)
    saved = anndata.read_h5ad(panel.save(tmp_path / "out.h5ad"))
    assert saved.obs["type"].astype(str).tolist() == found.obs["type"].astype(str).tolist()
    assert (tmp_path / "new.h5ad").read_bytes() == before


def test_labels_reasons_report_and_map_are_shown(make_panel, model, cells):
    panel = make_panel(model, cells)
    panel.run(wait=True)
    labels = tab(panel, "Labels")
    for name, n in zip(*(panel.annotation.report.facts[key] for key in ("labels", "cells")), strict=True):
        assert f"<td>{name}</td>" in labels
        assert f"<td>{n}</td>" in labels
    assert model.calibration.certificate.sentence in labels
    assert "far from training" in labels
    assert "like the training data?" in tab(panel, "Report")
    mapped = panel.results.map.mapped
    assert [view.name for view in mapped.views] == ["labelled", "likeliest class"]
    n_known = len(panel.annotation.landmarks.labels)
    assert mapped.columns[0].codes[n_known:].tolist() == [
        mapped.classes.index(label) for label in panel.annotation.obs[panel.annotation.key]
    ]
    assert mapped.views[1].front.tolist() == [False] * n_known + [True] * len(panel.annotation)
    assert mapped.names[n_known:] == tuple(panel.annotation.obs.index)
    assert [key for key, _ in mapped.colourings][:2] == ["label", "confidence"]


def test_it_is_said_where_no_cell_can_be_called_unknown(make_panel, model, cells):
    calibration = dataclasses.replace(model.calibration, alpha=0.01)
    panel = make_panel(dataclasses.replace(model, calibration=calibration), cells)
    panel.run(wait=True)
    assert "No cell can be called unknown: beside 175 labelled cells" in tab(panel, "Labels")


def test_unknown_cells_are_listed_the_strangest_first(make_panel, model, cells):
    counts = cells.X.toarray()
    counts[:5] = np.random.default_rng(0).permutation(counts[:5], axis=1)
    strange = anndata.AnnData(sparse.csr_matrix(counts), obs=cells.obs, var=cells.var)
    panel = make_panel(model, strange)
    panel.run(wait=True)
    obs = panel.annotation.obs
    unknown = obs[obs["frostline"] == "Unknown"].sort_values("frostline_p_known", kind="stable")
    assert set(strange.obs_names[:5]) <= set(unknown.index)
    listed = tab(panel, "Unknown")
    places = [listed.find(f"<td>{name}</td>") for name in unknown.index[:20]]
    assert -1 not in places
    assert places == sorted(places)


def test_names_by_ensembl_are_read(make_panel, model, cells):
    named = cells.copy()
    ids = ensembl_of(named.var_names.tolist())
    named.var_names = [ensembl or symbol for ensembl, symbol in zip(ids, named.var_names, strict=True)]
    named.var_names_make_unique()
    found = make_panel(model, named).run(wait=True)
    plain = annotating.annotate(model, cells).obs["frostline"].astype(str)
    assert (found.obs["frostline"].astype(str) == plain).mean() >= 0.95


def test_refused_cells_are_an_alert_and_the_panel_goes_on(make_panel, model, cells):
    mouse = cells.copy()
    mouse.var_names = [name.capitalize() for name in mouse.var_names]
    panel = make_panel(model, names={"mouse": mouse, "cells": cells})
    control(panel, "Cells").value = "notebook mouse"
    with pytest.raises(DatasetError, match="mouse"):
        panel.run(wait=True)
    assert panel.state == "failed"
    assert isinstance(panel.error, DatasetError)
    assert 'role="alert"' in shown(panel)
    assert "frostline" not in mouse.obs
    control(panel, "Cells").value = "notebook cells"
    assert len(panel.run(wait=True)) == 23
    assert panel.error is None


def test_cancel_writes_nothing_and_earlier_labels_stay(make_panel, model, cells, gate):
    other = cells.copy()
    panel = make_panel(model, names={"cells": cells, "other": other})
    control(panel, "Cells").value = "notebook cells"
    gate.set()
    first = panel.run(wait=True)
    gate.clear()
    control(panel, "Cells").value = "notebook other"
    panel.run()
    assert panel.state == "running"
    panel.cancel()
    gate.set()
    with pytest.raises(Cancelled):
        panel.wait(60)
    assert panel.state == "cancelled"
    assert "frostline" not in other.obs
    assert panel.annotation is first
    assert "Earlier labels stay" in shown(panel)


def test_fields_are_locked_during_a_run(make_panel, model, cells, gate):
    panel = make_panel(model, cells)
    fields = ["Model", "Cells", "Key", "Layer", "Values", "Gene names", "Annotate"]
    panel.run()
    assert all(control(panel, name).disabled for name in fields)
    assert not control(panel, "Cancel").disabled
    with pytest.raises(FrostlineError, match="being annotated"):
        panel.run()
    gate.set()
    panel.wait(60)
    assert not any(control(panel, name).disabled for name in fields)
    assert control(panel, "Cancel").disabled


def test_labels_of_others_are_replaced_only_when_asked(make_panel, model, cells):
    cells.obs["frostline"] = "mine"
    panel = make_panel(model, cells)
    with pytest.raises(DatasetError, match="stands there already"):
        panel.run(wait=True)
    assert set(cells.obs["frostline"]) == {"mine"}
    assert "choose another Key, such as frostline_2, or tick Replace labels under this key" in shown(panel)
    control(panel, "Replace labels under this key").value = True
    panel.run(wait=True)
    control(panel, "Replace labels under this key").value = False
    panel.run(wait=True)  # its own
    assert "mine" not in set(cells.obs["frostline"])
    assert len(make_panel(model, cells, overwrite=True).run(wait=True)) == 23


def test_its_own_labels_are_replaced_whatever_it_wrote_since(make_panel, model, cells):
    panel = make_panel(model, names={"one": cells, "two": cells.copy()})
    for name, key in (("one", "frostline"), ("one", "other"), ("two", "frostline"), ("one", "frostline")):
        control(panel, "Cells").value = f"notebook {name}"
        control(panel, "Key").value = key
        assert len(panel.run(wait=True)) == 23


def test_changed_choice_marks_the_labels_until_it_is_set_back(make_panel, model, cells):
    panel = make_panel(model, cells)
    panel.run(wait=True)
    control(panel, "Key").value = "other"
    assert "Changed since: key" in shown(panel)
    control(panel, "Key").value = "frostline"
    assert "Changed since" not in shown(panel)


def test_layer_that_the_look_recommends_is_taken(make_panel, model, cells):
    cells.layers["counts"] = cells.X.copy()
    dense = cells.X.toarray()
    cells.X = (dense - dense.mean(axis=0)).astype(np.float32)
    panel = make_panel(model, cells)
    assert control(panel, "Layer").value == "counts"
    assert len(panel.run(wait=True)) == 23


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "type the path"), ("nowhere", "no folder that holds a model.json"), (".", "it holds no model.json")],
)
def test_folder_that_holds_no_model_is_said_as_it_is_typed(make_panel, tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    panel = make_panel()
    control(panel, "Model").value = "path"
    control(panel, "Folder").value = text
    assert said in panel.problem
    assert said in shown(panel)


def test_altered_model_is_refused_by_name(make_panel, model, cells, tmp_path):
    place = model.save(tmp_path / "model")
    weights = next(path for path in place.iterdir() if path.suffix == ".safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    panel = make_panel(place, cells)
    assert panel.model is None
    assert "has been altered" in shown(panel)
    assert "could not be loaded" in panel.problem
    with pytest.raises(FrostlineError):
        panel.run(wait=True)
    assert panel.state == "idle"


def test_names_in_the_data_stay_text(make_panel, model, cells):
    cells.obs_names = [f"<b>{i}</b>" for i in range(cells.n_obs)]
    counts = cells.X.toarray()
    counts[:3] = 0
    cells.X = sparse.csr_matrix(counts)
    panel = make_panel(model, cells)
    panel.run(wait=True)
    panel.settle(60)
    assert "<b>0</b>" not in panel.results._shown["Unknown"].value
    assert "&lt;b&gt;0&lt;/b&gt;" in panel.results._shown["Unknown"].value


def test_save_says_why_it_does_not_write(make_panel, model, cells, tmp_path):
    cells.write_h5ad(tmp_path / "new.h5ad")
    panel = make_panel(model, tmp_path / "new.h5ad")
    with pytest.raises(FrostlineError, match="no labels to save"):
        panel.save(tmp_path / "out.h5ad")
    panel.run(wait=True)
    control(panel, "Save as").value = str(tmp_path / "out.h5ad")
    control(panel, "Save").click()
    panel.settle(60)
    assert f"Written: {tmp_path / 'out.h5ad'}" in shown(panel)
    control(panel, "Save").click()
    panel.settle(60)
    assert "is there already" in shown(panel)


def test_model_without_reference_cells_says_so_on_the_map(make_panel, cells):
    bare = model_of(islets(), PcaLogistic(n_hvg=300, n_components=10), reference_cells=0)
    panel = make_panel(bare, cells)
    panel.run(wait=True)
    panel.settle(60)
    assert "keeps no labelled cells" in panel.results.map.mapped.note


def test_look_again_finds_what_was_made_meanwhile(make_panel, model, cells):
    names = {"placeholder": 1}
    panel = make_panel(names=names)
    names["fresh"] = cells
    names["kept"] = model
    for button in [w for w in walk(panel) if getattr(w, "description", None) == "Look again"]:
        button.click()
    assert "notebook fresh" in dict(control(panel, "Cells").options).values()
    assert "notebook kept" in dict(control(panel, "Model").options).values()


def test_error_of_a_model_that_is_no_model(make_panel, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    panel = make_panel(tmp_path / "model")
    assert ModelError.__name__ in shown(panel)


def test_labels_that_cannot_be_shown_end_the_run_with_the_reason(make_panel, model, cells, monkeypatch):
    panel = make_panel(model, cells)
    with monkeypatch.context() as patch:
        patch.setattr(type(panel.results), "notify_change", lambda _panel, _change: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            panel.run(wait=True)
    assert panel.state == "failed"
    assert "The cells have labels, which cannot be shown." in shown(panel)
    assert "division by zero" in shown(panel)
    panel.run(wait=True)
    assert panel.state == "done"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_run_of_which_nothing_can_be_shown_fails_with_the_reason(make_panel, model, cells, monkeypatch):
    panel, here, notify = make_panel(model, cells), threading.current_thread(), Widget.notify_change

    def cut_off(widget, change):
        if threading.current_thread() is not here:
            raise OSError("nothing can be sent to the browser")
        notify(widget, change)

    with monkeypatch.context() as patch:
        patch.setattr(Widget, "notify_change", cut_off)
        with pytest.raises(OSError, match="nothing can be sent to the browser"):
            panel.run(wait=True)
    assert panel.state == "failed"
    panel.run(wait=True)
    assert panel.state == "done"
