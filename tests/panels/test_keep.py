"""KeepPanel: the tab of the results in which a strategy becomes a model in a folder."""

from __future__ import annotations

import threading

import pytest

import frostline
from frostline.annotation import adapting
from frostline.errors import FrostlineError
from frostline.panels import ResultPanel
from frostline.panels.keep import NO_DATA, NO_RESULTS, KeepPanel
from frostline.strategies import PcaLogistic, build

pytestmark = pytest.mark.usefixtures("instant_umap_throughout", "instant_pictures_throughout")


@pytest.fixture(scope="module")
def compared(three_kinds, instant_umap_throughout):
    cut = frostline.split(three_kinds)
    return frostline.compare([frostline.evaluate(s, three_kinds, cut) for s in build(["majority", "pca_logistic"])])


@pytest.fixture
def panel(compared, three_kinds, tmp_path):
    panel = ResultPanel(compared, dataset=three_kinds)
    panel.settle(60)
    panel.keeper._folder.value = str(tmp_path / "model")
    yield panel
    panel.close()


def test_the_recommended_strategy_is_kept_where_the_folder_field_says(panel, tmp_path, three_kinds):
    keeper = panel.keeper
    assert keeper._strategy.value == "pca_logistic"
    assert ("pca_logistic (recommended)", "pca_logistic") in keeper._strategy.options
    keeper.button.click()
    panel.settle(60)
    assert f"Kept: pca_logistic, in {tmp_path / 'model'}." in keeper._progress.words.value
    assert keeper.model.calibration.certificate.sentence in keeper._shown.value
    assert (keeper._progress.bar.value, keeper._progress.bar.bar_style) == (1.0, "success")
    assert not keeper.button.disabled
    again = frostline.load_model(keeper.folder)
    assert again.strategy.parameters == PcaLogistic().parameters
    assert again.card["dataset"]["sha256"] == three_kinds.fingerprint()


@pytest.mark.parametrize(("has_data", "said"), [(True, NO_RESULTS), (False, NO_DATA)])
def test_the_button_is_out_of_use_and_says_why(compared, three_kinds, has_data, said):
    panel = ResultPanel(None if has_data else compared, dataset=three_kinds if has_data else None)
    panel.settle(60)
    assert panel.keeper.button.disabled
    assert panel.keeper.button.tooltip == said
    assert said in panel.keeper._progress.words.value
    with pytest.raises(FrostlineError, match=said.split(":")[0]):
        panel.keeper.keep()
    panel.comparison, panel.dataset = compared, three_kinds
    panel.settle(60)
    assert not panel.keeper.button.disabled
    assert said not in panel.keeper._progress.words.value
    panel.close()


def test_a_folder_of_something_else_is_refused_before_any_work(panel, tmp_path, monkeypatch):
    monkeypatch.setattr(adapting, "fit_all", lambda *_, **__: pytest.fail("work was done"))
    (tmp_path / "thesis.txt").write_text("precious")
    panel.keeper._folder.value = str(tmp_path)
    panel.keeper.button.click()
    panel.settle(60)
    assert "holds thesis.txt and is not overwritten" in panel.keeper._shown.value
    assert 'role="alert"' in panel.keeper._shown.value
    assert "Nothing was kept." in panel.keeper._progress.words.value
    assert not panel.keeper.button.disabled


def test_it_can_be_cancelled_and_nothing_is_written(panel, tmp_path, monkeypatch):
    begun, go, fit = threading.Event(), threading.Event(), PcaLogistic.fit

    def wait_and_fit(self, dataset, split, monitor=None):
        begun.set()
        assert go.wait(60)
        return fit(self, dataset, split, monitor)

    monkeypatch.setattr(PcaLogistic, "fit", wait_and_fit)
    keeper = panel.keeper
    keeper.button.click()
    assert begun.wait(60)
    assert keeper.button.disabled
    assert not keeper.cancel_button.disabled
    keeper.button.click()  # a second click, sent before the browser had learnt of the first
    keeper.cancel_button.click()
    assert "Stopping" in keeper._progress.words.value
    go.set()
    panel.settle(60)
    assert "Cancelled; nothing was written." in keeper._progress.words.value
    assert list(tmp_path.iterdir()) == []
    assert not keeper.button.disabled
    keeper.button.click()
    panel.settle(60)
    assert "Kept" in keeper._progress.words.value


def test_another_choice_than_the_recommended_one_stays_chosen(panel, compared):
    panel.keeper._strategy.value = "majority"
    panel.comparison = frostline.compare(list(compared.records))
    panel.settle(60)
    assert panel.keeper._strategy.value == "majority"
    panel.keeper.button.click()
    panel.settle(60)
    assert "majority learns nothing" in panel.keeper._shown.value


def test_its_own_choice_follows_each_comparison(make_record):
    """After the first split the other strategy leads."""
    worse, better = make_record("head", skill=0.2), make_record("lora", skill=6.0)
    others = [make_record(name, repeat=r, skill=s) for name, s in (("head", 9.0), ("lora", 0.1)) for r in (1, 2, 3, 4)]
    keeper = KeepPanel()
    keeper.comparison = frostline.compare([worse, better])
    assert keeper._strategy.value == "lora"
    whole = frostline.compare([worse, better, *others])
    keeper.comparison = whole
    assert keeper._strategy.value == whole.best == "head"
    fresh = KeepPanel()
    fresh.comparison = whole
    assert keeper._strategy.options == fresh._strategy.options
    keeper.close()
    fresh.close()


def test_without_anything_it_says_what_is_missing():
    keeper = KeepPanel()
    assert keeper.problem == NO_RESULTS
    keeper.close()
