"""The page of the book about speed and memory, from the stored lines of `performance.py` and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

PAGE = Path(__file__).parents[2] / "book" / "performance.md"
Line = dict[str, Any]
WORDS = {
    "embedding": "frozen embedding by `mini`",
    "lora": "one epoch of LoRA on `mini`",
    "pca_logistic": "fit of `pca_logistic`",
    "annotate": "labelling a file",
}
COLUMNS = ("Seconds", "Of the processor", "Cells in one of these", "Memory, MB")
PARAMETERS = 12 * (4 * 512**2 + 2 * 512 * 512)  # of the matrix products of one token in the blocks of whole-human
NUMBERS = ("seconds", "computing", "cpu", "own_mb", "worker_mb")
"""Of a measurement on workers."""
LINEAR = 1.1
"""Log-log slope up to which time is called linear in cells."""

HEAD = """# Speed and memory

How long frostline takes, how that grows, and how it compares. All numbers of this page are measured by `make bench`,
which also writes the page; a single part is run again with `make bench ONLY=part`. Seconds are medians by the clock,
with the smallest and largest run in brackets; those of the processor, of all threads together, depend less on what
else runs on the machine. Memory is the highest above what the process held before the work, without the data set
itself and what is returned. Where a size was not measured, the table says so; nothing is extrapolated.

`mini`, the encoder that is installed, has 4 layers of 128 dimensions; scGPT's whole-human has 12 of 512.
"""
GROWTH = """## By the number of cells

Cells are made up; how many genes each expresses is in the table. LoRA trains on 60 % of the cells and validates on
15 % after the epoch, `pca_logistic` fits on 60 % and chooses genes and C, and labelling reads a file in chunks. The
slope is that of log(seconds of the processor) over log(cells): 1 is linear, below 1 what is paid once still counts.
"""
DEPTH = """## By the genes of a cell

A cell's tokens are the genes that it expresses. Every token attends to every other one, so that long cells cost more
than in proportion; the slopes are those over log(genes).
"""
PEERS = """{title}

The same {cells} cells of `pbmc68k-reduced`, {mean:.0f} tokens each on average, from values to states, taken in turns
in one process and with the same threads. The weights have the shape of scGPT's whole-human model and are random:
speed does not depend on their values. scDLKit {scdlkit} pads every cell to the length of the gene list; its fastest
batch was sought first. `nn.TransformerEncoder` is torch's own, on the batches of frostline.
"""
SHARE = """
A matrix product of this shape reaches {gflops:.0f} GFLOP/s here in fp32 at the same threads; the last column says
which part of that the encoder's own products take.
"""
PLAIN = "## Beside other software"
TITLES = {"peers": PLAIN, "amx": f"{PLAIN}, on a processor with AMX", "gpu": "### Beside other software"}
TRAINING = """### An epoch of LoRA

{cells} cells, of which two thirds train in batches of {batch} and a third validates; weights as above. The adapters are
those of each package: rank 4 in the feed-forward layers here, rank 8 there and in the attention's output, too.
"""
GPU = """## On a GPU

Made-up cells of {genes} genes on one {gpu}. Tokens are the work of one core of the host; the encoder alone begins with
them; embedding goes from values to states, and makes the next tokens while the GPU computes. An epoch of LoRA trains on
three quarters of its cells, {batch} in a batch, and validates on the others; opening the weights is in the seconds, and
so is capturing CUDA graphs, from which steps are replayed as soon as a shape of batches has come twice. Through a
worker, a file is embedded by a process of Dask that declares a GPU, the start of that process included. Memory is that
of the GPU above what was held before.
"""
ON_GPUS = ("gpu", "gpu_training")
"""Parts that a GPU computes."""
ON_GPU = {
    "tokens": "tokens",
    "encoder": "encoder alone",
    "embedding": "embedding",
    "epochs": "{epochs} of LoRA",
    "atlas": "a file through a worker",
}
CACHE = """## What was embedded before

Frozen states are kept on disk, and a later run on the same cells reads them: `frostline cache list`.
"""
CLUSTER = """## Atlases on workers

