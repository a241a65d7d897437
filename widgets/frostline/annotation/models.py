"""What is kept of a comparison to label other cells: a fitted strategy, its calibration, some of its cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.annotation.novelty import why_none_unknown
from frostline.escaping import for_html, one_line
from frostline.strategies.base import Strategy

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy import sparse

    from frostline.annotation import Annotation
    from frostline.annotation.certificates import Certificate
    from frostline.annotation.crossfitting import CrossFitted
    from frostline.annotation.hierarchies import Hierarchy
    from frostline.annotation.novelty import Centroids
    from frostline.cells.datasets import Dataset


UNKNOWN = "Unknown"
"""Label of a cell that gets none."""
BETWEEN = " | "
"""Between the classes of a coarser answer."""


@dataclass(frozen=True)
class Calibration:
    """What cross-fitted predictions of the labelled cells say about the confidence of a model."""

    temperature: float
    """Divides the logits; at least 1."""
    certificate: Certificate
    """The confidence from which answers hold the promised accuracy, or why there is none."""
    energies: NDArray[np.float64] = field(repr=False)
    """(n_calibration,) energy of each labelled cell under a model that had not seen it."""
    distances: NDArray[np.float64] = field(repr=False)
    """(n_calibration,) its distance to the nearest class."""
    centroids: Centroids = field(repr=False)
    """Classes in the representation of the kept model."""
    hierarchy: Hierarchy = field(repr=False)
    """Which classes may be answered together where one alone is not safe."""
    alpha: float = 0.05
    """Share of known cells that may be called unknown."""

    @property
    def why_none_unknown(self) -> str:
        """Why no cell can be called unknown; empty where one can."""
        return why_none_unknown(self.energies, self.distances, self.alpha)


@dataclass(frozen=True)
class Reference:
    """Some of the labelled cells, to fit again on the genes and the depth of a query."""

    values: sparse.csr_matrix = field(repr=False)
    """(n_cells, n_genes) counts, or what stands for them: not logged."""
    labels: NDArray[np.str_] = field(repr=False)
    groups: NDArray[np.str_] | None = field(repr=False)
    counted: bool
    """Whether the values are whole numbers, which can be thinned."""


LOST = (
    "It keeps none of its cells: it cannot be fitted again on the genes or the depth of a query, which is refused "
    "where these are too few, and nothing tests whether a query differs from the cells that it was fitted on."
)
"""What a model without reference cells cannot do."""


@dataclass(frozen=True, repr=False)
class Model:
    """A fitted strategy with all that labelling other cells needs; made by `frostline.adapt`."""

    strategy: Strategy
    genes: tuple[str, ...]
    """Names of the genes of the labelled cells, in the order of `Reference.values`."""
    ensembl: tuple[str, ...]
    """Ensembl id of each; empty where it is not known."""
    calibration: Calibration
    reference: Reference | None
    """None where the labelled cells were not to be kept."""
    card: Mapping[str, Any]
    """Where it is from, as JSON holds it: data set, label column, fingerprint, split, metrics, verdict, checkpoint,
    versions."""
    cross_fitted: CrossFitted | None = None
    """What its calibration was made of, cell by cell; None in a model that was loaded."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes that it can answer, sorted."""
        return self.strategy.classes_

    def annotate(self, query: str | Path | AnnData | Dataset, key: str = "frostline", **options: Any) -> Annotation:
        """Label cells, as `frostline.annotation.annotate` does.

        Parameters
        ----------
        query, key, options
            Its arguments: layer, values, gene_column, chunk, overwrite, monitor.
        """
        from frostline.annotation import annotate  # by the door: what labels with a model knows of models

        return annotate(self, query, key, **options)

    def save(self, folder: str | Path) -> Path:
        """Keep it in a folder, which `frostline.load_model` reads.

        Parameters
        ----------
        folder
            New, empty, or of a model already, which is replaced.

        Raises
        ------
        ModelError
            The folder holds anything else, or cannot be written.
        """
        from frostline.annotation import save_model  # by the door of the room: that module imports this one

        return save_model(self, folder)

    def __repr__(self) -> str:
        rows = [f"  {name}: {one_line(text)}" for name, text in self._facts()]
        return "\n".join([f"Model {self.strategy.name} of {len(self.classes)} classes", *rows])

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{for_html(name)}</th><td>{for_html(text)}</td></tr>" for name, text in self._facts())
        head = f"Model {for_html(self.strategy.name)} of {len(self.classes)} classes"
        return f"<table class='frostline-words'><caption>{head}</caption><tbody>{rows}</tbody></table>"

    def _facts(self) -> Iterator[tuple[str, str]]:
        """What a reader should know of it, by name."""
        card = self.card
        data, metrics, fit = card["dataset"], card["metrics"], card["fit"]
        yield "classes", ", ".join(self.classes)
        yield (
            "fitted on",
            f"{data['cells']:,} cells of {data['name']}, labels in {data['label_key']}, "
            + (f"groups in {data['group_key']}" if data["group_key"] else "no groups"),
        )
        yield "genes", f"reads {len(self.strategy.genes_):,} of {len(self.genes):,}"
        if card["checkpoint"]:
            yield "checkpoint", f"{card['checkpoint']['name']} ({card['checkpoint']['weights_sha256'][:12]})"
        yield "verdict", card["verdict"]
        yield (
            "on cells it had not seen",
            f"macro-F1 {_shown(metrics['macro_f1'])}, accuracy {_shown(metrics['accuracy'])}, in {fit['folds']} folds "
            f"of {'whole groups' if fit['kind'] == 'group' else 'cells'}",
        )
        yield "stated error", self.calibration.certificate.sentence
        if self.calibration.why_none_unknown:
            yield "unknown cells", self.calibration.why_none_unknown
        if self.reference is None:
            yield "reference cells", f"none. {LOST}"
        else:
            what = "counts" if self.reference.counted else "normalised values"
            yield "reference cells", f"{len(self.reference.labels):,}, as {what}"
        for text in card["notes"]:
            yield "note", text


def _shown(value: float | None) -> str:
    return "NA" if value is None else f"{value:.3f}"
