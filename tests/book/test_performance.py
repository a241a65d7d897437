"""The page about speed is written from what was measured, and says what was not."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def loaded(name: str):
    path = BENCHMARKS / f"{name}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def writer():
    return loaded("performance_page")


@pytest.fixture(scope="module")
def costs(writer):
    return loaded("performance_costs")


def line(part, **facts):
    return {"part": part, "what": part, "genes": 100, **facts}


def test_the_page_is_that_of_the_stored_lines(writer):
    lines = [json.loads(each) for each in (BENCHMARKS / "performance.jsonl").read_text("utf-8").splitlines()]
    assert writer.PAGE.read_text("utf-8") == writer.page(lines)


def test_the_guide_has_the_costs_of_the_stored_lines(costs):
    page = costs.GUIDE.read_text("utf-8")
    assert costs.written(page, costs.costs(costs.stored())) == page


def test_medians_spread_and_slopes(writer):
    found = writer.cells(
        [
            line("embedding", cells=1_000, seconds=[2.0, 1.0, 4.0], cpu=[1.0, 0.5, 2.0], peak_mb=50.4),
            line("embedding", cells=10_000, seconds=[30.0], cpu=[15.0], peak_mb=None),
        ]
    )
    assert "| 1,000 | 2.00 (1.00 to 4.00) | 1.00 | 1,000 | 50 |" in found
    assert "| 10,000 | 30.0 (one run) | 15.0 | 667 | NA |" in found
    assert f"{np.log10(15):.2f}, **worse than linear**" in found  # 15 times the processor for 10 times the cells


def test_a_slope_is_that_of_least_squares(writer):
    sizes, seconds = np.array([100, 300, 600, 1_199]), np.array([1.0, 3.5, 8.0, 21.0])
    expected = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
    assert writer.slope(list(zip(sizes.tolist(), seconds.tolist(), strict=True))) == pytest.approx(expected)


def test_what_was_not_measured_is_no_number(writer):
    found = writer.page(
        [
            line("lora", cells=1_000, seconds=[2.0], cpu=[2.0], peak_mb=9.0),
            line("lora", cells=100_000, left="too long"),
            {"part": "peers", "what": "embed", "left": "no network"},
        ]
    )
    assert "| 100,000 | not measured: too long |  |  |  |" in found
    assert "Embedding beside other software was not measured: no network." in found
    assert (
        "**Not measured yet: amx, annotate, cache, cluster, embedding, genes, gpu, gpu_training, pca_logistic.**"
        in found
    )
    assert "worse than linear" not in found


def test_ratios_are_of_the_same_round(writer):
    own = {"name": "frostline", "cells": 4, "seconds": [1.0, 2.0, 4.0], "cpu": [1.0, 1.0, 1.0], "peak_mb": 1.0}
    other = {"name": "other", "cells": 4, "seconds": [3.0, 4.0, 20.0], "cpu": [4.0, 4.0, 8.0], "peak_mb": 9.0}
    found = writer.side_by_side([own, other], None)
    assert "| other | 4.0 (3.0 to 20.0) | 4.00 | 1.0 | 9 | 3.00 (2.00 to 5.00) | 4.00 (4.00 to 8.00) |" in found


def test_the_share_of_the_product_counts_every_multiplication(writer):
    tokens, rate = 231.0, 50.0
    per_token = 12 * 2 * (4 * 512 * 512 + 2 * 512 * 512)  # four projections and two layers, a product and a sum each
    seconds = 8 * tokens * per_token / (rate * 1e9)  # of eight cells at full rate
    cpu = [4 * seconds]  # of two threads
    own = {"name": "frostline", "cells": 8, "seconds": [9.0], "cpu": cpu, "peak_mb": 1.0, "gflops": rate, "threads": 2}
    assert "| 50 % |" in writer.side_by_side([own], tokens)


def atlas(what, how, cells, seconds, **facts):
    found = {"part": "cluster", "what": what, "how": how, "cells": cells, "seconds": seconds, "genes": 60}
    return {**found, "computing": seconds, "cpu": seconds, "worker_mb": None, "own_mb": 0.0, **facts}


MEASURED = [
    atlas("embed", "2 workers", 20_000, 25.0, worker_mb=400.0, own_mb=500.0),
    atlas("embed", "plain loop", 100_000, 100.0),
    atlas("embed", "1 worker", 100_000, 108.0, cpu=110.0, worker_mb=400.0),
    atlas("embed", "2 workers", 100_000, 62.5, worker_mb=410.0),
    atlas("embed", "2 workers", 200_000, 125.0, worker_mb=420.0, own_mb=518.0),
    *(atlas("annotate", "plain loop", 100_000, seconds) for seconds in (4.1, 4.0, 9.0)),
    *(atlas("annotate", "by default", 100_000, seconds, cpu=5.125) for seconds in (4.3, 4.182, 3.9)),
    atlas("annotate", "--workers 1", 100_000, 4.305),
    atlas("embed", "plain loop", 4_096, 50.96, genes=250),
    atlas("tokens", "plain loop", 4_096, 10.0, genes=250, computing=10.0),
    {"part": "peers", "what": "embed", "name": "frostline", "cells": 64, "threads": 1, "seconds": [9.0], "cpu": [8.0]},
    {"part": "peers", "what": "embed", "name": "tokens", "mean": 251.0},
]


def test_workers_stand_beside_the_plain_loop(writer):
    found = writer.cluster(MEASURED)
    assert "| embedding by `mini`, 60 genes a cell | 100,000 | 1 worker | 108 | 108 | 110 | 926 | 400 | 0 |" in found
    assert "one worker beside the plain loop on 100,000 cells +8 % seconds and +10 % of the processor" in found
    assert "two workers 1.60 times as fast as the plain loop" in found
    assert "| labelling by `pca_logistic`, 60 genes a cell | 100,000 | by default | 4.2 | 4.2 | 5.1 | 23,912 |" in found
    assert "all of it. Labels of 100,000 cells are medians of 3 measurements, in turns.\n\n|" in found
    assert "`pca_logistic`: by default beside the plain loop on 100,000 cells +2 % seconds and +25 % of the" in found
    assert "; by `--workers 1` beside the plain loop on 100,000 cells +5 % seconds" in found
    assert "memory of a worker at 200,000 cells 1.05 times that at 20,000" in found


def test_costs_follow_from_rates_efficiency_and_retries(costs):
    """By hand: mini encodes 4,096 cells in 40.96 s and reads them in 10 s; two workers do the work of 1.6."""
    found = costs.costs(MEASURED)
    each = 0.8 * 4_096 / 50.96
    hours = 50e6 * 1.02 / (each * 8) / 3600
    moved = (8 * 250 + 4 * 128) * each * 8 / 1.02 / 1e6
    assert f"| `mini` | 8 cores | {each:.0f} | {hours:,.1f} | {8 * hours:,.0f} | {moved:,.0f} |" in found
    whole = 0.8 / (8 / 64 + 10 / 4_096)  # the same 251 tokens as were measured
    assert f"| whole-human's size | 1,000 cores | {whole:.1f} |" in found
    assert "is 5 GB, 100 bytes a cell" in found  # 18 MB more for 180,000 cells more


def on_gpu(what, size="whole-human", **facts):
    found = {"part": "gpu", "what": what, "size": size, "cells": 1_000, "genes": 250, "gpu": "Some GPU", "peak_mb": 5.0}
    return {**found, "precision": "bf16", "seconds": [0.1, 0.2, 0.4], "cpu": [0.1] * 3, **facts}


def test_a_gpu_reads_and_then_embeds(costs):
    """By hand: 1,000 cells in 0.2 s, and 10 s of reading for 4,096."""
    found = costs.costs([*MEASURED, on_gpu("encoder", seconds=[0.1]), on_gpu("embedding"), on_gpu("embedding", "mini")])
    each = 0.8 / (0.2 / 1_000 + 10 / 4_096)
    assert f"| whole-human's size | 8 GPUs, bf16 | {each:.0f} |" in found
    assert found.count("8 GPUs") == 1
    assert "one Some GPU" in found
    assert "5,000 cells/s of 250 genes in bf16" in " ".join(found.split())
    assert "GPUs" not in costs.costs(MEASURED)


def test_what_a_gpu_did_is_by_the_clock(writer):
    found = writer.gpu([on_gpu("tokens", peak_mb=0.0), on_gpu("atlas", peak_mb=None), on_gpu("epochs", left="no room")])
    assert "| tokens |  | bf16 | 1,000 | 0.20 (0.10 to 0.40) | 5,000 |  |" in found
    assert "| a file through a worker | whole-human's size | bf16 | 1,000 | 0.20 (0.10 to 0.40) | 5,000 |  |" in found
    assert "| whole-human's size | bf16 | 1,000 | not measured: no room |  |  |" in found
    assert writer.gpu([on_gpu("epochs", seconds=None) | {"part": "other"}]) == ""


def test_epochs_on_a_gpu_count_each_cell_once_an_epoch_and_say_where_no_graph_was_used(writer):
    found = writer.gpu([on_gpu("epochs", epochs=1), on_gpu("epochs", epochs=5, graphs=False, part="gpu_training")])
    assert "| an epoch of LoRA | whole-human's size | bf16 | 1,000 | 0.20 (0.10 to 0.40) | 5,000 | 5 |" in found
    assert (
        "| 5 epochs of LoRA, without graphs | whole-human's size | bf16 | 1,000 | 0.20 (0.10 to 0.40) | 25,000 | 5 |"
        in found
    )


def test_parts_of_another_machine_say_which(writer):
    head = {"processor": "One", "cores": 2, "memory_gb": 8, "system": "S", "versions": {"torch": "2"}, "threads": 1}
    heads = [{**head, "part": "lora", "date": "d"}, {**head, "processor": "Other", "part": "amx", "date": "d"}]
    found = writer.machine([*heads, {**head, "part": "genes", "date": "d"}])
    assert "Processor One, 2 cores, 8 GB of memory, S; torch 2. The load" in found
    assert "`amx` elsewhere: Processor Other, 2 cores" in found
    assert found.count("Processor") == 2
    loads = [{"part": "amx", "load": load} for load in (1.26, 0.5, None, 0.9)]
    assert "| `amx` | d | 1 | 0.5 to 1.3 |" in writer.machine([*heads, *loads])
    assert "| `lora` | d | 1 |  |" in writer.machine([*heads, *loads])


def test_longer_cells_cost_what_their_operations_do(costs):
    """A token among n takes 4 d² + 2 d h + 2 n d products in each layer."""
    short, long = (4 * 128**2 + 2 * 128 * 256 + 2 * n * 128 for n in (251, 501))
    assert costs.MINI.flop(501) / costs.MINI.flop(251) == pytest.approx(long / short)
    rate = costs.Rate(costs.MINI, "core", 100.0, 251, (1,))
    assert rate.at(250, float("inf")) == pytest.approx(100)
    assert rate.at(500, float("inf")) == pytest.approx(100 * 251 * short / (501 * long))


def test_no_cost_is_made_of_what_was_not_measured(costs):
    assert costs.costs(MEASURED[:-1]) == "Not measured yet.\n"


def test_a_measurement_that_was_ended_is_said_to_be_missing(writer):
    ended = {"cells": 200_000, "how": "2 workers", "left": "ended after 5 minutes"}
    found = writer.cluster([{"part": "cluster", "what": "embed", "genes": 60, **ended}])
    assert "| 200,000 | 2 workers | not measured: ended after 5 minutes |" in found


def test_a_process_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    performance = loaded("performance")
    command = [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(600)"]
    assert performance.output(command, {}, 0.5) is None
    assert performance.output([sys.executable, "-c", "print('done')"], {}, 60) == "done\n"
