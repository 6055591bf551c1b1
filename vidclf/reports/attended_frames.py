"""The frames of a video to which the ensemble gave most attention, with their times, for a report.

The video is decoded again with the same sampling plan, in a child process like those of a job. A video that is missing
or has changed gets a reason instead of frames.
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
    """Thumbnail of one frame of a video, with its time and the attention that the ensemble paid to it."""

    pts_s: float
    """time of the frame in the video, in seconds"""
    weight: float
    """share of the attention of the whole video"""
    image: str
    """JPEG as a data URI"""


@dataclass(frozen=True, kw_only=True)
class FrameStrip:
    """The most attended frames of a video, sorted by time, or the reason why they cannot be shown."""

    attention: list[float]
    """attention weight of every sampled frame"""
    chosen: list[int]
    """indices of the most attended frames among the sampled frames"""
    frames: list[Frame]
    reason: str | None = None
    """why the frames cannot be shown; None if they are shown"""


def strips(
    files: Sequence[str],
    video_ids: Collection[str],
    plans: Mapping[str, SamplingPlan],
    manifest: pa.Table | None = None,
) -> dict[str, FrameStrip]:
    """Frames with most attention of each video in `video_ids`, with their times, as a dict by video id.

    `files` are the Parquet files of the predictions. `plans` holds the sampling plan of each stage (the set of frames
    that decided a video); stages whose plan is unknown are missing. Videos are opened at the location in `manifest` if
    it lists them, because the locations in the predictions lack credentials.
    """
    columns = [schema.VIDEO_ID, "video_uri", "attention", "pts_s", "content_digest", "stage"]
    ids = pa.array(sorted(video_ids), pa.string())
    strip_of: dict[str, FrameStrip] = {}
    if not video_ids:
        return strip_of
    manifest = manifest if manifest is not None else schema.MANIFEST.empty_table()
    listed = manifest.filter(pc.is_in(manifest[schema.VIDEO_ID], ids))
    uri_of = dict(zip(listed[schema.VIDEO_ID].to_pylist(), listed["video_uri"].to_pylist(), strict=True))
    decoders = {stage: SupervisedDecoder(plan, shrink, BOX * BOX * 3, DecodeLimits()) for stage, plan in plans.items()}
    try:
        for table in storage.iter_tables(list(files), columns):
            for row in table.filter(pc.is_in(table[schema.VIDEO_ID], ids)).to_pylist():
                row["video_uri"] = uri_of.get(row[schema.VIDEO_ID], row["video_uri"])
                strip_of[row[schema.VIDEO_ID]] = _strip(row, decoders.get(row["stage"]))
    finally:
        for decoder in decoders.values():
            decoder.close()
    return strip_of


def shrink(frame_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Copy of a frame [H, W, 3], scaled with its proportions to fit a square with sides of `BOX` pixels."""
    height, width, _ = frame_HWC.shape
    scale = BOX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shrunk: npt.NDArray[np.uint8] = cv2.resize(frame_HWC, size, interpolation=cv2.INTER_AREA)
    return shrunk


def _strip(row: dict[str, object], decoder: SupervisedDecoder | None) -> FrameStrip:
    """Strip of the most attended frames of one video, whose prediction is `row`.

    `decoder` is None if the sampling plan is unknown; the strip then has a reason instead of frames.
    """
    attention: list[float] = row["attention"]  # type: ignore[assignment]
    chosen = most_attended(attention)
    frames: list[Frame] = []
    reason: str | None = None
    if decoder is None or row["content_digest"] is None:
        reason = "the features do not record their video"
    else:
        try:
            video = decoder.decode(str(row["video_uri"]), str(row[schema.VIDEO_ID]))
            sampled_pts_s: list[float] = row["pts_s"]  # type: ignore[assignment]
            reason = _difference(video, row, sampled_pts_s)
            if reason is None:
                # An early stage may have used only some of the decoded frames.
                index_of = {float(pts_s): index for index, pts_s in enumerate(video.pts_s)}
                frames = [
                    Frame(pts_s=pts_s, weight=attention[i], image=data_uri(video.frames_THWC[index_of[pts_s]]))
                    for i, pts_s in ((i, sampled_pts_s[i]) for i in chosen)
                ]
        except VideoRejected as rejected:
            reason = f"the video can no longer be read: {rejected.reason.value} ({rejected.message})"
    return FrameStrip(attention=attention, chosen=chosen, frames=frames, reason=reason)


def _difference(video: DecodedVideo, row: dict[str, object], sampled_pts_s: list[float]) -> str | None:
    """Reason why decoding a video again gave other frames than its classification used; None if they are the same.

    `row` is the prediction, and `sampled_pts_s` are the times of the frames that it used, in seconds.
    """
    if video.content is not None and video.content.digest != row["content_digest"]:
        return "the file has changed since it was classified"
    missing = sorted(set(sampled_pts_s) - set(video.pts_s.tolist()))
    if missing:
        return f"decoding now gives other frames, without the one at {missing[0]:.3f} s"
    return None
