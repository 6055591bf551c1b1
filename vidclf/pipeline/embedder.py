"""Computing features of the frames of several videos with one backbone (pretrained CNN), from and to Arrow tables.

Shape suffixes: B videos, T frames, H W pixels, C channels, D features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vidclf import arrow, schema
from vidclf.arrow import nested_list, writable_view
from vidclf.backbones.engine import Engine
from vidclf.features.columns import features_column
from vidclf.pipeline.job import BackboneSetup
from vidclf.video import frame_quality
from vidclf.video.frame_transform import FrameTransforms

Indices = npt.NDArray[np.intp]
"""Positions of frames in the list of the sampled frames of one video: an array of integers."""


class BackboneEmbedder:
    """One backbone (pretrained CNN), ready to compute the features of videos, 1 row out per video in.

    In: rows of decoded videos, `schema.decoded` without `schema.CARRIED`. Out: `schema.embedded`.
    """

    def __init__(self, setup: BackboneSetup, cnn: Engine, transforms: FrameTransforms) -> None:
        """`setup`: the backbone with its weights. `cnn`: the engine that runs this backbone.

        `transforms`: the scalings of frames that the decode stage applied, one per CNN; this backbone takes its own.
        """
        self._spec = setup.spec
        self._frames_column = schema.frames_name(transforms.transforms.index(setup.transform))
        self._side = setup.transform.crop_size
        self._cnn = cnn
        self._row_schema = schema.embedded(self._spec.feature_dim)
        self._num_frames = 0
        self._not_finite: dict[str, str] = {}

    def __call__(self, ok: pa.Table, *, is_sharpened: bool = False) -> pa.Table:
        """Return a table `schema.embedded` with the features of all frames of the decoded videos `ok`.

        With `is_sharpened` the frames are sharpened first.
        """
        return self.rows(ok, self.features(ok, is_sharpened=is_sharpened))

    def features(
        self, ok: pa.Table, frames_B: Sequence[Indices] | None = None, *, is_sharpened: bool = False
    ) -> list[npt.NDArray[np.float16]]:
        """Features [T, D] float16 per video, of the frames at `frames_B`, or of all frames.

        Zeros stand for the features of a video with a value that is not finite; `take_not_finite` names it.
        """
        frames_THWC = frames_of(self._frames(ok)["frames"], self._side)
        lengths = ok["num_frames"].to_pylist()
        if frames_B is not None:
            starts = np.cumsum([0, *lengths[:-1]])
            chosen_T = np.concatenate([start + frames for start, frames in zip(starts, frames_B, strict=True)])
            frames_THWC = frames_THWC[chosen_T]
            lengths = [len(frames) for frames in frames_B]
        if is_sharpened:
            frames_THWC = frame_quality.sharpened(frames_THWC)
        if not len(frames_THWC):
            return [np.empty((0, self._spec.feature_dim), np.float16) for _ in lengths]
        self._num_frames += len(frames_THWC)
        with np.errstate(over="ignore"):  # a value beyond float16 is infinite, which is checked below
            features_TD = self._cnn(frames_THWC, lengths, self._spec.repeat_tolerance).astype(np.float16)
        features_B = np.split(features_TD, np.cumsum(lengths)[:-1])
        if np.isfinite(features_TD).all():
            return features_B
        return [
            self._finite(video, rows_TD) for video, rows_TD in zip(ok["video_id"].to_pylist(), features_B, strict=True)
        ]

    def _finite(self, video_id: str, features_TD: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
        """The features of a video if all are finite, else zeros; the video is then noted for `take_not_finite`."""
        is_finite_T = np.isfinite(features_TD).all(axis=1)
        if is_finite_T.all():
            return features_TD
        self._not_finite[video_id] = (
            f"{self._spec.backbone} gives values that are not finite for {np.sum(~is_finite_T)} of "
            f"{len(features_TD)} frames"
        )
        return np.zeros_like(features_TD)

    def rows(
        self, ok: pa.Table, features_B: Sequence[npt.NDArray[np.float16]], frames_B: Sequence[Indices] | None = None
    ) -> pa.Table:
        """Make the table `schema.embedded` of the videos `ok` from their features, one array [T, D] per video.

        With `frames_B`, positions of frames per video, the features are of these frames only. Every other column with
        one entry per frame is then cut to these frames too.
        """
        frames = self._frames(ok)
        columns = {name: ok[name] for name in self._row_schema.names if name in ok.column_names}
        columns.update({name: frames[name] for name in self._row_schema.names if name in frames.column_names})
        if frames_B is not None:
            columns = _cut_to_frames(columns, frames_B)
        columns["features"] = features_column(features_B, self._spec.feature_dim)
        columns["feature_key"] = pa.array([self._spec.key] * ok.num_rows)
        return arrow.conform(pa.table(columns).select(self._row_schema.names), self._row_schema, "embedded rows")

    def take_not_finite(self) -> dict[str, str]:
        """Message by video id, of the videos with features that are not finite since the last call of this method."""
        messages, self._not_finite = self._not_finite, {}
        return messages

    def take_count(self) -> int:
        """Return the number of frames whose features were computed since the last call of this method."""
        count, self._num_frames = self._num_frames, 0
        return count

    def _frames(self, ok: pa.Table) -> pa.Table:
        """Return the frames that were scaled for this backbone, and their quality.

        The result is a table `schema.frames_at`, 1 row per video.
        """
        return pa.Table.from_struct_array(arrow.combined(ok[self._frames_column]))


def frames_of(column: pa.ChunkedArray, side: int) -> npt.NDArray[np.uint8]:
    """Return the frames of all rows of a `frames` column as one array [N, side, side, 3] uint8, not copied.

    The videos follow each other.
    """
    # flatten(), because the values of a sliced list array still include the rows outside the slice.
    pixels = arrow.combined(column).flatten()
    bytes_ = np.frombuffer(pixels.buffers()[1], dtype=np.uint8)
    first = pixels.offset * side * side * 3
    frames_THWC = bytes_[first : first + len(pixels) * side * side * 3].reshape(-1, side, side, 3)
    # Arrow's buffers are read-only. Torch warns of such arrays and OpenVINO copies them. Nothing writes to these.
    return writable_view(frames_THWC)


def merge_by_position(
    some_TD: npt.NDArray[np.float16], positions: Indices, others_TD: npt.NDArray[np.float16], other_positions: Indices
) -> npt.NDArray[np.float16]:
    """Return the features [T, D] of all frames of a video, put together from two parts.

    `some_TD` are those of the frames at `positions`, `others_TD` those of the frames at `other_positions`.
    """
    whole_TD = np.empty((len(positions) + len(other_positions), some_TD.shape[1]), np.float16)
    whole_TD[positions], whole_TD[other_positions] = some_TD, others_TD
    return whole_TD


def _cut_to_frames(columns: dict[str, pa.ChunkedArray], frames_B: Sequence[Indices]) -> dict[str, pa.ChunkedArray]:
    """Return the columns of several videos, in which every list with one entry per frame is cut to some frames.

    `frames_B`: positions of the frames to keep, per video.
    """
    lengths = [len(frames) for frames in frames_B]
    cut = {**columns, "num_frames": pa.chunked_array([pa.array(lengths, pa.int32())])}
    for name, column in columns.items():
        if pa.types.is_list(column.type):
            lists = arrow.combined(column)
            starts = np.cumsum([0, *lists.value_lengths().to_pylist()[:-1]])
            positions = np.concatenate([start + frames for start, frames in zip(starts, frames_B, strict=True)])
            cut[name] = pa.chunked_array([nested_list(lengths, lists.flatten().take(pa.array(positions)))])
    return cut
