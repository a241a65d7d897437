"""Coarser answers: what is merged, what is answered, and what that promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from frostline.annotation.certificates import certify
from frostline.annotation.hierarchies import Hierarchy

CLASSES = ("B", "CD4 T", "CD8 T", "Mono", "NK")


def predicted(draw, labels, *, apart=2.0):
    """Probabilities that are true: CD4 and CD8 T cells are confused, sometimes with NK cells, the others never."""
    centres = np.array([[0, 9, 0], [apart, 0, 0], [-apart, 0, 0], [0, -9, 0], [-2 * apart, 0, 4.5]], dtype=float)
    x = centres[labels] + draw.normal(size=(len(labels), 3)) * 1.5
    logits = -((x[:, None, :] - centres) ** 2).sum(axis=2) / (2 * 1.5**2)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def cells():
    draw = np.random.default_rng(0)
    columns = draw.integers(5, size=900)
    return predicted(draw, columns), np.array(CLASSES)[columns]


class TestLearn:
    def test_the_most_confused_are_merged_first_and_all_in_the_end(self, cells):
        found = Hierarchy.learn(*cells, CLASSES)
        assert found.sets[:5] == tuple((name,) for name in CLASSES)
        assert found.sets[5] == ("CD4 T", "CD8 T")
        assert found.sets[-1] == CLASSES
        assert len(found.sets) == 9

    def test_heights_are_the_mean_confusion_by_hand(self):
        p = np.array([[0.7, 0.3, 0.0], [0.5, 0.5, 0.0], [0.2, 0.6, 0.2], [0.0, 0.0, 1.0]])
        found = Hierarchy.learn(p, np.array(["a", "a", "b", "c"]), ("a", "b", "c"))
        # a for b: .2; b for a: (.3 + .5) / 2 = .4; mean .3.  c with a: 0, with b: (.2 + 0) / 2 = .1; on average .05
        np.testing.assert_allclose(found.merges[:, 2], [1 - 0.3, 1 - 0.05])

    def test_what_is_not_confused_or_is_most_classes_is_no_answer(self, cells):
        found = Hierarchy.learn(*cells, CLASSES)
        sets = [each for each, yes in zip(found.sets, found.offered, strict=True) if yes and len(each) > 1]
        assert sets == [("CD4 T", "CD8 T")]  # three of five would be most of them

    def test_a_class_without_cells_and_two_classes(self):
        p = np.repeat([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]], 50, axis=0)
        labels = np.repeat(["a", "b"], 50)
        assert Hierarchy.learn(p, labels, ("a", "b", "c")).sets[3] == ("a", "b")
        two = Hierarchy.learn(p[:, :2], labels, ("a", "b"))
        assert two.answers(p[:2, :2], 0.95) == [("a", "b")] * 2


class TestAnswers:
    def test_climbs_as_far_as_it_must(self, cells):
        found = Hierarchy.learn(*cells, CLASSES)
        coarse = found.certificate.threshold
        assert coarse is not None
        p = np.array([[0, 0.99, 0.01, 0, 0], [0, 0.6, 0.4, 0, 0], [0.5, 0.1, 0.0, 0.4, 0]])
        assert found.answers(p, 0.95) == [("CD4 T",), ("CD4 T", "CD8 T"), CLASSES]
        assert found.answers(p[:0], 0.95) == []

    def test_without_an_exact_certificate_one_class_needs_what_a_set_needs(self, cells):
        found = Hierarchy.learn(*cells, CLASSES)
        found = replace(found, certificate=replace(found.certificate, threshold=0.8))
        p = np.array([[0, 0.79, 0.21, 0, 0], [0, 0.81, 0.19, 0, 0]])
        assert found.answers(p, None) == [("CD4 T", "CD8 T"), ("CD4 T",)]
        assert found.answers(p, 0.7) == [("CD4 T",), ("CD4 T",)]

    def test_without_any_certificate_there_is_no_coarser_answer(self):
        p = np.repeat([[0.6, 0.4, 0.0], [0.4, 0.6, 0.0], [0.0, 0.0, 1.0]], 3, axis=0)
        found = Hierarchy.learn(p, np.repeat(["a", "b", "c"], 3), ("a", "b", "c"))
        assert found.certificate.threshold is None
        assert found.answers(p, None) == [("a", "b", "c")] * 9

    def test_one_cell_gets_what_it_gets_in_a_batch(self, cells):
        p, labels = cells
        found = Hierarchy.learn(p, labels, CLASSES)
        assert [found.answers(row[None], 0.9)[0] for row in p[:40]] == found.answers(p[:40], 0.9)


class TestPromise:
    def test_more_cells_are_answered_and_the_sets_hold_the_class_as_often_as_promised(self):
        draw, kept, exact_share, coarse_share = np.random.default_rng(1), [], [], []
        for _ in range(25):
            columns = draw.integers(5, size=2400)
            p, labels = predicted(draw, columns, apart=1.0), np.array(CLASSES)[columns]
            right = p[:400].argmax(axis=1) == columns[:400]
            exact = certify(p[:400].max(axis=1), right)
            found = Hierarchy.learn(p[:400], labels[:400], CLASSES, exact)
            answers = found.answers(p[400:], exact.threshold)
            given = [(label, each) for label, each in zip(labels[400:], answers, strict=True) if len(each) < 5]
            kept.append(np.mean([label in each for label, each in given]) >= 0.95)
            coarse_share.append(len(given) / 2000)
            exact_share.append((p[400:].max(axis=1) >= (exact.threshold or 2)).mean())
        assert np.mean(kept) >= 0.8
        assert np.mean(coarse_share) > np.mean(exact_share) + 0.1

    def test_groups_are_heeded(self, cells):
        p, labels = cells
        donors = np.array([f"d{i % 5}" for i in range(len(labels))])
        assert Hierarchy.learn(p, labels, CLASSES, groups=donors).certificate.groups == 5

    def test_arrays_can_be_kept_as_safetensors(self, cells):
        p, labels = cells
        found = Hierarchy.learn(p, labels, CLASSES)
        again = Hierarchy.from_arrays(load(save(found.arrays())))
        assert (again.classes, again.certificate) == (found.classes, found.certificate)
        assert again.answers(p, 0.9) == found.answers(p, 0.9)
