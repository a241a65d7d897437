"""How the `mini` checkpoint is made: pre-train a small scGPT-architecture encoder on unlabelled counts.

From random subsets of a cell's genes the `<cls>` state has to tell the cell's principal components, the
bins of other genes of the cell (the official MVC objective), and which other subset came from the same
cell. Gene embeddings start from co-expression and the first layer starts as an average of them, so that
`<cls>` states differ between cells before the first step; from an ordinary start a post-norm encoder of
this size gives nearly the same state to every cell for hundreds of steps.

The first phase of a run shows small subsets and asks for the leading components foremost; the second shows
larger ones, about as large as whole cells, and asks for fewer components, for all of them alike, and for their means
over the cells that are most like it. It goes on with the heads of the first, each component in its new units, and
with a new optimiser. Every batch is a pure
function of the seed and the step, so a run that was stopped goes on as if it had not been. Import this module
where it is used: it needs torch.

Sources: Cui et al., Nature Methods 2024 (10.1038/s41592-024-02201-0) for the architecture and MVC; van den
Oord et al. 2018 (arXiv:1807.03748) for InfoNCE.
"""

from __future__ import annotations

import json
import math
import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from frostline.bounds import Seed, hold
from frostline.encoder.checkpoints import CORPUS_GENES, WEIGHTS, save_checkpoint
from frostline.encoder.model import Encoder, EncoderConfig
from frostline.encoder.tokens import N_BINS, Tokens
from frostline.errors import Cancelled, DatasetError, FrostlineError
from frostline.monitor import Monitor
from frostline.plain_files import expanded
from frostline.pretraining.cards import final_losses, pretraining_card
from frostline.pretraining.corpus import (
    CLS,
    N_SPECIAL,
    PAD,
    Corpus,
    draw_subset,
    gene_vectors,
    principal_components,
    read_corpus,
)
from frostline.pretraining.losses import VALUE_SCALE, Batch, Predicted, batch_losses, prediction_heads
from frostline.pretraining.recipes import LOSSES, PretrainSettings
from frostline.scratch import clear, scratch_path

STATE_FILE = "pretraining_state.pt"

_MEAN_OF = 10  # steps that a row of history.csv stands for


@dataclass(frozen=True)
class Pretrained:
    """What a finished run left in its folder."""

    folder: Path
    n_cells: int
    n_genes: int
    steps: int
    losses: Mapping[str, float]
    """Means over the last 100 steps of the last phase: the total, components, mvc, contrast."""


def pretrain(
    corpus: Sequence[Path],
    output: Path,
    *,
    seed: int = 0,
    steps: int | None = None,
    settings: PretrainSettings | None = None,
    save_every: int = 100,
    monitor: Monitor | None = None,
) -> Pretrained:
    """Pre-train an encoder and write it as a checkpoint in the official layout.

    The same files, settings, steps and seed give the same weights on one machine with one number of
    threads, whether or not the run was interrupted.

    Parameters
    ----------
    corpus
        .h5ad files of counts (cells x genes, gene symbols as var_names); labels are not read.
    output
        Folder for the checkpoint, corpus_genes.csv, history.csv and MODEL_CARD.md. A run that was stopped
        leaves its state there and goes on from it; a finished one is returned as it is.
    seed, steps
        Of all draws; optimiser steps, by default as many as the phases of the settings have.
    settings
        The remaining hyper-parameters; the defaults made `mini`.
    save_every
        Steps between two saved states.
    monitor
        Receives every step; asked whether to stop.

    Raises
    ------
    DatasetError
        A file is missing, unreadable or holds no counts, or there are too few cells or genes.
    FrostlineError
        The folder holds a run of another corpus, seed, number of steps or settings; the seed is out of bounds.
    Cancelled
        The monitor said so; the state is saved, and the same call goes on from there.
    """
    seed, settings = hold(Seed, "seed", seed), settings or PretrainSettings()
    steps = settings.steps if steps is None else steps
    if steps < 1 or save_every < 1:
        raise FrostlineError(f"steps and save_every must be at least 1, got {steps} and {save_every}")
    monitor = monitor or Monitor()
    output, run = expanded(output), _Run(read_corpus(corpus), seed, steps, settings)
    finished = _finished(output, run.plan)
    if finished:
        return finished
    output.mkdir(parents=True, exist_ok=True)
    clear(output)  # what a killed run was writing
    run.start(output / STATE_FILE)
    while run.step < steps:
        try:
            monitor.step(run.step / steps, run.message())
        except Cancelled:
            run.save(output / STATE_FILE)
            raise
        run.advance()
        if run.step % save_every == 0 or run.step == steps:
            run.save(output / STATE_FILE)
    return run.finish(output)


