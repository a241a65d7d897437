"""Workflows: a job for each run, whose commands are those of the sweep; and what they leave is the sweep's result."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from frostline import cli
from frostline.errors import FrostlineError
from frostline.sweeps.results import collect as collect_runs
from frostline.sweeps.workflows import workflow

HOSTILE = """datasets: [{DATASET: "a 'b' $HOME {c}.h5ad", LABEL_KEY: 'x "y" \\z'}]\nseeds: [1, 2]"""


def commands_of(snakefile: str) -> dict[str, str]:
    """Commands of a Snakefile, by run."""
    found = re.search(r"^RUNS = (\{.*?^\})", snakefile, re.MULTILINE | re.DOTALL)
    return ast.literal_eval(found[1])


def collect_of(snakefile: str) -> str:
    """Command of a Snakefile that makes the tables."""
    return ast.literal_eval(re.search(r"params: collect=(.*)", snakefile)[1])


def test_a_snakefile_has_the_commands_of_the_sweep(grid_of):
    planned = grid_of(HOSTILE)
    text = workflow(planned, "snakemake", "sweep.yml")
    assert commands_of(text) == {run.name: run.command for run in planned.runs}
    assert collect_of(text) == "frostline sweep sweep.yml -o sweeps/sweep --collect"
    assert text.count(f"'{planned.folder}/runs/{{run}}/artifacts/manifest.json'") == 2


@pytest.mark.parametrize("name", ["🧬.h5ad", "𠮷.h5ad", "a\x07\x1b\x7f\x85\u2028.h5ad", "a\r\nb.h5ad"])
def test_every_character_of_a_name_arrives(grid_of, name):
    planned = grid_of('datasets: ["' + "".join(f"\\U{ord(character):08x}" for character in name) + '"]')
    text = workflow(planned, "snakemake", "sweep.yml")
    (command,) = commands_of(text.encode().decode()).values()
    assert shlex.split(command)[4] == f"DATASET={name}"
    script = workflow(planned, "nextflow", "sweep.yml")
    (listed,) = re.findall(r"^        \[.*\n", script, re.MULTILINE)
    assert listed.endswith("'],\n")
    assert "\r" not in script


def test_a_nextflow_script_has_the_commands_of_the_sweep(grid_of):
    planned = grid_of(HOSTILE)
    text = workflow(planned, "nextflow", "it's a $weep.yml")
    listed = re.findall(r"^        \[('(?:[^'\\]|\\.)*'), ('(?:[^'\\]|\\.)*')\],$", text, re.MULTILINE)
    assert {ast.literal_eval(a): ast.literal_eval(b) for a, b in listed} == {r.name: r.command for r in planned.runs}
    assert "a \\$weep.yml" in text  # a dollar that is not escaped would be filled in
    assert (text.count("{") - text.count("}"), text.count('"""')) == (0, 4)


def test_a_nextflow_script_is_of_declarations_only(grid_of):
    """From 26.04 on Nextflow refuses a script with statements beside them."""
    text = workflow(grid_of("seeds: [1, 2]"), "nextflow", "sweep.yml")
    assert re.findall(r"^\w+.*$", text, re.MULTILINE) == [
        "def runs() {",
        "process RUN {",
        "process COLLECT {",
        "workflow {",
    ]
    assert "RUN(channel.fromList(runs()))" in text


def test_a_sweep_that_is_too_long_for_nextflow_is_refused(grid_of):
    planned = grid_of(f"seeds: {list(range(400))}")
    with pytest.raises(FrostlineError, match=r"at most 65,535 characters, and that of these 400 runs has .*snakemake"):
        workflow(planned, "nextflow", "sweep.yml")
    assert len(commands_of(workflow(planned, "snakemake", "sweep.yml"))) == 400


def test_another_system_is_named(grid_of):
    with pytest.raises(FrostlineError, match="unknown workflow system 'make'; known: snakemake, nextflow"):
        workflow(grid_of("seeds: [1]"), "make", "sweep.yml")


@pytest.mark.slow
def test_commands_of_a_snakefile_run_in_order_and_collect_makes_the_table(grid_of, done_here):
    planned = grid_of("datasets: [pancreas]\nstrategies: [majority]\nseeds: [1, 2]")
    printed = CliRunner().invoke(cli.app, ["sweep", "sweep.yml", "--export", "snakemake"])
    assert printed.stdout == workflow(planned, "snakemake", "sweep.yml")
    for command in commands_of(printed.stdout).values():
        done = CliRunner().invoke(cli.app, shlex.split(command)[1:])
        assert done.exit_code == 0, done.output
    done = CliRunner().invoke(cli.app, shlex.split(collect_of(printed.stdout))[1:])
    assert done.exit_code == 0, done.output
    table = pd.read_parquet(planned.folder / "results" / "runs.parquet")
    assert table[["state", "seed", "strategy"]].values.tolist() == [["done", 1, "majority"], ["done", 2, "majority"]]
    (found,) = collect_runs(planned).across.values()
    assert [len(each) for each in found.comparisons.values()] == [2]  # of one data set, a comparison for each seed


@pytest.mark.slow
def test_snakemake_itself_runs_it_and_the_table_is_that_of_the_sweep(grid_of, here, monkeypatch):
    planned = grid_of("datasets: [pancreas]\nstrategies: [majority]\nseeds: [1, 2]")
    Path("Snakefile").write_text(workflow(planned, "snakemake", "sweep.yml"))
    program = here / "bin" / "frostline"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable} -P\nfrom frostline.cli import main\nmain()\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    snakemake = [sys.executable, "-P", "-m", "snakemake", "--cores", "2"]
    done = subprocess.run(snakemake, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    table = pd.read_csv(planned.folder / "results" / "runs.csv")
    assert table["state"].tolist() == ["done", "done"]
    again = CliRunner().invoke(cli.app, ["sweep", "sweep.yml"])  # nothing is left to be run
    assert again.exit_code == 0
    pd.testing.assert_frame_equal(pd.read_csv(planned.folder / "results" / "runs.csv"), table)
