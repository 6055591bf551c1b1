"""Classification of each segment (a part of a video with a fixed length), from the frames sampled within it.

Shape suffixes: S backbones, P segments of all videos of a batch, C classes, T frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vidclf import schema
from vidclf.arrow import nested_list, vectors

if TYPE_CHECKING:
    from vidclf.ensemble.inference import BySpace, Ensemble


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Part of a video from `start_s` to just before `end_s`, in seconds, and the slice of its sampled frames."""

    index: int
    start_s: float
    end_s: float
    frames: slice


def segments_of(pts_s: npt.NDArray[np.float64], duration_s: float, segments_s: float) -> list[Segment]:
    """List of the parts of a video (segments) that contain at least one sampled frame, from start to end.

    `pts_s` [T] are the increasing times of the frames, `segments_s` is the length of a segment, all in seconds. A frame
    on a border belongs to the later segment. The last segment ends with the video.
    """
    index_T = np.maximum(np.floor(pts_s / segments_s), 0).astype(int)
    firsts = np.flatnonzero(np.diff(index_T, prepend=-1))
    ends = [*firsts[1:], len(pts_s)]
    return [
        Segment(
            index=int(index_T[first]),
            start_s=int(index_T[first]) * segments_s,
            # The time of a frame may exceed the duration, which the container has rounded.
            end_s=max(min((int(index_T[first]) + 1) * segments_s, duration_s), float(pts_s[end - 1])),
            frames=slice(int(first), int(end)),
        )
        for first, end in zip(firsts, ends, strict=True)
    ]


def segments_column(
    classifier: Ensemble,
    sequences_S: BySpace,
    pts_s: list[npt.NDArray[np.float64]],
    duration_s: list[float],
    segments_s: float,
) -> pa.Array:
    """Arrow column `schema.segments_field`: for each video a list of its parts (segments) with their classes.

    Each segment is classified from its own frames alone. `sequences_S` holds the features of the videos per backbone;
    `pts_s` and `duration_s` have one entry per video.
    """
    per_video = [segments_of(times, length, segments_s) for times, length in zip(pts_s, duration_s, strict=True)]
    numbered = [(video, segment) for video, segments in enumerate(per_video) for segment in segments]
    probabilities_PC = classifier.segment_probabilities(
        [[sequences[video][segment.frames] for video, segment in numbered] for sequences in sequences_S]
    )
    flat = [segment for _, segment in numbered]
    classes = classifier.info.classes
    columns = {
        "segment_index": pa.array([segment.index for segment in flat], pa.int32()),
        "start_s": pa.array([segment.start_s for segment in flat], pa.float64()),
        "end_s": pa.array([segment.end_s for segment in flat], pa.float64()),
        "num_frames": pa.array([segment.frames.stop - segment.frames.start for segment in flat], pa.int32()),
        "top_label": pa.array([classes[index] for index in probabilities_PC.argmax(axis=1)]),
        "confidence": pa.array(probabilities_PC.max(axis=1)),
        "probabilities": vectors(probabilities_PC),
    }
    fields = list(schema.segments_field(len(classes)).type.value_type)
    rows = pa.StructArray.from_arrays([columns[field.name] for field in fields], fields=fields)
    return nested_list([len(segments) for segments in per_video], rows)
