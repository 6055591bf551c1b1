"""Choice of the frames to sample from a video: a pure function of their presentation times.

Times are whole numbers of ticks of the stream's time base, so that rounding neither adds nor drops a
frame. A frame is on screen over the half-open range [its time, the next frame's time). The last frame
is on screen until the end of the video.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vidclf.config import ExtractConfig, PlanConfig

NUM_ALTERNATIVES = 4
"""Largest number of frames that are decoded as possible replacements of one black frame."""


@dataclass(frozen=True, kw_only=True)
class SamplingPlan:
    """Rules that say how many and which frames are sampled from a video.

    The plan is part of the feature key (the digest that identifies a set of features): features of different plans
    are never mixed.
    """

    mode: str = "uniform"
    """which frames are chosen. `uniform`: evenly over the whole video. `middle`, `random`: evenly over a clip of the
    video. `keyframes`: keyframes, evenly chosen by their order, which is far cheaper to decode and only nearly
    uniform"""
    num_frames: int = 73
    """largest number of frames to sample; a video with fewer frames gives each of them once"""
    clip_duration_s: float | None = None
    """length in seconds of the clip in the modes `middle` and `random`; a shorter video is sampled whole"""
    skip_edges: float = 0.0
    """share of the video's duration that is left out at its beginning, and the same share at its end"""
    avoid_black: bool = True
    """replace each black frame by a frame near it that is not black, if there is one"""

    @classmethod
    def of(cls, config: ExtractConfig | PlanConfig) -> SamplingPlan:
        """Return the sampling plan that the flags of a job specify."""
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
    """Return the indices of the frames that `plan` picks: at least one, strictly increasing.

    `pts_ticks` [N] are the presentation times of all frames, in ticks of `time_base` seconds; `is_keyframe` [N] marks
    the keyframes. The video lasts from the first frame's time to `end_ticks`. `seed` (the video's id) decides the
    position of the clip in mode `random`. Raises ValueError if `pts_ticks` is empty, is not strictly increasing, or
    does not end before `end_ticks`.
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
    """Return the part of a video that is sampled: its start and end in ticks, where the end itself is excluded.

    It is the video without the edges that `plan` skips, or the clip inside of that.
    """
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
    """Return the indices of the frames on screen at the midpoints of `num_frames` equal parts of [start, end).

    `start` and `end` are ticks. A midpoint at the time of a frame picks that frame. A frame that several midpoints
    pick is returned once. `start` must not precede the first frame.
    """
    # Midpoint k is start + (2k + 1) * (end - start) / (2 * num_frames). Midpoints and times are both multiplied
    # by 2 * num_frames, so that they stay whole numbers.
    midpoints = (2 * np.arange(num_frames, dtype=np.int64) + 1) * (end - start)
    scaled = (pts_ticks - start) * (2 * num_frames)
    return np.unique(np.searchsorted(scaled, midpoints, side="right") - 1)


def alternatives(
    pts_ticks: npt.NDArray[np.int64], chosen: npt.NDArray[np.intp], is_eligible: npt.NDArray[np.bool_], index: int
) -> list[int]:
    """Return the indices of up to `NUM_ALTERNATIVES` replacements for one black frame, nearest in time first.

    `index` is the black frame, an element of `chosen`. The replacements are spread evenly over the frames in
    `is_eligible` that are nearer in time to it than to the previous and the next chosen frame. So the samples stay in
    order and as evenly spread as possible.
    """
    position = int(np.searchsorted(chosen, index))
    time = int(pts_ticks[index])
    is_near = is_eligible.copy()
    is_near[index] = False
    if position > 0:
        is_near &= 2 * pts_ticks > time + int(pts_ticks[chosen[position - 1]])
    if position < len(chosen) - 1:
        is_near &= 2 * pts_ticks < time + int(pts_ticks[chosen[position + 1]])
    candidates = np.flatnonzero(is_near)
    candidates = candidates[evenly_spread(len(candidates), NUM_ALTERNATIVES)]
    return sorted(candidates.tolist(), key=lambda candidate: (abs(int(pts_ticks[candidate]) - time), candidate))


def _keyframes(
    pts_ticks: npt.NDArray[np.int64], is_keyframe: npt.NDArray[np.bool_], start: int, end: int, num_frames: int
) -> npt.NDArray[np.intp]:
    """Return the indices of up to `num_frames` keyframes in [start, end), evenly chosen by their order.

    If the range has no keyframe, return the frame that is on screen at the middle of the range.
    """
    candidates = np.flatnonzero(is_keyframe & (pts_ticks >= start) & (pts_ticks < end))
    if len(candidates) == 0:
        return on_screen_at_midpoints(pts_ticks, start, end, 1)
    return candidates[evenly_spread(len(candidates), num_frames)]


def evenly_spread(length: int, num_chosen: int) -> npt.NDArray[np.intp]:
    """Choose `num_chosen` of the indices 0 to `length` - 1, evenly spread; all of them if there are fewer.

    Returns the indices at the middles of equal parts, as an array.
    """
    if length <= num_chosen:
        return np.arange(length)
    return (2 * np.arange(num_chosen) + 1) * length // (2 * num_chosen)
