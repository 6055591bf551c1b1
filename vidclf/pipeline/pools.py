"""Number of workers per stage of the pipeline, their CPUs and GPUs, and the memory for frames between the stages."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from vidclf import ray_cluster
from vidclf.backbones import int8_weights
from vidclf.config import PipelineConfig
from vidclf.pipeline.job import PipelineJob
from vidclf.ray_cluster import ClusterResources

VIDEOS_PER_BLOCK = (4, 32)
"""Fewest and most videos per decode task.

Small tasks let the workers of a small archive finish together. Large tasks of a large archive leave the scheduler
fewer tasks to keep track of.
"""

TASKS_PER_WORKER = 32
"""Number of decode tasks per worker in a large archive, so that long and short videos even out."""

VIDEOS_IN_FLIGHT = (16, 32)
"""Number of decoded videos allowed in Ray's object store: per decode worker, and per CNN worker.

Ray Data divides this memory among the operators and slows decoding down early. With a quarter of it the CNN workers
of a 2-core machine were busy 0.63 of the time, with this 0.79, start-up included.
"""

VIDEOS_HANDED_OVER = 4
"""Number of decoded videos that are passed on together, as one block.

Small blocks keep the last videos from occupying one CNN worker long after the others. Ray Data reserves room for two
blocks per task, out of the memory for decoded frames: with 8 videos per block, a fifth of 64 decoders never got a
task.
"""

MAX_BLOCK_BYTES = 128 * 1024**2
"""Largest size of a block (rows passed on together) of decoded frames, in bytes."""


def check_devices(config: PipelineConfig, job: PipelineJob) -> None:
    """Raise ConfigError where the job needs more GPUs than the cluster has, or would run 8-bit weights on a GPU.

    Connects to the cluster only where that is needed to know, so that a finished job that is submitted again ends
    without Ray.
    """
    some_quantized = any(int8_weights.is_quantized(setup.state) for setup in job.embeddings)
    if config.gpus_per_cnn_worker or config.cnn_workers or some_quantized:
        pools = pool_sizes(config, ray_cluster.connect())
        for setup in job.embeddings:
            int8_weights.check_device(setup.state, setup.weights, pools.cnn_gpus)


@dataclass(frozen=True, kw_only=True)
class WorkerPools:
    """Number of workers of the decode and CNN stages, and the CPUs and GPUs that each worker reserves."""

    decode_workers: int
    decode_cpus: float
    """CPUs that each decode worker reserves"""
    cnn_workers: int
    """number of CNN workers; 0 where the decode workers run the CNN"""
    cnn_cpus: float
    """CPUs that each CNN worker reserves"""
    cnn_gpus: float
    """share of a GPU that each CNN worker reserves, 0 to 1"""

    @property
    def embedding_workers(self) -> int:
        """Number of workers that run the CNN, or the head (the step from features to predictions) alone."""
        return self.cnn_workers or self.decode_workers

    def at_most(self, num_blocks: int) -> WorkerPools:
        """Return the same workers, but at most `num_blocks` of each type, so that no worker is without work.

        `num_blocks`: the number of tasks.
        """
        return replace(
            self,
            decode_workers=min(self.decode_workers, num_blocks),
            cnn_workers=min(self.cnn_workers, num_blocks),
        )


def pool_sizes(config: PipelineConfig, resources: ClusterResources) -> WorkerPools:
    """Return the workers per stage and their CPUs and GPUs, from the job's flags and the cluster's resources.

    Without a GPU, each core gets one worker, which alternates between decoding and the CNN. `--cnn-workers` separates
    the stages there too. With GPUs, there are as many CNN workers as their shares allow, GPU by GPU. All cores decode
    except one per GPU in use and one more.

    CNN workers on GPUs reserve no CPU: where machines join one by one, decoders may have taken every CPU of a machine
    before. One CPU stays unreserved for Ray Data's own tasks, which would otherwise wait for ever.

    Raises ConfigError where the flags ask for a larger share of a GPU than the cluster has.
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
    # Ray counts CPUs in ten-thousandths. Rounding up would reserve slightly too much, and the last worker would never
    # start.
    share = int(share * 1000) / 1000
    return WorkerPools(
        decode_workers=decode_workers,
        decode_cpus=share,
        cnn_workers=cnn_workers,
        cnn_cpus=0.0 if cnn_gpus > 0 else share,
        cnn_gpus=cnn_gpus,
    )


def frames_in_flight_bytes(config: PipelineConfig, pools: WorkerPools, video_bytes: int) -> int:
    """Return the number of bytes of decoded frames that are allowed in Ray's object store.

    `video_bytes`: the most bytes of one video's frames.
    """
    if config.frames_in_flight_gib is not None:
        return int(config.frames_in_flight_gib * 1024**3)
    per_decode_worker, per_cnn_worker = VIDEOS_IN_FLIGHT
    return (per_decode_worker * pools.decode_workers + per_cnn_worker * pools.cnn_workers) * video_bytes


def block_count(num_videos: int, decode_workers: int) -> int:
    """Return the number of blocks in which to read `num_videos` manifest rows; each block becomes one decode task."""
    fewest, most = VIDEOS_PER_BLOCK
    fewest = min(fewest, -(-num_videos // decode_workers))
    videos_per_block = min(max(num_videos // (decode_workers * TASKS_PER_WORKER), fewest), most)
    return -(-num_videos // videos_per_block)
