"""Calibration temperatures of segments (parts of a video) and weights of the linear member, by numbers of frames.

Members are trained on whole videos. From a few frames they are right less often, and less sure or not, depending on the
archive. So the temperature of whole videos does not fit segments; segments have temperatures of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class SegmentCalibration:
    """Temperature of segments (parts of a video) with a certain number of frames, and the calibration error before and
    after."""

    num_frames: int
    """successive sampled frames in a segment"""
    num_segments: int
    """segments of validation videos on which the temperature was fitted; each has the label of its video"""
    temperature: float
    """probabilities are raised to the power 1 / temperature and normalised"""
    ece_before: float
    """expected calibration error of the segments at temperature 1"""
    ece_after: float
    """expected calibration error of the segments, where the temperature for each was fitted on other sources"""


def segment_temperatures(
    fitted: Sequence[SegmentCalibration], num_frames: int, temperature: float, lengths_B: Sequence[int]
) -> npt.NDArray[np.float64]:
    """Temperature of each segment (part of a video), for its number of frames in `lengths_B`.

    `fitted` holds the fitted temperatures. A whole video has `num_frames` frames and `temperature`; a segment of at
    least that many frames gets the same temperature. Between fitted numbers of frames, the logarithm of the temperature
    is interpolated over the logarithm of the number.
    """
    known = [(one.num_frames, one.temperature) for one in fitted if one.num_frames < num_frames]
    frames, temperatures = np.log([*known, (num_frames, temperature)]).T
    temperature_B: npt.NDArray[np.float64] = np.exp(np.interp(np.log(lengths_B), frames, temperatures))
    return temperature_B


def segment_linear_weights(
    fitted: Sequence[SegmentCalibration],
    weights: Sequence[float],
    num_frames: int,
    weight: float,
    lengths_B: Sequence[int],
) -> npt.NDArray[np.float64]:
    """Weight of the linear member for each segment (part of a video), for its number of frames in `lengths_B`.

    `weights` holds the fitted weight for each entry of `fitted`. A whole video has `num_frames` frames and `weight`; a
    segment of at least that many frames gets the same weight. Between fitted numbers of frames, the weight is
    interpolated over the logarithm of the number.
    """
    known = [(one.num_frames, w) for one, w in zip(fitted, weights, strict=True) if one.num_frames < num_frames]
    frames, known_weights = np.array([*known, (num_frames, weight)], np.float64).T
    weight_B: npt.NDArray[np.float64] = np.interp(np.log(lengths_B), np.log(frames), known_weights)
    return weight_B
