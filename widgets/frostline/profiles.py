"""The execution profiles: how much of the data, how many genes, how long to train.

One table, so that a reader sees what `quickstart` leaves out of `full`.

What training inside the encoder costs grows with steps x cells in a step x tokens of a cell, and faster than the
tokens, since each attends to all others. The second tutorial trains LoRA for every repeat and every number of labels:
for its sake `quickstart` reads 500 genes there, and `full` as many as the PCA baseline keeps, 2,000; and `full` asks
for 200 steps where few cells train, and not for more. Its rate for adapters is measured:
book/decisions/0010-tuning-settings.md.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Interval, Unit

from frostline.bounds import Batch, Cells, Epochs, Genes, Rate, Steps, Text, Whole, bounded
from frostline.errors import unknown

if TYPE_CHECKING:
    import pandas as pd


@bounded
class Profile:
    """Sizes and training lengths of one execution profile."""

    noun: ClassVar[str] = "profile"

    name: Annotated[Text, Unit("name")]
    max_cells: Cells
    """Cells kept, drawn stratified by label; all of them when there are fewer."""
    max_genes: Genes
    """Genes that the baselines get, those of the largest variance over the training cells."""
    batch_size: Batch
    """Cells in one training step, at most: a twelfth of the training cells where that is fewer, and eight at least."""
    head_epochs: Epochs
    """Longest training of the head; it stops early on the validation loss."""
    lora_epochs: Epochs
    """Longest training of adapters (LoRA and its family); it stops early on the validation loss."""
    head_lr: Rate
    """Learning rate of the head on frozen features."""
    lora_lr: Rate
    """Learning rate of adapters and their head."""
    repeats: Annotated[Whole, Interval(ge=1, le=10_000), Unit("splits")]
    """Independent splits, each with a seed of its own; by group as many more as test every group equally often."""
    full_epochs: Epochs = 16
    """Longest training of all weights; it stops early on the validation loss."""
    full_lr: Rate = 1e-4
    """Learning rate of all weights, after its warm-up."""
    tuning_genes: Genes = 1_000
    """Genes that training inside the encoder reads, those of the largest variance over the training cells."""
    min_steps: Steps = 0
    """Optimiser steps that training may take at least; more epochs where few cells train."""


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="quickstart",
            max_cells=1_000,  # cells
            max_genes=2_000,  # genes
            batch_size=32,  # cells
            head_epochs=60,  # epochs
            lora_epochs=8,  # epochs
            head_lr=2e-3,  # per step
            lora_lr=2e-3,  # per step
            repeats=1,  # splits
            full_epochs=16,  # epochs
            full_lr=1e-4,  # per step
            tuning_genes=500,  # genes
            min_steps=100,  # optimiser steps
        ),
        Profile(
            name="full",
            max_cells=20_000,  # cells
            max_genes=5_000,  # genes
            batch_size=32,  # cells
            head_epochs=200,  # epochs
            lora_epochs=20,  # epochs
            head_lr=1e-3,  # per step
            lora_lr=1e-3,  # per step
            repeats=3,  # splits
            full_epochs=30,  # epochs
            full_lr=1e-4,  # per step
            tuning_genes=500,  # genes
            min_steps=200,  # optimiser steps
        ),
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
