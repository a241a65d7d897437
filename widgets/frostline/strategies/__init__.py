"""The strategies: baselines without a foundation model, then those that thaw more and more of the encoder.

To add one: write a file beside this one and add its class to `STRATEGIES`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.cells.datasets import Dataset
from frostline.encoder.checkpoints import load_checkpoint, refuse_unknown_checkpoint
from frostline.errors import FrostlineError, unknown
from frostline.profiles import Profile, get_profile
from frostline.strategies.adapters import Dora, Ia3, Lora, LoraAttention
from frostline.strategies.base import Strategy
from frostline.strategies.encoder import known_genes
from frostline.strategies.frozen_probe import FrozenProbe
from frostline.strategies.full import FullTuning
from frostline.strategies.genes_logistic import GenesLogistic
from frostline.strategies.head import HeadTuning
from frostline.strategies.majority import Majority
from frostline.strategies.pca_knn import PcaKnn
from frostline.strategies.pca_logistic import PcaLogistic
from frostline.strategies.probe_obsm import ProbeObsm
from frostline.strategies.tuning import EncoderTuning

if TYPE_CHECKING:
    import pandas as pd

STRATEGIES: dict[str, type[Strategy]] = {
    strategy.name: strategy
    for strategy in (
        Majority,
        PcaLogistic,
        GenesLogistic,
        PcaKnn,
        FrozenProbe,
        ProbeObsm,
        HeadTuning,
        Lora,
        LoraAttention,
        Dora,
        Ia3,
        FullTuning,
    )
}
DEFAULT = ("pca_logistic", "frozen_probe", "head", "lora")
"""One strategy for each depth of thawing."""


def build(
    names: Sequence[str] | None = None,
    *,
    profile: str | Profile = "quickstart",
    checkpoint: str = "mini",
    device: str = "auto",
    precision: str = "fp32",
) -> list[Strategy]:
    """Build strategies by name, those of `DEFAULT` when no names are given.

    Some take an option after a colon: `probe_obsm:X_scVI` reads that key of obsm, `frozen_probe:500` so many genes.
    Those on an encoder take the checkpoint, the device and the precision.

    Raises
    ------
    FrostlineError
        A name is unknown or given twice, or there is none.

    Examples
    --------
    >>> [strategy.name for strategy in build()]
    ['pca_logistic', 'frozen_probe', 'head', 'lora']
    >>> build(["probe_obsm:X_scVI"])[0].parameters
    {'obsm_key': 'X_scVI'}
    """
    if isinstance(profile, str):
        profile = get_profile(profile)
    names = list(DEFAULT) if names is None else list(names)
    strategies = [_build_one(name, profile, checkpoint) for name in names]
    place: dict[str, Any] = {"device": device, "precision": precision}
    strategies = [replace(each, **place) if "device" in each.parameters else each for each in strategies]
    if not names or len({strategy.name for strategy in strategies}) < len(names):
        raise FrostlineError(f"name each strategy once, at least one; got {names}")
    return strategies


def _build_one(name: str, profile: Profile, checkpoint: str) -> Strategy:
    kind, colon, text = name.partition(":")
    if kind not in STRATEGIES:
        raise unknown("strategy", name, STRATEGIES)
    strategy = STRATEGIES[kind].from_profile(profile, checkpoint)
    return strategy.option(text) if colon else strategy


def checkpoint_of(strategies: Sequence[Strategy]) -> str | None:
    """Name the checkpoint that strategies of one run start from; None where none starts from one.

    Examples
    --------
    >>> checkpoint_of(build(["pca_logistic"])), checkpoint_of(build(["pca_logistic", "head"]))
    (None, 'mini')
    """
    return next((str(each.parameters["checkpoint"]) for each in strategies if "checkpoint" in each.parameters), None)


def with_like_probes(strategies: Sequence[Strategy], dataset: Dataset) -> list[Strategy]:
    """Put beside a frozen probe one on as many genes as each strategy that trains inside the encoder reads.

    A frozen probe reads all genes that the encoder knows. Where a strategy that trains inside it reads fewer, the two
    differ in genes and in training, and only with one more probe can it be said what training alone does.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> [each.name for each in with_like_probes(build(), load_dataset("pancreas"))]
    ['pca_logistic', 'frozen_probe', 'frozen_probe:500', 'head', 'lora']
    """
    found: list[Strategy] = []
    read = {each.most_genes for each in strategies if isinstance(each, FrozenProbe)}
    for strategy in strategies:
        found.append(strategy)
        if isinstance(strategy, FrozenProbe) and strategy.name == FrozenProbe.name:
            known = len(known_genes(dataset, load_checkpoint(strategy.checkpoint)))
            tuned = {each.n_genes for each in strategies if isinstance(each, EncoderTuning) and each.n_genes < known}
            found += [replace(strategy, most_genes=n) for n in sorted(tuned - read)]
    return found


def refuse_unusable_checkpoint(checkpoint: str, strategies: Sequence[Strategy]) -> None:
    """Refuse a checkpoint that does not exist and, where a strategy starts from it, one that cannot be opened.

    Raises
    ------
    CheckpointError
        The name is unknown; or a strategy needs it, and it is not downloaded or not readable.

    Examples
    --------
    >>> refuse_unusable_checkpoint("whole-human", build(["pca_logistic"]))  # nobody needs it downloaded
    >>> refuse_unusable_checkpoint("mini", build(["head"]))
    """
    refuse_unknown_checkpoint(checkpoint)
    if checkpoint_of(strategies):
        load_checkpoint(checkpoint)


def show() -> pd.DataFrame:
    """Return the strategies of the list: title, what each trains, the paper to cite, its hyper-parameters.

    Examples
    --------
    >>> show().loc["dora", ["title", "reference"]].tolist()
    ['DoRA tuning', 'Liu et al. 2024, https://doi.org/10.48550/arXiv.2402.09353']
    """
    import pandas as pd

    rows = {
        name: (kind.title, kind.trains, kind.reference, ", ".join(kind.settings())) for name, kind in STRATEGIES.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["title", "trains", "reference", "hyper-parameters"])
    return table.rename_axis("strategy")


def parameter_table(name: str) -> pd.DataFrame:
    """Return the hyper-parameters of a strategy: default, bounds, unit and meaning, one row each.

    Raises
    ------
    FrostlineError
        The name is unknown.

    Examples
    --------
    >>> parameter_table("pca_knn").loc["n_components", ["default", "bounds", "unit"]].tolist()
    ['50', '1 to 10,000', 'components']
    """
    import pandas as pd

    if name not in STRATEGIES:
        raise unknown("strategy", name, STRATEGIES)
    kind = STRATEGIES[name]
    defaults = kind().parameters
    rows = {
        field: (_written(defaults[field]), setting.extent, setting.unit, setting.meaning)
        for field, setting in kind.settings().items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["default", "bounds", "unit", "meaning"])
    return table.rename_axis("hyper-parameter")


def _written(value: object) -> str:
    """Value as it is typed on the command line."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def load(folder: Path) -> Strategy:
    """Load a fitted strategy of any kind from the folder it was saved to."""
    kind = json.loads((folder / "strategy.json").read_text(encoding="utf-8"))["strategy"]
    if kind not in STRATEGIES:
        raise unknown("strategy", kind, STRATEGIES)
    return STRATEGIES[kind].load(folder)


__all__ = [
    "DEFAULT",
    "STRATEGIES",
    "Dora",
    "FrozenProbe",
    "FullTuning",
    "GenesLogistic",
    "HeadTuning",
    "Ia3",
    "Lora",
    "LoraAttention",
    "Majority",
    "PcaKnn",
    "PcaLogistic",
    "ProbeObsm",
    "Strategy",
    "build",
    "checkpoint_of",
    "load",
    "parameter_table",
    "refuse_unusable_checkpoint",
    "show",
    "with_like_probes",
]
