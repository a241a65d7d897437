"""Fixtures of the artifacts: most tests of a file check almost the same folder."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator

import pytest

from frostline.artifacts import audits
from frostline.comparison import comparisons

COMPUTED = (
    (audits, "prediction_metrics"),
    (audits, "chosen_metrics"),
    (comparisons, "paired_tests"),
    (comparisons, "score_intervals"),
)
"""Functions of their arguments alone, in whose computation a check spends half of its time."""


def once(function: Callable) -> Callable:
    """Compute a function once for the same arguments, to the last bit: altered predictions are others."""
    known: dict[bytes, object] = {}

    def look_up(*given, **options):
        key = pickle.dumps((given, options))
        if key not in known:
            known[key] = function(*given, **options)
        return copy.copy(known[key])

    return look_up


@pytest.fixture(scope="module", autouse=True)
def computed_once() -> Iterator[None]:
    """What a check computes from the same predictions is computed once in a file."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in COMPUTED:
            patch.setattr(module, name, once(getattr(module, name)))
        yield
