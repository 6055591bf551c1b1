"""The choice of videos to label: by doubt, then by difference, with literal answers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from vidclf.uncertainty.informative import _inputs, class_residuals, most_informative

SURE, UNSURE = [0.98, 0.01, 0.01], [0.5, 0.4, 0.1]


def choice(
    probabilities: list[list[float]],
    number: int,
    *,
    trust: list[float] | None = None,
    features: list[list[float]] | None = None,
    sources: list[str] | None = None,
) -> list[int]:
    """The choice among videos whose trust is their confidence, and each its own source, unless it is given."""
    probabilities_BC = np.array(probabilities, np.float32)
    trust_B = probabilities_BC.max(axis=1) if trust is None else np.array(trust, np.float32)
    features_BD = None if features is None else np.array(features, np.float32)
    names = sources if sources is not None else [str(index) for index in range(len(probabilities))]
    return most_informative(probabilities_BC, trust_B, features_BD, np.array(names), number)


def test_the_residual_is_probability_minus_label() -> None:
    probabilities_BC = np.array([[0.5, 0.3, 0.2]], np.float32)
    assert class_residuals(probabilities_BC, np.array([0.5], np.float32))[0] == pytest.approx([-0.5, 0.3, 0.2])
    # With less trust than confidence the others share the rest as before, 3 to 2.
    assert class_residuals(probabilities_BC, np.array([0.25], np.float32))[0] == pytest.approx([-0.75, 0.45, 0.3])


def test_the_least_trusted_comes_first_and_a_certain_one_last() -> None:
    assert choice([SURE, [0.7, 0.2, 0.1], UNSURE], 3)[0] == 2
    assert choice([SURE, [1.0, 0.0, 0.0], UNSURE], 3)[-1] == 1


def test_the_second_is_torn_between_other_classes() -> None:
    # Videos 0 to 2 are torn between A and B. Video 3 is trusted a little more, but torn between C and B.
    videos = [UNSURE, [0.51, 0.39, 0.1], [0.52, 0.38, 0.1], [0.1, 0.35, 0.55]]
    assert choice(videos, 2) == [0, 3]


def test_the_second_looks_different() -> None:
    features = [[0.0, 0.0], [0.1, 0.0], [0.0, 0.1], [5.0, 5.0], [0.1, 0.1]]
    assert 3 in choice([UNSURE] * 5, 2, features=features)


def test_trust_counts_and_not_confidence() -> None:
    # Video 1 is unlike the training videos: it is confident, but not trusted.
    assert choice([UNSURE, SURE], 1, trust=[0.5, 0.1]) == [1]


def test_each_source_has_one_before_any_has_two() -> None:
    videos: list[list[float]] = [UNSURE, [0.4, 0.5, 0.1], [0.1, 0.4, 0.5], [0.8, 0.1, 0.1]]
    chosen = choice(videos, 4, sources=["a", "a", "a", "b"])
    assert chosen[1] == 3
    assert sorted(chosen) == [0, 1, 2, 3]


def test_never_more_than_there_are_and_each_once() -> None:
    assert sorted(choice([UNSURE] * 3, 10)) == [0, 1, 2]


def test_many_features_are_projected_and_the_choice_stays() -> None:
    # Ten groups of equal videos, far apart in 1,280 features: the first ten are one of each, as without a projection.
    generator = np.random.default_rng(0)
    centres_GD = generator.normal(size=(10, 1280)).astype(np.float32)
    features_BD = np.repeat(centres_GD, 20, axis=0) + generator.normal(0, 0.01, (200, 1280)).astype(np.float32)
    probabilities_BC = np.tile(np.array([UNSURE], np.float32), (200, 1))
    assert _inputs(features_BD, 200).shape == (200, 129)
    chosen = most_informative(
        probabilities_BC, np.full(200, 0.5, np.float32), features_BD, np.arange(200).astype(str), 10
    )
    assert sorted(index // 20 for index in chosen) == list(range(10))


def gradients(probabilities_BC: npt.NDArray[np.float32], inputs_BK: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The gradients written out, [B, C × K]."""
    residuals_BC = class_residuals(probabilities_BC, probabilities_BC.max(axis=1))
    return (residuals_BC[:, :, None] * inputs_BK[:, None, :]).reshape(len(inputs_BK), -1)


def test_the_choice_is_that_of_the_gradients_written_out() -> None:
    generator = np.random.default_rng(0)
    probabilities_BC = generator.dirichlet([0.5] * 4, 60).astype(np.float32)
    features_BD = generator.normal(size=(60, 5)).astype(np.float32)
    centred_BD = features_BD - features_BD.mean(axis=0, dtype=np.float64)
    centred_BD /= np.sqrt((centred_BD**2).sum(axis=1).mean())
    gradients_BG = gradients(probabilities_BC, np.concatenate([np.ones((60, 1)), centred_BD], axis=1))
    expected = [int((gradients_BG**2).sum(axis=1).argmax())]
    while len(expected) < 12:
        apart_BN = np.linalg.norm(gradients_BG[:, None] - gradients_BG[expected], axis=2)
        length_B = np.linalg.norm(gradients_BG, axis=1)
        expected.append(int(np.minimum(apart_BN.min(axis=1), length_B).argmax()))
    sources_B = np.arange(60).astype(str)
    assert most_informative(probabilities_BC, probabilities_BC.max(axis=1), features_BD, sources_B, 12) == expected
