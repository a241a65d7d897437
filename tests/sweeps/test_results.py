"""The tables and the page of a sweep, of runs that are done, failed and not run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from frostline import cli
from frostline.artifacts.archive import load_comparison
from frostline.sweeps import commands, pages, sweeping
from frostline.sweeps.outcomes import RunOutcome
from frostline.sweeps.queues import Queue
from frostline.sweeps.results import ALL, _across, _labels, collect

FOUR = """datasets: [pancreas, pbmc68k-reduced, pbmc3k, broken.h5ad]
strategies: [[majority, pca_logistic]]
"""


@pytest.mark.slow
def test_one_broken_data_set_among_four_is_a_row_and_no_end(grid_of, done_here, at_once):
    Path("broken.h5ad").write_bytes(b"\x89HDF and no more")
    planned = grid_of(FOUR)
    planned.folder.mkdir(parents=True)
    queue = Queue(planned)
    queue.run(at_once(done_here), lambda: 1)
    result = collect(planned, queue.standing)
    table = result.table
    assert table["state"].tolist() == ["done"] * 6 + ["failed"]
    assert table["dataset"].tolist() == [*["pancreas"] * 2, *["pbmc68k-reduced"] * 2, *["pbmc3k"] * 2, "broken.h5ad"]
    assert table["strategy"].tolist() == ["pca_logistic", "majority"] * 3 + ["majority, pca_logistic"]
    assert table["macro_f1"].notna().tolist() == [True] * 6 + [False]
    assert "broken.h5ad cannot be read" in table["reason"][6]
    assert table["reason"][:6].isna().all()
    own = load_comparison(planned.runs[1].artifacts)
    assert table["macro_f1"][2] == own.leaderboard()["macro_f1"][0]
    assert (len(result.failures), result.missing) == (1, [])

    (found,) = result.across.values()
    assert list(result.across) == [ALL]
    assert found.complete == ("pancreas", "pbmc68k-reduced", "pbmc3k")
    ranks = [(rank.strategy, rank.mean, rank.wins, rank.losses) for rank in found.ranks]
    assert ranks == [("pca_logistic", 1.0, 3, 0), ("majority", 2.0, 0, 3)]
    _written(planned, result)


def _written(planned, result) -> None:
    """Files say what the result says, and so do the terminal and the book."""
    Path("book").mkdir()
    Path("book/_toc.yml").write_text(f"root: index\nchapters:\n  - file: sweeps/{planned.name}\n")
    assert sweeping.write(result) == []
    folder = planned.folder / "results"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("pairs.csv", "ranks.csv", "report.md", "runs.csv", "runs.parquet"),
    ]
    read = pd.read_parquet(folder / "runs.parquet")
    assert read["macro_f1"].tolist()[:6] == result.table["macro_f1"].tolist()[:6]
    assert pd.read_csv(folder / "ranks.csv")["mean_rank"].tolist() == [1.0, 2.0]
    (pair,) = pd.read_csv(folder / "pairs.csv").to_dict("records")
    assert (pair["wins"], pair["n"], pair["needed"], pair["claim"]) == (3, 3, 6, "untestable")
    page = Path("book/sweeps/sweep.md").read_text()
    assert page == (folder / "report.md").read_text() == pages.page(result)
    assert "| pca_logistic | 1.00 | NA | 3 | 3 | 0 | 0 |" in page
    assert "support no claim about others" in page
    assert "## Failed" in page
    collected = CliRunner().invoke(cli.app, ["sweep", "sweep.yml", "--collect"])
    assert collected.exit_code == 1
    assert "failed   broken-quickstart-mini-majority" in collected.stdout
    assert "pca_logistic       1.00     3     0       0" in collected.stdout
    assert "page       book/sweeps/sweep.md" in collected.stdout


def test_a_plan_is_listed_and_nothing_is_run(grid_of, capsys, here):
    commands.show_plan(grid_of("seeds: [1, 2]"))
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown[:2]] == ["waiting", "waiting"]
    assert shown[2] == "2 runs of own.ipynb in sweeps/sweep/runs: 0 of 2 runs done, 2 waiting"
    assert not (here / "sweeps").exists()


def test_settings_are_what_varies_beside_data_strategies_and_seeds(grid_of):
    planned = grid_of(
        """
