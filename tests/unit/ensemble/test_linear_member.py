"""The linear member: its descriptors, its votes and its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from vidclf.ensemble.linear_member import (
    LINEAR_FILE,
    LinearMember,
    descriptors,
    member_weights,
    read_linear,
    write_linear,
)
from vidclf.ensemble.segment_temperature import SegmentCalibration, segment_linear_weights
from vidclf.errors import ConfigError

MEMBER = LinearMember(
    weights_KC=np.array([[0, 0], [0, 0], [0, np.log(3)], [0, 0]], np.float32), offset_C=np.array([0, 0], np.float32)
)
"""Two features, two classes. The second class is three times as likely for each unit of spread of the first feature."""


def test_descriptors_are_mean_and_spread_of_each_feature_by_backbone() -> None:
    one, two = np.array([[1, 0], [3, 0]], np.float16), np.array([[5, 7]], np.float16)
    root = np.sqrt(np.float32(2))
    np.testing.assert_array_equal(descriptors([[one, two]]), np.array([[2, 0, root, 0], [5, 7, 0, 0]], np.float32))
    np.testing.assert_array_equal(descriptors([[two], [two + 1]]), [[5, 7, 0, 0, 6, 8, 0, 0]])


def test_probabilities_follow_the_weights_in_each_view() -> None:
    moving, still = np.array([[0, 0], [np.sqrt(2), 0]], np.float16), np.array([[4, 1], [4, 1]], np.float16)
    np.testing.assert_allclose(MEMBER([[moving, still]]), [[0.25, 0.75], [0.5, 0.5]], atol=1e-3)
    # The view `faster` has only the first frame, whose spread is 0.
    votes_V1BC = MEMBER.in_views([[moving]], ["original", "reverse", "faster"])
    np.testing.assert_allclose(votes_V1BC[:, 0, 0], [[0.25, 0.75], [0.25, 0.75], [0.5, 0.5]], atol=1e-3)
    np.testing.assert_allclose(MEMBER.scaled(2)([[moving]]), [[0.1, 0.9]], atol=1e-3)


def test_the_temporal_members_share_what_the_linear_member_leaves() -> None:
    assert member_weights(4, None).tolist() == [0.25] * 4
    assert member_weights(2, 0.5).tolist() == [0.25, 0.25, 0.5]
    assert member_weights(2, 0.0).tolist() == [0.5, 0.5, 0.0]


def test_the_weight_of_segments_is_interpolated_over_the_logarithm_of_their_frames() -> None:
    fitted = [
        SegmentCalibration(num_frames=number, num_segments=9, temperature=1.0, ece_before=0.0, ece_after=0.0)
        for number in (1, 4)
    ]
    assert segment_linear_weights(fitted, [0.0, 0.4], 16, 0.8, [1, 2, 4, 8, 16, 99]).tolist() == pytest.approx(
        [0.0, 0.2, 0.4, 0.6, 0.8, 0.8]
    )


def test_the_file_is_read_back_and_refused_if_it_is_another(tmp_path: Path) -> None:
    directory = str(tmp_path)
    digest = write_linear(directory, MEMBER)
    np.testing.assert_array_equal(read_linear(directory, digest, 2, 2).weights_KC, MEMBER.weights_KC)
    with pytest.raises(ConfigError, match=r"is not the file that ensemble\.json lists \(digest differs\)"):
        read_linear(directory, "0" * 64, 2, 2)
    with pytest.raises(ConfigError, match=r"F32 arrays weights_KC \[6, 2\], offset_C \[2\].* has .*\[4, 2\]"):
        read_linear(directory, digest, 3, 2)
    broken = write_linear(
        directory, LinearMember(weights_KC=MEMBER.weights_KC, offset_C=np.array([0, np.nan], np.float32))
    )
    with pytest.raises(ConfigError, match="weights must be finite, offset_C holds NaN or infinity"):
        read_linear(directory, broken, 2, 2)
    content = safetensors.numpy.save({"weights_KC": MEMBER.weights_KC, "offset_C": np.zeros(2)})
    (tmp_path / LINEAR_FILE).write_bytes(content)
    with pytest.raises(ConfigError, match="offset_C F64"):
        read_linear(directory, digest, 2, 2)
