"""Decoding of one video into sampled frames of the size that the CNN expects, or a named reason for rejecting it.

The sampling plan picks frames by their presentation times. `PlannedReader` then decodes only the packets (compressed
pieces of the file) that these frames need. If the packets do not give the frame times (missing or repeated), or the
decoder does not return a picked frame, `SequentialReader` decodes the whole video instead: slower, but never other
frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vidclf.schema import RejectReason
from vidclf.video import sampling
from vidclf.video.completeness import gaps_s
from vidclf.video.decoded_video import DecodedVideo
from vidclf.video.digest import identify
from vidclf.video.frame_reader import FrameReader
from vidclf.video.frame_transform import Transform
from vidclf.video.indexed_video import IndexedVideo, open_indexed
from vidclf.video.planned_reader import PlannedReader
from vidclf.video.rejection import VideoRejected
from vidclf.video.sampling import SamplingPlan
from vidclf.video.sequential_reader import SequentialReader
from vidclf.video.source import NO_LIMIT, locate, missing_s, rejection


def decode_video(
    uri: str,
    plan: SamplingPlan,
    transform: Transform,
    seed: str = "",
    on_duration: Callable[[float], None] = lambda duration_s: None,
    max_bytes: int = NO_LIMIT,
) -> DecodedVideo:
    """Decode the frames of the video at `uri` that `plan` picks, and return them with facts about the video.

    `transform` scales and crops each frame. `seed` decides the position of a randomly placed clip
    (`sampling.choose`). `on_duration` is called with the duration in seconds as soon as the packets give it. A file
    of more than `max_bytes` is not opened.

    Raises VideoRejected for every fault of the video. All errors that PyAV, FFmpeg and the file system raise for it
    are mapped to a reject reason here, so that one bad video never ends the job.
    """
    with locate(uri, max_bytes) as source:
        try:
            with open_indexed(source) as video:
                decoded = _decode_planned(video, plan, transform, seed, on_duration)
                decoded = decoded or _decode_sequentially(video, plan, transform, seed)
            lacking_s = 0.0
            if not decoded.time_jumps:  # otherwise the duration that the file states includes the jumps
                lacking_s = missing_s(source, decoded.duration_s, decoded.gaps_s, is_damaged=decoded.num_damaged > 0)
            return replace(decoded, missing_s=lacking_s, content=identify(source))
        except VideoRejected:
            raise
        except MemoryError as error:
            raise VideoRejected(RejectReason.OUT_OF_MEMORY, f"decoding ran out of memory: {error}") from error
        except Exception as error:
            raise rejection(source, error) from error


def _decode_planned(
    video: IndexedVideo, plan: SamplingPlan, transform: Transform, seed: str, on_duration: Callable[[float], None]
) -> DecodedVideo | None:
    """Decode only the packets that the picked frames need.

    Returns None if that cannot be done, so that the caller must decode the whole video.
    """
    if video.index is None:
        return None
    reader = PlannedReader(video, video.index, transform)
    on_duration(reader.timeline.duration_s)
    return _pick(reader, plan, seed)


def _decode_sequentially(video: IndexedVideo, plan: SamplingPlan, transform: Transform, seed: str) -> DecodedVideo:
    """Decode the whole video from its first to its last packet, and return the frames that `plan` picks."""
    decoded = _pick(SequentialReader(video, plan, seed, transform), plan, seed)
    if decoded is None:
        raise VideoRejected(RejectReason.DECODE_ERROR, "two decoding passes showed different numbers of frames")
    return decoded


def _pick(reader: FrameReader, plan: SamplingPlan, seed: str) -> DecodedVideo | None:
    """Decode the frames that `plan` picks; returns None if `reader` could not decode one of them."""
    timeline = reader.timeline
    times_ticks = timeline.times_ticks
    chosen = sampling.choose(times_ticks, timeline.end_ticks, timeline.is_keyframe, timeline.time_base, plan, seed)
    if not reader.read(chosen.tolist()):
        return None
    if plan.avoid_black:
        chosen = _without_black(reader, chosen, plan)
    indices = chosen.tolist()
    return DecodedVideo(
        frames_THWC=np.stack([reader.frame(index) for index in indices]),
        is_black=np.array([reader.is_black(index) for index in indices]),
        pts_s=(times_ticks[chosen] - times_ticks[0]) * float(timeline.time_base),
        duration_s=timeline.duration_s,
        width=reader.size[0],
        height=reader.size[1],
        sample_aspect_ratio=None if timeline.pixel_aspect is None else float(timeline.pixel_aspect),
        framerate=timeline.framerate,
        video_codec=timeline.video_codec,
        time_jumps=timeline.time_jumps,
        num_damaged=reader.num_damaged,
        gaps_s=gaps_s(times_ticks, float(timeline.time_base)),
    )


def _without_black(reader: FrameReader, chosen: npt.NDArray[np.intp], plan: SamplingPlan) -> npt.NDArray[np.intp]:
    """Replace each black frame among the chosen ones by the nearest alternative that is not black, if there is one.

    `chosen` and the result are indices of frames in the video.
    """
    times_ticks, is_keyframe = reader.timeline.times_ticks, reader.timeline.is_keyframe
    is_eligible = is_keyframe if plan.mode == "keyframes" else np.ones(len(times_ticks), np.bool_)
    alternatives_of = {
        index: sampling.alternatives(times_ticks, chosen, is_eligible, index)
        for index in chosen.tolist()
        if reader.is_black(index)
    }
    candidates = sorted(candidate for indices in alternatives_of.values() for candidate in indices)
    # If an alternative is damaged, the black frames stay: the video is not rejected for it.
    if not candidates or not reader.read(candidates):
        return chosen
    replacement_of = {
        index: next((candidate for candidate in alternatives if not reader.is_black(candidate)), index)
        for index, alternatives in alternatives_of.items()
    }
    return np.array([replacement_of.get(index, index) for index in chosen.tolist()], dtype=np.intp)
