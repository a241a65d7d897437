"""What a run of pre-training is made of: its phases and the hyper-parameters that they share.

The defaults made the `mini` checkpoint; frostline.pretraining says why they are what they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from frostline.errors import FrostlineError

LOSSES = ("loss", "components", "mvc", "contrast")
"""Of a step: their weighted sum; mean squared error of the components; that of bins / 50; InfoNCE."""


@dataclass(frozen=True)
class Phase:
    """A stretch of a run with its own objective, optimiser and learning-rate schedule.

    Examples
    --------
    >>> Phase(steps=1200, subset_sizes=(96, 192)).batch_cells
    64
    """

    steps: int
    """Steps of the phase, in a run of as many as all phases have; others are divided in proportion."""
    subset_sizes: tuple[int, ...] = (48, 96, 160)
    """Genes a cell shows in one step; one of these sizes is drawn per step."""
    batch_cells: int = 64
    """Cells a step, each seen as two gene subsets."""
    n_components: int = 64
    """Principal components of the pooled log-normalised cells that `<cls>` predicts."""
    exponent: float = 0.25
    """A component's standard deviation is its singular value to this power: 0 weights all alike."""
    n_neighbors: int = 0
    """Cells of the corpus, the cell among them, whose mean components it predicts too; 0: none."""
    mvc_weight: float = 0.5
    """Weight of the mean squared error of bins / 50."""
    contrast_weight: float = 0.3
    """Weight of InfoNCE between the two subsets."""
    learning_rate: float = 2e-4
    """Peak learning rate of AdamW; 1e-3 lets a post-norm encoder collapse."""
    warmup: int = 100
    """Steps over which the learning rate rises from zero; it falls as a cosine to the last step."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise FrostlineError(f"the steps of a phase must be at least 1, got {self.steps}")
        if not self.subset_sizes or min(self.subset_sizes) < 1:
            raise FrostlineError(f"subset_sizes must hold positive numbers of genes, got {self.subset_sizes}")
        if self.batch_cells < 2:
            raise FrostlineError("batch_cells must be at least 2: InfoNCE compares cells with one another")


PHASES = (
    Phase(steps=1460),
    Phase(
        steps=600,
        subset_sizes=(192, 384, 640),
        batch_cells=24,
        n_components=24,
        exponent=0.0,
        n_neighbors=30,
        mvc_weight=0.1,
        contrast_weight=0.0,
        learning_rate=2e-4,
        warmup=50,
    ),
)


@dataclass(frozen=True)
class PretrainSettings:
    """Hyper-parameters of a pre-training run, the seed and the number of steps aside.

    Examples
    --------
    >>> PretrainSettings(d_model=64).d_hid
    256
    """

    d_model: int = 128
    """Width of the encoder; also the number of singular vectors the gene embeddings start from."""
    n_layers: int = 4
    """Transformer layers."""
    n_heads: int = 4
    """Attention heads."""
    d_hid: int = 256
    """Feed-forward width."""
    dropout: float = 0.0
    """Dropout while pre-training; the random gene subsets already regularise."""
    min_fraction: float = 0.01
    """A gene enters the vocabulary when at least this fraction of the cells of one set express it."""
    phases: tuple[Phase, ...] = PHASES
    """One after the other; each goes on from the encoder and the heads of the one before."""
    mvc_genes: int = 32
    """Expressed genes, and as many random measured ones, whose bins `<cls>` predicts."""
    temperature: float = 0.1
    """Of InfoNCE, over cosine similarities."""
    embedding_rate: float = 0.3
    """Learning rate of the gene embeddings as a fraction of that of the phase."""
    weight_decay: float = 0.01
    """Of AdamW, on every parameter."""
    clip: float = 1.0
    """Largest norm of the gradient."""

    def __post_init__(self) -> None:
        if self.d_model % self.n_heads:
            raise FrostlineError(f"d_model {self.d_model} is not divisible by n_heads {self.n_heads}")
        if not self.phases:
            raise FrostlineError("phases must hold at least one phase")

    @property
    def steps(self) -> int:
        """Steps of all phases together."""
        return sum(phase.steps for phase in self.phases)

    def ends(self, steps: int) -> tuple[int, ...]:
        """Return the step at which each phase of a run of `steps` ends.

        Examples
        --------
        >>> PretrainSettings(phases=(Phase(steps=3), Phase(steps=1))).ends(100)
        (75, 100)
        """
        totals = accumulate(phase.steps for phase in self.phases)
        return tuple(round(steps * total / self.steps) for total in totals)

    @property
    def objective(self) -> str:
        """What `<cls>` has to tell, in words; of each phase where they differ."""

        def each(name: str) -> str:
            values = [f"{getattr(phase, name):g}" for phase in self.phases]
            return values[0] if len(set(values)) == 1 else " then ".join(values)

        return (
            f"mean squared error of {each('n_components')} principal components of the cell from <cls>, and of their "
            f"means over {each('n_neighbors')} neighbours, "
            f"+ {each('mvc_weight')} x MVC, + {each('contrast_weight')} x InfoNCE between two random gene subsets "
            "of the cell"
        )
