"""The results of a run or of a folder: tabs, figures, export."""

from __future__ import annotations

import html
import re

import pytest
from panel_parts import button, control, tab

import frostline
from frostline import report
from frostline.errors import FrostlineError
from frostline.panels import ResultPanel
from frostline.panels.results import NOTHING

pytestmark = pytest.mark.usefixtures("instant_umap_throughout", "instant_pictures_throughout", "short_training")


@pytest.mark.parametrize(
    ("name", "pictures"),
    [("Verdict", 1), ("Confusion", 1), ("Confidence", 2), ("Classes", 0), ("Costs", 0), ("Checks", 0)],
)
def test_every_tab_of_a_finished_run_is_drawn(finished, name, pictures):
    found = re.findall(r"<img [^>]*>", tab(finished, name))
    assert len(found) == pictures
    assert all(re.search(r'alt="[^"]{20,}"', picture) for picture in found)
    assert 'role="alert"' not in tab(finished, name)
    assert len(tab(finished, name)) > 100


def test_numbers_in_the_tabs_are_those_of_the_reports(finished):
    comparison = finished.comparison
    for name, frame in (
        ("Classes", report.class_metrics_table(comparison)),
        ("Costs", report.costs_table(comparison)),
        ("Confidence", report.calibration_table(comparison).iloc[:, :9]),
    ):
        cells = re.findall(r"<td>(.*?)</td>", tab(finished, name))
        wanted = [html.escape(str(value)) for value in frame.to_numpy().ravel()]
        assert cells[: len(wanted)] == wanted
    kept = report.calibration_table(comparison)
    kept = kept[["Strategy", *(name for name in kept if "%" in name)]]
    assert kept.shape[1] == 7
    assert cells[len(wanted) : len(wanted) + kept.size] == [
        html.escape(str(value)) for value in kept.to_numpy().ravel()
    ]
    sets = report.prediction_sets_table(comparison)
    assert cells[-sets.size :] == [html.escape(str(value)) for value in sets.to_numpy().ravel()]
    assert html.escape(report.sets_in_words(comparison)) in tab(finished, "Confidence")


