"""Sublabels in training: which are learnt, their loss, and a member that learns them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.features import LITE0, half_and_half
from vidclf.config import FitConfig, TrainConfig
from vidclf.ensemble.sublabels import split_probabilities
from vidclf.ensemble.temporal_model import TemporalClassifier
from vidclf.features.feature_set import FeatureSet
from vidclf.training.dataset import Batches, bootstrap_sample, training_data
from vidclf.training.member_fit import fit_member, predict
from vidclf.training.member_plan import plan_members
from vidclf.training.sublabels import sublabel_loss, taxonomy_line, taxonomy_of
from vidclf.uncertainty.hierarchy import Hierarchy

CPU = torch.device("cpu")
CONFIG = FitConfig(
    hidden_dim=8, num_lstm_layers=1, num_attention_heads=2, classifier_dims=(8,), dropout=0.1, epochs=12, patience=12,
    lr=1e-2, warmup_epochs=2,
)  # fmt: skip


def videos(num_videos: int = 48) -> FeatureSet:
    """Videos of the classes A and B by turns. Those of A are of the sublabels a1 and a2 by turns, those of B of b1.

    The first number of a frame shows the class, the second one the sublabel.
    """
    generator = np.random.default_rng(0)
    features = []
    for index in range(num_videos):
        mean_D = np.array([4.0 * (index % 2) - 2, 4.0 * (index // 2 % 2) - 2, 0, 0])
        features.append(generator.normal(mean_D, 0.5, (2 + index % 3, 4)).astype(np.float16))
    sublabels = [("a1", "b1", "a2", "b1")[index % 4] for index in range(num_videos)]
    return replace(half_and_half(LITE0, features), sublabels=sublabels)


def test_a_class_has_sublabels_if_two_of_them_have_two_sources_in_train() -> None:
    features = videos(16)
    assert taxonomy_of(features, ["A", "B"]) == {"A": ["a1", "a2"]}
    line = taxonomy_line(features, Hierarchy(classes=["A", "B"], sublabels={"A": ["a1", "a2"]}))
    assert line == (
        "sublabels: predicted below A (2); a sublabel needs 2 sources in train, a class 2 such sublabels; "
        "not predicted: B/b1"
    )
    # The two train videos of a1 are of one source.
    joined = replace(features, groups=["one" if name == "a1" else name for name in features.sublabels])
    assert taxonomy_of(joined, ["A", "B"]) == {}
    flat = Hierarchy(classes=["A", "B"])
    assert taxonomy_line(joined, flat) == (
        "sublabels: none is predicted; a sublabel needs 2 sources in train, a class 2 such sublabels"
    )
    assert taxonomy_line(replace(features, sublabels=[None] * 16), flat) is None


def test_videos_carry_the_index_of_their_sublabel() -> None:
    features = videos(16)
    data = training_data(features, taxonomy=taxonomy_of(features))
    assert (data.taxonomy, data.train.sublabels) == ({"A": ["a1", "a2"]}, [0, -1, 1, -1] * 2)
    drawn = bootstrap_sample(data.train, torch.Generator().manual_seed(0))
    assert [sublabel == -1 for sublabel in drawn.sublabels] == [label == 1 for label in drawn.labels]
    without = training_data(features)
    assert (without.taxonomy, without.train.sublabels) == ({}, [])


def test_the_loss_is_that_of_the_true_sublabel_within_its_class() -> None:
    hierarchy = Hierarchy(classes=["A", "B", "C"], sublabels={"A": ["a1", "a2"], "C": ["c1", "c2", "c3"]})
    log = torch.log
    logits_BL = log(torch.tensor([[3.0, 1.0, 9.0, 9.0, 9.0], [5.0, 5.0, 1.0, 2.0, 5.0], [1.0] * 5, [1.0] * 5]))
    loss = sublabel_loss(logits_BL, torch.tensor([0, 3, -1, -1]), hierarchy)
    # P(a1 | A) = 3 / 4, P(c2 | C) = 2 / 8; of four videos, two have a known sublabel.
    assert loss.item() == pytest.approx(-(np.log(0.75) + np.log(0.25)) / 4, rel=1e-6)


def test_a_video_without_a_known_sublabel_has_no_gradient() -> None:
    hierarchy = Hierarchy(classes=["A"], sublabels={"A": ["a1", "a2"]})
    logits_BL = torch.zeros(2, 2, requires_grad=True)
    sublabel_loss(logits_BL, torch.tensor([1, -1]), hierarchy).backward()  # type: ignore[no-untyped-call]
    assert logits_BL.grad is not None
    assert logits_BL.grad.tolist() == [[0.25, -0.25], [0.0, 0.0]]


def test_a_member_learns_classes_and_sublabels() -> None:
    data = training_data(videos(), taxonomy=taxonomy_of(videos()))
    fitted = fit_member(data, CONFIG, 0, CPU)
    model = TemporalClassifier(4, 4, CONFIG)
    model.load_state_dict(fitted.state)
    outputs = predict(model, Batches(data.val, CPU), 8, CPU)
    probabilities_BC, conditional_BL = split_probabilities(outputs, data.hierarchy)
    assert conditional_BL is not None
    assert fitted.best.val_accuracy == 1.0
    assert probabilities_BC.argmax(axis=1).tolist() == data.val.labels
    known_B = np.array(data.val.sublabels) >= 0
    assert conditional_BL[known_B].argmax(axis=1).tolist() == [0, 1] * 6
    np.testing.assert_allclose(conditional_BL.sum(axis=1), 1, atol=1e-6)


def test_sublabels_decide_the_digest_of_a_member_and_their_absence_does_not() -> None:
    features = videos(16)
    config = TrainConfig(features=("f",), output="o", members=1)

    def recipe(features: FeatureSet, *, has_sublabels: bool) -> str:
        data = training_data(features, taxonomy=taxonomy_of(features) if has_sublabels else None)
        return plan_members(config, [features], [data], None)[0].recipe

    unnamed = replace(features, sublabels=[None] * 16)
    assert recipe(features, has_sublabels=False) == recipe(unnamed, has_sublabels=True)
    swapped = replace(features, sublabels=[*features.sublabels[2:], *features.sublabels[:2]])
    digests = {recipe(one, has_sublabels=True) for one in (features, unnamed, swapped)}
    assert len(digests) == 3


def test_the_reference_system_predicts_no_sublabels() -> None:
    assert TrainConfig(features=("f",), output="o").fits_sublabels
    assert not TrainConfig(features=("f",), output="o", sublabels="none").fits_sublabels
    assert not TrainConfig(features=("f",), output="o", recipe="reference").fits_sublabels