def build_encoder(corpus: Corpus, settings: PretrainSettings, seed: int) -> Encoder:
    """Build the encoder whose `<cls>` states differ between cells before the first step."""
    d = settings.d_model
    config = EncoderConfig(
        n_tokens=len(corpus.genes) + N_SPECIAL,
        d_model=d,
        n_heads=settings.n_heads,
        d_hid=settings.d_hid,
        n_layers=settings.n_layers,
        dropout=settings.dropout,
        pad_id=PAD,
        cls_id=CLS,
    )
    model = Encoder(config)
    first = model.get_submodule("transformer_encoder.layers.0.self_attn")
    weights = dict(first.named_parameters())
    with torch.no_grad():
        table = model.encoder.embedding.weight
        table[:N_SPECIAL] = 0.0
        table[N_SPECIAL:] = torch.from_numpy(gene_vectors(corpus, d, seed))
        model.value_encoder.norm.weight.fill_(0.3)
        weights["v_proj.weight"].copy_(torch.eye(d))
        weights["out_proj.weight"].copy_(8 * torch.eye(d))
        weights["q_proj.weight"].mul_(0.3)
        weights["k_proj.weight"].mul_(0.3)
    return model


def fold_values(model: Encoder) -> None:
    """Make an encoder that was trained on bins / 10 take bins: (W / 10) x + b = W (x / 10) + b; in place."""
    with torch.no_grad():
        model.value_encoder.linear1.weight.div_(VALUE_SCALE)


