"""The list of the strategies: how it is shown, and how they are built by name."""

from __future__ import annotations

import dataclasses

import pytest
from strategy_checks import IN_EPOCHS, NAMES

from frostline import strategies
from frostline.errors import FrostlineError
from frostline.strategies import STRATEGIES, FullTuning, Lora

pytestmark = pytest.mark.slow


class TestSettings:
    @pytest.mark.parametrize("name", NAMES)
    def test_every_hyper_parameter_is_said(self, name):
        kind = STRATEGIES[name]
        listed = kind.settings()
        assert list(listed) == [spec.name for spec in dataclasses.fields(kind) if spec.init]
        assert list(listed) == list(kind().parameters)
        for key, setting in listed.items():
            text = setting.meaning
            assert text == text.strip(), key
            assert text.endswith("."), key
            assert len(text) > 3, key

    def test_what_a_strategy_says_of_its_own_field_goes_before_what_its_base_says(self):
        assert Lora.settings()["learning_rate"].meaning == "Of AdamW."
        assert FullTuning.settings()["learning_rate"].meaning == "Of AdamW, once warmed up."
        assert Lora.settings()["token_seed"].meaning == "Of the draws among tied value bins."  # of a base's base
        assert "module_" not in Lora.settings()

    def test_what_is_shown_is_what_the_classes_say(self):
        table = strategies.show()
        assert list(table.index) == NAMES
        for name, row in table.iterrows():
            kind = STRATEGIES[name]
            assert row.to_list() == [kind.title, kind.trains, kind.reference, ", ".join(kind().parameters)]


class TestBuild:
    def test_one_for_each_depth_of_thawing_by_default(self):
        assert [strategy.name for strategy in strategies.build()] == ["pca_logistic", "frozen_probe", "head", "lora"]

    def test_all_of_them_in_the_order_of_thawing(self):
        baselines = ["majority", "pca_logistic", "genes_logistic", "pca_knn", "frozen_probe", "probe_obsm", "head"]
        assert [*baselines, "lora", "lora_attention", "dora", "ia3", "full"] == NAMES
        assert [name for name, kind in STRATEGIES.items() if kind.on_embedding] == baselines
        assert [strategy.name for strategy in strategies.build(NAMES)] == NAMES

    def test_profile_and_checkpoint_reach_the_strategies(self, tiny_profile):
        head, lora = strategies.build(["head", "lora"], profile=tiny_profile, checkpoint="somewhere")
        assert (head.epochs, head.learning_rate, head.batch_size) == (6, 5e-3, 16)
        assert (lora.epochs, lora.learning_rate, lora.batch_size) == (2, 5e-3, 16)
        assert head.checkpoint == lora.checkpoint == "somewhere"
        assert (lora.rank, lora.alpha, lora.lora_dropout, lora.targets) == (4, 8, 0.05, ("linear1", "linear2"))

    @pytest.mark.parametrize("name", IN_EPOCHS)
    def test_every_strategy_in_epochs_takes_its_own_lengths(self, tiny_profile, name):
        changes = {"full_epochs": 3, "full_lr": 3e-4, "tuning_genes": 33, "min_steps": 7}
        (strategy,) = strategies.build([name], profile=dataclasses.replace(tiny_profile, **changes))
        expected = {"head": (6, 5e-3, 8, 0), "full": (3, 3e-4, 4, 1)}.get(name, (2, 5e-3, 4, 0))
        assert (strategy.epochs, strategy.learning_rate, strategy.patience, strategy.warmup_epochs) == expected
        assert (strategy.min_steps, strategy.batch_size) == (7, 16)
        assert name == "head" or strategy.n_genes == 33

    @pytest.mark.parametrize(("profile", "most"), [("quickstart", 1_000), ("full", 2_500)])
    def test_few_labelled_cells_pass_the_encoder_a_limited_number_of_times(self, profile, most):
        """The second tutorial trains LoRA for every number of labels and every repeat."""
        (lora,) = strategies.build(["lora"], profile=profile)
        for n in (20, 40, 80, 110):
            schedule = lora.schedule(0).for_cells(n)
            assert n * schedule.epochs <= most

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (["magic"], "unknown strategy 'magic'; known: majority, pca_logistic, genes_logistic"),
            (["magic:X_pca"], "unknown strategy 'magic:X_pca'; known: majority"),
            (["head:X_pca"], "strategy 'head' takes nothing after its name; got 'head:X_pca'"),
            (["probe_obsm:"], "name the key of obsm after the colon"),
            (["probe_obsm", "probe_obsm:X_pca"], "name each strategy once"),
            (["head", "head"], "name each strategy once"),
            ([], "at least one"),
        ],
    )
    def test_wrong_names_are_refused(self, names, message):
        with pytest.raises(FrostlineError, match=message):
            strategies.build(names)
