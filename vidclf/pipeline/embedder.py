"""Embedding of the frames of several videos by one backbone, without repeating equal frames."""

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


class BackboneEmbedder:
    """A backbone. In: ok rows of `schema.decoded`. Out: `schema.features`."""

    def __init__(self, embedding: BackboneSetup, cnn: Engine, transforms: FrameTransforms) -> None:
        self._spec = embedding.spec
        self._view = schema.frames_name(transforms.transforms.index(embedding.transform))
        self._side = embedding.transform.crop_size
        self._cnn = cnn
        self._embedded = schema.features(self._spec.feature_dim)
        self._num_frames = 0

    def __call__(self, ok: pa.Table, *, is_sharpened: bool = False) -> pa.Table:
        return self.rows(ok, self.features(ok, is_sharpened=is_sharpened))

    def features(
        self, ok: pa.Table, frames_B: Sequence[Indices] | None = None, *, is_sharpened: bool = False
    ) -> list[npt.NDArray[np.float16]]:
        """[T, D] for each video; of the frames with the indices `frames_B`, where these are given."""
        frames_THWC = frames_of(self._views(ok)["frames"], self._side)
        lengths = ok["num_frames"].to_pylist()
        if frames_B is not None:
            starts = np.cumsum([0, *lengths[:-1]])
            frames_THWC = frames_THWC[np.concatenate([s + chosen for s, chosen in zip(starts, frames_B, strict=True)])]
            lengths = [len(chosen) for chosen in frames_B]
        if is_sharpened:
            frames_THWC = frame_quality.sharpened(frames_THWC)
        if not len(frames_THWC):
            return [np.empty((0, self._spec.feature_dim), np.float16) for _ in lengths]
        self._num_frames += len(frames_THWC)
        features_TD = self._cnn(frames_THWC, lengths, self._spec.repeat_tolerance).astype(np.float16)
        return np.split(features_TD, np.cumsum(lengths)[:-1])

    def rows(
        self, ok: pa.Table, features_B: Sequence[npt.NDArray[np.float16]], frames_B: Sequence[Indices] | None = None
    ) -> pa.Table:
        """`schema.features` of videos with their features; where these are of the frames `frames_B` alone, so is
        all that there is of a row's frames."""
        views = self._views(ok)
        columns = {name: ok[name] for name in self._embedded.names if name in ok.column_names}
        columns.update({name: views[name] for name in self._embedded.names if name in views.column_names})
        if frames_B is not None:
            columns = _thinned(columns, frames_B)
        columns["features"] = features_column(features_B, self._spec.feature_dim)
        columns["feature_key"] = pa.array([self._spec.key] * ok.num_rows)
        return arrow.conform(pa.table(columns).select(self._embedded.names), self._embedded, "embedded rows")

    def take_count(self) -> int:
        """Frames computed since this was last asked."""
        count, self._num_frames = self._num_frames, 0
        return count

    def _views(self, ok: pa.Table) -> pa.Table:
        return pa.Table.from_struct_array(arrow.combined(ok[self._view]))


def frames_of(column: pa.ChunkedArray, side: int) -> npt.NDArray[np.uint8]:
    """All frames of some rows, [T, side, side, 3] uint8, not copied."""
    # flatten(), because a sliced list array's values still hold the rows outside the slice.
    pixels = arrow.combined(column).flatten()
    bytes_ = np.frombuffer(pixels.buffers()[1], dtype=np.uint8)
    first = pixels.offset * side * side * 3
    frames_THWC = bytes_[first : first + len(pixels) * side * side * 3].reshape(-1, side, side, 3)
    # Arrow's buffers are read-only, of which torch warns and OpenVINO makes a copy; nothing writes to them.
    return writable_view(frames_THWC)


def interleaved(
    some_TD: npt.NDArray[np.float16], places: Indices, others_TD: npt.NDArray[np.float16], other_places: Indices
) -> npt.NDArray[np.float16]:
    """The features of a video's frames, of which some are at `places` and the others at `other_places`."""
    whole_TD = np.empty((len(places) + len(other_places), some_TD.shape[1]), np.float16)
    whole_TD[places], whole_TD[other_places] = some_TD, others_TD
    return whole_TD


def _thinned(columns: dict[str, pa.ChunkedArray], frames_B: Sequence[Indices]) -> dict[str, pa.ChunkedArray]:
    """Columns of videos, the lists of one entry a frame cut to some frames."""
    lengths = [len(chosen) for chosen in frames_B]
    cut = {**columns, "num_frames": pa.chunked_array([pa.array(lengths, pa.int32())])}
    for name, column in columns.items():
        if pa.types.is_list(column.type):
            lists = arrow.combined(column)
            starts = np.cumsum([0, *lists.value_lengths().to_pylist()[:-1]])
            places = np.concatenate([start + chosen for start, chosen in zip(starts, frames_B, strict=True)])
            cut[name] = pa.chunked_array([nested_list(lengths, lists.flatten().take(pa.array(places)))])
    return cut