Made-up atlases embedded by `mini` and labelled by a model, by processes of one thread on this machine and by a plain
loop over the same parts in one process. By default, and where `--workers` gives a number and nothing else is said,
labels of a model without an encoder are computed by the process itself as long as that is the fastest; the workers of
the other lines have a limit of memory, and are started at once. Seconds are of all: looking at the atlas, starting the
workers, computing, writing the output. Computing is the stretch of it in which parts were computed. The processor is
that of all processes together. Memory is the highest of any worker, and of the process that hands out the parts,
all of it.
"""


def page(lines: Sequence[Line]) -> str:
    """Markdown of the page; a part without lines is said to be missing."""
    parts = {line["part"] for line in lines}
    beside = [peers(lines), peers(lines, "amx"), gpu(lines)]
    found = [HEAD, machine(lines), cells(lines), depths(lines), *beside, cache(lines), cluster(lines)]
    every = {"embedding", "lora", "pca_logistic", "annotate", "genes", "peers", "amx", "cache", "cluster", *ON_GPUS}
    missing = sorted(every - parts)
    if missing:
        found.insert(1, f"**Not measured yet: {', '.join(missing)}.**\n")
    return "\n".join(part for part in found if part)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """Markdown; the first columns are texts, others are numbers."""
    rule = [*["---"] * texts, *["---:"] * (len(head) - texts)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows)) + "\n"


def machine(lines: Sequence[Line]) -> str:
    """Where, when and under which load each part was measured."""
    heads = [line for line in lines if "versions" in line]
    if not heads:
        return ""
    machines: dict[str, list[str]] = {}
    for head in heads:
        machines.setdefault(_machine(head), []).append(f"`{head['part']}`")
    first, *others = machines
    said = (
        f"## Machine\n\n{first}. The load is that of the whole machine in the minute before a part and after "
        "each measurement: above the number of cores, other programs took part of it, and seconds by the clock are "
        "longer than alone.\n"
    )
    rows = [[f"`{head['part']}`", head["date"], str(head["threads"]), _loads(lines, head["part"])] for head in heads]
    said += "".join(f"\n{' and '.join(machines[other])} elsewhere: {other}.\n" for other in others)
    return f"{said}\n{table(['Part', 'Measured', 'Threads', 'Load'], rows)}"


def _machine(head: Line) -> str:
    """In words, with the versions."""
    versions = ", ".join(f"{name} {number}" for name, number in head["versions"].items())
    return (
        f"Processor {head['processor']}, {head['cores']} cores, {head['memory_gb']} GB of memory, {head['system']}; "
        f"{versions}"
    )


def _loads(lines: Sequence[Line], part: str) -> str:
    """Load before a part and after each measurement, from the lowest to the highest."""
    found = [line["load"] for line in lines if line["part"] == part and line.get("load") is not None]
    low, high = (f"{value:.1f}" for value in (min(found, default=math.nan), max(found, default=math.nan)))
    return "" if not found else low if low == high else f"{low} to {high}"


def cells(lines: Sequence[Line]) -> str:
    """Seconds and memory by the number of cells, and their slopes."""
    parts = [part for part in WORDS if any(line["part"] == part for line in lines)]
    if not parts:
        return ""
    rows, slopes = [], []
    for part in parts:
        own = [line for line in lines if line["part"] == part and "cells" in line]
        rows += [[WORDS[part], f"{line['genes']:,}", f"{line['cells']:,}", *shown(line)] for line in own]
        done = [line for line in own if "seconds" in line]
        if len(done) > 1:
            found = [slope([(line["cells"], median(line["cpu"])) for line in pair]) for pair in _neighbours(done)]
            said = "" if found[-1] <= LINEAR else ", **worse than linear**"
            slopes.append(f"- {WORDS[part]}: {', '.join(f'{value:.2f}' for value in found)}{said}")
    head = ["Work", "Genes a cell", "Cells", *COLUMNS]
    steps = "Slopes from each size to the next:\n\n" + "\n".join(slopes) + "\n" if slopes else ""
    return f"{GROWTH}\n{table(head, rows)}\n{steps}"


def _neighbours(done: Sequence[Line]) -> list[tuple[Line, Line]]:
    return list(pairwise(done))


def depths(lines: Sequence[Line]) -> str:
    """Seconds and memory by genes a cell."""
    own = [line for line in lines if line["part"] == "genes" and "genes" in line]
    if not own:
        return ""
    rows = [[WORDS[line["what"]], f"{line['genes']:,}", f"{line['cells']:,}", *shown(line)] for line in own]
    head = ["Work", "Genes a cell", "Cells", *COLUMNS]
    slopes = []
    for what in dict.fromkeys(line["what"] for line in own):
        done = [line for line in own if line["what"] == what and "seconds" in line]
        found = [slope([(line["genes"], median(line["cpu"])) for line in pair]) for pair in _neighbours(done)]
        slopes.append(f"- {WORDS[what]}: {', '.join(f'{value:.2f}' for value in found)}")
    return f"{DEPTH}\n{table(head, rows)}\nSlopes from each depth to the next:\n\n" + "\n".join(slopes) + "\n"


def peers(lines: Sequence[Line], part: str = "peers") -> str:
    """Side by side with other software."""
    parts = (part, f"{part}_training")
    own = [line for line in lines if line["part"] in parts and line.get("what") in ("embed", "lora")]
    embed = [line for line in own if line["what"] == "embed" and "seconds" in line]
    train = [line for line in own if line["what"] == "lora" and "seconds" in line]
    text = ""
    if embed:
        mean: float | None = next(line["mean"] for line in own if line.get("name") == "tokens")
        said = PEERS.format(title=TITLES[part], mean=mean, **embed[0])
        text += f"{said}{SHARE.format(**embed[0]) if embed[0]['gflops'] else ''}\n"
        mean = mean if embed[0]["gflops"] else None  # no share of what was not measured
        text += f"{side_by_side(embed, mean)}\n{_agreement(embed)}"
    if train:
        text += f"\n{TRAINING.format(batch=32 if part == 'gpu' else 8, **train[0])}\n{side_by_side(train, None)}"
    for line in own:
        if "left" in line:
            what = {"embed": "Embedding", "lora": "An epoch of LoRA"}[line["what"]]
            text += f"{'' if text else TITLES[part]}\n{what} beside other software was not measured: {line['left']}.\n"
    return text


def gpu(lines: Sequence[Line]) -> str:
    """Encoders on a GPU, from values to states, in training and through a worker."""
    own = [line for line in lines if line["part"] in ON_GPUS and line.get("what") in ON_GPU]
    done = [line for line in own if "seconds" in line]
    if not done:
        return ""
    head = ["Work", "Encoder", "Precision", "Cells", "Seconds", "Cells/s", "Memory, MB"]
    text = f"{GPU.format(batch=32, **done[0])}\n{table(head, [[_work(line), *_on_gpu(line)] for line in own], 3)}"
    return "\n".join(filter(None, [text, peers(lines, "gpu")]))


def _work(line: Line) -> str:
    n = line.get("epochs", 1)
    work = ON_GPU[line["what"]].format(epochs="an epoch" if n == 1 else f"{n} epochs")
    return work if line.get("graphs", True) else f"{work}, without graphs"


def _on_gpu(line: Line) -> list[str]:
    """All but the work; of tokens no encoder, which reads them all the same."""
    size = "" if line["what"] == "tokens" else "`mini`" if line["size"] == "mini" else "whole-human's size"
    about = [size, line.get("precision", ""), f"{line['cells']:,}"]
    if "left" in line:
        return [*about, f"not measured: {line['left']}", "", ""]
    memory = "" if not line["peak_mb"] else f"{line['peak_mb']:,.0f}"
    cells = line["cells"] * line.get("epochs", 1)
    return [*about, spread(line["seconds"], ""), f"{cells / median(line['seconds']):,.0f}", memory]


def side_by_side(lines: Sequence[Line], mean: float | None) -> str:
    """Contenders, how many times the seconds of the first they took in the same round, and the share of the product."""
    own = lines[0]
    rows = []
    for line in lines:
        row = [line["name"], *shown(line)]
        for clock in ("seconds", "cpu"):
            ratios = [other / ours for other, ours in zip(line[clock], own[clock], strict=True)]
            row.append(spread(ratios, ""))
        if mean is not None:
            flops = 2 * PARAMETERS * mean * line["cells"]
            share = flops * line["threads"] / median(line["cpu"]) / line["gflops"] / 1e9
            row.append("" if "bf16" in line["name"] else f"{share:.0%}".replace("%", " %"))
        rows.append(row)
    head = ["", *COLUMNS, "Times frostline's seconds", "and of the processor"]
    return table([*head, "Of the product"] if mean is not None else head, rows)


def _agreement(embed: Sequence[Line]) -> str:
    apart = embed[0].get("apart")
    if not apart:
        return ""
    said = ", ".join(f"{name} {value:.5f}" for name, value in apart.items())
    return (
        f"The smallest cosine of a cell's state to that of frostline in fp32: {said}. scDLKit draws among the bins of "
        "tied values in another order, so that its tokens are not the same; the others read equal tokens.\n"
    )


def cache(lines: Sequence[Line]) -> str:
    """What a hit costs."""
    own = [line for line in lines if line["part"] == "cache" and "first" in line]
    if not own:
        return ""
    (line,) = own
    saved = median([line["first"] / again for again in line["seconds"]])
    return (
        f"{CACHE}\n{line['cells']:,} cells of {line['genes']} genes took {line['first']:.1f} s by `mini`, and "
        f"{spread(line['seconds'], 's')} when they were found on disk, where they take {line['bytes'] / 1e6:.1f} MB: "
        f"{saved:,.0f} times faster. Most of that is the hash of the values, by which they are found.\n"
    )


def cluster(lines: Sequence[Line]) -> str:
    """Atlases by a plain loop, one worker and two."""
    own = _medians([line for line in lines if line["part"] == "cluster" and "how" in line])
    if not own:
        return ""
    words = {
        "embed": "embedding by `mini`",
        "annotate": "labelling by `pca_logistic`",
        "tokens": "the same without the encoder",
    }
    rows = [
        [f"{words[line['what']]}, {line['genes']} genes a cell", f"{line['cells']:,}", line["how"], *_on_workers(line)]
        for line in own
    ]
    head = ["Work", "Cells", "By", "Seconds", "Computing", "Of the processor", "Cells/s", "A worker, MB", "Client, MB"]
    said = "\n".join(f"- {words[what]}: {text}" for what in ("embed", "annotate") if (text := _beside_plain(own, what)))
    times = max(line["times"] for line in own)
    medians = f" Labels of 100,000 cells are medians of {times} measurements, in turns." if times > 1 else ""
    return f"{CLUSTER.rstrip()}{medians}\n\n{table(head, rows)}\n{said}\n"


def _medians(lines: Sequence[Line]) -> list[Line]:
    """Lines of measurements, those of the same one in one line."""
    found: dict[tuple[Any, ...], list[Line]] = {}
    for line in lines:
        found.setdefault(tuple(line[name] for name in ("what", "cells", "genes", "how")), []).append(line)
    measured = [[line for line in same if "left" not in line] or same[:1] for same in found.values()]
    return [
        {**same[0], **{name: _median([line.get(name) for line in same]) for name in NUMBERS}, "times": len(same)}
        for same in measured
    ]


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _on_workers(line: Line) -> list[str]:
    if "left" in line:
        return [f"not measured: {line['left']}", *[""] * 5]
    return [
        *(f"{line[name]:,.{1 if line[name] < 10 else 0}f}" for name in ("seconds", "computing", "cpu")),
        f"{line['cells'] / line['seconds']:,.0f}",
        *("" if line[name] is None else f"{line[name]:,.0f}" for name in ("worker_mb", "own_mb")),
    ]


def cluster_line(lines: Sequence[Line], what: str, **facts: Any) -> Line | None:
    """Line of a measurement on workers; None where there is none."""
    own = (line for line in lines if line["part"] == "cluster" and line.get("what") == what and "seconds" in line)
    return next((line for line in own if facts.items() <= line.items()), None)


def _beside_plain(lines: Sequence[Line], what: str) -> str:
    """What workers add to a plain loop, and what the number of cells adds to their memory."""
    ways = ("plain loop", "by default", "--workers 1", "1 worker", "2 workers")
    plain, default, by_number, one, two = (cluster_line(lines, what, cells=100_000, how=how) for how in ways)
    few, many = (cluster_line(lines, what, cells=n, how="2 workers") for n in (20_000, 200_000))
    said = []
    for name, line in (("by default", default), ("by `--workers 1`", by_number), ("one worker", one)):
        if plain and line:
            more = [f"{line[of] / plain[of] - 1:+.0%}".replace("%", " %") for of in ("seconds", "cpu")]
            said.append(
                f"{name} beside the plain loop on 100,000 cells {more[0]} seconds and {more[1]} of the processor"
            )
    if plain and two:
        said.append(f"two workers {plain['seconds'] / two['seconds']:.2f} times as fast as the plain loop")
    if few and many:
        said.append(
            f"memory of a worker at 200,000 cells {many['worker_mb'] / few['worker_mb']:.2f} times that at 20,000"
        )
    return "; ".join(said)


def shown(line: Line) -> list[str]:
    """Seconds by the clock and of the processor, cells in one of the latter, and memory of a line."""
    if "left" in line:
        return [f"not measured: {line['left']}", "", "", ""]
    used = median(line["cpu"])
    memory = "NA" if line["peak_mb"] is None else f"{line['peak_mb']:,.0f}"
    rate = line["cells"] / used
    return [spread(line["seconds"], ""), spread([used], "").split()[0], f"{rate:,.{0 if rate > 10 else 1}f}", memory]


def spread(values: Sequence[float], unit: str) -> str:
    """Median, and in brackets the smallest and largest; of one run that it is one."""
    small = 2 if max(values) < 10 else 1
    low, middle, high = (f"{value:.{small}f}" for value in (min(values), median(values), max(values)))
    unit = f" {unit}" if unit else ""
    return f"{middle}{unit} (one run)" if len(values) == 1 else f"{middle}{unit} ({low} to {high})"


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least squares through (log size, log seconds)."""
    xs, ys = ([math.log(point[i]) for point in points] for i in (0, 1))
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)
