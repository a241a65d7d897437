"""Cards: what they say of a run and of `mini`."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from small_pretraining import FIRST, SECOND

from frostline.pretraining.cards import final_losses
from frostline.pretraining.recipes import PretrainSettings

pytestmark = pytest.mark.slow


def test_mini_card_says_what_it_is(mini):
    card = " ".join((mini.folder / "MODEL_CARD.md").read_text().split())
    args = json.loads((mini.folder / "args.json").read_text())
    for needed in ("demonstration", "not the official scGPT weights", "donor", "PCA", "seed", "random initial values"):
        assert needed in card, needed
    assert all(file["sha256"] in card for file in args["corpus"])
    assert f"{sum(file['cells'] for file in args['corpus']):,}" in card


def test_a_card_says_what_each_phase_did_and_hides_nothing_from_markdown(finished, mini):
    for folder, phases in ((finished.folder, (FIRST, SECOND)), (mini.folder, PretrainSettings().phases)):
        card = (folder / "MODEL_CARD.md").read_text()
        assert "<cls>" not in card.replace("`<cls>`", "")  # it would be taken for a tag
        assert f"| steps | {' | '.join(f'{phase.steps:,}' for phase in phases)} |" in card
        assert f"| neighbours | {' | '.join(str(phase.n_neighbors) for phase in phases)} |" in card
    args = json.loads((mini.folder / "args.json").read_text())
    assert args["settings"] == json.loads(json.dumps(asdict(PretrainSettings())))  # the defaults made it


@pytest.mark.parametrize(
    ("steps", "first", "mean"), [(150, 0, 99.5), (150, 20, 99.5), (150, 120, 134.5), (30, 20, 24.5)]
)
def test_final_losses_are_means_over_the_last_hundred_steps_of_the_phase(steps, first, mean):
    history = [(step, 2 * step, 0.0, 1.0) for step in range(steps)]
    assert final_losses(history, first) == {"loss": mean, "components": 2 * mean, "mvc": 0.0, "contrast": 1.0}
