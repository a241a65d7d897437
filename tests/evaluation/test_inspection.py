"""The report: text that fits a terminal, HTML that holds nothing but text, a part for every field."""

from __future__ import annotations

import dataclasses

import anndata
import numpy as np
import pandas as pd
import pytest
from hostile import BROKEN, NAME, Read

from frostline.cells.gene_mapping import map_genes
from frostline.cells.gene_names import name_kinds
from frostline.cells.previews import Column, Preview
from frostline.escaping import one_line
from frostline.evaluation.inspecting import inspect
from frostline.evaluation.inspection import Coverage, Inspection, Matrix, Refusal
from frostline.records import Finding

GENES = ("CD3D", "LYZ", "Cd3e", "SEPT9")


@pytest.fixture
def report() -> Inspection:
    columns = (Column("cell_type", 14, 0, 3), Column("batch", 2, 7, 90), Column("phase", 3, 0, 50))
    return Inspection(
        outline=Preview("blood", 200_000, 31_000, columns, ("batch",), ("X", "raw")),
        n_seen=10_000,
        matrices=(
            Matrix("X", 2_000, "dense float32", "scaled", "X holds negative values", 9_000_000, 0),
            Matrix("raw", 31_000, "CSR float32", "counts", "whole numbers up to 900", 250_000_000, 4),
            Matrix("gone", 31_000, "not there", "cannot be read", "there is none"),
        ),
        default="X",
        recommended="raw",
        why="counts",
        names=name_kinds(GENES),
        gene_source="adata.raw.var_names",
        coverage=(Coverage("mini", map_genes(GENES, ("CD3D", "SEPTIN9"), np.array([5.0, 2.0, 1.0, 2.0]))),),
        label_key="cell_type",
        group_key="batch",
        classes={f"type {i}": 100 - i for i in range(14)},
        n_repeated={"cells": 2, "genes": 1, "profiles": 3},
        findings=(Finding("x", "warning", "Two spellings", "why", "Give them one name."),),
        refusals=(
            Refusal("X holds negative values", ("load_dataset", "adapt"), "cells = load(layer='raw')"),
            Refusal("a choice is needed", ("annotate",)),
        ),
        code="import frostline\n\ncells = load(layer='raw')",
        command="frostline adapt blood.h5ad -o blood-model",
    )


def squeezed(text) -> str:
    return " ".join(str(text).split())


SAID = (
    "blood: 200,000 cells x 31,000 genes",
    "scaled - refused, see below. 2,000 genes, dense float32, 9,000,000 values, 72.0 MB loaded",
    "counts - whole numbers up to 900. 31,000 genes, CSR float32, 250,000,000 values, 2.0 GB loaded; 4 cells without",
    "cannot be read - there is none. 31,000 genes, not there",
    "taken by default X",
    "recommended raw: counts",
    "looked at 10,000 cells that lie evenly",
    "repeated cells 2 by name, 3 by their values",
    "names adata.raw.var_names: current symbol: 2 (CD3D, LYZ); symbol as of a mouse: 1 (Cd3e); previous symbol: 1",
    "species human",
    "repeated names 1",
    "checkpoint mini knows 2 of 4 genes, with 70.0 % of the counts (1 exact, 1 mapped, 2 lost); it lacks, for example, "
    "LYZ, Cd3e",
    "cell_type 14 values, the rarest in 3 cells (taken)",
    "cells of cell_type type 0 100, type 1 99,",
    "type 11 89 and 2 smaller classes",
    "warning Two spellings. Give them one name.",
    "batch 2 values, the rarest in 90 cells, 7 missing (taken)",
    "1 load_dataset, adapt: X holds negative values",
    "mended by cells = load(layer='raw')",
    "2 annotate: a choice is needed",
    "import frostline cells = load(layer='raw') frostline adapt blood.h5ad -o blood-model",
)


@pytest.mark.parametrize("said", SAID)
def test_text_and_html_say_the_same(report, said):
    assert said in squeezed(report)
    assert said in squeezed(Read(report._repr_html_()).text)


@pytest.mark.parametrize("width", [60, 80, 300])
def test_text_fits_the_terminal(report, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= min(width, 120)
    assert "  batch                    2 values" in str(report)


def test_in_a_narrow_terminal_there_are_no_columns(report, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert "\nbatch: 2 values, the rarest in 90 cells, 7 missing (taken)\n" in str(report)


def test_parts_without_content_say_none_or_are_left_out(report):
    plain = dataclasses.replace(
        report, refusals=(), code="", command="", group_key=None, outline=dataclasses.replace(report.outline, groups=())
    )
    assert "Groups\n  none" in str(plain)
    assert "Refused" not in str(plain)
    assert "Next" not in str(plain)
    assert "<strong>Groups</strong></div><p>none</p>" in plain._repr_html_()
    assert not dataclasses.replace(report, n_seen=200_000).is_sample


@pytest.mark.filterwarnings("ignore:Variable names are not unique", "ignore:Observation names are not unique")
def test_names_of_strangers_stay_text():
    n = 20
    obs = pd.DataFrame({BROKEN: [NAME, BROKEN] * (n // 2), f"donor {NAME}": ["a", "b", "c", "d"] * (n // 4)})
    obs.index = [NAME] * n
    counts = np.random.default_rng(0).poisson(2.0, (n, 5)).astype(np.float32)
    adata = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=[BROKEN, NAME, NAME, "<b>", "LYZ"]))
    adata.layers[BROKEN] = counts - 1
    found = inspect(adata, BROKEN)
    read = Read(found._repr_html_())
    assert read.active == []
    assert not {"b", "img"} & read.tags
    assert read.shows(one_line(NAME))
    assert not set("\x1b\u202e\r") & set(str(found))
    assert found.refusals
