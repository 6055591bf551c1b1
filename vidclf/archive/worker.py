"""The decode stage of a pipeline: manifest rows in, decoded rows out. Knows nothing of Ray."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from vidclf import schema
from vidclf.archive import quality
from vidclf.archive.decode import DecodedVideo
from vidclf.archive.rejected import VideoRejected
from vidclf.archive.sampling import SamplingPlan
from vidclf.archive.supervise import DecodeLimits, SupervisedDecoder
from vidclf.archive.transform import FrameTransform
from vidclf.schema import nested_list


class DecodeVideos:
    """In: `schema.MANIFEST`. Out: `schema.decoded`, one table a row, in order.

    A video that cannot be decoded is a row with a reject reason; nothing raises for a video's sake.
    """

    def __init__(self, plan: SamplingPlan, transform: FrameTransform, limits: DecodeLimits, tally: Any) -> None:
        side = transform.crop_size
        self._decoder = SupervisedDecoder(plan, transform, side * side * 3, limits)
        self._tally = tally
        self._schema = schema.decoded(side, side)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for index in range(batch.num_rows):
            row = batch.slice(index, 1)
            started = time.perf_counter()
            try:
                video = self._decoder.decode(row["video_uri"][0].as_py(), row[schema.VIDEO_ID][0].as_py())
                decoded = self._ok(row, video)
            except VideoRejected as rejected:
                decoded = self._rejected(row, rejected)
            self._tally.add.remote({"decode_s": time.perf_counter() - started})
            yield decoded

    def _ok(self, row: pa.Table, video: DecodedVideo) -> pa.Table:
        measured = quality.measure(video.frames_THWC)
        num_frames, height, width, _ = video.frames_THWC.shape
        pixels = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(height * width * 3), num_frames, [None, pa.py_buffer(video.frames_THWC)]
        )
        return self._table(
            row,
            num_frames=num_frames,
            duration_s=video.duration_s,
            width=video.width,
            height=video.height,
            framerate=video.framerate,
            video_codec=video.video_codec,
            pts_s=nested_list([num_frames], pa.array(video.pts_s)),
            luma_mean=nested_list([num_frames], pa.array(measured.luma_mean)),
            sharpness=nested_list([num_frames], pa.array(measured.sharpness)),
            is_black=nested_list([num_frames], pa.array(measured.is_black)),
            is_near_duplicate=nested_list([num_frames], pa.array(measured.is_near_duplicate)),
            all_black=measured.all_black,
            is_blurry=measured.is_blurry,
            frames=nested_list([num_frames], pixels),
        )

    def _rejected(self, row: pa.Table, rejected: VideoRejected) -> pa.Table:
        return self._table(row, reject_reason=rejected.reason.value, reject_message=rejected.message)

    def _table(self, row: pa.Table, **values: Any) -> pa.Table:
        columns = []
        for field in self._schema:
            value = row[field.name] if field.name in row.column_names else values.get(field.name)
            is_column = isinstance(value, (pa.Array, pa.ChunkedArray))
            columns.append(value if is_column else pa.array([value], type=field.type))
        return schema.conform(pa.table(columns, names=self._schema.names), self._schema, "decoded row")
