"""Shares of classes from probabilities: literal cases, and simulations with known shares."""

from __future__ import annotations

import numpy as np
import pytest

from vidclf.uncertainty.label_shift import class_shares, shares_with_intervals


def test_certain_probabilities_are_counted() -> None:
    rows_BC = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert class_shares(rows_BC, np.array([0.5, 0.5])) == pytest.approx([0.75, 0.25], abs=1e-4)
    weights_B = np.array([1.0, 0.0, 0.0, 1.0])
    assert class_shares(rows_BC, np.array([0.5, 0.5]), weights_B) == pytest.approx([0.5, 0.5], abs=1e-4)


def test_probabilities_equal_to_the_prior_leave_it_as_it_is() -> None:
    rows_BC = np.tile([0.7, 0.3], (5, 1))
    assert class_shares(rows_BC, np.array([0.7, 0.3])) == pytest.approx([0.7, 0.3])


def test_two_videos_by_hand() -> None:
    # Likelihood ratios 3 and 1/3 with an even prior: the maximum of (1 + 2q)(3 - 2q) is at q = 0.5.
    rows_BC = np.array([[0.75, 0.25], [0.25, 0.75]])
    assert class_shares(rows_BC, np.array([0.5, 0.5])) == pytest.approx([0.5, 0.5], abs=1e-4)
    # Ratios 3, 3 and 1/3: the maximum of (1 + 2q)² (3 - 2q) is at q = 5/6.
    rows_BC = np.array([[0.75, 0.25], [0.75, 0.25], [0.25, 0.75]])
    assert class_shares(rows_BC, np.array([0.5, 0.5])) == pytest.approx([5 / 6, 1 / 6], abs=1e-3)


def gaussian_probabilities(labels_B: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Exact class probabilities, for an even prior, of numbers drawn around the mean 1.5 × label with variance 1."""
    means_C = np.array([0.0, 1.5, 3.0])
    values_B = means_C[labels_B] + generator.normal(size=len(labels_B))
    density_BC = np.exp(-((values_B[:, None] - means_C) ** 2) / 2)
    return np.asarray(density_BC / density_BC.sum(axis=1, keepdims=True))


def test_shares_of_a_shifted_archive_are_recovered() -> None:
    generator = np.random.default_rng(0)
    labels_B = generator.choice(3, 4000, p=[0.7, 0.1, 0.2])
    rows_BC = gaussian_probabilities(labels_B, generator)
    prior_C = np.full(3, 1 / 3)
    assert rows_BC.mean(axis=0)[0] < 0.62  # the mean of the probabilities is drawn to the prior
    assert class_shares(rows_BC, prior_C) == pytest.approx([0.7, 0.1, 0.2], abs=0.03)


def test_intervals_contain_the_truth_and_count_sources() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(20):
        labels_B = generator.choice(3, 200, p=[0.6, 0.2, 0.2])
        found = shares_with_intervals(
            gaussian_probabilities(labels_B, generator), np.full(3, 1 / 3), [str(index) for index in range(200)]
        )
        covered += bool(found.low_C[0] <= 0.6 <= found.high_C[0])
    assert covered >= 16  # of 20; at 0.95, fewer than 16 have a probability of 0.003
    rows_BC = gaussian_probabilities(np.repeat([0, 1, 2, 0], 50), generator)
    alone, by_source = (
        shares_with_intervals(rows_BC, np.full(3, 1 / 3), groups)
        for groups in ([str(index) for index in range(200)], [str(index // 50) for index in range(200)])
    )
    assert by_source.high_C[0] - by_source.low_C[0] > 2 * (alone.high_C[0] - alone.low_C[0])
