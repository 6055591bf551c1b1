"""Near-duplicate videos by their features: the mean features of a video, and pairs of videos whose means are alike.

Shape suffixes: N and M videos, T frames, D features.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vidclf import storage
from vidclf.features.columns import features_TD
from vidclf.schema import VIDEO_ID

TILE = 2048
"""Number of videos of each side whose cosines are in memory at a time (16 MB)."""

Means = tuple[list[str], npt.NDArray[np.float32]]
"""Ids of N videos, and their mean features as an array [N, D]."""


def video_means(features: Sequence[npt.NDArray[np.floating]]) -> npt.NDArray[np.float32]:
    """The mean of the frame features [T, D] of each video, as an array [N, D]."""
    means_ND = np.empty((len(features), features[0].shape[1]), np.float32)
    for mean_D, video_TD in zip(means_ND, features, strict=True):
        video_TD.mean(axis=0, dtype=np.float32, out=mean_D)
    return means_ND


def unit_vectors(means_ND: npt.NDArray[np.float32], centre_D: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The mean features of each video minus `centre_D`, scaled to length 1, as an array [N, D].

    `centre_D` is the mean of all videos. Without the subtraction, the part that all videos share dominates; with some
    backbones all videos would then be near each other. A video that equals the mean of all stays 0 and is near no
    other.
    """
    units_ND: npt.NDArray[np.float32] = means_ND - centre_D
    for start in range(0, len(units_ND), TILE):  # the squares of all rows would be as large as the rows
        rows_ND = units_ND[start : start + TILE]
        lengths_N = np.linalg.norm(rows_ND, axis=1, keepdims=True)
        np.divide(rows_ND, lengths_N, out=rows_ND, where=lengths_N > 0)
    return units_ND


def nearest(
    units_ND: npt.NDArray[np.float32], others_MD: npt.NDArray[np.float32], cosine: float, tile: int = TILE
) -> npt.NDArray[np.int64]:
    """For each row of `units_ND` the row of `others_MD` with the largest cosine similarity, as an array [N].

    The row is -1 if that similarity is below `cosine`.
    """
    nearest_N = np.full(len(units_ND), -1)
    for row in range(0, len(units_ND), tile):
        largest = np.full(len(units_ND[row : row + tile]), cosine, np.float32)
        for column in range(0, len(others_MD), tile):
            cosines = units_ND[row : row + tile] @ others_MD[column : column + tile].T
            best = cosines.argmax(axis=1)
            found = np.take_along_axis(cosines, best[:, None], axis=1)[:, 0]
            is_nearer = found >= largest
            nearest_N[row : row + tile][is_nearer] = best[is_nearer] + column
            largest = np.maximum(largest, found)
    return nearest_N


def means_in(shards: list[str], video_ids: Collection[str]) -> Means:
    """Mean features of those of `video_ids` whose rows are in `shards`, files of features of an extract job."""
    wanted = pa.array(list(video_ids), pa.string())
    ids: list[str] = []
    means: list[npt.NDArray[np.float32]] = []
    for table in storage.iter_tables(shards, [VIDEO_ID, "features"]):
        rows = table.filter(pc.is_in(table[VIDEO_ID], wanted))
        ids += rows[VIDEO_ID].to_pylist()
        if rows.num_rows:
            means.append(video_means([features_TD(video) for video in rows["features"]]))
    return ids, np.concatenate(means) if means else np.empty((0, 0), np.float32)
