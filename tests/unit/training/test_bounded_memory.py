"""Memory of the stages of a training that look at all videos: a few numbers per video and feature, not its frames.

Peaks are those of numpy's and Python's allocations, divided by the number of videos and of features. The frames exist
before the measurement, as if they were mapped from a file; they take 2 bytes per frame.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from vidclf.config import ModelConfig
from vidclf.ensemble import inference, linear_member
from vidclf.ensemble.linear_member import LinearMember
from vidclf.ensemble.temporal_model import TemporalClassifier
from vidclf.ensemble.views import VIEWS
from vidclf.features import near_duplicates
from vidclf.features.video_frames import VideoFrames
from vidclf.training import leakage, linear_fit
from vidclf.training.host_memory import CALIBRATION_BYTES_PER_FEATURE
from vidclf.uncertainty.frame_agreement import FrameDiscriminant
from vidclf.uncertainty.ood import fit_space

NUM_VIDEOS, NUM_FRAMES, DIM, NUM_CLASSES = 3000, 6, 64, 6


@pytest.fixture(scope="module")
def videos() -> VideoFrames:
    """Videos of six classes, each with its own mean."""
    generator = np.random.default_rng(0)
    noise_ND = generator.standard_normal((NUM_VIDEOS * NUM_FRAMES, DIM), np.float32)
    means_CD = generator.standard_normal((NUM_CLASSES, DIM), np.float32)
    noise_ND += means_CD[np.arange(len(noise_ND)) // NUM_FRAMES % NUM_CLASSES]
    lengths_B = np.full(NUM_VIDEOS, NUM_FRAMES)
    return VideoFrames(noise_ND.astype(np.float16), lengths_B.cumsum() - lengths_B, lengths_B)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of fewer rows and columns, so that they are small beside the few videos here."""
    monkeypatch.setattr(near_duplicates, "TILE", 128)
    monkeypatch.setattr(linear_member, "VIDEOS_AT_A_TIME", 32)
    monkeypatch.setattr(linear_fit, "COLUMNS_AT_A_TIME", 2)


LABELS_B = np.arange(NUM_VIDEOS) % NUM_CLASSES
FOLDS_B = np.arange(NUM_VIDEOS) // NUM_CLASSES % 5


def peak(compute: Callable[[], Any], num_videos: int = NUM_VIDEOS) -> float:
    """Peak of the memory while `compute` runs, in bytes per video and feature."""
    tracemalloc.start()
    try:
        compute()
        return tracemalloc.get_traced_memory()[1] / (num_videos * DIM)
    finally:
        tracemalloc.stop()


def test_means_and_near_duplicates(videos: VideoFrames) -> None:
    assert peak(lambda: near_duplicates.video_means(videos)) == pytest.approx(4, abs=0.2)
    # The means, and the same centred and scaled to length 1.
    assert peak(lambda: leakage.unit_means(videos)) < 8.5


def test_the_fit_of_the_ood_score(videos: VideoFrames) -> None:
    in_train, in_val = np.arange(NUM_VIDEOS), np.arange(0)

    def fit() -> None:
        fit_space(videos, LABELS_B.tolist(), FOLDS_B, in_train, in_val)

    # One row per video in float64, and those of a class or of a fold.
    assert peak(fit) < 18


def test_the_fit_of_the_classifier_of_frames(videos: VideoFrames) -> None:
    # One row per video in float64.
    assert peak(lambda: FrameDiscriminant.fit(videos, LABELS_B.tolist())) < 13


def test_the_fit_of_the_linear_member(videos: VideoFrames) -> None:
    # Two descriptors per feature in float32, and the same standardised.
    def fit() -> None:
        linear_fit.fit_linear([videos], LABELS_B.tolist(), FOLDS_B, NUM_CLASSES)

    assert peak(fit) < CALIBRATION_BYTES_PER_FEATURE + 4


def test_votes_of_the_linear_member_in_all_views(videos: VideoFrames) -> None:
    weights_KC = np.zeros((2 * DIM, NUM_CLASSES), np.float32)
    member = LinearMember(weights_KC=weights_KC, offset_C=np.zeros(NUM_CLASSES, np.float32))
    # All views of all videos would take 54.
    assert peak(lambda: member.in_views([videos.select(range(400))], list(VIEWS)), 400) < 10


def test_votes_of_a_temporal_member_in_all_views(videos: VideoFrames) -> None:
    sizes = ModelConfig(hidden_dim=4, num_lstm_layers=1, num_attention_heads=2, classifier_dims=(4,))
    member = TemporalClassifier(DIM, NUM_CLASSES, sizes).eval()

    def votes() -> None:
        inference.run_members([member], [0], [videos.select(range(1000))], list(VIEWS), torch.device("cpu"))

    # Mostly lists of the videos of each length, and their attention; all views of all videos would take 54.
    assert peak(votes, 1000) < 24
