"""What an atlas costs on GPUs and on cores, by the lines of performance.jsonl.

    python tests/benchmarks/performance_costs.py [--cells 50000000] [--genes 250]

`make bench ONLY=cluster` measures what it needs, and writes what it prints for 50 million cells into
book/howto/clusters.md.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from performance_page import Line, cluster_line, table

RESULTS = Path(__file__).with_name("performance.jsonl")
GUIDE = Path(__file__).parents[2] / "book" / "howto" / "clusters.md"
MARKS = ("<!-- costs -->", "<!-- end of costs -->")
CELLS = 50_000_000
RETRIES = 0.02
"""Share of the parts that are computed twice: assumed."""
HEAD = ("Encoder", "Workers", "Cells/s of one", "Hours", "Hours of all together", "Read and written, MB/s")

ASSUMED = """\
Measured on one core of this machine: `mini`; values that are read and become tokens, {reading:,.0f} cells/s, which are
encoded after that by the same thread; and, beside other software, the size of whole-human.

{gpu}

Where cells have another number of genes than those that were measured, time is in proportion to the floating-point
operations: for a token {flop}.

The cells/s of one worker are those times an efficiency of {efficiency:.2f}, which is that of two workers on 100,000
cells and is assumed of more: parts are independent, and
the last column is what the file system has to give, of 8 bytes a value read and 4 a number written.

{retries:.0f} % of the parts are computed twice, which is assumed. Waiting in the queue of a batch system is not in it.

Memory of the process that hands out the parts {memory}: it holds the names of all cells."""


ON_GPU = """\
Measured on a GPU, one {gpu}, not on this machine: whole-human's size from values in memory to states, {rates}. Added to
that is the time in which one core here reads as many values and makes tokens of them, so that the tokens are counted
twice. Not measured: more than one GPU."""


@dataclass(frozen=True)
class Encoder:
    """Its sizes."""

    name: str
    layers: int
    width: int
    hidden: int

    def flop(self, tokens: float) -> float:
        """Floating-point operations of one token among so many: four projections, two layers, and attention.

        Of two for each product and sum.
        """
        products = 4 * self.width**2 + 2 * self.width * self.hidden
        return 2 * self.layers * (products + 2 * tokens * self.width)


MINI = Encoder("`mini`", 4, 128, 256)
WHOLE = Encoder("whole-human's size", 12, 512, 512)


@dataclass(frozen=True)
class Rate:
    """Cells a second of one worker, as measured on cells of so many tokens."""

    encoder: Encoder
    worker: str
    cells: float
    """Of the encoder."""
    tokens: float
    numbers: tuple[int, ...]

    def at(self, genes: int, reading: float) -> float:
        """Cells a second of so many genes: first the values are read and become tokens, then they are encoded."""
        tokens = genes + 1
        more = tokens * self.encoder.flop(tokens) / (self.tokens * self.encoder.flop(self.tokens))
        return 1 / (more / self.cells + genes / reading)


def rates(lines: Sequence[Line]) -> tuple[list[Rate], float, float]:
    """Rates of encoders, genes that one core reads in a second, efficiency of two workers; no rates if not measured."""
    whole, tokens = (cluster_line(lines, what, cells=4_096, how="plain loop") for what in ("embed", "tokens"))
    one, two = (cluster_line(lines, "embed", cells=100_000, how=how) for how in ("plain loop", "2 workers"))
    embed = (line for line in lines if line["part"] == "peers" and line.get("what") == "embed")
    peer = next((line for line in embed if line.get("name") == "frostline"), None)
    mean = next((line["mean"] for line in lines if line.get("name") == "tokens"), None)
    if not (whole and tokens and one and two and peer and mean):
        return [], 0.0, 0.0
    genes = whole["genes"]
    reading = tokens["cells"] * genes / tokens["computing"]
    encoding = whole["computing"] - tokens["computing"]
    found = [
        Rate(MINI, "core", whole["cells"] / encoding, genes + 1, (8, 64, 1_000)),
        Rate(WHOLE, "core", peer["cells"] * peer["threads"] / median(peer["cpu"]), mean, (1_000,)),
        *(Rate(WHOLE, f"GPU, {line['precision']}", speed(line), line["genes"] + 1, (8, 64)) for line in on_gpu(lines)),
    ]
    return found, reading, one["seconds"] / two["seconds"] / 2


def on_gpu(lines: Sequence[Line]) -> list[Line]:
    """Lines of an encoder of whole-human's size that embeds on a GPU, one of each precision."""
    own = (line for line in lines if line["part"] == "gpu" and line.get("what") == "embedding" and "seconds" in line)
    return [line for line in own if line["size"] == "whole-human"]