class _Run:
    """One run: what decides its weights, and, once started, its state."""

    def __init__(self, corpus: Corpus, seed: int, steps: int, settings: PretrainSettings) -> None:
        self.corpus = corpus.frequent(settings.min_fraction)
        self.statistics = corpus.statistics()
        self.seed, self.steps, self.settings = seed, steps, settings
        plan = {"corpus": corpus.files, "seed": seed, "steps": steps, "settings": asdict(settings)}
        self.plan: dict[str, Any] = json.loads(json.dumps(plan))
        self.step = 0
        self.history: list[list[float]] = []  # LOSSES of each step
        self.ends = settings.ends(steps)
        wanted = max(settings.d_model, *(n for p in settings.phases for n in (p.n_components, p.n_neighbors)))
        if min(self.corpus.counts.shape) <= wanted:
            raise DatasetError(
                f"the corpus has {self.corpus.counts.shape[0]} cells and {len(self.corpus.genes)} frequent "
                f"genes; both must exceed {wanted} (the largest of d_model, n_components and n_neighbors)"
            )

    def start(self, state: Path) -> None:
        """Initialise everything, or go on from a saved state."""
        saved = _load_state(state, self.plan) if state.is_file() else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.model = build_encoder(self.corpus, self.settings, self.seed).train()
            self.noise = torch.get_rng_state()  # of heads and dropout
        if saved:
            self.step, self.history = saved["step"], saved["history"]
        self.enter_phase()
        if saved:
            self.model.load_state_dict(saved["model"])
            self.predicted.heads.load_state_dict(saved["heads"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.noise = saved["noise"]

    def phase_of(self, step: int) -> int:
        """Return which phase a step belongs to, its end belonging to the next if there is one."""
        return bisect_right(self.ends, min(step, self.steps - 1))

    def enter_phase(self, before: Predicted | None = None) -> None:
        """Make what every phase has of its own, for the one that this step belongs to; heads go on as they were."""
        settings, index = self.settings, self.phase_of(self.step)
        self.phase = settings.phases[index]
        self.first, self.end = (0, *self.ends)[index : index + 2]
        n_cells = self.corpus.counts.shape[0]
        self.batch_cells = min(self.phase.batch_cells, n_cells)
        self._epoch = -1
        n = self.phase.n_components
        components = principal_components(
            self.corpus, n, self.seed, exponent=self.phase.exponent, n_neighbors=self.phase.n_neighbors
        )
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self.noise)
            self.predicted = Predicted(prediction_heads(settings.d_model, components.shape[1]), components, n)
            self.noise = torch.get_rng_state()
        if before:
            self.predicted.carry(before)
        table = self.model.encoder.embedding.weight
        rest = [p for p in [*self.model.parameters(), *self.predicted.heads.parameters()] if p is not table]
        groups = [{"params": [table], "scale": settings.embedding_rate}, {"params": rest, "scale": 1.0}]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)

    def message(self) -> str:
        """Say where the run is, in a few words."""
        text = f"step {self.step:,} of {self.steps:,}"
        return text + (f", loss {self.history[-1][0]:.3f}" if self.history else "")

    def advance(self) -> None:
        """Do one step."""
        done, length = self.step - self.first, self.end - self.first
        rate = self.phase.learning_rate * _schedule(done, length, self.phase.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self.noise)
            losses = batch_losses(
                self.model, self.predicted.heads, self.batch(self.step), self.phase, self.settings.temperature
            )
            self.noise = torch.get_rng_state()
        if not torch.isfinite(losses[0]):
            raise FrostlineError(f"the loss is not finite at step {self.step}; lower the learning rate")
        self.optimizer.zero_grad()
        losses[0].backward()  # type: ignore[no-untyped-call]
        parameters = [*self.model.parameters(), *self.predicted.heads.parameters()]
        nn.utils.clip_grad_norm_(parameters, self.settings.clip)
        self.optimizer.step()
        self.history.append([float(loss.detach()) for loss in losses])
        self.step += 1
        if self.step == self.end < self.steps:
            self.enter_phase(self.predicted)

    def batch(self, step: int) -> Batch:
        """Draw the batch of a step of this phase: a pure function of the seed and the step."""
        n, n_cells = self.batch_cells, len(self.predicted.components)
        epoch, place = divmod(step - self.first, n_cells // n)
        epoch += self.first  # no two epochs of a run have the same number
        if epoch != self._epoch:  # values that admit several bins get others in every epoch
            self._epoch = epoch
            self._order = np.random.default_rng([self.seed, epoch]).permutation(n_cells)
            self._tokens = self.corpus.tokens(seed=self.seed + epoch)
        cells = self._order[place * n : (place + 1) * n]
        tokens = self._tokens.take(cells)
        rng = np.random.default_rng([self.seed, epoch, place])
        size = int(rng.choice(self.phase.subset_sizes))
        length = 1 + min(size, int(tokens.lengths.max()))
        subsets = [draw_subset(tokens, size, length, rng) for _ in range(2)]
        asked = self._questions(cells, tokens, rng)
        ids, values = (np.concatenate(parts) for parts in zip(*subsets, strict=True))
        return Batch(*map(torch.from_numpy, (ids, values, self.predicted.components[cells], *asked)))

    def _questions(
        self, cells: NDArray[np.int64], tokens: Tokens, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Genes to ask for, expressed ones and random measured ones, and their bins / 50."""
        n = self.settings.mvc_genes
        place = (rng.random((len(cells), n)) * tokens.lengths[:, None]).astype(np.int64)
        expressed = tokens.gene_ids[tokens.offsets[:-1, None] + place]
        measured = [rng.choice(self.corpus.measured[s], n) for s in self.corpus.set_of_cell[cells]]
        genes = np.concatenate([expressed, np.stack(measured) + N_SPECIAL], axis=1).astype(np.int64)
        dense = np.zeros((len(cells), len(self.corpus.genes) + N_SPECIAL), dtype=np.float32)
        dense[np.repeat(np.arange(len(cells)), tokens.lengths), tokens.gene_ids] = tokens.bins
        return genes, np.take_along_axis(dense, genes, axis=1) / np.float32(N_BINS - 1)

    def save(self, path: Path) -> None:
        """Write the state under a temporary name, then move it into place."""
        parts = {
            "model": self.model.state_dict(),
            "heads": self.predicted.heads.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        rest = {"step": self.step, "history": self.history, "noise": self.noise}
        temporary = scratch_path(path.parent, ".pt")
        try:
            torch.save({"plan": json.dumps(self.plan), **parts, **rest}, temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def finish(self, folder: Path) -> Pretrained:
        """Write the checkpoint, its history and its card; remove the state."""
        losses = final_losses(self.history, self.first)
        fold_values(self.model)
        extra = {**self.plan, "objective": self.settings.objective, "final_losses": losses}
        save_checkpoint(folder, self.model, self.corpus.vocabulary, extra=extra)
        self.statistics.write(folder / CORPUS_GENES)
        _write_history(self.history, self.ends, folder / "history.csv")
        card = pretraining_card(
            self.settings,
            steps=self.steps,
            seed=self.seed,
            corpus=self.corpus,
            history=self.history,
            n_parameters=sum(parameter.numel() for parameter in self.model.parameters()),
        )
        (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")
        (folder / STATE_FILE).unlink(missing_ok=True)  # another process may have ended the same run
        return Pretrained(folder, len(self.predicted.components), len(self.corpus.genes), self.steps, losses)


def _schedule(step: int, steps: int, warmup: int) -> float:
    """Fraction of the peak learning rate: linear warm-up times a cosine that ends at zero."""
    return min(1.0, (step + 1) / max(warmup, 1)) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _load_state(path: Path, plan: Mapping[str, Any]) -> dict[str, Any]:
    try:
        state = torch.load(path, weights_only=True)
        found = json.loads(state["plan"])
    except Exception as error:  # torch has many exceptions for a damaged file
        raise FrostlineError(f"{path} cannot be read; remove it to start again: {error}") from error
    _check_plan(found, plan, path.parent)
    return dict(state)


def _check_plan(found: Mapping[str, Any], plan: Mapping[str, Any], folder: Path) -> None:
    """Refuse to go on with, or to overwrite, a run of another plan."""
    old, new = _flat(found), _flat(plan)
    names = [name for name in {**new, **old} if old.get(name) != new.get(name)]
    if names:
        seen = [n if n == "corpus" else f"{n} ({old.get(n)} there, {new.get(n)} here)" for n in names]
        raise FrostlineError(
            f"{folder} holds a pre-training run that differs in {', '.join(seen)}; "
            "choose another folder, or repeat that run's arguments to go on with it"
        )


def _flat(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Name -> value of everything that decides a run's weights; those of a phase are named after it."""
    settings = dict(plan.get("settings", {}))
    phases = settings.pop("phases", [])
    parts = {f"{name} of phase {i}": value for i, phase in enumerate(phases, 1) for name, value in phase.items()}
    return {name: plan.get(name) for name in ("corpus", "seed", "steps")} | settings | parts


def _finished(folder: Path, plan: Mapping[str, Any]) -> Pretrained | None:
    """Return the run that was completed in this folder before, if any, and is still whole."""
    if not (folder / "args.json").is_file() or (folder / STATE_FILE).is_file():
        return None
    args = json.loads((folder / "args.json").read_text(encoding="utf-8"))
    _check_plan(args, plan, folder)
    if not all((folder / file).is_file() for file in ("vocab.json", WEIGHTS[0])):
        return None  # what is gone is computed again
    n_genes = len(json.loads((folder / "vocab.json").read_text(encoding="utf-8"))) - N_SPECIAL
    n_cells = sum(file["cells"] for file in args["corpus"])
    return Pretrained(folder, n_cells, n_genes, args["steps"], args["final_losses"])


def _write_history(history: Sequence[Sequence[float]], ends: Sequence[int], path: Path) -> None:
    """One row for every ten steps of a phase: the last of them, the phase, and the means of the losses."""
    lines = [",".join(("step", "phase", *LOSSES))]
    for number, (first, end) in enumerate(pairwise((0, *ends)), 1):
        for start in range(first, end, _MEAN_OF):
            stop = min(start + _MEAN_OF, end)
            means = np.mean(history[start:stop], axis=0)
            lines.append(",".join([str(stop), str(number), *(f"{mean:.5f}" for mean in means)]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
