"""Fixtures of the panels: what those of one file work out of the same data is worked out once."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel_fixtures import NO_UMAP, begin_kernels_with, keep_away
from live_lab import Lab, live_lab

import frostline
from frostline.panels import AnnotationPanel
from frostline.profiles import PROFILES
from frostline.strategies import GenesLogistic, PcaKnn, PcaLogistic
from frostline.strategies.probe import LinearProbe

CARD = Path(frostline.__file__).parent / "data" / "labextension"


@pytest.fixture(scope="module")
def worked_out(three_kinds, small_checkpoint, fresh):
    """What a panel works out of the data before anything is run, such as clusters and the times of a few cells."""
    panel = AnnotationPanel(fresh(three_kinds), checkpoint=str(small_checkpoint))
    panel.settle(60)
    panel.close()
    gc.collect()
    gc.freeze()  # what all strategies import: each evaluation looks for garbage
    return panel.dataset.cache


@pytest.fixture(scope="module")
def short_training():
    """An epoch or two, two values to choose from: nothing here asks how well a strategy does."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in (LinearProbe, GenesLogistic, PcaKnn):
            patch.setattr(kind, "GRID", kind.GRID[:2])
        for name, profile in PROFILES.items():
            short = {"head_epochs": 2, "lora_epochs": 1, "full_epochs": 1, "min_steps": 0, "tuning_genes": 40}
            patch.setitem(PROFILES, name, dataclasses.replace(profile, **short))
        yield


@pytest.fixture
def make_panel(three_kinds, small_checkpoint, fresh, worked_out):
    made = []

    def make(strategies=("pca_logistic",), **changes) -> AnnotationPanel:
        given = {"dataset": fresh(three_kinds, cache=dict(worked_out)), "checkpoint": str(small_checkpoint)}
        settings = given | changes
        made.append(AnnotationPanel(settings.pop("dataset"), strategies=strategies, **settings))
        return made[-1]

    yield make
    for panel in made:
        panel.cancel()
        panel.runner.plan.background.close()
        panel.settle(60)
        panel.close()


@pytest.fixture
def gate(monkeypatch):
    """Holds every fit of PCA + logistic regression back until it is set."""
    event, fit = threading.Event(), PcaLogistic.fit

    def wait_and_fit(self, dataset, split, monitor=None):
        assert monitor is None or event.wait(60)  # estimates fit without a monitor
        return fit(self, dataset, split, monitor)

    monkeypatch.setattr(PcaLogistic, "fit", wait_and_fit)
    yield event
    event.set()


@pytest.fixture(scope="module")
def finished(instant_umap_throughout, short_training, three_kinds, small_checkpoint, fresh):
    """A panel after its run; not to be changed."""
    panel = AnnotationPanel(fresh(three_kinds), strategies=["pca_logistic", "head"], checkpoint=str(small_checkpoint))
    panel.run(wait=True)
    yield panel
    panel.close()


@pytest.fixture(scope="session")
def lab(with_forked_kernels, tmp_path_factory) -> Iterator[Lab]:
    """A JupyterLab that finds the card of its Launcher where a wheel puts it; each file has notebooks of its own."""
    prefix = tmp_path_factory.mktemp("prefix")
    (prefix / "labextensions").mkdir()
    (prefix / "labextensions" / "frostline").symlink_to(CARD)
    with contextlib.ExitStack() as stack:
        with with_forked_kernels(), pytest.MonkeyPatch.context() as patch:
            keep_away(patch, tmp_path_factory.mktemp("jupyter"))
            begin_kernels_with(NO_UMAP)
            patch.setenv("JUPYTER_PATH", str(prefix), prepend=os.pathsep)
            lab = stack.enter_context(live_lab(tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("lab")))
        yield lab
