"""Random SIGKILLs of clients and of what they started, and what is there in the end beside an undisturbed run.

    python tests/benchmarks/kills.py [--only embed annotate alone sweep] [--kills 20] [--seed 0]

A command is started, one of its processes is killed at a random moment, and the same command is started again where it
has ended. What is whole is compared, moved away, and begun again. Exit code 1 where anything differs, a command fails,
or a process outlives its client by a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import performance
import performance_cluster
import psutil
import scanpy as sc

PROGRAM = [sys.executable, "-P", "-c", "from frostline.cli import main; main()"]
CELLS, GENES = 8_192, 30
KNOWN = ["embed", "annotate", "alone", "sweep"]
LAST = 60.0
"""Seconds in which processes end after their client."""
ENDS = 300.0
"""Seconds in which a command that nobody disturbs any more ends."""
AGAIN = "the same command tries it again"
"""What is said where a process was killed before it was a worker."""
SWEEP = """\
datasets: [few0.h5ad, few1.h5ad, broken.h5ad, few2.h5ad]
strategies: [[pca_logistic, frozen_probe]]
seeds: [1]
parameters: {REPEATS: [1], LABEL_KEY: [bulk_labels]}
"""
OTHERWISE = {"run_seconds", "seconds", "peak_memory"}
"""Columns of a sweep that say how long it took, and in how much memory: never the same twice."""


@dataclass
class Case:
    """A command that is killed."""

    name: str
    arguments: Sequence[str]
    output: Path
    """What is there when it is whole."""
    contents: Callable[[Path], object]
    """What is compared of it."""
    code: int = 0
    """With which it ends when it is whole."""
    kinds: Sequence[str] = ("client", "worker")
    """What there is to kill."""
    killed: Counter[str] = field(default_factory=Counter)
    wholes: int = 0

    def started(self) -> subprocess.Popen[bytes]:
        """Start the command in the folder of its output."""
        place = self.output.parent
        cache = {"FROSTLINE_CACHE": str(place / f"cache{self.wholes}")}  # nothing is taken over from an earlier output
        with (place / f"{self.name}.log").open("ab") as log:
            command = [*PROGRAM, *self.arguments]
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=place, env={**os.environ, **cache})

    def undisturbed(self) -> tuple[object, float]:
        """What it leaves, and the seconds it takes."""
        began = time.monotonic()
        self.ended(self.started())
        return self.taken(), time.monotonic() - began

    def ended(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the end of a command, whose workers may have been killed; start it again if it says so."""
        process.wait(ENDS)
        tail = (self.output.parent / f"{self.name}.log").read_text("utf-8", "replace")[-3_000:]
        if process.returncode and AGAIN in tail.strip().splitlines()[-1]:  # with the code of a sweep whose run fails
            self.ended(self.started())
        elif process.returncode != self.code or not self.output.exists():
            raise SystemExit(f"{self.name} ended with {process.returncode}:\n{tail}")

    def compared(self, said: str, expected: object) -> None:
        """Compare what is there after something that was said with what an undisturbed run left."""
        if (found := self.taken()) != expected:
            raise SystemExit(f"{self.name}: what is there after {said} is another:\n{expected}\n{found}")

    def taken(self) -> object:
        """What is compared of the output, which is moved away so that the next command begins again."""
        found = self.contents(self.output)
        self.wholes += 1
        self.output.rename(self.output.with_name(f"{self.output.name}.{self.name}{self.wholes}"))
        return found


def kill(case: Case, expected: object, seconds: float, draw: random.Random) -> str:
    """Start the command, kill one of its processes at a random moment, compare what is whole; says what was killed."""
    process = case.started()
    own, started = psutil.Process(process.pid), []
    kind, moment = draw.choice(case.kinds), draw.uniform(0.0, seconds)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(moment)
    said = "nothing, it had ended"
    while process.poll() is None and not started:
        started = [each for each in own.children(recursive=True) if "resource_tracker" not in _command(each)]
        if kind == "client":
            break
    if process.poll() is None:
        victim = own if kind == "client" else draw.choice(started)
        said = f"{kind if kind == 'client' else _what(victim)} after {moment:.1f} s"
        victim.kill()
        case.killed[kind] += 1
        if kind == "client":
            process.wait()
            _, alive = psutil.wait_procs(started, LAST)
            if alive:
                raise SystemExit(f"{case.name}: processes outlive their client: {[_command(each) for each in alive]}")
            return said
    case.ended(process)
    case.compared(said, expected)
    return f"{said}; whole, and equal"


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _what(process: psutil.Process) -> str:
    """What a process that a client started is."""
    words = {"kernel_process": "kernel", "sweeps.attached": "run", "spawn_main": "worker"}
    return next((what for word, what in words.items() if word in _command(process)), _command(process)[-80:])


def files(folder: Path) -> object:
    """sha256 of every file of a folder."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def tables(folder: Path) -> object:
    """What the results of a sweep are, and all that they say but time and memory."""
    results = folder / "results"
    names = sorted(path.name for path in results.iterdir())
    runs = pd.read_parquet(results / "runs.parquet")
    said = runs.drop(columns=list(OTHERWISE)).astype(str).to_dict("records")
    return names, said, *((results / name).read_text("utf-8") for name in ("ranks.csv", "pairs.csv", "report.md"))


def cases(folder: Path, names: Sequence[str]) -> list[Case]:
    """Write what the commands read."""
    os.environ["FROSTLINE_BENCH"] = str(folder)
    job = {"cells": CELLS, "genes": GENES}
    atlas = performance_cluster.atlas_of(job, performance.made)
    output, model = folder / "out.zarr", functools.partial(performance_cluster.model_of, job, performance.made)
    how = ["-o", str(output), "--rows", "1024"]
    two = [*how, "--workers", "2", "--memory", "2GB"]
    found = {
        "embed": lambda: Case("embed", ["embed", str(atlas), *two], output, files),
        "annotate": lambda: Case("annotate", ["annotate", str(model()), str(atlas), *two], output, files),
        "alone": lambda: Case(
            "alone",
            ["annotate", str(model()), str(atlas), *how, "--workers", "1"],
            output,
            files,
            kinds=["client"],
        ),
        "sweep": lambda: Case(
            "sweep", ["sweep", "four.yml", "-o", "four", "--workers", "2"], folder / "four", tables, 1
        ),
    }
    (folder / "four.yml").write_text(SWEEP, "utf-8")
    (folder / "broken.h5ad").write_bytes(b"\x89HDF and no more")
    cells = sc.datasets.pbmc68k_reduced()
    for number in range(3):
        some = slice(200 * number, 200 * number + 300)
        few = cells.raw.to_adata()[some].copy()
        few.obs = cells.obs[["bulk_labels"]][some]
        few.write_h5ad(folder / f"few{number}.h5ad")
    return [found[name]() for name in names]


def main() -> None:
    """Kill, compare, and say what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=KNOWN, default=KNOWN)
    parser.add_argument("--kills", type=int, default=20, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(Path(folder), asked.only):
            draw = random.Random(f"{case.name} {asked.seed}")
            expected, seconds = case.undisturbed()
            print(f"{case.name}: {seconds:.0f} s undisturbed", flush=True)
            while case.killed.total() < asked.kills:
                said = kill(case, expected, seconds, draw)
                print(f"{case.name} {case.killed.total()}: {said}", flush=True)
            case.ended(case.started())
            case.compared("the last kill", expected)
            killed = f"{case.killed['client']} clients and {case.killed['worker']} workers were killed"
            print(f"{case.name}: {killed}; {case.wholes} whole outputs, all equal", flush=True)


if __name__ == "__main__":
    main()
