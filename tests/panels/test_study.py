"""StudyPanel and the download: what the tabs Labels and Export do beyond showing."""

from __future__ import annotations

import io
import threading
import zipfile

import pytest

import frostline
from frostline.errors import FrostlineError
from frostline.panels import AnnotationPanel, ResultPanel
from frostline.panels.downloading import Download
from frostline.panels.study import NOT_HERE
from frostline.strategies import PcaKnn

pytestmark = pytest.mark.usefixtures("instant_umap_throughout", "instant_pictures_throughout")


@pytest.fixture
def panel(three_kinds, small_checkpoint, fresh, worked_out):
    dataset = fresh(three_kinds, cache=dict(worked_out))
    panel = AnnotationPanel(dataset, strategies=["majority", "pca_knn"], checkpoint=str(small_checkpoint))
    panel.run(wait=True)
    yield panel
    panel.cancel()
    panel.results.study.cancel()
    panel.settle(60)
    panel.close()


@pytest.fixture
def gate(monkeypatch):
    """Holds every fit of the neighbours back until it is set."""
    event, fit = threading.Event(), PcaKnn.fit
    monkeypatch.setattr(PcaKnn, "fit", lambda self, *rest: event.wait(60) and fit(self, *rest))
    yield event
    event.set()


def test_the_button_measures_and_the_tab_shows_it(panel):
    study = panel.results.study
    assert "4 evaluations, at most about" in study._progress.words.value
    study._budgets.value, study._withhold.value = "5, 10", True
    study.button.click()
    panel.settle(100)
    assert "Done: 10 evaluations" in study._progress.words.value  # 2 strategies x 2 numbers, and 2 x 3 classes
    comparison = panel.comparison
    assert {(r.strategy, r.budget) for r in comparison.budget_records} == {
        (name, budget) for name in ("majority", "pca_knn") for budget in (5, 10)
    }
    assert {record.unseen for record in comparison.unseen_records} == set(comparison.classes)
    assert panel.results._shown["Labels"].value.count("<img") == 2
    assert panel.latest().comparison is comparison


def test_while_labels_are_studied_nothing_else_runs_and_the_fields_are_locked(panel, gate):
    study, plan = panel.results.study, panel.runner.plan
    study.button.click()
    assert panel.runner._buttons.run.disabled
    assert "Labels are studied" in panel.runner._buttons.run.tooltip
    assert all(w.disabled for w in (study._budgets, study._withhold, study.button, plan.controls.seed))
    with pytest.raises(FrostlineError, match="Labels are studied"):
        panel.run()
    study.cancel_button.click()
    gate.set()
    panel.settle(60)
    assert "Cancelled; nothing was added." in study._progress.words.value
    assert panel.comparison.budget_records == ()
    assert not any(w.disabled for w in (study._budgets, study.button, plan.controls.seed, panel.runner._buttons.run))


def test_while_a_model_is_made_nothing_else_runs_and_what_was_found_stays(panel, gate, tmp_path):
    keeper, found = panel.results.keeper, panel.comparison
    keeper._folder.value, keeper._strategy.value = str(tmp_path / "model"), "pca_knn"
    keeper.button.click()
    assert panel.runner._buttons.run.disabled
    assert "A model is being made" in panel.runner._buttons.run.tooltip
    with pytest.raises(FrostlineError, match="A model is being made; wait until that is over"):
        panel.run()
    keeper.cancel_button.click()
    gate.set()
    panel.settle(60)
    assert not panel.runner._buttons.run.disabled
    assert panel.comparison is found


def test_while_a_run_is_under_way_nothing_is_studied(panel, gate):
    panel.run()
    assert panel.results.study.button.disabled
    assert panel.results.study.problem == "A run is under way"
    gate.set()
    panel.wait(60)
    assert panel.results.study.problem == ""


def test_what_fails_is_said(panel, monkeypatch):
    monkeypatch.setattr(PcaKnn, "fit", lambda *_: 1 / 0)
    panel.results.study.button.click()
    panel.settle(60)
    assert "division by zero" in panel.results.study._alert.value
    assert "Nothing was added." in panel.results.study._progress.words.value
    assert not panel.results.study.running


def test_numbers_that_are_none_are_said_before(panel):
    study = panel.results.study
    for typed, said in (("five", "whole numbers of 2 or more"), ("1", "whole"), ("", "Name numbers")):
        study._budgets.value = "5"
        assert not study.button.disabled
        study._budgets.value = typed
        assert said in study._progress.words.value
        assert study.button.disabled


def test_results_from_elsewhere_cannot_be_studied(make_record):
    panel = ResultPanel(frostline.compare([make_record("head")]))
    assert panel.study.problem == NOT_HERE
    assert panel.study.button.disabled
    assert panel.study.button.tooltip == NOT_HERE


class TestDownload:
    @pytest.fixture
    def given(self, monkeypatch):
        """Files that the browser gets."""
        given = []
        monkeypatch.setattr("frostline.panels.results.Download", lambda *file: given.append(file))
        return given

    def test_the_exported_folder_is_given_as_one_zip(self, panel, given, tmp_path):
        results = panel.results
        assert results._download.disabled
        results._folder.value = str(tmp_path / "ours")
        results._export.click()
        panel.settle(60)
        assert not results._download.disabled
        results._download.click()
        panel.settle(60)
        ((name, data),) = given
        assert name == "ours.zip"
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.testzip() is None
            archive.extractall(tmp_path / "unpacked")
        assert frostline.artifacts.check(tmp_path / "unpacked" / "ours").passed

    def test_after_another_run_there_is_nothing_to_download(self, panel, given, tmp_path):
        panel.results._folder.value = str(tmp_path / "ours")
        panel.results._export.click()
        panel.settle(60)
        panel.run(wait=True)
        assert panel.results._download.disabled
        panel.results._download_clicked()
        assert given == []

    def test_what_is_too_large_is_said_with_its_place(self, panel, given, tmp_path, monkeypatch):
        monkeypatch.setattr("frostline.panels.results.MOST_BYTES", 10)
        panel.results._folder.value = str(tmp_path / "ours")
        panel.results._export.click()
        panel.settle(60)
        panel.results._download.click()
        panel.settle(60)
        assert given == []
        assert f"too large for the browser; the files are in {tmp_path / 'ours'}" in panel.results._exported.value

    def test_the_widget_lets_go_of_the_bytes_when_the_browser_has_them(self):
        widget = Download("a.zip", b"bytes")
        assert widget.get_state()["data"] == b"bytes"
        widget._handle_custom_msg({"kind": "saved"}, [])
        assert widget.comm is None
