"""StudyPanel: what was run once more, with fewer labels or with a class withheld."""

from __future__ import annotations

import ipywidgets as widgets
import traitlets

from frostline.comparison.jobs import alone
from frostline.comparison.outcomes import Ran
from frostline.errors import Cancelled, FrostlineError
from frostline.evaluation.estimates import duration
from frostline.evaluation.evaluations import label_efficiency, leave_one_class_out
from frostline.lists import list_of
from frostline.panels.base import Panel, alert, at_most, wide
from frostline.panels.progress import WorkProgress
from frostline.records import Record

NOT_HERE = "The strategies of these results are not in this session: run them here to study them"
FEWEST = 2
"""Labelled cells of a class: one that trains, one that validates."""


class StudyPanel(Panel):
    """Ask how many labels are enough, and whether cells of an unknown class stand out.

    Attributes
    ----------
    ran
        What is studied: strategies, data set and splits of a run; None where they are not at hand.
    waiting
        Why nothing can be studied for the moment, such as a run; empty when something can.
    running
        Whether a study is under way. To be observed.
    found
        Records of the last study. To be observed.

    Examples
    --------
    >>> panel = StudyPanel()
    >>> panel.problem
    'The strategies of these results are not in this session: run them here to study them'
    """

    ran = traitlets.Instance(Ran, allow_none=True)
    waiting = traitlets.Unicode("")
    running = traitlets.Bool(False)
    found = traitlets.Tuple()

    def __init__(self) -> None:
        self._said, self._progress = "", WorkProgress(tooltip="Progress of the study")
        self._budgets = widgets.Text(
            value="5, 20", description="Labels", layout=at_most(290),
            tooltip="Labelled cells of each class, validation included; numbers with commas, none to leave it out",
        )  # fmt: skip
        self._withhold = widgets.Checkbox(
            value=False, indent=False, layout=wide(), description="Also withhold one class at a time",
            tooltip="Do cells of a class that was never taught stand out? For strategies on an embedding",
        )  # fmt: skip
        self.button = widgets.Button(description="Measure", icon="play", layout=wide())
        self.cancel_button = widgets.Button(description="Cancel", icon="stop", layout=wide())
        row = widgets.Layout(flex_flow="row wrap", align_items="center")
        controls = widgets.HBox([self._budgets, self._withhold, self.button, self.cancel_button], layout=row)
        super().__init__([controls, self._progress.bar, self._progress.words], "frostline-study-panel")
        self.button.on_click(lambda _: self._clicked())
        self.cancel_button.on_click(lambda _: self.cancel())
        self.observe(lambda _: self._enable(), ["ran", "waiting", "running"])
        for control in (self._budgets, self._withhold):
            control.observe(lambda _: self._enable(), "value")
        self._enable()

    @property
    def budgets(self) -> list[int]:
        """Labelled cells of each class that are tried.

        Raises
        ------
        FrostlineError
            The field holds something else than whole numbers of two or more.
        """
        items = list_of(self._budgets.value)
        if not all(item.isdecimal() and int(item) >= FEWEST for item in items):
            raise FrostlineError(
                f"Labels is {self._budgets.value!r}, and must be whole numbers of {FEWEST} or more, with commas: 5, 20"
            )
        return sorted({int(item) for item in items})

    @property
    def problem(self) -> str:
        """Why nothing can be studied; empty when something can."""
        if self.waiting:
            return self.waiting
        if self.ran is None:
            return NOT_HERE
        try:
            nothing = not self.budgets and not self._withhold.value
        except FrostlineError as error:
            return str(error)
        return "Name numbers of labels, or tick what is withheld" if nothing else ""

    def cancel(self) -> None:
        """Stop within the current batch; nothing is added to the results then."""
        self._progress.stop.set()
        if self.running:
            self._progress.say("Stopping after the current batch ...")

    def _enable(self) -> None:
        problem = self.problem
        self.button.disabled = self.running or bool(problem)
        self.button.tooltip = "A study is under way; cancel it first" if self.running else problem or "Measure it"
        self.cancel_button.disabled = not self.running
        self.cancel_button.tooltip = "Stop within the current batch" if self.running else "Nothing is being measured"
        for control in (self._budgets, self._withhold):
            control.disabled = self.running
        self._progress.bar.layout.display = None if self.running or self._said else "none"
        if not self.running:
            self._progress.say(f"{problem}." if problem else self._said or self._price())

    def _price(self) -> str:
        """How much work a study with fewer labels is, by what the run with all of them took."""
        assert self.ran is not None  # else there is a problem
        took = sum(record.cost.total_seconds for record in self.ran.comparison.records)
        n, budgets = len(self.ran.strategies) * len(self.ran.splits), len(self.budgets)
        return f"{n * budgets} evaluations, at most about {duration(took * budgets)}." if budgets else ""

    def _clicked(self) -> None:
        if self.running or self.problem:
            return
        self._alert.value = ""
        self._progress.begin()
        self.running = True
        self.background.do("study", self._work)

    def _work(self) -> None:
        try:
            with alone():
                records = self._records()
            self.set_trait("found", tuple(records))
        except Cancelled:
            self._ended("cancelled", "Cancelled; nothing was added.")
        except Exception as error:  # shown where the reader looks
            self._ended("failed", "Nothing was added.")
            self._alert.value = alert(error)
        else:
            self._ended("done", f"Done: {len(records)} evaluations.")
        finally:
            self.running = False

    def _records(self) -> list[Record]:
        ran, budgets = self.ran, self.budgets
        assert ran is not None  # else the button is out of use
        parts = bool(budgets) + bool(self._withhold.value)
        records: list[Record] = []
        if budgets:
            monitor = self._progress.monitor.part(0.0, 1 / parts)
            records += label_efficiency(ran.strategies, ran.dataset, ran.splits, budgets=budgets, monitor=monitor)
        if self._withhold.value:
            monitor = self._progress.monitor.part(1 - 1 / parts, 1.0)
            quick = ran.splits[0].profile.name == "quickstart"
            fixed = [each for each in ran.strategies if each.on_embedding]
            records += leave_one_class_out(fixed, ran.dataset, ran.splits[:2] if quick else ran.splits, monitor=monitor)
        return records

    def _ended(self, how: str, words: str) -> None:
        self._said = words
        self._progress.end(how, words)

    def _stop(self) -> None:
        self._progress.stop.set()
