"""The same grid as a workflow of Snakemake or Nextflow: a job for each run, which calls `frostline run`."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from frostline.artifacts.manifests import MANIFEST
from frostline.errors import FrostlineError, unknown
from frostline.escaping import one_line
from frostline.sweeps.plans import LOG, RUNS, Plan
from frostline.sweeps.processes import RETRIES

LONGEST = 65_535
"""Characters of a script of Nextflow."""


def workflow(plan: Plan, system: str, source: str | Path) -> str:
    """Write a workflow, to be run in the folder in which the sweep would be.

    The last step makes the tables, as `frostline sweep SWEEP.yml --collect` does.

    Parameters
    ----------
    plan
        Of the sweep.
    system
        snakemake or nextflow.
    source
        Path of SWEEP.yml.

    Raises
    ------
    FrostlineError
        The system is another one; a script of Nextflow would be too long for it.
    """
    if system not in SYSTEMS:
        raise unknown("workflow system", system, SYSTEMS)
    collect = shlex.join(["frostline", "sweep", str(source), "-o", str(plan.folder), "--collect"])
    return SYSTEMS[system](plan, collect)


def _snakefile(plan: Plan, collect: str) -> str:
    runs = (plan.folder / RUNS).as_posix()
    commands = "".join(f"    {run.name!a}: {run.command!a},\n" for run in plan.runs)
    return f"""\
# {len(plan.runs)} runs of a sweep. Run it in this folder: snakemake --cores 2 --keep-going
# Where a run fails, the table of the others is made by: {one_line(collect)}
# A run with anything changed is another run: write this file again when the sweep, its data or frostline have changed.

RUNS = {{
{commands}}}


rule all:
    input: expand({f"{runs}/{{run}}/artifacts/{MANIFEST}"!a}, run=RUNS)
    params: collect={collect!a}
    shell: "{{params.collect}}"


rule run:
    output: {f"{runs}/{{run}}/artifacts/{MANIFEST}"!a}
    log: {f"{runs}/{{run}}/{LOG}"!a}
    params: command=lambda wildcards: RUNS[wildcards.run]
    retries: {RETRIES}
    shell: "{{params.command}} > {{log}} 2>&1"
"""


def _nextflow(plan: Plan, collect: str) -> str:
    commands = "".join(f"        [{_quoted(run.name)}, {_quoted(run.command)}],\n" for run in plan.runs)
    text = f"""\
// {len(plan.runs)} runs of a sweep. Run it in this folder: nextflow run main.nf
// A run with anything changed is another run: write this file again when the sweep, its data or frostline have changed.

def runs() {{
    return [
{commands}    ]
}}

process RUN {{
    tag "${{name}}"
    errorStrategy {{ task.attempt > {RETRIES} ? 'ignore' : 'retry' }}

    input:
    tuple val(name), val(command)

    output:
    val name

    script:
    \"\"\"
    cd '${{workflow.launchDir}}'
    ${{command}}
    \"\"\"
}}

process COLLECT {{
    input:
    val names

    script:
    \"\"\"
    cd '${{workflow.launchDir}}'
    {_in_script(collect)}
    \"\"\"
}}

workflow {{
    RUN(channel.fromList(runs()))
    COLLECT(RUN.out.collect().ifEmpty([]))
}}
"""
    if len(text) > LONGEST:
        raise FrostlineError(
            f"Nextflow reads scripts of at most {LONGEST:,} characters, and that of these {len(plan.runs):,} runs has "
            f"{len(text):,}: make several sweeps of it, or write it for Snakemake (--export snakemake)"
        )
    return text


def _quoted(text: str) -> str:
    """Text of Groovy in which nothing is filled in."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
    return f"'{escaped}'"


def _in_script(text: str) -> str:
    """Text in a script of Nextflow, in which a dollar would be filled in."""
    return text.replace("\\", "\\\\").replace("$", "\\$")


SYSTEMS: dict[str, Callable[[Plan, str], str]] = {"snakemake": _snakefile, "nextflow": _nextflow}
