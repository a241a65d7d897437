"""ResultPanel: everything that a Comparison can show, one tab a question."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import ipywidgets as widgets
import traitlets

from frostline.artifacts import checking, exports
from frostline.artifacts.archive import load_comparison
from frostline.cells.datasets import Dataset
from frostline.comparison import figures, report
from frostline.comparison.comparisons import Comparison
from frostline.errors import ArtifactError
from frostline.escaping import for_html
from frostline.panels.base import Panel, alert, at_most, findings_html, note, replace_earlier, status, table, title
from frostline.panels.cellmap import CellMap
from frostline.panels.downloading import MOST_BYTES, Download, zipped
from frostline.panels.keep import KeepPanel
from frostline.panels.mapped import default_pair, of_comparison
from frostline.panels.study import StudyPanel
from frostline.panels.wording import held_out_of

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

DPI = 96
"""Of pictures in the panel; those on disk are finer."""
NOTHING = "<p>No results yet: press Run.</p>"


class ResultPanel(Panel):
    """Show a comparison: verdict, maps, confusion, classes, probabilities, labels, costs, checks; keep a model; export.

    Parameters
    ----------
    comparison
        What `compare` returned, or a folder of artifacts; None until the trait `comparison` is set.
    dataset
        What it was made on, if at hand: its fingerprint goes into what is exported, and a strategy can be kept.

    Attributes
    ----------
    comparison, dataset
        May be set at any time.
    map
        The CellMap of the tab Maps, whose `selected` and `cells` say what is selected; None until it is drawn.
    keeper
        The tab that makes a model of a strategy and keeps it.
    study
        What measures fewer labels and withheld classes, in the tab Labels.
    stale
        What has been changed since; shown above the results when not empty.
    partial
        What the results lack of what was asked for; shown above them when not empty.
    growing
        Whether more records are on their way: until they are there, a tab is drawn when it is open, or is opened.

    Raises
    ------
    ArtifactError
        The folder holds no comparison.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> record = frostline.evaluate(frostline.strategies.PcaLogistic(), pbmc, frostline.split(pbmc))
    >>> panel = ResultPanel(frostline.compare([record]))
    >>> panel.settle()
    >>> panel.comparison.best
    'pca_logistic'
    """

    comparison = traitlets.Instance(Comparison, allow_none=True)
    dataset = traitlets.Instance(Dataset, allow_none=True)
    stale = traitlets.Unicode("")
    partial = traitlets.Unicode("")
    growing = traitlets.Bool(False)

    def __init__(self, comparison: Comparison | str | Path | None = None, *, dataset: Dataset | None = None) -> None:
        self._shown: dict[str, widgets.HTML] = {}
        self._offered: dict[widgets.Dropdown, str] = {}
        """What was shown because nothing was chosen: a run's first strategies give way to better ones."""
        self.map: CellMap | None = None
        self._quiet = False
        self._later: set[str] = set()
        """Tabs that show an earlier comparison, and are drawn when they are opened or no more records come."""
        self.study = StudyPanel()
        self._make_controls()
        pages = self._pages()
        self._draw_page: dict[str, Callable[[Comparison], str]] = {name: draw for name, (_, draw) in pages.items()}
        self._boxes: dict[str, widgets.VBox] = {}
        for name, (controls, _) in pages.items():
            self._shown[name] = widgets.HTML(NOTHING)
            self._boxes[name] = widgets.VBox([*controls, self._shown[name]])
        self.keeper = KeepPanel()
        last = [self.keeper, self._export_box()]
        self._tabs = widgets.Tab([*self._boxes.values(), *last], titles=[*pages, "Keep", "Export"], selected_index=0)
        self._banner, self._part = widgets.HTML(), widgets.HTML()
        super().__init__([title("Results"), self._part, self._banner, self._tabs], "frostline-result-panel")
        for name in ("comparison", "dataset"):
            traitlets.dlink((self, name), (self.keeper, name))
        self.dataset = dataset
        self.observe(lambda _: self._new(), "comparison")
        self.observe(lambda _: self._mark(), ["stale", "partial", "comparison"])
        self.observe(lambda _: self._grow(), "growing")
        self._tabs.observe(lambda _: self._catch_up(), "selected_index")
        if comparison is not None:
            found = comparison if isinstance(comparison, Comparison) else load_comparison(comparison)
            self.comparison = found
        replace_earlier(self)

    def _make_controls(self) -> None:
        def pick(description: str, tooltip: str, redraw: str) -> widgets.Dropdown:
            control = widgets.Dropdown(description=description, tooltip=tooltip, layout=at_most(300))
            control.observe(lambda _: self._redraw(redraw), "value")
            return control

        self._left = pick("Left", "Strategy whose representation is mapped on the left", "Maps")
        self._right = pick("Right", "Strategy whose representation is mapped on the right", "Maps")
        self._confused = pick("Strategy", "Whose confusion matrix is shown", "Confusion")
        self._unit = pick("Numbers", "Cells, or percent of the true class", "Confusion")
        self._unit.options, self._unit.value = [("cells", False), ("percent of the true class", True)], False

    def _pages(self) -> dict[str, tuple[list[widgets.Widget], Callable[[Comparison], str]]]:
        """Title of each tab, its controls, and what draws it."""
        row = widgets.Layout(flex_flow="row wrap")
        return {
            "Verdict": ([], _verdict),
            "Maps": ([widgets.HBox([self._left, self._right], layout=row)], self._maps),
            "Confusion": ([widgets.HBox([self._confused, self._unit], layout=row)], self._confusion),
            "Classes": ([], _classes),
            "Confidence": ([], _confidence),
            "Labels": ([self.study], _labels),
            "Costs": ([], _costs),
            "Checks": ([], _checks),
        }

    def _export_box(self) -> widgets.VBox:
        self._folder = widgets.Text(
            value="frostline-results", description="Folder", tooltip="Where the files go: a new or empty folder",
            layout=at_most(420),
        )  # fmt: skip
        self._export = widgets.Button(
            description="Export", icon="download", disabled=True, tooltip="There are no results to export yet"
        )
        self._download = widgets.Button(
            description="Download",
            icon="file-archive-o",
            disabled=True,
            tooltip="Export first; then it can be downloaded",
        )
        self._exported, self._kept_in = widgets.HTML(), Path()
        self._export.on_click(lambda _: self._export_clicked())
        self._download.on_click(lambda _: self._download_clicked())
        words = widgets.HTML(
            "<p>Records, predictions, tables, figures and a report; every number is then recomputed from the "
            "predictions. Download brings them to your own computer, as one ZIP.</p>"
        )
        buttons = widgets.HBox([self._export, self._download], layout=widgets.Layout(flex_flow="row wrap"))
        return widgets.VBox([words, self._folder, buttons, self._exported])

    def _new(self) -> None:
        """Offer the strategies of a new comparison and draw the tabs, the open one first."""
        comparison = self.comparison
        self._export.disabled = comparison is None
        self._export.tooltip = (
            "There are no results to export yet" if comparison is None else "Write and check the files"
        )
        self._exported.value = ""
        self._offer_download(None)
        self._later.clear()
        if comparison is None:
            for name, shown in self._shown.items():
                self.background.drop(name)
                shown.value = NOTHING
            self._drop_map()
            return
        self._quiet = True
        names = comparison.strategies
        left, right = default_pair(comparison)
        first = {self._left: left, self._right: right, self._confused: comparison.best}
        for control, value in first.items():
            chosen = control.value if control.value != self._offered.get(control) else None
            control.options = list(names)
            control.value = chosen if chosen in names else value
            self._offered[control] = value
        self._quiet = False
        self._later.update(self._shown)
        self._catch_up()

    def _grow(self) -> None:
        self.study.waiting = "A run is under way" if self.growing else ""
        self._catch_up()

    def _catch_up(self) -> None:
        """Draw the open tab if it shows an earlier comparison, and the others when no more records are to come."""
        opened = dict(enumerate(self._shown)).get(self._tabs.selected_index)
        for name in sorted(self._shown, key=lambda name: name != opened):
            if name in self._later and (name == opened or not self.growing):
                self._later.discard(name)
                self._draw(name)

    def _redraw(self, name: str) -> None:
        if not self._quiet:
            self._draw(name)

    def _draw(self, name: str) -> None:
        """Draw a tab beside the notebook's thread."""
        comparison = self.comparison
        if comparison is None:
            return

        def draw() -> None:
            if self.comparison is not comparison:
                return
            try:
                self._shown[name].value = self._draw_page[name](comparison)
            except Exception as error:  # one tab must not take the others with it
                self._shown[name].value = alert(error, f"{name} cannot be drawn")

        self.background.do(name, draw)

    def _mark(self) -> None:
        text = (
            f"These results are of earlier settings. Changed since: {self.stale}. Press Run to bring them up to date."
        )
        self._banner.value = note(text, "stale") if self.stale and self.comparison is not None else ""
        words = f"Partial results, partial verdict. {self.partial} The verdict is of what has finished, and may change."
        self._part.value = note(words, "partial") if self.partial and self.comparison is not None else ""

    # ------------------------------------------------------------------ what the tabs show

    def _maps(self, comparison: Comparison) -> str:
        """Show the map; it has all words that there are, so that none are left for the tab."""
        found = of_comparison(comparison, self._left.value, self._right.value)
        if self.map is None:
            self.map = CellMap()
            self._boxes["Maps"].children += (self.map,)
        self.map.take(found)
        return ""

    def _drop_map(self) -> None:
        if self.map is not None:
            self._boxes["Maps"].children = self._boxes["Maps"].children[:-1]
            self.map.close()
            self.map = None

    def _confusion(self, comparison: Comparison) -> str:
        unit = "in percent of the true class" if self._unit.value else "in cells"
        alt = f"Confusion matrix of {self._confused.value} on the test cells, {unit}"
        figure = figures.confusion_figure(comparison, self._confused.value, percent=self._unit.value)
        return _picture(figure, alt)

    def still(self) -> HTML:
        """Return the maps of the tab Maps as a picture that shows where JavaScript is off, such as on a published page.

        Raises
        ------
        ArtifactError
            There are no results yet.
        """
        from IPython.display import HTML

        if self.comparison is None:
            raise ArtifactError("there are no results to draw yet; run the strategies first")
        return HTML(still_html(self.comparison, self._left.value, self._right.value))  # type: ignore[no-untyped-call]

    # ------------------------------------------------------------------ export

    def export(self, folder: str | Path | None = None) -> checking.CheckResult:
        """Write all files of the comparison into a folder, and check them.

        Parameters
        ----------
        folder
            By default what the panel's field says.

        Raises
        ------
        ArtifactError
            The folder holds something else; there is nothing to export; or the check fails.
        """
        return self._export_to(folder or self._folder.value)[1]

    def _export_to(self, folder: str | Path) -> tuple[Path, checking.CheckResult]:
        if self.comparison is None:
            raise ArtifactError("there are no results to export yet; run the strategies first")
        where = exports.export(folder, self.comparison, self.dataset)
        return where, checking.check(where)

    def _export_clicked(self) -> None:
        folder = self._folder.value
        self._exported.value = status(f"Writing to {folder} ...")
        self._export.disabled = self._folder.disabled = True
        self._offer_download(None)

        def work() -> None:
            try:
                where, result = self._export_to(folder)
                self._exported.value = status(f"{where}: {result}")
                self._offer_download(where if result.passed else None)
            except Exception as error:  # shown where the reader looks
                self._exported.value = alert(error)
            finally:
                self._export.disabled, self._folder.disabled = self.comparison is None, False

        self.background.do("export", work)

    def _offer_download(self, folder: Path | None) -> None:
        """Let the folder that was exported last be downloaded; None where nothing was."""
        self._download.disabled = folder is None
        self._download.tooltip = "Export first; then it can be downloaded" if folder is None else f"{folder.name}.zip"
        self._kept_in = folder or Path()

    def _download_clicked(self) -> None:
        folder = self._kept_in
        if folder == Path():
            return
        self._exported.value = status(f"Packing {folder} ...")

        def work() -> None:
            try:
                data = zipped(folder)
            except OSError as error:
                self._exported.value = alert(error)
                return
            size = f"{folder.name}.zip, {len(data) / 1e6:,.1f} MB"
            if len(data) > MOST_BYTES:
                self._exported.value = status(f"{size}, is too large for the browser; the files are in {folder}")
                return
            Download(f"{folder.name}.zip", data)
            self._exported.value = status(f"{size}: given to the browser. The files are in {folder}, too.")

        self.background.do("download", work)


