"""Augmentation in time: multi-scale sampling, dropped frames and shifted frames.

A frame plan names frames by fractional position, from 0 to T - 1. A video can therefore be sampled more densely than
its features; `Batches.at` interpolates between two frames.

Shape suffixes: B videos, T frames of a video, L frames drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vidclf.config import FitConfig


class FramePlan(NamedTuple):
    """Frames of each video of a batch that a training step reads."""

    positions_BL: Tensor
    """float32; values beyond a row's length are padding, but are valid positions in the video"""
    lengths_B: Tensor
    """int64, at least 1"""


def every_frame(lengths_B: Tensor) -> FramePlan:
    """A plan with each frame once, in order."""
    positions_BL = torch.arange(int(lengths_B.max()), dtype=torch.float32).repeat(len(lengths_B), 1)
    return FramePlan(torch.minimum(positions_BL, lengths_B[:, None] - 1), lengths_B)


def resampled(lengths_B: Tensor, scale: float) -> FramePlan:
    """A plan with `scale` times as many frames, spread uniformly over the same span of time.

    Features are at the midpoints of T equal spans of the video, so the samples are at the midpoints of `scale` × T
    equal spans. A sample before the first or after the last frame takes that frame.
    """
    scaled_B = (lengths_B * scale).round().long().clamp(min=1)
    steps_BL = torch.arange(int(scaled_B.max()), dtype=torch.float32)[None, :]
    positions_BL = (steps_BL + 0.5) * (lengths_B / scaled_B)[:, None] - 0.5
    return FramePlan(_within(positions_BL, lengths_B), scaled_B)


def shifted(plan: FramePlan, shifts_B: Tensor, lengths_B: Tensor) -> FramePlan:
    """The plan moved by `shifts_B` frames in time. Positions outside the video take its first or last frame."""
    return plan._replace(positions_BL=_within(plan.positions_BL + shifts_B[:, None], lengths_B))


def thinned(plan: FramePlan, keep: float, generator: torch.Generator) -> FramePlan:
    """The plan with a random share `keep` of each row's frames, at least one, in order."""
    num_kept_B = (plan.lengths_B * keep).round().long().clamp(min=1)
    num_frames = plan.positions_BL.shape[1]
    ranks_BL = torch.rand(plan.positions_BL.shape, generator=generator)
    ranks_BL = ranks_BL.masked_fill(torch.arange(num_frames) >= plan.lengths_B[:, None], 2.0).argsort(1).argsort(1)
    is_dropped_BL = ranks_BL >= num_kept_B[:, None]
    order_BL = is_dropped_BL.long().argsort(dim=1, stable=True)[:, : int(num_kept_B.max())]
    return FramePlan(plan.positions_BL.gather(1, order_BL), num_kept_B)


def augmented(lengths_B: Tensor, config: FitConfig, generator: torch.Generator) -> FramePlan:
    """A plan with a random scale of `config.multi_scale`, a random shift per video and a random share of the frames.

    Scale and share are drawn once for the whole batch. Videos of equal length then stay equally long, and an LSTM is
    fast on batches without padding.
    """
    scale = config.multi_scale[int(torch.randint(len(config.multi_scale), (), generator=generator))]
    keep = 1 - (1 - config.min_kept_frames) * float(torch.rand((), generator=generator))
    max_shift = config.max_shift
    shifts_B = torch.randint(-max_shift, max_shift + 1, (len(lengths_B),), generator=generator)
    return thinned(shifted(resampled(lengths_B, scale), shifts_B, lengths_B), keep, generator)


def _within(positions_BL: Tensor, lengths_B: Tensor) -> Tensor:
    """Positions limited to each video's frames."""
    return torch.minimum(positions_BL.clamp(min=0), (lengths_B - 1).float()[:, None])
