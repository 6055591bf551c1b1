"""Training data from feature sets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vidclf.ensemble.temporal_model import pad
from vidclf.errors import ConfigError
from vidclf.features.feature_set import FeatureSet
from vidclf.features.spec import FeatureSpec
from vidclf.training.augment import FramePlan
from vidclf.training.dataset import Batches, Sequences, bootstrap_sample, class_balanced_order, training_data

SPEC = FeatureSpec(
    backbone="efficientnet_lite0", weights_digest="0", sampling={}, transform={}, decoder="d", dtype="float16"
)


def feature_set() -> FeatureSet:
    """Four videos, label B before A, one of each label in train and in val."""
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
    assert [float(sequence[0, 0]) for sequence in data.val.videos] == [2.0, 3.0]
    assert data.feature_dim == 3


def test_pad_fills_with_zeros_and_says_how_long() -> None:
    features_BTD, lengths_B = pad([np.ones((1, 2), np.float16), np.ones((3, 2), np.float16)])
    assert features_BTD.tolist() == [[[1, 1], [0, 0], [0, 0]], [[1, 1], [1, 1], [1, 1]]]
    assert lengths_B.tolist() == [1, 3]


def test_draws_are_as_many_as_videos_and_even_over_classes() -> None:
    labels = [0] * 900 + [1] * 100
    drawn = class_balanced_order(labels, torch.Generator().manual_seed(0))
    assert len(drawn) == 1000
    assert 430 < sum(labels[index] for index in drawn.tolist()) < 570


def test_draws_are_even_over_classes_and_over_the_videos_of_a_class() -> None:
    labels = [0] * 3000 + [1] * 900 + [2] * 10
    drawn = torch.cat([class_balanced_order(labels, torch.Generator().manual_seed(seed)) for seed in range(4)])
    counts = torch.bincount(torch.tensor(labels)[drawn], minlength=3)
    assert counts.sum() == 4 * 3910
    assert bool(((counts / counts.sum() - 1 / 3).abs() < 0.02).all())
    share_of_rare_videos = torch.bincount(drawn[drawn >= 3900] - 3900, minlength=10) / counts[2]
    assert bool(((share_of_rare_videos - 1 / 10).abs() < 0.02).all())


def two_videos() -> Sequences:
    """Frames 0, 10, 20 and frame 7."""
    return Sequences.of([np.array([[0], [10], [20]], np.float16), np.array([[7]], np.float16)], [1, 0])


def test_whole_videos_in_the_order_asked_for_padded_with_zeros() -> None:
    features_BTD, lengths_B = Batches(two_videos(), torch.device("cpu")).whole(torch.tensor([1, 0]))
    assert features_BTD[..., 0].tolist() == [[7, 0, 0], [0, 10, 20]]
    assert lengths_B.tolist() == [1, 3]


def test_frames_between_two_are_interpolated_and_padding_is_zero() -> None:
    plan = FramePlan(torch.tensor([[0.5, 1.25, 2.0], [0.0, 0.0, 0.0]]), torch.tensor([3, 1]))
    features_BLD, _ = Batches(two_videos(), torch.device("cpu")).at(torch.tensor([0, 1]), plan)
    assert features_BLD[..., 0].tolist() == [[5, 12.5, 20], [7, 0, 0]]


def test_a_read_only_array_as_the_object_store_has_it_is_taken_without_a_copy() -> None:
    sequences = two_videos()
    sequences.videos.frames_ND.flags.writeable = False
    features_BTD, _ = Batches(sequences, torch.device("cpu")).whole(torch.tensor([0]))
    assert features_BTD[..., 0].tolist() == [[0, 10, 20]]


def test_a_bootstrap_sample_keeps_the_size_of_each_class() -> None:
    features = [np.full((1, 1), number, np.float16) for number in range(40)]
    sequences = Sequences.of(features, [0] * 30 + [1] * 10)
    sample = bootstrap_sample(sequences, torch.Generator().manual_seed(0))
    assert (sample.labels.count(0), sample.labels.count(1)) == (30, 10)
    values = [int(rows_TD[0, 0]) for rows_TD in sample.videos]
    assert 10 < len(set(values)) < 35  # with replacement
    assert all((value >= 30) == (label == 1) for value, label in zip(values, sample.labels, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["B", None, "B", "A"]}, r"must hold labelled videos, 1 of 4 have no label \(for one /v/2\)"),
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


def test_the_option_that_gave_the_features_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^--calibrate-with f: must hold at least 2 classes, holds \['A'\]$"):
        training_data(replace(feature_set(), labels=["A"] * 4), option="--calibrate-with f")
