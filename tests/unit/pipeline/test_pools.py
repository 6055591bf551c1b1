"""Sizes of the worker pools, of blocks, and of the memory for frames."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vidclf.config import ExtractConfig
from vidclf.errors import ConfigError
from vidclf.pipeline.pools import block_count, frames_in_flight_bytes, pool_sizes
from vidclf.ray_cluster import ClusterResources


def extract_config(**values: Any) -> ExtractConfig:
    return ExtractConfig(manifest="m", output="o", **values)


@pytest.mark.parametrize(
    ("num_cpus", "num_gpus", "values", "decode_workers", "cnn_workers", "cpus", "cnn_gpus"),
    [
        (1, 0, {}, 1, 0, 0.5, 0),
        (2, 0, {}, 2, 0, 0.5, 0),
        (16, 0, {}, 16, 0, 0.937, 0),
        (16, 0, {"decode_workers": 32}, 32, 0, 0.468, 0),
        (16, 0, {"decode_workers": 3, "cnn_workers": 2}, 3, 2, 1.0, 0),
        (64, 4, {}, 59, 4, 1.0, 1),
        # CNN workers that share a GPU take one CPU together.
        (64, 4, {"gpus_per_cnn_worker": 0.5}, 59, 8, 1.0, 0.5),
        (64, 4, {"gpus_per_cnn_worker": 0.5, "cnn_workers": 3}, 61, 3, 1.0, 0.5),
        # Two workers at 0.4 on each of two GPUs, and not five on both.
        (16, 2, {"gpus_per_cnn_worker": 0.4}, 13, 4, 1.0, 0.4),
        (64, 4, {"gpus_per_cnn_worker": 0.0}, 64, 0, 0.984, 0),
        (2, 1, {}, 1, 1, 1.0, 1),
    ],
)
def test_pools_fill_the_cluster_and_leave_a_cpu(
    num_cpus: int,
    num_gpus: int,
    values: dict[str, Any],
    decode_workers: int,
    cnn_workers: int,
    cpus: float,
    cnn_gpus: float,
) -> None:
    pools = pool_sizes(extract_config(**values), ClusterResources(num_cpus=num_cpus, num_gpus=num_gpus))
    assert (pools.decode_workers, pools.cnn_workers, pools.cnn_gpus) == (decode_workers, cnn_workers, cnn_gpus)
    # A CNN worker on a GPU reserves no CPU, because decoders may have taken every CPU of its machine.
    assert (pools.decode_cpus, pools.cnn_cpus) == (cpus, 0.0 if cnn_gpus else cpus)
    assert decode_workers * pools.decode_cpus + cnn_workers * pools.cnn_cpus <= max(num_cpus - 1, 0.5)


def test_gpus_that_are_not_there_are_refused() -> None:
    with pytest.raises(ConfigError, match="--gpus-per-cnn-worker must be 0 on a cluster without GPUs, got 1"):
        pool_sizes(extract_config(gpus_per_cnn_worker=1.0), ClusterResources(num_cpus=8, num_gpus=0))
    with pytest.raises(ConfigError, match=r"--cnn-workers must be at most 2 with --gpus-per-cnn-worker 1 on .* got 3"):
        pool_sizes(extract_config(cnn_workers=3), ClusterResources(num_cpus=8, num_gpus=2))


@pytest.mark.parametrize(
    ("num_videos", "decode_workers", "blocks"),
    [(1, 2, 1), (4, 2, 2), (50, 2, 13), (1024, 2, 64), (1_000_000, 64, 31_250)],
)
def test_a_manifest_is_read_in_enough_blocks_for_every_worker(
    num_videos: int, decode_workers: int, blocks: int
) -> None:
    assert block_count(num_videos, decode_workers) == blocks


def test_decoded_frames_in_flight_are_bounded_by_the_pools_or_by_the_user() -> None:
    config = extract_config(decode_workers=3, cnn_workers=2)
    pools = pool_sizes(config, ClusterResources(num_cpus=16, num_gpus=0))
    assert frames_in_flight_bytes(config, pools, 11_000_000) == (3 * 16 + 2 * 32) * 11_000_000
    assert frames_in_flight_bytes(replace(config, frames_in_flight_gib=0.5), pools, 11_000_000) == 2**29
    with pytest.raises(ConfigError, match=r"--frames-in-flight-gib must be above 0 GiB, got 0"):
        extract_config(frames_in_flight_gib=0.0)
