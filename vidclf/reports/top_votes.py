"""The most probable class of each vote for a video: of each ensemble member, and of each test-time view (variant).

A progressive job decides some videos by an early look, which has no test-time views, or by another ensemble. Their
votes are not votes of the run's members on all sampled frames, and are not counted.

Shape suffixes: B videos, N votes per video.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vidclf import arrow
from vidclf.errors import ConfigError
from vidclf.schema import Look

NO_VOTE = -1
"""In the place of a class: the vote is not counted."""


def top_votes(column: pa.ChunkedArray, is_of_run_B: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Index of the most probable class of each vote, as an array [B, N]; `NO_VOTE` where a video has fewer votes, and
    where the run's own ensemble did not decide it (`is_of_run_B`).

    `column` has a list of probability vectors [C] per video.
    """
    rows = arrow.combined(column)
    counts_B = rows.value_lengths().to_numpy(zero_copy_only=False)
    flat = rows.flatten()
    values = flat.flatten().to_numpy(zero_copy_only=False).reshape(-1, flat.type.list_size)
    top_BN = np.full((len(rows), int(counts_B.max(initial=0))), NO_VOTE, np.int64)
    top_BN[np.arange(top_BN.shape[1]) < counts_B[:, None]] = values.argmax(axis=1)
    top_BN[~is_of_run_B] = NO_VOTE
    return top_BN


def joined(parts: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Votes of several tables in one array, as wide as the widest."""
    width = max(part.shape[1] for part in parts)
    padded = [np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=NO_VOTE) for part in parts]
    return np.concatenate(padded)


def counted(top_BN: npt.NDArray[np.int64], stage_B: npt.NDArray[np.str_], kind: str) -> npt.NDArray[np.int64]:
    """The votes, all `NO_VOTE` for a video that an early look with another number of votes decided.

    `stage_B` names the look that decided each video, `kind` the votes. Raises ConfigError if videos of one look have
    different numbers of votes.
    """
    counts_B = (top_BN != NO_VOTE).sum(axis=1)
    of_stage = {stage: sorted(set(counts_B[stage_B == stage].tolist()) - {0}) for stage in set(stage_B.tolist())}
    mixed = [counts for counts in of_stage.values() if len(counts) > 1]
    if mixed:
        raise ConfigError(f"the predictions mix rows of {mixed[0]} {kind}s; classify the videos again")
    # Without a video that the full look decided, those of the largest number are counted.
    num_votes = max(of_stage.get(Look.FULL) or counts_B.tolist())
    return np.where((counts_B == num_votes)[:, None], top_BN, NO_VOTE)[:, :num_votes]
