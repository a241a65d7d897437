"""From labelled cells to a model: the winner, its calibration, what is refused before the work."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax

import frostline
from frostline.annotation import adapting
from frostline.annotation.adapting import adapt, calibrate, fit_all, keep, winner
from frostline.annotation.crossfitting import CrossFitted
from frostline.annotation.novelty import Centroids
from frostline.comparison import jobs
from frostline.comparison.comparisons import compare
from frostline.errors import Cancelled, CheckpointError, DatasetError, FrostlineError
from frostline.monitor import Monitor
from frostline.profiles import get_profile
from frostline.strategies import HeadTuning, PcaKnn

pytestmark = pytest.mark.usefixtures("instant_umap_throughout")


def labelled_as(dataset, names):
    """Cells whose labels are renamed."""
    adata = dataset.adata.copy()
    adata.obs["kind"] = pd.Series(dataset.labels, index=adata.obs_names).replace(names).to_numpy()
    return adata


class TestAdapt:
    @pytest.mark.parametrize(
        ("to", "said"),
        [
            (["Unknown", "b", "c"], "some cells have the label 'Unknown'"),
            (["b | c", "b", "c"], r"the label 'b \| c' is how a model answers with several classes"),
        ],
    )
    def test_labels_that_mean_something_else_in_an_answer_are_refused_before_the_work(
        self, three_kinds, compared, to, said
    ):
        adata = labelled_as(three_kinds, dict(zip(np.unique(three_kinds.labels), to, strict=True)))
        with pytest.raises(DatasetError, match=said) as refused:
            adapt(adata, "kind", strategies=["majority", "pca_logistic"])
        there = {"adata": adata}
        exec(refused.value.line, there)
        adapting._refuse_double_meanings(frostline.load_dataset(there["adata"], "kind"))

    def test_a_bar_between_other_words_is_a_label_like_others(self, three_kinds):
        names = dict(zip(np.unique(three_kinds.labels), ["b | x", "b", "c"], strict=True))
        adapting._refuse_double_meanings(frostline.load_dataset(labelled_as(three_kinds, names), "kind"))

    @pytest.mark.slow
    def test_the_winner_is_fitted_on_all_cells_with_the_hyper_parameters_of_the_comparison(self, three_kinds, fresh):
        said = []
        model = frostline.adapt(
            fresh(three_kinds),
            strategies=["majority", "pca_logistic"],
            reference_cells=10,
            monitor=Monitor(lambda fraction, text: said.append((fraction, text))),
        )
        assert model.strategy.name == model.card["recommended"] == "pca_logistic"
        assert model.strategy.parameters == frostline.strategies.PcaLogistic().parameters
        assert model.card["dataset"]["cells"] == 150
        assert model.card["fit"]["trained"] == 150
        assert model.card["fit"]["folds"] == 5
        assert model.card["verdict"].startswith("Of these fitted models")
        assert len(model.reference.labels) == 30
        assert not [text for _, text in said if text.endswith(": ")]
        assert any(text.startswith("comparing: majority") for _, text in said)
        assert any(text.startswith("comparing: pca_logistic") for _, text in said)
        fractions = [fraction for fraction, _ in said]
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1.0
        assert {text.split(":")[0] for _, text in said} >= {"comparing", "fitting on all labelled cells", "calibrating"}
        json.dumps(dict(model.card), allow_nan=False)

    @pytest.mark.parametrize(
        ("how", "said"),
        [
            ({"target": 1.0}, r"target is 1.0, and must be a number from 0.5 to below 1"),
            ({"alpha": 0.7}, r"alpha is 0.7, and must be a number from 0 to 0.5"),
            ({"reference_cells": -1}, r"reference_cells is -1"),
            ({"reference_cells": 1}, r"reference_cells is 1, and must be 0, which keeps none, or at least 3 \(cells"),
            ({"reference_cells": 2}, r"reference_cells is 2, and must be 0, which keeps none, or at least 3 \(cells"),
            ({"seed": -1}, r"seed is -1"),
            ({"strategies": ["pca"]}, r"unknown strategy 'pca'"),
            ({"checkpoint": "maxi"}, r"unknown checkpoint 'maxi'"),
            ({"group_key": "donor"}, r"is loaded already, and group_key would have no effect"),
        ],
    )
    def test_what_is_out_of_bounds_is_refused_before_any_work(self, three_kinds, monkeypatch, how, said):
        monkeypatch.setattr(jobs.Job, "run", lambda *_: pytest.fail("work was done"))
        with pytest.raises(FrostlineError, match=said):
            frostline.adapt(three_kinds, **how)

    def test_groups_that_cannot_be_left_out_are_refused_before_any_work(self, three_kinds, monkeypatch):
        monkeypatch.setattr(jobs.Job, "run", lambda *_: pytest.fail("work was done"))
        adata = three_kinds.adata.copy()
        adata.obs["donor"] = adata.obs["bulk_labels"].astype(str)
        with pytest.raises(DatasetError, match=r"'donor' cannot be left out"):
            frostline.adapt(adata, "bulk_labels", group_key="donor")

    def test_it_can_be_cancelled(self, three_kinds, fresh):
        with pytest.raises(Cancelled):
            frostline.adapt(
                fresh(three_kinds), strategies=["pca_logistic", "pca_knn"], monitor=Monitor(cancelled=lambda: True)
            )

    def test_what_every_strategy_fails_on_is_raised(self, three_kinds, fresh, monkeypatch):
        def fail(*_):
            raise DatasetError("these cells have no neighbours")

        monkeypatch.setattr(PcaKnn, "_fit", fail)
        with pytest.raises(DatasetError, match="these cells have no neighbours"):
            frostline.adapt(fresh(three_kinds), strategies=["pca_knn"])


class TestWinner:
    def test_of_equal_scores_it_is_the_cheapest(self, make_record):
        records = [make_record(name, skill=3.0) for name in ("lora", "head", "pca_knn")]
        same = [dataclasses.replace(each, probabilities=records[0].probabilities) for each in records]
        dear, cheap = (dataclasses.replace(same[0].cost, trainable_parameters=n) for n in (10_000, 10))
        same = [dataclasses.replace(same[0], cost=dear), dataclasses.replace(same[1], cost=cheap),
                dataclasses.replace(same[2], cost=dear)]  # fmt: skip
        assert winner(compare(same)) == "head"

    def test_where_no_choice_is_supported_it_has_the_highest_score(self, make_record):
        alone = compare([make_record("head")])
        assert "nothing to choose from" in alone.verdict
        assert winner(alone) == "head"

    def test_the_most_common_class_is_no_model(self, make_record, three_kinds, compared):
        with pytest.raises(FrostlineError, match="no strategy scores higher than the most common class"):
            winner(compare([make_record("majority"), make_record("head", skill=-3.0)]))
        with pytest.raises(FrostlineError, match="majority learns nothing"):
            keep(compared, three_kinds, "majority")

    def test_an_embedding_that_other_cells_lack_is_refused_before_the_comparison(self, three_kinds, monkeypatch):
        monkeypatch.setattr(adapting, "_compared", lambda *_: pytest.fail("it was compared"))
        with pytest.raises(FrostlineError, match=r"probe_obsm:X_scVI reads adata.obsm\['X_scVI'\], .*leave it out"):
            adapt(three_kinds, strategies=["pca_logistic", "probe_obsm:X_scVI"])


class TestKeep:
    def test_a_strategy_of_an_existing_comparison_is_kept(self, kept, three_kinds, compared):
        assert kept.strategy.name == "pca_logistic"
        assert kept.cross_fitted.probabilities.shape == (150, 3)
        assert kept.card["scores"].keys() == {"majority", "pca_logistic"}
        assert kept.card["dataset"]["sha256"] == three_kinds.fingerprint()
        assert kept.card["metrics"]["accuracy"] == np.mean(
            np.array(kept.classes)[kept.cross_fitted.probabilities.argmax(axis=1)] == three_kinds.labels
        )
        with pytest.raises(FrostlineError, match=r"unknown strategy 'lora'; known: majority, pca_logistic"):
            keep(compared, three_kinds, "lora")

    def test_other_data_than_was_compared_is_refused(self, compared, three_kinds, pbmc):
        labels = three_kinds.labels.copy()
        labels[0] = labels[-1]
        for other in (pbmc, dataclasses.replace(three_kinds, labels=labels)):
            with pytest.raises(DatasetError, match=r"was made on other cells, labels, groups or values"):
                keep(compared, other)

    def test_one_run_at_a_time(self, compared, three_kinds):
        with jobs.alone(), pytest.raises(FrostlineError, match="another run is under way"):
            keep(compared, three_kinds)

    def test_a_strategy_that_stops_early_says_what_it_kept_aside(self, three_kinds, small_checkpoint, fresh):
        dataset, strategy = fresh(three_kinds), HeadTuning(checkpoint=str(small_checkpoint), epochs=2, min_steps=0)
        comparison = compare([frostline.evaluate(strategy, dataset, frostline.split(dataset))])
        with pytest.raises(CheckpointError, match=r"'small-\w+', a folder; say where it is: keep\(\.\.\., checkpoint="):
            keep(comparison, dataset)
        with pytest.raises(CheckpointError, match=r"'mini' holds other weights"):
            keep(comparison, dataset, checkpoint="mini")
        model = keep(comparison, dataset, checkpoint=small_checkpoint, reference_cells=0)
        assert model.strategy.epochs == 2
        assert (model.card["fit"]["trained"], model.card["fit"]["aside"]) == (126, 24)
        assert any("24 of 150 labelled cells (15 % of each class) were kept aside" in n for n in model.card["notes"])
        assert model.card["checkpoint"]["name"].startswith("small-")
        assert model.reference is None
        assert "nothing tests whether a query differs" in repr(model)
        assert "none. It keeps none of its cells" in model._repr_html_()


class TestCalibrate:
    @pytest.fixture
    def found(self):
        """600 cells of three classes whose logits are larger than they should be."""
        rng = np.random.default_rng(0)
        columns = rng.integers(0, 3, 600)
        logits = rng.normal(size=(600, 3)) + 2.5 * np.eye(3)[columns]
        return CrossFitted(
            rows=np.arange(600), labels=np.array(["A", "B", "C"])[columns], classes=("A", "B", "C"),
            folds=columns, probabilities=softmax(3 * logits, axis=1), energies=rng.normal(size=600),
            distances=rng.random(600),
        )  # fmt: skip

    @pytest.fixture
    def centroids(self):
        return Centroids.fit(np.random.default_rng(0).normal(size=(9, 2)), np.repeat(["A", "B", "C"], 3))

    def test_the_temperature_is_that_of_the_lowest_log_loss(self, found, centroids):
        calibration = calibrate(found, centroids, target=0.9, alpha=0.01)
        own = np.log(found.probabilities)

        def loss(t):
            return -np.log(softmax(own / t, axis=1)[np.arange(600), found.columns]).mean()

        best = minimize_scalar(loss, bounds=(0.5, 9), method="bounded").x
        assert calibration.temperature == pytest.approx(best, rel=1e-3)
        assert calibration.temperature == pytest.approx(3 / 2.5, rel=0.1)  # the true logits are 2.5 times the class
        assert (calibration.certificate.target, calibration.alpha) == (0.9, 0.01)
        scaled = softmax(own / calibration.temperature, axis=1)
        answered = scaled.max(axis=1) >= calibration.certificate.threshold
        wrong = (scaled.argmax(axis=1) != found.columns)[answered]
        assert (calibration.certificate.answered, calibration.certificate.errors) == (answered.sum(), wrong.sum())
        assert calibration.energies is found.energies

    def test_it_is_never_below_one(self, found, centroids):
        timid = dataclasses.replace(found, probabilities=softmax(np.log(found.probabilities) / 9, axis=1))
        assert calibrate(timid, centroids).temperature == 1

    def test_errors_are_counted_in_the_shares_that_the_classes_have(self, centroids):
        """200 cells of each of six classes; of A, three quarters of all labelled cells, one in eight is called B."""
        names = np.array(list("ABCDEF"))
        columns = np.repeat(np.arange(6), 200)
        called = np.where(np.arange(1200) < 25, 1, columns)
        sample = CrossFitted(
            rows=np.arange(1200), labels=names[columns], classes=tuple(names), folds=columns,
            probabilities=np.where(called[:, None] == np.arange(6), 0.95, 0.01), energies=np.zeros(1200),
            distances=np.zeros(1200),
        )  # fmt: skip
        equal = calibrate(sample, centroids, classes=dict.fromkeys(names, 700))
        assert (equal.certificate.answered, equal.certificate.errors) == (1200, 25)
        shares = calibrate(sample, centroids, classes={"A": 3000, **dict.fromkeys("BCDEF", 200)})
        assert shares.certificate.threshold is None  # 25 of 200 times three quarters is 9 % of the labelled cells
        expected = 200 * 4000 / 3000
        assert shares.certificate.n == shares.hierarchy.certificate.n == pytest.approx(expected, abs=25)
        assert shares.hierarchy.merges.tolist() == equal.hierarchy.merges.tolist()
        assert shares.energies is sample.energies

    def test_with_fewer_than_45_cells_nothing_is_certified(self, found, centroids):
        few = dataclasses.replace(
            found, rows=found.rows[:40], labels=found.labels[:40], folds=found.folds[:40],
            probabilities=found.probabilities[:40], energies=found.energies[:40], distances=found.distances[:40],
        )  # fmt: skip
        certificate = calibrate(few, centroids).certificate
        assert certificate.threshold is None
        assert "cannot be certified" in certificate.sentence


def test_a_fit_on_all_cells_leaves_what_was_passed_in_alone(three_kinds):
    strategy = PcaKnn()
    made = fit_all(strategy, three_kinds, profile=get_profile("quickstart"), seed=1)
    assert strategy.classes_ == ()
    assert made.strategy.reference_.shape[0] == 150
    assert made.calibration.certificate.n == 150
    assert adapting.LEAST_TEMPERATURE == 1
