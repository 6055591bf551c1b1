"""From features to training data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vidclf.config import ConfigError
from vidclf.features.store import FeatureSet, FeatureSpec
from vidclf.learning.dataset import class_balanced_order, pad, training_data

SPEC = FeatureSpec(
    backbone="efficientnet_lite0", weights_digest="0", sampling={}, transform={}, decoder="d", dtype="float16"
)


def feature_set() -> FeatureSet:
    """Four videos, B before A, one of each in train and val."""
    return FeatureSet(
        spec=SPEC,
        video_ids=["1", "2", "3", "4"],
        video_uris=["/v/1", "/v/2", "/v/3", "/v/4"],
        labels=["B", "A", "B", "A"],
        sublabels=[None] * 4,
        groups=["g1", "g2", "g3", "g4"],
        splits=["train", "train", "val", "val"],
        content_digests=["d1", "d2", "d3", "d4"],
        features=[np.full((2, 3), number, np.float16) for number in range(4)],
    )


def test_classes_are_alphabetical_and_splits_are_taken_apart() -> None:
    data = training_data(feature_set())
    assert data.classes == ["A", "B"]
    assert (data.train.labels, data.val.labels) == ([1, 0], [1, 0])
    assert [float(sequence[0, 0]) for sequence in data.val.features] == [2.0, 3.0]
    assert data.feature_dim == 3


def test_pad_fills_with_zeros_and_says_how_long() -> None:
    features_BTD, lengths_B = pad([np.ones((1, 2), np.float16), np.ones((3, 2), np.float16)])
    assert features_BTD.tolist() == [[[1, 1], [0, 0], [0, 0]], [[1, 1], [1, 1], [1, 1]]]
    assert lengths_B.tolist() == [1, 3]


def test_draws_are_as_many_as_videos_and_even_over_classes() -> None:
    labels = [0] * 900 + [1] * 100
    drawn = class_balanced_order(labels, torch.Generator().manual_seed(0))
    assert len(drawn) == 1000
    assert 430 < sum(labels[index] for index in drawn) < 570


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["B", None, "B", "A"]}, "must hold labelled videos"),
        ({"splits": [None] * 4}, "videos have no split"),
        ({"splits": ["train", "train", "test", "test"]}, "the val split must hold at least one video, is empty"),
        ({"groups": ["g", "x", "g", "y"]}, "source 'g' must be in one split, is in train and val"),
        ({"labels": ["A"] * 4}, r"must hold at least 2 classes, holds \['A'\]"),
        ({"labels": ["B", "B", "B", "A"]}, r"the train split must hold every class, lacks \['A'\]"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(change: dict[str, list[str | None]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        training_data(replace(feature_set(), **change))
