"""The execution profiles: how much of the data, how many genes, how long to train.

One table, so that a reader sees what `quickstart` leaves out of `full`.

What training inside the encoder costs grows with steps x cells in a step x tokens of a cell, and faster than the
tokens, since each attends to all others. The second tutorial trains LoRA for every repeat and every number of labels:
for its sake `quickstart` reads 500 genes there, and `full` as many as the PCA baseline keeps, 2,000; and `full` asks
for 200 steps where few cells train, and not for more.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from frostline.bounds import BATCH, CELLS, EPOCHS, GENES, RATE, STEPS, Text, Whole, bounded, hold_fields
from frostline.errors import unknown

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Profile:
    """Sizes and training lengths of one execution profile."""

    name: str = bounded(Text("name"))
    max_cells: int = bounded(CELLS)
    """Cells kept, drawn stratified by label; all of them when there are fewer."""
    max_genes: int = bounded(GENES)
    """Genes that the baselines get, those of the largest variance over the training cells."""
    batch_size: int = bounded(BATCH)
    """Cells in one training step."""
    head_epochs: int = bounded(EPOCHS)
    """Longest training of the head; it stops early on the validation loss."""
    lora_epochs: int = bounded(EPOCHS)
    """Longest training of adapters (LoRA and its family); it stops early on the validation loss."""
    head_lr: float = bounded(RATE)
    """Learning rate of the head on frozen features."""
    lora_lr: float = bounded(RATE)
    """Learning rate of adapters and their head."""
    repeats: int = bounded(Whole(1, 10_000, "splits"))
    """Independent splits, each with a seed of its own; by group as many more as test every group equally often."""
    full_epochs: int = bounded(EPOCHS, 16)
    """Longest training of all weights; it stops early on the validation loss."""
    full_lr: float = bounded(RATE, 1e-4)
    """Learning rate of all weights, after its warm-up."""
    tuning_genes: int = bounded(GENES, 1_000)
    """Genes that training inside the encoder reads, those of the largest variance over the training cells."""
    min_steps: int = bounded(STEPS, 0)
    """Optimiser steps that training may take at least; more epochs where few cells train."""

    def __post_init__(self) -> None:
        hold_fields(self, f"profile {self.name!r}")


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("quickstart", 1_000, 2_000, 32, 60, 8, 2e-3, 2e-3, 1, 16, 1e-4, 500, 100),
        Profile("full", 20_000, 5_000, 32, 200, 20, 1e-3, 1e-3, 3, 30, 1e-4, 2_000, 200),
    )
}


def get_profile(name: str) -> Profile:
    """Look a profile up by name.

    Raises
    ------
    FrostlineError
        A ValueError that lists the known profiles.

    Examples
    --------
    >>> get_profile("quickstart").repeats
    1
    """
    if name not in PROFILES:
        raise unknown("profile", name, sorted(PROFILES))
    return PROFILES[name]


def profile_table() -> pd.DataFrame:
    """Return the profiles side by side, one column each.

    Examples
    --------
    >>> list(profile_table().columns)
    ['quickstart', 'full']
    """
    import pandas as pd

    columns = {profile.name: asdict(profile) for profile in PROFILES.values()}
    return pd.DataFrame(columns, dtype=object).drop(index="name")
