"""PlanPanel: choose profile, split and strategies; see before the run what they cost, and why they cannot be run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Unpack

import ipywidgets as widgets
import numpy as np
import traitlets

from frostline.artifacts import runs
from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.comparison.jobs import Job
from frostline.errors import FrostlineError
from frostline.evaluation.journal import Journal
from frostline.panels.advanced import HyperParameters
from frostline.panels.base import Panel, alert, status
from frostline.panels.controls import First, RunControls
from frostline.panels.costs import TIMES, Costs
from frostline.panels.rows import StrategyRow
from frostline.panels.wording import for_panel, held_out
from frostline.strategies import STRATEGIES, ProbeObsm, Strategy, refuse_unusable_checkpoint, with_like_probes

MAP = 2
"""Columns of what is a picture of an embedding, such as X_umap, and no embedding to classify from."""


class PlanPanel(Panel):
    """Choose what is to be run.

    Parameters
    ----------
    profile, strategies, checkpoint, device, precision, seed, split, repeats
        What the controls show at first; by default or None what is usual.

    Attributes
    ----------
    dataset
        What it is run on; None until it is set.
    locked
        Whether the controls are out of use, as during a run.
    inputs
        All that decides the results, by the name that a reader knows it by. To be observed.
    refused
        Why what is chosen cannot be run; None when it can, or is still being looked at. To be observed.

    Raises
    ------
    FrostlineError
        The profile, a strategy or the checkpoint is unknown.

    Examples
    --------
    >>> panel = PlanPanel(strategies=["majority"])
    >>> panel.chosen, panel.problem
    (['majority'], 'Choose data first.')
    """

    dataset = traitlets.Instance(Dataset, allow_none=True)
    locked = traitlets.Bool(False)
    inputs = traitlets.Dict()
    refused = traitlets.Instance(FrostlineError, allow_none=True)

    def __init__(self, *, strategies: Sequence[str] | None = None, **first: Unpack[First]) -> None:
        self.controls = RunControls(**first)
        built = self.controls.build(strategies)
        refuse_unusable_checkpoint(self.controls.checkpoint.value, built)
        self._first = [each.name for each in built]
        self._about: dict[str, object] = {}
        self._costs = Costs()
        self._rows: dict[str, StrategyRow] = {}
        self._strategies, self.advanced = widgets.VBox([]), HyperParameters(self._changed)
        self._beside, self._held_out = widgets.HTML(), widgets.HTML()
        settings = widgets.HBox(self.controls.settings, layout=widgets.Layout(flex_flow="row wrap"))
        super().__init__(
            [
                settings,
                self._held_out,
                widgets.HTML(TIMES),
                self._strategies,
                self._beside,
                self.advanced,
                self.controls.resume,
            ],
            "frostline-plan-panel",
        )
        for control in self.controls.settings:
            control.observe(lambda _: self._changed(), "value")
        self.observe(lambda _: self._offer(), "dataset")
        self.observe(lambda _: self._lock(), "locked")
        self._offer()

    @property
    def chosen(self) -> list[str]:
        """Names of the ticked strategies."""
        return [name for name, row in self._rows.items() if row.box.value]

    @property
    def problem(self) -> str:
        """Why a run is not possible; empty when it is."""
        if self.dataset is None:
            return "Choose data first."
        if not self.chosen:
            return "Tick at least one strategy to run."
        return f"This cannot be run: {for_panel(str(self.refused))}" if self.refused else ""

    def prepared(self) -> tuple[list[Strategy], Dataset, list[Split]]:
        """Ticked strategies with their hyper-parameters and probes like them, the data set, and its splits.

        Raises
        ------
        FrostlineError
            What is chosen cannot be run.
        """
        dataset = self.dataset
        if dataset is None:
            raise FrostlineError(self.problem)
        strategies = self.advanced.applied(self.controls.build(self.chosen))
        refuse_unusable_checkpoint(self.controls.checkpoint.value, strategies)
        return with_like_probes(strategies, dataset), dataset, self.controls.draw(dataset)

    def follow(self, job: Job | None) -> str:
        """Show in the rows how far a job is, and say what time is left, as far as that is known; None: before one."""
        progress, repeats = (job.progress, len(job.splits)) if job else ({}, 0)
        for name, row in self._rows.items():
            row.show(progress.get(name), self._costs.seconds(name, repeats))
        return self._costs.left(progress, repeats)

    def _offer(self) -> None:
        """Offer every strategy; the probe of obsm once for each embedding that the data set carries."""
        data = self.dataset
        self._about = (
            {} if data is None else {"data": _values(data), "labels": data.label_key, "groups": data.group_key}
        )
        self.controls.suit(data)
        obsm = {} if data is None else data.adata.obsm
        embeddings = [ProbeObsm(key).name for key in obsm if obsm[key].shape[1] > MAP]
        names = [name for name in STRATEGIES if name != ProbeObsm.name] + embeddings
        names += [name for name in self._first if name not in names]
        ticked = set(self.chosen) if self._rows else set(self._first)
        for name in [name for name in self._rows if name not in names]:
            row = self._rows.pop(name)
            for part in (*row.children, row):
                part.close()
        for name in names:
            if name not in self._rows:
                self._rows[name] = StrategyRow(name, ticked=name in ticked)
                self._rows[name].box.observe(lambda _: self._changed(), "value")
        self._rows = {name: self._rows[name] for name in names}
        self._strategies.children = list(self._rows.values())
        self._changed()

    def _changed(self) -> None:
        """Something was chosen: say so, and compute the costs again."""
        self.refused = None
        self.inputs = {
            **self._about,
            **self.controls.values,
            "strategies": tuple(self.chosen),
            "hyper-parameters": repr(self.advanced.changes),
        }
        if not self.locked:
            self.background.do("plan", self._work_out)

    def _lock(self) -> None:
        for control in (*self.controls, *(row.box for row in self._rows.values())):
            control.disabled = self.locked
        self.advanced.lock(locked=self.locked)
        if self.locked:
            self._alert.value = ""
        else:
            self.background.do("plan", self._work_out)

    def _work_out(self) -> None:
        """Count parameters, time a few cells, look for what is on disk: beside the notebook's thread."""
        dataset = self.dataset
        try:
            strategies = self.controls.build(list(self._rows))
            refuse_unusable_checkpoint(self.controls.checkpoint.value, self._ticked(strategies))
            if dataset is None:
                self._alert.value = self._held_out.value = ""
                return
            self.advanced.offer(strategies)
            strategies = self.advanced.applied(strategies)
            cuts = self.controls.draw(dataset)
        except FrostlineError as error:
            self._refuse(error)
            return
        if self.locked:
            return
        self._alert.value, self._held_out.value = "", _held_out(cuts)
        wanted = with_like_probes(self._ticked(strategies), dataset)
        self._say_beside([each.name for each in wanted if each.name not in self._rows])
        found = Journal.of(dataset, cuts).finished(wanted)
        self.controls.offer_to_take_over(len(found), len(wanted) * len(cuts))
        for strategy in strategies:
            self._describe(strategy, dataset, cuts)
        # where a notebook is executed from top to bottom nobody can tick another
        others = [] if runs.SOURCE in os.environ else [each for each in strategies if each not in wanted]
        for strategy in [*wanted, *others]:
            if self.background.waits("plan") or self.locked:
                return
            self._costs.work_out(strategy, dataset, cuts)
            self._describe(strategy, dataset, cuts)

    def _say_beside(self, names: Sequence[str]) -> None:
        """Name the probes that run unasked, and why."""
        text = (
            f"Runs too: {', '.join(names)}, the frozen probe on as many genes as what trains inside the encoder reads, "
            "so that like is compared with like."
        )
        self._beside.value = status(text) if names else ""

    def _ticked(self, strategies: Sequence[Strategy]) -> list[Strategy]:
        return [each for each in strategies if self._rows[each.name].box.value]

    def _refuse(self, error: FrostlineError) -> None:
        """Say why what is chosen cannot be run; a run that is under way will say so itself."""
        if self.locked:
            return
        self._costs.forget()
        self._held_out.value = ""
        self.controls.offer_to_take_over(0, 0)
        for row in self._rows.values():
            row.describe("")
        self._alert.value = alert(error, "This cannot be run")
        self.refused = error

    def _describe(self, strategy: Strategy, dataset: Dataset, cuts: Sequence[Split]) -> None:
        if strategy.name in self._rows:
            self._rows[strategy.name].describe(self._costs.words(strategy, dataset, cuts))


def _held_out(cuts: Sequence[Split]) -> str:
    """Name the groups that will be tested, before the run; empty where cells are drawn at random."""
    tested = {cut.repeat: cut.groups.get("test", ()) for cut in cuts}
    words = held_out(cuts[0].group_key, tested) if cuts[0].kind == "group" else ""
    return status(words) if words else ""


def _values(dataset: Dataset) -> tuple[object, ...]:
    """What cells, genes and values have in common where they are loaded a second time, and others have not."""
    matrix = dataset.matrix
    return (
        hash(tuple(dataset.cells)),
        hash(tuple(dataset.genes)),
        matrix.nnz,
        int(matrix.indices.sum(dtype=np.int64)),
        float(matrix.data.sum(dtype=np.float64)),
    )
