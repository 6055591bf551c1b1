"""Frame agreement and its discriminant, with literal answers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from vidclf.uncertainty.frame_agreement import SHRINKAGE, FrameDiscriminant, frame_agreement


def test_agreement_is_the_share_of_frames_nearest_to_the_top_class() -> None:
    # Class means (1, 0) and (0, 1), inverse variances 1 and 1/4.
    discriminant = FrameDiscriminant(
        towards_DC=np.diag([1.0, 0.25]).astype(np.float32), offset_C=np.array([0.5, 0.125], np.float32)
    )
    sequence = np.array([[1.0, 0.0], [5.0, 1.0], [0.0, 2.0], [3.0, 0.0]])
    assert discriminant.agreement([sequence, sequence[:3]], [0, 1]).tolist() == pytest.approx([0.75, 1 / 3])
    other = FrameDiscriminant(towards_DC=np.zeros((2, 2), np.float32), offset_C=np.array([1.0, 0.0], np.float32))
    both = frame_agreement([discriminant, other], [[sequence], [sequence]], [1])
    assert both.tolist() == pytest.approx([(0.25 + 1) / 2])


def test_a_discriminant_is_fitted_around_the_class_means() -> None:
    labels = [0, 1] * 50
    # Unit vectors at ± 0.1 rad around each axis: the spread across the axis is sin² 0.1.
    angles = [label * np.pi / 2 + (0.1 if index % 4 < 2 else -0.1) for index, label in enumerate(labels)]
    vectors = [np.array([np.cos(angle), np.sin(angle)]) for angle in angles]
    fitted = FrameDiscriminant.fit([(5 * np.sign(row) * row**2)[None] for row in vectors], labels)
    # Half of the videos vary along each dimension, so the diagonal of the shrunk covariance is half of that spread.
    precision = 2 / np.sin(0.1) ** 2
    np.testing.assert_allclose(fitted.towards_DC, precision * np.cos(0.1) * np.eye(2), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(fitted.offset_C, 0.5 * precision * np.cos(0.1) ** 2 * np.ones(2), rtol=1e-4)


def test_a_covariance_is_shrunk_to_the_mean_in_every_direction() -> None:
    # The square roots are (0.8, ±0.6). Their variance is 0.36, all along the second of two dimensions. A twentieth of
    # it stays there. The rest is split evenly over both.
    rows = [np.array([[0.64, 0.36]]), np.array([[0.64, -0.36]])]
    fitted = FrameDiscriminant.fit(rows, [0, 0])
    assert fitted.towards_DC[:, 0].tolist() == pytest.approx([0.8 / (0.95 * 0.18), 0.0], rel=1e-5)
    across = FrameDiscriminant.fit([*rows, *rows[:1]], [0, 0, 0])
    # Mean (0.8, 0.2), variance 0.32.
    assert across.towards_DC[:, 0].tolist() == pytest.approx(
        [0.8 / (0.95 * 0.16), 0.2 / (0.05 * 0.32 + 0.95 * 0.16)], rel=1e-5
    )


@pytest.mark.parametrize("num_videos", [12, 60])
def test_a_discriminant_is_scikit_learns(num_videos: int) -> None:
    generator = np.random.default_rng(0)
    labels = [0, 0, 1, 2] * (num_videos // 4)
    rows_BD = generator.normal(size=(num_videos, 20)) + 2 * np.eye(20)[labels]
    # Squares, whose signed square roots are the rows.
    fitted = FrameDiscriminant.fit([(np.sign(row) * row**2)[None] for row in rows_BD], labels)
    unit_BD = rows_BD / np.linalg.norm(rows_BD, axis=1, keepdims=True)
    expected = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE).fit(unit_BD, labels)
    np.testing.assert_allclose(fitted.towards_DC, expected.coef_.T, rtol=1e-4, atol=1e-5)
    offset_C = np.log(expected.priors_) - expected.intercept_
    np.testing.assert_allclose(fitted.offset_C, offset_C, rtol=1e-4)