def still_html(comparison: Comparison, left: str, right: str) -> str:
    """Maps of two strategies for a page without JavaScript; small, since most readers never see them."""
    pair = list(dict.fromkeys([left, right]))
    alt = f"UMAPs of the test cells by true class, as {' and '.join(pair)} represent them"
    picture = figures.image_html(figures.umaps_figure(comparison, pair), alt, dpi=80, colours=32)
    return f"<noscript>{picture}</noscript>"


def _picture(figure: Figure, alt: str) -> str:
    return figures.image_html(figure, alt, dpi=DPI)


def _verdict(comparison: Comparison) -> str:
    picture = _picture(figures.interval_figure(comparison), "Macro-F1 of every strategy with its 95 % interval")
    sure = f"<p>{for_html(report.reading(comparison))}</p>"
    if comparison.tests:
        sure += table(report.tests_table(comparison), "Every pair on the same test cells", "numbers frostline-verdicts")
    tested = held_out_of(comparison)
    held = f"<p class='frostline-quiet'>{for_html(tested)}</p>" if tested else ""
    return f"{comparison._repr_html_()}{held}{picture}<details><summary>How sure is that?</summary>{sure}</details>"


def _classes(comparison: Comparison) -> str:
    return table(report.class_metrics_table(comparison), "F1 by class, mean over repeats; NA: no test cell")


