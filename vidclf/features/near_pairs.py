"""Pairs of videos whose features have at least a given cosine, found among all pairs in bounded memory.

The comparison is exact, so that no pair is missed. All pairs are compared in squares of the matrix of cosines, and the
time grows with the square of the number of videos. Where the processor has instructions for bfloat16, most squares are
ruled out by products of features that are rounded to bfloat16, which take a third of the time. The rounding is bounded,
and whatever it leaves open is computed in float32. The rounded features are a copy with 2 bytes per value.

Shape suffixes: N videos, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

TILE = 2048
"""Number of rows, and of columns, of the cosine matrix that are in memory at a time (16 MB)."""

MAX_PAIRS_IN_MEMORY = 1_000_000
"""Number of pairs that are collected before they are reduced to clusters."""

LEAST_ROUNDED = 16_384
"""Number of videos from which products in bfloat16 are worth the import of torch and OpenVINO.

`benchmarks/near_pairs.py` took 1.8 CPU seconds in float32 and 2.5 in bfloat16 for 10,000 videos, and 13.7 and 6.4 for
30,000 (1,280 features, Intel Xeon with AMX). By these figures both take the same time for about 14,000."""

UNIT_ROUNDOFF = 2.0**-8
"""Largest relative error of a number that is rounded to bfloat16, which has 8 significant bits."""

Pairs: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]
"""Pairs of videos: index of the first and of the second video of each pair (first < second), and their cosine
similarity."""

Candidates: TypeAlias = Callable[[int, int], tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]
"""Function that returns rows and columns of a square, given by its first row and column, of which all other rows and
columns have no pair."""


def near_pairs(unit_ND: npt.NDArray[np.float32], cosine: float, tile: int = TILE) -> Iterator[Pairs]:
    """Pairs of rows (videos) whose cosine similarity is at least `cosine`. The matrix of all cosines is computed in
    squares of `tile` rows and columns."""
    num_videos = len(unit_ND)
    candidates = _rounded_candidates(unit_ND, cosine, tile) if _is_worth_rounding(unit_ND) else None
    for row in range(0, num_videos, tile):
        for column in range(row, num_videos, tile):
            if candidates is None:
                cosines = unit_ND[row : row + tile] @ unit_ND[column : column + tile].T
                rows, columns = np.arange(row, row + cosines.shape[0]), np.arange(column, column + cosines.shape[1])
            else:
                rows, columns = candidates(row, column)
                if not len(rows):
                    continue
                cosines = unit_ND[rows] @ unit_ND[columns].T
            is_near = cosines >= cosine
            if row == column:
                is_near &= rows[:, None] < columns
            first, second = np.nonzero(is_near)
            if len(first):
                yield rows[first], columns[second], cosines[first, second]


def joined(clusters: npt.NDArray[np.int64], links: list[Pairs]) -> npt.NDArray[np.int64]:
    """The cluster of each video after clusters that are connected by pairs in `links` have been joined. A cluster is
    named by the index of its first video."""
    first = np.concatenate([clusters, *[pairs[0] for pairs in links]])
    second = np.concatenate([np.arange(len(clusters)), *[pairs[1] for pairs in links]])
    connected = components(first, second, len(clusters))
    _, first_video = np.unique(connected, return_index=True)
    return first_video[connected]


def clusters_of(unit_ND: npt.NDArray[np.float32], cosine: float) -> npt.NDArray[np.int64]:
    """The cluster of each video, named by the index of its first video: videos of a pair with at least this cosine are
    in one cluster. Pairs are joined as they are found, since a cluster of n videos has n² / 2 of them."""
    clusters = np.arange(len(unit_ND))
    links: list[Pairs] = []
    for pairs in near_pairs(unit_ND, cosine):
        links.append(pairs)
        if sum(len(first) for first, _, _ in links) > MAX_PAIRS_IN_MEMORY:
            clusters, links = joined(clusters, links), []
    return joined(clusters, links)


def components(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], num_nodes: int) -> npt.NDArray[np.int32]:
    """The number of each node's connected component in the graph with edges `first[i]`–`second[i]`, counted from 0 in
    the order of the components' first nodes."""
    graph = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(num_nodes, num_nodes))
    connected: npt.NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return connected


def rounding_error(dim: int) -> float:
    """Largest difference between the cosine of two vectors of length 1 and the product of the same vectors in bfloat16.

    Both vectors and the product are rounded, and the sum over `dim` features is in float32 (Higham 2002, Accuracy and
    Stability of Numerical Algorithms, section 3.1).
    """
    return 3 * UNIT_ROUNDOFF + 3 * UNIT_ROUNDOFF**2 + 2 * dim * 2.0**-24


def _is_worth_rounding(unit_ND: npt.NDArray[np.float32]) -> bool:
    """Whether there are many videos, and this processor has instructions for bfloat16."""
    if len(unit_ND) < LEAST_ROUNDED:
        return False
    from vidclf.backbones.openvino_engine import has_bf16  # imported here, because it takes a second

    return has_bf16()


def _rounded_candidates(unit_ND: npt.NDArray[np.float32], cosine: float, tile: int) -> Candidates:
    """Function that returns the rows and columns of a square in which a pair may have at least this cosine, judged by
    products in bfloat16."""
    import torch  # imported here, because it takes a second

    unit = torch.empty(unit_ND.shape, dtype=torch.bfloat16)
    for start in range(0, len(unit_ND), tile):
        unit[start : start + tile] = torch.from_numpy(unit_ND[start : start + tile])
    least = cosine - rounding_error(unit_ND.shape[1])

    def candidates(row: int, column: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        product = unit[row : row + tile] @ unit[column : column + tile].T
        if row == column:
            product.fill_diagonal_(-1)
        if float(product.max()) < least:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        is_open = product >= least
        return is_open.any(1).nonzero()[:, 0].numpy() + row, is_open.any(0).nonzero()[:, 0].numpy() + column

    return candidates