def speed(line: Line) -> float:
    """Cells a second by the clock."""
    return float(line["cells"] / median(line["seconds"]))


def costs(lines: Sequence[Line], cells: int = CELLS, genes: int = 250) -> str:
    """Markdown: a table, and what it assumes."""
    found, reading, efficiency = rates(lines)
    if not found:
        return "Not measured yet.\n"
    rows = [
        _row(rate, rate.at(genes, reading) * efficiency, number, cells, genes)
        for rate in found
        for number in rate.numbers
    ]
    few, many = (cluster_line(lines, "embed", cells=n, how="2 workers") for n in (20_000, 200_000))
    held = (many["own_mb"] - few["own_mb"]) * 1e6 / (many["cells"] - few["cells"]) if few and many else None
    memory = "was not measured" if held is None else f"is {held * cells / 1e9:,.0f} GB, {held:,.0f} bytes a cell"
    flop = " and ".join(f"{each.flop(genes + 1) / 1e6:,.1f} million of {each.name}" for each in (MINI, WHOLE))
    measured = on_gpu(lines)
    said = " and ".join(
        f"{speed(line):,.0f} cells/s of {line['genes']} genes in {line['precision']}" for line in measured
    )
    gpu = ON_GPU.format(gpu=measured[0]["gpu"], rates=said) if measured else "Nothing was measured on a GPU."
    assumed = ASSUMED.format(
        reading=reading / genes, memory=memory, flop=flop, efficiency=efficiency, retries=100 * RETRIES, gpu=gpu
    )
    points = "\n".join(
        textwrap.fill(f"- {text}", 120, subsequent_indent="  ", break_on_hyphens=False)
        for text in assumed.split("\n\n")
    )
    head = f"{cells:,} cells of {genes:,} expressed genes, which are {genes + 1:,} tokens each:"
    return f"{head}\n\n{table(HEAD, rows)}\n{points}\n"


def _row(rate: Rate, each: float, number: int, cells: int, genes: int) -> list[str]:
    """Of so many workers, each of so many cells a second."""
    seconds = cells * (1 + RETRIES) / (each * number)
    kind, _, precision = rate.worker.partition(", ")
    workers = f"{number:,} {kind}s" + (f", {precision}" if precision else "")
    moved = cells * (8 * genes + 4 * rate.encoder.width) / seconds / 1e6
    amounts = [
        f"{each:,.{0 if each > 10 else 1}f}",
        f"{seconds / 3600:,.{1 if seconds >= 3600 else 2}f}",
        f"{number * seconds / 3600:,.0f}",
        f"{moved:,.0f}",
    ]
    return [rate.encoder.name, workers, *amounts]


def written(page: str, text: str) -> str:
    """A page with a text between the marks."""
    before, rest = page.split(MARKS[0])
    return f"{before}{MARKS[0]}\n{text}{MARKS[1]}{rest.split(MARKS[1])[1]}"


def stored() -> list[Line]:
    """Lines of performance.jsonl."""
    return [json.loads(line) for line in RESULTS.read_text("utf-8").splitlines()]


def main() -> None:
    """Print costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=CELLS)
    parser.add_argument("--genes", type=int, default=250, help="that a cell expresses and the checkpoint knows")
    asked = parser.parse_args()
    print(costs(stored(), asked.cells, asked.genes), end="")


if __name__ == "__main__":
    main()
