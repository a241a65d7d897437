"""The page about speed is written from what was measured, and says what was not."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def writer():
    path = BENCHMARKS / "performance_page.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def line(part, **facts):
    return {"part": part, "what": part, "genes": 100, **facts}


def test_the_page_is_that_of_the_stored_lines(writer):
    lines = [json.loads(each) for each in (BENCHMARKS / "performance.jsonl").read_text("utf-8").splitlines()]
    assert writer.PAGE.read_text("utf-8") == writer.page(lines)


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
    assert "**Not measured yet: annotate, cache, embedding, genes, pca_logistic.**" in found
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
