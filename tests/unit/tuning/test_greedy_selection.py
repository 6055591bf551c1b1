"""Selection of ensemble members, with probabilities that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vidclf.tuning.greedy_selection import select, vote

LABELS, CLASSES = [0, 0, 1, 1], ["A", "B"]


def candidates(*class_a_probabilities: list[float]) -> np.ndarray:
    """Probabilities [N, B, C] from the probabilities of class A."""
    first_NB = np.array(class_a_probabilities)
    return np.stack([first_NB, 1 - first_NB], axis=2)


BEST = [0.9, 0.4, 0.1, 0.2]  # wrong on the second video
TWIN = [0.9, 0.4, 0.1, 0.1]  # wrong on the same video
OTHER = [0.6, 0.9, 0.3, 0.6]  # wrong on the fourth, right on the second
WORST = [0.1, 0.1, 0.9, 0.9]


def test_the_one_that_mends_the_bests_mistake_comes_before_its_twin() -> None:
    probabilities_NBC = candidates(BEST, TWIN, WORST, OTHER)
    assert vote(probabilities_NBC[[0]], LABELS, CLASSES)[0] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert vote(probabilities_NBC[[0, 3]], LABELS, CLASSES)[0] == 1.0
    assert select(probabilities_NBC, LABELS, CLASSES, 2) == [0, 3]
    assert select(probabilities_NBC, LABELS, CLASSES, 3) == [0, 3, 1]


def test_equal_scores_are_decided_by_the_likelihood() -> None:
    assert select(candidates([0.9, 0.9, 0.1, 0.1], [0.6, 0.6, 0.4, 0.4], [1, 1, 0, 0]), LABELS, CLASSES, 2) == [0, 2]


def test_of_identical_candidates_one_is_taken() -> None:
    assert select(candidates(BEST, BEST, OTHER, BEST, OTHER, WORST), LABELS, CLASSES, 6) == [0, 2, 5]
    assert select(candidates(BEST, BEST), LABELS, CLASSES, 2) == [0]


def test_there_are_no_more_members_than_candidates() -> None:
    assert select(candidates(BEST), LABELS, CLASSES, 4) == [0]
