"""AnnotationPanel: data, run and results in one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import traitlets

from frostline.artifacts.checking import CheckResult
from frostline.cells.datasets import Dataset
from frostline.comparison.comparisons import Comparison
from frostline.comparison.outcomes import Ran
from frostline.panels.base import Panel, replace_earlier
from frostline.panels.controls import First
from frostline.panels.data import DataPanel
from frostline.panels.results import ResultPanel
from frostline.panels.run import RunPanel
from frostline.records import Record
from frostline.strategies import checkpoint_of

if TYPE_CHECKING:
    from anndata import AnnData


class AnnotationPanel(Panel):
    """Compare annotation strategies: choose data, run, see who does what.

    Parameters
    ----------
    source
        A loaded data set, a registered name, the path of an .h5ad file, or an AnnData; None to choose in the panel.
    label_key, group_key, layer
        As for `load_dataset`; only for what is not loaded yet.
    strategies, profile, checkpoint, device, precision, seed
        What the controls show at first.
    split, repeats
        Kind of split and number of splits; by default what suits the data set, and the profile's number.

    Attributes
    ----------
    data, runner, results
        The three panels.
    dataset, state, records, comparison, error
        As of the three panels; all can be observed.

    Raises
    ------
    FrostlineError
        The profile, a strategy or the checkpoint is unknown.

    Examples
    --------
    >>> import frostline
    >>> panel = AnnotationPanel(frostline.load_dataset("pbmc68k-reduced"), strategies=["pca_logistic"])
    >>> panel.state
    'idle'
    >>> panel.close()
    """

    dataset = traitlets.Instance(Dataset, allow_none=True)
    state = traitlets.Enum(["idle", "running", "done", "failed", "cancelled"], default_value="idle")
    comparison = traitlets.Instance(Comparison, allow_none=True)
    records = traitlets.Tuple()
    error = traitlets.Instance(BaseException, allow_none=True)

    def __init__(
        self,
        source: Dataset | str | Path | AnnData | None = None,
        *,
        label_key: str | None = None,
        group_key: str | None = None,
        layer: str | None = None,
        strategies: Sequence[str] | None = None,
        **first: Unpack[First],
    ) -> None:
        self.runner = RunPanel(strategies=strategies, **first)
        checkpoint = self.runner.plan.controls.checkpoint.value
        self.data = DataPanel(source, label_key=label_key, group_key=group_key, layer=layer, checkpoint=checkpoint)
        self.results = ResultPanel()
        super().__init__([self.data, self.runner, self.results], "frostline-annotation-panel")
        traitlets.dlink((self.data, "dataset"), (self.runner, "dataset"))
        traitlets.dlink((self.data, "dataset"), (self, "dataset"))
        for name in ("records", "comparison", "error", "state"):
            traitlets.dlink((self.runner, name), (self, name))
        for name in ("stale", "partial"):
            traitlets.dlink((self.runner, name), (self.results, name))
        self.runner.observe(self._show, "comparison")
        self.runner.observe(self._lock, "state")
        for other in (self.results.study, self.results.keeper):
            other.observe(lambda _: self._wait_for_others(), "running")
        self.results.study.observe(lambda change: self.runner.add(change.new), "found")
        self.runner.plan.controls.checkpoint.observe(lambda change: self.data.use_checkpoint(change.new), "value")
        replace_earlier(self)

    def _show(self, change: Any) -> None:
        ran = self.runner.ran
        self.results.dataset = None if ran is None else ran.dataset
        self.results.keeper.checkpoint = None if ran is None else checkpoint_of(ran.strategies)
        self.results.study.ran = ran
        self.results.comparison = change.new

    def _lock(self, change: Any) -> None:
        """Keep the data as they are while they are worked on, and draw what is open until all results are there."""
        self.data.locked = self.results.growing = change.new == "running"

    def _wait_for_others(self) -> None:
        """Run nothing while labels are studied or a model is made: both would train at once."""
        if self.results.study.running:
            self.runner.busy = "Labels are studied; wait until that is over, or cancel it in the tab Labels"
        elif self.results.keeper.running:
            self.runner.busy = "A model is being made; wait until that is over, or cancel it in the tab Keep"
        else:
            self.runner.busy = ""

    def run(self, *, wait: bool = False, resume: bool | None = None, keep_going: bool = False) -> Comparison | None:
        """Run the ticked strategies, as `RunPanel.run` does; when waited for, everything is drawn in the end."""
        self.data.settle()
        try:
            return self.runner.run(wait=wait, resume=resume, keep_going=keep_going)
        finally:
            if wait:
                self.settle()

    def wait(self, timeout: float | None = None) -> Comparison:
        """Wait for the run and return its comparison, or raise what went wrong."""
        return self.runner.wait(timeout)

    def latest(self) -> Ran:
        """Return what was run last, in a cell or with the button, as `RunPanel.latest` does."""
        return self.runner.latest()

    def add(self, records: Iterable[Record]) -> None:
        """Put records with fewer labels, or with a class withheld, into what was run last, and show them."""
        self.runner.add(records)
        self.settle()

    def cancel(self) -> None:
        """Stop within the current batch; finished records are kept."""
        self.runner.cancel()

    def export(self, folder: str | Path) -> CheckResult:
        """Write all files of the comparison into a folder, and check them, as `ResultPanel.export` does."""
        return self.results.export(folder)
