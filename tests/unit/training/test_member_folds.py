"""Folds that members leave out of training."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from tests.support.features import LITE0, half_and_half
from vidclf.config import FitConfig
from vidclf.errors import ConfigError
from vidclf.features.feature_set import FeatureSet
from vidclf.training.member_folds import out_of_fold, plan_member_folds, recipe


def features() -> FeatureSet:
    """Eight videos of the classes A and B by turns: train00 to train03, and val00 to val03, of which the last two are
    test videos. All sources differ."""
    generator = np.random.default_rng(0)
    made = half_and_half(LITE0, [generator.normal(size=(2, LITE0.feature_dim)).astype(np.float16) for _ in range(8)])
    return replace(made, splits=[*made.splits[:6], "test", "test"])


def test_train_and_validation_videos_are_dealt_to_the_folds_by_source_and_class() -> None:
    folds = plan_member_folds(features(), 3)
    # Class A: train00, train02, val00; class B: train01, train03, val01. Test videos are in no fold.
    assert folds.fold_N.tolist() == [0, 0, 1, 1, 2, 2, -1, -1]
    assert (folds.num_folds, folds.num_videos) == (3, 6)
    data = folds.data(features(), 1)
    assert (data.train.labels, data.val.labels) == ([0, 1, 0, 1], [0, 1])
    np.testing.assert_array_equal(data.val.videos[0], features().features[2])


def test_more_members_than_folds_share_them() -> None:
    made = features()
    made = replace(made, splits=["train"] * 8)
    folds = plan_member_folds(made, 2)
    assert [folds.left_out_by(member) for member in range(5)] == [0, 1, 0, 1, 0]
    generator = np.random.default_rng(0)
    many = half_and_half(LITE0, [generator.normal(size=(1, LITE0.feature_dim)).astype(np.float16) for _ in range(20)])
    assert plan_member_folds(many, 8).num_folds == 5


def test_near_duplicates_are_left_out_together_and_do_not_reach_test_videos() -> None:
    made = features()
    clusters = [0, None, 0, None, None, None, 0, None]
    folds = plan_member_folds(made, 2, [clusters])
    assert folds.fold_N[0] == folds.fold_N[2]
    assert folds.groups == ["train00", "train01", "train00", "train03", "val00", "val01", "val02", "val03"]


@pytest.mark.parametrize(
    ("num_members", "labels", "message"),
    [
        (
            4,
            "AABBB",
            "--calibration cross needs at least 2 sources of each class, which lie in different folds; class 'A' would "
            "be missing where fold 0 is left out",
        ),
        (
            3,
            "AB",
            "--calibration cross needs at least one source for each of the 3 folds that members leave out, got 2",
        ),
    ],
)
def test_too_few_sources_are_refused(num_members: int, labels: str, message: str) -> None:
    made = features()
    rows = {"AABBB": [0, 0, 1, 3, 5], "AB": [0, 1]}[labels]
    with pytest.raises(ConfigError, match=re.escape(message)):
        plan_member_folds(made.take(rows), num_members)


def test_the_probabilities_of_a_video_come_from_the_members_that_left_it_out() -> None:
    # One view, three members, three videos: members 0 and 2 left out fold 0, member 1 left out fold 1.
    given = np.array([[[[0.9, 0.1]] * 3, [[0.6, 0.4]] * 3, [[0.5, 0.5]] * 3]], np.float32)
    found = out_of_fold(given, np.array([0, 1, 0]), np.array([0, 1, 0]))
    assert found.shape == (1, 1, 3, 2)
    np.testing.assert_allclose(found[0, 0], [[0.7, 0.3], [0.6, 0.4], [0.7, 0.3]], atol=1e-6)


def test_members_train_until_the_learning_rate_first_reaches_zero() -> None:
    assert (recipe(FitConfig()).epochs, recipe(FitConfig()).selection) == (25, "last")
    assert recipe(FitConfig(epochs=10)).epochs == 10
    assert recipe(FitConfig(warmup_epochs=0, warm_restart_epochs=40)).epochs == 40
