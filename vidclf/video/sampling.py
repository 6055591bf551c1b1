"""Which frames stand for a video: a pure function of their presentation times.

Times are whole numbers of ticks of the stream's time base, so that no frame is won or lost to
rounding. A frame is on screen over the half-open range [its time, the next frame's time), the last
one up to the video's end.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vidclf.config import ExtractConfig, PlanConfig

NUM_ALTERNATIVES = 4
"""Frames looked at in place of a black one."""


@dataclass(frozen=True, kw_only=True)
class SamplingPlan:
    """What to sample. Part of the feature key: features of two plans are never mixed."""

    mode: str = "uniform"
    """`uniform` over the whole video, over a `middle` or a `random` clip of it, or `keyframes`:
    keyframes evenly chosen from all, which is far cheaper to decode and only nearly uniform"""
    num_frames: int = 73
    """frames at most; a video with fewer gives each of its frames once"""
    clip_duration_s: float | None = None
    """length of the clip of `middle` and `random`, in seconds; a shorter video is taken whole"""
    skip_edges: float = 0.0
    """share of the video's duration that is left out at its beginning and again at its end"""
    avoid_black: bool = True
    """take another frame near by where a sampled one is black"""

    @classmethod
    def of(cls, config: ExtractConfig | PlanConfig) -> SamplingPlan:
        """The plan that a job's flags ask for."""
        return cls(
            mode=config.sampling,
            num_frames=config.num_frames,
            clip_duration_s=config.clip_duration,
            skip_edges=config.skip_edges,
            avoid_black=config.avoid_black,
        )


def choose(
    pts_ticks: npt.NDArray[np.int64],
    end_ticks: int,
    is_keyframe: npt.NDArray[np.bool_],
    time_base: Fraction,
    plan: SamplingPlan,
    seed: str,
) -> npt.NDArray[np.intp]:
    """Indices of the frames that `plan` picks, increasing, without repetition, at least one.

    The video reaches from the first frame's time to `end_ticks`; `pts_ticks` must be strictly
    increasing, not empty, and end before `end_ticks`. `seed` (the video's id) places the clip of
    `random`. Raises ValueError for times that are empty or do not increase.
    """
    if len(pts_ticks) == 0:
        raise ValueError("pts_ticks must hold at least one frame")
    if np.any(np.diff(pts_ticks) <= 0) or end_ticks <= pts_ticks[-1]:
        raise ValueError("pts_ticks must be strictly increasing and end before end_ticks")
    start, end = span(int(pts_ticks[0]), end_ticks, time_base, plan, seed)
    if plan.mode == "keyframes":
        return _keyframes(pts_ticks, is_keyframe, start, end, plan.num_frames)
    return on_screen_at_midpoints(pts_ticks, start, end, plan.num_frames)


def span(start_ticks: int, end_ticks: int, time_base: Fraction, plan: SamplingPlan, seed: str) -> tuple[int, int]:
    """The half-open range of ticks to sample from: the video less its edges, then the clip in it."""
    skipped = int((end_ticks - start_ticks) * Fraction(plan.skip_edges).limit_denominator(10_000))
    start, end = start_ticks + skipped, end_ticks - skipped
    if plan.mode not in ("middle", "random") or plan.clip_duration_s is None:
        return start, end
    clip = max(1, round(Fraction(plan.clip_duration_s).limit_denominator(1_000_000) / time_base))
    spare = end - start - clip
    if spare <= 0:
        return start, end
    offset = spare // 2 if plan.mode == "middle" else random.Random(seed).randint(0, spare)
    return start + offset, start + offset + clip


def on_screen_at_midpoints(
    pts_ticks: npt.NDArray[np.int64], start: int, end: int, num_frames: int
) -> npt.NDArray[np.intp]:
    """Indices of the frames on screen at the midpoints of `num_frames` equal spans of [start, end).

    A midpoint that falls on a frame's own time takes that frame. Where several midpoints see the
    same frame it is returned once. `start` must not precede the first frame.
    """
    # A midpoint is start + (2k + 1) * (end - start) / (2 * num_frames); both sides times 2 * num_frames.
    midpoints = (2 * np.arange(num_frames, dtype=np.int64) + 1) * (end - start)
    scaled = (pts_ticks - start) * (2 * num_frames)
    return np.unique(np.searchsorted(scaled, midpoints, side="right") - 1)


def alternatives(
    pts_ticks: npt.NDArray[np.int64], chosen: npt.NDArray[np.intp], is_eligible: npt.NDArray[np.bool_], index: int
) -> list[int]:
    """Up to `NUM_ALTERNATIVES` frames that could stand in for `index`, one of `chosen`: nearest first.

    They come evenly from the eligible frames that are nearer to it in time than to the frames
    chosen before and after it, so that samples stay in order and as evenly spread as they can be.
    """
    position = int(np.searchsorted(chosen, index))
    time = int(pts_ticks[index])
    near = is_eligible.copy()
    near[index] = False
    if position > 0:
        near &= 2 * pts_ticks > time + int(pts_ticks[chosen[position - 1]])
    if position < len(chosen) - 1:
        near &= 2 * pts_ticks < time + int(pts_ticks[chosen[position + 1]])
    candidates = np.flatnonzero(near)
    candidates = candidates[evenly_spread(len(candidates), NUM_ALTERNATIVES)]
    return sorted(candidates.tolist(), key=lambda candidate: (abs(int(pts_ticks[candidate]) - time), candidate))


def _keyframes(
    pts_ticks: npt.NDArray[np.int64], is_keyframe: npt.NDArray[np.bool_], start: int, end: int, num_frames: int
) -> npt.NDArray[np.intp]:
    """Up to `num_frames` keyframes within [start, end), evenly chosen by their order; the frame on
    screen at the middle where the range holds none."""
    candidates = np.flatnonzero(is_keyframe & (pts_ticks >= start) & (pts_ticks < end))
    if len(candidates) == 0:
        return on_screen_at_midpoints(pts_ticks, start, end, 1)
    return candidates[evenly_spread(len(candidates), num_frames)]


def evenly_spread(length: int, num_kept: int) -> npt.NDArray[np.intp]:
    """Indices of `num_kept` of `length` things in a row, those at the middles of equal spans; of all where there
    are no more."""
    if length <= num_kept:
        return np.arange(length)
    return (2 * np.arange(num_kept) + 1) * length // (2 * num_kept)
