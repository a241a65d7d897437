"""The kinds of artifacts (a comparison, clusters, labelled cells): how each is written, read, checked and said.

Whoever saves, checks or shows a folder asks its kind; one more is one more `Kind` here, with a line in `of`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from frostline.artifacts import archive, audits, clusters, labelled, pictures, plans, texts
from frostline.artifacts.clusters import Clusters
from frostline.artifacts.labelled import Labelled
from frostline.artifacts.manifests import Manifest
from frostline.comparison.comparisons import Comparison
from frostline.hashes import file_sha256
from frostline.records import save_records
from frostline.settings import RunSettings

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")


@dataclass(frozen=True)
class Kind(Generic[T]):
    """A kind of artifacts, of results of type T."""

    name: str
    source: str
    """File that the others follow from: every picture carries its sha256."""
    files: Callable[[Sequence[str], Sequence[str]], Iterable[str]]
    """Names of the files that strategies and studies leave, the manifest aside."""
    write: Callable[[Path, T, str], None]
    """Write all files of a result into a folder; the text is the data set's name."""
    read: Callable[[Path], T]
    """Read what was written; an ArtifactError where that cannot be."""
    facts: Callable[[T, RunSettings], dict[str, Any]]
    """What the manifest says of a result: the parameters as they were run, its strategies, repeats, studies, ..."""
    problems: Callable[[Path, Manifest, bool], tuple[int, list[str]]]
    """Numbers recomputed, and a sentence for everything that is wrong; pictures are drawn again where it is asked."""
    said: Callable[[T], tuple[list[str], pd.DataFrame | None]]
    """The result in sentences, and the table below them, if there is one."""
    rescue: Callable[[Path, T], None]
    """Write what cannot be computed from the rest, when writing all of it failed."""
    remedy: str
    """How to read again what was rescued."""


def of(studies: Sequence[str]) -> Kind[Any]:
    """Kind of the artifacts of a run with these studies.

    Examples
    --------
    >>> of(["label_efficiency"]).name, of(["clusters"]).name, of(["annotation"]).name
    ('comparison', 'clusters', 'annotation')
    """
    return next((kind for kind in (CLUSTERS, ANNOTATION) if kind.name in studies), COMPARISON)


def _files(strategies: Sequence[str], studies: Sequence[str]) -> list[str]:
    data = [*archive.FILES, archive.STUDIES] if studies else archive.FILES
    return [*data, *texts.names_of(studies), *pictures.names_of(strategies, studies)]


def _write(folder: Path, comparison: Comparison, _dataset: str) -> None:
    studies = plans.studies(comparison)
    archive.write(folder, comparison)
    for name in texts.names_of(studies):
        (folder / name).write_bytes(texts.text_of(comparison, name).encode())
    source, data = file_sha256(folder / archive.PREDICTIONS), archive.data_sha256(folder)
    for name in pictures.names_of(comparison.strategies, studies):
        content = pictures.draw(comparison, name, source)
        (folder / name).write_bytes(content)
        pictures.remember(data, name, content)


def _rescue(folder: Path, comparison: Comparison) -> None:
    save_records(list(plans.all_records(comparison)), folder / archive.RECORDS)


def _said(comparison: Comparison) -> tuple[list[str], pd.DataFrame]:
    findings = dict.fromkeys(f"{f.severity}: {f.title}" for f in comparison.findings if f.severity != "note")
    return [comparison.verdict, *findings], comparison.table()


COMPARISON: Kind[Comparison] = Kind(
    name="comparison",
    source=archive.PREDICTIONS,
    files=_files,
    write=_write,
    read=archive.read,
    facts=plans.facts,
    problems=audits.problems,
    said=_said,
    rescue=_rescue,
    remedy=f"frostline.compare(frostline.records.load_records(FOLDER / {archive.RECORDS!r}))",
)
CLUSTERS: Kind[Clusters] = Kind(
    name=clusters.STUDY,
    source=clusters.CELLS,
    files=lambda _strategies, _studies: clusters.FILES,
    write=clusters.write,
    read=clusters.read,
    facts=clusters.facts,
    problems=clusters.problems,
    said=lambda found: ([clusters.described(found)], None),
    rescue=clusters.write_data,
    remedy="numpy.load and pandas.read_csv",
)


Kept = tuple[Comparison, Labelled]
"""A comparison, its winner as a model, and cells that this has labelled."""


def _others(studies: Sequence[str]) -> list[str]:
    return [name for name in studies if name != labelled.STUDY]


def _write_kept(folder: Path, found: Kept, dataset: str) -> None:
    _write(folder, found[0], dataset)
    labelled.write(folder, found[1], dataset, file_sha256(folder / archive.PREDICTIONS))


def _rescue_kept(folder: Path, found: Kept) -> None:
    _rescue(folder, found[0])
    labelled.write_data(folder, found[1])


def _facts_of_kept(found: Kept, settings: RunSettings) -> dict[str, Any]:
    facts = plans.facts(found[0], settings)
    return {**facts, "studies": [*facts["studies"], labelled.STUDY]}


def _problems_of_kept(folder: Path, manifest: Manifest, draws: bool) -> tuple[int, list[str]]:
    compared = manifest.model_copy(update={"studies": _others(manifest.studies)})
    numbers, wrong = audits.problems(folder, compared, draws)
    more, others = labelled.problems(folder, manifest, draws)
    return numbers + more, wrong + others


def _said_of_kept(found: Kept) -> tuple[list[str], pd.DataFrame]:
    sentences, table = _said(found[0])
    return [*labelled.described(found[1]), *sentences], table


ANNOTATION: Kind[Kept] = Kind(
    name=labelled.STUDY,
    source=archive.PREDICTIONS,
    files=lambda strategies, studies: [*_files(strategies, _others(studies)), *labelled.FILES],
    write=_write_kept,
    read=lambda folder: (archive.read(folder), labelled.read(folder)),
    facts=_facts_of_kept,
    problems=_problems_of_kept,
    said=_said_of_kept,
    rescue=_rescue_kept,
    remedy=f"{COMPARISON.remedy}, anndata.read_h5ad, and frostline.load_model when the ZIP is unpacked",
)
