"""The strategies, in the order in which they thaw more and more of the encoder.

To add one: write a file beside this one and add its class to `STRATEGIES`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from frostline.errors import FrostlineError, unknown
from frostline.profiles import Profile, get_profile
from frostline.strategies.base import Strategy
from frostline.strategies.frozen_probe import FrozenProbe
from frostline.strategies.head import HeadTuning
from frostline.strategies.lora import Lora
from frostline.strategies.pca_logistic import PcaLogistic

STRATEGIES: dict[str, type[Strategy]] = {
    strategy.name: strategy for strategy in (PcaLogistic, FrozenProbe, HeadTuning, Lora)
}


def build(
    names: Sequence[str] | None = None, *, profile: str | Profile = "quickstart", checkpoint: str = "mini"
) -> list[Strategy]:
    """Build strategies by name, all of them by default.

    Raises
    ------
    FrostlineError
        A name is unknown or given twice, or there is none.

    Examples
    --------
    >>> [strategy.name for strategy in build()]
    ['pca_logistic', 'frozen_probe', 'head', 'lora']
    """
    if isinstance(profile, str):
        profile = get_profile(profile)
    names = list(STRATEGIES) if names is None else list(names)
    for name in names:
        if name not in STRATEGIES:
            raise unknown("strategy", name, STRATEGIES)
    if not names or len(set(names)) < len(names):
        raise FrostlineError(f"name each strategy once, at least one; got {names}")
    return [STRATEGIES[name].from_profile(profile, checkpoint) for name in names]


def load(folder: Path) -> Strategy:
    """Load a fitted strategy of any kind from the folder it was saved to."""
    kind = json.loads((folder / "strategy.json").read_text(encoding="utf-8"))["strategy"]
    if kind not in STRATEGIES:
        raise unknown("strategy", kind, STRATEGIES)
    return STRATEGIES[kind].load(folder)


__all__ = ["STRATEGIES", "FrozenProbe", "HeadTuning", "Lora", "PcaLogistic", "Strategy", "build", "load"]
