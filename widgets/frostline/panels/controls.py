"""What can be set before a run, and the buttons that begin and end it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypedDict, get_args

import ipywidgets as widgets

from frostline.bounds import Device, Precision, hold
from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.cells.splits import repeats_of
from frostline.cells.splits import split as draw_split
from frostline.encoder.catalogue import CHECKPOINTS
from frostline.panels.base import at_most, note
from frostline.profiles import PROFILES, get_profile
from frostline.strategies import Strategy, build

SPLITS = (("what suits the data", ""), ("stratified (random cells)", "stratified"), ("group (whole groups)", "group"))
INTERRUPT = "interrupt the kernel: the square ■ above the notebook, or Esc, I, I"
HELD = {
    "run": f"A cell waits for this run, and no click reaches the kernel meanwhile. To cancel, {INTERRUPT}. "
    "What has finished is kept.",
    "wait": f"A cell waits for this run, and no click reaches the kernel meanwhile. To end the waiting, {INTERRUPT}; "
    "then Cancel works again.",
}
"""What a cell waits for -> how to get out of it."""


class First(TypedDict, total=False):
    """What the controls of a run show at first; what is not given takes the defaults."""

    profile: str
    checkpoint: str
    device: str
    precision: str
    seed: int
    split: str | None
    repeats: int | None


class RunControls:
    """Profile, checkpoint, device, precision, split, repeats, seed; whether to take over.

    Examples
    --------
    >>> controls = RunControls(seed=7)
    >>> [control.description for control in controls.settings]
    ['Profile', 'Checkpoint', 'Device', 'Precision', 'Split', 'Repeats', 'Seed']
    """

    def __init__(
        self,
        *,
        profile: str = "quickstart",
        checkpoint: str = "mini",
        device: str = "auto",
        precision: str = "fp32",
        split: str | None = None,
        repeats: int | None = None,
        seed: int = 42,
    ) -> None:
        self._dataset: Dataset | None = None
        usual = get_profile(profile).repeats
        self._usual_repeats = 0 if repeats else usual
        self.profile = widgets.Dropdown(
            options=list(PROFILES), value=profile, description="Profile", layout=at_most(290),
            tooltip="How many cells, how long to train",
        )  # fmt: skip
        self.checkpoint = widgets.Combobox(
            options=list(CHECKPOINTS), value=checkpoint, description="Checkpoint", layout=at_most(290),
            continuous_update=False, tooltip="A registered name, or a folder in the official layout",
        )  # fmt: skip
        self.device = widgets.Dropdown(
            options=_names(Device), value=hold(Device, "device", device), description="Device", layout=at_most(290),
            tooltip="Where the encoder computes; auto takes CUDA where there is one, else the CPU",
        )  # fmt: skip
        self.precision = widgets.Dropdown(
            options=_names(Precision), value=hold(Precision, "precision", precision), description="Precision",
            layout=at_most(290), tooltip="Of the encoder's matrix products; weights stay in fp32",
        )  # fmt: skip
        options = SPLITS if split in (None, "stratified", "group") else (*SPLITS, (str(split), split))
        self.split = widgets.Dropdown(
            options=options, value=split or "", description="Split", layout=at_most(290),
            tooltip="Which cells are held out for the test: cells at random, or whole donors, batches, studies",
        )  # fmt: skip
        self.repeats = widgets.BoundedIntText(
            value=repeats or usual, min=1, max=100, description="Repeats", layout=at_most(290),
            tooltip="Independent splits; a profile brings its number, a split by group as many as test each group",
        )  # fmt: skip
        self.seed = widgets.BoundedIntText(
            value=seed, min=0, max=2**32 - 1, description="Seed", layout=at_most(290),
            tooltip="Of the splits and of all training",
        )  # fmt: skip
        self.resume = widgets.Checkbox(
            value=True, indent=False, layout=widgets.Layout(width="auto", display="none"),
            tooltip="Evaluations that finished before are taken over, not computed again",
        )  # fmt: skip
        for control in (self.profile, self.split):
            control.observe(lambda _: self._take_repeats(), "value")

    def suit(self, dataset: Dataset | None) -> None:
        """Take the number of repeats that a data set needs, unless a number was chosen."""
        self._dataset = dataset
        self._take_repeats()

    def _take_repeats(self) -> None:
        """Let data, profile and kind of split bring their number of repeats, unless a number was chosen."""
        before, profile = self._usual_repeats, get_profile(self.profile.value)
        self._usual_repeats = profile.repeats
        if self._dataset is not None:
            self._usual_repeats = repeats_of(self._dataset, kind=self.split.value or None, profile=profile)
        if self.repeats.value == before:
            self.repeats.value = self._usual_repeats

    @property
    def settings(self) -> tuple[widgets.Widget, ...]:
        """What decides the results, in the order in which it is shown."""
        return self.profile, self.checkpoint, self.device, self.precision, self.split, self.repeats, self.seed

    @property
    def values(self) -> dict[str, Any]:
        """What is set, by the name that a reader knows it by."""
        return {str(control.description).lower(): control.value for control in self.settings}

    def draw(self, dataset: Dataset) -> list[Split]:
        """Splits of a data set."""
        kind, seed, profile = self.split.value or None, self.seed.value, get_profile(self.profile.value)
        return [draw_split(dataset, kind=kind, seed=seed, profile=profile, repeat=i) for i in range(self.repeats.value)]

    def build(self, names: Sequence[str] | None) -> list[Strategy]:
        """Strategies as the profile has them, with the checkpoint, device and precision; by default the usual ones."""
        place = {"device": self.device.value, "precision": self.precision.value}
        return build(names, profile=self.profile.value, checkpoint=self.checkpoint.value, **place)

    @property
    def takes_over(self) -> bool:
        """Whether the evaluations of an earlier run are taken over, where that is offered."""
        return self.resume.layout.display is None and bool(self.resume.value)

    def offer_to_take_over(self, found: int, n: int) -> None:
        """Let somebody choose whether the evaluations of an earlier run are taken over, where there are any."""
        self.resume.layout.display = None if found else "none"
        self.resume.description = (
            f"Take over {found} of {n} evaluations that finished in an earlier run with these settings"
        )

    def __iter__(self) -> Iterator[widgets.Widget]:
        return iter((*self.settings, self.resume))


def _names(annotation: Any) -> tuple[str, ...]:
    """Names that a hyper-parameter may be."""
    return get_args(get_args(annotation)[0])


class RunButtons:
    """Run and Cancel, and how to get out of a run that a cell waits for.

    Parameters
    ----------
    ready
        What Run will do.

    Examples
    --------
    >>> buttons = RunButtons()
    >>> buttons.enable(running=False, held="", problem="Choose data first.")
    >>> buttons.run.tooltip
    'Choose data first.'
    """

    def __init__(self, ready: str = "Evaluate the ticked strategies") -> None:
        self._ready = ready
        self.run = widgets.Button(description="Run", button_style="primary", icon="play")
        self.cancel = widgets.Button(description="Cancel", icon="stop")
        self.hint = widgets.HTML(layout=widgets.Layout(display="none"))

    def __iter__(self) -> Iterator[widgets.Widget]:
        yield widgets.HBox([self.run, self.cancel], layout=widgets.Layout(flex_flow="row wrap"))
        yield self.hint

    def enable(self, *, running: bool, held: str, problem: str) -> None:
        """Let be pressed what would do something, and say why the rest would not.

        Parameters
        ----------
        running
            A run is under way.
        held
            What a cell waits for, a key of `HELD`; empty while no cell does.
        problem
            Why no run is possible; empty when one is.
        """
        self.run.disabled = running or bool(problem)
        ready = problem or self._ready
        self.run.tooltip = "A run is under way; cancel it first" if running else ready
        self.cancel.disabled = not running or bool(held)
        self.cancel.tooltip = HELD.get(held, "Stop within the current batch; finished results stay")
        self.hint.value = note(HELD[held]) if running and held else ""
        self.hint.layout.display = None if running and held else "none"
