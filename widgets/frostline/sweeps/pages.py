"""The page of a sweep: what ran, what failed and why, ranks, pairs, scores; from the result alone."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from frostline.comparison.across import LEAST, Across, verdict
from frostline.comparison.grounds import Interval
from frostline.comparison.report import markdown_table
from frostline.comparison.tables import as_text
from frostline.comparison.verdicts import spanned
from frostline.escaping import for_markdown, one_line
from frostline.publishing.terminal import WIDTH
from frostline.sweeps.results import ALL, SweepResult

if TYPE_CHECKING:
    import pandas as pd


def rank_table(result: SweepResult) -> pd.DataFrame:
    """A row for each setting and strategy: mean rank with its interval, wins, ties and losses; NA where undefined."""
    import pandas as pd

    rows = [
        {
            "setting": setting,
            "strategy": rank.strategy,
            "datasets": len(found.complete),
            "mean_rank": rank.mean,
            "low": None if rank.interval is None else rank.interval.low,
            "high": None if rank.interval is None else rank.interval.high,
            "wins": rank.wins,
            "ties": rank.ties,
            "losses": rank.losses,
            "equivalent": rank.equivalent,
        }
        for setting, found in result.across.items()
        for rank in found.ranks
    ]
    whole = ("datasets", "wins", "ties", "losses", "equivalent")
    columns = ["setting", "strategy", "datasets", "mean_rank", "low", "high", "wins", "ties", "losses", "equivalent"]
    kinds = dict.fromkeys(whole, "Int64") | dict.fromkeys(("mean_rank", "low", "high"), "Float64")
    return pd.DataFrame(rows, columns=columns).astype(kinds)


def pair_table(result: SweepResult) -> pd.DataFrame:
    """A row for each setting and pair: wins, ties, losses, median difference, p over data sets, what it claims."""
    import pandas as pd

    numbers = ("n", "n_differing", "wins", "ties", "losses", "difference", "p", "p_adjusted", "needed", "claim")
    rows = [
        {
            "setting": setting,
            "first": pair.first,
            "second": pair.second,
            **{name: getattr(pair, name) for name in numbers},
        }
        for setting, found in result.across.items()
        for pair in found.pairs
    ]
    kinds = {"difference": "Float64", "p": "Float64", "p_adjusted": "Float64"}
    return pd.DataFrame(rows, columns=["setting", "first", "second", *numbers]).astype(kinds)


def page(result: SweepResult) -> str:
    """Write the page, as Markdown."""
    plan = result.plan
    lines = [
        f"# Sweep {for_markdown(plan.name)}",
        f"{for_markdown(str(plan.grid.notebook))}: {for_markdown(str(result))}.",
    ]
    for setting, found in result.across.items():
        lines += [] if setting == ALL else [f"## {for_markdown(setting)}"]
        lines += [for_markdown(verdict(found)), *_tables(result, setting, found)]
    if not result.across:
        lines.append("No run has left a comparison.")
    for title, said in (("Failed", result.failures), ("Not run", dict.fromkeys(result.missing, ""))):
        if said:
            items = [f"- {for_markdown(name)}{': ' * bool(why)}{for_markdown(why)}" for name, why in said.items()]
            lines += [f"## {title}", "\n".join(items)]
    if result.notes:
        lines += ["## Not compared", "\n".join(f"- {for_markdown(note)}" for note in result.notes)]
    return "\n\n".join([*lines, *_READING]) + "\n"


_READING = (
    "## How to read it",
    "Ranks are by macro-F1 within a data set, 1 the best, means over its seeds, and only over data sets that all "
    "strategies finished. Wins, ties and losses are counted over the paired tests of the single comparisons, one for "
    "each data set and seed; a tie is one that shows no difference or cannot be made. They say nothing about other "
    "data sets. Wilcoxon's signed-rank test does, by one "
    f"difference for each data set: a single pair of strategies needs {LEAST} data sets on which they differ, several "
    "pairs need more, since their p-values are adjusted (Holm). With fewer there is no test, and no interval of a rank "
    f"below {LEAST}.",
)


def rank_view(result: SweepResult, setting: str) -> pd.DataFrame:
    """Ranks of one setting for a reader."""
    ranks, count = rank_table(result).query("setting == @setting"), "{:,}".format
    return as_text(
        ranks.assign(interval=[_interval(rank.interval) for rank in result.across[setting].ranks]),
        {
            "strategy": ("Strategy", str),
            "mean_rank": ("Mean rank", "{:.2f}".format),
            "interval": ("95 % interval", str),
            "datasets": ("Data sets", count),
            **{name: (name.capitalize(), count) for name in ("wins", "ties", "losses")},
        },
    )


def _tables(result: SweepResult, setting: str, found: Across) -> list[str]:
    pairs = pair_table(result).query("setting == @setting")
    number, count = "{:.4f}".format, "{:,}".format
    shown = [rank_view(result, setting)]
    scores = found.scores.rename_axis("dataset").reset_index()
    shown.append(as_text(scores, {"dataset": ("Macro-F1 on", str), **{s: (s, number) for s in found.strategies}}))
    if len(pairs):
        both = pairs.assign(pair=pairs["first"] + " - " + pairs["second"])
        shown.append(
            as_text(
                both,
                {
                    "pair": ("Pair", str),
                    **{name: (name.capitalize(), count) for name in ("wins", "ties", "losses")},
                    "n": ("Data sets", count),
                    "needed": ("Needed", count),
                    "difference": ("Median difference", "{:+.4f}".format),
                    "p_adjusted": ("p (Wilcoxon, Holm)", "{:.3g}".format),
                    "claim": ("Of other data sets", str),
                },
            )
        )
    return [markdown_table(table) for table in shown]


def _interval(found: Interval | None) -> str | None:
    return None if found is None else spanned(found.low, found.high)


def result_lines(result: SweepResult) -> list[str]:
    """Say in a terminal what a sweep has found: what failed and why, the verdict and the ranks of each setting."""
    lines = [f"failed   {one_line(f'{name}: {why}')}" for name, why in result.failures.items()]
    lines += [f"not run  {name}" for name in result.missing]
    lines += [f"note     {one_line(note)}" for note in result.notes]
    for setting, found in result.across.items():
        lines += [
            "",
            *textwrap.wrap(one_line(f"{'' if setting == ALL else f'{setting}: '}{verdict(found)}"), WIDTH),
            "",
        ]
        width = max(map(len, ["Strategy", *map(one_line, found.strategies)]))
        lines.append(f"{'Strategy':{width}}  Mean rank  Wins  Ties  Losses")
        for rank in found.ranks:
            mean = "NA" if rank.mean is None else f"{rank.mean:.2f}"
            lines.append(f"{one_line(rank.strategy):{width}}  {mean:>9}  {rank.wins:4}  {rank.ties:4}  {rank.losses:6}")
    return lines
