"""Feature spaces and the OOD score, with literal answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vidclf.uncertainty import geometry, ood
from vidclf.uncertainty.ood import FeatureSpace, OodLine, conformal_quantile, fit_line, fit_space

A_AXIS, B_AXIS = np.array([1.0, 0.0]), np.array([0.0, 1.0])
NO_MOTION = np.zeros((1, 2))


def test_appearance_is_the_mean_frame_to_the_power_at_unit_length() -> None:
    sequences = [np.array([[2.0, 0.0], [0.0, 8.0]]), np.array([[1.0, -4.0]], np.float16), np.zeros((2, 2))]
    expected = np.array([[1, 8], [1, -8], [0, 0]]) / np.sqrt(65)
    np.testing.assert_allclose(ood.appearance(sequences), expected, rtol=1e-6)


def test_motion_tells_a_still_from_a_cut_and_from_flicker() -> None:
    still, cut = np.array([A_AXIS] * 4), np.array([A_AXIS, A_AXIS, B_AXIS, B_AXIS])
    flicker = np.array([A_AXIS, B_AXIS, A_AXIS, B_AXIS])
    # Cut and flicker have the same spread: half of their frames are a unit vector along each axis. The cut has one step
    # in three, the flicker three.
    spread = 0.01 + np.sqrt(0.5)
    expected = [
        [np.log(0.01), np.log(0.01)],
        [np.log(0.01 + np.sqrt(2) / 3 / spread), np.log(spread)],
        [np.log(0.01 + np.sqrt(2) / spread), np.log(spread)],
        [np.log(0.01), np.log(0.01)],
    ]
    # The length of the vectors does not matter, and a single frame counts as still.
    np.testing.assert_allclose(ood.motion([still, 9 * cut, flicker, still[:1]]), expected, rtol=1e-6)


def test_the_distance_is_to_the_class_that_is_near_in_both() -> None:
    space = FeatureSpace(
        centres_CD=np.eye(2, dtype=np.float32),
        directions_CRD=np.zeros((2, 0, 2), np.float32),
        inverse_variance_C=np.array([1.0, 4.0]),
        # The first class flickers, the second stands still.
        motion_means_CK=ood.motion([np.array([A_AXIS, B_AXIS]), np.array([A_AXIS])]),
        motion_precision_CKK=np.stack([np.eye(2)] * 2),
        motion_weight=np.array(0.5),
    )
    still = np.array([A_AXIS, A_AXIS])
    apart = float(((space.motion_means_CK[0] - space.motion_means_CK[1]) ** 2).sum())
    # It looks like the first class and moves like the second, which is √2 away with a standard deviation of 1/2.
    by_appearance, by_motion = space.squared_parts(ood.appearance([still]), ood.motion([still]))
    np.testing.assert_allclose(by_appearance, [[0.0, 8.0]], atol=1e-6)
    np.testing.assert_allclose(by_motion, [[apart, 0.0]], atol=1e-6)
    assert apart / 2 > 8
    assert space.distances([still]).tolist() == pytest.approx([np.sqrt(8)])
    assert replace(space, motion_weight=np.array(0.1)).distances([still]).tolist() == pytest.approx(
        [np.sqrt(apart / 10)]
    )


def test_each_class_has_its_own_spread() -> None:
    # The 30 videos of one class deviate by 0.2 along the first of four dimensions. The other class has one video.
    deviations = np.array([0.2, -0.2] * 15)[:, None] * np.eye(4)[0]
    rows_BD = np.concatenate([np.eye(4)[2] + deviations, np.eye(4)[3:]])
    space = FeatureSpace.fit(rows_BD, np.zeros((31, 2)), np.array([0] * 30 + [1]), np.ones(2))
    unseen_BD = rows_BD[[0, 30]] + 0.1 * np.eye(4)[1]
    squared_BC, _ = space.squared_parts(unseen_BD, np.zeros((2, 2)))
    # The variance over all videos is 0.04 · 30 / 31. It has the weight of 15 videos in the variance of each class:
    mean = 0.04 * 30 / 31
    first, second = (30 * 0.04 + 15 * mean) / 45, 15 * mean / 16
    # 0.3 of it is spread over the four dimensions, and 0.7 of 0.04 is along the one in which the first class varies.
    even = 0.3 * first / 4
    assert squared_BC[0, 0] == pytest.approx(0.04 / (0.7 * 0.04 + even) + 0.01 / even, rel=1e-5)
    assert squared_BC[1, 1] == pytest.approx(0.01 / (0.3 * second / 4), rel=1e-5)


def test_more_videos_than_dimensions_or_fewer_make_the_same_space() -> None:
    generator = np.random.default_rng(0)
    rows_ND = generator.normal(size=(3, 4))
    few, many = geometry.principal(rows_ND), geometry.principal(np.concatenate([rows_ND, rows_ND]))
    np.testing.assert_allclose(many[0][:3], few[0], rtol=1e-9)
    assert many[0][3] == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(np.abs((many[1][:3] * few[1]).sum(axis=1)), np.ones(3), rtol=1e-9)


def test_motion_weighs_an_eighth_of_appearance_by_their_range_over_unseen_videos() -> None:
    generator = np.random.default_rng(0)
    features = [generator.uniform(0, 1, size=(generator.integers(2, 9), 6)) for _ in range(40)]
    labels, in_train, in_val = [0, 1] * 15, np.arange(30), np.arange(30, 40)
    folds_B = np.arange(30) // 2 % 5
    space, distances_B = fit_space(features, labels, folds_B, in_train, in_val)
    # The validation videos come first, then the training videos fold by fold.
    np.testing.assert_allclose(distances_B[:10], space.distances(features[30:]), rtol=1e-6)
    assert len(distances_B) == 40
    inside, outside = np.flatnonzero(folds_B != 0), np.flatnonzero(folds_B == 0)
    rows_BD, motion_BK = ood.appearance(features), ood.motion(features)
    part = FeatureSpace.fit(rows_BD[inside], motion_BK[inside], np.array(labels)[inside], np.ones(2))
    same = replace(part, motion_weight=space.motion_weight).distances([features[index] for index in outside])
    np.testing.assert_allclose(distances_B[10:16], same, rtol=1e-6)
    parts = [space.squared_parts(rows_BD[in_val], motion_BK[in_val])]
    for fold in range(5):
        inside, outside = np.flatnonzero(folds_B != fold), np.flatnonzero(folds_B == fold)
        part = FeatureSpace.fit(rows_BD[inside], motion_BK[inside], np.array(labels)[inside], np.ones(2))
        parts.append(part.squared_parts(rows_BD[outside], motion_BK[outside]))
    ranges = [
        np.subtract(*np.percentile(np.concatenate(squared).min(axis=1), [75, 25]))
        for squared in zip(*parts, strict=True)
    ]
    assert float(space.motion_weight) == pytest.approx(ranges[0] / ranges[1] / 8)


def test_where_nothing_moves_motion_weighs_nothing() -> None:
    generator = np.random.default_rng(0)
    features = [generator.uniform(0, 1, size=(1, 6)) for _ in range(80)]
    space, _ = fit_space(features, [0, 1] * 30, np.arange(60) // 2 % 5, np.arange(60), np.arange(60, 80))
    assert float(space.motion_weight) == 0
    # Twice the same frame is as far away as the frame once.
    twice = [np.repeat(features[60], 2, axis=0)]
    np.testing.assert_allclose(space.distances(twice), space.distances(features[60:61]), rtol=1e-6)


def test_a_small_class_is_as_far_as_larger_ones_would_be_with_so_few_videos() -> None:
    generator = np.random.default_rng(0)
    counts = [160, 160, 160, 20]
    rows_BD = np.concatenate(
        [np.eye(64)[index] + generator.normal(size=(n, 64)) * 0.02 for index, n in enumerate(counts)]
    )
    labels_B, folds_B = np.repeat(np.arange(4), counts), np.concatenate([np.arange(n) % 5 for n in counts])
    excess_C = ood.small_class_excess(rows_BD, labels_B, folds_B)
    assert excess_C[:3].tolist() == [1, 1, 1]
    # 128 videos determine all 64 directions, with the whole variance along each. 20 videos determine 20 of the 64.
    unseen_BD = np.eye(64)[np.repeat([3, 0], 200)] + generator.normal(size=(400, 64)) * 0.02
    means = {}
    for name, excess in (("as is", np.ones(4)), ("made up", excess_C)):
        space = FeatureSpace.fit(rows_BD, np.zeros((500, 2)), labels_B, excess)
        own_BC, _ = space.squared_parts(unseen_BD, np.zeros((400, 2)))
        means[name] = own_BC[:200, 3].mean() / own_BC[200:, 0].mean()
    assert means["as is"] > 1.8
    assert means["made up"] == pytest.approx(1, abs=0.25)


def test_a_class_of_a_single_source_is_not_cross_fitted_away() -> None:
    features = [np.array([[float(index), 1.0]]) for index in range(6)]
    # The only video of the second class is alone in fold 0.
    space, distances_B = fit_space(features, [0, 0, 0, 1], np.array([1, 2, 1, 0]), np.arange(4), np.arange(4, 6))
    assert len(distances_B) == 2 + 3
    assert space.centres_CD.shape == (2, 2)


def test_the_line_of_several_backbones_is_that_of_their_mean() -> None:
    # 199 videos: the line of each lies at its 190th of 199 distances, and so does that of the mean.
    one_B, two_B = np.arange(1.0, 200.0), 10 * np.arange(199.0, 0.0, -1.0)
    alone, alone_B = fit_line([one_B])
    assert alone == OodLine(distances=[190.0], line=1.0, level=0.95, num_videos=199)
    assert alone_B.tolist() == (one_B / 190.0).tolist()
    both, both_B = fit_line([one_B, two_B])
    assert both.distances == [190.0, 1900.0]
    # Far in one space is near in the other here: every video is 200 / 190 / 2 of a line away.
    assert both.line == pytest.approx(100 / 190)
    assert both_B.tolist() == pytest.approx([1.0] * 199)


def test_where_all_unseen_videos_equal_training_videos_another_one_is_far_out() -> None:
    line, score_B = fit_line([np.zeros(20), np.zeros(20)])
    assert score_B.tolist() == [0.0] * 20
    # The mean over both backbones of 0.5 / 1e-12 and 0.
    assert line.score([np.array([0.0, 0.5]), np.array([0.0, 0.0])]).tolist() == [0.0, 2.5e11]


@pytest.mark.parametrize(
    ("num", "quantile", "level"),
    [(9, 9.0, 0.9), (99, 99.0, 0.99), (100, 100.0, 0.99), (199, 198.0, 0.99)],
)
def test_the_conformal_quantile(num: int, quantile: float, level: float) -> None:
    assert conformal_quantile(np.arange(1.0, num + 1), 0.99) == (quantile, level)


def test_thinning_compares_unseen_videos_at_each_size_of_a_smaller_class() -> None:
    generator = np.random.default_rng(0)
    counts = [200, 120, 10]
    rows_BD = np.concatenate(
        [np.eye(64)[index] + generator.normal(size=(n, 64)) * 0.02 for index, n in enumerate(counts)]
    )
    labels_B, folds_B = np.repeat(np.arange(3), counts), np.concatenate([np.arange(n) % 5 for n in counts])
    pairs = list(ood._thinned_pairs(rows_BD, labels_B, folds_B, [10, 120]))
    # Five folds of each of the two classes that are at least twice as large as 10; no class is twice as large as 120.
    assert [size for size, _, _ in pairs] == [10] * 10
    thinned, whole = (sum(pair[place] for pair in pairs) for place in (1, 2))
    assert ood.small_class_excess(rows_BD, labels_B, folds_B).tolist() == pytest.approx([1, 1, thinned / whole])
    assert thinned > whole
