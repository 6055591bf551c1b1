"""Batches of sequences that are classified together."""

from __future__ import annotations

import numpy as np
import pytest

from vidclf.ensemble import inference


@pytest.mark.parametrize(
    ("num_frames", "num_heads", "size"),
    # 2**28 bytes / (4 bytes × heads × frames²), between 1 and 64.
    [(73, 12, 64), (73, 196, 64), (295, 12, 64), (296, 12, 63), (1024, 12, 5), (1024, 8, 8), (4096, 12, 1)],
)
def test_the_attention_of_a_batch_is_bounded(num_frames: int, num_heads: int, size: int) -> None:
    assert inference._batch_size(num_frames, num_heads) == size


def test_every_sequence_is_in_one_batch_of_its_length() -> None:
    sequences = [np.full((1024 if index % 2 else 3, 1), index, np.float16) for index in range(14)]
    batches = list(inference._batches_by_length([sequences], ["original"], num_heads=12))
    assert [batch.videos for batch in batches] == [[0, 2, 4, 6, 8, 10, 12], [1, 3, 5, 7, 9], [11, 13]]
    assert [len(batch.sequences_S[0]) for batch in batches] == [7, 5, 2]
