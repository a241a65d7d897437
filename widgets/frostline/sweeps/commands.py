"""What `frostline sweep` does and prints."""

from __future__ import annotations

import shlex
import sys

from frostline.cluster.connections import Workers
from frostline.errors import Cancelled
from frostline.escaping import for_terminal
from frostline.interrupts import Ended
from frostline.monitor import Monitor
from frostline.publishing.terminal import progress
from frostline.sweeps import folders, pages, sweeping
from frostline.sweeps.outcomes import FAILED
from frostline.sweeps.plans import LOG, RUNS, Plan
from frostline.sweeps.queues import Standing, standing_of
from frostline.sweeps.results import collect


def show_plan(plan: Plan) -> None:
    """List the runs and where each stands."""
    standing = standing_of(plan)
    for name, state in standing.states.items():
        print(for_terminal(f"{state:8} {name}"))
    print(for_terminal(f"{plan}: {standing.words()}"))


def run_plan(plan: Plan, workers: Workers | None) -> bool:
    """Run what is not done, write the results and say what they are.

    Parameters
    ----------
    plan
        Of the sweep.
    workers
        Which do the runs; None to run nothing and collect what is there.

    Returns
    -------
    bool
        Whether all runs are done.
    """
    print(for_terminal(plan), file=sys.stderr)
    with folders.held(plan.folder):
        try:
            standing = standing_of(plan) if workers is None else _run(plan, workers)
        except (Cancelled, KeyboardInterrupt, Ended):
            words = standing_of(plan).words()
            again = shlex.join(["frostline", *sys.argv[1:]])
            print(for_terminal(f"\nstopped: {words}. The same command goes on: {again}"), file=sys.stderr)
            raise
        result = collect(plan, standing)
        kept = sweeping.write(result)
    print("\n".join(map(for_terminal, pages.result_lines(result))))
    for path in kept:
        print(for_terminal(f"\nkept       {path}, which was edited since it was written"))
    _say_where(plan, standing)
    return not result.failures and not result.missing


def _run(plan: Plan, workers: Workers) -> Standing:
    with progress(["sweep"]) as bars:
        return sweeping.run(plan, workers=workers, monitor=Monitor(bars["sweep"]))


def _say_where(plan: Plan, standing: Standing) -> None:
    page = sweeping.page_of(plan)
    print(for_terminal(f"\nsweep      {standing.words()}\ntables     {plan.folder / folders.RESULTS}"))
    if standing.counts[FAILED]:
        print(for_terminal(f"logs       {plan.folder / RUNS}/*/{LOG}"))
    if page is not None:
        print(for_terminal(f"page       {page}"))