datasets: [{DATASET: a.h5ad, LABEL_KEY: x}, {DATASET: a.h5ad, LABEL_KEY: y}, b.h5ad]
strategies: [majority, pca_logistic]
seeds: [1, 2]
profiles: [quickstart]
parameters: {TARGET: [0.6, 0.9]}
"""
    )
    settings, datasets = _labels(planned)
    assert set(settings.values()) == {"TARGET=0.6", "TARGET=0.9"}
    assert set(datasets.values()) == {"a.h5ad (LABEL_KEY=x)", "a.h5ad (LABEL_KEY=y)", "b.h5ad"}
    assert set(_labels(grid_of("seeds: [1, 2]"))[0].values()) == {ALL}


@pytest.mark.parametrize(
    ("toc", "found"),
    [
        (f"root: index\nchapters:\n  - {line}\n", found)
        for line, found in (
            ("file: sweeps/sweep", True),
            ("file: 'sweeps/sweep'  # ours", True),
            ('{"title": "Ours", "file": "sweeps/sweep.md"}', True),
            ("file: sweeps/sweep-2", False),
            ("file: intro  # - file: sweeps/sweep", False),
        )
    ]
    + [("root: [", False), (None, False)],
)
def test_a_sweep_has_a_page_where_the_table_of_contents_has_one(grid_of, toc, found):
    Path("book").mkdir()
    if toc is not None:
        Path("book/_toc.yml").write_text(toc, encoding="utf-8")
    page = sweeping.page_of(grid_of("seeds: [1]"))
    assert page == (Path("book/sweeps/sweep.md") if found else None)


def test_a_probe_that_only_some_data_sets_have_leaves_the_others_their_ranks(grid_of, make_record):
    """Runs put it beside what they compare where a data set has more genes than the tuned encoder reads."""
    planned = grid_of("datasets: [pancreas, few.h5ad]\nstrategies: [[pca_logistic, frozen_probe, lora]]")
    skills = {"pca_logistic": 1.0, "frozen_probe": 2.0, "frozen_probe:500": 2.5, "lora": 9.0}
    made = {name: make_record(name, skill=skill) for name, skill in skills.items()}
    whole, few = (run.name for run in planned.runs)
    records = {whole: list(made.values()), few: [made[name] for name in skills if name != "frozen_probe:500"]}
    across, notes = _across(planned, records)
    found = across[ALL]
    assert found.complete == ("pancreas", "few.h5ad")
    assert {rank.strategy: rank.mean for rank in found.ranks} == {"lora": 1.0, "frozen_probe": 2.0, "pca_logistic": 3.0}
    assert len(found.pairs) == 3
    assert notes == ["frozen_probe:500 was evaluated beside what the sweep names, on pancreas alone: it has no rank"]
    across, notes = _across(planned, {run: list(made.values()) for run in (whole, few)})
    assert [rank.strategy for rank in across[ALL].ranks][:2] == ["lora", "frozen_probe:500"]
    assert notes == []


def test_a_page_shows_names_as_text(grid_of):
    planned = grid_of("datasets: ['<img src=x>|$x$.h5ad']\nseeds: [1, 2]")
    result = collect(planned)
    result.standing.states[planned.runs[0].name] = "failed"
    result.standing.outcomes[planned.runs[0].name] = RunOutcome(
        key=planned.runs[0].key, state="failed", said="<script>alert(1)</script>\n# Heading"
    )
    page = pages.page(result)
    assert "<script" not in page
    assert "\n# Heading" not in page
    assert "No run has left a comparison." in page
    assert f"## Not run\n\n- {planned.runs[1].name}" in page
