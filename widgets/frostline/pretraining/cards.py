"""The card of a checkpoint that frostline pre-trained: what it is, what it was made of, how the losses fell.

What it is worth on labelled cells is measured elsewhere: `make mini-report` adds that to the card of `mini`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from frostline.encoder.checkpoints import CORPUS_GENES
from frostline.pretraining.corpus import Corpus
from frostline.pretraining.recipes import LOSSES, PretrainSettings

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


def _phase_table(recipe: PretrainSettings, steps: int) -> str:
    """Markdown table of what each phase showed and asked for, a column a phase that the run was long enough for."""
    ends = (0, *recipe.ends(steps))
    phases = [
        (number, end - first, recipe.phases[number - 1])
        for number, (first, end) in enumerate(pairwise(ends), 1)
        if end > first
    ]
    rows = {
        "steps": [f"{n:,}" for _, n, _ in phases],
        "cells a step": [f"{phase.batch_cells}" for *_, phase in phases],
        "genes a subset": [" or ".join(map(str, phase.subset_sizes)) for *_, phase in phases],
        "components": [f"{phase.n_components}" for *_, phase in phases],
        "power": [f"{phase.exponent:g}" for *_, phase in phases],
        "neighbours": [f"{phase.n_neighbors}" for *_, phase in phases],
        "weight of MVC": [f"{phase.mvc_weight:g}" for *_, phase in phases],
        "weight of InfoNCE": [f"{phase.contrast_weight:g}" for *_, phase in phases],
        "peak learning rate": [f"{phase.learning_rate:g}" for *_, phase in phases],
    }
    head = [f"| phase | {' | '.join(str(number) for number, *_ in phases)} |", "|---" * (1 + len(phases)) + "|"]
    return "\n".join([*head, *(f"| {name} | {' | '.join(values)} |" for name, values in rows.items())])


def _curve_rows(recipe: PretrainSettings, steps: int, history: Sequence[Sequence[float]]) -> str:
    """Table rows: the losses at both ends of each phase."""
    rows = []
    for number, (first, end) in enumerate(pairwise((0, *recipe.ends(steps))), 1):
        losses = history[first:end]
        if losses:  # else the run was too short for it
            ends = np.mean(losses[:_FIRST], axis=0), np.mean(losses[-_LAST:], axis=0)
            rows += [f"| {number} | {name} | {a:.3f} | {b:.3f} |" for name, a, b in zip(LOSSES, *ends, strict=True)]
    return "\n".join(rows)


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
    objective = recipe.objective.replace("<cls>", "`<cls>`")  # else markdown takes it for a tag
    files = "\n".join(f"| {f['file']} | {f['cells']:,} | `{f['sha256']}` |" for f in corpus.files)
    return f"""# Model card

A small encoder in the scGPT architecture, pre-trained by frostline **for demonstration**. These are not the
official scGPT weights, and its results say nothing about what those can do.

- {n_parameters:,} parameters: {recipe.d_model} wide, {recipe.n_layers} layers, {recipe.n_heads} heads,
  feed-forward {recipe.d_hid}; {len(corpus.genes):,} genes in the vocabulary (those that at least
  {recipe.min_fraction:.0%} of the cells of one set express).
- Objective: {objective}.
- {steps:,} steps of AdamW, seed {seed}.
- Layout: that of the released checkpoints, the weights as safetensors. The official code reads
  best_model.pt, which `torch.save(safetensors.torch.load_file("model.safetensors"), "best_model.pt")` makes.
  For a model without flash-attn it renames Wqkv to in_proj_; it takes over every tensor that matches in name
  and shape, with a log line for each, and leaves the decoders, which are not in this file, at their random
  initial values.

## Phases

Each goes on from the encoder and the heads of the one before. A cell is seen as two random subsets of its
genes. A component's standard deviation is its singular value to the power given: 0 weights all alike, larger powers
the leading ones more. Where there are neighbours, the means of the components over so many nearest cells are predicted
too.

{_phase_table(recipe, steps)}

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
{_curve_rows(recipe, steps, history)}
"""
