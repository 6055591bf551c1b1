"""Sizes of the worker pools and of the memory between them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vidclf import ray_cluster
from vidclf.backbones import int8_weights
from vidclf.config import PipelineConfig
from vidclf.pipeline.job import PipelineJob
from vidclf.ray_cluster import ClusterResources

VIDEOS_PER_BLOCK = (4, 32)
"""Fewest and most videos that one decode task takes on: few where there are few, so that workers
finish together; more in a large archive, so that the scheduler keeps fewer tasks in its books."""

TASKS_PER_WORKER = 32
"""Decode tasks a worker should get where the archive allows it, to even out long and short videos."""

VIDEOS_IN_FLIGHT = (16, 32)
"""Decoded videos that may be in the object store, for each decode worker and each CNN worker. Ray Data
shares that out over the operators and starts to slow decoding down early: with a quarter of this the CNN
workers of a 2-core machine were busy 0.63 of the time, with this 0.79, start-up included."""

VIDEOS_HANDED_OVER = 4
"""Decoded videos in a block, so that the last ones do not keep one CNN worker long after the others. Ray Data sets
aside room for two blocks of each task, of what may be in flight: with 8, a fifth of 64 decoders never got a task."""

MAX_BLOCK_BYTES = 128 * 1024**2
"""The most decoded frames in a block."""


def check_devices(config: PipelineConfig, job: PipelineJob) -> None:
    """ConfigError for more of a GPU than the cluster has, and for quantized weights on one. Asks the cluster only
    where the answer depends on it: a finished job that is submitted again ends without."""
    some_quantized = any(int8_weights.is_quantized(embedding.state) for embedding in job.embeddings)
    if config.gpus_per_cnn_worker or config.cnn_workers or some_quantized:
        pools = pool_sizes(config, ray_cluster.connect())
        for embedding in job.embeddings:
            int8_weights.check_device(embedding.state, embedding.weights, pools.cnn_gpus)


@dataclass(frozen=True, kw_only=True)
class _Pools:
    decode_workers: int
    decode_cpus: float
    cnn_workers: int
    """0 where the decode workers run the CNN"""
    cnn_cpus: float
    cnn_gpus: float

    @property
    def embedding_workers(self) -> int:
        """The workers that run the CNN, or a head by itself."""
        return self.cnn_workers or self.decode_workers


def pool_sizes(config: PipelineConfig, resources: ClusterResources) -> _Pools:
    """Workers of each operator and what each reserves. Raises ConfigError for more of a GPU than there is.

    Without a GPU every core gets one worker, which decodes and runs the CNN in turn, unless CNN workers are asked
    for. With GPUs the CNN workers are as many as their shares allow, GPU by GPU; the cores but one for each GPU that
    they take decode. CNN workers reserve their GPU alone, because decoders may have taken every CPU of its machine
    before, where machines come one by one. One CPU stays unreserved for Ray Data's own tasks, which would wait for
    ever otherwise.
    """
    has_gpu = resources.num_gpus > 0
    cnn_gpus = config.gpus_per_cnn_worker if config.gpus_per_cnn_worker is not None else float(has_gpu)
    if cnn_gpus > 0:
        cnn_workers = config.cnn_workers or max(1, ray_cluster.workers_on_gpus(cnn_gpus, resources.num_gpus))
        ray_cluster.check_gpus("--gpus-per-cnn-worker", cnn_gpus, resources, "--cnn-workers", cnn_workers)
        gpus_taken = math.ceil(cnn_workers / ray_cluster.workers_on_gpus(cnn_gpus, 1))
        decode_workers = config.decode_workers or max(1, resources.num_cpus - gpus_taken - 1)
    else:
        decode_workers = config.decode_workers or resources.num_cpus
        cnn_workers = config.cnn_workers or 0
    free_cpus = max(resources.num_cpus - 1.0, 0.5)
    share = min(1.0, free_cpus / (decode_workers + (0 if cnn_gpus > 0 else cnn_workers)))
    # Ray counts CPUs in ten-thousandths; rounding up would overbook by a hair and never start.
    share = int(share * 1000) / 1000
    return _Pools(
        decode_workers=decode_workers,
        decode_cpus=share,
        cnn_workers=cnn_workers,
        cnn_cpus=0.0 if cnn_gpus > 0 else share,
        cnn_gpus=cnn_gpus,
    )


def frames_in_flight_bytes(config: PipelineConfig, pools: _Pools, video_bytes: int) -> int:
    """Decoded frames that may be in the object store; `video_bytes` is the most that one video has."""
    if config.frames_in_flight_gib is not None:
        return int(config.frames_in_flight_gib * 1024**3)
    for_decoder, for_cnn = VIDEOS_IN_FLIGHT
    return (for_decoder * pools.decode_workers + for_cnn * pools.cnn_workers) * video_bytes


def block_count(num_videos: int, decode_workers: int) -> int:
    """Blocks to read the manifest in."""
    fewest, most = VIDEOS_PER_BLOCK
    fewest = min(fewest, -(-num_videos // decode_workers))
    videos_per_block = min(max(num_videos // (decode_workers * TASKS_PER_WORKER), fewest), most)
    return -(-num_videos // videos_per_block)