def _confidence(comparison: Comparison) -> str:
    reliability = _picture(
        figures.reliability_figure(comparison), "Confidence against accuracy, before and after temperature scaling"
    )
    risk = _picture(figures.risk_coverage_figure(comparison), "Share of errors against the share of cells kept")
    numbers = report.calibration_table(comparison)
    kept = [name for name in numbers if name == "Strategy" or "%" in name]
    scores = table(numbers.drop(columns=kept[1:]), "Probabilities of the test cells")
    probabilities = scores + table(numbers[kept], "What a threshold of confidence buys")
    sets = table(report.prediction_sets_table(comparison), "Prediction sets of the test cells")
    return f"{reliability}{risk}{probabilities}{sets}<p>{for_html(report.sets_in_words(comparison))}</p>"


def _labels(comparison: Comparison) -> str:
    parts = []
    if comparison.budget_records:
        alt = "Macro-F1 against labelled cells per class, by strategy"
        parts.append(_picture(figures.label_efficiency_figure(comparison), alt))
        parts.append(table(report.label_efficiency_table(comparison), "Macro-F1 with its 95 % interval"))
    if comparison.unseen_records:
        alt = "AUROC with which cells of a withheld class stand out, by strategy"
        parts.append(_picture(figures.unknown_cells_figure(comparison), alt))
    if not parts:
        parts.append(
            "<p>Not measured in this comparison. Measure trains the strategies once more with a few labelled cells of "
            "each class, on the same test cells, and draws how the scores grow with the labels.</p>"
        )
    return "".join(parts)


def _costs(comparison: Comparison) -> str:
    costs = table(report.costs_table(comparison), "Means over repeats, as if each strategy had been run alone")
    return costs + table(report.searches_table(comparison), "What each was allowed to try, and chose", "words")


def _checks(comparison: Comparison) -> str:
    notes = "".join(f"<li>{for_html(text)}</li>" for text in comparison.notes)
    return findings_html(comparison.findings) + (f"<ul>{notes}</ul>" if notes else "")
