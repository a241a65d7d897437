"""The card of a checkpoint that frostline pre-trained: what it is, what it was made of, how the losses fell.

What it is worth on labelled cells is measured elsewhere: `make mini-report` adds that to the card of `mini`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from frostline.checkpoints import CORPUS_GENES
from frostline.corpus import Corpus
from frostline.recipes import LOSSES, PretrainSettings

_FIRST, _LAST = 10, 100  # steps whose means stand for the two ends of a phase


def final_losses(history: Sequence[Sequence[float]], first: int) -> dict[str, float]:
    """Means over the last steps of a phase that began with step `first`.

    Examples
    --------
    >>> final_losses([[9, 9, 9, 9], [3, 1, 2, 0]], first=1)
    {'loss': 3.0, 'components': 1.0, 'mvc': 2.0, 'contrast': 0.0}
    """
    means = np.mean(history[first:][-_LAST:], axis=0)
    return {name: round(float(value), 4) for name, value in zip(LOSSES, means, strict=True)}


def _phase_rows(recipe: PretrainSettings, steps: int, history: Sequence[Sequence[float]]) -> tuple[str, str]:
    """Return table rows: what each phase showed and asked for, and its losses at both ends."""
    rows, curve = [], []
    for number, (first, end) in enumerate(pairwise((0, *recipe.ends(steps))), 1):
        phase, losses = recipe.phases[number - 1], history[first:end]
        if not losses:  # the run was too short for it
            continue
        genes = ", ".join(map(str, phase.subset_sizes))
        targets = f"{phase.n_components} | {phase.n_neighbors}"
        numbers = (phase.exponent, phase.mvc_weight, phase.contrast_weight, phase.learning_rate)
        rows.append(
            f"| {number} | {end - first:,} | {phase.batch_cells} | {genes} | {targets} | "
            f"{' | '.join(f'{value:g}' for value in numbers)} |"
        )
        ends = np.mean(losses[:_FIRST], axis=0), np.mean(losses[-_LAST:], axis=0)
        curve += [f"| {number} | {name} | {a:.3f} | {b:.3f} |" for name, a, b in zip(LOSSES, *ends, strict=True)]
    return "\n".join(rows), "\n".join(curve)


def pretraining_card(
    recipe: PretrainSettings,
    *,
    steps: int,
    seed: int,
    corpus: Corpus,
    history: Sequence[Sequence[float]],
    n_parameters: int,
) -> str:
    """Markdown of the card; `history` holds the LOSSES of each step."""
    phases, curve = _phase_rows(recipe, steps, history)
    files = "\n".join(f"| {f['file']} | {f['cells']:,} | `{f['sha256']}` |" for f in corpus.files)
    return f"""# Model card

A small encoder in the scGPT architecture, pre-trained by frostline **for demonstration**. These are not the
official scGPT weights, and its results say nothing about what those can do.

- {n_parameters:,} parameters: {recipe.d_model} wide, {recipe.n_layers} layers, {recipe.n_heads} heads,
  feed-forward {recipe.d_hid}; {len(corpus.genes):,} genes in the vocabulary (those that at least
  {recipe.min_fraction:.0%} of the cells of one set express).
- Objective: {recipe.objective}.
- {steps:,} steps of AdamW, seed {seed}.
- Layout: that of the released checkpoints, the weights as safetensors. The official code reads
  best_model.pt, which `torch.save(safetensors.torch.load_file("model.safetensors"), "best_model.pt")` makes.
  For a model without flash-attn it renames Wqkv to in_proj_; it takes over every tensor that matches in name
  and shape, with a log line for each, and leaves the decoders, which are not in this file, at their random
  initial values.

## Phases

Each goes on from the encoder of the one before, with a new optimiser. A cell is seen as two random subsets of its
genes. A component's standard deviation is its singular value to the power given: 0 weights all alike, larger powers
the leading ones more. Where there are neighbours, the means of the components over so many nearest cells are told
besides. MVC and InfoNCE: their weights.

| phase | steps | cells a step | genes a subset | components | neighbours | power | MVC | InfoNCE | peak learning rate |
|---|---|---|---|---|---|---|---|---|---|
{phases}

## Corpus

{corpus.counts.shape[0]:,} unlabelled cells; the cells themselves are not shipped. {CORPUS_GENES} says how they express
each gene: the percentage of cells that do (the largest over the files) and the mean counts per million.

| file | cells | sha256 |
|---|---|---|
{files}

## Curve

Means over the first {_FIRST} and the last {_LAST} steps of a phase; the whole curve is in history.csv.

| phase | loss | first | last |
|---|---|---|---|
{curve}
"""
