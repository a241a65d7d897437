"""What was done with a query, and what may be said of its labels: as text, as HTML, and as plain values for uns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from frostline.annotation.models import Model
from frostline.annotation.refitting import Reading
from frostline.annotation.shifts import Shift
from frostline.cells.gene_mapping import KINDS
from frostline.cells.queries import NOTHING, Query
from frostline.cells.values import PRESENCE
from frostline.escaping import for_html, html_table, one_line

if TYPE_CHECKING:
    import pandas as pd

LISTED = 20
"""Names of genes of one kind that are listed."""
UNTESTED = (
    "The model keeps no reference cells: whether this query differs from the training data was not tested, and the "
    "stated error holds only if it does not."
)


def facts_of(
    model: Model, query: Query, reading: Reading, shift: Shift | None, summary: Mapping[str, Any]
) -> dict[str, Any]:
    """All that a report says, as values that an .h5ad file holds: no None in it, and no name of a class as a key."""
    blind = reading.calibration.why_none_unknown
    return {
        "model": _model(model),
        "query": {
            "name": query.name,
            "cells": len(query),
            "values": query.values.name,
            "evidence": query.values.evidence,
            "notes": [*query.notes, *_of_presence(model, query)],
        },
        "genes": _genes(model, reading),
        "fit": _fit(model, reading),
        "certificate": _certificate(model, reading, shift),
        "shift": _shift(shift),
        **({"why_none_unknown": blind} if blind else {}),
        **summary,
    }


def _of_presence(model: Model, query: Query) -> Iterator[str]:
    """What to say where only one side has how much of a gene is expressed."""
    labelled = model.card["dataset"]["values"]
    sides = f"The values of the query are {query.values.name}, those of the labelled cells {labelled}"
    if query.values.name == PRESENCE != labelled:
        yield f"{sides}: how much of a gene is expressed is lost, and labels may be wrong; annotate the counts instead."
    elif labelled == PRESENCE and query.values.name not in (PRESENCE, NOTHING.name):
        yield f"{sides}: labels may be wrong; annotate presence as well (adata.X = (adata.X > 0).astype('float32'))."


def _model(model: Model) -> dict[str, Any]:
    data = model.card["dataset"]
    return {
        "strategy": model.strategy.name,
        "dataset": data["name"],
        "sha256": data["sha256"],
        "kept": model.card["kept"],
    }


def _genes(model: Model, reading: Reading) -> dict[str, Any]:
    mapping = reading.mapping
    covered = {} if mapping.covered is None else {"covered": mapping.covered}
    return {
        **mapping.counts,
        **{f"{kind}_names": list(mapping.of_kind(kind)[:LISTED]) for kind in KINDS[3:]},
        "query": len(mapping.names),
        "model": len(model.genes),
        "shared": len(reading.places),
        "read": len(model.strategy.genes_),
        "missing": reading.needs.missing,
        **covered,
    }


def _fit(model: Model, reading: Reading) -> dict[str, Any]:
    needs = reading.needs
    facts: dict[str, Any] = {"done": reading.done, "why": list(needs.sentences)}
    if needs.depths is not None:
        facts |= {"depth_query": needs.depths[0], "depth_reference": needs.depths[1]}
    if needs.thinned is not None:
        facts["thinned"] = needs.thinned
    if reading.accuracy is not None and reading.reference is not None:
        facts |= {"accuracy": reading.accuracy, "reference_cells": len(reading.reference())}
        facts["counted"] = reading.calibration.certificate.n
        lost, left = _lost(model, reading), reading.reference().labels
        if lost:
            facts |= {"lost": lost, "lost_cells": [int((left == name).sum()) for name in lost]}
    return facts


def _lost(model: Model, reading: Reading) -> list[str]:
    """Classes that the model can answer and, fitted again, cannot: too few of their reference cells were left."""
    return sorted(set(model.classes) - set(reading.strategy.classes_))


def _certificate(model: Model, reading: Reading, shift: Shift | None) -> dict[str, Any]:
    found, holds = reading.calibration.certificate, _holds(model, reading, shift)
    facts: dict[str, Any] = {"sentence": found.sentence, "target": found.target, "holds": holds}
    return facts if found.threshold is None else facts | {"threshold": found.threshold}


def _holds(model: Model, reading: Reading, shift: Shift | None) -> str:
    """`yes`, `no`, or `not known`."""
    if reading.calibration.certificate.threshold is None or (shift is not None and shift.differs):
        return "no"
    if shift is None or shift.auroc is None or reading.done == "calibrated again" or _lost(model, reading):
        return "not known"
    return "yes"


def _shift(shift: Shift | None) -> dict[str, Any]:
    if shift is None:
        return {"sentence": UNTESTED}
    found: dict[str, Any] = {"sentence": shift.sentence, "differs": shift.differs}
    if shift.auroc is not None:
        found |= {"auroc": shift.auroc, "low": shift.low, "high": shift.high}
    return found


@dataclass(frozen=True)
class Report:
    """What was done with a query, and what may be said of its labels."""

    facts: Mapping[str, Any] = field(repr=False)
    """As `facts_of` gives them; what stands in uns."""

    @property
    def labels(self) -> pd.DataFrame:
        """Cells of each label, most first."""
        import pandas as pd

        cells, n = pd.Series(self.facts["cells"], dtype="int64"), max(1, self.facts["query"]["cells"])
        return pd.DataFrame({"label": self.facts["labels"], "cells": cells, "share": cells / n})

    @property
    def lines(self) -> list[tuple[str, str]]:
        """(what, text) of everything but the labels."""
        return list(self._lines())

    def _lines(self) -> Iterator[tuple[str, str]]:
        facts = self.facts
        yield "cells", f"{facts['query']['cells']:,} of {facts['query']['name']}"
        model = facts["model"]
        yield "model", f"{model['strategy']}, fitted on {model['dataset']}, kept {model['kept']}"
        yield "values", f"{facts['query']['values']} ({facts['query']['evidence']})"
        yield "genes", _gene_words(facts["genes"])
        yield "fit", _fit_words(facts["fit"])
        yield "stated error", _error_words(facts["certificate"], facts["fit"])
        yield "like the training data?", facts["shift"]["sentence"]
        reasons = facts["reasons"]
        yield "unknown", _unknown_words(facts)
        if "threshold" in facts["certificate"]:
            yield (
                "unsure",
                f"{reasons['low confidence']:,} labels have a low confidence; the column of sets has coarser ones",
            )
        for note in facts["query"]["notes"]:
            yield "note", note

    def __str__(self) -> str:
        rows = [f"{what}: {one_line(text)}" for what, text in self.lines]
        counts = self.labels
        width = max((len(one_line(name)) for name in counts["label"]), default=0)
        named = [f"  {one_line(row.label):{width}}  {row.cells:8,}  {row.share:6.1%}" for row in counts.itertuples()]
        return "\n".join([*rows, "labels:", *(named or ["  none: there is no cell"])])

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{for_html(what)}</th><td>{for_html(text)}</td></tr>" for what, text in self.lines)
        counts = self.labels.assign(share=[f"{100 * share:.1f} %" for share in self.labels["share"]])
        return (
            f"<table class='frostline-words'><caption>Annotation</caption><tbody>{rows}</tbody></table>"
            f"{html_table(counts, 'frostline-table')}"
        )


def _gene_words(genes: Mapping[str, Any]) -> str:
    covered = f", with {100 * genes['covered']:.1f} % of the query's counts" if "covered" in genes else ""
    counts = ", ".join(f"{genes[kind]:,} {kind}" for kind in KINDS if genes[kind])
    lost = [f"{kind}: {_some(genes[f'{kind}_names'], genes[kind])}" for kind in KINDS[3:] if genes[kind]]
    words = (
        f"{genes['shared']:,} of the model's {genes['model']:,} are among the query's {genes['query']:,}{covered} "
        f"({counts}); of {genes['read']:,} that it reads {genes['missing']:,} are missing"
    )
    return "; ".join([words, *lost])


def _some(names: list[str], n: int) -> str:
    return f"{', '.join(names[:5])}{', ...' * (n > 5)}"


def _fit_words(fit: Mapping[str, Any]) -> str:
    if fit["done"] == "as kept":
        return "as kept: the query has what the model reads"
    thinned = f", thinned to {100 * fit['thinned']:.0f} % of their counts" if "thinned" in fit else ""
    cut = f"{fit['done']} on {fit['reference_cells']:,} reference cells cut to the shared genes{thinned}"
    seen = "was fitted on them" if fit["done"] == "calibrated again" else "had not seen each of them"
    shares = "with the classes in the shares that they have among all labelled cells"
    lost = [
        f"{name} ({n:,} reference cells left)"
        for name, n in zip(fit.get("lost", ()), fit.get("lost_cells", ()), strict=True)
    ]
    without = f". It cannot answer {', '.join(lost)}" if lost else ""
    drawn = fit["counted"] < fit["reference_cells"] - sum(fit.get("lost_cells", ()))
    some = f"; errors are counted on {fit['counted']:,} of them, drawn in these shares" if drawn else ""
    return (
        f"{cut}, because {' and '.join(fit['why'])}. Their accuracy, by a model that {seen}, is {fit['accuracy']:.3f} "
        f"{shares}: an upper bound of what to expect{some}{without}"
    )


def _error_words(certificate: Mapping[str, Any], fit: Mapping[str, Any]) -> str:
    sentence = str(certificate["sentence"])
    if "threshold" not in certificate or certificate["holds"] == "yes":
        return sentence
    if certificate["holds"] == "no":
        return f"{sentence} For this query that does not hold: it differs from the training data."
    if fit["done"] == "calibrated again":
        return (
            f"{sentence} For this query that is an upper bound: it was counted on cells that the model was fitted on."
        )
    lost = ", ".join(fit.get("lost", ()))
    without = f": no cell of {lost} can be answered rightly, and none was counted" if lost else ""
    return f"{sentence} Whether that holds for this query is not known{without}."


def _unknown_words(facts: Mapping[str, Any]) -> str:
    far, few = facts["reasons"]["far from training"], facts["reasons"]["too few genes"]
    if "why_none_unknown" in facts:
        return f"{facts['why_none_unknown']} {few:,} cells express too few genes"
    return (
        f"{far:,} cells are far from training (a labelled cell would be called so with a probability of "
        f"{facts['alpha']:g}); {few:,} express too few genes"
    )
