"""What a data set holds and what will be refused of it, as a report: text for terminals, HTML for notebooks."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from frostline.cells.gene_mapping import GeneMap
from frostline.cells.gene_names import GeneNames
from frostline.cells.previews import Column, Preview
from frostline.cells.values import Values
from frostline.escaping import UNFORMULATED, for_html, for_terminal, one_line, shortened
from frostline.records import Finding

KEY = 24
"""Characters of the first column of the text; longer names lose their middle."""
NARROW = 60
"""Characters of a terminal below which there are no columns."""
SHOWN = 12
"""Classes and columns that are shown; the fields hold all."""


@dataclass(frozen=True)
class Matrix:
    """One of the matrices of cells x genes: X, raw or a layer."""

    name: str
    n_genes: int
    storage: str
    """Such as CSR float32."""
    kind: str
    """What the values are, in a few words, or that somebody has to say it."""
    evidence: str
    """What was seen, or why it is refused."""
    n_values: int | None = None
    """Values that are not zero, of all cells; estimated where some were looked at. None where it cannot be read."""
    n_empty: int | None = None
    """Cells without any value, of those looked at."""
    values: Values | None = None
    """What `load_dataset` would find; None where it refuses them."""

    @property
    def n_bytes(self) -> int | None:
        """Memory that it takes once it is loaded: a float32 and a column number for each value."""
        return None if self.n_values is None else 8 * self.n_values


@dataclass(frozen=True)
class Refusal:
    """What will be refused."""

    message: str
    """As the error will say it."""
    by: tuple[str, ...]
    """What refuses it: load_dataset, adapt, annotate."""
    line: str = ""
    """Line of code that mends it; empty where somebody has to choose."""


@dataclass(frozen=True)
class Coverage:
    """What a checkpoint knows of the genes."""

    checkpoint: str
    genes: GeneMap = field(repr=False)

    def __str__(self) -> str:
        counts, n = self.genes.counts, int((self.genes.places >= 0).sum())
        covered = "" if self.genes.covered is None else f", with {self.genes.covered:.1%} of the counts"
        text = f"knows {n:,} of {len(self.genes.names):,} genes{covered}".replace("%", " %")
        parts = [f"{counts[kind]:,} {kind}" for kind in counts if counts[kind]]
        lost = self.genes.of_kind("lost")[:3]
        return f"{text} ({', '.join(parts)})" + (f"; it lacks, for example, {', '.join(lost)}" if lost else "")


@dataclass(frozen=True)
class Section:
    """A part of the report: rows of a name and a text, and code."""

    title: str
    rows: tuple[tuple[str, str], ...] = ()
    code: str = ""


@dataclass(frozen=True)
class Inspection:
    """What is in a data set, before anything is done with it."""

    outline: Preview
    """Its size, the columns that can hold labels or groups, its layers."""
    n_seen: int
    """Cells whose values were looked at: all, or some that lie evenly where all are too large for memory."""
    matrices: tuple[Matrix, ...]
    default: str
    """Matrix that `load_dataset` takes unless it is given another."""
    recommended: str | None
    """Matrix to take; None where each is refused."""
    why: str
    """Why that one, in one sentence."""
    names: GeneNames
    """What the names of its genes are."""
    gene_source: str
    """Where they are, in Python."""
    coverage: tuple[Coverage, ...]
    """Of each checkpoint that is here."""
    label_key: str | None
    """Column of labels: the one that was named, or the likeliest."""
    group_key: str | None
    """Column of groups: the one that was named, or the likeliest; None where none is likely."""
    classes: Mapping[str, int]
    """Cells of each class, the largest first."""
    n_repeated: Mapping[str, int]
    """How many cells and genes have a name that another one has before them, and cells the values of another."""
    findings: tuple[Finding, ...] = ()
    """What is doubtful about labels and groups as they are written."""
    refusals: tuple[Refusal, ...] = ()
    """In the order in which they would be met."""
    code: str = ""
    """Lines of Python that load it; empty where something has to be decided first."""
    command: str = ""
    """What to type next; empty for what is no file, or has to be mended in Python first."""
    path: Path | None = field(default=None, repr=False)
    """The file; None for what is in memory."""
    labelled: bool = True
    """Whether the report is on labels and groups, too."""

    def as_query(self) -> Inspection:
        """What of it concerns cells that are to be annotated: these need neither labels nor groups."""
        refusals = tuple(refusal for refusal in self.refusals if "annotate" in refusal.by)
        return replace(self, refusals=refusals, code="", command="", labelled=False)

    def matrix(self, name: str) -> Matrix:
        """One of the matrices by its name."""
        return next(matrix for matrix in self.matrices if matrix.name == name)

    @property
    def title(self) -> str:
        """Name and size."""
        return f"{self.outline.name}: {self.outline.n_cells:,} cells x {self.outline.n_genes:,} genes"

    @property
    def is_sample(self) -> bool:
        """Whether the values of some cells only were looked at."""
        return self.n_seen < self.outline.n_cells

    def sections(self) -> Iterator[Section]:
        """Parts of the report, those without content left out."""
        yield Section("Values", tuple(self._values()))
        yield Section("Genes", tuple(self._genes()))
        if self.labelled:
            yield Section("Labels", tuple(self._labels()))
            yield Section("Groups", tuple(_of_columns(self._group_columns(), self.group_key)))
        if self.refusals:
            yield Section("Refused", tuple(_of_refusals(self.refusals)))
        if self.code or self.command:
            command = f"\n\n{self.command}" if self.command and self.code else self.command
            yield Section("Next", (), self.code + command)

    def _values(self) -> Iterator[tuple[str, str]]:
        for each in self.matrices:
            size = "" if each.n_values is None else f", {each.n_values:,} values, {_megabytes(each.n_bytes)} loaded"
            empty = f"; {each.n_empty:,} cells without any value" if each.n_empty else ""
            storage = f"{each.n_genes:,} genes, {each.storage}{size}{empty}"
            refused = each.values is None and each.name == self.default
            yield each.name, f"{each.kind} - {'refused, see below' if refused else each.evidence}. {storage}"
        yield "taken by default", self.default
        yield "recommended", f"{self.recommended or 'none'}: {self.why}"
        if self.is_sample:
            yield "looked at", f"{self.n_seen:,} cells that lie evenly, for all together take much memory; tables whole"
        if self.n_repeated["cells"] or self.n_repeated["profiles"]:
            yield (
                "repeated cells",
                f"{self.n_repeated['cells']:,} by name, {self.n_repeated['profiles']:,} by their values",
            )

    def _genes(self) -> Iterator[tuple[str, str]]:
        yield "names", f"{self.gene_source}: {self.names}"
        yield "species", self.names.species or "not shown by the names"
        if self.n_repeated["genes"]:
            yield "repeated names", f"{self.n_repeated['genes']:,}"
        for each in self.coverage:
            yield f"checkpoint {each.checkpoint}", str(each)

    def _labels(self) -> Iterator[tuple[str, str]]:
        yield from _of_columns(self.outline.columns, self.label_key)
        if self.classes:
            shown = [f"{one_line(name)} {n:,}" for name, n in list(self.classes.items())[:SHOWN]]
            more = len(self.classes) - len(shown)
            yield (
                f"cells of {self.label_key}",
                ", ".join(shown) + (f" and {more:,} smaller classes" if more > 0 else ""),
            )
        for finding in self.findings:
            yield finding.severity, f"{finding.title}. {finding.remedy}"

    def _group_columns(self) -> list[Column]:
        names = dict.fromkeys([*self.outline.groups, *([self.group_key] if self.group_key else [])])
        by_name = {column.name: column for column in self.outline.columns}
        return [by_name[name] for name in names if name in by_name]

    def __str__(self) -> str:
        width = min(shutil.get_terminal_size().columns, 120)
        parts = [one_line(self.title)]
        for section in self.sections():
            lines = [line for key, text in section.rows for line in _row(key, text, width)]
            lines += [f"  {for_terminal(line)}".rstrip() for line in section.code.splitlines()]
            parts.append("\n".join(["", section.title, *(lines or ["  none"])]))
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        parts = "".join(map(_section_html, self.sections()))
        return f'<div class="{UNFORMULATED}"><strong>{for_html(one_line(self.title))}</strong>{parts}</div>'


def _row(key: str, text: str, width: int) -> list[str]:
    key, text = shortened(one_line(key), KEY), one_line(text)
    if width < NARROW:
        return [f"{key}: {text}"]
    return textwrap.wrap(
        text, width, initial_indent=f"  {key:{KEY}} ", subsequent_indent=" " * (KEY + 3), break_on_hyphens=False
    ) or [f"  {key}"]


LEFT = 'style="text-align: left; vertical-align: top; min-width: 9em"'
"""JupyterLab sets cells of tables to the right."""


def _section_html(section: Section) -> str:
    rows = "".join(
        f'<tr><th scope="row" {LEFT}>{for_html(one_line(key))}</th><td {LEFT}>{for_html(one_line(text))}</td></tr>'
        for key, text in section.rows
    )
    table = f'<table class="frostline-words"><tbody>{rows}</tbody></table>' if rows else ""
    code = f"<pre><code>{for_html(section.code)}</code></pre>" if section.code else ""
    return f"<div><strong>{for_html(section.title)}</strong></div>{table}{code}" + (
        "" if rows or code else "<p>none</p>"
    )


def _of_columns(columns: Sequence[Column], chosen: str | None) -> Iterator[tuple[str, str]]:
    """Name and what is in it, the chosen one marked and shown in any case."""
    first = [column for column in columns if column.name == chosen]
    for column in [*first, *(column for column in columns if column.name != chosen)][:SHOWN]:
        missing = f", {column.n_missing:,} missing" if column.n_missing else ""
        mark = " (taken)" if column.name == chosen else ""
        yield column.name, f"{column.n_values:,} values, the rarest in {column.n_fewest:,} cells{missing}{mark}"
    if len(columns) > SHOWN:
        yield "...", f"and {len(columns) - SHOWN:,} more columns"


def _of_refusals(refusals: Sequence[Refusal]) -> Iterator[tuple[str, str]]:
    for number, refusal in enumerate(refusals, start=1):
        yield f"{number}", f"{', '.join(refusal.by)}: {refusal.message}"
        if refusal.line:
            yield "mended by", refusal.line


def _megabytes(n_bytes: int | None) -> str:
    n = 0 if n_bytes is None else n_bytes
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:,.1f} MB"
