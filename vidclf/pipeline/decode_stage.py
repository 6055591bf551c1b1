"""The decode stage of a pipeline: manifest rows in, decoded rows out. Knows nothing of Ray."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vidclf import arrow, event_log, schema
from vidclf.arrow import nested_list
from vidclf.video import frame_quality
from vidclf.video.decoded_video import DecodedVideo
from vidclf.video.decoder_process import DecodeLimits, SupervisedDecoder
from vidclf.video.frame_transform import FrameTransforms
from vidclf.video.rejection import VideoRejected
from vidclf.video.sampling import SamplingPlan

REPORT_INTERVAL_S = 3.0
"""Seconds for which counts are kept before they are told: a call for every video costs as much as its rows do."""


class DecodeVideos:
    """In: `schema.MANIFEST`. Out: `schema.decoded`, one table a row, in order.

    A video that cannot be decoded is a row with a reject reason; nothing raises for a video's sake.
    """

    def __init__(
        self,
        plan: SamplingPlan,
        transforms: FrameTransforms,
        limits: DecodeLimits,
        tally: Any,
        logs_events: bool = False,
    ) -> None:
        self._decoder = SupervisedDecoder(plan, transforms, transforms.frame_bytes, limits)
        self._decoder.start()
        self._transforms = transforms
        self._tally = tally
        self._untold: list[dict[str, float]] = []
        self._told_at = time.monotonic()
        self._logs_events = logs_events
        self._schema = schema.decoded([transform.crop_size for transform in transforms.transforms])

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for index in range(batch.num_rows):
            row = batch.slice(index, 1)
            video_id = row[schema.VIDEO_ID][0].as_py()
            started = time.perf_counter()
            try:
                video = self._decoder.decode(row["video_uri"][0].as_py(), video_id)
                decoded = self._ok(row, video)
                num_frames = len(video.frames_THWC)
                outcome = "ok"
            except VideoRejected as rejected:
                decoded = self._rejected(row, rejected)
                num_frames = 0
                outcome = rejected.reason.value
            seconds = time.perf_counter() - started
            self._untold.append({"decoded": 1, "decode_s": seconds, "frames_decoded": num_frames})
            if index == batch.num_rows - 1 or time.monotonic() - self._told_at >= REPORT_INTERVAL_S:
                self._tell()
            if self._logs_events:
                event_log.write("decode", video_id, seconds, outcome)
            yield decoded

    def _tell(self) -> None:
        self._tally.add.remote(*self._untold)
        self._untold, self._told_at = [], time.monotonic()

    def _ok(self, row: pa.Table, video: DecodedVideo) -> pa.Table:
        assert video.content is not None
        views = self._transforms.views(video.frames_THWC)
        num_frames = len(video.frames_THWC)
        return self._table(
            row,
            size_bytes=video.content.size_bytes,
            modified=video.content.modified,
            content_digest=video.content.digest,
            num_frames=num_frames,
            duration_s=video.duration_s,
            width=video.width,
            height=video.height,
            framerate=video.framerate,
            video_codec=video.video_codec,
            pts_s=nested_list([num_frames], pa.array(video.pts_s)),
            is_black=nested_list([num_frames], pa.array(video.is_black)),
            all_black=bool(video.is_black.all()),
            **{schema.frames_name(index): _view(view, video.is_black) for index, view in enumerate(views)},
        )

    def _rejected(self, row: pa.Table, rejected: VideoRejected) -> pa.Table:
        return self._table(row, reject_reason=rejected.reason.value, reject_message=rejected.message)

    def _table(self, row: pa.Table, **values: Any) -> pa.Table:
        columns = []
        for field in self._schema:
            # What decoding saw of the file counts, not what the manifest says.
            value = values.get(field.name, row[field.name] if field.name in row.column_names else None)
            is_column = isinstance(value, (pa.Array, pa.ChunkedArray))
            columns.append(value if is_column else pa.array([value], type=field.type))
        return arrow.conform(pa.table(columns, names=self._schema.names), self._schema, "decoded row")


def _view(frames_THWC: npt.NDArray[np.uint8], is_black: npt.NDArray[np.bool_]) -> pa.StructArray:
    """One row of a `schema.view`; the frames are not copied."""
    measured = frame_quality.measure(frames_THWC)
    num_frames, side, _, _ = frames_THWC.shape
    pixels = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(side * side * 3), num_frames, [None, pa.py_buffer(frames_THWC)]
    )
    columns = {
        "luma_mean": nested_list([num_frames], pa.array(measured.luma_mean)),
        "sharpness": nested_list([num_frames], pa.array(measured.sharpness)),
        "is_near_duplicate": nested_list([num_frames], pa.array(measured.is_near_duplicate)),
        "is_blurry": pa.array([measured.is_blurry(is_black)]),
        "frames": nested_list([num_frames], pixels),
    }
    fields = schema.frames_at(side)
    return pa.StructArray.from_arrays([columns[name] for name in fields.names], fields=list(fields))
