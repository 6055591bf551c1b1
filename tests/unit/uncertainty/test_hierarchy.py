"""Arithmetic of a hierarchy of classes and sublabels, against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vidclf.schema import AnswerLevel
from vidclf.uncertainty.hierarchy import UNKNOWN, Hierarchy, SublabelAnswers

HIERARCHY = Hierarchy(classes=["A", "B", "C"], sublabels={"A": ["a1", "a2"], "C": ["c1", "c2", "c3"]})

PROBABILITIES_BC = np.array([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]], np.float32)
CONDITIONAL_BL = np.array(
    [[0.75, 0.25, 0.2, 0.3, 0.5], [0.5, 0.5, 0.2, 0.3, 0.5], [0.9, 0.1, 0.25, 0.5, 0.25]], np.float32
)


def test_sublabels_are_listed_class_by_class() -> None:
    assert HIERARCHY.names == [("A", "a1"), ("A", "a2"), ("C", "c1"), ("C", "c2"), ("C", "c3")]
    assert HIERARCHY.parent_L.tolist() == [0, 0, 2, 2, 2]
    assert (HIERARCHY.sizes, HIERARCHY.num_outputs) == ([2, 3], 8)
    assert [HIERARCHY.index(*pair) for pair in (("A", "a2"), ("C", "c1"), ("C", "a1"), ("B", None))] == [1, 2, -1, -1]


def test_the_sublabels_of_a_class_share_exactly_its_probability() -> None:
    joint_BL = HIERARCHY.joint(PROBABILITIES_BC, CONDITIONAL_BL)
    # P(a1) = 0.8 · 0.75, P(a2) = 0.8 · 0.25, P(c1) = 0.1 · 0.2, and so on.
    np.testing.assert_allclose(joint_BL[0], [0.6, 0.2, 0.02, 0.03, 0.05], atol=1e-7)
    np.testing.assert_allclose(joint_BL[:, :2].sum(axis=1), PROBABILITIES_BC[:, 0], atol=1e-7)
    np.testing.assert_allclose(joint_BL[:, 2:].sum(axis=1), PROBABILITIES_BC[:, 2], atol=1e-7)


def test_a_temperature_acts_within_each_class() -> None:
    # At temperature 1/2 probabilities are squared: 0.75² : 0.25² is 9 : 1, and 0.2² : 0.3² : 0.5² is 4 : 9 : 25.
    np.testing.assert_allclose(
        HIERARCHY.tempered(CONDITIONAL_BL, 0.5)[0], [0.9, 0.1, 4 / 38, 9 / 38, 25 / 38], rtol=1e-6
    )
    per_video_BL = HIERARCHY.tempered(CONDITIONAL_BL, np.array([[0.5], [1.0], [1.0]]))
    np.testing.assert_allclose(per_video_BL[0], [0.9, 0.1, 4 / 38, 9 / 38, 25 / 38], rtol=1e-6)
    np.testing.assert_allclose(per_video_BL[1:], CONDITIONAL_BL[1:], rtol=1e-6)


def test_the_most_probable_sublabel_is_one_of_the_class() -> None:
    assert HIERARCHY.top_sublabels(CONDITIONAL_BL, np.array([0, 1, 2])).tolist() == [0, UNKNOWN, 3]
    # a1 of video 2 has the probability 0.9 within A, which matters only if the class is A.
    assert HIERARCHY.top_sublabels(CONDITIONAL_BL, np.array([2, 2, 0])).tolist() == [4, 4, 0]


def test_each_video_is_answered_at_the_deepest_level_that_keeps_the_risk() -> None:
    trust_B = np.array([0.9, 0.6, 0.8], np.float32)
    answers = SublabelAnswers.of(HIERARCHY, PROBABILITIES_BC, CONDITIONAL_BL, trust_B)
    assert answers.top_B.tolist() == [0, UNKNOWN, 3]
    np.testing.assert_allclose(answers.confidence_B, [0.8 * 0.75, 0, 0.7 * 0.5], rtol=1e-6)
    np.testing.assert_allclose(answers.trust_B, [0.9 * 0.75, 0, 0.8 * 0.5], rtol=1e-6)
    accepted_B = np.array([True, True, True])
    sublabel, by_class, abstained = AnswerLevel.SUBLABEL, AnswerLevel.CLASS, AnswerLevel.ABSTAINED
    assert answers.levels(accepted_B, 0.5) == [sublabel, by_class, by_class]
    assert answers.levels(accepted_B, 0.4) == [sublabel, by_class, sublabel]
    # A sublabel never counts without its class, and a class without sublabels has none, whatever the threshold.
    assert answers.levels(np.array([False, True, True]), 0.0) == [abstained, by_class, sublabel]
    assert answers.levels(accepted_B, None) == [by_class, by_class, by_class]


def test_the_temperature_is_fitted_to_known_sublabels_alone() -> None:
    # 4,000 videos of A with P(a1 | A) = e² / (1 + e²), of which 3 in 4 are a1: the logit 2 must become log 3.
    sure = 1 / (1 + np.exp(-2))
    conditional_BL = np.tile(np.array([sure, 1 - sure, 0.2, 0.3, 0.5]), (5000, 1))
    truth_B = np.array([0] * 3000 + [1] * 1000 + [UNKNOWN] * 1000)
    assert HIERARCHY.fit_temperature(conditional_BL, truth_B) == pytest.approx(2 / np.log(3), abs=5e-3)
    assert HIERARCHY.fit_temperature(conditional_BL, np.full(5000, UNKNOWN)) == pytest.approx(1, abs=1e-3)


def test_a_hierarchy_without_sublabels_has_the_classes_alone() -> None:
    flat = Hierarchy(classes=["A", "B"])
    assert (flat.names, flat.num_outputs) == ([], 2)
    assert flat.top_sublabels(np.empty((3, 0)), np.array([0, 1, 0])).tolist() == [UNKNOWN] * 3
