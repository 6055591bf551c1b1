"""Calibration of segments (parts of a video) by their number of frames, on segments of the validation videos.

A segment has the label of its video. Temperatures are fitted at powers of two below the number of sampled frames;
`ensemble/segment_temperature.py` interpolates between them.

Shape suffixes: B videos, P segments of all videos, C classes, V views (here one), M members, S backbones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from vidclf.ensemble.segment_temperature import SegmentCalibration
from vidclf.features.computed_frames import lengths
from vidclf.training.calibration_fit import CalibrationFitter, VideoSequences, fit_calibration
from vidclf.training.linear_fit import WeighedVotes

SEGMENTS_PER_VIDEO = 3
"""Largest number of segments of one length that are taken from a validation video. They do not overlap.

With 73 frames all lengths together cost 2.6 times as much as a pass over all frames of the validation videos.
"""


@dataclass(frozen=True, kw_only=True)
class SegmentSample:
    """Segments (parts) of the validation videos, all with the same number of frames."""

    num_frames: int
    video_P: npt.NDArray[np.int64]
    """index of the validation video that each segment is a part of"""
    sequences_S: list[VideoSequences]
    """per backbone, the features [frames, features] of each segment"""


def samples(sequences_S: Sequence[VideoSequences]) -> list[SegmentSample]:
    """Segments of 1, 2, 4, … successive frames, from the validation videos with more frames than that.

    `sequences_S` holds, per backbone, the features of the validation videos.
    """
    lengths_B = lengths(sequences_S[0])
    found = []
    for num_frames in (2**power for power in range(max(lengths_B).bit_length())):
        parts = [
            (video, start)
            for video, length in enumerate(lengths_B)
            if length > num_frames
            for start in _starts(length, num_frames)
        ]
        if parts:
            found.append(
                SegmentSample(
                    num_frames=num_frames,
                    video_P=np.array([video for video, _ in parts]),
                    sequences_S=[
                        [sequences[video][start : start + num_frames] for video, start in parts]
                        for sequences in sequences_S
                    ],
                )
            )
    return found


def _starts(length: int, num_frames: int) -> list[int]:
    """First frames of at most `SEGMENTS_PER_VIDEO` segments that do not overlap, evenly spread over a video."""
    count = min(SEGMENTS_PER_VIDEO, length // num_frames)
    if count == 1:
        return [(length - num_frames) // 2]
    return [index * (length - num_frames) // (count - 1) for index in range(count)]


def fit_segments(
    fitter: CalibrationFitter,
    samples: Sequence[SegmentSample],
    votes: Sequence[WeighedVotes],
) -> list[SegmentCalibration]:
    """Temperature of each sample of segments. `votes` holds the members' votes for its segments, in one view.

    Cross-fitting is by source, like that of whole videos.
    """
    fitted = []
    for sample, sample_votes in zip(samples, votes, strict=True):
        calibration, _ = fit_calibration(
            sample_votes,
            np.ones(1, np.float32),
            fitter.videos.labels_B[sample.video_P],
            fitter.videos.folds_B[sample.video_P],
            fitter.prior_temperature,
        )
        fitted.append(
            SegmentCalibration(num_frames=sample.num_frames, num_segments=len(sample.video_P), **asdict(calibration))
        )
    return fitted
