"""A finding where a checkpoint's vocabulary knows too little of a data set."""

from __future__ import annotations

from collections.abc import Iterator

from frostline.cells.genes import FEW_MATCHED, LITTLE_COVERED
from frostline.encoder.checkpoints import load_checkpoint
from frostline.encoder.vocabulary import advice, overlap
from frostline.evaluation.cases import Case, Check
from frostline.records import Finding

CODE = "little-vocabulary"


def _little_vocabulary(case: Case) -> Iterator[Finding]:
    if case.checkpoint is None:
        return
    checkpoint = load_checkpoint(case.checkpoint)
    match = overlap(case.dataset, checkpoint)
    if not match.severity:
        return
    cause, remedy = advice(match, case.dataset.adata, case.dataset.gene_source, checkpoint.vocabulary)
    yield Finding(
        CODE,
        match.severity,
        match.counted(checkpoint.label),
        f"{cause} Strategies that start from the checkpoint see nothing of the other genes, so their scores say little "
        f"about it; from {FEW_MATCHED} genes and {LITTLE_COVERED:.0%} of the counts on this is not reported.".strip(),
        f"{remedy} Strategies without a checkpoint, such as pca_logistic, are not concerned.",
    )


CHECKS: tuple[Check, ...] = (_little_vocabulary,)
