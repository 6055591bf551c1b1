"""Fit of the linear member and of its weight."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vidclf.ensemble.linear_member import descriptors
from vidclf.training.linear_fit import PRIOR_VARIANCE, WeighedVotes, fit_linear, weigh

NUM_VIDEOS = 60


@pytest.mark.parametrize("num_classes", [2, 3])
def test_it_is_the_regression_of_scikit_learn_with_calibrated_logits(num_classes: int) -> None:
    generator = np.random.default_rng(0)
    labels = [index % num_classes for index in range(NUM_VIDEOS)]
    sequences = [generator.normal(label, 2, (5, 8)).astype(np.float16) for label in labels]
    member = fit_linear([sequences], labels, np.arange(NUM_VIDEOS) // num_classes % 5, num_classes)
    rows_BK = descriptors([sequences])
    judge = make_pipeline(StandardScaler(), LogisticRegression(C=PRIOR_VARIANCE / 16, max_iter=1000))
    judge.fit(rows_BK, labels)
    ours, theirs = np.log(member([sequences])), np.log(judge.predict_proba(rows_BK))
    # Equal up to the temperature: the logits differ by one factor.
    ours, theirs = (values - values[:, :1] for values in (ours, theirs))
    factor = ours[:, 1] @ theirs[:, 1] / (theirs[:, 1] @ theirs[:, 1])
    assert 0.1 < factor < 2
    np.testing.assert_allclose(ours, factor * theirs, atol=0.02)


def test_features_without_spread_and_classes_of_one_video_do_no_harm() -> None:
    sequences = [np.full((1, 4), value, np.float16) for value in (0, 0, 1)]
    member = fit_linear([sequences], [0, 0, 1], np.array([0, 1, 2]), 2)
    assert np.isfinite(member.weights_KC).all()
    assert (member.weights_KC[4:] == 0).all()
    assert member([sequences]).argmax(axis=1).tolist() == [0, 0, 1]


def votes(*confidence_of_truth: float, num_videos: int = 40) -> np.ndarray:
    """Votes of one member in one view for videos of the class 0, in turn with these probabilities for it."""
    truth_B = np.array(confidence_of_truth, np.float32)[np.arange(num_videos) % len(confidence_of_truth)]
    return np.stack([truth_B, 1 - truth_B], axis=1)[None, None]


@pytest.mark.parametrize(("linear", "weight"), [((0.9,), 0.71), ((0.5,), 0.0), ((0.9, 0.2), 0.0)])
def test_the_weight_is_above_0_only_if_the_gain_is_more_than_noise(linear: tuple[float, ...], weight: float) -> None:
    labels_B, groups = np.zeros(40, np.int64), [str(index) for index in range(40)]
    # 0.71 solves 40 · 0.4 / (0.5 + 0.4 w) + 10 / w = 10 / (1 - w): 40 videos, and a prior of 20 for half and half.
    temporal = WeighedVotes.equal(votes(0.5))
    joined, found = weigh(votes(*linear), temporal, labels_B, groups, 1.0)
    assert found.weight == pytest.approx(weight, abs=0.01)
    assert joined.weights_M.tolist() == [1 - found.weight, found.weight]
    assert joined.probabilities_VMBC.shape == (1, 2, 40, 2)


def test_any_gain_gives_weight_without_standard_errors() -> None:
    # Sources gain log(0.8 / 0.5) and lose log(0.3 / 0.5) by turns; half and half: log(0.65 / 0.5) and log(0.4 / 0.5).
    labels_B, groups = np.zeros(40, np.int64), [str(index) for index in range(40)]
    linear_V1BC, temporal = votes(*[0.8, 0.3] * 20), WeighedVotes.equal(votes(0.5))
    _, strict = weigh(linear_V1BC, temporal, labels_B, groups, 1.0)
    _, lenient = weigh(linear_V1BC, temporal, labels_B, groups, 1.0, 0.0)
    assert lenient.gain == strict.gain == pytest.approx((np.log(1.3) + np.log(0.8)) / 2, abs=1e-3)
    assert strict.weight == 0.0
    assert 0.1 < lenient.weight < 0.5
    # A loss gives none.
    assert weigh(votes(0.4), temporal, labels_B, groups, 1.0, 0.0)[1].weight == 0.0


def test_a_single_source_gives_no_weight() -> None:
    _, found = weigh(votes(0.9), WeighedVotes.equal(votes(0.5)), np.zeros(40, np.int64), ["one"] * 40, 1.0)
    assert (found.weight, found.gain_se) == (0.0, None)
    assert found.gain == pytest.approx(np.log(0.7 / 0.5), abs=1e-3)
