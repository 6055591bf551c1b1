"""The decode stage of the pipeline: rows of the manifest (table of videos) in, rows with frames out. Free of Ray.

Shape suffixes: T frames, H W pixels, C channels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Protocol

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
"""Seconds between two reports of a worker to the tally, the actor that counts finished work.

One call per video would cost as much as passing the video's rows on.
"""


class DecodeFlags(Protocol):
    """Flags that limit the decoding of a video, as several jobs have them: time in seconds and memory in GiB."""

    @property
    def decode_timeout(self) -> float: ...

    @property
    def decode_memory_gib(self) -> float: ...


def limits_from_flags(config: DecodeFlags) -> DecodeLimits:
    """Return the limits of decoding one video, from `--decode-timeout` (seconds) and `--decode-memory-gib` (GiB)."""
    return DecodeLimits(timeout_s=config.decode_timeout, memory_bytes=int(config.decode_memory_gib * 1024**3))


class DecodeVideos:
    """Stage 2 of the pipeline: decode the sampled frames of every video. 1 row out per row in.

    In: `schema.MANIFEST`. Out: `schema.decoded`, one table per row, in the same order.

    A video that cannot be decoded becomes a row with a reject reason. No video makes this stage raise.
    """

    def __init__(
        self,
        plan: SamplingPlan,
        transforms: FrameTransforms,
        limits: DecodeLimits,
        tally: Any,
        logs_events: bool = False,
    ) -> None:
        """`plan`: the frames to sample. `transforms`: scalings of a frame; each frame is kept once per scaling.

        `limits`: bounds above which a video is rejected. `tally`: a `Tally` actor that counts finished work; None in a
        program without Ray. `logs_events`: write a JSON line per video to standard output.
        """
        self._decoder = SupervisedDecoder(plan, transforms, transforms.frame_bytes, limits)
        self._decoder.start()
        self._transforms = transforms
        self._tally = tally
        self._unreported: list[dict[str, float]] = []
        self._reported_at = time.monotonic()
        self._logs_events = logs_events
        self._schema = schema.decoded([transform.crop_size for transform in transforms.transforms])

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for index in range(batch.num_rows):
            row = batch.slice(index, 1)
            video_id = row[schema.VIDEO_ID][0].as_py()
            started = time.perf_counter()
            try:
                video = self._decoder.decode(row["video_uri"][0].as_py(), video_id)
                decoded = self._decoded_row(row, video)
                num_frames = len(video.frames_THWC)
                outcome = "ok"
            except VideoRejected as rejected:
                decoded = self._rejected_row(row, rejected)
                num_frames = 0
                outcome = rejected.reason.value
            seconds = time.perf_counter() - started
            self._unreported.append({"decoded": 1, "decode_s": seconds, "frames_decoded": num_frames})
            if index == batch.num_rows - 1 or time.monotonic() - self._reported_at >= REPORT_INTERVAL_S:
                self._report()
            if self._logs_events:
                event_log.write("decode", video_id, seconds, outcome)
            yield decoded

    def close(self) -> None:
        """End the decoder process. The next video starts another one."""
        self._decoder.close()

    def _report(self) -> None:
        if self._tally is not None:
            self._tally.add.remote(*self._unreported)
        self._unreported, self._reported_at = [], time.monotonic()

    def _decoded_row(self, row: pa.Table, video: DecodedVideo) -> pa.Table:
        assert video.content is not None
        renditions = self._transforms.views(video.frames_THWC)
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
            sample_aspect_ratio=video.sample_aspect_ratio,
            framerate=video.framerate,
            video_codec=video.video_codec,
            time_jumps=video.time_jumps,
            missing_s=video.missing_s,
            pts_s=nested_list([num_frames], pa.array(video.pts_s)),
            is_black=nested_list([num_frames], pa.array(video.is_black)),
            all_black=bool(video.is_black.all()),
            **{
                schema.frames_name(index): _frames_column(frames_THWC, video.is_black)
                for index, frames_THWC in enumerate(renditions)
            },
        )

    def _rejected_row(self, row: pa.Table, rejected: VideoRejected) -> pa.Table:
        return self._table(row, reject_reason=rejected.reason.value, reject_message=rejected.message)

    def _table(self, row: pa.Table, **values: Any) -> pa.Table:
        columns = []
        for field in self._schema:
            # A value from decoding replaces that of the manifest, which may be outdated.
            value = values.get(field.name, row[field.name] if field.name in row.column_names else None)
            is_column = isinstance(value, (pa.Array, pa.ChunkedArray))
            columns.append(value if is_column else pa.array([value], type=field.type))
        return arrow.conform(pa.table(columns, names=self._schema.names), self._schema, "decoded row")


def _frames_column(frames_THWC: npt.NDArray[np.uint8], is_black: npt.NDArray[np.bool_]) -> pa.StructArray:
    """Return the frames of one video and their quality, as a column with one row of the type `schema.frames_at`.

    `frames_THWC`: [T, side, side, 3] uint8, not copied. `is_black`: [T], whether each frame was black before scaling.
    """
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
