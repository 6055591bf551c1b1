"""What the ensemble looked at: for a video, its most attended frames with their times.

Frames are decoded again, by the same plan and in a child process as a job does it; a video that is
gone or has changed since gets the reason instead.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vidclf import schema, storage
from vidclf.pages.thumbnails import BOX, data_uri, most_attended
from vidclf.video.decoded_video import DecodedVideo
from vidclf.video.decoder_process import DecodeLimits, SupervisedDecoder
from vidclf.video.rejection import VideoRejected
from vidclf.video.sampling import SamplingPlan


@dataclass(frozen=True, kw_only=True)
class Frame:
    pts_s: float
    weight: float
    """its share of the video's attention"""
    image: str
    """JPEG as a data URI"""


@dataclass(frozen=True, kw_only=True)
class FrameStrip:
    """The most attended frames of a video in order of time, or why there are none."""

    attention: list[float]
    """of every sampled frame"""
    chosen: list[int]
    """the sampled frames that are shown, or would be"""
    frames: list[Frame]
    reason: str | None = None
    """why the frames cannot be shown"""


def strips(
    files: Sequence[str],
    video_ids: Collection[str],
    plans: Mapping[str, SamplingPlan],
    manifest: pa.Table | None = None,
) -> dict[str, FrameStrip]:
    """The strips of some videos of predictions in Parquet `files`, by id; `plans` as the features were sampled by
    at each stage, without those of which nothing tells. Videos that `manifest` holds are opened where it
    says, since the predictions' own locations are without credentials."""
    columns = [schema.VIDEO_ID, "video_uri", "attention", "pts_s", "content_digest", "stage"]
    wanted = pa.array(sorted(video_ids), pa.string())
    found: dict[str, FrameStrip] = {}
    if not video_ids:
        return found
    manifest = manifest if manifest is not None else schema.MANIFEST.empty_table()
    known = manifest.filter(pc.is_in(manifest[schema.VIDEO_ID], wanted))
    uri_of = dict(zip(known[schema.VIDEO_ID].to_pylist(), known["video_uri"].to_pylist(), strict=True))
    decoders = {stage: SupervisedDecoder(plan, shrink, BOX * BOX * 3, DecodeLimits()) for stage, plan in plans.items()}
    try:
        for table in storage.iter_tables(list(files), columns):
            for row in table.filter(pc.is_in(table[schema.VIDEO_ID], wanted)).to_pylist():
                row["video_uri"] = uri_of.get(row[schema.VIDEO_ID], row["video_uri"])
                found[row[schema.VIDEO_ID]] = _strip(row, decoders.get(row["stage"]))
    finally:
        for decoder in decoders.values():
            decoder.close()
    return found


def shrink(frame_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The frame inside a square of BOX pixels, in its proportions."""
    height, width, _ = frame_HWC.shape
    scale = BOX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shrunk: npt.NDArray[np.uint8] = cv2.resize(frame_HWC, size, interpolation=cv2.INTER_AREA)
    return shrunk


def _strip(row: dict[str, object], decoder: SupervisedDecoder | None) -> FrameStrip:
    attention: list[float] = row["attention"]  # type: ignore[assignment]
    chosen = most_attended(attention)
    frames: list[Frame] = []
    reason: str | None = None
    if decoder is None or row["content_digest"] is None:
        reason = "the features do not say which video they are of"
    else:
        try:
            video = decoder.decode(str(row["video_uri"]), str(row[schema.VIDEO_ID]))
            seen: list[float] = row["pts_s"]  # type: ignore[assignment]
            reason = _difference(video, row, seen)
            if reason is None:
                # Of the decoded frames an early stage may have seen some.
                place = {float(pts_s): index for index, pts_s in enumerate(video.pts_s)}
                frames = [
                    Frame(pts_s=seen[i], weight=attention[i], image=data_uri(video.frames_THWC[place[seen[i]]]))
                    for i in chosen
                ]
        except VideoRejected as rejected:
            reason = f"cannot be read any more: {rejected.reason.value} ({rejected.message})"
    return FrameStrip(attention=attention, chosen=chosen, frames=frames, reason=reason)


def _difference(video: DecodedVideo, row: dict[str, object], seen: list[float]) -> str | None:
    """Why the frames decoded now are not those that were classified; None where they are."""
    if video.content is not None and video.content.digest != row["content_digest"]:
        return "the file has changed since it was classified"
    lacking = sorted(set(seen) - set(video.pts_s.tolist()))
    if lacking:
        return f"decoding shows other frames now, not the one at {lacking[0]:.3f} s"
    return None