class TestResultPanel:
    """A comparison, from memory or from a folder."""

    @pytest.fixture
    def comparison(self, make_record):
        records = [make_record(name, repeat=r) for name in ("head", "lora") for r in (0, 1)]
        return frostline.compare(records)

    def show(self, *arguments) -> ResultPanel:
        panel = ResultPanel(*arguments)
        panel.settle(60)
        return panel

    def test_it_shows_what_it_is_given(self, comparison):
        panel = self.show(comparison)
        assert comparison._repr_html_() in panel._shown["Verdict"].value
        assert not any('role="alert"' in shown.value for shown in panel._shown.values())

    def test_it_shows_a_folder_of_artifacts(self, save_artifacts, tmp_path):
        folder = save_artifacts(tmp_path / "run")
        panel = self.show(folder)
        assert panel.comparison == frostline.load_comparison(folder)
        assert self.show(str(folder)).comparison.strategies == ("pca_logistic", "head")

    def test_a_folder_without_a_comparison_is_an_error(self, tmp_path):
        with pytest.raises(FrostlineError, match="holds no comparison"):
            ResultPanel(tmp_path)

    def test_figures_follow_the_controls(self, comparison):
        panel = self.show(comparison)
        confusion = panel._shown["Confusion"]
        assert [view.name for view in panel.map.mapped.views] == [panel._left.value, panel._right.value]
        panel.map.selected = [1, 4]
        control(panel, "Left").value = panel._right.value
        panel.settle(60)
        assert [view.name for view in panel.map.mapped.views] == [panel._right.value]
        assert panel.map.cells == [comparison.records[0].cells[i] for i in (1, 4)]
        control(panel, "Numbers").value = True
        panel.settle(60)
        assert "in percent of the true class" in confusion.value
        control(panel, "Strategy").value = "lora"
        panel.settle(60)
        assert "Confusion matrix of lora" in confusion.value

    def test_where_javascript_is_off_its_maps_are_a_picture(self, comparison):
        panel = self.show(comparison)
        pair = f"{panel._left.value} and {panel._right.value}"
        found = panel.still().data
        assert found.startswith("<noscript><img ")
        assert f'alt="UMAPs of the test cells by true class, as {pair} represent them"' in found
        assert found.endswith("></noscript>")
        with pytest.raises(FrostlineError, match="no results to draw yet"):
            ResultPanel().still()

    def test_without_a_comparison_the_map_is_closed(self, comparison):
        panel = self.show(comparison)
        shown = panel.map
        panel.comparison = None
        assert panel.map is None
        assert shown.comm is None
        assert panel._shown["Maps"].value == NOTHING

    def test_label_efficiency_and_unknown_cells_are_shown_where_they_were_measured(self, comparison, make_record):
        assert "Not measured" in self.show(comparison)._shown["Labels"].value
        records = [make_record("head"), make_record("head", budget=5), make_record("head", budget=10)]
        assert self.show(frostline.compare(records))._shown["Labels"].value.count("<img") == 1

    def test_export_writes_a_folder_that_passes_its_check(self, comparison, tmp_path):
        panel = self.show(comparison)
        control(panel, "Folder").value = str(tmp_path / "out")
        button(panel, "Export").click()
        panel.settle(60)
        assert frostline.artifacts.check(tmp_path / "out").passed
        assert "passed: " in panel._exported.value
        assert frostline.load_comparison(tmp_path / "out").records == comparison.records

    def test_export_into_the_home_folder_is_there_and_can_be_downloaded(self, comparison, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.chdir(tmp_path)
        panel = self.show(comparison)
        control(panel, "Folder").value = "~/out"
        button(panel, "Export").click()
        panel.settle(60)
        assert frostline.artifacts.check("~/out").passed
        assert frostline.load_comparison("~/out").records == comparison.records
        assert panel._kept_in == (tmp_path / "home" / "out").resolve()
        assert [path.name for path in tmp_path.iterdir()] == ["home"]

    def test_export_into_a_folder_of_other_files_is_refused(self, comparison, tmp_path):
        (tmp_path / "thesis.txt").write_text("precious")
        panel = self.show(comparison)
        control(panel, "Folder").value = str(tmp_path)
        button(panel, "Export").click()
        panel.settle(60)
        assert 'role="alert"' in panel._exported.value
        assert (tmp_path / "thesis.txt").read_text() == "precious"

    def test_without_results_export_is_out_of_use_and_says_why(self):
        panel = ResultPanel()
        assert button(panel, "Export").disabled
        assert "no results" in button(panel, "Export").tooltip
        with pytest.raises(FrostlineError, match="no results to export"):
            panel.export()

    def test_while_records_are_on_their_way_a_tab_is_drawn_when_it_is_open_or_opened(self, comparison):
        panel = ResultPanel()
        panel.growing, panel.comparison = True, comparison
        panel.settle(60)
        drawn = [name for name, shown in panel._shown.items() if shown.value != NOTHING]
        assert drawn == ["Verdict"]
        panel._tabs.selected_index = panel._tabs.titles.index("Costs")
        panel.settle(60)
        assert "Peak memory" in panel._shown["Costs"].value
        assert panel._shown["Maps"].value == NOTHING
        panel.growing = False
        panel.settle(60)
        assert all(shown.value != NOTHING for shown in panel._shown.values())

    def test_one_tab_that_fails_leaves_the_others(self, comparison, monkeypatch):
        monkeypatch.setattr(report, "costs_table", lambda _: 1 / 0)
        panel = self.show(comparison)
        assert "Costs cannot be drawn" in panel._shown["Costs"].value
        assert 'role="alert"' not in panel._shown["Checks"].value
