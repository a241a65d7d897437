"""What tests of remedies share: cells made by hand, what is refused, and the code that a message holds."""

from __future__ import annotations

import re
import shlex
import sys

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import frostline
from frostline import cli
from frostline.errors import FrostlineError

CODE = re.compile(r"adata\[.*\]|frostline\.\w+\(.*?\)(?= |,|;|$)")
KEYWORD = re.compile(r"(kind|seed|group_key)=('[^']*'|\d+)")


def cells(labels, genes=("CD3D", "MS4A1", "LYZ", "NKG7", "GNLY", "CST3"), **columns):
    """AnnData of counts with these labels in `kind`, and further columns of obs."""
    counts = np.random.default_rng(0).poisson(3.0, size=(len(labels), len(genes))) + 1.0
    obs = pd.DataFrame({"kind": list(labels), **columns}, index=[f"c{i:03d}" for i in range(len(labels))])
    return anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=list(genes)))


def refusal(work) -> str:
    """What is said when the work is refused."""
    with pytest.raises(FrostlineError) as caught:
        work()
    return str(caught.value)


def do(message: str, **names):
    """Value of the code that a message holds."""
    code = CODE.search(message)
    assert code, message
    return eval(code[0], {"np": np, "frostline": frostline, **names})


def keywords(message: str) -> list[dict[str, object]]:
    """Each argument that a message says to pass."""
    return [{name: value.strip("'") if "'" in value else int(value)} for name, value in KEYWORD.findall(message)]


def call(command: str, monkeypatch) -> int:
    """Exit status of a command that a message says to run, run in this process."""
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)
