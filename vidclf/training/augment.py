"""Augmentation in time of training videos: more or fewer frames, dropped frames and shifted frames.

A frame plan lists the frames to read as fractional positions in a video, from 0 to T - 1. A video can therefore be
sampled more densely than it has feature vectors; `Batches.at` interpolates between the two nearest ones.

Shape suffixes: B videos, T frames of a video, L frames drawn for a training step.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vidclf.config import FitConfig


class FramePlan(NamedTuple):
    """The frames that a training step reads from each video of a batch, as positions in the video."""

    positions_BL: Tensor
    """position of each frame, float32, may lie between two frames; entries beyond a video's length are padding, but
    still positions inside the video"""
    lengths_B: Tensor
    """number of frames to read from each video, int64, at least 1"""


def every_frame(lengths_B: Tensor) -> FramePlan:
    """The plan (positions of the frames to read) that reads each frame of each video once, from first to last."""
    positions_BL = torch.arange(int(lengths_B.max()), dtype=torch.float32).repeat(len(lengths_B), 1)
    return FramePlan(torch.minimum(positions_BL, lengths_B[:, None] - 1), lengths_B)


def resampled(lengths_B: Tensor, scale: float) -> FramePlan:
    """The plan (positions of the frames to read) with `scale` times as many frames, spread evenly over the whole video.

    The features of a video belong to the midpoints of T equal spans of time, so the new frames are put at the midpoints
    of `scale` × T equal spans. A position before the first or after the last frame becomes the position of that frame.
    """
    scaled_B = (lengths_B * scale).round().long().clamp(min=1)
    steps_BL = torch.arange(int(scaled_B.max()), dtype=torch.float32)[None, :]
    positions_BL = (steps_BL + 0.5) * (lengths_B / scaled_B)[:, None] - 0.5
    return FramePlan(_within(positions_BL, lengths_B), scaled_B)


def shifted(plan: FramePlan, shifts_B: Tensor, lengths_B: Tensor) -> FramePlan:
    """The plan with each video's frame positions moved by its number of frames in `shifts_B`. A position outside the
    video becomes the position of its first or last frame."""
    return plan._replace(positions_BL=_within(plan.positions_BL + shifts_B[:, None], lengths_B))


def thinned(plan: FramePlan, keep: float, generator: torch.Generator) -> FramePlan:
    """The plan with a random selection of each video's frames: the share `keep` of them, at least one, still in
    temporal order."""
    num_kept_B = (plan.lengths_B * keep).round().long().clamp(min=1)
    num_frames = plan.positions_BL.shape[1]
    ranks_BL = torch.rand(plan.positions_BL.shape, generator=generator)
    ranks_BL = ranks_BL.masked_fill(torch.arange(num_frames) >= plan.lengths_B[:, None], 2.0).argsort(1).argsort(1)
    is_dropped_BL = ranks_BL >= num_kept_B[:, None]
    order_BL = is_dropped_BL.long().argsort(dim=1, stable=True)[:, : int(num_kept_B.max())]
    return FramePlan(plan.positions_BL.gather(1, order_BL), num_kept_B)


def augmented(lengths_B: Tensor, config: FitConfig, generator: torch.Generator) -> FramePlan:
    """A random plan (frame positions) for one training batch.

    It has a random scale from `config.multi_scale`, a random shift per video, and a random share of the frames. Scale
    and share are drawn once for the whole batch. Videos of equal length then stay equally long, and an LSTM is fast on
    batches without padding.
    """
    scale = config.multi_scale[int(torch.randint(len(config.multi_scale), (), generator=generator))]
    keep = 1 - (1 - config.min_kept_frames) * float(torch.rand((), generator=generator))
    max_shift = config.max_shift
    shifts_B = torch.randint(-max_shift, max_shift + 1, (len(lengths_B),), generator=generator)
    return thinned(shifted(resampled(lengths_B, scale), shifts_B, lengths_B), keep, generator)


def _within(positions_BL: Tensor, lengths_B: Tensor) -> Tensor:
    """The frame positions limited to each video: below 0 becomes 0, beyond the last frame becomes the last frame."""
    return torch.minimum(positions_BL.clamp(min=0), (lengths_B - 1).float()[:, None])
